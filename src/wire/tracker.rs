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
}
