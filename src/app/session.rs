//! A running node with its trackers, its status and its end: what broadcast, play and seed share.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::common::Common;
use super::exit::{Code, Failure};
use super::file::read_bounded;
use super::status::{self, Frame};
use crate::discovery::address::Policy;
use crate::discovery::announce;
use crate::net::announcer::{AnnouncerTask, Counts, Event as AnnouncerEvent};
use crate::net::clock;
use crate::net::driver::{Node, Running, Snapshot};
use crate::net::state::{State, StateError};
use crate::net::trackers::TrackerClient;
use crate::swarm::config::{Config, Role};
use crate::swarm::io::{Event, In, Via};
use crate::units::{InfoHash, PeerId};
use crate::wire::limits::{MAGNET_LEN_MAX, TORRENT_LEN_MAX};
use crate::wire::magnet::{Magnet, PeerAddr};
use crate::wire::metainfo::{Info, Metainfo};
use crate::wire::tracker::Family;

/// What anybody but the source says is left to fetch: a live stream is never complete, and
/// trackers introduce seeds only to those who lack something.
const LEFT: u64 = 16 << 10;
/// Peers asked of a tracker at once.
const NUM_WANT: u32 = 50;
/// The status is looked at this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What a torrent file or a magnet link says.
#[derive(Clone, Debug)]
pub struct Target {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The raw `info` dictionary, if the target has it.
    pub info: Option<Bytes>,
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Trackers in tiers.
    pub tiers: Vec<Vec<String>>,
    /// Peers that the link names.
    pub peers: Vec<PeerAddr>,
    /// Whether only trackers may introduce peers.
    pub private: bool,
}

impl Target {
    /// Reads a torrent file or a magnet link of a live stream.
    ///
    /// # Errors
    /// It is neither, or not of a live stream.
    pub fn read(text: &str) -> Result<Self, Failure> {
        if text.starts_with("magnet:") {
            return Self::from_magnet(text);
        }
        let bytes = read_bounded(Path::new(text), TORRENT_LEN_MAX)?;
        let metainfo = Metainfo::parse(bytes.into())
            .map_err(|e| Failure::usage(format_args!("{text}: {e}")))?;
        if metainfo.info.live().is_none() {
            return Err(Failure::usage(format_args!(
                "{text} is an ordinary torrent ({}), not a live one",
                metainfo.info.kind.name()
            )));
        }
        Ok(Self {
            info_hash: metainfo.info.info_hash,
            info: Some(metainfo.info.raw.clone()),
            name: Some(metainfo.info.name.clone()),
            tiers: metainfo.tiers.clone(),
            peers: Vec::new(),
            private: metainfo.info.private,
        })
    }

    fn from_magnet(text: &str) -> Result<Self, Failure> {
        if text.len() > MAGNET_LEN_MAX {
            return Err(Failure::usage(format_args!("magnet link of {} bytes", text.len())));
        }
        let magnet = Magnet::parse(text).map_err(Failure::usage)?;
        let Some(info_hash) = magnet.info_hash else {
            return Err(Failure::usage("the link names no live stream (xt=urn:btih:…)"));
        };
        Ok(Self {
            info_hash,
            info: None,
            name: magnet.name,
            tiers: magnet.trackers.into_iter().map(|tracker| vec![tracker]).collect(),
            peers: magnet.peers,
            private: false,
        })
    }
}

/// A node that takes part, with what belongs to it.
#[derive(Debug)]
pub struct Session {
    /// The way to the node.
    pub node: Node,
    /// The swarm.
    pub target: Target,
    running: Running,
    announcer: Option<AnnouncerTask>,
    frame: Frame,
    json: bool,
    json_on_stderr: bool,
    quiet: bool,
    on_terminal: bool,
    document: watch::Sender<Value>,
    last: Option<(Instant, u64, u64)>,
    tick: tokio::time::Interval,
    report: Option<std::path::PathBuf>,
    /// What was last told of each tracker that does not work.
    tracker_faults: BTreeMap<String, String>,
}

/// What a session tells its command.
#[derive(Debug)]
pub enum Told {
    /// Something happened in the swarm.
    Event(Event),
    /// A second has passed.
    Second(Box<Snapshot>),
}

/// How a session is set up beyond the common options.
#[derive(Debug)]
pub struct Setup {
    /// `broadcast`, `play` or `seed`.
    pub role_name: &'static str,
    /// What the node does; a source's last entry is filled in from the state.
    pub role: Role,
    /// Whether the source announces itself as one.
    pub left_zero: bool,
    /// Delay at which the stream is fetched.
    pub delay: Duration,
    /// Whether standard output carries media.
    pub stdout_is_media: bool,
}

impl Session {
    /// Starts a node for `target`.
    ///
    /// # Errors
    /// The address is in use, the state cannot be used, or an option does not fit.
    pub async fn start(common: &Common, target: Target, setup: Setup) -> Result<Self, Failure> {
        let began = Instant::now();
        if target.private && !common.peer.is_empty() {
            return Err(Failure::usage(
                "the torrent is private: only its trackers may introduce peers, so --peer is off",
            ));
        }
        let peers = resolve(common, &target).await?;
        let listener = common.listener()?;
        let bound = listener.local_addr().map_err(|e| Failure::new(Code::Network, e))?;
        let is_source = matches!(setup.role, Role::Source(_));
        let dir = common.state_dir()?;
        let state = State::open(&dir, target.info_hash, is_source).map_err(state_failure)?;
        let config = Self::config(common, &target, setup.role, setup.delay, bound.port(), &state);
        let peer_id = config.peer_id;
        let running = Running::start(config, listener, Some(state))
            .map_err(|e| Failure::new(Code::Network, e))?;
        let node = running.node.clone();
        for (via, addr) in peers {
            node.input(In::Found { via, addrs: vec![addr] }).await;
        }
        let left = if setup.left_zero { 0 } else { LEFT };
        let announcer = announcer(common, &target, peer_id, bound, left);
        let (document, _) = watch::channel(Value::Null);
        let mut tick = tokio::time::interval(STATUS_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let frame = Frame {
            role: setup.role_name,
            info_hash: target.info_hash,
            began,
            driver_began_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        let session = Self {
            node,
            target,
            running,
            announcer,
            frame,
            json: common.json,
            json_on_stderr: setup.stdout_is_media,
            quiet: common.quiet,
            on_terminal: std::io::stderr().is_terminal(),
            document,
            last: None,
            tick,
            report: common.report.clone(),
            tracker_faults: BTreeMap::new(),
        };
        session.say(&format!("listening for peers on {bound}"));
        session.warn_of_addresses(&dir);
        Ok(session)
    }

    fn config(
        common: &Common,
        target: &Target,
        role: Role,
        delay: Duration,
        port: u16,
        state: &State,
    ) -> Config {
        let mut random = [0u8; 12];
        random.copy_from_slice(&clock::secret()[..12]);
        let mut config = Config::viewer(target.info_hash, PeerId::ours(random), clock::seed());
        // What peers once gave counts only if it still has the right hash.
        let kept = state.found_info.clone().filter(|raw| {
            Info::parse(raw.clone()).is_ok_and(|info| info.info_hash == target.info_hash)
        });
        config.info = target.info.clone().or(kept);
        config.role = role;
        if let Role::Source(source) = &mut config.role {
            source.last = state.found_published.clone();
        }
        config.listen_port = Some(common.announce_port.unwrap_or(port));
        config.policy = Policy { allow_local: common.allow_local, own: Vec::new() };
        config.upload_limit = common.upload_limit.map(|rate| (rate.0 / 8).max(1));
        config.download_limit = common.download_limit.map(|rate| (rate.0 / 8).max(1));
        config.peers_max = usize::from(common.max_peers);
        config.peers_wanted = config.peers_wanted.min(config.peers_max);
        config.pex = !common.no_pex;
        config.head = state.found_head.clone();
        config.delay = delay;
        config
    }

    /// Says once per state folder what taking part means for the user's privacy.
    fn warn_of_addresses(&self, dir: &Path) {
        let mark = dir.join("address-notice-shown");
        if mark.exists() || std::fs::write(&mark, b"").is_err() {
            return;
        }
        self.say("note: other peers and the trackers of this stream see your address");
    }

    /// Talks to the user on standard error, unless told to be quiet.
    pub fn say(&self, words: &str) {
        if !self.quiet {
            eprintln!("{words}");
        }
    }

    /// The latest status document.
    #[must_use]
    pub fn document(&self) -> watch::Receiver<Value> {
        self.document.subscribe()
    }

    /// What happens next. Cancel-safe.
    ///
    /// # Errors
    /// The node ended: its state could not be written.
    pub async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            tokio::select! {
                event = self.running.events.recv() => match event {
                    Some(event) => return Ok(Told::Event(event)),
                    None => return Err(self.node_failure().await),
                },
                found = announced(&mut self.announcer) => self.announced(found).await,
                _ = self.tick.tick() => {
                    let Some(snapshot) = self.node.snapshot().await else {
                        return Err(self.node_failure().await);
                    };
                    self.second(&snapshot);
                    return Ok(Told::Second(Box::new(snapshot)));
                }
            }
        }
    }

    async fn node_failure(&mut self) -> Failure {
        match self.running.ended().await {
            Err(error) => state_failure(error),
            Ok(()) => Failure::new(Code::Unexpected, "the node ended by itself"),
        }
    }

    async fn announced(&mut self, event: Option<AnnouncerEvent>) {
        match event {
            Some(AnnouncerEvent::Found(addrs)) => {
                self.node.input(In::Found { via: Via::Tracker, addrs }).await;
            }
            Some(AnnouncerEvent::DropPeers) => {
                self.node.input(In::DropPeers).await;
            }
            None => self.announcer = None,
        }
    }

    fn rows(&self) -> Vec<announce::Row> {
        self.announcer.as_ref().map_or(Vec::new(), |a| a.status().borrow().clone())
    }

    fn second(&mut self, snapshot: &Snapshot) {
        let status = &snapshot.status;
        if let Some(announcer) = &self.announcer {
            announcer.update(Counts {
                live_peers: status.connected,
                uploaded: status.up_payload,
                downloaded: status.from_source + status.from_peers,
            });
        }
        let rows = self.rows();
        self.tell_tracker_faults(&rows);
        let document = status::document(&self.frame, snapshot, &rows);
        if self.json {
            print_document(&document, self.json_on_stderr);
        } else if self.on_terminal && !self.quiet {
            let now = Instant::now();
            let (down, up) = (status.down_bytes, status.up_bytes);
            let rates = self.last.map_or((0, 0), |(at, d, u)| {
                let seconds = now.duration_since(at).as_secs_f64().max(0.001);
                let per_s = |bytes: u64| (bytes as f64 / seconds) as u64;
                (per_s(down.saturating_sub(d)), per_s(up.saturating_sub(u)))
            });
            self.last = Some((now, down, up));
            eprint!("\r\x1b[K{}", status::line(snapshot, rates));
            let _ = std::io::stderr().flush();
        }
        self.document.send_replace(document);
    }

    /// Says once what is wrong with a tracker; the stream goes on without it.
    fn tell_tracker_faults(&mut self, rows: &[announce::Row]) {
        for row in rows {
            let Some(error) = &row.error else {
                self.tracker_faults.remove(&row.url);
                continue;
            };
            if self.tracker_faults.get(&row.url) != Some(error) {
                self.tracker_faults.insert(row.url.clone(), error.clone());
                if !self.quiet && !self.json {
                    eprintln!("tracker {}: {error}", row.url);
                }
            }
        }
    }

    /// Leaves the swarm and writes the report.
    ///
    /// # Errors
    /// The report cannot be written.
    pub async fn finish(mut self) -> Result<(), Failure> {
        let snapshot = self.node.snapshot().await;
        if self.on_terminal && !self.quiet && !self.json {
            eprintln!();
        }
        let written = snapshot.map_or(Ok(()), |snapshot| self.last_document(&snapshot));
        let announcer = self.announcer.take();
        let goodbye = async {
            if let Some(announcer) = announcer {
                announcer.stop().await;
            }
        };
        tokio::join!(goodbye, self.node.stop());
        written
    }

    /// Ends at once without a word to anybody, as the death of the process would.
    pub async fn kill(self) {
        if let Some(announcer) = self.announcer {
            announcer.kill();
        }
        self.running.kill().await;
    }

    fn last_document(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        let document = status::document(&self.frame, snapshot, &self.rows());
        if self.json {
            print_document(&document, self.json_on_stderr);
        }
        self.document.send_replace(document.clone());
        let Some(path) = &self.report else { return Ok(()) };
        std::fs::write(path, format!("{document:#}\n")).map_err(|e| Failure::disk(path, &e))
    }
}

fn print_document(document: &Value, on_stderr: bool) {
    let line = format!("{document}\n");
    // Nobody reading the status is no reason to stop.
    let _ = if on_stderr {
        std::io::stderr().write_all(line.as_bytes())
    } else {
        let mut stdout = std::io::stdout();
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush())
    };
}

async fn announced(announcer: &mut Option<AnnouncerTask>) -> Option<AnnouncerEvent> {
    match announcer {
        Some(announcer) => announcer.event().await,
        None => std::future::pending().await,
    }
}

/// A state that cannot be used, as the user is told.
#[must_use]
pub fn state_failure(error: StateError) -> Failure {
    let code = match error {
        StateError::Locked(_) => Code::AddressInUse,
        StateError::File { .. } => Code::Disk,
    };
    Failure::new(code, error)
}

/// The peers that the user and the link name.
async fn resolve(
    common: &Common,
    target: &Target,
) -> Result<Vec<(Via, std::net::SocketAddr)>, Failure> {
    let mut named = Vec::new();
    for text in &common.peer {
        let peer: PeerAddr = text.parse().map_err(|_| {
            Failure::usage(format_args!("--peer {text}: write ADDR:PORT, as in 192.0.2.1:6881"))
        })?;
        named.push((Via::User, peer));
    }
    named.extend(target.peers.iter().map(|peer| (Via::Magnet, peer.clone())));
    let mut found = Vec::new();
    for (via, peer) in named {
        match peer {
            PeerAddr::Ip(addr) => found.push((via, addr)),
            PeerAddr::Host { host, port } => {
                match tokio::net::lookup_host((host.as_str(), port)).await {
                    Ok(addrs) => found.extend(addrs.take(8).map(|addr| (via, addr))),
                    Err(error) => tracing::warn!(host, %error, "the peer's name is not known"),
                }
            }
        }
    }
    Ok(found)
}

fn announcer(
    common: &Common,
    target: &Target,
    peer_id: PeerId,
    bound: std::net::SocketAddr,
    left: u64,
) -> Option<AnnouncerTask> {
    if target.tiers.iter().all(Vec::is_empty) {
        return None;
    }
    let policy = Policy { allow_local: common.allow_local, own: vec![bound] };
    let families = match (bound.ip().is_unspecified(), bound.is_ipv4()) {
        (_, true) => vec![Family::V4],
        (true, false) => vec![Family::V4, Family::V6],
        (false, false) => vec![Family::V6],
    };
    let config = announce::Config {
        info_hash: target.info_hash,
        peer_id,
        port: common.announce_port.unwrap_or(bound.port()),
        left,
        num_want: NUM_WANT,
        key: clock::seed() as u32,
        tiers: target.tiers.clone(),
        private: target.private,
        families,
        policy: policy.clone(),
        seed: clock::seed(),
    };
    Some(AnnouncerTask::start(config, Arc::new(TrackerClient::new(policy))))
}
