//! What subscriptions at us would bring, told to the neighbours; and what theirs would bring us.
//!
//! Lags count from publication, without any wall clock: the stream's clock says how long a block
//! took beyond the quickest entry of the last minute, and *base* is how long that one took. The
//! source's base is 0; everybody else's is that of who brings the entries and half the shortest
//! round trip to it.

use super::Swarm;
use super::peer::{Flow, Order, OrderState, Peer};
use crate::units::{BLOCK_LEN, BlockNo, Link, Time, UnixUs};
use crate::wire::extended::Extension;
use crate::wire::live::{
    Cover, HOPS_UNKNOWN, Kind, Live, Offer, STRIPES_MAX, StripeOffer, UNKNOWN,
};
use crate::wire::tlv::Tlvs;

/// An offer is told anew this long after the last one at the soonest, if it changed.
const OFFER_US: u64 = 500_000;
/// Or, if stripes have gone or come, this long after: who lacks one waits for it.
const GONE_US: u64 = 300_000;
const COME_US: u64 = 100_000;
/// Who cannot pass on a single stripe has little to say, and a line that carries no more.
const IDLE_US: u64 = 2_000_000;
/// And after this long in any case, for those who lost count.
const REPEAT_US: u64 = 10_000_000;
/// A lag that changed by less than this part of it, or by so much, is the same.
const SAME_PART: u16 = 5;
const SAME_MS: u16 = 20;
/// Taken for a hop where no base is known.
const HOP_US: u64 = 60_000;
/// Taken for a round trip that is not known yet.
const RTT_US: u64 = 100_000;
/// A swarm is tight until so many of a hundred neighbours have room for a stripe, and again when
/// fewer than so many have.
const ROOMY_PERCENT: usize = 40;
const TIGHT_PERCENT: usize = 15;
/// Many are new if one of so many neighbours came within this time.
const NEW_PART: usize = 4;
const NEW_US: u64 = 6_000_000;
/// Numbers of an offer are in this part of the stream's rate.
const UNIT: f64 = 256.0;
/// Uploads and room are believed up to four copies of the stream: more is hardly ever true, and who
/// boasts would be asked for everything.
const BELIEVED: u16 = 4 * 256;

/// What is measured for offers.
#[derive(Debug)]
pub(super) struct Offers {
    /// By stripe: average time from publication to its blocks' arrival.
    path_us: [Option<u64>; STRIPES_MAX as usize],
    /// By stripe: average time from a block's arrival until its last copy began to leave.
    tail_us: [Option<u64>; STRIPES_MAX as usize],
    /// The same over all copies of all stripes.
    wait_us: u64,
    /// By stripe: the branch that its last upstream was in.
    branch: [u8; STRIPES_MAX as usize],
    /// Average time from an entry's publication to its arrival.
    entries_us: Option<u64>,
    /// Hardly any neighbour has room for a stripe.
    tight: bool,
    /// Some neighbour has said what room it has.
    room_known: bool,
    /// Many neighbours are new.
    joining: bool,
    /// By stripe: neighbours that have nobody to get it from.
    lacking: [u16; STRIPES_MAX as usize],
    told: Option<Offer>,
    told_at: Time,
}

impl Default for Offers {
    fn default() -> Self {
        Self {
            path_us: [None; STRIPES_MAX as usize],
            tail_us: [None; STRIPES_MAX as usize],
            wait_us: 0,
            branch: [0; STRIPES_MAX as usize],
            entries_us: None,
            tight: true,
            room_known: false,
            joining: true,
            lacking: [0; STRIPES_MAX as usize],
            told: None,
            told_at: Time::ZERO,
        }
    }
}

impl Offers {
    /// Notes that another epoch began: what was said is void. What was measured is a guess that is
    /// better than none.
    pub(super) fn enter(&mut self) {
        self.told = None;
    }

    /// Average time from publication to arrival of a stripe's blocks, microseconds.
    pub(super) fn path_us(&self, stripe: u8) -> Option<u64> {
        self.path_us.get(usize::from(stripe)).copied().flatten()
    }

    /// Whether some neighbour knows what its line carries, and so what it can spare.
    pub(super) fn is_room_known(&self) -> bool {
        self.room_known
    }

    /// Whether many neighbours are new.
    pub(super) fn is_joining(&self) -> bool {
        self.joining
    }

    /// Whether hardly any neighbour has room for a stripe, and few are new.
    pub(super) fn is_tight(&self) -> bool {
        self.tight && !self.joining
    }

    /// Neighbours that have nobody to get a stripe from.
    pub(super) fn lacking(&self, stripe: u8) -> u16 {
        self.lacking.get(usize::from(stripe)).copied().unwrap_or(0)
    }

    fn branch(&self, stripe: u8) -> u8 {
        self.branch.get(usize::from(stripe)).copied().unwrap_or(0)
    }

    /// Notes that a block of a stripe came so long after its publication.
    fn came(&mut self, stripe: u8, lag_us: u64) {
        if let Some(path) = self.path_us.get_mut(usize::from(stripe)) {
            *path = Some(average(*path, lag_us, 4));
        }
    }

    /// Notes that a copy of a block waited so long; `last`: no other copy waits.
    fn left(&mut self, stripe: u8, wait_us: u64, last: bool) {
        self.wait_us = average(Some(self.wait_us), wait_us, 16);
        if let Some(tail) = self.tail_us.get_mut(usize::from(stripe)).filter(|_| last) {
            *tail = Some(average(*tail, wait_us, 4));
        }
    }
}

/// A moving average in which the newest value weighs `1 / weight`.
fn average(old: Option<u64>, new: u64, weight: u64) -> u64 {
    old.map_or(new, |old| (old * (weight - 1) + new) / weight)
}

fn ms(us: u64) -> u16 {
    u16::try_from(us / 1000).unwrap_or(UNKNOWN - 1).min(UNKNOWN - 1)
}

fn in_unit(share: f64) -> u16 {
    (share * UNIT).clamp(0.0, f64::from(UNKNOWN - 1)) as u16
}

impl Swarm {
    /// How long the quickest entry of the last minute took to us.
    pub(super) fn base_us(&self) -> u64 {
        if self.is_publishing() {
            return 0;
        }
        let bringing = self.suppliers().filter(|p| {
            p.orders.values().any(|o| o.stripe.is_none() && o.state == OrderState::Active)
        });
        let bases = bringing.filter_map(|p| {
            let base_ms = p.offer.as_ref().map(|o| o.base_ms).filter(|base| *base != UNKNOWN);
            Some(u64::from(base_ms?) * 1000 + p.one_way_us())
        });
        bases.min().unwrap_or_else(|| match self.hops() {
            HOPS_UNKNOWN => 3 * HOP_US,
            hops => u64::from(hops) * HOP_US,
        })
    }

    /// How long ago something was published.
    fn lag_since_us(&self, published: UnixUs) -> Option<u64> {
        let source = self.core.as_ref()?.clock.source(self.now.mono)?;
        Some(source.0.saturating_sub(published.0) + self.base_us())
    }

    /// Notes that a block came under a subscription.
    pub(super) fn note_path(&mut self, link: Link, no: BlockNo, published: UnixUs) {
        let stripe = (no.0 % u64::from(self.upstream.k().max(1))) as u8;
        let Some(lag) = self.lag_since_us(published) else { return };
        self.offers.came(stripe, lag);
        let (k, now) = (self.upstream.k(), self.now.mono);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let settled = |o: &Order| o.stripe == Some(stripe) && o.is_settled(now);
        let offer = peer.offer.as_ref().filter(|offer| offer.bar(k, stripe) < u8::MAX);
        let promised = offer.and_then(|offer| offer.lag_ms(k, stripe));
        if let Some(promised) = promised.filter(|_| peer.orders.values().any(settled)) {
            let promised = u64::from(promised) * 1000 + peer.one_way_us();
            peer.note_promise(promised, lag, now);
        }
    }

    /// Notes in which branch of a stripe's tree its upstream is.
    pub(super) fn note_branch(&mut self, link: Link, stripe: u8, credit: u32) {
        let k = self.upstream.k();
        let offer = self.peers.get(&link).and_then(|p| p.offer.as_ref());
        let through = offer.map_or(0, |offer| offer.branch(k, stripe));
        let own = if credit == 0 { 0 } else { (credit as u8).max(1) };
        if let Some(branch) = self.offers.branch.get_mut(usize::from(stripe)) {
            *branch = if through == 0 { own } else { through };
        }
    }

    /// Whether a peer may get a stripe through us: it is in our branch and has the stripe later.
    pub(super) fn may_be_below(&self, peer: &Peer, stripe: u8, promised_us: u64) -> bool {
        let ours = self.offers.branch(stripe);
        let theirs = peer.offer.as_ref().map_or(0, |o| o.branch(self.upstream.k(), stripe));
        ours != 0 && ours == theirs && self.offers.path_us(stripe).is_some_and(|l| promised_us >= l)
    }

    /// Notes that an entry came.
    pub(super) fn note_entry(&mut self, published: UnixUs) {
        if let Some(lag) = self.lag_since_us(published) {
            self.offers.entries_us = Some(average(self.offers.entries_us, lag, 8));
        }
    }

    /// Notes that a copy of a block goes out that waited since `queued`.
    pub(super) fn note_left(&mut self, no: BlockNo, queued: Time) {
        let stripe = (no.0 % u64::from(self.upstream.k().max(1))) as u8;
        let key = (super::downstream::PUSH, no.0);
        let last = !self.loaded().any(|p| p.jobs.contains_key(&key));
        self.offers.left(stripe, self.now.mono.since_us(queued), last);
    }

    /// Time in which our uplink carries a block.
    fn block_us(&self) -> u64 {
        u64::from(BLOCK_LEN) * 1_000_000 / self.flow_budget().max(1)
    }

    /// When a block of a stripe would have left for one more subscriber, from publication on.
    fn stripe_lag_us(&self, stripe: u8) -> Option<u64> {
        let path = if self.is_publishing() { 0 } else { self.offers.path_us(stripe)? };
        let cover = Cover { k: self.upstream.k(), stripes: 1 << stripe, part: 0xff };
        let served = self.flows_of(&cover).next().is_some();
        let tail = self.offers.tail_us.get(usize::from(stripe)).copied().flatten();
        let wait = match tail.filter(|_| served) {
            Some(tail) => tail + self.block_us(),
            None => self.offers.wait_us,
        };
        Some(path + wait + self.block_us())
    }

    /// The flows that share blocks with a cover.
    pub(super) fn flows_of(&self, cover: &Cover) -> impl Iterator<Item = (&Peer, &Flow)> {
        let (next, cover) = (self.upstream.next_block(), *cover);
        let flows = self.fed().flat_map(|p| p.flows.values().map(move |f| (p, f)));
        flows.filter(move |(_, f)| f.open_cover(next).is_some_and(|c| c.meets(&cover)))
    }

    fn offer(&self) -> Offer {
        let k = self.upstream.k();
        let stripes = (0..k).map(|stripe| {
            let cover = Cover { k, stripes: 1 << stripe, part: 0xff };
            let lag = self.stripe_lag_us(stripe).filter(|_| self.supplies_anybody(&cover));
            let bar = if lag.is_some() { self.bar(&cover) } else { u8::MAX };
            let below = self.flows_of(&cover).map(|(p, _)| {
                1 + p.offer.as_ref().map_or(0, |offer| u32::from(offer.below(k, stripe)))
            });
            let below = u8::try_from(below.sum::<u32>()).unwrap_or(u8::MAX);
            let branch = self.offers.branch(stripe);
            StripeOffer { lag_ms: lag.map_or(UNKNOWN, ms), bar, below, branch }
        });
        let stripes = stripes.collect();
        // A line that is not known may carry nothing more than what it is used for.
        let room = self.upload_limit().map_or(UNKNOWN, |_| in_unit(self.spare_share()));
        let entries = if self.is_publishing() { Some(0) } else { self.offers.entries_us };
        Offer {
            epoch: self.epoch(),
            base_ms: ms(self.base_us()),
            entries_ms: entries.filter(|_| self.would_grant_entries()).map_or(UNKNOWN, ms),
            upload: in_unit(self.upload_copies()),
            room,
            mean: self.told_index(),
            stripes,
            ext: Tlvs::default(),
        }
    }

    /// What a subscriber to a stripe is worth: those below it, or those whom it could feed.
    pub(super) fn weight(&self, peer: &Peer, stripe: u8) -> u8 {
        let Some(offer) = &peer.offer else { return 1 };
        if peer.is_boasting(self.now.mono) {
            return 1;
        }
        weight(offer.below(self.upstream.k(), stripe), offer.upload)
    }

    /// How much room for stripes a peer has, as far as it can be believed; `None` if it told none.
    pub(super) fn room(&self, peer: &Peer) -> Option<u16> {
        let offer = peer.offer.as_ref()?;
        let believed = offer.room != UNKNOWN && !peer.is_boasting(self.now.mono);
        Some(if believed { offer.room.min(BELIEVED) } else { 0 })
    }

    /// What we are worth to others.
    fn own_weight(&self, stripe: u8) -> u8 {
        let Some(told) = &self.offers.told else { return 1 };
        weight(told.below(self.upstream.k(), stripe), told.upload)
    }

    /// Whether our upload does not suffice for a single stripe.
    pub(super) fn is_idle(&self) -> bool {
        u64::from(in_unit(self.upload_copies())) < self.stripe_units()
    }

    /// What one stripe needs, as offers count it.
    fn stripe_units(&self) -> u64 {
        UNIT as u64 / u64::from(self.upstream.k().max(1))
    }

    /// Looks how many of those who feed others have room for one more stripe, and how many lack
    /// which. While many are new, room is left for what they ask for.
    fn judge_room(&mut self) {
        let now = self.now.mono;
        let new = self.peers.values().filter(|p| now.since_us(p.up_at) < NEW_US).count();
        self.offers.joining = new * NEW_PART > self.peers.len();
        let stripe = self.stripe_units();
        let offers = self.peers.values().filter_map(|p| p.offer.as_ref());
        let feeding = offers.filter(|o| o.upload != UNKNOWN && u64::from(o.upload) >= stripe);
        let rooms: Vec<u16> = feeding.map(|o| o.room).collect();
        let has_room = |room: &&u16| **room != UNKNOWN && u64::from(**room) >= stripe;
        let with = rooms.iter().filter(has_room).count();
        let enough = if self.offers.tight { ROOMY_PERCENT } else { TIGHT_PERCENT };
        self.offers.room_known = rooms.iter().any(|room| *room != UNKNOWN);
        self.offers.tight = rooms.is_empty() || with * 100 < rooms.len() * enough;
        let (k, epoch) = (self.upstream.k(), self.epoch());
        for (stripe, lacking) in (0..k).zip(self.offers.lacking.iter_mut()) {
            let offers = self.peers.values().filter_map(|p| p.offer.as_ref());
            let present = offers.filter(|o| o.epoch == epoch);
            let without = present.filter(|o| o.lag_ms(k, stripe).is_none()).count();
            *lacking = u16::try_from(without).unwrap_or(u16::MAX);
        }
    }

    /// Tells everybody what we offer, if it is not what we said.
    pub(super) fn tell_offer(&mut self) {
        let now = self.now.mono;
        let passed = now.since_us(self.offers.told_at);
        if passed < COME_US || self.head().is_none() || self.stopping {
            return;
        }
        self.judge_room();
        let offer = self.offer();
        let least = if self.is_idle() { IDLE_US } else { 0 };
        let pause = self.offers.told.as_ref().map_or(0, |told| pause_us(told, &offer).max(least));
        if passed < pause {
            return;
        }
        let same = self.offers.told.as_ref().is_some_and(|told| is_same(told, &offer));
        if same && passed < REPEAT_US {
            return;
        }
        self.offers.told_at = now;
        let live = self.peers.values().filter(|p| p.is_live() && p.window_seen);
        let links: Vec<Link> = live.map(|p| p.link).collect();
        let payload = Live::Offer(offer.clone()).encode();
        self.offers.told = Some(offer);
        for link in links {
            self.send_extended(link, Extension::Live(Kind::Offer), payload.clone());
        }
    }

    /// Tells one peer what everybody was told last.
    pub(super) fn show_offer(&mut self, link: Link) {
        let epoch = self.epoch();
        if let Some(offer) = self.offers.told.clone().filter(|offer| offer.epoch == epoch) {
            self.send_live(link, &Live::Offer(offer));
        }
    }

    pub(super) fn offer_came(&mut self, link: Link, offer: Offer) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.offer = Some(offer);
        }
    }

    /// When a stripe (`None`: entries) would reach us from a peer, from publication on; `None` if
    /// it says that it would refuse. Who has not said anything yet gets a guess.
    pub(super) fn promised_us(&self, peer: &Peer, stripe: Option<u8>) -> Option<u64> {
        let Some(offer) = &peer.offer else {
            return Some(match peer.hops {
                0 => 2 * HOP_US,
                HOPS_UNKNOWN => 3_000_000,
                hops => 1_000_000 + u64::from(hops) * 3 * HOP_US,
            });
        };
        let lag_ms = match stripe {
            Some(stripe) => {
                let k = self.upstream.k();
                let bar = offer.bar(k, stripe);
                if bar > 0 && self.own_weight(stripe) <= bar {
                    return None;
                }
                offer.lag_ms(k, stripe)?
            }
            None => Some(offer.entries_ms).filter(|ms| *ms != UNKNOWN)?,
        };
        Some(u64::from(lag_ms) * 1000 + peer.one_way_us())
    }
}

impl Peer {
    /// Half of the shortest round trip.
    pub(super) fn one_way_us(&self) -> u64 {
        self.rtt_min_us.unwrap_or(RTT_US) / 2
    }
}

fn weight(below: u8, upload: u16) -> u8 {
    let upload = if upload == UNKNOWN { 0 } else { u32::from(upload.min(BELIEVED)) };
    let feeds = u8::try_from(upload * 15 / 1024).unwrap_or(u8::MAX);
    below.max(feeds).saturating_add(1)
}

/// How long to wait since an offer was told until the next one is.
fn pause_us(told: &Offer, next: &Offer) -> u64 {
    let gives = |s: &StripeOffer| s.lag_ms != UNKNOWN && s.bar < u8::MAX;
    let more = |a: &Offer, b: &Offer| {
        let mut stripes = a.stripes.iter().zip(&b.stripes);
        stripes.any(|(a, b)| gives(a) && !gives(b))
    };
    let other = told.epoch != next.epoch || told.stripes.len() != next.stripes.len();
    match (other || more(next, told), more(told, next)) {
        (true, _) => COME_US,
        (_, true) => GONE_US,
        _ => OFFER_US,
    }
}

/// Whether a neighbour would decide the same by both.
fn is_same(a: &Offer, b: &Offer) -> bool {
    let near = |a: u16, b: u16| {
        (a == UNKNOWN) == (b == UNKNOWN) && a.abs_diff(b) <= SAME_MS.max(a.min(b) / SAME_PART)
    };
    let below = |a: u8, b: u8| (a == 0) == (b == 0) && a.abs_diff(b) <= 1.max(a.min(b) / 4);
    // How late a stripe is that nobody is given does not matter, but whether we have it.
    let lag = |a: &StripeOffer, b: &StripeOffer| {
        let given = a.bar < u8::MAX || b.bar < u8::MAX;
        (a.lag_ms == UNKNOWN) == (b.lag_ms == UNKNOWN) && (!given || near(a.lag_ms, b.lag_ms))
    };
    a.epoch == b.epoch
        && near(a.base_ms, b.base_ms)
        && near(a.entries_ms, b.entries_ms)
        && a.upload.abs_diff(b.upload) <= a.upload / 16
        && (a.mean == UNKNOWN) == (b.mean == UNKNOWN)
        && a.mean.abs_diff(b.mean) <= a.mean / 4
        && a.stripes.len() == b.stripes.len()
        && a.stripes.iter().zip(&b.stripes).all(|(a, b)| {
            a.branch == b.branch && lag(a, b) && below(a.below, b.below) && below(a.bar, b.bar)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Epoch;

    /// What is told of stripes that come after so many milliseconds, at a bar.
    fn offer(stripes: &[(u16, u8)]) -> Offer {
        let stripes = stripes.iter().map(|(lag_ms, bar)| StripeOffer {
            lag_ms: *lag_ms,
            bar: *bar,
            below: 0,
            branch: 0,
        });
        let (upload, room, mean) = (256, 0, UNKNOWN);
        let stripes = stripes.collect();
        let (epoch, ext) = (Epoch(1), Tlvs::default());
        Offer { epoch, base_ms: 50, entries_ms: 50, upload, room, mean, stripes, ext }
    }

    #[test]
    fn a_stripe_that_came_is_told_before_one_that_went_and_both_before_other_lags() {
        let told = offer(&[(100, 0), (100, u8::MAX)]);
        let other_lag = offer(&[(300, 0), (100, u8::MAX)]);
        let gone = offer(&[(UNKNOWN, 0), (100, u8::MAX)]);
        let come = offer(&[(100, 0), (100, 7)]);
        let both = offer(&[(UNKNOWN, 0), (100, 7)]);
        let fewer = offer(&[(100, 0)]);
        let pauses = [&other_lag, &gone, &come, &both, &fewer].map(|next| pause_us(&told, next));
        assert_eq!(pauses, [OFFER_US, GONE_US, COME_US, COME_US, COME_US]);
    }

    #[test]
    fn nobody_weighs_more_by_claiming_more_than_four_copies() {
        let copies = [0, 1, 4, 5, 200].map(|copies| weight(0, copies * UNIT as u16));
        assert_eq!(copies, [1, 4, 16, 16, 16]);
        assert_eq!(weight(0, UNKNOWN), 1);
        assert_eq!([weight(40, 0), weight(255, 0)], [41, 255]);
    }

    #[test]
    fn small_changes_of_an_offer_are_none() {
        let told = offer(&[(100, 0), (400, 8)]);
        assert!(is_same(&told, &offer(&[(120, 0), (470, 9)])));
        for (lag_ms, bar) in [(130, 0), (100, 1), (UNKNOWN, 0)] {
            assert!(!is_same(&told, &offer(&[(lag_ms, bar), (400, 8)])), "{lag_ms} {bar}");
        }
        let full = offer(&[(100, u8::MAX)]);
        assert!(is_same(&full, &offer(&[(900, u8::MAX)])), "nobody is given it");
        assert!(!is_same(&full, &offer(&[(UNKNOWN, u8::MAX)])), "it is lost");
    }
}
