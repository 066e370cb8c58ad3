//! Measures whole swarms of separate processes on loopback and writes docs/performance.md.
//!
//! `SWARM_VIEWERS="5 20"` names the sizes, `SWARM_SECONDS=30` how long each is watched; with other
//! values than these the page is left as it is. Ends with code 1 if a limit is not kept.
#![allow(clippy::disallowed_methods, reason = "a measurement lives in real time")]

#[path = "../tests/support/page.rs"]
mod page;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use support::btlive::{self, number};
use support::swarm::{Finished, Plan, Swarm};

/// The stream's rate in bit/s.
const RATE: u64 = 4_000_000;

/// Seconds of birth time that a viewer keeps (the default of `btlive create`).
const WINDOW_S: f64 = 60.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Sizes and seconds of the figures on the page.
const VIEWERS: &str = "5 20";
const SECONDS: &str = "30";

fn main() -> ExitCode {
    let (viewers, seconds) = (setting("SWARM_VIEWERS", VIEWERS), setting("SWARM_SECONDS", SECONDS));
    let is_usual = viewers == VIEWERS && seconds == SECONDS;
    let seconds: u32 = seconds.parse().expect("SWARM_SECONDS is a number");
    let mut table = heading(&viewers, seconds);
    let mut broken = Vec::new();
    for count in viewers.split_whitespace() {
        let count: usize = count.parse().expect("SWARM_VIEWERS are numbers");
        let load = load();
        let figures = Figures::of(&run(count, seconds), seconds);
        table += &figures.row(count, &load);
        broken.extend(figures.broken().into_iter().map(|what| format!("{count} viewers: {what}")));
    }
    print!("{table}");
    if is_usual {
        page::write("swarm", &table);
    } else {
        eprintln!("docs/performance.md is left as it is: its figures are of the usual settings");
    }
    for fault in &broken {
        eprintln!("limit not kept: {fault}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// One-minute load average of the machine.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

fn run(viewers: usize, seconds: u32) -> Finished {
    let dir = support::temp_dir();
    let address = format!("127.0.0.1:{}", support::free_port());
    let mut tracker =
        btlive::start(None, "tracker", dir.path()).args(["tracker", "--http", &address]).spawn();
    support::wait_for("tracker", Duration::from_secs(5), || {
        assert!(tracker.status().is_none(), "it ended: {}", tracker.last_words());
        std::net::TcpStream::connect(&address).ok()
    });
    let trackers = [format!("http://{address}/announce")];
    let plan =
        Plan { trackers: &trackers, namespace: None, rate: RATE, seconds, v6: false, keep: false };
    let mut swarm = Swarm::start(plan, |_| ());
    // The window then holds key frames, as it does for whoever comes to a stream on the air.
    std::thread::sleep(Duration::from_secs(3));
    let magnet = swarm.live.magnet.clone();
    for _ in 0..viewers {
        swarm.join(&magnet);
        std::thread::sleep(Duration::from_millis(100));
    }
    swarm.finish()
}

/// What was measured in one swarm.
struct Figures {
    missed: f64,
    piece_ms: f64,
    lag_p50_ms: f64,
    lag_p99_ms: f64,
    start_ms: f64,
    copies: f64,
    cpu_s: f64,
    rss_mib: f64,
}

impl Figures {
    fn of(finished: &Finished, seconds: u32) -> Self {
        let all = |path: &str| -> Vec<f64> {
            let mut values: Vec<f64> =
                finished.viewers.iter().map(|v| number(&v.report, path)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let worst = |path| all(path).last().copied().unwrap_or(f64::NAN);
        let middle = |path| all(path).get(finished.viewers.len() / 2).copied().unwrap_or(f64::NAN);
        let minutes = all("uptime_s").iter().sum::<f64>() / 60.0;
        // The viewers were there for the stream less the three seconds before they came.
        let watched_ms = f64::from(seconds.saturating_sub(3)) * 1000.0;
        let window_bytes = f64::from(seconds).min(WINDOW_S) * RATE as f64 / 8.0;
        Self {
            missed: all("pieces.missed").iter().sum(),
            piece_ms: watched_ms / worst("pieces.verified").max(1.0),
            lag_p50_ms: middle("lag_ms.p50"),
            lag_p99_ms: worst("lag_ms.p99"),
            start_ms: worst("startup_ms"),
            copies: number(&finished.broadcaster, "copies_sent"),
            cpu_s: all("cpu_s").iter().sum::<f64>() / minutes,
            rss_mib: (worst("rss_bytes") - window_bytes) / MIB,
        }
    }

    fn broken(&self) -> Vec<String> {
        let limits = [
            ("missed pieces", self.missed, 0.0),
            ("lag p50 in ms", self.lag_p50_ms, 2.0 * self.piece_ms),
            ("lag p99 in ms", self.lag_p99_ms, 1000.0),
            ("start in ms", self.start_ms, 1000.0),
            ("copies sent", self.copies, 2.3),
            ("CPU s in a viewer's minute", self.cpu_s, 0.6),
            ("RSS in MiB less the window", self.rss_mib, 30.0),
        ];
        let kept = |(_, value, limit): &(&str, f64, f64)| value <= limit;
        let broken = limits.into_iter().filter(|row| !kept(row));
        broken.map(|(what, value, limit)| format!("{what}: {value:.1} over {limit:.1}")).collect()
    }

    fn row(&self, viewers: usize, load: &str) -> String {
        format!(
            "| {viewers} | {load} | {:.0} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.2} | \
             {:.2} s | {:.0} MiB |\n",
            self.missed,
            self.piece_ms,
            self.lag_p50_ms,
            self.lag_p99_ms,
            self.start_ms,
            self.copies,
            self.cpu_s,
            self.rss_mib
        )
    }
}

fn heading(viewers: &str, seconds: u32) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut text = format!(
        "`SWARM_VIEWERS=\"{viewers}\" SWARM_SECONDS={seconds} cargo bench --bench swarm`, \
         {} Mbit/s, {cores} cores.\n\n",
        RATE / 1_000_000
    );
    let columns = "| viewers | load before | missed | piece time | lag p50 | lag p99 | start | \
                   copies | CPU | RSS |";
    let dashes = "| --- ".repeat(columns.matches('|').count() - 1);
    writeln!(text, "{columns}\n{dashes}|").expect("writing to a String");
    text
}
