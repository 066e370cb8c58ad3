//! When which tracker is asked (`specs/tracker.md`, section Schedule).
//!
//! A tracker and an address family make an *end*: IPv4 and IPv6 are announced apart (BEP 7). An
//! end is idle, asking or waiting. Public swarms ask all ends at once until there are peers; after
//! that each family walks the tiers in BEP 12 order and stops at the first end that works. Private
//! swarms (BEP 27) use one tracker at a time.

mod standing;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::address::{Policy, Purpose, canonical, judge};
use super::fault::TrackerFault;
use crate::machine::{Machine, Rng};
use crate::units::{InfoHash, Now, PeerId, Time};
use crate::wire::tracker::url::TrackerUrl;
use crate::wire::tracker::{Announce, Event, Family, Reply};
pub use standing::{Row, State};
use standing::{Standing, Tracker};

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
            Ok(reply) => self.accept(now, n, m, &reply),
            Err(fault) => self.fail(now, n, m, &fault),
        }
    }

    fn accept(&mut self, now: Time, n: usize, m: usize, reply: &Reply) {
        let Some(tracker) = self.trackers.get_mut(n) else { return };
        if reply.tracker_id.is_some() {
            tracker.tracker_id.clone_from(&reply.tracker_id);
        }
        let Some(end) = tracker.ends.get_mut(m) else { return };
        end.accept(now, reply, &mut self.rng);
        // The answer to our `stopped` is no reason to say it again.
        end.told = !matches!(self.phase, Phase::Stopping(_));
        self.promote(n, m);
        self.report(reply);
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
        if let Some(end) = self.trackers.get_mut(n).and_then(|t| t.ends.get_mut(m)) {
            end.fail(now, fault, &mut self.rng);
        }
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

#[cfg(test)]
mod tests;
