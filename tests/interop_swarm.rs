//! Live swarms among programs of other projects: their trackers coordinate one, and their clients
//! meet one that they cannot use.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::time::Duration;

use support::announce::Count;
use support::client::{self, Client};
use support::swarm::{Plan, Swarm};
use support::tracker::{Kind, Tracker};
use support::{swarm_slot, wait_for};

/// The stream's rate in bit/s.
const RATE: u64 = 2_000_000;

/// How long a tracker may take to hear of somebody.
const LISTED_LIMIT: Duration = Duration::from_secs(10);

/// Which of a tracker's addresses the torrent names.
#[derive(Clone, Copy)]
enum Over {
    Http,
    Udp,
}

/// One broadcaster and four viewers, one of them ten seconds late, find each other through this
/// tracker alone and share the stream.
#[track_caller]
fn coordinates_a_live_swarm(kind: Kind, over: Over) {
    let _slot = swarm_slot();
    let tracker = Tracker::start(kind);
    let url = match over {
        Over::Http => tracker.http.clone(),
        Over::Udp => tracker.udp.clone(),
    };
    let urls: Vec<String> = url.into_iter().collect();
    assert_eq!(urls.len(), 1, "the tracker speaks this protocol");
    let namespace = tracker.namespace.as_ref();
    let plan = Plan { trackers: &urls, namespace, rate: RATE, seconds: 30, keep: true };
    let mut swarm = Swarm::start(plan, |live| tracker.allow(live.info_hash));
    let info_hash = swarm.live.info_hash;
    wait_for("broadcaster at the tracker", LISTED_LIMIT, || {
        tracker.peers(info_hash).ok().filter(|peers| peers.len() == 1)
    });
    swarm.join_many(3);
    std::thread::sleep(Duration::from_secs(10));
    swarm.join_many(1);
    wait_for("five peers at the tracker", LISTED_LIMIT, || {
        tracker.peers(info_hash).ok().filter(|peers| peers.len() == 5)
    });
    assert_counted(&tracker, info_hash, Count { seeders: 1, leechers: 4 });
    swarm.assert_all_run();

    let finished = swarm.finish();
    let begins = finished.assert_contiguous_to_the_end();
    finished.assert_begun_when_joined(&begins);
    let share = finished.share_from_viewers();
    assert!(share >= 0.4, "only {share:.2} of the payload came from other viewers");
    wait_for("tracker without peers", LISTED_LIMIT, || {
        tracker.peers(info_hash).ok().filter(Vec::is_empty)
    });
    assert_counted(&tracker, info_hash, Count { seeders: 0, leechers: 0 });
}

/// Compares a scrape, where there is one: qBittorrent's tracker has none.
#[track_caller]
fn assert_counted(tracker: &Tracker, info_hash: [u8; 20], expected: Count) {
    if tracker.kind != Kind::Qbittorrent {
        assert_eq!(tracker.count(info_hash), Ok(expected), "scrape");
    }
}

#[test]
fn opentracker_coordinates_a_live_swarm_over_http() {
    coordinates_a_live_swarm(Kind::Opentracker, Over::Http);
}

#[test]
fn opentracker_coordinates_a_live_swarm_over_udp() {
    coordinates_a_live_swarm(Kind::Opentracker, Over::Udp);
}

#[test]
fn bittorrent_tracker_coordinates_a_live_swarm_over_http() {
    coordinates_a_live_swarm(Kind::BittorrentTracker, Over::Http);
}

#[test]
fn bittorrent_tracker_coordinates_a_live_swarm_over_udp() {
    coordinates_a_live_swarm(Kind::BittorrentTracker, Over::Udp);
}

#[test]
fn aquatic_coordinates_a_live_swarm_over_udp() {
    coordinates_a_live_swarm(Kind::AquaticUdp, Over::Udp);
}

#[test]
fn aquatic_coordinates_a_live_swarm_over_http() {
    coordinates_a_live_swarm(Kind::AquaticHttp, Over::Http);
}

#[test]
fn qbittorrents_tracker_coordinates_a_live_swarm() {
    coordinates_a_live_swarm(Kind::Qbittorrent, Over::Http);
}

/// A client is given the live torrent and, once more, the live magnet link. It downloads nothing,
/// does not crash, ends when told, and the swarm plays on.
#[track_caller]
fn refuses_and_the_swarm_plays_on(kind: client::Kind) {
    let _slot = swarm_slot();
    let tracker = Tracker::start(Kind::BittorrentTracker);
    let trackers = &tracker.urls();
    let plan = Plan { trackers, namespace: None, rate: RATE, seconds: 25, keep: true };
    let mut swarm = Swarm::start(plan, |_| ());
    swarm.join_many(2);
    wait_for("three peers at the tracker", LISTED_LIMIT, || {
        tracker.peers(swarm.live.info_hash).ok().filter(|peers| peers.len() == 3)
    });
    let sources = [swarm.live.torrent.clone(), swarm.live.magnet.clone()];
    let mut clients = sources.each_ref().map(|source| Client::start(kind, source));
    std::thread::sleep(Duration::from_secs(12));
    swarm.assert_all_run();
    for client in &mut clients {
        let kept = bytes_below(&client.downloads);
        assert!(kept < 64 * 1024, "it kept {kept} bytes: {}", client.words());
        client.stop();
    }
    swarm.finish().assert_contiguous_to_the_end();
}

/// The bytes of all files below `dir`. Clients keep notes there, but no stream.
fn bytes_below(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[test]
fn libtorrent_refuses_a_live_torrent_and_the_swarm_plays_on() {
    refuses_and_the_swarm_plays_on(client::Kind::Libtorrent);
}

#[test]
fn aria2_refuses_a_live_torrent_and_the_swarm_plays_on() {
    refuses_and_the_swarm_plays_on(client::Kind::Aria2);
}

#[test]
fn transmission_refuses_a_live_torrent_and_the_swarm_plays_on() {
    refuses_and_the_swarm_plays_on(client::Kind::Transmission);
}

#[test]
fn qbittorrent_refuses_a_live_torrent_and_the_swarm_plays_on() {
    refuses_and_the_swarm_plays_on(client::Kind::Qbittorrent);
}

#[test]
fn rqbit_refuses_a_live_torrent_and_the_swarm_plays_on() {
    refuses_and_the_swarm_plays_on(client::Kind::Rqbit);
}
