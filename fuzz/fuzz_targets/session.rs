//! Whatever connections say, every bound of a swarm holds and its deadline moves.
//!
//! The input is a list of steps: connections open and close, time passes, frames come. Frames are
//! mostly of right form, so that they get beyond the parsers.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use btlive::machine::{Machine, drain};
use btlive::swarm::Swarm;
use btlive::swarm::config::Config;
use btlive::swarm::io::{In, Out, ReaderId};
use btlive::units::{InfoHash, Link, Now, PeerId, Time, UnixUs};
use btlive::wire::extended::ExtendedHandshake;
use btlive::wire::message::{Handshake, Message, Reserved};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sha1::{Digest, Sha1};

const WALL_US: u64 = 1_800_000_000_000_000;
const LINKS: u64 = 6;

/// The raw `info` of a live torrent whose key is the base point of the curve.
fn info() -> Bytes {
    let mut key = [0x66u8; 32];
    key[0] = 0x58;
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
            2 => session.open(link, false),
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
