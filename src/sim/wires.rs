//! All connections of the world: who is connected to whom, what is under way, what is stuck.
//!
//! TCP as an application sees it: bytes arrive in order or the connection dies. A loss of packets
//! is a delay here; a network that is cut holds bytes back until it heals or the connection times
//! out; a receiver that does not read stops its sender after one receive window.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::event::Event;
use super::link::{Parcel, ParcelId, Parcels, Pipe, SEGMENT_LEN, Stall};
use super::queue::Queue;
use super::share::Shared;
use super::uplink::{Order, PipeId, Uplink};
use crate::machine::Rng;
use crate::units::{Link, Time};
use crate::wire::message::WireError;

/// Bytes that arrive at a stalled receiver before its sender must stop (TCP receive window).
const RECEIVE_WINDOW: usize = 256 << 10;
/// A connection on which nothing gets through for this long is dead (TCP user timeout).
const DEAD_AFTER_US: u64 = 60_000_000;
/// After a cut network heals, TCP tries again within this time (exponential backoff).
const RETRY_US: u64 = 1_000_000;
/// Bytes of blocks kept for sharing between viewers.
const SHARED_BYTES_MAX: usize = 96 << 20;

/// A number of a node, from 0.
pub(super) type NodeId = u32;

/// How the network between the nodes behaves.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// One-way time of a pair is drawn evenly from this range.
    pub(super) hop_us: (u64, u64),
    /// Every parcel takes up to so much longer.
    pub(super) jitter_us: u64,
    /// How connections share an uplink.
    pub(super) order: Order,
    /// Probability that a parcel is cut at a random place, at each end.
    pub(super) cut: f64,
    pub(super) seed: u64,
}

impl Weather {
    /// One-way time between two nodes, always the same for a pair.
    pub(super) fn latency_us(&self, a: NodeId, b: NodeId) -> u64 {
        let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
        let (min, max) = self.hop_us;
        let mut rng = Rng::new(self.seed ^ pair.wrapping_mul(0xD134_2543_DE82_EF95));
        min + rng.below((max - min).saturating_add(1))
    }
}

/// One connection. End 0 dialled.
#[derive(Debug)]
struct Conn {
    nodes: [NodeId; 2],
    /// Whether the node at this end still knows the connection.
    open: [bool; 2],
    /// Pipe `n` carries what end `n` sends.
    pipes: [Pipe; 2],
    /// When both directions were cut off.
    cut_at: Time,
}

/// One node's place in the network.
#[derive(Debug)]
struct Port {
    uplink: Uplink,
    /// When the next uplink event is planned.
    armed: Time,
    turn: u64,
    conns: BTreeSet<u64>,
    /// Small parcels that have left and were not told of yet.
    passed: Vec<(Link, usize)>,
    /// Bytes per second that can arrive, if limited, and when the line is free again.
    down: Option<(u64, Time)>,
    /// Does not read at the moment.
    frozen: bool,
}

/// Bytes that left uplinks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Payload of blocks.
    pub(super) payload: u64,
    /// Everything else: handshakes, messages, heads of blocks.
    pub(super) control: u64,
}

/// What has come of an arrival.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Frames for this node on this link (perhaps none).
    Frames(NodeId, Link),
    /// Frames, and then a stream that cannot be split.
    Malformed(NodeId, Link, WireError),
    /// Nobody is there to read.
    Nobody,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) weather: Weather,
    ports: Vec<Port>,
    conns: Vec<Option<Box<Conn>>>,
    parcels: Parcels,
    shared: Shared,
    rng: Rng,
    sent: Vec<Traffic>,
}

fn pipe_of(conn: u64, end: usize) -> PipeId {
    PipeId(conn << 1 | end as u64)
}

/// The name by which end `end` of `conn` knows it.
pub(super) fn link_of(conn: u64, end: usize) -> Link {
    Link(pipe_of(conn, end).0)
}

fn conn_and_end(link: Link) -> (u64, usize) {
    (link.0 >> 1, (link.0 & 1) as usize)
}

impl Wires {
    pub(super) fn new(weather: Weather, rng: Rng) -> Self {
        Self {
            weather,
            ports: Vec::new(),
            conns: Vec::new(),
            parcels: Parcels::default(),
            shared: Shared::new(SHARED_BYTES_MAX),
            rng,
            sent: Vec::new(),
        }
    }

    /// Gives the next node its place, with bytes per second up and down.
    pub(super) fn add_port(&mut self, up: Option<u64>, down: Option<u64>) {
        self.ports.push(Port {
            uplink: Uplink::new(up, self.weather.order),
            armed: Time::NEVER,
            turn: 0,
            conns: BTreeSet::new(),
            passed: Vec::new(),
            down: down.map(|rate| (rate.max(1), Time::ZERO)),
            frozen: false,
        });
        self.sent.push(Traffic::default());
    }

    /// What a node has sent since the start.
    pub(super) fn sent(&self, node: NodeId) -> Traffic {
        self.sent[node as usize]
    }

    /// Connections a node has at the moment.
    pub(super) fn degree(&self, node: NodeId) -> usize {
        self.ports[node as usize].conns.len()
    }

    /// Opens a connection.
    pub(super) fn open(&mut self, dialler: NodeId, listener: NodeId) -> u64 {
        let id = self.conns.len() as u64;
        let latency_us = self.weather.latency_us(dialler, listener) as u32;
        let pipe = |to: &Port| {
            let mut pipe = Pipe::new(latency_us);
            pipe.stall.set(Stall::FROZEN, to.frozen);
            pipe
        };
        let ports = [&self.ports[dialler as usize], &self.ports[listener as usize]];
        self.conns.push(Some(Box::new(Conn {
            nodes: [dialler, listener],
            open: [true, true],
            pipes: [pipe(ports[1]), pipe(ports[0])],
            cut_at: Time::NEVER,
        })));
        self.ports[dialler as usize].conns.insert(id);
        self.ports[listener as usize].conns.insert(id);
        id
    }

    /// The node at an end, if the connection is open there.
    pub(super) fn node_at(&self, link: Link) -> Option<NodeId> {
        let (id, end) = conn_and_end(link);
        let conn = self.conns.get(id as usize)?.as_ref()?;
        conn.open[end].then_some(conn.nodes[end])
    }

    /// The node at the far end, if the connection exists.
    pub(super) fn far_node(&self, link: Link) -> Option<NodeId> {
        let (id, end) = conn_and_end(link);
        Some(self.conns.get(id as usize)?.as_ref()?.nodes[1 - end])
    }

    /// Hands bytes over to `link`, which a node knows as its own.
    pub(super) fn send(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        link: Link,
        head: Bytes,
        body: Bytes,
    ) {
        let (id, end) = conn_and_end(link);
        let Some(Some(conn)) = self.conns.get_mut(id as usize) else { return };
        if !conn.open[end] {
            return;
        }
        let node = conn.nodes[end];
        let port = &mut self.ports[node as usize];
        port.turn += 1;
        let parcel = Parcel { head, body, turn: port.turn };
        let pipe = &conn.pipes[end];
        let small = parcel.body.is_empty() && parcel.head.len() <= SEGMENT_LEN;
        let free = pipe.waiting.first().is_none() && !pipe.stall.any();
        if small && free && self.weather.order == Order::Fair {
            return self.pass(now, queue, (id, end), parcel);
        }
        conn.pipes[end].hand_over(&mut self.parcels, parcel, &mut self.rng, self.weather.cut);
        self.offer(now, queue, id, end);
    }

    /// Lets a small parcel leave at once: an event of its own for when it is out would cost more
    /// than it tells.
    fn pass(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        (id, end): (u64, usize),
        parcel: Parcel,
    ) {
        let Some(Some(conn)) = self.conns.get(id as usize) else { return };
        let (node, len) = (conn.nodes[end], parcel.len());
        if len == 0 {
            return;
        }
        let port = &mut self.ports[node as usize];
        let out = port.uplink.pass(now, len as u32);
        port.passed.push((link_of(id, end), len));
        self.sent[node as usize].control += len as u64;
        let at = self.arrival(out, id, end);
        let parcel = self.parcels.insert(parcel);
        queue.push(at, Event::Arrive { pipe: pipe_of(id, end), parcel });
    }

    /// What has passed by and was not told of yet.
    pub(super) fn take_passed(&mut self, node: NodeId) -> Vec<(Link, usize)> {
        std::mem::take(&mut self.ports[node as usize].passed)
    }

    /// Closes an end: what was handed over still goes out, nothing more comes in.
    pub(super) fn close(&mut self, now: Time, queue: &mut Queue<Event>, link: Link) {
        let (id, end) = conn_and_end(link);
        let Some(Some(conn)) = self.conns.get_mut(id as usize) else { return };
        if !conn.open[end] {
            return;
        }
        conn.open[end] = false;
        conn.pipes[end].closing = true;
        if conn.pipes[end].waiting.first().is_none() {
            self.send_end(now, queue, id, end);
        }
    }

    /// Ends a connection at once, without a word to anybody; returns the links of the ends that
    /// were open.
    pub(super) fn cut_off(&mut self, now: Time, queue: &mut Queue<Event>, id: u64) -> Vec<Link> {
        let Some(Some(mut conn)) = self.conns.get_mut(id as usize).map(Option::take) else {
            return Vec::new();
        };
        for end in 0..2 {
            let port = &mut self.ports[conn.nodes[end] as usize];
            port.conns.remove(&id);
            let pipe = &mut conn.pipes[end];
            if let Some(place) = pipe.offered.take() {
                port.uplink.withdraw(now, pipe_of(id, end), place);
            }
            pipe.waiting.clear(&mut self.parcels);
            pipe.held.clear(&mut self.parcels);
        }
        for node in conn.nodes {
            self.arm(queue, node);
        }
        (0..2).filter(|end| conn.open[*end]).map(|end| link_of(id, end)).collect()
    }

    /// The connections of a node.
    pub(super) fn conns_of(&self, node: NodeId) -> Vec<u64> {
        self.ports[node as usize].conns.iter().copied().collect()
    }

    /// The two nodes of a connection.
    pub(super) fn nodes_of(&self, id: u64) -> Option<[NodeId; 2]> {
        Some(self.conns.get(id as usize)?.as_ref()?.nodes)
    }

    /// A node is gone: it no longer knows its connections.
    pub(super) fn forget_ends(&mut self, now: Time, node: NodeId) {
        for id in self.conns_of(node) {
            let Some(Some(conn)) = self.conns.get_mut(id as usize) else { continue };
            for end in 0..2 {
                if conn.nodes[end] != node {
                    continue;
                }
                conn.open[end] = false;
                let pipe = &mut conn.pipes[end];
                if let Some(place) = pipe.offered.take() {
                    self.ports[node as usize].uplink.withdraw(now, pipe_of(id, end), place);
                }
                pipe.waiting.clear(&mut self.parcels);
            }
        }
    }

    /// Cuts or heals the network under a connection.
    pub(super) fn set_cut(&mut self, now: Time, queue: &mut Queue<Event>, id: u64, on: bool) {
        let Some(Some(conn)) = self.conns.get_mut(id as usize) else { return };
        if on {
            conn.cut_at = now;
            queue.push(now.after_us(DEAD_AFTER_US), Event::Dead { conn: id });
        }
        let retry_us = self.rng.below(RETRY_US);
        for end in 0..2 {
            self.set_stall(now, queue, id, end, (Stall::CUT, on), retry_us);
        }
    }

    /// Whether nothing has come through `id` for as long as TCP bears it.
    pub(super) fn is_dead(&self, now: Time, id: u64) -> bool {
        self.conns.get(id as usize).and_then(Option::as_ref).is_some_and(|conn| {
            conn.pipes[0].stall.has(Stall::CUT) && now.since_us(conn.cut_at) >= DEAD_AFTER_US
        })
    }

    /// A node stops reading, or reads again.
    pub(super) fn set_frozen(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        node: NodeId,
        on: bool,
    ) {
        self.ports[node as usize].frozen = on;
        for id in self.conns_of(node) {
            let Some(nodes) = self.nodes_of(id) else { continue };
            for (end, _) in nodes.iter().enumerate().filter(|(_, far)| **far == node) {
                self.set_stall(now, queue, id, 1 - end, (Stall::FROZEN, on), 0);
            }
        }
    }

    fn set_stall(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        id: u64,
        end: usize,
        (reason, on): (Stall, bool),
        retry_us: u64,
    ) {
        let Some(Some(conn)) = self.conns.get_mut(id as usize) else { return };
        let pipe = &mut conn.pipes[end];
        pipe.stall.set(reason, on);
        if pipe.stall.any() {
            return;
        }
        let at = now.after_us(retry_us).max(pipe.last_arrival);
        pipe.last_arrival = at;
        pipe.held_bytes = 0;
        while let Some(parcel) = pipe.held.pop(&self.parcels) {
            queue.push(at, Event::Arrive { pipe: pipe_of(id, end), parcel });
        }
        self.offer(now, queue, id, end);
    }

    /// Lets parcels go that have left the uplink of `node` by `now`; says what to report as sent.
    pub(super) fn uplink_done(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        node: NodeId,
        sent: &mut Vec<(Link, usize)>,
    ) {
        if self.ports[node as usize].armed != now {
            return; // Planned before something changed.
        }
        self.ports[node as usize].armed = Time::NEVER;
        while let Some(pipe) = self.ports[node as usize].uplink.finished(now) {
            let (id, end) = conn_and_end(Link(pipe.0));
            let Some(Some(conn)) = self.conns.get_mut(id as usize) else { continue };
            conn.pipes[end].offered = None;
            let Some(parcel) = conn.pipes[end].waiting.pop(&self.parcels) else { continue };
            let (len, body) = (self.parcels.len(parcel), self.parcels.body_len(parcel));
            let traffic = &mut self.sent[node as usize];
            traffic.payload += body as u64;
            traffic.control += (len - body) as u64;
            if conn.open[end] {
                sent.push((Link(pipe.0), len));
            }
            let at = self.arrival(now, id, end);
            queue.push(at, Event::Arrive { pipe, parcel });
            self.offer(now, queue, id, end);
            self.end_if_drained(now, queue, id, end);
        }
        self.arm(queue, node);
    }

    fn end_if_drained(&mut self, now: Time, queue: &mut Queue<Event>, id: u64, end: usize) {
        let Some(Some(conn)) = self.conns.get(id as usize) else { return };
        if conn.pipes[end].closing && conn.pipes[end].waiting.first().is_none() {
            self.send_end(now, queue, id, end);
        }
    }

    /// When something that leaves now arrives; never before what left earlier.
    fn arrival(&mut self, now: Time, id: u64, end: usize) -> Time {
        let jitter_us = self.rng.below(self.weather.jitter_us + 1);
        let Some(Some(conn)) = self.conns.get_mut(id as usize) else { return now };
        let pipe = &mut conn.pipes[end];
        let at = now.after_us(u64::from(pipe.latency_us) + jitter_us).max(pipe.last_arrival);
        pipe.last_arrival = at;
        at
    }

    fn send_end(&mut self, now: Time, queue: &mut Queue<Event>, id: u64, end: usize) {
        let at = self.arrival(now, id, end);
        queue.push(at, Event::End { pipe: pipe_of(id, end) });
    }

    /// A parcel reaches the far end; `frames` gets what is whole now.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        (pipe_id, parcel): (PipeId, ParcelId),
        frames: &mut Vec<Bytes>,
    ) -> Arrival {
        let (id, end) = conn_and_end(Link(pipe_id.0));
        let far = 1 - end;
        let Some(Some(conn)) = self.conns.get_mut(id as usize).filter(|conn| {
            conn.as_ref().is_some_and(|conn| conn.open[far] || conn.pipes[end].stall.any())
        }) else {
            self.parcels.take(parcel);
            return Arrival::Nobody;
        };
        let len = self.parcels.len(parcel);
        let (node, pipe) = (conn.nodes[far], &mut conn.pipes[end]);
        if pipe.stall.any() {
            pipe.held.push(&mut self.parcels, parcel);
            pipe.held_bytes += len;
            if pipe.held_bytes >= RECEIVE_WINDOW
                && let Some(place) = pipe.offered.take()
            {
                let sender = conn.nodes[end];
                self.ports[sender as usize].uplink.withdraw(now, pipe_id, place);
                self.arm(queue, sender);
            }
            return Arrival::Nobody;
        }
        let link = link_of(id, far);
        let parcel = self.parcels.take(parcel);
        match pipe.receive(parcel, &mut self.shared, &mut self.rng, self.weather.cut, frames) {
            Ok(()) => Arrival::Frames(node, link),
            Err(error) => Arrival::Malformed(node, link, error),
        }
    }

    /// Passes a parcel through the receiver's limited line; `Some` if it is not through yet.
    pub(super) fn downlink(&mut self, now: Time, pipe: PipeId, parcel: ParcelId) -> Option<Time> {
        let node = self.far_node(Link(pipe.0))?;
        let (rate, free_at) = self.ports[node as usize].down.as_mut()?;
        let us = self.parcels.len(parcel) as u64 * 1_000_000 / *rate;
        *free_at = (*free_at).max(now).after_us(us);
        (*free_at > now).then_some(*free_at)
    }

    /// The end of a stream reaches the far end: the link that is told, if it is still open there.
    pub(super) fn ended(
        &mut self,
        now: Time,
        queue: &mut Queue<Event>,
        pipe: PipeId,
    ) -> Option<Link> {
        let (id, end) = conn_and_end(Link(pipe.0));
        let conn = self.conns.get(id as usize)?.as_ref()?;
        if conn.pipes[end].stall.any() {
            // It stands behind what is held: look again when the stall may be over.
            queue.push(now.after_us(RETRY_US), Event::End { pipe });
            return None;
        }
        let at = conn.pipes[end].last_arrival;
        if at > now {
            queue.push(at, Event::End { pipe });
            return None;
        }
        let told = link_of(id, 1 - end);
        self.cut_off(now, queue, id).into_iter().find(|link| *link == told)
    }

    /// Offers the next parcel of a pipe to its uplink, if there is one and it may go.
    fn offer(&mut self, now: Time, queue: &mut Queue<Event>, id: u64, end: usize) {
        let Some(Some(conn)) = self.conns.get_mut(id as usize) else { return };
        let (node, pipe) = (conn.nodes[end], &mut conn.pipes[end]);
        if pipe.offered.is_some() || pipe.held_bytes >= RECEIVE_WINDOW {
            return;
        }
        let Some(parcel) = pipe.waiting.first() else { return };
        let (len, turn) = (self.parcels.len(parcel) as u32, self.parcels.turn(parcel));
        let port = &mut self.ports[node as usize];
        pipe.offered = Some(port.uplink.offer(now, pipe_of(id, end), len, turn));
        self.arm(queue, node);
    }

    /// Plans the next uplink event of a node, if it is earlier than the one planned.
    fn arm(&mut self, queue: &mut Queue<Event>, node: NodeId) {
        let port = &mut self.ports[node as usize];
        if let Some(at) = port.uplink.next()
            && at < port.armed
        {
            port.armed = at;
            queue.push(at, Event::Uplink { node });
        }
    }
}
