//! A running node with its trackers, its status and its end: what broadcast, play and seed share.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use super::common::Common;
use super::console::Console;
use super::exit::{Code, Failure};
use super::status::{self, Frame};
use super::sustain::Sustain;
use super::target::{Target, addresses, named_peers};
use crate::discovery::address::Policy;
use crate::discovery::announce;
use crate::net::announcer::{AnnouncerTask, Counts, Event as AnnouncerEvent};
use crate::net::clock;
use crate::net::driver::{Node, Running, Snapshot};
use crate::net::state::{State, StateError, write_private};
use crate::net::trackers::TrackerClient;
use crate::swarm::config::{Config, Role};
use crate::swarm::io::{Event, In, Via};
use crate::units::PeerId;
use crate::wire::magnet::PeerAddr;
use crate::wire::metainfo::Info;
use crate::wire::tracker::Family;

/// Heads of a TCP packet over IPv4 with a time stamp, in bytes.
const PACKET_HEADS: u64 = 52;
/// What anybody but the source says is left to fetch: a live stream is never complete, and
/// trackers introduce seeds only to those who lack something.
const LEFT: u64 = 16 << 10;
/// Peers asked of a tracker at once.
const NUM_WANT: u32 = 50;
/// The status is looked at this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);

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
    console: Console,
    sustain: Sustain,
    document: watch::Sender<Value>,
    tick: tokio::time::Interval,
    report: Option<std::path::PathBuf>,
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
    /// If any, only these are dialled, nobody is let in, and no tracker is told.
    pub feed_only: Vec<PeerAddr>,
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
        let feeds = !setup.feed_only.is_empty();
        let (peers, listener) = if feeds {
            check_feed_only(common, &target)?;
            let named = setup.feed_only.iter().map(|peer| (Via::User, peer.clone()));
            (addresses(named.collect()).await, None)
        } else {
            (named_peers(common, &target).await?, Some(common.listener()?))
        };
        let bound = listener.as_ref().map(tokio::net::TcpListener::local_addr).transpose();
        let bound = bound.map_err(|e| Failure::new(Code::Network, e))?;
        let is_source = matches!(setup.role, Role::Source(_));
        let dir = common.state_dir()?;
        let state = State::open(&dir, target.info_hash, is_source).map_err(state_failure)?;
        let mut config = Self::config(common, &target, setup.role, setup.delay, &state);
        config.listen_port = bound.map(|bound| common.announce_port.unwrap_or(bound.port()));
        config.feed_only = feeds;
        let of_link = target.info.is_none().then(|| config.info.clone()).flatten();
        if of_link.is_some_and(|raw| Info::parse(raw).is_ok_and(|info| info.private)) {
            return Err(private_by_link());
        }
        let peer_id = config.peer_id;
        let running = Running::start(config, listener, Some(state))
            .map_err(|e| Failure::new(Code::Network, e))?;
        let node = running.node.clone();
        for (via, addr) in peers {
            node.input(In::Found { via, addrs: vec![addr] }).await;
        }
        let left = if setup.left_zero { 0 } else { LEFT };
        let announcer = bound.and_then(|at| announcer(common, &target, peer_id, at, left));
        let (document, _) = watch::channel(Value::Null);
        let mut tick = tokio::time::interval(STATUS_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let frame = Frame {
            role: setup.role_name,
            info_hash: target.info_hash,
            relays: setup.feed_only.len(),
            began,
            driver_began_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        let session = Self {
            node,
            target,
            running,
            announcer,
            frame,
            console: Console::new(common, setup.stdout_is_media),
            sustain: Sustain::default(),
            document,
            tick,
            report: common.report.clone(),
        };
        match bound {
            Some(bound) => session.say(&format!("listening for peers on {bound}")),
            None => session.say(&format!("feeding only {}", in_a_row(&setup.feed_only))),
        }
        session.warn_of_addresses(&dir);
        Ok(session)
    }

    fn config(
        common: &Common,
        target: &Target,
        role: Role,
        delay: Duration,
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
        config.policy = Policy { allow_local: common.allow_local, own: Vec::new() };
        config.upload_limit = common.upload_limit.map(|rate| (rate.0 / 8).max(1));
        config.packet_heads = PACKET_HEADS;
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
        if mark.exists() || write_private(&mark, b"").is_err() {
            return;
        }
        self.say("note: other peers and the trackers of this stream see your address");
    }

    /// Talks to the user on standard error, unless told to be quiet.
    pub fn say(&self, words: &str) {
        self.console.say(words);
    }

    /// The latest status document.
    #[must_use]
    pub fn document(&self) -> watch::Receiver<Value> {
        self.document.subscribe()
    }

    /// What happens next. Cancel-safe.
    ///
    /// # Errors
    /// The node ended: its state could not be written; or what the link leads to is no live
    /// stream, or a private one.
    pub async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            tokio::select! {
                event = self.running.events.recv() => match event {
                    Some(Event::NotLive) => {
                        return Err(Failure::usage("the link is of an ordinary torrent"));
                    }
                    Some(Event::Private) => return Err(private_by_link()),
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
        self.console.trackers(&rows);
        if let Some(words) = self.sustain.second(status) {
            self.say(&words);
        }
        let document = status::document(&self.frame, snapshot, &rows);
        self.console.second(snapshot, &document);
        self.document.send_replace(document);
    }

    /// Leaves the swarm and writes the report.
    ///
    /// # Errors
    /// The report cannot be written.
    pub async fn finish(mut self) -> Result<(), Failure> {
        let snapshot = self.node.snapshot().await;
        self.console.leave_line();
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
        self.console.document(&document);
        self.document.send_replace(document.clone());
        let Some(path) = &self.report else { return Ok(()) };
        std::fs::write(path, format!("{document:#}\n")).map_err(|e| Failure::disk(path, &e))
    }
}

async fn announced(announcer: &mut Option<AnnouncerTask>) -> Option<AnnouncerEvent> {
    match announcer {
        Some(announcer) => announcer.event().await,
        None => std::future::pending().await,
    }
}

/// A link brings no trackers that a private stream could trust (BEP 27).
fn private_by_link() -> Failure {
    Failure::usage("the stream is private: it takes the .torrent file, a link will not do")
}

/// What does not go together with feeding only named relays.
fn check_feed_only(common: &Common, target: &Target) -> Result<(), Failure> {
    if target.private {
        return Err(Failure::usage(
            "the torrent is private: only its trackers may introduce peers, so --feed-only is off",
        ));
    }
    if !common.peer.is_empty() {
        return Err(Failure::usage(
            "--feed-only dials its relays alone: name them there and leave --peer out",
        ));
    }
    if common.listen.is_some() || common.announce_port.is_some() {
        eprintln!(
            "note: with --feed-only nobody can connect; --listen and --announce-port mean nothing"
        );
    }
    Ok(())
}

/// Peers as they were named, for people.
#[must_use]
pub fn in_a_row(peers: &[PeerAddr]) -> String {
    peers.iter().map(PeerAddr::to_string).collect::<Vec<_>>().join(", ")
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
