//! Measures whole swarms of separate processes on loopback and writes docs/performance.md.
//!
//! `SWARM_CELLS="20/4/2 5/8/none"`: viewers, Mbit/s and copies that the broadcaster may send, of
//! each swarm. `SWARM_SECONDS=30`: how long each is watched. With other values than the usual ones
//! the page is left as it is. Ends with code 1 if a limit is not kept.
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

/// Seconds of birth time that a viewer keeps (the default of `btlive create`).
const WINDOW_S: f64 = 60.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Swarms and seconds of the figures on the page.
const CELLS: &str = "1/4/2 5/4/2 20/4/2 50/4/2 20/2/2 20/8/2 20/4/4 20/4/none";
const SECONDS: &str = "30";

/// The swarm for which all limits are set.
const JUDGED: &str = "20/4/2";

/// A swarm to measure.
struct Cell {
    name: String,
    viewers: usize,
    /// The stream's rate in bit/s.
    rate: u64,
    copies: Option<u64>,
}

impl Cell {
    /// # Panics
    /// If the text is not `viewers/Mbit/s/copies`.
    fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.split('/').collect();
        let [viewers, rate, copies] = parts[..] else {
            panic!("{text}: not viewers/Mbit/s/copies")
        };
        let viewers = viewers.parse().expect("viewers are a number");
        let rate = rate.parse::<u64>().expect("Mbit/s are a number") * 1_000_000;
        let copies = (copies != "none").then(|| copies.parse().expect("copies are a number"));
        Self { name: text.to_owned(), viewers, rate, copies }
    }
}

fn main() -> ExitCode {
    let (cells, seconds) = (setting("SWARM_CELLS", CELLS), setting("SWARM_SECONDS", SECONDS));
    let is_usual = cells == CELLS && seconds == SECONDS;
    let seconds: u32 = seconds.parse().expect("SWARM_SECONDS is a number");
    let mut table = heading(&cells, seconds);
    let mut broken = Vec::new();
    for cell in cells.split_whitespace().map(Cell::parse) {
        let load = load();
        let figures = Figures::of(&run(&cell, seconds), &cell, seconds);
        table += &figures.row(&cell, &load);
        let faults = figures.broken(&cell).into_iter();
        broken.extend(faults.map(|what| format!("{}: {what}", cell.name)));
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

fn run(cell: &Cell, seconds: u32) -> Finished {
    let dir = support::temp_dir();
    let address = format!("127.0.0.1:{}", support::free_port());
    let mut tracker =
        btlive::start(None, "tracker", dir.path()).args(["tracker", "--http", &address]).spawn();
    support::wait_for("tracker", Duration::from_secs(5), || {
        assert!(tracker.status().is_none(), "it ended: {}", tracker.last_words());
        std::net::TcpStream::connect(&address).ok()
    });
    let trackers = [format!("http://{address}/announce")];
    let plan = Plan {
        copies: cell.copies,
        // Four piece times.
        viewer_args: &["--delay", "500ms"],
        keep: false,
        ..Plan::new(&trackers, cell.rate, seconds)
    };
    let mut swarm = Swarm::start(plan, |_| ());
    // The window then holds key frames, as it does for whoever comes to a stream on the air.
    std::thread::sleep(Duration::from_secs(3));
    let magnet = swarm.live.magnet.clone();
    for _ in 0..cell.viewers {
        swarm.join(&magnet);
        std::thread::sleep(Duration::from_millis(100));
    }
    swarm.finish()
}

/// What was measured in one swarm.
struct Figures {
    missed: f64,
    stalls: f64,
    piece_ms: f64,
    block_p50_ms: f64,
    block_p99_ms: f64,
    piece_p50_ms: f64,
    piece_p99_ms: f64,
    start_ms: f64,
    copies: f64,
    from_peers: f64,
    cpu_s: f64,
    source_cpu_s: f64,
    rss_mib: f64,
}

impl Figures {
    fn of(finished: &Finished, cell: &Cell, seconds: u32) -> Self {
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
        let window_bytes = f64::from(seconds).min(WINDOW_S) * cell.rate as f64 / 8.0;
        let source_minutes = number(&finished.broadcaster, "uptime_s") / 60.0;
        Self {
            missed: all("pieces.missed").iter().sum(),
            stalls: all("stalls.count").iter().sum(),
            piece_ms: watched_ms / worst("pieces.verified").max(1.0),
            block_p50_ms: middle("block_lag_ms.p50"),
            block_p99_ms: worst("block_lag_ms.p99"),
            piece_p50_ms: middle("lag_ms.p50"),
            piece_p99_ms: worst("lag_ms.p99"),
            start_ms: worst("startup_ms"),
            copies: number(&finished.broadcaster, "copies_sent"),
            from_peers: finished.share_from_viewers() * 100.0,
            cpu_s: all("cpu_s").iter().sum::<f64>() / minutes,
            source_cpu_s: number(&finished.broadcaster, "cpu_s") / source_minutes,
            rss_mib: (worst("rss_bytes") - window_bytes) / MIB,
        }
    }

    /// What is beyond a limit. Nobody may miss anything; the rest is asked of one swarm.
    fn broken(&self, cell: &Cell) -> Vec<String> {
        let mut limits = vec![
            ("missed pieces", self.missed, 0.0),
            ("start in ms", self.start_ms, 1000.0),
            ("copies sent", self.copies, cell.copies.map_or(4.3, |copies| copies as f64 + 0.3)),
        ];
        if cell.name == JUDGED {
            limits.extend([
                ("stalls", self.stalls, 0.0),
                ("block lag p50 in ms", self.block_p50_ms, 50.0),
                ("block lag p99 in ms", self.block_p99_ms, self.piece_ms + 100.0),
                ("percent from the source", 100.0 - self.from_peers, 12.0),
                ("CPU s in a viewer's minute", self.cpu_s, 0.3),
                ("RSS in MiB less the window", self.rss_mib, 20.0),
            ]);
        }
        let kept = |(_, value, limit): &(&str, f64, f64)| value <= limit;
        let broken = limits.into_iter().filter(|row| !kept(row));
        broken.map(|(what, value, limit)| format!("{what}: {value:.1} over {limit:.1}")).collect()
    }

    fn row(&self, cell: &Cell, load: &str) -> String {
        format!(
            "| {} | {load} | {:.0} | {:.0} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | \
             {:.0} ms | {:.0} ms | {:.2} | {:.0} % | {:.2} s | {:.2} s | {:.0} MiB |\n",
            cell.name,
            self.missed,
            self.stalls,
            self.piece_ms,
            self.block_p50_ms,
            self.block_p99_ms,
            self.piece_p50_ms,
            self.piece_p99_ms,
            self.start_ms,
            self.copies,
            self.from_peers,
            self.cpu_s,
            self.source_cpu_s,
            self.rss_mib
        )
    }
}

fn heading(cells: &str, seconds: u32) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut text = format!(
        "`SWARM_CELLS=\"{cells}\" SWARM_SECONDS={seconds} cargo bench --bench swarm`, {cores} \
         cores.\n\n",
    );
    let columns = "| viewers/Mbit/s/copies | load before | missed | stalls | piece time | \
                   block lag p50 | p99 | piece lag p50 | p99 | start | copies | \
                   from viewers | CPU | of the broadcaster | RSS |";
    let dashes = "| --- ".repeat(columns.matches('|').count() - 1);
    writeln!(text, "{columns}\n{dashes}|").expect("writing to a String");
    text
}
