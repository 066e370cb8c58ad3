//! A live swarm of separate processes on loopback: one broadcaster, viewers, one stream.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use super::btlive::{self, LOCAL, Live, number};
use super::namespace::Namespace;
use super::process::Process;
use super::stream::{self, FakeTs, contiguous_part};

/// The stream's rate in bit/s.
pub(crate) const RATE: u64 = 2_000_000;

/// How long after the stream's end everybody may take to finish.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A broadcaster that is being fed, and its viewers.
pub(crate) struct Swarm<'a> {
    /// The torrent.
    pub(crate) live: Live,
    /// What goes into the broadcaster.
    pub(crate) stream: Vec<u8>,
    /// The viewers, in the order in which they joined.
    pub(crate) viewers: Vec<Viewer>,
    namespace: Option<&'a Namespace>,
    broadcaster: Process,
    feeder: JoinHandle<()>,
    dir: tempfile::TempDir,
}

/// A viewer that writes to a file.
pub(crate) struct Viewer {
    process: Process,
    output: PathBuf,
    report: PathBuf,
}

impl<'a> Swarm<'a> {
    /// Starts to broadcast `seconds` of a made-up stream, uploading at most about two copies.
    /// `before` is told the torrent before anybody uses it.
    ///
    /// # Panics
    /// If the torrent cannot be made or the broadcaster not started.
    #[track_caller]
    pub(crate) fn start(
        trackers: &[String],
        namespace: Option<&'a Namespace>,
        seconds: u32,
        before: impl FnOnce(&Live),
    ) -> Self {
        let dir = super::temp_dir();
        let live = btlive::create(dir.path(), trackers);
        before(&live);
        let stream = FakeTs::seconds(RATE, seconds);
        let mut broadcaster = member(namespace, dir.path(), "broadcaster")
            .args(["--upload-limit", "4.4M", "--input", "-", "--on-eof", "end"])
            .args(["--key", &live.key])
            .with_stdin();
        broadcaster = broadcaster.arg(&live.torrent);
        let mut broadcaster = broadcaster.spawn();
        let feeder = stream::feed(stream.clone(), RATE, broadcaster.take_stdin());
        Self { live, stream, viewers: Vec::new(), namespace, broadcaster, feeder, dir }
    }

    /// Lets a viewer join that is given `source`: the torrent's path or a magnet link.
    pub(crate) fn join(&mut self, source: &str) {
        let name = format!("viewer{}", self.viewers.len() + 1);
        let output = self.dir.path().join(format!("{name}.ts"));
        let process = member(self.namespace, self.dir.path(), &name)
            .arg("--output")
            .arg(&output)
            .arg(source)
            .spawn();
        let report = report_path(self.dir.path(), &name);
        self.viewers.push(Viewer { process, output, report });
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
        let viewers = self.viewers.iter_mut().map(|viewer| &mut viewer.process);
        for process in viewers.chain([&mut self.broadcaster]) {
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
        let limit = Duration::from_secs(self.stream.len() as u64 * 8 / RATE) + END_LIMIT;
        let viewers = self.viewers.iter_mut().map(|viewer| &mut viewer.process);
        for process in viewers.chain([&mut self.broadcaster]) {
            let status = process.wait(limit);
            assert_eq!(status.code(), Some(0), "{status}: {}", process.last_words());
        }
        self.feeder.join().expect("the feeder does not panic");
        let viewed = self.viewers.iter().map(|viewer| {
            let output = std::fs::read(&viewer.output).unwrap_or_default();
            Viewed { output, report: btlive::report(&viewer.report) }
        });
        Finished { viewers: viewed.collect(), stream: self.stream }
    }
}

fn report_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

/// A member of the swarm before its own arguments: the role is told by the name.
fn member(namespace: Option<&Namespace>, dir: &Path, name: &str) -> super::process::Start {
    let role = if name == "broadcaster" { "broadcast" } else { "play" };
    btlive::start(namespace, name, dir)
        .arg(role)
        .args(LOCAL)
        .arg("--state-dir")
        .arg(dir.join(format!("{name}.state")))
        .arg("--report")
        .arg(report_path(dir, name))
}

/// What is left of a swarm.
pub(crate) struct Finished {
    /// What went into the broadcaster.
    pub(crate) stream: Vec<u8>,
    /// The viewers, in the order in which they joined.
    pub(crate) viewers: Vec<Viewed>,
}

/// What is left of a viewer.
pub(crate) struct Viewed {
    /// What it wrote.
    pub(crate) output: Vec<u8>,
    /// Its last status document.
    pub(crate) report: serde_json::Value,
}

impl Finished {
    /// Fails unless each viewer wrote one contiguous part of the stream up to its end; gives where
    /// each began, as a fraction of the stream.
    #[track_caller]
    pub(crate) fn assert_contiguous_to_the_end(&self) -> Vec<f64> {
        let whole = &self.stream;
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
