//! What a stream must survive: a broadcaster that is killed, that loses its state, that finds it
//! torn or meets its double; viewers who come late or do not read. Real processes over loopback;
//! a recorder keeps what was signed and searches all runs at once.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::btlive::machine::Rng;
use support::btlive::{self, LOCAL, Live, number};
use support::process::Process;
use support::recorder::Recorder;
use support::stream::{FakeTs, PACKET_LEN, contiguous_part};
use support::{free_port, swarm_slot, temp_dir, wait_for};

/// The stream's rate in bit/s.
const RATE: u64 = 1_000_000;
/// One frame of the made-up stream.
const FRAME_TIME: Duration = Duration::from_millis(40);
/// How long a restarted or succeeding broadcaster may take to be heard.
const HEARD_LIMIT: Duration = Duration::from_secs(20);
/// How long everybody may take to finish after the stream's end.
const END_LIMIT: Duration = Duration::from_secs(40);

/// A channel with its encoder, which goes on whoever broadcasts.
struct Scene {
    dir: tempfile::TempDir,
    live: Live,
    port: u16,
    encoder: Arc<Mutex<FakeTs>>,
    sent: Arc<Mutex<Vec<u8>>>,
    viewers: Vec<(Process, u16)>,
}

/// A run of a broadcaster and the thread that feeds it.
struct Run {
    process: Process,
    feeder: JoinHandle<()>,
    stop: Arc<Mutex<bool>>,
}

impl Scene {
    fn new() -> Self {
        let dir = temp_dir();
        let live = btlive::create(dir.path(), &[]);
        let encoder = Arc::new(Mutex::new(FakeTs::new(RATE)));
        let sent = Arc::default();
        Self { dir, live, port: free_port(), encoder, sent, viewers: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn recorder(&self) -> Recorder {
        Recorder::start(self.port, self.live.info_hash, self.live.public_key)
    }

    /// Starts a viewer that writes to `NAME.ts`.
    fn view(&mut self, name: &str) {
        let output = self.path(&format!("{name}.ts"));
        self.view_to(name, &output);
    }

    fn view_to(&mut self, name: &str, output: &Path) {
        let port = free_port();
        let process = btlive::start(None, name, self.dir.path())
            .arg("play")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(&LOCAL[2..])
            .args(["--peer", &format!("127.0.0.1:{}", self.port), "--wait", "60s", "--json", "-v"])
            .arg("--state-dir")
            .arg(self.path(&format!("{name}.state")))
            .arg("--output")
            .arg(output)
            .arg(&self.live.torrent)
            .spawn();
        self.viewers.push((process, port));
    }

    /// Starts a broadcaster that listens on `port`, keeps its state in `NAME.state` and knows the
    /// viewers, as a tracker would tell it.
    fn broadcast_on(&self, name: &str, port: u16, peers: &[u16]) -> Run {
        let mut start = btlive::start(None, name, self.dir.path())
            .arg("broadcast")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(&LOCAL[2..])
            .args(["--input", "-", "--key", &self.live.key]);
        for peer in self.viewers.iter().map(|(_, port)| port).chain(peers) {
            start = start.args(["--peer", &format!("127.0.0.1:{peer}")]);
        }
        let state = self.path(&format!("{name}.state"));
        let start = start.arg("--state-dir").arg(state).arg(&self.live.torrent);
        let mut process = start.with_stdin().spawn();
        let mut input = process.take_stdin();
        let (encoder, sent) = (self.encoder.clone(), self.sent.clone());
        let stop: Arc<Mutex<bool>> = Arc::default();
        let stopped = stop.clone();
        let feeder = std::thread::spawn(move || {
            let start = Instant::now();
            for n in 1.. {
                if *held(&stopped) {
                    return;
                }
                let frame = held(&encoder).frame();
                held(&sent).extend_from_slice(&frame);
                if input.write_all(&frame).is_err() {
                    return;
                }
                std::thread::sleep((FRAME_TIME * n).saturating_sub(start.elapsed()));
            }
        });
        Run { process, feeder, stop }
    }

    fn broadcast(&self) -> Run {
        self.broadcast_on("broadcaster", self.port, &[])
    }

    /// Fails if a viewer has ended.
    #[track_caller]
    fn assert_viewers_run(&mut self) {
        for (viewer, _) in &mut self.viewers {
            let status = viewer.status();
            assert!(status.is_none(), "ended early ({status:?}): {}", viewer.last_words());
        }
    }

    /// Waits until each viewer has written bytes of the stream from behind `mark` on.
    #[track_caller]
    fn wait_for_bytes_behind(&mut self, mark: usize) {
        // Some way behind it, so that what was under way does not count.
        let from = (mark + RATE as usize / 8) / PACKET_LEN * PACKET_LEN;
        for name in 0..self.viewers.len() {
            let path = self.path(&format!("viewer{}.ts", name + 1));
            let words = &self.viewers[name].0;
            wait_for(&format!("new bytes at {}", words.name()), HEARD_LIMIT, || {
                let mut output = std::fs::read(&path).ok()?;
                output.truncate(output.len() / PACKET_LEN * PACKET_LEN);
                let tail = output.get(output.len().checked_sub(4 * PACKET_LEN)?..)?;
                let sent = held(&self.sent);
                let new = sent.get(from..)?;
                new.windows(tail.len()).step_by(PACKET_LEN).any(|w| w == tail).then_some(())
            });
        }
    }

    /// Ends the stream and sees everybody out.
    #[track_caller]
    fn finish(mut self, run: Run) -> Vec<Vec<serde_json::Value>> {
        run.end();
        let mut told = Vec::new();
        for (viewer, _) in &mut self.viewers {
            let status = viewer.wait(END_LIMIT);
            assert_eq!(status.code(), Some(0), "{}", viewer.last_words());
            let lines = viewer.stdout();
            let documents = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
            told.push(documents.collect());
        }
        told
    }
}

impl Run {
    fn kill(mut self) {
        self.process.signal("KILL");
        self.process.wait(END_LIMIT);
        self.feeder.join().expect("the feeder does not panic");
    }

    /// Closes the input, which ends the stream.
    #[track_caller]
    fn end(mut self) {
        *held(&self.stop) = true;
        self.feeder.join().expect("the feeder does not panic");
        let status = self.process.wait(END_LIMIT);
        assert_eq!(status.code(), Some(0), "{}", self.process.last_words());
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The (epoch, head) that a viewer showed over time, where it knew one.
fn heads(told: &[serde_json::Value]) -> Vec<(u64, u64)> {
    let shown = told.iter().filter(|document| document.pointer("/pieces/head").is_some());
    let pair =
        |d: &serde_json::Value| (number(d, "pieces.epoch") as u64, number(d, "pieces.head") as u64);
    let known = shown.filter(|d| d.pointer("/pieces/epoch").is_some_and(|e| e.is_u64()));
    known.filter(|d| d.pointer("/pieces/head").is_some_and(|h| h.is_u64())).map(pair).collect()
}

/// Waits until something above `before` is signed.
#[track_caller]
fn wait_for_progress(recorder: &Recorder, before: Option<::btlive::units::Seq>) {
    wait_for("a new entry", HEARD_LIMIT, || recorder.head().filter(|head| Some(*head) > before));
}

#[test]
fn a_broadcaster_killed_at_any_moment_goes_on_and_signs_no_place_twice() {
    let _slot = swarm_slot();
    let kills = std::env::var("SURVIVE_KILLS").map_or(10, |n| n.parse().expect("a number"));
    let mut rng = Rng::new(0x5eed_0001);
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let mut run = scene.broadcast();
    for name in ["viewer1", "viewer2"] {
        scene.view(name);
    }
    wait_for_progress(&recorder, None);
    for kill in 0..kills {
        // Some die while they listen, most while they publish.
        std::thread::sleep(Duration::from_millis(rng.below(2_500)));
        run.kill();
        scene.assert_viewers_run();
        recorder.assert_no_contradiction();
        let before = recorder.head();
        run = scene.broadcast();
        if kill % 3 != 2 {
            wait_for_progress(&recorder, before);
        }
    }
    let mark = held(&scene.sent).len();
    scene.wait_for_bytes_behind(mark);
    recorder.assert_no_contradiction();
    assert_eq!(recorder.epochs().len(), 1, "with its state it goes on in its epoch");
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    for told in told {
        let heads = heads(&told);
        assert!(heads.len() > 5, "{} documents", heads.len());
        assert!(heads.is_sorted(), "no index goes back: {heads:?}");
    }
}

#[test]
fn a_broadcaster_without_its_state_opens_a_higher_epoch_and_viewers_go_on() {
    let _slot = swarm_slot();
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let run = scene.broadcast();
    scene.view("viewer1");
    wait_for_progress(&recorder, None);
    scene.wait_for_bytes_behind(0);
    run.kill();
    std::fs::remove_dir_all(scene.path("broadcaster.state")).expect("the state goes");
    let before = recorder.head().expect("a head");
    let mark = held(&scene.sent).len();
    let run = scene.broadcast();
    scene.wait_for_bytes_behind(mark);
    let after = recorder.head().expect("a head");
    assert!(after.epoch > before.epoch, "{after} is of a higher epoch than {before}");
    let first = recorder.first_of(after.epoch).expect("its first entry");
    assert!(first.0 >= before.index.0 + 1024, "{first} is far above {}", before.index);
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    assert!(heads(&told[0]).is_sorted(), "{:?}", heads(&told[0]));
}

#[test]
fn a_state_torn_between_two_runs_leads_to_no_second_signature() {
    let _slot = swarm_slot();
    let mut rng = Rng::new(0x5eed_0002);
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let mut run = scene.broadcast();
    scene.view("viewer1");
    wait_for_progress(&recorder, None);
    for tear in 0..4 {
        std::thread::sleep(Duration::from_millis(500 + rng.below(700)));
        run.kill();
        let below = support::torrent::hex(&scene.live.info_hash);
        let path = scene.path("broadcaster.state").join(below).join("published");
        tear_file(&path, tear, &mut rng);
        let before = recorder.head();
        run = scene.broadcast();
        wait_for_progress(&recorder, before);
        recorder.assert_no_contradiction();
        scene.assert_viewers_run();
    }
    let mark = held(&scene.sent).len();
    scene.wait_for_bytes_behind(mark);
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    assert!(heads(&told[0]).is_sorted(), "{:?}", heads(&told[0]));
}

/// Leaves the file as a write that broke off might: cut, overwritten in part, or empty.
fn tear_file(path: &Path, how: usize, rng: &mut Rng) {
    let mut bytes = std::fs::read(path).expect("the last entry is on disk");
    let at = rng.index(bytes.len());
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        2 => bytes[..at].fill(0xff),
        _ => bytes.clear(),
    }
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn of_two_broadcasters_with_one_key_one_follows_says_so_and_takes_over() {
    let _slot = swarm_slot();
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let first = scene.broadcast();
    // It takes over only while two others report the same head: alone it might be cut off.
    for name in ["viewer1", "viewer2"] {
        scene.view(name);
    }
    wait_for_progress(&recorder, None);
    scene.wait_for_bytes_behind(0);
    let port = free_port();
    let mut second = scene.broadcast_on("second", port, &[scene.port]);
    second.process.wait_for_line("another broadcaster with this key is ahead", HEARD_LIMIT);
    assert_eq!(recorder.epochs().len(), 1, "who follows signs nothing");

    let of_second = Recorder::start(port, scene.live.info_hash, scene.live.public_key);
    let before = recorder.head().expect("a head");
    first.kill();
    wait_for("a higher epoch", HEARD_LIMIT, || {
        of_second.head().filter(|head| head.epoch > before.epoch)
    });
    let mark = held(&scene.sent).len();
    scene.wait_for_bytes_behind(mark);
    let told = scene.finish(second);
    recorder.assert_no_contradiction();
    of_second.assert_no_contradiction();
    assert!(heads(&told[0]).is_sorted(), "{:?}", heads(&told[0]));
}

#[test]
fn two_broadcasters_that_start_at_once_end_in_one_epoch() {
    let _slot = swarm_slot();
    let mut scene = Scene::new();
    scene.view("viewer1");
    let (port, recorder) = (free_port(), scene.recorder());
    let mut first = scene.broadcast_on("broadcaster", scene.port, &[port]);
    let mut second = scene.broadcast_on("second", port, &[scene.port]);
    let of_second = Recorder::start(port, scene.live.info_hash, scene.live.public_key);
    let follows = "another broadcaster with this key is ahead";
    wait_for("one that follows", HEARD_LIMIT, || {
        let words = [&first, &second].map(|run| run.process.stderr().contains(follows));
        (words[0] != words[1]).then_some(())
    });
    wait_for("one head", HEARD_LIMIT, || {
        let heads = (recorder.head()?, of_second.head()?);
        (heads.0.epoch == heads.1.epoch).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    scene.assert_viewers_run();
    let words = [&first, &second].map(|run| run.process.stderr().contains(follows));
    assert!(words[0] != words[1], "exactly one follows: {words:?}");
    for recorder in [&recorder, &of_second] {
        recorder.assert_no_contradiction();
        assert!(recorder.count() > 0);
    }
    for run in [&mut first, &mut second] {
        assert!(run.process.status().is_none(), "{}", run.process.last_words());
    }
    first.kill();
    second.kill();
}

#[test]
fn who_joins_in_the_middle_starts_at_a_random_access_point() {
    let _slot = swarm_slot();
    let mut scene = Scene::new();
    let run = scene.broadcast();
    scene.view("viewer1");
    std::thread::sleep(Duration::from_secs(8));
    scene.view("viewer2");
    let mark = held(&scene.sent).len();
    scene.wait_for_bytes_behind(mark);
    let output = scene.path("viewer2.ts");
    let seen = std::fs::read(&output).expect("what it wrote");
    let sent = held(&scene.sent).clone();
    let at = contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(at > sent.len() / 4, "it begins near the live edge, not at byte {at}");
    let second_len = 25 * FakeTs::new(RATE).frame().len();
    assert_eq!(at % second_len, 0, "key frames begin each {second_len} bytes, not at {at}");
    scene.finish(run);
}

#[test]
fn a_reader_that_stalls_harms_nobody_else() {
    let _slot = swarm_slot();
    let mut scene = Scene::new();
    let run = scene.broadcast();
    let pipe = scene.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo starts");
    assert!(made.success());
    // Held open and never read: its writer blocks as soon as the pipe is full.
    let _unread = OpenOptions::new().read(true).write(true).open(&pipe).expect("the pipe");
    scene.view_to("stalled", &pipe);
    let (mut stalled, relay) = scene.viewers.pop().expect("the stalled viewer");
    scene.view("viewer1");
    std::thread::sleep(Duration::from_secs(12));
    let status = stalled.status();
    assert!(status.is_none(), "{status:?}: {}", stalled.last_words());
    let mark = held(&scene.sent).len();
    scene.wait_for_bytes_behind(mark);
    let seen = std::fs::read(scene.path("viewer1.ts")).expect("what it wrote");
    let sent = held(&scene.sent).clone();
    contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("port {relay}: {fault}"));
    scene.finish(run);
    let status = stalled.terminate(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", stalled.last_words());
}

#[test]
fn a_dead_channel_ends_with_code_3() {
    let scene = Scene::new();
    let output = scene.path("nothing.ts");
    let mut viewer = btlive::start(None, "viewer", scene.dir.path())
        .arg("play")
        .args(LOCAL)
        .args(["--wait", "2s", "--output"])
        .arg(output)
        .arg("--state-dir")
        .arg(scene.path("viewer.state"))
        .arg(&scene.live.magnet)
        .spawn();
    let status = viewer.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(3), "{}", viewer.last_words());
}
