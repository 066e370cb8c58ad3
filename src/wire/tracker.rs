//! What is said to trackers and by them: BEP 3, 7, 23, 24, 31 and 48 over HTTP ([`http`]), BEP 15
//! and 41 over UDP ([`udp`]), in both directions, and the URLs they are found under ([`url`]).
//!
//! `specs/tracker.md` lists what is taken from each form and what is ignored.

pub mod http;
pub mod udp;
pub mod url;

use std::net::SocketAddr;

use super::limits;
use crate::units::{InfoHash, PeerId};

/// The address family that an announce speaks for (BEP 7: each is announced apart).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `addr`.
    #[must_use]
    pub fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bytes of one compact peer: address and port (BEP 23, BEP 7).
    #[must_use]
    pub fn stride(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }
}

/// Why an announce is made (BEP 3 `event`, BEP 15 numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Event {
    /// One of the regular ones.
    #[default]
    None,
    /// A download became complete. Never sent in a live swarm.
    Completed,
    /// The first one.
    Started,
    /// The last one.
    Stopped,
}

impl Event {
    /// The value of the HTTP key; nothing for a regular announce.
    #[must_use]
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Completed => Some("completed"),
            Self::Started => Some("started"),
            Self::Stopped => Some("stopped"),
        }
    }

    /// Reads the HTTP value; words that BEP 3 does not know count as a regular announce, as other
    /// trackers take them.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Self {
        match word {
            b"completed" => Self::Completed,
            b"started" => Self::Started,
            b"stopped" => Self::Stopped,
            _ => Self::None,
        }
    }

    /// The number in a datagram.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Completed => 1,
            Self::Started => 2,
            Self::Stopped => 3,
        }
    }

    /// Reads the number in a datagram; unknown ones count as a regular announce.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Completed,
            2 => Self::Started,
            3 => Self::Stopped,
            _ => Self::None,
        }
    }
}

/// What a peer tells a tracker about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The peer's name for itself.
    pub peer_id: PeerId,
    /// The port it listens on.
    pub port: u16,
    /// Bytes sent so far.
    pub uploaded: u64,
    /// Bytes received so far.
    pub downloaded: u64,
    /// Bytes it still wants; 0 makes it a seed in the tracker's eyes.
    pub left: u64,
    /// Why it announces.
    pub event: Event,
    /// How many peers it would like; the tracker's choice if absent.
    pub num_want: Option<u32>,
    /// Constant per swarm and session, the same for both families (BEP 7).
    pub key: u32,
}

/// One peer out of a tracker's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Where it listens, as the tracker believes.
    pub addr: SocketAddr,
    /// Its id, which only the non-compact form carries.
    pub id: Option<PeerId>,
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, id: None }
    }
}

/// A tracker's answer to an announce.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reply {
    /// Seconds until the next announce is wanted.
    pub interval_s: Option<u32>,
    /// Seconds before which no announce is tolerated.
    pub interval_min_s: Option<u32>,
    /// Peers that have everything.
    pub seeders: Option<u32>,
    /// Peers that do not.
    pub leechers: Option<u32>,
    /// Downloads that ever completed.
    pub downloaded: Option<u32>,
    /// At most [`limits::PEERS_PER_REPLY_MAX`] peers, unjudged.
    pub peers: Vec<Peer>,
    /// The address from which the announce came (BEP 24).
    pub external_ip: Option<std::net::IpAddr>,
    /// To be handed back with the next announce.
    pub tracker_id: Option<Vec<u8>>,
    /// Words for the user; the announce counted.
    pub warning: Option<String>,
}

/// When a tracker that refused may be asked again (BEP 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After so many minutes.
    Minutes(u32),
    /// Not at all.
    Never,
}

/// A tracker's refusal, in its own words: escape them before anybody sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// When to try again, if it said so.
    pub retry: Option<Retry>,
}

/// What a scrape says about one swarm (BEP 48, BEP 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Swarm {
    /// Peers that have everything.
    pub seeders: u32,
    /// Downloads that ever completed.
    pub completed: u32,
    /// Peers that do not have everything.
    pub leechers: u32,
}

/// A tracker's words as text of at most [`limits::TRACKER_TEXT_LEN_MAX`] bytes; what is not UTF-8
/// is replaced.
#[must_use]
pub fn words(raw: &[u8]) -> String {
    let cut = raw.get(..limits::TRACKER_TEXT_LEN_MAX).unwrap_or(raw);
    let mut text = String::from_utf8_lossy(cut).into_owned();
    let end = (0..=limits::TRACKER_TEXT_LEN_MAX.min(text.len()))
        .rev()
        .find(|&n| text.is_char_boundary(n))
        .unwrap_or(0);
    text.truncate(end);
    text
}

/// Reads compact peers; a remainder that is no whole peer is cut, peers beyond `max` are left out
/// (bittorrent-tracker sends IPv4 strides in IPv6 replies).
#[must_use]
pub fn read_compact(raw: &[u8], family: Family, max: usize) -> Vec<SocketAddr> {
    raw.chunks_exact(family.stride()).take(max).filter_map(compact_peer).collect()
}

fn compact_peer(raw: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = raw.split_last_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    if let Ok(v4) = <[u8; 4]>::try_from(ip) {
        return Some((v4, port).into());
    }
    <[u8; 16]>::try_from(ip).ok().map(|v6| (v6, port).into())
}

/// Appends the compact form of `addr`.
pub fn write_compact(addr: &SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        std::net::IpAddr::V4(ip) => out.extend(ip.octets()),
        std::net::IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(addr.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_list_that_is_no_whole_number_of_peers_is_cut() {
        let raw = [127, 0, 0, 1, 0x1a, 0xe1, 10, 0, 0];
        assert_eq!(read_compact(&raw, Family::V4, 9), ["127.0.0.1:6881".parse().expect("addr")]);
        assert_eq!(read_compact(&raw, Family::V6, 9), []);
        assert_eq!(read_compact(&raw, Family::V4, 0), []);
    }

    #[test]
    fn words_stay_within_their_limit_and_reread_equal() {
        for raw in [vec![0xff; 5000], "é".repeat(900).into_bytes(), b"no".to_vec()] {
            let text = words(&raw);
            assert!(text.len() <= limits::TRACKER_TEXT_LEN_MAX);
            assert_eq!(words(text.as_bytes()), text);
        }
    }

    /// The rows of a vector file (`specs/tracker.md`, section Vectors).
    fn vectors(name: &str) -> Vec<serde_json::Value> {
        let root = env!("CARGO_MANIFEST_DIR");
        let path = format!("{root}/specs/vectors/tracker/{name}");
        let text = std::fs::read_to_string(&path).expect("a vector file");
        serde_json::from_str(&text).expect("JSON")
    }

    fn raw(row: &serde_json::Value, key: &str) -> Option<Vec<u8>> {
        let text = row[key].as_str()?;
        let mut out = vec![0; text.len() / 2];
        assert!(crate::units::hex_into(text, &mut out), "{}", row["name"]);
        Some(out)
    }

    /// `peers` of a row as the reply should have them.
    fn peers(row: &serde_json::Value) -> Vec<String> {
        let texts = row["peers"].as_array().into_iter().flatten();
        texts.filter_map(|text| text.as_str()).map(str::to_owned).collect()
    }

    #[test]
    fn http_replies_read_as_their_vectors_say() {
        for row in vectors("http.json") {
            let name = &row["name"];
            let answer = http::Answer::parse(&raw(&row, "hex").expect("hex"));
            match answer {
                Ok(http::Answer::Reply(reply)) => check_reply(name, &row["reply"], &reply),
                Ok(http::Answer::Refused(refusal)) => {
                    let expected = &row["refused"];
                    assert_eq!(expected["reason"], refusal.reason.as_str(), "{name}");
                    match refusal.retry {
                        None => assert!(expected["retry"].is_null(), "{name}"),
                        Some(Retry::Never) => assert_eq!(expected["retry"], "never", "{name}"),
                        Some(Retry::Minutes(n)) => assert_eq!(expected["retry"], n, "{name}"),
                    }
                }
                Err(fault) => assert_eq!(row["invalid"], true, "{name}: {fault}"),
            }
        }
    }

    fn check_reply(name: &serde_json::Value, expected: &serde_json::Value, reply: &Reply) {
        let got = serde_json::json!({
            "interval": reply.interval_s,
            "min_interval": reply.interval_min_s,
            "seeders": reply.seeders,
            "leechers": reply.leechers,
            "external_ip": reply.external_ip.map(|ip| ip.to_string()),
            "tracker_id": reply.tracker_id.as_deref().map(crate::units::hex),
            "warning": reply.warning,
        });
        for (key, value) in got.as_object().expect("an object") {
            assert_eq!(&expected[key], value, "{name}: {key}");
        }
        let addrs: Vec<String> = reply.peers.iter().map(|peer| peer.addr.to_string()).collect();
        assert_eq!(peers(expected), addrs, "{name}");
    }

    #[test]
    fn scrapes_read_as_their_vectors_say() {
        for row in vectors("scrape.json") {
            let name = &row["name"];
            let answer = http::ScrapeAnswer::parse(&raw(&row, "hex").expect("hex"));
            let Ok(http::ScrapeAnswer::Swarms(swarms)) = answer else { panic!("{name}") };
            let hash = InfoHash::from_hex(row["hash"].as_str().expect("hash")).expect("hash");
            let swarm = swarms.get(&hash).expect("the swarm");
            let numbers = [swarm.seeders, swarm.completed, swarm.leechers];
            assert_eq!(row["swarm"], serde_json::json!(numbers), "{name}");
        }
    }

    #[test]
    fn datagrams_read_as_their_vectors_say() {
        for row in vectors("udp.json") {
            let name = &row["name"];
            if let Some(bytes) = raw(&row, "request") {
                let request = udp::Request::parse(&bytes).expect("a request");
                assert_eq!(request.encode(), bytes, "{name}");
                if let udp::Request::Announce { url_data, .. } = request {
                    assert_eq!(row["url_data"].as_str().map(str::as_bytes), Some(&url_data[..]));
                }
                continue;
            }
            for (key, family) in [("v4", Family::V4), ("v6", Family::V6)] {
                let Some(bytes) = raw(&row, key) else { continue };
                let response = udp::Response::parse(&bytes, family);
                let kind = response.as_ref().ok().map(|response| match response {
                    udp::Response::Connect { .. } => "connect",
                    udp::Response::Announce { .. } => "announce",
                    udp::Response::Unlisted { .. } => "unlisted",
                    udp::Response::Scrape { .. } => "scrape",
                    udp::Response::Error { .. } => "error",
                });
                assert_eq!(row["kind"].as_str(), kind, "{name}");
                if let Ok(udp::Response::Announce { reply, .. }) = response {
                    let addrs = reply.peers.iter().map(|peer| peer.addr.to_string());
                    assert_eq!(peers(&row), addrs.collect::<Vec<_>>(), "{name}");
                }
            }
        }
    }
}
