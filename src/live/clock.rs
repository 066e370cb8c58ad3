//! The two clocks of a stream: the source's, which dates births, and the receiver's view of it,
//! on which deadlines and skips run. Neither trusts a clock on the wall.

use crate::units::{Now, Time, UnixUs};

/// How far the source's clock may be steered: 0.1 %.
const STEER_PER_MILLE: u64 = 1;
/// A source clock further than this from the wall clock ends its epoch.
pub const SOURCE_CLOCK_OFF_MAX_US: u64 = 10_000_000;

/// The clock that dates births: Unix microseconds from a monotonic clock set at start, never going
/// back, steered to the wall clock by at most 0.1 %.
#[derive(Debug)]
pub struct SourceClock {
    at: Time,
    unix_us: u64,
}

impl SourceClock {
    /// A clock set to the wall clock, but not below `floor`.
    #[must_use]
    pub fn new(now: Now, floor: UnixUs) -> Self {
        Self { at: now.mono, unix_us: now.wall.0.max(floor.0) }
    }

    /// The time.
    pub fn read(&mut self, now: Now) -> UnixUs {
        let passed = now.mono.since_us(self.at);
        let steer = passed * STEER_PER_MILLE / 1000;
        // Steering below a microsecond waits until enough time has passed to amount to one.
        if steer > 0 {
            let straight = self.unix_us + passed;
            self.unix_us = match now.wall.0.cmp(&straight) {
                std::cmp::Ordering::Greater => straight + steer.min(now.wall.0 - straight),
                std::cmp::Ordering::Less => straight - steer.min(straight - now.wall.0),
                std::cmp::Ordering::Equal => straight,
            };
            self.at = now.mono;
        }
        UnixUs(self.unix_us + now.mono.since_us(self.at))
    }

    /// Whether the wall clock is so far away that a new epoch must begin.
    pub fn is_off(&mut self, now: Now) -> bool {
        self.read(now).0.abs_diff(now.wall.0) > SOURCE_CLOCK_OFF_MAX_US
    }
}

/// Buckets of the last minute.
const BUCKETS: usize = 6;
const BUCKET_US: u64 = 10_000_000;

/// The receiver's view of the source's clock: the smallest delay with which entries of the last
/// minute arrived says where the source's clock stands on ours.
#[derive(Debug, Default)]
pub struct StreamClock {
    /// Per bucket of ten seconds: its number and the smallest arrival minus publication in it.
    buckets: [Option<(u64, i64)>; BUCKETS],
}

impl StreamClock {
    /// Notes that an entry published at `published` (source's clock) arrived at `arrival`.
    pub fn observe(&mut self, arrival: Time, published: UnixUs) {
        let offset = offset(arrival, published);
        let number = arrival.0 / BUCKET_US;
        let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
        *bucket = match *bucket {
            Some((n, smallest)) if n == number => Some((n, smallest.min(offset))),
            _ => Some((number, offset)),
        };
    }

    /// Forgets everything: the clock that was observed is another one now.
    pub fn reset(&mut self) {
        self.buckets = [None; BUCKETS];
    }

    /// Smallest arrival minus publication of the last minute, in microseconds.
    fn smallest(&self, now: Time) -> Option<i64> {
        let number = now.0 / BUCKET_US;
        let recent = self.buckets.iter().flatten();
        let fresh = recent.clone().filter(|(n, _)| n + BUCKETS as u64 > number);
        // After a long silence the last known offset is better than none.
        fresh.map(|(_, o)| *o).min().or_else(|| recent.max_by_key(|(n, _)| *n).map(|(_, o)| *o))
    }

    /// When, on our clock, the source's clock shows `source`.
    #[must_use]
    pub fn local(&self, source: UnixUs, now: Time) -> Option<Time> {
        let at = i128::from(source.0) + i128::from(self.smallest(now)?);
        Some(Time(u64::try_from(at.max(0)).unwrap_or(u64::MAX)))
    }

    /// What the source's clock shows now.
    #[must_use]
    pub fn source(&self, now: Time) -> Option<UnixUs> {
        let at = i128::from(now.0) - i128::from(self.smallest(now)?);
        Some(UnixUs(u64::try_from(at.max(0)).unwrap_or(u64::MAX)))
    }
}

fn offset(arrival: Time, published: UnixUs) -> i64 {
    UnixUs(arrival.0).minus(published)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono: u64, wall: u64) -> Now {
        Now { mono: Time(mono), wall: UnixUs(wall) }
    }

    #[test]
    fn a_source_clock_never_jumps_and_is_steered_slowly() {
        let mut clock = SourceClock::new(now(0, 1_000_000_000), UnixUs(0));
        // The wall clock is set forward by a second.
        let a = clock.read(now(1_000_000, 1_002_000_000));
        assert_eq!(a, UnixUs(1_001_001_000));
        // And back by an hour: the clock still goes forward.
        let b = clock.read(now(2_000_000, 0));
        assert_eq!(b, UnixUs(1_002_000_000));
        assert!(clock.is_off(now(2_000_000, 0)));
    }

    #[test]
    fn a_source_clock_starts_above_its_last_birth() {
        let mut clock = SourceClock::new(now(0, 5), UnixUs(900));
        assert_eq!(clock.read(now(10, 15)), UnixUs(910));
    }

    #[test]
    fn the_quickest_arrival_of_the_last_minute_sets_the_stream_clock() {
        let mut clock = StreamClock::default();
        clock.observe(Time(1_500), UnixUs(1_000_000));
        clock.observe(Time(2_100), UnixUs(1_002_000));
        clock.observe(Time(3_900), UnixUs(1_003_000));
        assert_eq!(clock.local(UnixUs(1_010_000), Time(4_000)), Some(Time(10_100)));
        assert_eq!(clock.source(Time(10_100)), Some(UnixUs(1_010_000)));
        // A minute later only what was seen since counts.
        clock.observe(Time(70_000_000), UnixUs(70_500_000));
        assert_eq!(clock.source(Time(70_000_000)), Some(UnixUs(70_500_000)));
    }
}
