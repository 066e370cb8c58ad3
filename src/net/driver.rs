//! The task that owns a swarm: takes what sockets, readers and commands bring, hands it to the
//! machine with the time, and does what the machine wants.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::readers::{ReaderHandle, open_reader};
use super::state::{State, StateError};
use super::tcp::{Connection, NetEvent, accept, dial};
use crate::discovery::address::canonical;
use crate::machine::{Machine, drain};
use crate::swarm::Swarm;
use crate::swarm::config::Config;
use crate::swarm::io::{Delay, Delivery, Event, In, Out, ReaderId, Record};
use crate::swarm::status::Status;
use crate::units::Link;

/// Events of sockets that wait for the machine.
const NET_EVENTS_MAX: usize = 256;
/// Asks that wait for the machine.
const ASKS_MAX: usize = 64;
/// Events that wait to be told; more are counted and dropped.
const EVENTS_MAX: usize = 256;
/// What a stop leaves for last words to be written.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// What the rest of the program asks of a node.
#[derive(Debug)]
enum Ask {
    Input(In),
    Reader { delay: Delay, answer: oneshot::Sender<ReaderHandle> },
    Status { answer: oneshot::Sender<Snapshot> },
    Stop { answer: oneshot::Sender<()> },
}

impl From<In> for Ask {
    fn from(input: In) -> Self {
        Self::Input(input)
    }
}

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The swarm.
    pub status: Status,
    /// What a source does.
    pub source_mode: Option<&'static str>,
    /// Whether a source has signed the end and everybody connected has the last piece.
    pub is_drained: bool,
    /// Readers that are open.
    pub readers: usize,
    /// How much of the stream its torrent lets peers keep, in microseconds, once that is known.
    pub stream_window_us: Option<u64>,
    /// Microseconds since the driver started until the first piece was handed to a reader.
    pub first_delivery_us: Option<u64>,
}

/// The way to a running node. Clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Node {
    asks: mpsc::Sender<Ask>,
    addr: Option<SocketAddr>,
}

/// A running node and what it tells.
#[derive(Debug)]
pub struct Running {
    /// The way to it.
    pub node: Node,
    /// What happens in it.
    pub events: mpsc::Receiver<Event>,
    task: JoinHandle<Result<(), StateError>>,
    acceptor: Option<tokio::task::AbortHandle>,
}

impl Running {
    /// Starts a node that listens on `listener`, or lets nobody in without one, and keeps its state
    /// in `state`.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(
        config: Config,
        listener: Option<TcpListener>,
        state: Option<State>,
    ) -> std::io::Result<Self> {
        let addr = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let (asks_tx, asks) = mpsc::channel(ASKS_MAX);
        let (net_tx, net) = mpsc::channel(NET_EVENTS_MAX);
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        let acceptor =
            listener.map(|listener| tokio::spawn(accept(listener, net_tx.clone())).abort_handle());
        let driver = Driver {
            swarm: Swarm::new(config),
            clock: Clock::start(),
            asks,
            asks_tx: asks_tx.clone(),
            net,
            net_tx,
            events: events_tx,
            state,
            connections: BTreeMap::new(),
            readers: BTreeMap::new(),
            next_link: 0,
            next_reader: 0,
            handed: Handed::default(),
            acceptor: acceptor.clone(),
            failed: None,
        };
        let task = tokio::spawn(driver.run());
        Ok(Self { node: Node { asks: asks_tx, addr }, events, task, acceptor })
    }

    /// Ends the node at once, as the death of its process would: nobody is told, and when this
    /// returns its files are closed.
    pub async fn kill(self) {
        if let Some(acceptor) = &self.acceptor {
            acceptor.abort();
        }
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until the node has stopped by itself or after [`Node::stop`].
    ///
    /// # Errors
    /// The state could not be written.
    pub async fn ended(&mut self) -> Result<(), StateError> {
        (&mut self.task).await.unwrap_or(Ok(()))
    }
}

impl Node {
    /// The address it listens on, if it does.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Hands an input to the machine; waits while it is busy. False if the node is gone.
    pub async fn input(&self, input: In) -> bool {
        self.asks.send(Ask::Input(input)).await.is_ok()
    }

    /// Adds a reader at `delay`.
    pub async fn open_reader(&self, delay: Delay) -> Option<ReaderHandle> {
        let (answer, reader) = oneshot::channel();
        self.asks.send(Ask::Reader { delay, answer }).await.ok()?;
        reader.await.ok()
    }

    /// How it fares; `None` if the node is gone.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (answer, snapshot) = oneshot::channel();
        self.asks.send(Ask::Status { answer }).await.ok()?;
        snapshot.await.ok()
    }

    /// Leaves the swarm.
    pub async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        if self.asks.send(Ask::Stop { answer }).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

/// What all readers were handed, also those that have left.
#[derive(Clone, Copy, Debug, Default)]
struct Handed {
    pieces: u64,
    missed: u64,
    first_us: Option<u64>,
}

impl Handed {
    fn count(&mut self, now_us: u64, item: &Delivery) {
        match item {
            Delivery::Piece { .. } => {
                self.pieces += 1;
                self.first_us.get_or_insert(now_us);
            }
            // Nobody knows how many pieces a broken epoch lacks: at least one.
            Delivery::Skip { pieces, .. } => self.missed += u64::from(*pieces).max(1),
            Delivery::End => {}
        }
    }
}

struct Driver {
    swarm: Swarm,
    clock: Clock,
    asks: mpsc::Receiver<Ask>,
    asks_tx: mpsc::Sender<Ask>,
    net: mpsc::Receiver<NetEvent>,
    net_tx: mpsc::Sender<NetEvent>,
    events: mpsc::Sender<Event>,
    state: Option<State>,
    connections: BTreeMap<Link, Connection>,
    readers: BTreeMap<ReaderId, mpsc::Sender<Delivery>>,
    next_link: u64,
    next_reader: u64,
    handed: Handed,
    acceptor: Option<tokio::task::AbortHandle>,
    failed: Option<StateError>,
}

impl Driver {
    async fn run(mut self) -> Result<(), StateError> {
        self.feed(In::Tick);
        let stopped = loop {
            let deadline = self.swarm.deadline();
            tokio::select! {
                Some(event) = self.net.recv() => self.net_event(event),
                Some(ask) = self.asks.recv() => match ask {
                    Ask::Stop { answer } => break Some(answer),
                    other => self.ask(other),
                },
                () = self.clock.sleep_until(deadline) => self.feed(In::Tick),
                else => break None,
            }
            if self.failed.is_some() {
                break None;
            }
        };
        if let Some(acceptor) = &self.acceptor {
            acceptor.abort();
        }
        self.feed(In::Stop);
        // Last words are written by the connections' own tasks.
        tokio::time::sleep(STOP_GRACE).await;
        if let Some(answer) = stopped {
            let _ = answer.send(());
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Input(input) => {
                if let In::RemoveReader { reader } = &input {
                    self.readers.remove(reader);
                }
                self.feed(input);
            }
            Ask::Reader { delay, answer } => {
                let reader = ReaderId(self.next_reader);
                self.next_reader += 1;
                let (deliveries, handle) = open_reader(reader, self.asks_tx.clone());
                if answer.send(handle).is_ok() {
                    self.readers.insert(reader, deliveries);
                    self.feed(In::AddReader { reader, delay });
                }
            }
            Ask::Status { answer } => {
                let now = self.clock.now();
                let mut status = self.swarm.status(now);
                // The swarm forgets a reader that has left; its share still counts.
                status.played.pieces = status.played.pieces.max(self.handed.pieces);
                status.played.missed = status.played.missed.max(self.handed.missed);
                let first_delivery_us = self.handed.first_us;
                let _ = answer.send(Snapshot {
                    source_mode: self.swarm.source_mode(),
                    is_drained: self.swarm.is_drained(),
                    readers: self.readers.len(),
                    stream_window_us: self.swarm.torrent().map(|t| t.stream.window_us),
                    first_delivery_us,
                    status,
                });
            }
            Ask::Stop { .. } => {}
        }
    }

    fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Accepted { stream, addr } => self.connected(stream, addr, false),
            NetEvent::Dialled { addr, result } => match result {
                Ok(stream) => self.connected(stream, addr, true),
                Err(error) => {
                    tracing::debug!(%addr, %error, "dial failed");
                    self.feed(In::DialFailed { addr });
                }
            },
            NetEvent::Frames { link, frames } => {
                if self.connections.contains_key(&link) {
                    self.feed(In::Frames { link, frames });
                }
            }
            NetEvent::Malformed { link, error } => {
                if self.connections.contains_key(&link) {
                    self.feed(In::Malformed { link, error });
                }
            }
            NetEvent::Sent { link, bytes } => {
                if self.connections.contains_key(&link) {
                    self.feed(In::Sent { link, bytes });
                }
            }
            NetEvent::Down { link } => {
                if self.connections.remove(&link).is_some() {
                    self.feed(In::Down { link });
                }
            }
        }
    }

    fn connected(&mut self, stream: tokio::net::TcpStream, addr: SocketAddr, dialled: bool) {
        let link = Link(self.next_link);
        self.next_link += 1;
        self.connections.insert(link, Connection::start(link, stream, &self.net_tx));
        // What was dialled keeps the name under which the machine knows it.
        let addr = if dialled { addr } else { canonical(addr) };
        self.feed(In::Up { link, addr, dialled });
    }

    fn feed(&mut self, input: In) {
        let now = self.clock.now();
        let mut outs = Vec::new();
        drain(&mut self.swarm, now, input, |out| outs.push(out));
        let mut broken = Vec::new();
        for out in outs {
            self.act(out, &mut broken);
        }
        for link in broken {
            if self.connections.remove(&link).is_some() {
                self.feed(In::Down { link });
            }
        }
    }

    fn act(&mut self, out: Out, broken: &mut Vec<Link>) {
        if self.failed.is_some() {
            // What could not be written down must not be seen by anybody, nor what follows from it.
            return;
        }
        match out {
            Out::Dial { addr } => dial(addr, self.net_tx.clone()),
            Out::Send { link, head, body } => {
                let taken = self.connections.get(&link).is_none_or(|c| c.send(head, body));
                if !taken {
                    broken.push(link);
                }
            }
            Out::Close { link } => {
                self.connections.remove(&link);
            }
            Out::Persist(record) => self.persist(&record),
            Out::Deliver { reader, item } => {
                self.handed.count(self.clock.now().mono.0, &item);
                let full = self.readers.get(&reader).is_some_and(|r| r.try_send(item).is_err());
                if full {
                    // Gone, or it does not take what it gave credit for.
                    self.readers.remove(&reader);
                }
            }
            Out::Event(event) => {
                tell(&event);
                let _ = self.events.try_send(event);
            }
        }
    }

    fn persist(&mut self, record: &Record) {
        let Some(state) = &mut self.state else { return };
        if let Err(error) = state.write(record) {
            match record {
                // A source must not let anybody see what it could not write down.
                Record::Published(_) => self.failed = Some(error),
                _ => tracing::warn!(%error, "the state could not be written"),
            }
        }
    }
}

/// Tells the log.
fn tell(event: &Event) {
    match event {
        Event::PeerLeft { addr, reason, fault: true } => {
            tracing::warn!(%addr, reason, "dropped a peer that broke a rule");
        }
        Event::PeerLeft { addr, reason, .. } => tracing::debug!(%addr, reason, "a peer left"),
        Event::PeerJoined { link, addr } => tracing::debug!(%link, %addr, "a peer joined"),
        Event::Equivocation { at } => {
            tracing::warn!(%at, "the broadcaster signed two different entries for one place");
        }
        Event::NeedsNewer { at } => {
            tracing::warn!(%at, "the stream needs a newer version of this program");
        }
        Event::Superseded { by } => {
            tracing::warn!(%by, "another broadcaster with this key is ahead; following it");
        }
        Event::EpochChanged { epoch } => tracing::info!(%epoch, "the stream is in a new epoch"),
        Event::NotLive => tracing::warn!("this is not a live torrent"),
        Event::Private => tracing::debug!("the torrent is private"),
        Event::MetadataComplete => tracing::debug!("the info dictionary is here"),
        Event::Published { .. } | Event::Ended => {}
    }
}
