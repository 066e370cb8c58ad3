//! The built `btlive` binary: run to its end, or started and watched.

use std::path::Path;
use std::time::Duration;

use super::namespace::Namespace;
use super::process::Start;

/// The binary that cargo has built for these tests.
pub(crate) const PATH: &str = env!("CARGO_BIN_EXE_btlive");

/// How a run to its end went.
pub(crate) struct Ended {
    /// The exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// The JSON documents on standard output.
    ///
    /// # Panics
    /// If a line is not one.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let read = |line| {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}: {}", self.stderr))
        };
        self.stdout.lines().map(read).collect()
    }
}

/// Runs `btlive` with these arguments to its end.
///
/// # Panics
/// If it takes longer than 30 s.
#[track_caller]
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Ended {
    let dir = super::temp_dir();
    let mut process = Start::new("btlive", PATH, dir.path()).args(args).spawn();
    let status = process.wait(Duration::from_secs(30));
    Ended { code: status.code(), stdout: process.stdout(), stderr: process.stderr() }
}

/// Starts `btlive` without arguments yet, in `namespace` if one is given.
pub(crate) fn start(namespace: Option<&Namespace>, name: &str, dir: &Path) -> Start {
    Start::within(namespace, name, PATH, dir)
}

/// What all peers of a test have in common: loopback only, and nothing that finds peers but
/// trackers and what is named.
pub(crate) const LOCAL: [&str; 8] = [
    "--listen",
    "127.0.0.1:0",
    "--allow-local",
    "--no-dht",
    "--no-lsd",
    "--no-pex",
    "--port-mapping",
    "off",
];

/// A live torrent made by `btlive create`.
pub(crate) struct Live {
    /// The `.torrent` file.
    pub(crate) torrent: String,
    /// The key file.
    pub(crate) key: String,
    /// The magnet link.
    pub(crate) magnet: String,
    /// The info-hash.
    pub(crate) info_hash: [u8; 20],
    /// The broadcaster's public key.
    pub(crate) public_key: [u8; 32],
}

/// Makes a live torrent in `dir` that names `trackers`.
///
/// # Panics
/// If `btlive create` fails or says something else than it should.
#[track_caller]
pub(crate) fn create(dir: &Path, trackers: &[String]) -> Live {
    create_for(dir, trackers, 2_000_000)
}

/// The same for a stream of `rate` bit/s.
///
/// # Panics
/// As [`create`].
#[track_caller]
pub(crate) fn create_for(dir: &Path, trackers: &[String], rate: u64) -> Live {
    let torrent = dir.join("live.torrent");
    let rate = rate.to_string();
    let mut args = vec!["create", "--name", "test", "--bitrate", &rate, "--json", "--out"];
    args.push(torrent.to_str().expect("a path in UTF-8"));
    args.extend(trackers.iter().flat_map(|url| ["--tracker", url]));
    let ended = run(args);
    assert_eq!(ended.code, Some(0), "btlive create: {}", ended.stderr);
    let made = ended.json().pop().expect("one JSON document");
    let text = |key: &str| {
        let value = made.get(key).and_then(serde_json::Value::as_str);
        value.unwrap_or_else(|| panic!("no \"{key}\" in {made}")).to_owned()
    };
    Live {
        torrent: text("torrent"),
        key: text("key"),
        magnet: text("magnet"),
        info_hash: super::torrent::info_hash(&text("info_hash")),
        public_key: super::torrent::from_hex(&text("public_key")),
    }
}

/// A number in a status document, by its path (`bytes.from_peers`).
///
/// # Panics
/// If it is not there.
#[track_caller]
pub(crate) fn number(document: &serde_json::Value, path: &str) -> f64 {
    let found = path.split('.').try_fold(document, |value, key| value.get(key));
    found.and_then(serde_json::Value::as_f64).unwrap_or_else(|| panic!("no {path} in {document}"))
}

/// Reads a status document.
///
/// # Panics
/// If the file holds none.
#[track_caller]
pub(crate) fn report(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
