//! Datagrams of BEP 15, and the options behind an announce of BEP 41, both ways.

use nom::Parser;
use nom::bytes::complete::take;
use nom::combinator::map;
use nom::number::complete::{be_u16, be_u32, be_u64};
use thiserror::Error;

use super::{Announce, Event, Family, Reply, Swarm, read_compact, words, write_compact};
use crate::units::{InfoHash, PeerId};
use crate::wire::limits;

/// BEP 15: what a connect request carries instead of a connection id.
pub const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// BEP 15 `num_want` that leaves the choice to the tracker.
const NUM_WANT_DEFAULT: u32 = u32::MAX;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Why a datagram is not understood. Its sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UdpFault {
    /// Shorter than its action allows.
    #[error("datagram of {len} bytes is too short")]
    Short {
        /// Its length in bytes.
        len: usize,
    },
    /// Longer than anything sensible.
    #[error("datagram of {len} bytes, limit {max}", max = limits::TRACKER_DATAGRAM_LEN_MAX)]
    Long {
        /// Its length in bytes.
        len: usize,
    },
    /// An action that BEP 15 does not know.
    #[error("action {action} is unknown")]
    Action {
        /// Its number.
        action: u32,
    },
    /// A connect request without the protocol's number.
    #[error("connect request with protocol id {id:#x}")]
    Protocol {
        /// What stood in its place.
        id: u64,
    },
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Asks for a connection id.
    Connect {
        /// Named again in the answer.
        transaction: u32,
    },
    /// Announces a peer.
    Announce {
        /// Proof that the client receives at its address.
        connection: u64,
        /// Named again in the answer.
        transaction: u32,
        /// What is announced.
        announce: Announce,
        /// BEP 41 URL data: path and query of the tracker's URL.
        url_data: Vec<u8>,
    },
    /// Asks about swarms.
    Scrape {
        /// Proof that the client receives at its address.
        connection: u64,
        /// Named again in the answer.
        transaction: u32,
        /// At most [`limits::SCRAPE_HASHES_MAX`] swarms.
        hashes: Vec<InfoHash>,
    },
}

/// What a tracker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Grants a connection id.
    Connect {
        /// Of the request.
        transaction: u32,
        /// The id.
        connection: u64,
    },
    /// Answers an announce.
    Announce {
        /// Of the request.
        transaction: u32,
        /// The answer; only interval, counts and peers are set.
        reply: Reply,
    },
    /// opentracker's answer for a swarm that is not on its list: an announce head and no more.
    Unlisted {
        /// Of the request.
        transaction: u32,
    },
    /// Answers a scrape, in the order asked.
    Scrape {
        /// Of the request.
        transaction: u32,
        /// One row a swarm.
        swarms: Vec<Swarm>,
    },
    /// Refuses.
    Error {
        /// Of the request.
        transaction: u32,
        /// The tracker's words.
        message: String,
    },
}

type Parsed<'a, T> = nom::IResult<&'a [u8], T, nom::error::Error<&'a [u8]>>;

impl Request {
    /// Reads a client's datagram.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(raw: &[u8]) -> Result<Self, UdpFault> {
        let short = UdpFault::Short { len: raw.len() };
        if raw.len() > limits::TRACKER_DATAGRAM_LEN_MAX {
            return Err(UdpFault::Long { len: raw.len() });
        }
        let head: Parsed<'_, _> = (be_u64, be_u32, be_u32).parse(raw);
        let (rest, (connection, action, transaction)) = head.map_err(|_| short)?;
        match action {
            CONNECT if connection == PROTOCOL_ID => Ok(Self::Connect { transaction }),
            CONNECT => Err(UdpFault::Protocol { id: connection }),
            ANNOUNCE => {
                let (options, announce) = announce_body(rest).map_err(|_| short)?;
                let url_data = read_url_data(options);
                Ok(Self::Announce { connection, transaction, announce, url_data })
            }
            SCRAPE => {
                let (hashes, _) = rest.as_chunks::<20>();
                let hashes: Vec<_> =
                    hashes.iter().take(limits::SCRAPE_HASHES_MAX).map(|h| InfoHash(*h)).collect();
                Ok(Self::Scrape { connection, transaction, hashes })
            }
            action => Err(UdpFault::Action { action }),
        }
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Connect { transaction } => head(PROTOCOL_ID, CONNECT, *transaction),
            Self::Announce { connection, transaction, announce, url_data } => {
                let mut out = head(*connection, ANNOUNCE, *transaction);
                out.extend(announce.info_hash.0);
                out.extend(announce.peer_id.0);
                for number in [announce.downloaded, announce.left, announce.uploaded] {
                    out.extend(number.to_be_bytes());
                }
                let num_want = announce.num_want.unwrap_or(NUM_WANT_DEFAULT);
                // The address field stays 0: the tracker sees where we are.
                for number in [announce.event.number(), 0, announce.key, num_want] {
                    out.extend(number.to_be_bytes());
                }
                out.extend(announce.port.to_be_bytes());
                write_url_data(url_data, &mut out);
                out
            }
            Self::Scrape { connection, transaction, hashes } => {
                let mut out = head(*connection, SCRAPE, *transaction);
                out.extend(hashes.iter().take(limits::SCRAPE_HASHES_MAX).flat_map(|h| h.0));
                out
            }
        }
    }
}

fn head(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend(connection.to_be_bytes());
    out.extend(action.to_be_bytes());
    out.extend(transaction.to_be_bytes());
    out
}

/// Bytes 16 to 98 of an announce.
fn announce_body(raw: &[u8]) -> Parsed<'_, Announce> {
    let twenty = || {
        map(take(20usize), |raw: &[u8]| {
            let mut out = [0u8; 20];
            out.iter_mut().zip(raw).for_each(|(to, from)| *to = *from);
            out
        })
    };
    let (raw, (info_hash, peer_id)) = (twenty(), twenty()).parse(raw)?;
    let (raw, (downloaded, left, uploaded)) = (be_u64, be_u64, be_u64).parse(raw)?;
    let (raw, (event, _address, key, num_want)) = (be_u32, be_u32, be_u32, be_u32).parse(raw)?;
    let (raw, port) = be_u16(raw)?;
    let announce = Announce {
        info_hash: InfoHash(info_hash),
        peer_id: PeerId(peer_id),
        port,
        uploaded,
        downloaded,
        left,
        event: Event::from_number(event),
        // Signed in BEP 15: every negative number means the default.
        num_want: i32::try_from(num_want).ok().map(i32::unsigned_abs),
        key,
    };
    Ok((raw, announce))
}

/// BEP 41: option 0 ends, option 1 is padding, all others have a length; 2 is URL data. A cut
/// option ends the list.
fn read_url_data(mut raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((&kind, rest)) = raw.split_first() {
        raw = rest;
        match kind {
            0 => break,
            1 => continue,
            _ => {}
        }
        let Some((&len, rest)) = raw.split_first() else { break };
        let Some((data, rest)) = rest.split_at_checked(len.into()) else { break };
        if kind == 2 {
            out.extend(data);
        }
        raw = rest;
    }
    out.truncate(limits::TRACKER_URL_LEN_MAX);
    out
}

fn write_url_data(data: &[u8], out: &mut Vec<u8>) {
    let data = data.get(..limits::TRACKER_URL_LEN_MAX).unwrap_or(data);
    for chunk in data.chunks(255) {
        out.push(2);
        out.push(chunk.len() as u8);
        out.extend(chunk);
    }
}

impl Response {
    /// Reads a tracker's datagram; `family` is the one it came over (BEP 15: it decides the
    /// stride of peers).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(raw: &[u8], family: Family) -> Result<Self, UdpFault> {
        let short = UdpFault::Short { len: raw.len() };
        let head: Parsed<'_, _> = (be_u32, be_u32).parse(raw);
        let (rest, (action, transaction)) = head.map_err(|_| short)?;
        match action {
            CONNECT => {
                let connection: Parsed<'_, _> = be_u64(rest);
                let (_, connection) = connection.map_err(|_| short)?;
                Ok(Self::Connect { transaction, connection })
            }
            ANNOUNCE if rest.is_empty() => Ok(Self::Unlisted { transaction }),
            ANNOUNCE => {
                let numbers: Parsed<'_, _> = (be_u32, be_u32, be_u32).parse(rest);
                let (peers, (interval, leechers, seeders)) = numbers.map_err(|_| short)?;
                let peers = read_compact(peers, family, limits::PEERS_PER_REPLY_MAX);
                let reply = Reply {
                    interval_s: Some(interval),
                    seeders: Some(seeders),
                    leechers: Some(leechers),
                    peers: peers.into_iter().map(Into::into).collect(),
                    ..Reply::default()
                };
                Ok(Self::Announce { transaction, reply })
            }
            SCRAPE => {
                let swarms = rest.chunks_exact(12).take(limits::SCRAPE_HASHES_MAX);
                let swarms = swarms.filter_map(read_swarm).collect();
                Ok(Self::Scrape { transaction, swarms })
            }
            ERROR => Ok(Self::Error { transaction, message: words(rest) }),
            action => Err(UdpFault::Action { action }),
        }
    }

    /// The datagram. Peers of one family only may be in it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let mut head = |action: u32, transaction: u32| {
            out.extend(action.to_be_bytes());
            out.extend(transaction.to_be_bytes());
        };
        match self {
            Self::Connect { transaction, connection } => {
                head(CONNECT, *transaction);
                out.extend(connection.to_be_bytes());
            }
            Self::Announce { transaction, reply } => {
                head(ANNOUNCE, *transaction);
                for number in [reply.interval_s, reply.leechers, reply.seeders] {
                    out.extend(number.unwrap_or(0).to_be_bytes());
                }
                for peer in reply.peers.iter().take(limits::PEERS_PER_REPLY_MAX) {
                    write_compact(&peer.addr, &mut out);
                }
            }
            Self::Unlisted { transaction } => head(ANNOUNCE, *transaction),
            Self::Scrape { transaction, swarms } => {
                head(SCRAPE, *transaction);
                for swarm in swarms.iter().take(limits::SCRAPE_HASHES_MAX) {
                    for number in [swarm.seeders, swarm.completed, swarm.leechers] {
                        out.extend(number.to_be_bytes());
                    }
                }
            }
            Self::Error { transaction, message } => {
                head(ERROR, *transaction);
                out.extend(message.as_bytes());
            }
        }
        out
    }

    /// The number of its action.
    #[must_use]
    pub fn action(&self) -> u32 {
        match self {
            Self::Connect { .. } => CONNECT,
            Self::Announce { .. } | Self::Unlisted { .. } => ANNOUNCE,
            Self::Scrape { .. } => SCRAPE,
            Self::Error { .. } => ERROR,
        }
    }

    /// The transaction that it answers.
    #[must_use]
    pub fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction, .. }
            | Self::Announce { transaction, .. }
            | Self::Unlisted { transaction }
            | Self::Scrape { transaction, .. }
            | Self::Error { transaction, .. } => *transaction,
        }
    }
}

fn read_swarm(raw: &[u8]) -> Option<Swarm> {
    let numbers: Parsed<'_, _> = (be_u32, be_u32, be_u32).parse(raw);
    let (_, (seeders, completed, leechers)) = numbers.ok()?;
    Some(Swarm { seeders, completed, leechers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn announce() -> Announce {
        Announce {
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId::ours([b'x'; 12]),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: Event::Started,
            num_want: None,
            key: 9,
        }
    }

    #[test]
    fn an_announce_is_laid_out_as_bep_15_says() {
        let request = Request::Announce {
            connection: 0x0102_0304_0506_0708,
            transaction: 0x0a0b_0c0d,
            announce: announce(),
            url_data: b"/dir?a=b&c=d".to_vec(),
        };
        let raw = request.encode();
        assert_eq!(raw.len(), 98 + 14);
        assert_eq!(raw[8..16], [0, 0, 0, 1, 0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(raw[80..98], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 255, 255, 255, 255, 26, 225]);
        assert_eq!(raw[98..], *b"\x02\x0c/dir?a=b&c=d");
        assert_eq!(Request::parse(&raw), Ok(request));
    }

    #[test]
    fn options_end_at_their_end_or_at_a_cut_one() {
        for (raw, data) in [
            (&b"\x02\x02ab\x01\x01\x02\x01c\x00\x02\x01d"[..], &b"abc"[..]),
            (b"\x07\x03xyz\x02\x01a", b"a"),
            (b"\x02\x00", b""),
            (b"\x02\x09ab", b""),
            (b"\x02", b""),
            (b"", b""),
        ] {
            assert_eq!(read_url_data(raw), data, "{raw:?}");
        }
    }

    #[test]
    fn long_url_data_goes_in_chunks_of_255() {
        let mut raw = Vec::new();
        write_url_data(&[b'u'; 600], &mut raw);
        assert_eq!(raw.len(), 600 + 6);
        assert_eq!(read_url_data(&raw), [b'u'; 600]);
    }

    #[test]
    fn an_announce_head_alone_is_a_refusal() {
        let raw = [0, 0, 0, 1, 0, 0, 0, 5];
        assert_eq!(Response::parse(&raw, Family::V4), Ok(Response::Unlisted { transaction: 5 }));
        let short = Response::parse(&[0, 0, 0, 1, 0, 0, 0, 5, 0], Family::V4);
        assert_eq!(short, Err(UdpFault::Short { len: 9 }));
    }

    #[test]
    fn a_request_needs_the_protocols_number_and_whole_fields() {
        let raw = Request::Connect { transaction: 1 }.encode();
        assert_eq!(Request::parse(&raw), Ok(Request::Connect { transaction: 1 }));
        assert_eq!(Request::parse(&raw[..15]), Err(UdpFault::Short { len: 15 }));
        let mut wrong = raw;
        wrong[0] = 1;
        assert!(matches!(Request::parse(&wrong), Err(UdpFault::Protocol { .. })));
        wrong[11] = 9;
        assert_eq!(Request::parse(&wrong), Err(UdpFault::Action { action: 9 }));
        wrong[11] = 1;
        assert_eq!(Request::parse(&wrong), Err(UdpFault::Short { len: 16 }));
    }

    proptest! {
        #[test]
        fn what_a_response_reads_as_reads_the_same_again(
            raw in proptest::collection::vec(any::<u8>(), 0..200), action in 0u8..5, v6: bool,
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let raw = [&[0, 0, 0, action][..], &raw].concat();
            if let Ok(response) = Response::parse(&raw, family) {
                prop_assert_eq!(Response::parse(&response.encode(), family), Ok(response));
            }
        }

        #[test]
        fn what_a_request_reads_as_reads_the_same_again(
            front: u64, action in 0u8..4, raw in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let raw = [&front.to_be_bytes()[..], &[0, 0, 0, action], &raw].concat();
            if let Ok(request) = Request::parse(&raw) {
                prop_assert_eq!(Request::parse(&request.encode()), Ok(request));
            }
        }
    }
}
