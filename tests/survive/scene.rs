//! A channel whose encoder goes on whoever broadcasts, and the processes around it.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::btlive::units::Seq;

use crate::support::btlive::{self, LOCAL, Live, number};
use crate::support::process::{Process, Start};
use crate::support::recorder::Recorder;
use crate::support::stream::{FakeTs, PACKET_LEN};
use crate::support::{free_port, temp_dir, wait_for};

/// The stream's rate in bit/s, where nothing else is said.
pub(crate) const RATE: u64 = 1_000_000;
/// One frame of the made-up stream.
const FRAME_TIME: Duration = Duration::from_millis(40);
/// How long a restarted or succeeding broadcaster may take to be heard.
pub(crate) const HEARD_LIMIT: Duration = Duration::from_secs(20);
/// How long everybody may take to finish after the stream's end.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(40);

/// What a viewer says who saw two different entries of one place.
const CONTRADICTION: &str = "signed two different entries";

/// A channel with its encoder, which goes on whoever broadcasts.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) live: Live,
    /// Where the broadcaster listens.
    pub(crate) port: u16,
    rate: u64,
    encoder: Arc<Mutex<FakeTs>>,
    sent: Arc<Mutex<Vec<u8>>>,
    /// Those who watch, with their ports.
    pub(crate) viewers: Vec<(Process, u16)>,
}

/// A run of a broadcaster and the thread that feeds it.
pub(crate) struct Run {
    pub(crate) process: Process,
    feeder: JoinHandle<()>,
    stop: Arc<Mutex<bool>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_rate(RATE)
    }

    /// With a random access point every `seconds`.
    pub(crate) fn with_key_every(seconds: u32) -> Self {
        Self { encoder: Arc::new(Mutex::new(FakeTs::new(RATE).key_every(seconds))), ..Self::new() }
    }

    pub(crate) fn with_rate(rate: u64) -> Self {
        let dir = temp_dir();
        let live = btlive::create(dir.path(), &[]);
        let encoder = Arc::new(Mutex::new(FakeTs::new(rate)));
        let (sent, viewers) = Default::default();
        Self { dir, live, port: free_port(), rate, encoder, sent, viewers }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All that the encoder has given so far.
    pub(crate) fn sent(&self) -> Vec<u8> {
        held(&self.sent).clone()
    }

    /// How much the encoder has given so far.
    pub(crate) fn sent_len(&self) -> usize {
        held(&self.sent).len()
    }

    /// What a viewer has written so far.
    pub(crate) fn seen(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(&format!("{name}.ts"))).unwrap_or_default()
    }

    /// Where the state of this stream lies that `name` keeps.
    pub(crate) fn state_of(&self, name: &str) -> PathBuf {
        let below = crate::support::torrent::hex(&self.live.info_hash);
        self.path(&format!("{name}.state")).join(below)
    }

    pub(crate) fn recorder(&self) -> Recorder {
        Recorder::start(self.port, self.live.info_hash, self.live.public_key)
    }

    /// A member before its own arguments, run by the command `under` if one is given.
    pub(crate) fn member(&self, name: &str, role: &str, port: u16, under: &[OsString]) -> Start {
        let start = match under.split_first() {
            Some((program, args)) => {
                Start::new(name, program, self.dir.path()).args(args).arg(btlive::PATH)
            }
            None => btlive::start(None, name, self.dir.path()),
        };
        start
            .arg(role)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(&LOCAL[2..])
            .arg("--state-dir")
            .arg(self.path(&format!("{name}.state")))
    }

    /// Starts a viewer that writes to `NAME.ts`.
    pub(crate) fn view(&mut self, name: &str) {
        self.view_to(name, &self.path(&format!("{name}.ts")), &[]);
    }

    /// Starts a viewer that writes to `output`, run by `under`. It knows the broadcaster and who
    /// came before it.
    pub(crate) fn view_to(&mut self, name: &str, output: &Path, under: &[OsString]) {
        let port = free_port();
        let mut start = self.member(name, "play", port, under);
        for peer in self.viewers.iter().map(|(_, port)| *port).chain([self.port]) {
            start = start.args(["--peer", &format!("127.0.0.1:{peer}")]);
        }
        let start = start.args(["--wait", "60s", "--json", "-v", "--output"]).arg(output);
        self.viewers.push((start.arg(&self.live.torrent).spawn(), port));
    }

    /// A broadcaster that listens on `port`, keeps its state in `NAME.state` and knows the
    /// viewers, as a tracker would tell it.
    pub(crate) fn broadcaster(&self, name: &str, port: u16, under: &[OsString]) -> Start {
        let mut start = self.member(name, "broadcast", port, under);
        for (_, peer) in &self.viewers {
            start = start.args(["--peer", &format!("127.0.0.1:{peer}")]);
        }
        start.args(["--key", &self.live.key])
    }

    /// Starts a broadcaster and feeds it.
    pub(crate) fn run(&self, broadcaster: Start) -> Run {
        let start = broadcaster.args(["--input", "-"]).arg(&self.live.torrent);
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

    /// Starts the usual broadcaster and feeds it.
    pub(crate) fn broadcast(&self) -> Run {
        self.run(self.broadcaster("broadcaster", self.port, &[]))
    }

    /// Fails if a viewer has ended, or says that one place was signed twice.
    #[track_caller]
    pub(crate) fn assert_viewers_run(&mut self) {
        for (viewer, _) in &mut self.viewers {
            let status = viewer.status();
            assert!(status.is_none(), "ended early ({status:?}): {}", viewer.last_words());
            assert!(!viewer.stderr().contains(CONTRADICTION), "{}", viewer.last_words());
        }
    }

    /// Waits until each viewer has written bytes of the stream from behind `mark` on.
    #[track_caller]
    pub(crate) fn wait_for_bytes_behind(&self, mark: usize) {
        // Some way behind it, so that what was under way does not count.
        let from = mark + self.rate as usize / 8;
        for (viewer, _) in &self.viewers {
            let path = self.path(&format!("{}.ts", viewer.name()));
            let arrived = || {
                let output = std::fs::read(&path).ok()?;
                let tail = output.get(output.len().checked_sub(4 * PACKET_LEN)?..)?;
                let sent = held(&self.sent);
                let new = sent.get(from..)?;
                // Not by packets: what a reader skipped may have left it in the middle of one.
                new.windows(tail.len()).any(|w| w == tail).then_some(())
            };
            let start = Instant::now();
            while arrived().is_none() {
                let late = start.elapsed() > HEARD_LIMIT;
                assert!(!late, "no new bytes in {HEARD_LIMIT:?} at {}", viewer.last_words());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Ends the stream and sees everybody out; gives what each viewer told on its way.
    #[track_caller]
    pub(crate) fn finish(&mut self, run: Run) -> Vec<Vec<serde_json::Value>> {
        run.end();
        let mut told = Vec::new();
        for (viewer, _) in &mut self.viewers {
            let status = viewer.wait(END_LIMIT);
            assert_eq!(status.code(), Some(0), "{}", viewer.last_words());
            assert!(!viewer.stderr().contains(CONTRADICTION), "{}", viewer.last_words());
            told.push(documents(viewer));
        }
        told
    }
}

impl Run {
    pub(crate) fn kill(mut self) {
        self.process.kill();
        self.feeder.join().expect("the feeder does not panic");
    }

    /// Waits until it has ended by itself or by what it runs under.
    #[track_caller]
    pub(crate) fn ended(mut self, limit: Duration) -> Process {
        self.process.wait(limit);
        self.feeder.join().expect("the feeder does not panic");
        self.process
    }

    /// Closes the input, which ends the stream.
    #[track_caller]
    pub(crate) fn end(mut self) {
        *held(&self.stop) = true;
        self.feeder.join().expect("the feeder does not panic");
        let status = self.process.wait(END_LIMIT);
        assert_eq!(status.code(), Some(0), "{}", self.process.last_words());
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status documents that a member has printed so far.
pub(crate) fn documents(member: &Process) -> Vec<serde_json::Value> {
    member.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The states that a viewer was in, each once, in the order of their coming.
pub(crate) fn states(told: &[serde_json::Value]) -> Vec<String> {
    let states = told.iter().filter_map(|document| document["state"].as_str());
    let mut states: Vec<String> = states.map(str::to_owned).collect();
    states.dedup();
    states
}

/// The (epoch, head) that a viewer showed over time, where it knew one.
pub(crate) fn heads(told: &[serde_json::Value]) -> Vec<(u64, u64)> {
    let known = |d: &&serde_json::Value| {
        ["/pieces/epoch", "/pieces/head"].iter().all(|at| d.pointer(at).is_some_and(|v| v.is_u64()))
    };
    let pair =
        |d: &serde_json::Value| (number(d, "pieces.epoch") as u64, number(d, "pieces.head") as u64);
    told.iter().filter(known).map(pair).collect()
}

/// Waits until something above `before` is signed.
#[track_caller]
pub(crate) fn wait_for_progress(recorder: &Recorder, before: Option<Seq>) {
    wait_for("a new entry", HEARD_LIMIT, || recorder.head().filter(|head| Some(*head) > before));
}
