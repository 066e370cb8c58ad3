//! Metainfo files (BEP 3, 12, 17, 19, 27, 47, 52) and live torrents (`specs/live-torrent.md`).
//!
//! The `info` dictionary is kept as the bytes that came and hashed as such, never encoded again.
//! What a path, a size or a hash says is checked here once, so that whoever holds a [`Metainfo`]
//! need not: paths stay below their folder and do not collide, `pieces` fits the files, piece
//! layers hash to their roots, the halves of a hybrid torrent agree.

mod error;
mod files;
mod live;
mod merkle;

use std::collections::BTreeMap;

use bytes::Bytes;
use sha1::{Digest, Sha1};
use sha2::Sha256;

pub use error::{HybridFault, MetainfoError, PathFault, Warning};
pub use files::{Attr, File, TOTAL_LEN_MAX};
pub use live::{
    LIVE_VERSION, LiveInfo, LiveTorrent, MEDIA_MPEG_TS, is_live_name, is_media_type, is_usable_key,
};
pub use merkle::{HASH_LEN, Hash, root_of_layer, zero_root};

use super::bencode::{BencodeError, Limits, Mode, Value, check, check_prefix};
use super::limits;
use crate::units::{BLOCK_LEN, InfoHash, InfoHashV2};

/// Bytes in a SHA-1 piece hash.
const SHA1_LEN: usize = 20;

/// A metainfo file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// What the info-hash commits to.
    pub info: Info,
    /// Trackers in tiers: `announce-list`, else `announce` (BEP 12). Texts as they came; who
    /// contacts them judges them.
    pub tiers: Vec<Vec<String>>,
    /// DHT nodes, host and port (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// HTTP places of the content (BEP 19 `url-list`); for a live torrent the origins.
    pub web_seeds: Vec<String>,
    /// HTTP seeds of the older kind (BEP 17 `httpseeds`).
    pub http_seeds: Vec<String>,
    /// A remark.
    pub comment: Option<String>,
    /// The program that made the file.
    pub created_by: Option<String>,
    /// When it was made, Unix seconds.
    pub creation_date: Option<i64>,
    /// Piece hashes of the v2 files larger than a piece, by root; verified.
    pub piece_layers: BTreeMap<Hash, Bytes>,
    /// What is wrong with it and does not keep it from being used.
    pub warnings: Vec<Warning>,
}

/// The `info` dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its bytes as they came: what is hashed, and served to peers (BEP 9).
    pub raw: Bytes,
    /// What the swarm is called on the wire: SHA-1 over `raw`, or for a torrent that is v2 only
    /// the first 20 bytes of `info_hash_v2`.
    pub info_hash: InfoHash,
    /// SHA-256 over `raw`; v2 and hybrid.
    pub info_hash_v2: Option<InfoHashV2>,
    /// Name of the stream, the file or the folder; fit to be a file name.
    pub name: String,
    /// Bytes in a full piece.
    pub piece_length: u32,
    /// Only its trackers may introduce peers (BEP 27).
    pub private: bool,
    /// Which kind of torrent it is.
    pub kind: Kind,
    /// What is wrong with it and does not keep it from being used.
    pub warnings: Vec<Warning>,
}

/// The kinds of torrents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A live stream.
    Live(LiveInfo),
    /// SHA-1 pieces (BEP 3).
    V1(Content),
    /// SHA-256 trees (BEP 52).
    V2(Content),
    /// Both, for the same files.
    Hybrid(Content),
}

impl Kind {
    /// `live`, `v1`, `v2` or `hybrid`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Live(_) => "live",
            Self::V1(_) => "v1",
            Self::V2(_) => "v2",
            Self::Hybrid(_) => "hybrid",
        }
    }
}

/// What an ordinary torrent contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The files in their order; of a v1 or hybrid torrent with its padding.
    pub files: Vec<File>,
    /// Whether it is one file that is not in a folder.
    pub single: bool,
    /// Concatenated SHA-1 hashes of the pieces; empty if v2 only.
    pub pieces: Bytes,
}

impl Info {
    /// Reads an `info` dictionary that came alone, such as over BEP 9.
    ///
    /// # Errors
    /// The first rule of its kind of torrent that it breaks.
    pub fn parse(raw: Bytes) -> Result<Self, MetainfoError> {
        let mut warnings = Warnings::default();
        canonical(check(&raw, Mode::Strict, &Limits::METAINFO), &mut warnings)?;
        let value = Value::parse(&raw, Mode::Lenient, &Limits::METAINFO)?;
        let info = Self::read(raw.clone(), &value, warnings);
        drop(value);
        info
    }

    /// What it says about its stream, if it is live.
    #[must_use]
    pub fn live(&self) -> Option<&LiveInfo> {
        if let Kind::Live(live) = &self.kind { Some(live) } else { None }
    }

    /// Its files and pieces, if it is ordinary.
    #[must_use]
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::Live(_) => None,
            Kind::V1(content) | Kind::V2(content) | Kind::Hybrid(content) => Some(content),
        }
    }

    /// Pieces of an ordinary torrent.
    #[must_use]
    pub fn piece_count(&self) -> Option<u64> {
        let content = self.content()?;
        let pieces = |len: u64| len.div_ceil(u64::from(self.piece_length.max(1)));
        Some(match self.kind {
            Kind::V1(_) | Kind::Hybrid(_) => (content.pieces.len() / SHA1_LEN) as u64,
            // Each file of a v2 torrent begins a piece.
            _ => content.files.iter().map(|f| pieces(f.length)).sum(),
        })
    }

    /// Reads the tree of an `info` dictionary whose bytes are `raw`.
    fn read(raw: Bytes, info: &Value<'_>, mut warnings: Warnings) -> Result<Self, MetainfoError> {
        if info.dict().is_none() {
            return Err(MetainfoError::NotDict { what: "info" });
        }
        let live = info.get(b"live");
        let is_v2 = live.is_none() && meta_version(info)?;
        if live.is_some() || is_v2 {
            // One stream or v2 torrent, one spelling (BEP 52): no other program may see it
            // differently.
            check(&raw, Mode::Strict, &Limits::METAINFO)?;
        }
        let (name, piece_length, kind) = match live {
            Some(live) => {
                if raw.len() > limits::LIVE_INFO_LEN_MAX {
                    let (len, max) = (raw.len(), limits::LIVE_INFO_LEN_MAX);
                    return Err(MetainfoError::LiveTooLong { len, max });
                }
                let live = live::read(info, live)?;
                let length =
                    piece_length(info, limits::PIECE_LEN_MIN, limits::PIECE_LEN_MAX, true)?;
                (live_name(info)?, length, Kind::Live(live))
            }
            None => {
                let name = ordinary_name(info, &mut warnings)?;
                let min = if is_v2 { BLOCK_LEN } else { 1 };
                let length = piece_length(info, min, limits::ORDINARY_PIECE_LEN_MAX, is_v2)?;
                let kind = ordinary(&raw, info, (&name, length, is_v2), &mut warnings)?;
                (name, length, kind)
            }
        };
        let info_hash_v2 = is_v2.then(|| InfoHashV2(Sha256::digest(&raw).into()));
        let info_hash = match (&kind, info_hash_v2) {
            (Kind::V2(_), Some(v2)) => v2.truncated(),
            _ => InfoHash(Sha1::digest(&raw).into()),
        };
        Ok(Self {
            info_hash,
            info_hash_v2,
            name,
            piece_length,
            private: info.get(b"private").and_then(Value::int) == Some(1),
            kind,
            warnings: warnings.list,
            raw,
        })
    }
}

impl Metainfo {
    /// Reads a metainfo file.
    ///
    /// # Errors
    /// The first rule that it breaks. What is wrong outside `info` and does no harm is ignored
    /// with a warning.
    pub fn parse(file: Bytes) -> Result<Self, MetainfoError> {
        let limits = &Limits::METAINFO;
        if file.len() > limits.len {
            return Err(BencodeError::TooLong { len: file.len(), max: limits.len }.into());
        }
        let mut warnings = Warnings::default();
        canonical(check_prefix(&file, Mode::Strict, limits), &mut warnings)?;
        let (root, end) = Value::parse_prefix(&file, Mode::Lenient, limits)?;
        if file.len() > end {
            warnings.add(Warning::Trailing { extra: file.len() - end });
        }
        let entries = root.dict().ok_or(MetainfoError::NotDict { what: "torrent" })?;
        let entry = entries.iter().find(|e| e.key == b"info");
        let entry = entry.ok_or(MetainfoError::Missing { key: "info" })?;
        let info = Info::read(file.slice_ref(entry.raw), &entry.value, Warnings::default())?;
        let piece_layers = piece_layers(&file, &root, &info, &mut warnings)?;
        let w = &mut warnings;
        Ok(Self {
            tiers: tiers(&root, w),
            nodes: nodes(&root, w),
            web_seeds: urls(&root, "url-list", w),
            http_seeds: urls(&root, "httpseeds", w),
            comment: text(&root, "comment", w),
            created_by: text(&root, "created by", w),
            creation_date: root.get(b"creation date").and_then(Value::int),
            piece_layers,
            info,
            warnings: warnings.list,
        })
    }

    /// All warnings, of the file and of its `info`.
    pub fn all_warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().chain(&self.info.warnings)
    }
}

/// Warnings up to a limit; further ones of a hopeless file are dropped.
#[derive(Default)]
struct Warnings {
    list: Vec<Warning>,
}

impl Warnings {
    fn add(&mut self, warning: Warning) {
        if self.list.len() < limits::METAINFO_WARNINGS_MAX && !self.list.contains(&warning) {
            self.list.push(warning);
        }
    }
}

/// Turns keys out of order into a warning; everything else stays an error.
fn canonical<T>(
    checked: Result<T, BencodeError>,
    warnings: &mut Warnings,
) -> Result<(), MetainfoError> {
    match checked {
        Ok(_) => Ok(()),
        Err(BencodeError::KeyOrder { offset }) => {
            warnings.add(Warning::KeyOrder { offset });
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether `info` is of version 2 (BEP 52: to be looked at before anything else).
fn meta_version(info: &Value<'_>) -> Result<bool, MetainfoError> {
    let Some(version) = info.get(b"meta version") else {
        // A tree without its version would be read as v1 by some and as v2 by others.
        return match info.get(b"file tree") {
            Some(_) => Err(MetainfoError::Missing { key: "meta version" }),
            None => Ok(false),
        };
    };
    let form = MetainfoError::Form { key: "meta version", expected: "an integer" };
    match version.int().ok_or(form)? {
        2 => Ok(true),
        version => Err(MetainfoError::NewerMeta { version }),
    }
}

fn live_name(info: &Value<'_>) -> Result<String, MetainfoError> {
    let name = info.get(b"name").ok_or(MetainfoError::Missing { key: "name" })?;
    let form = MetainfoError::Form {
        key: "name",
        expected: "1 to 255 bytes of UTF-8, fit to be a file name",
    };
    name.text().filter(|n| is_live_name(n)).map(str::to_owned).ok_or(form)
}

fn ordinary_name(info: &Value<'_>, warnings: &mut Warnings) -> Result<String, MetainfoError> {
    let name = info.get(b"name.utf-8").filter(|v| v.text().is_some());
    let name = name.or_else(|| info.get(b"name")).ok_or(MetainfoError::Missing { key: "name" })?;
    let form = MetainfoError::Form { key: "name", expected: "a string" };
    files::element(name.bytes().ok_or(form)?, true, warnings)
}

fn piece_length(
    info: &Value<'_>,
    min: u32,
    max: u32,
    power_of_two: bool,
) -> Result<u32, MetainfoError> {
    let value = info.get(b"piece length").ok_or(MetainfoError::Missing { key: "piece length" })?;
    let form = MetainfoError::Form { key: "piece length", expected: "an integer" };
    let value = value.int().ok_or(form)?;
    let length = u32::try_from(value).ok().filter(|n| (min..=max).contains(n));
    let (min, max) = (i64::from(min), i64::from(max));
    let length = length.ok_or(MetainfoError::Range { key: "piece length", value, min, max })?;
    if power_of_two && !length.is_power_of_two() {
        return Err(MetainfoError::PieceLength { value });
    }
    Ok(length)
}

/// Reads the files and pieces of an ordinary torrent of this name and piece length, which is of
/// version 2 or not.
fn ordinary(
    raw: &Bytes,
    info: &Value<'_>,
    (name, piece_length, is_v2): (&str, u32, bool),
    warnings: &mut Warnings,
) -> Result<Kind, MetainfoError> {
    if !is_v2 {
        return v1_content(raw, info, (name, piece_length), warnings).map(Kind::V1);
    }
    let tree = info.get(b"file tree").ok_or(MetainfoError::Missing { key: "file tree" })?;
    let v2 = files::v2(tree, warnings)?;
    if v2.is_empty() {
        return Err(MetainfoError::NoFiles);
    }
    files::total(&v2)?;
    if info.get(b"pieces").is_some() {
        let mut content = v1_content(raw, info, (name, piece_length), warnings)?;
        files::merge_hybrid(&mut content.files, &v2, piece_length)?;
        return Ok(Kind::Hybrid(content));
    }
    files::check_paths(&v2, warnings)?;
    let single = matches!(v2.as_slice(), [only] if *only.path == *name);
    Ok(Kind::V2(Content { files: v2, single, pieces: Bytes::new() }))
}

fn v1_content(
    raw: &Bytes,
    info: &Value<'_>,
    (name, piece_length): (&str, u32),
    warnings: &mut Warnings,
) -> Result<Content, MetainfoError> {
    let files = files::v1(info, name, warnings)?;
    if files.is_empty() {
        return Err(MetainfoError::NoFiles);
    }
    let count = files::total(&files)?.div_ceil(u64::from(piece_length));
    let pieces = info.get(b"pieces").ok_or(MetainfoError::Missing { key: "pieces" })?;
    let form = MetainfoError::Form { key: "pieces", expected: "a string" };
    let pieces = pieces.bytes().ok_or(form)?;
    let expected = count.saturating_mul(SHA1_LEN as u64);
    if pieces.len() as u64 != expected {
        return Err(MetainfoError::PiecesLen { len: pieces.len(), pieces: count, expected });
    }
    files::check_paths(&files, warnings)?;
    let single = info.get(b"length").is_some();
    Ok(Content { files, single, pieces: raw.slice_ref(pieces) })
}

/// Reads and verifies the layers of a v2 torrent.
fn piece_layers(
    file: &Bytes,
    root: &Value<'_>,
    info: &Info,
    warnings: &mut Warnings,
) -> Result<BTreeMap<Hash, Bytes>, MetainfoError> {
    let (Kind::V2(content) | Kind::Hybrid(content)) = &info.kind else {
        return Ok(BTreeMap::new());
    };
    let form = MetainfoError::Form {
        key: "piece layers",
        expected: "a dictionary of strings by 32-byte roots",
    };
    let entries = match root.get(b"piece layers") {
        Some(layers) => layers.dict().ok_or(form.clone())?,
        None => &[],
    };
    let mut given: BTreeMap<Hash, Bytes> = BTreeMap::new();
    for entry in entries {
        let key = Hash::try_from(entry.key).map_err(|_| form.clone())?;
        given.insert(key, file.slice_ref(entry.value.bytes().ok_or(form.clone())?));
    }
    let mut verified = BTreeMap::new();
    let pad = zero_root((info.piece_length / BLOCK_LEN).trailing_zeros());
    for file in content.files.iter().filter(|f| f.length > u64::from(info.piece_length)) {
        let Some(root) = file.pieces_root else { continue };
        let path = || error::cut(&file.path);
        // Files with the same content share a layer.
        let layer = given.get(&root).or_else(|| verified.get(&root)).cloned();
        let layer = layer.ok_or_else(|| MetainfoError::LayerMissing { path: path() })?;
        let count = file.length.div_ceil(u64::from(info.piece_length));
        let expected = count.saturating_mul(HASH_LEN as u64);
        if layer.len() as u64 != expected {
            return Err(MetainfoError::LayerLen { path: path(), len: layer.len(), expected });
        }
        if given.remove(&root).is_some() {
            if root_of_layer(&layer, pad) != Some(root) {
                return Err(MetainfoError::LayerRoot { path: path() });
            }
            verified.insert(root, layer);
        }
    }
    if !given.is_empty() {
        warnings.add(Warning::SpareLayers { count: given.len() });
    }
    Ok(verified)
}

/// A URL worth keeping: UTF-8, printable, not too long.
fn url(value: &Value<'_>) -> Option<String> {
    let text = value.text()?.trim();
    let fits = !text.is_empty() && text.len() <= limits::URL_LEN_MAX;
    (fits && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Collects what `items` yield up to the limit; `None` among them is a malformed one.
fn collect<T>(
    key: &'static str,
    items: impl Iterator<Item = Option<T>>,
    warnings: &mut Warnings,
) -> Vec<T> {
    let mut out = Vec::new();
    for item in items {
        match item {
            None => warnings.add(Warning::Ignored { key }),
            Some(_) if out.len() == limits::METAINFO_LIST_MAX => {
                warnings.add(Warning::TooMany { key, max: limits::METAINFO_LIST_MAX });
                break;
            }
            Some(item) => out.push(item),
        }
    }
    out
}

/// BEP 12: `announce-list` counts if it names any tracker, else `announce`.
fn tiers(root: &Value<'_>, warnings: &mut Warnings) -> Vec<Vec<String>> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    if let Some(list) = root.get(b"announce-list") {
        let list = list.list().unwrap_or_else(|| {
            warnings.add(Warning::Ignored { key: "announce-list" });
            &[]
        });
        // Tier number and URL of each; a URL where a tier should be is a tier of its own.
        let all = list.iter().enumerate().flat_map(|(n, tier)| {
            let urls = tier.list().unwrap_or(std::slice::from_ref(tier));
            urls.iter().map(move |value| url(value).map(|url| (n, url)))
        });
        let mut last = None;
        for (n, url) in collect("announce-list", all, warnings) {
            if tiers.iter().flatten().any(|known| *known == url) {
                continue;
            }
            match tiers.last_mut() {
                Some(tier) if last == Some(n) => tier.push(url),
                _ => tiers.push(vec![url]),
            }
            last = Some(n);
        }
    }
    if tiers.is_empty()
        && let Some(value) = root.get(b"announce")
    {
        match url(value) {
            Some(url) => tiers.push(vec![url]),
            None => warnings.add(Warning::Ignored { key: "announce" }),
        }
    }
    tiers
}

fn nodes(root: &Value<'_>, warnings: &mut Warnings) -> Vec<(String, u16)> {
    let node = |value: &Value<'_>| {
        let [host, port] = value.list()? else { return None };
        let host = host.text().filter(|h| (1..=253).contains(&h.len()))?;
        let port = u16::try_from(port.int()?).ok().filter(|p| *p > 0)?;
        (!host.contains(char::is_control)).then(|| (host.to_owned(), port))
    };
    match root.get(b"nodes") {
        Some(Value::List(items)) => collect("nodes", items.iter().map(node), warnings),
        Some(_) => collect("nodes", std::iter::once(None), warnings),
        None => Vec::new(),
    }
}

/// A URL or a list of them. An empty string means none (some programs write that).
fn urls(root: &Value<'_>, key: &'static str, warnings: &mut Warnings) -> Vec<String> {
    let mut out = match root.get(key.as_bytes()) {
        Some(Value::List(items)) => collect(key, items.iter().map(url), warnings),
        Some(Value::Bytes(b"")) | None => Vec::new(),
        Some(value) => collect(key, std::iter::once(url(value)), warnings),
    };
    let mut seen = std::collections::BTreeSet::new();
    out.retain(|url| seen.insert(url.clone()));
    out
}

fn text(root: &Value<'_>, key: &'static str, warnings: &mut Warnings) -> Option<String> {
    let value = root.get(key.as_bytes())?;
    let Some(raw) = value.bytes() else {
        warnings.add(Warning::Ignored { key });
        return None;
    };
    let (text, is_utf8) = escape_utf8(raw.get(..limits::URL_LEN_MAX).unwrap_or(raw));
    if !is_utf8 && raw.len() <= limits::URL_LEN_MAX {
        warnings.add(Warning::NotUtf8 { text: cut_chars(&text, 120) });
    }
    Some(text)
}

/// `raw` as text, stray bytes as `%XX`, and whether there were none.
fn escape_utf8(raw: &[u8]) -> (String, bool) {
    if let Ok(text) = std::str::from_utf8(raw) {
        return (text.to_owned(), true);
    }
    let mut out = String::new();
    for chunk in raw.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    (out, false)
}

/// The first `chars_max` characters, with a mark if something was cut.
fn cut_chars(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bencode::Encoder;

    fn live() -> LiveTorrent {
        LiveTorrent {
            name: "Café".into(),
            piece_length: 65_536,
            private: false,
            public_key: ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes(),
            window_s: 60,
            media: MEDIA_MPEG_TS.into(),
            bitrate: Some(4_000_000),
            tiers: vec![vec!["http://a/announce".into()], vec!["udp://b:1".into()]],
            origins: vec!["http://o/".into()],
            created_by: Some("test".into()),
        }
    }

    #[test]
    fn a_live_torrent_reads_back_what_was_written() {
        let torrent = live();
        let file = Bytes::from(torrent.encode());
        let meta = Metainfo::parse(file.clone()).expect("valid");
        let said = meta.info.live().expect("live");
        assert_eq!(meta.info.raw, torrent.encode_info());
        assert_eq!((meta.info.name.as_str(), meta.info.piece_length), ("Café", 65_536));
        assert_eq!(meta.tiers, torrent.tiers);
        assert_eq!(meta.web_seeds, torrent.origins);
        assert_eq!((said.window_s, said.bitrate, said.extended), (60, Some(4_000_000), false));
        assert_eq!(said.public_key, torrent.public_key);
        assert_eq!(meta.all_warnings().count(), 0);
        assert_eq!(Info::parse(meta.info.raw.clone()), Ok(meta.info));
        assert_eq!(check(&file, Mode::Strict, &Limits::METAINFO), Ok(()));
    }

    #[test]
    fn the_info_hash_commits_to_the_key_and_never_to_the_trackers() {
        let hash = |torrent: &LiveTorrent| {
            Metainfo::parse(torrent.encode().into()).expect("valid").info.info_hash
        };
        let other_trackers = LiveTorrent { tiers: Vec::new(), ..live() };
        let key = ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        let other_key = LiveTorrent { public_key: key, ..live() };
        assert_eq!(hash(&live()), hash(&other_trackers));
        assert_ne!(hash(&live()), hash(&other_key));
    }

    #[test]
    fn keys_of_small_order_and_second_spellings_are_no_identity() {
        let mut one = [0u8; 32];
        one[0] = 1;
        // y = p + 1: the same point as y = 1, spelt above the field's prime.
        let mut spelt_high = [0xff; 32];
        spelt_high[0] = 0xee;
        spelt_high[31] = 0x7f;
        // y = 2 is on no point of the curve.
        let mut no_point = [0u8; 32];
        no_point[0] = 2;
        for key in [[0; 32], one, spelt_high, no_point, [0xff; 32]] {
            assert!(!is_usable_key(&key), "{}", crate::units::hex(&key));
            let torrent = LiveTorrent { public_key: key, ..live() };
            let error = Metainfo::parse(torrent.encode().into()).expect_err("no key");
            assert_eq!(error, MetainfoError::PublicKey);
        }
    }

    fn v1(paths: &[&[&str]]) -> Result<Info, MetainfoError> {
        let raw = Encoder::dict_of(|info| {
            info.bytes("name", "folder");
            info.int("piece length", 16_384);
            info.bytes("pieces", vec![0; 20]);
            info.list("files", |files| {
                for path in paths {
                    files.dict(|file| {
                        file.int("length", 10);
                        file.list("path", |p| path.iter().for_each(|part| p.bytes(part)));
                    });
                }
            });
        });
        Info::parse(raw.into())
    }

    #[test]
    fn paths_stay_below_their_folder_and_do_not_collide() {
        let table: &[(&[&[&str]], &str)] = &[
            (&[&["a"], &["b", "a"], &["b", "c"]], "ok"),
            (&[&["a"], &["a b"], &["a-"], &["a.b", "c"]], "ok"),
            (&[&["..", "a"]], "path"),
            (&[&["a", "..", "b"]], "path"),
            (&[&["."]], "path"),
            (&[&["/etc/passwd"]], "path"),
            (&[&["a\\b"]], "path"),
            (&[&["C:", "a"]], "path"),
            (&[&["a\0b"]], "path"),
            (&[&["a", ""]], "path"),
            (&[&[]], "path"),
            (&[&["a"], &["b"], &["a"]], "duplicate_path"),
            (&[&["a", "b"], &["a!"], &["a"]], "path_overlap"),
        ];
        for (paths, expected) in table {
            let found = v1(paths).map_or_else(|e| e.kind(), |_| "ok");
            assert_eq!(found, *expected, "{paths:?}");
        }
    }

    #[test]
    fn names_that_differ_only_in_case_are_a_warning() {
        let info = v1(&[&["Read.me"], &["read.ME"]]).expect("valid");
        assert!(matches!(info.warnings.as_slice(), [Warning::CaseOnly { .. }]));
    }

    #[test]
    fn a_flat_or_broken_announce_list_costs_only_its_broken_part() {
        let file = Encoder::dict_of(|t| {
            t.raw("info", &live().encode_info());
            t.bytes("announce", "http://unused/");
            t.list("announce-list", |l| {
                l.bytes("http://a/");
                l.list(|t| {
                    t.bytes("http://b/");
                    t.int(5);
                    t.bytes("http://a/");
                    t.bytes("http://c/");
                });
                l.list(|_| {});
            });
        });
        let meta = Metainfo::parse(file.into()).expect("valid");
        assert_eq!(meta.tiers, [vec!["http://a/"], vec!["http://b/", "http://c/"]]);
        assert_eq!(meta.warnings, [Warning::Ignored { key: "announce-list" }]);
    }
}
