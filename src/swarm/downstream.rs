//! What is sent, in which order, how fast: the sending side of subscriptions and requests.
//!
//! What is to be sent waits here as block numbers, not as bytes, so that the order can still
//! change. The uplink takes one block at a time, the oldest subscribed block first and requested
//! ones behind; within a block the children take turns.

use std::collections::BTreeMap;

use super::Swarm;
use super::peer::{Flow, Job, Peer};
use crate::units::{BLOCK_LEN, BlockId, BlockNo, Epoch, Link, Seq, Time};
use crate::wire::limits::REQUESTS_QUEUED_MAX;
use crate::wire::live::{Live, Reason, Skip};
use crate::wire::message::{Message, Request};

/// Jobs that wait for one peer.
pub(super) const JOBS_MAX: usize = 1024;
/// Bytes under way to one peer: two blocks, so that the next one is ready when one leaves.
pub(super) const LINK_AHEAD: usize = 2 * 16_400;
/// Bytes that may still be under way on a limited uplink when the next block is handed over: one
/// block at a time.
const UPLINK_AHEAD: usize = 8 << 10;
/// A subscribed block that waited this long is of no use any more.
const LATE_US: u64 = 600_000;
/// Requested blocks wait for a limited uplink, over all peers, as many as what subscriptions leave
/// free of it carries in this time: more would be late, and who is told so at once can ask somebody
/// else.
const PULLS_US: u64 = 300_000;
const PULLS_WAITING_MIN: u64 = 2;
const PULLS_WAITING_MAX: u64 = 24;
/// Who passes a block on to nobody waits so much longer for it than who passes it on to many.
const LEAF_US: u64 = 30_000;
/// Priority of requested blocks that no neighbour has, of subscribed and of other requested ones.
const RESCUE: u8 = 0;
pub(super) const PUSH: u8 = 1;
const PULL: u8 = 2;
/// Older than this a block that no neighbour has was lost on its way, not just late.
const RESCUE_AGE_US: u64 = 1_200_000;
/// Every so many blocks of the stream one may be rescued: when all join at once, nobody has what
/// is behind them, and what is ahead must not wait for it.
const RESCUE_BLOCKS: u64 = 8;
/// A block that no neighbour has goes out once in this time: whoever gets it passes it on.
const RESCUE_US: u64 = 500_000;

impl Swarm {
    /// A block verified, or was published: whoever subscribed to it gets it now, before its piece
    /// is whole.
    pub(super) fn push_block(&mut self, from: Option<Link>, seq: Seq, block: u16, no: BlockNo) {
        let now = self.now.mono;
        let id = BlockId { piece: seq.index, block };
        let mut overdue = Vec::new();
        for link in &self.near.fed {
            let Some(peer) = self.peers.get_mut(link) else { continue };
            if Some(peer.link) == from || peer.flows.is_empty() || peer.holds(seq) {
                continue;
            }
            let flow = peer.flows.iter().find(|(_, f)| covers(f, seq.epoch, no)).map(|(i, _)| *i);
            let Some(flow) = flow else { continue };
            if peer.jobs.len() >= JOBS_MAX {
                overdue.push((peer.link, flow, no));
                continue;
            }
            peer.jobs.insert((PUSH, no.0), Job { block: id, flow: Some(flow), queued: now });
            self.near.loaded.insert(peer.link);
        }
        for (link, flow, no) in overdue {
            self.skip(link, flow, seq.epoch, vec![no]);
        }
    }

    fn skip(&mut self, link: Link, id: u8, epoch: Epoch, blocks: Vec<BlockNo>) {
        let reason = Reason::LATE;
        self.send_live(link, &Live::Skip(Skip { id, reason, epoch, blocks }));
    }

    /// Gives up what waited too long, and says so.
    pub(super) fn expire_jobs(&mut self) {
        let now = self.now.mono;
        let epoch = self.epoch();
        let mut late: BTreeMap<(Link, u8), Vec<BlockNo>> = BTreeMap::new();
        let mut rejected = Vec::new();
        for link in &self.near.loaded {
            let Some(peer) = self.peers.get_mut(link) else { continue };
            peer.jobs.retain(|(_, order), job| {
                let keep = now.since_us(job.queued) < LATE_US;
                match job.flow {
                    Some(flow) if !keep => {
                        late.entry((peer.link, flow)).or_default().push(BlockNo(*order));
                    }
                    None if !keep => rejected.push((peer.link, job.block)),
                    _ => {}
                }
                keep
            });
        }
        for ((link, flow), blocks) in late {
            for some in blocks.chunks(crate::wire::live::SKIP_BLOCKS_MAX) {
                self.skip(link, flow, epoch, some.to_vec());
            }
        }
        for (link, block) in rejected {
            self.reject(link, block);
        }
        self.shed();
        self.end_finished_flows();
    }

    fn reject(&mut self, link: Link, block: BlockId) {
        let len = self.block_len(block).unwrap_or(BLOCK_LEN);
        let begin = u32::from(block.block) * BLOCK_LEN;
        self.send(link, &Message::Reject(Request { index: block.piece, begin, len }));
    }

    /// Length of a block of the present epoch, if its entry is here.
    pub(super) fn block_len(&self, block: BlockId) -> Option<u32> {
        let genuine = self.core.as_ref()?.feed.get(block.piece)?;
        let len = genuine.entry.head.block_len(block.block);
        (len > 0).then_some(len)
    }

    /// The block that a range names, if it is one of ours and held.
    fn held_block(&self, request: Request) -> Option<BlockId> {
        let core = self.core.as_ref()?;
        let block = u16::try_from(request.begin / BLOCK_LEN).ok()?;
        let id = BlockId { piece: request.index, block };
        let seq = Seq { epoch: core.feed.epoch(), index: request.index };
        let piece = core.store.piece(seq)?;
        let fits = request.begin.is_multiple_of(BLOCK_LEN)
            && piece.genuine.entry.head.block_len(block) == request.len;
        (fits && piece.block(block).is_some()).then_some(id)
    }

    pub(super) fn requested(&mut self, link: Link, request: Request) {
        let now = self.now.mono;
        let epoch = self.epoch();
        self.requested_at = now;
        let id = self.held_block(request);
        let rescue = id.is_some_and(|id| self.is_rescue(id));
        let limited = self.bucket.is_some();
        let pulls = |p: &Peer| p.jobs.values().filter(|j| j.flow.is_none()).count();
        // What waits for a peer that takes nothing does not wait for our uplink.
        let takes = |p: &&Peer| p.queued < LINK_AHEAD && !p.is_slow;
        let all_waiting: usize = self.loaded().filter(takes).map(pulls).sum();
        let pulls_max = self.pulls_waiting_max();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let waiting = peer.jobs.values().filter(|job| job.flow.is_none()).count();
        if waiting >= 2 * REQUESTS_QUEUED_MAX {
            return self.fault(link, &format_args!("{waiting} requests at once"));
        }
        let full = waiting >= REQUESTS_QUEUED_MAX
            || peer.jobs.len() >= JOBS_MAX
            || (limited && !rescue && all_waiting >= pulls_max);
        let refused = peer.choked || peer.epoch != epoch || full;
        let Some(id) = id.filter(|_| !refused) else {
            self.send(link, &Message::Reject(request));
            return;
        };
        // Sent or about to be sent under a subscription: once is enough.
        if peer.jobs.values().any(|job| job.block == id) || peer.was_sent(id) {
            return;
        }
        peer.job_seq += 1;
        let class = if rescue { RESCUE } else { PULL };
        peer.jobs.insert((class, peer.job_seq), Job { block: id, flow: None, queued: now });
        self.near.loaded.insert(link);
        if rescue {
            self.rescued.insert(id, now);
        }
    }

    /// Requested blocks that may wait for the uplink.
    fn pulls_waiting_max(&self) -> usize {
        let Some(limit) = self.upload_limit() else { return PULLS_WAITING_MAX as usize };
        let used = (self.granted_share() * self.stream_rate() as f64) as u64;
        let carried = limit.saturating_sub(used) * PULLS_US / 1_000_000 / u64::from(BLOCK_LEN);
        carried.clamp(PULLS_WAITING_MIN, PULLS_WAITING_MAX) as usize
    }

    /// Whether a block is asked for that no neighbour has and that nobody was given lately: what
    /// came to nothing on its way has to go out once more, before anything else.
    fn is_rescue(&mut self, block: BlockId) -> bool {
        let now = self.now.mono;
        self.rescued.retain(|_, at| now.since_us(*at) < RESCUE_US);
        let Some(core) = &self.core else { return false };
        let published = core.feed.get(block.piece).map(|g| g.entry.head.published());
        let age = published.zip(core.clock.source(now)).map_or(0, |(p, s)| s.0.saturating_sub(p.0));
        let seq = Seq { epoch: core.feed.epoch(), index: block.piece };
        let pace_us = RESCUE_BLOCKS * u64::from(BLOCK_LEN) * 1_000_000 / self.stream_rate();
        age > RESCUE_AGE_US.max(4 * self.piece_us())
            && self.rescued.values().all(|at| now.since_us(*at) > pace_us)
            && !self.rescued.contains_key(&block)
            && !self.peers.values().any(|p| p.holds(seq))
    }

    pub(super) fn cancelled(&mut self, link: Link, request: Request) {
        let Ok(block) = u16::try_from(request.begin / BLOCK_LEN) else { return };
        let id = BlockId { piece: request.index, block };
        let epoch = self.epoch();
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let found = peer.jobs.iter().find(|(_, job)| job.block == id).map(|(k, j)| (*k, *j));
        let Some((key, job)) = found else { return };
        peer.jobs.remove(&key);
        match job.flow {
            Some(flow) => self.skip(link, flow, epoch, vec![BlockNo(key.1)]),
            // BEP 6: a cancelled request is answered all the same.
            None => self.send(link, &Message::Reject(request)),
        }
    }

    /// Sends while the uplink has room.
    pub(super) fn pump(&mut self) {
        let now = self.now.mono;
        while !self.near.loaded.is_empty() {
            if let Some(bucket) = &mut self.bucket {
                bucket.refill(now);
                if !bucket.is_open() || self.ahead(now) > UPLINK_AHEAD {
                    return;
                }
            }
            let Some((link, key)) = self.next_job() else { return };
            self.send_block(link, key);
        }
    }

    /// The job that is first in order, of the peers that have room. Among equals the one that was
    /// sent least lately.
    fn next_job(&self) -> Option<(Link, (u8, u64))> {
        self.loaded()
            .filter(|p| p.queued < LINK_AHEAD)
            .filter_map(|p| {
                let (key, job) = p.jobs.first_key_value()?;
                Some(((key.0, self.turn_us(p, *key, job)), *key, p.up.total(), p.link))
            })
            .min()
            .map(|(_, key, _, link)| (link, key))
    }

    /// When it is the turn of a job: what waits longest goes first, but who passes a block on to
    /// many gets it before those who keep it.
    fn turn_us(&self, peer: &Peer, (class, no): (u8, u64), job: &Job) -> u64 {
        if class != PUSH {
            return no;
        }
        let k = self.upstream.k().max(1);
        let stripe = (no % u64::from(k)) as u8;
        let below = peer.offer.as_ref().map_or(0, |offer| u64::from(offer.below(k, stripe)));
        job.queued.0 + LEAF_US / (1 + below)
    }

    fn send_block(&mut self, link: Link, key: (u8, u64)) {
        let now = self.now.mono;
        let epoch = self.epoch();
        let Some(core) = &self.core else { return };
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let Some(job) = peer.jobs.remove(&key) else { return };
        if peer.jobs.is_empty() {
            self.near.loaded.remove(&link);
        }
        let seq = Seq { epoch, index: job.block.piece };
        let payload = core.store.piece(seq).and_then(|p| p.block(job.block.block)).cloned();
        let Some(block) = payload else {
            // Slid out of the window while it waited.
            match job.flow {
                Some(flow) => self.skip(link, flow, epoch, vec![BlockNo(key.1)]),
                None => self.reject(link, job.block),
            }
            return;
        };
        if job.flow.is_some() {
            if peer.holds(seq) {
                return;
            }
            peer.note_sent(job.block);
            self.note_left(BlockNo(key.1), job.queued);
        }
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.up.add(now, block.len() as u64);
        self.totals.up_payload += block.len() as u64;
        let begin = u32::from(job.block.block) * BLOCK_LEN;
        let message = Message::Piece { index: job.block.piece, begin, block };
        let body = message.body();
        self.send(link, &message);
        self.write(link, body);
    }

    /// Peers with bytes on their way to them.
    fn sending(&self) -> impl Iterator<Item = &Peer> {
        self.near.sending.iter().filter_map(|link| self.peers.get(link))
    }

    /// Bytes that wait for our uplink.
    fn ahead(&self, now: Time) -> usize {
        self.sending().map(|p| p.moving(now)).sum()
    }

    /// When the uplink may go on by time alone.
    pub(super) fn pump_at(&self) -> Time {
        let now = self.now.mono;
        let waiting = || self.loaded().any(|p| !p.jobs.is_empty() && p.queued < LINK_AHEAD);
        match &self.bucket {
            Some(bucket) if !bucket.is_open() && waiting() => bucket.opens_at(),
            Some(_) if self.ahead(now) > UPLINK_AHEAD && waiting() => {
                // If nothing leaves until then, it is not for us to send.
                let held = self.sending().map(|p| p.drains_by).filter(|by| *by >= now);
                held.min().map_or(Time::NEVER, |by| by.after_us(1))
            }
            _ => Time::NEVER,
        }
    }
}

fn covers(flow: &Flow, epoch: Epoch, no: BlockNo) -> bool {
    flow.epoch == epoch
        && (flow.first..=flow.last).contains(&no)
        && flow.cover.is_some_and(|cover| cover.covers(no))
}
