//! Whatever connections say, every bound of a swarm holds and its deadline moves.
//!
//! The input is a list of steps: connections open and close, time passes, frames come. Frames are
//! mostly of right form, so that they get beyond the parsers; the parts of a genuine stream of two
//! epochs are at hand, good and spoilt, in whatever order the input wants them.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use std::sync::LazyLock;

use btlive::live::builder::{Builder, Sealed};
use btlive::machine::{Machine, drain};
use btlive::swarm::Swarm;
use btlive::swarm::config::{Config, Torrent};
use btlive::swarm::io::{In, Out, ReaderId};
use btlive::units::{BlockNo, Epoch, InfoHash, Link, Now, PeerId, PieceIndex, Time, UnixUs};
use btlive::wire::extended::{ExtendedHandshake, Extension};
use btlive::wire::live::{Cover, Entries, Grant, Live, Reason, Window};
use btlive::wire::message::{Handshake, Message, Reserved};
use btlive::wire::tlv::Tlvs;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use sha1::{Digest, Sha1};

const WALL_US: u64 = 1_800_000_000_000_000;
const LINKS: u64 = 6;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

/// Two runs of a source, six pieces each.
static STREAM: LazyLock<Vec<Sealed>> = LazyLock::new(|| {
    let stream = Torrent::from_info(&info()).expect("valid").stream;
    let at = |us: u64| Now { mono: Time(1_000_000 + us), wall: UnixUs(WALL_US + 1_000_000 + us) };
    let mut sealed = Vec::new();
    for run in 0..2u64 {
        let epoch = Epoch((WALL_US / 1_000_000 + 10 * run) << 20);
        let media = "application/octet-stream";
        let mut builder = Builder::open_epoch(stream, key(), media, at(0), epoch, None);
        for n in 0..6u64 {
            let now = at(run * 3_000_000 + n * 200_000);
            sealed.extend(builder.push(now, vec![(run * 6 + n) as u8; 20_000].into()));
            let later = at(run * 3_000_000 + n * 200_000 + 200_000);
            sealed.extend(builder.tick(later));
        }
    }
    sealed
});

/// The raw `info` of the stream.
fn info() -> Bytes {
    let key = key().verifying_key().to_bytes();
    let mut info = b"d4:lived5:media24:application/octet-stream10:public key32:".to_vec();
    info.extend_from_slice(&key);
    info.extend_from_slice(b"7:versioni1e6:windowi60ee4:name4:fuzz12:piece lengthi65536ee");
    info.into()
}

struct Session {
    swarm: Swarm,
    now_us: u64,
    info_hash: InfoHash,
}

impl Session {
    fn give(&mut self, input: In) {
        let now = Now { mono: Time(self.now_us), wall: UnixUs(WALL_US + self.now_us) };
        let mut sent = Vec::new();
        drain(&mut self.swarm, now, input, |out| {
            if let Out::Send { link, head, body } = out {
                sent.push(In::Sent { link, bytes: head.len() + body.len() });
            }
        });
        self.swarm.invariant().expect("every bound holds");
        for input in sent {
            self.give(input);
        }
    }

    fn pass(&mut self, us: u64) {
        let end = self.now_us + us;
        let mut turns = 0;
        while let Some(deadline) = self.swarm.deadline().filter(|at| at.0 <= end) {
            turns = if deadline.0 <= self.now_us { turns + 1 } else { 0 };
            assert!(turns < 50, "the deadline stands still");
            self.now_us = self.now_us.max(deadline.0);
            self.give(In::Tick);
        }
        self.now_us = end;
    }

    fn frame(&mut self, link: Link, frame: Bytes) {
        self.give(In::Frame { link, frame });
    }

    fn say(&mut self, link: Link, message: &Message) {
        let frame = [message.head(), message.body()].concat();
        self.frame(link, Bytes::from(frame).slice(4..));
    }

    fn say_live(&mut self, link: Link, live: &Live) {
        let id = Extension::Live(live.kind()).our_id();
        self.say(link, &Message::Extended { id, payload: live.encode() });
    }

    /// A part of the genuine stream: its entry, its blocks, what announces or grants it.
    fn genuine(&mut self, link: Link, what: u8, which: u8) {
        let Some(sealed) = STREAM.get(usize::from(which) % STREAM.len().max(1)) else { return };
        let head = sealed.genuine.entry.head;
        let (ext, reason, index) = (Tlvs::default(), Reason::NONE, head.index);
        match what % 6 {
            0 => {
                let entries = vec![sealed.genuine.raw.clone()];
                self.say_live(link, &Live::Entries(Entries::Push { entries }));
            }
            block @ (1 | 2) => {
                let n = usize::from(block - 1);
                let Some(payload) = sealed.blocks.get(n).filter(|b| !b.is_empty()) else { return };
                let mut payload = payload.to_vec();
                payload[0] ^= u8::from(what >= 250);
                let begin = n as u32 * 16_384;
                self.say(link, &Message::Piece { index, begin, block: payload.into() });
            }
            3 => {
                let (base, bitmap) = (PieceIndex(0), Bytes::from_static(&[0xff, 0xff]));
                let (epoch, hops, kept_ms) = (head.epoch, which % 3, 60_000);
                let window = Window { epoch, base, kept_ms, hops, reason, bitmap, ext };
                self.say_live(link, &Live::Window(window));
            }
            4 => self.say(link, &Message::Have(index)),
            _ => {
                let id = which % 16;
                for k in [1u8, 2, 4, 8] {
                    let stripes = 1 << (which % k);
                    let cover = Cover { k, stripes, part: 0xff };
                    let (credit, epoch, first, ext) = (1, head.epoch, BlockNo(0), ext.clone());
                    let grant = Grant { id, reason, cover, credit, epoch, first, ext };
                    // Only that of the right shape is no offence, so it is the one to be tried.
                    if which / 16 % 4 == k.ilog2() as u8 {
                        self.say_live(link, &Live::Grant(grant));
                    }
                }
            }
        }
    }

    fn open(&mut self, link: Link, live: bool) {
        let addr = SocketAddr::from(([50, link.0 as u8, 1, 1], 4000));
        self.give(In::Up { link, addr, dialled: false });
        if !live {
            return;
        }
        let (reserved, info_hash) = (Reserved::live(), self.info_hash);
        let peer_id = PeerId([100 + link.0 as u8; 20]);
        self.frame(link, Handshake { reserved, info_hash, peer_id }.encode());
        let ours = ExtendedHandshake::ours(Some(7000), Some(200), true, addr.ip());
        let message = Message::Extended { id: 0, payload: ours.encode() };
        self.frame(link, message.head().slice(4..));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let info_hash = InfoHash(Sha1::digest(info()).into());
    let mut config = Config::viewer(info_hash, PeerId([1; 20]), 7);
    config.info = Some(info());
    let swarm = Swarm::new(config);
    assert!(swarm.torrent().is_some());
    let mut session = Session { swarm, now_us: 1_000_000, info_hash };
    let reader = ReaderId(1);
    session.give(In::AddReader { reader, delay: Duration::from_secs(1) });
    session.give(In::ReaderCredit { reader, pieces: 1000 });
    for n in 0..LINKS / 2 {
        session.open(Link(n), true);
    }
    let mut rest = bytes;
    let mut passed = 0;
    while let [op, len, behind @ ..] = rest {
        let link = Link(u64::from(op >> 4) % LINKS);
        let len = usize::from(*len).min(behind.len());
        let (body, behind) = behind.split_at(len);
        rest = behind;
        match op & 15 {
            0 => session.give(In::Down { link }),
            1 => session.open(link, true),
            2 => match body {
                [what, which, ..] => session.genuine(link, *what, *which),
                _ => session.open(link, false),
            },
            3 => {
                let us = u64::from(body.first().copied().unwrap_or(1)) * 10_000;
                passed += us;
                if passed < 300_000_000 {
                    session.pass(us);
                }
            }
            4 => session.frame(link, Bytes::copy_from_slice(body)),
            // A message of the extension protocol under one of our numbers.
            kind => {
                let mut frame = vec![20, kind - 3];
                frame.extend_from_slice(body);
                session.frame(link, frame.into());
            }
        }
    }
    session.pass(1_000_000);
});
