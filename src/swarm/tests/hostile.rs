//! Peers that lie, flood, stall or speak nonsense, against one swarm driven by hand.
//!
//! After every input all bounds must hold, and a tick at the deadline must move the deadline.

mod fields;
mod memory;

use super::*;
use crate::live::builder::{Builder, Sealed};
use crate::machine::Machine;
use crate::swarm::QUEUE_LEN_MAX;
use crate::swarm::config::Torrent;
use crate::swarm::peer::OrderState;
use crate::units::{BlockNo, Epoch, PieceIndex, Seq};
use crate::wire::extended::{ExtendedHandshake, Extension, MetadataMessage, Pex};
use crate::wire::feed::{Claim, Entry, Flags, Head};
use crate::wire::live::{
    CHANGE, Clock, Cover, End, Entries, Grant, Kind, Live, NEWEST, Proof, Reason, Report, Skip,
    Stripe, Subscribe, VIEW_LAGS, View, Window,
};
use crate::wire::message::{Handshake, Message, Request, Reserved};
use crate::wire::tlv::Tlvs;
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};

const SECOND: u64 = 1_000_000;
const EPOCH: Epoch = Epoch((WALL_US / SECOND) << 20);

/// What a test changes in the head of an entry.
type Change = fn(&mut Head);

/// One swarm and scripted peers.
struct Rig {
    swarm: Swarm,
    now: u64,
    next_link: u64,
    closed: Vec<Link>,
    sent: BTreeMap<Link, Vec<u8>>,
    events: Vec<Event>,
    dials: Vec<SocketAddr>,
    delivered: usize,
    /// Peers that say something every second, as those do who take part.
    awake: Vec<Link>,
}

impl Rig {
    fn with(config: Config) -> Self {
        let mut rig = Self {
            swarm: Swarm::new(config),
            now: SECOND,
            next_link: 0,
            closed: Vec::new(),
            sent: BTreeMap::new(),
            events: Vec::new(),
            dials: Vec::new(),
            delivered: 0,
            awake: Vec::new(),
        };
        rig.give(In::Tick);
        rig
    }

    fn config() -> Config {
        let mut config = Config::viewer(info_hash(), PeerId([1; 20]), 7);
        config.info = Some(info());
        config
    }

    /// A viewer with a reader.
    fn viewer() -> Self {
        let mut rig = Self::with(Self::config());
        let reader = ReaderId(1);
        rig.give(In::AddReader { reader, delay: Duration::from_secs(1).into() });
        rig.give(In::ReaderCredit { reader, pieces: u32::MAX });
        rig
    }

    fn give(&mut self, input: In) {
        let wall = UnixUs(WALL_US + self.now);
        let now = Now { mono: Time(self.now), wall };
        let mut outs = Vec::new();
        drain(&mut self.swarm, now, input, |out| outs.push(out));
        self.swarm.invariant().expect("every bound holds");
        for out in outs {
            match out {
                Out::Send { link, head, body } => {
                    let bytes = head.len() + body.len();
                    let sent = self.sent.entry(link).or_default();
                    sent.extend_from_slice(&head);
                    sent.extend_from_slice(&body);
                    self.give(In::Sent { link, bytes });
                }
                Out::Close { link } => self.closed.push(link),
                Out::Event(event) => self.events.push(event),
                Out::Dial { addr } => self.dials.push(addr),
                Out::Deliver { .. } => self.delivered += 1,
                Out::Persist(_) => {}
            }
        }
    }

    /// Lets time pass; every tick at a deadline must move it within a few turns.
    fn pass(&mut self, us: u64) {
        let end = self.now + us;
        let mut turns = 0;
        while let Some(deadline) = self.swarm.deadline().filter(|at| at.0 <= end) {
            turns = if deadline.0 <= self.now { turns + 1 } else { 0 };
            assert!(turns < 50, "the deadline stands still at {} us", self.now);
            let second = self.now / SECOND;
            self.now = self.now.max(deadline.0);
            self.give(In::Tick);
            if self.now / SECOND > second {
                for link in self.awake.clone() {
                    self.say(link, &Message::KeepAlive);
                }
            }
        }
        self.now = end;
        self.give(In::Tick);
    }

    /// A connection from a host of its own network, before any byte.
    fn up(&mut self) -> Link {
        let n = self.next_link as u16;
        self.up_from(SocketAddr::from(([50, n as u8, (n >> 8) as u8, 9], 40_000)))
    }

    fn up_from(&mut self, addr: SocketAddr) -> Link {
        let link = Link(self.next_link);
        self.next_link += 1;
        self.give(In::Up { link, addr, dialled: false });
        link
    }

    fn shake(&mut self, link: Link, reserved: Reserved) {
        let mut id = [2; 20];
        id[..8].copy_from_slice(&link.0.to_be_bytes());
        let shake = Handshake { reserved, info_hash: info_hash(), peer_id: PeerId(id) };
        self.give(In::Frame { link, frame: shake.encode() });
    }

    fn say(&mut self, link: Link, message: &Message) {
        self.give(In::Frame { link, frame: frame(message) });
    }

    fn say_live(&mut self, link: Link, live: &Live) {
        self.say(link, &extended(live));
    }

    fn extension_handshake(&mut self, link: Link, metadata_size: Option<usize>) {
        let ip = [203, 0, 113, 1].into();
        let payload = ExtendedHandshake::ours(Some(7000), metadata_size, true, ip).encode();
        self.say(link, &Message::Extended { id: 0, payload });
    }

    /// A peer that speaks our extension and has not declared anything.
    fn live(&mut self) -> Link {
        let link = self.up();
        self.shake(link, Reserved::live());
        self.say(link, &Message::HaveNone);
        self.extension_handshake(link, None);
        link
    }

    /// A live peer that declared the epoch and holds nothing.
    fn declared(&mut self, epoch: Epoch) -> Link {
        let link = self.live();
        self.say_live(link, &window(epoch, 0, &[]));
        link
    }

    /// A live peer that showed these entries and holds their pieces.
    fn honest(&mut self, sealed: &[Sealed]) -> Link {
        let link = self.live();
        for piece in sealed {
            self.say_live(link, &push(&piece.genuine.raw));
        }
        let head = sealed.last().expect("a piece").genuine.entry.head;
        self.say_live(link, &window(head.epoch, 0, &[0xff; 16]));
        self.say(link, &Message::Unchoke);
        self.awake.push(link);
        link
    }

    /// Learns these entries of a peer that is gone again.
    fn knows(&mut self, sealed: &[Sealed]) {
        let link = self.honest(sealed);
        self.give(In::Down { link });
    }

    fn is_open(&self, link: Link) -> bool {
        !self.closed.contains(&link)
    }

    fn faults(&self) -> Vec<&str> {
        let mut faults = Vec::new();
        for event in &self.events {
            if let Event::PeerLeft { reason, fault: true, .. } = event {
                faults.push(reason.as_str());
            }
        }
        faults
    }

    /// What was sent to a peer, without the handshake.
    fn messages(&self, link: Link) -> Vec<Message> {
        let sent = self.sent.get(&link).map_or(&[][..], |sent| sent.get(68..).unwrap_or(&[]));
        let (mut at, mut out) = (0, Vec::new());
        while let Some(len) = sent.get(at..at + 4) {
            let len = u32::from_be_bytes(len.try_into().expect("four")) as usize;
            let frame = Bytes::copy_from_slice(&sent[at + 4..at + 4 + len]);
            out.push(Message::parse(&frame).expect("ours"));
            at += 4 + len;
        }
        out
    }

    fn lives(&self, link: Link) -> Vec<Live> {
        let parse = |message| {
            let Message::Extended { id, payload } = message else { return None };
            let Some(Extension::Live(kind)) = Extension::from_our_id(id) else { return None };
            Live::parse(kind, &payload).expect("ours")
        };
        self.messages(link).into_iter().filter_map(parse).collect()
    }

    fn sent_len(&self, link: Link) -> usize {
        self.sent.get(&link).map_or(0, Vec::len)
    }

    fn head(&self) -> Option<Seq> {
        self.swarm.head()
    }
}

fn frame(message: &Message) -> Bytes {
    let mut bytes = message.head().to_vec();
    bytes.extend_from_slice(&message.body());
    Bytes::from(bytes).slice(4..)
}

fn extended(live: &Live) -> Message {
    let id = Extension::Live(live.kind()).our_id();
    Message::Extended { id, payload: live.encode() }
}

fn push(raw: &Bytes) -> Live {
    Live::Entries(Entries::Push { entries: vec![raw.clone()] })
}

fn window(epoch: Epoch, base: u32, bitmap: &[u8]) -> Live {
    Live::Window(Window {
        epoch,
        base: PieceIndex(base),
        kept_ms: 60_000,
        hops: 1,
        reason: Reason::NONE,
        bitmap: Bytes::copy_from_slice(bitmap),
        ext: Tlvs::default(),
    })
}

fn wish(id: u8, stripe: Stripe, cover: Cover, epoch: Epoch, first: u64, last: u64) -> Live {
    let (first, last) = (BlockNo(first), BlockNo(last));
    Live::Subscribe(Subscribe { id, stripe, epoch, cover, first, last, ext: Tlvs::default() })
}

/// `count` pieces of 40 kB, 200 ms apart, from `at` on.
fn chain(epoch: Epoch, at: u64, count: usize) -> Vec<Sealed> {
    let stream = Torrent::from_info(&info()).expect("valid").stream;
    let time = |us: u64| Now { mono: Time(at + us), wall: UnixUs(WALL_US + at + us) };
    let media = "application/octet-stream";
    let mut builder = Builder::open_epoch(stream, key(), media, time(0), epoch, None);
    let mut sealed = Vec::new();
    for n in 0..count {
        let us = n as u64 * 200_000;
        let bytes: Vec<u8> = content(n * 40_000 + at as usize).take(40_000).collect();
        sealed.extend(builder.push(time(us), bytes.into()));
        sealed.extend(builder.tick(time(us + 200_000)));
    }
    sealed
}

/// A genuine entry that says whatever `change` makes it say.
fn signed(change: impl FnOnce(&mut Head)) -> Bytes {
    let mut head = Head {
        epoch: EPOCH,
        index: PieceIndex(0),
        first_block: BlockNo(0),
        len: 16,
        flags: Flags::RANDOM_ACCESS,
        key_id: 0,
        birth: UnixUs(WALL_US),
        span_us: 200_000,
        previous: [0; 32],
    };
    change(&mut head);
    let hashes = (0..head.blocks()).map(|_| Sha256::digest([0; 16]).into()).collect();
    let mut entry = Entry { head, hashes, ext: Tlvs::default(), signature: [0; 64] };
    entry.signature = key().sign(&entry.signed_bytes(info_hash())).to_bytes();
    entry.encode()
}

fn piece(sealed: &Sealed, block: usize) -> Message {
    let index = sealed.genuine.entry.head.index;
    Message::Piece { index, begin: block as u32 * 16_384, block: sealed.blocks[block].clone() }
}

fn spoilt(sealed: &Sealed, block: usize) -> Message {
    let mut bytes = sealed.blocks[block].to_vec();
    bytes[7] ^= 1;
    let index = sealed.genuine.entry.head.index;
    Message::Piece { index, begin: block as u32 * 16_384, block: bytes.into() }
}

/// Every message with each field at 0, 1 and its maximum.
fn all_messages() -> Vec<Message> {
    let n32 = [0, 1, u32::MAX].map(PieceIndex);
    let n64 = [0, 1, (1 << 53) - 1, u64::MAX];
    let request = |index, begin, len| Request { index, begin, len };
    let mut all = vec![
        Message::KeepAlive,
        Message::Choke,
        Message::Unchoke,
        Message::Interested,
        Message::NotInterested,
        Message::HaveAll,
        Message::HaveNone,
        Message::Bitfield(Bytes::new()),
        Message::Bitfield(Bytes::from(vec![0xff; 4096])),
        Message::Port(0),
        Message::Port(u16::MAX),
    ];
    for index in n32 {
        all.extend([Message::Have(index), Message::Suggest(index), Message::AllowedFast(index)]);
        for begin in [0, 1, 16_384, u32::MAX / 16_384 * 16_384, u32::MAX] {
            for len in [0, 1, 16_384, u32::MAX] {
                let r = request(index, begin, len);
                all.extend([Message::Request(r), Message::Cancel(r), Message::Reject(r)]);
            }
            for len in [1, 16_384] {
                all.push(Message::Piece { index, begin, block: vec![0; len].into() });
            }
        }
    }
    let mut lives = Vec::new();
    for a in n64 {
        for index in n32 {
            for n in [0u8, 1, 255] {
                for bitmap in [&[][..], &[0xff], &[0xff; 2048]] {
                    let mut message = window(Epoch(a), index.0, bitmap);
                    if let Live::Window(w) = &mut message {
                        (w.hops, w.reason, w.kept_ms) = (n, Reason(n), index.0);
                    }
                    lives.push(message);
                }
                let count = u16::from(n) + 1;
                let epoch = Epoch(a);
                lives.push(Live::Entries(Entries::Ask { run: n, epoch, index, count }));
            }
        }
        for b in n64 {
            for (id, part) in [(0, 1), (1, 255), (63, 255)] {
                for (k, stripes) in [(1, 1), (32, u32::MAX)] {
                    let cover = Cover { k, stripes, part };
                    let epoch = if b == 1 { EPOCH } else { Epoch(b) };
                    for stripe in [Stripe::Blocks, Stripe::Entries] {
                        lives.push(wish(id, stripe, cover, epoch, a, b));
                    }
                    let (first, reason) = (BlockNo(a), Reason(id));
                    let (credit, ext) = (k.into(), Tlvs::default());
                    lives.push(Live::Grant(Grant { id, reason, cover, credit, epoch, first, ext }));
                    let blocks = vec![BlockNo(a); if part == 1 { 1 } else { 256 }];
                    lives.push(Live::Skip(Skip { id, reason, epoch, blocks }));
                    lives.push(Live::End(End { id, reason }));
                }
            }
            let answer = Clock::Answer { mine_us: a, yours_us: b, arrived_us: a };
            lives.extend([Live::Clock(Clock::Ask { mine_us: a }), Live::Clock(answer)]);
        }
    }
    for n in [0usize, 1, 32] {
        let report = n as u8;
        lives.push(Live::Report(Report::Ask { report, credits: vec![u32::MAX; n] }));
        let received = vec![(u32::MAX, u64::MAX); n];
        let late = View { reason: Reason(n as u8), lag_ms: [n as u16; VIEW_LAGS] };
        let view = (n > 0).then_some(late);
        lives.push(Live::Report(Report::Answer { report, received, view }));
        let entries = vec![Bytes::from(vec![0; 72]); n];
        lives.push(Live::Entries(Entries::Answer { run: report, entries: entries.clone() }));
        lives.push(Live::Entries(Entries::Push { entries }));
    }
    all.extend(lives.iter().map(extended));
    // Every extended message that is no more than one byte repeated.
    for id in 0..=u8::MAX {
        for (byte, len) in [(0, 0), (0, 1), (1, 2), (255, 36), (0, 40), (b'd', 7), (255, 700)] {
            all.push(Message::Extended { id, payload: vec![byte; len].into() });
        }
    }
    let pex = Pex { added: vec![([9, 9, 9, 9], 6881).into(); 200], dropped: Vec::new() };
    let data = MetadataMessage::Data { piece: 0, total_size: Some(9), data: vec![0; 9].into() };
    let ask = |piece| MetadataMessage::Request { piece }.encode();
    let metadata = Extension::Metadata.our_id();
    all.push(Message::Extended { id: Extension::Pex.our_id(), payload: pex.encode() });
    for payload in [data.encode(), ask(0), ask(1), ask(u32::MAX)] {
        all.push(Message::Extended { id: metadata, payload });
    }
    all
}

#[test]
fn every_message_at_the_ends_of_its_fields_is_survived_in_every_state() {
    let sealed = chain(EPOCH, SECOND, 5);
    for state in ["before the handshake", "before the extension's", "before a window", "in play"] {
        let mut rig = Rig::viewer();
        let honest = rig.honest(&sealed);
        for message in all_messages() {
            let link = match state {
                "before the handshake" => rig.up(),
                "before the extension's" => {
                    let link = rig.up();
                    rig.shake(link, Reserved::live());
                    link
                }
                "before a window" => rig.live(),
                _ => rig.declared(EPOCH),
            };
            // Twice, because some are right once and wrong the second time.
            rig.say(link, &message);
            rig.say(link, &message);
            rig.pass(60_000);
            rig.give(In::Down { link });
            rig.say(honest, &Message::KeepAlive);
        }
        assert!(rig.is_open(honest), "{state}: {:?}", rig.faults());
        assert_eq!(rig.head(), sealed.last().map(|s| s.genuine.entry.head.seq()), "{state}");
    }
}

#[test]
fn every_message_is_survived_after_the_end_of_the_stream() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    rig.say_live(link, &push(&signed(|head| (head.len, head.flags) = (0, Flags::END))));
    for message in all_messages() {
        let link = rig.declared(EPOCH);
        rig.say(link, &message);
        rig.pass(20_000);
        rig.give(In::Down { link });
    }
    assert!(rig.events.contains(&Event::Ended));
}

#[test]
fn a_flood_of_any_message_costs_neither_memory_nor_uplink() {
    let sealed = chain(EPOCH, SECOND, 5);
    let mut rig = Rig::viewer();
    let honest = rig.honest(&sealed);
    for message in all_messages().into_iter().step_by(7) {
        let link = rig.declared(EPOCH);
        for _ in 0..100 {
            rig.say(link, &message);
        }
        let (came, went) = (100 * frame(&message).len(), rig.sent_len(link));
        assert!(went < came * 2 + 64_000, "{went} bytes for {came} of {message:?}");
        rig.pass(50_000);
        rig.give(In::Down { link });
        rig.sent.clear();
    }
    assert!(rig.is_open(honest), "{:?}", rig.faults());
}

#[test]
fn asks_for_runs_bring_a_window_and_then_a_trickle() {
    let mut rig = Rig::viewer();
    rig.honest(&chain(EPOCH, SECOND, 280));
    let link = rig.declared(EPOCH);
    let ask = |run| Entries::Ask { run, epoch: EPOCH, index: NEWEST, count: 256 };
    rig.say_live(link, &Live::Entries(ask(0)));
    let whole = rig.sent_len(link);
    assert!(whole > 50_000, "{whole} bytes are no window");
    for second in 0..20 {
        for run in 0..30 {
            rig.say_live(link, &Live::Entries(ask(run % 8)));
        }
        rig.pass(SECOND);
        let sent = rig.sent_len(link);
        assert!(sent < 700_000 + second * 80_000, "{sent} bytes after {second} s");
    }
    assert!(rig.is_open(link), "asking is no crime");
}

#[test]
fn a_peer_that_does_not_read_is_closed_before_it_costs_memory() {
    let mut rig = Rig::viewer();
    rig.honest(&chain(EPOCH, SECOND, 280));
    let link = rig.declared(EPOCH);
    let now = |rig: &Rig| Now { mono: Time(rig.now), wall: UnixUs(WALL_US + rig.now) };
    let ask = Entries::Ask { run: 1, epoch: EPOCH, index: NEWEST, count: 256 };
    let message = frame(&extended(&Live::Entries(ask)));
    let mut queued = 0;
    for _ in 0..100_000 {
        let mut closed = false;
        let input = In::Frame { link, frame: message.clone() };
        let now = now(&rig);
        drain(&mut rig.swarm, now, input, |out| match out {
            Out::Send { head, body, .. } => queued += head.len() + body.len(),
            Out::Close { .. } => closed = true,
            _ => {}
        });
        if closed {
            return assert!(queued < 2 * QUEUE_LEN_MAX);
        }
    }
    panic!("{queued} bytes wait for a peer that does not read");
}

#[test]
fn who_sends_a_handshake_and_no_more_is_closed_after_ten_seconds() {
    let mut rig = Rig::viewer();
    let (none, one) = (rig.up(), rig.up());
    rig.shake(one, Reserved::live());
    rig.pass(9 * SECOND);
    assert!(rig.is_open(none) && rig.is_open(one));
    rig.pass(2 * SECOND);
    assert!(!rig.is_open(none) && !rig.is_open(one));
    assert!(rig.faults().is_empty());
}

#[test]
fn one_host_does_not_take_all_places() {
    let mut rig = Rig::viewer();
    let addr = |n: u16| SocketAddr::from(([50, 1, 1, 1], 40_000 + n));
    let links: Vec<Link> = (0..100).map(|n| rig.up_from(addr(n))).collect();
    assert_eq!(links.into_iter().filter(|l| rig.is_open(*l)).count(), 8);
    let other = rig.up_from(SocketAddr::from(([50, 1, 1, 2], 40_000)));
    assert!(rig.is_open(other));
}

#[test]
fn who_takes_another_ones_id_does_not_push_it_out() {
    let mut rig = Rig::viewer();
    let honest = rig.declared(EPOCH);
    let thief = rig.up();
    let mut id = [2; 20];
    id[..8].copy_from_slice(&honest.0.to_be_bytes());
    let (reserved, info_hash) = (Reserved::live(), info_hash());
    let shake = Handshake { reserved, info_hash, peer_id: PeerId(id) };
    rig.give(In::Frame { link: thief, frame: shake.encode() });
    assert!(rig.is_open(honest));
}

#[test]
fn peers_without_the_extension_get_four_slots_metadata_and_five_seconds() {
    let mut rig = Rig::viewer();
    let links: Vec<Link> = (0..6)
        .map(|_| {
            let link = rig.up();
            rig.shake(link, Reserved::live());
            let m = BTreeMap::from([("ut_metadata".to_owned(), 3)]);
            let payload = ExtendedHandshake { m, ..ExtendedHandshake::default() }.encode();
            rig.say(link, &Message::Extended { id: 0, payload });
            let payload = MetadataMessage::Request { piece: 0 }.encode();
            rig.say(link, &Message::Extended { id: Extension::Metadata.our_id(), payload });
            link
        })
        .collect();
    let open = |rig: &Rig| links.iter().filter(|l| rig.is_open(**l)).count();
    assert_eq!(open(&rig), 4);
    assert!(rig.messages(links[0]).iter().any(|m| {
        matches!(m, Message::Extended { id: 3, payload } if payload.ends_with(&info()))
    }));
    rig.pass(5 * SECOND + 100_000);
    assert_eq!(open(&rig), 0);
}

#[test]
fn a_peer_without_the_extension_is_not_dialled_again_for_an_hour() {
    let mut rig = Rig::viewer();
    let addr = SocketAddr::from(([50, 7, 7, 7], 6881));
    rig.give(In::Found { via: Via::Tracker, addrs: vec![addr] });
    assert_eq!(rig.dials, [addr]);
    let link = Link(900);
    rig.give(In::Up { link, addr, dialled: true });
    rig.shake(link, Reserved([0; 8]));
    rig.give(In::Down { link });
    rig.pass(3_500 * SECOND);
    assert_eq!(rig.dials.len(), 1);
    rig.pass(200 * SECOND);
    assert_eq!(rig.dials.len(), 2);
}

#[test]
fn wrong_entries_name_their_culprit_and_move_nothing() {
    let sealed = chain(EPOCH, SECOND, 3);
    let raw = |n: usize| sealed[n].genuine.raw.clone();
    let forge = |at: usize| {
        let mut bytes = raw(1).to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let forged = [("birth", 30), ("index", 11), ("epoch", 7), ("hash", 80), ("previous", 50)];
    let signature = raw(1).len() - 3;
    for (what, at) in forged.into_iter().chain([("signature", signature)]) {
        let mut rig = Rig::viewer();
        let honest = rig.honest(&sealed[..1]);
        let culprit = rig.declared(EPOCH);
        rig.say_live(culprit, &push(&forge(at)));
        assert!(!rig.is_open(culprit) && rig.is_open(honest), "{what}");
        assert_eq!(rig.faults().len(), 1, "{what}");
        assert_eq!(rig.head().map(|s| s.index.0), Some(0), "{what}");
        let again = rig.up_from(SocketAddr::from(([50, culprit.0 as u8, 0, 9], 50_000)));
        assert!(!rig.is_open(again), "{what}: its host is banned");
    }
}

#[test]
fn replayed_reordered_and_foreign_entries_are_nobodys_fault_and_the_head_never_goes_back() {
    let (old, new) = (chain(EPOCH, SECOND, 6), chain(Epoch(EPOCH.0 + 5), SECOND, 6));
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    for n in [3, 0, 5, 1, 4, 2, 2, 3] {
        rig.say_live(link, &push(&old[n].genuine.raw));
    }
    rig.say_live(link, &push(&new[4].genuine.raw));
    let head = rig.head();
    for sealed in old.iter().chain(&new[..4]) {
        rig.say_live(link, &push(&sealed.genuine.raw));
    }
    assert_eq!(head, Some(new[4].genuine.entry.head.seq()));
    assert_eq!(rig.head(), head);
    rig.pass(SECOND);
    assert!(rig.is_open(link));
}

#[test]
fn an_entry_with_an_unknown_key_is_not_taken_for_the_broadcasters_word() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    rig.say_live(link, &push(&signed(|head| head.key_id = 7)));
    assert!(rig.is_open(link));
    assert!(!rig.events.iter().any(|e| matches!(e, Event::NeedsNewer { .. })));
}

#[test]
fn a_bad_block_of_a_shown_entry_bans_its_sender_alone() {
    let sealed = chain(EPOCH, SECOND, 5);
    let mut rig = Rig::viewer();
    let links = [rig.honest(&sealed), rig.honest(&sealed)];
    rig.pass(SECOND);
    let asked = |rig: &Rig, link| {
        rig.messages(link).into_iter().find_map(|m| match m {
            Message::Request(r) => Some(r),
            _ => None,
        })
    };
    let liar = links.into_iter().find(|l| asked(&rig, *l).is_some()).expect("one is asked");
    let request = asked(&rig, liar).expect("asked");
    let bad = spoilt(&sealed[request.index.0 as usize], (request.begin / 16_384) as usize);
    rig.say(liar, &bad);
    assert!(!rig.is_open(liar));
    assert!(links.into_iter().filter(|l| *l != liar).all(|l| rig.is_open(l)));
    assert!(rig.faults()[0].contains("fails its hash"));
    assert_eq!(rig.swarm.totals.pieces_verified, 0);
}

#[test]
fn a_bad_block_without_a_shown_entry_convicts_when_the_entry_is_shown() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    rig.knows(&sealed);
    let liar = rig.declared(EPOCH);
    rig.pass(SECOND);
    assert!(grant_all(&mut rig, liar) > 4);
    rig.say(liar, &spoilt(&sealed[1], 0));
    assert!(rig.is_open(liar));
    assert!(
        rig.lives(liar)
            .iter()
            .any(|live| matches!(live, Live::Entries(Entries::Ask { index: PieceIndex(1), .. })))
    );
    rig.say_live(liar, &push(&sealed[1].genuine.raw));
    assert!(!rig.is_open(liar));
}

/// Grants whatever was wished for.
fn grant_all(rig: &mut Rig, link: Link) -> usize {
    let wishes: Vec<Subscribe> = rig
        .lives(link)
        .into_iter()
        .filter_map(|live| if let Live::Subscribe(wish) = live { Some(wish) } else { None })
        .filter(|wish| !wish.is_change())
        .collect();
    for wish in &wishes {
        let Subscribe { id, cover, epoch, first, .. } = *wish;
        let (reason, credit, ext) = (Reason::NONE, 0, Tlvs::default());
        let grant = Grant { id, reason, cover, credit, epoch, first, ext };
        rig.say_live(link, &Live::Grant(grant));
    }
    wishes.len()
}

#[test]
fn who_follows_the_other_of_two_contradicting_chains_is_not_to_blame() {
    let (ours, theirs) = (chain(EPOCH, SECOND, 40), chain(EPOCH, SECOND + 777, 40));
    let mut rig = Rig::viewer();
    rig.knows(&ours);
    let other = rig.declared(EPOCH);
    rig.pass(SECOND);
    assert!(grant_all(&mut rig, other) > 4);
    for sealed in &theirs {
        rig.say(other, &piece(sealed, 0));
        rig.say_live(other, &push(&sealed.genuine.raw));
    }
    assert!(rig.is_open(other), "{:?}", rig.faults());
    let told = rig.events.iter().filter(|e| matches!(e, Event::Equivocation { .. })).count();
    assert_eq!(told, 1);
    assert!(rig.lives(other).iter().any(|live| matches!(live, Live::Proof(_))));
}

#[test]
fn who_sends_bad_blocks_and_never_an_entry_is_dropped_in_the_end() {
    let sealed = chain(EPOCH, SECOND, 40);
    let mut rig = Rig::viewer();
    rig.knows(&sealed);
    let liar = rig.declared(EPOCH);
    rig.pass(SECOND);
    assert!(grant_all(&mut rig, liar) > 4);
    for sealed in &sealed {
        rig.say(liar, &spoilt(sealed, 0));
    }
    assert!(!rig.is_open(liar));
}

#[test]
fn blocks_that_nobody_asked_for_are_dropped_and_then_their_sender() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    rig.honest(&sealed);
    let link = rig.declared(EPOCH);
    for _ in 0..64 {
        rig.say(link, &piece(&sealed[1], 0));
    }
    assert!(rig.is_open(link));
    assert_eq!(rig.swarm.core.as_ref().map(|c| c.store.bytes()), Some(0));
    rig.say(link, &piece(&sealed[1], 0));
    assert!(!rig.is_open(link));
}

#[test]
fn blocks_without_entries_are_held_in_bounds_and_counted() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    rig.knows(&sealed);
    let link = rig.declared(EPOCH);
    rig.pass(SECOND);
    assert!(grant_all(&mut rig, link) > 4);
    for index in 50..60 {
        for block in 0..100 {
            let block = Message::Piece {
                index: PieceIndex(index),
                begin: block * 16_384,
                block: vec![1].into(),
            };
            rig.say(link, &block);
        }
    }
    let held = |rig: &Rig| rig.swarm.peers.get(&link).map_or(0, |p| p.held.len());
    assert!(held(&rig) <= 8, "{} blocks", held(&rig));
    rig.pass(SECOND);
    assert_eq!(held(&rig), 0);
}

#[test]
fn a_claim_of_an_epoch_without_its_entry_ends_after_two_seconds_however_often_it_is_made() {
    let mut rig = Rig::viewer();
    rig.honest(&chain(EPOCH, SECOND, 3));
    let liar = rig.live();
    for n in 0..10 {
        rig.say_live(liar, &window(Epoch(EPOCH.0 + 1 + n), 0, &[0xff; 2048]));
        rig.pass(250_000);
    }
    assert!(!rig.is_open(liar));
    assert!(rig.faults().is_empty());
}

#[test]
fn lies_about_holdings_move_neither_the_head_nor_anybody_else() {
    let sealed = chain(EPOCH, SECOND, 5);
    let mut rig = Rig::viewer();
    let honest = rig.honest(&sealed);
    let liar = rig.live();
    rig.say_live(liar, &window(EPOCH, u32::MAX - 100, &[0xff; 2048]));
    rig.say(liar, &Message::Have(PieceIndex(u32::MAX)));
    rig.say_live(liar, &window(EPOCH, 0, &[0xff; 2048]));
    rig.say(liar, &Message::Have(PieceIndex(9_000)));
    rig.pass(3 * SECOND);
    assert_eq!(rig.head(), sealed.last().map(|s| s.genuine.entry.head.seq()));
    assert!(rig.is_open(honest));
}

#[test]
fn a_have_of_the_last_index_of_all_survives_the_sliding_of_the_window() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    rig.say(link, &Message::Have(PieceIndex(u32::MAX)));
    for sealed in chain(EPOCH, SECOND, 330) {
        rig.say_live(link, &push(&sealed.genuine.raw));
    }
    assert_eq!(rig.head().map(|s| s.index.0), Some(329));
    assert!(rig.swarm.core.as_ref().is_some_and(|c| c.store.len() < 310));
}

#[test]
fn wrong_metadata_bans_its_senders_and_nobody_else() {
    let mut config = Rig::config();
    config.info = None;
    let mut rig = Rig::with(config);
    let size = info().len();
    let data = |data: Bytes| {
        let payload = MetadataMessage::Data { piece: 0, total_size: None, data }.encode();
        Message::Extended { id: Extension::Metadata.our_id(), payload }
    };
    let peer = |rig: &mut Rig, claimed| {
        let link = rig.up();
        rig.shake(link, Reserved::live());
        rig.extension_handshake(link, Some(claimed));
        link
    };
    let trickles = peer(&mut rig, 4 << 20);
    let spoils = [peer(&mut rig, size), peer(&mut rig, size)];
    let wrong_size = peer(&mut rig, size + 1);
    let honest = peer(&mut rig, size);
    let silent = peer(&mut rig, size);
    rig.pass(100_000);
    rig.say(spoils[0], &data(vec![1; size].into()));
    rig.say(spoils[1], &data(vec![2; size - 1].into()));
    rig.say(wrong_size, &data(vec![3; size + 1].into()));
    rig.pass(100_000);
    assert!(rig.swarm.torrent().is_none());
    rig.say(honest, &data(info()));
    assert!(rig.events.contains(&Event::MetadataComplete));
    assert!(rig.is_open(honest) && rig.is_open(silent) && rig.is_open(trickles));
    assert!(spoils.into_iter().chain([wrong_size]).all(|l| !rig.is_open(l)));
}

#[test]
fn a_large_dictionary_that_trickles_does_not_keep_a_small_one_waiting() {
    let mut config = Rig::config();
    config.info = None;
    let mut rig = Rig::with(config);
    let large = rig.up();
    rig.shake(large, Reserved::live());
    rig.extension_handshake(large, Some(4 << 20));
    rig.pass(SECOND);
    for piece in 0..20 {
        let data = vec![0; 16_384].into();
        let payload = MetadataMessage::Data { piece, total_size: None, data }.encode();
        rig.say(large, &Message::Extended { id: Extension::Metadata.our_id(), payload });
        rig.pass(1_900_000);
    }
    let asked = rig.messages(large).len();
    assert!(asked < 30, "{asked} messages");
    let honest = rig.up();
    rig.shake(honest, Reserved::live());
    rig.extension_handshake(honest, Some(info().len()));
    rig.pass(100_000);
    let data = MetadataMessage::Data { piece: 0, total_size: None, data: info() }.encode();
    rig.say(honest, &Message::Extended { id: Extension::Metadata.our_id(), payload: data });
    assert!(rig.swarm.torrent().is_some());
}

#[test]
fn a_flood_of_peer_exchange_leaves_room_for_trackers() {
    let mut rig = Rig::viewer();
    for host in 0..60u8 {
        let link = rig.declared(EPOCH);
        for round in 0..5u8 {
            let addr = |n| SocketAddr::from(([60 + host, round, n, 1], 6881));
            let added = (0..200).map(addr).collect();
            let payload = Pex { added, dropped: Vec::new() }.encode();
            rig.say(link, &Message::Extended { id: Extension::Pex.our_id(), payload });
        }
        rig.give(In::Down { link });
    }
    let known = rig.swarm.roster.len();
    assert!(known <= 600, "{known} addresses out of hearsay");
    assert!(rig.dials.len() <= 8);
    rig.give(In::Found { via: Via::Tracker, addrs: vec![([90, 9, 9, 9], 6881).into()] });
    assert_eq!(rig.swarm.roster.len(), known + 1);
}

#[test]
fn floods_of_subscriptions_are_answered_one_by_one_and_bounded() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    rig.honest(&sealed);
    let covers = [(32, u32::MAX, 255), (32, 1, 1), (1, 1, 255), (7, 64, 128)];
    for (k, stripes, part) in covers {
        let link = rig.declared(EPOCH);
        let cover = Cover { k, stripes, part };
        for id in 0..64 {
            rig.say_live(link, &wish(id, Stripe::Blocks, cover, EPOCH, 0, u64::MAX));
        }
        for id in 0..64 {
            rig.say_live(link, &wish(id, Stripe::Blocks, cover, EPOCH, CHANGE.0, 0));
        }
        for id in 0..64 {
            rig.say_live(link, &wish(id, Stripe::Entries, Cover::ALL, Epoch(0), 0, u64::MAX));
        }
        let answers = rig.lives(link).into_iter().filter(|l| matches!(l, Live::Grant(_)));
        assert_eq!(answers.count(), 128);
        assert!(rig.is_open(link));
    }
    let link = rig.declared(EPOCH);
    for _ in 0..2 {
        rig.say_live(link, &wish(9, Stripe::Entries, Cover::ALL, Epoch(0), 0, u64::MAX));
    }
    assert!(!rig.is_open(link), "an id that is in use is no wish");
}

#[test]
fn a_subscription_with_a_last_block_ends_by_itself() {
    let mut config = Rig::config();
    // Of a line that is not known yet half might be kept for others.
    config.upload_limit = Some(10_000_000);
    let mut rig = Rig::with(config);
    let sealed = chain(EPOCH, SECOND, 12);
    let source = rig.honest(&sealed[..2]);
    rig.pass(SECOND);
    grant_all(&mut rig, source);
    // Only who is brought something can promise it to others.
    for sealed in &sealed[2..10] {
        rig.say_live(source, &push(&sealed.genuine.raw));
        for block in 0..sealed.blocks.len() {
            rig.say(source, &piece(sealed, block));
        }
    }
    let link = rig.declared(EPOCH);
    let next = rig.swarm.upstream.next_block().0;
    rig.say_live(link, &wish(3, Stripe::Blocks, Cover::ALL, EPOCH, next, next));
    let granted = |live: &Live| matches!(live, Live::Grant(g) if !g.cover.is_empty());
    assert!(rig.lives(link).iter().any(granted));
    for sealed in &sealed[10..] {
        rig.say_live(source, &push(&sealed.genuine.raw));
    }
    // Its block does not come; it is waited for as long as it could still be of use.
    let ended = Live::End(End { id: 3, reason: Reason::DONE });
    rig.pass(1_400_000);
    assert!(!rig.lives(link).contains(&ended));
    rig.pass(200_000);
    assert!(rig.lives(link).contains(&ended));
}

#[test]
fn an_id_is_not_used_again_before_its_granter_ends_it() {
    let mut rig = Rig::viewer();
    let link = rig.honest(&chain(EPOCH, SECOND, 3));
    rig.pass(SECOND);
    let granted = grant_all(&mut rig, link);
    assert!(granted > 0);
    // A new epoch voids what was granted; the granter never says so.
    let next = chain(Epoch(EPOCH.0 + 9), 2 * SECOND, 3);
    for sealed in &next {
        rig.say_live(link, &push(&sealed.genuine.raw));
    }
    rig.say_live(link, &window(Epoch(EPOCH.0 + 9), 0, &[0xff]));
    rig.pass(30 * SECOND);
    let mut used = std::collections::BTreeSet::new();
    for live in rig.lives(link) {
        let Live::Subscribe(wish) = live else { continue };
        assert!(wish.is_change() || used.insert(wish.id), "id {} is used twice", wish.id);
    }
    let orders = |rig: &Rig| rig.swarm.peers.get(&link).map_or(0, |p| p.orders.len());
    assert!(orders(&rig) >= granted);
    // A choke ends what was granted of blocks without a word, and of entries nothing.
    let entries = |rig: &Rig| {
        let peer = rig.swarm.peers.get(&link).expect("open");
        let granted = peer.orders.values().filter(|o| o.granted);
        granted.map(|o| o.stripe.is_none()).collect::<Vec<_>>()
    };
    let before = entries(&rig).into_iter().filter(|entries| *entries).count();
    rig.say(link, &Message::Choke);
    assert_eq!(entries(&rig), vec![true; before]);
}

#[test]
fn a_grant_of_entries_unchokes_nobody_and_one_of_blocks_does() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    rig.honest(&sealed);
    let link = rig.declared(EPOCH);
    rig.say_live(link, &wish(0, Stripe::Entries, Cover::ALL, Epoch(0), 0, u64::MAX));
    assert!(rig.lives(link).iter().any(|l| matches!(l, Live::Grant(g) if !g.cover.is_empty())));
    assert!(rig.swarm.peers.get(&link).expect("open").choked);

    let granter = rig.live();
    rig.say_live(granter, &window(EPOCH, 0, &[0xff]));
    rig.pass(2 * SECOND);
    let orders: Vec<u8> = rig
        .lives(granter)
        .into_iter()
        .filter_map(|live| match live {
            Live::Subscribe(wish) if wish.stripe == Stripe::Entries => Some(wish.id),
            _ => None,
        })
        .collect();
    let id = *orders.first().expect("a wish for entries");
    let (reason, cover, ext) = (Reason::NONE, Cover::ALL, Tlvs::default());
    let (credit, epoch, first) = (0, Epoch(0), BlockNo(0));
    let grant = Grant { id, reason, cover, credit, epoch, first, ext };
    rig.say_live(granter, &Live::Grant(grant));
    assert!(rig.swarm.peers.get(&granter).expect("open").chokes_us);
}

#[test]
fn who_connects_hears_nothing_before_it_has_named_the_torrent() {
    let mut rig = Rig::viewer();
    let link = rig.up();
    rig.pass(SECOND);
    assert_eq!(rig.sent_len(link), 0);
    rig.shake(link, Reserved::live());
    assert!(rig.sent_len(link) > 68);

    let stranger = rig.up();
    let other = Handshake {
        reserved: Reserved::live(),
        info_hash: InfoHash([9; 20]),
        peer_id: PeerId([3; 20]),
    };
    rig.give(In::Frame { link: stranger, frame: other.encode() });
    assert!(!rig.is_open(stranger) && rig.sent_len(stranger) == 0);
}

#[test]
fn a_bitfield_or_have_all_ends_the_connection() {
    for message in [Message::Bitfield(Bytes::from_static(&[0x80])), Message::HaveAll] {
        let mut rig = Rig::viewer();
        let link = rig.up();
        rig.shake(link, Reserved::live());
        rig.say(link, &message);
        assert!(rig.is_open(link), "before the extension handshake it means nothing");
        rig.extension_handshake(link, None);
        rig.say(link, &message);
        assert!(!rig.is_open(link));
    }
}

#[test]
fn a_late_answer_is_ignored_and_its_number_is_free_again() {
    let mut rig = Rig::viewer();
    let link = rig.honest(&chain(EPOCH, SECOND, 3));
    rig.pass(20 * SECOND);
    let runs = &rig.swarm.peers.get(&link).expect("open").runs;
    assert!(runs.values().all(|run| rig.now - run.at.0 <= 2 * SECOND + 100_000));
    for run in 0..=255 {
        rig.say_live(link, &Live::Entries(Entries::Answer { run, entries: Vec::new() }));
    }
    assert!(rig.is_open(link));
}

#[test]
fn a_grant_that_is_repeated_does_not_hide_silence() {
    let sealed = chain(EPOCH, SECOND, 30);
    let mut rig = Rig::viewer();
    let liar = rig.honest(&sealed[..3]);
    rig.pass(SECOND);
    for sealed in &sealed[3..] {
        rig.say_live(liar, &push(&sealed.genuine.raw));
        grant_all(&mut rig, liar);
        rig.pass(200_000);
    }
    let peer = rig.swarm.peers.get(&liar).expect("open");
    let stripes = peer.orders.values().filter(|o| o.stripe.is_some());
    assert!(stripes.clone().any(|o| o.state == OrderState::Ending));
}

#[test]
fn a_subscription_ends_behind_its_last_block_even_if_that_is_late() {
    let sealed = chain(EPOCH, SECOND, 12);
    let mut rig = Rig::viewer();
    let up = rig.honest(&sealed[..3]);
    rig.pass(SECOND);
    assert!(grant_all(&mut rig, up) > 0);
    let come = |rig: &mut Rig, sealed: &Sealed| {
        rig.say_live(up, &push(&sealed.genuine.raw));
        for block in 0..sealed.blocks.len() {
            rig.say(up, &piece(sealed, block));
        }
        rig.pass(100_000);
    };
    sealed[..8].iter().for_each(|sealed| come(&mut rig, sealed));
    let down = rig.declared(EPOCH);
    let cover = Cover { k: rig.swarm.upstream.k(), stripes: 1, part: 0xff };
    rig.say_live(down, &wish(0, Stripe::Blocks, cover, EPOCH, 0, u64::MAX));
    // An entry is here and its block is not: just that one is still wanted.
    rig.say_live(up, &push(&sealed[8].genuine.raw));
    let last = sealed[8].genuine.entry.head.end_block().0 - 1;
    rig.say_live(down, &wish(0, Stripe::Blocks, cover, EPOCH, CHANGE.0, last));
    rig.pass(100_000);
    let ended = |rig: &Rig| rig.lives(down).iter().any(|live| matches!(live, Live::End(_)));
    let got = |rig: &Rig| {
        rig.messages(down).iter().filter(|m| matches!(m, Message::Piece { .. })).count()
    };
    assert_eq!((got(&rig), ended(&rig)), (0, false));
    sealed[8..10].iter().for_each(|sealed| come(&mut rig, sealed));
    rig.pass(100_000);
    let covered = sealed[8].genuine.entry.head.first_block.0..=last;
    let covered = covered.filter(|no| cover.covers(BlockNo(*no))).count();
    assert!(covered > 0, "nothing of the stripe in it");
    assert_eq!((got(&rig), ended(&rig)), (covered, true));
}

#[test]
fn a_grant_reaches_back_to_what_is_still_to_come() {
    let sealed = chain(EPOCH, SECOND, 12);
    let (begin, end) = (sealed[8].genuine.entry.head.first_block, sealed[9].genuine.entry.head);
    let next = end.end_block();
    // The entries of two more pieces are here; which of them has come, and what is wished for last.
    for (comes, last, first) in [
        (None, u64::MAX, begin),
        (Some(8), u64::MAX, end.first_block),
        (Some(9), u64::MAX, next),
        // What ends before the next block takes no room, and so gets none.
        (None, next.0 - 1, next),
    ] {
        let mut rig = Rig::viewer();
        let up = rig.honest(&sealed[..3]);
        rig.pass(SECOND);
        assert!(grant_all(&mut rig, up) > 0);
        let blocks_come = |rig: &mut Rig, sealed: &Sealed| {
            for block in 0..sealed.blocks.len() {
                rig.say(up, &piece(sealed, block));
            }
            rig.pass(50_000);
        };
        for sealed in &sealed[..8] {
            rig.say_live(up, &push(&sealed.genuine.raw));
            blocks_come(&mut rig, sealed);
        }
        sealed[8..10].iter().for_each(|sealed| rig.say_live(up, &push(&sealed.genuine.raw)));
        comes.iter().for_each(|n: &usize| blocks_come(&mut rig, &sealed[*n]));
        let down = rig.declared(EPOCH);
        let cover = Cover { k: 1, stripes: 1, part: 0xff };
        rig.say_live(down, &wish(0, Stripe::Blocks, cover, EPOCH, 0, last));
        let firsts: Vec<BlockNo> = rig
            .lives(down)
            .into_iter()
            .filter_map(|live| if let Live::Grant(grant) = live { Some(grant.first) } else { None })
            .collect();
        assert_eq!(firsts, [first]);
        (8..10).filter(|n| comes != Some(*n)).for_each(|n| blocks_come(&mut rig, &sealed[n]));
        let covered = |n: &usize| sealed[*n].genuine.entry.head.first_block >= first;
        let expected: usize = (8..10).filter(covered).map(|n| sealed[n].blocks.len()).sum();
        let is_piece = |m: &&Message| matches!(m, Message::Piece { .. });
        assert_eq!(rig.messages(down).iter().filter(is_piece).count(), expected);
        assert!(rig.faults().is_empty(), "{:?}", rig.faults());
    }
}

#[test]
fn a_start_is_waited_for_until_a_quarter_of_the_stripes_lacks_at_most() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    let up = rig.honest(&sealed);
    rig.pass(SECOND);
    let wishes: Vec<Subscribe> = rig
        .lives(up)
        .into_iter()
        .filter_map(|live| if let Live::Subscribe(wish) = live { Some(wish) } else { None })
        .filter(|wish| wish.stripe == Stripe::Blocks && !wish.is_change())
        .collect();
    let mut comes = Vec::new();
    for wish in &wishes {
        let Subscribe { id, cover, epoch, first, .. } = *wish;
        let (reason, credit, ext) = (Reason::NONE, 0, Tlvs::default());
        rig.say_live(up, &Live::Grant(Grant { id, reason, cover, credit, epoch, first, ext }));
        comes.push(rig.swarm.pushed_from().is_some());
    }
    let k = usize::from(rig.swarm.upstream.k());
    assert_eq!(wishes.len(), k);
    let expected: Vec<bool> = (1..=k).map(|granted| k - granted <= k / 4).collect();
    assert_eq!(comes, expected);
}

#[test]
fn requests_that_would_wait_too_long_are_rejected_at_once() {
    let sealed = chain(EPOCH, SECOND, 12);
    // Half a second of the line, or more than is asked for.
    for (limit, rejected) in [(100_000, true), (10_000_000, false)] {
        let mut config = Rig::config();
        config.upload_limit = Some(limit);
        let mut rig = Rig::with(config);
        let up = rig.honest(&sealed);
        rig.pass(SECOND);
        for sealed in &sealed {
            for block in 0..sealed.blocks.len() {
                grant_all(&mut rig, up);
                rig.say(up, &piece(sealed, block));
            }
        }
        let down = rig.declared(EPOCH);
        rig.swarm.peers.get_mut(&down).expect("open").choked = false;
        let asked: Vec<Request> = sealed
            .iter()
            .map(|sealed| Request {
                index: sealed.genuine.entry.head.index,
                begin: 0,
                len: sealed.blocks[0].len() as u32,
            })
            .collect();
        asked.iter().for_each(|request| rig.say(down, &Message::Request(*request)));
        let answers = rig.messages(down);
        let refused = asked.iter().filter(|r| answers.contains(&Message::Reject(**r))).count();
        assert_eq!(refused > asked.len() / 2, rejected, "{refused} with {limit}");
        assert!(refused < asked.len(), "some are served");
    }
}

#[test]
fn messages_about_a_free_id_are_ignored() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    let cover = Cover::ALL;
    for id in (0..64).cycle().take(200) {
        let (reason, ext) = (Reason::NONE, Tlvs::default());
        let (credit, epoch, first) = (0, EPOCH, BlockNo(0));
        rig.say_live(link, &Live::Grant(Grant { id, reason, cover, credit, epoch, first, ext }));
        rig.say_live(link, &Live::Skip(Skip { id, reason, epoch, blocks: vec![BlockNo(1)] }));
        rig.say_live(link, &Live::End(End { id, reason }));
    }
    assert!(rig.is_open(link));
}

#[test]
fn cancels_and_rejects_of_what_was_never_asked_change_nothing() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    let honest = rig.honest(&sealed);
    let link = rig.declared(EPOCH);
    let request = Request { index: PieceIndex(1), begin: 0, len: 16_384 };
    for _ in 0..40 {
        rig.say(link, &Message::Cancel(request));
        rig.say(link, &Message::Reject(request));
    }
    rig.pass(SECOND);
    assert!(rig.is_open(link) && rig.is_open(honest));
}

#[test]
fn small_offences_of_hours_are_forgiven_and_a_burst_is_not() {
    let mut rig = Rig::viewer();
    let link = rig.honest(&chain(EPOCH, SECOND, 3));
    let request = Request { index: PieceIndex(1), begin: 0, len: 16_384 };
    for _ in 0..300 {
        rig.say(link, &Message::Reject(request));
        rig.pass(6 * SECOND);
    }
    assert!(rig.is_open(link));
    for _ in 0..70 {
        rig.say(link, &Message::Reject(request));
    }
    assert!(!rig.is_open(link));
}

#[test]
fn absurd_times_and_numbers_of_a_broadcaster_end_nothing() {
    let max = (1u64 << 53) - 1;
    let heads: [(&str, Change); 9] = [
        ("birth 0", |h| h.birth = UnixUs(0)),
        ("last birth", |h| h.birth = UnixUs((1 << 53) - 1)),
        ("longest span", |h| h.span_us = u32::MAX),
        ("last birth and span", |h| (h.birth, h.span_us) = (UnixUs((1 << 53) - 1), u32::MAX)),
        ("last block", |h| h.first_block = BlockNo((1 << 53) - 1)),
        ("last index", |h| h.index = PieceIndex(u32::MAX - 1)),
        ("last epoch", |h| h.epoch = Epoch((1 << 53) - 1)),
        ("unknown flags", |h| h.flags = Flags(0xffe0)),
        ("empty", |h| (h.len, h.flags) = (0, Flags::IDLE)),
    ];
    assert_eq!(max, Epoch::END - 1);
    for (one, first) in heads {
        for (other, second) in heads {
            let mut rig = Rig::viewer();
            let link = rig.declared(EPOCH);
            rig.say_live(link, &push(&signed(first)));
            rig.pass(500_000);
            rig.say_live(
                link,
                &push(&signed(|head| {
                    head.index = PieceIndex(3);
                    second(head);
                })),
            );
            rig.say_live(
                link,
                &push(&signed(|head| {
                    (head.index, head.birth) = (PieceIndex(4), UnixUs(5));
                })),
            );
            rig.pass(3 * SECOND);
            let late = Now { mono: Time(rig.now), wall: UnixUs(u64::MAX) };
            let _ = rig.swarm.status(late);
            assert!(rig.faults().is_empty(), "{one}, {other}: {:?}", rig.faults());
        }
    }
}

#[test]
fn a_feed_whose_births_stand_still_is_bounded_by_number() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    // Signing is slow: gaps in the numbers fill the window as well as entries would.
    for n in 0..400u32 {
        let raw = signed(|head| head.index = PieceIndex(n * 41));
        rig.say_live(link, &push(&raw));
    }
    assert_eq!(rig.head().map(|s| s.index.0), Some(399 * 41));
    assert!(rig.swarm.entry_at.len() <= 400);
}

/// A viewer among peers of so many networks whose clocks differ by so much.
fn viewer_with_clocks(peers: usize, skew_us: i64) -> Rig {
    let mut rig = Rig::viewer();
    for _ in 0..peers {
        let link = rig.declared(EPOCH);
        let asked = rig.lives(link).into_iter().find_map(|live| match live {
            Live::Clock(Clock::Ask { mine_us }) => Some(mine_us),
            _ => None,
        });
        let yours_us = asked.expect("each is asked for its time");
        let theirs = yours_us.saturating_add_signed(skew_us);
        let answer = Clock::Answer { mine_us: theirs, yours_us, arrived_us: theirs };
        rig.say_live(link, &Live::Clock(answer));
    }
    rig
}

#[test]
fn an_epoch_a_day_ahead_is_ignored_only_where_others_have_our_time() {
    let far = Epoch(((WALL_US / SECOND) + 25 * 3600) << 20);
    let near = Epoch(((WALL_US / SECOND) + 23 * 3600) << 20);
    let hour = 3_600_000_000;
    let cases = [
        ("nobody to ask", 0, 0, far, true),
        ("two agree", 2, 0, far, true),
        ("three agree", 3, 0, far, false),
        ("three disagree", 3, 2 * hour, far, true),
        ("three agree about one within the day", 3, 0, near, true),
    ];
    for (what, peers, skew, epoch, followed) in cases {
        let mut rig = viewer_with_clocks(peers, skew);
        let link = rig.declared(EPOCH);
        rig.say_live(link, &push(&signed(|head| head.epoch = epoch)));
        assert_eq!(rig.head().map(|s| s.epoch) == Some(epoch), followed, "{what}");
        assert!(rig.is_open(link));
    }
}

#[test]
fn a_source_refuses_to_exceed_an_epoch_a_day_ahead() {
    let mut config = Rig::config();
    config.role = source_role(None);
    let mut rig = Rig::with(config);
    let far = Epoch(((WALL_US / SECOND) + 25 * 3600) << 20);
    let link = rig.declared(EPOCH);
    rig.say_live(link, &push(&signed(|head| head.epoch = far)));
    rig.pass(6 * SECOND);
    assert_eq!(rig.swarm.source_mode(), Some("refused"));
    assert_eq!(rig.swarm.refused_epoch(), Some(far));
}

#[test]
fn made_up_clocks_neither_move_ours_unasked_nor_make_an_old_stream_live() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    let answer = Clock::Answer { mine_us: 5, yours_us: 77, arrived_us: 5 };
    rig.say_live(link, &Live::Clock(answer));
    assert_eq!(rig.swarm.clock_offset_us(), 0);

    let hour = 3_600_000_000i64;
    let mut rig = viewer_with_clocks(3, -hour);
    let old = WALL_US - hour.unsigned_abs();
    let link = rig.declared(EPOCH);
    rig.say_live(link, &push(&signed(|head| head.birth = UnixUs(old))));
    let now = Now { mono: Time(rig.now), wall: UnixUs(WALL_US + rig.now) };
    assert_eq!(rig.swarm.status(now).condition.name(), "stale");
}

#[test]
fn a_proof_is_checked_kept_and_not_sent_back() {
    let (one, other) = (chain(EPOCH, SECOND, 1), chain(EPOCH, SECOND + 777, 1));
    let claim = |sealed: &[Sealed]| -> Claim { sealed[0].genuine.entry.claim() };
    let mut rig = Rig::viewer();
    let (link, neighbour) = (rig.declared(EPOCH), rig.declared(EPOCH));
    let proof = Live::Proof(Proof { first: claim(&one), second: claim(&other) });
    for _ in 0..100 {
        rig.say_live(link, &proof);
    }
    let proofs = |rig: &Rig, l| {
        rig.lives(l).into_iter().filter(|live| matches!(live, Live::Proof(_))).count()
    };
    assert_eq!((proofs(&rig, link), proofs(&rig, neighbour)), (0, 1));
    let mut rig = Rig::viewer();
    let liar = rig.declared(EPOCH);
    let nothing = Live::Proof(Proof { first: claim(&one), second: claim(&one) });
    rig.say_live(liar, &nothing);
    assert!(!rig.is_open(liar));
}

#[test]
fn reports_and_clocks_are_answered_at_a_bounded_rate() {
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    for _ in 0..500 {
        rig.say_live(link, &Live::Report(Report::Ask { report: 1, credits: vec![1; 32] }));
        rig.say_live(link, &Live::Clock(Clock::Ask { mine_us: 1 }));
    }
    let answers = |kind| rig.lives(link).into_iter().filter(|live| live.kind() == kind).count();
    assert_eq!(answers(Kind::Report), 1);
    assert!(answers(Kind::Clock) <= 33);
}

#[test]
fn a_viewer_that_loses_everybody_plays_what_it_holds() {
    let sealed = chain(EPOCH, SECOND, 5);
    let mut rig = Rig::viewer();
    let link = rig.honest(&sealed);
    rig.pass(SECOND / 5);
    grant_all(&mut rig, link);
    for sealed in &sealed {
        for block in 0..sealed.blocks.len() {
            rig.say(link, &piece(sealed, block));
        }
    }
    rig.give(In::Down { link });
    rig.pass(10 * SECOND);
    // The last of them at least: where it starts depends on when they came.
    assert!((3..=5).contains(&rig.delivered), "{}", rig.delivered);
}

#[test]
fn nothing_that_many_peers_say_in_any_order_breaks_a_bound() {
    let messages = all_messages();
    let chains = [EPOCH.0, EPOCH.0 + 1, EPOCH.0 + (3 << 20)];
    let chains: Vec<_> = chains.iter().map(|e| chain(Epoch(*e), SECOND, 12)).collect();
    for seed in 0..60 {
        let mut rng = crate::machine::Rng::new(seed);
        let mut config = Rig::config();
        config.upload_limit = rng.chance(0.5).then_some(100_000);
        config.download_limit = rng.chance(0.3).then_some(100_000);
        if rng.chance(0.2) {
            config.info = None;
        }
        if rng.chance(0.3) {
            config.role = source_role(None);
        }
        let mut rig = Rig::with(config);
        let reader = ReaderId(1);
        rig.give(In::AddReader { reader, delay: Duration::from_secs(1).into() });
        rig.give(In::ReaderCredit { reader, pieces: 100 });
        let mut links = Vec::new();
        for _ in 0..400 {
            if links.len() < 6 {
                links.push(if rng.chance(0.8) { rig.declared(EPOCH) } else { rig.up() });
            }
            let at = rng.index(links.len());
            let link: Link = links[at];
            let sealed = &chains[rng.index(chains.len())];
            let sealed = &sealed[rng.index(sealed.len())];
            match rng.below(12) {
                0..4 => rig.say(link, &messages[rng.index(messages.len())]),
                4 | 5 => rig.say_live(link, &push(&sealed.genuine.raw)),
                6 => rig.say(link, &piece(sealed, rng.index(2))),
                7 => rig.say(link, &spoilt(sealed, rng.index(2))),
                8 => {
                    grant_all(&mut rig, link);
                }
                9 => rig.say_live(link, &window(sealed.genuine.entry.head.epoch, 0, &[0xff; 2])),
                10 => rig.give(In::Ingest(vec![rng.below(256) as u8; 3000].into())),
                _ => rig.pass(rng.below(400_000)),
            }
            if rng.chance(0.02) || !rig.is_open(link) {
                rig.give(In::Down { link });
                links.remove(at);
            }
        }
        rig.pass(10 * SECOND);
        rig.give(In::Stop);
    }
}
