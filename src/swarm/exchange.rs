//! What peers tell each other besides the stream: the `info` dictionary (BEP 9) and the addresses
//! of other peers (BEP 11).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use sha1::{Digest, Sha1};

use super::Swarm;
use super::io::{Event, Out, Record, Via};
use crate::units::{InfoHash, Link};
use crate::wire::extended::{Extension, METADATA_PIECE_LEN, MetadataMessage, Pex};
use crate::wire::message::WireError;

/// A piece of metadata that is not answered by then is asked of another peer.
const METADATA_ANSWER_US: u64 = 2_000_000;
/// Pieces of metadata that one peer is served.
const METADATA_SERVED_MAX: u32 = 1024;
/// Peers are told of each other this often at most (BEP 11).
const PEX_US: u64 = 60_000_000;
/// The first time soon after the connection opened: a small swarm knits itself together.
const PEX_FIRST_US: u64 = 1_000_000;
/// A peer that tells more often than this is not listened to.
const PEX_IN_US: u64 = 30_000_000;
/// Addresses in one message.
const PEX_ADDED_MAX: usize = 50;

/// The `info` dictionary while it is being fetched.
#[derive(Debug, Default)]
pub(super) struct MetadataFetch {
    size: Option<usize>,
    pieces: BTreeMap<u32, (Bytes, Link)>,
}

impl MetadataFetch {
    fn count(&self) -> u32 {
        self.size.map_or(0, |size| size.div_ceil(METADATA_PIECE_LEN) as u32)
    }

    fn piece_len(&self, piece: u32) -> usize {
        let start = piece as usize * METADATA_PIECE_LEN;
        self.size.map_or(0, |size| size.saturating_sub(start).min(METADATA_PIECE_LEN))
    }

    fn whole(&self) -> Option<Bytes> {
        if self.size.is_none() || self.pieces.len() < self.count() as usize {
            return None;
        }
        let mut out = BytesMut::with_capacity(self.size?);
        for (data, _) in self.pieces.values() {
            out.extend_from_slice(data);
        }
        Some(out.freeze())
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
                    peer.extended.metadata_size = None;
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
        if data.len() != self.metadata.piece_len(piece) {
            return self.fault(link, &format_args!("metadata piece of {} bytes", data.len()));
        }
        self.metadata.pieces.insert(piece, (Bytes::copy_from_slice(data), link));
        let Some(whole) = self.metadata.whole() else { return self.tick_metadata() };
        let senders: Vec<Link> = self.metadata.pieces.values().map(|(_, link)| *link).collect();
        self.metadata = MetadataFetch::default();
        if InfoHash(Sha1::digest(&whole).into()) == self.config.info_hash {
            self.metadata_complete(&whole);
        } else if senders.iter().all(|sender| *sender == link) {
            self.fault(link, &"metadata that does not fit the info-hash");
        } else {
            // Several had a hand in it; each is asked alone from now on.
            for sender in senders {
                self.strike(sender, &"metadata that does not fit the info-hash");
            }
        }
    }

    fn metadata_complete(&mut self, raw: &Bytes) {
        if !self.learn_torrent(raw) {
            self.event(Event::NotLive);
            return;
        }
        self.out.push_back(Out::Persist(Record::Metadata(raw.clone())));
        self.event(Event::MetadataComplete);
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

    /// Asks for missing pieces of metadata, each peer for one at a time, whole from one peer if
    /// it is small.
    pub(super) fn tick_metadata(&mut self) {
        if self.core.is_some() {
            return;
        }
        let now = self.now.mono;
        for peer in self.peers.values_mut() {
            if peer.metadata_asked.is_some_and(|(_, at)| now.since_us(at) > METADATA_ANSWER_US) {
                peer.metadata_asked = None;
                peer.extended.metadata_size = None;
            }
        }
        if self.metadata.size.is_none() {
            // The size is the first one claimed; a wrong one fails the hash and names its sender.
            self.metadata.size = self.peers.values().find_map(|p| p.extended.metadata_size);
        }
        let Some(size) = self.metadata.size else { return };
        let busy: Vec<u32> =
            self.peers.values().filter_map(|p| p.metadata_asked.map(|(n, _)| n)).collect();
        let missing = (0..self.metadata.count())
            .filter(|n| !self.metadata.pieces.contains_key(n) && !busy.contains(n));
        let missing: Vec<u32> = missing.collect();
        let free: Vec<Link> = self
            .peers
            .values()
            .filter(|p| p.extended.metadata_size == Some(size) && p.metadata_asked.is_none())
            .map(|p| p.link)
            .collect();
        if free.is_empty() && busy.is_empty() {
            // Whoever claimed this size is gone.
            self.metadata = MetadataFetch::default();
            return;
        }
        for (link, piece) in free.into_iter().zip(missing) {
            if let Some(peer) = self.peers.get_mut(&link) {
                peer.metadata_asked = Some((piece, now));
            }
            let request = MetadataMessage::Request { piece }.encode();
            self.send_extended(link, Extension::Metadata, request);
        }
    }

    pub(super) fn pex_message(&mut self, link: Link, payload: &Bytes) -> Result<(), WireError> {
        let now = self.now.mono;
        if !self.config.pex || self.is_private() {
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
        self.roster.add(Via::Pex, &added, &mut self.rng);
        Ok(())
    }

    /// Tells peers of peers.
    pub(super) fn tick_exchange(&mut self) {
        let now = self.now.mono;
        if !self.config.pex || self.core.is_none() || self.is_private() {
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
