//! The `info` of a live torrent, read and written (`specs/live-torrent.md`).

use ed25519_dalek::VerifyingKey;

use super::{Metainfo, MetainfoError};
use crate::wire::bencode::{DictEncoder, Encoder, Value};
use crate::wire::limits;

/// The version of live torrents that this crate knows.
pub const LIVE_VERSION: i64 = 1;

/// Media type of an MPEG transport stream, what streams are unless they say otherwise.
pub const MEDIA_MPEG_TS: &str = "video/mp2t";

/// What a live torrent says about its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveInfo {
    /// Version of the format; 1.
    pub version: u32,
    /// The Ed25519 key that signs the feed (key id 0); a point of large order, canonical.
    pub public_key: [u8; 32],
    /// Seconds of birth time that an ordinary peer keeps; 1 to 3,600.
    pub window_s: u32,
    /// Media type of the payload.
    pub media: String,
    /// Bit/s, a hint that nothing may be allocated by.
    pub bitrate: Option<u64>,
    /// Whether `info` or `live` has keys that version 1 does not define. They are part of the
    /// info-hash and otherwise ignored.
    pub extended: bool,
}

/// Keys of `info` that version 1 defines.
const INFO_KEYS: [&[u8]; 4] = [b"live", b"name", b"piece length", b"private"];
/// Keys of `live` that version 1 defines.
const LIVE_KEYS: [&[u8]; 5] = [b"bitrate", b"media", b"public key", b"version", b"window"];
/// Keys that only ordinary torrents have.
const ORDINARY_KEYS: [&str; 5] = ["pieces", "length", "files", "file tree", "meta version"];

fn int(
    dict: &Value<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<i64>, MetainfoError> {
    let Some(value) = dict.get(key.as_bytes()) else { return Ok(None) };
    let value = value.int().ok_or(MetainfoError::Form { key, expected: "an integer" })?;
    let (min, max) = (*range.start(), *range.end());
    if range.contains(&value) {
        Ok(Some(value))
    } else {
        Err(MetainfoError::Range { key, value, min, max })
    }
}

/// Reads `live` of `info`, which has it.
pub(super) fn read(info: &Value<'_>, live: &Value<'_>) -> Result<LiveInfo, MetainfoError> {
    let form = |key, expected| MetainfoError::Form { key, expected };
    let keys = live.dict().ok_or(form("live", "a dictionary"))?;
    // The version first: what a later one means by its keys is not for us to judge.
    let version = live.get(b"version").ok_or(MetainfoError::Missing { key: "version" })?;
    match version.int().ok_or(form("version", "an integer"))? {
        LIVE_VERSION => {}
        version if version > LIVE_VERSION => return Err(MetainfoError::NewerLive { version }),
        value => return Err(MetainfoError::Range { key: "version", value, min: 1, max: 1 }),
    }
    for key in ORDINARY_KEYS {
        if info.get(key.as_bytes()).is_some() {
            return Err(MetainfoError::LiveAndOrdinary { key });
        }
    }
    let public_key = live.get(b"public key").ok_or(MetainfoError::Missing { key: "public key" })?;
    let public_key = public_key.bytes().and_then(|b| <[u8; 32]>::try_from(b).ok());
    let public_key = public_key.ok_or(form("public key", "a string of 32 bytes"))?;
    if !is_usable_key(&public_key) {
        return Err(MetainfoError::PublicKey);
    }
    let window = int(live, "window", 1..=i64::from(limits::WINDOW_S_MAX))?;
    let window = window.ok_or(MetainfoError::Missing { key: "window" })?;
    let media = live.get(b"media").ok_or(MetainfoError::Missing { key: "media" })?;
    let media = media.text().filter(|m| is_media_type(m));
    let media = media.ok_or(form("media", "a media type such as video/mp2t"))?;
    let bitrate = int(live, "bitrate", 1..=limits::BITRATE_MAX as i64)?;
    // Present means yes, so that one stream has one spelling.
    int(info, "private", 1..=1)?;
    let known = |key: &[u8], table: &[&[u8]]| table.contains(&key);
    let extended = !keys.iter().all(|e| known(e.key, &LIVE_KEYS))
        || !info.dict().unwrap_or_default().iter().all(|e| known(e.key, &INFO_KEYS));
    Ok(LiveInfo {
        version: 1,
        public_key,
        window_s: window as u32,
        media: media.to_owned(),
        bitrate: bitrate.map(i64::unsigned_abs),
        extended,
    })
}

/// Whether `key` is the canonical encoding of a point that is not of small order: only for such
/// keys do all strict verifiers agree (RFC 8032).
#[must_use]
pub fn is_usable_key(key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|point| !point.is_weak() && point.to_edwards().compress().as_bytes() == key)
}

/// Whether `text` is a media type without parameters: `type/subtype` in the characters of RFC 6838.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphanumeric())
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    text.len() <= limits::MEDIA_LEN_MAX
        && text.split_once('/').is_some_and(|(a, b)| part(a) && part(b))
}

/// Whether `name` can name a live stream: 1 to 255 bytes of UTF-8 without control characters, and
/// fit to be a file name.
#[must_use]
pub fn is_live_name(name: &str) -> bool {
    (1..=limits::NAME_LEN_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c.is_control() || c == '/' || c == '\\')
}

/// A live torrent to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTorrent {
    /// Name of the stream; see [`is_live_name`].
    pub name: String,
    /// Bytes in a full piece: a power of two, 16 KiB to 1 MiB.
    pub piece_length: u32,
    /// Only the trackers below may introduce peers (BEP 27).
    pub private: bool,
    /// The Ed25519 key that signs the feed.
    pub public_key: [u8; 32],
    /// Seconds of birth time that an ordinary peer keeps; 1 to 3,600.
    pub window_s: u32,
    /// Media type; see [`is_media_type`].
    pub media: String,
    /// Bit/s, a hint.
    pub bitrate: Option<u64>,
    /// Trackers in tiers (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Places from where the stream may be fetched over HTTP (`url-list`).
    pub origins: Vec<String>,
    /// The program that made the file.
    pub created_by: Option<String>,
}

impl LiveTorrent {
    /// What writes `meta` again; `None` if it is no live torrent. Its `info` comes out as the same
    /// bytes unless it is [`LiveInfo::extended`].
    #[must_use]
    pub fn from_metainfo(meta: &Metainfo) -> Option<Self> {
        let live = meta.info.live()?;
        Some(Self {
            name: meta.info.name.clone(),
            piece_length: meta.info.piece_length,
            private: meta.info.private,
            public_key: live.public_key,
            window_s: live.window_s,
            media: live.media.clone(),
            bitrate: live.bitrate,
            tiers: meta.tiers.clone(),
            origins: meta.web_seeds.clone(),
            created_by: meta.created_by.clone(),
        })
    }

    /// The `info` dictionary: the bytes that the info-hash is taken over.
    #[must_use]
    pub fn encode_info(&self) -> Vec<u8> {
        Encoder::dict_of(|info| {
            info.bytes("name", &self.name);
            info.int("piece length", i64::from(self.piece_length));
            if self.private {
                info.int("private", 1);
            }
            info.dict("live", |live| self.fill_live(live));
        })
    }

    fn fill_live(&self, live: &mut DictEncoder) {
        live.int("version", LIVE_VERSION);
        live.bytes("public key", self.public_key);
        live.int("window", i64::from(self.window_s));
        live.bytes("media", &self.media);
        if let Some(bitrate) = self.bitrate {
            live.int("bitrate", i64::try_from(bitrate).unwrap_or(i64::MAX));
        }
    }

    /// The metainfo file.
    ///
    /// The caller answers for the ranges of the fields: bytes that break them are written as they
    /// are and refused when they are read.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let trackers = || self.tiers.iter().flatten();
        Encoder::dict_of(|torrent| {
            torrent.raw("info", &self.encode_info());
            if let Some(first) = trackers().next() {
                torrent.bytes("announce", first);
            }
            if trackers().nth(1).is_some() {
                torrent.list("announce-list", |tiers| {
                    for tier in &self.tiers {
                        tiers.list(|urls| tier.iter().for_each(|url| urls.bytes(url)));
                    }
                });
            }
            match self.origins.as_slice() {
                [] => {}
                [one] => torrent.bytes("url-list", one),
                many => torrent.list("url-list", |l| many.iter().for_each(|url| l.bytes(url))),
            }
            if let Some(program) = &self.created_by {
                torrent.bytes("created by", program);
            }
        })
    }
}
