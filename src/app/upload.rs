//! What a broadcaster is told of its line: how much upload its copies need, and how much there is.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use crate::swarm::status::Status;

/// A limit that moved is told again after this long at the earliest.
const AGAIN: Duration = Duration::from_secs(30);
/// And if it moved by this part.
const MOVED: f64 = 0.25;

/// What was said of the line.
#[derive(Debug)]
pub struct Upload {
    /// Whether the user said what the line carries.
    given: bool,
    began: bool,
    /// The limit that was told last, in bytes per second, and when.
    told: Option<(u64, Instant)>,
}

impl Upload {
    /// Nothing was said; `given` if the user knows what the line carries.
    #[must_use]
    pub fn new(given: bool) -> Self {
        Self { given, began: false, told: None }
    }

    /// What to say after another second, if anything.
    pub fn second(&mut self, now: Instant, status: &Status) -> Option<String> {
        if self.given || status.stream_bytes == 0 || status.stream_rate == 0 {
            return None;
        }
        match (status.upload_limit, status.upload_measured) {
            (Some(limit), Some(measured)) => {
                let moved = self.told.is_none_or(|(told, at)| {
                    let part = limit.abs_diff(told) as f64 / told.max(1) as f64;
                    part >= MOVED && now - at >= AGAIN
                });
                moved.then(|| {
                    self.began = true;
                    self.told = Some((limit, now));
                    learnt(limit, measured, status.stream_rate)
                })
            }
            _ if !self.began => {
                self.began = true;
                Some(start(status.flow_budget, status.stream_rate))
            }
            _ => None,
        }
    }
}

/// Copies of the stream in `rate`, to a tenth.
fn copies(rate: u64, stream_rate: u64) -> f64 {
    (rate as f64 / stream_rate.max(1) as f64 * 10.0).round() / 10.0
}

/// A rate in bytes per second in the unit that people know lines by.
fn mbit(bytes_per_s: u64) -> String {
    format!("{:.1} Mbit/s", bytes_per_s as f64 * 8.0 / 1e6)
}

fn start(budget: u64, stream_rate: u64) -> String {
    format!(
        "no --upload-limit: beginning with {} copies of {}, which need {} of upload; what the line \
         carries is learnt from the first peers",
        copies(budget, stream_rate),
        mbit(stream_rate),
        mbit(budget),
    )
}

fn learnt(limit: u64, measured: u64, stream_rate: u64) -> String {
    let carried = copies(limit, stream_rate);
    let little = if limit < stream_rate {
        ": not even one viewer gets all of it; lower the bitrate"
    } else {
        ""
    };
    format!(
        "the line sends about {}; 80 % of it, {}, carries {carried} copies of {}{little}",
        mbit(measured),
        mbit(limit),
        mbit(stream_rate),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_copies_need_and_what_the_line_carries_is_said_in_numbers() {
        let words = start(1_000_000, 500_000);
        assert!(words.contains("2 copies of 4.0 Mbit/s, which need 8.0 Mbit/s"), "{words}");
        let words = learnt(600_000, 750_000, 500_000);
        assert!(words.contains("about 6.0 Mbit/s; 80 % of it, 4.8 Mbit/s, carries 1.2"), "{words}");
        let words = learnt(400_000, 500_000, 500_000);
        assert!(words.contains("not even one viewer"), "{words}");
    }
}
