//! What a run says at its end.

use serde::Serialize;

pub use super::meter::Percentiles;
use super::scenario::Scenario;

/// When viewers started, in milliseconds from their birth to the first byte for their reader.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Startup {
    /// Half were faster.
    pub p50: f64,
    /// 99 of 100 were faster.
    pub p99: f64,
    /// Viewers that were there for longer than the delay and got nothing.
    pub never: u64,
}

/// How viewers of one class of upload fared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassReport {
    /// Upload in multiples of the bit rate.
    pub times: f64,
    /// How many there were.
    pub viewers: u64,
    /// Pieces delivered by their deadline over pieces due.
    pub continuity: f64,
}

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// Viewers at the start.
    pub viewers: u32,
    /// Bit/s.
    pub bitrate: u64,
    /// Mean upload of the viewers over the bit rate.
    pub resource_index: f64,
    /// Per block: publication of its entry until verified at a viewer.
    pub block_lag_ms: Percentiles,
    /// Per piece: publication of its entry until all its blocks are verified at a viewer.
    pub lag_ms: Percentiles,
    /// The greedy reference for these viewers.
    pub lag_ref_ms: f64,
    /// Birth to first byte.
    pub startup_ms: Startup,
    /// Pieces delivered by their deadline over pieces due.
    pub continuity: f64,
    /// The same for each class of upload.
    pub classes: Vec<ClassReport>,
    /// Payload sent by the source over payload published.
    pub source_copies: f64,
    /// Payload sent by all over payload verified by all viewers: above 1 are duplicates, blocks of
    /// no use, and blocks on their way.
    pub payload_ratio: f64,
    /// Control bytes over payload bytes, all nodes.
    pub overhead_ratio: f64,
    /// Connections that a machine ended because the other side broke a rule.
    pub faults: u64,
    /// Events played.
    pub events: u64,
    /// Events per second of real time; filled in by whoever has a clock.
    pub events_per_s: f64,
    /// Real time of the run; filled in by whoever has a clock.
    pub wall_s: f64,
    /// Most memory the process had; filled in by whoever can ask.
    pub peak_rss_bytes: u64,
    /// The same scenario and seed give the same hash.
    pub trace_hash: String,
}

impl Report {
    /// What the scenario expects and the run did not reach, one line each.
    #[must_use]
    pub fn missed(&self, scenario: &Scenario) -> Vec<String> {
        let expect = &scenario.expect;
        let lag_ref_ms = self.lag_ref_ms.max(f64::MIN_POSITIVE);
        let most = [
            ("block_lag_ms p50 / lag_ref_ms", self.block_lag_ms.p50 / lag_ref_ms, expect.p50_ratio),
            ("block_lag_ms p99 / lag_ref_ms", self.block_lag_ms.p99 / lag_ref_ms, expect.p99_ratio),
            ("startup_ms p99", self.startup_ms.p99, expect.startup_p99_ms),
            ("source_copies", self.source_copies, expect.source_copies),
            ("overhead_ratio", self.overhead_ratio, expect.overhead_ratio),
        ];
        let mut out: Vec<String> = most
            .iter()
            .filter_map(|(name, value, limit)| Some((name, value, (*limit)?)))
            .filter(|(_, value, limit)| *value > limit)
            .map(|(name, value, limit)| format!("{name} is {value:.3}, expected at most {limit}"))
            .collect();
        if let Some(least) = expect.continuity.filter(|least| self.continuity < *least) {
            out.push(format!("continuity is {:.5}, expected at least {least}", self.continuity));
        }
        out
    }
}
