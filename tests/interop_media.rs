//! Real media through a live swarm: what ffmpeg made comes out untouched, and players take it.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::btlive::{self, LOCAL, Live};
use support::process::Process;
use support::stream::{self, contiguous_part};
use support::tracker::{Kind, Tracker};
use support::{debian_tool, swarm_slot, temp_dir};

/// How long everybody may take to finish after the stream's end.
const END_LIMIT: Duration = Duration::from_secs(40);

fn broadcast(dir: &Path, live: &Live, input: &str) -> Process {
    let start = btlive::start(None, "broadcaster", dir).arg("broadcast").args(LOCAL);
    let start = start.arg("--state-dir").arg(dir.join("broadcaster.state"));
    let start = start.args(["--key", &live.key, "--input", input, &live.torrent]);
    if input == "-" { start.with_stdin().spawn() } else { start.spawn() }
}

fn play(dir: &Path, live: &Live, output: &[&str]) -> Process {
    let start = btlive::start(None, "viewer", dir).arg("play").args(LOCAL);
    let start = start.arg("--state-dir").arg(dir.join("viewer.state"));
    start.args(output).arg(&live.torrent).spawn()
}

/// Fails unless ffmpeg decodes all of the file without a single error.
#[track_caller]
fn assert_decodes(path: &Path) {
    let mut ffmpeg = Command::new(debian_tool("ffmpeg"));
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-xerror", "-nostdin", "-i"]);
    let output = ffmpeg.arg(path).args(["-f", "null", "-"]).output().expect("ffmpeg starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.is_empty(), "{}: {words}", output.status);
}

#[test]
fn what_ffmpeg_sends_through_stdin_comes_out_untouched_and_decodes() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let live = btlive::create(dir.path(), &tracker.urls());
    let mut broadcaster = broadcast(dir.path(), &live, "-");
    let mut ffmpeg = stream::ffmpeg(12, dir.path());
    let copier = stream::tee(ffmpeg.take_stdout(), broadcaster.take_stdin());
    let output = dir.path().join("seen.ts");
    let mut viewer = play(dir.path(), &live, &["--output", &output.to_string_lossy()]);
    let status = viewer.wait(END_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", viewer.last_words());
    let sent = copier.join().expect("the copier does not panic");
    let seen = std::fs::read(&output).expect("what the viewer wrote");
    let at = contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(at + seen.len(), sent.len(), "up to the end");
    assert!(seen.len() * 2 > sent.len(), "most of it: {} of {}", seen.len(), sent.len());
    assert_decodes(&output);
}

#[test]
fn datagrams_of_any_length_are_put_together() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let live = btlive::create(dir.path(), &tracker.urls());
    let port = support::free_port();
    let mut broadcaster = broadcast(dir.path(), &live, &format!("udp://127.0.0.1:{port}"));
    let output = dir.path().join("seen.ts");
    let mut viewer = play(dir.path(), &live, &["--output", &output.to_string_lossy()]);
    let mut ffmpeg = stream::ffmpeg(12, dir.path());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(("127.0.0.1", port)).expect("an address");
    let copier = stream::tee(ffmpeg.take_stdout(), Datagrams(socket));
    let sent = copier.join().expect("the copier does not panic");
    // Silence is no end: the broadcaster is told to stop.
    std::thread::sleep(Duration::from_secs(3));
    broadcaster.signal("INT");
    viewer.wait(END_LIMIT);
    broadcaster.wait(END_LIMIT);
    let seen = std::fs::read(&output).expect("what the viewer wrote");
    contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(seen.len() * 2 > sent.len(), "most of it: {} of {}", seen.len(), sent.len());
    assert_decodes(&output);
}

/// Sends what is written in datagrams whose lengths are no multiples of a packet's, as ffmpeg does.
struct Datagrams(std::net::UdpSocket);

impl std::io::Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(&bytes[..bytes.len().min(1472)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn mpv_plays_the_http_url_and_the_first_byte_comes_within_a_second() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let live = btlive::create(dir.path(), &tracker.urls());
    let mut broadcaster = broadcast(dir.path(), &live, "-");
    let mut ffmpeg = stream::ffmpeg(20, dir.path());
    let copier = stream::tee(ffmpeg.take_stdout(), broadcaster.take_stdin());
    let mut viewer = play(dir.path(), &live, &["--http", "127.0.0.1:0"]);
    let line = viewer.wait_for_line("http://127.0.0.1:", END_LIMIT);
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
    // By then the window holds key frames.
    std::thread::sleep(Duration::from_secs(6));

    let start = Instant::now();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "5", "--noproxy", "*", "--range", "0-", url]);
    let mut curl = curl.stdout(Stdio::piped()).spawn().expect("curl starts");
    let mut first = [0; 188];
    let body = curl.stdout.as_mut().expect("its standard output");
    std::io::Read::read_exact(body, &mut first).expect("a first packet");
    let waited = start.elapsed();
    curl.kill().expect("curl ends");
    curl.wait().expect("curl has ended");
    assert!(waited < Duration::from_secs(1), "the first packet took {waited:?}");
    assert_eq!((first[0], first[1] & 0x1f, first[2]), (0x47, 0, 0), "it is the PAT");

    let mut mpv = support::process::Start::new("mpv", debian_tool("mpv"), dir.path())
        .args(["--no-config", "--vo=null", "--ao=null", "--msg-level=all=v", url])
        .spawn();
    mpv.wait_for_line("first video frame after restart shown", END_LIMIT);
    let status = mpv.wait(END_LIMIT);
    assert!(status.success(), "{}", mpv.last_words());
    copier.join().expect("the copier does not panic");
}
