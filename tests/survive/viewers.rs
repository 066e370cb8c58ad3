//! Viewers who come late, leave, crash, do not read or share what they have.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ::btlive::units::{InfoHash, PeerId};
use ::btlive::wire::message::{Handshake, Reserved};

use crate::scene::{HEARD_LIMIT, RATE, Scene, documents};
use crate::support::btlive::{self, LOCAL, number};
use crate::support::free_port;
use crate::support::stream::{FakeTs, PACKET_LEN, contiguous_part};

#[test]
fn who_joins_in_the_middle_starts_at_a_random_access_point() {
    let mut scene = Scene::new();
    let run = scene.broadcast();
    scene.view("viewer1");
    std::thread::sleep(Duration::from_secs(8));
    scene.view("viewer2");
    scene.wait_for_bytes_behind(scene.sent_len());
    let sent = scene.sent();
    let at = contiguous_part(&sent, &scene.seen("viewer2")).unwrap_or_else(|e| panic!("{e}"));
    assert!(at > sent.len() / 4, "it begins near the live edge, not at byte {at}");
    let second_len = 25 * FakeTs::new(RATE).frame().len();
    assert_eq!(at % second_len, 0, "key frames begin each {second_len} bytes, not at {at}");
    scene.finish(run);
}

fn named_pipe(scene: &Scene, name: &str) -> PathBuf {
    let pipe = scene.path(name);
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo starts");
    assert!(made.success());
    pipe
}

/// Reads a third of what the stream brings, as a disk that cannot keep up takes it.
fn read_slowly(pipe: &Path) -> std::thread::JoinHandle<Vec<u8>> {
    let mut file = File::open(pipe).expect("the pipe");
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = vec![0; RATE as usize / 8 / 3 / 10];
        while let Ok(len @ 1..) = file.read(&mut buffer) {
            all.extend_from_slice(&buffer[..len]);
            std::thread::sleep(Duration::from_millis(100));
        }
        all
    })
}

#[test]
fn who_leaves_crashes_stalls_or_has_a_slow_disk_harms_nobody_else() {
    let mut scene = Scene::new();
    // Two copies for six viewers: they live on each other.
    let capped = scene.broadcaster("broadcaster", scene.port, &[]);
    let run = scene.run(capped.args(["--upload-limit", &(RATE * 22 / 10).to_string()]));
    // Held open and never read: its writer blocks as soon as the pipe is full.
    let stalled = named_pipe(&scene, "stalled.pipe");
    let _unread = OpenOptions::new().read(true).write(true).open(&stalled).expect("the pipe");
    scene.view_to("stalled", &stalled, &[]);
    let slow = named_pipe(&scene, "slow.pipe");
    scene.view_to("slow", &slow, &[]);
    let slowly = read_slowly(&slow);
    for name in ["leaves", "crashes", "viewer1", "viewer2"] {
        scene.view(name);
    }
    std::thread::sleep(Duration::from_secs(5));
    // All came at once to a source of two copies: what that costs is not what this is about.
    let watched = ["viewer1", "viewer2"];
    let begun = watched.map(|name| scene.seen(name).len());
    let status = scene.viewers[2].0.terminate(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", scene.viewers[2].0.last_words());
    std::thread::sleep(Duration::from_secs(3));
    scene.viewers[3].0.kill();
    std::thread::sleep(Duration::from_secs(4));
    let others: Vec<_> = scene.viewers.drain(..4).collect();
    scene.assert_viewers_run();
    scene.wait_for_bytes_behind(scene.sent_len());

    let mut hindered = others.into_iter().take(2).map(|(process, _)| process);
    let mut stalled = hindered.next().expect("one who stalls");
    let mut slow = hindered.next().expect("one who is slow");
    for process in [&mut stalled, &mut slow] {
        assert!(process.status().is_none(), "{}", process.last_words());
        let rss = number(documents(process).last().expect("a document"), "rss_bytes");
        assert!(rss < 60e6, "{} has grown to {rss} bytes", process.name());
    }
    let told = scene.finish(run);
    let sent = scene.sent();
    for ((name, begun), told) in watched.iter().zip(begun).zip(&told) {
        let seen = &scene.seen(name)[begun..];
        let at = contiguous_part(&sent, seen)
            .unwrap_or_else(|e| panic!("{name} from byte {begun} on: {e}\n{:?}", told.last()));
        assert_eq!(at + seen.len(), sent.len(), "{name} has it up to the end");
        assert!(begun > 0 && seen.len() > sent.len() / 3, "{name}: {begun} and {}", seen.len());
    }
    let status = stalled.terminate(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", stalled.last_words());
    slow.kill();
    assert_only_whole_pieces_of(&sent, &slowly.join().expect("a reader"));
}

/// Fails unless what was seen is the stream with parts left out.
#[track_caller]
fn assert_only_whole_pieces_of(sent: &[u8], seen: &[u8]) {
    let packets = seen.chunks_exact(PACKET_LEN);
    assert!(packets.len() > 500, "{} packets", packets.len());
    let mut rest = sent.chunks_exact(PACKET_LEN);
    let mut repeated = 0;
    for packet in packets {
        let before = rest.clone();
        if !rest.any(|known| known == packet) {
            // The tables of the stream are repeated where a reader goes on.
            assert!(packet[1] & 0x1f != 1, "a packet that was not sent, or not in this order");
            rest = before;
            repeated += 1;
        }
    }
    assert!(repeated < 40, "{repeated} tables are repeated");
}

#[test]
fn who_speaks_nonsense_is_dropped_and_named_in_the_log() {
    let mut scene = Scene::new();
    let run = scene.broadcast();
    scene.view("viewer1");
    scene.wait_for_bytes_behind(0);
    let info_hash = InfoHash(scene.live.info_hash);
    let hello = |id| Handshake { reserved: Reserved::live(), info_hash, peer_id: PeerId(id) };
    let oversize = [hello(*b"-XX0001-says-too-big").encode().to_vec(), vec![0xff; 64]].concat();
    let unknown = [hello(*b"-XX0001-bends-fields").encode().to_vec(), vec![0, 0, 0, 2, 4, 0]];
    for nonsense in [vec![0xa5; 4096], oversize, unknown.concat()] {
        let mut peer = TcpStream::connect(("127.0.0.1", scene.viewers[0].1)).expect("it listens");
        peer.write_all(&nonsense).expect("taken");
        let address = peer.local_addr().expect("an address").to_string();
        let viewer = &mut scene.viewers[0].0;
        let word = viewer.wait_for_line(&address, HEARD_LIMIT);
        assert!(word.contains("WARN") && word.contains("dropped a peer"), "{word}");
        peer.set_read_timeout(Some(HEARD_LIMIT)).expect("set");
        // Its own last words come first, then the end or a reset.
        let _ = peer.read_to_end(&mut Vec::new());
    }
    scene.wait_for_bytes_behind(scene.sent_len());
    scene.finish(run);
    let sent = scene.sent();
    contiguous_part(&sent, &scene.seen("viewer1")).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn two_players_of_one_stream_on_one_machine_share_what_they_remember() {
    let scene = Scene::new();
    let run = scene.broadcast();
    let play = |name: &str, wait: &str| {
        btlive::start(None, name, scene.dir.path())
            .args(["play", "--listen", &format!("127.0.0.1:{}", free_port())])
            .args(&LOCAL[2..])
            .args(["--peer", &format!("127.0.0.1:{}", scene.port), "--wait", wait])
            .arg("--state-dir")
            .arg(scene.path("shared.state"))
            .arg("--output")
            .arg(scene.path(&format!("{name}.ts")))
            .arg(&scene.live.magnet)
            .spawn()
    };
    let mut players = [play("viewer1", "30s"), play("viewer2", "30s")];
    std::thread::sleep(Duration::from_secs(5));
    run.end();
    let sent = scene.sent();
    for player in &mut players {
        let status = player.wait(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{}", player.last_words());
        let seen = scene.seen(player.name());
        let at = contiguous_part(&sent, &seen).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(at + seen.len(), sent.len(), "{} has it up to the end", player.name());
    }
    // A third one starts from what both wrote: the stream is over.
    let mut third = play("viewer3", "1s");
    let status = third.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(3), "{}", third.last_words());
}

#[test]
fn a_dead_channel_ends_with_code_3() {
    let scene = Scene::new();
    let mut viewer = scene
        .member("viewer", "play", free_port(), &[])
        .args(["--wait", "2s", "--output"])
        .arg(scene.path("nothing.ts"))
        .arg(&scene.live.magnet)
        .spawn();
    let status = viewer.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(3), "{}", viewer.last_words());
}
