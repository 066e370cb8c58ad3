//! The status document and the status line.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use serde_json::{Value, json};

use crate::discovery::announce::Row;
use crate::net::driver::Snapshot;
use crate::swarm::audience::Audience;
use crate::units::InfoHash;
use crate::wire::live::Reason;

/// What the document says of the process rather than of the swarm.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// `broadcast`, `play` or `seed`.
    pub role: &'static str,
    /// The swarm.
    pub info_hash: InfoHash,
    /// Relays that alone are fed; 0 if anybody is.
    pub relays: usize,
    /// When the command began.
    pub began: Instant,
    /// Microseconds from then until the driver's time began.
    pub driver_began_us: u64,
}

/// The name of a reason in the document.
#[must_use]
pub fn reason_name(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::NO_UPSTREAM => "no_upstream",
        Reason::SLOW_UPSTREAM => "slow_upstream",
        Reason::SOURCE_GAP => "source_gap",
        Reason::OWN_DOWNLINK => "own_downlink",
        Reason::OWN_CLOCK => "own_clock",
        Reason::UNSUSTAINABLE => "unsustainable",
        Reason::REPLAY => "replay",
        _ => return None,
    })
}

fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { to_thousandths(part as f64 / whole as f64) }
}

fn to_thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// What a source knows of its viewers; where it cannot count them all, trackers may know of more.
fn viewers(audience: &Audience, trackers: &[Row]) -> Value {
    let announced = trackers.iter().filter_map(|row| row.leechers).max();
    let more = announced.filter(|_| audience.or_more).unwrap_or(0);
    let mut reasons = serde_json::Map::new();
    for (reason, count) in &audience.reasons {
        let name = reason_name(*reason).map_or_else(|| reason.0.to_string(), str::to_owned);
        reasons.insert(name, json!(count));
    }
    json!({
        "estimate": audience.estimate.max(more),
        "or_more": audience.or_more,
        "sampled": audience.sampled,
        "lag_ms": audience.lag_ms,
        "stalled": audience.stalled(),
        "reasons": reasons,
    })
}

/// The status document.
#[must_use]
pub fn document(frame: &Frame, snapshot: &Snapshot, trackers: &[Row]) -> Value {
    let s = &snapshot.status;
    let down_payload = s.from_source + s.from_peers;
    let stream_bytes = if s.stream_bytes > 0 { s.stream_bytes } else { down_payload };
    let startup_ms = snapshot.first_delivery_us.map(|us| (us + frame.driver_began_us) / 1000);
    json!({
        "role": frame.role,
        "info_hash": frame.info_hash.to_string(),
        "state": s.condition.name(),
        "reason": reason_name(s.reason),
        "source": snapshot.source_mode,
        "uptime_s": frame.began.elapsed().as_secs_f64(),
        "startup_ms": startup_ms,
        "pieces": {
            "verified": s.pieces_verified,
            "bad": s.pieces_bad,
            "missed": s.played.missed,
            "played": s.played.pieces,
            "head": s.head.map(|h| h.index.0),
            "first": s.first.map(|i| i.0),
            "epoch": s.epoch.0,
        },
        "window_s": s.window_us as f64 / 1e6,
        "lag_ms": s.lag_ms,
        "block_lag_ms": s.block_lag_ms,
        "delay_ms": s.played.first_at.map(|_| s.played.delay_us / 1000),
        "delay_aim_ms": s.aim_us.map(|us| us / 1000),
        "head_age_ms": s.head_age_us.map(|us| us / 1000),
        "clock_offset_ms": s.clock_offset_us / 1000,
        "clock_ok": s.clock_ok,
        "stalls": { "count": s.played.stalls, "total_ms": s.played.stalled_us / 1000 },
        "bytes": {
            "down_payload": down_payload,
            "up_payload": s.up_payload,
            "down_overhead": s.down_bytes.saturating_sub(down_payload + s.duplicate),
            "up_overhead": s.up_bytes.saturating_sub(s.up_payload),
            "from_source": s.from_source,
            "from_peers": s.from_peers,
            "from_origin": 0,
            "duplicate": s.duplicate,
            "stream": s.stream_bytes,
        },
        "bitrate": s.stream_rate * 8,
        "upload": {
            "limit": s.upload_limit.map(|rate| rate * 8),
            "measured": s.upload_measured.map(|rate| rate * 8),
            "copies": per(s.flow_budget, s.stream_rate),
            "needed": s.flow_budget * 8,
        },
        "copies_sent": per(s.up_payload, stream_bytes),
        "swarm": { "resource_index": s.resource_index.map(to_thousandths) },
        "viewers": s.audience.as_ref().map(|a| viewers(a, trackers)),
        "peers": {
            "connected": s.connected,
            "downloading_from": s.downloading_from,
            "uploading_to": s.uploading_to,
            "banned": s.banned,
            "known": s.known,
        },
        "relays": (frame.relays > 0).then(|| json!({
            "named": frame.relays,
            "connected": s.connected,
        })),
        "trackers": trackers,
        "rss_bytes": rss_bytes(),
        "cpu_s": cpu_s(),
    })
}

/// Characters of the line; a longer one would wrap, and could not be written over.
const LINE_LEN_MAX: usize = 79;

/// One line for a terminal, the least important last.
#[must_use]
pub fn line(snapshot: &Snapshot, (down, up): (u64, u64)) -> String {
    let s = &snapshot.status;
    let peers = if s.connected == 1 { "peer" } else { "peers" };
    let delay = match s.played.first_at {
        Some(_) => format!(", {:.1} s behind", s.played.delay_us as f64 / 1e6),
        None => String::new(),
    };
    let why = reason_name(s.reason).map_or(String::new(), |reason| format!(", {reason}"));
    let mut line = format!(
        "{}: {} {peers}{delay}, down {:.1} up {:.1} Mbit/s, window {} s{why}",
        s.condition.name(),
        s.connected,
        mbit_per_s(down),
        mbit_per_s(up),
        s.window_us / 1_000_000,
    );
    line.truncate(LINE_LEN_MAX);
    line
}

/// A rate in bytes per second in the unit that people know lines by.
fn mbit_per_s(bytes_per_s: u64) -> f64 {
    bytes_per_s as f64 * 8.0 / 1e6
}

/// Memory of this process that lies in RAM, in bytes; 0 where the system does not tell.
fn rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Processor seconds that this process used; 0 where the system does not tell.
fn cpu_s() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; the figures begin behind it (proc(5)).
    let figures = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 =
        figures.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
