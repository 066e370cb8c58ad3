//! What a run must reach, and what it should: limits on the figures of a report.

use serde::{Deserialize, Serialize};

use super::group::Group;
use super::report::{GroupReport, Report};

/// What the viewers of one group must reach; absent figures are not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupExpect {
    /// Least share of pieces delivered by their deadline.
    pub continuity: Option<f64>,
    /// Highest 99th percentile of the block lag over `lag_ref_ms`.
    pub p99_ratio: Option<f64>,
    /// Highest median of the time to the first piece, in milliseconds.
    pub startup_p50_ms: Option<f64>,
    /// Highest 99th percentile of it, in milliseconds.
    pub startup_p99_ms: Option<f64>,
}

/// What a run must reach; absent figures are not judged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Least share of pieces delivered by their deadline.
    pub continuity: Option<f64>,
    /// Highest median of `block_lag_ms` over `lag_ref_ms`.
    pub p50_ratio: Option<f64>,
    /// Highest 99th percentile of `block_lag_ms` over `lag_ref_ms`.
    pub p99_ratio: Option<f64>,
    /// Highest 99th percentile of `startup_ms`.
    pub startup_p99_ms: Option<f64>,
    /// Most copies that the source sends.
    pub source_copies: Option<f64>,
    /// Highest share of control bytes.
    pub overhead_ratio: Option<f64>,
    /// Longest time in which some reader got nothing, in milliseconds.
    pub reader_gap_ms: Option<f64>,
    /// Longest time without anything new after a watched event, in milliseconds, of who stays.
    pub feed_again_ms: Option<f64>,
    /// Time after a watched event behind which nobody who stays misses a piece, in milliseconds.
    pub on_time_again_ms: Option<f64>,
    /// Most epochs that are ever begun. If it is given, all viewers must be in one at the end.
    pub epochs: Option<u32>,
    /// Least share of stalls of which the viewer says that the bit rate is not sustainable.
    pub explained: Option<f64>,
    /// Whether the source must know at the end that the bit rate is not sustainable.
    pub source_told: Option<bool>,
    /// Least share of viewers that know the resource index within 10 % when they are 30 s old.
    pub index_within_10: Option<f64>,
    /// The same within 25 %.
    pub index_within_25: Option<f64>,
    /// Longest real time of the run, in seconds; judged where there is a clock.
    pub wall_s: Option<f64>,
    /// Most dials of honest nodes where no node listens, each of them on average.
    pub dials_in_vain: Option<f64>,
    /// Most memory of the run, in MiB; judged where it is known.
    pub rss_mib: Option<f64>,
    /// Viewers that are there from the start.
    pub first: GroupExpect,
    /// Viewers that come later.
    pub newcomers: GroupExpect,
    /// Viewers that are there for as long as is measured.
    pub stayers: GroupExpect,
    /// Viewers that upload more than the bit rate.
    pub contributors: GroupExpect,
    /// Viewers that upload nothing.
    pub free_riders: GroupExpect,
    /// Viewers that a partition cuts off from the source.
    pub cut_off: GroupExpect,
}

/// The limits that a report misses, one line each.
#[derive(Default)]
struct Misses(Vec<String>);

impl Misses {
    fn most(&mut self, name: &str, value: f64, limit: Option<f64>) {
        if let Some(limit) = limit.filter(|limit| value > *limit) {
            self.0.push(format!("{name} is {value:.3}, expected at most {limit}"));
        }
    }

    fn least(&mut self, name: &str, value: f64, limit: Option<f64>) {
        if let Some(limit) = limit.filter(|limit| value < *limit) {
            self.0.push(format!("{name} is {value:.5}, expected at least {limit}"));
        }
    }
}

impl Expect {
    /// What `report` does not reach, one line each.
    #[must_use]
    pub fn missed(&self, report: &Report) -> Vec<String> {
        let mut out = Misses::default();
        let times = |ms: f64| ms / report.lag_ref_ms.max(f64::MIN_POSITIVE);
        let lag = &report.block_lag_ms;
        out.least("continuity", report.continuity, self.continuity);
        out.most("block_lag_ms p50 / lag_ref_ms", times(lag.p50), self.p50_ratio);
        out.most("block_lag_ms p99 / lag_ref_ms", times(lag.p99), self.p99_ratio);
        out.most("startup_ms p99", report.startup_ms.p99, self.startup_p99_ms);
        out.most("source_copies", report.source_copies, self.source_copies);
        out.most("overhead_ratio", report.overhead_ratio, self.overhead_ratio);
        out.most("reader_gap_ms max", report.reader_gap_ms.max, self.reader_gap_ms);
        if let Some(recovery) = &report.recovery {
            out.most("feed_again_ms max", recovery.feed_again_ms.max, self.feed_again_ms);
            out.most("on_time_again_ms max", recovery.on_time_again_ms.max, self.on_time_again_ms);
        }
        self.epochs_missed(report, &mut out);
        out.least("explained", report.stalls.explained, self.explained);
        if self.source_told == Some(true) && !report.stalls.source_told {
            out.0.push("the source does not know that the bit rate is not sustainable".to_owned());
        }
        let seen = &report.resource_index_seen;
        out.least("resource_index_seen within_10", seen.within_10, self.index_within_10);
        out.least("resource_index_seen within_25", seen.within_25, self.index_within_25);
        let dials = report.dials_in_vain as f64 / f64::from(report.viewers.max(1));
        out.most("dials_in_vain of a viewer", dials, self.dials_in_vain);
        out.most("wall_s", report.wall_s, self.wall_s);
        out.most("rss_mib", (report.peak_rss_bytes >> 20) as f64, self.rss_mib);
        for (group, expect) in self.groups() {
            if let Some(of) = report.groups.iter().find(|of| of.group == group) {
                expect.missed(of, times, &mut out);
            } else if expect != GroupExpect::default() {
                out.0.push(format!("{}: there are none, and something is expected", group.name()));
            }
        }
        out.0
    }

    fn epochs_missed(&self, report: &Report, out: &mut Misses) {
        let Some(limit) = self.epochs else { return };
        out.most("epochs begun", f64::from(report.epochs.begun), Some(f64::from(limit)));
        out.most("epochs at the end", f64::from(report.epochs.at_end), Some(1.0));
    }

    /// What is expected of whom.
    fn groups(&self) -> [(Group, GroupExpect); 6] {
        [
            (Group::First, self.first),
            (Group::Newcomers, self.newcomers),
            (Group::Stayers, self.stayers),
            (Group::Contributors, self.contributors),
            (Group::FreeRiders, self.free_riders),
            (Group::CutOff, self.cut_off),
        ]
    }
}

impl GroupExpect {
    fn missed(&self, of: &GroupReport, times: impl Fn(f64) -> f64, out: &mut Misses) {
        let name = |figure: &str| format!("{}: {figure}", of.group.name());
        out.least(&name("continuity"), of.continuity, self.continuity);
        let p99 = times(of.block_lag_ms.p99);
        out.most(&name("block_lag_ms p99 / lag_ref_ms"), p99, self.p99_ratio);
        out.most(&name("startup_ms p50"), of.startup_ms.p50, self.startup_p50_ms);
        out.most(&name("startup_ms p99"), of.startup_ms.p99, self.startup_p99_ms);
    }
}
