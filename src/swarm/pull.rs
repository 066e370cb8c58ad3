//! Which missing block is asked of whom: repairs what subscriptions leave open, and fetches what
//! lies behind the live edge for those who join.

use bytes::{Bytes, BytesMut};

use super::Swarm;
use super::io::{Event, Trace};
use super::peer::{Asked, Order, OrderState, Peer};
use super::rate::Bucket;
use crate::live::store::Put;
use crate::units::{BLOCK_LEN, BlockId, BlockNo, Link, PieceIndex, Seq, Time};
use crate::wire::limits::REQUESTS_QUEUED_MAX;
use crate::wire::live::Cover;
use crate::wire::message::{Message, Request};

/// Requests open at one peer.
const DEPTH: usize = 6;
/// Incomplete pieces looked at in one pass, oldest first.
const PIECES_PER_PASS: usize = 48;
/// A request that is not answered by then is asked of somebody else.
const ANSWER_US: u64 = 1_500_000;
/// One to the source is moved sooner, once somebody else has the piece: there it waits behind what
/// only the source can give.
const RELIEF_US: u64 = 200_000;
/// An answer that comes later than this is no answer.
const FORGET_US: u64 = 30_000_000;
/// Age taken for a block whose piece is long complete.
const LATE_AGE_US: u64 = 1_500_000;
/// A peer that rejected a request is not asked again for this long.
const BUSY_US: u64 = 400_000;
/// Pieces of which a peer may send bad blocks without showing the entries it judges them by.
const ACCUSED_MAX: usize = 16;
/// A piece is announced within this time in a quiet swarm, and the time to the next tick.
const HAVE_US: u64 = 400_000;
/// What is missing is looked at again after this long at the latest, and sooner what nobody could
/// be asked for.
const LOOK_AGAIN_US: u64 = 100_000;
const UNMET_US: u64 = 50_000;
/// A swarm is quiet when nobody has asked for anything for so long.
const QUIET_US: u64 = 3_000_000;
/// Room as in offers (`bl_offer` in `specs/wire.md`): of somebody who did not say, of somebody who
/// has none and yet takes requests, and a unit in which waits are reckoned.
const ROOM_UNKNOWN: u64 = 64;
const ROOM_LEAST: u64 = 16;
const ROOM_ONE: u64 = 4096;
/// Each failure counts as twice the wait, up to so many.
const FAILED_MAX: u8 = 6;
/// The grace of a late block is this at least.
const GRACE_US_MIN: u64 = 400_000;

impl Swarm {
    /// A `piece` message came.
    pub(super) fn block_came(
        &mut self,
        link: Link,
        index: PieceIndex,
        begin: u32,
        payload: &Bytes,
    ) {
        let epoch = self.epoch();
        let block = u16::try_from(begin / BLOCK_LEN);
        let aligned = begin.is_multiple_of(BLOCK_LEN);
        let (Ok(block), true) = (block, aligned) else {
            return self.fault(link, &format_args!("a block at offset {begin} of piece {index}"));
        };
        let id = BlockId { piece: index, block };
        let no = self.block_no(id);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.epoch != epoch || self.core.is_none() {
            // Of another epoch than ours: nobody's fault.
            self.totals.dropped += payload.len() as u64;
            return;
        }
        let asked = peer.asked.remove(&id).map(|asked| asked.at);
        peer.note_success();
        let ordered = match no {
            Some(no) => peer.ordered(no),
            None => peer.orders.values().any(|o| o.stripe.is_some()),
        };
        if asked.is_some() && self.in_flight.get(&id) == Some(&link) {
            self.in_flight.remove(&id);
        }
        if asked.is_none() && !ordered {
            return self.strike(link, &format_args!("block {block} of piece {index} unasked"));
        }
        // One who was asked has room for another request.
        self.pull_dirty |= asked.is_some() && !self.wanting.is_empty();
        if no.is_none() {
            return self.hold(link, id, payload);
        }
        self.judge_block(link, id, payload, asked);
    }

    fn block_no(&self, id: BlockId) -> Option<BlockNo> {
        let genuine = self.core.as_ref()?.feed.get(id.piece)?;
        Some(BlockNo(genuine.entry.head.first_block.0 + u64::from(id.block)))
    }

    /// Verifies a block against its entry; passes it on if it is good, convicts its sender if not.
    /// `asked` says when it was requested, if it was not only subscribed to.
    pub(super) fn judge_block(
        &mut self,
        link: Link,
        id: BlockId,
        payload: &Bytes,
        asked: Option<Time>,
    ) {
        let now = self.now.mono;
        let Some(no) = self.block_no(id) else { return };
        let Some(core) = &mut self.core else { return };
        let seq = Seq { epoch: core.feed.epoch(), index: id.piece };
        let published = core.feed.get(id.piece).map(|g| g.entry.head.published());
        let put = core.store.put(seq, id.block, payload);
        match put {
            Put::Verified | Put::Completed => {}
            Put::Duplicate => {
                self.totals.duplicate += payload.len() as u64;
                self.late_duplicate(link, id, no);
                return;
            }
            Put::NoEntry => {
                self.totals.dropped += payload.len() as u64;
                return;
            }
            Put::Bad => return self.bad_block(link, id),
        }
        let age = self.entry_at.get(&id.piece).map_or(0, |at| now.since_us(*at));
        if let Some(asked) = asked.filter(|_| age >= self.grace_us()) {
            self.note_missed(no, asked);
        }
        let mut came = false;
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.down.add(now, payload.len() as u64);
            let order = peer.orders.values_mut().find(|o| o.stripe.is_some() && o.cover.covers(no));
            if let Some(order) = order.filter(|_| asked.is_none()) {
                order.came(age);
                self.credits.add(order.credit, payload.len() as u64);
                came = true;
            }
            if peer.hops == 0 {
                self.totals.from_source += payload.len() as u64;
            } else {
                self.totals.from_peers += payload.len() as u64;
            }
        }
        if let Some(published) = published {
            let offset = self.clock_offset_us();
            self.lags.block(self.now, offset, published);
            if came {
                self.note_path(link, no, published);
            }
        }
        self.take_back(link, id);
        self.block_verified(Some(link), seq, id.block, no, put == Put::Completed);
    }

    /// A block that had to be asked for counts against those who were to bring it by then.
    fn note_missed(&mut self, no: BlockNo, asked: Time) {
        for link in &self.near.ordered {
            let orders = self.peers.get_mut(link).into_iter().flat_map(|p| p.orders.values_mut());
            for order in orders.filter(|o| o.is_due(no, asked)) {
                order.missed += 1;
            }
        }
    }

    /// A block under a subscription that was fetched elsewhere meanwhile: its upstream is slow, not
    /// silent.
    fn late_duplicate(&mut self, link: Link, id: BlockId, no: BlockNo) {
        let now = self.now.mono;
        let entry_at = self.entry_at.get(&id.piece).copied();
        let age = entry_at.map_or(LATE_AGE_US, |at| now.since_us(at));
        let orders = self.peers.get_mut(&link).map(|p| p.orders.values_mut());
        let order =
            orders.and_then(|mut all| all.find(|o| o.stripe.is_some() && o.cover.covers(no)));
        if let Some(order) = order {
            order.came(age);
        }
    }

    /// The same block may have been asked of somebody else: taken back there.
    fn take_back(&mut self, from: Link, id: BlockId) {
        let Some(other) = self.in_flight.remove(&id) else { return };
        if other == from {
            return;
        }
        if let Some(asked) = self.peers.get_mut(&other).and_then(|p| p.asked.get_mut(&id)) {
            asked.stale = true;
            self.cancel(other, id);
        }
    }

    fn cancel(&mut self, link: Link, id: BlockId) {
        let len = self.block_len(id).unwrap_or(BLOCK_LEN);
        let begin = u32::from(id.block) * BLOCK_LEN;
        self.send(link, &Message::Cancel(Request { index: id.piece, begin, len }));
    }

    /// What follows from a new verified block, from a peer or our own.
    pub(super) fn block_verified(
        &mut self,
        from: Option<Link>,
        seq: Seq,
        block: u16,
        no: BlockNo,
        completed: bool,
    ) {
        if let Some(trace) = &mut self.trace {
            trace.push_back(Trace::Verified { at: seq, block });
        }
        self.push_block(from, seq, block, no);
        if completed {
            self.piece_completed(from, seq);
        }
    }

    fn piece_completed(&mut self, from: Option<Link>, seq: Seq) {
        self.incomplete.remove(&seq.index);
        self.entry_at.remove(&seq.index);
        self.totals.pieces_verified += 1;
        self.play_dirty = true;
        if from.is_some() {
            let known = self.core.as_ref().and_then(|c| c.feed.get(seq.index));
            let head = known.map(|g| g.entry.head);
            let offset = self.clock_offset_us();
            if let Some(head) = head {
                self.lags.piece(self.now, offset, head.published());
                self.note_arrival(&head);
            }
        } else {
            self.event(Event::Published { index: seq.index });
        }
        let now = self.now.mono;
        let at = if self.is_quiet() {
            // With those that wait already: one write is cheaper than several.
            let waiting = self.untold.first().map(|(at, _)| *at);
            waiting.unwrap_or_else(|| now.after_us(self.rng.below(HAVE_US)))
        } else {
            now
        };
        self.untold.push((at, seq));
    }

    /// Whether everything comes by itself: for a while nobody here asked for a block, nobody asked
    /// us, and nobody joined. Who holds what is then of little interest.
    fn is_quiet(&self) -> bool {
        self.now.mono.since_us(self.requested_at) > QUIET_US
    }

    /// Announces what was completed: in a quiet swarm some time later, at random, so that of two
    /// neighbours who have it at the same time usually one is spared, and several pieces cost one
    /// write.
    pub(super) fn tell_haves(&mut self) {
        let (now, epoch) = (self.now.mono, self.epoch());
        if self.untold.is_empty() {
            return;
        }
        let (due, later) = std::mem::take(&mut self.untold).into_iter().partition(|u| u.0 <= now);
        self.untold = later;
        let due: Vec<(Time, Seq)> = due;
        let due: Vec<Seq> =
            due.into_iter().map(|(_, seq)| seq).filter(|seq| seq.epoch == epoch).collect();
        if due.is_empty() {
            return;
        }
        let mut all = BytesMut::with_capacity(9 * due.len());
        due.iter().for_each(|seq| Message::Have(seq.index).put_head(&mut all));
        let all = all.freeze();
        let telling = |p: &&Peer| p.is_live() && p.window_seen;
        let links: Vec<Link> = self.peers.values().filter(telling).map(|p| p.link).collect();
        for link in links {
            let Some(peer) = self.peers.get(&link) else { continue };
            let told = |seq: &&Seq| !self.may_leave_out(peer, **seq);
            if !self.small.contains_key(&link) && due.iter().all(|seq| told(&seq)) {
                // Most are told the same, and nothing else: one buffer serves all of them.
                self.write_alone(link, all.clone());
                continue;
            }
            let told: Vec<Seq> = due.iter().filter(told).copied().collect();
            for seq in told {
                self.send(link, &Message::Have(seq.index));
            }
        }
    }

    /// A `have` may be left out only towards one who announced the piece itself and is neither the
    /// source nor an upstream of ours (`specs/wire.md`, section Haves).
    fn may_leave_out(&self, peer: &Peer, seq: Seq) -> bool {
        peer.holds(seq) && peer.hops != 0 && !peer.orders.values().any(|o| o.stripe.is_some())
    }

    fn bad_block(&mut self, link: Link, id: BlockId) {
        self.totals.pieces_bad += 1;
        let Some(peer) = self.peers.get(&link) else { return };
        // The sender is convicted only if it showed us the entry by which we judge; otherwise the
        // broadcaster may have signed two, and its entry is looked at first.
        let BlockId { piece, block } = id;
        if peer.showed(piece) {
            self.fault(link, &format_args!("block {block} of piece {piece} fails its hash"));
            return;
        }
        let epoch = self.epoch();
        let proven = self.core.as_ref().and_then(|c| c.feed.proof()).is_some_and(|p| p.0 == epoch);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.accused.insert(piece);
        // Not asked of it again, whoever is to blame.
        peer.haves.remove(piece);
        let accused = peer.accused.len();
        if accused > ACCUSED_MAX && !proven {
            self.fault(link, &format_args!("blocks of {accused} pieces fail their hashes"));
            return;
        }
        self.ask_run(link, epoch, piece, 1);
    }

    pub(super) fn rejected(&mut self, link: Link, request: Request) {
        let Ok(block) = u16::try_from(request.begin / BLOCK_LEN) else { return };
        let id = BlockId { piece: request.index, block };
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let known = peer.asked.remove(&id);
        if self.in_flight.get(&id) == Some(&link) {
            self.in_flight.remove(&id);
        }
        match known {
            Some(asked) if !asked.stale && !peer.chokes_us => {
                peer.busy_until = now.after_us(BUSY_US);
                self.pull_dirty = true;
            }
            Some(_) => self.pull_dirty = true,
            None => self.strike(link, &"a reject for no request"),
        }
    }

    /// Subscribed blocks that will not come: due at once.
    pub(super) fn missed_blocks(&mut self, blocks: &[BlockNo]) {
        let now = self.now.mono;
        for no in blocks {
            let piece =
                self.core.as_ref().and_then(|c| c.feed.piece_of(*no)).map(|g| g.entry.head.index);
            if let Some(at) = piece.and_then(|index| self.entry_at.get_mut(&index)) {
                // As old as the grace: the next pass asks for it.
                at.0 = at.0.min(now.0.saturating_sub(10 * GRACE_US_MIN));
            }
        }
        self.pull_dirty = true;
    }

    /// Gives up requests that nobody answers, and those at the source that somebody else can answer
    /// by now.
    pub(super) fn expire_requests(&mut self) {
        let now = self.now.mono;
        let mut given_up = Vec::new();
        let of_us = self.near.asked.iter().filter_map(|link| self.peers.get(link));
        for peer in of_us {
            for (id, asked) in peer.asked.iter().filter(|(_, asked)| !asked.stale) {
                let waited = now.since_us(asked.at);
                let relieved = peer.hops == 0 && waited > RELIEF_US && self.is_relieved(*id);
                if waited > ANSWER_US || relieved {
                    given_up.push((peer.link, *id, !relieved));
                }
            }
        }
        self.pull_dirty |= !given_up.is_empty();
        for (link, id, failed) in given_up {
            if let Some(peer) = self.peers.get_mut(&link) {
                if failed {
                    peer.note_failure(now);
                }
                if let Some(asked) = peer.asked.get_mut(&id) {
                    asked.stale = true;
                }
            }
            if self.in_flight.get(&id) == Some(&link) {
                self.in_flight.remove(&id);
            }
            self.cancel(link, id);
        }
        for link in &self.near.asked {
            if let Some(peer) = self.peers.get_mut(link) {
                peer.asked.retain(|_, asked| now.since_us(asked.at) < FORGET_US);
            }
        }
    }

    /// Whether somebody who is not the source could be asked for a block.
    fn is_relieved(&self, id: BlockId) -> bool {
        let seq = Seq { epoch: self.epoch(), index: id.piece };
        self.peers.values().any(|p| p.hops != 0 && self.may_ask(p, seq, id))
    }

    /// A subscribed block may be late by this much at least before it is asked for.
    pub(super) fn grace_us(&self) -> u64 {
        GRACE_US_MIN.max(2 * self.piece_us())
    }

    /// Asks for what is missing and not on its way.
    pub(super) fn pull(&mut self) {
        if !std::mem::take(&mut self.pull_dirty) || self.is_publishing() || self.stopping {
            return;
        }
        let now = self.now.mono;
        let Some(floor) = self.floor else { return };
        let Some(core) = &self.core else { return };
        let epoch = core.feed.epoch();
        if let Some(bucket) = &mut self.download {
            bucket.refill(now);
        }
        let grace = self.grace_us();
        // What is not here when half its delay is over is fetched whatever was promised.
        let patience = grace.max(self.delay_us() / 2);
        let orders = self.suppliers().flat_map(|p| p.orders.values());
        let brought: Vec<Order> = orders.filter(|o| o.is_bringing(epoch)).cloned().collect();
        // Where all stripes are granted, nothing of a young piece is due: no need to look at it.
        let k = self.upstream.k().clamp(1, 32);
        let firsts = (0..k).map(|stripe| {
            let cover = Cover { k, stripes: 1 << stripe, part: 0xff };
            let same = brought.iter().filter(|o| o.cover == cover);
            same.clone().find(|o| o.state == OrderState::Active)?;
            same.map(|o| o.first).min()
        });
        let firsts: Option<Vec<BlockNo>> = firsts.collect();
        let all_from = firsts.and_then(|firsts| firsts.into_iter().max());
        let least_lag = brought.iter().map(|o| o.lag_us.unwrap_or(0)).min().unwrap_or(0);
        let young = grace.max(2 * least_lag).min(patience);
        let mut wanted = Vec::new();
        self.pull_at = now.after_us(LOOK_AGAIN_US);
        for index in self.incomplete.range(floor..).take(PIECES_PER_PASS) {
            let Some(core) = &self.core else { return };
            let seq = Seq { epoch, index: *index };
            let Some(piece) = core.store.piece(seq) else { continue };
            let age = self.entry_at.get(index).map_or(u64::MAX, |at| now.since_us(*at));
            let head = &piece.genuine.entry.head;
            if age < young && all_from.is_some_and(|first| first <= head.first_block) {
                self.pull_at = self.pull_at.min(now.after_us(young - age));
                continue;
            }
            for block in 0..head.blocks() {
                let id = BlockId { piece: *index, block };
                if !piece.lacks(block) || self.in_flight.contains_key(&id) {
                    continue;
                }
                let no = BlockNo(head.first_block.0 + u64::from(block));
                // How late the granted subscription that brings this block usually is.
                let lag =
                    brought.iter().filter(|o| o.brings(no)).map(|o| o.lag_us.unwrap_or(0)).min();
                let due_at_age = lag.map_or(0, |lag| grace.max(2 * lag).min(patience));
                if age < due_at_age {
                    self.pull_at = self.pull_at.min(now.after_us(due_at_age - age));
                    continue;
                }
                wanted.push(id);
            }
        }
        self.wanting.clear();
        for id in wanted {
            let open = self.download.as_ref().is_none_or(Bucket::is_open);
            let holder = if open { self.holder(Seq { epoch, index: id.piece }, id) } else { None };
            match holder {
                Some(link) => self.request(link, id),
                None => {
                    self.wanting.insert(id.piece);
                    self.pull_at = self.pull_at.min(now.after_us(UNMET_US));
                }
            }
        }
    }

    /// The peer to ask for a block: of those that hold its piece and serve us, the one with the
    /// fewest open requests; the source only if nobody else has it.
    fn holder(&mut self, seq: Seq, id: BlockId) -> Option<Link> {
        let mut best: Option<((bool, u64, u64), Link)> = None;
        for peer in self.peers.values() {
            if !self.may_ask(peer, seq, id) {
                continue;
            }
            // Who has room for subscriptions has time for requests.
            let room = self.room(peer).map_or(ROOM_UNKNOWN, u64::from);
            let wait = (peer.requests_open() as u64 + 1) * ROOM_ONE / (room + ROOM_LEAST);
            let wait = wait << peer.failures(self.now.mono).min(FAILED_MAX);
            let key = (peer.hops == 0, wait, self.rng.next_u64());
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, peer.link));
            }
        }
        best.map(|(_, link)| link)
    }

    /// Whether a peer holds a piece, serves us and has room for a request.
    fn may_ask(&self, peer: &Peer, seq: Seq, id: BlockId) -> bool {
        let now = self.now.mono;
        peer.is_live()
            && !peer.chokes_us
            && peer.busy_until <= now
            && peer.is_alert(now)
            && peer.holds(seq)
            && peer.requests_open() < DEPTH
            && peer.asked.len() < REQUESTS_QUEUED_MAX
            && !peer.asked.contains_key(&id)
    }

    fn request(&mut self, link: Link, id: BlockId) {
        let now = self.now.mono;
        let Some(len) = self.block_len(id) else { return };
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.asked.insert(id, Asked { at: now, stale: false });
        self.near.asked.insert(link);
        self.requested_at = now;
        self.in_flight.insert(id, link);
        if let Some(bucket) = &mut self.download {
            bucket.spend(len as usize);
        }
        let begin = u32::from(id.block) * BLOCK_LEN;
        self.send(link, &Message::Request(Request { index: id.piece, begin, len }));
    }
}
