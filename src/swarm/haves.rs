//! Which pieces a peer holds: a bitmap over a sliding range of piece numbers.

use std::collections::VecDeque;

use crate::units::PieceIndex;
use crate::wire::limits::WINDOW_PIECES_MAX;

const WORD_BITS: u32 = 64;

/// A set of pieces that spans at most 16,384 numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Haves {
    /// Number of the first bit, a multiple of 64.
    base: u32,
    words: VecDeque<u64>,
}

impl Haves {
    /// Adds a piece. False if it lies outside the span that may be kept: below it the piece is
    /// long gone, above it the claim is absurd.
    pub fn insert(&mut self, index: PieceIndex) -> bool {
        let word_base = index.0 / WORD_BITS * WORD_BITS;
        if self.words.is_empty() {
            self.base = word_base;
        }
        if word_base < self.base {
            return self.insert_below(index, word_base);
        }
        let word = ((word_base - self.base) / WORD_BITS) as usize;
        if word >= WINDOW_PIECES_MAX / WORD_BITS as usize {
            return false;
        }
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (index.0 % WORD_BITS);
        }
        true
    }

    fn insert_below(&mut self, index: PieceIndex, word_base: u32) -> bool {
        let grow = ((self.base - word_base) / WORD_BITS) as usize;
        if self.words.len() + grow > WINDOW_PIECES_MAX / WORD_BITS as usize {
            return false;
        }
        for _ in 0..grow {
            self.words.push_front(0);
        }
        self.base = word_base;
        self.insert(index)
    }

    /// Takes a piece away.
    pub fn remove(&mut self, index: PieceIndex) {
        if let Some(bits) = self.word(index).and_then(|at| self.words.get_mut(at)) {
            *bits &= !(1 << (index.0 % WORD_BITS));
        }
    }

    /// Whether a piece is in the set.
    #[must_use]
    pub fn has(&self, index: PieceIndex) -> bool {
        let bits = self.word(index).and_then(|at| self.words.get(at));
        bits.is_some_and(|bits| bits & (1 << (index.0 % WORD_BITS)) != 0)
    }

    /// The highest piece in the set.
    #[must_use]
    pub fn highest(&self) -> Option<PieceIndex> {
        let (at, bits) = self.words.iter().enumerate().rev().find(|(_, bits)| **bits != 0)?;
        let top = WORD_BITS - 1 - bits.leading_zeros();
        Some(PieceIndex(self.base + at as u32 * WORD_BITS + top))
    }

    /// Forgets pieces below `index`.
    pub fn forget_below(&mut self, index: PieceIndex) {
        // The last word of all ends behind the highest number: nothing lies above it.
        while !self.words.is_empty() {
            let Some(next) = self.base.checked_add(WORD_BITS).filter(|next| *next <= index.0)
            else {
                break;
            };
            self.words.pop_front();
            self.base = next;
        }
        let below = index.0.saturating_sub(self.base);
        if let (Some(bits), 1..WORD_BITS) = (self.words.front_mut(), below) {
            *bits &= u64::MAX << below;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.words.clear();
    }

    fn word(&self, index: PieceIndex) -> Option<usize> {
        index.0.checked_sub(self.base).map(|above| (above / WORD_BITS) as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(
            steps in prop::collection::vec((0u32..3000, any::<bool>()), 0..200),
        ) {
            let (mut haves, mut set) = (Haves::default(), BTreeSet::new());
            for (index, add) in steps {
                if add {
                    prop_assert!(haves.insert(PieceIndex(index)));
                    set.insert(index);
                } else {
                    haves.remove(PieceIndex(index));
                    set.remove(&index);
                }
            }
            for index in 0..3000 {
                prop_assert_eq!(haves.has(PieceIndex(index)), set.contains(&index));
            }
            prop_assert_eq!(haves.highest().map(|i| i.0), set.last().copied());
        }
    }

    #[test]
    fn a_far_claim_is_refused_and_costs_no_memory() {
        let mut haves = Haves::default();
        assert!(haves.insert(PieceIndex(100)));
        assert!(!haves.insert(PieceIndex(u32::MAX)));
        assert!(haves.insert(PieceIndex(16_000)));
        assert!(!haves.insert(PieceIndex(100 + 16_384)));
        haves.forget_below(PieceIndex(15_000));
        assert!(haves.insert(PieceIndex(100 + 16_384)));
        assert!(!haves.has(PieceIndex(100)) && haves.words.len() < 30);
    }

    #[test]
    fn a_claim_of_the_last_piece_of_all_can_be_forgotten_like_any_other() {
        let mut haves = Haves::default();
        assert!(haves.insert(PieceIndex(u32::MAX)));
        haves.forget_below(PieceIndex(7));
        assert_eq!(haves.highest(), Some(PieceIndex(u32::MAX)));
        haves.forget_below(PieceIndex(u32::MAX));
        assert!(haves.has(PieceIndex(u32::MAX)));
    }
}
