//! `broadcast --feed-only`: which relays are reached, and what to tell when they are not.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::session::{Session, in_a_row};
use super::target::addresses;
use crate::swarm::io::{In, Via};
use crate::wire::magnet::PeerAddr;

/// Something is said of relays when it has been so for this long; a dial takes as much at most.
const SETTLED: Duration = Duration::from_secs(5);
/// Names of relays that are not reached are looked up again this often: their address may be
/// another one by now.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);

/// The relays that alone are fed.
#[derive(Debug)]
pub struct Relays {
    named: Vec<PeerAddr>,
    /// How many were connected last, and since when.
    connected: (usize, Instant),
    /// How many were said to be; all, before anything was said.
    said: usize,
    looked_up: Instant,
}

impl Relays {
    /// These relays, each once.
    #[must_use]
    pub fn new(mut named: Vec<PeerAddr>) -> Self {
        let mut seen = Vec::new();
        named.retain(|peer| {
            let fresh = !seen.contains(&peer.to_string());
            seen.push(peer.to_string());
            fresh
        });
        let (said, now) = (named.len(), Instant::now());
        Self { named, connected: (0, now), said, looked_up: now }
    }

    /// The relays as they were named.
    #[must_use]
    pub fn named(&self) -> &[PeerAddr] {
        &self.named
    }

    /// Another second has passed with so many relays connected.
    pub fn second(&mut self, session: &Session, connected: usize) {
        if self.named.is_empty() {
            return;
        }
        let now = Instant::now();
        if let Some(words) = self.settle(now, connected) {
            session.say(&words);
        }
        if connected < self.named.len() && now - self.looked_up >= LOOK_UP_EVERY {
            self.looked_up = now;
            self.look_up(session);
        }
    }

    /// What to say, if the number of relays has been another one for a while.
    fn settle(&mut self, now: Instant, connected: usize) -> Option<String> {
        if self.connected.0 != connected {
            self.connected = (connected, now);
        }
        let settled = connected >= self.named.len() || now - self.connected.1 >= SETTLED;
        if !settled || self.said == connected {
            return None;
        }
        self.said = connected;
        let all = self.named.len();
        Some(match connected {
            0 => format!(
                "no relay can be reached ({}): nobody gets the stream; trying again",
                in_a_row(&self.named)
            ),
            some if some < all => format!("{some} of {all} relays are reached; trying the others"),
            _ => "all relays are reached".to_owned(),
        })
    }

    fn look_up(&self, session: &Session) {
        let names = self.named.iter().filter(|peer| matches!(peer, PeerAddr::Host { .. }));
        let names: Vec<_> = names.map(|peer| (Via::User, peer.clone())).collect();
        if names.is_empty() {
            return;
        }
        let node = session.node.clone();
        tokio::spawn(async move {
            for (via, addr) in addresses(names).await {
                node.input(In::Found { via, addrs: vec![addr] }).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays(count: u16) -> Relays {
        let addr = |n| PeerAddr::Ip(([192, 0, 2, 1], 6881 + n).into());
        Relays::new((0..count).map(addr).collect())
    }

    #[test]
    fn relays_that_are_not_reached_are_told_once_after_a_while_and_their_return_too() {
        let mut relays = relays(2);
        let began = relays.connected.1;
        let at = |s| began + Duration::from_secs(s);
        let told = [(1, 0), (4, 0), (5, 0), (9, 0), (10, 1), (14, 1), (15, 1), (16, 2), (99, 2)]
            .map(|(s, connected)| relays.settle(at(s), connected));
        let words = |n: usize| told[n].as_deref().unwrap_or_default();
        assert!(words(2).contains("no relay can be reached (192.0.2.1:6881, 192.0.2.1:6882)"));
        assert!(words(6).contains("1 of 2 relays"), "{told:?}");
        assert!(words(7).contains("all relays are reached"), "{told:?}");
        assert_eq!(told.iter().flatten().count(), 3, "{told:?}");
    }

    #[test]
    fn nothing_is_said_of_relays_that_are_reached_at_once() {
        let mut relays = relays(1);
        let began = relays.connected.1;
        assert_eq!(relays.settle(began + Duration::from_secs(2), 1), None);
        assert_eq!(relays.settle(began + Duration::from_secs(20), 1), None);
    }

    #[test]
    fn a_relay_named_twice_is_one() {
        let addr = PeerAddr::Host { host: "relay.example.org".to_owned(), port: 6881 };
        assert_eq!(Relays::new(vec![addr.clone(), addr]).named().len(), 1);
    }
}
