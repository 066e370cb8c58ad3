//! The world: nodes, their clocks and connections, and what happens to them in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::check::{Readers, Reading, Violation};
use super::clip::Clip;
use super::event::{Event, Life};
use super::group::{Group, Groups};
use super::manner::reflector::{Named, named};
use super::manner::{Conduct, Manner, Write};
use super::meter::{GroupTally, Histogram, Meter, Percentiles, Tally, Viewing};
use super::node::{Birth, Maker, Node, Records, Role, addr_of, node_at, outgoing_addr};
use super::queue::Queue;
use super::reference::Reference;
use super::report::{
    AudienceSeen, ClassReport, Epochs, GroupReport, IndexSeen, Recovery, Report, Stalls, Startup,
};
use super::scenario::{Checks, Class, Happening, Kind, Scenario};
use super::spy::Spy;
use super::trace::Trace;
use super::tracker::Registry;
use super::wires::{Arrival, NodeId, Traffic, Weather, Wires, link_of};
use crate::machine::{Machine, Rng, drain};
use crate::swarm::io::{Delay, Delivery, Event as Told, In, Out, ReaderId, Record, Via};
use crate::units::{BLOCK_LEN, Link, Now, Time, UnixUs};
use crate::wire::feed::Entry;

/// The number of the source among the nodes.
const SOURCE: NodeId = 0;
/// What every wall clock would show at the start of a run if it were right (2026-01-01).
const WALL_START_US: u64 = 1_767_225_600_000_000;
/// Between two portions of the encoder.
const INGEST_US: u64 = 5_000;
/// A dial that nobody answers is given up after this.
const DIAL_TIMEOUT_US: u64 = 5_000_000;
/// One-way time to an address where nobody lives, and to the tracker.
const TRACKER_HOP_US: u64 = 40_000;
/// A node that leaves has this long for its last words.
const LAST_WORDS_US: u64 = 500_000;
/// Even who uploads nothing must be able to say so: an uplink carries at least this share of the
/// bit rate, enough for control messages and hardly for a block.
const CONTROL_SHARE: f64 = 0.03;
/// Below this number of connections a node may ask the tracker early.
const FEW_CONNS: usize = 4;
/// Pieces that a reader is ready for at first, and below which it asks for as many again.
const CREDIT: u32 = 64;
/// Ticks at one moment after which a machine counts as stuck.
const TICKS_MAX: u32 = 1_000;
/// With [`Checks::Some`] the bounds of machines are asked about at every so manieth step.
const STRIDE: u64 = 256;
/// Between two questions to all nodes how they fare.
const ASK_US: u64 = 1_000_000;
/// From so long after measuring began, who stalls must know why.
const KNOWS_US: u64 = 30_000_000;
/// Who is so old must know the resource index.
const KNOWS_INDEX_US: u64 = 30_000_000;
/// The one reader of each viewer.
const READER: ReaderId = ReaderId(1);

/// One node: a machine and everything around it.
struct Slot<N> {
    machine: Option<Box<N>>,
    role: Role,
    life: u32,
    born: Time,
    conduct: Conduct,
    upload_bps: u64,
    dialable: bool,
    /// Its wall clock minus the right time.
    skew_us: i64,
    /// On which side of each partition it is, one bit an event.
    sides: u64,
    /// The last life ended without a word: nobody even refuses a dial.
    silent: bool,
    frozen: bool,
    /// It says its last words.
    leaving: bool,
    /// What happened while it was frozen.
    inbox: Vec<In>,
    /// The earliest tick planned.
    tick_at: Time,
    /// Ticks at the present moment.
    ticks: u32,
    records: Records,
    /// Source: packets taken from the encoder.
    packets: u64,
    announced: Time,
    credit: u32,
    reader_stalled: bool,
    reading: Reading,
    viewing: Viewing,
    /// Whether it was asked what the resource index is.
    asked_index: bool,
}

/// Answers of viewers that were asked how they fare.
#[derive(Default)]
struct Answers {
    all: u64,
    stalls: u64,
    /// Stalls at a time when who stalls must know why, and those that do.
    to_explain: u64,
    explained: u64,
    /// What viewers took the resource index for, over what it is.
    index: Vec<f64>,
}

/// Random numbers by purpose, so that one more draw here does not change everything there.
struct Dice {
    births: Rng,
    tracker: Rng,
    script: Rng,
    churn: Rng,
}

/// A running scenario.
pub struct World<M: Maker> {
    scenario: Scenario,
    maker: M,
    classes: Vec<Class>,
    now: Time,
    end: Time,
    queue: Queue<Event>,
    wires: Wires,
    slots: Vec<Slot<M::Node>>,
    dice: Dice,
    registry: Registry,
    clip: Clip,
    trace: Trace,
    readers: Readers,
    meter: Meter,
    /// Reads along on the wire, with [`Checks::All`].
    spy: Option<Spy>,
    /// Bytes sent before measuring began: by each source, by all.
    before: (Vec<Traffic>, Traffic),
    answers: Answers,
    /// Partitions in force, one bit an event.
    partitions: u64,
    silent_until: Time,
    events: u64,
    steps: u64,
    faults: u64,
    /// Dials of honest nodes where no node listens.
    dials_in_vain: u64,
    sent: Vec<(Link, usize)>,
    frames: Vec<Bytes>,
    violation: Option<Violation>,
}

fn us(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}

impl<M: Maker> World<M> {
    /// The world at its start: nothing has happened.
    pub fn new(scenario: Scenario, maker: M) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x6274_6c69_7665);
        let network = &scenario.network;
        let weather = Weather {
            hop_us: ((network.hop_min_ms * 1e3) as u64, (network.hop_max_ms * 1e3) as u64),
            jitter_us: (network.jitter_ms * 1e3) as u64,
            order: network.uplink,
            cut: network.cut,
            seed: rng.next_u64(),
        };
        let clip = Clip::new(rng.next_u64(), scenario.bitrate, scenario.key_frame_ms);
        let measure_from = Time(us(scenario.warm_up_s));
        let mut world = Self {
            classes: scenario.upload_classes(),
            now: Time::ZERO,
            end: measure_from.after_us(us(scenario.duration_s)),
            queue: Queue::new(),
            wires: Wires::new(weather, rng.fork()),
            slots: Vec::new(),
            dice: Dice {
                births: rng.fork(),
                tracker: rng.fork(),
                script: rng.fork(),
                churn: rng.fork(),
            },
            registry: Registry::new(us(scenario.tracker.interval_s) * 2),
            readers: Readers::new(clip.clone()),
            clip,
            trace: Trace::new(),
            meter: Meter::new(measure_from, scenario.delay_ms * 1_000),
            spy: (scenario.checks == Checks::All).then(Spy::default),
            before: Default::default(),
            answers: Answers::default(),
            partitions: 0,
            silent_until: Time::ZERO,
            events: 0,
            steps: 0,
            faults: 0,
            dials_in_vain: 0,
            sent: Vec::new(),
            frames: Vec::new(),
            violation: None,
            scenario,
            maker,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let upload_bps = (self.scenario.source_copies * self.scenario.bitrate as f64) as u64;
        self.add_node(Role::Source, 0, upload_bps, Time::ZERO, false);
        for _ in 0..self.scenario.standbys {
            self.add_node(Role::Standby, 0, upload_bps, Time(100_000), false);
        }
        let lead = Time(us(self.scenario.lead_s));
        let (viewers, join_us) = (self.scenario.viewers, us(self.scenario.join_s));
        self.add_viewers(viewers, lead, join_us, false);
        self.queue.push(self.meter.from, Event::Measure);
        for (n, event) in (0u32..).zip(&self.scenario.event) {
            self.queue.push(Time(us(event.at_s)), Event::Scripted { event: n });
        }
    }

    /// Plans so many viewers within `within_us` after `from`, in the shares of the classes.
    fn add_viewers(&mut self, count: u32, from: Time, within_us: u64, newcomers: bool) {
        let mut classes = self.shuffled_classes(count);
        for class in classes.drain(..) {
            let at = from.after_us(self.dice.births.below(within_us + 1));
            let times = self.classes[usize::from(class)].times;
            let upload_bps = (times * self.scenario.bitrate as f64) as u64;
            self.add_node(Role::Viewer, class, upload_bps, at, newcomers);
        }
    }

    /// Classes of `count` viewers: exact shares, in random order.
    fn shuffled_classes(&mut self, count: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(count as usize);
        for (n, class) in (0u8..).zip(&self.classes) {
            let members = (class.share * f64::from(count)).round_ties_even() as usize;
            out.extend(std::iter::repeat_n(n, members));
        }
        let last = self.classes.len().saturating_sub(1) as u8;
        if count == 1 {
            // A single newcomer is of a random class.
            let mut draw = self.dice.births.unit();
            let class = self.classes.iter().position(|class| {
                draw -= class.share;
                draw < 0.0
            });
            return vec![class.map_or(last, |n| n as u8)];
        }
        out.resize(count as usize, last);
        self.dice.births.shuffle(&mut out);
        out
    }

    fn add_node(&mut self, role: Role, class: u8, upload_bps: u64, at: Time, newcomer: bool) {
        let node = self.slots.len() as NodeId;
        let dice = &mut self.dice.births;
        let viewer = role == Role::Viewer;
        let draw = dice.unit();
        let manner = if viewer { Manner::of(&self.scenario, draw) } else { Manner::Honest };
        let dialable = !(viewer && dice.chance(self.scenario.network.unreachable));
        let skew_us = ((dice.unit() * 2.0 - 1.0) * self.scenario.clock_skew_s * 1e6) as i64;
        let bps = self.scenario.bitrate as f64;
        let down = self.scenario.network.download_times.map(|times| (times * bps / 8.0) as u64);
        let up = (upload_bps as f64).max(bps * CONTROL_SHARE) as u64 / 8;
        let times = self.classes.get(usize::from(class)).map_or(0.0, |class| class.times);
        let groups = Groups::at_birth(newcomer, times);
        let carried = ((up as f64 * manner.line_part()) as u64).max(1);
        self.wires.add_port(Some(carried), down.filter(|_| viewer));
        self.slots.push(Slot {
            machine: None,
            role,
            life: 0,
            born: at,
            conduct: Conduct::new(manner, node),
            upload_bps: up * 8,
            dialable,
            skew_us: if viewer { skew_us } else { 0 },
            sides: 0,
            silent: false,
            frozen: false,
            leaving: false,
            inbox: Vec::new(),
            tick_at: Time::NEVER,
            ticks: 0,
            records: Records::default(),
            packets: 0,
            announced: Time::ZERO,
            credit: 0,
            reader_stalled: false,
            reading: Reading::default(),
            viewing: Viewing::new(at, class, groups, manner == Manner::Honest),
            asked_index: false,
        });
        self.queue.push(at, Event::Start { node });
    }

    /// Plays the scenario to its end.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn run(mut self) -> Result<Report, Violation> {
        self.run_until(self.end)?;
        Ok(self.report())
    }

    /// Plays everything that happens up to `until`.
    ///
    /// # Errors
    /// The first [`Violation`].
    fn run_until(&mut self, until: Time) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.now = at;
            self.events += 1;
            self.play(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Tick(life) => self.tick(life),
            Event::Uplink { node } => self.uplink(node),
            Event::Arrive { pipe, parcel } => match self.wires.downlink(self.now, pipe, parcel) {
                Some(at) => self.queue.push(at, Event::Landed { pipe, parcel }),
                None => self.play(Event::Landed { pipe, parcel }),
            },
            Event::Landed { pipe, parcel } => {
                let mut frames = std::mem::take(&mut self.frames);
                let arrival =
                    self.wires.arrive(self.now, &mut self.queue, (pipe, parcel), &mut frames);
                self.arrived(arrival, &mut frames);
                frames.clear();
                self.frames = frames;
            }
            Event::End { pipe } => {
                if let Some(link) = self.wires.ended(self.now, &mut self.queue, pipe) {
                    self.down(link, self.wires.node_at(link));
                }
            }
            Event::Dead { conn } => {
                if self.wires.is_dead(self.now, conn) {
                    self.break_conn(conn);
                }
            }
            Event::Knock { from, to } => self.knock(from, to),
            Event::Refused { from, to } => {
                if self.alive(from) {
                    self.feed(from.node, In::DialFailed { addr: addr_of(to) });
                }
            }
            Event::RefusedAt { from, addr } => {
                if self.alive(from) {
                    self.feed(from.node, In::DialFailed { addr: addr.into() });
                }
            }
            Event::Dialled { conn } => self.up(conn, 0),
            Event::Accepted { conn } => self.up(conn, 1),
            Event::Gone { link, life } => {
                if self.alive(life) {
                    self.feed(life.node, In::Down { link });
                }
            }
            Event::Swallowed { link, life, bytes } => {
                if self.alive(life) {
                    self.feed(life.node, In::Sent { link, bytes: bytes as usize });
                }
            }
            Event::Credit(life) => {
                if self.alive(life) {
                    self.feed(life.node, In::ReaderCredit { reader: READER, pieces: CREDIT });
                }
            }
            Event::Announce(life) => self.announce(life),
            Event::Introduced(life) => self.introduced(life),
            Event::Ingest(life) => self.ingest(life),
            Event::Start { node } => self.start(node),
            Event::Leave(life) => self.leave(life),
            Event::Exit(life) => {
                if self.alive(life) {
                    self.die(life.node, false);
                }
            }
            Event::Thaw(life) => self.thaw(life),
            Event::Resume(life) => self.resume(life),
            Event::Heal { event } => self.set_partition(event, false),
            Event::CaughtUp => self.check_caught_up(),
            Event::Scripted { event } => self.script(event),
            Event::Measure => {
                self.before = (self.sent_by_sources(), self.sent_by_all());
                self.queue.push(self.now.after_us(ASK_US), Event::Ask);
            }
            Event::Ask => self.ask(),
        }
    }

    fn alive(&self, life: Life) -> bool {
        let slot = &self.slots[life.node as usize];
        slot.life == life.number && slot.machine.is_some()
    }

    fn life(&self, node: NodeId) -> Life {
        Life { node, number: self.slots[node as usize].life }
    }

    /// What a node's clocks show.
    fn clocks(&self, node: NodeId) -> Now {
        let slot = &self.slots[node as usize];
        let right_us = WALL_START_US + self.now.0;
        Now {
            mono: Time(self.now.since_us(slot.born)),
            wall: UnixUs(right_us.saturating_add_signed(slot.skew_us)),
        }
    }

    fn fail(&mut self, node: NodeId, what: impl Into<String>) {
        let violation = Violation { at: self.now, node, what: what.into() };
        self.violation.get_or_insert(violation);
    }

    // Machines.

    /// Gives an input to a node's machine, or keeps it for a frozen one.
    fn feed(&mut self, node: NodeId, input: In) {
        let slot = &mut self.slots[node as usize];
        if slot.frozen {
            slot.inbox.push(input);
            return;
        }
        let Some(mut machine) = slot.machine.take() else { return };
        match &input {
            In::Frame { frame, .. } => slot.conduct.hear(frame),
            In::Frames { frames, .. } => frames.iter().for_each(|f| slot.conduct.hear(f)),
            In::Down { link } => slot.conduct.forget(*link),
            _ => {}
        }
        if let Some(spy) = &mut self.spy {
            match &input {
                In::Frame { link, frame } => spy.heard(*link, frame),
                In::Frames { link, frames } => frames.iter().for_each(|f| spy.heard(*link, f)),
                In::Down { link } => spy.gone(*link),
                _ => {}
            }
        }
        let (what, place, amount) = digest(&input);
        self.trace.note(self.now, node, what, place, amount);
        let clocks = self.clocks(node);
        let passed = self.wires.take_passed(node);
        if !passed.is_empty() {
            drain(&mut *machine, clocks, In::SentAll(passed), |out| self.act(node, out));
        }
        let deadline = drain(&mut *machine, clocks, input, |out| self.act(node, out));
        self.steps += 1;
        self.look_into(node, &mut machine);
        self.slots[node as usize].machine = Some(machine);
        self.plan_tick(node, deadline);
    }

    /// Takes what the machine has verified and asks about its bounds.
    fn look_into(&mut self, node: NodeId, machine: &mut M::Node) {
        let slot = &mut self.slots[node as usize];
        let mut unknown = None;
        while let Some((seq, block)) = machine.verified() {
            if slot.role == Role::Viewer
                && !self.meter.verified(self.now, &mut slot.viewing, seq, block)
            {
                unknown = Some(seq);
            }
        }
        if let Some(seq) = unknown {
            self.fail(
                node,
                format!("a block of piece {seq}, never published, passed for verified"),
            );
        }
        let ask = match self.scenario.checks {
            Checks::Readers => false,
            Checks::Some => self.steps.is_multiple_of(STRIDE),
            Checks::All => true,
        };
        if ask && let Err(what) = machine.invariant() {
            self.fail(node, what);
        }
    }

    fn plan_tick(&mut self, node: NodeId, deadline: Option<Time>) {
        let life = self.life(node);
        let slot = &mut self.slots[node as usize];
        let Some(deadline) = deadline else { return };
        let at = slot.born.after_us(deadline.0).max(self.now);
        if at < slot.tick_at {
            slot.tick_at = at;
            self.queue.push(at, Event::Tick(life));
        }
    }

    fn tick(&mut self, life: Life) {
        let slot = &mut self.slots[life.node as usize];
        if slot.life != life.number || slot.tick_at != self.now || slot.frozen {
            return; // Planned before something changed.
        }
        slot.tick_at = Time::NEVER;
        let Some(deadline) = slot.machine.as_ref().and_then(|machine| machine.deadline()) else {
            return;
        };
        if slot.born.after_us(deadline.0) > self.now {
            self.plan_tick(life.node, Some(deadline));
            return;
        }
        slot.ticks += 1;
        self.feed(life.node, In::Tick);
        let now = self.now;
        let slot = &mut self.slots[life.node as usize];
        if slot.tick_at != now {
            slot.ticks = 0;
        } else if slot.ticks > TICKS_MAX {
            self.fail(life.node, format!("{TICKS_MAX} ticks at one moment: its deadline stands"));
        }
    }

    /// Carries out what a machine wants done.
    fn act(&mut self, node: NodeId, out: Out) {
        match out {
            Out::Dial { addr } => self.dial(node, addr),
            Out::Send { link, head, body } => self.send(node, link, head, body),
            Out::Close { link } => {
                if self.owns(node, link) {
                    if let Some(spy) = &mut self.spy {
                        spy.gone(link);
                    }
                    self.slots[node as usize].conduct.forget(link);
                    self.wires.close(self.now, &mut self.queue, link);
                }
            }
            Out::Persist(record) => self.persist(node, record),
            Out::Deliver { reader: _, item } => self.deliver(node, &item),
            Out::Event(Told::PeerLeft { fault, .. }) => self.faults += u64::from(fault),
            Out::Event(_) => {}
        }
    }

    fn owns(&self, node: NodeId, link: Link) -> bool {
        self.wires.node_at(link) == Some(node)
    }

    fn send(&mut self, node: NodeId, link: Link, head: Bytes, body: Bytes) {
        if !self.owns(node, link) {
            return;
        }
        if let Some(Err(what)) = self.spy.as_mut().map(|spy| spy.said(link, &head, &body)) {
            self.fail(node, format!("{link}: {what}"));
        }
        let conduct = &mut self.slots[node as usize].conduct;
        let (Write { head, body }, missing) = conduct.say(self.now, link, Write { head, body });
        if missing > 0 {
            let (life, bytes) = (self.life(node), missing as u32);
            self.queue.push(self.now, Event::Swallowed { link, life, bytes });
        }
        if !head.is_empty() {
            self.wires.send(self.now, &mut self.queue, link, head, body);
        }
    }

    fn persist(&mut self, node: NodeId, record: Record) {
        let records = &mut self.slots[node as usize].records;
        match record {
            Record::Published(entry) => {
                records.published = Some(entry.clone());
                match Entry::parse(&entry) {
                    Ok(entry) => {
                        let head = &entry.head;
                        self.meter.publish(self.now, head.seq(), head.blocks(), head.len);
                        if head.len == 0 {
                            self.readers.published_empty(head.seq());
                        }
                        if let Some(spy) = &mut self.spy {
                            spy.published(head);
                        }
                    }
                    Err(error) => self.fail(node, format!("published no valid entry: {error}")),
                }
            }
            Record::Head(entry) => records.head = Some(entry),
            Record::Metadata(_) => {}
        }
    }

    fn deliver(&mut self, node: NodeId, item: &Delivery) {
        let slot = &mut self.slots[node as usize];
        if let Err(what) = self.readers.deliver(&mut slot.reading, item) {
            self.fail(node, what);
            return;
        }
        match item {
            Delivery::Piece { seq, .. } => {
                self.meter.delivered(self.now, &mut slot.viewing, *seq);
                slot.credit = slot.credit.saturating_sub(1);
                if slot.credit < CREDIT / 2 && !slot.reader_stalled {
                    self.credit(node);
                }
            }
            Delivery::Skip { from, pieces } => {
                self.meter.skipped(&mut slot.viewing, *from, *pieces);
            }
            Delivery::End => {}
        }
    }

    /// The reader of a node is ready for more.
    fn credit(&mut self, node: NodeId) {
        let life = self.life(node);
        self.slots[node as usize].credit += CREDIT;
        self.queue.push(self.now, Event::Credit(life));
    }

    // Connections.

    fn dial(&mut self, node: NodeId, addr: SocketAddr) {
        let from = self.life(node);
        match node_at(addr, self.slots.len()) {
            Some(to) => {
                let at = self.now.after_us(self.wires.weather.latency_us(node, to));
                self.queue.push(at, Event::Knock { from, to });
            }
            None => self.dial_in_vain(from, addr),
        }
    }

    /// A node dials where no node listens; only reflectors tell of such places.
    fn dial_in_vain(&mut self, from: Life, addr: SocketAddr) {
        let who = named(addr).filter(|_| self.scenario.reflectors > 0.0);
        let (Some(who), SocketAddr::V4(addr)) = (who, addr) else {
            return self.fail(from.node, format!("dialled {addr}, which nobody told it"));
        };
        let after_us = match who {
            Named::Nobody => DIAL_TIMEOUT_US,
            Named::Victim(to) => 2 * self.wires.weather.latency_us(from.node, to),
        };
        self.dials_in_vain += u64::from(self.slots[from.node as usize].viewing.honest);
        self.queue.push(self.now.after_us(after_us), Event::RefusedAt { from, addr });
    }

    fn knock(&mut self, from: Life, to: NodeId) {
        let latency_us = self.wires.weather.latency_us(from.node, to);
        let slot = &self.slots[to as usize];
        let unheard = self.is_cut(from.node, to) || !slot.dialable || slot.silent;
        if !self.alive(from) {
            return;
        }
        if unheard {
            self.queue.push(self.now.after_us(DIAL_TIMEOUT_US), Event::Refused { from, to });
        } else if slot.machine.is_none() {
            self.queue.push(self.now.after_us(latency_us), Event::Refused { from, to });
        } else {
            let conn = self.wires.open(from.node, to);
            self.queue.push(self.now.after_us(latency_us), Event::Dialled { conn });
            self.queue.push(self.now.after_us(2 * latency_us), Event::Accepted { conn });
        }
    }

    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        let sides = self.slots[a as usize].sides ^ self.slots[b as usize].sides;
        sides & self.partitions != 0
    }

    fn up(&mut self, conn: u64, end: usize) {
        let link = link_of(conn, end);
        let (Some(node), Some(far)) = (self.wires.node_at(link), self.wires.far_node(link)) else {
            return;
        };
        let dialled = end == 0;
        let addr = if dialled { addr_of(far) } else { outgoing_addr(far, conn) };
        self.feed(node, In::Up { link, addr, dialled });
    }

    fn uplink(&mut self, node: NodeId) {
        let mut sent = std::mem::take(&mut self.sent);
        self.wires.uplink_done(self.now, &mut self.queue, node, &mut sent);
        for (link, bytes) in sent.drain(..) {
            self.feed(node, In::Sent { link, bytes });
        }
        self.sent = sent;
    }

    fn arrived(&mut self, arrival: Arrival, frames: &mut Vec<Bytes>) {
        let (node, link, malformed) = match arrival {
            Arrival::Frames(node, link) => (node, link, None),
            Arrival::Malformed(node, link, error) => (node, link, Some(error)),
            Arrival::Nobody => return,
        };
        match frames.len() {
            0 => {}
            1 => {
                if let Some(frame) = frames.pop() {
                    self.feed(node, In::Frame { link, frame });
                }
            }
            _ => self.feed(node, In::Frames { link, frames: std::mem::take(frames) }),
        }
        if let Some(error) = malformed.filter(|_| self.owns(node, link)) {
            self.feed(node, In::Malformed { link, error });
        }
    }

    /// Tells a node that its connection is gone.
    fn down(&mut self, link: Link, node: Option<NodeId>) {
        if let Some(node) = node {
            self.feed(node, In::Down { link });
        }
    }

    /// Breaks a connection at both ends at once.
    fn break_conn(&mut self, conn: u64) {
        let Some(nodes) = self.wires.nodes_of(conn) else { return };
        for link in self.wires.cut_off(self.now, &mut self.queue, conn) {
            self.down(link, Some(nodes[(link.0 & 1) as usize]));
        }
    }

    // Lives.

    fn start(&mut self, node: NodeId) {
        let seed = self.dice.births.next_u64();
        let slot = &mut self.slots[node as usize];
        slot.life += 1;
        slot.born = self.now;
        slot.silent = false;
        slot.leaving = false;
        slot.tick_at = Time::NEVER;
        slot.packets = self.clip.packets_after(self.now.0);
        let birth = Birth {
            role: slot.role,
            addr: addr_of(node),
            seed,
            upload_bps: slot.upload_bps,
            records: slot.records.clone(),
        };
        let clocks = self.clocks(node);
        let machine = Box::new(self.maker.make(birth, clocks));
        let deadline = machine.deadline();
        self.slots[node as usize].machine = Some(machine);
        self.plan_tick(node, deadline);
        let life = self.life(node);
        self.queue.push(self.now, Event::Announce(life));
        if self.slots[node as usize].role == Role::Viewer {
            let delay = match self.scenario.delay_auto {
                true => Delay::Auto,
                false => Duration::from_millis(self.scenario.delay_ms).into(),
            };
            self.feed(node, In::AddReader { reader: READER, delay });
            self.credit(node);
            self.plan_session(life);
        } else {
            self.queue.push(self.now.after_us(INGEST_US), Event::Ingest(life));
        }
    }

    /// With churn, plans when a viewer leaves.
    fn plan_session(&mut self, life: Life) {
        if let Some(churn) = &self.scenario.churn {
            let stays_us = us(exponential(&mut self.dice.churn) * churn.session_mean_s);
            self.queue.push(self.now.after_us(stays_us), Event::Leave(life));
        }
    }

    /// A viewer's session is over; with churn somebody else comes.
    fn leave(&mut self, life: Life) {
        if !self.alive(life) {
            return;
        }
        let vanish = self.scenario.churn.as_ref().map_or(0.0, |churn| churn.vanish);
        if self.dice.churn.chance(vanish) {
            self.vanish(life.node);
        } else {
            self.stop(life.node);
        }
        self.add_viewers(1, self.now, 0, true);
    }

    /// A node leaves in good order.
    fn stop(&mut self, node: NodeId) {
        self.account(node);
        self.slots[node as usize].leaving = true;
        self.registry.remove(node);
        self.feed(node, In::Stop);
        let life = self.life(node);
        self.queue.push(self.now.after_us(LAST_WORDS_US), Event::Exit(life));
    }

    fn vanish(&mut self, node: NodeId) {
        self.account(node);
        self.die(node, true);
    }

    /// Closes the books on a viewer that will not come back.
    fn account(&mut self, node: NodeId) {
        let slot = &mut self.slots[node as usize];
        if slot.role == Role::Viewer && slot.viewing.honest && slot.machine.is_some() {
            self.meter.finish(self.now, slot.viewing.clone(), false);
            slot.viewing.honest = false; // Nothing counts any more.
        }
    }

    /// Ends a node's life. If `silent`, the others are not told: its machine lost power.
    fn die(&mut self, node: NodeId, silent: bool) {
        let slot = &mut self.slots[node as usize];
        slot.machine = None;
        slot.silent = silent;
        slot.frozen = false;
        slot.inbox.clear();
        self.wires.take_passed(node);
        self.wires.forget_ends(self.now, node);
        for conn in self.wires.conns_of(node) {
            if silent {
                self.wires.set_cut(self.now, &mut self.queue, conn, true);
                continue;
            }
            let Some(nodes) = self.wires.nodes_of(conn) else { continue };
            let hop_us = self.wires.weather.latency_us(nodes[0], nodes[1]);
            for link in self.wires.cut_off(self.now, &mut self.queue, conn) {
                let life = self.life(nodes[(link.0 & 1) as usize]);
                self.queue.push(self.now.after_us(hop_us), Event::Gone { link, life });
            }
        }
    }

    fn thaw(&mut self, life: Life) {
        if !self.alive(life) {
            return;
        }
        self.slots[life.node as usize].frozen = false;
        let inbox = std::mem::take(&mut self.slots[life.node as usize].inbox);
        for input in inbox {
            self.feed(life.node, input);
        }
        self.wires.set_frozen(self.now, &mut self.queue, life.node, false);
        self.slots[life.node as usize].tick_at = Time::NEVER;
        self.feed(life.node, In::Tick);
    }

    fn resume(&mut self, life: Life) {
        if self.alive(life) {
            self.slots[life.node as usize].reader_stalled = false;
            self.credit(life.node);
        }
    }

    // The world around them.

    fn announce(&mut self, life: Life) {
        if !self.alive(life) {
            return;
        }
        let interval_us = us(self.scenario.tracker.interval_s);
        let slot = &mut self.slots[life.node as usize];
        let first = slot.announced < slot.born || slot.announced == Time::ZERO;
        let due = first || self.now.since_us(slot.announced) >= interval_us;
        let reachable = self.now >= self.registry.down_until;
        if (due || self.wires.degree(life.node) < FEW_CONNS) && reachable && !slot.frozen {
            slot.announced = self.now;
            let at = self.now.after_us(2 * TRACKER_HOP_US);
            self.queue.push(at, Event::Introduced(life));
        }
        let again_us = us(self.scenario.tracker.min_interval_s);
        self.queue.push(self.now.after_us(again_us), Event::Announce(life));
    }

    fn introduced(&mut self, life: Life) {
        if !self.alive(life) {
            return;
        }
        let numwant = self.scenario.tracker.numwant as usize;
        let dice = &mut self.dice.tracker;
        let others = self.registry.sample(self.now, life.node, numwant, dice);
        self.registry.announce(self.now, life.node);
        let addrs: Vec<SocketAddr> = others.into_iter().map(addr_of).collect();
        if !addrs.is_empty() {
            self.feed(life.node, In::Found { via: Via::Tracker, addrs });
        }
    }

    fn ingest(&mut self, life: Life) {
        if !self.alive(life) {
            return;
        }
        self.queue.push(self.now.after_us(INGEST_US), Event::Ingest(life));
        let to = self.clip.packets_after(self.now.0);
        let slot = &mut self.slots[life.node as usize];
        let from = std::mem::replace(&mut slot.packets, to);
        if self.now >= self.silent_until && from < to {
            let bytes = Bytes::from(self.clip.bytes(from, to));
            self.feed(life.node, In::Ingest(bytes));
        }
    }

    // The script.

    fn script(&mut self, number: u32) {
        let event = self.scenario.event[number as usize].clone();
        let over = self.now.after_us(us(event.for_s));
        if event.watch_s > 0.0 {
            self.meter.watch(over, us(event.watch_s));
        }
        let chosen = self.choose(&event);
        match event.kind {
            Kind::Join => self.add_viewers(event.count, self.now, us(event.for_s), true),
            Kind::Leave => self.send_away(&chosen, event.vanish),
            Kind::Vanish => chosen.into_iter().for_each(|node| self.vanish(node)),
            Kind::Crash => {
                for node in chosen {
                    self.account(node);
                    self.die(node, false);
                }
            }
            Kind::Freeze => chosen.into_iter().for_each(|node| self.freeze(node, over)),
            Kind::StallReader => {
                for node in chosen {
                    self.slots[node as usize].reader_stalled = true;
                    let life = self.life(node);
                    self.queue.push(over, Event::Resume(life));
                }
            }
            Kind::Partition | Kind::StandbyPartition => {
                for node in chosen {
                    let slot = &mut self.slots[node as usize];
                    slot.sides |= 1 << (number % 64);
                    slot.viewing.groups.join(Group::CutOff);
                }
                self.set_partition(number, true);
                self.queue.push(over, Event::Heal { event: number });
            }
            Kind::Reset => {
                for node in chosen {
                    for conn in self.wires.conns_of(node) {
                        self.break_conn(conn);
                    }
                }
            }
            Kind::ClockJump => {
                for node in chosen {
                    self.slots[node as usize].skew_us += (event.by_s * 1e6) as i64;
                }
            }
            Kind::SourceCrash => {
                self.die(SOURCE, false);
                if event.lose_state {
                    self.slots[SOURCE as usize].records = Records::default();
                }
                self.queue.push(over, Event::Start { node: SOURCE });
            }
            Kind::SourceSilence => {
                self.silent_until = over;
                self.feed(SOURCE, In::IngestBreak);
            }
            Kind::TrackerDown => self.registry.down_until = over,
        }
        if event.caught_up_s > 0.0 {
            self.queue.push(over.after_us(us(event.caught_up_s)), Event::CaughtUp);
        }
    }

    /// Draws living viewers: a share of all and so many besides. Of standbys, all are meant.
    fn choose(&mut self, event: &Happening) -> Vec<NodeId> {
        if event.kind == Kind::Join {
            return Vec::new();
        }
        let of_standbys = event.kind == Kind::StandbyPartition;
        let role = if of_standbys { Role::Standby } else { Role::Viewer };
        let mut nodes: Vec<NodeId> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.role == role && slot.machine.is_some() && !slot.leaving)
            .map(|(node, _)| node)
            .collect();
        if of_standbys {
            return nodes;
        }
        self.dice.script.shuffle(&mut nodes);
        let wanted = (event.share * nodes.len() as f64).round() as usize + event.count as usize;
        nodes.truncate(wanted);
        nodes
    }

    /// Viewers leave, a share of them without a word.
    fn send_away(&mut self, nodes: &[NodeId], vanish: f64) {
        let silent = (vanish * nodes.len() as f64).round() as usize;
        for (n, node) in nodes.iter().enumerate() {
            if n < silent {
                self.vanish(*node);
            } else {
                self.stop(*node);
            }
        }
    }

    fn freeze(&mut self, node: NodeId, until: Time) {
        self.slots[node as usize].frozen = true;
        self.wires.set_frozen(self.now, &mut self.queue, node, true);
        let life = self.life(node);
        self.queue.push(until, Event::Thaw(life));
    }

    /// Cuts the network between the two sides of a partition, or heals it.
    fn set_partition(&mut self, event: u32, on: bool) {
        let bit = 1u64 << (event % 64);
        self.partitions = if on { self.partitions | bit } else { self.partitions & !bit };
        for node in 0..self.slots.len() as NodeId {
            if self.slots[node as usize].sides & bit == 0 {
                continue;
            }
            for conn in self.wires.conns_of(node) {
                let Some([a, b]) = self.wires.nodes_of(conn) else { continue };
                let across = (self.slots[a as usize].sides ^ self.slots[b as usize].sides) & bit;
                let dead = [a, b].iter().any(|n| self.slots[*n as usize].silent);
                if across != 0 && !dead {
                    let cut = self.is_cut(a, b);
                    self.wires.set_cut(self.now, &mut self.queue, conn, cut);
                }
            }
        }
    }

    /// Whether every honest viewer that has started is where its delay says, give or take.
    fn check_caught_up(&mut self) {
        let behind_us = self.meter.delay_us + 2_000_000;
        let before = Time(self.now.0.saturating_sub(behind_us));
        let Some(due) = self.meter.newest_before(before) else { return };
        let late = (0u32..).zip(&self.slots).find(|(_, slot)| {
            slot.machine.is_some()
                && slot.viewing.honest
                && slot.viewing.started.is_some_and(|started| started < before)
                && slot.viewing.cursor.is_none_or(|cursor| cursor < due)
        });
        if let Some((node, slot)) = late {
            let at = slot.viewing.cursor.map_or_else(|| "nothing".to_owned(), |s| s.to_string());
            self.fail(node, format!("has not caught up: it is at {at}, {due} is due"));
        }
    }

    // The result.

    /// Asks every honest viewer how it fares.
    fn ask(&mut self) {
        self.queue.push(self.now.after_us(ASK_US), Event::Ask);
        let must_know = self.now >= self.meter.from.after_us(KNOWS_US);
        let index = self.scenario.mean_upload();
        for node in 0..self.slots.len() as NodeId {
            let clocks = self.clocks(node);
            let slot = &mut self.slots[node as usize];
            if slot.role != Role::Viewer || !slot.viewing.honest || slot.frozen {
                continue;
            }
            let Some(machine) = &slot.machine else { continue };
            let says = machine.diagnosis(clocks);
            self.answers.all += 1;
            self.answers.stalls += u64::from(says.stalls);
            if says.stalls && must_know {
                self.answers.to_explain += 1;
                self.answers.explained += u64::from(says.unsustainable);
            }
            if !slot.asked_index && self.now >= slot.born.after_us(KNOWS_INDEX_US) {
                slot.asked_index = true;
                self.answers.index.push(says.resource_index.unwrap_or(0.0) / index);
            }
        }
    }

    fn index_seen(&self) -> IndexSeen {
        let mut parts = self.answers.index.clone();
        parts.sort_unstable_by(f64::total_cmp);
        let count = parts.len();
        let at = |percent: usize| parts.get(count * percent / 100).copied().unwrap_or(0.0);
        let within = |most: f64| {
            let right = parts.iter().filter(|part| (*part - 1.0).abs() <= most).count();
            ratio(right as u64, count as u64)
        };
        let (within_10, within_25) = (within(0.1), within(0.25));
        IndexSeen {
            viewers: count as u64,
            within_10,
            within_25,
            p5: at(5),
            p50: at(50),
            p95: at(95),
        }
    }

    fn audience_seen(&self) -> Option<AudienceSeen> {
        let seen = self.slots[SOURCE as usize].machine.as_ref()?.audience()?;
        let there = |slot: &&Slot<M::Node>| slot.role == Role::Viewer && slot.machine.is_some();
        let lag = seen.lag_ms.unwrap_or_default();
        Some(AudienceSeen {
            viewers: self.slots.iter().filter(there).count() as u64,
            estimate: seen.estimate,
            or_more: seen.or_more,
            sampled: seen.sampled,
            block_lag_ms: Percentiles { p50: lag.p50, p90: lag.p90, p99: lag.p99, max: lag.max },
            stalled: seen.stalled(),
        })
    }

    fn sources(&self) -> usize {
        1 + self.scenario.standbys as usize
    }

    fn sent_by_sources(&self) -> Vec<Traffic> {
        (0..self.sources()).map(|node| self.wires.sent(node as NodeId)).collect()
    }

    fn sent_by_all(&self) -> Traffic {
        let mut sum = Traffic::default();
        for node in 0..self.slots.len() as NodeId {
            let sent = self.wires.sent(node);
            sum.payload += sent.payload;
            sum.control += sent.control;
        }
        sum
    }

    /// Payload that the busiest source has sent since measuring began.
    fn source_payload(&self) -> u64 {
        let sent = self.sent_by_sources().into_iter().zip(&self.before.0);
        sent.map(|(now, before)| now.payload - before.payload).max().unwrap_or(0)
    }

    fn epochs(&self) -> Epochs {
        let living = self.slots.iter().filter(|slot| {
            slot.role == Role::Viewer && slot.machine.is_some() && slot.viewing.honest
        });
        let at_end: BTreeSet<_> =
            living.filter_map(|slot| slot.viewing.cursor).map(|at| at.epoch).collect();
        Epochs { begun: self.meter.epochs.len() as u32, at_end: at_end.len() as u32 }
    }

    fn stalls(&self) -> Stalls {
        let Answers { all, stalls, to_explain, explained, .. } = self.answers;
        let source = self.slots[SOURCE as usize].machine.as_ref();
        Stalls {
            share: ratio(stalls, all),
            explained: if to_explain == 0 { 1.0 } else { ratio(explained, to_explain) },
            source_told: source.is_some_and(|s| s.diagnosis(self.clocks(SOURCE)).unsustainable),
        }
    }

    fn report(mut self) -> Report {
        for slot in &self.slots {
            if slot.role == Role::Viewer && slot.machine.is_some() {
                self.meter.finish(self.now, slot.viewing.clone(), true);
            }
        }
        let all = self.sent_by_all();
        let payload = all.payload - self.before.1.payload;
        let class_report = |(class, tally): (&u8, &Tally)| ClassReport {
            times: self.classes.get(usize::from(*class)).map_or(0.0, |class| class.times),
            viewers: tally.viewers,
            continuity: tally.continuity(),
        };
        let meter = &self.meter;
        Report {
            seed: self.scenario.seed,
            viewers: self.scenario.viewers,
            bitrate: self.scenario.bitrate,
            resource_index: self.scenario.mean_upload(),
            resource_index_seen: self.index_seen(),
            block_lag_ms: meter.block_lag.percentiles(),
            lag_ms: meter.piece_lag.percentiles(),
            lag_ref_ms: reference(&self.scenario, &self.classes).last_s() * 1e3,
            startup_ms: startup(&meter.startup, meter.never_started),
            continuity: meter.all.continuity(),
            classes: meter.by_class.iter().map(class_report).collect(),
            groups: meter.groups().map(group_report).collect(),
            reader_gap_ms: meter.reader_gap.percentiles(),
            recovery: meter.is_watching().then(|| Recovery {
                feed_again_ms: meter.feed_again.percentiles(),
                on_time_again_ms: meter.on_time_again.percentiles(),
            }),
            epochs: self.epochs(),
            stalls: self.stalls(),
            audience: self.audience_seen(),
            source_copies: ratio(self.source_payload(), meter.stream_bytes),
            payload_ratio: ratio(payload, meter.received_bytes),
            overhead_ratio: ratio(all.control - self.before.1.control, payload),
            faults: self.faults,
            dials_in_vain: self.dials_in_vain,
            prove_once: self.scenario.prove_once,
            events: self.events,
            events_per_s: 0.0,
            wall_s: 0.0,
            peak_rss_bytes: 0,
            trace_hash: self.trace.finish(),
            scenario: self.scenario.name,
        }
    }
}

fn group_report((group, of): (Group, &GroupTally)) -> GroupReport {
    GroupReport {
        group,
        viewers: of.tally.viewers,
        continuity: of.tally.continuity(),
        block_lag_ms: of.block_lag.percentiles(),
        startup_ms: startup(&of.startup, of.never_started),
    }
}

fn startup(times: &Histogram, never: u64) -> Startup {
    let Percentiles { p50, p99, .. } = times.percentiles();
    Startup { p50, p99, never }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The greedy reference for a scenario.
fn reference(scenario: &Scenario, classes: &[Class]) -> Reference {
    let block_bits = f64::from(scenario.piece_length.min(BLOCK_LEN)) * 8.0;
    Reference {
        viewers: scenario.viewers as usize,
        classes: classes.iter().map(|class| (class.share, class.times)).collect(),
        hop_s: (scenario.network.hop_min_ms + scenario.network.hop_max_ms) / 2e3,
        source_copies: scenario.source_copies,
        block_s: block_bits / scenario.bitrate as f64,
    }
}

/// An exponentially distributed number of mean 1, by comparisons alone (von Neumann 1951): no
/// logarithm, whose last digit may differ between machines.
fn exponential(rng: &mut Rng) -> f64 {
    let mut whole = 0.0;
    loop {
        let first = rng.unit();
        let mut last = first;
        let mut run = 1;
        loop {
            let next = rng.unit();
            if next >= last {
                break;
            }
            (last, run) = (next, run + 1);
        }
        if run % 2 == 1 {
            return whole + first;
        }
        whole += 1.0;
    }
}

/// What the trace keeps of an input: kind, place, amount.
fn digest(input: &In) -> (u8, u64, u64) {
    match input {
        In::Tick => (0, 0, 0),
        In::Up { link, dialled, .. } => (1, link.0, u64::from(*dialled)),
        In::DialFailed { addr } => (2, u64::from(addr.port()), 0),
        In::Frame { link, frame } => {
            let kind = frame.first().copied().map_or(0, u64::from);
            (3, link.0, (frame.len() as u64) << 8 | kind)
        }
        In::Frames { link, frames } => {
            let bytes: usize = frames.iter().map(Bytes::len).sum();
            (12, link.0, (bytes as u64) << 8 | frames.len() as u64 & 0xff)
        }
        In::Malformed { link, .. } => (4, link.0, 0),
        In::Sent { link, bytes } => (5, link.0, *bytes as u64),
        In::Down { link } => (6, link.0, 0),
        In::Found { addrs, .. } => (7, 0, addrs.len() as u64),
        In::Ingest(bytes) => (8, 0, bytes.len() as u64),
        In::AddReader { .. } => (9, 0, 0),
        In::ReaderCredit { pieces, .. } => (10, 0, u64::from(*pieces)),
        _ => (11, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Happening;
    use super::super::toy::{Faults, Toys};
    use super::*;

    fn scenario(text: &str) -> Scenario {
        let base = "viewers = 12\nbitrate = 1_000_000\nresource_index = 8.0\n\
                    source_copies = 6.0\nlead_s = 0\n\
                    warm_up_s = 4\nduration_s = 10\nchecks = \"all\"\n";
        Scenario::parse(&format!("{base}{text}")).expect("valid scenario")
    }

    fn run(text: &str) -> Report {
        World::new(scenario(text), Toys(Faults::default())).run().expect("no violation")
    }

    fn violation(text: &str, faults: Faults) -> String {
        let got = World::new(scenario(text), Toys(faults)).run();
        got.expect_err("a violation").to_string()
    }

    #[test]
    fn a_steady_swarm_plays_everything_in_time() {
        let report = run("");
        assert_eq!(report.continuity, 1.0, "{report:?}");
        assert!(report.block_lag_ms.p50 > 40.0 && report.block_lag_ms.p99 < 2_500.0);
        assert!(report.source_copies > 0.9 && report.source_copies <= 6.05);
        assert_eq!(report.startup_ms.never, 0);
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_and_another_seed_another_one() {
        let (a, b, c) = (run("seed = 5"), run("seed = 5"), run("seed = 6"));
        assert_eq!(a, b);
        assert_ne!(a.trace_hash, c.trace_hash);
    }

    #[test]
    fn how_the_stream_is_cut_changes_nothing_but_timing() {
        for cut in ["0", "1"] {
            let report = run(&format!("[network]\ncut = {cut}\njitter_ms = 5"));
            assert_eq!(report.continuity, 1.0, "cut {cut}: {report:?}");
        }
    }

    #[test]
    fn whatever_happens_ends_without_a_violation() {
        for kind in [
            "leave",
            "crash",
            "vanish",
            "freeze",
            "stall_reader",
            "partition",
            "reset",
            "clock_jump",
            "source_silence",
            "tracker_down",
            "join",
        ] {
            let text = format!(
                "[[event]]\nat_s = 6\nkind = \"{kind}\"\nshare = 0.3\ncount = 1\nfor_s = 2\n\
                 by_s = 3600"
            );
            let report = run(&text);
            assert!(report.continuity > 0.5, "{kind}: {report:?}");
        }
    }

    #[test]
    fn a_partition_is_seen_and_heals() {
        let event = "[[event]]\nat_s = 8\nkind = \"partition\"\nshare = 0.5\nfor_s = 2\n\
                     caught_up_s = 3";
        let report = run(event);
        assert!(report.continuity > 0.8, "{report:?}");
        assert!(report.block_lag_ms.max > 1_000.0, "{report:?}");
        let of = |group| report.groups.iter().find(|g| g.group == group).map(|g| g.viewers);
        assert_eq!((of(Group::First), of(Group::CutOff)), (Some(12), Some(6)));
    }

    #[test]
    fn some_of_those_who_leave_vanish_and_the_others_are_watched() {
        let event = "[[event]]\nat_s = 8\nkind = \"leave\"\nshare = 0.5\nvanish = 0.5\n\
                     watch_s = 5";
        let report = run(event);
        let of = |group| report.groups.iter().find(|g| g.group == group).map(|g| g.viewers);
        assert_eq!((of(Group::Stayers), of(Group::Leavers)), (Some(6), Some(6)));
        assert!(report.recovery.is_some_and(|r| r.feed_again_ms.max > 0.0), "{report:?}");
    }

    #[test]
    fn a_source_comes_back_with_what_it_had_stored() {
        let report = run("[[event]]\nat_s = 8\nkind = \"source_crash\"\nfor_s = 2\n");
        assert!(report.continuity > 0.9, "{report:?}");
    }

    #[test]
    fn churn_replaces_who_leaves() {
        let report = run("[churn]\nsession_mean_s = 8\nvanish = 0.3");
        assert!(report.classes[0].viewers > 16, "{report:?}");
        assert!(report.continuity > 0.8, "{report:?}");
    }

    #[test]
    fn stallers_and_polluters_do_what_they_are_there_for() {
        let found = violation("polluters = 0.4", Faults::default());
        assert!(found.contains("never broadcast") || found.contains("differs"), "{found}");
        let report = run("stallers = 0.3");
        assert!(report.continuity < 1.0, "{report:?}");
    }

    #[test]
    fn faults_of_a_machine_are_found() {
        let careless = Faults { careless: true, ..Faults::default() };
        assert!(violation("", careless).contains("without a skip"));
        let stuck = Faults { stuck: true, ..Faults::default() };
        assert!(violation("", stuck).contains("its deadline stands"));
        let bloated = Faults { bloated: Some(20), ..Faults::default() };
        assert!(violation("", bloated).contains("21 pieces"));
    }

    #[test]
    fn who_is_cut_off_for_good_is_found() {
        let mut scenario = scenario("");
        scenario.event.push(Happening {
            at_s: 6.0,
            kind: Kind::Partition,
            share: 0.5,
            count: 0,
            for_s: 600.0,
            by_s: 0.0,
            vanish: 0.0,
            lose_state: false,
            caught_up_s: 0.0,
            watch_s: 0.0,
        });
        let mut world = World::new(scenario, Toys(Faults::default()));
        world.queue.push(Time(14_000_000), Event::CaughtUp);
        let found = world.run().expect_err("a violation").to_string();
        assert!(found.contains("has not caught up"), "{found}");
    }

    #[test]
    fn sessions_have_the_mean_they_should() {
        let mut rng = Rng::new(3);
        let mean = (0..100_000).map(|_| exponential(&mut rng)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }
}
