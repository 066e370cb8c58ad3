//! Real BitTorrent clients of other projects, each started for one test on loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::namespace::{Namespace, command_in};
use super::process::{Process, Start};
use super::{built_tool, debian_tool, free_ports, temp_dir, wait_for};

/// The clients that the tests run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// libtorrent 2, through its Python binding.
    Libtorrent,
    /// aria2.
    Aria2,
    /// transmission-daemon.
    Transmission,
    /// qBittorrent without a window (libtorrent inside).
    Qbittorrent,
    /// rqbit.
    Rqbit,
}

/// All of them.
pub(crate) const ALL: [Kind; 5] =
    [Kind::Libtorrent, Kind::Aria2, Kind::Transmission, Kind::Qbittorrent, Kind::Rqbit];

/// How long a client may take until it answers, and until it has ended after it was told to.
const LIMIT: Duration = Duration::from_secs(30);

/// A running client with one torrent.
pub(crate) struct Client {
    /// Which one.
    pub(crate) kind: Kind,
    /// Where its downloads are.
    pub(crate) downloads: PathBuf,
    /// What its control interface said when the torrent was added; empty for those without one.
    pub(crate) answer: String,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Client {
    /// Starts one that wants `source`, the path of a `.torrent` or a magnet link.
    ///
    /// # Panics
    /// If its program is missing or it does not start.
    #[track_caller]
    pub(crate) fn start(kind: Kind, source: &str) -> Self {
        let dir = temp_dir();
        let downloads = dir.path().join("downloads");
        std::fs::create_dir(&downloads).expect("a new directory");
        Self::start_in(kind, source, dir, downloads, false)
    }

    /// Starts one that seeds the torrent at `source` from `downloads`, which has all of it.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[track_caller]
    pub(crate) fn seed(kind: Kind, source: &str, downloads: &Path) -> Self {
        Self::start_in(kind, source, temp_dir(), downloads.to_owned(), true)
    }

    #[track_caller]
    fn start_in(
        kind: Kind,
        source: &str,
        dir: tempfile::TempDir,
        downloads: PathBuf,
        seed: bool,
    ) -> Self {
        let job = Job { source, dir: dir.path(), downloads: &downloads, port: free_ports(3), seed };
        let (process, answer) = match kind {
            Kind::Libtorrent => (libtorrent(&job), String::new()),
            Kind::Aria2 => (aria2(&job), String::new()),
            Kind::Transmission => transmission(&job),
            Kind::Qbittorrent => qbittorrent(&job),
            Kind::Rqbit => (rqbit(&job), String::new()),
        };
        Self { kind, downloads, answer, process, _dir: dir }
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Everything it has said.
    pub(crate) fn words(&self) -> String {
        format!("{}\n{}\n{}", self.answer, self.process.stdout(), self.process.stderr())
    }

    /// Asks it to end and fails if it does not, or if a crash ends it. A client that has ended by
    /// itself may have done so with an error of its own.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let by_itself = self.process.status().is_some();
        let status = self.process.terminate(LIMIT);
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let crashed = !matches!(signal, None | Some(15));
        let said = self.process.last_words();
        assert!(!crashed, "{:?} crashed ({status}, by itself: {by_itself}): {said}", self.kind);
    }
}

struct Job<'a> {
    source: &'a str,
    dir: &'a Path,
    downloads: &'a Path,
    port: u16,
    seed: bool,
}

fn libtorrent(job: &Job<'_>) -> Process {
    Start::new("libtorrent", built_tool("python/bin/python"), job.dir)
        .arg(super::root().join("tests/support/lt_peer.py"))
        .arg(job.source)
        .arg(job.downloads)
        .arg(job.port.to_string())
        .args(job.seed.then_some("--seed"))
        .spawn()
}

fn aria2(job: &Job<'_>) -> Process {
    let quiet = "--no-conf --enable-dht=false --enable-dht6=false --bt-enable-lpd=false \
                 --bt-tracker-timeout=5 --file-allocation=none --allow-overwrite=true \
                 --summary-interval=0 --console-log-level=notice --disable-ipv6=true \
                 --seed-ratio=0.0 --seed-time=600";
    let seeding = ["--bt-seed-unverified=true", "--check-integrity=false"];
    Start::new("aria2", debian_tool("aria2c"), job.dir)
        .env("HOME", job.dir)
        .args(quiet.split_whitespace())
        .args(seeding.iter().filter(|_| job.seed))
        .arg(format!("--dir={}", job.downloads.display()))
        .arg(format!("--listen-port={}", job.port))
        .arg(job.source)
        .spawn()
}

fn transmission(job: &Job<'_>) -> (Process, String) {
    debian_tool("transmission-remote");
    let rpc = format!("127.0.0.1:{}", job.port + 1);
    let settings = serde_json::json!({
        "bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1",
        "download-dir": job.downloads, "incomplete-dir-enabled": false,
        "rename-partial-files": false, "preallocation": 0, "encryption": 0,
        "peer-port": job.port, "peer-port-random-on-start": false,
        "dht-enabled": false, "lpd-enabled": false, "pex-enabled": true, "utp-enabled": false,
        "port-forwarding-enabled": false, "blocklist-enabled": false,
        "download-queue-enabled": false, "seed-queue-enabled": false,
        "rpc-enabled": true, "rpc-bind-address": "127.0.0.1", "rpc-port": job.port + 1,
        "rpc-authentication-required": false, "rpc-whitelist-enabled": false,
        "rpc-host-whitelist-enabled": false,
    });
    std::fs::write(job.dir.join("settings.json"), settings.to_string()).expect("write settings");
    let process = Start::new("transmission", debian_tool("transmission-daemon"), job.dir)
        .env("HOME", job.dir)
        .args(["--foreground", "--log-info", "--config-dir"])
        .arg(job.dir)
        .spawn();
    let remote = |args: &[&str]| {
        let mut command = command_in(None, "transmission-remote");
        command.arg(&rpc).args(args).output().expect("transmission-remote starts")
    };
    wait_for("answer of transmission", LIMIT, || {
        remote(&["--session-info"]).status.success().then_some(())
    });
    let added = remote(&["--add", job.source, "--start-paused"]);
    let answer = String::from_utf8_lossy(&[added.stdout, added.stderr].concat()).into_owned();
    if job.seed {
        remote(&["--torrent", "all", "--verify"]);
    }
    remote(&["--torrent", "all", "--start"]);
    (process, answer)
}

fn qbittorrent(job: &Job<'_>) -> (Process, String) {
    let process = qbittorrent_daemon(None, job.dir, job.port, false);
    let source = if job.source.starts_with("magnet:") {
        format!("urls={}", job.source)
    } else {
        format!("torrents=@{}", job.source)
    };
    let mut curl = command_in(None, "curl");
    curl.args(["--silent", "--show-error", "--max-time", "5", "--form-string"])
        .arg(format!("savepath={}", job.downloads.display()))
        .args(["--form-string", &format!("skip_checking={}", job.seed)])
        .args([if source.starts_with("urls") { "--form-string" } else { "--form" }, &source])
        .arg(format!("http://127.0.0.1:{}/api/v2/torrents/add", job.port + 1));
    let added = curl.output().expect("curl starts");
    let answer = String::from_utf8_lossy(&[added.stdout, added.stderr].concat()).into_owned();
    (process, answer)
}

/// Starts qBittorrent: peers on `port`, web interface on `port + 1` without login, and if asked
/// for its tracker on `port + 2` of every interface.
#[track_caller]
pub(crate) fn qbittorrent_daemon(
    namespace: Option<&Namespace>,
    dir: &Path,
    port: u16,
    tracker: bool,
) -> Process {
    let config_dir = dir.join("qBittorrent/config");
    std::fs::create_dir_all(&config_dir).expect("a new directory");
    let (web, tracker_port) = (port + 1, port + 2);
    let config = format!(
        "[LegalNotice]\nAccepted=true\n[BitTorrent]\nSession\\DHTEnabled=false\n\
         Session\\LSDEnabled=false\nSession\\PeXEnabled=true\nSession\\Port={port}\n\
         Session\\InterfaceAddress=127.0.0.1\nSession\\MultiConnectionsPerIp=true\n\
         Session\\SSRFMitigation=false\nSession\\QueueingSystemEnabled=false\n\
         Session\\TempPathEnabled=false\nSession\\Preallocation=false\n\
         TrackerEnabled={tracker}\n[Preferences]\nAdvanced\\trackerPort={tracker_port}\n\
         Advanced\\trackerEnabled={tracker}\nConnection\\UPnP=false\n\
         WebUI\\Address=127.0.0.1\nWebUI\\Port={web}\nWebUI\\UseUPnP=false\n\
         WebUI\\LocalHostAuth=false\nWebUI\\CSRFProtection=false\n\
         WebUI\\HostHeaderValidation=false\n"
    );
    std::fs::write(config_dir.join("qBittorrent.conf"), config).expect("write configuration");
    let program = debian_tool("qbittorrent-nox");
    let mut process = Start::within(namespace, "qbittorrent", program, dir)
        .env("HOME", dir)
        .arg(format!("--profile={}", dir.display()))
        .spawn();
    let url = format!("http://127.0.0.1:{web}/api/v2/app/version");
    wait_for("answer of qBittorrent", LIMIT, || {
        assert!(process.status().is_none(), "it ended: {}", process.last_words());
        let mut curl = command_in(namespace, "curl");
        let output = curl.args(["--silent", "--fail", "--max-time", "2", &url]).output();
        output.ok().filter(|output| output.status.success())
    });
    process
}

fn rqbit(job: &Job<'_>) -> Process {
    let port = job.port.to_string();
    Start::new("rqbit", built_tool("bin/rqbit"), job.dir)
        .env("HOME", job.dir)
        .args(["--disable-dht", "--disable-dht-persistence", "--disable-lsd"])
        .args(["--disable-upnp-port-forward", "--listen-ip", "127.0.0.1"])
        .args(["--listen-port", &port, "--announce-port", &port])
        .args(["download", "--disable-http-api", "--overwrite", "--output-folder"])
        .arg(job.downloads)
        .arg(job.source)
        .spawn()
}
