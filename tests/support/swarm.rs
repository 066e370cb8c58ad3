//! A live swarm of separate processes on loopback: one broadcaster, viewers, one stream.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::btlive::{self, LOCAL, Live, number};
use super::namespace::Namespace;
use super::process::Process;
use super::stream::{self, FakeTs, contiguous_part};

/// How long after the stream's end everybody may take to finish.
const END_LIMIT: Duration = Duration::from_secs(30);

/// What swarm to make.
pub(crate) struct Plan<'a> {
    /// The announce URLs that the torrent names.
    pub(crate) trackers: &'a [String],
    /// Where all of its processes run; none is this machine's own network.
    pub(crate) namespace: Option<&'a Namespace>,
    /// The stream's rate in bit/s.
    pub(crate) rate: u64,
    /// Copies of the stream that the broadcaster may send; `None`: nobody says.
    pub(crate) copies: Option<u64>,
    /// What viewers are told besides.
    pub(crate) viewer_args: &'a [&'a str],
    /// How long the stream is.
    pub(crate) seconds: u32,
    /// Whether everybody listens on the IPv6 loopback address instead of the IPv4 one.
    pub(crate) v6: bool,
    /// Whether viewers write what they get to files that can be looked at afterwards.
    pub(crate) keep: bool,
}

impl<'a> Plan<'a> {
    /// On this machine's own network, over IPv4, with two copies from the broadcaster; what viewers
    /// get is kept.
    pub(crate) fn new(trackers: &'a [String], rate: u64, seconds: u32) -> Self {
        let (namespace, copies, viewer_args) = (None, Some(2), &[][..]);
        Self { trackers, namespace, rate, copies, viewer_args, seconds, v6: false, keep: true }
    }
}

/// A broadcaster that is being fed, and its viewers.
pub(crate) struct Swarm<'a> {
    /// The torrent.
    pub(crate) live: Live,
    plan: Plan<'a>,
    broadcaster: Process,
    viewers: Vec<Process>,
    began: Instant,
    joined: Vec<Duration>,
    feeder: JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl<'a> Swarm<'a> {
    /// Makes a torrent, tells `before` of it before anybody uses it, and begins to broadcast a
    /// made-up stream.
    ///
    /// # Panics
    /// If the torrent cannot be made or the broadcaster not started.
    #[track_caller]
    pub(crate) fn start(plan: Plan<'a>, before: impl FnOnce(&Live)) -> Self {
        let dir = super::temp_dir();
        let live = btlive::create_for(dir.path(), plan.trackers, plan.rate);
        before(&live);
        let limit = plan.copies.map(|copies| format!("--upload-limit={}", plan.rate * copies));
        let mut broadcaster = member(&plan, dir.path(), "broadcaster")
            .args(limit)
            .args(["--input", "-", "--on-eof", "end"])
            .args(["--key", &live.key, &live.torrent])
            .with_stdin()
            .spawn();
        let frames = FakeTs::frames(plan.rate, plan.seconds);
        let feeder = stream::feed(frames, broadcaster.take_stdin());
        let (began, viewers, joined) = (Instant::now(), Vec::new(), Vec::new());
        Self { live, plan, broadcaster, viewers, began, joined, feeder, dir }
    }

    /// Lets a viewer join that is given `source`: the torrent's path or a magnet link.
    pub(crate) fn join(&mut self, source: &str) {
        let name = viewer_name(self.viewers.len());
        let output = if self.plan.keep {
            output_path(self.dir.path(), &name)
        } else {
            PathBuf::from("/dev/null")
        };
        let viewer = member(&self.plan, self.dir.path(), &name)
            .args(self.plan.viewer_args)
            .arg("--output")
            .arg(output)
            .arg(source)
            .spawn();
        self.viewers.push(viewer);
        self.joined.push(self.began.elapsed());
    }

    /// Lets viewers join by the torrent and by the magnet link, in turn.
    pub(crate) fn join_many(&mut self, count: usize) {
        for _ in 0..count {
            let by_torrent = self.viewers.len().is_multiple_of(2);
            let live = &self.live;
            let source = if by_torrent { live.torrent.clone() } else { live.magnet.clone() };
            self.join(&source);
        }
    }

    /// Fails if anybody has ended.
    #[track_caller]
    pub(crate) fn assert_all_run(&mut self) {
        for process in self.viewers.iter_mut().chain([&mut self.broadcaster]) {
            let status = process.status();
            assert!(status.is_none(), "ended early ({status:?}): {}", process.last_words());
        }
    }

    /// Waits for the end of the stream and of all processes.
    ///
    /// # Panics
    /// If one does not end with code 0.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let limit = Duration::from_secs(self.plan.seconds.into()) + END_LIMIT;
        for process in self.viewers.iter_mut().chain([&mut self.broadcaster]) {
            let status = process.wait(limit);
            assert_eq!(status.code(), Some(0), "{status}: {}", process.last_words());
        }
        self.feeder.join().expect("the feeder does not panic");
        let dir = self.dir.path();
        let viewed = (0..self.viewers.len()).map(viewer_name).map(|name| Viewed {
            output: std::fs::read(output_path(dir, &name)).unwrap_or_default(),
            report: btlive::report(&report_path(dir, &name)),
        });
        Finished {
            viewers: viewed.collect(),
            broadcaster: btlive::report(&report_path(dir, "broadcaster")),
            joined: self.joined.clone(),
            rate: self.plan.rate,
            seconds: self.plan.seconds,
        }
    }
}

fn viewer_name(number: usize) -> String {
    format!("viewer{}", number + 1)
}

fn output_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.ts"))
}

fn report_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// A member of the swarm before its own arguments: the role is told by the name.
fn member(plan: &Plan<'_>, dir: &Path, name: &str) -> super::process::Start {
    let role = if name == "broadcaster" { "broadcast" } else { "play" };
    btlive::start(plan.namespace, name, dir)
        .arg(role)
        .args(["--listen", if plan.v6 { "[::1]:0" } else { LOCAL[1] }])
        .args(&LOCAL[2..])
        .arg("--state-dir")
        .arg(dir.join(format!("{name}.state")))
        .arg("--report")
        .arg(report_path(dir, name))
}

/// What is left of a swarm.
pub(crate) struct Finished {
    /// The viewers, in the order in which they joined.
    pub(crate) viewers: Vec<Viewed>,
    /// The broadcaster's last status document.
    pub(crate) broadcaster: serde_json::Value,
    joined: Vec<Duration>,
    rate: u64,
    seconds: u32,
}

/// What is left of a viewer.
pub(crate) struct Viewed {
    /// What it wrote, if that was kept.
    pub(crate) output: Vec<u8>,
    /// Its last status document.
    pub(crate) report: serde_json::Value,
}

impl Finished {
    /// Fails unless each viewer began near what was live when it joined: a few seconds for the
    /// delay and the distance of key frames before it, and for getting there behind it.
    #[track_caller]
    pub(crate) fn assert_begun_when_joined(&self, begins: &[f64]) {
        for (begin, joined) in begins.iter().zip(&self.joined) {
            let (begin_s, joined_s) = (begin * f64::from(self.seconds), joined.as_secs_f64());
            let near = (joined_s - 6.0..joined_s + 6.0).contains(&begin_s);
            assert!(near, "joined at {joined_s:.1} s, began at {begin_s:.1} s");
        }
    }

    /// Fails unless each viewer wrote one contiguous part of the stream up to its end; gives where
    /// each began, as a fraction of the stream.
    #[track_caller]
    pub(crate) fn assert_contiguous_to_the_end(&self) -> Vec<f64> {
        let whole = &FakeTs::seconds(self.rate, self.seconds);
        let begin = |(viewer, n): (&Viewed, usize)| {
            let told = &viewer.report;
            let at = contiguous_part(whole, &viewer.output)
                .unwrap_or_else(|fault| panic!("viewer {n}: {fault}\n{told}"));
            let missing = whole.len() - at - viewer.output.len();
            assert_eq!(missing, 0, "viewer {n} lacks so many bytes at the end\n{told}");
            at as f64 / whole.len() as f64
        };
        self.viewers.iter().zip(1..).map(begin).collect()
    }

    /// The part of all viewers' payload that came from other viewers.
    #[track_caller]
    pub(crate) fn share_from_viewers(&self) -> f64 {
        let sum = |path| self.viewers.iter().map(|v| number(&v.report, path)).sum::<f64>();
        let from_peers = sum("bytes.from_peers");
        from_peers / (from_peers + sum("bytes.from_source"))
    }
}
