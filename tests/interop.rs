//! The outside trackers and clients on their own: they start, answer, transfer and stop, so that
//! a swarm test that fails is not to be blamed on them.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::time::Duration;

use support::announce::{self, Ask, Count, Event};
use support::client::{self, Client};
use support::namespace::{Lan, Namespace};
use support::process::output_of;
use support::stream::{FakeTs, PACKET_LEN, contiguous_part, is_contiguous_part};
use support::tracker::{self, Tracker};
use support::{torrent, wait_for};

const HASH: [u8; 20] = *b"\xff\x01interop test hash!";

/// A seed and a leecher announce; each of them and the counts are seen; both stop and are gone.
#[track_caller]
fn introduces_peers(kind: tracker::Kind) {
    let tracker = Tracker::start(kind);
    tracker.allow(HASH);
    let seed = Ask { info_hash: HASH, port: 7001, left: 0, event: Event::Started };
    let leecher = Ask { port: 7002, left: 1000, ..seed };
    let reply = tracker.ask(&seed).expect("an answer to the seed");
    assert!(reply.interval_s > 0, "{reply:?}");
    let ports = |ask| {
        let peers = tracker.ask(ask).expect("an answer").peers;
        peers.iter().map(std::net::SocketAddrV4::port).collect::<Vec<_>>()
    };
    assert!(ports(&leecher).contains(&7001), "the leecher hears of the seed");
    assert!(ports(&seed).contains(&7002), "the seed hears of the leecher");
    // qBittorrent's tracker has no scrape.
    if kind != tracker::Kind::Qbittorrent {
        assert_eq!(tracker.count(HASH), Ok(Count { seeders: 1, leechers: 1 }));
    }
    for ask in [seed, leecher] {
        tracker.ask(&Ask { event: Event::Stopped, ..ask }).expect("an answer to stopped");
    }
    assert_eq!(tracker.peers(HASH), Ok(Vec::new()), "nobody is left");
}

#[test]
fn opentracker_introduces_peers() {
    introduces_peers(tracker::Kind::Opentracker);
}

#[test]
fn bittorrent_tracker_introduces_peers() {
    introduces_peers(tracker::Kind::BittorrentTracker);
}

#[test]
fn aquatic_udp_introduces_peers() {
    introduces_peers(tracker::Kind::AquaticUdp);
}

#[test]
fn aquatic_http_introduces_peers() {
    introduces_peers(tracker::Kind::AquaticHttp);
}

#[test]
fn qbittorrents_tracker_introduces_peers() {
    introduces_peers(tracker::Kind::Qbittorrent);
}

#[test]
fn our_tracker_introduces_peers() {
    introduces_peers(tracker::Kind::Btlive);
}

#[test]
fn udp_and_http_of_one_tracker_know_the_same_peers() {
    let tracker = Tracker::start(tracker::Kind::BittorrentTracker);
    let address = tracker.udp.as_deref().expect("a UDP address");
    let address = address.trim_start_matches("udp://").trim_end_matches("/announce");
    let udp = announce::Udp::connect(address).expect("a connection id");
    let ask = Ask { info_hash: HASH, port: 7003, left: 1, event: Event::Started };
    udp.announce(&ask).expect("an answer");
    let peers = tracker.peers(HASH).expect("an answer over HTTP");
    assert!(peers.iter().any(|peer| peer.port() == 7003), "{peers:?}");
}

#[test]
fn opentracker_refuses_a_torrent_that_is_not_listed() {
    let tracker = Tracker::start(tracker::Kind::Opentracker);
    let ask = Ask { info_hash: HASH, port: 7004, left: 1, event: Event::Started };
    let refusal = tracker.ask(&ask).expect_err("it is not listed");
    assert!(refusal.contains("not authorized"), "{refusal}");
}

/// One client seeds to another over a real tracker; both stop when told.
#[track_caller]
fn transfers(seeder: client::Kind, leecher: client::Kind, magnet: bool) {
    let tracker = Tracker::start(tracker::Kind::BittorrentTracker);
    let url = tracker.http.as_deref().expect("an HTTP address");
    transfers_through(&tracker, url, [seeder, leecher], magnet);
}

/// The same over one address of this tracker; gives the info-hash. Libtorrent as the leecher asks
/// our tracker for its counts at the end.
#[track_caller]
fn transfers_through(
    tracker: &Tracker,
    url: &str,
    [seeder, leecher]: [client::Kind; 2],
    magnet: bool,
) -> [u8; 20] {
    let dir = support::temp_dir();
    let content = FakeTs::seconds(2_000_000, 4);
    let torrent = torrent::ordinary(dir.path(), "clip.ts", &content, &[url]);
    let path = torrent.path.to_str().expect("a path in UTF-8");
    let mut seeder = Client::seed(seeder, path, dir.path());
    wait_for("seeder at the tracker", Duration::from_secs(40), || {
        tracker.count(torrent.info_hash).ok().filter(|count| count.seeders > 0)
    });
    let mut leecher = Client::start(leecher, if magnet { &torrent.magnet } else { path });
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while std::fs::read(leecher.downloads.join(&torrent.name)).ok().as_ref() != Some(&content) {
        let late = std::time::Instant::now() > limit;
        assert!(!late, "no whole copy: {}\n{}", leecher.words(), seeder.words());
        std::thread::sleep(Duration::from_millis(200));
    }
    // The npm package mangles the hash in its reply, which libtorrent takes for none.
    let scraped = tracker.kind == tracker::Kind::Btlive;
    if scraped && leecher.kind == client::Kind::Libtorrent {
        leecher.process().wait_for_line("scrape_reply_alert", Duration::from_secs(20));
    }
    leecher.stop();
    seeder.stop();
    torrent.info_hash
}

/// Two clients of other projects find each other through `btlive tracker` alone, and it is told
/// when they go.
#[track_caller]
fn our_tracker_serves(seeder: client::Kind, leecher: client::Kind, over_udp: bool) {
    let tracker = Tracker::start(tracker::Kind::Btlive);
    let url = if over_udp { &tracker.udp } else { &tracker.http };
    let url = url.as_deref().expect("an address");
    let info_hash = transfers_through(&tracker, url, [seeder, leecher], false);
    // Told to end, aria2 does not say so to its tracker.
    if [seeder, leecher].contains(&client::Kind::Aria2) {
        return;
    }
    wait_for("tracker without peers", Duration::from_secs(10), || {
        tracker.peers(info_hash).ok().filter(Vec::is_empty)
    });
}

#[test]
fn libtorrent_and_aria2_use_our_tracker_over_http() {
    our_tracker_serves(client::Kind::Libtorrent, client::Kind::Aria2, false);
}

#[test]
fn aria2_and_libtorrent_use_our_tracker_over_http() {
    our_tracker_serves(client::Kind::Aria2, client::Kind::Libtorrent, false);
}

#[test]
fn transmission_and_libtorrent_use_our_tracker_over_udp() {
    our_tracker_serves(client::Kind::Transmission, client::Kind::Libtorrent, true);
}

#[test]
fn transmission_and_qbittorrent_use_our_tracker_over_udp() {
    our_tracker_serves(client::Kind::Transmission, client::Kind::Qbittorrent, true);
}

#[test]
fn libtorrent_seeds_to_aria2() {
    transfers(client::Kind::Libtorrent, client::Kind::Aria2, false);
}

#[test]
fn aria2_seeds_to_libtorrent_over_a_magnet() {
    transfers(client::Kind::Aria2, client::Kind::Libtorrent, true);
}

#[test]
fn transmission_seeds_to_libtorrent() {
    transfers(client::Kind::Transmission, client::Kind::Libtorrent, false);
}

#[test]
fn libtorrent_seeds_to_qbittorrent_over_a_magnet() {
    transfers(client::Kind::Libtorrent, client::Kind::Qbittorrent, true);
}

#[test]
fn libtorrent_seeds_to_rqbit() {
    transfers(client::Kind::Libtorrent, client::Kind::Rqbit, false);
}

#[test]
fn each_client_takes_a_magnet_that_leads_nowhere_and_stops() {
    for kind in client::ALL {
        let magnet = format!("magnet:?xt=urn:btih:{}&dn=nowhere", torrent::hex(&HASH));
        let mut client = Client::start(kind, &magnet);
        std::thread::sleep(Duration::from_secs(1));
        client.stop();
    }
}

#[test]
fn a_namespace_is_a_machine_of_its_own() {
    let namespace = Namespace::new();
    let shown = output_of(namespace.command("ip").args(["-brief", "addr"]));
    let shown = String::from_utf8_lossy(&shown);
    assert_eq!(shown.lines().count(), 1, "only lo: {shown}");
    assert!(shown.contains("127.0.0.1/8"), "{shown}");
}

#[test]
fn hosts_of_a_lan_reach_each_other() {
    let lan = Lan::new(2);
    let mut server = lan.hosts[0].command("/usr/bin/python3");
    server.args(["-m", "http.server", "--bind", &Lan::address(1).to_string(), "8000"]);
    let mut server = server.stdout(std::process::Stdio::null()).spawn().expect("a server");
    let url = format!("http://{}:8000/", Lan::address(1));
    let reached = wait_for("answer over the bridge", Duration::from_secs(20), || {
        let mut curl = lan.hosts[1].command("curl");
        let output = curl.args(["--silent", "--fail", "--noproxy", "*", &url]).output().ok()?;
        output.status.success().then_some(output.stdout)
    });
    assert!(!reached.is_empty());
    server.kill().expect("the server ends");
    server.wait().expect("the server has ended");
}

#[test]
fn the_made_up_stream_is_a_transport_stream_with_a_key_frame_each_second() {
    let stream = FakeTs::seconds(2_000_000, 3);
    let packets: Vec<&[u8]> = stream.chunks(PACKET_LEN).collect();
    assert!(packets.iter().all(|p| p.len() == PACKET_LEN && p[0] == 0x47));
    let key = |p: &&&[u8]| p[3] & 0x20 != 0 && p[4] > 0 && p[5] & 0x40 != 0;
    assert_eq!(packets.iter().filter(key).count(), 3);
    let rate = stream.len() as f64 * 8.0 / 3.0;
    assert!((1.9e6..=2.0e6).contains(&rate), "{rate} bit/s");
}

#[test]
fn ffmpeg_finds_the_program_of_the_made_up_stream() {
    let dir = support::temp_dir();
    let path = dir.path().join("made-up.ts");
    std::fs::write(&path, FakeTs::seconds(2_000_000, 2)).expect("write the stream");
    let mut probe = std::process::Command::new(support::debian_tool("ffprobe"));
    probe.args(["-v", "quiet", "-show_entries", "stream=codec_name:program=program_id"]);
    let shown = output_of(probe.args(["-of", "json"]).arg(&path));
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("\"program_id\": 1") && shown.contains("h264"), "{shown}");
}

#[test]
fn a_part_of_a_stream_is_told_from_one_with_a_gap() {
    let stream = FakeTs::seconds(2_000_000, 3);
    let from = stream.len() / 2 / PACKET_LEN * PACKET_LEN;
    let part = &stream[from..from + 100 * PACKET_LEN];
    assert_eq!(is_contiguous_part(&stream, part), Some(from));
    let lost = from + part.len();
    let gap = [part, &stream[lost + PACKET_LEN..]].concat();
    let fault = contiguous_part(&stream, &gap).expect_err("one packet is missing");
    assert!(fault.contains(&format!("instead of at byte {}", lost + 3)), "{fault}");
    assert_eq!(is_contiguous_part(&stream, b""), None);
    assert_eq!(is_contiguous_part(&stream, &[&stream[..], &[0]].concat()), None);
}
