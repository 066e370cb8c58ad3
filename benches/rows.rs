//! Plays the scenarios of `tests/rows` and writes their table into docs/performance.md.
//!
//! `ROWS_SEEDS=3`: each with the seeds from 1 to so many, the worst of which counts.
//! `ROWS_MAX_VIEWERS=1000`: none that begins with more viewers. `ROWS_ONLY=crash`: only files with
//! this in their name. `ROWS_JOBS=2`: so many at once. Rows that are not played stay as they are.
//! Ends with code 1 if a row does not reach what it must.
#![allow(clippy::disallowed_methods, reason = "a measurement lives in real time")]

#[path = "../tests/support/page.rs"]
mod page;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use btlive::sim::scenario::Scenario;
use serde_json::Value;

/// The columns of the table, with a `|` at each end.
const COLUMNS: &str = concat!(
    "| scenario | viewers | block lag p50, ms | p99, ms | continuity ",
    "| of whom and what it is asked | start p50, s | p99, s | copies | control ",
    "| events/s | wall, s | MiB | must | aim | seeds, day |",
);

fn main() -> ExitCode {
    let only = setting("ROWS_ONLY", "");
    let viewers_max: u32 = number("ROWS_MAX_VIEWERS", 1_000);
    let (seeds, jobs) = (number("ROWS_SEEDS", 3), number("ROWS_JOBS", 2));
    let mut rows = rows();
    for row in &mut rows {
        row.plays = row.file.contains(&only) && row.scenario.viewers <= viewers_max;
    }
    let known = Known::of_page();
    let board = Mutex::new(Board { rows, known, seeds });
    let plan: Vec<(usize, u32)> = {
        let board = board.lock().expect("nobody has it yet");
        let playing = board.rows.iter().enumerate().filter(|(_, row)| row.plays);
        playing.flat_map(|(n, _)| (1..=seeds).map(move |seed| (n, seed))).collect()
    };
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| work(&board, &plan, &next));
        }
    });
    let board = board.into_inner().expect("no worker has failed");
    print!("{}", board.table());
    let kept = board.rows.iter().filter(|row| row.plays).all(|row| row.missed("missed").is_empty());
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn number(name: &str, default: u32) -> u32 {
    let text = setting(name, "");
    if text.is_empty() { default } else { text.parse().expect("ROWS_* are numbers") }
}

/// The scenarios of `tests/rows` in the order of their names.
fn rows() -> Vec<Row> {
    let dir = page::root().join("tests/rows");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("tests/rows")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    files.iter().map(|path| Row::read(path)).collect()
}

/// Plays what is left to play, and writes the page whenever a row is whole.
fn work(board: &Mutex<Board>, plan: &[(usize, u32)], next: &AtomicUsize) {
    while let Some((n, seed)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
        let path = board.lock().expect("no worker has failed").rows[*n].path.clone();
        let result = play(&path, *seed);
        let mut board = board.lock().expect("no worker has failed");
        let row = &mut board.rows[*n];
        eprintln!("{}, seed {seed}: {}", row.file, result.verdict());
        row.results.push((*seed, result));
        if row.results.len() == board.seeds as usize {
            page::write("rows", &board.table());
        }
    }
}

/// What one run came to.
enum Played {
    Report(Box<Value>),
    /// Something happened that must not, or it did not end.
    Broken(String),
}

impl Played {
    fn verdict(&self) -> String {
        match self {
            Self::Report(report) => {
                let missed = lines(report, "missed");
                let wall_s = figure(report, "wall_s");
                let missed = if missed.is_empty() { "met".to_owned() } else { missed.join("; ") };
                format!("{missed} ({wall_s:.0} s)")
            }
            Self::Broken(why) => why.clone(),
        }
    }
}

fn play(path: &Path, seed: u32) -> Played {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btlive"));
    command.arg("sim").arg(path).args(["--seed", &seed.to_string(), "--json"]);
    let output = command.output().expect("btlive starts");
    match serde_json::from_slice(&output.stdout) {
        Ok(report) => Played::Report(Box::new(report)),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or_default();
            Played::Broken(format!("{last} ({})", output.status))
        }
    }
}

/// A number of a report by its path.
fn figure(report: &Value, path: &str) -> f64 {
    let value = path.split('.').fold(report, |value, key| &value[key]);
    value.as_f64().unwrap_or(f64::NAN)
}

fn lines(report: &Value, key: &str) -> Vec<String> {
    let items = report[key].as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Name, value and limit of a missed figure.
fn split(missed: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = missed.split_once(" is ")?;
    let (value, limit) = rest.split_once(", expected ")?;
    Some((name, value, limit))
}

/// One scenario and what came of it.
struct Row {
    path: PathBuf,
    file: String,
    scenario: Scenario,
    plays: bool,
    results: Vec<(u32, Played)>,
}

impl Row {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a scenario");
        let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { path: path.to_path_buf(), file, scenario, plays: false, results: Vec::new() }
    }

    fn reports(&self) -> impl Iterator<Item = &Value> {
        self.results.iter().filter_map(|(_, played)| match played {
            Played::Report(report) => Some(&**report),
            Played::Broken(_) => None,
        })
    }

    fn most(&self, of: impl Fn(&Value) -> f64) -> f64 {
        self.reports().map(of).fold(f64::NAN, f64::max)
    }

    fn least(&self, of: impl Fn(&Value) -> f64) -> f64 {
        self.reports().map(of).fold(f64::NAN, f64::min)
    }

    /// What the seeds do not reach: each figure once, with the values of all seeds that miss it.
    fn missed(&self, key: &str) -> Vec<String> {
        let mut values: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let mut out = Vec::new();
        for (seed, played) in &self.results {
            let missed = match played {
                Played::Report(report) => lines(report, key),
                Played::Broken(why) if key == "missed" => vec![why.clone()],
                Played::Broken(_) => Vec::new(),
            };
            for what in missed {
                match split(&what) {
                    Some((name, value, limit)) => {
                        let key = (name.to_owned(), limit.to_owned());
                        values.entry(key).or_default().push(value.to_owned());
                    }
                    None => out.push(format!("{what} (seed {seed})")),
                }
            }
        }
        for ((name, limit), mut values) in values {
            values.sort();
            out.push(format!("{name} {} ({limit})", values.join(", ")));
        }
        out
    }

    fn line(&self, day: &str) -> String {
        let most = |path: &'static str| self.most(move |report| figure(report, path));
        let lag = |path: &'static str| {
            let times = self.most(|report| figure(report, path) / figure(report, "lag_ref_ms"));
            format!("{:.0} ({times:.2} x)", most(path))
        };
        let told = |met: bool| if met { "met" } else { "**missed**" };
        let has_aim = self.scenario.aim != Default::default();
        let whole = self.reports().count() == self.results.len();
        let aim = told(whole && self.missed("aims_missed").is_empty());
        format!(
            "| {} | {} | {} | {} | {:.5} | {} | {:.1} | {:.1} | {:.2} | {:.1} % | {:.0} | {:.0} | \
             {:.0} | {} | {} | {}, {day} |",
            self.scenario.name,
            self.scenario.viewers,
            lag("block_lag_ms.p50"),
            lag("block_lag_ms.p99"),
            self.least(|report| figure(report, "continuity")),
            self.asked(),
            most("startup_ms.p50") / 1e3,
            most("startup_ms.p99") / 1e3,
            most("source_copies"),
            most("overhead_ratio") * 100.0,
            self.least(|report| figure(report, "events_per_s")),
            most("wall_s"),
            most("peak_rss_bytes") / f64::from(1 << 20),
            told(self.missed("missed").is_empty()),
            if has_aim { aim } else { "" },
            self.results.len(),
        )
    }

    /// The figures that this row is asked for beside those that all are.
    fn asked(&self) -> String {
        let expect = &self.scenario.expect;
        let mut out = Vec::new();
        for (name, group) in [
            ("first", &expect.first),
            ("newcomers", &expect.newcomers),
            ("stayers", &expect.stayers),
            ("contributors", &expect.contributors),
            ("free_riders", &expect.free_riders),
            ("cut_off", &expect.cut_off),
        ] {
            let of = |report: &Value, path: &str| {
                let mut groups = report["groups"].as_array().into_iter().flatten();
                let group = groups.find(|group| group["group"] == *name);
                group.map_or(f64::NAN, |group| figure(group, path))
            };
            let continuity = self.least(|report| of(report, "continuity"));
            let asked = group != &Default::default() || self.always_tells(name);
            if asked && !continuity.is_nan() {
                out.push(format!("{}: {continuity:.5}", name.replace('_', " ")));
            }
            if group.p99_ratio.is_some() {
                let times = |r: &Value| of(r, "block_lag_ms.p99") / figure(r, "lag_ref_ms");
                out.push(format!("their p99 {:.2} x", self.most(times)));
            }
            if group.startup_p99_ms.is_some() {
                let p50 = self.most(|report| of(report, "startup_ms.p50")) / 1e3;
                let p99 = self.most(|report| of(report, "startup_ms.p99")) / 1e3;
                out.push(format!("they start p50 {p50:.1} s, p99 {p99:.1} s"));
            }
        }
        let most = |path: &'static str| self.most(move |report| figure(report, path));
        if expect.feed_again_ms.is_some() {
            let (feed, time) = ("recovery.feed_again_ms.max", "recovery.on_time_again_ms.max");
            out.push(format!("feed again after {:.1} s", most(feed) / 1e3));
            out.push(format!("in time again after {:.1} s", most(time) / 1e3));
        }
        if expect.reader_gap_ms.is_some() {
            out.push(format!("gap {:.1} s", most("reader_gap_ms.max") / 1e3));
        }
        if expect.epochs.is_some() {
            out.push(format!("epochs begun {:.0}", most("epochs.begun")));
            out.push(format!("at the end {:.0}", most("epochs.at_end")));
        }
        if expect.explained.is_some() {
            let explained = self.least(|report| figure(report, "stalls.explained")) * 100.0;
            out.push(format!("stalls explained {explained:.0} %"));
        }
        let expected = [
            (expect.index_within_10, "r known within 10 %", "resource_index_seen.within_10"),
            (expect.index_within_25, "r known within 25 %", "resource_index_seen.within_25"),
        ];
        for (_, name, path) in expected.into_iter().filter(|(expected, ..)| expected.is_some()) {
            let share = self.least(move |report| figure(report, path)) * 100.0;
            out.push(format!("{name} by {share:.0} %"));
        }
        out.join(", ")
    }

    /// Groups that are worth a word though nothing is asked of them.
    fn always_tells(&self, group: &str) -> bool {
        let classes = self.scenario.upload_classes();
        match group {
            "free_riders" => classes.len() == 2 && classes[0].times == 0.0,
            "cut_off" => true,
            _ => false,
        }
    }
}

/// Lines of the page as it is, by the scenario's name.
#[derive(Default)]
struct Known {
    rows: BTreeMap<String, String>,
    missed: BTreeMap<String, String>,
}

impl Known {
    fn of_page() -> Self {
        let mut known = Self::default();
        for line in page::read("rows").lines() {
            if let Some((name, _)) = line.strip_prefix("| ").and_then(|rest| rest.split_once(" |"))
            {
                known.rows.insert(name.to_owned(), line.to_owned());
            } else if let Some((name, _)) =
                line.strip_prefix("- *").and_then(|rest| rest.split_once("*: "))
            {
                known.missed.insert(name.to_owned(), line.to_owned());
            }
        }
        known
    }
}

/// All rows, as far as they have been played.
struct Board {
    rows: Vec<Row>,
    known: Known,
    seeds: u32,
}

impl Board {
    fn table(&self) -> String {
        let day = today();
        let dashes = "| --- ".repeat(COLUMNS.matches('|').count() - 1);
        let mut text = format!("{COLUMNS}\n{dashes}|\n");
        let mut missed = String::new();
        for row in &self.rows {
            let name = &row.scenario.name;
            if row.plays && row.results.len() == self.seeds as usize {
                writeln!(text, "{}", row.line(&day)).expect("writing to a String");
                let what = row.missed("missed");
                if !what.is_empty() {
                    writeln!(missed, "- *{name}*: {}.", what.join("; "))
                        .expect("writing to a String");
                }
                continue;
            }
            let blank = "| ".repeat(COLUMNS.matches('|').count() - 4);
            let unplayed = format!("| {name} | {} | not played yet {blank}|", row.scenario.viewers);
            writeln!(text, "{}", self.known.rows.get(name).unwrap_or(&unplayed))
                .expect("writing to a String");
            if let Some(line) = self.known.missed.get(name) {
                writeln!(missed, "{line}").expect("writing to a String");
            }
        }
        if !missed.is_empty() {
            write!(
                text,
                "\nMissed of what must be reached, by the seeds that miss it:\n\n{missed}"
            )
            .expect("writing to a String");
        }
        text
    }
}

/// The day as the machine has it.
fn today() -> String {
    let output = Command::new("date").args(["-u", "+%F"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_default()
}
