//! Live swarms among programs of other projects: their trackers coordinate one, and their clients
//! meet one that they cannot use. And swarms whose trackers fail, whose addresses are IPv6, or
//! that are large.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use support::announce::Count;
use support::btlive::{self, LOCAL};
use support::client::{self, Client};
use support::namespace::Namespace;
use support::stream::{self, FakeTs, contiguous_part};
use support::swarm::{Plan, Swarm};
use support::tracker::{Kind, Tracker};
use support::{free_port, swarm_alone, swarm_slot, temp_dir, wait_for};

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
    let plan = Plan { namespace, ..Plan::new(&urls, RATE, 30) };
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
    let plan = Plan::new(trackers, RATE, 25);
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

/// Takes connections for as long as the test runs: says `answer` to each, or nothing at all.
fn bad_tracker(answer: Option<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/announce", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if let Some(answer) = &answer {
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                let _ = stream.write_all(&[head.as_bytes(), answer].concat());
            } else {
                held.push(stream);
            }
        }
    });
    url
}

/// A reply with a hundred peers of this machine, none of which is there.
fn lie() -> Vec<u8> {
    let peers = (0..100_u16).flat_map(|n| {
        let [high, low] = (1100 + n).to_be_bytes();
        [127, 0, 0, 1, high, low]
    });
    let peers: Vec<u8> = peers.collect();
    let head = format!("d8:intervali5e5:peers{}:", peers.len());
    [head.as_bytes(), &peers, b"e"].concat()
}

#[test]
fn trackers_that_are_dead_hang_or_lie_never_stop_the_stream() {
    let _slot = swarm_slot();
    let good = Tracker::start(Kind::Btlive);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let trackers = [
        format!("http://127.0.0.1:{}/announce", free_port()),
        bad_tracker(None),
        format!("udp://{}/announce", silent.local_addr().expect("an address")),
        bad_tracker(Some(b"<html>It works!</html>".to_vec())),
        bad_tracker(Some(lie())),
        good.http.clone().expect("an HTTP address"),
    ];
    let plan = Plan::new(&trackers, RATE, 24);
    let mut swarm = Swarm::start(plan, |_| ());
    std::thread::sleep(Duration::from_secs(4));
    swarm.join_many(2);
    // By then they have met; from now on no tracker is left.
    std::thread::sleep(Duration::from_secs(10));
    drop(good);
    let finished = swarm.finish();
    let begins = finished.assert_contiguous_to_the_end();
    finished.assert_begun_when_joined(&begins);
}

/// A broadcaster and three viewers on `[::1]`, who find each other through one address of our
/// tracker there.
#[track_caller]
fn a_swarm_lives_on_ipv6(over: Over) {
    let _slot = swarm_slot();
    let tracker = Tracker::start_v6();
    let url = match over {
        Over::Http => tracker.http.clone(),
        Over::Udp => tracker.udp.clone(),
    };
    let urls: Vec<String> = url.into_iter().collect();
    let plan = Plan { v6: true, ..Plan::new(&urls, RATE, 14) };
    let mut swarm = Swarm::start(plan, |_| ());
    let info_hash = swarm.live.info_hash;
    wait_for("broadcaster at the tracker", LISTED_LIMIT, || {
        tracker.count(info_hash).ok().filter(|count| count.seeders == 1)
    });
    std::thread::sleep(Duration::from_secs(4));
    swarm.join_many(3);
    let everybody = Count { seeders: 1, leechers: 3 };
    wait_for("four peers at the tracker", LISTED_LIMIT, || {
        tracker.count(info_hash).ok().filter(|count| *count == everybody)
    });
    let finished = swarm.finish();
    let begins = finished.assert_contiguous_to_the_end();
    finished.assert_begun_when_joined(&begins);
    assert!(finished.share_from_viewers() > 0.0, "viewers find each other too");
    assert_counted(&tracker, info_hash, Count { seeders: 0, leechers: 0 });
}

#[test]
fn a_swarm_on_ipv6_finds_itself_over_http() {
    a_swarm_lives_on_ipv6(Over::Http);
}

#[test]
fn a_swarm_on_ipv6_finds_itself_over_udp() {
    a_swarm_lives_on_ipv6(Over::Udp);
}

#[test]
fn who_listens_by_default_is_reached_over_ipv4_and_ipv6() {
    let _slot = swarm_slot();
    // It listens on every address, so it lives where there are no others.
    let namespace = Namespace::new();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let member = |name: &str, role: &str| {
        let start = btlive::start(Some(&namespace), name, dir.path()).arg(role);
        start.arg("--state-dir").arg(dir.path().join(format!("{name}.state")))
    };
    let mut broadcaster = member("broadcaster", "broadcast")
        .args(&LOCAL[2..])
        .args(["--key", &live.key, &live.torrent])
        .with_stdin()
        .spawn();
    let fed = stream::feed(FakeTs::frames(RATE, 10), broadcaster.take_stdin());
    let line = broadcaster.wait_for_line("listening for peers on ", LISTED_LIMIT);
    let port = line.rsplit(':').next().expect("a port");
    let mut viewers = ["127.0.0.1", "[::1]"].map(|host| {
        let name = if host == "[::1]" { "v6" } else { "v4" };
        member(name, "play")
            .args(&LOCAL[2..])
            .args(["--listen", &format!("{host}:0"), "--peer", &format!("{host}:{port}")])
            .arg("--output")
            .arg(dir.path().join(format!("{name}.ts")))
            .arg(&live.torrent)
            .spawn()
    });
    let sent = FakeTs::seconds(RATE, 10);
    for viewer in &mut viewers {
        let status = viewer.wait(Duration::from_secs(40));
        assert_eq!(status.code(), Some(0), "{}", viewer.last_words());
        let path = dir.path().join(format!("{}.ts", viewer.name()));
        let seen = std::fs::read(path).expect("what it wrote");
        let at = contiguous_part(&sent, &seen).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(at + seen.len(), sent.len(), "up to the end");
        assert!(seen.len() * 2 > sent.len(), "most of it: {} of {}", seen.len(), sent.len());
    }
    fed.join().expect("the feeder does not panic");
}

#[test]
fn twenty_viewers_share_a_stream_that_the_broadcaster_sends_twice() {
    let _slot = swarm_alone();
    let tracker = Tracker::start(Kind::Btlive);
    let urls = tracker.urls();
    let plan = Plan::new(&urls, RATE, 12);
    let mut swarm = Swarm::start(plan, |_| ());
    swarm.join_many(20);
    let finished = swarm.finish();
    let begins = finished.assert_contiguous_to_the_end();
    finished.assert_begun_when_joined(&begins);
    let share = finished.share_from_viewers();
    assert!(share >= 0.8, "only {share:.2} of the payload came from other viewers");
}
