//! Stories of a few nodes on a small network without a seam of its own: frames arrive after a
//! fixed delay, in order. The simulator tells the long stories.

mod audience;
mod hostile;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;

use super::Swarm;
use super::config::{Config, Role, SourceConfig};
use super::io::{Delivery, Event, In, Out, ReaderId, Record, Trace, Via};
use crate::live::feed::tests::key;
use crate::machine::drain;
use crate::units::{InfoHash, Link, Now, PeerId, Seq, Time, UnixUs};
use crate::wire::bencode::Encoder;
use crate::wire::message::Splitter;

const WALL_US: u64 = 1_800_000_000_000_000;
const HOP_US: u64 = 20_000;

/// The raw `info` of the test stream.
fn info() -> Bytes {
    let dict = Encoder::dict_of(|info| {
        info.dict(b"live", |live| {
            live.int(b"bitrate", 4_000_000);
            live.bytes(b"media", b"application/octet-stream");
            live.bytes(b"public key", key().verifying_key().to_bytes());
            live.int(b"version", 1);
            live.int(b"window", 60);
        });
        info.bytes(b"name", b"test");
        info.int(b"piece length", 65_536);
    });
    dict.into()
}

fn info_hash() -> InfoHash {
    crate::wire::metainfo::Info::parse(info()).expect("valid").info_hash
}

struct Node {
    swarm: Swarm,
    addr: SocketAddr,
    got: Vec<u8>,
    deliveries: Vec<Delivery>,
    events: Vec<Event>,
    records: Vec<Record>,
    wall_skew_us: i64,
    crashed: bool,
}

enum Due {
    Bytes { to: usize, link: Link, bytes: Vec<u8> },
    Sent { node: usize, link: Link, bytes: usize },
    Up { to: usize, link: Link, addr: SocketAddr },
    Down { to: usize, link: Link },
    DialFailed { to: usize, addr: SocketAddr },
}

/// Nodes and what is under way between them.
struct Net {
    now: u64,
    nodes: Vec<Node>,
    due: BTreeMap<(u64, u64), Due>,
    seq: u64,
    links: BTreeMap<(usize, Link), (usize, Link)>,
    splitters: BTreeMap<(usize, Link), Splitter>,
    next_link: u64,
    hop_us: u64,
    /// A node that takes only 10 kB/s from anybody, a packet at a time, and until when it does.
    slow: Option<(usize, u64)>,
    /// When which node verified which block.
    verified: Vec<(u64, usize, Seq, u16)>,
}

impl Net {
    fn new() -> Self {
        Self {
            now: 0,
            nodes: Vec::new(),
            due: BTreeMap::new(),
            seq: 0,
            links: BTreeMap::new(),
            splitters: BTreeMap::new(),
            next_link: 0,
            hop_us: HOP_US,
            slow: None,
            verified: Vec::new(),
        }
    }

    fn config(&self, role: Role) -> Config {
        let n = self.nodes.len() as u8;
        let mut config = Config::viewer(info_hash(), PeerId([n + 1; 20]), u64::from(n) + 7);
        config.info = Some(info());
        config.role = role;
        config.listen_port = Some(6881);
        config
    }

    fn add(&mut self, config: Config) -> usize {
        let n = self.nodes.len();
        let addr = SocketAddr::from(([203, 0, 113, n as u8 + 1], 6881));
        self.nodes.push(Node {
            swarm: Swarm::new(config),
            addr,
            got: Vec::new(),
            deliveries: Vec::new(),
            events: Vec::new(),
            records: Vec::new(),
            wall_skew_us: 0,
            crashed: false,
        });
        self.give(n, In::Tick);
        n
    }

    fn source(&mut self) -> usize {
        let config = self.config(source_role(None));
        self.add(config)
    }

    fn viewer(&mut self, knows: &[usize]) -> usize {
        let config = self.config(Role::Viewer);
        let n = self.add(config);
        self.watch(n);
        self.introduce(n, knows);
        n
    }

    fn watch(&mut self, n: usize) {
        let reader = ReaderId(1);
        self.give(n, In::AddReader { reader, delay: Duration::from_secs(1).into() });
        self.give(n, In::ReaderCredit { reader, pieces: 1_000_000 });
    }

    fn introduce(&mut self, n: usize, knows: &[usize]) {
        let addrs = knows.iter().map(|k| self.nodes[*k].addr).collect();
        self.give(n, In::Found { via: Via::Tracker, addrs });
    }

    fn time(&self, n: usize) -> Now {
        let wall = (WALL_US + self.now).saturating_add_signed(self.nodes[n].wall_skew_us);
        Now { mono: Time(self.now), wall: UnixUs(wall) }
    }

    fn plan(&mut self, delay: u64, due: Due) {
        self.seq += 1;
        self.due.insert((self.now + delay, self.seq), due);
    }

    fn give(&mut self, n: usize, input: In) {
        if self.nodes[n].crashed {
            return;
        }
        let now = self.time(n);
        let mut outs = VecDeque::new();
        drain(&mut self.nodes[n].swarm, now, input, |out| outs.push_back(out));
        while let Some(Trace::Verified { at, block }) = self.nodes[n].swarm.poll_trace() {
            self.verified.push((self.now, n, at, block));
        }
        for out in outs {
            self.act(n, out);
        }
        if let Err(broken) = self.nodes[n].swarm.invariant() {
            panic!("node {n} at {} us: {broken}", self.now);
        }
    }

    fn act(&mut self, n: usize, out: Out) {
        match out {
            Out::Dial { addr } => {
                let to = self.nodes.iter().position(|node| node.addr == addr && !node.crashed);
                let Some(to) = to else {
                    return self.plan(self.hop_us, Due::DialFailed { to: n, addr });
                };
                let (ours, theirs) = (Link(self.next_link), Link(self.next_link + 1));
                self.next_link += 2;
                self.links.insert((n, ours), (to, theirs));
                self.links.insert((to, theirs), (n, ours));
                self.splitters.insert((n, ours), Splitter::new());
                self.splitters.insert((to, theirs), Splitter::new());
                let from = SocketAddr::new(self.nodes[n].addr.ip(), 40_000 + ours.0 as u16);
                self.plan(self.hop_us, Due::Up { to, link: theirs, addr: from });
                self.plan(self.hop_us, Due::Up { to: n, link: ours, addr });
            }
            Out::Send { link, head, body } => {
                let mut bytes = head.to_vec();
                bytes.extend_from_slice(&body);
                let far = self.links.get(&(n, link)).copied();
                let taken = match (self.slow, far) {
                    (Some((slow, _)), Some((to, _))) if slow == to => {
                        self.take_slowly(n, link, bytes.len())
                    }
                    _ => {
                        self.plan(0, Due::Sent { node: n, link, bytes: bytes.len() });
                        0
                    }
                };
                if let Some((to, link)) = far {
                    self.plan(taken + self.hop_us, Due::Bytes { to, link, bytes });
                }
            }
            Out::Close { link } => {
                if let Some((to, theirs)) = self.links.remove(&(n, link)) {
                    self.plan(self.hop_us, Due::Down { to, link: theirs });
                }
            }
            Out::Persist(record) => self.nodes[n].records.push(record),
            Out::Deliver { item, .. } => {
                if let Delivery::Piece { blocks, .. } = &item {
                    self.nodes[n].got.extend(blocks.iter().flatten());
                }
                self.nodes[n].deliveries.push(item);
            }
            Out::Event(event) => self.nodes[n].events.push(event),
        }
    }

    /// Lets the slow node take bytes; says in how many microseconds it has them.
    fn take_slowly(&mut self, from: usize, link: Link, bytes: usize) -> u64 {
        let Some((slow, busy_until)) = self.slow else { return 0 };
        let (mut at, mut left) = (busy_until.max(self.now), bytes);
        while left > 0 {
            let packet = left.min(1448);
            at += packet as u64 * 100;
            left -= packet;
            self.plan(at - self.now, Due::Sent { node: from, link, bytes: packet });
        }
        self.slow = Some((slow, at));
        at - self.now
    }

    fn bytes(&mut self, to: usize, link: Link, bytes: &[u8]) {
        let Some(splitter) = self.splitters.get_mut(&(to, link)) else { return };
        splitter.push(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = splitter.next_frame().expect("our nodes write valid frames") {
            frames.push(frame);
        }
        for frame in frames {
            self.give(to, In::Frame { link, frame });
        }
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * 1e6) as u64;
        loop {
            let planned = self.due.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let deadline = (0..self.nodes.len())
                .filter(|n| !self.nodes[*n].crashed)
                .filter_map(|n| {
                    use crate::machine::Machine;
                    Some((self.nodes[n].swarm.deadline()?.0, n))
                })
                .min();
            let next = planned.min(deadline.map_or(u64::MAX, |(at, _)| at));
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if planned <= next {
                let Some((_, due)) = self.due.pop_first() else { continue };
                match due {
                    Due::Bytes { to, link, bytes } => self.bytes(to, link, &bytes),
                    Due::Sent { node, link, bytes } => self.give(node, In::Sent { link, bytes }),
                    Due::Up { to, link, addr } => {
                        let dialled = self.nodes.iter().any(|node| node.addr == addr);
                        self.give(to, In::Up { link, addr, dialled });
                    }
                    Due::Down { to, link } => {
                        self.links.remove(&(to, link));
                        self.give(to, In::Down { link });
                    }
                    Due::DialFailed { to, addr } => self.give(to, In::DialFailed { addr }),
                }
            } else if let Some((_, n)) = deadline {
                self.give(n, In::Tick);
            }
        }
    }

    /// The source takes in `seconds` of stream at 4 Mbit/s in portions of 20 ms; returns it.
    fn stream(&mut self, source: usize, seconds: f64, from: usize) -> Vec<u8> {
        let portions = (seconds * 50.0) as usize;
        let mut all = Vec::new();
        for n in 0..portions {
            let bytes: Vec<u8> = content(from + n * 10_000).take(10_000).collect();
            all.extend_from_slice(&bytes);
            self.give(source, In::Ingest(bytes.into()));
            self.run(0.02);
        }
        all
    }

    fn crash(&mut self, n: usize) {
        self.nodes[n].crashed = true;
        let links: Vec<_> = self.links.keys().filter(|(node, _)| *node == n).copied().collect();
        for key in links {
            if let Some((to, theirs)) = self.links.remove(&key) {
                self.plan(self.hop_us, Due::Down { to, link: theirs });
            }
        }
    }
}

fn source_role(last: Option<Bytes>) -> Role {
    let config =
        SourceConfig { key: SigningKey::from_bytes(&[42; 32]), last, takeover: false, hide: false };
    Role::Source(Box::new(config))
}

/// A stream in which every place can be told from every other.
fn content(from: usize) -> impl Iterator<Item = u8> {
    (from..).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
}

/// Whether `part` is a contiguous part of `whole`.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty()
        || whole
            .windows(part.len().min(64))
            .enumerate()
            .any(|(at, w)| w == &part[..w.len()] && whole.get(at..at + part.len()) == Some(part))
}

#[test]
fn what_a_source_takes_in_comes_out_at_a_viewer() {
    let mut net = Net::new();
    let source = net.source();
    let viewer = net.viewer(&[source]);
    net.run(2.5);
    let mut sent = net.stream(source, 6.0, 0);
    net.give(source, In::IngestEnd);
    net.run(3.0);
    let node = &net.nodes[viewer];
    assert_eq!(node.deliveries.last(), Some(&Delivery::End));
    assert_eq!(node.got.len(), sent.len());
    assert!(node.got == std::mem::take(&mut sent));
    assert!(!node.deliveries.iter().any(|d| matches!(d, Delivery::Skip { .. })));
}

#[test]
fn a_source_that_feeds_one_relay_alone_reaches_others_through_it() {
    let mut net = Net::new();
    let mut config = net.config(source_role(None));
    config.feed_only = true;
    let source = net.add(config);
    let relay = net.viewer(&[]);
    let relay_addr = net.nodes[relay].addr;
    net.give(source, In::Found { via: Via::User, addrs: vec![relay_addr] });
    // It dials the source, and the source hears of it: both come to nothing.
    let viewer = net.viewer(&[source, relay]);
    let viewer_addr = net.nodes[viewer].addr;
    net.give(source, In::Found { via: Via::Tracker, addrs: vec![viewer_addr] });
    net.run(2.5);
    let sent = net.stream(source, 4.0, 0);
    let connected = |net: &mut Net, n: usize| {
        let now = net.time(n);
        net.nodes[n].swarm.status(now).connected
    };
    assert_eq!(connected(&mut net, source), 1);
    assert_eq!(connected(&mut net, viewer), 1);
    let node = &net.nodes[viewer];
    assert!(node.got.len() > 1_000_000 && is_part(&node.got, &sent), "{}", node.got.len());
    // The relay knows the viewer and could tell of no other.
    assert_eq!(net.nodes[relay].swarm.roster.len(), 1);
}

#[test]
fn one_who_joins_in_the_middle_gets_a_contiguous_part_up_to_the_end() {
    let mut net = Net::new();
    let source = net.source();
    let first = net.viewer(&[source]);
    net.run(2.5);
    let mut sent = net.stream(source, 4.0, 0);
    let late = net.viewer(&[first]);
    sent.extend(net.stream(source, 4.0, sent.len()));
    net.give(source, In::IngestEnd);
    net.run(3.0);
    let got = &net.nodes[late].got;
    assert!(got.len() > 1_800_000, "{} of {} bytes", got.len(), sent.len());
    assert!(sent.ends_with(got) && is_part(got, &sent));
}

/// A viewer with nine places that opened eight of its connections itself, to nodes that have each
/// other: it uses few of them while nothing is broadcast.
fn full_viewer(net: &mut Net) -> (usize, Vec<usize>) {
    let mut mesh: Vec<usize> = Vec::new();
    for _ in 0..8 {
        mesh.push(net.viewer(&mesh.clone()));
    }
    net.run(5.0);
    let mut config = net.config(Role::Viewer);
    (config.peers_max, config.peers_wanted) = (9, 8);
    let full = net.add(config);
    net.introduce(full, &mesh);
    net.run(1.0);
    mesh.push(net.viewer(&[full]));
    net.run(1.0);
    assert_eq!(neighbours(net, full, &mesh), mesh);
    (full, mesh)
}

/// Which of these a node is connected to.
fn neighbours(net: &Net, n: usize, of: &[usize]) -> Vec<usize> {
    let has = |m: &usize| net.links.iter().any(|(end, other)| end.0 == n && other.0 == *m);
    of.iter().copied().filter(has).collect()
}

#[test]
fn a_full_node_makes_a_place_for_who_comes_of_a_settled_connection_that_it_opened() {
    let mut net = Net::new();
    let (full, old) = full_viewer(&mut net);
    let early = net.viewer(&[full]);
    net.run(1.0);
    assert!(neighbours(&net, full, &[early]).is_empty());
    net.crash(early);
    net.run(25.0);
    let new = net.viewer(&[full]);
    net.run(1.0);
    assert_eq!(neighbours(&net, full, &[new, old[8]]), [new, old[8]]);
    assert_eq!(neighbours(&net, full, &old[..8]).len(), 7);
}

#[test]
fn whoever_comes_in_masses_does_not_take_the_places_of_all_whom_a_node_chose() {
    let mut net = Net::new();
    let (full, _) = full_viewer(&mut net);
    for _ in 0..8 {
        net.run(25.0);
        net.viewer(&[full]);
    }
    net.run(1.0);
    let chosen = net.nodes[full].swarm.peers.values().filter(|p| p.dialled);
    assert_eq!(chosen.count(), 4);
}

#[test]
fn a_magnet_is_enough_to_join() {
    let mut net = Net::new();
    let source = net.source();
    net.run(2.5);
    let mut config = net.config(Role::Viewer);
    config.info = None;
    let viewer = net.add(config);
    net.watch(viewer);
    net.introduce(viewer, &[source]);
    let sent = net.stream(source, 4.0, 0);
    net.run(2.0);
    let node = &net.nodes[viewer];
    assert!(node.events.contains(&Event::MetadataComplete));
    assert!(node.records.contains(&Record::Metadata(info())));
    assert!(node.got.len() > 1_500_000 && is_part(&node.got, &sent), "{}", node.got.len());
}

#[test]
fn a_source_that_dies_goes_on_in_its_chain_and_the_viewer_with_it() {
    let mut net = Net::new();
    let source = net.source();
    let viewer = net.viewer(&[source]);
    net.run(2.5);
    let sent = net.stream(source, 3.0, 0);
    net.run(1.0);
    net.crash(source);
    net.run(2.0);
    let last = net.nodes[source].records.iter().rev().find_map(|r| match r {
        Record::Published(raw) => Some(raw.clone()),
        _ => None,
    });
    let config = net.config(source_role(last));
    let again = net.add(config);
    net.introduce(again, &[viewer]);
    net.run(2.5);
    let more = net.stream(again, 3.0, sent.len());
    net.run(2.0);
    let node = &net.nodes[viewer];
    assert!(!node.events.iter().any(|e| matches!(e, Event::Equivocation { .. })));
    let epochs = node.events.iter().filter(|e| matches!(e, Event::EpochChanged { .. })).count();
    assert_eq!(epochs, 1, "the epoch went on");
    assert!(node.got.ends_with(&more[more.len() - 500_000..]));
}

#[test]
fn a_source_without_its_state_opens_a_higher_epoch_and_viewers_follow() {
    let mut net = Net::new();
    let source = net.source();
    let viewer = net.viewer(&[source]);
    net.run(2.5);
    let sent = net.stream(source, 3.0, 0);
    net.crash(source);
    net.run(1.0);
    let again = net.source();
    net.introduce(again, &[viewer]);
    net.run(3.0);
    let more = net.stream(again, 3.0, sent.len());
    net.run(2.0);
    let node = &net.nodes[viewer];
    assert!(!node.events.iter().any(|e| matches!(e, Event::Equivocation { .. })));
    assert!(node.got.ends_with(&more[more.len() - 500_000..]));
    let seqs: Vec<_> = node
        .deliveries
        .iter()
        .filter_map(|d| if let Delivery::Piece { seq, .. } = d { Some(*seq) } else { None })
        .collect();
    assert!(seqs.windows(2).all(|w| w[0] < w[1]));
    let epochs: std::collections::BTreeSet<_> = seqs.iter().map(|s| s.epoch).collect();
    assert_eq!(epochs.len(), 2);
}

#[test]
fn of_two_sources_with_one_key_the_second_follows_and_says_so() {
    let mut net = Net::new();
    let first = net.source();
    let viewer = net.viewer(&[first]);
    let other = net.viewer(&[first, viewer]);
    net.run(2.5);
    net.stream(first, 2.0, 0);
    let second = net.source();
    net.introduce(second, &[viewer, other]);
    net.stream(first, 4.0, 1_000_000);
    assert_eq!(net.nodes[second].swarm.source_mode(), Some("following"));
    assert!(net.nodes[second].events.iter().any(|e| matches!(e, Event::Superseded { .. })));
    // The first falls silent for good: the second takes over.
    net.crash(first);
    net.run(7.0);
    assert_eq!(net.nodes[second].swarm.source_mode(), Some("publishing"));
    let more = net.stream(second, 3.0, 9_000_000);
    net.run(2.0);
    assert!(net.nodes[viewer].got.ends_with(&more[more.len() - 500_000..]));
}

#[test]
fn a_viewer_whose_clock_is_wrong_by_an_hour_plays_like_any_other() {
    let mut net = Net::new();
    let source = net.source();
    let viewer = net.viewer(&[source]);
    net.nodes[viewer].wall_skew_us = -3_600_000_000;
    net.run(2.5);
    let sent = net.stream(source, 4.0, 0);
    net.run(2.0);
    assert_eq!(net.nodes[viewer].got, sent);
}

#[test]
fn three_hops_away_a_block_is_there_before_its_piece_is_whole_at_the_first_hop() {
    let mut net = Net::new();
    let mut config = net.config(source_role(None));
    // A block takes 23 ms to leave, a hop 5 ms: the uplink decides, not the way.
    net.hop_us = 5_000;
    config.upload_limit = Some(700_000);
    config.pex = false;
    let source = net.add(config);
    let mut chain = vec![source];
    for _ in 0..3 {
        let mut config = net.config(Role::Viewer);
        config.pex = false;
        let n = net.add(config);
        net.nodes[n].swarm.set_tracing(true);
        net.watch(n);
        net.introduce(n, &[chain[chain.len() - 1]]);
        chain.push(n);
    }
    net.run(2.5);
    net.stream(source, 8.0, 0);
    let (first, third) = (chain[1], chain[3]);
    let mut early = 0;
    let mut pieces: Vec<Seq> = net.verified.iter().map(|(_, _, at, _)| *at).collect();
    pieces.sort_unstable();
    pieces.dedup();
    for piece in &pieces {
        let at = |n| net.verified.iter().filter(move |(_, node, at, _)| (*node, at) == (n, piece));
        let whole_at_first = at(first).map(|(at, ..)| *at).max();
        let begun_at_third = at(third).map(|(at, ..)| *at).min();
        early += usize::from(begun_at_third.is_some() && begun_at_third < whole_at_first);
    }
    assert!(early * 2 > pieces.len(), "{early} of {} pieces", pieces.len());
}

#[test]
fn a_peer_that_takes_bytes_slowly_does_not_hold_up_the_others() {
    let mut net = Net::new();
    let mut config = net.config(source_role(None));
    // Three copies of the stream, one of which the slow viewer would have.
    config.upload_limit = Some(1_800_000);
    let source = net.add(config);
    let viewers: Vec<usize> = (0..3)
        .map(|_| {
            let mut config = net.config(Role::Viewer);
            (config.pex, config.upload_limit) = (false, Some(15_000));
            let n = net.add(config);
            net.watch(n);
            net.introduce(n, &[source]);
            n
        })
        .collect();
    net.run(2.5);
    net.stream(source, 5.0, 0);
    net.slow = Some((viewers[0], 0));
    net.nodes[viewers[1]].deliveries.clear();
    net.stream(source, 10.0, 0);
    let skipped = |d: &Delivery| matches!(d, Delivery::Skip { .. });
    let got = &net.nodes[viewers[1]].deliveries;
    assert!(!got.iter().any(skipped) && got.len() > 60, "{} deliveries", got.len());
}

#[test]
fn who_can_pass_on_no_stripe_serves_no_requests() {
    for (upload, served) in [(15_000, false), (200_000, true)] {
        let mut net = Net::new();
        let source = net.source();
        let mut config = net.config(Role::Viewer);
        config.upload_limit = Some(upload);
        let first = net.add(config);
        net.watch(first);
        net.introduce(first, &[source]);
        net.run(2.5);
        net.stream(source, 5.0, 0);
        // The second one knows nobody else.
        let mut config = net.config(Role::Viewer);
        config.pex = false;
        let second = net.add(config);
        net.watch(second);
        net.nodes[source].crashed = true;
        net.introduce(second, &[first]);
        net.run(3.0);
        assert_eq!(!net.nodes[second].got.is_empty(), served, "{upload}");
    }
}

/// The `info` of a stream that is MPEG-TS.
fn ts_info() -> Bytes {
    let of_bytes = b"5:media24:application/octet-stream";
    let at = info().windows(of_bytes.len()).position(|w| w == of_bytes).expect("a media type");
    let (before, after) = (&info()[..at], &info()[at + of_bytes.len()..]);
    [before, b"5:media10:video/mp2t", after].concat().into()
}

fn add_ts(net: &mut Net, role: Role, knows: &[usize]) -> usize {
    let mut config = net.config(role);
    config.info = Some(ts_info());
    config.info_hash = crate::wire::metainfo::Info::parse(ts_info()).expect("valid").info_hash;
    let n = net.add(config);
    net.introduce(n, knows);
    n
}

/// Where a decoder may start in the clip from `from` on.
fn next_start(clip: &'static [u8], from: usize) -> usize {
    let (mut cutter, mut at) = (crate::media::cut::Cutter::new("video/mp2t"), 0);
    for span in cutter.push(Bytes::from_static(clip)) {
        if span.rap && at >= from {
            return at;
        }
        at += span.bytes.len();
    }
    panic!("no start behind {from}");
}

/// A source of the clip dies after 2.7 s of it; a standby has followed it for two seconds and has
/// the same input up to portion `ends` of 400. What became of the standby, of a viewer, and how
/// much of the clip the source had taken.
fn taken_over(ends: usize) -> (Net, usize, usize, usize) {
    const CRASH: usize = 135;
    let clip = crate::media::clip::DEMO;
    // Fifty portions a second.
    let portion = clip.len() / 400;
    let mut net = Net::new();
    let source = add_ts(&mut net, source_role(None), &[]);
    let viewer = add_ts(&mut net, Role::Viewer, &[source]);
    net.watch(viewer);
    let relay = add_ts(&mut net, Role::Relay, &[source, viewer]);
    net.run(2.5);
    let mut standby = None;
    for (n, bytes) in clip.chunks(portion).enumerate() {
        if n == 30 {
            standby = Some(add_ts(&mut net, source_role(None), &[source, viewer, relay]));
        }
        if n == CRASH {
            assert_eq!(net.nodes[standby.expect("there")].swarm.source_mode(), Some("following"));
            net.crash(source);
        }
        let fed = [Some(source).filter(|_| n < CRASH), standby.filter(|_| n < ends)];
        for to in fed.into_iter().flatten() {
            net.give(to, In::Ingest(Bytes::from_static(bytes)));
        }
        if n == ends {
            net.give(standby.expect("there"), In::IngestEnd);
        }
        net.run(0.02);
    }
    net.run(6.0);
    (net, standby.expect("there"), viewer, CRASH * portion)
}

#[test]
fn a_standby_with_the_same_input_goes_on_where_the_stream_broke_off() {
    let (net, standby, viewer, crashed_at) = taken_over(usize::MAX);
    assert_eq!(net.nodes[standby].swarm.source_mode(), Some("publishing"));
    let clip = crate::media::clip::DEMO;
    let got = &net.nodes[viewer].got;
    let begin = next_start(clip, crashed_at);
    assert!(got.len() > clip.len() - begin, "{} bytes", got.len());
    let (before, rest) = got.split_at(got.len() - (clip.len() - begin));
    assert!(rest == &clip[begin..], "what came last is not the clip from {begin} on");
    assert!(is_part(before, clip));
}

#[test]
fn a_standby_whose_own_input_has_ended_does_not_end_the_stream() {
    let (net, standby, viewer, _) = taken_over(140);
    assert_eq!(net.nodes[standby].swarm.source_mode(), Some("publishing"));
    assert!(!net.nodes[viewer].deliveries.contains(&Delivery::End));
}
