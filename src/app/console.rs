//! What the user sees while a command takes part in a swarm: words, the status line, documents.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use serde_json::Value;

use super::common::Common;
use super::status;
use crate::discovery::announce::Row;
use crate::net::driver::Snapshot;

/// Back to the beginning of the line, and nothing on it.
const CLEAR_LINE: &str = "\r\x1b[K";

/// Standard error for people, and the documents for programs.
#[derive(Debug)]
pub struct Console {
    /// Where documents go, if they are wanted.
    documents: Option<Stream>,
    quiet: bool,
    /// Whether there is a status line.
    has_line: bool,
    /// Bytes received and sent when the line was last written.
    last: Option<(Instant, u64, u64)>,
    /// What was last told of each tracker that does not work.
    tracker_faults: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Console {
    /// As the options want it. There is a status line only where it can be written over.
    #[must_use]
    pub fn new(common: &Common, stdout_is_media: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on_terminal = std::io::stderr().is_terminal() && !is_dumb;
        let stream = if stdout_is_media { Stream::Stderr } else { Stream::Stdout };
        Self {
            documents: common.json.then_some(stream),
            quiet: common.quiet,
            has_line: on_terminal && !common.quiet && !common.json,
            last: None,
            tracker_faults: BTreeMap::new(),
        }
    }

    /// Talks to the user, unless told to be quiet.
    pub fn say(&self, words: &str) {
        if !self.quiet {
            let clear = if self.last.is_some() { CLEAR_LINE } else { "" };
            eprintln!("{clear}{words}");
        }
    }

    /// Says once what is wrong with a tracker; the stream goes on without it.
    pub fn trackers(&mut self, rows: &[Row]) {
        for row in rows {
            let Some(error) = &row.error else {
                self.tracker_faults.remove(&row.url);
                continue;
            };
            if self.tracker_faults.get(&row.url) != Some(error) {
                self.tracker_faults.insert(row.url.clone(), error.clone());
                if self.documents.is_none() {
                    self.say(&format!("tracker {}: {error}", row.url));
                }
            }
        }
    }

    /// A second has passed: the document or the line.
    pub fn second(&mut self, snapshot: &Snapshot, document: &Value) {
        self.document(document);
        if !self.has_line {
            return;
        }
        let now = Instant::now();
        let (down, up) = (snapshot.status.down_bytes, snapshot.status.up_bytes);
        let rates = self.last.map_or((0, 0), |(at, before_down, before_up)| {
            let seconds = now.duration_since(at).as_secs_f64().max(0.001);
            let per_s = |bytes: u64| (bytes as f64 / seconds) as u64;
            (per_s(down.saturating_sub(before_down)), per_s(up.saturating_sub(before_up)))
        });
        self.last = Some((now, down, up));
        eprint!("{CLEAR_LINE}{}", status::line(snapshot, rates));
        let _ = std::io::stderr().flush();
    }

    /// Prints a document, if they are wanted.
    pub fn document(&self, document: &Value) {
        let Some(stream) = self.documents else { return };
        let line = format!("{document}\n");
        // Nobody reading the status is no reason to stop.
        let _ = match stream {
            Stream::Stderr => std::io::stderr().write_all(line.as_bytes()),
            Stream::Stdout => {
                let mut stdout = std::io::stdout();
                stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
            }
        };
    }

    /// Lets the last status line stand; what follows is below it.
    pub fn leave_line(&mut self) {
        if self.last.take().is_some() {
            eprintln!();
        }
    }
}
