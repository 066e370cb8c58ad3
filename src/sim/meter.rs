//! Counting: how long blocks and pieces took, what arrived in time, when viewers started.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::units::{BLOCK_LEN, Seq, Time};

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
    due: u64,
    in_time: u64,
    missing: Vec<(Seq, u16)>,
}

impl Viewing {
    pub(super) fn new(born: Time, class: u8, honest: bool) -> Self {
        Self {
            born,
            started: None,
            cursor: None,
            honest,
            class,
            due: 0,
            in_time: 0,
            missing: Vec::new(),
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
        }
    }

    pub(super) fn publish(&mut self, now: Time, at: Seq, blocks: u16, len: u32) {
        if now >= self.from {
            self.stream_bytes += u64::from(len);
        }
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
            if viewing.honest {
                self.startup.add(now.since_us(viewing.born));
            }
        }
        viewing.cursor = viewing.cursor.max(Some(at));
        let Some(publication) = self.publication(at) else { return };
        if publication.at >= self.from && publication.blocks > 0 {
            viewing.due += 1;
            viewing.in_time += u64::from(now.since_us(publication.at) <= self.delay_us);
        }
    }

    /// Pieces from `from` on are skipped.
    pub(super) fn skipped(&mut self, viewing: &mut Viewing, from: Seq, pieces: u32) {
        let end = Seq { epoch: from.epoch, index: from.index.plus(pieces) };
        let missed = self.published.range(from..end);
        viewing.due += missed.filter(|(_, p)| p.blocks > 0 && p.at >= self.from).count() as u64;
        let last = Seq { epoch: from.epoch, index: end.index.minus(1) };
        viewing.cursor = viewing.cursor.max(Some(last));
    }

    /// A viewer leaves or the run ends: what was due by now and has not come is missed.
    pub(super) fn finish(&mut self, now: Time, viewing: &Viewing) {
        if !viewing.honest {
            return;
        }
        let (mut due, in_time) = (viewing.due, viewing.in_time);
        match viewing.cursor {
            Some(cursor) => due += self.overdue(now, cursor),
            None if now.since_us(viewing.born) > self.delay_us => {
                self.never_started += 1;
                let expected = viewing.born.after_us(self.delay_us).max(self.from);
                let missed = self.published.values().filter(|p| {
                    p.blocks > 0 && p.at >= expected && now.since_us(p.at) > self.delay_us
                });
                due += missed.count() as u64;
            }
            None => {}
        }
        for tally in [&mut self.all, self.by_class.entry(viewing.class).or_default()] {
            tally.viewers += 1;
            tally.due += due;
            tally.in_time += in_time;
        }
    }

    /// Pieces behind `cursor` whose deadline has passed.
    fn overdue(&self, now: Time, cursor: Seq) -> u64 {
        let behind =
            self.published.range((std::ops::Bound::Excluded(cursor), std::ops::Bound::Unbounded));
        behind
            .filter(|(_, p)| p.blocks > 0 && p.at >= self.from)
            .filter(|(_, p)| now.since_us(p.at) > self.delay_us)
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Epoch, PieceIndex};

    fn seq(index: u32) -> Seq {
        Seq { epoch: Epoch(1), index: PieceIndex(index) }
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
        let mut viewing = Viewing::new(Time(0), 0, true);
        meter.delivered(Time(500_000), &mut viewing, seq(2));
        meter.delivered(Time(1_300_001), &mut viewing, seq(3));
        meter.skipped(&mut viewing, seq(4), 2);
        meter.delivered(Time(1_300_001), &mut viewing, seq(6));
        // 7 is overdue when it ends, 8 and 9 are not.
        meter.finish(Time(1_750_000), &viewing);
        assert_eq!((meter.all.due, meter.all.in_time), (6, 2));
    }

    #[test]
    fn a_piece_counts_when_its_last_block_is_verified() {
        let mut meter = Meter::new(Time(0), 1_000_000);
        let mut viewing = Viewing::new(Time(0), 0, true);
        viewing.started = Some(Time(0));
        meter.publish(Time(1_000), seq(1), 2, 20_000);
        assert!(meter.verified(Time(21_000), &mut viewing, seq(1), 0));
        assert!(meter.verified(Time(41_000), &mut viewing, seq(1), 0));
        assert!(!meter.verified(Time(41_000), &mut viewing, seq(2), 0));
        assert_eq!(meter.block_lag.percentiles().max, 40.0);
        assert_eq!(meter.piece_lag.percentiles().p50, 40.0);
    }
}
