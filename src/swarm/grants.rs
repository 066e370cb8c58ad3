//! Who is granted which subscription: as much as the uplink carries, of what we get ourselves, and
//! what few can give before what many can.

use super::config::Role;
use super::peer::{Flow, Order, OrderState, Peer};
use super::rate::Bucket;
use super::uplink::Copies;
use super::{Swarm, burst_len};
use crate::units::{BLOCK_LEN, BlockNo, Link, Seq, Time};
use crate::wire::live::{Cover, End, Grant, Live, Reason, Stripe, Subscribe};
use crate::wire::tlv::Tlvs;

/// Share of the upload limit that subscriptions may take, in percent: the rest is for what has to
/// be asked for. In a swarm where hardly anybody has room for a stripe it is little.
const FLOW_SHARE_PERCENT: u64 = 90;
const FLOW_SHARE_TIGHT_PERCENT: u64 = 96;
/// A stripe whose blocks are overdue by this much is not granted to others.
const STARVED_US: u64 = 300_000;
/// Copies of the stream that are sent without a limit, at first and at most: a source leaves the
/// rest to the swarm, a viewer has other uses for its line, a relay is there to send.
const COPIES_SOURCE: Copies = Copies { first: 2.0, most: 4.0 };
const COPIES_VIEWER: Copies = Copies { first: 2.0, most: 3.0 };
const COPIES_RELAY: Copies = Copies { first: 2.0, most: 16.0 };
/// Peers that get entries without getting blocks: of a source; of anybody else as many as take this
/// part of the upload limit, but some in any case and not more than many.
const ENTRY_FLOWS_SOURCE: usize = 2;
const ENTRY_SHARE_PERCENT: u64 = 2;
const ENTRY_FLOWS_MIN: usize = 2;
const ENTRY_FLOWS_MAX: usize = 16;
/// More is granted than the uplink carries by this much of a copy: something has to go, one a
/// second.
const OVERDRAWN: f64 = 0.1;
const SHED_US: u64 = 1_000_000;
const SHED_TIMES_MAX: u64 = 20;
/// The source moves a flow to another peer this often at most.
const SWAP_US: u64 = 200_000;
/// A flow that is given up goes on for so long.
const NOTICE_US: u64 = 1_000_000;
/// What did not come for so long will hardly come in time to be passed on.
const AWAITED_US: u64 = 1_500_000;
/// And anybody one to a peer that forwards more; while many are new, who would have to look for
/// another upstream among them finds none quickly.
const OUTWEIGH_US: u64 = 1_000_000;
const OUTWEIGH_JOINING_US: u64 = 3_000_000;
/// No connection has this number.
const NOBODY: Link = Link(u64::MAX);
/// Primary stripes are wished for if somebody did so in this time.
const PRIMARY_US: u64 = 2_000_000;
/// Part of the budget that is kept for them.
const RESERVE: f64 = 0.5;
/// A stripe is rare if so many neighbours have nobody to get it from, and more than so many times
/// as many as of another stripe, and a few more.
const RARE_MIN: u16 = 5;
const RARE_TIMES: u16 = 3;
const RARE_MORE: u16 = 2;
/// Payload of a packet.
const PACKET_LEN: u64 = 1448;
/// Every so many packets are acknowledged by one of their own.
const ACKNOWLEDGED: u64 = 2;
/// Blocks by their number modulo this: as fine as stripes can be.
const BLOCK_CLASSES: u32 = 32;

/// Bytes of packets that acknowledge so many.
fn acknowledging(bytes: u64, heads: u64) -> u64 {
    bytes * heads / (PACKET_LEN * ACKNOWLEDGED)
}

impl Swarm {
    pub(super) fn subscribed(&mut self, link: Link, wish: &Subscribe) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let known = peer.flows.get_mut(&wish.id);
        if wish.is_change() {
            // Without a flow it has crossed the flow's end on the way: nothing to change.
            let Some(flow) = known else { return };
            flow.last = wish.last;
            let over = wish.last < flow.first || wish.last.0 == 0;
            let entries = flow.cover.is_none();
            let wanted = |no: u64| no <= wish.last.0;
            peer.jobs.retain(|(_, no), job| job.flow != Some(wish.id) || wanted(*no));
            if if entries { wish.last.0 != u64::MAX } else { over } {
                self.end_flow(link, wish.id, Reason::DONE);
            }
            return;
        }
        if known.is_some() {
            return self.fault(link, &format_args!("a wish under id {}, which is in use", wish.id));
        }
        let (cover, reason) = match wish.stripe {
            Stripe::Entries => self.grantable_entries(link),
            Stripe::Blocks if wish.epoch != self.epoch() => (None, Reason::EPOCH),
            Stripe::Blocks => {
                if self.is_primary(&wish.cover) && self.supplies(link, &wish.cover) {
                    self.primary_at = self.now.mono;
                }
                self.make_room(link, &wish.cover);
                self.grantable_blocks(link, &wish.cover)
            }
        };
        let nothing = Cover { stripes: 0, part: 0, ..wish.cover };
        let granted = cover.unwrap_or(nothing);
        let is_granted = cover.is_some() && wish.stripe == Stripe::Blocks;
        let first =
            if is_granted { self.granted_from(link, wish) } else { self.upstream.next_block() };
        let credit = self.credit_for(is_granted);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let epoch = wish.epoch;
        if cover.is_some() {
            let cover = (wish.stripe == Stripe::Blocks).then_some(granted);
            let (last, reason) = (wish.last, Reason::DONE);
            let flow = Flow { cover, epoch, first, last, credit, reason };
            peer.flows.insert(wish.id, flow);
        }
        // Entries go to the choked as well.
        if is_granted {
            peer.choked = false;
        }
        let ext = Tlvs::default();
        let grant = Grant { id: wish.id, reason, cover: granted, credit, epoch, first, ext };
        self.send_live(link, &Live::Grant(grant));
        if wish.stripe == Stripe::Entries && !granted.is_empty() {
            self.show_head(link);
        }
    }

    /// The first block that a wish is granted from. What is still to come to us by subscription can
    /// be passed on as if the one who wishes had been here all the time; but of nothing that ends
    /// before the next block, which would count against no budget.
    fn granted_from(&self, link: Link, wish: &Subscribe) -> BlockNo {
        let (now, next) = (self.now.mono, self.upstream.next_block());
        let mut first = next;
        let Some(core) = self.core.as_ref().filter(|_| wish.last >= next) else { return first };
        let epoch = core.feed.epoch();
        let others = self.suppliers().filter(|p| p.link != link);
        let orders = others.flat_map(|p| p.orders.values());
        let bringing = orders.filter(|o| o.is_bringing(epoch) && o.cover.meets(&wish.cover));
        let bringing: Vec<&Order> = bringing.collect();
        let is_young = |at: &Time| now.since_us(*at) < AWAITED_US;
        // Back to the newest block that is here: nothing of what follows has come yet.
        'newest: for known in core.feed.iter().rev() {
            let head = &known.entry.head;
            let piece = core.store.piece(head.seq());
            let awaited = self.entry_at.get(&head.index).is_some_and(is_young);
            for block in (0..head.blocks()).rev() {
                let no = BlockNo(head.first_block.0 + u64::from(block));
                if !wish.cover.covers(no) {
                    continue;
                }
                let lacks = piece.is_some_and(|piece| piece.lacks(block));
                if !lacks || !awaited || !bringing.iter().any(|o| o.brings(no)) {
                    break 'newest;
                }
                first = no;
            }
        }
        wish.first.max(first)
    }

    /// The credit id of a new flow: the source draws one; who forwards names the one under which
    /// it gets the stream from the source itself; 0 beyond.
    fn credit_for(&mut self, granted: bool) -> u32 {
        if !granted {
            return 0;
        }
        if self.is_publishing() {
            return self.rng.next_u64() as u32 | 1;
        }
        let from_source = self.suppliers().filter(|p| p.hops == 0);
        let mut orders = from_source.flat_map(|p| p.orders.values());
        orders.find(|o| o.state == OrderState::Active && o.credit != 0).map_or(0, |o| o.credit)
    }

    /// Whether we get a stripe from somebody, whoever wishes for it.
    pub(super) fn supplies_anybody(&self, wish: &Cover) -> bool {
        self.is_publishing() || self.supplies(NOBODY, wish)
    }

    /// The weight that it takes to be granted a stripe now: 0 if there is room, 255 if no weight
    /// is enough.
    pub(super) fn bar(&self, wish: &Cover) -> u8 {
        if self.grantable_blocks(NOBODY, wish).0.is_some()
            || self.yielding(NOBODY, wish).is_some()
            || self.plentiful(NOBODY, wish).is_some()
        {
            return 0;
        }
        self.lightest(NOBODY, wish).map_or(u8::MAX, |(least, ..)| bar_over(least))
    }

    /// Whether a wish for entries by somebody whom we do not send blocks would be granted.
    pub(super) fn would_grant_entries(&self) -> bool {
        self.grantable_entries(NOBODY).0.is_some()
    }

    fn grantable_entries(&self, link: Link) -> (Option<Cover>, Reason) {
        let fed = |p: &Peer| p.flows.values().any(|f| f.cover.is_some());
        if self.peers.get(&link).is_some_and(fed) {
            return (Some(Cover::ALL), Reason::NONE);
        }
        let max = self.entry_flows_max();
        let others =
            self.fed().filter(|p| !fed(p) && p.flows.values().any(|f| f.cover.is_none())).count();
        if others < max { (Some(Cover::ALL), Reason::NONE) } else { (None, Reason::FULL) }
    }

    /// Peers that may get entries without getting blocks.
    fn entry_flows_max(&self) -> usize {
        if self.is_publishing() {
            return ENTRY_FLOWS_SOURCE;
        }
        let highest = self.core.as_ref().and_then(|core| core.feed.highest());
        let (Some(limit), Some(highest)) = (self.upload_limit(), highest) else {
            return ENTRY_FLOWS_MAX;
        };
        let cost = highest.raw.len() as u64 * 1_000_000 / self.piece_us().max(1);
        let carried = limit * ENTRY_SHARE_PERCENT / 100 / cost.max(1);
        usize::try_from(carried).unwrap_or(usize::MAX).clamp(ENTRY_FLOWS_MIN, ENTRY_FLOWS_MAX)
    }

    /// What of a wish can be granted: nothing that we do not get ourselves, nothing that comes
    /// from the one who wishes, and no more than the uplink carries.
    fn grantable_blocks(&self, link: Link, wish: &Cover) -> (Option<Cover>, Reason) {
        if !self.is_publishing() && !self.supplies(link, wish) {
            return (None, Reason::LATE);
        }
        let wanted = share(wish);
        if self.is_publishing() && !self.is_least_given(wish) {
            return (None, Reason::FULL);
        }
        let kept = if self.is_primary(wish) { 0.0 } else { self.reserve() };
        if wanted + kept <= self.spare_share() {
            (Some(*wish), Reason::NONE)
        } else {
            (None, Reason::FULL)
        }
    }

    /// Gives up a flow for a wish that there is no room for.
    ///
    /// At the source that of a peer that has at least two more than the one who wishes for the
    /// same: first copies go to different peers, each of which passes on what only it has. At
    /// others that of a stripe that hardly anybody lacks, for one that many lack.
    /// Anywhere that of a peer that passes the stripe on to far fewer than the one who wishes: who
    /// forwards sits nearer to the source.
    fn make_room(&mut self, link: Link, wish: &Cover) {
        let now = self.now.mono;
        if now < self.swap_at {
            return;
        }
        let sooner = self.richest(link, wish).or_else(|| self.yielding(link, wish));
        let sooner = sooner.or_else(|| self.plentiful(link, wish));
        if let Some((out, id)) = sooner {
            self.swap_at = now.after_us(SWAP_US);
            self.retire_flow(out, id);
        } else if let Some((out, id)) = self.outweighed(link, wish) {
            let joining = self.offers.is_joining();
            let pause = if joining { OUTWEIGH_JOINING_US } else { OUTWEIGH_US };
            self.swap_at = now.after_us(pause);
            self.retire_flow(out, id);
        }
    }

    /// At the source: the flow of just this cover of the peer that has most flows, if those are at
    /// least two more than `link` has.
    fn richest(&self, link: Link, wish: &Cover) -> Option<(Link, u8)> {
        if !self.is_publishing() || share(wish) <= self.spare_share() {
            return None;
        }
        let next = self.upstream.next_block();
        let stripe = wish.stripes.trailing_zeros() as u8;
        let others = self.fed().filter(|p| p.link != link);
        let same = others.flat_map(|p| {
            let same = p.flows.iter().filter(|(_, flow)| flow.open_cover(next) == Some(*wish));
            same.map(move |(id, _)| (p.flows_open(next), self.weight(p, stripe), p.link, *id))
        });
        let (count, weight, out, id) =
            same.max_by_key(|(count, weight, ..)| (*count, u8::MAX - weight))?;
        let peer = self.peers.get(&link);
        let own = peer.map_or(0, |p| p.flows_open(next));
        let ours = peer.map_or(1, |p| self.weight(p, stripe));
        (count >= own + 2 && ours > bar_beside(weight)).then_some((out, id))
    }

    /// The flow of another stripe that gives way to one that few can give but we, while those do
    /// not have their share of our uplink.
    fn yielding(&self, link: Link, wish: &Cover) -> Option<(Link, u8)> {
        if self.is_publishing() || !self.is_primary(wish) || !self.supplies(link, wish) {
            return None;
        }
        if share(wish) <= self.spare_share() || self.primary_lack() < share(wish) {
            return None;
        }
        let (next, k) = (self.upstream.next_block(), self.upstream.k());
        let others = self.fed().filter(|p| p.link != link).flat_map(|p| {
            p.flows.iter().filter_map(move |(id, flow)| {
                let cover = flow.open_cover(next).filter(|c| c.k == k)?;
                let stripe = cover.stripes.trailing_zeros() as u8;
                (!self.is_primary(&cover)).then(|| (self.weight(p, stripe), p.link, *id))
            })
        });
        others.min().map(|(_, out, id)| (out, id))
    }

    /// The flow of a stripe that few neighbours lack which gives way to one that many lack, for
    /// somebody who lacks it: its subscriber finds another upstream sooner. Otherwise uplinks fill
    /// with stripes that are found early, and one stays with a few.
    fn plentiful(&self, link: Link, wish: &Cover) -> Option<(Link, u8)> {
        let (next, k) = (self.upstream.next_block(), self.upstream.k());
        let stripe = |cover: &Cover| cover.stripes.trailing_zeros() as u8;
        let lacking = self.offers.lacking(stripe(wish));
        if self.is_publishing() || lacking < RARE_MIN || share(wish) <= self.spare_share() {
            return None;
        }
        let offer = self.peers.get(&link).and_then(|p| p.offer.as_ref());
        let has = offer.is_some_and(|offer| offer.lag_ms(k, stripe(wish)).is_some());
        if has || !self.supplies(link, wish) {
            return None;
        }
        let others = self.fed().filter(|p| p.link != link).flat_map(|p| {
            p.flows.iter().filter_map(move |(id, flow)| {
                let cover = flow.open_cover(next).filter(|c| c.k == k)?;
                let weight = self.weight(p, stripe(&cover));
                Some((self.offers.lacking(stripe(&cover)), weight, p.link, *id))
            })
        });
        let (least, _, out, id) = others.min()?;
        let bar = least.saturating_mul(RARE_TIMES).saturating_add(RARE_MORE);
        (lacking > bar).then_some((out, id))
    }

    /// The flow of the stripe wished for whose subscriber weighs too little to keep it.
    fn outweighed(&self, link: Link, wish: &Cover) -> Option<(Link, u8)> {
        if self.grantable_blocks(link, wish).1 != Reason::FULL {
            return None;
        }
        let (least, out, id) = self.lightest(link, wish)?;
        let stripe = wish.stripes.trailing_zeros() as u8;
        let weight = self.peers.get(&link).map_or(1, |p| self.weight(p, stripe));
        (weight > bar_over(least)).then_some((out, id))
    }

    /// The subscriber to just this cover, other than `link`, that weighs least, and its flow.
    fn lightest(&self, link: Link, wish: &Cover) -> Option<(u8, Link, u8)> {
        let next = self.upstream.next_block();
        let stripe = wish.stripes.trailing_zeros() as u8;
        let others = self.fed().filter(|p| p.link != link);
        let same = others.flat_map(|p| {
            let same = p.flows.iter().filter(|(_, flow)| flow.open_cover(next) == Some(*wish));
            same.map(move |(id, _)| (self.weight(p, stripe), p.link, *id))
        });
        same.min()
    }

    /// Whether a wish is for a stripe that few can give but we: one that the source gives us.
    fn is_primary(&self, wish: &Cover) -> bool {
        let k = self.upstream.k();
        if self.is_publishing() || wish.k != k {
            return false;
        }
        let direct = self.suppliers().filter(|p| p.hops == 0).flat_map(|p| p.orders.values());
        let direct = direct.filter(|o| o.state == OrderState::Active);
        direct.filter_map(|o| o.stripe).any(|stripe| wish.stripes == 1 << stripe)
    }

    /// Share of the stream that is kept for our primary stripes, while somebody wishes for them.
    fn reserve(&self) -> f64 {
        if self.is_publishing() || self.now.mono.since_us(self.primary_at) > PRIMARY_US {
            return 0.0;
        }
        self.primary_lack()
    }

    /// What our primary stripes lack of their part of the budget, as a share of the stream.
    fn primary_lack(&self) -> f64 {
        let budget = self.flow_budget() as f64 / (self.stream_rate() as f64 * 1.02);
        let next = self.upstream.next_block();
        let flows = self.fed().flat_map(|p| p.flows.values());
        let flows = flows.filter_map(|f| f.open_cover(next));
        let primary: f64 = flows.filter(|cover| self.is_primary(cover)).map(|c| share(&c)).sum();
        (budget * RESERVE - primary).max(0.0)
    }

    /// Whether no part of the stream has gone out less often than what is wished for. A source
    /// gives every part once before it gives any part twice: nobody else can make up for it.
    fn is_least_given(&self, wish: &Cover) -> bool {
        let next = self.upstream.next_block();
        let flows = self.served().flat_map(|p| p.flows.values());
        let flows = flows.filter_map(|f| f.open_cover(next));
        let mut given = [0.0f64; BLOCK_CLASSES as usize];
        for cover in flows {
            let share = f64::from(cover.part.count_ones()) / 8.0;
            let even = BLOCK_CLASSES.is_multiple_of(u32::from(cover.k.max(1)));
            for (class, copies) in (0..).zip(given.iter_mut()) {
                if !even {
                    // Its stripes run across ours: on average it covers its share of each.
                    *copies += f64::from(cover.eighths()) / (8.0 * f64::from(cover.k.max(1)));
                } else if cover.stripes & (1 << (class % u32::from(cover.k))) != 0 {
                    *copies += share;
                }
            }
        }
        let least = given.iter().copied().fold(f64::INFINITY, f64::min);
        let wished = (0..).zip(given).filter(|(class, _): &(u32, f64)| {
            wish.stripes & (1 << (class % u32::from(wish.k))) != 0
        });
        wished.map(|(_, copies)| copies).fold(0.0, f64::max) < least + 0.5
    }

    /// Whether we get these stripes, and from somebody other than `link`.
    fn supplies(&self, link: Link, wish: &Cover) -> bool {
        let k = self.upstream.k();
        let ours = |stripe: &u8| Cover { k, stripes: 1 << stripe, part: 0xff };
        let needed: Vec<u8> = (0..k).filter(|stripe| ours(stripe).meets(wish)).collect();
        let supplied = |stripe: &u8| {
            self.suppliers().filter(|p| p.link != link).any(|p| {
                p.orders.values().any(|o| {
                    o.stripe == Some(*stripe)
                        && o.state == OrderState::Active
                        // What has brought nothing yet may be waiting for us in turn; the source
                        // waits for nobody.
                        && (o.lag_us.is_some() || p.hops == 0)
                        && o.missed == 0
                        && o.due_since.is_none_or(|due| self.now.mono.since_us(due) < STARVED_US)
                })
            })
        };
        needed.iter().all(supplied)
    }

    /// Whether a stripe more is worth more than room for requests: the swarm is tight, and what our
    /// uplink carries is known.
    fn is_short_of_room(&self) -> bool {
        self.offers.is_tight() && !self.is_publishing() && self.config.upload_limit.is_some()
    }

    /// Bytes per second that subscriptions may take.
    pub(super) fn flow_budget(&self) -> u64 {
        match self.upload_limit() {
            Some(limit) if self.is_short_of_room() => limit * FLOW_SHARE_TIGHT_PERCENT / 100,
            Some(limit) => limit * FLOW_SHARE_PERCENT / 100,
            None => self.uplink.budget(self.stream_rate()),
        }
    }

    /// Bytes per second that may be sent: as the user says, less the heads of packets and what
    /// acknowledges the stream, or as the line showed.
    pub(super) fn upload_limit(&self) -> Option<u64> {
        let rate = self.stream_rate();
        let learnt = || self.uplink.limit().map(|_| self.uplink.budget(rate));
        let heads = self.config.packet_heads;
        let less_heads = |limit: u64| {
            let payload = limit * PACKET_LEN / (PACKET_LEN + heads);
            let received = if self.is_publishing() { 0 } else { rate };
            payload.saturating_sub(acknowledging(received, heads)).max(limit / 4).max(1)
        };
        self.config.paced_limit().map(less_heads).or_else(learnt)
    }

    /// Notes that bytes came, which packets without payload acknowledge.
    pub(super) fn note_received(&mut self, bytes: usize) {
        let heads = self.config.packet_heads;
        if let Some(bucket) = &mut self.bucket {
            bucket.spend(acknowledging(bytes as u64, heads) as usize);
        }
    }

    /// What so many bytes in one write cost, with the heads of their packets.
    pub(super) fn with_heads(&self, bytes: usize) -> usize {
        bytes + bytes.div_ceil(PACKET_LEN as usize) * self.config.packet_heads as usize
    }

    /// Learns what the line can send from how long the ways to those take who are fed.
    pub(super) fn tick_uplink(&mut self) {
        if self.config.upload_limit.is_some() {
            return;
        }
        let (now, rate) = (self.now.mono, self.stream_rate());
        let fed = self.fed().filter(|p| p.is_fed() && p.is_alert(now));
        let mut rises: Vec<u64> = fed.filter_map(|p| p.rise_us(now)).collect();
        self.uplink.tick(now, rate, &mut rises);
        let Some(limit) = self.upload_limit() else { return };
        let bucket = self.bucket.get_or_insert_with(|| Bucket::new(limit, burst_len(limit), now));
        bucket.set_rate(limit, now);
    }

    /// Peers with subscriptions that are there: a copy for one who is gone without a word is none.
    fn served(&self) -> impl Iterator<Item = &Peer> {
        let now = self.now.mono;
        self.fed().filter(move |p| p.is_alert(now) || !p.is_stuck(now))
    }

    /// The share of the stream that could still be granted; 1.0 is one copy.
    pub(super) fn spare_share(&self) -> f64 {
        // Message heads, entries and haves ride along: 2 %.
        self.flow_budget() as f64 / (self.stream_rate() as f64 * 1.02) - self.granted_share()
    }

    /// The share of the stream that is granted; 1.0 is one copy.
    pub(super) fn granted_share(&self) -> f64 {
        let next = self.upstream.next_block();
        let flows = self.served().flat_map(|p| p.flows.values());
        flows.filter_map(|f| f.open_cover(next)).map(|c| share(&c)).sum()
    }

    pub(super) fn end_flow(&mut self, link: Link, id: u8, reason: Reason) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.flows.remove(&id).is_some() {
            peer.jobs.retain(|_, job| job.flow != Some(id));
            self.send_live(link, &Live::End(End { id, reason }));
        }
    }

    /// Gives a subscription up for another: the subscriber is told, so that it can order elsewhere,
    /// and served for a while longer.
    fn retire_flow(&mut self, link: Link, id: u8) {
        let next = self.upstream.next_block();
        let blocks = self.stream_rate() * NOTICE_US / 1_000_000 / u64::from(BLOCK_LEN);
        let Some(flow) = self.peers.get_mut(&link).and_then(|p| p.flows.get_mut(&id)) else {
            return;
        };
        flow.reason = Reason::FULL;
        flow.last = flow.last.min(BlockNo(next.0 + blocks));
        let (reason, epoch, first) = (flow.reason, flow.epoch, flow.first);
        let (cover, credit) = (flow.cover.unwrap_or(Cover::ALL), flow.credit);
        let ext = Tlvs::default();
        let notice = Grant { id, reason, cover, credit, epoch, first, ext };
        self.send_live(link, &Live::Grant(notice));
    }

    /// Ends a subscription while more is granted than the uplink carries: all would come late.
    pub(super) fn shed(&mut self) {
        let now = self.now.mono;
        if now < self.shed_at || self.spare_share() > -OVERDRAWN {
            return;
        }
        // The more is missing, the sooner the next one goes.
        let over = (-self.spare_share() / OVERDRAWN) as u64;
        self.shed_at = now.after_us(SHED_US / over.clamp(1, SHED_TIMES_MAX));
        let next = self.upstream.next_block();
        let flows: Vec<(Cover, Link, u8)> = self
            .fed()
            .flat_map(|p| p.flows.iter().map(move |(id, f)| (p.link, *id, f)))
            .filter_map(|(link, id, f)| Some((f.open_cover(next)?, link, id)))
            .collect();
        // Of what goes out most often: what goes out once here may come from nobody else.
        let given = |cover: &Cover| flows.iter().filter(|(other, ..)| other.meets(cover)).count();
        let most = flows.iter().map(|(cover, ..)| given(cover)).max();
        let often: Vec<(Link, u8)> = flows
            .iter()
            .filter(|(cover, ..)| Some(given(cover)) == most)
            .map(|(_, link, id)| (*link, *id))
            .collect();
        if let Some((link, id)) = often.get(self.rng.index(often.len())).copied() {
            self.retire_flow(link, id);
        }
    }

    /// Whether a block that a flow covers may still come to us, to be passed on.
    fn awaits_for(&self, flow: &Flow) -> bool {
        let (now, epoch) = (self.now.mono, self.epoch());
        let (Some(core), Some(cover)) = (&self.core, flow.cover) else { return false };
        self.incomplete.iter().any(|index| {
            let young = self.entry_at.get(index).is_some_and(|at| now.since_us(*at) < AWAITED_US);
            let piece = core.store.piece(Seq { epoch, index: *index }).filter(|_| young);
            piece.is_some_and(|piece| {
                let head = &piece.genuine.entry.head;
                (0..head.blocks()).any(|block| {
                    let no = BlockNo(head.first_block.0 + u64::from(block));
                    let within = (flow.first..=flow.last).contains(&no) && cover.covers(no);
                    within && piece.lacks(block)
                })
            })
        })
    }

    /// Ends subscriptions whose last block is past and of which nothing waits: what they take of
    /// the uplink is free again.
    pub(super) fn end_finished_flows(&mut self) {
        let next = self.upstream.next_block();
        let (epoch, mut over) = (self.epoch(), Vec::new());
        for peer in self.fed() {
            for (id, flow) in &peer.flows {
                let past = flow.cover.is_some() && flow.epoch == epoch && flow.last < next;
                let waiting = || peer.jobs.values().any(|job| job.flow == Some(*id));
                if past && !waiting() && !self.awaits_for(flow) {
                    over.push((peer.link, *id, flow.reason));
                }
            }
        }
        for (link, id, reason) in over {
            self.end_flow(link, id, reason);
        }
    }
}

/// How many copies of the stream a node sends whose limit nobody says.
pub(super) fn copies(role: &Role) -> Copies {
    match role {
        Role::Source(_) => COPIES_SOURCE,
        Role::Relay => COPIES_RELAY,
        Role::Viewer => COPIES_VIEWER,
    }
}

/// The share of the stream that is covered; 1.0 is all of it.
fn share(cover: &Cover) -> f64 {
    f64::from(cover.eighths()) / (8.0 * f64::from(cover.k.max(1)))
}

/// The weight that must be exceeded to take the place of a subscriber of this weight: a clear
/// difference, or two would take turns.
fn bar_over(least: u8) -> u8 {
    least.saturating_add(least / 2).saturating_add(1)
}

/// The weight that must be exceeded to share with a subscriber of this weight who has more.
fn bar_beside(weight: u8) -> u8 {
    weight.saturating_sub(1) / 2
}
