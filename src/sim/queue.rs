//! The event queue: what happens next, by time and then by the order in which it was planned.
//!
//! A calendar of short slots for what is near and a heap for what is far. Most events of a swarm
//! lie within a second, so pushing and popping touch a heap of a few hundred entries however many
//! nodes there are.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::units::Time;

/// Length of a calendar slot as a power of two, in microseconds (1.024 ms).
const SLOT_SHIFT: u32 = 10;
/// Slots in the calendar (4.2 s).
const SLOTS: usize = 4096;

/// Something planned.
#[derive(Debug)]
struct Planned<T> {
    at: Time,
    order: u64,
    what: T,
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    /// The earliest is the greatest, because the standard heap pops the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Events ordered by (time, order of planning).
#[derive(Debug)]
pub struct Queue<T> {
    /// Everything in the current slot or before it.
    near: BinaryHeap<Planned<T>>,
    /// Slot `s` holds the events of absolute slot number `s` modulo [`SLOTS`].
    slots: Vec<Vec<Planned<T>>>,
    /// Absolute number of the current slot.
    current: u64,
    /// Events in `slots`.
    in_slots: usize,
    /// Everything beyond the calendar.
    far: BinaryHeap<Planned<T>>,
    order: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Queue<T> {
    /// An empty queue at time zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            near: BinaryHeap::new(),
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            current: 0,
            in_slots: 0,
            far: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Plans `what` for `at`; what is planned for one moment happens in the order of planning.
    pub fn push(&mut self, at: Time, what: T) {
        self.order += 1;
        self.place(Planned { at, order: self.order, what });
    }

    /// The earliest event and its time, if that is not after `until`.
    pub fn pop_until(&mut self, until: Time) -> Option<(Time, T)> {
        if !self.advance() || self.near.peek().is_none_or(|first| first.at > until) {
            return None;
        }
        self.near.pop().map(|first| (first.at, first.what))
    }

    /// How many events are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.near.len() + self.in_slots + self.far.len()
    }

    /// Whether nothing is planned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn place(&mut self, planned: Planned<T>) {
        let slot = planned.at.0 >> SLOT_SHIFT;
        if slot <= self.current {
            self.near.push(planned);
        } else if slot < self.current + SLOTS as u64 {
            self.slots[slot as usize % SLOTS].push(planned);
            self.in_slots += 1;
        } else {
            self.far.push(planned);
        }
    }

    /// Moves the calendar on until the earliest event is in `near`; false if there is none.
    fn advance(&mut self) -> bool {
        while self.near.is_empty() {
            if self.in_slots == 0 {
                let Some(first) = self.far.peek() else { return false };
                self.current = first.at.0 >> SLOT_SHIFT;
            } else {
                self.current += 1;
                let slot = &mut self.slots[self.current as usize % SLOTS];
                self.in_slots -= slot.len();
                self.near.extend(slot.drain(..));
            }
            self.take_from_far();
        }
        true
    }

    /// Puts what has come within reach of the calendar into it.
    fn take_from_far(&mut self) {
        let end = self.current + SLOTS as u64;
        while self.far.peek().is_some_and(|first| first.at.0 >> SLOT_SHIFT < end) {
            if let Some(first) = self.far.pop() {
                self.place(first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Rng;

    #[test]
    fn events_come_by_time_and_then_by_order_of_planning() {
        let mut rng = Rng::new(1);
        let mut queue = Queue::new();
        let mut expected = Vec::new();
        let mut got = Vec::new();
        let mut now = Time::ZERO;
        for n in 0..20_000u32 {
            let far = if rng.chance(0.05) { 60_000_000 } else { 50_000 };
            let at = now.after_us(rng.below(far) / 7 * 7);
            queue.push(at, n);
            expected.push((at, n));
            if rng.chance(0.4)
                && let Some((at, n)) = queue.pop_until(Time::NEVER)
            {
                now = at;
                got.push((at, n));
            }
        }
        while let Some(next) = queue.pop_until(Time::NEVER) {
            got.push(next);
        }
        expected.sort();
        assert_eq!(got.len(), expected.len());
        assert!(got.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        got.sort();
        assert_eq!(got, expected);
        assert!(queue.is_empty());
    }

    #[test]
    fn nothing_is_popped_beyond_the_limit() {
        let mut queue = Queue::new();
        queue.push(Time(100_000_000), 'b');
        queue.push(Time(5), 'a');
        assert_eq!(queue.pop_until(Time(10)), Some((Time(5), 'a')));
        assert_eq!(queue.pop_until(Time(10)), None);
        queue.push(Time(20), 'c');
        assert_eq!(queue.pop_until(Time(30)), Some((Time(20), 'c')));
        assert_eq!(queue.pop_until(Time::NEVER), Some((Time(100_000_000), 'b')));
    }
}
