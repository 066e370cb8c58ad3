//! The feed: which entries are genuine, how they hang together, which one is the highest.
//!
//! An entry counts as soon as its signature is good; its links to its neighbours are checked when
//! they are here. Two genuine entries that contradict each other are the broadcaster's fault, never
//! the fault of the peer that brought them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

use super::Stream;
use super::proven::Proven;
use crate::units::{BLOCK_LEN, Epoch, InfoHash, PieceIndex, Seq, UnixUs};
use crate::wire::feed::{Claim, Entry, EntryError, Flags, Hash, Head};
use crate::wire::limits::WINDOW_PIECES_MAX;
use crate::wire::live::Proof;

/// A genuine entry: parsed, as it is relayed, and as its successor names it.
#[derive(Clone, Debug)]
pub struct Genuine {
    /// What it says.
    pub entry: Entry,
    /// Its wire bytes.
    pub raw: Bytes,
    /// SHA-256 of its signed bytes.
    pub digest: Hash,
}

/// Why an entry was not taken. All but [`EntryFault::UnknownKey`] and [`EntryFault::NeedsNewer`]
/// are the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Its form is wrong.
    #[error(transparent)]
    Form(#[from] EntryError),
    /// Its signature is not the broadcaster's.
    #[error("entry {0} has a forged signature")]
    Forged(Seq),
    /// Its piece is longer than the torrent allows.
    #[error("entry {seq} names a piece of {len} bytes, limit {max}")]
    PieceTooLong {
        /// Its place.
        seq: Seq,
        /// The length it names.
        len: u32,
        /// The torrent's piece length.
        max: u32,
    },
    /// It names a signing key of a later version: it can be judged neither genuine nor forged, so
    /// one peer's word for it means nothing.
    #[error("entry {0} is signed by a key of a later version")]
    UnknownKey(Seq),
    /// The broadcaster signed it, and it has a critical field that this version does not know.
    #[error("entry {0} needs a newer btlive")]
    NeedsNewer(Seq),
}

/// What came of an entry.
#[derive(Clone, Debug)]
pub enum Offer {
    /// Genuine and new.
    New(Arc<Genuine>),
    /// Known already.
    Known(Seq),
    /// Genuine or not, it is of an epoch that is over or older than what is kept.
    Old(Seq),
    /// Genuine or not, its epoch is further ahead than may be.
    Ahead(Seq),
    /// Genuine, but it contradicts one that is known. It was taken if it is new.
    Contradiction(Box<Proof>, Option<Arc<Genuine>>),
}

/// Checks one signature by the strict rule of RFC 8032: no small-order points, canonical forms.
#[must_use]
pub fn signature_holds(key: &VerifyingKey, claim: &Claim, info_hash: InfoHash) -> bool {
    let signature = Signature::from_bytes(&claim.signature);
    key.verify_strict(&claim.signed_bytes(info_hash), &signature).is_ok()
}

/// Whether the y coordinate of a point is written below the field's prime 2^255 - 19, as RFC 8032
/// demands; the library takes higher ones.
fn is_canonical(point: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = point;
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

/// Whether two claims with good signatures contradict each other (`specs/feed.md`, section
/// Equivocation).
#[must_use]
pub fn contradict(a: &Claim, b: &Claim, info_hash: InfoHash) -> bool {
    if a.head.epoch != b.head.epoch {
        return false;
    }
    let digests = [a.digest(info_hash), b.digest(info_hash)];
    disagree([&a.head, &b.head], [&digests[0], &digests[1]])
}

/// The same for two heads of one epoch and the digests of what was signed with them.
fn disagree(heads: [&Head; 2], digests: [&Hash; 2]) -> bool {
    let [a, b] = heads;
    let [of_a, of_b] = digests;
    let (first, digest, second) = match a.index.cmp(&b.index) {
        Ordering::Equal => return of_a != of_b,
        Ordering::Less => (a, of_a, b),
        Ordering::Greater => (b, of_b, a),
    };
    if first.index.next() != second.index {
        return false;
    }
    second.previous != *digest
        || second.first_block != first.end_block()
        || second.birth < first.birth
}

/// The genuine entries of the current epoch that the window covers.
#[derive(Debug)]
pub struct Feed {
    stream: Stream,
    key: VerifyingKey,
    entries: BTreeMap<PieceIndex, Arc<Genuine>>,
    /// What is below has slid out of the window of this epoch and is not looked at again.
    floor: PieceIndex,
    epoch: Epoch,
    epoch_max: Option<Epoch>,
    highest: Option<Arc<Genuine>>,
    proof: Option<(Epoch, Proof)>,
    proven: Option<Proven>,
}

impl Feed {
    /// A feed that knows nothing yet; `None` if the key is not a point that can sign.
    #[must_use]
    pub fn new(stream: Stream) -> Option<Self> {
        let key = VerifyingKey::from_bytes(&stream.public_key).ok()?;
        if key.is_weak() || !is_canonical(&stream.public_key) {
            return None;
        }
        let entries = BTreeMap::new();
        let (floor, epoch) = (PieceIndex(0), Epoch(0));
        let (epoch_max, highest, proof, proven) = (None, None, None, None);
        Some(Self { stream, key, entries, floor, epoch, epoch_max, highest, proof, proven })
    }

    /// The same feed, which takes for verified what another machine of this process has.
    #[must_use]
    pub fn with_proven(self, proven: Option<Proven>) -> Self {
        Self { proven, ..self }
    }

    /// The epoch that the feed is in; 0 before the first entry.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The highest entry ever taken.
    #[must_use]
    pub fn highest(&self) -> Option<&Arc<Genuine>> {
        self.highest.as_ref()
    }

    /// Where the highest entry stands.
    #[must_use]
    pub fn head(&self) -> Option<Seq> {
        self.highest.as_ref().map(|g| g.entry.head.seq())
    }

    /// The entry of a piece of the current epoch.
    #[must_use]
    pub fn get(&self, index: PieceIndex) -> Option<&Arc<Genuine>> {
        self.entries.get(&index)
    }

    /// The kept entries of the current epoch, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Genuine>> {
        self.entries.values()
    }

    /// How many entries are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries of the current epoch below this index have slid out of the window.
    #[must_use]
    pub fn floor(&self) -> PieceIndex {
        self.floor
    }

    /// The oldest kept entry of the current epoch.
    #[must_use]
    pub fn oldest(&self) -> Option<&Arc<Genuine>> {
        self.entries.values().next()
    }

    /// Proof that the broadcaster contradicted itself, with the epoch it is about.
    #[must_use]
    pub fn proof(&self) -> Option<&(Epoch, Proof)> {
        self.proof.as_ref()
    }

    /// The piece that a block of the current epoch belongs to.
    #[must_use]
    pub fn piece_of(&self, block: crate::units::BlockNo) -> Option<&Arc<Genuine>> {
        // Blocks rise with the index, so the newest entry that begins at or before it holds it.
        let (mut low, mut high) = (self.oldest()?.entry.head.index.0, self.head()?.index.0);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let (_, found) = self.entries.range(PieceIndex(middle)..).next()?;
            if found.entry.head.first_block <= block {
                low = found.entry.head.index.0.max(middle);
            } else {
                high = middle - 1;
            }
        }
        // Empty pieces share their first block with the full one behind them.
        let (_, found) = self.entries.range(..=PieceIndex(low)).next_back()?;
        let head = &found.entry.head;
        (head.first_block <= block && block < head.end_block()).then_some(found)
    }

    /// Ignores entries of epochs above `max` from now on, whatever their signatures; `None` takes
    /// all.
    pub fn set_epoch_max(&mut self, max: Option<Epoch>) {
        self.epoch_max = max;
    }

    /// Looks at an entry from a stranger.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn offer(&mut self, raw: &Bytes) -> Result<Offer, EntryFault> {
        // Most entries come more than once: equal bytes need no second look.
        if let Some(seq) = Entry::named(raw) {
            if self.known(seq).is_some_and(|known| known.raw == *raw) {
                return Ok(Offer::Known(seq));
            }
            let proven = self.proven.as_ref().and_then(|proven| proven.entry(seq, raw));
            if let Some(genuine) = proven {
                return Ok(self.untimely(seq).unwrap_or_else(|| self.take_shared(genuine)));
            }
        }
        let entry = Entry::parse(raw)?;
        let seq = entry.head.seq();
        if let Some(untimely) = self.untimely(seq) {
            return Ok(untimely);
        }
        if entry.head.key_id != 0 {
            return Err(EntryFault::UnknownKey(seq));
        }
        let claim = entry.claim();
        if !signature_holds(&self.key, &claim, self.stream.info_hash) {
            return Err(EntryFault::Forged(seq));
        }
        // Behind the signature, so that only the broadcaster can call for a newer version.
        if entry.ext.unknown_critical(&[]).is_some() {
            return Err(EntryFault::NeedsNewer(seq));
        }
        if entry.head.len > self.stream.piece_len {
            let (len, max) = (entry.head.len, self.stream.piece_len);
            return Err(EntryFault::PieceTooLong { seq, len, max });
        }
        let digest = claim.digest(self.stream.info_hash);
        let raw = Bytes::copy_from_slice(raw);
        let genuine = Arc::new(Genuine { entry, raw, digest });
        if let Some(proven) = &self.proven {
            proven.keep_entry(&genuine);
        }
        Ok(self.take_shared(genuine))
    }

    /// What becomes of an entry at `seq` without a look at it: it comes too late or too early.
    fn untimely(&self, seq: Seq) -> Option<Offer> {
        if seq.epoch < self.epoch || self.is_below_window(seq) {
            return Some(Offer::Old(seq));
        }
        let ahead = self.epoch_max.is_some_and(|max| seq.epoch > max.max(self.epoch));
        ahead.then_some(Offer::Ahead(seq))
    }

    /// Takes an entry whose signature is known to be good: our own, or one checked by `offer`.
    pub fn take(&mut self, genuine: Genuine) -> Offer {
        self.take_shared(Arc::new(genuine))
    }

    fn take_shared(&mut self, genuine: Arc<Genuine>) -> Offer {
        let seq = genuine.entry.head.seq();
        if seq.epoch > self.epoch {
            self.epoch = seq.epoch;
            self.floor = PieceIndex(0);
            self.entries.clear();
        }
        let contradiction = self.contradiction(&genuine);
        let new = !self.entries.contains_key(&seq.index);
        if new {
            self.entries.insert(seq.index, Arc::clone(&genuine));
            if self.head().is_none_or(|head| seq > head) {
                self.highest = Some(Arc::clone(&genuine));
            }
            while self.entries.len() > WINDOW_PIECES_MAX {
                if let Some((gone, _)) = self.entries.pop_first() {
                    self.floor = self.floor.max(gone.next());
                }
            }
        }
        match contradiction {
            Some(proof) => {
                if self.proof.as_ref().is_none_or(|(epoch, _)| *epoch < seq.epoch) {
                    self.proof = Some((seq.epoch, proof.clone()));
                }
                Offer::Contradiction(Box::new(proof), new.then_some(genuine))
            }
            None if new => Offer::New(genuine),
            None => Offer::Known(seq),
        }
    }

    /// Looks at a proof from a stranger: true if it holds and is the first of its epoch.
    pub fn offer_proof(&mut self, proof: &Proof) -> Option<bool> {
        let (a, b) = (&proof.first, &proof.second);
        let known = self.proof.as_ref().is_some_and(|(epoch, _)| *epoch >= a.head.epoch);
        if known || a.head.epoch < self.epoch {
            return Some(false);
        }
        let hash = self.stream.info_hash;
        let holds = a.head.key_id == 0
            && b.head.key_id == 0
            && contradict(a, b, hash)
            && signature_holds(&self.key, a, hash)
            && signature_holds(&self.key, b, hash);
        if !holds {
            return None;
        }
        self.proof = Some((a.head.epoch, proof.clone()));
        Some(true)
    }

    /// Forgets entries below `index`; they slid out of the window, and who shows them again, of
    /// itself or replayed, costs no check of a signature.
    pub fn forget_below(&mut self, index: PieceIndex) {
        self.floor = self.floor.max(index);
        while self.entries.first_key_value().is_some_and(|(first, _)| *first < index) {
            self.entries.pop_first();
        }
    }

    /// The newest `count` kept entries at or below `index`, newest first, without holes.
    #[must_use]
    pub fn run(&self, index: PieceIndex, count: usize, bytes_max: usize) -> Vec<Bytes> {
        let newest = match self.entries.range(..=index).next_back() {
            Some((found, _)) if *found == index || index.0 == u32::MAX => *found,
            _ => return Vec::new(),
        };
        let mut run = Vec::new();
        let mut bytes = 0;
        let mut expected = newest;
        for (at, genuine) in self.entries.range(..=newest).rev().take(count) {
            bytes += genuine.raw.len();
            if *at != expected || bytes > bytes_max {
                break;
            }
            run.push(genuine.raw.clone());
            expected = at.minus(1);
        }
        run
    }

    /// Where one who aims at `delay_us` behind `now` (source's clock) starts: the oldest entry at
    /// which a decoder can start that is not due yet but leaves half the delay; without such a one
    /// the newest that is due, then the oldest of all.
    #[must_use]
    pub fn start_at(&self, now: UnixUs, delay_us: u64) -> Option<&Arc<Genuine>> {
        let starts = || self.iter().filter(|g| g.entry.head.flags.has(Flags::RANDOM_ACCESS));
        let due = UnixUs(now.0.saturating_sub(delay_us));
        let half = UnixUs(now.0.saturating_sub(delay_us / 2));
        starts()
            .find(|g| (due..=half).contains(&g.entry.head.birth))
            .or_else(|| starts().rfind(|g| g.entry.head.birth <= due))
            .or_else(|| starts().next())
    }

    /// The oldest kept entry at which a decoder can start.
    #[must_use]
    pub fn first_start(&self) -> Option<&Arc<Genuine>> {
        self.iter().find(|g| g.entry.head.flags.has(Flags::RANDOM_ACCESS))
    }

    /// The newest entry at which a decoder can start.
    #[must_use]
    pub fn newest_start(&self) -> Option<&Arc<Genuine>> {
        self.iter().rev().find(|g| g.entry.head.flags.has(Flags::RANDOM_ACCESS))
    }

    fn known(&self, seq: Seq) -> Option<&Arc<Genuine>> {
        if seq.epoch == self.epoch { self.entries.get(&seq.index) } else { None }
    }

    fn is_below_window(&self, seq: Seq) -> bool {
        let Some(head) = self.head() else { return false };
        let far = seq.index < head.index.minus(WINDOW_PIECES_MAX as u32);
        seq.epoch == head.epoch && (far || seq.index < self.floor)
    }

    /// Proof that `genuine` contradicts an entry that is known, if it does.
    fn contradiction(&self, genuine: &Genuine) -> Option<Proof> {
        let head = &genuine.entry.head;
        let near = [
            Some(head.index),
            head.index.0.checked_sub(1).map(PieceIndex),
            Some(head.index.next()),
        ];
        let mut near = near.into_iter().flatten().filter_map(|at| self.entries.get(&at));
        let other = near
            .find(|other| disagree([head, &other.entry.head], [&genuine.digest, &other.digest]))?;
        Some(Proof { first: other.entry.claim(), second: genuine.entry.claim() })
    }
}

/// Blocks of a piece of `len` bytes.
#[must_use]
pub fn blocks_in(len: u32) -> u32 {
    len.div_ceil(BLOCK_LEN)
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use ed25519_dalek::{Signer, SigningKey};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::units::{BlockNo, UnixUs};
    use crate::wire::feed::{Flags, Head};
    use crate::wire::tlv::Tlvs;

    pub(crate) fn key() -> SigningKey {
        SigningKey::from_bytes(&[42; 32])
    }

    pub(crate) fn stream() -> Stream {
        Stream {
            info_hash: InfoHash([5; 20]),
            public_key: key().verifying_key().to_bytes(),
            piece_len: 65_536,
            window_us: 60_000_000,
            bitrate: Some(4_000_000),
        }
    }

    /// A chain of genuine entries with pieces of `lens` bytes; every fourth is a start.
    pub(crate) fn chain(epoch: u64, first: u32, lens: &[u32]) -> Vec<Bytes> {
        let (mut previous, mut block) = ([0; 32], 0);
        let mut out = Vec::new();
        for (n, len) in lens.iter().enumerate() {
            let start = if n % 4 == 0 { Flags::RANDOM_ACCESS } else { Flags::default() };
            let head = Head {
                epoch: Epoch(epoch),
                index: PieceIndex(first + n as u32),
                first_block: BlockNo(block),
                len: *len,
                flags: if *len == 0 { Flags::IDLE } else { start },
                key_id: 0,
                birth: UnixUs(1_000_000 + n as u64 * 131_000),
                span_us: 131_000,
                previous,
            };
            let hashes = (0..head.blocks())
                .map(|b| Sha256::digest(block_bytes(head.seq(), b, head.block_len(b))).into())
                .collect();
            let mut entry = Entry { head, hashes, ext: Tlvs::default(), signature: [0; 64] };
            sign(&mut entry);
            previous = entry.digest(stream().info_hash);
            block = head.end_block().0;
            out.push(entry.encode());
        }
        out
    }

    pub(crate) fn sign(entry: &mut Entry) {
        entry.signature = key().sign(&entry.signed_bytes(stream().info_hash)).to_bytes();
    }

    /// Payload that differs from block to block.
    pub(crate) fn block_bytes(seq: Seq, block: u16, len: u32) -> Bytes {
        let tag = (seq.index.0 as usize * 31 + usize::from(block) * 7) as u8;
        Bytes::from(vec![tag; len as usize])
    }

    #[test]
    fn a_chain_is_taken_in_any_order_and_its_head_is_the_highest() {
        let mut feed = Feed::new(stream()).expect("key");
        let entries = chain(9, 1024, &[65_536; 6]);
        for n in [3, 0, 5, 4, 1, 2] {
            assert!(matches!(feed.offer(&entries[n]), Ok(Offer::New(_))), "{n}");
        }
        assert!(matches!(feed.offer(&entries[2]), Ok(Offer::Known(_))));
        assert_eq!(feed.head(), Some(Seq { epoch: Epoch(9), index: PieceIndex(1029) }));
        assert_eq!(feed.run(PieceIndex(u32::MAX), 256, 1 << 20).len(), 6);
        assert_eq!(feed.run(PieceIndex(1026), 2, 1 << 20).len(), 2);
        assert!(feed.run(PieceIndex(2000), 2, 1 << 20).is_empty());
    }

    #[test]
    fn a_block_number_leads_to_its_piece_over_empty_ones() {
        let mut feed = Feed::new(stream()).expect("key");
        for entry in chain(9, 10, &[20_000, 0, 0, 65_536, 100]) {
            feed.offer(&entry).expect("genuine");
        }
        let index = |block| feed.piece_of(BlockNo(block)).map(|g| g.entry.head.index.0);
        let found: Vec<_> = (0..8).map(index).collect();
        let [a, b, c] = [Some(10), Some(13), Some(14)];
        assert_eq!(found, [a, a, b, b, b, b, c, None]);
    }

    #[test]
    fn what_slid_out_of_the_window_is_old_when_it_is_shown_again() {
        let mut feed = Feed::new(stream()).expect("key");
        let entries = chain(9, 10, &[100; 6]);
        for entry in &entries {
            feed.offer(entry).expect("genuine");
        }
        feed.forget_below(PieceIndex(13));
        assert!(matches!(feed.offer(&entries[2]), Ok(Offer::Old(_))));
        assert!(matches!(feed.offer(&entries[3]), Ok(Offer::Known(_))));
        // Another epoch has its own window.
        assert!(matches!(feed.offer(&chain(10, 0, &[100])[0]), Ok(Offer::New(_))));
    }

    #[test]
    fn a_forged_entry_is_refused_and_names_its_place() {
        let mut feed = Feed::new(stream()).expect("key");
        let mut bytes = chain(9, 1, &[100])[0].to_vec();
        bytes[30] ^= 1; // a bit of the birth
        let seq = Seq { epoch: Epoch(9), index: PieceIndex(1) };
        assert_eq!(feed.offer(&bytes.into()).err(), Some(EntryFault::Forged(seq)));
        assert_eq!(feed.head(), None);
    }

    #[test]
    fn an_entry_of_another_torrent_is_forged_here() {
        let other = Stream { info_hash: InfoHash([6; 20]), ..stream() };
        let mut feed = Feed::new(other).expect("key");
        assert!(matches!(feed.offer(&chain(9, 1, &[100])[0]), Err(EntryFault::Forged(_))));
    }

    #[test]
    fn two_entries_for_one_place_prove_equivocation() {
        let mut feed = Feed::new(stream()).expect("key");
        let (one, other) = (chain(9, 7, &[100]), chain(9, 7, &[200]));
        feed.offer(&one[0]).expect("genuine");
        let Ok(Offer::Contradiction(proof, None)) = feed.offer(&other[0]) else {
            panic!("no contradiction");
        };
        let mut stranger = Feed::new(stream()).expect("key");
        assert_eq!(stranger.offer_proof(&proof), Some(true));
        assert_eq!(stranger.offer_proof(&proof), Some(false), "once an epoch");
    }

    #[test]
    fn each_epoch_has_its_own_proof() {
        let mut feed = Feed::new(stream()).expect("key");
        for epoch in [9, 10] {
            feed.offer(&chain(epoch, 7, &[100])[0]).expect("genuine");
            feed.offer(&chain(epoch, 7, &[200])[0]).expect("genuine");
            assert_eq!(feed.proof().map(|(of, _)| *of), Some(Epoch(epoch)));
        }
    }

    #[test]
    fn neighbours_that_do_not_follow_prove_equivocation() {
        let mut feed = Feed::new(stream()).expect("key");
        let (one, other) = (chain(9, 7, &[100, 100]), chain(9, 7, &[200, 100]));
        feed.offer(&one[0]).expect("genuine");
        assert!(matches!(feed.offer(&other[1]), Ok(Offer::Contradiction(_, Some(_)))));
    }

    #[test]
    fn a_proof_that_proves_nothing_is_refused() {
        let mut feed = Feed::new(stream()).expect("key");
        let claims: Vec<Claim> = chain(9, 7, &[100, 100])
            .iter()
            .map(|raw| Entry::parse(raw).expect("valid").claim())
            .collect();
        let proof = Proof { first: claims[0], second: claims[1] };
        assert_eq!(feed.offer_proof(&proof), None);
    }

    #[test]
    fn a_higher_epoch_replaces_a_lower_one_and_never_the_other_way() {
        let mut feed = Feed::new(stream()).expect("key");
        let (old, new) = (chain(9, 500, &[100; 3]), chain(10, 7, &[100]));
        feed.offer(&old[0]).expect("genuine");
        feed.offer(&new[0]).expect("genuine");
        assert_eq!(feed.head(), Some(Seq { epoch: Epoch(10), index: PieceIndex(7) }));
        assert!(matches!(feed.offer(&old[1]), Ok(Offer::Old(_))));
        assert_eq!(feed.iter().count(), 1);
    }

    #[test]
    fn a_key_id_or_critical_field_of_a_later_version_is_nobodys_fault() {
        let mut feed = Feed::new(stream()).expect("key");
        let mut entry = Entry::parse(&chain(9, 1, &[100])[0]).expect("valid");
        entry.head.key_id = 1;
        sign(&mut entry);
        assert!(matches!(feed.offer(&entry.encode()), Err(EntryFault::UnknownKey(_))));
        entry.head.key_id = 0;
        entry.ext = entry.ext.with(0x8003, b"x").expect("fits");
        sign(&mut entry);
        assert!(matches!(feed.offer(&entry.encode()), Err(EntryFault::NeedsNewer(_))));
    }

    #[test]
    fn a_small_order_key_cannot_have_a_feed() {
        let mut stream = stream();
        stream.public_key = [0; 32];
        stream.public_key[0] = 1;
        assert!(Feed::new(stream).is_none());
    }

    #[test]
    fn a_key_that_is_not_written_canonically_cannot_have_a_feed() {
        // y = 3 is on the curve; y = 3 + p is the same point in another spelling.
        let mut spelled = stream();
        spelled.public_key = [0; 32];
        spelled.public_key[0] = 3;
        assert!(Feed::new(spelled).is_some());
        spelled.public_key = [0xff; 32];
        spelled.public_key[0] = 0xf0;
        spelled.public_key[31] = 0x7f;
        assert!(VerifyingKey::from_bytes(&spelled.public_key).is_ok());
        assert!(Feed::new(spelled).is_none());
    }

    #[test]
    fn a_forged_call_for_a_newer_version_is_a_forgery() {
        let mut feed = Feed::new(stream()).expect("key");
        let mut entry = Entry::parse(&chain(9, 1, &[100])[0]).expect("valid");
        entry.ext = entry.ext.with(0x8003, b"x").expect("fits");
        assert!(matches!(feed.offer(&entry.encode()), Err(EntryFault::Forged(_))));
    }
}
