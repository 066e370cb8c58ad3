//! What happens when a source begins anew: everybody follows the highest epoch, and nothing of one
//! epoch is taken for something of another.

use bytes::Bytes;

use super::Swarm;
use super::entries::CLAIM_US;
use super::io::Event;
use super::peer::OrderState;
use crate::units::{BLOCK_LEN, BlockId, Epoch, Link, PieceIndex, Seq, Time};
use crate::wire::limits::WINDOW_PIECES_MAX;
use crate::wire::live::{End, HOPS_UNKNOWN, Live, NEWEST, Reason, Window};
use crate::wire::message::{Message, Request};
use crate::wire::tlv::Tlvs;

/// A change of our own is told this often at most.
pub(super) const WINDOW_US: u64 = 1_000_000;

impl Swarm {
    /// Enters `epoch` if it is above the one we were in. The feed has taken an entry of it.
    pub(super) fn follow_epoch(&mut self, epoch: Epoch) {
        if epoch <= self.upstream.epoch() {
            return;
        }
        let first = self.upstream.epoch() == Epoch(0);
        // What was under way belonged to the old epoch: peers are told, then hear of the new one.
        let links: Vec<Link> =
            self.peers.values().filter(|p| p.is_live()).map(|p| p.link).collect();
        for link in &links {
            self.void(*link);
        }
        self.upstream.enter(epoch);
        self.offers.enter();
        self.in_flight.clear();
        self.incomplete.clear();
        self.entry_at.clear();
        if let Some(core) = &mut self.core {
            core.clock.reset();
        }
        if first {
            self.can_start = false;
            self.floor = None;
        } else {
            // Readers are under way: the new epoch is fetched from its first entry on.
            self.floor = Some(PieceIndex(0));
        }
        for link in links {
            self.send_window(link);
        }
        self.event(Event::EpochChanged { epoch });
        self.source_sees_epoch(epoch);
    }

    /// Rejects a peer's open requests and ends its block subscriptions, since they are of an epoch
    /// that is over.
    fn void(&mut self, link: Link) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let (old, store) = (self.upstream.epoch(), self.core.as_ref().map(|core| &core.store));
        let request = |BlockId { piece, block }| {
            let seq = Seq { epoch: old, index: piece };
            let held = store.and_then(|store| store.piece(seq));
            let len = held.map_or(0, |piece| piece.genuine.entry.head.block_len(block));
            let len = if len > 0 { len } else { BLOCK_LEN };
            Request { index: piece, begin: u32::from(block) * BLOCK_LEN, len }
        };
        let pulls = peer.jobs.values().filter(|job| job.flow.is_none());
        let requested: Vec<Request> = pulls.map(|job| request(job.block)).collect();
        let flows: Vec<u8> =
            peer.flows.iter().filter(|(_, f)| f.cover.is_some()).map(|(id, _)| *id).collect();
        peer.forget_epoch();
        peer.forget_shown();
        for order in peer.orders.values_mut().filter(|o| o.stripe.is_some()) {
            order.state = OrderState::Ending;
        }
        for request in requested {
            self.send(link, &Message::Reject(request));
        }
        for id in flows {
            self.send_live(link, &Live::End(End { id, reason: Reason::EPOCH }));
        }
    }

    /// Tells a peer which epoch we are in and what we hold of it.
    pub(super) fn send_window(&mut self, link: Link) {
        let window = self.window();
        self.send_live(link, &Live::Window(window));
    }

    /// Tells everybody when our distance, the reason of our stalling or what we keep has changed.
    pub(super) fn tell_changes(&mut self) {
        if self.core.is_none() || self.now.mono.since_us(self.said_at) < WINDOW_US {
            return;
        }
        let says = (self.hops(), self.stall_reason());
        if says != self.said || self.may_keep_us() != self.kept_us {
            self.tell_window();
        }
    }

    /// Sends everybody our window as it is now.
    pub(super) fn tell_window(&mut self) {
        self.said = (self.hops(), self.stall_reason());
        self.said_at = self.now.mono;
        self.kept_us = self.may_keep_us();
        let links: Vec<Link> =
            self.peers.values().filter(|p| p.is_live()).map(|p| p.link).collect();
        for link in links {
            self.send_window(link);
        }
    }

    fn window(&self) -> Window {
        let kept_ms = u32::try_from(self.kept_us / 1000).unwrap_or(u32::MAX);
        let empty = |epoch, hops| Window {
            epoch,
            base: PieceIndex(0),
            kept_ms,
            hops,
            reason: Reason::NONE,
            bitmap: Bytes::new(),
            ext: Tlvs::default(),
        };
        let Some(core) = &self.core else { return empty(Epoch(0), HOPS_UNKNOWN) };
        let epoch = core.feed.epoch();
        let whole = || {
            core.store
                .range(Seq { epoch, index: PieceIndex(0) })
                .filter(|(seq, piece)| seq.epoch == epoch && piece.is_whole())
                .map(|(seq, _)| seq.index)
        };
        let (Some(low), Some(high)) = (whole().next(), whole().next_back()) else {
            return empty(epoch, self.hops());
        };
        let base = low.max(high.minus(WINDOW_PIECES_MAX as u32 - 1));
        let mut bitmap = vec![0u8; ((high.0 - base.0) / 8 + 1) as usize];
        for index in whole().filter(|i| *i >= base) {
            let bit = index.0 - base.0;
            if let Some(byte) = bitmap.get_mut((bit / 8) as usize) {
                *byte |= 0x80 >> (bit % 8);
            }
        }
        let (hops, reason) = (self.hops(), self.stall_reason());
        Window { epoch, base, kept_ms, hops, reason, bitmap: bitmap.into(), ext: Tlvs::default() }
    }

    /// Our distance from the source: one more than the nearest peer that sends to us.
    pub(super) fn hops(&self) -> u8 {
        if self.is_publishing() {
            return u8::from(self.source.as_ref().is_some_and(super::source::Source::hides));
        }
        let upstream = |p: &&super::peer::Peer| {
            p.orders.values().any(|o| o.stripe.is_some() && o.state == OrderState::Active)
        };
        let nearest = self.suppliers().filter(upstream).map(|p| p.hops).min();
        nearest.map_or(HOPS_UNKNOWN, |hops| hops.saturating_add(1))
    }

    pub(super) fn window_came(&mut self, link: Link, window: &Window) {
        let now = self.now.mono;
        let ours = self.epoch();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.windows.refill(now);
        peer.windows.spend(1);
        if !peer.windows.is_open() {
            // Each costs more than most messages: one a second is what a peer may need.
            return self.strike(link, &"window messages far more often than once a second");
        }
        if window.epoch < peer.epoch {
            return self.fault(link, &"declared an epoch below its own");
        }
        let changed = window.epoch != peer.epoch;
        peer.window_seen = true;
        peer.epoch = window.epoch;
        peer.hops = window.hops;
        peer.reason = window.reason;
        peer.haves.clear();
        for index in window.held() {
            peer.haves.insert(index);
        }
        peer.kept_us = u64::from(window.kept_ms) * 1000;
        let window_us = self.core.as_ref().map_or(u64::MAX, |core| core.torrent.stream.window_us);
        self.any_less |= (1..window_us).contains(&peer.kept_us);
        peer.gone_below = PieceIndex(0);
        if changed {
            // Its requests and subscriptions of the old epoch are void, and so are ours at it. It
            // is told which ids are free again.
            let flows: Vec<u8> =
                peer.flows.iter().filter(|(_, f)| f.cover.is_some()).map(|(id, _)| *id).collect();
            peer.forget_epoch();
            self.in_flight.retain(|_, asked| *asked != link);
            self.upstream.forget_refusals(link);
            for id in flows {
                self.send_live(link, &Live::End(End { id, reason: Reason::EPOCH }));
            }
        }
        if window.epoch > ours && self.core.is_some() {
            let shown = self.peers.get(&link).and_then(|p| p.shown);
            if shown.is_none_or(|s| s.epoch < window.epoch) {
                if let Some(peer) = self.peers.get_mut(&link) {
                    // The first claim sets the time: repeating it gains none.
                    peer.claim_until = peer.claim_until.min(now.after_us(CLAIM_US));
                }
                self.ask_run(link, window.epoch, NEWEST, 1);
            }
        } else if let Some(peer) = self.peers.get_mut(&link) {
            peer.claim_until = Time::NEVER;
        }
        if changed && window.epoch < ours {
            self.show_head(link);
        }
        self.slide_haves();
        self.show_interest(link);
        self.pull_dirty = true;
    }
}
