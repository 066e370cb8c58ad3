//! One direction of a connection: a byte stream in order, cut anywhere.
//!
//! What a machine hands over waits as parcels until the uplink has sent them. At the far end
//! they become frames again: parcels of whole frames directly, without copying a payload, all
//! others through the [`Splitter`] that real drivers use, in random chunks.

use bytes::{Buf, Bytes};

use super::share::Shared;
use super::uplink::Place;
use crate::machine::Rng;
use crate::units::{InfoHash, PeerId, Time};
use crate::wire::limits::FRAME_LEN_MAX;
use crate::wire::message::{HANDSHAKE_LEN, Handshake, Reserved, Splitter, WireError};

/// Longest parcel: a block with its head and a few small messages before it. Longer sends are cut,
/// so that they leave bit by bit.
const PARCEL_LEN_MAX: usize = 20 << 10;
/// Small messages waiting for the uplink are put together up to this length, one TCP segment.
pub(super) const SEGMENT_LEN: usize = 1400;
/// Chunks in which one parcel reaches the splitter, at most.
const CHUNKS_MAX: u64 = 4;

/// Bytes that leave the uplink and arrive together.
#[derive(Clone, Debug, Default)]
pub(super) struct Parcel {
    pub(super) head: Bytes,
    /// Payload, or the part of it that is in this parcel.
    pub(super) body: Bytes,
    /// Its number in the order in which the node handed parcels over.
    pub(super) turn: u64,
}

impl Parcel {
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Cuts off and returns the first `len` bytes.
    fn split_to(&mut self, len: usize) -> Self {
        let in_head = len.min(self.head.len());
        Self {
            head: self.head.split_to(in_head),
            body: self.body.split_to((len - in_head).min(self.body.len())),
            turn: self.turn,
        }
    }
}

/// Name of a parcel in [`Parcels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParcelId(u32);

const NONE: ParcelId = ParcelId(u32::MAX);

/// All parcels of the world, in one place, so that an idle connection costs nothing for them.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    slots: Vec<(Parcel, ParcelId)>,
    free: Vec<ParcelId>,
}

impl Parcels {
    /// Takes a parcel in.
    pub(super) fn insert(&mut self, parcel: Parcel) -> ParcelId {
        if let Some(id) = self.free.pop() {
            self.slots[id.0 as usize] = (parcel, NONE);
            return id;
        }
        let id = ParcelId(self.slots.len() as u32);
        self.slots.push((parcel, NONE));
        id
    }

    /// Takes a parcel out.
    pub(super) fn take(&mut self, id: ParcelId) -> Parcel {
        self.free.push(id);
        std::mem::take(&mut self.slots[id.0 as usize].0)
    }

    /// Length of a parcel.
    pub(super) fn len(&self, id: ParcelId) -> usize {
        self.slots[id.0 as usize].0.len()
    }

    /// Payload bytes in a parcel.
    pub(super) fn body_len(&self, id: ParcelId) -> usize {
        self.slots[id.0 as usize].0.body.len()
    }

    /// When a parcel was handed over, compared with others of its node.
    pub(super) fn turn(&self, id: ParcelId) -> u64 {
        self.slots[id.0 as usize].0.turn
    }
}

/// Parcels one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    first: ParcelId,
    last: ParcelId,
}

impl Default for Line {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Line {
    pub(super) fn first(&self) -> Option<ParcelId> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn push(&mut self, parcels: &mut Parcels, id: ParcelId) {
        parcels.slots[id.0 as usize].1 = NONE;
        if self.first == NONE {
            self.first = id;
        } else {
            parcels.slots[self.last.0 as usize].1 = id;
        }
        self.last = id;
    }

    pub(super) fn pop(&mut self, parcels: &Parcels) -> Option<ParcelId> {
        let id = self.first()?;
        self.first = parcels.slots[id.0 as usize].1;
        Some(id)
    }

    /// Drops all of them.
    pub(super) fn clear(&mut self, parcels: &mut Parcels) {
        while let Some(id) = self.pop(parcels) {
            parcels.take(id);
        }
    }
}

/// Why nothing arrives at the moment; the reasons add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Stall(u8);

impl Stall {
    /// The network between the two is cut, or the far end is gone without a word.
    pub(super) const CUT: Self = Self(1);
    /// The process at the far end does not read.
    pub(super) const FROZEN: Self = Self(2);

    pub(super) fn set(&mut self, reason: Self, on: bool) {
        self.0 = if on { self.0 | reason.0 } else { self.0 & !reason.0 };
    }

    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    pub(super) fn has(self, reason: Self) -> bool {
        self.0 & reason.0 != 0
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Handed over and not sent.
    pub(super) waiting: Line,
    /// Where the uplink has the first of `waiting`, if it was offered.
    pub(super) offered: Option<Place>,
    /// Arrived during a stall.
    pub(super) held: Line,
    /// Bytes in `held`.
    pub(super) held_bytes: usize,
    /// One-way time.
    pub(super) latency_us: u32,
    /// Arrival of what was sent last: what is sent later arrives later.
    pub(super) last_arrival: Time,
    pub(super) stall: Stall,
    /// The sender has closed: after `waiting` comes the end.
    pub(super) closing: bool,
    /// Nothing more is read: what came was no valid stream.
    deaf: bool,
    greeted: bool,
    splitter: Option<Box<Splitter>>,
}

impl Pipe {
    /// A pipe at the start of a connection.
    pub(super) fn new(latency_us: u32) -> Self {
        Self { latency_us, ..Self::default() }
    }

    /// Takes what a machine hands over; each parcel may be cut at a random place with probability
    /// `cut`.
    pub(super) fn hand_over(
        &mut self,
        parcels: &mut Parcels,
        mut whole: Parcel,
        rng: &mut Rng,
        cut: f64,
    ) {
        if whole.len() == 0 || self.joins_last(parcels, &whole) {
            return;
        }
        while whole.len() > 0 {
            let mut len = whole.len().min(PARCEL_LEN_MAX);
            if cut > 0.0 && rng.chance(cut) {
                len = 1 + rng.index(len);
            }
            let id = parcels.insert(whole.split_to(len));
            self.waiting.push(parcels, id);
        }
    }

    /// Puts small messages behind small messages that still wait, as TCP does.
    fn joins_last(&self, parcels: &mut Parcels, new: &Parcel) -> bool {
        let Some(first) = self.waiting.first() else { return false };
        let last = self.waiting.last;
        let old = &mut parcels.slots[last.0 as usize].0;
        if first == last || !old.body.is_empty() || !new.body.is_empty() {
            return false; // The first one may be on its way out already.
        }
        if old.head.len() + new.head.len() > SEGMENT_LEN {
            return false;
        }
        old.head = [&old.head[..], &new.head[..]].concat().into();
        true
    }

    /// Turns an arrived parcel into the frames that are whole now.
    ///
    /// # Errors
    /// The stream is not BitTorrent, or a frame is too long; the pipe is deaf then.
    pub(super) fn receive(
        &mut self,
        parcel: Parcel,
        shared: &mut Shared,
        rng: &mut Rng,
        cut: f64,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), WireError> {
        if self.deaf {
            return Ok(());
        }
        let mut rest = parcel;
        if self.splitter.is_none() && (cut <= 0.0 || !rng.chance(cut)) {
            rest = self.receive_whole(rest, shared, frames);
        }
        if rest.len() == 0 {
            return Ok(());
        }
        self.receive_chunks(&rest, shared, rng, frames).inspect_err(|_| self.deaf = true)
    }

    /// Takes whole frames off the front of `parcel`; returns the rest.
    fn receive_whole(
        &mut self,
        mut parcel: Parcel,
        shared: &mut Shared,
        frames: &mut Vec<Bytes>,
    ) -> Parcel {
        if !self.greeted {
            if parcel.head.get(..HANDSHAKE_LEN).is_none_or(|h| Handshake::parse(h).is_err()) {
                return parcel;
            }
            frames.push(parcel.head.split_to(HANDSHAKE_LEN));
            self.greeted = true;
        }
        while let Some(prefix) = parcel.head.first_chunk::<4>() {
            let len = u32::from_be_bytes(*prefix) as usize;
            if len > FRAME_LEN_MAX {
                break;
            }
            if parcel.head.len() >= 4 + len {
                parcel.head.advance(4);
                frames.push(parcel.head.split_to(len));
            } else if parcel.len() == 4 + len {
                frames.push(shared.frame(&parcel.head[4..], &parcel.body));
                return Parcel::default();
            } else {
                break;
            }
        }
        parcel
    }

    fn receive_chunks(
        &mut self,
        parcel: &Parcel,
        shared: &mut Shared,
        rng: &mut Rng,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), WireError> {
        let splitter = self.splitter.get_or_insert_with(|| new_splitter(self.greeted));
        for mut part in [&parcel.head[..], &parcel.body[..]] {
            for chunk in (0..CHUNKS_MAX).rev() {
                let len = if chunk == 0 { part.len() } else { rng.index(part.len() + 1) };
                let (now, later) = part.split_at(len);
                splitter.push(now);
                part = later;
                while let Some(frame) = splitter.next_frame()? {
                    frames.push(if self.greeted { shared.intern(frame) } else { frame });
                    self.greeted = true;
                }
            }
        }
        if splitter.pending() == 0 {
            self.splitter = None;
        }
        Ok(())
    }
}

/// A splitter at the start of a connection or behind its handshake.
fn new_splitter(greeted: bool) -> Box<Splitter> {
    let mut splitter = Box::new(Splitter::new());
    if greeted {
        let any = Handshake {
            reserved: Reserved::default(),
            info_hash: InfoHash::default(),
            peer_id: PeerId::default(),
        };
        splitter.push(&any.encode());
        // Its own handshake is whole and valid: there is nothing to learn from the answer.
        let _ = splitter.next_frame();
    }
    splitter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PieceIndex;
    use crate::wire::message::Message;

    fn sends() -> (Vec<Parcel>, Vec<Bytes>) {
        let handshake = Handshake {
            reserved: Reserved::live(),
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
        };
        let mut sends = vec![Parcel { head: handshake.encode(), ..Parcel::default() }];
        let mut frames = vec![handshake.encode()];
        for n in 0..40u32 {
            let block = Bytes::from(vec![n as u8; if n % 3 == 0 { 16_384 } else { 700 }]);
            let have = Message::Have(PieceIndex(n));
            let piece = Message::Piece { index: PieceIndex(n), begin: 0, block };
            let head = [&have.head()[..], &piece.head()[..]].concat();
            frames.push(have.head().slice(4..));
            frames.push([&piece.head()[4..], &piece.body()[..]].concat().into());
            sends.push(Parcel { head: head.into(), body: piece.body(), turn: 0 });
            let entries = Message::Extended { id: 3, payload: vec![9; 50_000].into() };
            if n % 10 == 0 {
                frames.push(entries.head().slice(4..));
                sends.push(Parcel { head: entries.head(), ..Parcel::default() });
            }
        }
        (sends, frames)
    }

    fn carry(cut: f64) -> (Vec<Bytes>, Vec<Bytes>) {
        let (sends, expected) = sends();
        let (mut parcels, mut shared) = (Parcels::default(), Shared::new(10 << 20));
        let mut rng = Rng::new(5);
        let mut pipe = Pipe::default();
        for send in sends {
            pipe.hand_over(&mut parcels, send, &mut rng, cut);
        }
        let mut frames = Vec::new();
        while let Some(id) = pipe.waiting.pop(&parcels) {
            let parcel = parcels.take(id);
            pipe.receive(parcel, &mut shared, &mut rng, cut, &mut frames).expect("valid stream");
        }
        (frames, expected)
    }

    #[test]
    fn the_same_frames_arrive_however_the_stream_is_cut() {
        for cut in [0.0, 0.3, 1.0] {
            let (frames, expected) = carry(cut);
            assert!(frames == expected, "cut {cut}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_the_last_thing_heard() {
        let (mut shared, mut rng) = (Shared::new(1000), Rng::new(1));
        let mut pipe = Pipe { greeted: true, ..Pipe::default() };
        let mut frames = Vec::new();
        let bad = Parcel { head: Bytes::from_static(&[0xff; 8]), ..Parcel::default() };
        let got = pipe.receive(bad.clone(), &mut shared, &mut rng, 0.0, &mut frames);
        assert_eq!(got, Err(WireError::FrameTooLong { claimed_len: u32::MAX }));
        assert_eq!(pipe.receive(bad, &mut shared, &mut rng, 0.0, &mut frames), Ok(()));
        assert!(frames.is_empty());
    }
}
