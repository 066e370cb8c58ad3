//! The tables of limits in `specs/` say what the code holds others to.

use std::collections::BTreeMap;

use btlive::discovery::announce as a;
use btlive::discovery::udp_tracker::CONNECTION_VALID;
use btlive::live::{EPOCH_AHEAD_MAX_S, EPOCH_INDEX_GAP};
use btlive::net::tracker_http::REDIRECTS_MAX;
use btlive::net::trackers;
use btlive::swarm::peer::HELD_PIECES_MAX;
use btlive::units::BLOCK_LEN;
use btlive::wire::limits as l;
use btlive::wire::live::{MESSAGE_EXT_LEN_MAX, REPORT_CREDITS_MAX, SKIP_BLOCKS_MAX, STRIPES_MAX};

use super::root;

/// The rows of the table in a page's section *Limits*: what, and the numbers in the limit.
fn limits(page: &str) -> BTreeMap<String, Vec<u64>> {
    let path = root().join("specs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{page}: {e}"));
    // In one page the sections have numbers.
    let titled = |at: &usize| {
        let title = text[*at..].lines().nth(1).unwrap_or_default();
        title.trim_start_matches(|c: char| "#. ".contains(c) || c.is_ascii_digit()) == "Limits"
    };
    let start = text.match_indices("\n## ").map(|(at, _)| at).find(titled);
    let section = &text[start.expect("a section Limits") + 1..];
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split_once(" | "));
    let cells = cells.filter(|(what, _)| *what != "what" && !what.starts_with('-'));
    cells.map(|(what, limit)| (what.to_owned(), numbers(limit))).collect()
}

/// The numbers of a text, with their units of bytes.
fn numbers(text: &str) -> Vec<u64> {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c == ';').collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let digits = word.trim_matches([',', '.', '(', ')']).replace(',', "");
        let factor = match words.get(at + 1).map(|unit| unit.trim_matches([',', '.'])) {
            Some("KiB") => 1 << 10,
            Some("MiB") => 1 << 20,
            _ => 1,
        };
        let power = digits.split_once('^').and_then(|(base, exponent)| {
            Some(base.parse::<u64>().ok()?.pow(exponent.parse().ok()?))
        });
        let less = match words.get(at + 1..at + 3) {
            Some(["-", n]) if power.is_some() => n.parse().unwrap_or(0),
            _ => 0,
        };
        found.extend(power.or_else(|| digits.parse().ok()).map(|n: u64| n * factor - less));
    }
    found
}

/// A constant of the code that is not public, by its source.
fn constant(file: &str, name: &str) -> u64 {
    let path = root().join("src").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    let start = format!("const {name}:");
    let line = text.lines().find(|line| line.contains(&start));
    let line = line.unwrap_or_else(|| panic!("{file} has no {name}"));
    let value = line.split_once("= ").expect("a value").1.trim_end_matches(';');
    let value = value.trim_start_matches("Duration::from_secs(").trim_end_matches(')');
    let value = value.replace('_', "");
    let parts: Vec<u64> =
        value.split(" << ").map(|n| n.parse().expect("a number, perhaps shifted")).collect();
    parts[0] << parts.get(1).copied().unwrap_or(0)
}

#[track_caller]
fn agree(page: &str, code: &[(&str, &[u64])]) {
    let said = limits(page);
    for (what, expected) in code {
        let found = said.get(*what).unwrap_or_else(|| panic!("{page} has no row \"{what}\""));
        assert!(found.starts_with(expected), "{page}, {what}: {found:?}, the code {expected:?}");
    }
    let known = |what: &&String| !code.iter().any(|(row, _)| row == what);
    let rest: Vec<_> = said.keys().filter(known).collect();
    assert!(rest.is_empty(), "{page} has rows that no constant answers for: {rest:?}");
}

#[test]
fn those_of_the_wire() {
    let n = |n: usize| n as u64;
    agree(
        "wire.md",
        &[
            ("frame", &[n(l::FRAME_LEN_MAX)]),
            ("bencoded message", &[n(l::BENCODE_DEPTH_MAX), n(l::BENCODE_TOKENS_MAX)]),
            ("metadata", &[n(l::METADATA_LEN_MAX)]),
            (
                "pieces of metadata served on a connection",
                &[constant("swarm/exchange.rs", "METADATA_SERVED_MAX")],
            ),
            ("names kept of `m`", &[constant("wire/extended.rs", "NAMES_MAX"), 64]),
            ("block", &[u64::from(BLOCK_LEN)]),
            ("requests waiting on a connection", &[n(l::REQUESTS_QUEUED_MAX)]),
            ("window", &[u64::from(l::WINDOW_S_MAX), n(l::WINDOW_PIECES_MAX)]),
            ("extension area of a message", &[n(MESSAGE_EXT_LEN_MAX)]),
            ("entry", &[n(l::ENTRY_LEN_MAX)]),
            ("entries in one answer or push", &[n(l::RUN_ENTRIES_MAX), n(l::RUN_LEN_MAX)]),
            ("asks for entries unanswered on a connection", &[n(l::RUNS_MAX)]),
            (
                "asks that must be answered on a connection",
                &[constant("swarm/connection.rs", "ANSWERS_PER_S")],
            ),
            ("subscriptions on a connection, each way", &[n(l::SUBSCRIPTIONS_MAX)]),
            ("stripes (k)", &[u64::from(STRIPES_MAX)]),
            ("blocks in one `bl_skip`", &[n(SKIP_BLOCKS_MAX)]),
            ("rows in one `bl_report`", &[n(REPORT_CREDITS_MAX)]),
            ("proof", &[n(l::PROOF_LEN_MAX)]),
            (
                "addresses looked at in one `ut_pex`",
                &[n(l::PEERS_PER_REPLY_MAX), n(l::PEERS_PER_REPLY_MAX)],
            ),
            (
                "blocks held without entry",
                &[n(HELD_PIECES_MAX), constant("swarm/entries.rs", "HELD_BYTES_ALL_MAX")],
            ),
        ],
    );
}

#[test]
fn those_of_the_feed() {
    let n = |n: usize| n as u64;
    agree(
        "feed.md",
        &[
            ("entry", &[n(l::ENTRY_LEN_MAX)]),
            ("extension area of an entry", &[n(l::ENTRY_EXT_LEN_MAX)]),
            ("piece", &[u64::from(l::PIECE_LEN_MIN), u64::from(l::PIECE_LEN_MAX)]),
            ("epoch, first block, birth", &[1 << 53]),
            ("index", &[0, (1 << 32) - 2]),
            ("entries kept of an epoch", &[n(l::WINDOW_PIECES_MAX)]),
            ("gap of indices before a new epoch", &[u64::from(EPOCH_INDEX_GAP)]),
            ("proof", &[n(l::PROOF_LEN_MAX)]),
            ("proofs kept of a stream", &[1]),
            ("epoch ahead of a trusted clock", &[EPOCH_AHEAD_MAX_S / 3600]),
        ],
    );
}

#[test]
fn those_of_the_torrent() {
    let n = |n: usize| n as u64;
    let list = n(l::METAINFO_LIST_MAX);
    agree(
        "live-torrent.md",
        &[
            ("metainfo file", &[n(l::TORRENT_LEN_MAX)]),
            ("nesting in it", &[n(l::METAINFO_DEPTH_MAX)]),
            ("integers, strings, lists and dictionaries in it", &[n(l::METAINFO_TOKENS_MAX)]),
            ("`info` of a live torrent", &[n(l::LIVE_INFO_LEN_MAX)]),
            ("`name`, `media`", &[n(l::NAME_LEN_MAX), n(l::MEDIA_LEN_MAX)]),
            ("piece length", &[u64::from(l::PIECE_LEN_MIN), u64::from(l::PIECE_LEN_MAX)]),
            ("window", &[1, u64::from(l::WINDOW_S_MAX)]),
            ("trackers, web seeds, nodes taken from a file", &[list, n(l::URL_LEN_MAX)]),
            ("magnet link, as read and as written", &[n(l::MAGNET_LEN_MAX)]),
            ("trackers, peers, web seeds taken from a link", &[n(l::MAGNET_LIST_MAX)]),
            (
                "name in a link, salt, ranges of files",
                &[n(l::MAGNET_NAME_LEN_MAX), n(l::SALT_LEN_MAX), n(l::MAGNET_RANGES_MAX)],
            ),
            ("key file", &[constant("app/keyfile.rs", "LEN_MAX")]),
        ],
    );
}

#[test]
fn those_of_trackers() {
    let n = |n: usize| n as u64;
    let store = btlive::discovery::tracker_store::Bounds::default();
    let server = |name| constant("net/tracker_server.rs", name);
    agree(
        "tracker.md",
        &[
            ("trackers of a swarm", &[n(a::TRACKERS_MAX)]),
            ("tracker URL", &[n(l::TRACKER_URL_LEN_MAX)]),
            ("asks under way while the first peers are sought", &[n(a::RACE_MAX)]),
            ("reply over HTTP, after decompression", &[n(l::TRACKER_REPLY_LEN_MAX)]),
            ("datagram", &[n(l::TRACKER_DATAGRAM_LEN_MAX)]),
            ("peers taken from an answer", &[n(l::PEERS_PER_REPLY_MAX)]),
            ("`tracker id`", &[n(l::TRACKER_TEXT_LEN_MAX)]),
            ("redirects followed", &[n(REDIRECTS_MAX)]),
            (
                "exchange over HTTP, over UDP",
                &[trackers::HTTP_TIMEOUT.as_secs(), trackers::UDP_TIMEOUT.as_secs()],
            ),
            ("use of a connection id", &[CONNECTION_VALID.as_secs()]),
            (
                "interval that is obeyed",
                &[a::INTERVAL_MIN, a::INTERVAL_MAX, a::INTERVAL_DEFAULT].map(|d| d.as_secs()),
            ),
            ("wait after a failure", &[a::BACKOFF_MIN, a::BACKOFF_MAX].map(|d| d.as_secs())),
            ("wait without an address in a family", &[a::NO_ADDRESS_WAIT.as_secs()]),
            ("ask without any answer", &[a::ASK_MAX.as_secs()]),
            ("wait for answers to `stopped`", &[a::STOP_MAX.as_secs()]),
            (
                "own tracker: request, time for it, connections",
                &[server("HEAD_LEN_MAX"), server("HTTP_TIMEOUT"), server("CONNECTIONS_MAX")],
            ),
            (
                "own tracker: swarms, peers, peers of a swarm and family",
                &[n(store.swarms_max), n(store.peers_max), n(store.peers_per_swarm_max)],
            ),
            ("own tracker: peers of one swarm at one IP", &[n(store.peers_per_ip_max)]),
            ("own tracker: swarms in a scrape", &[n(l::SCRAPE_HASHES_MAX)]),
        ],
    );
}
