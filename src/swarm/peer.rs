//! One connection: how far it has come, what the other side holds and wants, what is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use super::audience::Sampled;
use super::connection::{MESSAGES_BURST, MESSAGES_PER_S, WASTE_BURST, WASTE_PER_S};
use super::haves::Haves;
use super::rate::{Bucket, Meter};
use super::uplink::Path;
use crate::units::{BlockId, BlockNo, Epoch, Link, PeerId, PieceIndex, Seq, Time};
use crate::wire::extended::Ids;
use crate::wire::live::{Cover, HOPS_UNKNOWN, Offer, Reason};

/// Failures, broken promises and refusals are forgotten so long after the last one; a block makes
/// up for failures at once. A viewer asks for many stripes and blocks: with a short memory each of
/// them is tried in vain anew at all who keep back what they promise.
const MEMORY_US: u64 = 60_000_000;
/// What comes later than promised by less than this is as promised: an offer may be half a second
/// old.
const PROMISE_US: u64 = 100_000;
/// Whose blocks come later than that by so much on average says more than it can keep.
const BOAST_US: u64 = 100_000;
/// A subscription is judged when it has stood for so long.
const SETTLED_US: u64 = 1_000_000;
/// Unverified blocks of pieces without an entry that one peer may have us hold: two pieces.
pub const HELD_PIECES_MAX: usize = 2;
/// Blocks remembered as sent under a subscription, so that a late request is not served twice.
const SENT_MAX: usize = 256;

/// A peer whose queue did not move for this long takes nothing at present.
const STUCK_US: u64 = 250_000;
/// What is handed over is gone after so many times as long as our uplink needs for it, and this
/// long besides; else it is the peer that holds it up.
const DRAIN_TIMES: u64 = 2;
const DRAIN_US: u64 = 20_000;
/// Who said nothing for this long is not relied on.
const ALERT_US: u64 = 1_500_000;

/// Asks for its time that may be open, and for how long each.
const CLOCK_ASKS_MAX: usize = 4;
const CLOCK_ASK_US: u64 = 30_000_000;
/// A question for the time that is not answered so long is lost, not late.
const CLOCK_LATE_US: u64 = 5_000_000;
/// Blocks wait this long for their turn without anything being slow: pieces are published whole.
const JOB_US: u64 = 250_000;

/// Bytes of entries that a peer is sent on its asks: a window at once, then a few each second.
const RUN_BYTES_PER_S: u64 = 32 << 10;
const RUN_BYTES_BURST: u64 = 512 << 10;

/// A small offence is forgiven after this long.
const STRIKE_FORGIVEN_US: u64 = 5_000_000;

/// Entries that may be on their way to a peer at once; of more it is not taken to know.
const TOLD_LATELY_MAX: usize = 64;
/// A `have` that comes sooner than this after its entry went out may have crossed it on the way.
const CROSSING_US_MIN: u64 = 250_000;

/// Window messages that a peer may send in a second, and at once.
const WINDOWS_PER_S: u64 = 2;
const WINDOWS_BURST: u64 = 64;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for the 68 bytes.
    Handshake,
    /// Waiting for the extension handshake.
    Extended,
    /// Speaks our extension.
    Live,
    /// Does not: is served metadata until then.
    Foreign {
        /// When it is closed.
        close_at: Time,
    },
}

/// What a peer subscribed to and we granted.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Blocks that are sent as they verify; `None` for the feed's entries.
    pub cover: Option<Cover>,
    /// The epoch of the blocks.
    pub epoch: Epoch,
    /// The first block.
    pub first: BlockNo,
    /// The last block.
    pub last: BlockNo,
    /// Its credit id.
    pub credit: u32,
    /// Why it ends once that is sent; *done* if the subscriber chose the end, *full* if it is given
    /// up for another.
    pub reason: Reason,
}

impl Flow {
    /// What it still takes of the uplink when `next` is the next block to be published.
    pub fn open_cover(&self, next: BlockNo) -> Option<Cover> {
        self.cover.filter(|_| self.last >= next && self.reason != Reason::FULL)
    }
}

/// How far a subscription of ours has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// Sent; not answered yet.
    Asked,
    /// Granted.
    Active,
    /// We asked for its end, or the epoch is over; waits for `bl_end`.
    Ending,
}

/// What we subscribed to at a peer.
#[derive(Clone, Debug)]
pub struct Order {
    /// Stripe in our own count; `None` for the feed's entries.
    pub stripe: Option<u8>,
    /// What was asked for, then what was granted.
    pub cover: Cover,
    /// The epoch of the blocks.
    pub epoch: Epoch,
    /// Asked, granted or ending.
    pub state: OrderState,
    /// Whether a grant came, also one that we no longer want.
    pub granted: bool,
    /// Since when it is in that state.
    pub since: Time,
    /// The first block that it covers.
    pub first: BlockNo,
    /// The last one that is still wanted under it: without an end while it stands, 0 if nothing is.
    pub last: BlockNo,
    /// The source's number for the flow.
    pub credit: u32,
    /// Since when a block of it is due whose entry is here; `None` while nothing is due.
    pub due_since: Option<Time>,
    /// Average time from an entry's arrival to its block's under this order, microseconds.
    pub lag_us: Option<u64>,
    /// Blocks of it in a row that had to be asked for.
    pub missed: u32,
}

impl Order {
    /// Whether a block is to come under it.
    pub fn brings(&self, no: BlockNo) -> bool {
        self.stripe.is_some() && (self.first..=self.last).contains(&no) && self.cover.covers(no)
    }

    /// Whether blocks of an epoch are to come under it: it stands, or ends with a block to come.
    pub fn is_bringing(&self, epoch: Epoch) -> bool {
        let ends_later = self.state == OrderState::Ending && self.last >= self.first;
        let granted = self.state == OrderState::Active || ends_later;
        self.stripe.is_some() && self.epoch == epoch && granted
    }

    /// Whether a block that was asked for elsewhere at that time was to come under it already.
    pub fn is_due(&self, no: BlockNo, asked: Time) -> bool {
        self.state == OrderState::Active && self.brings(no) && self.since <= asked
    }

    /// Whether it has stood for long enough to be judged.
    pub fn is_settled(&self, now: Time) -> bool {
        self.state == OrderState::Active && now.since_us(self.since) > SETTLED_US
    }

    /// Notes that a block came under this order, so long after its entry.
    pub fn came(&mut self, lag_us: u64) {
        self.due_since = None;
        self.missed = 0;
        self.lag_us = Some(self.lag_us.map_or(lag_us, |old| (old * 7 + lag_us) / 8));
    }
}

/// A request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When it was sent.
    pub at: Time,
    /// Given up: another peer may be asked, but the answer may still come.
    pub stale: bool,
}

/// Something to send when the uplink has room: a block under a subscription or on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The block.
    pub block: BlockId,
    /// The subscription it goes under; `None` if it was requested.
    pub flow: Option<u8>,
    /// When it was queued.
    pub queued: Time,
}

/// A block whose entry is not here yet.
#[derive(Clone, Debug)]
pub struct HeldBlock {
    /// Which one it claims to be.
    pub block: BlockId,
    /// Its payload, unverified.
    pub payload: Bytes,
    /// When it came.
    pub at: Time,
}

/// A run of entries that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// When.
    pub at: Time,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its newest entry, or [`crate::wire::live::NEWEST`].
    pub index: PieceIndex,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    /// The driver's name for it.
    pub link: Link,
    /// The remote end of the connection.
    pub addr: SocketAddr,
    /// Where it listens, as far as known.
    pub listens: Option<SocketAddr>,
    /// Whether we opened it.
    pub dialled: bool,
    /// How far it has come.
    pub stage: Stage,
    /// When it opened.
    pub up_at: Time,
    /// The name it gave itself.
    pub id: PeerId,
    /// Whether it speaks BEP 6.
    pub fast: bool,
    /// Under which numbers it wants our extension messages.
    pub ids: Ids,
    /// Length of the `info` dictionary that it says it has.
    pub metadata_size: Option<usize>,

    /// The epoch it declared; 0 before it did.
    pub epoch: Epoch,
    /// Whether its window message came.
    pub window_seen: bool,
    /// The pieces it holds in that epoch.
    pub haves: Haves,
    /// The birth time that it keeps, microseconds; 0 if it does not say.
    pub kept_us: u64,
    /// What lies below it no longer keeps.
    pub gone_below: PieceIndex,
    /// Its distance from the source.
    pub hops: u8,
    /// Why it stalls.
    pub reason: Reason,
    /// The highest entry that it showed us.
    pub shown: Option<Seq>,
    /// It declared an epoch above our head; its entry must come until then.
    pub claim_until: Time,

    /// Whether it chokes us.
    pub chokes_us: bool,
    /// Whether we told it that we are interested.
    pub we_want: bool,
    /// Whether we choke it.
    pub choked: bool,
    /// Whether it is interested.
    pub wants: bool,

    /// Bytes handed to the driver that have not left yet.
    pub queued: usize,
    /// When they last became fewer, or began to be some.
    pub moved_at: Time,
    /// Until when our uplink may need for what is queued.
    pub drains_by: Time,
    /// It was still there after that, last time.
    pub is_slow: bool,
    /// When anything last came.
    pub last_in: Time,
    /// When we last sent anything.
    pub last_out: Time,

    /// Our requests.
    pub asked: BTreeMap<BlockId, Asked>,
    /// Our subscriptions.
    pub orders: BTreeMap<u8, Order>,
    /// Its subscriptions.
    pub flows: BTreeMap<u8, Flow>,
    /// What waits to be sent: subscribed blocks by number, then requested ones by arrival.
    pub jobs: BTreeMap<(u8, u64), Job>,
    /// Number of the last requested job.
    pub job_seq: u64,
    sent: VecDeque<BlockId>,
    /// Pieces of the present epoch whose entries it showed us.
    showed: Haves,
    /// Pieces of the present epoch whose entries it was sent.
    told: Haves,
    /// Those of which it may not know yet, and when they were sent.
    told_lately: VecDeque<(PieceIndex, Time)>,
    /// Pieces of which it sent a bad block and whose entry it has yet to show.
    pub accused: BTreeSet<PieceIndex>,
    /// It had no room for a request: it is not asked again before.
    pub busy_until: Time,
    /// Requests that were not answered and subscriptions that fell silent since a block came, and
    /// when the last of them did.
    failed: (u8, Time),
    /// How much later than it promised its blocks come, on average, microseconds, and when that
    /// was last seen.
    excess: (u64, Time),
    /// How often it refused lately what it had offered, and when it did last.
    reneged: (u8, Time),
    /// Its blocks without entries.
    pub held: Vec<HeldBlock>,
    /// Our asks for runs.
    pub runs: BTreeMap<u8, Run>,

    /// Verified payload from it.
    pub down: Meter,
    /// Payload to it.
    pub up: Meter,
    /// Average of have's arrival minus its entry's publication, microseconds of stream time.
    pub have_lag_us: Option<u64>,
    /// Last round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// How long the way to it takes.
    pub path: Path,
    /// The shortest one, microseconds.
    pub rtt_min_us: Option<u64>,
    /// What it says that a subscription would bring.
    pub offer: Option<Offer>,
    /// Its clock minus ours, microseconds.
    pub clock_offset_us: Option<i64>,
    /// When its clock was last asked.
    pub clock_at: Time,
    /// What we said our time was in asks that are not answered yet, and when.
    pub clock_asks: VecDeque<(u64, Time)>,
    /// When peer exchange last went to it, and what it said.
    pub pex_at: Option<Time>,
    /// Addresses named in peer exchange with it.
    pub pex_told: Vec<SocketAddr>,
    /// When its last peer exchange came.
    pub pex_in_at: Option<Time>,
    /// Entries that came before we could check them.
    pub early_entries: Vec<Bytes>,
    /// Last piece of metadata asked of it, and when.
    pub metadata_asked: Option<(u32, Time)>,
    /// Pieces of metadata served to it.
    pub metadata_served: u32,
    /// Small offences that a race can explain; many of them cannot be.
    pub strikes: u32,
    /// Until when strikes have been forgiven.
    pub strikes_at: Time,
    /// Asks for runs and clocks answered in the present second, and the second's start.
    pub answers: (Time, u32),
    /// What it may still be sent in answers to asks for runs.
    pub run_bytes: Bucket,
    /// When it was last told what came under which credit id.
    pub reported_at: Option<Time>,
    /// How the stream comes to it, if we asked.
    pub sampled: Sampled,
    /// Messages that it may still send.
    pub messages: Bucket,
    /// Window messages that it may still send.
    pub windows: Bucket,
    /// Bytes of blocks of no use that it may still send.
    pub waste: Bucket,
}

impl Peer {
    /// A connection that has just opened.
    #[must_use]
    pub fn new(link: Link, addr: SocketAddr, dialled: bool, now: Time) -> Self {
        Self {
            link,
            addr,
            listens: dialled.then_some(addr),
            dialled,
            stage: Stage::Handshake,
            up_at: now,
            id: PeerId::default(),
            fast: false,
            ids: Ids::default(),
            metadata_size: None,
            epoch: Epoch(0),
            window_seen: false,
            haves: Haves::default(),
            kept_us: 0,
            gone_below: PieceIndex(0),
            hops: HOPS_UNKNOWN,
            reason: Reason::NONE,
            shown: None,
            claim_until: Time::NEVER,
            chokes_us: true,
            we_want: false,
            choked: true,
            wants: false,
            queued: 0,
            moved_at: now,
            drains_by: now,
            is_slow: false,
            last_in: now,
            last_out: now,
            asked: BTreeMap::new(),
            orders: BTreeMap::new(),
            flows: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_seq: 0,
            sent: VecDeque::new(),
            busy_until: Time::ZERO,
            failed: (0, Time::ZERO),
            excess: (0, Time::ZERO),
            reneged: (0, Time::ZERO),
            showed: Haves::default(),
            told: Haves::default(),
            told_lately: VecDeque::new(),
            accused: BTreeSet::new(),
            held: Vec::new(),
            runs: BTreeMap::new(),
            down: Meter::default(),
            up: Meter::default(),
            have_lag_us: None,
            rtt_us: None,
            path: Path::default(),
            rtt_min_us: None,
            offer: None,
            clock_offset_us: None,
            clock_at: Time::ZERO,
            clock_asks: VecDeque::new(),
            pex_at: None,
            pex_told: Vec::new(),
            pex_in_at: None,
            early_entries: Vec::new(),
            metadata_asked: None,
            metadata_served: 0,
            strikes: 0,
            strikes_at: now,
            answers: (Time::ZERO, 0),
            run_bytes: Bucket::new(RUN_BYTES_PER_S, RUN_BYTES_BURST, now),
            reported_at: None,
            sampled: Sampled::default(),
            messages: Bucket::new(MESSAGES_PER_S, MESSAGES_BURST, now),
            windows: Bucket::new(WINDOWS_PER_S, WINDOWS_BURST, now),
            waste: Bucket::new(WASTE_PER_S, WASTE_BURST, now),
        }
    }

    /// Its subscriptions to blocks that take of the uplink when `next` is the next block.
    #[must_use]
    pub fn flows_open(&self, next: BlockNo) -> usize {
        self.flows.values().filter_map(|flow| flow.open_cover(next)).count()
    }

    /// Whether it speaks our extension.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Bytes handed to the driver that wait for our uplink. Those that are still there long after
    /// it had time for them wait for the peer, which does not read or is badly connected: they do
    /// not count, or one such peer would hold up all others.
    #[must_use]
    pub fn moving(&self, now: Time) -> usize {
        if self.is_slow || now > self.drains_by { 0 } else { self.queued }
    }

    /// Notes that bytes are handed over for which our uplink needs `takes_us`.
    pub fn note_queued(&mut self, bytes: usize, takes_us: u64, now: Time) {
        if self.queued == 0 {
            self.moved_at = now;
        } else {
            self.is_slow |= now > self.drains_by;
        }
        self.queued += bytes;
        let from = self.drains_by.max(now.after_us(DRAIN_US));
        self.drains_by = from.after_us(DRAIN_TIMES * takes_us);
    }

    /// Whether it takes nothing of what it is sent.
    #[must_use]
    pub fn is_stuck(&self, now: Time) -> bool {
        self.queued > 0 && now.since_us(self.moved_at) >= STUCK_US
    }

    /// Whether it has said something lately, as everybody does who takes part in a live stream.
    #[must_use]
    pub fn is_alert(&self, now: Time) -> bool {
        now.since_us(self.last_in) < ALERT_US
    }

    /// Whether it says that it holds a piece of `epoch`.
    #[must_use]
    pub fn holds(&self, seq: Seq) -> bool {
        self.epoch == seq.epoch && self.haves.has(seq.index)
    }

    /// Requests that are neither answered nor given up.
    #[must_use]
    pub fn requests_open(&self) -> usize {
        self.asked.values().filter(|a| !a.stale).count()
    }

    /// A number for a new subscription of ours.
    #[must_use]
    pub fn free_order_id(&self) -> Option<u8> {
        (0..crate::wire::limits::SUBSCRIPTIONS_MAX as u8).find(|id| !self.orders.contains_key(id))
    }

    /// A number for a new run.
    #[must_use]
    pub fn free_run_id(&self) -> Option<u8> {
        (0..crate::wire::limits::RUNS_MAX as u8).find(|id| !self.runs.contains_key(id))
    }

    /// Whether a subscription of ours, asked, granted or ending, covers this block.
    #[must_use]
    pub fn ordered(&self, block: BlockNo) -> bool {
        self.orders.values().any(|o| o.stripe.is_some() && o.cover.covers(block))
    }

    /// Notes that a block went out under a subscription.
    pub fn note_sent(&mut self, block: BlockId) {
        if self.sent.len() >= SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(block);
    }

    /// Whether a block went out under a subscription lately.
    #[must_use]
    pub fn was_sent(&self, block: BlockId) -> bool {
        self.sent.contains(&block)
    }

    /// Notes that it showed us an entry. True if it is accused of a bad block of that piece.
    pub fn note_showed(&mut self, index: PieceIndex) -> bool {
        self.showed.insert(index);
        self.accused.contains(&index)
    }

    /// Whether it showed us the entry of this piece lately.
    #[must_use]
    pub fn showed(&self, index: PieceIndex) -> bool {
        self.showed.has(index)
    }

    /// Forgets what an epoch's end makes void: requests, subscriptions to blocks, what was sent.
    pub fn forget_epoch(&mut self) {
        self.asked.clear();
        self.jobs.clear();
        self.sent.clear();
        self.flows.retain(|_, flow| flow.cover.is_none());
        self.held.clear();
        self.accused.clear();
    }

    /// Notes that it was sent an entry.
    pub fn note_told(&mut self, index: PieceIndex, now: Time) {
        let crossing = self.crossing_us();
        while let Some((index, at)) = self.told_lately.front().copied() {
            if now.since_us(at) <= crossing {
                break;
            }
            self.told_lately.pop_front();
            self.told.insert(index);
        }
        let lately = || self.told_lately.iter().any(|(told, _)| *told == index);
        if self.told.has(index) || self.told_lately.len() >= TOLD_LATELY_MAX || lately() {
            return;
        }
        self.told_lately.push_back((index, now));
    }

    /// Within this time what was sent to it and what it says may cross on the way.
    fn crossing_us(&self) -> u64 {
        CROSSING_US_MIN.max(2 * self.rtt_us.unwrap_or(CROSSING_US_MIN))
    }

    /// Whether it was sent the entry of this piece so long ago that it speaks of the piece
    /// knowing it.
    #[must_use]
    pub fn was_told(&self, index: PieceIndex, now: Time) -> bool {
        let crossing = self.crossing_us();
        let lately = |(told, at): &(_, _)| *told == index && now.since_us(*at) > crossing;
        self.told.has(index) || self.told_lately.iter().any(lately)
    }

    /// Forgets which entries it showed us and was sent, when we enter another epoch.
    pub fn forget_shown(&mut self) {
        self.showed.clear();
        self.told.clear();
        self.told_lately.clear();
    }

    /// Forgets what it said of pieces below `index` and was told of them.
    pub fn forget_below(&mut self, index: PieceIndex) {
        self.haves.forget_below(index);
        self.showed.forget_below(index);
        self.told.forget_below(index);
        self.accused = self.accused.split_off(&index);
    }

    /// Notes a request that was not answered, or a subscription that fell silent.
    pub fn note_failure(&mut self, now: Time) {
        self.failed = (self.failures(now).saturating_add(1), now);
    }

    /// Notes that a block came.
    pub fn note_success(&mut self) {
        self.failed.0 = 0;
    }

    /// How often it failed lately without a block between.
    #[must_use]
    pub fn failures(&self, now: Time) -> u8 {
        let (count, at) = self.failed;
        if now.since_us(at) < MEMORY_US { count } else { 0 }
    }

    /// Notes that a block came after `lag_us`, where it had promised `promised_us`.
    pub fn note_promise(&mut self, promised_us: u64, lag_us: u64, now: Time) {
        let over = lag_us.saturating_sub(promised_us + PROMISE_US);
        self.excess = ((self.excess_us(now) * 7 + over) / 8, now);
    }

    /// How much later than it promises its blocks came in the last minute, microseconds.
    #[must_use]
    pub fn excess_us(&self, now: Time) -> u64 {
        let (excess, at) = self.excess;
        if now.since_us(at) < MEMORY_US { excess } else { 0 }
    }

    /// Notes that it refused what it had offered, or granted it.
    pub fn note_answer(&mut self, granted: bool, now: Time) {
        let before = self.reneged(now);
        let count = if granted { before / 2 } else { before.saturating_add(1) };
        self.reneged = (count, now);
    }

    /// How often it refused in the last minute what it had offered, half as often after each grant.
    #[must_use]
    pub fn reneged(&self, now: Time) -> u8 {
        let (count, at) = self.reneged;
        if now.since_us(at) < MEMORY_US { count } else { 0 }
    }

    /// Whether what it promises comes late, so that nothing else that it says of itself counts.
    #[must_use]
    pub fn is_boasting(&self, now: Time) -> bool {
        self.excess_us(now) > BOAST_US
    }

    /// Whether it gets blocks by subscription.
    #[must_use]
    pub fn is_fed(&self) -> bool {
        self.flows.values().any(|flow| flow.cover.is_some())
    }

    /// By how much longer than at best what is sent to it takes, in microseconds, if that is known:
    /// on its way, or waiting here because the socket takes no more.
    #[must_use]
    pub fn rise_us(&self, now: Time) -> Option<u64> {
        let asked = self.clock_asks.front().map(|(_, at)| now.since_us(*at));
        let rise = self.path.rise_us(now, asked.filter(|us| *us < CLOCK_LATE_US))?;
        let full = self.queued >= super::downstream::LINK_AHEAD;
        let waiting = self.jobs.values().map(|job| now.since_us(job.queued)).max();
        let waits = waiting.filter(|_| full).map_or(0, |us| us.saturating_sub(JOB_US));
        Some(rise.max(waits))
    }

    /// Whether a question for its time is on its way.
    #[must_use]
    pub fn is_asked_clock(&self, now: Time) -> bool {
        self.clock_asks.back().is_some_and(|(_, at)| now.since_us(*at) < CLOCK_LATE_US)
    }

    /// Notes an ask for its time.
    pub fn note_clock_ask(&mut self, mine_us: u64, now: Time) {
        if self.clock_asks.len() >= CLOCK_ASKS_MAX {
            self.clock_asks.pop_front();
        }
        self.clock_asks.push_back((mine_us, now));
        self.clock_at = now;
    }

    /// Whether an answer belongs to an ask of the last 30 s; an ask is answered once.
    pub fn answers_clock_ask(&mut self, yours_us: u64, now: Time) -> bool {
        self.clock_asks.retain(|(_, at)| now.since_us(*at) <= CLOCK_ASK_US);
        let found = self.clock_asks.iter().position(|(mine, _)| *mine == yours_us);
        found.and_then(|at| self.clock_asks.remove(at)).is_some()
    }

    /// Notes a small offence; returns how many stand. One is forgiven every five seconds: over
    /// hours races add up, an attack is quicker.
    pub fn strike(&mut self, now: Time) -> u32 {
        let forgiven = now.since_us(self.strikes_at) / STRIKE_FORGIVEN_US;
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        if forgiven > 0 {
            self.strikes = self.strikes.saturating_sub(forgiven);
            self.strikes_at = now;
        }
        self.strikes += 1;
        self.strikes
    }

    /// Whether one more answer fits into what a peer may have of us in a second.
    pub fn may_answer(&mut self, now: Time, per_second: u32) -> bool {
        if now.since_us(self.answers.0) >= 1_000_000 {
            self.answers = (now, 0);
        }
        self.answers.1 += 1;
        self.answers.1 <= per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    fn peer() -> Peer {
        Peer::new(Link(1), SocketAddr::from(([203, 0, 113, 1], 6881)), true, Time::ZERO)
    }

    #[test]
    fn an_order_is_not_blamed_for_what_was_asked_for_before_it_was_granted() {
        let order = |state| Order {
            stripe: Some(0),
            cover: Cover { k: 8, stripes: 1, part: 0xff },
            epoch: Epoch(1),
            state,
            granted: true,
            since: Time(5),
            first: BlockNo(8),
            last: BlockNo(u64::MAX),
            credit: 0,
            due_since: None,
            lag_us: None,
            missed: 0,
        };
        let due = |state, no, asked| order(state).is_due(BlockNo(no), Time(asked));
        assert!(due(OrderState::Active, 16, 5));
        assert!(!due(OrderState::Active, 16, 4), "asked before");
        assert!(!due(OrderState::Active, 17, 5), "another stripe");
        assert!(!due(OrderState::Active, 0, 5), "before its first block");
        assert!(!due(OrderState::Ending, 16, 5), "given up");
    }

    #[test]
    fn who_brings_later_than_promised_counts_by_that_for_a_minute() {
        let (mut peer, now) = (peer(), Time(1));
        for _ in 0..100 {
            peer.note_promise(300 * MS, 390 * MS, now);
        }
        assert_eq!((peer.excess_us(now), peer.is_boasting(now)), (0, false), "as promised");
        peer.note_promise(MS, 901 * MS, now);
        assert_eq!((peer.excess_us(now), peer.is_boasting(now)), (100 * MS, false), "once");
        for _ in 0..100 {
            peer.note_promise(MS, 901 * MS, now);
        }
        assert!(peer.is_boasting(now) && peer.excess_us(now).abs_diff(800 * MS) < MS);
        assert!(peer.is_boasting(now.after_us(59_000_000)));
        assert!(!peer.is_boasting(now.after_us(60_000_000)));
    }

    #[test]
    fn who_keeps_promises_again_is_believed_again() {
        let (mut peer, now) = (peer(), Time(1));
        for _ in 0..100 {
            peer.note_promise(MS, 901 * MS, now);
        }
        let blocks = (1..).find(|_| {
            peer.note_promise(MS, MS, now);
            !peer.is_boasting(now)
        });
        assert_eq!(blocks, Some(16));
    }

    #[test]
    fn refusals_of_what_was_offered_count_until_a_grant_and_for_a_minute() {
        let (mut peer, now) = (peer(), Time(1));
        for _ in 0..4 {
            peer.note_answer(false, now);
        }
        assert_eq!(peer.reneged(now), 4);
        peer.note_answer(true, now);
        assert_eq!(peer.reneged(now), 2);
        assert_eq!(peer.reneged(now.after_us(60_000_000)), 0);
        for _ in 0..300 {
            peer.note_answer(false, now);
        }
        assert_eq!(peer.reneged(now), 255, "bounded");
    }
}
