//! Trackers over UDP: one task, one socket a family, one machine a socket.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use super::clock::{Clock, seed};
use crate::discovery::fault::TrackerFault;
use crate::discovery::udp_tracker::{Answer, ExchangeId, In, Out, Query, UdpTrackers};
use crate::machine::{Machine, Rng, drain};
use crate::units::Time;
use crate::wire::limits;
use crate::wire::tracker::Family;

/// Requests that wait for the task.
const QUEUE_MAX: usize = 64;

struct Request {
    to: SocketAddr,
    query: Query,
    timeout: Duration,
    answer: oneshot::Sender<Result<Answer, TrackerFault>>,
}

/// A handle on the task; the task ends with the last handle.
#[derive(Clone, Debug)]
pub struct UdpClient(mpsc::Sender<Request>);

impl UdpClient {
    /// Starts the task of one family on the current runtime.
    ///
    /// # Errors
    /// The family has no socket on this machine.
    pub fn start(family: Family) -> io::Result<Self> {
        let socket = bind(family)?;
        let (sender, requests) = mpsc::channel(QUEUE_MAX);
        let trackers = UdpTrackers::new(Rng::new(seed()));
        let waiting = BTreeMap::new();
        let clock = Clock::start();
        tokio::spawn(Task { socket, trackers, waiting, clock, next: 0 }.run(requests));
        Ok(Self(sender))
    }

    /// Asks the tracker at `to`, which was judged.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        to: SocketAddr,
        query: Query,
        timeout: Duration,
    ) -> Result<Answer, TrackerFault> {
        let gone = || TrackerFault::Io("the UDP task has ended".to_owned());
        let (answer, reply) = oneshot::channel();
        let request = Request { to, query, timeout, answer };
        self.0.send(request).await.map_err(|_| gone())?;
        reply.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn bind(family: Family) -> io::Result<UdpSocket> {
    let (domain, addr): (_, SocketAddr) = match family {
        Family::V4 => (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()),
        Family::V6 => (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

struct Task {
    socket: UdpSocket,
    trackers: UdpTrackers,
    waiting: BTreeMap<ExchangeId, oneshot::Sender<Result<Answer, TrackerFault>>>,
    clock: Clock,
    next: u64,
}

impl Task {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut buffer = vec![0u8; limits::TRACKER_DATAGRAM_LEN_MAX];
        loop {
            let deadline = self.trackers.deadline();
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.take(request).await,
                    None => return,
                },
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is an unreachable tracker's ICMP: the exchange times out.
                    if let Ok((len, from)) = received {
                        let data = Bytes::copy_from_slice(buffer.get(..len).unwrap_or_default());
                        self.feed(In::Datagram { from, data }).await;
                    }
                }
                () = self.clock.sleep_until(deadline) => self.feed(In::Tick).await,
            }
        }
    }

    async fn take(&mut self, request: Request) {
        let id = ExchangeId(self.next);
        self.next += 1;
        let until: Time = self.clock.now().mono.after(request.timeout);
        self.waiting.insert(id, request.answer);
        self.feed(In::Ask { id, to: request.to, query: request.query, until }).await;
    }

    async fn feed(&mut self, input: In) {
        let mut outs = Vec::new();
        drain(&mut self.trackers, self.clock.now(), input, |out| outs.push(out));
        for out in outs {
            match out {
                Out::Send { to, data } => {
                    if let Err(error) = self.socket.send_to(&data, to).await {
                        tracing::debug!(%to, %error, "datagram to a tracker not sent");
                    }
                }
                Out::Done { id, outcome } => {
                    if let Some(answer) = self.waiting.remove(&id) {
                        // Nobody waits any more when the asker was cancelled.
                        let _ = answer.send(outcome);
                    }
                }
            }
        }
    }
}
