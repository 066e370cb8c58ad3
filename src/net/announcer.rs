//! The task that announces one swarm: an [`Announcer`] and the client that does what it wants.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::clock::Clock;
use super::trackers::TrackerClient;
use crate::discovery::announce::{Announcer, Ask, AskId, Config, In, Out, Row, STOP_MAX};
use crate::discovery::fault::TrackerFault;
use crate::machine::{Machine, drain};
use crate::wire::tracker::Reply;

/// Events that wait to be taken; what comes on top is dropped, trackers will list it again.
const EVENTS_MAX: usize = 64;
/// Time beyond [`STOP_MAX`] that the task gets to end by itself.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// How the swarm stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connected peers that take part.
    pub live_peers: usize,
    /// Bytes sent in this session.
    pub uploaded: u64,
    /// Bytes received in this session.
    pub downloaded: u64,
}

/// What the trackers bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Peers that may be dialled.
    Found(Vec<SocketAddr>),
    /// BEP 27: close all connections, the tracker was changed.
    DropPeers,
}

/// A running announcer. Dropping it says `stopped` too, but nobody waits for that to arrive.
#[derive(Debug)]
pub struct AnnouncerTask {
    counts: watch::Sender<Counts>,
    events: mpsc::Receiver<Event>,
    status: watch::Receiver<Vec<Row>>,
    task: JoinHandle<()>,
}

impl AnnouncerTask {
    /// Starts announcing on the current runtime.
    #[must_use]
    pub fn start(config: Config, client: Arc<TrackerClient>) -> Self {
        let (counts, counts_rx) = watch::channel(Counts::default());
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        let announcer = Announcer::new(config);
        let clock = Clock::start();
        let (status_tx, status) = watch::channel(announcer.status(clock.now().mono));
        let task = Task {
            announcer,
            client,
            clock,
            asks: JoinSet::new(),
            events: events_tx,
            status: status_tx,
            done: false,
        };
        Self { counts, events, status, task: tokio::spawn(task.run(counts_rx)) }
    }

    /// Says how the swarm stands; only the latest counts.
    pub fn update(&self, counts: Counts) {
        self.counts.send_if_modified(|old| std::mem::replace(old, counts) != counts);
    }

    /// The next event; `None` once the task has ended. Safe to cancel.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// How each tracker stands, as of its last change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Vec<Row>> {
        self.status.clone()
    }

    /// Ends at once and tells no tracker, as the death of the process would.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Says `stopped` to all trackers that know of us and ends within about two seconds, whatever
    /// they do.
    pub async fn stop(self) {
        let Self { counts, task, .. } = self;
        drop(counts);
        let abort = task.abort_handle();
        if tokio::time::timeout(STOP_MAX + STOP_GRACE, task).await.is_err() {
            abort.abort();
        }
    }
}

struct Task {
    announcer: Announcer,
    client: Arc<TrackerClient>,
    clock: Clock,
    asks: JoinSet<(AskId, Result<Reply, TrackerFault>)>,
    events: mpsc::Sender<Event>,
    status: watch::Sender<Vec<Row>>,
    done: bool,
}

impl Task {
    async fn run(mut self, mut counts: watch::Receiver<Counts>) {
        self.feed(In::Tick);
        let mut stopping = false;
        while !self.done {
            let deadline = self.announcer.deadline();
            tokio::select! {
                changed = counts.changed(), if !stopping => match changed {
                    Ok(()) => {
                        let now = *counts.borrow_and_update();
                        let Counts { live_peers, uploaded, downloaded } = now;
                        self.feed(In::Swarm { live_peers, uploaded, downloaded });
                    }
                    Err(_) => {
                        stopping = true;
                        // What is under way would only hold up `stopped`.
                        self.asks.abort_all();
                        self.feed(In::Stop);
                    }
                },
                Some(ended) = self.asks.join_next(), if !self.asks.is_empty() => {
                    if let Ok((id, outcome)) = ended {
                        self.feed(In::Answer { id, outcome });
                    }
                }
                () = self.clock.sleep_until(deadline) => self.feed(In::Tick),
            }
        }
    }

    fn feed(&mut self, input: In) {
        let now = self.clock.now();
        let mut outs = Vec::new();
        drain(&mut self.announcer, now, input, |out| outs.push(out));
        for out in outs {
            match out {
                Out::Ask(ask) => self.ask(*ask),
                Out::Found(addrs) => self.tell(Event::Found(addrs)),
                Out::DropPeers => self.tell(Event::DropPeers),
                Out::Done => self.done = true,
            }
        }
        self.status.send_replace(self.announcer.status(now.mono));
    }

    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::debug!("peers of a tracker dropped: the swarm does not take them");
        }
    }

    fn ask(&mut self, ask: Ask) {
        let client = Arc::clone(&self.client);
        self.asks.spawn(async move {
            let Ask { id, url, family, announce, tracker_id } = ask;
            let outcome = client.announce(&url, family, &announce, tracker_id.as_deref()).await;
            match &outcome {
                Ok(reply) => tracing::debug!(%url, ?family, peers = reply.peers.len(), "announced"),
                Err(fault) => tracing::debug!(%url, ?family, %fault, "announce failed"),
            }
            (id, outcome)
        });
    }
}
