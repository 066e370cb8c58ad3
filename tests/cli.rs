//! The command line as people and scripts meet it: its help, its exit codes, its outputs.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::btlive::{self, LOCAL, Live, number, report};
use support::namespace::Namespace;
use support::process::{Process, Start, output_of};
use support::stream::{self, FakeTs};
use support::{temp_dir, wait_for};

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
fn values_that_cannot_be_meant_are_refused_with_an_example_or_the_limit() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (torrent, key) = (live.torrent.as_str(), live.key.as_str());
    let folder = dir.path().to_str().expect("UTF-8");
    let nowhere = dir.path().join("none/r.json").to_string_lossy().into_owned();
    let hash = "ab".repeat(20);
    let table: [(i32, &[&str], &str); 22] = [
        (2, &["sim", "none.toml"], "no such file"),
        (2, &["sim", folder], "is a folder"),
        (2, &["tracker", "--whitelist", "none"], "no such file"),
        (2, &["tracker", "--interval", "0"], "1s to 1d"),
        (2, &["tracker", "--http", "80"], "[::]:80"),
        (2, &["broadcast", "--key", key, "--input", folder, torrent], "is a directory"),
        (2, &["broadcast", "--key", key, "--upload-limit", "0", torrent], "such as 8M"),
        (2, &["seed", "--upload-limit", "0", torrent], "such as 8M"),
        (5, &["seed", "--report", &nowhere, torrent], "none/r.json"),
        (5, &["play", "--report", &nowhere, torrent], "none/r.json"),
        (5, &["broadcast", "--key", key, "--report", &nowhere, torrent], "none/r.json"),
        (2, &["play", "--listen", "6881", torrent], "127.0.0.1:6881"),
        (2, &["play", "--http", "127.0.0.1", torrent], "127.0.0.1:0"),
        (2, &["play", "--delay", "61s", torrent], "60s is the most"),
        (2, &["play", "--delay", "10h", &live.magnet], "3600s is the most"),
        (2, &["play", "--delay", "soon", torrent], "write auto, or a time"),
        (2, &["create", "--name", "x", "--bitrate", "1000G"], "1 to 1G"),
        (2, &["create", "--name", "x", "--bitrate", "1G", "--piece-length", "16KiB"], "0 ms"),
        (2, &["create", "--name", "x", "--tracker", ""], "udp://HOST:PORT"),
        (2, &["scrape", "tracker.example.org"], "udp://HOST:PORT"),
        (2, &["announce", "localhost:80/announce", "--info-hash", &hash], "http://"),
        (2, &["man", "help"], "no command"),
    ];
    for (code, args, words) in table {
        let told = refused(code, args);
        assert!(told.contains(words), "{args:?}: {told}");
    }
}

#[test]
fn a_delay_beyond_the_window_is_refused_by_link_too() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (_broadcaster, address) = broadcaster(dir.path(), &live);
    let mut play = member(dir.path(), "viewer", "play")
        .args(["--output", "/dev/null", "--delay", "61s", "--peer", &address, &live.magnet])
        .spawn();
    assert_eq!(play.wait(LIMIT).code(), Some(2), "{}", play.last_words());
    assert!(play.stderr().contains("60s is the most"), "{}", play.stderr());
}

#[test]
fn a_simulation_whose_reader_has_left_ends_without_a_word() {
    let dir = temp_dir();
    let mut sim = btlive::start(None, "sim", dir.path())
        .args(["sim", "--viewers", "2", "--warm-up", "2s", "--duration", "2s"])
        .with_stdout()
        .spawn();
    drop(sim.take_stdout());
    sim.wait(LIMIT);
    assert!(!sim.stderr().contains("panicked"), "{}", sim.stderr());
}

#[test]
fn announce_names_the_tracker_that_fails_and_leaves_no_peer_behind() {
    let ask = |url: &str, hash: &str, more: &[&str]| {
        btlive::run([&["announce", url, "--allow-local", "--info-hash", hash], more].concat())
    };
    let failed = ask("http://127.0.0.1:1/announce", &"ab".repeat(20), &[]);
    assert_eq!(failed.code, Some(4));
    assert_eq!(
        failed.stderr,
        "btlive: http://127.0.0.1:1/announce: connection refused, nothing listens there\n"
    );
    let dir = temp_dir();
    let mut tracker = btlive::start(None, "tracker", dir.path())
        .args(["tracker", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
        .spawn();
    for (scheme, hash) in [("http", "ab".repeat(20)), ("udp", "cd".repeat(20))] {
        let line = tracker.wait_for_line(&format!("tracker: {scheme}://"), LIMIT);
        let url = line.rsplit(' ').next().expect("a URL").to_owned();
        let listed = || {
            let ended =
                btlive::run(["scrape", &url, "--allow-local", "--info-hash", &hash, "--json"]);
            ended.json().pop().map_or(0, |said| said["leechers"].as_u64().unwrap_or(0))
        };
        assert_eq!(ask(&url, &hash, &["--event", "started"]).code, Some(0));
        assert_eq!(listed(), 0, "{scheme}");
        assert_eq!(ask(&url, &hash, &["--keep"]).code, Some(0));
        assert_eq!(listed(), 1, "{scheme}");
    }
    tracker.signal("INT");
}

#[test]
fn input_that_is_no_mpeg_ts_is_refused_and_not_published() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let table =
        [(0, "ended without a single byte"), (6, "no packet in 6 bytes"), (200_000, "no packet")];
    for (len, words) in table {
        let path = dir.path().join("input");
        std::fs::write(&path, vec![b'x'; len]).expect("an input");
        for looped in [false, true] {
            let mut start = member(dir.path(), "broadcaster", "broadcast").arg("--quiet");
            if looped {
                start = start.arg("--loop");
            }
            let args = ["--key", &live.key, "--input", path.to_str().expect("UTF-8")];
            let mut process = start.args(args).arg(&live.torrent).spawn();
            assert_eq!(process.wait(LIMIT).code(), Some(2), "{}", process.last_words());
            let told = process.stderr();
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(told.contains(words) || (looped && len == 0), "{told}");
        }
    }
}

#[test]
fn an_input_that_fails_half_way_ends_with_code_8() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    // It can be opened; reading where nothing is mapped fails.
    let args = ["--quiet", "--key", &live.key, "--input", "/proc/self/mem", &live.torrent];
    let mut process = member(dir.path(), "broadcaster", "broadcast").args(args).spawn();
    assert_eq!(process.wait(LIMIT).code(), Some(8), "{}", process.last_words());
}

#[test]
fn variables_stand_for_flags_in_the_words_that_people_use() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let ask = |value: &str| {
        let mut process = btlive::start(None, "announce", dir.path())
            .args(["announce", "http://127.0.0.1:1/announce", "--info-hash", &"ab".repeat(20)])
            .env("BTLIVE_ALLOW_LOCAL", value)
            .spawn();
        process.wait(LIMIT).code()
    };
    // With permission nobody answers, without it nobody is asked.
    for (value, code) in [("1", 4), ("yes", 4), ("true", 4), ("0", 2), ("no", 2), ("maybe", 2)] {
        assert_eq!(ask(value), Some(code), "{value}");
    }
    let mut play = btlive::start(None, "viewer", dir.path())
        .args(["play", "--quiet", "--output", "/dev/null", &live.torrent])
        .env("BTLIVE_WAIT", "1s")
        .env("BTLIVE_PEER", "127.0.0.1:1,nonsense")
        .env("BTLIVE_STATE_DIR", dir.path())
        .spawn();
    assert_eq!(play.wait(LIMIT).code(), Some(2), "{}", play.last_words());
    assert!(play.stderr().contains("nonsense"), "{}", play.stderr());
}

#[test]
fn a_link_to_a_private_stream_is_refused() {
    let dir = temp_dir();
    let torrent = dir.path().join("p.torrent").to_string_lossy().into_owned();
    let made = btlive::run(["create", "--json", "--private", "--name", "p", "--out", &torrent]);
    let made = made.json().pop().expect("a document");
    assert_eq!(made["magnet"], Value::Null);
    let words = refused(2, &["play", "--peer", "127.0.0.1:7000", &torrent]);
    assert!(words.contains("private"), "{words}");
    let key = made["key"].as_str().expect("a key file");
    let mut source = member(dir.path(), "broadcaster", "broadcast")
        .args(["--key", key, &torrent])
        .with_stdin()
        .spawn();
    drop(stream::feed(FakeTs::frames(1_000_000, 60), source.take_stdin()));
    let line = source.wait_for_line("listening for peers on ", LIMIT);
    let address = line.rsplit(' ').next().expect("an address");
    let hash = made["info_hash"].as_str().expect("an info-hash");
    let link = format!("magnet:?xt=urn:btih:{hash}&x.pe={address}");
    // The second start has the metadata of the first one in its state.
    for _ in 0..2 {
        let mut play =
            member(dir.path(), "viewer", "play").args(["--output", "/dev/null", &link]).spawn();
        assert_eq!(play.wait(LIMIT).code(), Some(2), "{}", play.last_words());
        assert!(play.stderr().contains("the stream is private"), "{}", play.stderr());
    }
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

/// A tracker that gives every announce the same peers.
fn tracker_that_lists(peers: &[SocketAddrV4]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/announce", listener.local_addr().expect("an address"));
    let entry =
        |peer: &SocketAddrV4| [&peer.ip().octets()[..], &peer.port().to_be_bytes()].concat();
    let list: Vec<u8> = peers.iter().flat_map(entry).collect();
    let head = format!("d8:intervali60e5:peers{}:", list.len());
    let body = [head.as_bytes(), &list, b"e"].concat();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    url
}

/// Listens at `listener` for `time`, holding what comes; gives how many came.
fn dials(listener: TcpListener, time: Duration) -> std::thread::JoinHandle<usize> {
    listener.set_nonblocking(true).expect("a listener");
    std::thread::spawn(move || {
        let (begin, mut held) = (Instant::now(), Vec::new());
        while begin.elapsed() < time {
            match listener.accept() {
                Ok(stream) => held.push(stream),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        held.len()
    })
}

#[test]
fn of_a_trackers_list_only_peers_are_dialled_and_each_once() {
    let local = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let peer = TcpListener::bind(local(0)).expect("a port");
    let mail = (900..1024).find_map(|port| TcpListener::bind(local(port)).ok());
    let mail = mail.expect("a privileged port, which needs root");
    let port_of = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let own = support::free_port();
    let mut peers = vec![local(port_of(&peer)); 500];
    let metadata = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 8080);
    let group = SocketAddrV4::new(Ipv4Addr::new(239, 1, 1, 1), 8080);
    peers.extend([local(port_of(&mail)), local(0), local(own), metadata, group]);
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[tracker_that_lists(&peers)]);
    let (peer, mail) = (dials(peer, Duration::from_secs(6)), dials(mail, Duration::from_secs(6)));
    let path = dir.path().join("report.json");
    let mut seed = btlive::start(None, "relay", dir.path())
        .args(["seed", "--allow-local", "--until", "5s", "--listen", &local(own).to_string()])
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .arg("--report")
        .arg(&path)
        .arg(&live.torrent)
        .spawn();
    assert_eq!(seed.wait(LIMIT).code(), Some(0), "{}", seed.last_words());
    assert_eq!(peer.join().expect("a count"), 1, "one endpoint is one dial");
    assert_eq!(mail.join().expect("a count"), 0, "no peer is at a privileged port");
    assert_eq!(number(&report(&path), "peers.known"), 1.0, "the others are not even kept");
}

/// An HTTP server that sends everybody to the address in the path (`/HOST:PORT/x`).
const REDIRECTOR: &str = "
import http.server
class Redirect(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(302)
        self.send_header('Location', 'http:/' + self.path.split('?')[0])
        self.end_headers()
http.server.HTTPServer(('9.9.9.9', 8080), Redirect).serve_forever()
";

#[test]
fn a_tracker_of_the_internet_cannot_send_us_into_the_own_network() {
    let namespace = Namespace::new();
    output_of(namespace.command("ip").args(["addr", "add", "9.9.9.9/32", "dev", "lo"]));
    let dir = temp_dir();
    let server = Start::within(Some(&namespace), "redirector", "/usr/bin/python3", dir.path())
        .args(["-c", REDIRECTOR])
        .spawn();
    let ask = |target: &str| {
        let url = format!("http://9.9.9.9:8080/{target}/announce");
        let mut asked = btlive::start(Some(&namespace), "announce", dir.path())
            .args(["announce", &url, "--info-hash", &"ab".repeat(20)])
            .spawn();
        (asked.wait(LIMIT).code(), asked.stderr())
    };
    wait_for("the server", LIMIT, || ask("127.0.0.1:1").1.contains("local").then_some(()));
    for (target, words) in [
        ("127.0.0.1:8080", "127.0.0.1:8080 is a local address"),
        ("localhost:8080", "127.0.0.1:80 is a local address"),
        ("10.1.2.3:80", "is a local address"),
        ("192.168.1.1", "is a local address"),
        ("169.254.169.254", "link-local or a cloud's metadata"),
        ("100.100.100.200", "link-local or a cloud's metadata"),
        ("2852039166", "169.254.169.254:80 is link-local"),
    ] {
        let (code, told) = ask(target);
        // Who may permit it is told so; the rest is the tracker's fault.
        let expected = if words.ends_with("local address") { 2 } else { 4 };
        assert_eq!(code, Some(expected), "{target}: {told} {}", server.last_words());
        assert!(told.contains(words), "{target}: {told}");
    }
    server.signal("KILL");
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
fn a_full_disk_a_missing_player_and_a_stall_have_their_codes() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (broadcaster, address) = broadcaster(dir.path(), &live);
    let play = |name: &str, more: &[&str]| {
        let start = member(dir.path(), name, "play").args(["--peer", &address]).args(more);
        start.arg(&live.torrent).spawn()
    };
    let mut stalled = play("stalled", &["--output", "/dev/null", "--max-stall", "2s"]);
    let mut full = play("full", &["--output", "/dev/full"]);
    assert_eq!(full.wait(LIMIT).code(), Some(5), "{}", full.last_words());
    for player in ["no-such-player", "false"] {
        let mut failed = play("player", &["--player", player]);
        assert_eq!(failed.wait(LIMIT).code(), Some(9), "{}", failed.last_words());
        assert!(failed.stderr().contains(player), "{}", failed.stderr());
    }
    std::thread::sleep(Duration::from_secs(2));
    broadcaster.signal("KILL");
    assert_eq!(stalled.wait(LIMIT).code(), Some(11), "{}", stalled.last_words());
}

/// A command on a terminal of its own, which is recorded.
fn on_terminal(dir: &Path, name: &str, command: &str) -> Process {
    let dir_of = |what: &str| dir.join(format!("{name}.{what}"));
    Start::new(name, "/usr/bin/script", dir)
        .args(["--quiet", "--flush", "--return", "--command", command])
        .arg(dir_of("typescript"))
        .env("BTLIVE_STATE_DIR", dir_of("state"))
        .env("BTLIVE_LISTEN", "127.0.0.1:0")
        .env("BTLIVE_ALLOW_LOCAL", "1")
        .with_stdin()
        .spawn()
}

#[test]
fn on_a_terminal_one_line_tells_how_it_goes_and_elsewhere_none() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (_broadcaster, address) = broadcaster(dir.path(), &live);
    let play = |more: &str| {
        let (program, torrent) = (btlive::PATH, &live.torrent);
        format!("{program} play {torrent} --peer {address} --output /dev/null {more}")
    };
    let mut shown = on_terminal(dir.path(), "shown", &play(""));
    let mut quiet = on_terminal(dir.path(), "quiet", &play("--quiet"));
    let mut piped = on_terminal(dir.path(), "piped", &play("2>&1 | cat"));
    let written = |name: &str| {
        std::fs::read_to_string(dir.path().join(format!("{name}.typescript"))).expect("a record")
    };
    let record = dir.path().join("shown.typescript");
    let is_live = |text: String| text.contains("live: 1 peer, ").then_some(());
    wait_for("live stream", LIMIT, || std::fs::read_to_string(&record).ok().and_then(is_live));
    std::thread::sleep(Duration::from_secs(2));
    let record = |process: &mut Process, name: &str| {
        // As the key does: the terminal signals the command.
        process.take_stdin().write_all(b"\x03").expect("a key");
        process.wait(LIMIT);
        written(name)
    };
    let text = record(&mut shown, "shown");
    let line = text.split("\r\x1b[K").find(|line| line.starts_with("live: 1 peer, "));
    let line = line.unwrap_or_else(|| panic!("no status line: {text:?}"));
    for part in [" s behind, ", "down ", " up ", " Mbit/s, ", "window "] {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
    assert!(text.contains("btlive: interrupted"), "{text:?}");
    for (process, name) in [(&mut quiet, "quiet"), (&mut piped, "piped")] {
        let text = record(process, name);
        assert!(!text.contains(" behind") && !text.contains("\x1b["), "{name}: {text:?}");
    }
}

#[test]
fn a_hundred_read_one_url() {
    let dir = temp_dir();
    let live = btlive::create(dir.path(), &[]);
    let (_broadcaster, address) = broadcaster(dir.path(), &live);
    let mut play = member(dir.path(), "viewer", "play")
        .args(["--http", "127.0.0.1:0", "--peer", &address, &live.torrent])
        .spawn();
    let line = play.wait_for_line("playing at ", LIMIT);
    let url = line.rsplit(' ').next().expect("a URL").to_owned();
    let read = |_| {
        let url = url.clone();
        std::thread::spawn(move || http(&url, "GET", 300_000).len())
    };
    let readers: Vec<_> = (0..100).map(read).collect();
    for reader in readers {
        assert!(reader.join().expect("a reader") >= 300_000, "{}", play.last_words());
    }
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
