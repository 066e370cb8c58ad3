//! A small machine to test the simulator with: pieces of one block, announced, asked for, passed
//! on. It trusts everybody, so it is also what the checks are tested with.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::node::{Birth, Diagnosis, Maker, Node, Role};
use crate::machine::{Machine, Rng};
use crate::swarm::io::{Delivery, In, Out, Record};
use crate::units::{BLOCK_LEN, BlockNo, Epoch, InfoHash, Link, Now, PeerId, PieceIndex, Seq, Time};
use crate::wire::extended::Extension;
use crate::wire::feed::{Entry, Flags, Head};
use crate::wire::live::{HOPS_UNKNOWN, Live, Reason, Window};
use crate::wire::message::{Handshake, Message, Request, Reserved};
use crate::wire::tlv::Tlvs;

const EPOCH: Epoch = Epoch(1 << 20);
const LINKS_MAX: usize = 8;
const ASK_AGAIN: Duration = Duration::from_millis(1_000);
const TICK: Duration = Duration::from_millis(50);
const SOURCE_COPIES: usize = 3;
const KEPT: u32 = 200;

/// What toys are to do wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Deliver whatever comes, in whatever order.
    pub(super) careless: bool,
    /// Never set a deadline that lies ahead.
    pub(super) stuck: bool,
    /// Report a bound as broken after so many pieces.
    pub(super) bloated: Option<usize>,
}

pub(super) struct Toys(pub(super) Faults);

impl Maker for Toys {
    type Node = Toy;

    fn make(&mut self, birth: Birth, _: Now) -> Toy {
        let next = birth.records.published.as_ref().and_then(|entry| Entry::parse(entry).ok());
        Toy {
            faults: self.0,
            source: birth.role == Role::Source,
            rng: Rng::new(birth.seed),
            links: BTreeMap::new(),
            dialling: 0,
            pieces: BTreeMap::new(),
            asked: BTreeMap::new(),
            cursor: None,
            input: BytesMut::new(),
            next: next.map_or(1, |entry| entry.head.index.0 + 1),
            fresh: birth.records.published.is_some(),
            reader: None,
            tick_at: Time::ZERO,
            outs: VecDeque::new(),
            verified: VecDeque::new(),
        }
    }
}

pub(super) struct Toy {
    faults: Faults,
    source: bool,
    rng: Rng,
    links: BTreeMap<Link, Vec<u32>>,
    dialling: usize,
    /// Content and time of arrival.
    pieces: BTreeMap<u32, (Bytes, Time)>,
    /// What was asked of whom and when.
    asked: BTreeMap<u32, (Link, Time)>,
    /// The piece that the reader wants next.
    cursor: Option<u32>,
    input: BytesMut,
    next: u32,
    /// The next piece does not continue what was published before.
    fresh: bool,
    tick_at: Time,
    reader: Option<crate::swarm::io::ReaderId>,
    outs: VecDeque<Out>,
    verified: VecDeque<(Seq, u16)>,
}

fn seq(index: u32) -> Seq {
    Seq { epoch: EPOCH, index: PieceIndex(index) }
}

fn entry(index: u32, len: u32, flags: Flags) -> Bytes {
    let head = Head {
        epoch: EPOCH,
        index: PieceIndex(index),
        first_block: BlockNo(u64::from(index)),
        len,
        flags,
        key_id: 0,
        birth: crate::units::UnixUs(1),
        span_us: 0,
        previous: [0; 32],
    };
    Entry { head, hashes: vec![[0; 32]], ext: Tlvs::default(), signature: [0; 64] }.encode()
}

/// Says which epoch the numbers that follow are of.
fn window() -> Message {
    let window = Live::Window(Window {
        epoch: EPOCH,
        base: PieceIndex(0),
        kept_ms: 60_000,
        hops: HOPS_UNKNOWN,
        reason: Reason::NONE,
        bitmap: Bytes::new(),
        ext: Tlvs::default(),
    });
    let id = Extension::Live(window.kind()).our_id();
    Message::Extended { id, payload: window.encode() }
}

impl Toy {
    fn tell(&mut self, link: Link, message: &Message) {
        self.outs.push_back(Out::Send { link, head: message.head(), body: message.body() });
    }

    /// A source tells a few, others tell all.
    fn announce(&mut self, message: &Message) {
        let mut links: Vec<Link> = self.links.keys().copied().collect();
        if self.source {
            self.rng.shuffle(&mut links);
            links.truncate(SOURCE_COPIES);
        }
        links.into_iter().for_each(|link| self.tell(link, message));
    }

    fn take_piece(&mut self, now: Time, index: u32, block: Bytes) {
        self.asked.remove(&index);
        if self.pieces.insert(index, (block, now)).is_none() {
            self.verified.push_back((seq(index), 0));
            self.announce(&Message::Have(PieceIndex(index)));
        }
        while self.pieces.len() > KEPT as usize {
            self.pieces.pop_first();
        }
        self.read(now);
    }

    fn read(&mut self, now: Time) {
        let Some(reader) = self.reader else { return };
        let first = self.pieces.keys().next().copied();
        let Some(mut cursor) = self.cursor.or(first) else { return };
        loop {
            let next = self.pieces.range(cursor..).next().map(|(i, (b, at))| (*i, b.clone(), *at));
            let Some((index, block, at)) = next else { break };
            if index > cursor && !self.faults.careless {
                if now.since(at) < Duration::from_secs(1) {
                    break;
                }
                let item = Delivery::Skip { from: seq(cursor), pieces: index - cursor };
                self.outs.push_back(Out::Deliver { reader, item });
            }
            let item = Delivery::Piece {
                seq: seq(index),
                tables: Bytes::new(),
                blocks: vec![block],
                discontinuity: index > cursor || self.pieces.len() == 1,
            };
            self.outs.push_back(Out::Deliver { reader, item });
            cursor = index + 1;
        }
        self.cursor = Some(cursor);
    }

    fn publish(&mut self, now: Time, bytes: &Bytes) {
        self.input.extend_from_slice(bytes);
        while self.input.len() >= BLOCK_LEN as usize {
            let block = self.input.split_to(BLOCK_LEN as usize).freeze();
            // Toys tell each other no entries: a break shows as a gap in the numbers.
            let index = self.next + if self.fresh { 2 } else { 0 };
            self.next = index + 1;
            let flags = if self.fresh { Flags::DISCONTINUITY } else { Flags::default() };
            self.fresh = false;
            let entry = entry(index, BLOCK_LEN, flags);
            self.outs.push_back(Out::Persist(Record::Published(entry)));
            self.take_piece(now, index, block);
        }
    }

    /// Asks for everything that somebody has.
    fn ask_all(&mut self, now: Time) {
        let have = |link: Link, indices: &[u32]| {
            let newest = indices.iter().rev().take(64);
            newest.map(|index| (*index, link)).collect::<Vec<_>>()
        };
        let all: Vec<_> = self.links.iter().flat_map(|(link, all)| have(*link, all)).collect();
        self.ask(now, all);
    }

    fn ask(&mut self, now: Time, mut wanted: Vec<(u32, Link)>) {
        wanted.retain(|(index, _)| {
            self.cursor.is_none_or(|cursor| *index >= cursor) && !self.pieces.contains_key(index)
        });
        for (index, link) in wanted {
            let asked = self.asked.get(&index);
            if asked.is_some_and(|(_, at)| now.since(*at) < ASK_AGAIN) || self.rng.chance(0.3) {
                continue;
            }
            self.asked.insert(index, (link, now));
            let request = Request { index: PieceIndex(index), begin: 0, len: BLOCK_LEN };
            self.tell(link, &Message::Request(request));
        }
    }

    fn message(&mut self, now: Time, link: Link, message: Message) {
        match message {
            Message::Have(index) => {
                let haves = self.links.entry(link).or_default();
                haves.push(index.0);
                if haves.len() > 2 * KEPT as usize {
                    haves.drain(..KEPT as usize);
                }
                if !self.source {
                    self.ask(now, vec![(index.0, link)]);
                }
            }
            Message::Request(request) => {
                if let Some((block, _)) = self.pieces.get(&request.index.0).cloned() {
                    let (index, begin) = (request.index, request.begin);
                    self.tell(link, &Message::Piece { index, begin, block });
                }
            }
            Message::Piece { index, block, .. } => self.take_piece(now, index.0, block),
            _ => {}
        }
    }
}

impl Machine for Toy {
    type In = In;
    type Out = Out;

    fn handle(&mut self, now: Now, input: In) {
        let now = now.mono;
        match input {
            In::Found { addrs, .. } => {
                for addr in addrs {
                    if self.links.len() + self.dialling < LINKS_MAX {
                        self.dialling += 1;
                        self.outs.push_back(Out::Dial { addr });
                    }
                }
            }
            In::Up { link, dialled, .. } => {
                self.dialling -= usize::from(dialled);
                self.links.insert(link, Vec::new());
                let handshake = Handshake {
                    reserved: Reserved::live(),
                    info_hash: InfoHash([7; 20]),
                    peer_id: PeerId([7; 20]),
                };
                let head = handshake.encode();
                self.outs.push_back(Out::Send { link, head, body: Bytes::new() });
                self.tell(link, &window());
                let held: Vec<u32> = self.pieces.keys().rev().take(8).copied().collect();
                for index in held {
                    self.tell(link, &Message::Have(PieceIndex(index)));
                }
            }
            In::DialFailed { .. } => self.dialling -= 1,
            In::Down { link } => {
                self.links.remove(&link);
            }
            In::Frame { link, frame } if frame.len() != 68 => {
                if let Ok(message) = Message::parse(&frame) {
                    self.message(now, link, message);
                }
            }
            In::Frames { link, frames } => {
                for frame in frames.into_iter().filter(|frame| frame.len() != 68) {
                    if let Ok(message) = Message::parse(&frame) {
                        self.message(now, link, message);
                    }
                }
            }
            In::Ingest(bytes) if self.source => self.publish(now, &bytes),
            In::IngestBreak => {
                self.input.clear();
                self.fresh = true;
            }
            In::AddReader { reader, .. } => self.reader = Some(reader),
            In::Tick => {
                self.tick_at = now.after(TICK);
                let asked = self.asked.iter();
                let lost = asked.filter(|(i, _)| self.cursor.is_some_and(|c| **i < c));
                let lost: Vec<u32> = lost.map(|(index, _)| *index).collect();
                for index in lost {
                    self.asked.remove(&index);
                }
                self.read(now);
                self.ask_all(now);
            }
            In::Stop => {
                let links: Vec<Link> = self.links.keys().copied().collect();
                links.into_iter().for_each(|link| self.outs.push_back(Out::Close { link }));
                self.links.clear();
            }
            _ => {}
        }
    }

    fn poll(&mut self) -> Option<Out> {
        self.outs.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        Some(if self.faults.stuck { Time::ZERO } else { self.tick_at })
    }
}

impl Node for Toy {
    fn invariant(&self) -> Result<(), String> {
        match self.faults.bloated {
            Some(max) if self.pieces.len() > max => Err(format!("{} pieces", self.pieces.len())),
            _ => Ok(()),
        }
    }

    fn verified(&mut self) -> Option<(Seq, u16)> {
        self.verified.pop_front()
    }

    fn diagnosis(&self, _: Now) -> Diagnosis {
        Diagnosis::default()
    }
}
