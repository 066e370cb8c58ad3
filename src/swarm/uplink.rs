//! What our own line can send, when nobody says: learnt from the peers that are fed
//! (`specs/scheduling.md`, section Uplink).
//!
//! A line says nothing of itself. Below its rate everything leaves as it comes; above it a queue
//! stands, in our sockets and in the router behind them, and whatever goes to peers takes longer
//! by that. So [`Path`] watches how much longer than at best the way to one peer takes, and
//! [`Uplink`] carries little at first, more while no queue stands, and once one does, a part of
//! what the line then sent.

use std::collections::VecDeque;

use crate::units::Time;

/// A queue that stands this long is one: round trips have risen by so much.
pub const RISE_US: u64 = 50_000;
/// Share of what the line sent with a queue that is used, in percent.
const SHARE_PERCENT: u64 = 80;
/// Bytes that left are counted in slots of this length.
const SLOT_US: u64 = 250_000;
/// And so many of them say what the line sends at present: two seconds.
const SLOTS: usize = 8;
const SECOND_SLOTS: usize = 4;
/// After a step of either kind the next one waits, so that what it does can be seen.
const SETTLE_US: u64 = 2_000_000;
/// While the line is not known, the budget grows by so much of a copy each step.
const STEP_COPIES: f64 = 0.5;
/// It grows only when this part of it was sent: what is not used says nothing of the line.
const USED_PERCENT: u64 = 60;
/// Once the line is known, more is tried after this long without a queue, by so much.
const RETRY_US: u64 = 20_000_000;
const RETRY_PERCENT: u64 = 10;
/// A queue that stands on after a step back costs at least so much of the limit again.
const BACK_PERCENT: u64 = 90;
/// No line is thought to carry less, in bytes per second: messages have to go out.
const LIMIT_MIN: u64 = 4_000;
/// Samples of a path that are looked at: the smallest says what stands, of enough of them.
const SAMPLES: usize = 4;
const SAMPLES_MIN: usize = 3;
const SAMPLE_US: u64 = 3_000_000;
/// The best of a path is that of the last four to five minutes.
const BASE_US: u64 = 60_000_000;
const BASES: usize = 5;
/// An answer that does not come for no longer than this may be held up on its way back.
const BACK_US: i64 = 500_000;
/// So much is on its way at once although nothing is in excess: a block and what goes with it.
const AHEAD_LEN: u64 = 24 << 10;

/// How long the way to a peer takes, compared with its best time.
///
/// Only the way there is ours: a peer whose own line is full answers late, but its clock says when
/// the question came. A clock that is set anew would look like a longer way, so the whole round
/// trip must have risen as well.
#[derive(Clone, Debug, Default)]
pub struct Path {
    recent: VecDeque<(Time, Sample)>,
    /// The best of each minute, the newest last.
    bases: VecDeque<(u64, Sample)>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    rtt_us: i64,
    /// Arrival there by its clock minus departure here by ours: off by what the clocks differ.
    there_us: i64,
}

impl Sample {
    fn best(self, other: Self) -> Self {
        Self { rtt_us: self.rtt_us.min(other.rtt_us), there_us: self.there_us.min(other.there_us) }
    }
}

impl Path {
    /// Notes a round trip and the clocks' difference on the way there.
    pub fn note(&mut self, now: Time, rtt_us: i64, there_us: i64) {
        let sample = Sample { rtt_us, there_us };
        if self.recent.len() >= SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back((now, sample));
        let minute = now.0 / BASE_US;
        match self.bases.back_mut() {
            Some((of, base)) if *of == minute => *base = base.best(sample),
            _ => self.bases.push_back((minute, sample)),
        }
        while self.bases.len() > BASES {
            self.bases.pop_front();
        }
    }

    /// By how much the way there is longer than at best; `waits_us` is the age of a question that
    /// is not answered yet. `None` if nothing was heard lately.
    #[must_use]
    pub fn rise_us(&self, now: Time, waits_us: Option<u64>) -> Option<u64> {
        let base = self.bases.iter().map(|(_, base)| *base).reduce(Sample::best)?;
        let fresh = || self.recent.iter().filter(|(at, _)| now.since_us(*at) <= SAMPLE_US);
        let rise = |s: &Sample| (s.rtt_us - base.rtt_us).min(s.there_us - base.there_us);
        let known = fresh().count() >= SAMPLES_MIN;
        let stands = fresh().map(|(_, sample)| rise(sample)).min().filter(|_| known);
        // It is on its way at least since then; a part of that may be the way back.
        let waits = waits_us.and_then(|us| i64::try_from(us).ok());
        let waits = waits.map(|us| us - base.rtt_us - BACK_US);
        let rise = stands.into_iter().chain(waits.filter(|us| *us > 0)).max()?;
        u64::try_from(rise.max(0)).ok()
    }
}

/// How many copies of the stream are sent while the line is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copies {
    /// At first.
    pub first: f64,
    /// At most, whatever the line carries.
    pub most: f64,
}

/// What the line carries, as far as it showed.
#[derive(Clone, Debug)]
pub struct Uplink {
    copies: Copies,
    /// Copies that may be sent now, while no limit is known.
    now_copies: f64,
    /// Bytes per second that may be sent, once the line showed its rate.
    limit: Option<u64>,
    /// Bytes per second that left while a queue stood.
    measured: Option<u64>,
    slots: VecDeque<u64>,
    slot_end: Time,
    /// The next step waits until then.
    settled_at: Time,
    /// How long the queue was at the last look; 0 if none stood.
    rise_before: u64,
    /// Since when no queue was seen.
    quiet_since: Time,
}

impl Uplink {
    /// A line of which nothing is known.
    #[must_use]
    pub fn new(copies: Copies, now: Time) -> Self {
        Self {
            copies,
            now_copies: copies.first,
            limit: None,
            measured: None,
            slots: VecDeque::with_capacity(SLOTS),
            slot_end: now,
            settled_at: now.after_us(SETTLE_US),
            rise_before: 0,
            quiet_since: now,
        }
    }

    /// Notes bytes that left for the network.
    pub fn sent(&mut self, now: Time, bytes: usize) {
        self.roll(now);
        if let Some(slot) = self.slots.back_mut() {
            *slot += bytes as u64;
        }
    }

    fn roll(&mut self, now: Time) {
        if now.since_us(self.slot_end) > SLOT_US * SLOTS as u64 {
            self.slots.clear();
            self.slot_end = now;
        }
        // At most SLOTS turns: what is further back was forgotten above.
        while self.slots.is_empty() || now >= self.slot_end {
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
            self.slots.push_back(0);
            self.slot_end = self.slot_end.after_us(SLOT_US);
        }
    }

    /// Bytes per second that left in the best second of the last two: what was sent before the line
    /// was full says nothing of it.
    fn rate(&mut self, now: Time) -> u64 {
        self.roll(now);
        // The newest slot is not over yet.
        let whole = self.slots.len().saturating_sub(1);
        let mut sums = [0u64; SLOTS];
        for (n, sent) in self.slots.iter().take(whole).enumerate() {
            for sum in sums.iter_mut().skip(n).take(SECOND_SLOTS) {
                *sum += sent;
            }
        }
        sums.into_iter().max().unwrap_or(0) * 1_000_000 / (SLOT_US * SECOND_SLOTS as u64)
    }

    /// Looks at how the paths to the peers that are fed have risen, while the stream has
    /// `stream_rate` bytes per second.
    pub fn tick(&mut self, now: Time, stream_rate: u64, rises: &mut [u64]) {
        rises.sort_unstable();
        // The lower median: a line that is full is full for all, one slow peer is its own matter.
        let Some(rise) = rises.get(rises.len().saturating_sub(1) / 2).copied() else {
            self.quiet_since = now;
            return;
        };
        let rate = self.rate(now);
        let ahead_us = AHEAD_LEN * 1_000_000 / self.limit.unwrap_or(rate).max(LIMIT_MIN);
        let stands = rise >= RISE_US + ahead_us;
        if stands {
            self.quiet_since = now;
        }
        if now < self.settled_at {
            return;
        }
        if !stands {
            self.rise_before = 0;
            if rate * 100 >= self.budget(stream_rate) * USED_PERCENT {
                self.grow(now, stream_rate);
            }
            return;
        }
        self.settled_at = now.after_us(SETTLE_US);
        // A queue that becomes shorter needs time, not another step.
        if self.rise_before == 0 || rise >= self.rise_before {
            self.back_off(rate);
        }
        self.rise_before = rise;
    }

    fn back_off(&mut self, rate: u64) {
        let share = rate * SHARE_PERCENT / 100;
        let limit = match self.limit {
            // The queue that stood is being sent too, so less than before in any case.
            Some(before) => share.min(before * BACK_PERCENT / 100),
            None => share,
        };
        self.measured = Some(rate);
        self.limit = Some(limit.max(LIMIT_MIN));
    }

    fn grow(&mut self, now: Time, stream_rate: u64) {
        let Some(limit) = self.limit else {
            self.now_copies = (self.now_copies + STEP_COPIES).min(self.copies.most);
            self.settled_at = now.after_us(SETTLE_US);
            return;
        };
        let most = (self.copies.most * stream_rate as f64) as u64;
        if now.since_us(self.quiet_since) >= RETRY_US && limit < most {
            self.limit = Some(limit + limit * RETRY_PERCENT / 100);
            self.quiet_since = now;
        }
    }

    /// Bytes per second that may be sent, once the line is known.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Bytes per second that the line sent when it was full.
    #[must_use]
    pub fn measured(&self) -> Option<u64> {
        self.measured
    }

    /// Bytes per second that may be sent, known or not, of a stream of `stream_rate`.
    #[must_use]
    pub fn budget(&self, stream_rate: u64) -> u64 {
        let blind = (self.now_copies * stream_rate as f64) as u64;
        let most = (self.copies.most * stream_rate as f64) as u64;
        self.limit.map_or(blind, |limit| limit.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: u64 = 500_000;
    const SOURCE: Copies = Copies { first: 2.0, most: 4.0 };
    const STEP_US: u64 = 50_000;
    const QUEUE_LEN_MAX: u64 = 512 << 10;

    /// A line of some rate in front of which a queue forms, and what is offered to it.
    struct Line {
        now: Time,
        rate: u64,
        queue: u64,
        uplink: Uplink,
        paths: Vec<Path>,
        wanted_copies: f64,
    }

    impl Line {
        fn new(rate: u64, peers: usize) -> Self {
            let uplink = Uplink::new(SOURCE, Time(0));
            let (paths, now) = (vec![Path::default(); peers], Time(0));
            let mut line = Self { now, rate, queue: 0, uplink, paths, wanted_copies: 100.0 };
            line.ask();
            line
        }

        /// Each path is asked: the way there takes 20 ms and the queue, the way back 30 ms.
        fn ask(&mut self) {
            let queue_us = (self.queue * 1_000_000 / self.rate) as i64;
            let (now, skew_us) = (self.now, 7_000_000);
            for path in &mut self.paths {
                path.note(now, 50_000 + queue_us, 20_000 + queue_us + skew_us);
            }
        }

        fn run(&mut self, seconds: u64) {
            for _ in 0..seconds * 1_000_000 / STEP_US {
                self.now = self.now.after_us(STEP_US);
                let wanted = (self.wanted_copies * STREAM as f64) as u64;
                self.queue += self.uplink.budget(STREAM).min(wanted) * STEP_US / 1_000_000;
                // What sockets and routers hold.
                self.queue = self.queue.min(QUEUE_LEN_MAX);
                let out = self.queue.min(self.rate * STEP_US / 1_000_000);
                self.queue -= out;
                self.uplink.sent(self.now, out as usize);
                if self.now.0.is_multiple_of(500_000) {
                    self.ask();
                }
                let now = self.now;
                let mut rises: Vec<u64> =
                    self.paths.iter().filter_map(|path| path.rise_us(now, None)).collect();
                self.uplink.tick(now, STREAM, &mut rises);
            }
        }

        /// The budget in copies.
        fn copies(&self) -> f64 {
            self.uplink.budget(STREAM) as f64 / STREAM as f64
        }
    }

    #[test]
    fn a_line_that_is_not_known_is_given_two_copies_and_more_while_it_carries_them() {
        let mut line = Line::new(100 * STREAM, 3);
        assert_eq!(line.copies(), 2.0);
        line.run(3);
        assert_eq!(line.copies(), 2.5);
        line.run(20);
        assert_eq!((line.copies(), line.uplink.limit()), (4.0, None));
    }

    #[test]
    fn what_nobody_wants_does_not_make_the_budget_grow() {
        let mut line = Line::new(100 * STREAM, 3);
        line.wanted_copies = 1.0;
        line.run(30);
        assert_eq!(line.copies(), 2.0);
    }

    #[test]
    fn a_line_that_carries_less_than_is_sent_is_used_by_80_percent_soon() {
        for (rate, peers) in [(STREAM, 1), (3 * STREAM / 2, 2), (STREAM / 2, 5), (3 * STREAM, 3)] {
            let mut line = Line::new(rate, peers);
            line.run(15);
            let share = line.uplink.budget(STREAM) as f64 / rate as f64;
            assert!((0.6..0.9).contains(&share), "{share} of {rate}");
            let ahead_us = AHEAD_LEN * 1_000_000 / rate;
            assert!(line.queue * 1_000_000 / rate < RISE_US + 2 * ahead_us, "a queue stands");
        }
    }

    #[test]
    fn a_line_that_became_slower_is_followed() {
        let mut line = Line::new(3 * STREAM, 3);
        line.run(20);
        line.rate = STREAM;
        line.run(20);
        assert!((0.6..0.9).contains(&line.copies()), "{}", line.copies());
    }

    #[test]
    fn a_line_that_became_faster_is_found_out_in_steps_of_10_percent() {
        let mut line = Line::new(STREAM, 3);
        line.run(20);
        let before = line.copies();
        line.rate = 4 * STREAM;
        line.run(50);
        assert!((1.15..1.4).contains(&(line.copies() / before)), "{}", line.copies() / before);
    }

    #[test]
    fn one_slow_peer_of_three_does_not_make_the_line_slow() {
        let mut line = Line::new(100 * STREAM, 3);
        for half in 1..20 {
            line.paths[0].note(Time(half * 500_000), 950_000, 7_900_000);
        }
        let mut rises = [900_000, 0, 0];
        line.uplink.tick(Time(9_000_000), STREAM, &mut rises);
        assert_eq!(line.uplink.limit(), None);
    }

    #[test]
    fn only_a_queue_that_stands_on_the_way_there_is_a_rise() {
        let s = 1_000_000;
        let rise = |samples: &[(i64, i64)], waits| {
            let mut path = Path::default();
            path.note(Time(0), 50_000, 20_000);
            for (n, (rtt, there)) in (1..).zip(samples) {
                path.note(Time(n * s / 2), *rtt, *there);
            }
            path.rise_us(Time(samples.len() as u64 * s / 2 + 2 * s), waits)
        };
        let standing = [(130_000, 100_000); 4];
        assert_eq!(rise(&standing, None), Some(80_000));
        // A burst now and then is none.
        assert_eq!(rise(&[standing[0], (51_000, 21_000), standing[0]], None), Some(1_000));
        // The way back has risen, or a clock was set.
        assert_eq!(rise(&[(500_000, 20_500); 4], None), Some(500));
        assert_eq!(rise(&[(50_100, 900_000_000); 4], None), Some(100));
        // No answer for so long.
        assert_eq!(rise(&[(51_000, 21_000); 4], Some(400_000)), Some(1_000));
        assert_eq!(rise(&[(51_000, 21_000); 4], Some(900_000)), Some(350_000));
        assert_eq!(Path::default().rise_us(Time(0), Some(400_000)), None);
    }
}
