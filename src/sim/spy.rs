//! Reads along on the wire: does everybody keep to what was declared and asked for?
//!
//! Each end of a connection is judged by what it had heard when it spoke, never by what was still
//! on its way to it. So a race is no fault, and a fault is the machine's own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};

use crate::units::{BLOCK_LEN, BlockNo, Epoch, Link, PieceIndex, Seq};
use crate::wire::extended::{Extension, parse_dont_have};
use crate::wire::feed::Head;
use crate::wire::limits::{REQUESTS_QUEUED_MAX, SUBSCRIPTIONS_MAX};
use crate::wire::live::{Grant, Live, Stripe, Subscribe, Window};
use crate::wire::message::{HANDSHAKE_LEN, Handshake, Message, Request};

/// What one end of a connection has said that binds it or the other end.
#[derive(Debug, Default)]
struct Words {
    greeted: bool,
    /// The epoch of its indices; 0 before it declared one.
    epoch: Epoch,
    held: BTreeSet<PieceIndex>,
    /// Blocks it asked for and was not answered about.
    requests: BTreeSet<Request>,
    subscriptions: BTreeMap<u8, Subscribe>,
    /// What it granted to the other end.
    grants: BTreeMap<u8, Grant>,
}

impl Words {
    fn declare(&mut self, window: &Window) -> Result<(), String> {
        if window.epoch < self.epoch {
            return Err(format!("declared epoch {} after {}", window.epoch, self.epoch));
        }
        if window.epoch != self.epoch {
            // Everything about blocks of the old epoch is void.
            self.subscriptions.retain(|_, order| order.stripe == Stripe::Entries);
            self.grants.retain(|_, grant| grant.epoch == Epoch(0));
            self.requests.clear();
        }
        self.epoch = window.epoch;
        self.held = window.held().collect();
        Ok(())
    }
}

/// One end's view of a connection: its own words, and those of the other end as far as they have
/// arrived.
#[derive(Debug, Default)]
struct View {
    said: Words,
    heard: Words,
}

/// The views of all ends of all connections.
#[derive(Debug, Default)]
pub(super) struct Spy {
    views: BTreeMap<Link, View>,
    /// First block and number of blocks of every piece published.
    blocks: BTreeMap<Seq, (BlockNo, u16)>,
}

impl Spy {
    pub(super) fn published(&mut self, head: &Head) {
        self.blocks.insert(head.seq(), (head.first_block, head.blocks()));
    }

    pub(super) fn gone(&mut self, link: Link) {
        self.views.remove(&link);
    }

    /// `link`'s owner is handed a frame.
    pub(super) fn heard(&mut self, link: Link, frame: &Bytes) {
        let view = self.views.entry(link).or_default();
        if !view.heard.greeted {
            view.heard.greeted = true;
            return;
        }
        // Words that cannot be read were judged when they were said.
        if let Ok(message) = Message::parse(frame) {
            let _ = note(&mut view.heard, &mut view.said, &message);
        }
    }

    /// `link`'s owner hands over whole frames.
    ///
    /// # Errors
    /// What it should not have said.
    pub(super) fn said(&mut self, link: Link, head: &Bytes, body: &Bytes) -> Result<(), String> {
        let view = self.views.entry(link).or_default();
        let mut bytes = head.clone();
        if !view.said.greeted {
            let handshake = bytes.get(..HANDSHAKE_LEN).ok_or("no handshake")?;
            Handshake::parse(handshake).map_err(|e| e.to_string())?;
            bytes.advance(HANDSHAKE_LEN);
            view.said.greeted = true;
        }
        while let Some(prefix) = bytes.first_chunk::<4>() {
            let len = u32::from_be_bytes(*prefix) as usize;
            bytes.advance(4);
            let frame = if bytes.len() >= len {
                bytes.split_to(len)
            } else if bytes.len() + body.len() == len {
                [&bytes.split_off(0)[..], body].concat().into()
            } else {
                return Err(format!("sent part of a frame of {len} bytes"));
            };
            let message = Message::parse(&frame).map_err(|e| e.to_string())?;
            judge(view, &self.blocks, &message)?;
            note(&mut view.said, &mut view.heard, &message)?;
        }
        if bytes.is_empty() { Ok(()) } else { Err("sent part of a length prefix".to_owned()) }
    }
}

/// Whether the speaker may say this now.
fn judge(
    view: &View,
    blocks: &BTreeMap<Seq, (BlockNo, u16)>,
    message: &Message,
) -> Result<(), String> {
    let epoch = view.said.epoch;
    match message {
        Message::Bitfield(_) | Message::HaveAll => {
            Err("bitfield or have all in a live swarm".to_owned())
        }
        Message::Have(index) => match blocks.get(&Seq { epoch, index: *index }) {
            Some(_) => Ok(()),
            None => Err(format!("have of {epoch}:{index}, which was never published")),
        },
        Message::Request(request) => judge_request(view, *request),
        Message::Piece { index, begin, .. } => {
            let seq = Seq { epoch, index: *index };
            let Some((first, _)) = blocks.get(&seq) else {
                return Err(format!("sent a block of {seq}, which was never published"));
            };
            let no = BlockNo(first.0 + u64::from(begin / BLOCK_LEN));
            judge_piece(view, *index, *begin, no)
        }
        _ => Ok(()),
    }
}

fn judge_request(view: &View, request: Request) -> Result<(), String> {
    let (mine, theirs) = (view.said.epoch, view.heard.epoch);
    let index = request.index;
    if mine != theirs {
        return Err(format!("asked in epoch {mine} for piece {index} of who declared {theirs}"));
    }
    if !view.heard.held.contains(&index) {
        return Err(format!("asked for piece {index}, which the other has not announced"));
    }
    if view.said.requests.len() >= REQUESTS_QUEUED_MAX {
        return Err(format!("more than {REQUESTS_QUEUED_MAX} requests at once"));
    }
    Ok(())
}

/// A block must have been asked for, or be covered by an order that was granted.
fn judge_piece(view: &View, index: PieceIndex, begin: u32, no: BlockNo) -> Result<(), String> {
    if view.heard.requests.iter().any(|r| (r.index, r.begin) == (index, begin)) {
        return Ok(());
    }
    let epoch = view.said.epoch;
    let covered = view.said.grants.iter().any(|(id, grant)| {
        view.heard.subscriptions.get(id).is_some_and(|order| {
            order.stripe == Stripe::Blocks
                && order.epoch == epoch
                && grant.epoch == epoch
                && grant.cover.covers(no)
                && order.cover.covers(no)
                && (grant.first..=order.last).contains(&no)
        })
    });
    if covered {
        return Ok(());
    }
    Err(format!("sent block {} of {epoch}:{index} unasked", begin / BLOCK_LEN))
}

/// Remembers what `speaker` says to `other`.
fn note(speaker: &mut Words, other: &mut Words, message: &Message) -> Result<(), String> {
    let answered = |other: &mut Words, index: PieceIndex, begin: u32| {
        other.requests.retain(|r| (r.index, r.begin) != (index, begin));
    };
    match message {
        Message::Choke => {
            speaker.grants.clear();
            other.subscriptions.clear();
        }
        Message::Have(index) => {
            speaker.held.insert(*index);
        }
        Message::Request(request) => {
            speaker.requests.insert(*request);
        }
        Message::Piece { index, begin, .. } => answered(other, *index, *begin),
        Message::Reject(request) => answered(other, request.index, request.begin),
        Message::Extended { id, payload } => match Extension::from_our_id(*id) {
            Some(Extension::Live(kind)) => {
                let live = Live::parse(kind, payload).map_err(|e| e.to_string())?;
                return live.map_or(Ok(()), |live| note_live(speaker, other, live));
            }
            Some(Extension::DontHave) => {
                let index = parse_dont_have(payload).map_err(|e| e.to_string())?;
                speaker.held.remove(&index);
            }
            _ => {}
        },
        _ => {}
    }
    Ok(())
}

fn note_live(speaker: &mut Words, other: &mut Words, live: Live) -> Result<(), String> {
    match live {
        Live::Window(window) => speaker.declare(&window)?,
        Live::Subscribe(order) => {
            if speaker.subscriptions.len() >= SUBSCRIPTIONS_MAX
                && !speaker.subscriptions.contains_key(&order.id)
            {
                return Err(format!("more than {SUBSCRIPTIONS_MAX} subscriptions"));
            }
            if !order.is_change() {
                speaker.subscriptions.insert(order.id, order);
            } else if let Some(old) = speaker.subscriptions.get_mut(&order.id) {
                // One that is not known has crossed its end on the way.
                old.last = order.last;
            }
        }
        Live::Grant(grant) => {
            if grant.cover.is_empty() {
                other.subscriptions.remove(&grant.id);
            } else {
                speaker.grants.insert(grant.id, grant);
            }
        }
        Live::End(end) => {
            // Either side may end an order; the id names the one of whom it is known from.
            other.subscriptions.remove(&end.id);
            speaker.grants.remove(&end.id);
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::UnixUs;
    use crate::wire::feed::Flags;
    use crate::wire::live::{Cover, HOPS_UNKNOWN, Kind, Reason};
    use crate::wire::tlv::Tlvs;

    const EPOCH: Epoch = Epoch(1 << 20);
    const LINK: Link = Link(1);

    fn spy() -> Spy {
        let mut spy = Spy::default();
        for index in 10..14u32 {
            spy.published(&Head {
                epoch: EPOCH,
                index: PieceIndex(index),
                first_block: BlockNo(u64::from(index) * 4),
                len: 4 * BLOCK_LEN,
                flags: Flags::default(),
                key_id: 0,
                birth: UnixUs(1),
                span_us: 1,
                previous: [0; 32],
            });
        }
        let view = spy.views.entry(LINK).or_default();
        (view.said.greeted, view.heard.greeted) = (true, true);
        spy
    }

    fn live(message: &Live) -> Message {
        let id = Extension::Live(message.kind()).our_id();
        Message::Extended { id, payload: message.encode() }
    }

    fn window(epoch: Epoch, bitmap: &'static [u8]) -> Message {
        let window = Window {
            epoch,
            base: PieceIndex(10),
            kept_ms: 60_000,
            hops: HOPS_UNKNOWN,
            reason: Reason::NONE,
            bitmap: Bytes::from_static(bitmap),
            ext: Tlvs::default(),
        };
        live(&Live::Window(window))
    }

    fn request(index: u32) -> Message {
        Message::Request(Request { index: PieceIndex(index), begin: 0, len: BLOCK_LEN })
    }

    fn piece(index: u32, block: u32) -> Message {
        let block_bytes = Bytes::from_static(&[1; 100]);
        Message::Piece { index: PieceIndex(index), begin: block * BLOCK_LEN, block: block_bytes }
    }

    /// Plays messages as (said by the owner of the link, message); the last one must be fine or be
    /// refused with these words.
    #[track_caller]
    fn check(messages: &[(bool, Message)], fault: Option<&str>) {
        let mut spy = spy();
        let mut last = Ok(());
        for (said, message) in messages {
            assert_eq!(last, Ok(()), "before {message:?}");
            if *said {
                last = spy.said(LINK, &message.head(), &message.body());
            } else {
                let frame = [&message.head()[4..], &message.body()[..]].concat();
                spy.heard(LINK, &frame.into());
            }
        }
        match (last, fault) {
            (Ok(()), None) => {}
            (Err(what), Some(fault)) => assert!(what.contains(fault), "{what}"),
            (got, fault) => panic!("{got:?} instead of {fault:?}"),
        }
    }

    #[test]
    fn requests_keep_to_window_and_epoch_of_the_asked() {
        let (mine, theirs) = (window(EPOCH, &[]), window(EPOCH, &[0b0100_0000]));
        let have = Message::Have(PieceIndex(12));
        let asked =
            |index| vec![(true, mine.clone()), (false, theirs.clone()), (true, request(index))];
        check(&asked(11), None);
        check(&asked(12), Some("not announced"));
        let announced = [(true, mine), (false, theirs), (false, have), (true, request(12))];
        check(&announced, None);
        let newer = window(Epoch(2 << 20), &[0b0100_0000]);
        check(&[(true, window(EPOCH, &[])), (false, newer), (true, request(11))], Some("asked in"));
    }

    #[test]
    fn blocks_are_sent_when_asked_for_and_once() {
        let start = [(true, window(EPOCH, &[])), (false, window(EPOCH, &[]))];
        let with = |more: &[(bool, Message)]| [&start[..], more].concat();
        check(&with(&[(true, piece(11, 0))]), Some("unasked"));
        check(&with(&[(false, request(11)), (true, piece(11, 0))]), None);
        let twice = [(false, request(11)), (true, piece(11, 0)), (true, piece(11, 0))];
        check(&with(&twice), Some("unasked"));
        check(&with(&[(true, Message::Have(PieceIndex(99)))]), Some("never published"));
    }

    #[test]
    fn granted_orders_cover_their_blocks_until_they_end() {
        let cover = Cover { k: 4, stripes: 0b0010, part: 0xff };
        let order = Subscribe {
            id: 3,
            stripe: Stripe::Blocks,
            epoch: EPOCH,
            cover,
            first: BlockNo(0),
            last: BlockNo(u64::MAX),
            ext: Tlvs::default(),
        };
        let grant = Grant {
            id: 3,
            reason: Reason::NONE,
            cover,
            credit: 0,
            epoch: EPOCH,
            first: BlockNo(44),
            ext: Tlvs::default(),
        };
        let end = crate::wire::live::End { id: 3, reason: Reason::DONE };
        let start = [
            (true, window(EPOCH, &[])),
            (false, window(EPOCH, &[])),
            (false, live(&Live::Subscribe(order))),
            (true, live(&Live::Grant(grant))),
        ];
        let with = |more: &[(bool, Message)]| [&start[..], more].concat();
        check(&with(&[(true, piece(11, 1))]), None);
        check(&with(&[(true, piece(11, 2))]), Some("unasked"));
        check(&with(&[(true, piece(10, 1))]), Some("unasked"));
        let over = live(&Live::End(end));
        check(&with(&[(true, over.clone()), (true, piece(11, 1))]), Some("unasked"));
        let newer = window(Epoch(2 << 20), &[]);
        check(&with(&[(true, newer), (true, piece(11, 1))]), Some("never published"));
        assert_eq!(
            Extension::from_our_id(Extension::Live(Kind::End).our_id()).map(Extension::name),
            Some("bl_end")
        );
    }
}
