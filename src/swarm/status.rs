//! How a swarm fares: counters, lags, and why it stalls if it does.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Swarm;
use super::audience::{Audience, spread};
use super::io::ReaderId;
use super::peer::OrderState;
use crate::live::reader::{Played, Reader};
use crate::units::{Epoch, Now, PieceIndex, Seq, Time, UnixUs};
use crate::wire::live::{Reason, UNKNOWN, VIEW_LAGS};

/// Lags are kept for this long.
const LAG_WINDOW_US: u64 = 60_000_000;
/// And at most this many of a kind.
const LAGS_MAX: usize = 16_384;
/// A stream whose head is older than this is not live.
const STALE_US: u64 = 60_000_000;
/// Another clock agrees with ours if it is no further away.
const CLOCK_AGREES_US: u64 = 3_600_000_000;
/// Without a new entry for this long a stream stalls.
const SILENT_US: u64 = 3_000_000;

/// Bytes and pieces since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) up_bytes: u64,
    pub(super) up_payload: u64,
    pub(super) down_bytes: u64,
    pub(super) from_source: u64,
    pub(super) from_peers: u64,
    pub(super) duplicate: u64,
    pub(super) dropped: u64,
    pub(super) stream_bytes: u64,
    pub(super) pieces_verified: u64,
    pub(super) pieces_bad: u64,
}

/// Percentiles of a lag, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: f64,
    /// Nine of ten are below.
    pub p90: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Of values in microseconds, in any order; nearest rank. `None` of none.
    #[must_use]
    pub fn of_us(mut values: Vec<i64>) -> Option<Self> {
        values.sort_unstable();
        let last = values.len().checked_sub(1)?;
        let at = |p: usize| {
            let rank = (values.len() * p).div_ceil(100).saturating_sub(1);
            values.get(rank.min(last)).map_or(0.0, |us| *us as f64 / 1000.0)
        };
        Some(Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

/// Lags of the last minute, of what was published since we listen: what was fetched of the time
/// before says when we came, not how late the swarm is.
#[derive(Debug, Default)]
pub(super) struct Lags {
    /// Publication of the first head that we saw.
    since: Option<UnixUs>,
    blocks: VecDeque<(Time, i64)>,
    pieces: VecDeque<(Time, i64)>,
}

impl Lags {
    /// Notes a new head's publication.
    pub(super) fn head(&mut self, published: UnixUs) {
        self.since.get_or_insert(published);
    }

    pub(super) fn block(&mut self, now: Now, offset_us: i64, published: UnixUs) {
        if self.is_since(published) {
            note(&mut self.blocks, now.mono, now.wall.minus(published).saturating_add(offset_us));
        }
    }

    /// The blocks' lags of the last minute in milliseconds, as views tell them.
    pub(super) fn spread_ms(&self, now: Time) -> [u16; VIEW_LAGS] {
        let fresh = self.blocks.iter().filter(|(at, _)| now.since_us(*at) <= LAG_WINDOW_US);
        let ms = |us: i64| u16::try_from((us / 1000).clamp(0, i64::from(UNKNOWN - 1)));
        spread(fresh.filter_map(|(_, lag)| ms(*lag).ok()).collect())
    }

    /// Whether what was published then is of the time since we listen.
    pub(super) fn is_since(&self, published: UnixUs) -> bool {
        self.since.is_some_and(|since| published > since)
    }

    pub(super) fn piece(&mut self, now: Now, offset_us: i64, published: UnixUs) {
        if self.is_since(published) {
            note(&mut self.pieces, now.mono, now.wall.minus(published).saturating_add(offset_us));
        }
    }
}

/// Two readers' figures as one.
fn together(a: Played, b: &Played) -> Played {
    Played {
        pieces: a.pieces + b.pieces,
        missed: a.missed + b.missed,
        first_at: a.first_at.into_iter().chain(b.first_at).min(),
        stalls: a.stalls + b.stalls,
        stalled_us: a.stalled_us + b.stalled_us,
        delay_us: a.delay_us.max(b.delay_us),
    }
}

fn note(lags: &mut VecDeque<(Time, i64)>, now: Time, lag: i64) {
    lags.push_back((now, lag));
    while lags.len() > LAGS_MAX
        || lags.front().is_some_and(|(at, _)| now.since_us(*at) > LAG_WINDOW_US)
    {
        lags.pop_front();
    }
}

/// What the stream is like at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No entry has been seen.
    Joining,
    /// Entries are here; the first piece has not been handed over.
    Buffering,
    /// The head advances and is recent.
    Live,
    /// The head is old by our clock: an old broadcast, or the clock is wrong.
    Stale,
    /// Nothing comes.
    Stalled,
    /// The broadcaster ended it.
    Ended,
    /// The broadcaster withdrew it.
    Withdrawn,
}

impl Condition {
    /// The word for it in the status document.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Buffering => "buffering",
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Stalled => "stalled",
            Self::Ended => "ended",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A snapshot of a swarm.
#[derive(Clone, Debug)]
pub struct Status {
    /// What the stream is like.
    pub condition: Condition,
    /// Why, if it stalls or is stale; at a source why its viewers stall, if it knows.
    pub reason: Reason,
    /// What the swarm uploads over what it needs, as far as we can tell.
    pub resource_index: Option<f64>,
    /// The viewers, at a source that publishes.
    pub audience: Option<Audience>,
    /// The highest entry.
    pub head: Option<Seq>,
    /// The lowest piece held.
    pub first: Option<PieceIndex>,
    /// Microseconds of the stream that are kept.
    pub window_us: u64,
    /// The present epoch.
    pub epoch: Epoch,
    /// Pieces verified whole.
    pub pieces_verified: u64,
    /// Blocks that failed their hash.
    pub pieces_bad: u64,
    /// What became of all readers together.
    pub played: Played,
    /// The longest delay that a reader aims at, in microseconds.
    pub aim_us: Option<u64>,
    /// Publication of an entry to its last block here; last minute.
    pub lag_ms: Option<Percentiles>,
    /// Publication of an entry to each block here; last minute.
    pub block_lag_ms: Option<Percentiles>,
    /// Age of the head by our own clock, in microseconds.
    pub head_age_us: Option<i64>,
    /// Others' clocks minus ours, in microseconds: the median.
    pub clock_offset_us: i64,
    /// Whether at least three peers agree on it within a second.
    pub clock_ok: bool,
    /// Payload received and verified, from the source and from others.
    pub from_source: u64,
    /// Payload from peers that are not the source.
    pub from_peers: u64,
    /// Payload that was here already.
    pub duplicate: u64,
    /// Payload sent.
    pub up_payload: u64,
    /// All bytes sent.
    pub up_bytes: u64,
    /// All bytes received.
    pub down_bytes: u64,
    /// Payload published (source).
    pub stream_bytes: u64,
    /// Bytes per second of the stream.
    pub stream_rate: u64,
    /// Bytes per second that may be sent, as the user says or the line showed.
    pub upload_limit: Option<u64>,
    /// Bytes per second that the line sent when it was full, if it was learnt.
    pub upload_measured: Option<u64>,
    /// Bytes per second that subscriptions may take.
    pub flow_budget: u64,
    /// Peers that speak our extension.
    pub connected: usize,
    /// Peers that send to us by subscription.
    pub downloading_from: usize,
    /// Peers that we send to by subscription.
    pub uploading_to: usize,
    /// Peers banned.
    pub banned: usize,
    /// Addresses known.
    pub known: usize,
    /// Payload in memory.
    pub stored: usize,
}

impl Swarm {
    /// A snapshot.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let feed = self.core.as_ref().map(|core| &core.feed);
        let highest = feed.and_then(|f| f.highest()).map(|g| g.entry.head);
        let condition = self.condition(now);
        let live = || self.peers.values().filter(|p| p.is_live());
        let sends_to_us = |p: &&super::peer::Peer| {
            p.orders.values().any(|o| o.stripe.is_some() && o.state == OrderState::Active)
        };
        let (clock_offset_us, clock_ok) = self.clock_consensus();
        let lag = |l: &VecDeque<(Time, i64)>| {
            let fresh = l.iter().filter(|(at, _)| now.mono.since_us(*at) <= LAG_WINDOW_US);
            Percentiles::of_us(fresh.map(|(_, lag)| *lag).collect())
        };
        Status {
            condition,
            reason: self.reason_told(condition),
            resource_index: self.resource_index(),
            audience: self.audience(),
            head: feed.and_then(|f| f.head()),
            first: self.core.as_ref().and_then(|c| c.store.first()).map(|s| s.index),
            window_us: self.window_us().unwrap_or(0),
            epoch: self.epoch(),
            pieces_verified: self.totals.pieces_verified,
            pieces_bad: self.totals.pieces_bad,
            played: self.played(),
            aim_us: self.readers.values().map(Reader::target_us).max(),
            lag_ms: lag(&self.lags.pieces),
            block_lag_ms: lag(&self.lags.blocks),
            head_age_us: highest.map(|h| now.wall.minus(h.published())),
            clock_offset_us,
            clock_ok,
            from_source: self.totals.from_source,
            from_peers: self.totals.from_peers,
            duplicate: self.totals.duplicate,
            up_payload: self.totals.up_payload,
            up_bytes: self.totals.up_bytes,
            down_bytes: self.totals.down_bytes,
            stream_bytes: self.totals.stream_bytes,
            stream_rate: self.stream_rate(),
            upload_limit: self.config.upload_limit.or_else(|| self.upload_limit()),
            upload_measured: self.uplink.measured(),
            flow_budget: self.flow_budget(),
            connected: live().count(),
            downloading_from: live().filter(sends_to_us).count(),
            uploading_to: live().filter(|p| p.flows.values().any(|f| f.cover.is_some())).count(),
            banned: self.roster.banned(now.mono),
            known: self.roster.len(),
            stored: self.core.as_ref().map_or(0, |c| c.store.bytes()),
        }
    }

    /// What the stream is like and why: of [`Self::status`] what costs nothing.
    #[must_use]
    pub fn diagnosis(&self, now: Now) -> (Condition, Reason) {
        let condition = self.condition(now);
        (condition, self.reason_told(condition))
    }

    /// Why we stall, or at a source why its viewers do.
    fn reason_told(&self, condition: Condition) -> Reason {
        if condition == Condition::Live && self.starves_viewers() {
            return Reason::UNSUSTAINABLE;
        }
        self.reason_for(condition)
    }

    /// How much of the stream is kept: from the first piece's birth to the head's publication.
    fn window_us(&self) -> Option<u64> {
        let core = self.core.as_ref()?;
        let first = core.feed.get(core.store.first()?.index)?;
        let head = core.feed.get(core.feed.head()?.index)?;
        u64::try_from(head.entry.head.published().minus(first.entry.head.birth)).ok()
    }

    /// What the stream is like.
    fn condition(&self, now: Now) -> Condition {
        use crate::wire::feed::Flags;
        let Some(head) = self.core.as_ref().and_then(|c| c.feed.highest()).map(|g| g.entry.head)
        else {
            return Condition::Joining;
        };
        if head.flags.has(Flags::WITHDRAWN) {
            return Condition::Withdrawn;
        }
        if head.flags.has(Flags::END) {
            return Condition::Ended;
        }
        let silent = now.mono.since_us(self.last_entry_at) > SILENT_US;
        if silent && !self.is_publishing() {
            return Condition::Stalled;
        }
        // By our own clock: what others say of the time never makes a stream live.
        if now.wall.minus(head.published()).unsigned_abs() > STALE_US {
            return Condition::Stale;
        }
        let waiting = self.readers.values().any(|r| r.played().first_at.is_none());
        if !self.readers.is_empty() && waiting {
            return Condition::Buffering;
        }
        let idle = head.flags.has(Flags::IDLE);
        let starved = self.readers.values().any(|r| r.waits_since().is_some());
        if starved || idle { Condition::Stalled } else { Condition::Live }
    }

    fn reason_for(&self, condition: Condition) -> Reason {
        use crate::wire::feed::Flags;
        match condition {
            Condition::Stale => {
                let head = self.core.as_ref().and_then(|c| c.feed.highest());
                let (offset, agreed) = self.clock_consensus();
                let age = head.map_or(i64::MAX, |g| self.now.wall.minus(g.entry.head.published()));
                let by_others = age.saturating_add(offset);
                let recent = agreed && by_others.unsigned_abs() <= STALE_US;
                if recent { Reason::OWN_CLOCK } else { Reason::REPLAY }
            }
            Condition::Stalled => {
                let highest = self.core.as_ref().and_then(|c| c.feed.highest());
                let idle = highest.is_some_and(|g| g.entry.head.flags.has(Flags::IDLE));
                let upstream = self
                    .peers
                    .values()
                    .any(|p| p.orders.values().any(|o| o.state == OrderState::Active));
                let silent = self.now.mono.since_us(self.last_entry_at) > SILENT_US;
                if idle || (upstream && silent) {
                    Reason::SOURCE_GAP
                } else if !silent && self.is_unsustainable() {
                    Reason::UNSUSTAINABLE
                } else if !upstream {
                    Reason::NO_UPSTREAM
                } else {
                    Reason::SLOW_UPSTREAM
                }
            }
            _ => Reason::NONE,
        }
    }

    /// Why we stall, as others are told.
    pub(super) fn stall_reason(&self) -> Reason {
        self.reason_for(self.condition(self.now))
    }

    fn played(&self) -> Played {
        self.readers.values().map(Reader::played).fold(self.played_before, together)
    }

    /// What a reader who goes has played still counts.
    pub(super) fn remove_reader(&mut self, id: ReaderId) {
        if let Some(reader) = self.readers.remove(&id) {
            self.played_before = together(self.played_before, reader.played());
        }
    }

    /// Others' clocks minus ours: the median over peers, one vote a network.
    pub(super) fn clock_offset_us(&self) -> i64 {
        self.clock_offset_us
    }

    /// Asks anew what time it is for others.
    pub(super) fn note_clocks(&mut self) {
        self.clock_offset_us = self.clock_consensus().0;
    }

    /// The highest epoch that is believed, if enough others have the same time as we: otherwise
    /// nobody knows whose clock is wrong (`specs/feed.md`, section Epochs).
    pub(super) fn epoch_max(&self) -> Option<Epoch> {
        let agrees = |p: &&super::peer::Peer| {
            p.clock_offset_us.is_some_and(|us| us.unsigned_abs() <= CLOCK_AGREES_US)
        };
        let votes = || self.peers.values().filter(agrees);
        let mut networks: Vec<u64> = votes().map(|p| network(p.addr.ip(), p.link.0)).collect();
        networks.sort_unstable();
        networks.dedup();
        let trusted = votes().count() >= 3 && networks.len() >= 2;
        let second = self.now.wall.secs().saturating_add(crate::live::EPOCH_AHEAD_MAX_S);
        trusted.then(|| Epoch((second.min(u64::MAX >> 20) << 20) | ((1 << 20) - 1)))
    }

    fn clock_consensus(&self) -> (i64, bool) {
        let mut votes: Vec<(u64, i64)> = self
            .peers
            .values()
            .filter_map(|p| Some((network(p.addr.ip(), p.link.0), p.clock_offset_us?)))
            .collect();
        votes.sort_unstable();
        votes.dedup_by_key(|(net, _)| *net);
        let mut offsets: Vec<i64> = votes.into_iter().map(|(_, offset)| offset).collect();
        offsets.sort_unstable();
        let median = offsets.get(offsets.len() / 2).copied().unwrap_or(0);
        let spread = match (offsets.first(), offsets.last()) {
            (Some(a), Some(b)) => b.saturating_sub(*a),
            _ => i64::MAX,
        };
        (median, offsets.len() >= 3 && spread <= 1_000_000)
    }
}

/// The network an address votes with: its /16 or /32, or alone on this machine or network.
fn network(ip: IpAddr, link: u64) -> u64 {
    const ALONE: u64 = 1 << 63;
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_private() => ALONE | link,
        IpAddr::V4(v4) => u64::from(u32::from(v4) >> 16),
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unique_local() => ALONE | link,
        IpAddr::V6(v6) => 1 << 40 | (u128::from(v6) >> 96) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let p = Percentiles::of_us((1..=100).rev().map(|ms| ms * 1000).collect()).expect("some");
        assert_eq!((p.p50, p.p90, p.p99, p.max), (50.0, 90.0, 99.0, 100.0));
        assert_eq!(Percentiles::of_us(Vec::new()), None);
    }

    #[test]
    fn one_network_has_one_vote_but_neighbours_have_one_each() {
        let net = |ip: &str, link| network(ip.parse().expect("address"), link);
        assert_eq!(net("203.0.113.1", 1), net("203.0.9.9", 2));
        assert_ne!(net("203.0.113.1", 1), net("203.1.113.1", 1));
        assert_ne!(net("127.0.0.1", 1), net("127.0.0.1", 2));
    }
}
