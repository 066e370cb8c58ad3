//! Hostile peers against real processes over loopback: a broadcaster and a viewer that plays, while
//! others drip, flood, stall and speak nonsense. Everybody else must not notice.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::btlive::units::{BlockNo, Epoch, InfoHash, PeerId, PieceIndex};
use ::btlive::wire::extended::{ExtendedHandshake, Extension};
use ::btlive::wire::live::{
    Clock, Cover, Entries, HOPS_UNKNOWN, Live as Message, NEWEST, Reason, Stripe, Subscribe, Window,
};
use ::btlive::wire::message::{self, Handshake, Reserved};
use ::btlive::wire::tlv::Tlvs;
use bytes::Bytes;
use support::btlive::{self, LOCAL, Live};
use support::process::Process;
use support::stream::{FakeTs, contiguous_part};
use support::{free_port, swarm_slot, temp_dir, wait_for};

/// The stream's rate in bit/s.
const RATE: u64 = 1_000_000;
/// A process may grow by this much under attack: what all connections together may hold.
const GROWTH_MAX: u64 = 48 << 20;

/// A broadcaster and a viewer, both to be attacked, and the encoder that feeds them.
struct Scene {
    dir: tempfile::TempDir,
    live: Live,
    targets: Vec<(Process, u16)>,
    feeder: Option<JoinHandle<Vec<u8>>>,
    stop: Arc<AtomicBool>,
}

impl Scene {
    fn start() -> Self {
        let dir = temp_dir();
        let live = btlive::create(dir.path(), &[]);
        let (source, viewer) = (free_port(), free_port());
        let start = |name: &str, command: &str, port: u16| {
            btlive::start(None, name, dir.path())
                .arg(command)
                .args(["--listen", &format!("127.0.0.1:{port}")])
                .args(&LOCAL[2..])
                .args(["-v", "-v", "--state-dir"])
                .arg(dir.path().join(format!("{name}.state")))
        };
        let broadcaster = start("broadcaster", "broadcast", source);
        let broadcaster = broadcaster.args(["--input", "-", "--key", &live.key]);
        let mut broadcaster = broadcaster.arg(&live.torrent).with_stdin().spawn();
        let input = broadcaster.take_stdin();
        let player = start("viewer", "play", viewer)
            .args(["--peer", &format!("127.0.0.1:{source}"), "--wait", "60s", "--output"])
            .arg(dir.path().join("viewer.ts"))
            .arg(&live.torrent)
            .spawn();
        let stop = Arc::<AtomicBool>::default();
        let feeder = Some(feed(input, stop.clone()));
        let targets = vec![(broadcaster, source), (player, viewer)];
        let scene = Self { dir, live, targets, feeder, stop };
        wait_for("first bytes", Duration::from_secs(20), || {
            (scene.output().len() > 200_000).then_some(())
        });
        scene
    }

    fn output(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("viewer.ts")).unwrap_or_default()
    }

    fn info_hash(&self) -> InfoHash {
        InfoHash(self.live.info_hash)
    }

    /// Fails unless the stream goes on at its rate for a while.
    #[track_caller]
    fn assert_plays_on(&self) {
        let before = self.output().len();
        std::thread::sleep(Duration::from_secs(3));
        let came = self.output().len() - before;
        assert!(came > (2 * RATE / 8) as usize, "{came} bytes in 3 s");
    }

    /// Ends the stream and compares what came out with what went in.
    #[track_caller]
    fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.feeder.take().expect("one end").join().expect("the feeder");
        for (process, _) in &mut self.targets {
            let status = process.wait(Duration::from_secs(30));
            assert!(status.success(), "{status}: {}", process.last_words());
        }
        let output = self.output();
        let part = contiguous_part(&sent, &output);
        assert!(part.is_ok(), "{part:?}");
        assert!(sent.ends_with(&output), "the end is missing");
        for (process, _) in &self.targets {
            let words = process.stderr();
            assert!(!words.contains("panicked"), "{}", process.last_words());
        }
    }
}

/// Writes 40 ms of the stream each 40 ms; gives back all of it.
fn feed(mut input: std::process::ChildStdin, stop: Arc<AtomicBool>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut encoder, mut sent, start) = (FakeTs::new(RATE), Vec::new(), Instant::now());
        for n in 1.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let frame = encoder.frame();
            sent.extend_from_slice(&frame);
            if input.write_all(&frame).is_err() {
                break;
            }
            let due = Duration::from_millis(40) * n;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        sent
    })
}

/// Resident memory in bytes and open files of a process.
fn costs(process: &Process) -> (u64, usize) {
    let dir = format!("/proc/{}", process.id());
    let status = std::fs::read_to_string(format!("{dir}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let files = std::fs::read_dir(format!("{dir}/fd")).map_or(0, Iterator::count);
    (kib << 10, files)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a socket");
    stream
}

fn handshake(info_hash: InfoHash, n: u8) -> Bytes {
    let peer_id = PeerId([n; 20]);
    Handshake { reserved: Reserved::live(), info_hash, peer_id }.encode()
}

/// Both handshakes and a window that claims nothing.
fn hello(info_hash: InfoHash, n: u8) -> Vec<u8> {
    let ours = ExtendedHandshake::ours(None, None, false, Ipv4Addr::LOCALHOST.into());
    let extended = message::Message::Extended { id: 0, payload: ours.encode() };
    let none = message::Message::HaveNone;
    let parts = [handshake(info_hash, n), none.head(), extended.head(), live(&window())];
    parts.concat()
}

/// A live message as one of our own nodes reads it.
fn live(message: &Message) -> Bytes {
    let id = Extension::Live(message.kind()).our_id();
    message::Message::Extended { id, payload: message.encode() }.head()
}

fn window() -> Message {
    Message::Window(Window {
        epoch: Epoch(0),
        base: PieceIndex(0),
        kept_ms: 0,
        hops: HOPS_UNKNOWN,
        reason: Reason::NONE,
        bitmap: Bytes::new(),
        ext: Tlvs::default(),
    })
}

/// Reads and throws away until the other side closes; false if it has not by `limit`.
fn is_closed_within(stream: &mut TcpStream, limit: Duration) -> bool {
    let start = Instant::now();
    let mut buffer = [0; 64 << 10];
    while start.elapsed() < limit {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return true,
        }
    }
    false
}

/// Writes `first`, then `rest` one byte a second for ever; how long until the other side closed.
fn drip(port: u16, first: Vec<u8>, rest: Vec<u8>) -> JoinHandle<(u16, Duration)> {
    std::thread::spawn(move || {
        let mut stream = connect(port);
        let own = stream.local_addr().expect("connected").port();
        stream.write_all(&first).expect("it reads");
        let start = Instant::now();
        for byte in rest.iter().cycle() {
            let gone = stream.write_all(&[*byte]).is_err();
            if gone || is_closed_within(&mut stream, Duration::from_secs(1)) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(40), "still open");
        }
        (own, start.elapsed())
    })
}

#[test]
fn who_sends_a_byte_a_second_is_closed_in_time_and_named() {
    let _slot = swarm_slot();
    let scene = Scene::start();
    let hash = scene.info_hash();
    let mut waits = Vec::new();
    for (_, port) in &scene.targets {
        let hello = hello(hash, 3);
        // The handshake itself; the extension handshake behind it; a long message; nothing.
        let (shake, long) = (handshake(hash, 1).to_vec(), vec![0, 0, 64, 9, 7, 0, 0]);
        waits.push(("handshake", 13, drip(*port, Vec::new(), shake.clone())));
        waits.push(("extension handshake", 13, drip(*port, shake, hello[68..].to_vec())));
        waits.push(("message", 9, drip(*port, self::hello(hash, 4), long)));
    }
    let mut ports = Vec::new();
    for (what, most_s, wait) in waits {
        let (port, took) = wait.join().unwrap_or_else(|_| panic!("{what}: not closed"));
        assert!(took < Duration::from_secs(most_s), "{what}: {took:?}");
        ports.push(port);
    }
    let words: String = scene.targets.iter().map(|(process, _)| process.stderr()).collect();
    for port in ports {
        assert!(words.contains(&format!("127.0.0.1:{port}")), "port {port} is not named");
    }
    scene.assert_plays_on();
    scene.finish();
}

#[test]
fn nonsense_is_answered_by_closing_at_once_and_its_sender_is_named() {
    let _slot = swarm_slot();
    let scene = Scene::start();
    let hash = scene.info_hash();
    let behind = |raw: &[u8]| [&hello(hash, 5)[..], raw].concat();
    let ask = Entries::Ask { run: 0, epoch: Epoch(0), index: NEWEST, count: 0 };
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "handshake"),
        ("zeros", vec![0; 68], "handshake"),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "handshake"),
        ("a frame of 4 GiB", behind(&[0xff; 5]), "frame of 4294967295 bytes"),
        ("a frame a byte too long", behind(&[0, 2, 16, 1, 7]), "frame of 135169 bytes"),
        ("an empty piece", behind(&[0, 0, 0, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0]), "piece"),
        ("a long choke", behind(&[0, 0, 0, 2, 0, 0]), "choke"),
        ("have all", behind(&[0, 0, 0, 1, 14]), "have all"),
        ("an ask for nothing", behind(&live(&Message::Entries(ask))), "bl_entries"),
    ];
    for (process, port) in &scene.targets {
        for (what, bytes, reason) in &cases {
            let mut stream = connect(*port);
            let own = stream.local_addr().expect("connected");
            let _ = stream.write_all(bytes);
            assert!(is_closed_within(&mut stream, Duration::from_secs(3)), "{what}: still open");
            let words = process.stderr();
            let own = own.to_string();
            let line = words.lines().find(|line| line.contains(&own) && line.contains("WARN"));
            let line = line.unwrap_or_else(|| panic!("{what}: {own} is not named"));
            assert!(line.contains(reason), "{what}: {line}");
        }
    }
    scene.assert_plays_on();
    scene.finish();
}

/// Messages that cost the receiver most for what they cost the sender.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    let subscribe = |id| {
        let (stripe, epoch, ext) = (Stripe::Blocks, Epoch(1), Tlvs::default());
        let (cover, first, last) = (Cover::ALL, BlockNo(0), BlockNo(u64::MAX));
        live(&Message::Subscribe(Subscribe { id, stripe, epoch, cover, first, last, ext }))
    };
    let ask = Entries::Ask { run: 0, epoch: Epoch(0), index: NEWEST, count: 256 };
    let extended = |id, payload: &[u8]| {
        let payload = Bytes::copy_from_slice(payload);
        message::Message::Extended { id, payload }.head().to_vec()
    };
    vec![
        ("keep-alives", vec![0; 4]),
        ("interests", vec![0, 0, 0, 1, 2]),
        ("haves", vec![0, 0, 0, 5, 4, 0, 0, 0, 1]),
        ("requests", [&[0, 0, 0, 13, 6][..], &[0; 10], &[0x40, 0]].concat()),
        ("blocks", [&[0, 0, 64, 9, 7][..], &vec![0; 16_392]].concat()),
        ("windows", live(&window()).to_vec()),
        ("asks", live(&Message::Entries(ask)).to_vec()),
        ("wishes", (0..64).flat_map(|id| subscribe(id).to_vec()).collect()),
        ("clocks", live(&Message::Clock(Clock::Ask { mine_us: 1 })).to_vec()),
        ("extension handshakes", extended(0, b"d1:mdee")),
        ("metadata", extended(Extension::Metadata.our_id(), b"d8:msg_typei0e5:piecei0ee")),
        (
            "peer exchange",
            extended(Extension::Pex.our_id(), b"d5:added6:\x09\x09\x09\x09\x1a\xe1e"),
        ),
        ("unknown", extended(200, &[7; 2000])),
    ]
}

#[test]
fn floods_of_every_kind_at_once_stop_neither_the_stream_nor_cost_memory() {
    let _slot = swarm_slot();
    let scene = Scene::start();
    let before: Vec<_> = scene.targets.iter().map(|(process, _)| costs(process)).collect();
    let hash = scene.info_hash();
    let held = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = scene
        .targets
        .iter()
        .flat_map(|(_, port)| floods().into_iter().zip(10..).map(|flood| (*port, flood)))
        .map(|(port, ((what, message), n))| {
            let held = held.clone();
            std::thread::spawn(move || {
                let batch = message.repeat((512 << 10) / message.len() + 1);
                let mut stream = connect(port);
                // What is answered is thrown away in between, without waiting for it.
                stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
                let start = Instant::now();
                let mut open = stream.write_all(&hello(hash, n)).is_ok();
                let mut sent = 0;
                while open && start.elapsed() < Duration::from_secs(15) {
                    open = stream.write_all(&batch).is_ok();
                    sent += batch.len();
                    open &= !is_closed_within(&mut stream, Duration::from_millis(1));
                }
                // It stays open at our end: what it cost must be free all the same.
                held.lock().expect("not poisoned").push(stream);
                (what, open, sent)
            })
        })
        .collect();
    scene.assert_plays_on();
    for thread in threads {
        let (what, open, sent) = thread.join().expect("a flood");
        assert!(!open, "a flood of {what} goes on after {sent} bytes");
    }
    std::thread::sleep(Duration::from_secs(6));
    for ((process, _), (memory, files)) in scene.targets.iter().zip(before) {
        let (now, open) = costs(process);
        assert!(now < memory + GROWTH_MAX, "{}: {memory} to {now} bytes", process.name());
        assert!(open <= files + 2, "{}: {files} to {open} files", process.name());
    }
    scene.assert_plays_on();
    scene.finish();
}

#[test]
fn who_never_reads_holds_neither_buffers_nor_sockets_for_long() {
    let _slot = swarm_slot();
    let scene = Scene::start();
    let before: Vec<_> = scene.targets.iter().map(|(process, _)| costs(process)).collect();
    let hash = scene.info_hash();
    let ask = Entries::Ask { run: 0, epoch: Epoch(0), index: NEWEST, count: 256 };
    let asks = live(&Message::Entries(ask)).repeat(2000);
    let mut deaf = Vec::new();
    for n in 0..24 {
        for (_, port) in &scene.targets {
            let mut stream = connect(*port);
            let _ = stream.write_all(&hello(hash, 100 + n));
            let _ = stream.write_all(&asks);
            deaf.push(stream);
        }
    }
    scene.assert_plays_on();
    std::thread::sleep(Duration::from_secs(12));
    for ((process, _), (memory, files)) in scene.targets.iter().zip(before) {
        let (now, open) = costs(process);
        assert!(now < memory + GROWTH_MAX, "{}: {memory} to {now} bytes", process.name());
        assert!(open <= files + 2, "{}: {files} to {open} files", process.name());
    }
    drop(deaf);
    scene.finish();
}

#[test]
fn handshakes_and_no_more_take_no_place_for_long_from_those_who_take_part() {
    let _slot = swarm_slot();
    let scene = Scene::start();
    let hash = scene.info_hash();
    let mut silent = Vec::new();
    for n in 0..200u8 {
        for (_, port) in &scene.targets {
            let mut stream = connect(*port);
            let _ = stream.write_all(&handshake(hash, n));
            silent.push(stream);
        }
    }
    scene.assert_plays_on();
    std::thread::sleep(Duration::from_secs(9));
    for stream in &mut silent {
        assert!(is_closed_within(stream, Duration::from_secs(3)), "still open");
    }
    for (_, port) in &scene.targets {
        let mut stream = connect(*port);
        stream.write_all(&hello(hash, 250)).expect("a place is free");
        assert!(!is_closed_within(&mut stream, Duration::from_secs(1)), "no place is free");
    }
    scene.finish();
}
