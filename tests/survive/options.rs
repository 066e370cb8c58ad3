//! Members that are told to keep to a limit, to hide, or to log for machines.

use std::time::Duration;

use serde_json::Value;

use crate::scene::{END_LIMIT, HEARD_LIMIT, RATE, Scene, documents};
use crate::support::announce::Count;
use crate::support::btlive::number;
use crate::support::process::Process;
use crate::support::tracker::{Kind, Tracker};
use crate::support::{free_port, wait_for};

/// The last status document of a member that satisfies `is_wanted`.
#[track_caller]
fn told(member: &Process, is_wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for("status document", HEARD_LIMIT, || documents(member).into_iter().rfind(&is_wanted))
}

#[test]
fn a_relay_ends_once_it_has_sent_as_much_as_it_may() {
    const CAP: f64 = 500_000.0;
    let mut scene = Scene::new();
    let run = scene.broadcast();
    let port = free_port();
    let report = scene.path("relay.json");
    let mut relay = scene
        .member("relay", "seed", port, &[])
        .args(["--cap", "500k", "--peer", &format!("127.0.0.1:{}", scene.port), "--report"])
        .arg(&report)
        .arg(&scene.live.torrent)
        .spawn();
    relay.wait_for_line("relaying", END_LIMIT);
    // A viewer that knows the relay alone.
    let viewer = scene
        .member("viewer1", "play", free_port(), &[])
        .args(["--peer", &format!("127.0.0.1:{port}"), "--output", "/dev/null"])
        .arg(&scene.live.torrent)
        .spawn();
    assert_eq!(relay.wait(END_LIMIT).code(), Some(0), "{}", relay.last_words());
    assert!(relay.stderr().contains("done: "), "{}", relay.last_words());
    let report = crate::support::btlive::report(&report);
    let sent = number(&report, "bytes.up_payload") + number(&report, "bytes.up_overhead");
    // It looks once a second, and what is under way then goes out.
    let more = 2.0 * RATE as f64 / 8.0;
    assert!((CAP..CAP + more).contains(&sent), "{sent} bytes: {report}");
    drop(viewer);
    scene.finish(run);
}

#[test]
fn a_hidden_broadcaster_is_counted_and_seen_as_one_of_many() {
    for hides in [false, true] {
        let tracker = Tracker::start(Kind::Btlive);
        let mut scene = Scene::new();
        scene.live = crate::support::btlive::create(scene.dir.path(), &tracker.urls()[..1]);
        let broadcaster = scene.broadcaster("broadcaster", scene.port, &[]);
        let run = scene.run(broadcaster.args(hides.then_some("--hide")));
        let (seeders, leechers) = if hides { (0, 1) } else { (1, 0) };
        let expected = Count { seeders, leechers };
        wait_for("count", HEARD_LIMIT, || {
            tracker.count(scene.live.info_hash).ok().filter(|count| *count == expected)
        });
        scene.view("viewer1");
        let viewer = &scene.viewers[0].0;
        let down = |d: &Value| number(d, "bytes.down_payload");
        let document = told(viewer, |d| down(d) > RATE as f64 / 8.0);
        let from_source = number(&document, "bytes.from_source");
        assert_eq!(from_source == 0.0, hides, "{document}");
        scene.finish(run);
    }
}

#[test]
fn a_log_for_machines_is_one_object_a_line() {
    let mut scene = Scene::new();
    let run = scene.run(scene.broadcaster("broadcaster", scene.port, &[]));
    let mut relay = scene
        .member("relay", "seed", free_port(), &[])
        .args(["--log", "json", "-vv", "--until", "3s", "--peer"])
        .arg(format!("127.0.0.1:{}", scene.port))
        .arg(&scene.live.torrent)
        .spawn();
    assert_eq!(relay.wait(END_LIMIT).code(), Some(0), "{}", relay.last_words());
    let said = relay.stderr();
    // What is said to people stands between the objects.
    let (objects, words): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.starts_with('{'));
    assert!(!objects.is_empty(), "{said}");
    for line in objects {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for key in ["timestamp", "level", "fields", "target"] {
            assert!(object.get(key).is_some(), "no {key} in {line}");
        }
    }
    for line in words {
        assert!(!line.contains(" INFO ") && !line.contains(" DEBUG "), "{line}");
    }
    scene.finish(run);
}

#[test]
fn what_is_behind_is_fetched_no_faster_than_allowed() {
    const AFTER_S: f64 = 4.0;
    let stream_rate = RATE as f64 / 8.0;
    let mut scene = Scene::with_key_every(30);
    // Told of its line, the source does not take a busy machine for one that is full, behind which
    // what is old would have to wait.
    let broadcaster = scene.broadcaster("broadcaster", scene.port, &[]);
    let run = scene.run(broadcaster.args(["--upload-limit", "100M"]));
    std::thread::sleep(Duration::from_secs(14));
    let fetched = ["100M", "8k"].map(|limit| {
        let viewer = scene
            .member("late", "play", free_port(), &[])
            .args(["--json", "--output", "/dev/null", "--delay", "10s"])
            .args(["--download-limit", limit, "--peer"])
            .arg(format!("127.0.0.1:{}", scene.port))
            .arg(&scene.live.torrent)
            .spawn();
        let document = told(&viewer, |d| number(d, "uptime_s") >= AFTER_S);
        let live = stream_rate * number(&document, "uptime_s");
        (number(&document, "bytes.down_payload") - live) / stream_rate
    });
    // In seconds of the stream behind what is live.
    let [free, limited] = fetched;
    assert!(free > 4.0 && limited < free / 2.0, "{free:.1} s without a limit, {limited:.1} s with");
    scene.finish(run);
}

#[test]
fn a_viewer_that_chooses_its_delay_comes_nearer_and_misses_nothing() {
    let scene = Scene::new();
    let run = scene.broadcast();
    let mut viewer = scene
        .member("auto", "play", free_port(), &[])
        .args(["--json", "--output", "/dev/null", "--delay", "auto", "--peer"])
        .arg(format!("127.0.0.1:{}", scene.port))
        .arg(&scene.live.torrent)
        .spawn();
    let first = told(&viewer, |d| d["delay_ms"].is_u64());
    assert_eq!(number(&first, "delay_aim_ms"), 2000.0, "{first}");
    // It may come down by 3 % of the time, after ten seconds.
    wait_for("a shorter delay", Duration::from_secs(60), || {
        let near = |d: &Value| d["delay_ms"].as_f64().is_some_and(|ms| ms < 1700.0);
        documents(&viewer).into_iter().find(near)
    });
    let last = told(&viewer, |d| d["delay_aim_ms"].as_f64().is_some_and(|ms| ms < 1700.0));
    assert_eq!(number(&last, "pieces.missed"), 0.0, "{last}");
    run.end();
    assert_eq!(viewer.wait(END_LIMIT).code(), Some(0), "{}", viewer.last_words());
}

/// Sockets of a process that wait for connections.
fn listening(process: &Process) -> usize {
    let of_process = format!("/proc/{}/fd", process.id());
    let links = std::fs::read_dir(of_process).expect("its descriptors").flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    let own: Vec<String> = targets.map(|to| to.to_string_lossy().into_owned()).collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let text = tables.into_iter().flatten().collect::<String>();
    // The fourth column is the state, 0A for LISTEN; the tenth is the inode (proc(5)).
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inodes = lines.filter(|line| line.get(3) == Some(&"0A")).filter_map(|line| {
        let inode = line.get(9)?;
        Some(format!("socket:[{inode}]"))
    });
    inodes.filter(|inode| own.contains(inode)).count()
}

#[test]
fn a_broadcaster_that_feeds_relays_alone_is_reached_through_them_and_by_nobody() {
    let tracker = Tracker::start(Kind::Btlive);
    let mut scene = Scene::new();
    scene.live = crate::support::btlive::create(scene.dir.path(), &tracker.urls()[..1]);
    let (first_port, second_port) = (free_port(), free_port());
    let relays = format!("localhost:{first_port},[::1]:{second_port}");
    let broadcaster = scene.broadcaster("broadcaster", scene.port, &[]);
    let mut run = scene.run(broadcaster.args(["--json", "--feed-only", &relays]));
    run.process.wait_for_line("no relay can be reached", HEARD_LIMIT);

    let relay = |name: &str, listen: String| {
        crate::support::btlive::start(None, name, scene.dir.path())
            .args(["seed", "--listen", &listen])
            .args(&crate::support::btlive::LOCAL[2..])
            .arg("--state-dir")
            .arg(scene.path(&format!("{name}.state")))
            .arg(&scene.live.torrent)
            .spawn()
    };
    let first = || relay("first", format!("127.0.0.1:{first_port}"));
    let mut running = first();
    let _second = relay("second", format!("[::1]:{second_port}"));
    run.process.wait_for_line("all relays are reached", 2 * HEARD_LIMIT);

    let viewer = scene
        .member("viewer", "play", free_port(), &[])
        .args(["--json", "--output", "/dev/null"])
        .arg(&scene.live.torrent)
        .spawn();
    let down = |d: &Value| number(d, "bytes.down_payload");
    let document = told(&viewer, |d| down(d) > RATE as f64 / 8.0);
    assert_eq!(number(&document, "bytes.from_source"), 0.0, "{document}");
    assert_eq!(tracker.count(scene.live.info_hash).map(|count| count.seeders), Ok(0));
    let listed = tracker.peers(scene.live.info_hash).expect("an answer");
    assert!(listed.iter().all(|peer| peer.port() != scene.port), "{listed:?}");
    assert_eq!(listening(&run.process), 0, "{}", run.process.last_words());
    assert!(std::net::TcpStream::connect(("127.0.0.1", scene.port)).is_err());

    // A relay that dies and comes back is fed again.
    running.kill();
    run.process.wait_for_line("1 of 2 relays", HEARD_LIMIT);
    let running = first();
    let relays_of = |d: &Value| d["relays"]["connected"].as_u64();
    wait_for("the relay's return", 2 * HEARD_LIMIT, || {
        let last = documents(&run.process).pop()?;
        (relays_of(&last) == Some(2)).then_some(())
    });
    let so_far = down(&told(&viewer, |_| true));
    told(&viewer, |d| down(d) > so_far + RATE as f64 / 8.0);
    drop(running);
    run.end();
}
