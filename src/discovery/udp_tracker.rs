//! The client side of BEP 15 for one socket: connection ids, retransmission, matching.
//!
//! An exchange is in one of two steps: it asks for a connection id or, with one, for what it
//! wants. Each request carries a transaction id of its own; an answer counts only if both its
//! address and that id fit, so that nobody who cannot see our packets can answer for a tracker.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::fault::TrackerFault;
use crate::machine::{Machine, Rng};
use crate::units::{InfoHash, Now, Time};
use crate::wire::tracker::udp::{Request, Response, UdpFault};
use crate::wire::tracker::{Announce, Family, Refusal, Reply, Swarm};

/// Exchanges at once; more are refused.
pub const EXCHANGES_MAX: usize = 256;
/// Connection ids kept; the oldest goes first.
pub const CONNECTIONS_MAX: usize = 256;
/// BEP 15: a client may use a connection id for a minute.
pub const CONNECTION_VALID: Duration = Duration::from_secs(60);
/// BEP 15: the first wait for an answer, doubled with each retransmission.
pub const RETRANSMIT_FIRST: Duration = Duration::from_secs(15);
/// BEP 15: how often it is doubled.
const DOUBLINGS_MAX: u32 = 8;

/// Names one exchange; the driver chooses it and never uses it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

/// What is asked of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// An announce.
    Announce {
        /// What to say.
        announce: Announce,
        /// Path and query of the tracker's URL (BEP 41).
        url_data: Vec<u8>,
    },
    /// A scrape of these swarms.
    Scrape(Vec<InfoHash>),
}

/// What a tracker answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an announce.
    Announce(Reply),
    /// To a scrape: one row for each hash asked for, fewer if the tracker stopped early.
    Scrape(Vec<Swarm>),
}

/// What the client is told.
#[derive(Clone, Debug)]
pub enum In {
    /// The deadline has come.
    Tick,
    /// Ask a tracker.
    Ask {
        /// The exchange's name.
        id: ExchangeId,
        /// The tracker, already judged.
        to: SocketAddr,
        /// What to ask.
        query: Query,
        /// When to give up.
        until: Time,
    },
    /// A datagram arrived.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// Its bytes.
        data: Bytes,
    },
}

/// What the client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Send a datagram.
    Send {
        /// Whereto.
        to: SocketAddr,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// An exchange is over.
    Done {
        /// Which.
        id: ExchangeId,
        /// With what.
        outcome: Result<Answer, TrackerFault>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connecting,
    /// Asking with a connection id; `fresh` if this exchange obtained it itself.
    Asking {
        fresh: bool,
    },
}

#[derive(Clone, Debug)]
struct Exchange {
    to: SocketAddr,
    query: Query,
    step: Step,
    transaction: u32,
    /// Retransmissions since the last answer.
    tries: u32,
    resend: Time,
    since: Time,
    until: Time,
}

/// The client of one socket, and so of one family.
#[derive(Debug)]
pub struct UdpTrackers {
    rng: Rng,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    connections: BTreeMap<SocketAddr, (u64, Time)>,
    out: VecDeque<Out>,
}

impl UdpTrackers {
    /// A client whose transaction ids `rng` decides; seed it from the operating system.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        let (exchanges, connections) = (BTreeMap::new(), BTreeMap::new());
        Self { rng, exchanges, connections, out: VecDeque::new() }
    }

    fn ask(&mut self, now: Time, id: ExchangeId, to: SocketAddr, query: Query, until: Time) {
        if self.exchanges.len() >= EXCHANGES_MAX {
            let fault = TrackerFault::Io(format!("{EXCHANGES_MAX} exchanges are under way"));
            self.out.push_back(Out::Done { id, outcome: Err(fault) });
            return;
        }
        let step = Step::Connecting;
        let exchange =
            Exchange { to, query, step, transaction: 0, tries: 0, resend: now, since: now, until };
        self.exchanges.insert(id, exchange);
        self.send(now, id, false);
    }

    /// Sends the request of the step that the connection id at hand allows.
    fn send(&mut self, now: Time, id: ExchangeId, fresh: bool) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let valid = |(_, since): &&(u64, Time)| now < since.after(CONNECTION_VALID);
        let connection = self.connections.get(&exchange.to).filter(valid).map(|(id, _)| *id);
        // A retransmission keeps its transaction id, so that a late answer still counts.
        let step = match (connection, exchange.step) {
            (None, _) => Step::Connecting,
            (Some(_), Step::Asking { fresh }) => Step::Asking { fresh },
            (Some(_), Step::Connecting) => Step::Asking { fresh },
        };
        if step != exchange.step || exchange.tries == 0 {
            exchange.transaction = (self.rng.next_u64() >> 32) as u32;
        }
        exchange.step = step;
        let transaction = exchange.transaction;
        let request = match (connection, &exchange.query) {
            (None, _) => Request::Connect { transaction },
            (Some(connection), Query::Announce { announce, url_data }) => {
                let (announce, url_data) = (announce.clone(), url_data.clone());
                Request::Announce { connection, transaction, announce, url_data }
            }
            (Some(connection), Query::Scrape(hashes)) => {
                Request::Scrape { connection, transaction, hashes: hashes.clone() }
            }
        };
        let wait = RETRANSMIT_FIRST.saturating_mul(1 << exchange.tries.min(DOUBLINGS_MAX));
        exchange.resend = now.after(wait);
        exchange.tries = exchange.tries.saturating_add(1);
        self.out.push_back(Out::Send { to: exchange.to, data: request.encode() });
    }

    fn receive(&mut self, now: Time, from: SocketAddr, data: &[u8]) {
        let family = Family::of(&from);
        let transaction = match data.get(4..8).and_then(|raw| raw.try_into().ok()) {
            Some(raw) => u32::from_be_bytes(raw),
            None => return,
        };
        let fits = |e: &Exchange| e.to == from && e.transaction == transaction;
        let mut matching = self.exchanges.iter().filter(|(_, e)| fits(e)).map(|(id, _)| *id);
        let Some(id) = matching.next() else { return };
        match Response::parse(data, family) {
            Ok(response) => self.take(now, id, response),
            Err(fault) => self.finish(id, Err(fault.into())),
        }
    }

    fn take(&mut self, now: Time, id: ExchangeId, response: Response) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match (exchange.step, response, &exchange.query) {
            (Step::Connecting, Response::Connect { connection, .. }, _) => {
                exchange.tries = 0;
                let to = exchange.to;
                self.keep(to, connection, now);
                self.send(now, id, true);
            }
            (Step::Asking { .. }, Response::Announce { reply, .. }, Query::Announce { .. }) => {
                self.finish(id, Ok(Answer::Announce(reply)));
            }
            (Step::Asking { .. }, Response::Unlisted { .. }, Query::Announce { .. }) => {
                self.finish(id, Err(TrackerFault::Unlisted));
            }
            (Step::Asking { .. }, Response::Scrape { swarms, .. }, Query::Scrape(_)) => {
                self.finish(id, Ok(Answer::Scrape(swarms)));
            }
            (Step::Asking { fresh: false }, Response::Error { .. }, _) => {
                // The id was kept from earlier; a tracker that restarted does not know it.
                exchange.tries = 0;
                exchange.step = Step::Connecting;
                let to = exchange.to;
                self.connections.remove(&to);
                self.send(now, id, false);
            }
            (_, Response::Error { message, .. }, _) => {
                let refusal = Refusal { reason: message, retry: None };
                self.finish(id, Err(TrackerFault::Refused(refusal)));
            }
            (_, response, _) => {
                let fault = UdpFault::Action { action: response.action() };
                self.finish(id, Err(fault.into()));
            }
        }
    }

    fn keep(&mut self, to: SocketAddr, connection: u64, now: Time) {
        if self.connections.len() >= CONNECTIONS_MAX && !self.connections.contains_key(&to) {
            let oldest = self.connections.iter().min_by_key(|(_, (_, since))| *since);
            if let Some(oldest) = oldest.map(|(addr, _)| *addr) {
                self.connections.remove(&oldest);
            }
        }
        self.connections.insert(to, (connection, now));
    }

    fn finish(&mut self, id: ExchangeId, outcome: Result<Answer, TrackerFault>) {
        if self.exchanges.remove(&id).is_some() {
            self.out.push_back(Out::Done { id, outcome });
        }
    }

    fn tick(&mut self, now: Time) {
        let over = self.exchanges.iter().filter(|(_, e)| e.until <= now);
        let over: Vec<_> = over.map(|(id, e)| (*id, e.until.since(e.since).as_secs())).collect();
        for (id, seconds) in over {
            self.finish(id, Err(TrackerFault::Timeout { seconds }));
        }
        let due = self.exchanges.iter().filter(|(_, e)| e.resend <= now).map(|(id, _)| *id);
        let due: Vec<_> = due.collect();
        for id in due {
            self.send(now, id, false);
        }
    }
}

impl Machine for UdpTrackers {
    type In = In;
    type Out = Out;

    fn handle(&mut self, now: Now, input: In) {
        match input {
            In::Tick => {}
            In::Ask { id, to, query, until } => self.ask(now.mono, id, to, query, until),
            In::Datagram { from, data } => self.receive(now.mono, from, &data),
        }
        self.tick(now.mono);
    }

    fn poll(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        self.exchanges.values().map(|e| e.resend.min(e.until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::drain;
    use crate::units::PeerId;
    use crate::wire::tracker::Event;

    struct Pair {
        client: UdpTrackers,
        now: Time,
        sent: Vec<(u64, Request)>,
        done: Vec<Result<Answer, TrackerFault>>,
    }

    fn tracker() -> SocketAddr {
        "8.8.8.8:6969".parse().expect("address")
    }

    fn announce() -> Query {
        let announce = Announce {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId([2; 20]),
            port: 3,
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event: Event::Started,
            num_want: Some(50),
            key: 4,
        };
        Query::Announce { announce, url_data: b"/announce".to_vec() }
    }

    impl Pair {
        fn new() -> Self {
            let client = UdpTrackers::new(Rng::new(5));
            Self { client, now: Time::ZERO, sent: Vec::new(), done: Vec::new() }
        }

        fn feed(&mut self, input: In) {
            let now = Now { mono: self.now, ..Now::default() };
            let mut outs = Vec::new();
            drain(&mut self.client, now, input, |out| outs.push(out));
            for out in outs {
                match out {
                    Out::Send { to, data } => {
                        assert_eq!(to, tracker());
                        let request = Request::parse(&data).expect("a request");
                        self.sent.push((self.now.0 / 1_000_000, request));
                    }
                    Out::Done { outcome, .. } => self.done.push(outcome),
                }
            }
        }

        fn ask(&mut self, id: u64, query: Query, seconds: u64) {
            let until = self.now.after(Duration::from_secs(seconds));
            self.feed(In::Ask { id: ExchangeId(id), to: tracker(), query, until });
        }

        fn at(&mut self, seconds: u64) {
            while let Some(next) = self.client.deadline().filter(|at| at.0 <= seconds * 1_000_000) {
                self.now = next;
                self.feed(In::Tick);
            }
            self.now = Time(seconds * 1_000_000);
        }

        fn transaction(&self) -> u32 {
            match &self.sent.last().expect("sent").1 {
                Request::Connect { transaction }
                | Request::Announce { transaction, .. }
                | Request::Scrape { transaction, .. } => *transaction,
            }
        }

        fn reply(&mut self, response: &Response) {
            self.reply_from(tracker(), &response.encode());
        }

        fn reply_from(&mut self, from: SocketAddr, data: &[u8]) {
            self.feed(In::Datagram { from, data: Bytes::copy_from_slice(data) });
        }

        fn connect(&mut self) {
            let transaction = self.transaction();
            self.reply(&Response::Connect { transaction, connection: 77 });
        }

        fn kinds(&self) -> Vec<(u64, &str)> {
            let kind = |request: &Request| match request {
                Request::Connect { .. } => "connect",
                Request::Announce { .. } => "announce",
                Request::Scrape { .. } => "scrape",
            };
            self.sent.iter().map(|(at, request)| (*at, kind(request))).collect()
        }
    }

    fn good(transaction: u32) -> Response {
        let reply =
            Reply { interval_s: Some(9), seeders: Some(1), leechers: Some(2), ..Reply::default() };
        Response::Announce { transaction, reply }
    }

    #[test]
    fn a_connection_id_is_fetched_and_used_for_a_minute() {
        let mut pair = Pair::new();
        pair.ask(1, announce(), 60);
        pair.connect();
        pair.reply(&good(pair.transaction()));
        assert!(matches!(pair.done.as_slice(), [Ok(Answer::Announce(_))]));
        for (seconds, kind) in [(59, "announce"), (60, "connect")] {
            pair.at(seconds);
            pair.sent.clear();
            pair.ask(seconds, announce(), 5);
            assert_eq!(pair.kinds(), [(seconds, kind)]);
        }
    }

    #[test]
    fn a_lost_connect_is_sent_again_after_15_30_and_60_seconds() {
        let mut pair = Pair::new();
        pair.ask(1, announce(), 200);
        pair.at(300);
        assert_eq!(
            pair.kinds(),
            [(0, "connect"), (15, "connect"), (45, "connect"), (105, "connect")]
        );
        assert_eq!(pair.done, [Err(TrackerFault::Timeout { seconds: 200 })]);
    }

    #[test]
    fn a_lost_announce_is_sent_again_until_its_connection_id_expires() {
        // The example of BEP 15.
        let mut pair = Pair::new();
        pair.ask(1, announce(), 1000);
        pair.at(1);
        pair.connect();
        pair.at(230);
        assert_eq!(
            pair.kinds(),
            [
                (0, "connect"),
                (1, "announce"),
                (16, "announce"),
                (46, "announce"),
                (106, "connect"),
                (226, "connect")
            ]
        );
    }

    #[test]
    fn answers_of_others_are_ignored() {
        let mut pair = Pair::new();
        pair.ask(1, announce(), 60);
        let transaction = pair.transaction();
        let forged = Response::Connect { transaction, connection: 66 }.encode();
        pair.reply_from("8.8.4.4:6969".parse().expect("address"), &forged);
        pair.reply_from("8.8.8.8:6970".parse().expect("address"), &forged);
        pair.reply(&Response::Connect { transaction: !transaction, connection: 66 });
        pair.reply_from(tracker(), &[]);
        assert_eq!(pair.sent.len(), 1);
        pair.connect();
        assert!(matches!(pair.sent.last(), Some((_, Request::Announce { connection: 77, .. }))));
        pair.reply(&good(!pair.transaction()));
        assert_eq!(pair.done, []);
    }

    #[test]
    fn an_error_and_an_empty_answer_are_failures() {
        let mut pair = Pair::new();
        pair.ask(1, announce(), 60);
        pair.connect();
        let transaction = pair.transaction();
        pair.reply(&Response::Error { transaction, message: "no".into() });
        pair.at(100);
        pair.ask(2, announce(), 60);
        pair.connect();
        pair.reply(&Response::Unlisted { transaction: pair.transaction() });
        let refusal = Refusal { reason: "no".into(), retry: None };
        let refused = TrackerFault::Refused(refusal);
        assert_eq!(pair.done, [Err(refused), Err(TrackerFault::Unlisted)]);
    }

    #[test]
    fn a_kept_connection_id_that_is_refused_is_fetched_again_once() {
        let mut pair = Pair::new();
        pair.ask(1, announce(), 60);
        pair.connect();
        pair.reply(&good(pair.transaction()));
        pair.ask(2, announce(), 60);
        let transaction = pair.transaction();
        pair.reply(&Response::Error { transaction, message: "stale".into() });
        assert!(matches!(pair.sent.last(), Some((_, Request::Connect { .. }))));
        pair.connect();
        let transaction = pair.transaction();
        pair.reply(&Response::Error { transaction, message: "stale".into() });
        assert!(matches!(pair.done.last(), Some(Err(TrackerFault::Refused(_)))));
    }

    #[test]
    fn a_short_or_unexpected_answer_ends_the_exchange() {
        for tail in [&[0, 0, 0, 1, 0][..], &[0, 0, 0, 9], &[0, 0, 0, 2]] {
            let mut pair = Pair::new();
            pair.ask(1, announce(), 60);
            pair.connect();
            let transaction = pair.transaction().to_be_bytes();
            let (action, rest) = tail.split_at(4);
            pair.reply_from(tracker(), &[action, &transaction, rest].concat());
            assert!(matches!(pair.done.as_slice(), [Err(TrackerFault::Datagram(_))]), "{tail:?}");
        }
    }

    #[test]
    fn url_data_and_scrapes_go_out() {
        let mut pair = Pair::new();
        pair.ask(1, announce(), 60);
        pair.connect();
        let Some((_, Request::Announce { url_data, .. })) = pair.sent.last() else {
            panic!("no announce")
        };
        assert_eq!(url_data, b"/announce");
        pair.ask(2, Query::Scrape(vec![InfoHash([1; 20])]), 60);
        let swarms = vec![Swarm { seeders: 1, completed: 2, leechers: 3 }];
        pair.reply(&Response::Scrape { transaction: pair.transaction(), swarms: swarms.clone() });
        assert_eq!(pair.done, [Ok(Answer::Scrape(swarms))]);
    }

    #[test]
    fn exchanges_and_connections_are_bounded() {
        let mut pair = Pair::new();
        for n in 0..1000 {
            pair.ask(n, announce(), 60);
        }
        assert_eq!(pair.client.exchanges.len(), EXCHANGES_MAX);
        assert_eq!(pair.done.len(), 1000 - EXCHANGES_MAX);
        for n in 0..1000u32 {
            pair.client.keep(SocketAddr::new(n.to_be_bytes().into(), 1), 1, Time(n.into()));
        }
        assert_eq!(pair.client.connections.len(), CONNECTIONS_MAX);
    }
}
