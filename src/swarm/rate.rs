//! Rates: a token bucket that limits one, a meter that measures one.

use crate::units::Time;

/// Limits bytes per second; a burst may be a few blocks.
#[derive(Debug)]
pub struct Bucket {
    bytes_per_s: u64,
    burst: i64,
    tokens: i64,
    /// Microsecond-bytes that do not make a whole byte yet.
    rest: u64,
    at: Time,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(bytes_per_s: u64, burst: u64, now: Time) -> Self {
        let burst = i64::try_from(burst).unwrap_or(i64::MAX);
        Self { bytes_per_s: bytes_per_s.max(1), burst, tokens: burst, rest: 0, at: now }
    }

    /// Goes on at another rate.
    pub fn set_rate(&mut self, bytes_per_s: u64, now: Time) {
        self.refill(now);
        self.bytes_per_s = bytes_per_s.max(1);
    }

    /// Lets time pass.
    pub fn refill(&mut self, now: Time) {
        let passed = now.since_us(self.at).min(10_000_000);
        let earned = passed * self.bytes_per_s + self.rest;
        self.at = now.max(self.at);
        self.rest = earned % 1_000_000;
        let whole = i64::try_from(earned / 1_000_000).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(whole).min(self.burst);
        if self.tokens == self.burst {
            self.rest = 0;
        }
    }

    /// Whether something may be sent now; the bucket may go into debt by one block.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tokens > 0
    }

    /// Notes bytes that were sent, allowed or not.
    pub fn spend(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How long so many bytes take, in microseconds.
    #[must_use]
    pub fn takes_us(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(1_000_000) / self.bytes_per_s
    }

    /// When the bucket opens, if nothing is spent until then.
    #[must_use]
    pub fn opens_at(&self) -> Time {
        if self.is_open() {
            return self.at;
        }
        let missing = self.tokens.unsigned_abs() + 1;
        self.at.after_us(missing.saturating_mul(1_000_000).div_ceil(self.bytes_per_s))
    }
}

/// Bytes per second over the last few seconds (exponential average, 4 s).
#[derive(Debug, Default, Clone, Copy)]
pub struct Meter {
    per_s: f64,
    since: Time,
    bytes: u64,
    total: u64,
}

const METER_STEP_US: u64 = 500_000;
const METER_US: f64 = 4_000_000.0;

impl Meter {
    /// Notes bytes.
    pub fn add(&mut self, now: Time, bytes: u64) {
        self.roll(now);
        self.bytes += bytes;
        self.total += bytes;
    }

    fn roll(&mut self, now: Time) {
        let passed = now.since_us(self.since);
        if passed < METER_STEP_US {
            return;
        }
        let rate = self.bytes as f64 * 1e6 / passed as f64;
        let keep = (-(passed as f64) / METER_US).exp();
        self.per_s = self.per_s * keep + rate * (1.0 - keep);
        (self.since, self.bytes) = (now, 0);
    }

    /// Bytes per second.
    pub fn per_s(&mut self, now: Time) -> u64 {
        self.roll(now);
        self.per_s as u64
    }

    /// All bytes ever.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_rate_through_and_no_more() {
        let mut bucket = Bucket::new(100_000, 20_000, Time(0));
        let (mut sent, mut now) = (0, Time(0));
        while now < Time(10_000_000) {
            bucket.refill(now);
            while bucket.is_open() {
                bucket.spend(16_397);
                sent += 16_397;
            }
            now = bucket.opens_at();
        }
        assert!((1_000_000..1_040_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_meter_follows_a_change_within_seconds() {
        let mut meter = Meter::default();
        for second in 0..10 {
            meter.add(Time(second * 1_000_000), 1000);
        }
        assert!((700..1100).contains(&meter.per_s(Time(10_000_000))));
        assert!(meter.per_s(Time(40_000_000)) < 100);
        assert_eq!(meter.total(), 10_000);
    }
}
