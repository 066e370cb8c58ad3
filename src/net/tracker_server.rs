//! Our own small tracker on the network: HTTP and UDP, any number of sockets, one owner.
//!
//! Socket tasks turn bytes into jobs and answers into bytes; the [`TrackerStore`] belongs to the
//! one task that runs [`TrackerServer::run`]. An HTTP client gets five seconds, 8 KiB and one
//! request; at most 512 are served at once.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::clock::Clock;
use crate::discovery::connection_id::ConnectionIds;
use crate::discovery::tracker_store::{Counts, StoreFault, TrackerStore};
use crate::units::InfoHash;
use crate::wire::limits;
use crate::wire::tracker::http::{Answer, Form, Query, QueryFault, ScrapeAnswer, scrape_query};
use crate::wire::tracker::udp::{Request, Response};
use crate::wire::tracker::{Announce, Family, Refusal, Reply, Swarm};

/// HTTP connections at once; more wait in the kernel.
const CONNECTIONS_MAX: usize = 512;
/// Bytes of an HTTP request head.
const HEAD_LEN_MAX: usize = 8 << 10;
/// Time that an HTTP client gets for its request and for taking the answer.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Jobs that wait for the store.
const JOBS_MAX: usize = 256;
/// Peers in one datagram, so that it fits an Ethernet frame.
const UDP_PEERS_LEN_MAX: usize = 1400;
/// How often old peers are looked for and counts are published.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// A tracker whose sockets are bound.
#[derive(Debug)]
pub struct TrackerServer {
    http: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    store: TrackerStore,
}

/// What the store is asked.
enum Job {
    Announce {
        from: SocketAddr,
        announce: Box<Announce>,
        peers_max: usize,
        answer: oneshot::Sender<Result<Reply, StoreFault>>,
    },
    Scrape {
        hashes: Vec<InfoHash>,
        answer: oneshot::Sender<Vec<Swarm>>,
    },
}

impl TrackerServer {
    /// Binds all addresses; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// The first address that cannot be bound, with the reason.
    pub fn bind(
        http: &[SocketAddr],
        udp: &[SocketAddr],
        store: TrackerStore,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let http = http.iter().map(|addr| listen(*addr).map_err(|e| (*addr, e)));
        let udp = udp.iter().map(|addr| bind_udp(*addr).map_err(|e| (*addr, e)));
        Ok(Self {
            http: http.collect::<Result<_, _>>()?,
            udp: udp.collect::<Result<_, _>>()?,
            store,
        })
    }

    /// The addresses that HTTP listens on.
    #[must_use]
    pub fn http_addrs(&self) -> Vec<SocketAddr> {
        self.http.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The addresses that UDP listens on.
    #[must_use]
    pub fn udp_addrs(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Serves until `whitelists` is closed; what it brings replaces the whitelist. `secret` keys
    /// the connection ids of this run.
    pub async fn run(
        self,
        secret: [u8; 32],
        mut whitelists: mpsc::Receiver<BTreeSet<InfoHash>>,
        counts: watch::Sender<Counts>,
    ) {
        let Self { http, udp, mut store } = self;
        let (sender, mut jobs) = mpsc::channel(JOBS_MAX);
        let clock = Clock::start();
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Dropping the set at the end ends all tasks.
        let mut tasks = JoinSet::new();
        for listener in http {
            tasks.spawn(serve_http(listener, sender.clone(), Arc::clone(&slots)));
        }
        let ids = ConnectionIds::new(secret);
        for socket in udp {
            tasks.spawn(serve_udp(socket, sender.clone(), ids.clone(), clock));
        }
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            tokio::select! {
                Some(job) = jobs.recv() => do_job(&mut store, &clock, job),
                whitelist = whitelists.recv() => match whitelist {
                    Some(whitelist) => store.set_whitelist(whitelist),
                    None => return,
                },
                _ = housekeeping.tick() => {
                    store.expire(clock.now().mono);
                    counts.send_replace(store.counts());
                }
            }
        }
    }
}

fn do_job(store: &mut TrackerStore, clock: &Clock, job: Job) {
    // Whoever asked may be gone; the announce counts all the same.
    match job {
        Job::Announce { from, announce, peers_max, answer } => {
            let reply = store.announce(clock.now().mono, from.ip(), &announce, peers_max);
            let _ = answer.send(reply);
        }
        Job::Scrape { hashes, answer } => {
            let _ = answer.send(store.scrape(&hashes));
        }
    }
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        // [::] serves IPv4 too, under its mapped addresses.
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

async fn announce_job(
    jobs: &mpsc::Sender<Job>,
    from: SocketAddr,
    announce: Announce,
    peers_max: usize,
) -> Option<Result<Reply, StoreFault>> {
    let (answer, reply) = oneshot::channel();
    let announce = Box::new(announce);
    jobs.send(Job::Announce { from, announce, peers_max, answer }).await.ok()?;
    reply.await.ok()
}

async fn scrape_job(jobs: &mpsc::Sender<Job>, hashes: Vec<InfoHash>) -> Option<Vec<Swarm>> {
    let (answer, reply) = oneshot::channel();
    jobs.send(Job::Scrape { hashes, answer }).await.ok()?;
    reply.await.ok()
}

async fn serve_udp(socket: UdpSocket, jobs: mpsc::Sender<Job>, ids: ConnectionIds, clock: Clock) {
    let mut buffer = vec![0u8; limits::TRACKER_DATAGRAM_LEN_MAX];
    loop {
        // Errors are other people's ICMP; the socket stays good.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        let raw = buffer.get(..len).unwrap_or_default();
        // What is no request gets no answer: it may be a reflection.
        let Ok(request) = Request::parse(raw) else { continue };
        let Some(response) = answer_udp(&jobs, &ids, &clock, from, request).await else { continue };
        let reply = response.encode();
        // An address that may be forged never gets more bytes than came in its name.
        if !matches!(response, Response::Error { .. }) || reply.len() <= len {
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn answer_udp(
    jobs: &mpsc::Sender<Job>,
    ids: &ConnectionIds,
    clock: &Clock,
    from: SocketAddr,
    request: Request,
) -> Option<Response> {
    let now = clock.now().mono;
    let (connection, transaction) = match &request {
        Request::Connect { transaction } => {
            let connection = ids.make(now, from.ip());
            return Some(Response::Connect { transaction: *transaction, connection });
        }
        Request::Announce { connection, transaction, .. }
        | Request::Scrape { connection, transaction, .. } => (*connection, *transaction),
    };
    if !ids.check(now, from.ip(), connection) {
        let message = "connection id unknown or older than two minutes".to_owned();
        return Some(Response::Error { transaction, message });
    }
    match request {
        Request::Connect { .. } => None,
        Request::Announce { announce, .. } => {
            let canonical = crate::discovery::address::canonical(from);
            let peers_max = UDP_PEERS_LEN_MAX / Family::of(&canonical).stride();
            Some(match announce_job(jobs, from, announce, peers_max).await? {
                Ok(reply) => Response::Announce { transaction, reply },
                Err(fault) => Response::Error { transaction, message: fault.to_string() },
            })
        }
        Request::Scrape { hashes, .. } => {
            let swarms = scrape_job(jobs, hashes).await?;
            Some(Response::Scrape { transaction, swarms })
        }
    }
}

async fn serve_http(listener: TcpListener, jobs: mpsc::Sender<Job>, slots: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else {
            // Out of file descriptors: others must end first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let jobs = jobs.clone();
        connections.spawn(async move {
            let _ = tokio::time::timeout(HTTP_TIMEOUT, serve_one(stream, from, jobs)).await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_one(mut stream: TcpStream, from: SocketAddr, jobs: mpsc::Sender<Job>) {
    let (status, body) = match read_head(&mut stream).await {
        Some(head) => answer_http(&head, from, &jobs).await,
        None => ("400 Bad Request", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
    let _ = stream.shutdown().await;
}

/// The request up to its empty line, if it comes within the limit.
async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    let mut chunk = [0u8; 1024];
    loop {
        let len = stream.read(&mut chunk).await.ok()?;
        head.extend_from_slice(chunk.get(..len).filter(|chunk| !chunk.is_empty())?);
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            return Some(head);
        }
        if head.len() > HEAD_LEN_MAX {
            return None;
        }
    }
}

async fn answer_http(
    head: &[u8],
    from: SocketAddr,
    jobs: &mpsc::Sender<Job>,
) -> (&'static str, Vec<u8>) {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != b"GET" {
        return ("405 Method Not Allowed", Vec::new());
    }
    let mut parts = target.splitn(2, |&b| b == b'?');
    let (path, query) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let served = match path.rsplit(|&b| b == b'/').next().unwrap_or_default() {
        b"announce" => announce_http(query, from, jobs).await,
        b"scrape" => scrape_http(query, jobs).await,
        _ => return ("404 Not Found", Vec::new()),
    };
    match served {
        Some(body) => ("200 OK", body),
        None => ("503 Service Unavailable", Vec::new()),
    }
}

fn refusal(reason: &impl ToString) -> Vec<u8> {
    let refusal = Refusal { reason: reason.to_string(), retry: None };
    Answer::Refused(refusal).encode(Form::Compact)
}

async fn announce_http(
    query: &[u8],
    from: SocketAddr,
    jobs: &mpsc::Sender<Job>,
) -> Option<Vec<u8>> {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(fault) => return Some(refusal(&fault)),
    };
    let max = limits::PEERS_PER_REPLY_MAX;
    Some(match announce_job(jobs, from, query.announce, max).await? {
        Ok(mut reply) => {
            if query.no_peer_id {
                reply.peers.iter_mut().for_each(|peer| peer.id = None);
            }
            let form = if query.compact { Form::Compact } else { Form::Dicts };
            Answer::Reply(reply).encode(form)
        }
        Err(fault) => refusal(&fault),
    })
}

async fn scrape_http(query: &[u8], jobs: &mpsc::Sender<Job>) -> Option<Vec<u8>> {
    let hashes = match scrape_query(query) {
        Ok(hashes) if hashes.is_empty() => return Some(refusal(&QueryFault::Missing("info_hash"))),
        Ok(hashes) => hashes,
        Err(fault) => return Some(refusal(&fault)),
    };
    let swarms = scrape_job(jobs, hashes.clone()).await?;
    Some(ScrapeAnswer::Swarms(hashes.into_iter().zip(swarms).collect()).encode())
}
