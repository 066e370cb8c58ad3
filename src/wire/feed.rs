//! The feed entry: layout, signed bytes, parsing (`specs/feed.md`, section Entry).
//!
//! Parsing checks form only; whether the signature is good and the chain holds is
//! [`crate::live::feed`]'s question.

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u16, be_u32, be_u64};
use sha2::{Digest, Sha256};

use super::limits::{ENTRY_EXT_LEN_MAX, ENTRY_LEN_MAX, PIECE_LEN_MAX};
use super::message::array;
use super::tlv::Tlvs;
use crate::units::{BLOCK_LEN, BlockNo, Epoch, InfoHash, PieceIndex, Seq, UnixUs};

/// SHA-256, of a block or of an entry's signed bytes.
pub type Hash = [u8; 32];

/// Bytes of an entry's fixed head.
pub const HEAD_LEN: usize = 72;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;
/// Bytes that are signed: domain, info-hash, head, digest of the tail.
pub const SIGNED_LEN: usize = 16 + 20 + HEAD_LEN + 32;
/// What every signature of an entry begins with, so that it can mean nothing else.
pub const DOMAIN: &[u8; 16] = b"btlive-entry-v1\0";
/// Extension: PAT and PMT packets to give a decoder that starts at this piece.
pub const EXT_TABLES: u16 = 1;

/// What an entry says of its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// A decoder can start here.
    pub const RANDOM_ACCESS: Self = Self(1);
    /// What came before is not continued.
    pub const DISCONTINUITY: Self = Self(2);
    /// The source has no input; the piece is empty.
    pub const IDLE: Self = Self(4);
    /// The stream ends here; the piece is empty.
    pub const END: Self = Self(8);
    /// The broadcaster withdrew the stream; the piece is empty.
    pub const WITHDRAWN: Self = Self(16);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the piece must be empty.
    #[must_use]
    pub fn empty_piece(self) -> bool {
        self.0 & (Self::IDLE.0 | Self::END.0 | Self::WITHDRAWN.0) != 0
    }
}

/// What is wrong with an entry's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Longer than the limit, or its parts do not add up to its length.
    #[error("entry of {len} bytes does not add up")]
    Length {
        /// Its length.
        len: usize,
    },
    /// A field with a value that its definition excludes.
    #[error("entry: {field} is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
}

/// The fixed head of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The source run.
    pub epoch: Epoch,
    /// The piece.
    pub index: PieceIndex,
    /// Number of the piece's first block since the epoch began.
    pub first_block: BlockNo,
    /// Bytes in the piece.
    pub len: u32,
    /// What kind of piece.
    pub flags: Flags,
    /// Which key signed; 0 is the one in `info`.
    pub key_id: u16,
    /// When the piece's first byte was taken in (idle, end: when published), source's clock.
    pub birth: UnixUs,
    /// Microseconds from birth to publication.
    pub span_us: u32,
    /// SHA-256 of the previous entry's signed bytes; zeros in the first entry of an epoch.
    pub previous: Hash,
}

impl Head {
    /// Where the entry stands.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq { epoch: self.epoch, index: self.index }
    }

    /// Blocks in the piece.
    #[must_use]
    pub fn blocks(&self) -> u16 {
        self.len.div_ceil(BLOCK_LEN) as u16
    }

    /// When the entry was published, by the source's clock.
    #[must_use]
    pub fn published(&self) -> UnixUs {
        UnixUs(self.birth.0.saturating_add(u64::from(self.span_us)))
    }

    /// Bytes in block `block`; 0 beyond the last one.
    #[must_use]
    pub fn block_len(&self, block: u16) -> u32 {
        self.len.saturating_sub(u32::from(block) * BLOCK_LEN).min(BLOCK_LEN)
    }

    /// Number of the first block behind the piece.
    #[must_use]
    pub fn end_block(&self) -> BlockNo {
        BlockNo(self.first_block.0.saturating_add(u64::from(self.blocks())))
    }

    fn put(&self, out: &mut impl BufMut) {
        out.put_u64(self.epoch.0);
        out.put_u32(self.index.0);
        out.put_u64(self.first_block.0);
        out.put_u32(self.len);
        out.put_u16(self.flags.0);
        out.put_u16(self.key_id);
        out.put_u64(self.birth.0);
        out.put_u32(self.span_us);
        out.put_slice(&self.previous);
    }

    fn parse(bytes: &[u8; HEAD_LEN]) -> Result<Self, EntryError> {
        let parsed: nom::IResult<&[u8], _> =
            (be_u64, be_u32, be_u64, be_u32, be_u16, be_u16, be_u64, be_u32, take(32usize))
                .parse(bytes);
        let (_, (epoch, index, first_block, len, flags, key_id, birth, span_us, previous)) =
            parsed.map_err(|_| EntryError::Length { len: HEAD_LEN })?;
        let head = Self {
            epoch: Epoch(epoch),
            index: PieceIndex(index),
            first_block: BlockNo(first_block),
            len,
            flags: Flags(flags),
            key_id,
            birth: UnixUs(birth),
            span_us,
            previous: array(previous),
        };
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), EntryError> {
        let value = |field, value| Err(EntryError::Value { field, value });
        if self.epoch.0 == 0 || self.epoch.0 >= Epoch::END {
            return value("epoch", self.epoch.0);
        }
        if self.index.0 == u32::MAX {
            return value("index", u64::from(self.index.0));
        }
        if self.first_block.0 >= Epoch::END {
            return value("first block", self.first_block.0);
        }
        if self.len > PIECE_LEN_MAX {
            return value("piece length", u64::from(self.len));
        }
        if self.birth.0 >= Epoch::END {
            return value("birth", self.birth.0);
        }
        if self.flags.empty_piece() != (self.len == 0) {
            return value("flags of an empty or full piece", u64::from(self.flags.0));
        }
        Ok(())
    }
}

/// A signed statement about one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The fixed fields.
    pub head: Head,
    /// SHA-256 of every block.
    pub hashes: Vec<Hash>,
    /// Type-length-value area, at most 512 bytes.
    pub ext: Tlvs,
    /// Ed25519 signature over [`Entry::signed_bytes`].
    pub signature: [u8; SIGNATURE_LEN],
}

impl Entry {
    /// The place that an entry's wire bytes name, before anything of them is checked; `None` if
    /// they are too short to name one.
    #[must_use]
    pub fn named(bytes: &[u8]) -> Option<Seq> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (index, _) = rest.split_first_chunk()?;
        let (epoch, index) = (u64::from_be_bytes(*epoch), u32::from_be_bytes(*index));
        Some(Seq { epoch: Epoch(epoch), index: PieceIndex(index) })
    }

    /// Reads an entry and checks its form.
    ///
    /// # Errors
    /// Its parts do not add up, or a field is outside its definition.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let wrong = || EntryError::Length { len: bytes.len() };
        if bytes.len() > ENTRY_LEN_MAX {
            return Err(wrong());
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>().ok_or_else(wrong)?;
        let head = Head::parse(head)?;
        let parsed: nom::IResult<&[u8], _> =
            (take(usize::from(head.blocks()) * 32), be_u16).parse(rest);
        let (rest, (hashes, ext_len)) = parsed.map_err(|_| wrong())?;
        let ext_len = usize::from(ext_len);
        if ext_len > ENTRY_EXT_LEN_MAX {
            return Err(EntryError::Value { field: "extension length", value: ext_len as u64 });
        }
        if rest.len() != ext_len + SIGNATURE_LEN {
            return Err(wrong());
        }
        let (ext, signature) = rest.split_at(ext_len);
        let ext = Tlvs::parse(ext).ok_or_else(wrong)?;
        let hashes = hashes.chunks_exact(32).map(array).collect();
        Ok(Self { head, hashes, ext, signature: array(signature) })
    }

    /// The entry as it goes on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.head.put(&mut out);
        self.put_tail(&mut out);
        out.put_slice(&self.signature);
        out.freeze()
    }

    /// Length of [`Entry::encode`]'s answer.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEAD_LEN + 32 * self.hashes.len() + 2 + self.ext.as_bytes().len() + SIGNATURE_LEN
    }

    fn put_tail(&self, out: &mut impl BufMut) {
        for hash in &self.hashes {
            out.put_slice(hash);
        }
        let ext = self.ext.as_bytes();
        out.put_u16(ext.len() as u16);
        out.put_slice(ext);
    }

    /// Digest of everything between head and signature.
    #[must_use]
    pub fn tail_digest(&self) -> Hash {
        let mut tail = BytesMut::with_capacity(self.encoded_len());
        self.put_tail(&mut tail);
        Sha256::digest(&tail).into()
    }

    /// The short form that proves what was signed, without the hashes.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim { head: self.head, tail: self.tail_digest(), signature: self.signature }
    }

    /// What the signature covers.
    #[must_use]
    pub fn signed_bytes(&self, info_hash: InfoHash) -> [u8; SIGNED_LEN] {
        self.claim().signed_bytes(info_hash)
    }

    /// What the next entry names as its previous one.
    #[must_use]
    pub fn digest(&self, info_hash: InfoHash) -> Hash {
        self.claim().digest(info_hash)
    }
}

/// An entry with the digest of its tail in place of the tail: enough to check its signature and
/// its links to its neighbours, and what a proof of equivocation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The fixed fields.
    pub head: Head,
    /// SHA-256 of block hashes, extension length and extension area.
    pub tail: Hash,
    /// The signature.
    pub signature: [u8; SIGNATURE_LEN],
}

impl Claim {
    /// Bytes of a claim on the wire.
    pub const LEN: usize = HEAD_LEN + 32 + SIGNATURE_LEN;

    /// Reads a claim.
    ///
    /// # Errors
    /// It is not [`Claim::LEN`] bytes long, or a field is outside its definition.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let wrong = EntryError::Length { len: bytes.len() };
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| wrong)?;
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>().ok_or(wrong)?;
        let (tail, signature) = rest.split_at(32);
        Ok(Self { head: Head::parse(head)?, tail: array(tail), signature: array(signature) })
    }

    /// The claim as it goes on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = BytesMut::with_capacity(Self::LEN);
        self.head.put(&mut out);
        out.put_slice(&self.tail);
        out.put_slice(&self.signature);
        array(&out)
    }

    /// What the signature covers.
    #[must_use]
    pub fn signed_bytes(&self, info_hash: InfoHash) -> [u8; SIGNED_LEN] {
        let mut out = BytesMut::with_capacity(SIGNED_LEN);
        out.put_slice(DOMAIN);
        out.put_slice(&info_hash.0);
        self.head.put(&mut out);
        out.put_slice(&self.tail);
        array(&out)
    }

    /// What the next entry names as its previous one.
    #[must_use]
    pub fn digest(&self, info_hash: InfoHash) -> Hash {
        Sha256::digest(self.signed_bytes(info_hash)).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(len: u32, flags: Flags, ext: &[(u16, Vec<u8>)]) -> Entry {
        let mut tlvs = Tlvs::default();
        for (kind, value) in ext {
            tlvs = tlvs.with(*kind, value).expect("fits");
        }
        let head = Head {
            epoch: Epoch(5 << 20),
            index: PieceIndex(1024),
            first_block: BlockNo(9),
            len,
            flags,
            key_id: 0,
            birth: UnixUs(1_700_000_000_000_000),
            span_us: 131_072,
            previous: [3; 32],
        };
        let hashes = (0..head.blocks()).map(|b| [b as u8; 32]).collect();
        Entry { head, hashes, ext: tlvs, signature: [9; 64] }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back_as_it_was_written(
            len in 1u32..=PIECE_LEN_MAX,
            ext in prop::collection::vec(
                (any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)),
                0..6,
            ),
        ) {
            let entry = entry(len, Flags::RANDOM_ACCESS, &ext);
            let bytes = entry.encode();
            prop_assert!(bytes.len() <= ENTRY_LEN_MAX);
            prop_assert_eq!(Entry::parse(&bytes), Ok(entry));
        }

        #[test]
        fn what_parses_encodes_to_the_same_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            len in 0u32..40_000,
        ) {
            // Plausible heads, so that some get through.
            if bytes.len() > 24 {
                bytes[0] = 0;
                bytes[1] &= 0x1f;
                bytes[12] = 0;
                bytes[20..24].copy_from_slice(&len.to_be_bytes());
            }
            if let Ok(entry) = Entry::parse(&bytes) {
                prop_assert_eq!(&entry.encode()[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn every_cut_of_an_entry_is_refused() {
        let bytes = entry(40_000, Flags::default(), &[(1, vec![7; 9])]).encode();
        for len in 0..bytes.len() {
            assert!(Entry::parse(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_piece_is_empty_if_and_only_if_its_flags_say_so() {
        assert!(Entry::parse(&entry(0, Flags::IDLE, &[]).encode()).is_ok());
        assert!(Entry::parse(&entry(0, Flags::default(), &[]).encode()).is_err());
        assert!(Entry::parse(&entry(1, Flags::END, &[]).encode()).is_err());
    }

    #[test]
    fn a_claim_signs_and_links_like_its_entry() {
        let entry = entry(20_000, Flags::default(), &[]);
        let claim = Claim::parse(&entry.claim().encode()).expect("valid");
        let hash = InfoHash([1; 20]);
        assert_eq!(claim.signed_bytes(hash), entry.signed_bytes(hash));
        assert_eq!(claim.digest(hash), entry.digest(hash));
    }
}
