//! Input on its way to a source that publishes it later than it came in.
//!
//! Who listens or follows keeps its input. Once it may speak it lets out what it kept at little
//! more than the pace at which that came: what was silent for seconds must not go out at once,
//! since the uplinks of a swarm carry the stream and not much besides.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::units::Time;

/// Bytes that are kept at most.
const LEN_MAX: usize = 16 << 20;
/// How much faster than it came in the input is let out: 3 %, as much as readers play faster or
/// slower.
const PACE_PERCENT: u64 = 103;

/// What an input brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes of the stream.
    Bytes(Bytes),
    /// It broke off: what comes next does not go on from what came before.
    Break,
}

impl Input {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Break => 0,
        }
    }
}

/// Input in the order in which it came, kept or let out at a pace.
#[derive(Debug, Default)]
pub struct Backlog {
    inputs: VecDeque<(Time, Input)>,
    len: usize,
    release: Option<Release>,
}

/// Since `since` is let out what came from `from` on.
#[derive(Clone, Copy, Debug)]
struct Release {
    since: Time,
    from: Time,
}

impl Backlog {
    /// Keeps what came in at `came`; while nothing is let out the oldest beyond 16 MiB is dropped.
    pub fn push(&mut self, came: Time, input: Input) {
        self.len += input.len();
        self.inputs.push_back((came, input));
        while self.release.is_none() && self.len > LEN_MAX {
            self.pop();
        }
    }

    /// Drops what came in before `came`.
    pub fn drop_before(&mut self, came: Time) {
        while self.inputs.front().is_some_and(|(at, _)| *at < came) {
            self.pop();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// The bytes that wait, in order.
    pub fn bytes(&self) -> impl Iterator<Item = &Bytes> {
        self.inputs.iter().filter_map(|(_, input)| match input {
            Input::Bytes(bytes) => Some(bytes),
            Input::Break => None,
        })
    }

    /// The oldest of what waits, and when it came in, whatever the pace.
    pub fn pop(&mut self) -> Option<(Time, Input)> {
        let oldest = self.inputs.pop_front()?;
        self.len -= oldest.1.len();
        Some(oldest)
    }

    /// From `since` on what waits is let out, the oldest then at once.
    pub fn release(&mut self, since: Time) {
        let from = self.inputs.front().map_or(since, |(came, _)| *came);
        self.release = Some(Release { since, from });
    }

    /// From now on what waits is let out, all of it at once: nobody is there whose uplink could be
    /// too narrow.
    pub fn release_all(&mut self, now: Time) {
        self.release = Some(Release { since: now, from: now });
    }

    /// Nothing more is let out.
    pub fn hold(&mut self) {
        self.release = None;
    }

    /// The oldest of what waits, and when it came in, if the pace lets it out by now. What would
    /// need more memory than there is goes sooner: none of it may be lost any more.
    pub fn pop_due(&mut self, now: Time) -> Option<(Time, Input)> {
        let is_due = now >= self.deadline() || (self.release.is_some() && self.len > LEN_MAX);
        if is_due { self.pop() } else { None }
    }

    /// When [`Backlog::pop_due`] has something.
    #[must_use]
    pub fn deadline(&self) -> Time {
        match (self.release, self.inputs.front()) {
            (Some(release), Some((came, _))) => {
                let behind_us = came.since_us(release.from);
                let takes_us = u128::from(behind_us) * 100;
                let takes_us = takes_us.div_ceil(u128::from(PACE_PERCENT));
                release.since.after_us(u64::try_from(takes_us).unwrap_or(u64::MAX)).max(*came)
            }
            _ => Time::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(n: u8, len: usize) -> Input {
        Input::Bytes(Bytes::from(vec![n; len]))
    }

    /// What is let out, when and how late, if somebody looks whenever it is due.
    fn let_out(backlog: &mut Backlog, until: Time) -> Vec<(Time, Time, Input)> {
        std::iter::from_fn(|| {
            let at = backlog.deadline();
            let (came, input) = (at <= until).then(|| backlog.pop_due(at)).flatten()?;
            Some((at, came, input))
        })
        .collect()
    }

    #[test]
    fn three_seconds_are_made_up_for_in_a_hundred() {
        let mut backlog = Backlog::default();
        // The first comes in at 10 s; from 13 s on it is let out while more comes.
        (0..1200).for_each(|n| backlog.push(Time(10_000_000 + n * 100_000), bytes(1, 10)));
        backlog.release(Time(13_000_000));
        let late = |(at, came, _): &(Time, Time, Input)| at.since_us(*came);
        let out = let_out(&mut backlog, Time(125_000_000));
        assert_eq!((out.first().map(late), out.last().map(late)), (Some(3_000_000), Some(0)));
        let on_time = out.iter().find(|o| late(o) == 0).map(|(at, ..)| *at);
        assert_eq!(on_time, Some(Time(113_000_000)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_let_out_is_whole() {
        let mut backlog = Backlog::default();
        (0..20).for_each(|n| backlog.push(Time(u64::from(n)), bytes(n, 1 << 20)));
        assert_eq!(backlog.bytes().count(), 16);
        backlog.release(Time(1_000_000));
        (20..40).for_each(|n| backlog.push(Time(1_000_000), bytes(n, 1 << 20)));
        // Due is the first one; nineteen more had no room.
        let out = std::iter::from_fn(|| backlog.pop_due(Time(1_000_000))).count();
        assert_eq!((out, backlog.bytes().count()), (20, 16));
    }

    #[test]
    fn nothing_is_let_out_while_it_is_held_and_old_input_is_dropped() {
        let mut backlog = Backlog::default();
        (0..10).for_each(|n| backlog.push(Time(n), bytes(n as u8, 1)));
        assert_eq!((backlog.deadline(), backlog.pop_due(Time(100))), (Time::NEVER, None));
        backlog.drop_before(Time(4));
        backlog.release(Time(100));
        assert_eq!(backlog.pop_due(Time(100)), Some((Time(4), bytes(4, 1))));
        backlog.hold();
        assert_eq!(backlog.pop_due(Time(200)), None);
    }

    proptest! {
        #[test]
        fn the_pace_is_kept_and_all_of_it_comes_in_order(
            gaps in prop::collection::vec(0u64..400_000, 1..80),
            kept in 0usize..80,
            wait in 0u64..5_000_000,
            looks in prop::collection::vec(1u64..300_000, 1..200),
        ) {
            let mut came = Vec::new();
            let mut at = 0;
            for gap in gaps {
                at += gap;
                came.push(Time(at));
            }
            let kept = kept.min(came.len() - 1);
            let mut backlog = Backlog::default();
            let mut coming = came.iter().enumerate();
            let push = |backlog: &mut Backlog, n: usize, came: Time| {
                let input = if n % 7 == 3 { Input::Break } else { bytes(n as u8, n) };
                backlog.push(came, input);
            };
            coming.by_ref().take(kept + 1).for_each(|(n, t)| push(&mut backlog, n, *t));
            let start = came[kept].after_us(wait);
            backlog.release(start);
            let (mut now, mut out) = (start, Vec::new());
            let mut looks = looks.into_iter().cycle();
            while out.len() < came.len() {
                while coming.clone().next().is_some_and(|(_, t)| *t <= now) {
                    let Some((n, t)) = coming.next() else { break };
                    push(&mut backlog, n, *t);
                }
                while let Some((came, input)) = backlog.pop_due(now) {
                    // Never faster than the pace, never before it came.
                    let behind = came.since_us(Time(0)) - came_first(&out, came).0;
                    prop_assert!(behind * 100 <= now.since_us(start) * PACE_PERCENT);
                    prop_assert!(came <= now);
                    out.push((came, input));
                }
                now = now.after_us(looks.next().unwrap_or(1));
            }
            for (n, ((t, input), came)) in out.iter().zip(&came).enumerate() {
                prop_assert_eq!(t, came);
                prop_assert_eq!(input.len(), if n % 7 == 3 { 0 } else { n });
            }
            prop_assert!(backlog.is_empty());
        }
    }

    /// When the first of what was let out came in.
    fn came_first(out: &[(Time, Input)], came: Time) -> Time {
        out.first().map_or(came, |(first, _)| *first)
    }
}
