//! When which tracker is asked (`specs/tracker.md`, section Schedule).
//!
//! A tracker and an address family make an *end*: IPv4 and IPv6 are announced apart (BEP 7). An
//! end is idle, asking or waiting. Public swarms ask all ends at once until there are peers; after
//! that each family walks the tiers in BEP 12 order and stops at the first end that works. Private
//! swarms (BEP 27) use one tracker at a time.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::address::{Policy, Purpose, canonical, judge};
use super::fault::TrackerFault;
use crate::machine::{Machine, Rng};
use crate::units::{InfoHash, Now, PeerId, Time};
use crate::wire::text::one_line;
use crate::wire::tracker::url::TrackerUrl;
use crate::wire::tracker::{Announce, Event, Family, Reply, Retry};

/// Trackers taken from one torrent; more are ignored.
pub const TRACKERS_MAX: usize = 64;
/// Asks under way at once while the first peers are sought.
pub const RACE_MAX: usize = 8;
/// Below this many live peers the next announce may come early.
pub const LIVE_PEERS_ENOUGH: usize = 4;
/// Shortest interval that is obeyed; shorter ones count as this.
pub const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Longest interval that is obeyed; longer ones count as this.
pub const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Interval of a tracker that names none.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(1800);
/// First wait after a failure; doubled with each one more.
pub const BACKOFF_MIN: Duration = Duration::from_secs(15);
/// Longest wait after a failure.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1800);
/// A host without an address of a family is looked up again after this.
pub const NO_ADDRESS_WAIT: Duration = Duration::from_secs(3600);
/// An ask without any answer counts as failed after this.
pub const ASK_MAX: Duration = Duration::from_secs(60);
/// At the end `stopped` is waited for at most this long.
pub const STOP_MAX: Duration = Duration::from_secs(2);

/// What a swarm announces, and to whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// The swarm.
    pub info_hash: InfoHash,
    /// Our id in it.
    pub peer_id: PeerId,
    /// The port that others can reach us at.
    pub port: u16,
    /// Bytes still wanted: 0 for a broadcaster, a constant above 0 for everybody else.
    pub left: u64,
    /// Peers asked for.
    pub num_want: u32,
    /// The same for the session and both families (BEP 7); random.
    pub key: u32,
    /// URLs by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// BEP 27.
    pub private: bool,
    /// The families that we listen in.
    pub families: Vec<Family>,
    /// Which peers may be reported.
    pub policy: Policy,
    /// Decides shuffles and jitter.
    pub seed: u64,
}

/// Names one ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What the announcer is told.
#[derive(Clone, Debug)]
pub enum In {
    /// The deadline has come.
    Tick,
    /// How the swarm stands.
    Swarm {
        /// Connected peers that take part.
        live_peers: usize,
        /// Bytes sent in this session.
        uploaded: u64,
        /// Bytes received in this session.
        downloaded: u64,
    },
    /// How an ask ended.
    Answer {
        /// Which.
        id: AskId,
        /// What the tracker said, or why there is nothing.
        outcome: Result<Reply, TrackerFault>,
    },
    /// The session ends: say `stopped`, then [`Out::Done`].
    Stop,
}

/// What the announcer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Announce this.
    Ask(Box<Ask>),
    /// Peers that may be dialled: judged, each once, without ourselves.
    Found(Vec<SocketAddr>),
    /// BEP 27: the tracker of a private swarm was changed; close all connections.
    DropPeers,
    /// Everything is said, or the time for it is over.
    Done,
}

/// One announce to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Named again in the answer.
    pub id: AskId,
    /// Whom to ask.
    pub url: TrackerUrl,
    /// Over which family.
    pub family: Family,
    /// What to say.
    pub announce: Announce,
    /// What the tracker wants handed back.
    pub tracker_id: Option<Vec<u8>>,
}

/// How one tracker stands, for the status document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its URL, escaped and cut.
    pub url: String,
    /// How it stands.
    pub state: State,
    /// Seeds that it counts.
    pub seeders: Option<u32>,
    /// Other peers that it counts.
    pub leechers: Option<u32>,
    /// Seconds until it is asked again, if it is.
    pub next_announce_s: Option<u64>,
    /// Why it does not work, or its warning; escaped and cut.
    pub error: Option<String>,
}

/// How a tracker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not asked so far: trackers before it work.
    Idle,
    /// An announce is under way.
    Asking,
    /// It answers.
    Working,
    /// It failed and is asked again later.
    Failed,
    /// It wants never to be asked again (BEP 31), or its URL is none to ask.
    GivenUp,
}

/// One tracker in one family.
#[derive(Clone, Debug)]
struct End {
    family: Family,
    standing: Standing,
    /// The ask under way.
    asking: Option<(AskId, Time)>,
    /// It took our `started`: no other one is sent, and it is owed a `stopped`.
    told: bool,
    /// Early announces in a row; each doubles the wait before the next.
    early: u32,
    seeders: Option<u32>,
    leechers: Option<u32>,
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Never answered nor failed.
    Untried,
    /// Works; asked again at `regular`, from `early` on if peers are few.
    Works { regular: Time, early: Time },
    /// Failed `times` in a row; may be asked again at `retry`.
    Failed { times: u32, retry: Time },
    /// Has no address in this family; looked up again at `retry`.
    Absent { retry: Time },
    /// Never to be asked again.
    GivenUp,
}

#[derive(Clone, Debug)]
struct Tracker {
    url: TrackerUrl,
    tracker_id: Option<Vec<u8>>,
    ends: Vec<End>,
}

/// The schedule of one swarm's announces.
#[derive(Debug)]
pub struct Announcer {
    config: Config,
    rng: Rng,
    trackers: Vec<Tracker>,
    /// Indices into `trackers` by tier, in the order of BEP 12.
    order: Vec<Vec<usize>>,
    /// URLs that are not asked, for the status.
    refused: Vec<Row>,
    phase: Phase,
    next_ask: u64,
    live_peers: usize,
    uploaded: u64,
    downloaded: u64,
    deadline: Option<Time>,
    out: VecDeque<Out>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// All ends are asked at once for the first peers.
    Race,
    /// BEP 12 order.
    Walk,
    /// BEP 27: the tracker in use.
    Private(usize),
    /// `stopped` is being said until then.
    Stopping(Time),
    /// Over.
    Done,
}

impl Announcer {
    /// A schedule that starts with the first [`In::Tick`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut rng = Rng::new(config.seed);
        let (mut trackers, mut order, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for tier in &config.tiers {
            let mut places = Vec::new();
            for text in tier {
                if seen.len() >= TRACKERS_MAX || !seen.insert(text.as_str()) {
                    continue;
                }
                match TrackerUrl::parse(text) {
                    Ok(url) => {
                        places.push(trackers.len());
                        trackers.push(Tracker::new(url, &config.families));
                    }
                    Err(fault) => refused.push(Row::refused(text, &fault.into())),
                }
            }
            rng.shuffle(&mut places);
            order.push(places);
        }
        let first = order.iter().flatten().next().copied();
        let phase = match first {
            Some(first) if config.private => Phase::Private(first),
            _ => Phase::Race,
        };
        Self {
            config,
            rng,
            trackers,
            order,
            refused,
            phase,
            next_ask: 0,
            live_peers: 0,
            uploaded: 0,
            downloaded: 0,
            deadline: Some(Time::ZERO),
            out: VecDeque::new(),
        }
    }

    /// One row a tracker, in the order in which they are asked.
    #[must_use]
    pub fn status(&self, now: Time) -> Vec<Row> {
        let in_order = self.order.iter().flatten().filter_map(|&n| self.trackers.get(n));
        in_order
            .map(|tracker| tracker.row(now, self.has_few()))
            .chain(self.refused.iter().cloned())
            .collect()
    }

    fn ask(&mut self, now: Time, tracker: usize, end: usize, event: Option<Event>) {
        let id = AskId(self.next_ask);
        let Some(chosen) = self.trackers.get_mut(tracker) else { return };
        let Some(at) = chosen.ends.get_mut(end) else { return };
        let event = event.unwrap_or(if at.told { Event::None } else { Event::Started });
        at.asking = Some((id, now));
        self.next_ask += 1;
        let stopping = event == Event::Stopped;
        let announce = Announce {
            info_hash: self.config.info_hash,
            peer_id: self.config.peer_id,
            port: self.config.port,
            uploaded: self.uploaded,
            downloaded: self.downloaded,
            left: self.config.left,
            event,
            num_want: Some(if stopping { 0 } else { self.config.num_want }),
            key: self.config.key,
        };
        self.out.push_back(Out::Ask(Box::new(Ask {
            id,
            url: chosen.url.clone(),
            family: at.family,
            announce,
            tracker_id: chosen.tracker_id.clone(),
        })));
    }

    /// Asks whom it is time to ask and finds when that is next.
    fn plan(&mut self, now: Time) {
        self.deadline = None;
        self.expire(now);
        if self.phase == Phase::Race {
            self.race(now);
        }
        match self.phase {
            Phase::Walk => {
                for n in 0..self.config.families.len() {
                    self.walk(now, n);
                }
            }
            Phase::Private(current) => self.keep_private(now, current),
            Phase::Stopping(until) => self.finish(now, until),
            Phase::Race | Phase::Done => {}
        }
    }

    /// Wakes at `at` at the latest.
    fn wake(&mut self, at: Time) {
        self.deadline = Some(self.deadline.map_or(at, |old| old.min(at)));
    }

    /// Asks that the driver lost count as failed, so that nothing waits for ever.
    fn expire(&mut self, now: Time) {
        let mut lost = Vec::new();
        for end in self.trackers.iter().flat_map(|t| &t.ends) {
            if let Some((id, since)) = end.asking {
                let until = since.after(ASK_MAX);
                if until <= now {
                    lost.push(id);
                }
            }
        }
        for id in lost {
            self.answer(now, id, Err(TrackerFault::Timeout { seconds: ASK_MAX.as_secs() }));
        }
        let asking = self.trackers.iter().flat_map(|t| &t.ends).filter_map(|e| e.asking);
        if let Some(first) = asking.map(|(_, since)| since.after(ASK_MAX)).min() {
            self.wake(first);
        }
    }

    /// Asks every untried end, a few at a time, until there are peers.
    fn race(&mut self, now: Time) {
        let mut free = RACE_MAX.saturating_sub(self.asks_under_way());
        let mut untried = Vec::new();
        for &n in self.order.iter().flatten() {
            for (m, end) in self.trackers.get(n).iter().flat_map(|t| t.ends.iter().enumerate()) {
                if end.standing == Standing::Untried && end.asking.is_none() {
                    untried.push((n, m));
                }
            }
        }
        if self.live_peers > 0 || untried.is_empty() {
            self.phase = Phase::Walk;
            return;
        }
        for (n, m) in untried {
            if free == 0 {
                return;
            }
            free -= 1;
            self.ask(now, n, m, None);
        }
    }

    fn has_few(&self) -> bool {
        self.live_peers < LIVE_PEERS_ENOUGH
    }

    fn asks_under_way(&self) -> usize {
        self.trackers.iter().flat_map(|t| &t.ends).filter(|e| e.asking.is_some()).count()
    }

    /// BEP 12 in one family: goes along the tiers to the first end that works.
    fn walk(&mut self, now: Time, family: usize) {
        let order: Vec<usize> = self.order.iter().flatten().copied().collect();
        for n in order {
            if self.visit(now, n, family) {
                return;
            }
        }
    }

    /// Asks an end if it is time; true if it speaks for its family, or may within a moment.
    fn visit(&mut self, now: Time, tracker: usize, n: usize) -> bool {
        let few = self.has_few();
        let Some(end) = self.trackers.get_mut(tracker).and_then(|t| t.ends.get_mut(n)) else {
            return false;
        };
        if end.asking.is_some() {
            return true;
        }
        match end.standing {
            Standing::Untried => {
                self.ask(now, tracker, n, None);
                true
            }
            Standing::Works { regular, early } => {
                let due = if few { early } else { regular };
                if due > now {
                    self.wake(due);
                    return true;
                }
                end.early = end.early.saturating_add(u32::from(few));
                self.ask(now, tracker, n, None);
                true
            }
            Standing::Failed { retry, .. } | Standing::Absent { retry } if retry <= now => {
                self.ask(now, tracker, n, None);
                true
            }
            Standing::Failed { retry, .. } | Standing::Absent { retry } => {
                self.wake(retry);
                false
            }
            Standing::GivenUp => false,
        }
    }

    /// BEP 27: keeps to one tracker while it works or any peer is left, then takes the next one
    /// that may be asked.
    fn keep_private(&mut self, now: Time, current: usize) {
        let silent = self.trackers.get(current).is_some_and(Tracker::is_silent);
        if silent && self.live_peers == 0 {
            let order: Vec<usize> = self.order.iter().flatten().copied().collect();
            let at = order.iter().position(|&n| n == current).unwrap_or(0);
            let others = order.iter().cycle().skip(at + 1).take(order.len().saturating_sub(1));
            let ready = |n: &&usize| self.trackers.get(**n).is_some_and(|t| t.is_ready(now));
            if let Some(&next) = others.clone().find(ready) {
                self.switch(current, next);
                return self.visit_all(now, next);
            }
            let retries: Vec<Time> =
                others.filter_map(|&n| self.trackers.get(n)?.retry()).collect();
            for at in retries {
                self.wake(at);
            }
        }
        self.visit_all(now, current);
    }

    fn visit_all(&mut self, now: Time, tracker: usize) {
        for n in 0..self.config.families.len() {
            self.visit(now, tracker, n);
        }
    }

    fn switch(&mut self, from: usize, to: usize) {
        for end in self.trackers.get_mut(from).iter_mut().flat_map(|t| &mut t.ends) {
            // It is not used any more, so it is not told of our end either.
            end.told = false;
        }
        self.phase = Phase::Private(to);
        self.out.push_back(Out::DropPeers);
    }

    fn answer(&mut self, now: Time, id: AskId, outcome: Result<Reply, TrackerFault>) {
        let ends = self.trackers.iter().enumerate().flat_map(|(n, tracker)| {
            tracker.ends.iter().enumerate().map(move |(m, end)| (n, m, end.asking))
        });
        let asked = |asking: Option<(AskId, Time)>| asking.is_some_and(|(asked, _)| asked == id);
        let found = ends.filter(|&(.., asking)| asked(asking)).map(|(n, m, _)| (n, m)).next();
        let Some((n, m)) = found else { return };
        match outcome {
            Ok(reply) => self.accept(now, n, m, reply),
            Err(fault) => self.fail(now, n, m, &fault),
        }
    }

    fn accept(&mut self, now: Time, n: usize, m: usize, reply: Reply) {
        let interval = self.interval(&reply);
        let jitter = self.rng.below(60_000_000.min(interval.as_micros() as u64 / 10));
        let early = Duration::from_secs(30) + Duration::from_micros(self.rng.below(30_000_000));
        let Some(tracker) = self.trackers.get_mut(n) else { return };
        if reply.tracker_id.is_some() {
            tracker.tracker_id.clone_from(&reply.tracker_id);
        }
        let Some(end) = tracker.ends.get_mut(m) else { return };
        let early = early.saturating_mul(1 << end.early.min(10));
        let early = early.max(reply.interval_min_s.map_or(Duration::ZERO, seconds));
        end.asking = None;
        end.told = !matches!(self.phase, Phase::Stopping(_));
        end.standing = Standing::Works {
            regular: now.after(interval).after_us(jitter),
            early: now.after(early.min(interval)),
        };
        end.seeders = reply.seeders;
        end.leechers = reply.leechers;
        end.error = reply.warning.as_ref().map(|warning| format!("warning: {warning}"));
        self.promote(n, m);
        self.report(&reply);
    }

    /// How long this reply lets us be silent: within the bounds, and never below its minimum.
    fn interval(&self, reply: &Reply) -> Duration {
        let wanted = reply.interval_s.map_or(INTERVAL_DEFAULT, seconds);
        let minimum = reply.interval_min_s.map_or(Duration::ZERO, seconds);
        wanted.max(minimum).clamp(INTERVAL_MIN, INTERVAL_MAX)
    }

    /// BEP 12: a tracker that answers goes before those of its tier that did not.
    fn promote(&mut self, n: usize, m: usize) {
        let trackers = &self.trackers;
        let fails = |&t: &usize| trackers.get(t).is_some_and(|t| t.fails_in(m));
        for tier in &mut self.order {
            let Some(at) = tier.iter().position(|&t| t == n) else { continue };
            if tier.iter().take(at).any(fails) {
                tier.remove(at);
                tier.insert(0, n);
            }
        }
    }

    /// Hands on the peers that may be dialled.
    fn report(&mut self, reply: &Reply) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Done) {
            return;
        }
        let ourselves = reply.external_ip.map(|ip| SocketAddr::new(ip, self.config.port));
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for peer in &reply.peers {
            let addr = canonical(peer.addr);
            let own =
                peer.id == Some(self.config.peer_id) || ourselves.map(canonical) == Some(addr);
            let may = judge(addr, Purpose::Peer, &self.config.policy).is_ok();
            if !own && may && seen.insert(addr) {
                found.push(addr);
            }
        }
        if !found.is_empty() {
            self.out.push_back(Out::Found(found));
        }
    }

    fn fail(&mut self, now: Time, n: usize, m: usize, fault: &TrackerFault) {
        let spread = 0.75 + self.rng.unit() / 2.0;
        let late = 1.0 + self.rng.unit() / 10.0;
        let Some(end) = self.trackers.get_mut(n).and_then(|t| t.ends.get_mut(m)) else { return };
        let times = match end.standing {
            Standing::Failed { times, .. } => times.saturating_add(1),
            _ => 1,
        };
        end.asking = None;
        end.standing = match (fault, retry_of(fault)) {
            (TrackerFault::NoAddress { .. }, _) => {
                Standing::Absent { retry: now.after(NO_ADDRESS_WAIT.mul_f64(spread)) }
            }
            (TrackerFault::Url(_), _) | (_, Some(Retry::Never)) => Standing::GivenUp,
            (_, Some(Retry::Minutes(minutes))) => {
                let wait = seconds(minutes.saturating_mul(60)).clamp(INTERVAL_MIN, INTERVAL_MAX);
                Standing::Failed { times, retry: now.after(wait.mul_f64(late)) }
            }
            _ => {
                let wait = BACKOFF_MIN.saturating_mul(1 << times.saturating_sub(1).min(16));
                let wait = wait.min(BACKOFF_MAX).mul_f64(spread);
                Standing::Failed { times, retry: now.after(wait) }
            }
        };
        if is_refusal(fault) {
            // It does not know us, so the next announce says `started` again.
            end.told = false;
        }
        end.error = Some(fault.to_string());
    }

    /// Says `stopped` to all that were told `started`.
    fn stop(&mut self, now: Time) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Done) {
            return;
        }
        self.phase = Phase::Stopping(now.after(STOP_MAX));
        for n in 0..self.trackers.len() {
            for m in 0..self.config.families.len() {
                let end = self.trackers.get_mut(n).and_then(|t| t.ends.get_mut(m));
                // A `started` under way may have arrived too.
                let told = end.is_some_and(|end| end.asking.take().is_some() || end.told);
                if told {
                    self.ask(now, n, m, Some(Event::Stopped));
                }
            }
        }
    }

    fn finish(&mut self, now: Time, until: Time) {
        if self.asks_under_way() == 0 || now >= until {
            self.phase = Phase::Done;
            self.deadline = None;
            self.out.push_back(Out::Done);
        } else {
            self.wake(until);
        }
    }
}

impl Machine for Announcer {
    type In = In;
    type Out = Out;

    fn handle(&mut self, now: Now, input: In) {
        if self.phase == Phase::Done {
            return;
        }
        match input {
            In::Tick => {}
            In::Swarm { live_peers, uploaded, downloaded } => {
                (self.live_peers, self.uploaded, self.downloaded) =
                    (live_peers, uploaded, downloaded);
                if live_peers >= LIVE_PEERS_ENOUGH {
                    self.trackers.iter_mut().flat_map(|t| &mut t.ends).for_each(|e| e.early = 0);
                }
            }
            In::Answer { id, outcome } => self.answer(now.mono, id, outcome),
            In::Stop => self.stop(now.mono),
        }
        self.plan(now.mono);
    }

    fn poll(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }
}

impl Tracker {
    fn new(url: TrackerUrl, families: &[Family]) -> Self {
        let ends = families.iter().map(|&family| End {
            family,
            standing: Standing::Untried,
            asking: None,
            told: false,
            early: 0,
            seeders: None,
            leechers: None,
            error: None,
        });
        Self { url, tracker_id: None, ends: ends.collect() }
    }

    /// Every family failed and none is being asked.
    fn is_silent(&self) -> bool {
        self.ends.iter().all(|end| {
            let failed = !matches!(end.standing, Standing::Untried | Standing::Works { .. });
            failed && end.asking.is_none()
        })
    }

    /// Some family may be asked now.
    fn is_ready(&self, now: Time) -> bool {
        self.ends.iter().any(|end| match end.standing {
            Standing::Untried | Standing::Works { .. } => true,
            Standing::Failed { retry, .. } | Standing::Absent { retry } => retry <= now,
            Standing::GivenUp => false,
        })
    }

    /// When the first family that failed may be asked again.
    fn retry(&self) -> Option<Time> {
        let retries = self.ends.iter().filter_map(|end| match end.standing {
            Standing::Failed { retry, .. } | Standing::Absent { retry } => Some(retry),
            _ => None,
        });
        retries.min()
    }

    fn fails_in(&self, end: usize) -> bool {
        self.ends
            .get(end)
            .is_some_and(|end| matches!(end.standing, Standing::Failed { .. } | Standing::GivenUp))
    }

    fn row(&self, now: Time, few: bool) -> Row {
        // The end that stands best speaks for the tracker: no IPv6 is no failure.
        let best = self.ends.iter().min_by_key(|end| end.rank());
        let in_s = |at: Time| at.since_us(now) / 1_000_000;
        let next = self.ends.iter().filter_map(|end| match end.standing {
            Standing::Works { regular, early } => Some(if few { early } else { regular }),
            Standing::Failed { retry, .. } => Some(retry),
            _ => None,
        });
        Row {
            url: one_line(self.url.as_str(), 300),
            state: best.map_or(State::GivenUp, End::state),
            seeders: self.ends.iter().filter_map(|end| end.seeders).max(),
            leechers: self.ends.iter().filter_map(|end| end.leechers).max(),
            next_announce_s: next.min().map(in_s),
            error: best.and_then(|end| end.error.as_ref()).map(|text| one_line(text, 300)),
        }
    }
}

impl End {
    fn rank(&self) -> u8 {
        match (self.standing, self.asking) {
            (Standing::Works { .. }, _) => 0,
            (_, Some(_)) => 1,
            (Standing::Untried, None) => 2,
            (Standing::Failed { .. }, None) => 3,
            (Standing::Absent { .. }, None) => 4,
            (Standing::GivenUp, None) => 5,
        }
    }

    fn state(&self) -> State {
        match (self.asking, self.standing) {
            (Some(_), _) => State::Asking,
            (None, Standing::Untried) => State::Idle,
            (None, Standing::Works { .. }) => State::Working,
            (None, Standing::Failed { .. } | Standing::Absent { .. }) => State::Failed,
            (None, Standing::GivenUp) => State::GivenUp,
        }
    }
}

impl Row {
    fn refused(url: &str, fault: &TrackerFault) -> Self {
        Self {
            url: one_line(url, 300),
            state: State::GivenUp,
            seeders: None,
            leechers: None,
            next_announce_s: None,
            error: Some(one_line(&fault.to_string(), 300)),
        }
    }
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(s.into()).min(INTERVAL_MAX)
}

fn retry_of(fault: &TrackerFault) -> Option<Retry> {
    match fault {
        TrackerFault::Refused(refusal) => refusal.retry,
        _ => None,
    }
}

fn is_refusal(fault: &TrackerFault) -> bool {
    matches!(fault, TrackerFault::Refused(_) | TrackerFault::Unlisted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::drain;
    use crate::wire::tracker::{Peer, Refusal};
    use std::collections::BTreeMap;

    /// Trackers by URL, a clock that skips, and what was asked when.
    struct World {
        announcer: Announcer,
        now: Time,
        deadline: Option<Time>,
        behaviours: BTreeMap<String, Behaviour>,
        asked: Vec<(u64, String, Event)>,
        answers: Vec<(Time, AskId, Result<Reply, TrackerFault>)>,
        found: Vec<SocketAddr>,
        dropped: usize,
        done: Option<Time>,
    }

    #[derive(Clone)]
    enum Behaviour {
        Replies(Reply),
        Fails(TrackerFault),
        Hangs,
    }

    fn reply(interval_s: u32, interval_min_s: Option<u32>) -> Behaviour {
        Behaviour::Replies(Reply {
            interval_s: Some(interval_s),
            interval_min_s,
            ..Reply::default()
        })
    }

    fn dead() -> Behaviour {
        Behaviour::Fails(TrackerFault::Io("connection refused".into()))
    }

    fn refusing(retry: Retry) -> Behaviour {
        let reason = "no\x1b[2J".to_owned();
        Behaviour::Fails(TrackerFault::Refused(Refusal { reason, retry: Some(retry) }))
    }

    fn url(name: &str) -> String {
        format!("http://{name}.example/announce")
    }

    impl World {
        fn new(tiers: &[&[&str]], private: bool, trackers: &[(&str, Behaviour)]) -> Self {
            let tiers = tiers.iter().map(|tier| tier.iter().map(|name| url(name)).collect());
            let announcer = Announcer::new(Config {
                info_hash: InfoHash([1; 20]),
                peer_id: PeerId::ours([2; 12]),
                port: 6881,
                left: 1,
                num_want: 50,
                key: 3,
                tiers: tiers.collect(),
                private,
                families: vec![Family::V4],
                policy: Policy::default(),
                seed: 4,
            });
            let behaviours = trackers.iter().map(|(name, b)| (url(name), b.clone())).collect();
            let mut world = Self {
                announcer,
                now: Time::ZERO,
                deadline: None,
                behaviours,
                asked: Vec::new(),
                answers: Vec::new(),
                found: Vec::new(),
                dropped: 0,
                done: None,
            };
            world.feed(In::Tick);
            world
        }

        fn set(&mut self, name: &str, behaviour: Behaviour) {
            self.behaviours.insert(url(name), behaviour);
        }

        fn live(&mut self, live_peers: usize) {
            self.feed(In::Swarm { live_peers, uploaded: 0, downloaded: 0 });
        }

        fn feed(&mut self, input: In) {
            let mut outs = Vec::new();
            let now = Now { mono: self.now, ..Now::default() };
            self.deadline = drain(&mut self.announcer, now, input, |out| outs.push(out));
            for out in outs {
                match out {
                    Out::Ask(ask) => self.take(*ask),
                    Out::Found(addrs) => self.found.extend(addrs),
                    Out::DropPeers => self.dropped += 1,
                    Out::Done => self.done = Some(self.now),
                }
            }
        }

        fn take(&mut self, ask: Ask) {
            let name = ask.url.as_str().to_owned();
            let outcome = match self.behaviours.get(&name) {
                Some(Behaviour::Replies(reply)) => Ok(reply.clone()),
                Some(Behaviour::Fails(fault)) => Err(fault.clone()),
                _ => {
                    self.asked.push((self.now.0 / 1_000_000, name, ask.announce.event));
                    return;
                }
            };
            self.asked.push((self.now.0 / 1_000_000, name, ask.announce.event));
            self.answers.push((self.now.after_us(100_000), ask.id, outcome));
        }

        fn run(&mut self, seconds: u64) {
            let end = self.now.after(Duration::from_secs(seconds));
            for _ in 0..100_000 {
                self.answers.sort_by_key(|(at, id, _)| (*at, *id));
                let answer = self.answers.first().map(|(at, ..)| *at);
                let next = [answer, self.deadline].into_iter().flatten().min();
                let Some(next) = next.filter(|at| *at <= end) else {
                    self.now = end;
                    return;
                };
                self.now = self.now.max(next);
                if answer == Some(next) {
                    let (_, id, outcome) = self.answers.remove(0);
                    self.feed(In::Answer { id, outcome });
                } else {
                    self.feed(In::Tick);
                }
            }
            panic!("the announcer never rests");
        }

        fn names(&self) -> Vec<&str> {
            let name = |url: &'_ str| url.find('.').and_then(|at| url.get(7..at).map(str::len));
            self.asked
                .iter()
                .map(|(_, url, _)| url.get(7..7 + name(url).unwrap_or(0)).unwrap_or(""))
                .collect()
        }

        fn times_of(&self, name: &str) -> Vec<u64> {
            self.asked.iter().filter(|(_, u, _)| *u == url(name)).map(|(at, ..)| *at).collect()
        }

        fn row(&self, name: &str) -> Row {
            let rows = self.announcer.status(self.now);
            rows.into_iter().find(|row| row.url == url(name)).expect("a row")
        }
    }

    #[test]
    fn all_trackers_are_raced_for_the_first_peers() {
        let ok = reply(1800, None);
        let mut world = World::new(
            &[&["a"], &["b"], &["c"]],
            false,
            &[("a", Behaviour::Hangs), ("b", ok.clone()), ("c", ok)],
        );
        world.run(1);
        assert_eq!(world.names(), ["a", "b", "c"]);
        assert!(world.asked.iter().all(|(.., event)| *event == Event::Started));
    }

    #[test]
    fn the_race_is_bounded_and_ends_with_the_first_live_peer() {
        let names: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
        let tier: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut world = World::new(&[&tier], false, &[]);
        assert_eq!(world.asked.len(), RACE_MAX);
        world.live(1);
        world.run(30);
        assert_eq!(world.asked.len(), RACE_MAX);
    }

    #[test]
    fn after_the_race_only_the_first_working_tier_is_asked() {
        let ok = reply(1800, None);
        let mut world = World::new(&[&["a"], &["b"]], false, &[("a", ok.clone()), ("b", ok)]);
        world.live(4);
        world.run(4 * 3600);
        assert_eq!(world.times_of("b"), [0]);
        let times = world.times_of("a");
        assert!(times.windows(2).all(|w| (1800..=1861).contains(&(w[1] - w[0]))), "{times:?}");
        assert_eq!(times.len(), 8);
    }

    #[test]
    fn a_dead_tier_is_covered_by_the_next_and_taken_back_when_it_returns() {
        let ok = reply(1800, None);
        let mut world = World::new(&[&["a"], &["b"]], false, &[("a", dead()), ("b", ok.clone())]);
        world.run(1);
        world.live(4);
        world.run(7200);
        assert!(world.times_of("b").len() >= 3);
        assert_eq!(world.row("a").state, State::Failed);
        assert_eq!(world.row("a").error.as_deref(), Some("connection refused"));
        world.set("a", ok);
        world.run(2500);
        let before = world.times_of("b").len();
        world.run(7200);
        assert_eq!(world.times_of("b").len(), before);
        assert_eq!(world.row("a").state, State::Working);
    }

    #[test]
    fn failures_back_off_to_half_an_hour() {
        let mut world = World::new(&[&["a"]], false, &[("a", dead())]);
        world.run(24 * 3600);
        let times = world.times_of("a");
        assert!((50..90).contains(&times.len()), "{times:?}");
        assert!(times.windows(2).all(|w| w[1] - w[0] >= 11), "{times:?}");
    }

    #[test]
    fn a_tracker_that_answers_moves_to_the_front_of_its_tier() {
        let mut world =
            World::new(&[&["a", "b", "c"]], false, &[("a", dead()), ("b", dead()), ("c", dead())]);
        world.run(1);
        world.set("b", reply(1800, None));
        world.live(4);
        world.run(3600);
        assert_eq!(world.announcer.status(world.now)[0].url, url("b"));
    }

    #[test]
    fn early_announces_come_only_while_peers_are_few_and_grow_rarer() {
        let mut world = World::new(&[&["a"]], false, &[("a", reply(1800, None))]);
        world.run(3600);
        let times = world.times_of("a");
        assert!((30..=61).contains(&(times[1] - times[0])), "{times:?}");
        assert!(times.len() <= 9, "{times:?}");
        let early = times.len();
        world.live(4);
        world.run(1700);
        assert!(world.times_of("a").len() <= early + 1);
    }

    #[test]
    fn a_minimum_interval_holds_for_early_announces_too() {
        let mut world = World::new(&[&["a"]], false, &[("a", reply(1800, Some(900)))]);
        world.run(5000);
        let times = world.times_of("a");
        assert!(times.windows(2).all(|w| w[1] - w[0] >= 900), "{times:?}");
        assert_eq!(times[1] - times[0], 900);
    }

    #[test]
    fn absurd_intervals_are_bounded() {
        for (interval, low, high) in [(0, 60, 67), (u32::MAX, 86_400, 86_461)] {
            let mut world = World::new(&[&["a"]], false, &[("a", reply(interval, None))]);
            world.live(9);
            world.run(90_000);
            let times = world.times_of("a");
            assert!((low..=high).contains(&(times[1] - times[0])), "{interval}: {times:?}");
        }
    }

    #[test]
    fn retry_in_is_obeyed_and_never_means_never() {
        for (retry, most) in [(Retry::Minutes(60), 25), (Retry::Never, 1)] {
            let mut world = World::new(&[&["a"]], false, &[("a", refusing(retry))]);
            world.run(24 * 3600);
            let times = world.times_of("a");
            assert!(times.len() <= most, "{times:?}");
            assert!(times.windows(2).all(|w| w[1] - w[0] >= 3600), "{times:?}");
        }
    }

    #[test]
    fn a_trackers_words_are_escaped_in_the_status() {
        let mut world = World::new(&[&["a"]], false, &[("a", refusing(Retry::Never))]);
        world.run(1);
        let row = world.row("a");
        assert_eq!(row.error.as_deref(), Some("tracker says: no\\u{1b}[2J"));
        assert_eq!(row.state, State::GivenUp);
    }

    #[test]
    fn started_is_said_once_to_each_and_completed_never() {
        let mut world = World::new(&[&["a"]], false, &[("a", dead())]);
        world.run(100);
        assert!(world.asked.iter().all(|(.., event)| *event == Event::Started));
        world.set("a", reply(60, None));
        world.run(1000);
        let accepted = world.asked.iter().rposition(|(.., event)| *event == Event::Started);
        let rest = world.asked.split_off(accepted.expect("started") + 1);
        assert!(!rest.is_empty() && rest.iter().all(|(.., event)| *event == Event::None));
    }

    #[test]
    fn stopped_goes_to_all_that_were_told_started() {
        let ok = reply(1800, None);
        let trackers = [("a", ok.clone()), ("b", dead()), ("c", ok), ("d", Behaviour::Hangs)];
        let mut world = World::new(&[&["a"], &["b"], &["c"], &["d"]], false, &trackers);
        world.run(1);
        world.asked.clear();
        world.feed(In::Stop);
        assert_eq!(world.names(), ["a", "c", "d"]);
        assert!(world.asked.iter().all(|(.., event)| *event == Event::Stopped));
        world.run(10);
        assert_eq!(world.done, Some(Time(3_000_000)));
    }

    #[test]
    fn the_end_comes_at_once_when_all_answer() {
        let mut world = World::new(&[&["a"]], false, &[("a", reply(1800, None))]);
        world.run(1);
        world.feed(In::Stop);
        world.run(10);
        assert_eq!(world.done, Some(Time(1_100_000)));
        let mut idle = World::new(&[], false, &[]);
        idle.feed(In::Stop);
        assert_eq!(idle.done, Some(Time::ZERO));
    }

    #[test]
    fn a_private_swarm_uses_one_tracker_at_a_time() {
        let ok = reply(1800, None);
        let trackers = [("a", dead()), ("b", ok.clone()), ("c", ok)];
        let mut world = World::new(&[&["a"], &["b"], &["c"]], true, &trackers);
        assert_eq!(world.names(), ["a"]);
        world.run(1);
        assert_eq!(world.names(), ["a", "b"]);
        assert_eq!(world.dropped, 1);
        world.run(24 * 3600);
        assert!(world.times_of("c").is_empty());
        assert_eq!(world.times_of("a").len(), 1);
    }

    #[test]
    fn a_silent_private_tracker_is_kept_while_a_peer_lives() {
        let ok = reply(1800, None);
        let mut world = World::new(&[&["a"], &["b"]], true, &[("a", ok.clone()), ("b", ok)]);
        world.run(1);
        world.live(1);
        world.set("a", dead());
        world.run(24 * 3600);
        assert!(world.times_of("b").is_empty());
        assert!(world.times_of("a").len() > 20);
        assert_eq!(world.dropped, 0);
        world.live(0);
        assert_eq!(world.times_of("b").len(), 1);
        assert_eq!(world.dropped, 1);
    }

    #[test]
    fn private_trackers_that_all_fail_are_asked_in_turn_without_haste() {
        let mut world = World::new(&[&["a"], &["b"]], true, &[("a", dead()), ("b", dead())]);
        world.run(24 * 3600);
        assert!((100..200).contains(&world.asked.len()), "{}", world.asked.len());
    }

    #[test]
    fn peers_are_reported_once_judged_and_without_ourselves() {
        let peer = |addr: &str| Peer::from(addr.parse::<SocketAddr>().expect("address"));
        let mut peers = vec![peer("8.8.8.8:6881"); 500];
        for bad in ["8.8.4.4:0", "8.8.4.4:25", "127.0.0.1:6881", "224.0.0.1:6881", "9.9.9.9:6881"] {
            peers.push(peer(bad));
        }
        peers.push(peer("[::ffff:8.8.8.8]:6881"));
        peers.push(Peer { id: Some(PeerId::ours([2; 12])), ..peer("7.7.7.7:6881") });
        let external_ip = Some("9.9.9.9".parse().expect("ip"));
        let reply = Behaviour::Replies(Reply { peers, external_ip, ..Reply::default() });
        let mut world = World::new(&[&["a"]], false, &[("a", reply)]);
        world.run(1);
        assert_eq!(world.found, ["8.8.8.8:6881".parse().expect("address")]);
    }

    #[test]
    fn urls_that_are_no_trackers_are_shown_and_not_asked() {
        let mut world = World::new(&[], false, &[]);
        let mut config = world.announcer.config.clone();
        config.tiers =
            vec![vec!["http://t.example/a?info_hash=x".into(), "wss://x.example".into()]];
        world.announcer = Announcer::new(config);
        world.feed(In::Tick);
        world.run(3600);
        assert!(world.asked.is_empty());
        let rows = world.announcer.status(world.now);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.state == State::GivenUp && row.error.is_some()));
    }

    #[test]
    fn the_same_seed_asks_the_same_at_the_same_time() {
        let run = || {
            let trackers = [("a", dead()), ("b", reply(300, None)), ("c", dead())];
            let mut world = World::new(&[&["a", "b", "c"]], false, &trackers);
            world.run(10_000);
            world.asked
        };
        assert_eq!(run(), run());
    }
}
