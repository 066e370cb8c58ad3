//! Counting: how long blocks and pieces took, what arrived in time, when viewers started.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::group::{Group, Groups};
use crate::units::{BLOCK_LEN, Epoch, Seq, Time};

/// Pieces of one viewer that are partly verified, at most; the oldest go first.
const PARTIAL_MAX: usize = 64;
/// Buckets of a histogram for each doubling, as a power of two (precision 0.8 %).
const FINE: u32 = 7;

/// Times in microseconds, counted in buckets of equal relative width.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, us: u64) {
        let bucket = Self::bucket(us);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    fn bucket(us: u64) -> usize {
        let shift = (64 - FINE - 1).saturating_sub(us.leading_zeros());
        ((u64::from(shift) << FINE) + (us >> shift)) as usize
    }

    /// The middle of a bucket.
    fn middle_us(bucket: usize) -> f64 {
        let shift = (bucket >> FINE).saturating_sub(1);
        let fine = bucket - (shift << FINE);
        ((fine << shift) as f64) + ((1u64 << shift) as f64 - 1.0) / 2.0
    }

    /// The time below which `share` of all lie, in milliseconds; 0 if there are none.
    fn quantile_ms(&self, share: f64) -> f64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return rounded(Self::middle_us(bucket).min(self.max_us as f64) / 1000.0);
            }
        }
        0.0
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        Percentiles {
            p50: self.quantile_ms(0.5),
            p90: self.quantile_ms(0.9),
            p99: self.quantile_ms(0.99),
            max: rounded(self.max_us as f64 / 1000.0),
        }
    }
}

/// `ms` with one digit behind the point.
fn rounded(ms: f64) -> f64 {
    (ms * 10.0).round() / 10.0
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

/// A piece as its source published it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publication {
    pub(super) at: Time,
    pub(super) blocks: u16,
    pub(super) len: u32,
}

/// One viewer's progress.
#[derive(Clone, Debug)]
pub(super) struct Viewing {
    pub(super) born: Time,
    /// First piece delivered.
    pub(super) started: Option<Time>,
    /// The last piece delivered or skipped.
    pub(super) cursor: Option<Seq>,
    /// Whether its figures count: it follows the rules.
    pub(super) honest: bool,
    /// Its class of upload.
    pub(super) class: u8,
    /// Whose figures it counts among.
    pub(super) groups: Groups,
    due: u64,
    in_time: u64,
    missing: Vec<(Seq, u16)>,
    /// The newest piece of which it has a block, and since when.
    newest: Option<(Seq, Time)>,
    /// When its reader last got something.
    delivered_at: Option<Time>,
    /// The longest time in which its reader got nothing.
    reader_gap_us: u64,
    /// After watched events: the longest time without a newer piece, and the time to the deadline
    /// of the last piece missed.
    feed_gap_us: u64,
    late_us: u64,
}

impl Viewing {
    pub(super) fn new(born: Time, class: u8, groups: Groups, honest: bool) -> Self {
        Self {
            born,
            started: None,
            cursor: None,
            honest,
            class,
            groups,
            due: 0,
            in_time: 0,
            missing: Vec::new(),
            newest: None,
            delivered_at: None,
            reader_gap_us: 0,
            feed_gap_us: 0,
            late_us: 0,
        }
    }
}

/// Pieces due and delivered in time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) viewers: u64,
    pub(super) due: u64,
    pub(super) in_time: u64,
}

impl Tally {
    pub(super) fn continuity(self) -> f64 {
        if self.due == 0 { 1.0 } else { self.in_time as f64 / self.due as f64 }
    }

    fn add(&mut self, due: u64, in_time: u64) {
        self.viewers += 1;
        self.due += due;
        self.in_time += in_time;
    }
}

/// The figures of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupTally {
    pub(super) tally: Tally,
    pub(super) block_lag: Histogram,
    pub(super) startup: Histogram,
    pub(super) never_started: u64,
}

/// A time after an event in which interruptions are put down to it.
#[derive(Clone, Copy, Debug)]
struct Watch {
    from: Time,
    until: Time,
}

/// What a run is measured by.
#[derive(Debug)]
pub(super) struct Meter {
    /// Pieces published earlier are not counted.
    pub(super) from: Time,
    pub(super) delay_us: u64,
    published: BTreeMap<Seq, Publication>,
    /// Bytes of payload published since measuring began.
    pub(super) stream_bytes: u64,
    /// Bytes of payload verified by viewers since measuring began.
    pub(super) received_bytes: u64,
    pub(super) block_lag: Histogram,
    pub(super) piece_lag: Histogram,
    pub(super) startup: Histogram,
    pub(super) all: Tally,
    pub(super) by_class: BTreeMap<u8, Tally>,
    /// Viewers that were there for as long as the delay and got nothing.
    pub(super) never_started: u64,
    groups: [GroupTally; Group::ALL.len()],
    watches: Vec<Watch>,
    pub(super) epochs: BTreeSet<Epoch>,
    pub(super) reader_gap: Histogram,
    pub(super) feed_again: Histogram,
    pub(super) on_time_again: Histogram,
}

impl Meter {
    pub(super) fn new(from: Time, delay_us: u64) -> Self {
        Self {
            from,
            delay_us,
            published: BTreeMap::new(),
            stream_bytes: 0,
            received_bytes: 0,
            block_lag: Histogram::default(),
            piece_lag: Histogram::default(),
            startup: Histogram::default(),
            all: Tally::default(),
            by_class: BTreeMap::new(),
            never_started: 0,
            groups: Default::default(),
            watches: Vec::new(),
            epochs: BTreeSet::new(),
            reader_gap: Histogram::default(),
            feed_again: Histogram::default(),
            on_time_again: Histogram::default(),
        }
    }

    /// Puts interruptions within `for_us` after `from` down to an event.
    pub(super) fn watch(&mut self, from: Time, for_us: u64) {
        self.watches.push(Watch { from, until: from.after_us(for_us) });
    }

    pub(super) fn is_watching(&self) -> bool {
        !self.watches.is_empty()
    }

    /// The groups that have members, with their figures.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Group, &GroupTally)> {
        Group::ALL.into_iter().zip(&self.groups).filter(|(_, of)| of.tally.viewers > 0)
    }

    pub(super) fn publish(&mut self, now: Time, at: Seq, blocks: u16, len: u32) {
        if now >= self.from {
            self.stream_bytes += u64::from(len);
        }
        self.epochs.insert(at.epoch);
        self.published.insert(at, Publication { at: now, blocks, len });
    }

    pub(super) fn publication(&self, at: Seq) -> Option<Publication> {
        self.published.get(&at).copied()
    }

    /// The newest piece published no later than `before`, if it is not an empty one.
    pub(super) fn newest_before(&self, before: Time) -> Option<Seq> {
        let mut from_end = self.published.iter().rev();
        from_end.find(|(_, p)| p.at <= before && p.blocks > 0).map(|(at, _)| *at)
    }

    /// A viewer has verified a block; false if nobody ever published it.
    pub(super) fn verified(
        &mut self,
        now: Time,
        viewing: &mut Viewing,
        at: Seq,
        block: u16,
    ) -> bool {
        let Some(publication) = self.publication(at) else { return false };
        if now >= self.from {
            let rest = publication.len.saturating_sub(u32::from(block) * BLOCK_LEN);
            self.received_bytes += u64::from(rest.min(BLOCK_LEN));
        }
        let lag_us = now.since_us(publication.at);
        let joined = viewing.started.is_some_and(|started| started <= publication.at);
        let counts = viewing.honest && joined && publication.at >= self.from;
        if counts {
            self.block_lag.add(lag_us);
            viewing.groups.iter().for_each(|g| self.groups[g as usize].block_lag.add(lag_us));
        }
        if viewing.newest.is_none_or(|(newest, _)| newest < at) {
            self.note_silence(now, viewing);
            viewing.newest = Some((at, now));
        }
        let place = viewing.missing.iter().rposition(|(seq, _)| *seq == at);
        let place = place.unwrap_or_else(|| {
            if viewing.missing.len() == PARTIAL_MAX {
                viewing.missing.remove(0);
            }
            viewing.missing.push((at, publication.blocks));
            viewing.missing.len() - 1
        });
        viewing.missing[place].1 = viewing.missing[place].1.saturating_sub(1);
        if viewing.missing[place].1 == 0 {
            viewing.missing.remove(place);
            if counts {
                self.piece_lag.add(lag_us);
            }
        }
        true
    }

    /// A piece reaches a viewer's reader.
    pub(super) fn delivered(&mut self, now: Time, viewing: &mut Viewing, at: Seq) {
        if viewing.started.is_none() {
            viewing.started = Some(now);
            self.note_start(viewing, now.since_us(viewing.born));
        }
        Self::note_reader_gap(self.from, now, viewing);
        viewing.delivered_at = Some(now);
        viewing.cursor = viewing.cursor.max(Some(at));
        let Some(publication) = self.publication(at) else { return };
        if publication.at >= self.from && publication.blocks > 0 {
            let in_time = now.since_us(publication.at) <= self.delay_us;
            viewing.due += 1;
            viewing.in_time += u64::from(in_time);
            if !in_time {
                self.note_missed(viewing, publication);
            }
        }
    }

    /// A viewer's first piece, or the end of one that never had any.
    fn note_start(&mut self, viewing: &Viewing, after_us: u64) {
        if viewing.honest {
            self.startup.add(after_us);
            viewing.groups.iter().for_each(|g| self.groups[g as usize].startup.add(after_us));
        }
    }

    fn note_reader_gap(from: Time, now: Time, viewing: &mut Viewing) {
        if let Some(last) = viewing.delivered_at.filter(|_| now >= from) {
            viewing.reader_gap_us = viewing.reader_gap_us.max(now.since_us(last.max(from)));
        }
    }

    /// There was nothing newer for a viewer up to `now`.
    fn note_silence(&self, now: Time, viewing: &mut Viewing) {
        let Some((_, since)) = viewing.newest else { return };
        for watch in self.watches.iter().filter(|w| since < w.until && now > w.from) {
            viewing.feed_gap_us = viewing.feed_gap_us.max(now.since_us(since.max(watch.from)));
        }
    }

    /// A piece was not there at its deadline.
    fn note_missed(&self, viewing: &mut Viewing, publication: Publication) {
        let due = publication.at.after_us(self.delay_us);
        for watch in self.watches.iter().filter(|w| due > w.from && due <= w.until) {
            viewing.late_us = viewing.late_us.max(due.since_us(watch.from));
        }
    }

    /// Pieces from `from` on are skipped.
    pub(super) fn skipped(&mut self, viewing: &mut Viewing, from: Seq, pieces: u32) {
        let end = Seq { epoch: from.epoch, index: from.index.plus(pieces) };
        let missed = self.published.range(from..end).map(|(_, p)| *p);
        for publication in missed.filter(|p| p.blocks > 0 && p.at >= self.from) {
            viewing.due += 1;
            self.note_missed(viewing, publication);
        }
        let last = Seq { epoch: from.epoch, index: end.index.minus(1) };
        viewing.cursor = viewing.cursor.max(Some(last));
    }

    /// A viewer leaves, or the run ends and it is still there (`stays`): what was due by now and
    /// has not come is missed.
    pub(super) fn finish(&mut self, now: Time, mut viewing: Viewing, stays: bool) {
        if !viewing.honest {
            return;
        }
        let stayed = stays && viewing.started.is_some_and(|started| started <= self.from);
        if stayed {
            viewing.groups.join(Group::Stayers);
        } else if !stays {
            viewing.groups.join(Group::Leavers);
        }
        match viewing.cursor {
            Some(cursor) => {
                viewing.due += self.overdue(now, &mut viewing, cursor);
            }
            None if now.since_us(viewing.born) > self.delay_us => {
                viewing.due += self.never_started(now, &viewing);
            }
            None => {}
        }
        let (due, in_time) = (viewing.due, viewing.in_time);
        self.all.add(due, in_time);
        self.by_class.entry(viewing.class).or_default().add(due, in_time);
        viewing.groups.iter().for_each(|g| self.groups[g as usize].tally.add(due, in_time));
        if stayed {
            Self::note_reader_gap(self.from, now, &mut viewing);
            self.note_silence(now, &mut viewing);
            self.reader_gap.add(viewing.reader_gap_us);
            self.feed_again.add(viewing.feed_gap_us);
            self.on_time_again.add(viewing.late_us);
        }
    }

    /// A viewer got nothing in more than the delay: what it missed. It counts among those that
    /// started with the time that it has waited.
    fn never_started(&mut self, now: Time, viewing: &Viewing) -> u64 {
        self.never_started += 1;
        viewing.groups.iter().for_each(|g| self.groups[g as usize].never_started += 1);
        self.note_start(viewing, now.since_us(viewing.born));
        let expected = viewing.born.after_us(self.delay_us).max(self.from);
        let missed = self
            .published
            .values()
            .filter(|p| p.blocks > 0 && p.at >= expected && now.since_us(p.at) > self.delay_us);
        missed.count() as u64
    }

    /// Pieces behind `cursor` whose deadline has passed.
    fn overdue(&self, now: Time, viewing: &mut Viewing, cursor: Seq) -> u64 {
        let behind = (std::ops::Bound::Excluded(cursor), std::ops::Bound::Unbounded);
        let mut count = 0;
        for publication in self.published.range(behind).map(|(_, p)| *p) {
            let counts = publication.blocks > 0 && publication.at >= self.from;
            if counts && now.since_us(publication.at) > self.delay_us {
                count += 1;
                self.note_missed(viewing, publication);
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Epoch, PieceIndex};

    fn seq(index: u32) -> Seq {
        Seq { epoch: Epoch(1), index: PieceIndex(index) }
    }

    fn viewing(times: f64) -> Viewing {
        Viewing::new(Time(0), 0, Groups::at_birth(false, times), true)
    }

    #[test]
    fn percentiles_are_right_within_one_percent() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|us| histogram.add(us * 10));
        let got = histogram.percentiles();
        for (value, expected) in [(got.p50, 500.0), (got.p90, 900.0), (got.p99, 990.0)] {
            assert!((value - expected).abs() < expected * 0.01, "{value} is not {expected}");
        }
        assert_eq!(got.max, 1000.0);
        let small = [0u64, 1, 127, 128, 129, 255, 256, 1 << 40];
        for us in small {
            let middle = Histogram::middle_us(Histogram::bucket(us));
            assert!((middle - us as f64).abs() <= us as f64 * 0.008, "{us}: {middle}");
        }
    }

    #[test]
    fn late_skipped_and_overdue_pieces_break_continuity() {
        let mut meter = Meter::new(Time(0), 1_000_000);
        (0..10).for_each(|n| meter.publish(Time(u64::from(n) * 100_000), seq(n), 1, 100));
        let mut viewing = viewing(1.0);
        meter.delivered(Time(500_000), &mut viewing, seq(2));
        meter.delivered(Time(1_300_001), &mut viewing, seq(3));
        meter.skipped(&mut viewing, seq(4), 2);
        meter.delivered(Time(1_300_001), &mut viewing, seq(6));
        // 7 is overdue when it ends, 8 and 9 are not.
        meter.finish(Time(1_750_000), viewing, true);
        assert_eq!((meter.all.due, meter.all.in_time), (6, 2));
    }

    #[test]
    fn who_stays_who_leaves_and_who_never_starts_are_told_apart() {
        let mut meter = Meter::new(Time(100_000), 1_000_000);
        (0..30).for_each(|n| meter.publish(Time(u64::from(n) * 100_000), seq(n), 1, 100));
        for (times, pieces, stays) in [(1.5, 29, true), (0.0, 4, false)] {
            let mut viewing = viewing(times);
            for n in 0..pieces {
                meter.delivered(Time(u64::from(n) * 100_000 + 50_000), &mut viewing, seq(n));
            }
            meter.finish(Time(2_900_000), viewing, stays);
        }
        meter.finish(Time(2_900_000), viewing(0.5), true);
        let got: Vec<(Group, u64, u64, u64)> = meter
            .groups()
            .map(|(g, of)| (g, of.tally.due, of.tally.in_time, of.never_started))
            .collect();
        // Deadlines of the last ten pieces have not passed.
        let expected = [
            (Group::First, 28 + 18 + 9, 28 + 3, 1),
            (Group::Stayers, 28, 28, 0),
            (Group::Leavers, 18, 3, 0),
            (Group::Contributors, 28, 28, 0),
            (Group::FreeRiders, 18, 3, 0),
        ];
        assert_eq!(got, expected);
        assert_eq!(meter.startup.percentiles().max, 2_900.0);
        assert_eq!(meter.reader_gap.percentiles().max, 100.0);
    }

    #[test]
    fn what_follows_a_watched_event_is_measured_from_its_end() {
        let mut meter = Meter::new(Time(100_000), 1_000_000);
        meter.watch(Time(2_000_000), 4_000_000);
        (0..80).for_each(|n| meter.publish(Time(u64::from(n) * 100_000), seq(n), 1, 100));
        let mut viewing = viewing(1.0);
        for n in (0..15).chain(25..80) {
            // Nothing comes from 1.41 s to 3.51 s, and a piece of later is late for other reasons.
            let lag_us = if n == 75 { 2_000_000 } else { 10_000 };
            let at_us = (u64::from(n) * 100_000 + lag_us).max(if n < 25 { 0 } else { 3_510_000 });
            meter.verified(Time(at_us), &mut viewing, seq(n), 0);
            meter.delivered(Time(at_us), &mut viewing, seq(n));
            if n == 14 {
                meter.skipped(&mut viewing, seq(15), 10);
            }
        }
        meter.finish(Time(8_000_000), viewing, true);
        assert_eq!(meter.feed_again.percentiles().max, 1_510.0);
        // The last piece missed is 25, whose deadline was 3.5 s.
        assert_eq!(meter.on_time_again.percentiles().max, 1_500.0);
        assert_eq!(meter.reader_gap.percentiles().max, 2_100.0);
    }

    #[test]
    fn a_piece_counts_when_its_last_block_is_verified() {
        let mut meter = Meter::new(Time(0), 1_000_000);
        let mut viewing = viewing(1.0);
        viewing.started = Some(Time(0));
        meter.publish(Time(1_000), seq(1), 2, 20_000);
        assert!(meter.verified(Time(21_000), &mut viewing, seq(1), 0));
        assert!(meter.verified(Time(41_000), &mut viewing, seq(1), 0));
        assert!(!meter.verified(Time(41_000), &mut viewing, seq(2), 0));
        assert_eq!(meter.block_lag.percentiles().max, 40.0);
        assert_eq!(meter.piece_lag.percentiles().p50, 40.0);
    }
}
