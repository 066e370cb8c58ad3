//! What goes over HTTP: the query of an announce or scrape as a tracker reads it, and the bencoded
//! replies (BEP 3, 7, 23, 24, 31, 48), both ways.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::url::percent_decode;
use super::{
    Announce, Event, Family, Peer, Refusal, Reply, Retry, Swarm, read_compact, words, write_compact,
};
use crate::units::{InfoHash, PeerId};
use crate::wire::bencode::{BencodeError, DictEncoder, Encoder, Limits, Mode, Value};
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

/// Why a reply is none of a tracker's. The tracker, or whoever is in its place, is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplyFault {
    /// No bencode within the limits.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// Bencode without any key that a tracker's reply has.
    #[error("bencode without any key of a tracker's reply")]
    NoReply,
}

/// What an announce is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It counted.
    Reply(Reply),
    /// It did not.
    Refused(Refusal),
}

/// What a scrape is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrapeAnswer {
    /// The swarms that the tracker knows among those asked for.
    Swarms(BTreeMap<InfoHash, Swarm>),
    /// A refusal.
    Refused(Refusal),
}

/// The form in which peers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `peers` and `peers6` strings (BEP 23, BEP 7).
    Compact,
    /// A list of dictionaries, with the ids that are known (BEP 3).
    Dicts,
}

impl Answer {
    /// Reads the body of a reply to an announce. Keys may come in any order, values of a wrong
    /// type count as absent, peers named by host name are left out: a list of strangers must not
    /// make us look up names. Blanks after the body are no fault: aquatic ends it with a line end.
    ///
    /// # Errors
    /// The body is no tracker's reply.
    pub fn parse(raw: &[u8]) -> Result<Self, ReplyFault> {
        let root = Value::parse(raw.trim_ascii_end(), Mode::Lenient, &Limits::MESSAGE)?;
        if let Some(refusal) = read_refusal(&root) {
            return Ok(Self::Refused(refusal));
        }
        let known = ["interval", "min interval", "peers", "peers6", "complete", "warning message"];
        if !known.iter().any(|key| root.get(key.as_bytes()).is_some()) {
            return Err(ReplyFault::NoReply);
        }
        Ok(Self::Reply(Reply {
            interval_s: count(&root, "interval"),
            interval_min_s: count(&root, "min interval"),
            seeders: count(&root, "complete"),
            leechers: count(&root, "incomplete"),
            downloaded: count(&root, "downloaded"),
            peers: read_peers(&root),
            external_ip: bytes(&root, "external ip").and_then(read_ip),
            tracker_id: bytes(&root, "tracker id")
                .filter(|id| id.len() <= limits::TRACKER_TEXT_LEN_MAX)
                .map(<[u8]>::to_vec),
            warning: bytes(&root, "warning message").map(words),
        }))
    }

    /// The body.
    #[must_use]
    pub fn encode(&self, form: Form) -> Vec<u8> {
        match self {
            Self::Refused(refusal) => refusal_body(refusal),
            Self::Reply(reply) => Encoder::dict_of(|dict| write_reply(reply, form, dict)),
        }
    }
}

impl ScrapeAnswer {
    /// Reads the body of a reply to a scrape. A key that is not 20 bytes is tried as UTF-8 of
    /// characters below 256, one a byte: bittorrent-tracker writes hashes so.
    ///
    /// # Errors
    /// The body is no tracker's reply.
    pub fn parse(raw: &[u8]) -> Result<Self, ReplyFault> {
        let root = Value::parse(raw.trim_ascii_end(), Mode::Lenient, &Limits::MESSAGE)?;
        if let Some(refusal) = read_refusal(&root) {
            return Ok(Self::Refused(refusal));
        }
        let files = root.get(b"files").and_then(Value::dict).ok_or(ReplyFault::NoReply)?;
        let mut swarms = BTreeMap::new();
        for entry in files {
            let Some(hash) = scrape_key(entry.key) else { continue };
            if swarms.len() >= limits::SCRAPE_HASHES_MAX {
                break;
            }
            let number = |key| count(&entry.value, key).unwrap_or(0);
            let swarm = Swarm {
                seeders: number("complete"),
                completed: number("downloaded"),
                leechers: number("incomplete"),
            };
            swarms.entry(hash).or_insert(swarm);
        }
        Ok(Self::Swarms(swarms))
    }

    /// The body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let swarms = match self {
            Self::Refused(refusal) => return refusal_body(refusal),
            Self::Swarms(swarms) => swarms,
        };
        Encoder::dict_of(|root| {
            root.with("files", |e| {
                e.dict(|files| {
                    for (hash, swarm) in swarms {
                        files.with(hash.0, |e| e.dict(|row| write_swarm(swarm, row)));
                    }
                });
            });
        })
    }
}

fn write_swarm(swarm: &Swarm, row: &mut DictEncoder) {
    row.int("complete", swarm.seeders.into());
    row.int("downloaded", swarm.completed.into());
    row.int("incomplete", swarm.leechers.into());
}

fn scrape_key(raw: &[u8]) -> Option<InfoHash> {
    if let Ok(hash) = raw.try_into() {
        return Some(InfoHash(hash));
    }
    let text = std::str::from_utf8(raw).ok()?;
    // Twenty bytes become at most forty.
    let bytes: Option<Vec<u8>> = text.chars().take(21).map(|c| u8::try_from(c).ok()).collect();
    bytes?.try_into().ok().map(InfoHash)
}

/// A count or a number of seconds; below zero is absent, beyond 32 bits is the most.
fn count(dict: &Value<'_>, key: &str) -> Option<u32> {
    let number = dict.get(key.as_bytes())?.int()?;
    u64::try_from(number).ok().map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn bytes<'a>(dict: &Value<'a>, key: &str) -> Option<&'a [u8]> {
    dict.get(key.as_bytes())?.bytes()
}

/// BEP 31: the time is a number of minutes, as text in its examples, or "never".
fn read_refusal(root: &Value<'_>) -> Option<Refusal> {
    let reason = words(bytes(root, "failure reason")?);
    let retry = match root.get(b"retry in") {
        Some(Value::Bytes(b"never")) => Some(Retry::Never),
        Some(Value::Bytes(text)) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map(Retry::Minutes)
        }
        _ => count(root, "retry in").map(Retry::Minutes),
    };
    Some(Refusal { reason, retry })
}

fn read_ip(raw: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(raw) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(raw).ok().map(Into::into)
}

/// `peers` and `peers6`, each a string or a list.
fn read_peers(root: &Value<'_>) -> Vec<Peer> {
    let mut out = Vec::new();
    for (key, family) in [("peers", Family::V4), ("peers6", Family::V6)] {
        let room = limits::PEERS_PER_REPLY_MAX.saturating_sub(out.len());
        match root.get(key.as_bytes()) {
            Some(Value::Bytes(raw)) => {
                out.extend(read_compact(raw, family, room).into_iter().map(Peer::from));
            }
            Some(Value::List(items)) => out.extend(items.iter().filter_map(read_peer).take(room)),
            _ => {}
        }
    }
    out
}

fn read_peer(value: &Value<'_>) -> Option<Peer> {
    let ip: IpAddr = value.get(b"ip")?.text()?.parse().ok()?;
    let port = u16::try_from(value.get(b"port")?.int()?).ok()?;
    let id = bytes(value, "peer id").and_then(|id| id.try_into().ok()).map(PeerId);
    Some(Peer { addr: SocketAddr::new(ip, port), id })
}

fn refusal_body(refusal: &Refusal) -> Vec<u8> {
    Encoder::dict_of(|dict| {
        dict.bytes("failure reason", &refusal.reason);
        match refusal.retry {
            None => {}
            Some(Retry::Never) => dict.bytes("retry in", "never"),
            Some(Retry::Minutes(minutes)) => dict.int("retry in", minutes.into()),
        }
    })
}

fn write_reply(reply: &Reply, form: Form, dict: &mut DictEncoder) {
    for (key, value) in [
        ("interval", reply.interval_s),
        ("min interval", reply.interval_min_s),
        ("complete", reply.seeders),
        ("incomplete", reply.leechers),
        ("downloaded", reply.downloaded),
    ] {
        if let Some(value) = value {
            dict.int(key, value.into());
        }
    }
    match reply.external_ip {
        Some(IpAddr::V4(ip)) => dict.bytes("external ip", ip.octets()),
        Some(IpAddr::V6(ip)) => dict.bytes("external ip", ip.octets()),
        None => {}
    }
    if let Some(id) = &reply.tracker_id {
        dict.bytes("tracker id", id);
    }
    if let Some(warning) = &reply.warning {
        dict.bytes("warning message", warning);
    }
    match form {
        Form::Compact => write_compact_peers(&reply.peers, dict),
        Form::Dicts => dict.list("peers", |list| {
            for peer in &reply.peers {
                list.dict(|dict| write_peer(peer, dict));
            }
        }),
    }
}

/// `peers` always, as some clients want it there; `peers6` when there are any.
fn write_compact_peers(peers: &[Peer], dict: &mut DictEncoder) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        let out = if peer.addr.is_ipv4() { &mut v4 } else { &mut v6 };
        write_compact(&peer.addr, out);
    }
    dict.bytes("peers", v4);
    if !v6.is_empty() {
        dict.bytes("peers6", v6);
    }
}

fn write_peer(peer: &Peer, dict: &mut DictEncoder) {
    dict.bytes("ip", peer.addr.ip().to_string());
    dict.int("port", peer.addr.port().into());
    if let Some(id) = peer.id {
        dict.bytes("peer id", id.0);
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

    #[track_caller]
    fn reply(raw: &[u8]) -> Reply {
        match Answer::parse(raw).expect("a reply") {
            Answer::Reply(reply) => reply,
            Answer::Refused(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    fn addrs(reply: &Reply) -> Vec<String> {
        reply.peers.iter().map(|peer| peer.addr.to_string()).collect()
    }

    #[test]
    fn compact_replies_of_both_families_are_read() {
        let raw = b"d8:intervali1800e5:peers6:\x7f\0\0\x01\x1a\xe16:peers618:\
            \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e";
        assert_eq!(addrs(&reply(raw)), ["127.0.0.1:6881", "[::1]:6881"]);
        assert_eq!(reply(raw).interval_s, Some(1800));
    }

    #[test]
    fn lists_of_dictionaries_are_read_and_names_left_out() {
        let raw = b"d8:intervali10e5:peersl\
            d2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
            d2:ip3:::14:porti1eed2:ip9:localhost4:porti1eed2:ip7:1.2.3.44:porti70000ee\
            d4:porti1eei5eee";
        let reply = reply(raw);
        assert_eq!(addrs(&reply), ["127.0.0.1:6881", "[::1]:1"]);
        assert_eq!(reply.peers.first().and_then(|p| p.id), Some(PeerId([b'a'; 20])));
    }

    #[test]
    fn sloppy_trackers_are_understood() {
        // Unsorted, an odd peer string, a negative count, a wrong type, no interval.
        let raw = b"d5:peers7:\x7f\0\0\x01\x1a\xe1x8:completei-1e10:incomplete1:x\
            11:external ip3:abce";
        let reply = reply(raw);
        assert_eq!(addrs(&reply), ["127.0.0.1:6881"]);
        assert_eq!((reply.seeders, reply.leechers, reply.external_ip), (None, None, None));
    }

    #[test]
    fn a_line_end_after_the_body_is_ignored() {
        assert_eq!(reply(b"d8:intervali120e5:peers0:e\r\n").interval_s, Some(120));
        let scrape = ScrapeAnswer::parse(b"d5:filesdee\r\n");
        assert_eq!(scrape, Ok(ScrapeAnswer::Swarms(BTreeMap::new())));
    }

    #[test]
    fn external_addresses_have_four_or_sixteen_bytes() {
        let four = b"d11:external ip4:\x09\x09\x09\x098:intervali1ee";
        assert_eq!(reply(four).external_ip, "9.9.9.9".parse().ok());
        let sixteen = b"d11:external ip16:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x018:intervali1ee";
        assert_eq!(reply(sixteen).external_ip, "::1".parse().ok());
    }

    #[test]
    fn refusals_say_when_to_come_back() {
        for (tail, retry) in [
            ("", None),
            ("8:retry ini5e", Some(Retry::Minutes(5))),
            ("8:retry in1:5", Some(Retry::Minutes(5))),
            ("8:retry in5:never", Some(Retry::Never)),
            ("8:retry in5:later", None),
            ("8:retry ini-5e", None),
        ] {
            let raw = format!("d14:failure reason2:no{tail}e");
            let refusal = Refusal { reason: "no".into(), retry };
            assert_eq!(Answer::parse(raw.as_bytes()), Ok(Answer::Refused(refusal)), "{tail}");
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for raw in [&b""[..], b"<html>", b"de", b"le", b"i1e", b"d3:foo3:bare", b"d8:intervali1e"] {
            assert!(Answer::parse(raw).is_err(), "{}", raw.escape_ascii());
            assert!(ScrapeAnswer::parse(raw).is_err(), "{}", raw.escape_ascii());
        }
        assert!(Answer::parse(&b"l".repeat(100_000)).is_err());
        let huge = vec![b'0'; limits::TRACKER_REPLY_LEN_MAX + 1];
        assert!(matches!(
            Answer::parse(&huge),
            Err(ReplyFault::Bencode(BencodeError::TooLong { .. }))
        ));
    }

    #[test]
    fn a_long_list_is_cut() {
        let peers = vec![1u8; 6 * 100_000];
        let raw = [format!("d5:peers{}:", peers.len()).as_bytes(), &peers, b"e"].concat();
        assert_eq!(reply(&raw).peers.len(), limits::PEERS_PER_REPLY_MAX);
    }

    #[test]
    fn scrapes_are_read_even_with_hashes_written_as_text() {
        let hash = [0xaa; 20];
        let row = "d8:completei2e10:downloadedi3e10:incompletei4eee";
        let wrong: String = hash.iter().map(|b| char::from(*b)).collect();
        for key in [&hash[..], wrong.as_bytes()] {
            let head = format!("d5:filesd{}:", key.len());
            let raw = [head.as_bytes(), key, row.as_bytes(), b"e"].concat();
            let swarm = Swarm { seeders: 2, completed: 3, leechers: 4 };
            let swarms = BTreeMap::from([(InfoHash(hash), swarm)]);
            assert_eq!(ScrapeAnswer::parse(&raw), Ok(ScrapeAnswer::Swarms(swarms)));
        }
    }

    fn bencodish() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just("5:peers"),
            Just("6:peers6"),
            Just("8:interval"),
            Just("8:complete"),
            Just("i7e"),
            Just("i-1e"),
            Just("6:\x7f\0\0\x01\x1a\x01"),
            Just("d2:ip3:::14:porti9ee"),
            Just("l"),
            Just("e"),
            Just("d"),
            Just("14:failure reason"),
            Just("8:retry in"),
            Just("5:never"),
            Just("11:external ip"),
            Just("4:abcd"),
            Just("5:files"),
            Just("15:warning message"),
            Just("20:aaaaaaaaaaaaaaaaaaaa"),
            Just("2:\u{e9}"),
            Just("10:tracker id"),
        ];
        proptest::collection::vec(word, 0..12)
            .prop_map(|words| format!("d{}e", words.concat()).into_bytes())
    }

    proptest! {
        #[test]
        fn what_a_reply_reads_as_reads_the_same_again(raw in bencodish()) {
            if let Ok(answer) = Answer::parse(&raw) {
                prop_assert_eq!(Answer::parse(&answer.encode(Form::Dicts)), Ok(answer));
            }
            if let Ok(answer) = ScrapeAnswer::parse(&raw) {
                prop_assert_eq!(ScrapeAnswer::parse(&answer.encode()), Ok(answer));
            }
        }

        #[test]
        fn peers_survive_the_compact_form(v4: Vec<(u32, u16)>, v6: Vec<(u128, u16)>) {
            let v4 = v4.into_iter().take(99).map(|(ip, port)| (IpAddr::V4(ip.into()), port));
            let v6 = v6.into_iter().take(99).map(|(ip, port)| (IpAddr::V6(ip.into()), port));
            let peers = v4.chain(v6).map(|(ip, port)| SocketAddr::new(ip, port).into()).collect();
            let reply = Answer::Reply(Reply { peers, ..Reply::default() });
            prop_assert_eq!(Answer::parse(&reply.encode(Form::Compact)), Ok(reply));
        }

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
