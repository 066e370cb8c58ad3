//! What another machine of this process has found genuine, so that it is found out once.
//!
//! A process that plays many viewers of one stream, as the simulator does, sees every entry and
//! every block once for each of them. Whether a signature or a hash holds depends on the bytes
//! alone: what one machine has verified is as good for all others, and one copy of it is enough.
//! Only bytes that are equal to verified ones profit; anything else is judged by the real rules.
//! A program that plays one viewer has no use for this.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::feed::Genuine;
use crate::units::Seq;
use crate::wire::feed::Hash;
use crate::wire::limits::WINDOW_PIECES_MAX;

/// Verified entries and blocks of one stream, shared by machines of one process.
#[derive(Clone, Debug)]
pub struct Proven(Arc<Mutex<Shelf>>);

#[derive(Debug)]
struct Shelf {
    entries: BTreeMap<Seq, Arc<Genuine>>,
    blocks: BTreeMap<Hash, Bytes>,
    by_age: VecDeque<Hash>,
    bytes: usize,
    bytes_max: usize,
}

impl Proven {
    /// Nothing yet; keeps up to `bytes_max` bytes of blocks and a window of entries.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Shelf {
            entries: BTreeMap::new(),
            blocks: BTreeMap::new(),
            by_age: VecDeque::new(),
            bytes: 0,
            bytes_max,
        })))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing here panics half-way: what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verified entry at `seq`, if these are its wire bytes.
    pub(super) fn entry(&self, seq: Seq, raw: &[u8]) -> Option<Arc<Genuine>> {
        self.shelf().entries.get(&seq).filter(|known| same(&known.raw, raw)).cloned()
    }

    /// Keeps an entry that was verified. Of two for one place the first stays.
    pub(super) fn keep_entry(&self, genuine: &Arc<Genuine>) {
        let mut shelf = self.shelf();
        shelf.entries.entry(genuine.entry.head.seq()).or_insert_with(|| Arc::clone(genuine));
        if shelf.entries.len() > WINDOW_PIECES_MAX {
            shelf.entries.pop_first();
        }
    }

    /// The verified block with this hash, if these are its bytes.
    pub(super) fn block(&self, hash: &Hash, payload: &[u8]) -> Option<Bytes> {
        self.shelf().blocks.get(hash).filter(|known| same(known, payload)).cloned()
    }

    /// Keeps a block that was verified, as the slice that came.
    pub(super) fn keep_block(&self, hash: Hash, payload: &Bytes) {
        let mut shelf = self.shelf();
        if shelf.blocks.insert(hash, payload.clone()).is_some() {
            return;
        }
        shelf.by_age.push_back(hash);
        shelf.bytes += payload.len();
        while shelf.bytes > shelf.bytes_max {
            let Some(oldest) = shelf.by_age.pop_front() else { return };
            let gone = shelf.blocks.remove(&oldest).map_or(0, |block| block.len());
            shelf.bytes -= gone;
        }
    }
}

/// Whether two buffers hold the same bytes; the same memory needs no look.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (std::ptr::eq(a, b) || a == b)
}

#[cfg(test)]
mod tests {
    use super::super::feed::tests::{block_bytes, chain, stream};
    use super::super::feed::{EntryFault, Feed, Offer};
    use super::super::store::{Put, Store};
    use super::*;

    fn member(proven: &Proven) -> (Feed, Store) {
        let feed = Feed::new(stream()).expect("key").with_proven(Some(proven.clone()));
        let store = Store::new(60_000_000, 1 << 20).with_proven(Some(proven.clone()));
        (feed, store)
    }

    fn taken(feed: &mut Feed, store: &mut Store, raw: &Bytes) -> Arc<Genuine> {
        let Ok(Offer::New(genuine)) = feed.offer(raw) else { panic!("not new") };
        store.expect(&genuine);
        genuine
    }

    #[test]
    fn what_one_has_verified_all_hold_in_one_copy() {
        let proven = Proven::new(1 << 20);
        let raw = chain(9, 1, &[16_384]).remove(0);
        let (mut feed, mut store) = member(&proven);
        let first = taken(&mut feed, &mut store, &raw);
        let seq = first.entry.head.seq();
        let block = block_bytes(seq, 0, 16_384);
        assert_eq!(store.put(seq, 0, &block), Put::Completed);
        let (mut other_feed, mut other_store) = member(&proven);
        let second = taken(&mut other_feed, &mut other_store, &Bytes::copy_from_slice(&raw));
        assert!(Arc::ptr_eq(&first, &second));
        let again = Bytes::copy_from_slice(&block);
        assert_eq!(other_store.put(seq, 0, &again), Put::Completed);
        let kept = |store: &Store| store.piece(seq)?.block(0).map(|kept| kept.as_ptr());
        assert_eq!(kept(&store), kept(&other_store));
    }

    #[test]
    fn other_bytes_are_judged_as_if_nothing_were_known() {
        let proven = Proven::new(1 << 20);
        let raw = chain(9, 1, &[16_384]).remove(0);
        let (mut feed, mut store) = member(&proven);
        let seq = taken(&mut feed, &mut store, &raw).entry.head.seq();
        store.put(seq, 0, &block_bytes(seq, 0, 16_384));
        let (mut feed, mut store) = member(&proven);
        let mut forged = raw.to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert!(matches!(feed.offer(&forged.into()), Err(EntryFault::Forged(_))));
        taken(&mut feed, &mut store, &raw);
        let mut bad = block_bytes(seq, 0, 16_384).to_vec();
        bad[77] ^= 1;
        assert_eq!(store.put(seq, 0, &bad.into()), Put::Bad);
    }

    #[test]
    fn blocks_beyond_the_bound_are_forgotten_and_verified_again() {
        let proven = Proven::new(40_000);
        let blocks: Vec<Bytes> = (0..5u8).map(|n| vec![n; 16_384].into()).collect();
        for (n, block) in (0u8..).zip(&blocks) {
            proven.keep_block([n; 32], block);
        }
        assert!(proven.block(&[2; 32], &blocks[2]).is_none());
        assert!(proven.block(&[4; 32], &blocks[4]).is_some());
    }
}
