//! Real trackers, each started for one test: those of other projects, and our own.

use std::fs::Permissions;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::announce::{self, Ask, Count, Event, Reply};
use super::client;
use super::namespace::{Namespace, command_in};
use super::process::{Process, Start, output_of};
use super::torrent::hex;
use super::{built_tool, debian_tool, free_port, temp_dir, wait_for};

/// The trackers that the tests run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// opentracker, as Debian builds it: only listed torrents; HTTP and UDP.
    Opentracker,
    /// The npm package bittorrent-tracker: HTTP and UDP.
    BittorrentTracker,
    /// `aquatic_udp`: UDP.
    AquaticUdp,
    /// `aquatic_http`: HTTP.
    AquaticHttp,
    /// The tracker inside qBittorrent: HTTP. It listens on every interface, so it lives in a
    /// namespace that has only `lo`.
    Qbittorrent,
    /// `btlive tracker`: HTTP and UDP.
    Btlive,
}

/// The port of who asks only to look: no privileged one, which trackers refuse, and none that a
/// test gives away.
const PROBE_PORT: u16 = 9_999;

/// How long a tracker may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running tracker.
pub(crate) struct Tracker {
    /// Which one.
    pub(crate) kind: Kind,
    /// Its HTTP announce URL.
    pub(crate) http: Option<String>,
    /// Its UDP announce URL.
    pub(crate) udp: Option<String>,
    /// The namespace in which it can be reached; none is this machine's own.
    pub(crate) namespace: Option<Namespace>,
    process: Process,
    dir: tempfile::TempDir,
}

impl Tracker {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// If its program is missing or it does not answer.
    #[track_caller]
    pub(crate) fn start(kind: Kind) -> Self {
        let dir = temp_dir();
        let port = free_port();
        let mut tracker = match kind {
            Kind::Opentracker => opentracker(dir, port),
            Kind::BittorrentTracker => bittorrent_tracker(dir, port),
            Kind::AquaticUdp => aquatic_udp(dir, port),
            Kind::AquaticHttp => aquatic_http(dir, port),
            Kind::Qbittorrent => qbittorrent(dir),
            Kind::Btlive => btlive_tracker(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        };
        tracker.wait_until_it_answers();
        tracker
    }

    /// Starts our own one on the IPv6 loopback address.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub(crate) fn start_v6() -> Self {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
        let mut tracker = btlive_tracker(temp_dir(), address);
        tracker.wait_until_it_answers();
        tracker
    }

    #[track_caller]
    fn wait_until_it_answers(&mut self) {
        let mut ended = false;
        wait_for("answer of the tracker", START_LIMIT, || {
            ended = self.process.status().is_some();
            (ended || self.answers()).then_some(())
        });
        assert!(!ended, "the tracker ended: {}", self.process.last_words());
    }

    /// Its announce URLs.
    pub(crate) fn urls(&self) -> Vec<String> {
        [&self.http, &self.udp].into_iter().flatten().cloned().collect()
    }

    /// Lets it serve a torrent, if it wants to be told.
    pub(crate) fn allow(&self, info_hash: [u8; 20]) {
        if self.kind != Kind::Opentracker {
            return;
        }
        let path = self.dir.path().join(WHITELIST);
        let listed = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(&path, format!("{listed}{}\n", hex(&info_hash))).expect("write whitelist");
        // It reads the list on a thread of its own and does not say when it has; a signal that
        // comes while it reads is lost.
        let probe = Ask { info_hash, port: PROBE_PORT, left: 1, event: Event::Stopped };
        let mut told_at: Option<std::time::Instant> = None;
        wait_for("torrent on the whitelist", Duration::from_secs(20), || {
            if told_at.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
                self.process.signal("HUP");
                told_at = Some(std::time::Instant::now());
            }
            self.ask(&probe).ok()
        });
    }

    /// Announces to it, over HTTP if it can.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<Reply, String> {
        match (&self.http, &self.udp) {
            (Some(url), _) => announce::http(url, ask, self.namespace.as_ref()),
            (None, Some(url)) => announce::Udp::connect(address(url))?.announce(ask),
            (None, None) => Err("it has no address".to_owned()),
        }
    }

    /// How many peers it knows of, in the way that this tracker tells it.
    pub(crate) fn count(&self, info_hash: [u8; 20]) -> Result<Count, String> {
        match (&self.http, &self.udp) {
            (_, Some(url)) => announce::Udp::connect(address(url))?.scrape(info_hash),
            (Some(url), None) => announce::http_scrape(url, info_hash, self.namespace.as_ref()),
            (None, None) => Err("it has no address".to_owned()),
        }
    }

    /// The peers it would name to a newcomer, who is gone again afterwards.
    pub(crate) fn peers(&self, info_hash: [u8; 20]) -> Result<Vec<std::net::SocketAddrV4>, String> {
        let newcomer = Ask { info_hash, port: PROBE_PORT, left: 1, event: Event::Started };
        let mut peers = self.ask(&newcomer)?.peers;
        self.ask(&Ask { event: Event::Stopped, ..newcomer })?;
        peers.retain(|peer| peer.port() != PROBE_PORT);
        Ok(peers)
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn answers(&self) -> bool {
        let ask = Ask { info_hash: [0xee; 20], port: PROBE_PORT, left: 1, event: Event::Stopped };
        match (&self.http, &self.udp) {
            // Whatever it says, it speaks.
            (Some(url), _) if self.namespace.is_none() => TcpStream::connect(address(url)).is_ok(),
            _ => self.ask(&ask).is_ok(),
        }
    }
}

/// `127.0.0.1:6969` of `udp://127.0.0.1:6969/announce`.
fn address(url: &str) -> &str {
    let rest = url.split("://").nth(1).unwrap_or(url);
    rest.split('/').next().unwrap_or(rest)
}

fn http_url(port: u16) -> Option<String> {
    Some(format!("http://127.0.0.1:{port}/announce"))
}

fn udp_url(port: u16) -> Option<String> {
    Some(format!("udp://127.0.0.1:{port}/announce"))
}

const WHITELIST: &str = "whitelist.txt";

fn opentracker(dir: tempfile::TempDir, port: u16) -> Tracker {
    let path = dir.path();
    std::fs::write(path.join(WHITELIST), "").expect("write whitelist");
    let port_text = port.to_string();
    // Started by root it becomes nobody, who has to read the list too.
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a readable directory");
    let process = Start::new("opentracker", debian_tool("opentracker"), path)
        .args(["-i", "127.0.0.1", "-p", &port_text, "-P", &port_text, "-A", "127.0.0.1"])
        .args(["-w", WHITELIST, "-u", "nobody", "-d"])
        .arg(path)
        .current_dir(path)
        .spawn();
    let (http, udp) = (http_url(port), udp_url(port));
    Tracker { kind: Kind::Opentracker, http, udp, namespace: None, process, dir }
}

fn bittorrent_tracker(dir: tempfile::TempDir, port: u16) -> Tracker {
    built_tool("node/node_modules/bittorrent-tracker");
    // Node looks for packages beside the script, so it has to lie beside them.
    let script = built_tool("node").join("bt_tracker.mjs");
    let text = include_str!("bt_tracker.mjs");
    if std::fs::read_to_string(&script).ok().as_deref() != Some(text) {
        let draft = dir.path().join("bt_tracker.mjs");
        std::fs::write(&draft, text).expect("write the script");
        std::fs::copy(&draft, &script).expect("copy the script");
    }
    let process = Start::new("bittorrent-tracker", debian_tool("node"), dir.path())
        .arg(&script)
        .arg(port.to_string())
        .spawn();
    let (http, udp) = (http_url(port), udp_url(port));
    Tracker { kind: Kind::BittorrentTracker, http, udp, namespace: None, process, dir }
}

/// Writes the configuration that an aquatic program prints, with another address.
fn aquatic(program: &str, dir: &Path, port: u16) -> Process {
    let program_path = built_tool("bin").join(program);
    let config = output_of(std::process::Command::new(&program_path).arg("-p"));
    let config = String::from_utf8(config).expect("TOML");
    let own = format!("address = \"127.0.0.1:{port}\"");
    let config = config.replace("address = \"0.0.0.0:3000\"", &own);
    assert!(config.contains(&own), "its configuration has changed: {config}");
    std::fs::write(dir.join("config.toml"), config).expect("write the configuration");
    Start::new(program, program_path, dir).args(["-c", "config.toml"]).current_dir(dir).spawn()
}

fn aquatic_udp(dir: tempfile::TempDir, port: u16) -> Tracker {
    let process = aquatic("aquatic_udp", dir.path(), port);
    let udp = udp_url(port);
    Tracker { kind: Kind::AquaticUdp, http: None, udp, namespace: None, process, dir }
}

fn aquatic_http(dir: tempfile::TempDir, port: u16) -> Tracker {
    let process = aquatic("aquatic_http", dir.path(), port);
    let http = http_url(port);
    Tracker { kind: Kind::AquaticHttp, http, udp: None, namespace: None, process, dir }
}

fn btlive_tracker(dir: tempfile::TempDir, address: SocketAddr) -> Tracker {
    let address = address.to_string();
    let process = Start::new("tracker", super::btlive::PATH, dir.path())
        .args(["tracker", "--interval", "10s", "--http", &address, "--udp", &address])
        .spawn();
    let http = Some(format!("http://{address}/announce"));
    let udp = Some(format!("udp://{address}/announce"));
    Tracker { kind: Kind::Btlive, http, udp, namespace: None, process, dir }
}

fn qbittorrent(dir: tempfile::TempDir) -> Tracker {
    let namespace = Namespace::new();
    let port = 20_000;
    let process = client::qbittorrent_daemon(Some(&namespace), dir.path(), port, true);
    // The tracker starts with the session, shortly after the web interface.
    let http = http_url(port + 2);
    wait_for("qBittorrent's tracker", START_LIMIT, || {
        let mut curl = command_in(Some(&namespace), "curl");
        let url = http.as_deref().unwrap_or_default();
        let output = curl.args(["--silent", "--max-time", "2", "--output", "-", url]).output();
        output.ok().filter(|output| output.status.success())
    });
    Tracker { kind: Kind::Qbittorrent, http, udp: None, namespace: Some(namespace), process, dir }
}
