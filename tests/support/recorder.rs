//! A peer that takes part only to write down what a broadcaster signs: it subscribes to entries,
//! asks for the newest run on each connection, and keeps every entry of all runs.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ::btlive::units::{BlockNo, Epoch, InfoHash, PeerId, PieceIndex, Seq};
use ::btlive::wire::extended::{ExtendedHandshake, Extension};
use ::btlive::wire::feed::{Entry, Hash};
use ::btlive::wire::live::{
    Cover, Entries, HOPS_UNKNOWN, Kind, Live, NEWEST, Reason, Stripe, Subscribe, Window,
};
use ::btlive::wire::message::{Handshake, Message, Reserved, Splitter};
use ::btlive::wire::tlv::Tlvs;
use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

/// What was signed, by place, with the digests of the signed bytes in the order of their coming.
type Signed = BTreeMap<Seq, Vec<Hash>>;

/// What a recorder has written down.
#[derive(Default)]
struct Capture {
    signed: Signed,
    /// The places that each connection pushed, in their order.
    pushed: Vec<Vec<Seq>>,
}

/// A recorder at work; it stops on drop.
pub(crate) struct Recorder {
    capture: Arc<Mutex<Capture>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    info_hash: InfoHash,
    key: VerifyingKey,
}

impl Recorder {
    /// Connects to `port` on loopback again and again.
    pub(crate) fn start(port: u16, info_hash: [u8; 20], key: [u8; 32]) -> Self {
        let key = VerifyingKey::from_bytes(&key).expect("a public key");
        let (capture, stop) = <(Arc<Mutex<Capture>>, Arc<AtomicBool>)>::default();
        let mut recorder =
            Self { capture, stop, threads: Vec::new(), info_hash: InfoHash(info_hash), key };
        recorder.listen_to(port);
        recorder
    }

    /// Connects to another member too, which may have been told what nobody else was; what both
    /// say becomes one capture.
    pub(crate) fn listen_to(&mut self, port: u16) {
        let (kept, stopped) = (self.capture.clone(), self.stop.clone());
        let (info_hash, key) = (self.info_hash, self.key);
        self.threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    // A connection that breaks off is what this is about.
                    let _ = record(stream, info_hash, &key, &kept, &stopped);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }));
    }

    /// The highest place seen so far.
    pub(crate) fn head(&self) -> Option<Seq> {
        self.with(|capture| capture.signed.keys().next_back().copied())
    }

    /// The epochs seen so far, in order.
    pub(crate) fn epochs(&self) -> Vec<Epoch> {
        let mut epochs: Vec<Epoch> =
            self.with(|capture| capture.signed.keys().map(|seq| seq.epoch).collect());
        epochs.dedup();
        epochs
    }

    /// The first index seen in an epoch.
    pub(crate) fn first_of(&self, epoch: Epoch) -> Option<PieceIndex> {
        self.with(|capture| {
            capture.signed.keys().find(|seq| seq.epoch == epoch).map(|seq| seq.index)
        })
    }

    /// Places that were recorded.
    pub(crate) fn count(&self) -> usize {
        self.with(|capture| capture.signed.len())
    }

    /// Fails if one place was signed twice with different contents, or a connection was told of a
    /// lower place behind a higher one.
    #[track_caller]
    pub(crate) fn assert_no_contradiction(&self) {
        self.with(|capture| {
            let twice: Vec<&Seq> =
                capture.signed.iter().filter(|(_, d)| d.len() > 1).map(|(seq, _)| seq).collect();
            assert!(twice.is_empty(), "signed twice: {twice:?}");
            let back = capture.pushed.iter().flat_map(|p| p.windows(2)).find(|w| w[1] < w[0]);
            assert!(back.is_none(), "went back: {back:?}");
        });
    }

    fn with<T>(&self, look: impl FnOnce(&Capture) -> T) -> T {
        look(&self.capture.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One connection, until it breaks.
fn record(
    mut stream: TcpStream,
    info_hash: InfoHash,
    key: &VerifyingKey,
    kept: &Mutex<Capture>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let peer_id = PeerId(*b"-XX0001-the-recorder");
    stream.write_all(&Handshake { reserved: Reserved::live(), info_hash, peer_id }.encode())?;
    let hello = ExtendedHandshake::ours(None, None, false, Ipv4Addr::LOCALHOST.into());
    send(&mut stream, 0, hello.encode())?;
    stream.write_all(&Message::HaveNone.head())?;
    let connection = {
        let mut capture = kept.lock().unwrap_or_else(PoisonError::into_inner);
        capture.pushed.push(Vec::new());
        capture.pushed.len() - 1
    };
    let mut splitter = Splitter::new();
    let mut handshaken = false;
    let mut buffer = [0; 16 << 10];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => splitter.push(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        while let Some(frame) = splitter.next_frame().map_err(std::io::Error::other)? {
            if !std::mem::replace(&mut handshaken, true) {
                continue;
            }
            let Ok(Message::Extended { id, payload }) = Message::parse(&frame) else { continue };
            if id == 0 {
                let theirs = ExtendedHandshake::parse(&payload).map_err(std::io::Error::other)?;
                introduce(&mut stream, &theirs)?;
            } else if Extension::from_our_id(id) == Some(Extension::Live(Kind::Entries)) {
                keep(&payload, connection, info_hash, key, kept);
            }
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream, id: u8, payload: Bytes) -> std::io::Result<()> {
    stream.write_all(&Message::Extended { id, payload }.head())
}

/// Says that nothing is held, orders the entries and asks for those that are there.
fn introduce(stream: &mut TcpStream, theirs: &ExtendedHandshake) -> std::io::Result<()> {
    let window = Window {
        epoch: Epoch(0),
        base: PieceIndex(0),
        kept_ms: 0,
        hops: HOPS_UNKNOWN,
        reason: Reason::NONE,
        bitmap: Bytes::new(),
        ext: Tlvs::default(),
    };
    let subscribe = Subscribe {
        id: 0,
        stripe: Stripe::Entries,
        epoch: Epoch(0),
        cover: Cover::ALL,
        first: BlockNo(0),
        last: BlockNo(u64::MAX),
        ext: Tlvs::default(),
    };
    let ask = Entries::Ask { run: 0, epoch: Epoch(0), index: NEWEST, count: 256 };
    for message in [Live::Window(window), Live::Subscribe(subscribe), Live::Entries(ask)] {
        let id = theirs.id_of(Extension::Live(message.kind()));
        send(stream, id.unwrap_or_default(), message.encode())?;
    }
    Ok(())
}

fn keep(
    payload: &Bytes,
    connection: usize,
    info_hash: InfoHash,
    key: &VerifyingKey,
    kept: &Mutex<Capture>,
) {
    let parsed = Live::parse(Kind::Entries, payload).expect("well formed entries");
    let (entries, pushed) = match parsed {
        Some(Live::Entries(Entries::Push { entries })) => (entries, true),
        Some(Live::Entries(Entries::Answer { entries, .. })) => (entries, false),
        _ => return,
    };
    let mut capture = kept.lock().unwrap_or_else(PoisonError::into_inner);
    for raw in entries {
        let entry = Entry::parse(&raw).expect("a well formed entry");
        let signature = Signature::from_bytes(&entry.signature);
        let signed = entry.signed_bytes(info_hash);
        key.verify_strict(&signed, &signature).expect("a valid signature");
        let digests = capture.signed.entry(entry.head.seq()).or_default();
        let digest = entry.digest(info_hash);
        if !digests.contains(&digest) {
            digests.push(digest);
        }
        if pushed {
            capture.pushed[connection].push(entry.head.seq());
        }
    }
}
