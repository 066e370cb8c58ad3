//! Peers that push entries again and again: old ones, and forged ones that cost whoever gets them a
//! signature to verify.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::write::live;
use crate::wire::live::{Entries, Live};
use crate::wire::message::Message;

/// Entries that are remembered.
const TAPE_LEN: usize = 64;
/// Between two pushes on one connection, in microseconds.
pub(super) const EVERY_US: u64 = 200_000;
/// Old entries in one push.
const OLD: usize = 8;
/// Where an entry has its index (`specs/feed.md`).
const INDEX_AT: usize = 8;
/// By how much forged entries are ahead.
const AHEAD: u32 = 1_000;

/// What a node has heard of the feed.
#[derive(Debug, Default)]
pub(super) struct Tape(VecDeque<Bytes>);

impl Tape {
    pub(super) fn note(&mut self, entries: &[Bytes]) {
        for entry in entries {
            if self.0.len() == TAPE_LEN {
                self.0.pop_front();
            }
            self.0.push_back(entry.clone());
        }
    }

    /// Push number `n` on a connection: all old ones in turn; every fourth has one with a wrong
    /// signature, every eighth one from the future besides.
    pub(super) fn more(&self, n: u64) -> Vec<Message> {
        let count = self.0.len().min(OLD);
        let from = (n as usize).wrapping_mul(OLD) % self.0.len().max(1);
        let mut entries: Vec<Bytes> =
            self.0.iter().cycle().skip(from).take(count).cloned().collect();
        let newest = self.0.back().filter(|_| n % 4 == 3);
        entries.extend(newest.map(wrongly_signed));
        entries.extend(newest.filter(|_| n % 8 == 7).map(from_the_future));
        if entries.is_empty() {
            return Vec::new();
        }
        vec![live(&Live::Entries(Entries::Push { entries }))]
    }
}

/// The entry with another signature.
fn wrongly_signed(entry: &Bytes) -> Bytes {
    let mut forged = BytesMut::from(&entry[..]);
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    forged.freeze()
}

/// The entry with an index far ahead.
fn from_the_future(entry: &Bytes) -> Bytes {
    let mut forged = BytesMut::from(&entry[..]);
    if let Some((_, rest)) = forged.split_at_mut_checked(INDEX_AT)
        && let Some(index) = rest.first_chunk_mut::<4>()
    {
        *index = u32::from_be_bytes(*index).saturating_add(AHEAD).to_be_bytes();
    }
    forged.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{BlockNo, Epoch, PieceIndex, UnixUs};
    use crate::wire::feed::{Entry, Flags, Head};
    use crate::wire::tlv::Tlvs;

    fn entry(index: u32) -> Entry {
        let head = Head {
            epoch: Epoch(1),
            index: PieceIndex(index),
            first_block: BlockNo(0),
            len: 0,
            flags: Flags::IDLE,
            key_id: 0,
            birth: UnixUs(1),
            span_us: 0,
            previous: [3; 32],
        };
        Entry { head, hashes: Vec::new(), ext: Tlvs::default(), signature: [5; 64] }
    }

    #[test]
    fn forged_entries_are_well_formed_and_differ_only_where_they_should() {
        let mut signature = [5; 64];
        signature[63] = 4;
        let genuine = entry(7);
        let wrong = Entry { signature, ..genuine.clone() };
        assert_eq!(wrongly_signed(&genuine.encode()), wrong.encode());
        assert_eq!(from_the_future(&genuine.encode()), entry(1_007).encode());
    }

    #[test]
    fn old_entries_are_pushed_as_they_came() {
        let mut tape = Tape::default();
        assert!(tape.more(0).is_empty());
        let entries: Vec<Bytes> = (0..100).map(|index| entry(index).encode()).collect();
        tape.note(&entries);
        let push = |from: usize| {
            let entries = entries.iter().skip(36 + from).take(OLD).cloned().collect();
            vec![live(&Live::Entries(Entries::Push { entries }))]
        };
        assert_eq!((tape.more(0), tape.more(1)), (push(0), push(8)));
    }
}
