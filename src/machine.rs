//! The seam between protocol and world: what goes into a machine and what comes out.
//!
//! A machine is handed one input and the time; it answers by queueing outputs. After every
//! [`Machine::handle`] the driver takes outputs with [`Machine::poll`] until there are none, then
//! re-reads [`Machine::deadline`]; [`drain`] does both, so that no driver can forget. A machine
//! never blocks, never fails and never grows without a bound.

use crate::units::{Now, Time};

/// A protocol state machine.
pub trait Machine {
    /// What the world tells it.
    type In;
    /// What it wants done.
    type Out;

    /// Takes one input at one moment.
    fn handle(&mut self, now: Now, input: Self::In);

    /// The next thing to do; called until `None` after every `handle`.
    fn poll(&mut self) -> Option<Self::Out>;

    /// When `handle` is wanted with the machine's tick input at the latest.
    fn deadline(&self) -> Option<Time>;
}

/// Feeds `input`, then hands every output to `act`; returns the next deadline.
pub fn drain<M: Machine>(
    machine: &mut M,
    now: Now,
    input: M::In,
    mut act: impl FnMut(M::Out),
) -> Option<Time> {
    machine.handle(now, input);
    while let Some(out) = machine.poll() {
        act(out);
    }
    machine.deadline()
}

/// Seeded pseudo-random numbers (SplitMix64, Steele, Lea and Flood 2014).
///
/// The only randomness a machine has. Not for keys: those come from the operating system in the
/// application layer.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose sequence `seed` decides.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a 64x64 product: the bias is below 2^-64 * bound.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into something of `len` elements; 0 if it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A generator of its own for a part of the whole.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.index(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        // First outputs for seed 1234567, as published with the reference implementation.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::new(7);
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
