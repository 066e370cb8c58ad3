//! What a run says at its end.

use serde::Serialize;

use super::group::Group;
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

/// How the viewers of one group fared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// Which group.
    pub group: Group,
    /// How many there were.
    pub viewers: u64,
    /// Pieces delivered by their deadline over pieces due.
    pub continuity: f64,
    /// Per block, as for all; not told of groups that are known only afterwards.
    pub block_lag_ms: Percentiles,
    /// Birth to first byte.
    pub startup_ms: Startup,
}

/// How those who stay got over the events that are watched: over viewers and events.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Recovery {
    /// Longest time without a block of a newer piece.
    pub feed_again_ms: Percentiles,
    /// From the end of an event to the deadline of the last piece missed.
    pub on_time_again_ms: Percentiles,
}

/// Epochs of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Epochs {
    /// How many were begun by any source.
    pub begun: u32,
    /// How many of them viewers are in at the end.
    pub at_end: u32,
}

/// What nodes say of themselves, asked once a second while it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stalls {
    /// Share of the answers of viewers by which they stall.
    pub share: f64,
    /// Share of those, from 30 s on, that give as reason that the bit rate is not sustainable; 1
    /// if there are none.
    pub explained: f64,
    /// Whether the source says at the end that the bit rate is not sustainable.
    pub source_told: bool,
}

/// What viewers took the resource index for when they were 30 s old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct IndexSeen {
    /// How many were asked.
    pub viewers: u64,
    /// Share of them that were right within 10 %.
    pub within_10: f64,
    /// Share of them that were right within 25 %.
    pub within_25: f64,
    /// One of twenty took it for less than this part of what it is.
    pub p5: f64,
    /// Half took it for less than this part.
    pub p50: f64,
    /// One of twenty took it for more than this part.
    pub p95: f64,
}

/// What the source knew of its viewers at the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AudienceSeen {
    /// How many there were.
    pub viewers: u64,
    /// How many it took them for.
    pub estimate: u32,
    /// There might be more, as far as it could tell.
    pub or_more: bool,
    /// How many told it how the stream comes.
    pub sampled: usize,
    /// Per block, of the last minute, as they told it.
    pub block_lag_ms: Percentiles,
    /// How many of them said that they stall.
    pub stalled: usize,
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
    /// What viewers took it for.
    pub resource_index_seen: IndexSeen,
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
    /// The same and more for each group that is not empty.
    pub groups: Vec<GroupReport>,
    /// The longest time of each viewer in which its reader got nothing.
    pub reader_gap_ms: Percentiles,
    /// How those who stay got over what is watched, if anything is.
    pub recovery: Option<Recovery>,
    /// Epochs of the stream.
    pub epochs: Epochs,
    /// What nodes say of themselves.
    pub stalls: Stalls,
    /// What the source knew of its viewers.
    pub audience: Option<AudienceSeen>,
    /// Payload sent by the source over payload published; of several sources, the most.
    pub source_copies: f64,
    /// Payload sent by all over payload verified by all viewers: above 1 are duplicates, blocks of
    /// no use, and blocks on their way.
    pub payload_ratio: f64,
    /// Control bytes over payload bytes, all nodes.
    pub overhead_ratio: f64,
    /// Connections that a machine ended because the other side broke a rule.
    pub faults: u64,
    /// Dials of honest nodes where no node listens: addresses that only reflectors tell of.
    pub dials_in_vain: u64,
    /// Whether every signature and hash was worked out once for all nodes, not once by each.
    pub prove_once: bool,
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
        scenario.expect.missed(self)
    }

    /// What the scenario aims at and the run did not reach, one line each.
    #[must_use]
    pub fn aims_missed(&self, scenario: &Scenario) -> Vec<String> {
        scenario.aim.missed(self)
    }
}
