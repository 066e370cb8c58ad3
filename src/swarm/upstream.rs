//! From whom which stripe is ordered: standing subscriptions to several upstreams at once, moved
//! when they fall silent. Receiver-driven: nobody is sent what it did not ask for.

use std::collections::BTreeMap;

use super::Swarm;
use super::peer::{Order, OrderState, Peer};
use crate::machine::Rng;
use crate::units::{BLOCK_LEN, BlockNo, Epoch, Link, Time};
use crate::wire::feed::Head;
use crate::wire::live::{CHANGE, Cover, End, Grant, Live, Reason, Skip, Stripe, Subscribe};
use crate::wire::tlv::Tlvs;

/// Stripes that a stream is cut into at most: more share the load better among more upstreams, at
/// the cost of messages.
const STRIPES: u8 = 8;
/// Every stripe has about this many blocks in two seconds at least, so that its silence shows.
const STRIPE_BLOCKS: u64 = 3;
/// A subscription that is not answered by then is asked of another peer.
const ANSWER_US: u64 = 1_000_000;
/// A refusal is respected for this long at first; longer each time, up to `REFUSED_US_MAX`.
const REFUSED_US: u64 = 300_000;
const REFUSED_US_MAX: u64 = 4_000_000;
/// A stripe is silent after this long at least.
const SILENCE_US_MIN: u64 = 500_000;
/// An upstream whose blocks come this long after their entries is replaced.
const LATE_US: u64 = 1_200_000;
/// So is one of whose stripe so many blocks in a row had to be asked for: those who feed each other
/// in a ring get nothing but what one of them fetches, yet never fall silent.
const MISSED_MAX: u32 = 2;
/// A better upstream is looked for this often, up to twice as seldom at random.
const IMPROVE_US: u64 = 500_000;
/// And is one that is ahead by this much.
const AHEAD_US: u64 = 25_000;
/// A stripe that comes from the source should be passed on this often.
const FANOUT: u64 = 4;
/// A stripe more of the same peer is worth this much of a delay.
const TAKEN_US: u64 = 5_000;
/// Each request or subscription in vain since its last block counts as this much later, and each
/// refusal of what was offered.
const FAILED_US: u64 = 200_000;
/// A reader may start while this part of the stripes is granted by nobody.
const LACKING_PART: u8 = 4;
/// Sources of entries that are kept.
const ENTRY_ORDERS: usize = 2;

/// The state of our standing subscriptions beyond what each connection knows.
#[derive(Debug)]
pub(super) struct Upstream {
    epoch: Epoch,
    /// Stripes that the stream is cut into here.
    k: u8,
    /// Until when a peer is not asked again for a stripe (`None`: entries), and how long that was.
    refused: BTreeMap<(Link, Option<u8>), (Time, u64)>,
    next_block: BlockNo,
    improve_at: Time,
    rng: Rng,
}

impl Upstream {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            epoch: Epoch(0),
            k: STRIPES,
            refused: BTreeMap::new(),
            next_block: BlockNo(0),
            improve_at: Time::ZERO,
            rng,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The first block that no known entry covers.
    pub(super) fn next_block(&self) -> BlockNo {
        self.next_block
    }

    /// Begins anew in another epoch.
    pub(super) fn enter(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.next_block = BlockNo(0);
        self.refused.clear();
    }

    /// Goes on in an epoch whose blocks below `next` are of the past.
    pub(super) fn enter_at(&mut self, epoch: Epoch, next: BlockNo) {
        self.enter(epoch);
        self.next_block = next;
    }

    /// Stripes that the stream is cut into here.
    pub(super) fn k(&self) -> u8 {
        self.k
    }

    /// Notes that the blocks of a new entry are known.
    fn pass(&mut self, head: &Head) {
        self.next_block = self.next_block.max(head.end_block());
    }

    fn is_refused(&self, link: Link, stripe: Option<u8>, now: Time) -> bool {
        self.refused.get(&(link, stripe)).is_some_and(|(until, _)| *until > now)
    }

    fn refuse(&mut self, link: Link, stripe: Option<u8>, now: Time, floor_us: u64) {
        let before = self.refused.get(&(link, stripe)).map_or(0, |(_, pause)| *pause);
        let pause = (before * 2).clamp(REFUSED_US, REFUSED_US_MAX).max(floor_us);
        // Jitter, so that those who were refused together do not come back together.
        let jitter = self.rng.below(pause / 2 + 1);
        self.refused.insert((link, stripe), (now.after_us(pause + jitter), pause));
    }

    pub(super) fn forget_refusals(&mut self, link: Link) {
        self.refused.retain(|(of, _), _| *of != link);
    }
}

impl Swarm {
    /// Notes that the blocks of a new entry are due from now on.
    pub(super) fn expect_blocks(&mut self, head: &Head) {
        let now = self.now.mono;
        self.upstream.pass(head);
        for link in &self.near.ordered {
            let orders = self.peers.get_mut(link).into_iter().flat_map(|p| p.orders.values_mut());
            for order in orders {
                let active = order.stripe.is_some() && order.state == OrderState::Active;
                let mut covered = (head.first_block.0.max(order.first.0)..head.end_block().0)
                    .filter(|no| order.cover.covers(BlockNo(*no)));
                if active && covered.next().is_some() {
                    order.due_since.get_or_insert(now);
                }
            }
        }
    }

    /// The connection is gone, and with it what was ordered there.
    pub(super) fn lose_upstream(&mut self, link: Link) {
        self.upstream.forget_refusals(link);
        if !self.stopping {
            // Moved at once: the socket says more than any silence.
            self.tick_at = self.now.mono;
        }
    }

    /// The source is back: whoever lost a stripe with it has looked for it in vain, or found it at
    /// somebody who waits for it as well. All stripes are ordered anew, as in a new epoch.
    pub(super) fn form_anew(&mut self) {
        self.upstream.refused.clear();
        self.tick_at = self.now.mono;
        let orders: Vec<(Link, u8)> = self
            .suppliers()
            .flat_map(|p| p.orders.iter().map(|(id, o)| (p.link, *id, o)))
            .filter(|(_, _, o)| o.stripe.is_some())
            .map(|(link, id, _)| (link, id))
            .collect();
        for (link, id) in orders {
            self.end_order(link, id);
        }
    }

    /// Orders stripes that nobody brings, moves those that fell silent.
    pub(super) fn tick_upstream(&mut self) {
        if self.is_publishing() || self.head().is_none() || self.ended_told {
            return;
        }
        self.drop_stale_orders();
        self.choose_k();
        let silence = SILENCE_US_MIN.max(2 * self.piece_us());
        for stripe in 0..self.upstream.k() {
            self.tend(stripe, silence);
        }
        self.improve();
    }

    /// Now and then asks whether a stripe may come sooner from somebody else: the one for which
    /// most is promised.
    fn improve(&mut self) {
        let now = self.now.mono;
        if now < self.upstream.improve_at {
            return;
        }
        self.upstream.improve_at = now.after_us(IMPROVE_US + self.upstream.rng.below(IMPROVE_US));
        let mut best: Option<(u64, u8, Link)> = None;
        for stripe in 0..self.upstream.k() {
            let Some((gain, link)) = self.gain(stripe) else { continue };
            if best.is_none_or(|(most, ..)| gain > most) {
                best = Some((gain, stripe, link));
            }
        }
        if let Some((_, stripe, link)) = best {
            self.order_at(stripe, link);
        }
        self.improve_entries();
    }

    /// Moves the later of two subscriptions to entries, if another neighbour promises them much
    /// sooner. Those who take entries of each other in a ring learn of all of them, from their
    /// blocks, but late; and nobody in it knows how far the source is.
    fn improve_entries(&mut self) {
        let now = self.now.mono;
        let have: Vec<Link> = self.entry_orders().map(|(link, _)| link).collect();
        if have.len() < ENTRY_ORDERS {
            return;
        }
        let settled = |o: &Order| o.stripe.is_none() && o.is_settled(now);
        let standing = self.suppliers().flat_map(|p| {
            let promised = self.promised_us(p, None).unwrap_or(u64::MAX);
            let ids = p.orders.iter().filter(|(_, o)| settled(o)).map(|(id, _)| *id);
            ids.map(move |id| (promised, p.link, id))
        });
        let Some((latest, from, id)) = standing.max() else { return };
        let Some(link) = self.best_upstream(None, &have) else { return };
        let promised = self.peers.get(&link).and_then(|p| self.promised_us(p, None));
        let gain = promised.and_then(|promised| latest.checked_sub(promised));
        if gain.is_some_and(|gain| gain > AHEAD_US.max(latest / 4)) {
            self.end_order(from, id);
            self.order(link, None, Cover::ALL, BlockNo(0));
        }
    }

    /// How much sooner a stripe would come from the best of the others, if that is worth a move.
    fn gain(&mut self, stripe: u8) -> Option<(u64, Link)> {
        let now = self.now.mono;
        let lag = self.offers.path_us(stripe)?;
        let of_stripe = |p: &&Peer| p.orders.values().any(|o| o.stripe == Some(stripe));
        let is_settled =
            |p: &Peer| p.orders.values().any(|o| o.stripe == Some(stripe) && o.is_settled(now));
        let mut standing = self.suppliers().filter(of_stripe);
        let one_settled = standing.next().is_some_and(is_settled) && standing.next().is_none();
        drop(standing);
        if !one_settled {
            return None;
        }
        let link = self.best_upstream(Some(stripe), &[])?;
        let peer = self.peers.get(&link)?;
        let promised = self.promised_us(peer, Some(stripe))? + peer.excess_us(now);
        let gain = lag.checked_sub(promised)?;
        (gain > AHEAD_US.max(lag / 10)).then_some((gain, link))
    }

    /// Chooses the number of stripes by the number of blocks, while nothing is ordered that a
    /// change could break.
    fn choose_k(&mut self) {
        if self.suppliers().flat_map(|p| p.orders.values()).any(|o| o.stripe.is_some()) {
            return;
        }
        let piece_us = self.piece_us().max(1);
        let piece_len = self.stream_rate() * piece_us / 1_000_000;
        let blocks_in_2_s = piece_len.div_ceil(u64::from(BLOCK_LEN)) * 2_000_000 / piece_us;
        let k = (blocks_in_2_s / STRIPE_BLOCKS).clamp(1, u64::from(STRIPES));
        // A power of two: the source keeps count of parts that fit into each other.
        self.upstream.k = 1 << k.ilog2();
    }

    fn drop_stale_orders(&mut self) {
        let now = self.now.mono;
        let mut unanswered = Vec::new();
        // An id is free again only when the granter says so; until then it may not be used anew.
        for peer in self.suppliers() {
            for (id, order) in &peer.orders {
                if order.state == OrderState::Asked && now.since_us(order.since) > ANSWER_US {
                    unanswered.push((peer.link, *id, order.stripe));
                }
            }
        }
        for (link, id, stripe) in unanswered {
            self.upstream.refuse(link, stripe, now, REFUSED_US_MAX);
            self.end_order(link, id);
        }
    }

    fn tend(&mut self, stripe: u8, silence: u64) {
        let now = self.now.mono;
        let orders: Vec<(Link, u8, OrderState, Time)> = self
            .suppliers()
            .flat_map(|p| p.orders.iter().map(move |(id, o)| (p.link, *id, o)))
            .filter(|(_, _, o)| o.stripe == Some(stripe) && o.state != OrderState::Ending)
            .map(|(link, id, o)| (link, id, o.state, o.since))
            .collect();
        let active = orders.iter().filter(|(_, _, state, _)| *state == OrderState::Active);
        let newest_active = active.clone().max_by_key(|(.., since)| *since).copied();
        let Some((link, id, _, since)) = newest_active else {
            if orders.is_empty() {
                self.order_stripe(stripe, &[]);
            }
            return;
        };
        // Make before break: once a second one is granted, the older ones go, but bring what lies
        // before its first block: a grant does not reach back.
        let older: Vec<(Link, u8)> =
            active.filter(|(l, i, ..)| (*l, *i) != (link, id)).map(|(l, i, ..)| (*l, *i)).collect();
        let order = |link, id| self.peers.get(&link).and_then(|p| p.orders.get(&id));
        let before = order(link, id).map_or(BlockNo(0), |o| BlockNo(o.first.0.saturating_sub(1)));
        for (link, id) in older {
            self.end_order_after(link, id, before);
        }
        let order = self.peers.get(&link).and_then(|p| p.orders.get(&id));
        let credit = order.map_or(0, |o| o.credit);
        let (due, lag) = order.map_or((None, None), |o| (o.due_since, o.lag_us));
        let is_settled = order.is_some_and(|o| o.is_settled(now));
        let missed = order.is_some_and(|o| o.missed >= MISSED_MAX);
        self.note_branch(link, stripe, credit);
        let silent = missed || due.is_some_and(|due| now.since_us(due.max(since)) > silence);
        if orders.len() > 1 {
            return;
        }
        // Judged by progress: what brings blocks, but brings them late, is as good as silent.
        let late = lag.is_some_and(|lag| lag > LATE_US) && now.since_us(since) > 2 * LATE_US;
        if silent || late {
            self.upstream.refuse(link, Some(stripe), now, REFUSED_US_MAX);
            if let Some(peer) = self.peers.get_mut(&link) {
                peer.note_failure(now);
            }
            if !self.order_stripe(stripe, &[link]) {
                // Nobody else: what is silent is given up all the same, to be asked anew.
                self.end_order(link, id);
            }
        } else if let Some(lag) = lag.filter(|_| is_settled) {
            self.order_sooner(stripe, link, lag);
        }
    }

    /// In a swarm most of which has whole pieces before we would ask for a missing block, what
    /// comes well after that is ordered of one of them: rings of peers who wait for each other, and
    /// are fed by what one of them asks for, come apart. Where most are late, moving helps nobody.
    fn order_sooner(&mut self, stripe: u8, link: Link, lag: u64) {
        let grace = self.grace_us();
        if lag < grace * 3 / 2 {
            return;
        }
        let others = self.peers.values().filter(|p| p.is_live());
        let is_quick = |p: &&Peer| p.have_lag_us.is_some_and(|lag| lag < grace);
        let (quick, slow): (Vec<&Peer>, Vec<&Peer>) = others.partition(is_quick);
        if quick.len() > slow.len() {
            let avoid: Vec<Link> = slow.iter().map(|p| p.link).chain([link]).collect();
            self.order_stripe(stripe, &avoid);
        }
    }

    /// Subscribes to a stripe at the most promising peer.
    fn order_stripe(&mut self, stripe: u8, avoid: &[Link]) -> bool {
        let Some(link) = self.best_upstream(Some(stripe), avoid) else { return false };
        self.order_at(stripe, link)
    }

    fn order_at(&mut self, stripe: u8, link: Link) -> bool {
        let (now, k) = (self.now.mono, self.upstream.k());
        let cover = Cover { k, stripes: 1 << stripe, part: 0xff };
        let mut orders = self.suppliers().flat_map(|p| p.orders.values());
        let stands = |o: &Order| {
            let silent = o.due_since.is_some_and(|due| now.since_us(due) > SILENCE_US_MIN);
            o.stripe == Some(stripe) && o.state == OrderState::Active && !silent
        };
        let next = self.upstream.next_block;
        let is_moved = orders.any(stands);
        drop(orders);
        let first = if is_moved { next } else { self.first_lacking().unwrap_or(next) };
        self.order(link, Some(stripe), cover, first)
    }

    /// The first block that is of interest and not here; before it is known where to start, that of
    /// the newest place to do so.
    fn first_lacking(&self) -> Option<BlockNo> {
        let core = self.core.as_ref()?;
        let Some(floor) = self.floor else {
            return Some(core.feed.newest_start()?.entry.head.first_block);
        };
        let first = self.incomplete.range(floor..).next()?;
        Some(core.feed.get(*first)?.entry.head.first_block)
    }

    /// Keeps two subscriptions to entries.
    pub(super) fn order_entries(&mut self, avoid: &[Link]) {
        let mut have: Vec<Link> = self.entry_orders().map(|(link, _)| link).collect();
        // Whom the source feeds needs no second one.
        let fed = have.iter().any(|link| {
            self.peers.get(link).is_some_and(|p| {
                p.hops == 0
                    && p.orders
                        .values()
                        .any(|o| o.stripe.is_none() && o.state == OrderState::Active)
            })
        });
        let wanted = if fed { 1 } else { ENTRY_ORDERS };
        while have.len() < wanted {
            let mut not = have.clone();
            not.extend(avoid);
            let Some(link) = self.best_upstream(None, &not) else { return };
            if !self.order(link, None, Cover::ALL, BlockNo(0)) {
                return;
            }
            have.push(link);
        }
    }

    fn order(&mut self, link: Link, stripe: Option<u8>, cover: Cover, first: BlockNo) -> bool {
        let now = self.now.mono;
        let epoch = if stripe.is_some() { self.upstream.epoch } else { Epoch(0) };
        let Some(peer) = self.peers.get_mut(&link) else { return false };
        let Some(id) = peer.free_order_id() else { return false };
        let order = Order {
            stripe,
            cover,
            epoch,
            state: OrderState::Asked,
            granted: false,
            since: now,
            first,
            last: BlockNo(u64::MAX),
            credit: 0,
            due_since: None,
            lag_us: None,
            missed: 0,
        };
        peer.orders.insert(id, order);
        let last = BlockNo(u64::MAX);
        let kind = if stripe.is_some() { Stripe::Blocks } else { Stripe::Entries };
        let ext = Tlvs::default();
        let subscribe = Subscribe { id, stripe: kind, epoch, cover, first, last, ext };
        self.send_live(link, &Live::Subscribe(subscribe))
    }

    /// Asks for the end of a subscription.
    pub(super) fn end_order(&mut self, link: Link, id: u8) {
        self.end_order_after(link, id, BlockNo(0));
    }

    /// Asks for the end of a subscription behind the block `last`.
    fn end_order_after(&mut self, link: Link, id: u8, last: BlockNo) {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let Some(order) = peer.orders.get_mut(&id) else { return };
        if order.state == OrderState::Ending {
            return;
        }
        order.state = OrderState::Ending;
        order.since = now;
        order.last = last;
        let kind = if order.stripe.is_some() { Stripe::Blocks } else { Stripe::Entries };
        let subscribe = Subscribe {
            id,
            stripe: kind,
            epoch: order.epoch,
            cover: order.cover,
            first: CHANGE,
            last,
            ext: Tlvs::default(),
        };
        self.send_live(link, &Live::Subscribe(subscribe));
    }

    /// The peer that promises most for a stripe (`None`: entries).
    fn best_upstream(&mut self, stripe: Option<u8>, avoid: &[Link]) -> Option<Link> {
        let now = self.now.mono;
        let epoch = self.upstream.epoch;
        let sated = stripe.is_some() && self.is_sated();
        let mut best: Option<((bool, bool, u64, u64), Link)> = None;
        for peer in self.peers.values() {
            let usable = peer.is_live()
                && peer.window_seen
                && peer.is_alert(now)
                && (stripe.is_none() || peer.epoch == epoch)
                && !avoid.contains(&peer.link)
                && !self.upstream.is_refused(peer.link, stripe, now)
                && !peer
                    .orders
                    .values()
                    .any(|o| o.stripe == stripe && o.state != OrderState::Ending);
            if !usable {
                continue;
            }
            let Some(promised) = self.promised_us(peer, stripe) else { continue };
            let taken = peer.orders.values().filter(|o| o.stripe.is_some()).count() as u64;
            let ring = stripe.is_some_and(|s| self.may_be_below(peer, s, promised));
            // One who has much of ours already is a larger loss when it goes.
            let in_vain = u64::from(peer.failures(now)) + u64::from(peer.reneged(now));
            let cost = promised + peer.excess_us(now) + taken * TAKEN_US + in_vain * FAILED_US;
            let key = (sated && peer.hops == 0, ring, cost, self.upstream.rng.next_u64());
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, peer.link));
            }
        }
        best.map(|(_, link)| link)
    }

    /// Whether the source brings as many stripes as we can pass on often enough: it has few copies
    /// to give, and they should go to who multiplies them. Others are asked first.
    fn is_sated(&self) -> bool {
        let at_source = self.suppliers().filter(|p| p.hops == 0).flat_map(|p| p.orders.values());
        let direct = at_source.filter(|o| o.stripe.is_some() && o.state != OrderState::Ending);
        let carried = self.flow_budget() * u64::from(self.upstream.k) / self.stream_rate().max(1);
        direct.count() as u64 >= carried / FANOUT
    }

    pub(super) fn granted(&mut self, link: Link, grant: &Grant) {
        let (now, k) = (self.now.mono, self.upstream.k());
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let Some(order) = peer.orders.get_mut(&grant.id) else { return };
        let stripe = order.stripe;
        if order.granted {
            // It stands: only the name of the flow may change, above all not since when it stands,
            // or its silence would never be noticed.
            order.credit = grant.credit;
            if let (Some(stripe), Reason::FULL) = (stripe, grant.reason) {
                // It will end soon: the next one stands before it does.
                self.upstream.refuse(link, Some(stripe), now, REFUSED_US_MAX);
                if self.is_ordered_once(stripe) {
                    self.order_stripe(stripe, &[link]);
                }
            }
            return;
        }
        if grant.cover.is_empty() {
            peer.orders.remove(&grant.id);
            let offered = |stripe| peer.offer.as_ref().is_some_and(|o| o.bar(k, stripe) == 0);
            if grant.reason == Reason::FULL && stripe.is_some_and(offered) {
                peer.note_answer(false, now);
            }
            self.upstream.refuse(link, stripe, now, 0);
            // The next candidate is asked at once.
            match stripe {
                Some(stripe) if self.is_unordered(stripe) => {
                    self.order_stripe(stripe, &[]);
                }
                Some(_) => {}
                None => self.order_entries(&[]),
            }
            return;
        }
        let within = grant.cover.k == order.cover.k
            && grant.cover.stripes & !order.cover.stripes == 0
            && grant.cover.part & !order.cover.part == 0;
        if !within {
            return self.fault(link, &"granted what was not asked for");
        }
        order.granted = true;
        if stripe.is_some() {
            peer.chokes_us = false;
        }
        if order.state == OrderState::Ending {
            return;
        }
        order.cover = grant.cover;
        order.state = OrderState::Active;
        order.since = now;
        order.credit = grant.credit;
        order.first = order.first.max(grant.first);
        self.upstream.refused.remove(&(link, stripe));
        if stripe.is_some() {
            peer.note_answer(true, now);
        }
        self.pull_dirty = true;
    }

    /// The block from which on what is published comes by itself, if it does: the stripes are
    /// granted, or there is nothing to grant. Of few that lack the blocks are asked for.
    pub(super) fn pushed_from(&self) -> Option<BlockNo> {
        if self.is_publishing() || self.ended_told {
            return Some(BlockNo(u64::MAX));
        }
        let k = self.upstream.k.clamp(1, 32);
        let firsts = (0..k).filter_map(|stripe| {
            let orders = self.suppliers().flat_map(|p| p.orders.values());
            let of_stripe: Vec<&Order> = orders.filter(|o| o.stripe == Some(stripe)).collect();
            // What one that ends still brings lies before what its successor brings.
            of_stripe.iter().find(|o| o.state == OrderState::Active)?;
            let bringing = of_stripe.iter().filter(|o| o.is_bringing(self.upstream.epoch));
            bringing.map(|o| o.first).min()
        });
        let firsts: Vec<BlockNo> = firsts.collect();
        let lacking = usize::from(k) - firsts.len();
        firsts.into_iter().max().filter(|_| lacking <= usize::from(k / LACKING_PART))
    }

    fn is_ordered_once(&self, stripe: u8) -> bool {
        let orders = self.suppliers().flat_map(|p| p.orders.values());
        orders.filter(|o| o.stripe == Some(stripe) && o.state != OrderState::Ending).count() == 1
    }

    fn is_unordered(&self, stripe: u8) -> bool {
        let mut orders = self.suppliers().flat_map(|p| p.orders.values());
        !orders.any(|o| o.stripe == Some(stripe) && o.state != OrderState::Ending)
    }

    /// Blocks that will not come under a subscription are asked for elsewhere.
    pub(super) fn skipped(&mut self, link: Link, skip: &Skip) {
        let order = self.peers.get(&link).and_then(|p| p.orders.get(&skip.id));
        let Some(order) = order.filter(|o| o.stripe.is_some()) else { return };
        if skip.epoch == self.upstream.epoch {
            let cover = order.cover;
            let covered = skip.blocks.iter().copied().filter(|no| cover.covers(*no));
            self.missed_blocks(&covered.collect::<Vec<_>>());
        }
    }

    pub(super) fn order_ended(&mut self, link: Link, end: End) {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let Some(order) = peer.orders.remove(&end.id) else { return };
        if order.state != OrderState::Ending {
            self.upstream.refuse(link, order.stripe, now, 0);
            self.tick_at = now;
        }
        self.pull_dirty = true;
    }

    /// The peer chokes us: what it granted is over, what we wished for waits.
    pub(super) fn choked_by(&mut self, link: Link) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.chokes_us = true;
        peer.orders.retain(|_, o| !o.granted || o.stripe.is_none());
        self.tick_at = self.now.mono;
        self.pull_dirty = true;
    }
}
