//! Encoders that stop and come back, and streams of very low and very high rates.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use crate::scene::{END_LIMIT, RATE, Scene, documents, states};
use crate::support::btlive::number;
use crate::support::process::{Process, Start};
use crate::support::stream::{self, FakeTs, PACKET_LEN, contiguous_part};
use crate::support::{debian_tool, free_port};

/// How long an encoder is away: long enough for idle entries, shorter than any patience.
const PAUSE: Duration = Duration::from_secs(4);

/// Gives `frames` to `take`, one each 40 ms.
fn in_real_time(frames: &[Vec<u8>], mut take: impl FnMut(&[u8])) {
    let start = Instant::now();
    for (frame, n) in frames.iter().zip(1..) {
        take(frame);
        std::thread::sleep((Duration::from_millis(40) * n).saturating_sub(start.elapsed()));
    }
}

/// Fails unless the viewer saw a gap: all bytes before and after it, and a word of it between.
#[track_caller]
fn assert_gap(scene: &Scene, sent: &[u8], told: &[Value]) {
    let seen = scene.seen("viewer1");
    let at = contiguous_part(sent, &seen).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(at + seen.len(), sent.len(), "it goes on to the end of the second part");
    let gap = |d: &&Value| d["state"] == "stalled" && d["reason"] == "source_gap";
    let states = states(told);
    assert!(told.iter().any(|d| gap(&d)), "{states:?}");
    let gap = told.iter().position(|d| gap(&d)).expect("a gap");
    let live = told.iter().rposition(|d| d["state"] == "live");
    assert!(live > Some(gap), "it goes on: {states:?}");
    assert!(!told[..gap].iter().any(|d| d["state"] == "ended"), "{states:?}");
}

/// Ends a broadcast whose input never ends by Ctrl-C and sees the viewer out.
#[track_caller]
fn interrupt(scene: &mut Scene, mut broadcaster: Process) -> Vec<Value> {
    broadcaster.signal("INT");
    assert_eq!(broadcaster.wait(END_LIMIT).code(), Some(130), "{}", broadcaster.last_words());
    let viewer = &mut scene.viewers[0].0;
    assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
    documents(viewer)
}

#[test]
fn a_pipe_whose_writer_goes_and_comes_back_is_a_gap() {
    let mut scene = Scene::new();
    let pipe = scene.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo starts").success());
    let broadcaster = scene
        .broadcaster("broadcaster", scene.port, &[])
        .args(["--on-eof", "wait", "--input"])
        .arg(&pipe)
        .arg(&scene.live.torrent)
        .spawn();
    scene.view("viewer1");
    let frames: Vec<Vec<u8>> = FakeTs::frames(RATE, 10).collect();
    for (half, last) in [(&frames[..125], false), (&frames[125..], true)] {
        let mut writer = OpenOptions::new().write(true).open(&pipe).expect("a reader is there");
        in_real_time(half, |frame| writer.write_all(frame).expect("it reads"));
        drop(writer);
        if !last {
            std::thread::sleep(PAUSE);
            scene.assert_viewers_run();
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let told = interrupt(&mut scene, broadcaster);
    assert_gap(&scene, &frames.concat(), &told);
}

#[test]
fn datagrams_that_cease_and_come_back_are_a_gap() {
    let mut scene = Scene::new();
    let port = free_port();
    let mut broadcaster = scene
        .broadcaster("broadcaster", scene.port, &[])
        .args(["--input", &format!("udp://127.0.0.1:{port}")])
        .arg(&scene.live.torrent)
        .spawn();
    broadcaster.wait_for_line("broadcasting", END_LIMIT);
    scene.view("viewer1");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let frames: Vec<Vec<u8>> = FakeTs::frames(RATE, 10).collect();
    for (half, last) in [(&frames[..125], false), (&frames[125..], true)] {
        in_real_time(half, |frame| {
            for datagram in frame.chunks(7 * PACKET_LEN) {
                socket.send_to(datagram, ("127.0.0.1", port)).expect("sent");
            }
        });
        if !last {
            std::thread::sleep(PAUSE);
            scene.assert_viewers_run();
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let told = interrupt(&mut scene, broadcaster);
    assert_gap(&scene, &frames.concat(), &told);
}

#[test]
fn datagrams_to_a_group_are_taken_by_the_interface_named() {
    let mut scene = Scene::new();
    let (group, port) = (Ipv4Addr::new(239, 255, 77, 1), free_port());
    let mut broadcaster = scene
        .broadcaster("broadcaster", scene.port, &[])
        .args(["--input", &format!("udp://@{group}:{port}?interface=127.0.0.1")])
        .arg(&scene.live.torrent)
        .spawn();
    broadcaster.wait_for_line("broadcasting", END_LIMIT);
    scene.view("viewer1");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    SockRef::from(&socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("loopback");
    let frames: Vec<Vec<u8>> = FakeTs::frames(RATE, 6).collect();
    in_real_time(&frames, |frame| {
        for datagram in frame.chunks(1000) {
            socket.send_to(datagram, (group, port)).expect("sent");
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&mut scene, broadcaster);
    let (sent, seen) = (frames.concat(), scene.seen("viewer1"));
    let at = contiguous_part(&sent, &seen).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(at + seen.len(), sent.len(), "it has it up to the end");
    assert!(seen.len() > sent.len() / 2, "{} of {} bytes", seen.len(), sent.len());
}

#[test]
fn a_file_in_real_time_takes_as_long_as_it_lasts() {
    const SECONDS: u32 = 8;
    let mut scene = Scene::new();
    let (file, sent) = (scene.path("film.ts"), FakeTs::seconds(RATE, SECONDS));
    std::fs::write(&file, &sent).expect("a file");
    let mut broadcaster = scene
        .broadcaster("broadcaster", scene.port, &[])
        .args(["--realtime", "--input"])
        .arg(&file)
        .arg(&scene.live.torrent)
        .spawn();
    let start = Instant::now();
    scene.view("viewer1");
    assert_eq!(broadcaster.wait(END_LIMIT).code(), Some(0), "{}", broadcaster.last_words());
    let took = start.elapsed().as_secs_f64();
    // The last second may be sent at once, and the end is waited for.
    let expected = f64::from(SECONDS);
    assert!((expected - 1.0..expected + 5.0).contains(&took), "{took:.1} s");
    let viewer = &mut scene.viewers[0].0;
    assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
    let seen = scene.seen("viewer1");
    let at = contiguous_part(&sent, &seen).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(at + seen.len(), sent.len(), "it has it up to the end");
    assert!(seen.len() > sent.len() / 2, "{} of {} bytes", seen.len(), sent.len());
}

/// Fails unless the last document shows a whole stream whose pieces came within `lag_ms_max`.
#[track_caller]
fn assert_keeps_up(told: &[Value], lag_ms_max: f64) {
    let last = told.last().expect("a document");
    assert_eq!(number(last, "pieces.missed"), 0.0, "{last}");
    assert_eq!(number(last, "stalls.count"), 0.0, "{last}");
    let p90 = number(last, "lag_ms.p90");
    assert!(p90 < lag_ms_max, "lag of {p90} ms: {last}");
}

#[test]
fn sound_of_64_kbit_s_has_no_more_lag_than_a_piece_time() {
    let mut scene = Scene::new();
    let encode = "-c:a aac -b:a 64k -f mpegts -flush_packets 1 pipe:1";
    let mut ffmpeg = Start::new("ffmpeg", debian_tool("ffmpeg"), scene.dir.path())
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "12"])
        .args(encode.split_whitespace())
        .with_stdout()
        .spawn();
    let mut broadcaster = scene
        .broadcaster("broadcaster", scene.port, &[])
        .args(["--input", "-"])
        .arg(&scene.live.torrent)
        .with_stdin()
        .spawn();
    let copied = stream::tee(ffmpeg.take_stdout(), broadcaster.take_stdin());
    scene.view("viewer1");
    scene.view("viewer2");
    let sent = copied.join().expect("the copy does not panic");
    assert_eq!(broadcaster.wait(END_LIMIT).code(), Some(0), "{}", broadcaster.last_words());
    for (viewer, _) in &mut scene.viewers {
        assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
        // A piece is open for at most a second at such a rate.
        assert_keeps_up(&documents(viewer), 1_000.0);
        let seen = std::fs::read(scene.dir.path().join(format!("{}.ts", viewer.name())));
        let seen = seen.expect("what it wrote");
        let at = contiguous_part(&sent, &seen).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(at + seen.len(), sent.len(), "it has it up to the end");
        assert!(seen.len() > sent.len() / 2, "{} of {} bytes", seen.len(), sent.len());
    }
}

#[test]
fn a_stream_of_20_mbit_s_arrives_whole() {
    let mut scene = Scene::with_rate(20_000_000);
    let run = scene.broadcast();
    scene.view("viewer1");
    scene.view("viewer2");
    std::thread::sleep(Duration::from_secs(7));
    let told = scene.finish(run);
    let sent = scene.sent();
    for (name, told) in ["viewer1", "viewer2"].iter().zip(&told) {
        let seen = scene.seen(name);
        let at = contiguous_part(&sent, &seen).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(at + seen.len(), sent.len(), "{name} has it up to the end");
        assert!(seen.len() > sent.len() / 2, "{} of {} bytes", seen.len(), sent.len());
        assert_keeps_up(told, 1_000.0);
    }
}
