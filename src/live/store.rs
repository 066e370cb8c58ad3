//! Verified blocks in memory: a piece is here with its entry and some or all of its blocks.
//!
//! Nothing unverified ever enters. The store holds at most its window of birth time and at most
//! its budget of bytes, whichever is smaller; the oldest pieces go first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::feed::Genuine;
use super::proven::Proven;
use crate::units::{Epoch, PieceIndex, Seq, UnixUs};
use crate::wire::limits::WINDOW_PIECES_MAX;

/// A piece and what of it is verified.
#[derive(Debug)]
pub struct Piece {
    /// The entry by which its blocks are judged.
    pub genuine: Arc<Genuine>,
    blocks: Vec<Option<Bytes>>,
    missing: u16,
}

impl Piece {
    /// Whether every block is verified.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing == 0
    }

    /// Blocks that are missing.
    #[must_use]
    pub fn missing(&self) -> u16 {
        self.missing
    }

    /// A verified block.
    #[must_use]
    pub fn block(&self, block: u16) -> Option<&Bytes> {
        self.blocks.get(usize::from(block))?.as_ref()
    }

    /// Whether a block of this number belongs to the piece and is missing.
    #[must_use]
    pub fn lacks(&self, block: u16) -> bool {
        self.blocks.get(usize::from(block)).is_some_and(Option::is_none)
    }

    /// All blocks in order, if the piece is whole.
    #[must_use]
    pub fn whole(&self) -> Option<Vec<Bytes>> {
        self.blocks.iter().cloned().collect()
    }
}

/// What came of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Verified; the piece lacks others.
    Verified,
    /// Verified, and with it the piece is whole.
    Completed,
    /// It was here already.
    Duplicate,
    /// Its hash or length is not what the entry says.
    Bad,
    /// No entry says what it should be.
    NoEntry,
}

/// A span of births that says something about the rate, in microseconds.
const RATE_SPAN_US: u64 = 2_000_000;

/// The pieces of a stream.
#[derive(Debug)]
pub struct Store {
    pieces: BTreeMap<Seq, Piece>,
    bytes: usize,
    /// The newest epoch, how many pieces of it are here and how long they are when whole.
    newest: (Epoch, usize, u64),
    bytes_max: usize,
    window_us: u64,
    proven: Option<Proven>,
}

impl Store {
    /// An empty store for `window_us` of birth time and `bytes_max` bytes of payload.
    #[must_use]
    pub fn new(window_us: u64, bytes_max: usize) -> Self {
        let (pieces, newest, proven) = (BTreeMap::new(), (Epoch(0), 0, 0), None);
        Self { pieces, bytes: 0, newest, bytes_max, window_us, proven }
    }

    /// The same store, which takes for verified what another machine of this process has.
    #[must_use]
    pub fn with_proven(self, proven: Option<Proven>) -> Self {
        Self { proven, ..self }
    }

    /// Payload bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Payload bytes that may be held.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// A piece, whole or not.
    #[must_use]
    pub fn piece(&self, seq: Seq) -> Option<&Piece> {
        self.pieces.get(&seq)
    }

    /// Whether a piece is here with all its blocks.
    #[must_use]
    pub fn is_whole(&self, seq: Seq) -> bool {
        self.pieces.get(&seq).is_some_and(Piece::is_whole)
    }

    /// The pieces from `from` on, in order.
    pub fn range(&self, from: Seq) -> impl DoubleEndedIterator<Item = (&Seq, &Piece)> {
        self.pieces.range(from..)
    }

    /// The lowest piece of all.
    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.pieces.keys().next().copied()
    }

    /// Makes room for the blocks of `genuine`.
    pub fn expect(&mut self, genuine: &Arc<Genuine>) {
        let head = &genuine.entry.head;
        let Entry::Vacant(place) = self.pieces.entry(head.seq()) else { return };
        place.insert(Piece {
            genuine: Arc::clone(genuine),
            blocks: vec![None; usize::from(head.blocks())],
            missing: head.blocks(),
        });
        if head.epoch > self.newest.0 {
            self.newest = (head.epoch, 0, 0);
        }
        if head.epoch == self.newest.0 {
            self.newest.1 += 1;
            self.newest.2 += u64::from(head.len);
        }
    }

    /// The birth time of the newest epoch that there is room for at the rate of what is here, in
    /// microseconds; `u64::MAX` while too little is known to tell.
    #[must_use]
    pub fn room_us(&self) -> u64 {
        let (epoch, pieces, bytes) = self.newest;
        let mut births = self
            .pieces
            .range(Seq { epoch, index: PieceIndex(0) }..)
            .map(|(_, piece)| piece.genuine.entry.head.birth.0);
        let (Some(first), Some(last)) = (births.next(), births.next_back()) else {
            return u64::MAX;
        };
        let span = last.saturating_sub(first);
        // How often what is here would fit, in 1/65,536.
        let of_bytes = ((self.bytes_max as u64) << 16) / bytes.max(1);
        let of_pieces = ((WINDOW_PIECES_MAX as u64) << 16) / pieces.max(1) as u64;
        let fits = of_bytes.min(of_pieces);
        if span < RATE_SPAN_US && fits > 2 << 16 {
            return u64::MAX;
        }
        let room = (u128::from(span) * u128::from(fits)) >> 16;
        u64::try_from(room).unwrap_or(u64::MAX)
    }

    /// Verifies a block and keeps a copy of it: the one copy between socket and socket, so that
    /// a read buffer is never held by what was read into it. Where machines share what they have
    /// verified, the one slice that came first is kept by all.
    pub fn put(&mut self, seq: Seq, block: u16, payload: &Bytes) -> Put {
        let Some(piece) = self.pieces.get(&seq) else { return Put::NoEntry };
        let entry = &piece.genuine.entry;
        let Some(hash) = entry.hashes.get(usize::from(block)) else { return Put::Bad };
        if !piece.lacks(block) {
            return Put::Duplicate;
        }
        let known = self.proven.as_ref().and_then(|proven| proven.block(hash, payload));
        if let Some(known) = known {
            return self.put_own(seq, block, known);
        }
        let fits = payload.len() == entry.head.block_len(block) as usize
            && Sha256::digest(payload).as_slice() == hash;
        if !fits {
            return Put::Bad;
        }
        let kept = match &self.proven {
            Some(proven) => {
                proven.keep_block(*hash, payload);
                payload.clone()
            }
            None => Bytes::copy_from_slice(payload),
        };
        self.put_own(seq, block, kept)
    }

    /// Keeps a block that needs no check: the source's own.
    pub fn put_own(&mut self, seq: Seq, block: u16, payload: Bytes) -> Put {
        let Some(piece) = self.pieces.get_mut(&seq) else { return Put::NoEntry };
        let Some(slot) = piece.blocks.get_mut(usize::from(block)) else { return Put::Bad };
        if slot.is_some() {
            return Put::Duplicate;
        }
        self.bytes += payload.len();
        *slot = Some(payload);
        piece.missing -= 1;
        if piece.is_whole() { Put::Completed } else { Put::Verified }
    }

    /// Pieces held, whole or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Forgets what the window no longer covers, seen from the newest birth, and what exceeds the
    /// budget of bytes or the number of pieces that a window may have. Births of an older epoch may
    /// lie above the newest one; they are as far from it then. Returns the pieces that went.
    pub fn slide(&mut self, newest: UnixUs) -> Vec<Piece> {
        let mut gone = Vec::new();
        while let Some((seq, first)) = self.pieces.first_key_value() {
            let birth = first.genuine.entry.head.birth;
            let last = self.pieces.last_key_value().map(|(seq, _)| seq.epoch);
            let outside = if Some(seq.epoch) == last {
                birth.0 < newest.0.saturating_sub(self.window_us)
            } else {
                birth.0.abs_diff(newest.0) > self.window_us
            };
            let many = self.pieces.len() > WINDOW_PIECES_MAX;
            if !outside && !many && self.bytes <= self.bytes_max {
                break;
            }
            let Some((seq, piece)) = self.pieces.pop_first() else { break };
            self.bytes -= piece.blocks.iter().flatten().map(Bytes::len).sum::<usize>();
            if seq.epoch == self.newest.0 {
                self.newest.1 -= 1;
                self.newest.2 -= u64::from(piece.genuine.entry.head.len);
            }
            gone.push(piece);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::tests::{block_bytes, chain, stream};
    use super::super::feed::{Feed, Offer};
    use super::*;

    fn filled(lens: &[u32]) -> (Store, Vec<Arc<Genuine>>) {
        let mut feed = Feed::new(stream()).expect("key");
        let mut store = Store::new(60_000_000, 1 << 20);
        let mut all = Vec::new();
        for raw in chain(9, 1, lens) {
            let Ok(Offer::New(genuine)) = feed.offer(&raw) else { panic!("not new") };
            store.expect(&genuine);
            all.push(genuine);
        }
        (store, all)
    }

    #[test]
    fn a_block_is_kept_only_if_its_hash_fits() {
        let (mut store, all) = filled(&[20_000]);
        let seq = all[0].entry.head.seq();
        let (first, second) = (block_bytes(seq, 0, 16_384), block_bytes(seq, 1, 3616));
        assert_eq!(store.put(seq, 0, &second), Put::Bad);
        assert_eq!(store.put(seq, 0, &first.slice(..100)), Put::Bad);
        assert_eq!(store.put(seq, 2, &second), Put::Bad);
        assert_eq!(store.put(seq, 0, &first), Put::Verified);
        assert_eq!(store.put(seq, 0, &first), Put::Duplicate);
        assert_eq!(store.put(seq, 1, &second), Put::Completed);
        assert_eq!(store.piece(seq).and_then(Piece::whole), Some(vec![first, second]));
        assert_eq!(store.bytes(), 20_000);
    }

    #[test]
    fn an_empty_piece_is_whole_at_once() {
        let (store, all) = filled(&[0]);
        assert!(store.is_whole(all[0].entry.head.seq()));
    }

    #[test]
    fn the_oldest_pieces_leave_when_time_or_room_is_over() {
        let (mut store, all) = filled(&[16_384; 8]);
        for genuine in &all {
            let seq = genuine.entry.head.seq();
            store.put(seq, 0, &block_bytes(seq, 0, 16_384));
        }
        let newest = all[7].entry.head.birth;
        assert!(store.slide(newest).is_empty());
        let gone = store.slide(UnixUs(newest.0 + 60_000_000 - 131_000 * 5));
        assert_eq!(gone.len(), 2);
        store.bytes_max = 3 * 16_384;
        assert_eq!(store.slide(newest).len(), 3);
        assert_eq!(store.bytes(), 3 * 16_384);
    }
}
