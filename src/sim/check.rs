//! What must hold after every step, however the network behaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::clip::{Clip, PACKET_LEN};
use super::share::same;
use crate::swarm::io::Delivery;
use crate::units::{Seq, Time};

/// Pieces whose content is remembered as right.
const KNOWN_MAX: usize = 512;
/// A piece shorter than this need not say where it belongs.
const SHORT_LEN: usize = 6 * PACKET_LEN;

/// Something that must never happen, happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} us, node {node}: {what}", at.0)]
pub struct Violation {
    /// When, from the start of the run.
    pub at: Time,
    /// To which node; 0 is the source.
    pub node: u32,
    /// What.
    pub what: String,
}

/// What one reader has had.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// The place in the stream that must come next, in bytes.
    expected: Option<u64>,
    last: Option<Seq>,
    /// A skip was recorded behind `last`, up to here.
    skipped_to: Option<Seq>,
    ended: bool,
}

/// Checks what readers get against what the encoder put out.
#[derive(Debug)]
pub(super) struct Readers {
    clip: Clip,
    /// Pieces found right, with their place in the stream.
    known: BTreeMap<Seq, (Option<u64>, Vec<Bytes>)>,
    /// Pieces without content: they need not be delivered.
    empty: BTreeSet<Seq>,
    by_age: VecDeque<Seq>,
}

impl Readers {
    pub(super) fn new(clip: Clip) -> Self {
        Self { clip, known: BTreeMap::new(), empty: BTreeSet::new(), by_age: VecDeque::new() }
    }

    /// A piece without content was published.
    pub(super) fn published_empty(&mut self, seq: Seq) {
        self.empty.insert(seq);
    }

    /// Takes what a reader gets.
    ///
    /// # Errors
    /// What is wrong with it: bytes that were never broadcast, or a gap that nobody recorded.
    pub(super) fn deliver(&mut self, reading: &mut Reading, item: &Delivery) -> Result<(), String> {
        if reading.ended {
            return Err("something was delivered behind the end".to_owned());
        }
        match item {
            Delivery::End => reading.ended = true,
            Delivery::Skip { from, pieces } => Self::skip(reading, *from, *pieces)?,
            Delivery::Piece { seq, blocks, discontinuity, .. } => {
                self.piece(reading, *seq, blocks, *discontinuity)?;
            }
        }
        Ok(())
    }

    fn skip(reading: &mut Reading, from: Seq, pieces: u32) -> Result<(), String> {
        if reading.last.is_some_and(|last| from <= last) {
            return Err(format!("pieces from {from} on were skipped and had been delivered"));
        }
        let last = Seq { epoch: from.epoch, index: from.index.plus(pieces).minus(1) };
        reading.skipped_to = reading.skipped_to.max(Some(last));
        Ok(())
    }

    fn piece(
        &mut self,
        reading: &mut Reading,
        seq: Seq,
        blocks: &[Bytes],
        discontinuity: bool,
    ) -> Result<(), String> {
        let gap_known = discontinuity || reading.skipped_to.is_some();
        if let Some(last) = reading.last {
            if seq <= last {
                return Err(format!("piece {seq} was delivered behind {last}"));
            }
            let mut next = reading.skipped_to.unwrap_or(last).index.next();
            while next < seq.index && self.empty.contains(&Seq { epoch: seq.epoch, index: next }) {
                next = next.next();
            }
            if seq.epoch == last.epoch && seq.index != next {
                return Err(format!("piece {seq} was delivered behind {last} without a skip"));
            }
        }
        let len: usize = blocks.iter().map(Bytes::len).sum();
        let place = self.place(seq, blocks, reading.expected.filter(|_| !gap_known))?;
        match (place, reading.expected) {
            (None, _) if len >= SHORT_LEN => {
                return Err(format!("piece {seq} holds bytes that were never broadcast"));
            }
            (Some(at), Some(expected)) if at != expected && !gap_known => {
                return Err(format!("piece {seq} begins at byte {at}, not {expected}: no skip"));
            }
            (Some(at), Some(expected)) if at < expected => {
                return Err(format!("piece {seq} goes back to byte {at} from {expected}"));
            }
            _ => {}
        }
        if len > 0 {
            reading.expected = place.map(|at| at + len as u64);
        }
        reading.last = Some(seq);
        reading.skipped_to = None;
        Ok(())
    }

    /// Where in the stream a piece belongs; `None` if its bytes do not say.
    fn place(
        &mut self,
        seq: Seq,
        blocks: &[Bytes],
        expected: Option<u64>,
    ) -> Result<Option<u64>, String> {
        if let Some((place, known)) = self.known.get(&seq) {
            let equal =
                known.len() == blocks.len() && known.iter().zip(blocks).all(|(a, b)| same(a, b));
            return if equal {
                Ok(*place)
            } else {
                Err(format!("piece {seq} differs from what another reader got"))
            };
        }
        let located = blocks.first().and_then(|first| self.clip.locate(first)).or(expected);
        let mut at = located.unwrap_or(0);
        for block in blocks.iter().filter(|_| located.is_some()) {
            if !self.clip.holds(at, block) {
                return Err(format!("piece {seq} holds bytes that were never broadcast"));
            }
            at += block.len() as u64;
        }
        self.known.insert(seq, (located, blocks.to_vec()));
        self.by_age.push_back(seq);
        if self.by_age.len() > KNOWN_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.known.remove(&oldest);
        }
        Ok(located)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Epoch, PieceIndex};

    fn seq(index: u32) -> Seq {
        Seq { epoch: Epoch(1), index: PieceIndex(index) }
    }

    /// The piece with the packets `from..from + 60`.
    fn piece(index: u32, from: u64) -> Delivery {
        let bytes = Bytes::from(Clip::new(1, 1_000_000, 500).bytes(from, from + 60));
        Delivery::Piece {
            seq: seq(index),
            tables: Bytes::new(),
            blocks: vec![bytes.slice(..5000), bytes.slice(5000..)],
            discontinuity: false,
        }
    }

    fn check(items: &[Delivery], fault: Option<&str>) {
        let mut readers = Readers::new(Clip::new(1, 1_000_000, 500));
        let mut reading = Reading::default();
        let got = items.iter().try_for_each(|item| readers.deliver(&mut reading, item));
        match (got, fault) {
            (Ok(()), None) => {}
            (Err(what), Some(fault)) => assert!(what.contains(fault), "{what}"),
            (got, fault) => panic!("{got:?} instead of {fault:?}"),
        }
    }

    #[test]
    fn what_was_broadcast_may_be_read_with_recorded_skips() {
        let skip = Delivery::Skip { from: seq(6), pieces: 2 };
        check(&[piece(4, 100), piece(5, 160), skip, piece(8, 340), Delivery::End], None);
    }

    #[test]
    fn pieces_without_content_need_no_skip() {
        let mut readers = Readers::new(Clip::new(1, 1_000_000, 500));
        let mut reading = Reading::default();
        readers.published_empty(seq(5));
        assert_eq!(readers.deliver(&mut reading, &piece(4, 100)), Ok(()));
        assert_eq!(readers.deliver(&mut reading, &piece(6, 160)), Ok(()));
    }

    #[test]
    fn gaps_repetitions_and_forged_bytes_are_found() {
        check(&[piece(4, 100), piece(6, 220)], Some("without a skip"));
        check(&[piece(4, 100), piece(5, 220)], Some("no skip"));
        check(&[piece(4, 100), piece(4, 100)], Some("behind"));
        check(&[Delivery::End, piece(4, 100)], Some("behind the end"));
        let Delivery::Piece { seq, mut blocks, .. } = piece(4, 100) else { return };
        let mut forged = blocks[1].to_vec();
        forged[77] ^= 1;
        blocks[1] = forged.into();
        let forged = Delivery::Piece { seq, tables: Bytes::new(), blocks, discontinuity: false };
        check(&[forged], Some("never broadcast"));
    }
}
