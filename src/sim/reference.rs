//! The greedy reference that every lag is printed beside.
//!
//! One block is broadcast to `n` peers: the source sends so many copies per block time, every
//! holder sends only this block, faster peers are served first, every hop takes the same time one
//! way. A real swarm cannot give one block all its upload, but may choose nearer peers than the
//! mean hop; so this is a yardstick and not a strict bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the reference is computed for.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Peers that want the block.
    pub viewers: usize,
    /// Shares of the peers (summing to 1) and their upload as a multiple of the bit rate.
    pub classes: Vec<(f64, f64)>,
    /// One-way time of a hop, in seconds.
    pub hop_s: f64,
    /// Copies that the source sends per block time.
    pub source_copies: f64,
    /// Time in which the stream brings one block, in seconds.
    pub block_s: f64,
}

/// A holder of the block: when its next copy is out, and who it is. Ties go to the earlier peer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sender {
    ready_s: f64,
    rank: usize,
    copy_s: f64,
}

impl Eq for Sender {}

impl PartialOrd for Sender {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sender {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ready_s.total_cmp(&other.ready_s).then(self.rank.cmp(&other.rank))
    }
}

impl Reference {
    /// Seconds from publication until the last peer has the block.
    #[must_use]
    pub fn last_s(&self) -> f64 {
        let uploads = self.uploads();
        let copy_s = self.block_s / self.source_copies;
        let mut senders = BinaryHeap::from([Reverse(Sender { ready_s: copy_s, rank: 0, copy_s })]);
        let mut last_s: f64 = 0.0;
        for (k, upload) in uploads.iter().enumerate() {
            let Some(Reverse(sender)) = senders.pop() else { break };
            let got_s = sender.ready_s + self.hop_s;
            last_s = last_s.max(got_s);
            senders.push(Reverse(Sender { ready_s: sender.ready_s + sender.copy_s, ..sender }));
            if *upload > 0.0 {
                let copy_s = self.block_s / upload;
                senders.push(Reverse(Sender { ready_s: got_s + copy_s, rank: k + 1, copy_s }));
            }
        }
        last_s
    }

    /// Upload of every peer as a multiple of the bit rate, fastest first.
    fn uploads(&self) -> Vec<f64> {
        let mut uploads = Vec::with_capacity(self.viewers);
        for (share, upload) in &self.classes {
            // Half to even, as the published figures were computed.
            let count = (share * self.viewers as f64).round_ties_even() as usize;
            uploads.extend(std::iter::repeat_n(*upload, count.min(self.viewers)));
        }
        let rest = self.classes.last().map_or(0.0, |class| class.1);
        uploads.resize(self.viewers, rest);
        uploads.sort_by(|a, b| b.total_cmp(a));
        uploads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(viewers: usize, r: f64, hop_s: f64, block_s: f64, expected_s: f64) {
        let reference =
            Reference { viewers, classes: vec![(1.0, r)], hop_s, source_copies: 4.0, block_s };
        let got_s = reference.last_s();
        assert!((got_s - expected_s).abs() < 0.0051, "{viewers} {r}: {got_s} != {expected_s}");
    }

    #[test]
    fn equal_peers_take_what_the_published_table_says() {
        // chunk_s, u/r, then the columns N = 10, 100, 1,000, 10,000.
        let table = [
            (1.0, 1.3, [1.79, 4.18, 6.68, 9.28]),
            (0.25, 1.3, [0.48, 1.13, 1.82, 2.52]),
            (0.25, 3.0, [0.35, 0.68, 1.03, 1.37]),
            (0.0655, 3.0, [0.15, 0.27, 0.40, 0.53]),
            (0.0328, 3.0, [0.11, 0.19, 0.27, 0.36]),
        ];
        for (block_s, r, row) in table {
            for (viewers, expected_s) in [10, 100, 1_000, 10_000].into_iter().zip(row) {
                check(viewers, r, 0.04, block_s, expected_s);
            }
        }
    }

    #[test]
    fn mixed_peers_take_what_the_scenario_table_says() {
        let classes = vec![(0.2, 0.0), (0.3, 0.5), (0.3, 1.5), (0.2, 3.5)];
        let block_s = 16_384.0 * 8.0 / 4e6;
        for (viewers, source_copies, expected_s) in [(1_000, 4.0, 0.271), (10_000, 4.0, 0.353)] {
            let reference = Reference {
                viewers,
                classes: classes.clone(),
                hop_s: 0.0425,
                source_copies,
                block_s,
            };
            assert!((reference.last_s() - expected_s).abs() < 0.0006, "{}", reference.last_s());
        }
        check(1_000, 1.3, 0.0425, block_s, 0.388);
        check(1_000, 1.1, 0.0425, block_s, 0.419);
    }
}
