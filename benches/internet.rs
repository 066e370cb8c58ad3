//! Measures swarms of separate processes on a small internet with delays, upload classes and loss,
//! beside the same swarm in the simulator, and writes docs/performance.md. Needs root.
//!
//! `INTERNET_SECONDS=60`: how long the stream is. `INTERNET_ONLY=loss`: only nets with this in
//! their name; the page is left as it is then. Ends with code 1 if a limit is not kept.
#![allow(clippy::disallowed_methods, reason = "a measurement lives in real time")]

#[path = "../tests/support/page.rs"]
mod page;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::btlive::{self, LOCAL, number};
use support::namespace::Namespace;
use support::process::Process;
use support::stream::{self, FakeTs};

/// The stream's rate in bit/s.
const RATE: u64 = 4_000_000;
/// What a line carries, and who is on it says it may be used for, over what it is to carry of the
/// stream: the heads of packets are part of it.
const HEADS: f64 = 1.06;
/// A line that uploads nothing still acknowledges what comes.
const LEAST_BPS: f64 = 240_000.0;
/// Viewers join so long one after the other.
const JOIN_MS: u64 = 200;
/// The simulator may be wrong by this part.
const AGREES: f64 = 0.25;

/// A net and who is on it.
struct Net {
    name: &'static str,
    /// Upload of each viewer, in multiples of the stream's rate.
    uploads: Vec<f64>,
    copies: u64,
    delay_s: u32,
    loss: f64,
    /// The scenario that plays the same swarm.
    twin: Option<&'static str>,
}

fn nets() -> Vec<Net> {
    // Two upload nothing, four half of the rate, four 1.5 times and two 3.5 times, as they come.
    let mixed = [1.5, 0.5, 3.5, 0.0, 0.5, 1.5, 1.5, 0.0, 0.5, 3.5, 1.5, 0.5];
    vec![
        Net {
            name: "12 viewers, mixed, 1 % loss",
            uploads: mixed.to_vec(),
            copies: 4,
            delay_s: 3,
            loss: 0.01,
            twin: None,
        },
        Net {
            name: "20 viewers, r = 1.3, cap 2",
            uploads: vec![1.3; 20],
            copies: 2,
            delay_s: 2,
            loss: 0.0,
            twin: Some("tests/rows/01-tight-20.toml"),
        },
    ]
}

fn main() -> ExitCode {
    let only = std::env::var("INTERNET_ONLY").unwrap_or_default();
    let seconds = std::env::var("INTERNET_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let seconds: u32 = seconds.parse().expect("INTERNET_SECONDS is a number");
    let mut table = heading(seconds);
    let mut broken = Vec::new();
    for net in nets().into_iter().filter(|net| net.name.contains(&only)) {
        let figures = Figures::of(&run(&net, seconds));
        table += &figures.row(net.name);
        if figures.missed > 0.0 {
            broken.push(format!("{}: {} pieces missed", net.name, figures.missed));
        }
        let Some(twin) = net.twin else { continue };
        let simulated = Figures::simulated(twin);
        table += &simulated.row("the same in the simulator");
        let pairs = [
            ("lag p50", figures.lag_p50_ms, simulated.lag_p50_ms),
            ("copies", figures.copies, simulated.copies),
        ];
        for (what, real, simulated) in pairs {
            if (simulated / real - 1.0).abs() > AGREES {
                broken.push(format!("{}: {what} {real:.2}, simulated {simulated:.2}", net.name));
            }
        }
    }
    print!("{table}");
    if only.is_empty() && seconds == 60 {
        page::write("internet", &table);
    } else {
        eprintln!("docs/performance.md is left as it is: its figures are of the usual settings");
    }
    for fault in &broken {
        eprintln!("limit not kept: {fault}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The line of one who uploads `times` the stream, in bit/s.
fn line_bps(times: f64) -> f64 {
    (times * RATE as f64 * HEADS).max(LEAST_BPS)
}

/// The process that carries the packets. It removes the hosts when its standard input ends, which
/// happens even if we are killed.
struct Internet {
    relay: Child,
    hosts: Vec<Namespace>,
}

impl Internet {
    fn new(net: &Net) -> Self {
        let prefix = format!("btl{}i", std::process::id());
        let lines = std::iter::once(net.copies as f64).chain(net.uploads.iter().copied());
        let up: Vec<String> = lines.map(|times| format!("{:.3}", line_bps(times) / 1e6)).collect();
        let script = page::root().join("tests/support/internet.py");
        let mut relay = Command::new("python3")
            .arg(script)
            .args(["--prefix", &prefix, "--up", &up.join(","), "--loss", &net.loss.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let out = relay.stdout.as_mut().expect("its output is ours");
        BufReader::new(out).read_line(&mut line).expect("its first line");
        assert!(line.contains("hosts"), "the net did not come up; it needs root");
        let hosts = (1..=up.len()).map(|n| Namespace::of_other(format!("{prefix}{n}"))).collect();
        Self { relay, hosts }
    }

    /// The address of a host, counted from 0.
    fn address(host: usize) -> String {
        format!("10.97.0.{}", host + 1)
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        drop(self.relay.stdin.take());
        // What it carried, lost and had no room for.
        let mut counts = String::new();
        match self.relay.stdout.take().map(|mut out| out.read_to_string(&mut counts)) {
            Some(Ok(_)) => eprintln!("the net: {}", counts.trim()),
            _ => eprintln!("the net did not say what it carried"),
        }
        let _ = self.relay.wait();
    }
}

/// What everybody reported at the end: the broadcaster, and the viewers.
struct Reports(Value, Vec<Value>);

fn run(net: &Net, seconds: u32) -> Reports {
    let dir = support::temp_dir();
    let internet = Internet::new(net);
    let address = format!("{}:6969", Internet::address(0));
    let mut tracker = btlive::start(internet.hosts.first(), "tracker", dir.path())
        .args(["tracker", "--http", &address])
        .spawn();
    let live = btlive::create_for(dir.path(), &[format!("http://{address}/announce")], RATE);
    let mut broadcaster = member(&internet, 0, dir.path(), "broadcast")
        .arg(format!("--upload-limit={:.0}", line_bps(net.copies as f64)))
        .args(["--input", "-", "--on-eof", "end", "--key", &live.key, &live.torrent])
        .with_stdin()
        .spawn();
    let frames = FakeTs::frames(RATE, seconds);
    let feeder = stream::feed(frames, broadcaster.take_stdin());
    std::thread::sleep(Duration::from_secs(3));
    let mut viewers: Vec<Process> = Vec::new();
    for (host, times) in (1..).zip(&net.uploads) {
        // Half of the least line is enough for what must be said.
        let limit = if *times > 0.0 { line_bps(*times) } else { LEAST_BPS / 2.0 };
        let viewer = member(&internet, host, dir.path(), "play")
            .arg(format!("--upload-limit={limit:.0}"))
            .arg(format!("--delay={}s", net.delay_s))
            .args(["--output", "/dev/null", &live.magnet])
            .spawn();
        viewers.push(viewer);
        std::thread::sleep(Duration::from_millis(JOIN_MS));
    }
    let limit = Duration::from_secs(u64::from(seconds) + 40);
    for process in viewers.iter_mut().chain([&mut broadcaster]) {
        let status = process.wait(limit);
        assert_eq!(status.code(), Some(0), "{status}: {}", process.last_words());
    }
    assert!(tracker.status().is_none(), "it ended: {}", tracker.last_words());
    feeder.join().expect("the feeder does not panic");
    let report = |host: usize| btlive::report(&dir.path().join(format!("host{host}.json")));
    Reports(report(0), (1..=net.uploads.len()).map(report).collect())
}

fn member(internet: &Internet, host: usize, dir: &Path, role: &str) -> support::process::Start {
    let name = format!("host{host}");
    btlive::start(internet.hosts.get(host), &name, dir)
        .arg(role)
        .arg(format!("--listen={}:6881", Internet::address(host)))
        .args(&LOCAL[2..])
        .arg("--state-dir")
        .arg(dir.join(format!("{name}.state")))
        .arg("--report")
        .arg(dir.join(format!("{name}.json")))
}

/// What was measured in one swarm.
struct Figures {
    missed: f64,
    stalls: f64,
    continuity: f64,
    lag_p50_ms: f64,
    lag_p99_ms: f64,
    start_p50_ms: f64,
    start_ms: f64,
    copies: f64,
    from_peers: f64,
}

impl Figures {
    fn of(Reports(broadcaster, viewers): &Reports) -> Self {
        let all = |path: &str| -> Vec<f64> {
            let mut values: Vec<f64> = viewers.iter().map(|v| number(v, path)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let sum = |path| all(path).iter().sum::<f64>();
        let middle = |path| all(path).get(viewers.len() / 2).copied().unwrap_or(f64::NAN);
        let worst = |path| all(path).last().copied().unwrap_or(f64::NAN);
        let (missed, verified) = (sum("pieces.missed"), sum("pieces.verified"));
        let (from_peers, from_source) = (sum("bytes.from_peers"), sum("bytes.from_source"));
        Self {
            missed,
            stalls: sum("stalls.count"),
            continuity: 1.0 - missed / (missed + verified),
            lag_p50_ms: middle("block_lag_ms.p50"),
            lag_p99_ms: worst("block_lag_ms.p99"),
            start_p50_ms: middle("startup_ms"),
            start_ms: worst("startup_ms"),
            copies: number(broadcaster, "copies_sent"),
            from_peers: from_peers / (from_peers + from_source) * 100.0,
        }
    }

    /// The same of a scenario, from the simulator's report.
    fn simulated(file: &str) -> Self {
        let path = page::root().join(file);
        let path = path.to_str().expect("a path in UTF-8");
        let ended = btlive::run(["sim", path, "--seed", "1", "--json"]);
        let report = ended.json().pop().expect("one JSON document");
        let get = |path| number(&report, path);
        Self {
            missed: f64::NAN,
            stalls: f64::NAN,
            continuity: get("continuity"),
            lag_p50_ms: get("block_lag_ms.p50"),
            lag_p99_ms: get("block_lag_ms.p99"),
            start_p50_ms: get("startup_ms.p50"),
            start_ms: get("startup_ms.p99"),
            copies: get("source_copies"),
            from_peers: f64::NAN,
        }
    }

    fn row(&self, name: &str) -> String {
        let known = |value: f64, unit: &str| {
            if value.is_nan() { String::new() } else { format!("{value:.0}{unit}") }
        };
        format!(
            "| {name} | {} | {} | {:.5} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.2} | {} \
             |\n",
            known(self.missed, ""),
            known(self.stalls, ""),
            self.continuity,
            self.lag_p50_ms,
            self.lag_p99_ms,
            self.start_p50_ms,
            self.start_ms,
            self.copies,
            known(self.from_peers, " %"),
        )
    }
}

fn heading(seconds: u32) -> String {
    let columns = "| net | missed | stalls | continuity | block lag p50 | p99 | start p50 \
                   | worst | copies | from viewers |";
    let dashes = "| --- ".repeat(columns.matches('|').count() - 1);
    format!("`INTERNET_SECONDS={seconds} cargo bench --bench internet`.\n\n{columns}\n{dashes}|\n")
}
