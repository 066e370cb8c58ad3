//! How far behind the broadcaster a reader plays: as far as the user says, or the smallest delay at
//! which nothing was missed (`specs/scheduling.md`, section Playback).

use std::time::Duration;

use crate::units::Time;

/// How far behind the broadcaster to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// This far, from birth to handing over.
    Fixed(Duration),
    /// As little as the last minute allows.
    Auto,
}

impl From<Duration> for Delay {
    fn from(delay: Duration) -> Self {
        Self::Fixed(delay)
    }
}

/// Where [`Delay::Auto`] begins, before anything is known of the swarm.
pub const AUTO_FIRST: Duration = Duration::from_secs(2);
/// The least and the most that it comes to.
const AUTO_US_MIN: u64 = 500_000;
const AUTO_US_MAX: u64 = 30_000_000;
/// It is shortened after this long at the earliest: the first pieces say little.
const AUTO_LEARN_US: u64 = 10_000_000;
/// And after a skip not before this long has gone by without another one.
const AUTO_HOLD_US: u64 = 60_000_000;
/// Beyond what the latest piece needed, this much of it is kept, and this much at least.
const MARGIN_PERCENT: u64 = 25;
const MARGIN_US_MIN: u64 = 100_000;
/// A reader aims this much below a fixed delay, and at most by a tenth of it.
const AIM_EARLY_US: u64 = 200_000;
/// How much slower or faster than the stream a reader plays, in percent, to come to its aim; an aim
/// of its own choice moves as fast.
const PACE_PERCENT: u64 = 3;
/// Longer than this nobody looked: the aim moves by that much at most.
const STEP_US_MAX: u64 = 1_000_000;

/// Buckets of the last minute.
const BUCKETS: usize = 6;
const BUCKET_US: u64 = 10_000_000;

/// How old pieces were when they were whole: the largest age of the last minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    /// Per bucket of ten seconds: its number and the largest age in it.
    buckets: [Option<(u64, u64)>; BUCKETS],
}

impl Arrivals {
    /// Notes that a piece was whole at `now`, so long after its birth on the stream's clock.
    pub fn note(&mut self, now: Time, age_us: u64) {
        let number = now.0 / BUCKET_US;
        let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
        *bucket = match *bucket {
            Some((n, largest)) if n == number => Some((n, largest.max(age_us))),
            _ => Some((number, age_us)),
        };
    }

    /// The largest age of the last minute, in microseconds; `None` if nothing came.
    #[must_use]
    pub fn largest_us(&self, now: Time) -> Option<u64> {
        let number = now.0 / BUCKET_US;
        let fresh = self.buckets.iter().flatten().filter(|(n, _)| n + BUCKETS as u64 > number);
        fresh.map(|(_, age)| *age).max()
    }
}

/// The delay that a reader aims at.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    us: u64,
    /// What is later than this is handed over at once.
    late_us: u64,
    auto: Option<Auto>,
}

#[derive(Clone, Copy, Debug)]
struct Auto {
    max_us: u64,
    /// Before then it is not shortened; `None` before the first piece.
    shorten_at: Option<Time>,
    /// When it last moved.
    moved_at: Time,
    /// Until then further skips are of the same trouble.
    missed_until: Time,
}

impl Aim {
    /// The aim that follows from what the user says.
    #[must_use]
    pub fn new(delay: Delay) -> Self {
        match delay {
            Delay::Fixed(delay) => {
                let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
                // The stream's clock is behind the source's by the quickest way here: what aims at
                // the delay itself would come a little after it.
                let us = delay_us - (delay_us / 10).min(AIM_EARLY_US);
                Self { us, late_us: delay_us, auto: None }
            }
            Delay::Auto => {
                let us = u64::try_from(AUTO_FIRST.as_micros()).unwrap_or(u64::MAX);
                let auto = Auto {
                    max_us: AUTO_US_MAX,
                    shorten_at: None,
                    moved_at: Time::ZERO,
                    missed_until: Time::ZERO,
                };
                Self { us, late_us: us, auto: Some(auto) }
            }
        }
    }

    /// An aim at this delay and not a little below it.
    #[cfg(test)]
    pub(super) fn exactly(delay: Duration) -> Self {
        let us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        Self { us, late_us: us, auto: None }
    }

    /// The delay, in microseconds.
    #[must_use]
    pub fn us(&self) -> u64 {
        self.us
    }

    /// Whether the delay follows from what comes, not from what the user says.
    #[must_use]
    pub fn is_chosen_here(&self) -> bool {
        self.auto.is_some()
    }

    /// What is later than this is handed over at once, as a player has waited for it.
    #[must_use]
    pub fn late_us(&self) -> u64 {
        self.late_us
    }

    /// A piece was due and came `age_us` after its birth.
    pub fn waited(&mut self, age_us: u64) {
        if let Some(auto) = self.auto {
            self.set(needed(age_us).max(self.us).min(auto.max_us));
        }
    }

    /// Pieces were skipped at `now`. What is missed within the same delay counts once.
    pub fn missed(&mut self, now: Time) {
        let Some(mut auto) = self.auto else { return };
        auto.shorten_at = Some(now.after_us(AUTO_HOLD_US));
        if now >= auto.missed_until {
            self.set((self.us + self.us / 2).min(auto.max_us));
            auto.missed_until = now.after_us(self.us);
        }
        self.auto = Some(auto);
    }

    /// Moves towards what the last minute needed: `largest_us` is the age of its latest piece.
    pub fn settle(&mut self, now: Time, window_us: u64, largest_us: Option<u64>) {
        let Some(mut auto) = self.auto else { return };
        // What peers keep no longer cannot be waited for.
        auto.max_us = (window_us / 2).clamp(AUTO_US_MIN, AUTO_US_MAX);
        let shorten_at = *auto.shorten_at.get_or_insert(now.after_us(AUTO_LEARN_US));
        let passed = now.since_us(auto.moved_at).min(STEP_US_MAX);
        let step = passed * PACE_PERCENT / 100;
        if let Some(aim) = largest_us.map(|age| needed(age).min(auto.max_us))
            && step > 0
        {
            auto.moved_at = now;
            let may = aim > self.us || now >= shorten_at;
            self.set(if may { towards(self.us, aim, step) } else { self.us });
        }
        self.set(self.us.min(auto.max_us));
        self.auto = Some(auto);
    }

    fn set(&mut self, us: u64) {
        (self.us, self.late_us) = (us, us);
    }

    /// The delay of the next piece, if that of one that lasts `span_us` was `lag_us`.
    #[must_use]
    pub fn approach(&self, lag_us: u64, span_us: u64) -> u64 {
        towards(lag_us, self.us, span_us * PACE_PERCENT / 100)
    }
}

/// What a reader should aim at if a piece needs `age_us`.
fn needed(age_us: u64) -> u64 {
    let margin = (age_us / 100 * MARGIN_PERCENT).max(MARGIN_US_MIN);
    age_us.saturating_add(margin).max(AUTO_US_MIN)
}

/// `from` moved towards `to` by `step` at most.
fn towards(from: u64, to: u64, step: u64) -> u64 {
    if from < to { from.saturating_add(step).min(to) } else { from.saturating_sub(step).max(to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    /// Looks at the aim ten times a second from `from` to `to` (seconds), while the latest piece of
    /// the last minute needed `age_us`.
    fn settle(aim: &mut Aim, (from, to): (u64, u64), age_us: u64) {
        for tenth in from * 10..to * 10 {
            aim.settle(Time(tenth * S / 10), 60 * S, Some(age_us));
        }
    }

    #[test]
    fn an_aim_without_trouble_is_shortened_slowly_to_what_the_latest_piece_needed() {
        let mut aim = Aim::new(Delay::Auto);
        settle(&mut aim, (0, 10), 800_000);
        assert_eq!(aim.us(), 2 * S, "nothing is decided in the first ten seconds");
        settle(&mut aim, (10, 20), 800_000);
        assert!((1_690_000..1_710_000).contains(&aim.us()), "{}", aim.us());
        settle(&mut aim, (20, 60), 800_000);
        assert_eq!(aim.us(), S);
    }

    #[test]
    fn an_aim_is_never_shorter_than_half_a_second_nor_longer_than_30_s_or_half_the_window() {
        let mut aim = Aim::new(Delay::Auto);
        settle(&mut aim, (0, 100), 10_000);
        assert_eq!(aim.us(), 500_000);
        aim.waited(100 * S);
        assert_eq!(aim.us(), 30 * S);
        aim.settle(Time(200 * S), 20 * S, None);
        assert_eq!(aim.us(), 10 * S);
    }

    #[test]
    fn a_late_piece_makes_the_aim_longer_at_once_and_a_skip_by_half() {
        let mut aim = Aim::new(Delay::Auto);
        aim.waited(2_400_000);
        assert_eq!(aim.us(), 3 * S);
        aim.missed(Time(20 * S));
        assert_eq!(aim.us(), 4_500_000);
        aim.missed(Time(21 * S));
        assert_eq!(aim.us(), 4_500_000, "of the same trouble");
        aim.missed(Time(26 * S));
        assert_eq!(aim.us(), 6_750_000);
    }

    #[test]
    fn after_a_skip_the_aim_stands_for_a_minute() {
        let mut aim = Aim::new(Delay::Auto);
        settle(&mut aim, (0, 5), 400_000);
        aim.missed(Time(5 * S));
        settle(&mut aim, (5, 65), 400_000);
        assert_eq!(aim.us(), 3 * S);
        settle(&mut aim, (65, 66), 400_000);
        assert!(aim.us() < 3 * S);
    }

    #[test]
    fn a_margin_that_grew_thin_is_restored_before_anything_is_missed() {
        let mut aim = Aim::new(Delay::Auto);
        settle(&mut aim, (0, 100), 800_000);
        settle(&mut aim, (100, 101), 960_000);
        assert!((1_020_000..1_040_000).contains(&aim.us()), "{}", aim.us());
        settle(&mut aim, (101, 110), 960_000);
        assert_eq!(aim.us(), 1_200_000);
    }

    #[test]
    fn a_fixed_delay_stays() {
        let mut aim = Aim::new(Delay::Fixed(Duration::from_secs(3)));
        settle(&mut aim, (0, 100), 10_000);
        aim.waited(9 * S);
        aim.missed(Time(3));
        assert_eq!((aim.us(), aim.late_us()), (2_800_000, 3_000_000));
    }

    #[test]
    fn arrivals_of_the_last_minute_count() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.largest_us(Time(0)), None);
        arrivals.note(Time(S), 700);
        arrivals.note(Time(2 * S), 300);
        arrivals.note(Time(30 * S), 500);
        assert_eq!(arrivals.largest_us(Time(55 * S)), Some(700));
        assert_eq!(arrivals.largest_us(Time(61 * S)), Some(500));
        assert_eq!(arrivals.largest_us(Time(200 * S)), None);
    }
}
