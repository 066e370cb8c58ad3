//! How much came under which credit id (`specs/wire.md`, section Credit).
//!
//! The counts outlive the subscriptions they were made under: who forwarded for a minute and was
//! then replaced did forward.

use std::collections::VecDeque;

/// Ids that are remembered.
const IDS_MAX: usize = 32;

/// Verified payload bytes by credit id, those used last at the end.
#[derive(Debug, Default)]
pub(super) struct Credits {
    counts: VecDeque<(u32, u64)>,
}

impl Credits {
    /// Counts verified bytes that came under `id`; 0 is no id. Forgets the id that was unused for
    /// longest if there are too many.
    pub(super) fn add(&mut self, id: u32, bytes: u64) {
        if id == 0 || bytes == 0 {
            return;
        }
        let at = self.counts.iter().position(|(known, _)| *known == id);
        let before = at.and_then(|at| self.counts.remove(at)).map_or(0, |(_, count)| count);
        if self.counts.len() >= IDS_MAX {
            self.counts.pop_front();
        }
        self.counts.push_back((id, before.saturating_add(bytes)));
    }

    /// Verified bytes that came under `id`; 0 if it is not known.
    pub(super) fn of(&self, id: u32) -> u64 {
        self.counts.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_one_id_add_up_and_unknown_ids_have_none() {
        let mut credits = Credits::default();
        credits.add(7, 100);
        credits.add(9, 1);
        credits.add(7, 20);
        credits.add(0, 5);
        assert_eq!([7, 9, 0, 8].map(|id| credits.of(id)), [120, 1, 0, 0]);
    }

    #[test]
    fn the_id_unused_for_longest_goes_when_there_are_too_many() {
        let mut credits = Credits::default();
        for id in 1..=32 {
            credits.add(id, 1);
        }
        credits.add(1, 1);
        credits.add(33, 1);
        assert_eq!([1, 2, 3, 33].map(|id| credits.of(id)), [2, 0, 1, 1]);
        assert_eq!(credits.counts.len(), IDS_MAX);
    }
}
