//! Magnet links: torrents (BEP 9), v2 and hybrid ones (BEP 52), channels (BEP 46), peers (`x.pe`),
//! a choice of files (BEP 53).
//!
//! A link is typed, pasted and mangled by people, so a broken optional part is left out with a
//! warning and the rest is used; only what the link is about must be right. Writing gives one
//! canonical spelling that reads back as the same link.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::str::FromStr;

use thiserror::Error;

use super::limits;
use crate::units::{InfoHash, InfoHashV2, hex, hex_into};

/// Multihash prefix of a SHA-256 hash: its code and its length.
const MULTIHASH_SHA256: [u8; 2] = [0x12, 0x20];

/// A magnet link.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Magnet {
    /// SHA-1 info-hash (`xt=urn:btih:`).
    pub info_hash: Option<InfoHash>,
    /// SHA-256 info-hash (`xt=urn:btmh:`); with `info_hash` a hybrid torrent.
    pub info_hash_v2: Option<InfoHashV2>,
    /// A stable address whose current torrent the DHT names (`xs=urn:btpk:`).
    pub channel: Option<ChannelKey>,
    /// Name to show until there is a better one (`dn`).
    pub name: Option<String>,
    /// Trackers in their order, no two alike (`tr`). Whoever contacts them judges them.
    pub trackers: Vec<String>,
    /// Peers to dial (`x.pe`).
    pub peers: Vec<PeerAddr>,
    /// Ranges of file numbers, both ends included, ascending and apart (`so`); empty means all.
    pub select: Vec<(u32, u32)>,
    /// HTTP places of the content (`ws`).
    pub web_seeds: Vec<String>,
}

/// The key of a channel (BEP 46, BEP 44).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelKey {
    /// Ed25519 public key.
    pub public_key: [u8; 32],
    /// Tells the channels of one key apart; at most 64 bytes, often none.
    pub salt: Vec<u8>,
}

/// A peer as people write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerAddr {
    /// `192.0.2.1:6881` or `[2001:db8::1]:6881`.
    Ip(SocketAddr),
    /// `relay.example:6881`; the name is in lower case.
    Host {
        /// A name to resolve.
        host: String,
        /// TCP port, not 0.
        port: u16,
    },
}

/// Why a link cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MagnetError {
    /// Longer than the limit, as it came or as it would be written.
    #[error("magnet link of {len} bytes, limit {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Not a magnet link at all.
    #[error("not a magnet link: it must begin with \"magnet:?\"")]
    NotMagnet,
    /// Neither an info-hash nor a channel.
    #[error("the magnet link names no torrent (xt=urn:btih:, xt=urn:btmh: or xs=urn:btpk:)")]
    NoTopic,
    /// An info-hash that is none.
    #[error("{what} of {len} characters in the magnet link is malformed")]
    BadHash {
        /// `urn:btih`, `urn:btmh` or `urn:btpk`.
        what: &'static str,
        /// Characters there are.
        len: usize,
    },
    /// A salt that is no hexadecimal string of at most 64 bytes.
    #[error("salt of {len} characters in the magnet link is no hexadecimal text of up to 128")]
    BadSalt {
        /// Characters there are.
        len: usize,
    },
    /// Two different values of something there may be one of.
    #[error("the magnet link names two different {what}")]
    Conflict {
        /// `urn:btih`, `urn:btmh` or `urn:btpk`.
        what: &'static str,
    },
}

impl MagnetError {
    /// A short name of the kind of error, for tests and machine-readable output.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::NotMagnet => "not_magnet",
            Self::NoTopic => "no_topic",
            Self::BadHash { .. } => "bad_hash",
            Self::BadSalt { .. } => "bad_salt",
            Self::Conflict { .. } => "conflict",
        }
    }
}

/// A part of a link that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MagnetWarning {
    /// Malformed.
    #[error("\"{key}\" in the magnet link is malformed and ignored")]
    Ignored {
        /// Its key.
        key: &'static str,
    },
    /// Beyond the limit.
    #[error("the magnet link has more than {max} of \"{key}\"; the rest is ignored")]
    TooMany {
        /// Its key.
        key: &'static str,
        /// The limit.
        max: usize,
    },
}

impl Magnet {
    /// Reads a link.
    ///
    /// # Errors
    /// If it is too long or what it is about is missing, malformed or contradictory.
    pub fn parse(link: &str) -> Result<Self, MagnetError> {
        Self::parse_with_warnings(link).map(|(magnet, _)| magnet)
    }

    /// Reads a link, and tells which parts were left out.
    ///
    /// # Errors
    /// As [`Magnet::parse`].
    pub fn parse_with_warnings(link: &str) -> Result<(Self, Vec<MagnetWarning>), MagnetError> {
        let link = link.trim();
        let max = limits::MAGNET_LEN_MAX;
        if link.len() > max {
            return Err(MagnetError::TooLong { len: link.len(), max });
        }
        let (scheme, query) = link.split_once('?').ok_or(MagnetError::NotMagnet)?;
        if !scheme.eq_ignore_ascii_case("magnet:") {
            return Err(MagnetError::NotMagnet);
        }
        let mut parts = Parts::default();
        for part in query.split('&') {
            // Links copied out of HTML source have "&amp;" between their parts.
            let part = part.strip_prefix("amp;").unwrap_or(part);
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            parts.take(key, value)?;
        }
        let (magnet, warnings) = parts.finish()?;
        let len = magnet.to_string().len();
        if len > max {
            return Err(MagnetError::TooLong { len, max });
        }
        Ok((magnet, warnings))
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(link: &str) -> Result<Self, MagnetError> {
        Self::parse(link)
    }
}

/// A link as far as it has been read.
#[derive(Default)]
struct Parts {
    magnet: Magnet,
    salt: Option<String>,
    warnings: Vec<MagnetWarning>,
}

impl Parts {
    /// Takes one `key=value`.
    fn take(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        let key = numbered(&key.to_ascii_lowercase()).to_owned();
        if key == "dn" {
            // Forms write the spaces of a name as plus signs.
            self.name(&percent_decode(&value.replace('+', " ")));
            return Ok(());
        }
        let Ok(text) = String::from_utf8(percent_decode(value)) else {
            self.warn_about(&key);
            return Ok(());
        };
        match key.as_str() {
            "xt" => self.topic(&text)?,
            "xs" => self.source(&text)?,
            "s" => self.salt = Some(text),
            "tr" => self.url(&text, "tr", |m| &mut m.trackers),
            "ws" => self.url(&text, "ws", |m| &mut m.web_seeds),
            "x.pe" => self.peer(&text),
            "so" => self.select(&text),
            _ => {}
        }
        Ok(())
    }

    fn warn(&mut self, warning: MagnetWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn warn_about(&mut self, key: &str) {
        let known = ["xt", "xs", "s", "tr", "ws", "x.pe", "so"];
        if let Some(key) = known.into_iter().find(|k| *k == key) {
            self.warn(MagnetWarning::Ignored { key });
        }
    }

    fn name(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let text = text.trim();
        let max = limits::MAGNET_NAME_LEN_MAX;
        let end = (0..=max.min(text.len())).rfind(|n| text.is_char_boundary(*n)).unwrap_or(0);
        if self.magnet.name.is_none() && !text.is_empty() {
            self.magnet.name = Some(text.get(..end).unwrap_or(text).trim().to_owned());
        }
    }

    fn topic(&mut self, urn: &str) -> Result<(), MagnetError> {
        if let Some(text) = strip_urn(urn, "urn:btih:") {
            let hash = btih(text);
            let bad = MagnetError::BadHash { what: "urn:btih", len: text.chars().count() };
            set_once(&mut self.magnet.info_hash, hash.ok_or(bad)?, "urn:btih")
        } else if let Some(text) = strip_urn(urn, "urn:btmh:") {
            let bad = MagnetError::BadHash { what: "urn:btmh", len: text.chars().count() };
            set_once(&mut self.magnet.info_hash_v2, btmh(text).ok_or(bad)?, "urn:btmh")
        } else {
            // Other programs' topics (ed2k, tree:tiger) stand beside ours in some links.
            Ok(())
        }
    }

    fn source(&mut self, urn: &str) -> Result<(), MagnetError> {
        let Some(text) = strip_urn(urn, "urn:btpk:") else { return Ok(()) };
        let mut public_key = [0u8; 32];
        if !hex_into(text, &mut public_key) {
            return Err(MagnetError::BadHash { what: "urn:btpk", len: text.chars().count() });
        }
        let channel = ChannelKey { public_key, salt: Vec::new() };
        set_once(&mut self.magnet.channel, channel, "urn:btpk")
    }

    fn url(&mut self, text: &str, key: &'static str, list: fn(&mut Magnet) -> &mut Vec<String>) {
        let text = text.trim();
        let printable = !text.contains(|c: char| c.is_control() || c == ' ');
        if !printable || text.len() > limits::URL_LEN_MAX || !text.contains("://") {
            return self.warn(MagnetWarning::Ignored { key });
        }
        let list = list(&mut self.magnet);
        if list.iter().any(|known| known == text) {
            return;
        }
        if list.len() == limits::MAGNET_LIST_MAX {
            return self.warn(MagnetWarning::TooMany { key, max: limits::MAGNET_LIST_MAX });
        }
        list.push(text.to_owned());
    }

    fn peer(&mut self, text: &str) {
        let key = "x.pe";
        let Ok(peer) = text.parse() else { return self.warn(MagnetWarning::Ignored { key }) };
        if self.magnet.peers.contains(&peer) {
            return;
        }
        if self.magnet.peers.len() == limits::MAGNET_LIST_MAX {
            return self.warn(MagnetWarning::TooMany { key, max: limits::MAGNET_LIST_MAX });
        }
        self.magnet.peers.push(peer);
    }

    fn select(&mut self, text: &str) {
        let key = "so";
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (Some(first), Some(last)) = (file_number(first), file_number(last)) else {
                self.warn(MagnetWarning::Ignored { key });
                continue;
            };
            if first > last {
                self.warn(MagnetWarning::Ignored { key });
            } else if self.magnet.select.len() == limits::MAGNET_RANGES_MAX {
                let max = limits::MAGNET_RANGES_MAX;
                return self.warn(MagnetWarning::TooMany { key, max });
            } else {
                self.magnet.select.push((first, last));
            }
        }
    }

    fn finish(mut self) -> Result<(Magnet, Vec<MagnetWarning>), MagnetError> {
        // Without a channel the salt's key is some other program's.
        if let (Some(channel), Some(text)) = (&mut self.magnet.channel, self.salt) {
            channel.salt = salt(&text)?;
        }
        let magnet = &mut self.magnet;
        if magnet.info_hash.is_none() && magnet.info_hash_v2.is_none() && magnet.channel.is_none() {
            return Err(MagnetError::NoTopic);
        }
        magnet.select = merged(std::mem::take(&mut magnet.select));
        Ok((self.magnet, self.warnings))
    }
}

/// The salt of a channel in hexadecimal digits (BEP 46).
fn salt(text: &str) -> Result<Vec<u8>, MagnetError> {
    let bad = MagnetError::BadSalt { len: text.chars().count() };
    if text.len() > limits::SALT_LEN_MAX * 2 {
        return Err(bad);
    }
    let mut salt = vec![0u8; text.len() / 2];
    if hex_into(text, &mut salt) { Ok(salt) } else { Err(bad) }
}

/// `key` without the number that some programs put behind keys they repeat (`tr.1`).
fn numbered(key: &str) -> &str {
    match key.split_once('.') {
        Some((plain @ ("xt" | "tr" | "ws"), n))
            if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) =>
        {
            plain
        }
        _ => key,
    }
}

fn strip_urn<'a>(text: &'a str, urn: &str) -> Option<&'a str> {
    let head = text.get(..urn.len())?;
    head.eq_ignore_ascii_case(urn).then(|| text.get(urn.len()..)).flatten()
}

/// Keeps a value; a second one must be the same.
fn set_once<T: PartialEq>(
    slot: &mut Option<T>,
    value: T,
    what: &'static str,
) -> Result<(), MagnetError> {
    match slot {
        Some(known) if *known != value => Err(MagnetError::Conflict { what }),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// 40 hexadecimal digits or 32 of base32 (BEP 9).
fn btih(text: &str) -> Option<InfoHash> {
    if text.len() == 32 { base32(text).map(InfoHash) } else { InfoHash::from_hex(text) }
}

/// A multihash of SHA-256 in hexadecimal digits (BEP 52).
fn btmh(text: &str) -> Option<InfoHashV2> {
    let mut bytes = [0u8; 34];
    if !hex_into(text, &mut bytes) {
        return None;
    }
    let (prefix, hash) = bytes.split_first_chunk::<2>()?;
    (*prefix == MULTIHASH_SHA256).then(|| hash.try_into().ok().map(InfoHashV2)).flatten()
}

/// 32 characters of base32 (RFC 4648, either case): 160 bits.
fn base32(text: &str) -> Option<[u8; 20]> {
    let mut out = [0u8; 20];
    let mut bytes = out.iter_mut();
    let (mut bits, mut count) = (0u32, 0u32);
    for c in text.bytes() {
        let five = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(five);
        count += 5;
        if count >= 8 {
            count -= 8;
            *bytes.next()? = (bits >> count) as u8;
            bits &= (1 << count) - 1;
        }
    }
    bytes.next().is_none().then_some(out)
}

fn file_number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Ranges in ascending order, those that touch made one.
fn merged(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out
}

impl FromStr for PeerAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not ADDRESS:PORT, [IPV6]:PORT or HOST:PORT");
        if let Ok(addr) = text.parse::<SocketAddr>() {
            // A scope means something on one machine only.
            let scoped = matches!(addr, SocketAddr::V6(v6) if v6.scope_id() != 0);
            return if addr.port() == 0 || scoped { Err(wrong()) } else { Ok(Self::Ip(addr)) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let is_digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|p| *p > 0 && is_digits).ok_or_else(wrong)?;
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A name whose last label is a number is a mistyped address.
        let last = host.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit());
        if host.len() > 253 || numeric || !host.split('.').all(label) {
            return Err(wrong());
        }
        Ok(Self::Host { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => write!(f, "{addr}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Undoes percent-encoding; what is none stays as it is.
fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
                out.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
    out
}

/// Percent-encodes everything that has a meaning in a query; the characters of URLs that have
/// none there stay readable.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        let mut between = "";
        let mut part = |key: &str, value: &dyn fmt::Display| {
            let result = write!(f, "{between}{key}={value}");
            between = "&";
            result
        };
        if let Some(hash) = self.info_hash {
            part("xt", &format_args!("urn:btih:{hash}"))?;
        }
        if let Some(hash) = self.info_hash_v2 {
            part("xt", &format_args!("urn:btmh:{}{hash}", hex(&MULTIHASH_SHA256)))?;
        }
        if let Some(channel) = &self.channel {
            part("xs", &format_args!("urn:btpk:{}", hex(&channel.public_key)))?;
            if !channel.salt.is_empty() {
                part("s", &hex(&channel.salt))?;
            }
        }
        if let Some(name) = &self.name {
            part("dn", &percent_encode(name))?;
        }
        for url in &self.trackers {
            part("tr", &percent_encode(url))?;
        }
        for peer in &self.peers {
            part("x.pe", peer)?;
        }
        if !self.select.is_empty() {
            let range = |&(first, last): &(u32, u32)| match last - first {
                0 => first.to_string(),
                _ => format!("{first}-{last}"),
            };
            let ranges: Vec<String> = self.select.iter().map(range).collect();
            part("so", &ranges.join(","))?;
        }
        for url in &self.web_seeds {
            part("ws", &percent_encode(url))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    fn link(rest: &str) -> Magnet {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HASH}{rest}")).expect("valid")
    }

    #[test]
    fn base32_and_hex_name_the_same_torrent() {
        let base32 = Magnet::parse("magnet:?xt=urn:btih:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH");
        assert_eq!(base32, Ok(link("")));
        let lower = Magnet::parse("MAGNET:?XT=URN:BTIH:aerukz4jvpg66ajdivtytk6n54asgrlh");
        assert_eq!(lower, Ok(link("")));
    }

    #[test]
    fn parts_are_read_in_any_order_and_once() {
        let magnet = link(concat!(
            "&tr.1=http%3A%2F%2Fa%2Fannounce%3Fx%3D1%26y&amp;tr=http://a/announce%3Fx%3D1%26y",
            "&dn=My+little%20show&tr=udp://b:1&x.pe=192.0.2.1:6881&x.pe=[2001:db8::1]:7",
            "&x.pe=Relay.example:8&x.pe=relay.example:8&so=8,0,2,4,6-7&ws=http://w/&xl=5&as="
        ));
        assert_eq!(magnet.name.as_deref(), Some("My little show"));
        assert_eq!(magnet.trackers, ["http://a/announce?x=1&y", "udp://b:1"]);
        let peers: Vec<String> = magnet.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["192.0.2.1:6881", "[2001:db8::1]:7", "relay.example:8"]);
        assert_eq!(magnet.select, [(0, 0), (2, 2), (4, 4), (6, 8)]);
        assert_eq!(magnet.web_seeds, ["http://w/"]);
    }

    #[test]
    fn a_broken_part_is_left_out_and_named() {
        let text = format!(
            "magnet:?xt=urn:btih:{HASH}&x.pe=1.2.3.4:0&x.pe=1.2.3.999:5&x.pe=a:b&tr=%ff&so=3-1,x"
        );
        let (magnet, warnings) = Magnet::parse_with_warnings(&text).expect("valid");
        assert_eq!(magnet, link(""));
        let keys = ["x.pe", "tr", "so"].map(|key| MagnetWarning::Ignored { key });
        assert_eq!(warnings, keys);
    }

    #[test]
    fn lists_are_bounded() {
        let peers: String = (1..200).map(|n| format!("&x.pe=h:{n}")).collect();
        assert_eq!(link(&peers).peers.len(), limits::MAGNET_LIST_MAX);
        let long = format!("magnet:?xt=urn:btih:{HASH}&dn={}", "x".repeat(limits::MAGNET_LEN_MAX));
        assert_eq!(Magnet::parse(&long).expect_err("long").kind(), "too_long");
    }

    fn texts() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[ -~é語+%&=]{1,20}").expect("a regex")
    }

    proptest! {
        #[test]
        fn a_link_reads_back_as_it_was_written(
            v1 in any::<[u8; 20]>(),
            v2 in proptest::option::of(any::<[u8; 32]>()),
            channel in proptest::option::of((any::<[u8; 32]>(), any::<[u8; 5]>())),
            name in proptest::option::of(texts()),
            trackers in proptest::collection::btree_set("[a-z]{1,5}://[!-~]{1,20}", 0..5),
            peers in proptest::collection::btree_set(any::<(std::net::IpAddr, u16)>(), 0..5),
            select in proptest::collection::vec((0u32..50, 0u32..50), 0..5),
        ) {
            let name = name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty());
            let select = select.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let magnet = Magnet {
                info_hash: Some(InfoHash(v1)),
                info_hash_v2: v2.map(InfoHashV2),
                channel: channel.map(|(public_key, salt)| {
                    ChannelKey { public_key, salt: salt.to_vec() }
                }),
                name,
                trackers: trackers.into_iter().collect(),
                peers: peers.into_iter().filter(|(_, port)| *port > 0)
                    .map(|(ip, port)| PeerAddr::Ip(SocketAddr::new(ip, port))).collect(),
                select: merged(select),
                web_seeds: Vec::new(),
            };
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }

        #[test]
        fn reading_what_was_written_of_anything_read_changes_nothing(
            rest in "[a-z0-9.=&%+:/\\[\\]é -]{0,80}"
        ) {
            if let Ok(magnet) = Magnet::parse(&format!("magnet:?xt=urn:btih:{HASH}&{rest}")) {
                prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
            }
        }
    }
}
