//! Plays the scenarios of `tests/sim/` with six seeds each: nothing that must not happen
//! happens, and what they expect is reached.

#![allow(clippy::disallowed_methods)] // `SEEDS` is for whoever runs it: `make sim SEEDS=n`.

use std::fs;
use std::path::Path;

use btlive::sim::machines::Swarms;
use btlive::sim::report::Report;
use btlive::sim::scenario::Scenario;
use btlive::sim::world::World;

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Scenario::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// How many seeds to play: `SEEDS`, or six.
fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

fn play(scenario: &Scenario) -> Result<Report, String> {
    let world = World::new(scenario.clone(), Swarms::new(scenario));
    let report = world.run().map_err(|e| format!("violated at {e}"))?;
    let missed = report.missed(scenario);
    if missed.is_empty() { Ok(report) } else { Err(format!("{missed:?}: {report:?}")) }
}

#[track_caller]
fn check(name: &str) {
    let mut scenario = scenario(name);
    let faults: Vec<String> = (1..=seeds())
        .filter_map(|seed| {
            scenario.seed = seed;
            play(&scenario).err().map(|fault| format!("{name}, seed {seed}: {fault}"))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_steady_swarm_misses_nothing() {
    check("steady.toml");
}

#[test]
fn readers_that_choose_their_delay_come_to_a_short_one_and_miss_nothing() {
    check("delay_auto.toml");
}

#[test]
fn unequal_uploads_carry_the_stream() {
    check("mixed.toml");
}

#[test]
fn churn_interrupts_nobody_for_long() {
    check("churn.toml");
}

#[test]
fn a_crowd_starts_quickly() {
    check("crowd.toml");
}

#[test]
fn both_halves_recover_from_a_partition() {
    check("partition.toml");
}

#[test]
fn a_source_resumes_after_a_crash() {
    check("source_crash.toml");
}

#[test]
fn a_source_without_its_state_opens_a_new_epoch() {
    check("source_lost_state.toml");
}

#[test]
fn a_silent_encoder_is_a_gap_and_no_end() {
    check("silence.toml");
}

#[test]
fn resets_freezes_wrong_clocks_and_nat_are_survived() {
    check("trouble.toml");
}

#[test]
fn wrong_bytes_are_never_shown() {
    check("polluters.toml");
}

#[test]
fn an_audio_stream_plays() {
    check("audio.toml");
}

#[test]
fn every_scenario_file_is_played_by_a_test() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim");
    let source = include_str!("sim.rs");
    for entry in fs::read_dir(dir).expect("scenario files") {
        let name = entry.expect("file").file_name().to_string_lossy().into_owned();
        assert!(source.contains(&format!("\"{name}\"")), "{name} is not played");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut scenario = scenario("steady.toml");
    scenario.duration_s = 4.0;
    let (a, b) = (play(&scenario), play(&scenario));
    assert_eq!(a, b);
}
