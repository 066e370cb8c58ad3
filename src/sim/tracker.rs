//! The simulated tracker: who announced, and random subsets of them.

use std::collections::BTreeMap;

use super::wires::NodeId;
use crate::machine::Rng;
use crate::units::Time;

/// The tracker's list.
#[derive(Debug, Default)]
pub(super) struct Registry {
    listed: Vec<NodeId>,
    /// Place in `listed` and time of the last announce.
    places: BTreeMap<NodeId, (usize, Time)>,
    /// Announces older than this are forgotten.
    expiry_us: u64,
    /// No answers until then.
    pub(super) down_until: Time,
}

impl Registry {
    /// A tracker that forgets who has not announced for so long.
    pub(super) fn new(expiry_us: u64) -> Self {
        Self { expiry_us, ..Self::default() }
    }

    pub(super) fn announce(&mut self, now: Time, node: NodeId) {
        let next = self.listed.len();
        let place = self.places.entry(node).or_insert((next, now));
        place.1 = now;
        if place.0 == next {
            self.listed.push(node);
        }
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        let Some((place, _)) = self.places.remove(&node) else { return };
        self.listed.swap_remove(place);
        if let Some(moved) = self.listed.get(place)
            && let Some(entry) = self.places.get_mut(moved)
        {
            entry.0 = place;
        }
    }

    /// Up to `numwant` others, at random.
    pub(super) fn sample(
        &mut self,
        now: Time,
        node: NodeId,
        numwant: usize,
        rng: &mut Rng,
    ) -> Vec<NodeId> {
        let mut out = Vec::new();
        let mut drawn = 0;
        // The first `drawn` places hold who was drawn already (Fisher and Yates).
        while out.len() < numwant && drawn < self.listed.len() {
            let place = drawn + rng.index(self.listed.len() - drawn);
            let other = self.listed[place];
            let announced = self.places.get(&other).map_or(Time::ZERO, |entry| entry.1);
            if now.since_us(announced) > self.expiry_us {
                self.remove(other);
                continue;
            }
            self.swap(drawn, place);
            drawn += 1;
            if other != node {
                out.push(other);
            }
        }
        out
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.listed.swap(a, b);
        for place in [a, b] {
            if let Some(entry) = self.places.get_mut(&self.listed[place]) {
                entry.0 = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_random_subsets_of_others_that_announced_lately() {
        let mut registry = Registry::new(1_000);
        let mut rng = Rng::new(1);
        (0..10).for_each(|node| registry.announce(Time(0), node));
        (5..40).for_each(|node| registry.announce(Time(900), node));
        registry.remove(7);
        registry.remove(39);
        for _ in 0..50 {
            let mut got = registry.sample(Time(1_500), 20, 12, &mut rng);
            got.sort_unstable();
            got.dedup();
            assert_eq!(got.len(), 12);
            assert!(got.iter().all(|n| (5..39).contains(n) && *n != 7 && *n != 20), "{got:?}");
        }
        assert_eq!(registry.sample(Time(1_500), 20, 200, &mut rng).len(), 32);
    }
}
