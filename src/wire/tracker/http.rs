//! What goes over HTTP: the query of an announce or scrape as a tracker reads it, and the bencoded
//! replies (BEP 3, 7, 23, 24, 31, 48), both ways.

use thiserror::Error;

use super::url::percent_decode;
use super::{Announce, Event};
use crate::units::{InfoHash, PeerId};
use crate::wire::limits;

/// Why a query is not served. The client is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryFault {
    /// A key that an announce needs is absent.
    #[error("no {0}")]
    Missing(&'static str),
    /// A value that is none for its key.
    #[error("invalid {0}")]
    Invalid(&'static str),
}

/// An announce as a tracker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What the peer says.
    pub announce: Announce,
    /// Whether it takes the compact form (BEP 23; absent means yes).
    pub compact: bool,
    /// Whether it can do without peer ids in the long form.
    pub no_peer_id: bool,
}

impl Query {
    /// Reads the raw query of an announce. `ip` is ignored (BEP 7 discourages it: it lets one peer
    /// announce another's address); of a key given twice the first counts.
    ///
    /// # Errors
    /// The first key that is missing or wrong.
    pub fn parse(raw: &[u8]) -> Result<Self, QueryFault> {
        let pairs = Pairs(raw);
        let announce = Announce {
            info_hash: InfoHash(pairs.twenty("info_hash")?),
            peer_id: PeerId(pairs.twenty("peer_id")?),
            port: pairs.number("port")?.ok_or(QueryFault::Missing("port"))?,
            uploaded: pairs.number("uploaded")?.unwrap_or(0),
            downloaded: pairs.number("downloaded")?.unwrap_or(0),
            left: pairs.number("left")?.unwrap_or(u64::MAX),
            event: Event::from_word(&pairs.get("event").unwrap_or_default()),
            num_want: pairs.number::<i64>("numwant")?.and_then(|n| u32::try_from(n).ok()),
            key: key_number(&pairs.get("key").unwrap_or_default()),
        };
        let compact = pairs.get("compact").is_none_or(|value| value != b"0");
        let no_peer_id = pairs.get("no_peer_id").is_some_and(|value| value == b"1");
        Ok(Self { announce, compact, no_peer_id })
    }
}

/// The swarms that a scrape query names, at most [`limits::SCRAPE_HASHES_MAX`].
///
/// # Errors
/// An info-hash that is not 20 bytes.
pub fn scrape_query(raw: &[u8]) -> Result<Vec<InfoHash>, QueryFault> {
    let pairs = Pairs(raw);
    let values = pairs.values("info_hash").take(limits::SCRAPE_HASHES_MAX);
    values.map(|value| twenty("info_hash", value).map(InfoHash)).collect()
}

/// A key is opaque; eight hexadecimal digits, as most send them, keep their value.
fn key_number(raw: &[u8]) -> u32 {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    u32::from_str_radix(text, 16).unwrap_or(0)
}

fn twenty(key: &'static str, value: Option<Vec<u8>>) -> Result<[u8; 20], QueryFault> {
    value.and_then(|value| value.try_into().ok()).ok_or(QueryFault::Invalid(key))
}

/// A raw query; values may be any bytes once decoded.
struct Pairs<'a>(&'a [u8]);

impl Pairs<'_> {
    /// The decoded values of `key`; nothing in place of one that does not decode.
    fn values(&self, key: &str) -> impl Iterator<Item = Option<Vec<u8>>> {
        self.0.split(|&b| b == b'&').filter_map(move |pair| {
            let mut parts = pair.splitn(2, |&b| b == b'=');
            let (name, value) = (parts.next()?, parts.next().unwrap_or_default());
            (name == key.as_bytes()).then(|| percent_decode(value))
        })
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values(key).next().flatten()
    }

    fn twenty(&self, key: &'static str) -> Result<[u8; 20], QueryFault> {
        twenty(key, self.values(key).next().ok_or(QueryFault::Missing(key))?)
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, QueryFault> {
        let Some(value) = self.values(key).next() else { return Ok(None) };
        let text = value.and_then(|value| String::from_utf8(value).ok());
        let number = text.and_then(|text| text.parse().ok());
        number.map(Some).ok_or(QueryFault::Invalid(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tracker::url::TrackerUrl;
    use proptest::prelude::*;

    fn query_of(announce: &Announce) -> String {
        let url = TrackerUrl::parse("http://t.example/announce").expect("URL");
        let full = url.announce_url(announce, None);
        full.split_once('?').expect("query").1.to_owned()
    }

    #[test]
    fn a_query_without_its_keys_is_refused_by_name() {
        let good = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1";
        assert!(Query::parse(good.as_bytes()).is_ok());
        for (query, fault) in [
            ("", QueryFault::Missing("info_hash")),
            ("info_hash=a", QueryFault::Invalid("info_hash")),
            ("info_hash=%zzaaaaaaaaaaaaaaaaaaa", QueryFault::Invalid("info_hash")),
            ("info_hash=aaaaaaaaaaaaaaaaaaaa", QueryFault::Missing("peer_id")),
        ] {
            assert_eq!(Query::parse(query.as_bytes()), Err(fault), "{query}");
        }
        let port = good.replace("port=1", "port=65536");
        assert_eq!(Query::parse(port.as_bytes()), Err(QueryFault::Invalid("port")));
    }

    #[test]
    fn a_foreign_address_in_the_query_changes_nothing() {
        let query = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1";
        let with = format!("{query}&ip=10.9.9.9&ipv4=10.9.9.9");
        assert_eq!(Query::parse(query.as_bytes()), Query::parse(with.as_bytes()));
    }

    #[test]
    fn compact_is_the_default() {
        let query = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1";
        for (tail, compact, ids) in [
            ("", true, true),
            ("&compact=1", true, true),
            ("&compact=0", false, true),
            ("&compact=0&no_peer_id=1", false, false),
        ] {
            let query = Query::parse(format!("{query}{tail}").as_bytes()).expect("query");
            assert_eq!((query.compact, !query.no_peer_id), (compact, ids));
        }
    }

    #[test]
    fn a_scrape_query_names_any_number_of_swarms_within_the_limit() {
        let one = "info_hash=%61aaaaaaaaaaaaaaaaaaa";
        assert_eq!(scrape_query(one.as_bytes()), Ok(vec![InfoHash([b'a'; 20])]));
        let many = [one; 200].join("&");
        let got = scrape_query(many.as_bytes()).map(|hashes| hashes.len());
        assert_eq!(got, Ok(limits::SCRAPE_HASHES_MAX));
        assert_eq!(scrape_query(b""), Ok(vec![]));
        assert_eq!(scrape_query(b"info_hash=a"), Err(QueryFault::Invalid("info_hash")));
    }

    proptest! {
        #[test]
        fn a_tracker_reads_what_a_client_announces(
            hash: [u8; 20], id: [u8; 20], port: u16, left: u64, key: u32,
            want in proptest::option::of(0u32..=1000), event in 0u32..4,
        ) {
            let announce = Announce {
                info_hash: InfoHash(hash),
                peer_id: PeerId(id),
                port,
                uploaded: 5,
                downloaded: 6,
                left,
                event: Event::from_number(event),
                num_want: want,
                key,
            };
            let read = Query::parse(query_of(&announce).as_bytes()).expect("query");
            prop_assert_eq!(read.announce, announce);
            prop_assert!(read.compact);
        }

        #[test]
        fn no_query_makes_the_reader_fail(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Query::parse(&raw);
            let _ = scrape_query(&raw);
        }
    }
}
