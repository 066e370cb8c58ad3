//! `btlive sim`: plays a scenario on the simulated network and says how it went.

#![allow(clippy::disallowed_methods)] // Only a command may look at the clock.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::args::{Rate, Span};
use super::exit::{Code, Failure};
use super::file;
use crate::sim::machines::Swarms;
use crate::sim::report::{AudienceSeen, GroupReport, Percentiles, Report, Stalls, Startup};
use crate::sim::scenario::{Scenario, Uploads};
use crate::sim::world::World;

/// Longest scenario file.
const FILE_LEN_MAX: usize = 1 << 20;

/// What to simulate. Flags change what the file says, or the steady swarm they stand for.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Scenario file (TOML); without one, a steady swarm
    pub scenario: Option<PathBuf>,
    /// Viewers at the start
    #[arg(long, value_name = "N")]
    pub viewers: Option<u32>,
    /// What everything random follows from
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Rate of the stream, such as 4M
    #[arg(long, value_name = "RATE")]
    pub bitrate: Option<Rate>,
    /// Mean upload of the viewers in multiples of the bit rate
    #[arg(long, value_name = "R")]
    pub resource_index: Option<f64>,
    /// How upload is spread over the viewers
    #[arg(long, value_enum)]
    pub uploads: Option<UploadsArg>,
    /// Upload of the broadcaster in multiples of the bit rate
    #[arg(long, value_name = "COPIES")]
    pub source_copies: Option<f64>,
    /// How long to measure, such as 60s
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Span>,
    /// How long to wait before that
    #[arg(long, value_name = "TIME")]
    pub warm_up: Option<Span>,
    /// Target delay of the viewers, such as 3s
    #[arg(long, value_name = "TIME")]
    pub delay: Option<Span>,
    /// Print the report as one line of JSON
    #[arg(long, env = "BTLIVE_JSON")]
    pub json: bool,
}

/// How upload is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum UploadsArg {
    /// Everybody the same
    Equal,
    /// 20 % nothing, 30 % 0.5 times the rate, 30 % 1.5 times, 20 % 3.5 times, scaled to the index
    Mixed,
}

/// Plays the scenario and prints the report.
///
/// # Errors
/// Code 2 for a scenario that is not there or cannot be run, code 5 for a file that cannot be read,
/// code 1 if something happened that must not, or if the run misses what the scenario expects.
pub fn run(args: Args) -> Result<(), Failure> {
    let scenario = args.scenario()?;
    let started = Instant::now();
    let world = World::new(scenario.clone(), Swarms::new(&scenario));
    let mut report =
        world.run().map_err(|e| Failure::new(Code::Unexpected, format_args!("violated at {e}")))?;
    report.wall_s = started.elapsed().as_secs_f64();
    report.events_per_s = report.events as f64 / report.wall_s.max(1e-9);
    report.peak_rss_bytes = peak_rss_bytes();
    let judged = Judged {
        missed: report.missed(&scenario),
        aims_missed: report.aims_missed(&scenario),
        report,
    };
    let text = if args.json {
        serde_json::to_string(&judged)
            .map_err(|e| Failure::new(Code::Unexpected, format_args!("report: {e}")))?
    } else {
        table(&judged)
    };
    file::to_stdout(|out| writeln!(out, "{text}"))?;
    if judged.missed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Unexpected, judged.missed.join("; ")))
}

/// A report and what it does not reach.
#[derive(Debug, serde::Serialize)]
struct Judged {
    #[serde(flatten)]
    report: Report,
    /// What the scenario expects: the run has failed.
    missed: Vec<String>,
    /// What it aims at.
    aims_missed: Vec<String>,
}

impl Args {
    fn scenario(&self) -> Result<Scenario, Failure> {
        let mut scenario = match &self.scenario {
            Some(path) => read(path)?,
            None => Scenario::default(),
        };
        let seconds = |span: &Span| span.0.as_secs_f64();
        let set = |value: &mut f64, flag: Option<f64>| *value = flag.unwrap_or(*value);
        set(&mut scenario.resource_index, self.resource_index);
        set(&mut scenario.source_copies, self.source_copies);
        set(&mut scenario.duration_s, self.duration.as_ref().map(seconds));
        set(&mut scenario.warm_up_s, self.warm_up.as_ref().map(seconds));
        scenario.viewers = self.viewers.unwrap_or(scenario.viewers);
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.bitrate = self.bitrate.map_or(scenario.bitrate, |rate| rate.0);
        if let Some(delay) = self.delay {
            scenario.delay_ms = u64::try_from(delay.0.as_millis()).unwrap_or(u64::MAX);
        }
        scenario.uploads = match self.uploads {
            Some(UploadsArg::Equal) => Uploads::Equal,
            Some(UploadsArg::Mixed) => Uploads::Mixed,
            None => scenario.uploads,
        };
        scenario.check().map_err(Failure::usage)?;
        Ok(scenario)
    }
}

fn read(path: &Path) -> Result<Scenario, Failure> {
    let text = file::read_text(path, FILE_LEN_MAX)?;
    let mut scenario = Scenario::parse(&text)
        .map_err(|e| Failure::usage(format_args!("{}: {e}", path.display())))?;
    if scenario.name.is_empty() {
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    }
    Ok(scenario)
}

/// Most memory this process has had, as the kernel tells it; 0 where it does not.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn table(judged: &Judged) -> String {
    let report = &judged.report;
    let times = |reference: f64, p: &Percentiles| {
        let (p50, p99) = (p.p50 / reference, p.p99 / reference);
        format!("{}  ({p50:.2} x / {p99:.2} x of {reference:.0})", spread(p))
    };
    let mut rows = vec![
        ("scenario", format!("{}, seed {}", report.scenario, report.seed)),
        ("swarm", swarm(report)),
        ("block lag", times(report.lag_ref_ms, &report.block_lag_ms)),
        ("piece lag", times(report.lag_ref_ms, &report.lag_ms)),
        ("start-up", startup(&report.startup_ms)),
        ("continuity", format!("{:.5}", report.continuity)),
    ];
    if report.classes.len() > 1 {
        let classes = report.classes.iter();
        let parts: Vec<String> =
            classes.map(|c| format!("{} x: {:.5}", c.times, c.continuity)).collect();
        rows.push(("  by upload", parts.join("   ")));
    }
    rows.extend(report.groups.iter().map(|of| (of.group.name(), group(of))));
    rows.push(("reader gap", spread(&report.reader_gap_ms)));
    if let Some(recovery) = &report.recovery {
        rows.push(("feed again", spread(&recovery.feed_again_ms)));
        rows.push(("in time again", spread(&recovery.on_time_again_ms)));
    }
    let epochs = &report.epochs;
    rows.push(("epochs", format!("{} begun, {} at the end", epochs.begun, epochs.at_end)));
    rows.push(("stalls", stalls(&report.stalls)));
    rows.push(("r seen", index_seen(report)));
    if let Some(seen) = &report.audience {
        rows.push(("viewers seen", audience(seen)));
    }
    rows.push(("source", format!("{:.2} copies", report.source_copies)));
    rows.push(("payload", format!("{:.3} sent for each byte verified", report.payload_ratio)));
    rows.push(("overhead", format!("{:.2} % of payload", report.overhead_ratio * 100.0)));
    rows.push(("faults", report.faults.to_string()));
    if report.dials_in_vain > 0 {
        rows.push(("dials in vain", report.dials_in_vain.to_string()));
    }
    rows.push((
        "run",
        format!(
            "{} events in {:.1} s ({:.0}/s), {} MiB",
            report.events,
            report.wall_s,
            report.events_per_s,
            report.peak_rss_bytes >> 20
        ),
    ));
    rows.push(("trace", report.trace_hash.clone()));
    rows.extend(judged.aims_missed.iter().map(|missed| ("aim missed", missed.clone())));
    let lines: Vec<String> =
        rows.into_iter().map(|(name, value)| format!("{name:13} {value}")).collect();
    lines.join("\n")
}

fn spread(p: &Percentiles) -> String {
    format!("p50 {:.0}  p90 {:.0}  p99 {:.0}  max {:.0} ms", p.p50, p.p90, p.p99, p.max)
}

fn startup(startup: &Startup) -> String {
    format!("p50 {:.0}  p99 {:.0} ms, never: {}", startup.p50, startup.p99, startup.never)
}

fn group(of: &GroupReport) -> String {
    let mut text = format!("{} viewers, continuity {:.5}", of.viewers, of.continuity);
    if of.group.is_known_at_birth() {
        let start = startup(&of.startup_ms);
        text += &format!(", block lag p99 {:.0} ms, start-up {start}", of.block_lag_ms.p99);
    }
    text
}

fn stalls(stalls: &Stalls) -> String {
    let told = if stalls.source_told { "knows" } else { "does not know" };
    format!(
        "{:.2} % of the answers, {:.0} % explained; the source {told} of too little upload",
        stalls.share * 100.0,
        stalls.explained * 100.0
    )
}

fn index_seen(report: &Report) -> String {
    let seen = &report.resource_index_seen;
    let r = |part: f64| part * report.resource_index;
    format!(
        "p5 {:.2}  p50 {:.2}  p95 {:.2} by {} viewers 30 s old; {:.1} % within 10 %, \
         {:.1} % within 25 %",
        r(seen.p5),
        r(seen.p50),
        r(seen.p95),
        seen.viewers,
        seen.within_10 * 100.0,
        seen.within_25 * 100.0
    )
}

fn audience(seen: &AudienceSeen) -> String {
    format!(
        "{}{} of {}; of {} sampled {} stall, block lag {}",
        seen.estimate,
        if seen.or_more { " or more" } else { "" },
        seen.viewers,
        seen.sampled,
        seen.stalled,
        spread(&seen.block_lag_ms)
    )
}

fn swarm(report: &Report) -> String {
    let mbit_s = report.bitrate as f64 / 1e6;
    format!("{} viewers, {mbit_s} Mbit/s, r = {:.2}", report.viewers, report.resource_index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_change_what_the_file_says() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("crowd.toml");
        std::fs::write(&path, "name = \"\"\nviewers = 7\nbitrate = 1000000").expect("written");
        let args = Args {
            scenario: Some(path),
            viewers: Some(9),
            delay: Some(Span(std::time::Duration::from_millis(2500))),
            ..Args::default()
        };
        let scenario = args.scenario().expect("valid");
        assert_eq!((scenario.viewers, scenario.bitrate), (9, 1_000_000));
        assert_eq!((scenario.delay_ms, scenario.name.as_str()), (2_500, "crowd"));
    }

    #[test]
    fn a_scenario_that_cannot_be_run_is_wrong_usage() {
        let args = Args { viewers: Some(0), ..Args::default() };
        assert_eq!(args.scenario().expect_err("no viewers").code, Code::Usage);
        let args = Args { scenario: Some("no/such/file.toml".into()), ..Args::default() };
        assert_eq!(args.scenario().expect_err("no file").code, Code::Usage);
    }
}
