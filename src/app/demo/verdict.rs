//! What a demonstration showed, for scripts and for people.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::tape::Tally;

/// What may be lost when the broadcaster dies: this many seconds of the stream.
const CRASH_LOSS_S: u64 = 5;

/// What became of one viewer.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Counted from 1.
    pub(super) number: usize,
    /// Whether the demonstration killed it.
    pub(super) killed: bool,
    /// Its bytes beside the broadcaster's.
    pub(super) tally: Tally,
    /// Its last status document.
    pub(super) document: Value,
    /// Why it ended before its time.
    pub(super) fault: Option<String>,
}

/// What a demonstration showed.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The viewers.
    pub(super) viewers: Vec<Seen>,
    /// The broadcaster's last status documents, one for each of its starts.
    pub(super) broadcaster: Vec<Value>,
    /// Why the broadcaster ended before its time.
    pub(super) fault: Option<String>,
    /// Bytes that it took in.
    pub(super) taken_in: u64,
    /// Seconds that the demonstration lasted.
    pub(super) seconds: f64,
    /// Copies that the broadcaster may send.
    pub(super) uplink: f64,
    /// The clip's bytes per second.
    pub(super) byte_rate: u64,
    /// Who was killed.
    pub(super) killed: Option<&'static str>,
    /// Whether all were processes of their own.
    pub(super) processes: bool,
    /// Where viewers found each other.
    pub(super) tracker: String,
}

fn number(document: &Value, path: &str) -> f64 {
    let found = document.pointer(path);
    found.and_then(Value::as_f64).unwrap_or(0.0)
}

fn count(document: &Value, path: &str) -> u64 {
    document.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Seen {
    fn missed(&self) -> u64 {
        count(&self.document, "/pieces/missed")
    }

    fn relayed_to_it(&self) -> f64 {
        let peers = number(&self.document, "/bytes/from_peers");
        let all = peers + number(&self.document, "/bytes/from_source");
        if all > 0.0 { peers / all } else { 0.0 }
    }

    /// What is wrong with what it got of `taken_in` bytes, `lost_max` of which it may lack.
    fn faults(&self, taken_in: u64, lost_max: u64) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |words: String| faults.push(format!("viewer {}: {words}", self.number));
        let Tally { delivered, gaps, lost, foreign, at, .. } = self.tally;
        if let Some(why) = &self.fault {
            fault(why.clone());
        }
        if delivered == 0 {
            fault("got nothing".into());
            return faults;
        }
        if lost > lost_max {
            fault(format!(
                "{gaps} gaps with {lost} bytes in them, {} pieces missed",
                self.missed()
            ));
        }
        if lost_max == 0 && lost == 0 && self.missed() > 0 {
            fault(format!("{} pieces missed", self.missed()));
        }
        if foreign > 0 {
            fault(format!("{foreign} bytes that the broadcaster never took in"));
        }
        if !self.killed && at != taken_in {
            fault(format!("ended {} bytes before the stream", taken_in.saturating_sub(at)));
        }
        let came = count(&self.document, "/bytes/down_payload");
        // The document of a killed one is as old as a second.
        if !self.killed && came < delivered {
            fault(format!("{came} bytes came over its sockets, but it played {delivered}"));
        }
        faults
    }

    fn json(&self, faults: &[String]) -> Value {
        let of = |path: &str| self.document.pointer(path).cloned().unwrap_or(Value::Null);
        json!({
            "viewer": self.number,
            "ok": faults.is_empty(),
            "killed": self.killed,
            "pieces": of("/pieces/played"),
            "verified": of("/pieces/verified"),
            "missed": self.missed(),
            "gaps": self.tally.gaps,
            "lost_bytes": self.tally.lost,
            "foreign_bytes": self.tally.foreign,
            "delivered_bytes": self.tally.delivered,
            "began_at_byte": self.tally.from,
            "ended_at_byte": self.tally.at,
            "lag_ms": of("/lag_ms"),
            "startup_ms": of("/startup_ms"),
            "stalls": of("/stalls"),
            "bytes": of("/bytes"),
            "from_peers_ratio": rounded(self.relayed_to_it()),
        })
    }
}

impl Verdict {
    /// Bytes that viewers may lack: after a crash of the broadcaster, what it had not passed on.
    fn lost_max(&self) -> u64 {
        if self.killed == Some("broadcaster") { CRASH_LOSS_S * self.byte_rate } else { 0 }
    }

    fn faults_of(&self, viewer: &Seen) -> Vec<String> {
        viewer.faults(self.taken_in, self.lost_max())
    }

    /// The part of all payload that viewers got from each other.
    fn relayed_share(&self) -> f64 {
        let sum = |path| self.viewers.iter().map(|v| number(&v.document, path)).sum::<f64>();
        let peers = sum("/bytes/from_peers");
        let all = peers + sum("/bytes/from_source");
        if all > 0.0 { peers / all } else { 0.0 }
    }

    fn copies_sent(&self) -> f64 {
        let sent = self.broadcaster.iter().map(|d| number(d, "/bytes/up_payload")).sum::<f64>();
        if self.taken_in > 0 { sent / self.taken_in as f64 } else { 0.0 }
    }

    /// Everything that is wrong; empty if every viewer got every piece.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.fault.iter().cloned().collect();
        faults.extend(self.viewers.iter().flat_map(|viewer| self.faults_of(viewer)));
        if self.viewers.len() as f64 > self.uplink && self.relayed_share() <= 0.0 {
            faults.push("no viewer passed anything on".into());
        }
        faults
    }

    /// The document for scripts.
    pub(super) fn json(&self) -> Value {
        let viewers = self.viewers.iter().map(|viewer| viewer.json(&self.faults_of(viewer)));
        let faults = self.faults();
        json!({
            "ok": faults.is_empty(),
            "faults": faults,
            "duration_s": rounded(self.seconds),
            "processes": self.processes,
            "killed": self.killed,
            "tracker": self.tracker,
            "uplink": self.uplink,
            "relayed_ratio": rounded(self.relayed_share()),
            "broadcaster": {
                "taken_in_bytes": self.taken_in,
                "copies_sent": rounded(self.copies_sent()),
                "bytes": self.broadcaster.last().and_then(|d| d.get("bytes")),
                "starts": self.broadcaster.len(),
            },
            "viewers": viewers.collect::<Vec<_>>(),
        })
    }

    /// The table for people.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<10}{:>7}{:>8}{:>9}{:>9}{:>9}{:>12}",
            "viewer", "pieces", "missed", "lag p50", "lag p99", "start", "from peers"
        )?;
        for viewer in &self.viewers {
            let of = |path| number(&viewer.document, path);
            let name = format!("{}{}", viewer.number, if viewer.killed { " killed" } else { "" });
            let start = match viewer.document.pointer("/startup_ms").and_then(Value::as_f64) {
                Some(ms) => format!("{:.1} s", ms / 1000.0),
                None => "never".to_owned(),
            };
            writeln!(
                out,
                "{name:<10}{:>7}{:>8}{:>6.0} ms{:>6.0} ms{start:>9}{:>10.0} %",
                of("/pieces/played"),
                viewer.missed(),
                of("/lag_ms/p50"),
                of("/lag_ms/p99"),
                viewer.relayed_to_it() * 100.0,
            )?;
        }
        writeln!(
            out,
            "the broadcaster sent {:.1} copies of {:.1} MB; viewers had {:.0} % of it from each \
             other",
            self.copies_sent(),
            self.taken_in as f64 / 1e6,
            self.relayed_share() * 100.0,
        )?;
        let faults = self.faults();
        for fault in &faults {
            writeln!(out, "fault: {fault}")?;
        }
        if faults.is_empty() {
            let (viewers, all) = (self.viewers.len(), self.taken_in);
            let but = match self.lost_max() {
                0 => "",
                _ => ", but for what the broadcaster had not passed on when it was killed",
            };
            writeln!(
                out,
                "ok: {viewers} viewers, byte for byte what the broadcaster took in, to the last \
                 of {all}{but}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer() -> Seen {
        let tally = Tally { delivered: 900, from: Some(100), at: 1000, ..Tally::default() };
        let document = json!({
            "pieces": { "missed": 0, "played": 9 },
            "bytes": { "down_payload": 950, "from_peers": 500, "from_source": 450 },
        });
        Seen { number: 1, tally, document, ..Seen::default() }
    }

    fn verdict(viewers: Vec<Seen>) -> Verdict {
        Verdict {
            viewers,
            broadcaster: vec![json!({ "bytes": { "up_payload": 1500 } })],
            fault: None,
            taken_in: 1000,
            seconds: 1.0,
            uplink: 1.5,
            byte_rate: 100,
            killed: None,
            processes: false,
            tracker: String::new(),
        }
    }

    #[test]
    fn viewers_with_every_byte_are_ok() {
        let verdict = verdict(vec![viewer(), viewer()]);
        assert_eq!(verdict.faults(), Vec::<String>::new());
        let document = verdict.json();
        assert_eq!(document["ok"], true);
        assert_eq!(document["broadcaster"]["copies_sent"], 1.5);
        assert_eq!(document["viewers"][0]["from_peers_ratio"], 0.526);
    }

    #[test]
    fn each_kind_of_loss_is_a_fault() {
        let gap = Tally { gaps: 1, lost: 10, ..viewer().tally };
        let tables = [
            (Tally::default(), "got nothing"),
            (gap, "1 gaps with 10 bytes"),
            (Tally { foreign: 3, ..viewer().tally }, "3 bytes that"),
            (Tally { at: 990, ..viewer().tally }, "ended 10 bytes before"),
            (Tally { delivered: 951, ..viewer().tally }, "950 bytes came over its sockets"),
        ];
        for (tally, words) in tables {
            let faults = verdict(vec![Seen { tally, ..viewer() }]).faults();
            assert!(faults.iter().any(|f| f.contains(words)), "{words}: {faults:?}");
        }
    }

    #[test]
    fn a_gap_is_forgiven_only_when_the_broadcaster_was_killed() {
        let gap = Tally { gaps: 1, lost: 400, ..viewer().tally };
        let mut verdict = verdict(vec![Seen { tally: gap, ..viewer() }]);
        verdict.killed = Some("viewer");
        assert!(!verdict.faults().is_empty());
        verdict.killed = Some("broadcaster");
        assert_eq!(verdict.faults(), Vec::<String>::new());
        verdict.byte_rate = 50;
        assert!(!verdict.faults().is_empty());
    }

    #[test]
    fn viewers_that_pass_nothing_on_are_a_fault_where_they_must() {
        let alone = |_| {
            let mut viewer = viewer();
            viewer.document["bytes"]["from_peers"] = json!(0);
            viewer
        };
        assert_eq!(verdict((0..1).map(alone).collect()).faults(), Vec::<String>::new());
        assert_eq!(verdict((0..2).map(alone).collect()).faults().len(), 1);
    }
}
