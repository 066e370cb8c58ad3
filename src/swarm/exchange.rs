//! What peers tell each other besides the stream: the `info` dictionary (BEP 9) and the addresses
//! of other peers (BEP 11).

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};

use super::Swarm;
use super::io::{Event, Out, Record};
use super::peer::Peer;
use crate::units::{InfoHash, Link, Time};
use crate::wire::extended::{Extension, METADATA_PIECE_LEN, MetadataMessage, Pex};
use crate::wire::message::WireError;

/// A piece of metadata that is not answered by then is asked of another peer.
const METADATA_ANSWER_US: u64 = 2_000_000;
/// Pieces of metadata that one peer is served.
///
/// The `info` of a live torrent is one piece; some clients ask for it for ever.
const METADATA_SERVED_MAX: u32 = 16;
/// Peers that are asked for a small dictionary at once.
const METADATA_ASKS_MAX: usize = 4;
/// A large dictionary, which is that of no live torrent, must come from its one peer this soon.
const METADATA_LARGE_US: u64 = 30_000_000;
/// Peers are told of each other this often at most (BEP 11).
const PEX_US: u64 = 60_000_000;
/// The first time soon after the connection opened: a small swarm knits itself together.
const PEX_FIRST_US: u64 = 1_000_000;
/// A peer that tells more often than this is not listened to.
const PEX_IN_US: u64 = 30_000_000;
/// Addresses in one message.
const PEX_ADDED_MAX: usize = 50;

/// The `info` dictionary while it is being fetched: always whole from one peer, so that whoever
/// spoils it is known and nobody else is blamed.
///
/// That of a live torrent is one piece and asked of several peers at once. A larger one, of another
/// kind of torrent, is fetched from one peer at a time, only to say what it is.
#[derive(Debug, Default)]
pub(super) struct MetadataFetch {
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    from: Link,
    since: Time,
    size: usize,
    bytes: BytesMut,
}

impl Large {
    fn next(&self) -> u32 {
        (self.bytes.len() / METADATA_PIECE_LEN) as u32
    }
}

impl Swarm {
    pub(super) fn metadata_message(
        &mut self,
        link: Link,
        payload: &Bytes,
    ) -> Result<(), WireError> {
        match MetadataMessage::parse(payload)? {
            Some(MetadataMessage::Request { piece }) => self.serve_metadata(link, piece),
            Some(MetadataMessage::Data { piece, data, .. }) => {
                self.metadata_came(link, piece, &data);
            }
            Some(MetadataMessage::Reject { piece }) => {
                let peer = self.peers.get_mut(&link);
                if let Some(peer) =
                    peer.filter(|p| p.metadata_asked.is_some_and(|(n, _)| n == piece))
                {
                    // Not asked again: it said that it has none.
                    peer.metadata_size = None;
                    peer.metadata_asked = None;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn serve_metadata(&mut self, link: Link, piece: u32) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.metadata_served += 1;
        let many = peer.metadata_served > METADATA_SERVED_MAX;
        let answer = match self.core.as_ref().map(|core| &core.torrent.raw) {
            Some(raw) if !many && (piece as usize) * METADATA_PIECE_LEN < raw.len() => {
                let start = piece as usize * METADATA_PIECE_LEN;
                let data = raw.slice(start..raw.len().min(start + METADATA_PIECE_LEN));
                MetadataMessage::Data { piece, total_size: Some(raw.len()), data }
            }
            _ => MetadataMessage::Reject { piece },
        };
        self.send_extended(link, Extension::Metadata, answer.encode());
    }

    fn metadata_came(&mut self, link: Link, piece: u32, data: &Bytes) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let asked = peer.metadata_asked.is_some_and(|(n, _)| n == piece);
        if self.core.is_some() || !asked {
            return;
        }
        peer.metadata_asked = None;
        let whole = match &mut self.metadata.large {
            Some(large) if large.from == link => {
                let rest = large.size.saturating_sub(large.bytes.len());
                if large.next() != piece || data.len() != rest.min(METADATA_PIECE_LEN) {
                    let len = data.len();
                    return self.fault(link, &format_args!("metadata piece of {len} bytes"));
                }
                large.bytes.extend_from_slice(data);
                if large.bytes.len() < large.size {
                    return self.ask_metadata(link);
                }
                std::mem::take(&mut large.bytes).freeze()
            }
            _ => Bytes::copy_from_slice(data),
        };
        if InfoHash(Sha1::digest(&whole).into()) == self.config.info_hash {
            self.metadata = MetadataFetch::default();
            self.metadata_complete(&whole);
        } else {
            self.fault(link, &"metadata that does not fit the info-hash");
        }
    }

    /// Asks a peer for the next piece that it owes.
    fn ask_metadata(&mut self, link: Link) {
        let now = self.now.mono;
        let large = self.metadata.large.as_ref().filter(|large| large.from == link);
        let piece = large.map_or(0, Large::next);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.metadata_asked = Some((piece, now));
        let request = MetadataMessage::Request { piece }.encode();
        self.send_extended(link, Extension::Metadata, request);
    }

    fn metadata_complete(&mut self, raw: &Bytes) {
        if !self.learn_torrent(raw) {
            self.event(Event::NotLive);
            return;
        }
        self.out.push_back(Out::Persist(Record::Metadata(raw.clone())));
        self.event(Event::MetadataComplete);
        if self.is_private() {
            self.event(Event::Private);
        }
        let live: Vec<(Link, Vec<Bytes>)> = self
            .peers
            .values_mut()
            .filter(|p| p.is_live())
            .map(|p| (p.link, std::mem::take(&mut p.early_entries)))
            .collect();
        for (link, early) in live {
            let push = crate::wire::live::Entries::Push { entries: early };
            self.entries_came(link, push);
        }
    }

    /// Asks for the `info` dictionary whoever says that it has it.
    pub(super) fn tick_metadata(&mut self) {
        if self.core.is_some() {
            return;
        }
        let now = self.now.mono;
        for peer in self.peers.values_mut() {
            if peer.metadata_asked.is_some_and(|(_, at)| now.since_us(at) > METADATA_ANSWER_US) {
                peer.metadata_asked = None;
                peer.metadata_size = None;
            }
        }
        let claims = |p: &Peer, small: bool| {
            let size = p.metadata_size.filter(|_| p.metadata_asked.is_none())?;
            ((size <= METADATA_PIECE_LEN) == small).then_some((p.link, size))
        };
        let large = self.metadata.large.as_ref().map(|large| (large.from, large.since));
        let busy = self.peers.values().filter(|p| p.metadata_asked.is_some());
        let busy = busy.filter(|p| large.is_none_or(|(from, _)| from != p.link)).count();
        let small: Vec<Link> = self
            .peers
            .values()
            .filter_map(|p| claims(p, true))
            .map(|(link, _)| link)
            .take(METADATA_ASKS_MAX.saturating_sub(busy))
            .collect();
        for link in small {
            self.ask_metadata(link);
        }
        if let Some((from, since)) = large {
            let peer = self.peers.get_mut(&from);
            let goes_on = peer.as_ref().is_some_and(|p| p.metadata_size.is_some());
            if goes_on && now.since_us(since) < METADATA_LARGE_US {
                return;
            }
            if let Some(peer) = peer {
                peer.metadata_size = None;
                peer.metadata_asked = None;
            }
            self.metadata.large = None;
        }
        let next = self.peers.values().find_map(|p| claims(p, false));
        if let Some((from, size)) = next {
            let bytes = BytesMut::new();
            self.metadata.large = Some(Large { from, since: now, size, bytes });
            self.ask_metadata(from);
        }
    }

    /// Whether peers tell of peers here (BEP 11).
    pub(super) fn exchanges_peers(&self) -> bool {
        self.config.pex && !self.config.feed_only && !self.is_private()
    }

    pub(super) fn pex_message(&mut self, link: Link, payload: &Bytes) -> Result<(), WireError> {
        let now = self.now.mono;
        if !self.exchanges_peers() {
            return Ok(());
        }
        let pex = Pex::parse(payload)?;
        let Some(peer) = self.peers.get_mut(&link) else { return Ok(()) };
        if peer.pex_in_at.is_some_and(|at| now.since_us(at) < PEX_IN_US) {
            return Ok(());
        }
        peer.pex_in_at = Some(now);
        let mut added = pex.added;
        added.truncate(PEX_ADDED_MAX);
        self.roster.told(link, &added, &mut self.rng);
        Ok(())
    }

    /// Tells peers of peers.
    pub(super) fn tick_exchange(&mut self) {
        let now = self.now.mono;
        if self.core.is_none() || !self.exchanges_peers() {
            return;
        }
        let due: Vec<Link> = self
            .peers
            .values()
            .filter(|p| p.is_live())
            .filter(|p| match p.pex_at {
                None => now.since_us(p.up_at) >= PEX_FIRST_US,
                Some(at) => now.since_us(at) >= PEX_US,
            })
            .map(|p| p.link)
            .collect();
        for link in due {
            self.tell_peers(link);
        }
    }

    fn tell_peers(&mut self, link: Link) {
        let now = self.now.mono;
        let mut known: Vec<SocketAddr> = self
            .peers
            .values()
            .filter(|p| p.link != link && p.is_live())
            .filter_map(|p| p.listens)
            .collect();
        known.sort_unstable();
        known.dedup();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let first = peer.pex_at.is_none();
        peer.pex_at = Some(now);
        let mut added: Vec<SocketAddr> =
            known.iter().filter(|a| !peer.pex_told.contains(a)).copied().collect();
        added.truncate(PEX_ADDED_MAX);
        let mut dropped: Vec<SocketAddr> =
            peer.pex_told.iter().filter(|a| !known.contains(a)).copied().collect();
        dropped.truncate(PEX_ADDED_MAX);
        peer.pex_told.retain(|a| !dropped.contains(a));
        peer.pex_told.extend(&added);
        if first && added.is_empty() {
            // Nothing to tell yet: soon again, not a minute later.
            peer.pex_at = None;
            return;
        }
        if !added.is_empty() || !dropped.is_empty() {
            self.send_extended(link, Extension::Pex, Pex { added, dropped }.encode());
        }
    }
}
