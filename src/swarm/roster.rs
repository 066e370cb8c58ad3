//! The addresses that are known: which to dial next, which to leave alone and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::io::Via;
use crate::discovery::address::{Policy, Purpose, canonical, judge};
use crate::machine::Rng;
use crate::units::{Link, Time};

/// Addresses kept.
pub const KNOWN_MAX: usize = 1000;
/// Of these, addresses that only peers named, so that a flood of them leaves room for trackers.
const HEARSAY_MAX: usize = 600;
/// Endpoints of one host that peers may name.
const HOST_MAX: usize = 4;
/// Banned hosts kept; the oldest bans are forgotten first.
const BANNED_MAX: usize = 1000;
/// When nothing can be dialled, what is known is looked through again after this long at most.
const LOOK_AGAIN_US: u64 = 1_000_000;
/// Dials under way at once.
pub const DIALS_MAX: usize = 48;
/// Of these, dials that may be answered any moment. Whoever cannot be reached answers nothing for
/// seconds: if that held up the others, a newcomer would need half a minute for its neighbours
/// where most sit behind a NAT.
const FRESH_MAX: usize = 8;
/// A dial that was not answered for so long probably will not be.
const FRESH_US: u64 = 500_000;
/// First pause after a failed dial or a lost connection; doubled with each further one.
const RETRY_US: u64 = 2_000_000;
/// Longest pause after failures.
const RETRY_US_MAX: u64 = 300_000_000;
/// Longest pause before a peer that the user named is dialled again: it may be all there is.
const RETRY_NAMED_US_MAX: u64 = 15_000_000;
/// Who told of addresses misleads if more than so many of them came to nothing, and more than so
/// many times those that did not.
const MISLED: u32 = 4;
/// Pause after a peer turned out not to speak our extension.
pub const FOREIGN_US: u64 = 3_600_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle { until: Time },
    Dialling,
    Connected,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    via: Via,
    state: State,
    failures: u32,
    /// Who told of it by peer exchange, until it was tried.
    teller: Option<Link>,
}

/// What became of the addresses that one peer told.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    good: u32,
    bad: u32,
    /// Dials under way.
    open: u32,
}

impl Told {
    fn misleads(self) -> bool {
        self.bad > MISLED && self.bad > MISLED * self.good
    }

    /// Whether it would mislead if nothing came of the dials under way.
    fn may_mislead(self) -> bool {
        Self { bad: self.bad + self.open, ..self }.misleads()
    }
}

/// Who is banned: a host on the internet, an endpoint on this machine or network, where many
/// peers share one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Banned {
    Host(IpAddr),
    Endpoint(SocketAddr),
}

impl Banned {
    fn of(addr: SocketAddr) -> Self {
        let shared = match addr.ip() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
        };
        if shared { Self::Endpoint(addr) } else { Self::Host(addr.ip()) }
    }
}

/// Every address that somebody named, and what became of it.
#[derive(Debug)]
pub struct Roster {
    known: BTreeMap<SocketAddr, Known>,
    banned: BTreeMap<Banned, Time>,
    ours: BTreeSet<SocketAddr>,
    policy: Policy,
    /// Dials under way, and since when.
    dialling: BTreeMap<SocketAddr, Time>,
    /// Addresses known that only peers named.
    hearsay: usize,
    /// What became of addresses, by who told them.
    told: BTreeMap<Link, Told>,
    /// No address can be dialled before this.
    not_before: Time,
}

/// Whether only a peer's word stands for an address.
fn is_hearsay(via: Via) -> bool {
    matches!(via, Via::Pex | Via::Inbound)
}

impl Roster {
    /// A roster that dials what `policy` allows.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let (known, banned, told) = Default::default();
        let (ours, dialling) = (BTreeSet::new(), BTreeMap::new());
        let (hearsay, not_before) = (0, Time::ZERO);
        Self { known, banned, ours, policy, dialling, hearsay, told, not_before }
    }

    /// Takes addresses that somebody named; one listed 500 times is one.
    pub fn add(&mut self, via: Via, addrs: &[SocketAddr], rng: &mut Rng) {
        self.take(via, None, addrs, rng);
    }

    /// Takes addresses that a peer told by peer exchange (BEP 11), unless it misled before: else
    /// one peer could have all others dial whomever it wants, in vain.
    pub fn told(&mut self, teller: Link, addrs: &[SocketAddr], rng: &mut Rng) {
        if !self.told.get(&teller).is_some_and(|told| told.misleads()) {
            self.take(Via::Pex, Some(teller), addrs, rng);
        }
    }

    /// A peer that told of addresses is gone.
    pub fn forget_teller(&mut self, teller: Link) {
        self.told.remove(&teller);
        for known in self.known.values_mut().filter(|k| k.teller == Some(teller)) {
            known.teller = None;
        }
    }

    fn take(&mut self, via: Via, teller: Option<Link>, addrs: &[SocketAddr], rng: &mut Rng) {
        for addr in addrs.iter().map(|a| canonical(*a)) {
            // What the user names is the user's decision, but for addresses that are none.
            let allowed = match via {
                Via::User => addr.port() != 0 && !addr.ip().is_multicast(),
                _ => judge(addr, Purpose::Peer, &self.policy).is_ok(),
            };
            if !allowed || self.ours.contains(&addr) || self.known.contains_key(&addr) {
                continue;
            }
            if self.is_crowded(via, addr) {
                continue;
            }
            if self.known.len() >= KNOWN_MAX && !self.evict(rng) {
                return;
            }
            let state = State::Idle { until: Time::ZERO };
            self.known.insert(addr, Known { via, state, failures: 0, teller });
            self.hearsay += usize::from(is_hearsay(via));
            self.not_before = Time::ZERO;
        }
    }

    /// Whether one more address would give too much room to one host, or to what strangers say.
    fn is_crowded(&self, via: Via, addr: SocketAddr) -> bool {
        if !is_hearsay(via) {
            return false;
        }
        let port = |port| SocketAddr::new(addr.ip(), port);
        let of_host = || self.known.range(port(0)..=port(u16::MAX)).count();
        let alone = matches!(Banned::of(addr), Banned::Host(_));
        self.hearsay >= HEARSAY_MAX || (alone && of_host() >= HOST_MAX)
    }

    fn remove(&mut self, addr: SocketAddr) -> bool {
        let Some(known) = self.known.remove(&addr) else { return false };
        self.hearsay -= usize::from(is_hearsay(known.via));
        true
    }

    /// Forgets one address that is not in use: of a few drawn at random the one that failed most.
    fn evict(&mut self, rng: &mut Rng) -> bool {
        let idle: Vec<SocketAddr> = self
            .known
            .iter()
            .filter(|(_, k)| matches!(k.state, State::Idle { .. }) && k.via != Via::User)
            .map(|(addr, _)| *addr)
            .collect();
        let drawn = (0..5).filter_map(|_| idle.get(rng.index(idle.len())));
        let worst = drawn.max_by_key(|addr| self.known.get(addr).map_or(0, |k| k.failures));
        worst.copied().is_some_and(|addr| self.remove(addr))
    }

    /// An address to dial now; it counts as being dialled from here on.
    pub fn dial(&mut self, now: Time, rng: &mut Rng) -> Option<SocketAddr> {
        let fresh = self.dialling.values().filter(|since| now.since_us(**since) < FRESH_US);
        if self.dialling.len() >= DIALS_MAX || fresh.count() >= FRESH_MAX || now < self.not_before {
            return None;
        }
        let due = |known: &Known| matches!(known.state, State::Idle { until } if until <= now);
        let doubtful = |teller: Link| self.told.get(&teller).is_some_and(|t| t.may_mislead());
        let free = |addr: SocketAddr, known: &Known| {
            let doubtful = known.teller.is_some_and(doubtful);
            !doubtful && !self.is_banned(addr, now) && !self.dialling.contains_key(&addr)
        };
        let ready: Vec<(SocketAddr, Known)> = self
            .known
            .iter()
            .filter(|(addr, known)| due(known) && free(**addr, known))
            .map(|(addr, known)| (*addr, *known))
            .collect();
        // What the user named first, then what failed least, at random among equals.
        let rank = |k: &Known| (k.via != Via::User && k.via != Via::Magnet, k.failures.min(3));
        let Some(best) = ready.iter().map(|(_, k)| rank(k)).min() else {
            // Bans end as well: looked at again after a while.
            self.not_before = now.after_us(LOOK_AGAIN_US).min(self.next_at()).max(now.after_us(1));
            return None;
        };
        let equals: Vec<_> = ready.iter().filter(|(_, k)| rank(k) == best).collect();
        let (addr, _) = **equals.get(rng.index(equals.len()))?;
        let known = self.known.get_mut(&addr)?;
        known.state = State::Dialling;
        if let Some(teller) = known.teller {
            self.told.entry(teller).or_default().open += 1;
        }
        self.dialling.insert(addr, now);
        Some(addr)
    }

    /// When an address that waits may be dialled.
    #[must_use]
    pub fn next_at(&self) -> Time {
        if self.dialling.len() >= DIALS_MAX {
            return Time::NEVER;
        }
        let waiting = self.known.values().filter_map(|k| match k.state {
            State::Idle { until } => Some(until),
            _ => None,
        });
        waiting.min().unwrap_or(Time::NEVER)
    }

    /// A dial is not under way any more.
    fn dialled(&mut self, addr: SocketAddr) {
        if self.dialling.remove(&addr).is_none() {
            return;
        }
        self.not_before = Time::ZERO;
        let teller = self.known.get(&addr).and_then(|k| k.teller);
        if let Some(told) = teller.and_then(|teller| self.told.get_mut(&teller)) {
            told.open = told.open.saturating_sub(1);
        }
    }

    /// A dial came to nothing.
    pub fn failed(&mut self, addr: SocketAddr, now: Time) {
        self.dialled(addr);
        self.pause(addr, now, 0);
        let Some(teller) = self.known.get_mut(&addr).and_then(|k| k.teller.take()) else { return };
        let told = self.told.entry(teller).or_default();
        told.bad += 1;
        if told.misleads() {
            self.forget_told(teller);
        }
    }

    /// Forgets what a peer told and nobody tried yet.
    fn forget_told(&mut self, teller: Link) {
        let idle = |k: &Known| matches!(k.state, State::Idle { .. }) && k.teller == Some(teller);
        let untried = self.known.iter().filter(|(_, k)| idle(k)).map(|(addr, _)| *addr);
        for addr in untried.collect::<Vec<_>>() {
            self.remove(addr);
        }
    }

    /// A connection is open; `dialled` if by us.
    pub fn connected(&mut self, addr: SocketAddr, dialled: bool) {
        if dialled {
            self.dialled(addr);
            if let Some(known) = self.known.get_mut(&addr) {
                known.state = State::Connected;
            }
        }
    }

    /// The listening address of a peer that connected to us became known.
    pub fn listens(&mut self, addr: SocketAddr, rng: &mut Rng) {
        self.add(Via::Inbound, &[addr], rng);
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.state = State::Connected;
        }
    }

    /// A connection worked.
    pub fn proved(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.failures = 0;
            if let Some(teller) = known.teller.take() {
                self.told.entry(teller).or_default().good += 1;
            }
        }
    }

    /// A connection ended; the address rests for `rest_us` at least.
    pub fn closed(&mut self, addr: SocketAddr, now: Time, rest_us: u64) {
        self.pause(canonical(addr), now, rest_us);
    }

    fn pause(&mut self, addr: SocketAddr, now: Time, rest_us: u64) {
        let Some(known) = self.known.get_mut(&addr) else { return };
        let doubled = RETRY_US << known.failures.min(8);
        known.failures += 1;
        let longest = if known.via == Via::User { RETRY_NAMED_US_MAX } else { RETRY_US_MAX };
        known.state = State::Idle { until: now.after_us(doubled.min(longest).max(rest_us)) };
        self.not_before = Time::ZERO;
        // Strangers' strangers that keep failing are forgotten.
        if known.failures > 6 && known.via == Via::Pex {
            self.remove(addr);
        }
    }

    /// This address is our own.
    pub fn is_ours(&mut self, addr: SocketAddr) {
        self.dialled(addr);
        self.remove(addr);
        if self.ours.len() < 64 {
            self.ours.insert(addr);
        }
    }

    /// Leaves a peer alone for an hour.
    pub fn ban(&mut self, addr: SocketAddr, now: Time) {
        if self.banned.len() >= BANNED_MAX {
            let oldest = self.banned.iter().min_by_key(|(_, until)| **until).map(|(b, _)| *b);
            oldest.and_then(|b| self.banned.remove(&b));
        }
        self.banned.insert(Banned::of(canonical(addr)), now.after_us(3_600_000_000));
    }

    /// Whether a peer is banned.
    #[must_use]
    pub fn is_banned(&self, addr: SocketAddr, now: Time) -> bool {
        self.banned.get(&Banned::of(canonical(addr))).is_some_and(|until| *until > now)
    }

    /// Whether the user named this address, himself or in a link.
    #[must_use]
    pub fn is_named_by_user(&self, addr: SocketAddr) -> bool {
        self.known.get(&canonical(addr)).is_some_and(|k| matches!(k.via, Via::User | Via::Magnet))
    }

    /// Bans in force.
    #[must_use]
    pub fn banned(&self, now: Time) -> usize {
        self.banned.values().filter(|until| **until > now).count()
    }

    /// Addresses known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, (n % 250) as u8], 2000 + n))
    }

    fn roster() -> (Roster, Rng) {
        (Roster::new(Policy::default()), Rng::new(1))
    }

    #[test]
    fn one_endpoint_listed_500_times_is_one_dial() {
        let (mut roster, mut rng) = roster();
        roster.add(Via::Tracker, &[addr(1); 500], &mut rng);
        assert_eq!(roster.dial(Time(0), &mut rng), Some(addr(1)));
        assert_eq!(roster.dial(Time(0), &mut rng), None);
    }

    #[test]
    fn who_tells_of_nobody_is_not_listened_to_and_who_tells_of_some_is() {
        for (good, listened) in [(0, false), (1, false), (2, true)] {
            let (mut roster, mut rng) = roster();
            let told: Vec<SocketAddr> = (0..20).map(addr).collect();
            roster.told(Link(7), &told, &mut rng);
            for n in 0..good + 5 {
                let at = roster.dial(Time(0), &mut rng).expect("an address to dial");
                if n < good {
                    roster.connected(at, true);
                    roster.proved(at);
                } else {
                    roster.failed(at, Time(0));
                }
            }
            assert_eq!(roster.dial(Time(0), &mut rng).is_some(), listened, "{good}");
            let known = roster.len();
            roster.told(Link(7), &[addr(100)], &mut rng);
            roster.told(Link(8), &[addr(101)], &mut rng);
            assert_eq!(roster.len() - known, 1 + usize::from(listened), "{good}");
            // On a new connection it begins anew.
            roster.forget_teller(Link(7));
            roster.told(Link(7), &[addr(102)], &mut rng);
            assert_eq!(roster.len() - known, 2 + usize::from(listened), "{good}");
        }
    }

    #[test]
    fn what_must_not_be_dialled_is_not_kept() {
        let (mut roster, mut rng) = roster();
        let bad = ["127.0.0.1:6881", "224.0.0.1:6881", "203.0.113.9:0", "203.0.113.9:25"];
        let bad: Vec<SocketAddr> = bad.iter().map(|a| a.parse().expect("address")).collect();
        roster.add(Via::Tracker, &bad, &mut rng);
        assert!(roster.is_empty());
        roster.add(Via::User, &bad[..1], &mut rng);
        assert_eq!(roster.len(), 1);
    }

    #[test]
    fn failures_make_pauses_longer_and_success_forgives() {
        let (mut roster, mut rng) = roster();
        roster.add(Via::Tracker, &[addr(1)], &mut rng);
        let mut now = Time(0);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            assert!(roster.dial(now, &mut rng).is_some());
            roster.failed(addr(1), now);
            pauses.push(roster.next_at().since_us(now));
            now = roster.next_at();
        }
        assert_eq!(pauses, [2_000_000, 4_000_000, 8_000_000]);
        roster.dial(now, &mut rng);
        roster.connected(addr(1), true);
        roster.proved(addr(1));
        roster.closed(addr(1), now, FOREIGN_US);
        assert_eq!(roster.next_at().since_us(now), FOREIGN_US);
    }

    #[test]
    fn a_named_peer_that_fails_is_dialled_again_every_15_seconds() {
        let (mut roster, mut rng) = roster();
        roster.add(Via::User, &[addr(1)], &mut rng);
        let mut now = Time(0);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(roster.dial(now, &mut rng).is_some());
            roster.failed(addr(1), now);
            pauses.push(roster.next_at().since_us(now) / 1_000_000);
            now = roster.next_at();
        }
        assert_eq!(pauses, [2, 4, 8, 15, 15, 15]);
    }

    #[test]
    fn who_answers_nothing_does_not_hold_up_the_others() {
        let (mut roster, mut rng) = roster();
        let all: Vec<SocketAddr> = (0..500).map(addr).collect();
        roster.add(Via::Tracker, &all, &mut rng);
        // Nobody answers: a few more each half second, until many are under way.
        let at = |round| Time(round * FRESH_US);
        let mut dials = |roster: &mut Roster, round| {
            std::iter::from_fn(|| roster.dial(at(round), &mut rng)).count()
        };
        let counts: Vec<usize> = (0..8).map(|round| dials(&mut roster, round)).collect();
        assert_eq!(counts, [8, 8, 8, 8, 8, 8, 0, 0]);
        // One comes to nothing at last: there is room for another.
        let first = *roster.dialling.keys().next().expect("a dial");
        roster.failed(first, at(8));
        assert_eq!(dials(&mut roster, 8), 1);
    }

    #[test]
    fn who_was_believed_for_nothing_yet_has_few_dials_under_way() {
        let (mut roster, mut rng) = roster();
        let told: Vec<SocketAddr> = (0..20).map(addr).collect();
        roster.told(Link(7), &told, &mut rng);
        let mut open = Vec::new();
        for round in 0..5 {
            open.extend(std::iter::from_fn(|| roster.dial(Time(round * FRESH_US), &mut rng)));
        }
        assert_eq!(open.len(), 5, "nobody answers");
        roster.connected(open[0], true);
        roster.proved(open[0]);
        roster.connected(open[1], true);
        roster.proved(open[1]);
        let more = std::iter::from_fn(|| roster.dial(Time(9 * FRESH_US), &mut rng)).count();
        assert_eq!(more, 6, "three in vain and six under way, four for each that was good");
    }

    #[test]
    fn the_roster_is_bounded_and_dials_few_at_once() {
        let (mut roster, mut rng) = roster();
        for n in 0..3000 {
            roster.add(Via::Pex, &[addr(n)], &mut rng);
        }
        assert_eq!(roster.len(), HEARSAY_MAX, "some room is left for trackers");
        for n in 0..3000 {
            roster.add(Via::Tracker, &[addr(n)], &mut rng);
        }
        assert_eq!(roster.len(), KNOWN_MAX);
        let dials = std::iter::from_fn(|| roster.dial(Time(0), &mut rng)).count();
        assert_eq!(dials, FRESH_MAX);
    }

    #[test]
    fn two_who_dial_each_other_at_once_go_on_dialling() {
        let (mut roster, mut rng) = roster();
        for n in 0..3 * FRESH_MAX as u16 {
            roster.add(Via::Tracker, &[addr(n)], &mut rng);
            assert_eq!(roster.dial(Time(0), &mut rng), Some(addr(n)));
            // It was quicker: its own connection says where it listens; then ours opens as well.
            roster.listens(addr(n), &mut rng);
            roster.connected(addr(n), true);
        }
    }

    #[test]
    fn a_ban_covers_a_host_but_on_loopback_only_an_endpoint() {
        let (mut roster, _) = roster();
        roster.ban(addr(1), Time(0));
        let same_host = SocketAddr::new(addr(1).ip(), 9);
        assert!(roster.is_banned(same_host, Time(1)));
        assert!(!roster.is_banned(same_host, Time(3_600_000_001)));
        let local: SocketAddr = "127.0.0.1:5000".parse().expect("address");
        roster.ban(local, Time(0));
        assert!(!roster.is_banned("127.0.0.1:5001".parse().expect("address"), Time(1)));
    }
}
