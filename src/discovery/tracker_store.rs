//! What our own small tracker remembers: swarms and their peers, bounded, forgetting.
//!
//! IPv4 and IPv6 peers of a swarm are kept and counted apart from each other, as BEP 7 and BEP 15
//! hand them out. A peer is an address: whatever it says about another address is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::machine::Rng;
use crate::units::{InfoHash, PeerId, Time};
use crate::wire::limits;
use crate::wire::tracker::{Announce, Event, Family, Peer, Reply, Swarm};

/// Peers handed out when the client names no number.
const NUM_WANT_DEFAULT: usize = 50;
/// The least interval between announces that is asked of clients.
const INTERVAL_MIN_S: u32 = 30;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Swarms.
    pub swarms_max: usize,
    /// Peers of one swarm in one family; the one unseen for longest goes first.
    pub peers_per_swarm_max: usize,
    /// Peers of one swarm at one address: a NAT or a demo, but no flood of ports.
    pub peers_per_ip_max: usize,
    /// Peers in all.
    pub peers_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            swarms_max: 10_000,
            peers_per_swarm_max: 2_000,
            peers_per_ip_max: 256,
            peers_max: 100_000,
        }
    }
}

/// Why an announce is refused, in the words that the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreFault {
    /// The whitelist does not have it.
    #[error("this info-hash is not served here")]
    Unlisted,
    /// Port 0 or privileged: nobody could or should dial it.
    #[error("port {0} cannot be announced")]
    Port(u16),
    /// One of the bounds is reached.
    #[error("the tracker is full")]
    Full,
}

/// How much the tracker holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Swarms that have peers.
    pub torrents: usize,
    /// Peers in all.
    pub peers: usize,
    /// Announces that counted.
    pub announces: u64,
    /// Announces with `stopped` among them.
    pub stopped: u64,
    /// Scrapes.
    pub scrapes: u64,
    /// Announces that were refused.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: PeerId,
    is_seed: bool,
    seen: Time,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    v4: BTreeMap<SocketAddr, Known>,
    v6: BTreeMap<SocketAddr, Known>,
    completed: u32,
}

impl Entry {
    fn of(&self, family: Family) -> &BTreeMap<SocketAddr, Known> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut BTreeMap<SocketAddr, Known> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn swarm(&self) -> Swarm {
        let seeds = self.v4.values().chain(self.v6.values()).filter(|p| p.is_seed).count();
        Swarm {
            seeders: to_u32(seeds),
            completed: self.completed,
            leechers: to_u32(self.len() - seeds),
        }
    }
}

/// The memory of a tracker.
#[derive(Debug)]
pub struct TrackerStore {
    bounds: Bounds,
    interval_s: u32,
    whitelist: Option<BTreeSet<InfoHash>>,
    swarms: BTreeMap<InfoHash, Entry>,
    peers: usize,
    counts: Counts,
    rng: Rng,
}

impl TrackerStore {
    /// An empty store that asks clients to come every `interval_s` seconds and serves only
    /// `whitelist`, if there is one.
    #[must_use]
    pub fn new(
        bounds: Bounds,
        interval_s: u32,
        whitelist: Option<BTreeSet<InfoHash>>,
        rng: Rng,
    ) -> Self {
        let (swarms, counts) = (BTreeMap::new(), Counts::default());
        Self { bounds, interval_s, whitelist, swarms, peers: 0, counts, rng }
    }

    /// Replaces the whitelist; swarms that are not on it are forgotten.
    pub fn set_whitelist(&mut self, whitelist: BTreeSet<InfoHash>) {
        self.swarms.retain(|hash, _| whitelist.contains(hash));
        self.peers = self.swarms.values().map(Entry::len).sum();
        self.whitelist = Some(whitelist);
    }

    /// Takes an announce that came from `ip` and answers it with other peers of its family, at
    /// most `peers_max`.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn announce(
        &mut self,
        now: Time,
        ip: IpAddr,
        announce: &Announce,
        peers_max: usize,
    ) -> Result<Reply, StoreFault> {
        let taken = self.take(now, ip, announce, peers_max);
        match taken {
            Ok(_) => self.counts.announces += 1,
            Err(_) => self.counts.refused += 1,
        }
        taken
    }

    fn take(
        &mut self,
        now: Time,
        ip: IpAddr,
        announce: &Announce,
        peers_max: usize,
    ) -> Result<Reply, StoreFault> {
        let hash = announce.info_hash;
        if self.whitelist.as_ref().is_some_and(|list| !list.contains(&hash)) {
            return Err(StoreFault::Unlisted);
        }
        if announce.port < 1024 {
            return Err(StoreFault::Port(announce.port));
        }
        let addr = SocketAddr::new(ip.to_canonical(), announce.port);
        if announce.event == Event::Stopped {
            self.counts.stopped += 1;
            self.remove(hash, addr);
        } else {
            self.insert(now, addr, announce)?;
        }
        let wanted = announce.num_want.map_or(NUM_WANT_DEFAULT, |n| n as usize);
        let wanted = if announce.event == Event::Stopped { 0 } else { wanted };
        let max = wanted.min(peers_max).min(limits::PEERS_PER_REPLY_MAX);
        let swarm = self.swarms.get(&hash).map(Entry::swarm).unwrap_or_default();
        Ok(Reply {
            interval_s: Some(self.interval_s),
            interval_min_s: Some(self.interval_s.min(INTERVAL_MIN_S)),
            seeders: Some(swarm.seeders),
            leechers: Some(swarm.leechers),
            downloaded: Some(swarm.completed),
            peers: self.others(hash, addr, max),
            external_ip: Some(addr.ip()),
            ..Reply::default()
        })
    }

    fn insert(
        &mut self,
        now: Time,
        addr: SocketAddr,
        announce: &Announce,
    ) -> Result<(), StoreFault> {
        let (bounds, is_new) = (self.bounds, !self.swarms.contains_key(&announce.info_hash));
        if is_new && self.swarms.len() >= bounds.swarms_max {
            return Err(StoreFault::Full);
        }
        let family = Family::of(&addr);
        let (is_known, here, all) = match self.swarms.get(&announce.info_hash) {
            None => (false, 0, 0),
            Some(entry) => {
                let peers = entry.of(family);
                let (first, last) =
                    (SocketAddr::new(addr.ip(), 0), SocketAddr::new(addr.ip(), u16::MAX));
                (peers.contains_key(&addr), peers.range(first..=last).count(), peers.len())
            }
        };
        if !is_known && (here >= bounds.peers_per_ip_max || self.peers >= bounds.peers_max) {
            return Err(StoreFault::Full);
        }
        let entry = self.swarms.entry(announce.info_hash).or_default();
        if !is_known && all >= bounds.peers_per_swarm_max {
            let peers = entry.of_mut(family);
            let oldest = peers.iter().min_by_key(|(_, known)| known.seen).map(|(addr, _)| *addr);
            if oldest.is_some_and(|oldest| peers.remove(&oldest).is_some()) {
                self.peers -= 1;
            }
        }
        let known = Known { id: announce.peer_id, is_seed: announce.left == 0, seen: now };
        let before = entry.of_mut(family).insert(addr, known);
        self.peers += usize::from(before.is_none());
        let was_leecher = before.is_some_and(|known| !known.is_seed);
        if announce.event == Event::Completed && was_leecher {
            entry.completed = entry.completed.saturating_add(1);
        }
        Ok(())
    }

    fn remove(&mut self, hash: InfoHash, addr: SocketAddr) {
        let Some(entry) = self.swarms.get_mut(&hash) else { return };
        if entry.of_mut(Family::of(&addr)).remove(&addr).is_some() {
            self.peers -= 1;
        }
        if entry.len() == 0 {
            self.swarms.remove(&hash);
        }
    }

    /// Up to `max` peers of the swarm at random, in the family of `addr` and without it.
    fn others(&mut self, hash: InfoHash, addr: SocketAddr, max: usize) -> Vec<Peer> {
        let Some(entry) = self.swarms.get(&hash) else { return Vec::new() };
        let peers = entry.of(Family::of(&addr));
        let others = peers.iter().filter(|(other, _)| **other != addr);
        let mut others: Vec<Peer> =
            others.map(|(addr, known)| Peer { addr: *addr, id: Some(known.id) }).collect();
        self.rng.shuffle(&mut others);
        others.truncate(max);
        others
    }

    /// What is known about `hashes`; swarms without peers are all zero.
    pub fn scrape(&mut self, hashes: &[InfoHash]) -> Vec<Swarm> {
        self.counts.scrapes += 1;
        let of = |hash| self.swarms.get(hash).map(Entry::swarm).unwrap_or_default();
        hashes.iter().take(limits::SCRAPE_HASHES_MAX).map(of).collect()
    }

    /// Forgets peers that did not come for two intervals.
    pub fn expire(&mut self, now: Time) {
        let patience = Duration::from_secs(u64::from(self.interval_s.max(INTERVAL_MIN_S)) * 2);
        for entry in self.swarms.values_mut() {
            for peers in [&mut entry.v4, &mut entry.v6] {
                peers.retain(|_, known| now.since(known.seen) <= patience);
            }
        }
        self.swarms.retain(|_, entry| entry.len() > 0);
        self.peers = self.swarms.values().map(Entry::len).sum();
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { torrents: self.swarms.len(), peers: self.peers, ..self.counts }
    }
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: InfoHash = InfoHash([1; 20]);

    fn store(bounds: Bounds) -> TrackerStore {
        TrackerStore::new(bounds, 60, None, Rng::new(1))
    }

    fn announce(port: u16, event: Event) -> Announce {
        Announce {
            info_hash: HASH,
            peer_id: PeerId([port as u8; 20]),
            port,
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event,
            num_want: None,
            key: 0,
        }
    }

    fn come(
        store: &mut TrackerStore,
        seconds: u64,
        ip: &str,
        announce: &Announce,
    ) -> Result<Vec<String>, StoreFault> {
        let ip = ip.parse().expect("address");
        let reply = store.announce(Time(seconds * 1_000_000), ip, announce, 200)?;
        Ok(reply.peers.iter().map(|peer| peer.addr.to_string()).collect())
    }

    #[test]
    fn peers_are_introduced_but_not_to_themselves() {
        let mut store = store(Bounds::default());
        let first = announce(2001, Event::Started);
        assert_eq!(come(&mut store, 0, "127.0.0.1", &first), Ok(vec![]));
        let second = announce(2002, Event::Started);
        let found = come(&mut store, 0, "127.0.0.1", &second);
        assert_eq!(found, Ok(vec!["127.0.0.1:2001".to_owned()]));
    }

    #[test]
    fn families_are_kept_apart() {
        let mut store = store(Bounds::default());
        let peer = announce(2001, Event::Started);
        come(&mut store, 0, "127.0.0.1", &peer).expect("counts");
        assert_eq!(come(&mut store, 0, "::1", &peer), Ok(vec![]));
        let other = announce(2002, Event::Started);
        let mapped = come(&mut store, 0, "::ffff:127.0.0.2", &other);
        assert_eq!(mapped, Ok(vec!["127.0.0.1:2001".to_owned()]));
        assert_eq!(store.scrape(&[HASH])[0].leechers, 3);
    }

    #[test]
    fn who_stops_or_stays_away_is_forgotten() {
        let mut store = store(Bounds::default());
        for port in [2001, 2002] {
            come(&mut store, 0, "127.0.0.1", &announce(port, Event::Started)).expect("counts");
        }
        let stopped = announce(2001, Event::Stopped);
        assert_eq!(come(&mut store, 1, "127.0.0.1", &stopped), Ok(vec![]));
        assert_eq!(store.counts().peers, 1);
        store.expire(Time(120_000_000));
        assert_eq!(store.counts().peers, 1);
        store.expire(Time(121_000_000));
        assert_eq!((store.counts().peers, store.counts().torrents), (0, 0));
    }

    #[test]
    fn useless_ports_and_unlisted_swarms_are_refused() {
        let mut store = store(Bounds::default());
        for port in [0, 25, 1023] {
            let refused = come(&mut store, 0, "127.0.0.1", &announce(port, Event::Started));
            assert_eq!(refused, Err(StoreFault::Port(port)));
        }
        let good = announce(2001, Event::Started);
        come(&mut store, 0, "127.0.0.1", &good).expect("counts");
        store.set_whitelist(BTreeSet::new());
        assert_eq!(come(&mut store, 0, "127.0.0.1", &good), Err(StoreFault::Unlisted));
        assert_eq!(store.counts().peers, 0);
    }

    #[test]
    fn memory_is_bounded_on_every_side() {
        let bounds =
            Bounds { swarms_max: 2, peers_per_swarm_max: 3, peers_per_ip_max: 2, peers_max: 5 };
        let mut store = store(bounds);
        let full = Err(StoreFault::Full);
        let at = |port, hash: u8| Announce {
            info_hash: InfoHash([hash; 20]),
            ..announce(port, Event::Started)
        };
        come(&mut store, 0, "127.0.0.1", &at(2001, 1)).expect("counts");
        come(&mut store, 1, "127.0.0.1", &at(2002, 1)).expect("counts");
        assert_eq!(come(&mut store, 2, "127.0.0.1", &at(2003, 1)), full);
        come(&mut store, 3, "127.0.0.2", &at(2001, 1)).expect("counts");
        // The swarm is full: the peer unseen for longest makes room.
        come(&mut store, 4, "127.0.0.3", &at(2001, 1)).expect("counts");
        assert_eq!(store.counts().peers, 3);
        come(&mut store, 5, "127.0.0.1", &at(2001, 2)).expect("counts");
        assert_eq!(come(&mut store, 6, "127.0.0.1", &at(2001, 3)), full);
        come(&mut store, 7, "127.0.0.2", &at(2001, 2)).expect("counts");
        assert_eq!(come(&mut store, 8, "127.0.0.3", &at(2001, 2)), full);
    }

    #[test]
    fn scrapes_count_seeds_and_completions() {
        let mut store = store(Bounds::default());
        come(&mut store, 0, "127.0.0.1", &announce(2001, Event::Started)).expect("counts");
        let seed = Announce { left: 0, ..announce(2001, Event::Completed) };
        come(&mut store, 1, "127.0.0.1", &seed).expect("counts");
        come(&mut store, 2, "127.0.0.1", &seed).expect("counts");
        come(&mut store, 3, "127.0.0.1", &announce(2002, Event::Started)).expect("counts");
        let swarm = Swarm { seeders: 1, completed: 1, leechers: 1 };
        assert_eq!(store.scrape(&[HASH, InfoHash([9; 20])]), [swarm, Swarm::default()]);
    }

    #[test]
    fn no_more_peers_are_handed_out_than_asked_for() {
        let mut store = store(Bounds::default());
        for port in 2000..2200 {
            come(&mut store, 0, "127.0.0.1", &announce(port, Event::Started)).expect("counts");
        }
        for (want, got) in [(None, 50), (Some(7), 7), (Some(0), 0), (Some(9999), 200)] {
            let asks = Announce { num_want: want, ..announce(3000, Event::None) };
            assert_eq!(come(&mut store, 0, "127.0.0.1", &asks).map(|p| p.len()), Ok(got));
        }
    }
}
