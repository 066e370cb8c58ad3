//! The second implementation in `tests/second`, which was written from `specs/` alone, meets this
//! one in every role: what the documents leave out shows here.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::path::Path;
use std::time::Duration;

use support::btlive::{self, LOCAL, Live};
use support::process::{Process, Start};
use support::stream::{FakeTs, contiguous_part, feed};
use support::{debian_tool, root, swarm_slot, temp_dir};

/// The stream's rate in bit/s.
const RATE: u64 = 2_000_000;
/// Seconds of it.
const SECONDS: u32 = 12;
/// How long everybody may take to finish after the stream's end.
const END_LIMIT: Duration = Duration::from_secs(40);
/// How long a program may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

fn second(name: &str, program: &str, dir: &Path) -> Start {
    let path = root().join("tests/second").join(program);
    Start::new(name, debian_tool("python3"), dir).args(["-B", "-u"]).arg(path)
}

/// The second viewer; what it writes goes to `NAME.out`. As a relay it serves others too.
fn view(dir: &Path, name: &str, link: &str, peer: &str, relay: bool) -> Process {
    let start = second(name, "viewer.py", dir).args([link, "--peer", peer]);
    if relay { start.args(["--listen", "127.0.0.1:0"]).spawn() } else { start.spawn() }
}

fn broadcast(dir: &Path, live: &Live, state: &str) -> Process {
    let start = btlive::start(None, "broadcaster", dir).arg("broadcast").args(LOCAL);
    let start = start.arg("--state-dir").arg(dir.join(state));
    start.args(["--key", &live.key, &live.torrent]).with_stdin().spawn()
}

fn play(dir: &Path, link: &str, peer: &str) -> Process {
    let start = btlive::start(None, "viewer", dir).arg("play").args(LOCAL);
    let start = start.arg("--state-dir").arg(dir.join("viewer.state"));
    let start = start.arg("--report").arg(dir.join("viewer.json"));
    start.args(["--output", "-", "--peer", peer, link]).spawn()
}

/// Where a program listens, by the line in which it says so.
#[track_caller]
fn address_of(process: &mut Process) -> String {
    let line = process.wait_for_line("listening", START_LIMIT);
    line.rsplit(' ').next().expect("a last word").to_owned()
}

/// Waits for the end; what `process` wrote must be all of `sent` from some place on.
#[track_caller]
fn assert_saw_the_rest(process: &mut Process, dir: &Path, sent: &[u8]) {
    let status = process.wait(END_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", process.last_words_of_stderr());
    let seen = std::fs::read(dir.join(format!("{}.out", process.name()))).expect("its output");
    let at = contiguous_part(sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(at + seen.len(), sent.len(), "{} saw all up to the end", process.name());
    assert!(seen.len() * 2 > sent.len(), "most of it: {} of {}", seen.len(), sent.len());
}

#[test]
fn the_second_viewer_plays_from_a_broadcaster() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let mut broadcaster = broadcast(dir.path(), &live, "state");
    let peer = address_of(&mut broadcaster);
    let encoder = feed(FakeTs::frames(RATE, SECONDS), broadcaster.take_stdin());
    std::thread::sleep(Duration::from_secs(3));
    let mut viewer = view(dir.path(), "second", &live.torrent, &peer, false);
    encoder.join().expect("the encoder does not panic");
    assert_saw_the_rest(&mut viewer, dir.path(), &FakeTs::seconds(RATE, SECONDS));
}

#[test]
fn a_viewer_plays_what_comes_only_through_the_second_relay_and_both_know_but_the_magnet() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let mut broadcaster = broadcast(dir.path(), &live, "state");
    let source = address_of(&mut broadcaster);
    let encoder = feed(FakeTs::frames(RATE, SECONDS), broadcaster.take_stdin());
    let mut relay = view(dir.path(), "relay", &live.magnet, &source, true);
    let mut viewer = play(dir.path(), &live.magnet, &address_of(&mut relay));
    encoder.join().expect("the encoder does not panic");
    let sent = FakeTs::seconds(RATE, SECONDS);
    assert_saw_the_rest(&mut viewer, dir.path(), &sent);
    assert_saw_the_rest(&mut relay, dir.path(), &sent);
    let report = btlive::report(&dir.path().join("viewer.json"));
    assert_eq!(btlive::number(&report, "bytes.from_source"), 0.0, "{report}");
    assert_eq!(btlive::number(&report, "pieces.missed"), 0.0, "{report}");
}

#[test]
fn a_viewer_plays_what_the_second_source_signs() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let source = second("source", "source.py", dir.path());
    let mut source = source.args([&live.torrent, &live.key]).with_stdin().spawn();
    let peer = address_of(&mut source);
    let encoder = feed(FakeTs::frames(RATE, SECONDS), source.take_stdin());
    let mut viewer = play(dir.path(), &live.magnet, &peer);
    encoder.join().expect("the encoder does not panic");
    assert_saw_the_rest(&mut viewer, dir.path(), &FakeTs::seconds(RATE, SECONDS));
    let status = source.wait(END_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", source.last_words());
}

#[test]
fn the_second_relay_goes_on_in_the_epoch_of_a_broadcaster_that_lost_its_state() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let mut first = broadcast(dir.path(), &live, "first.state");
    let address = address_of(&mut first);
    let lost = feed(FakeTs::frames(RATE, SECONDS), first.take_stdin());
    let mut relay = view(dir.path(), "relay", &live.torrent, &address, true);
    let mut viewer = play(dir.path(), &live.torrent, &address_of(&mut relay));
    std::thread::sleep(Duration::from_secs(5));
    drop(first);
    lost.join().expect("the encoder does not panic");

    let start = btlive::start(None, "restarted", dir.path()).arg("broadcast").args(&LOCAL[2..]);
    let start = start.args(["--listen", &address, "--key", &live.key]);
    let start = start.arg("--state-dir").arg(dir.path().join("second.state"));
    let mut restarted = start.arg(&live.torrent).with_stdin().spawn();
    let frames = FakeTs::frames(RATE, SECONDS).skip(1);
    let encoder = feed(frames, restarted.take_stdin());
    encoder.join().expect("the encoder does not panic");
    for process in [&mut viewer, &mut relay] {
        let status = process.wait(END_LIMIT);
        assert_eq!(status.code(), Some(0), "{}", process.last_words_of_stderr());
        let seen = std::fs::read(dir.path().join(format!("{}.out", process.name())));
        let seen = seen.expect("its output");
        let sent = FakeTs::seconds(RATE, SECONDS);
        let last = &sent[sent.len() / 2..];
        assert!(seen.ends_with(last), "{} saw the new epoch to its end", process.name());
    }
}
