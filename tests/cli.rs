//! The command line as people and scripts meet it: its help, its exit codes, its outputs.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::btlive::{self, LOCAL, Live, number, report};
use support::namespace::Namespace;
use support::process::{Process, Start, output_of};
use support::stream::{self, FakeTs};
use support::temp_dir;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(40);

/// The commands that are built.
const COMMANDS: [&str; 12] = [
    "create",
    "broadcast",
    "play",
    "seed",
    "inspect",
    "announce",
    "scrape",
    "tracker",
    "demo",
    "sim",
    "completions",
    "man",
];

/// Runs `btlive` to its end and fails unless it ends with `code` and one line of explanation.
#[track_caller]
fn refused(code: i32, args: &[&str]) -> String {
    let ended = btlive::run(args);
    assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
    assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{args:?}: {}", ended.stderr);
    ended.stderr
}

fn member(dir: &Path, name: &str, command: &str) -> Start {
    let start = btlive::start(None, name, dir).arg(command).args(LOCAL);
    start.arg("--state-dir").arg(dir.join(format!("{name}.state")))
}

/// A broadcaster of an endless made-up stream, and the address that it listens on.
fn broadcaster(dir: &Path, live: &Live) -> (Process, String) {
    let mut process = member(dir, "broadcaster", "broadcast")
        .args(["--key", &live.key, &live.torrent])
        .with_stdin()
        .spawn();
    drop(stream::feed(FakeTs::frames(2_000_000, 120), process.take_stdin()));
    let line = process.wait_for_line("listening for peers on ", LIMIT);
    let address = line.rsplit(' ').next().expect("an address").to_owned();
    (process, address)
}

/// What an HTTP server says to one request, up to `len` bytes.
fn http(url: &str, method: &str, len: usize) -> String {
    let rest = url.strip_prefix("http://").expect("a URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("the server listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    let mut part = [0; 8192];
    while answer.len() < len {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&part[..n]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn help_lists_what_is_built_and_nothing_else() {
    let ended = btlive::run(["--help"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let begin = lines.iter().position(|l| *l == "Commands:").expect("a list of commands");
    let listed = lines[begin + 1..].iter().take_while(|l| !l.is_empty());
    // Wrapped lines are indented further.
    let listed = listed.filter(|l| !l.starts_with("   "));
    let mut names: Vec<&str> = listed.filter_map(|l| l.split_whitespace().next()).collect();
    names.retain(|name| *name != "help");
    let mut expected = COMMANDS.to_vec();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn help_of_each_command_is_clean() {
    for command in COMMANDS {
        let ended = btlive::run([command, "--help"]);
        assert_eq!(ended.code, Some(0), "{command}: {}", ended.stderr);
        assert!(ended.stderr.is_empty(), "{command}: {}", ended.stderr);
        assert!(ended.stdout.contains(&format!("Usage: btlive {command}")), "{}", ended.stdout);
        let unwanted = ["not yet", "not built", "later version", "unimplemented", "\x1b", "\t"];
        for word in unwanted {
            assert!(!ended.stdout.contains(word), "{command}: {word} in {}", ended.stdout);
        }
        let long = ended.stdout.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{command}");
    }
}

#[test]
fn what_is_not_built_does_not_exist() {
    for args in [&["serve"][..], &["channel", "new"], &["play", "--proxy", "x", "y"]] {
        assert_eq!(btlive::run(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn a_wrong_flag_ends_with_code_2_and_names_the_nearest() {
    let words = refused(2, &["play", "--outputt", "x", "y.torrent"]);
    assert!(words.contains("'--output'"), "{words}");
    let words = refused(2, &["plya"]);
    assert!(words.contains("'play'"), "{words}");
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = btlive::run(["completions", shell]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for command in COMMANDS {
            assert!(ended.stdout.contains(command), "{shell} does not know {command}");
        }
    }
    let whole = btlive::run(["man"]);
    assert!(whole.stdout.contains(".TH btlive"), "{}", whole.stdout);
    for command in COMMANDS {
        assert!(whole.stdout.contains(&format!("btlive\\-{command}")), "{command}");
        let page = btlive::run(["man", command]);
        assert!(page.stdout.contains(&format!(".TH btlive-{command}")), "{command}");
        assert!(page.stdout.contains(&format!("btlive {command}")), "{}", page.stdout);
    }
    let words = refused(2, &["man", "nothing"]);
    assert!(words.contains("completions"), "{words}");
}

#[test]
fn a_created_torrent_reads_back_and_its_key_is_private() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &["http://127.0.0.1:1/announce".to_owned()]);
    let mode = std::fs::metadata(&live.key).expect("the key file").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    for thing in [&live.torrent, &live.magnet] {
        let ended = btlive::run(["inspect", "--json", thing]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let shown = ended.json().pop().expect("a document");
        let hash = shown.get("info_hash").and_then(Value::as_str).expect("an info-hash");
        assert_eq!(support::torrent::info_hash(hash), live.info_hash, "{thing}");
    }
    let ended = btlive::run(["inspect", "--json", &live.torrent]);
    assert_eq!(ended.json()[0]["kind"], "live");
}

#[test]
fn wrong_inputs_have_their_codes_and_one_line() {
    let dir = temp_dir();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let state = path("state");
    let live = btlive::create(dir.path(), &[]);
    let ordinary = support::torrent::ordinary(dir.path(), "clip.ts", b"12345", &[]);
    let ordinary = ordinary.path.to_str().expect("a path in UTF-8");
    let words = refused(2, &["play", "--state-dir", &state, ordinary]);
    assert!(words.contains("ordinary"), "{words}");
    let words = refused(2, &["play", "--state-dir", &state, &path("nothing.torrent")]);
    assert!(words.contains("no such file"), "{words}");

    let other = temp_dir();
    let foreign = btlive::create(other.path(), &[]);
    let words = refused(6, &["broadcast", "--key", &foreign.key, &live.torrent]);
    assert!(words.contains("is not the key of"), "{words}");
}

#[test]
fn a_dead_channel_ends_within_the_wait() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let begin = Instant::now();
    let mut play = member(dir.path(), "viewer", "play")
        .args(["--output", "/dev/null", "--wait", "2s", &live.torrent])
        .spawn();
    assert_eq!(play.wait(LIMIT).code(), Some(3), "{}", play.last_words());
    assert!(begin.elapsed() < Duration::from_secs(6), "took {:?}", begin.elapsed());
    assert!(play.stderr().contains("no peer is known"), "{}", play.stderr());
}

#[test]
fn a_second_broadcaster_with_the_same_state_is_refused() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (_first, address) = broadcaster(dir.path(), &live);
    let state = dir.path().join("broadcaster.state");
    let mut second = btlive::start(None, "second", dir.path())
        .args(["broadcast", "--key", &live.key, "--input", "/dev/zero", "--state-dir"])
        .arg(&state)
        .arg(&live.torrent)
        .spawn();
    assert_eq!(second.wait(LIMIT).code(), Some(10), "{}", second.last_words());
    let mut third = btlive::start(None, "third", dir.path())
        .args(["play", "--listen", &address, "--output", "/dev/null", "--state-dir"])
        .arg(dir.path().join("third.state"))
        .arg(&live.torrent)
        .spawn();
    assert_eq!(third.wait(LIMIT).code(), Some(10), "{}", third.last_words());
}

#[test]
fn taken_addresses_end_with_code_10() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let words = refused(10, &["tracker", "--http", &address]);
    assert!(words.contains(&address), "{words}");
    let mut args = vec!["demo", "--json", "--http", &address];
    assert_eq!(btlive::run(args.iter().copied()).code, Some(10));
    args.push("--processes");
    let ended = btlive::run(args);
    assert_eq!(ended.code, Some(10), "{}", ended.stderr);
}

/// A tracker that takes connections and never answers.
fn hanging_tracker() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/announce", listener.local_addr().expect("an address"));
    (listener, url)
}

#[test]
fn ctrl_c_ends_cleanly_though_the_tracker_hangs() {
    let (_listener, url) = hanging_tracker();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[url]);
    let path = dir.path().join("report.json");
    let mut seed =
        member(dir.path(), "relay", "seed").arg("--report").arg(&path).arg(&live.torrent).spawn();
    seed.wait_for_line("Ctrl-C stops", LIMIT);
    std::thread::sleep(Duration::from_millis(300));
    let begin = Instant::now();
    seed.signal("INT");
    assert_eq!(seed.wait(LIMIT).code(), Some(130), "{}", seed.last_words());
    assert!(begin.elapsed() < Duration::from_secs(3), "took {:?}", begin.elapsed());
    assert_eq!(report(&path)["role"], "seed");
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let (_listener, url) = hanging_tracker();
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[url]);
    let mut seed = member(dir.path(), "relay", "seed").arg(&live.torrent).spawn();
    seed.wait_for_line("Ctrl-C stops", LIMIT);
    std::thread::sleep(Duration::from_millis(300));
    seed.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    seed.signal("INT");
    assert_eq!(seed.wait(LIMIT).code(), Some(130), "{}", seed.last_words());
    assert!(begin.elapsed() < Duration::from_millis(800), "took {:?}", begin.elapsed());
}

#[test]
fn a_reader_that_has_seen_enough_is_a_normal_end() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (_broadcaster, address) = broadcaster(dir.path(), &live);
    let path = dir.path().join("report.json");
    let mut play = member(dir.path(), "viewer", "play")
        .args(["--output", "-", "--peer", &address, "--report"])
        .arg(&path)
        .arg(&live.torrent)
        .with_stdout()
        .spawn();
    let mut stdout = play.take_stdout();
    let mut first = [0; 188];
    stdout.read_exact(&mut first).expect("a first packet");
    assert_eq!(first[0], 0x47);
    drop(stdout);
    assert_eq!(play.wait(LIMIT).code(), Some(0), "{}", play.last_words());
    let report = report(&path);
    assert!(number(&report, "pieces.played") > 0.0, "{report}");
    assert!(number(&report, "startup_ms") > 0.0, "{report}");
}

#[test]
fn two_read_one_url_and_one_leaves() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (_broadcaster, address) = broadcaster(dir.path(), &live);
    let mut play = member(dir.path(), "viewer", "play")
        .args(["--http", "127.0.0.1:0", "--peer", &address, &live.torrent])
        .spawn();
    let line = play.wait_for_line("playing at ", LIMIT);
    let url = line.rsplit(' ').next().expect("a URL").to_owned();
    let long = {
        let url = url.clone();
        std::thread::spawn(move || http(&url, "GET", 1_500_000).len())
    };
    let short = http(&url, "GET", 100_000);
    assert!(short.starts_with("HTTP/1.1 200"), "{}", &short[..short.len().min(200)]);
    // The one who stays gets some seconds more.
    assert!(long.join().expect("a reader") >= 1_500_000, "{}", play.last_words());
    let head = http(&url, "HEAD", 1 << 20);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: video/mp2t"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_dead_channel_is_503_over_http() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let mut play = member(dir.path(), "viewer", "play")
        .args(["--http", "127.0.0.1:0", "--wait", "2s", &live.torrent])
        .spawn();
    let line = play.wait_for_line("playing at ", LIMIT);
    let url = line.rsplit(' ').next().expect("a URL");
    let answer = http(url, "GET", 1 << 20);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after"), "{answer}");
}

/// Fails unless a demonstration went well; gives its document.
#[track_caller]
fn demo(namespace: Option<&Namespace>, args: &[&str]) -> Value {
    let dir = temp_dir();
    let mut demo = btlive::start(namespace, "demo", dir.path())
        .args(["demo", "--json"])
        .args(args)
        .env("TMPDIR", dir.path())
        .spawn();
    let status = demo.wait(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", demo.last_words());
    let verdict: Value = serde_json::from_str(&demo.stdout()).expect("one document");
    assert_eq!(verdict["ok"], true, "{verdict}");
    let left = std::fs::read_dir(dir.path()).expect("the folder").flatten();
    let left = left.filter(|e| e.file_name().to_string_lossy().starts_with("btlive-demo"));
    assert_eq!(left.count(), 0, "it leaves nothing behind");
    verdict
}

fn viewers(verdict: &Value) -> &Vec<Value> {
    verdict["viewers"].as_array().expect("viewers")
}

/// Fails unless each viewer got all, and over its sockets.
#[track_caller]
fn assert_whole(verdict: &Value) {
    let taken_in = number(verdict, "broadcaster.taken_in_bytes");
    for viewer in viewers(verdict) {
        let delivered = number(viewer, "delivered_bytes");
        assert_eq!(number(viewer, "ended_at_byte"), taken_in, "{viewer}");
        assert_eq!(number(viewer, "began_at_byte") + delivered, taken_in, "{viewer}");
        assert!(delivered > taken_in / 2.0, "{viewer}");
        assert!(number(viewer, "bytes.down_payload") >= delivered, "{viewer}");
        assert_eq!(number(viewer, "missed"), 0.0, "{viewer}");
    }
}

#[test]
fn the_demo_brings_every_byte_to_every_viewer() {
    let verdict = demo(None, &["--duration", "8s"]);
    assert_whole(&verdict);
    assert_eq!(viewers(&verdict).len(), 3);
    // Three viewers, and no more than one and a half copies from the broadcaster.
    assert!(number(&verdict, "broadcaster.copies_sent") < 1.9, "{verdict}");
    assert!(number(&verdict, "relayed_ratio") > 0.3, "{verdict}");
}

#[test]
fn the_demo_of_processes_brings_every_byte_too() {
    let verdict = demo(None, &["--duration", "8s", "--processes"]);
    assert_whole(&verdict);
    assert_eq!(verdict["processes"], true);
}

/// Bytes that the loopback interface has carried.
fn carried(namespace: &Namespace) -> u64 {
    let shown = output_of(namespace.command("cat").arg("/proc/net/dev"));
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let line = shown.lines().find(|line| line.trim_start().starts_with("lo:")).expect("lo");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn the_demo_needs_only_loopback_and_every_byte_crosses_it() {
    let namespace = Namespace::new();
    let before = carried(&namespace);
    let verdict = demo(Some(&namespace), &["--duration", "8s"]);
    let crossed = carried(&namespace) - before;
    assert_whole(&verdict);
    let delivered: f64 = viewers(&verdict).iter().map(|v| number(v, "delivered_bytes")).sum();
    assert!(crossed as f64 >= delivered, "{crossed} bytes crossed lo, {delivered} were played");
}

#[test]
fn without_loopback_the_demo_says_what_to_do() {
    let namespace = Namespace::new();
    output_of(namespace.command("ip").args(["link", "set", "lo", "down"]));
    let dir = temp_dir();
    let mut demo = btlive::start(Some(&namespace), "demo", dir.path()).arg("demo").spawn();
    assert_eq!(demo.wait(LIMIT).code(), Some(4), "{}", demo.last_words());
    assert!(demo.stderr().contains("ip link set lo up"), "{}", demo.stderr());
}

#[test]
fn viewers_outlive_a_killed_broadcaster_and_a_killed_relay() {
    let restarted = std::thread::spawn(|| {
        demo(None, &["--duration", "14s", "--kill", "broadcaster", "--at", "4s"])
    });
    let relay = demo(None, &["--duration", "9s", "--kill", "relay", "--at", "4s"]);
    let killed = viewers(&relay).iter().filter(|v| v["killed"] == true).count();
    assert_eq!(killed, 1, "{relay}");
    let restarted = restarted.join().expect("the demo of a restart");
    assert_eq!(number(&restarted, "broadcaster.starts"), 2.0);
}

#[test]
fn ctrl_c_ends_the_demo_with_its_verdict() {
    let dir = temp_dir();
    let mut demo = btlive::start(None, "demo", dir.path())
        .args(["demo", "--json", "--duration", "60s"])
        .spawn();
    demo.wait_for_line("open http://", LIMIT);
    std::thread::sleep(Duration::from_secs(5));
    demo.signal("INT");
    assert_eq!(demo.wait(LIMIT).code(), Some(0), "{}", demo.last_words());
    assert!(demo.stdout().contains("\"ok\":true"), "{}", demo.stdout());
}
