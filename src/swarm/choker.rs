//! Whose requests are served: those who bring most, those who are new, and one by chance.
//!
//! Subscriptions are limited by the uplink itself; this is about requests.

use super::Swarm;
use super::peer::Stage;
use crate::units::{BLOCK_LEN, Link};
use crate::wire::message::{Message, Request};

/// Slots are given anew this often (BEP 3).
const ROUND_US: u64 = 10_000_000;
/// Slots without an upload limit.
const SLOTS: usize = 16;
/// Slots for each copy of the stream that the uplink carries: repairs are small, and whoever has
/// just come finds somebody to ask.
const SLOTS_A_COPY: u64 = 12;
/// Fewest and most slots.
const SLOTS_MIN: u64 = 16;
const SLOTS_MAX: u64 = 32;

impl Swarm {
    fn slots(&self) -> usize {
        match self.upload_limit() {
            // A block would block the line for as long as a stripe needs for several.
            Some(_) if self.is_idle() => 0,
            Some(limit) => {
                let slots = limit * SLOTS_A_COPY / self.stream_rate().max(1);
                slots.clamp(SLOTS_MIN, SLOTS_MAX) as usize
            }
            None => SLOTS,
        }
    }

    /// Tells a peer whether we want something of it.
    pub(super) fn show_interest(&mut self, link: Link) {
        let want = !self.is_publishing();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.is_live() && peer.we_want != want {
            peer.we_want = want;
            let message = if want { Message::Interested } else { Message::NotInterested };
            self.send(link, &message);
        }
    }

    pub(super) fn tick_choker(&mut self) {
        let now = self.now.mono;
        if now >= self.choke_at {
            self.choke_at = now.after_us(ROUND_US);
            self.choke_round();
        }
        // Whoever is new is served at once while there is room.
        let served = self.peers.values().filter(|p| p.is_live() && !p.choked).count();
        let room = self.slots().saturating_sub(served);
        let waiting: Vec<Link> = self
            .peers
            .values()
            .filter(|p| p.stage == Stage::Live && p.choked && p.wants)
            .map(|p| p.link)
            .take(room)
            .collect();
        for link in waiting {
            self.unchoke(link);
        }
    }

    fn choke_round(&mut self) {
        let now = self.now.mono;
        let mut ranked: Vec<(bool, u64, Link)> = self
            .peers
            .values_mut()
            .filter(|p| p.is_live() && p.wants)
            .map(|p| {
                let fed = !p.flows.is_empty();
                (fed, p.down.per_s(now), p.link)
            })
            .collect();
        // Who is fed by subscription keeps its slot: choking would end what works.
        ranked.sort_unstable_by_key(|(fed, rate, link)| (std::cmp::Reverse((*fed, *rate)), *link));
        let slots = self.slots();
        if ranked.len() <= slots {
            return;
        }
        if slots == 0 {
            return ranked.iter().for_each(|(.., link)| self.choke(*link));
        }
        let (kept, rest) = ranked.split_at(slots.saturating_sub(1).max(1));
        let kept: Vec<Link> = kept.iter().map(|(.., link)| *link).collect();
        let rest: Vec<(bool, Link)> = rest.iter().map(|(fed, _, link)| (*fed, *link)).collect();
        let optimistic = rest.get(self.rng.index(rest.len())).map(|(_, link)| *link);
        for link in kept.into_iter().chain(optimistic) {
            self.unchoke(link);
        }
        for (fed, link) in rest {
            if !fed && Some(link) != optimistic {
                self.choke(link);
            }
        }
    }

    fn unchoke(&mut self, link: Link) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if std::mem::replace(&mut peer.choked, false) {
            self.send(link, &Message::Unchoke);
        }
    }

    /// Chokes a peer: what it asked for is rejected one by one (BEP 6).
    fn choke(&mut self, link: Link) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if std::mem::replace(&mut peer.choked, true) {
            return;
        }
        let dropped: Vec<_> =
            peer.jobs.values().filter(|job| job.flow.is_none()).map(|job| job.block).collect();
        peer.jobs.clear();
        // A choke ends subscriptions to blocks without a further word; entries go on.
        peer.flows.retain(|_, flow| flow.cover.is_none());
        self.send(link, &Message::Choke);
        for block in dropped {
            let len = self.block_len(block).unwrap_or(BLOCK_LEN);
            let begin = u32::from(block.block) * BLOCK_LEN;
            self.send(link, &Message::Reject(Request { index: block.piece, begin, len }));
        }
    }
}
