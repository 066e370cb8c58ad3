//! The source: bytes in, sealed pieces with signed entries out.
//!
//! A piece is closed when it is full, when a random access point begins, or when its time is up;
//! it never waits to fill. With no input an empty *idle* piece says every second that the source
//! is there.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use super::clock::SourceClock;
use super::feed::Genuine;
use super::{EPOCH_INDEX_GAP, Stream};
use crate::media::cut::{Cutter, Span};
use crate::media::ts::PACKET_LEN;
use crate::units::{BLOCK_LEN, BlockNo, Epoch, Now, PieceIndex, Seq, Time, UnixUs};
use crate::wire::feed::{EXT_TABLES, Entry, Flags, HEAD_LEN, Hash, Head, SIGNATURE_LEN};
use crate::wire::limits::ENTRY_EXT_LEN_MAX;
use crate::wire::tlv::Tlvs;

/// A piece that is open this long is closed, at rates where entries cost next to nothing.
pub const PIECE_US: u64 = 200_000;
/// And at the lowest rates after this long.
pub const PIECE_US_MAX: u64 = 1_000_000;
/// Entries may cost one part in this many of the bytes (5 %).
const ENTRY_SHARE: u64 = 20;
/// An epoch that would begin above this index begins at 0 instead: half of all are left to it.
const INDEX_START_MAX: u32 = u32::MAX / 2;
/// Without input an idle entry is due this often.
pub const IDLE_US: u64 = 1_000_000;

/// A piece as it leaves the source.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Its signed entry.
    pub genuine: Genuine,
    /// Its blocks, in order.
    pub blocks: Vec<Bytes>,
}

/// Where a source run goes on: the last entry it signed.
#[derive(Clone, Debug)]
pub struct Last {
    /// Its head.
    pub head: Head,
    /// SHA-256 of its signed bytes.
    pub digest: Hash,
}

/// The piece under way.
#[derive(Debug)]
struct Open {
    since: Time,
    birth: UnixUs,
    bytes: BytesMut,
    flags: Flags,
    tables: Bytes,
}

/// Cuts, hashes, chains and signs.
#[derive(Debug)]
pub struct Builder {
    stream: Stream,
    key: SigningKey,
    cutter: Cutter,
    clock: SourceClock,
    epoch: Epoch,
    next: PieceIndex,
    last: Option<Last>,
    open: Option<Open>,
    discontinuity: bool,
    ended: bool,
    last_sealed: Time,
    input_since: Option<Time>,
    input_bytes: u64,
    /// Bytes of the input that are looked at but not published.
    skip: u64,
}

impl Builder {
    /// A source that opens `epoch` above `known`, the highest place anybody is known to have seen.
    #[must_use]
    pub fn open_epoch(
        stream: Stream,
        key: SigningKey,
        media: &str,
        now: Now,
        epoch: Epoch,
        known: Option<&Head>,
    ) -> Self {
        // Where so many indices are used up that none could follow, the new epoch begins below: its
        // places are higher all the same.
        let next = known.map_or(PieceIndex(0), |head| head.index.plus(EPOCH_INDEX_GAP));
        let next = if next.0 > INDEX_START_MAX { PieceIndex(0) } else { next };
        let clock = SourceClock::new(now, UnixUs(0));
        let cutter = Cutter::new(media);
        let discontinuity = known.is_some();
        Self {
            stream,
            key,
            cutter,
            clock,
            epoch,
            next,
            last: None,
            open: None,
            discontinuity,
            ended: false,
            last_sealed: now.mono,
            input_since: None,
            input_bytes: 0,
            skip: 0,
        }
    }

    /// A source that goes on behind the last entry of its own epoch.
    #[must_use]
    pub fn resume(stream: Stream, key: SigningKey, media: &str, now: Now, last: Last) -> Self {
        let (epoch, next) = (last.head.epoch, last.head.index.next());
        let floor = last.head.published();
        let mut builder = Self::open_epoch(stream, key, media, now, epoch, None);
        builder.clock = SourceClock::new(now, floor);
        builder.next = next;
        builder.discontinuity = true;
        builder.last = Some(last);
        builder
    }

    /// The epoch in which it signs.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the end of the stream has been signed.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether the clock on the wall has gone so far away that a new epoch must begin.
    pub fn clock_is_off(&mut self, now: Now) -> bool {
        self.clock.is_off(now)
    }

    /// The last entry signed.
    #[must_use]
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// Leaves out the first `len` bytes of the input: others have published them. They are looked
    /// at all the same, for what they say of the rest.
    pub fn begin_at(&mut self, len: u64) {
        self.skip = len;
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, now: Now, bytes: Bytes) -> Vec<Sealed> {
        self.push_held(now, now.mono, bytes)
    }

    /// Takes bytes that came in at `came` and were held back until now: pieces are cut and dated
    /// as if they had been taken then, so that readers have the delay to fetch them in.
    pub fn push_held(&mut self, now: Now, came: Time, bytes: Bytes) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        if self.open.is_some() && came < now.mono && came >= self.deadline() {
            sealed.extend(self.close(now));
        }
        sealed.extend(self.push_from(now, (came, came), bytes));
        sealed
    }

    /// Takes bytes that came in at `came` and are let out one after the other: pieces are dated as
    /// if they had been taken then, and cut as they come now.
    pub fn push_late(&mut self, now: Now, came: Time, bytes: Bytes) -> Vec<Sealed> {
        self.push_from(now, (came, now.mono), bytes)
    }

    fn push_from(&mut self, now: Now, at: (Time, Time), bytes: Bytes) -> Vec<Sealed> {
        self.input_since.get_or_insert(at.1);
        self.input_bytes += bytes.len() as u64;
        let spans = self.cutter.push(bytes);
        self.take(now, at, spans)
    }

    /// The input broke off: what is held back goes out, and what comes next begins anew.
    pub fn broke_off(&mut self, now: Now) -> Vec<Sealed> {
        let spans = self.cutter.restart();
        let mut sealed = self.take(now, (now.mono, now.mono), spans);
        sealed.extend(self.close(now));
        self.discontinuity = true;
        sealed
    }

    /// Closes a piece whose time is up; says that the source is there when there is no input.
    pub fn tick(&mut self, now: Now) -> Vec<Sealed> {
        if self.ended || now.mono < self.deadline() {
            return Vec::new();
        }
        if self.open.is_some() {
            return self.close(now).into_iter().collect();
        }
        let spans = self.cutter.flush();
        let mut sealed = self.take(now, (now.mono, now.mono), spans);
        sealed.extend(self.close(now));
        if sealed.is_empty() {
            sealed.push(self.seal_empty(now, Flags::IDLE));
        }
        sealed
    }

    /// Says that the source is there, before anything of its input is published.
    pub fn announce(&mut self, now: Now) -> Sealed {
        self.seal_empty(now, Flags::IDLE)
    }

    /// When [`Builder::tick`] is wanted.
    #[must_use]
    pub fn deadline(&self) -> Time {
        match &self.open {
            _ if self.ended => Time::NEVER,
            Some(open) => open.since.after_us(self.piece_us(open.since)),
            None => self.last_sealed.after_us(IDLE_US),
        }
    }

    /// The input has ended: the rest goes out, then the signed end of the stream.
    pub fn end(&mut self, now: Now) -> Vec<Sealed> {
        if self.ended {
            return Vec::new();
        }
        let spans = self.cutter.flush();
        let mut sealed = self.take(now, (now.mono, now.mono), spans);
        sealed.extend(self.close(now));
        sealed.push(self.seal_empty(now, Flags::END));
        self.ended = true;
        sealed
    }

    /// Bytes at which a piece is full: whole packets, so that what follows a missing piece begins
    /// with one.
    fn full_len(&self) -> usize {
        let len = self.stream.piece_len as usize;
        if self.cutter.is_opaque() { len } else { len - len % PACKET_LEN }
    }

    /// Cuts what came in at the first moment into pieces that are open since the second.
    fn take(&mut self, now: Now, (came, since): (Time, Time), spans: Vec<Span>) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        for mut span in spans {
            let skipped = self.skip.min(span.bytes.len() as u64);
            self.skip -= skipped;
            span.bytes.advance(usize::try_from(skipped).unwrap_or(usize::MAX));
            if span.bytes.is_empty() {
                continue;
            }
            let full = self.full_len();
            if span.rap {
                sealed.extend(self.close(now));
            }
            let mut flags = Flags::default();
            if span.rap || self.cutter.is_opaque() {
                flags = flags.with(Flags::RANDOM_ACCESS);
            }
            let mut tables = span.tables;
            while !span.bytes.is_empty() {
                let held_us = now.mono.since_us(came);
                let birth = UnixUs(self.clock.read(now).0.saturating_sub(held_us));
                let open = self.open.get_or_insert_with(|| Open {
                    since,
                    birth,
                    bytes: BytesMut::new(),
                    flags,
                    tables: std::mem::take(&mut tables),
                });
                let room = full.saturating_sub(open.bytes.len());
                let part = span.bytes.split_to(room.min(span.bytes.len()));
                open.bytes.extend_from_slice(&part);
                if open.bytes.len() >= full {
                    sealed.extend(self.close(now));
                    if !self.cutter.is_opaque() {
                        flags = Flags::default();
                    }
                }
            }
        }
        sealed
    }

    /// How long a piece stays open: 200 ms, and longer when its entry would cost more than 5 % of
    /// what comes in.
    fn piece_us(&self, now: Time) -> u64 {
        let passed = self.input_since.map_or(0, |since| now.since_us(since));
        let rate = if passed >= 2_000_000 {
            self.input_bytes * 1_000_000 / passed
        } else {
            self.stream.bitrate.unwrap_or(4_000_000) / 8
        };
        let entry = (HEAD_LEN + 32 + 2 + SIGNATURE_LEN) as u64;
        (entry * ENTRY_SHARE * 1_000_000 / rate.max(1)).clamp(PIECE_US, PIECE_US_MAX)
    }

    fn close(&mut self, now: Now) -> Option<Sealed> {
        let open = self.open.take()?;
        let bytes = open.bytes.freeze();
        let blocks: Vec<Bytes> = (0..bytes.len())
            .step_by(BLOCK_LEN as usize)
            .map(|at| bytes.slice(at..bytes.len().min(at + BLOCK_LEN as usize)))
            .collect();
        Some(self.seal(now, open.birth, open.flags, &open.tables, blocks))
    }

    fn seal_empty(&mut self, now: Now, flags: Flags) -> Sealed {
        let birth = self.clock.read(now);
        self.seal(now, birth, flags, &Bytes::new(), Vec::new())
    }

    fn seal(
        &mut self,
        now: Now,
        birth: UnixUs,
        mut flags: Flags,
        tables: &Bytes,
        blocks: Vec<Bytes>,
    ) -> Sealed {
        if !blocks.is_empty() && std::mem::take(&mut self.discontinuity) {
            flags = flags.with(Flags::DISCONTINUITY);
        }
        let birth = birth.max(self.last.as_ref().map_or(UnixUs(0), |last| last.head.birth));
        let published = self.clock.read(now).max(birth);
        let span = Duration::from_micros(published.0 - birth.0);
        let head = Head {
            epoch: self.epoch,
            index: self.next,
            first_block: self.last.as_ref().map_or(BlockNo(0), |last| last.head.end_block()),
            len: blocks.iter().map(Bytes::len).sum::<usize>() as u32,
            flags,
            key_id: 0,
            birth,
            span_us: u32::try_from(span.as_micros()).unwrap_or(u32::MAX),
            previous: self.last.as_ref().map_or([0; 32], |last| last.digest),
        };
        let mut ext = Tlvs::default();
        if !tables.is_empty() && tables.len() + 4 <= ENTRY_EXT_LEN_MAX {
            ext = ext.with(EXT_TABLES, tables).unwrap_or_default();
        }
        let hashes = blocks.iter().map(|block| Sha256::digest(block).into()).collect();
        let mut entry = Entry { head, hashes, ext, signature: [0; SIGNATURE_LEN] };
        let signed = entry.signed_bytes(self.stream.info_hash);
        entry.signature = self.key.sign(&signed).to_bytes();
        let digest: Hash = Sha256::digest(signed).into();
        self.last = Some(Last { head, digest });
        self.next = self.next.next();
        self.last_sealed = now.mono;
        Sealed { genuine: Genuine { raw: entry.encode(), entry, digest }, blocks }
    }

    /// Where the next piece will stand.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq { epoch: self.epoch, index: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::tests::{key, stream};
    use super::super::feed::{Feed, Offer};
    use super::*;

    fn now(us: u64) -> Now {
        Now { mono: Time(us), wall: UnixUs(1_800_000_000_000_000 + us) }
    }

    fn builder() -> Builder {
        Builder::open_epoch(stream(), key(), "application/octet-stream", now(0), Epoch(9), None)
    }

    /// Whether a stranger's feed takes all of it without complaint.
    fn check(sealed: &[Sealed]) {
        let mut feed = Feed::new(stream()).expect("key");
        for piece in sealed {
            assert!(matches!(feed.offer(&piece.genuine.raw), Ok(Offer::New(_))));
        }
    }

    #[test]
    fn a_piece_is_closed_when_full_and_when_its_time_is_up() {
        let mut builder = builder();
        let mut sealed = builder.push(now(0), Bytes::from(vec![1; 150_000]));
        assert_eq!(sealed.len(), 2);
        assert!(builder.tick(now(PIECE_US - 1)).is_empty());
        sealed.extend(builder.tick(now(PIECE_US)));
        let lens: Vec<u32> = sealed.iter().map(|s| s.genuine.entry.head.len).collect();
        assert_eq!(lens, [65_536, 65_536, 18_928]);
        assert_eq!(sealed[2].genuine.entry.head.span_us, PIECE_US as u32);
        assert_eq!(sealed[2].genuine.entry.head.first_block, BlockNo(8));
        check(&sealed);
    }

    #[test]
    fn what_is_let_out_late_is_cut_as_it_goes_out_and_dated_as_it_came() {
        let mut builder = builder();
        let late = 1_000_000;
        let mut sealed = vec![builder.announce(now(500_000))];
        for n in 0..40 {
            sealed.extend(builder.tick(now(late + n * 10_000)));
            let bytes = Bytes::from(vec![1; 1_000]);
            sealed.extend(builder.push_late(now(late + n * 10_000), Time(n * 10_000), bytes));
        }
        let heads: Vec<&Head> = sealed.iter().map(|s| &s.genuine.entry.head).collect();
        assert_eq!(heads.iter().map(|head| head.len).collect::<Vec<_>>(), [0, 20_000]);
        // Not before the entry ahead of it.
        assert_eq!(heads[1].birth, heads[0].birth);
        check(&sealed);
    }

    #[test]
    fn what_others_have_published_is_left_out() {
        let mut builder = builder();
        builder.begin_at(150);
        let mut sealed = builder.push(now(0), Bytes::from(vec![1; 100]));
        sealed.extend(builder.push(now(0), Bytes::from(vec![2; 100])));
        sealed.extend(builder.end(now(1)));
        assert_eq!(sealed[0].blocks, [Bytes::from(vec![2; 50])]);
        check(&sealed);
    }

    #[test]
    fn a_piece_of_a_transport_stream_holds_whole_packets() {
        let media = crate::media::cut::MPEG_TS;
        let mut builder = Builder::open_epoch(stream(), key(), media, now(0), Epoch(9), None);
        let mut packet = [0xff; PACKET_LEN];
        packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        let mut sealed = builder.push(now(0), Bytes::from(packet.repeat(800)));
        sealed.extend(builder.end(now(1)));
        let lens: Vec<u32> = sealed.iter().map(|s| s.genuine.entry.head.len).collect();
        assert_eq!(lens, [65_424, 65_424, 19_552, 0]);
        check(&sealed);
    }

    #[test]
    fn a_silent_input_is_told_from_a_dead_source_every_second() {
        let mut builder = builder();
        let mut sealed = builder.tick(now(IDLE_US));
        assert!(builder.tick(now(IDLE_US + 1)).is_empty());
        sealed.extend(builder.tick(now(2 * IDLE_US)));
        assert!(sealed.iter().all(|s| s.genuine.entry.head.flags.has(Flags::IDLE)));
        assert_eq!(sealed.len(), 2);
        check(&sealed);
    }

    #[test]
    fn at_a_low_rate_a_piece_stays_open_until_its_entry_costs_5_percent() {
        let low = Stream { bitrate: Some(64_000), ..stream() };
        let media = "application/octet-stream";
        let mut builder = Builder::open_epoch(low, key(), media, now(0), Epoch(9), None);
        assert!(builder.push(now(0), Bytes::from(vec![1; 800])).is_empty());
        // 170 bytes of entry are 5 % of 3400 bytes, which take 425 ms at 8000 byte/s.
        assert_eq!(builder.deadline(), Time(425_000));
    }

    #[test]
    fn the_end_is_signed_once_behind_the_last_byte() {
        let mut builder = builder();
        let mut sealed = builder.push(now(0), Bytes::from_static(b"bye"));
        sealed.extend(builder.end(now(10)));
        assert!(builder.end(now(20)).is_empty());
        assert_eq!(builder.deadline(), Time::NEVER);
        assert_eq!(sealed[0].blocks, [Bytes::from_static(b"bye")]);
        assert!(sealed[1].genuine.entry.head.flags.has(Flags::END));
        check(&sealed);
    }

    #[test]
    fn a_resumed_source_continues_its_chain_with_a_discontinuity() {
        let mut first = builder();
        let mut sealed = first.push(now(0), Bytes::from(vec![1; 65_536]));
        let last = first.last().cloned().expect("sealed");
        let mut second = Builder::resume(stream(), key(), "x/y", now(5_000), last);
        sealed.extend(second.push(now(6_000), Bytes::from(vec![2; 65_536])));
        assert!(sealed[1].genuine.entry.head.flags.has(Flags::DISCONTINUITY));
        check(&sealed);
    }

    #[test]
    fn an_epoch_behind_the_last_index_of_all_begins_at_0_and_can_be_followed() {
        let known = builder().push(now(0), Bytes::from(vec![1; 65_536]))[0].genuine.entry.head;
        let last = Head { index: PieceIndex(u32::MAX - 1), ..known };
        let mut new = Builder::open_epoch(stream(), key(), "x/y", now(9), Epoch(10), Some(&last));
        let sealed = new.push(now(9), Bytes::from(vec![1; 65_536]));
        assert_eq!(sealed[0].genuine.entry.head.index, PieceIndex(0));
        check(&sealed);
    }

    #[test]
    fn a_new_epoch_starts_far_above_what_is_known() {
        let mut old = builder();
        let known = old.push(now(0), Bytes::from(vec![1; 65_536]))[0].genuine.entry.head;
        let new = Builder::open_epoch(stream(), key(), "x/y", now(9), Epoch(10), Some(&known));
        assert_eq!(new.next_seq(), Seq { epoch: Epoch(10), index: PieceIndex(1024) });
    }
}
