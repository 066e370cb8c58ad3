//! Tracker URLs: which are taken, and how announce and scrape URLs are made from them.

use std::fmt;

use thiserror::Error;
use url::{Host, Url};

use super::Announce;
use crate::units::InfoHash;
use crate::wire::limits;

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// BEP 15.
    Udp,
}

/// Why a URL is not asked. Whoever wrote the link or torrent is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlFault {
    /// Longer than anything sensible.
    #[error("tracker URL of {len} bytes, limit {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// No URL at all.
    #[error("no tracker's URL ({why}); it looks like udp://HOST:PORT or http://HOST:PORT/announce")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// A scheme that no tracker of ours speaks.
    #[error("it begins with \"{scheme}:\" and not with http://, https:// or udp://")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// A UDP URL without a port: BEP 15 names no default.
    #[error("a udp tracker URL needs a port, or a port other than 0")]
    Port,
    /// It already says what an announce says, so a link could forge requests to other servers.
    #[error("tracker URL already carries the announce argument \"{argument}\"")]
    Argument {
        /// The first such key.
        argument: String,
    },
    /// BEP 48: only a path with `/announce` has a scrape URL.
    #[error("no \"/announce\" in the path, so the tracker has no scrape URL (BEP 48)")]
    NoScrape,
}

/// Keys that an announce sets itself.
const ARGUMENTS: [&str; 11] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "event",
    "numwant",
    "compact",
    "key",
    "corrupt",
];

/// A checked tracker URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerUrl {
    scheme: Scheme,
    url: Url,
}

impl TrackerUrl {
    /// Checks `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        Self::parse_with(text, limits::TRACKER_URL_LEN_MAX, true)
    }

    fn parse_with(text: &str, max: usize, bare: bool) -> Result<Self, UrlFault> {
        if text.len() > max {
            return Err(UrlFault::TooLong { len: text.len(), max });
        }
        let malformed = |why: &str| UrlFault::Malformed { why: why.into() };
        let mut url = Url::parse(text.trim()).map_err(|e| match e {
            _ if text.trim().is_empty() => malformed("it is empty"),
            url::ParseError::RelativeUrlWithoutBase => malformed("no http://, https:// or udp://"),
            other => malformed(&other.to_string()),
        })?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "udp" => Scheme::Udp,
            other => return Err(UrlFault::Scheme { scheme: other.into() }),
        };
        url.set_fragment(None);
        if url.host_str().is_none_or(str::is_empty) {
            return Err(malformed("no host"));
        }
        let port = url.port();
        if port == Some(0) || (scheme == Scheme::Udp && port.is_none()) {
            return Err(UrlFault::Port);
        }
        if let Some(argument) = announce_argument(&url).filter(|_| bare) {
            return Err(UrlFault::Argument { argument });
        }
        Ok(Self { scheme, url })
    }

    /// Checks where an HTTP tracker redirects to: announce arguments belong there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_redirect(text: &str) -> Result<Self, UrlFault> {
        Self::parse_with(text, 2 * limits::TRACKER_URL_LEN_MAX, false)
    }

    /// How it is spoken to.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The URL without fragment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Host name, or the literal address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match self.url.host() {
            // A scheme that the URL standard does not know keeps IPv4 addresses as names.
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        }
    }

    /// The port that is contacted.
    #[must_use]
    pub fn port(&self) -> u16 {
        let default = if self.scheme == Scheme::Https { 443 } else { 80 };
        self.url.port().unwrap_or(default)
    }

    /// Path and query for BEP 41; empty when the URL has neither.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match (self.url.path(), self.url.query()) {
            ("" | "/", None) => String::new(),
            (path, None) => path.to_owned(),
            (path, Some(query)) => format!("{path}?{query}"),
        }
    }

    /// The HTTP URL of an announce: what the URL already carries (passkeys) is kept.
    #[must_use]
    pub fn announce_url(&self, announce: &Announce, tracker_id: Option<&[u8]>) -> String {
        let mut out = String::from(self.url.as_str());
        let mut put = Arguments::behind(&mut out);
        put.bytes("info_hash", &announce.info_hash.0);
        put.bytes("peer_id", &announce.peer_id.0);
        put.number("port", announce.port.into());
        put.number("uploaded", announce.uploaded);
        put.number("downloaded", announce.downloaded);
        put.number("left", announce.left);
        if let Some(word) = announce.event.word() {
            put.bytes("event", word.as_bytes());
        }
        // Always 1: opentracker answers 0 with an error, aquatic not at all.
        put.number("compact", 1);
        if let Some(n) = announce.num_want {
            put.number("numwant", n.into());
        }
        put.bytes("key", format!("{:08X}", announce.key).as_bytes());
        if let Some(id) = tracker_id {
            put.bytes("trackerid", id);
        }
        out
    }

    /// The HTTP URL of a scrape (BEP 48).
    ///
    /// # Errors
    /// [`UrlFault::NoScrape`] if the path has no `/announce`.
    pub fn scrape_url(&self, hashes: &[InfoHash]) -> Result<String, UrlFault> {
        let path = self.url.path();
        let at = path.rfind("/announce").ok_or(UrlFault::NoScrape)?;
        let (front, back) = path.split_at(at);
        let rest = back.strip_prefix("/announce").unwrap_or_default();
        let mut url = self.url.clone();
        url.set_path(&format!("{front}/scrape{rest}"));
        let mut out = String::from(url);
        let mut put = Arguments::behind(&mut out);
        for hash in hashes.iter().take(limits::SCRAPE_HASHES_MAX) {
            put.bytes("info_hash", &hash.0);
        }
        Ok(out)
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first key of the query that an announce would set itself.
fn announce_argument(url: &Url) -> Option<String> {
    url.query_pairs()
        .map(|(key, _)| key.into_owned())
        .find(|key| ARGUMENTS.contains(&key.to_ascii_lowercase().as_str()))
}

/// Appends `key=value` with the right separator before each.
struct Arguments<'a> {
    out: &'a mut String,
    separator: char,
}

impl<'a> Arguments<'a> {
    fn behind(out: &'a mut String) -> Self {
        let separator = if out.contains('?') { '&' } else { '?' };
        Self { out, separator }
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        self.out.push(self.separator);
        self.separator = '&';
        self.out.push_str(key);
        self.out.push('=');
        percent_encode(value, self.out);
    }

    fn number(&mut self, key: &str, value: u64) {
        self.bytes(key, value.to_string().as_bytes());
    }
}

/// Appends `raw` with every byte but the unreserved ones of RFC 3986 as `%xx`.
pub fn percent_encode(raw: &[u8], out: &mut String) {
    for &byte in raw {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::units::hex(&[byte]));
        }
    }
}

/// Undoes [`percent_encode`]; `+` is a space, as forms have it. Nothing if a `%` is not followed
/// by two hexadecimal digits.
#[must_use]
pub fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let (digits, tail) = rest.split_first_chunk::<2>()?;
                let mut value = [0u8; 1];
                let digits = std::str::from_utf8(digits).ok()?;
                if !crate::units::hex_into(digits, &mut value) {
                    return None;
                }
                out.extend(value);
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PeerId;
    use crate::wire::tracker::Event;

    fn announce() -> Announce {
        let mut hash = [b'a'; 20];
        hash[0] = 0xaa;
        hash[1] = b' ';
        Announce {
            info_hash: InfoHash(hash),
            peer_id: PeerId::ours([b'x'; 12]),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: Event::Started,
            num_want: Some(50),
            key: 0xbeef,
        }
    }

    #[track_caller]
    fn url(text: &str) -> TrackerUrl {
        TrackerUrl::parse(text).expect("a good URL")
    }

    #[test]
    fn an_announce_keeps_the_passkey_and_encodes_raw_bytes() {
        let got =
            url("http://t.example/x/announce?passkey=s3%20c#f").announce_url(&announce(), None);
        assert_eq!(
            got,
            "http://t.example/x/announce?passkey=s3%20c\
             &info_hash=%aa%20aaaaaaaaaaaaaaaaaa&peer_id=-BL0100-xxxxxxxxxxxx&port=6881\
             &uploaded=1&downloaded=2&left=3&event=started&compact=1&numwant=50&key=0000BEEF"
        );
        // The URL library must not touch what was encoded.
        assert_eq!(Url::parse(&got).expect("URL").as_str(), got);
    }

    #[test]
    fn a_tracker_id_goes_back_to_its_tracker() {
        let got = url("http://t.example/announce").announce_url(&announce(), Some(b"a/b"));
        assert!(got.ends_with("&trackerid=a%2fb"), "{got}");
        assert!(got.contains("announce?info_hash="), "{got}");
    }

    #[test]
    fn scrape_urls_follow_the_announce_path() {
        let hash = [InfoHash([b'a'; 20])];
        for (announce, scrape) in [
            ("http://t.example/announce", "http://t.example/scrape"),
            ("http://t.example/announce.php", "http://t.example/scrape.php"),
            ("http://t.example/pk/announce?x=1", "http://t.example/pk/scrape?x=1"),
            ("http://announce.example/a/announce/pk", "http://announce.example/a/scrape/pk"),
        ] {
            let got = url(announce).scrape_url(&hash).expect("scrape URL");
            let separator = if scrape.contains('?') { '&' } else { '?' };
            assert_eq!(got, format!("{scrape}{separator}info_hash=aaaaaaaaaaaaaaaaaaaa"));
        }
        for none in ["http://announce.example/a", "http://t.example/?announce"] {
            assert_eq!(url(none).scrape_url(&hash), Err(UrlFault::NoScrape));
        }
    }

    #[test]
    fn urls_that_forge_requests_or_are_no_trackers_are_refused() {
        for bad in [
            "http://t.example/announce?info_hash=x",
            "http://t.example/a?x=1&PORT=1",
            "http://t.example/a?%70ort=1",
            "udp://t.example/announce",
            "udp://t.example:0/announce",
            "http://t.example:0/announce",
            "ftp://t.example/announce",
            "file:///etc/passwd",
            "wss://t.example/",
            "udp:/announce",
            "http://",
            "announce",
            "",
        ] {
            assert!(TrackerUrl::parse(bad).is_err(), "{bad}");
        }
        let long = format!("http://t.example/{}", "a".repeat(limits::TRACKER_URL_LEN_MAX));
        assert!(matches!(TrackerUrl::parse(&long), Err(UrlFault::TooLong { .. })));
    }

    #[test]
    fn hosts_and_ports_read_as_dialled() {
        for (text, host, port) in [
            ("http://t.example/a", "t.example", 80),
            ("https://t.example/a", "t.example", 443),
            ("udp://127.0.0.1:6969/a", "127.0.0.1", 6969),
            ("udp://[::1]:6969", "::1", 6969),
            ("http://[fe80::1]:81/", "fe80::1", 81),
            ("http://0x7f.1/a", "127.0.0.1", 80),
        ] {
            assert_eq!((url(text).host().as_str(), url(text).port()), (host, port), "{text}");
        }
    }

    #[test]
    fn url_data_is_path_and_query() {
        assert_eq!(url("udp://t.example:80/dir?a=b&c=d").path_and_query(), "/dir?a=b&c=d");
        assert_eq!(url("udp://t.example:80").path_and_query(), "");
        assert_eq!(url("udp://t.example:80/").path_and_query(), "");
    }

    #[test]
    fn percent_coding_undoes_itself() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        percent_encode(&all, &mut text);
        assert_eq!(percent_decode(text.as_bytes()), Some(all));
        assert_eq!(percent_decode(b"a+b"), Some(b"a b".to_vec()));
        assert_eq!(percent_decode(b"%4"), None);
        assert_eq!(percent_decode(b"%+1"), None);
    }
}
