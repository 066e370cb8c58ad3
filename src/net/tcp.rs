//! TCP: a listener, dials with a limit, and per connection one task that reads frames and one that
//! writes what it is handed. They move bytes and decide nothing.
#![allow(clippy::disallowed_methods)]

use std::io::{self, IoSlice};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::units::Link;
use crate::wire::message::{Splitter, WireError};

/// A dial that takes longer comes to nothing.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The kernel's send buffer: what is in it can no longer be put in another order.
const SEND_BUFFER_LEN: usize = 64 << 10;
/// Writes that wait for one connection; the machine bounds their bytes.
const WRITES_MAX: usize = 4096;
/// Slices handed to the kernel at once.
const SLICES_MAX: usize = 64;
/// What a closed connection still has to write is given up after this long: who does not read must
/// not hold its buffers for ever.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// What the sockets tell.
#[derive(Debug)]
pub enum NetEvent {
    /// Somebody connected.
    Accepted {
        /// The connection.
        stream: TcpStream,
        /// The other end.
        addr: SocketAddr,
    },
    /// A dial ended.
    Dialled {
        /// Whom.
        addr: SocketAddr,
        /// The connection, or why there is none.
        result: io::Result<TcpStream>,
    },
    /// Whole frames came.
    Frames {
        /// On which connection.
        link: Link,
        /// In order.
        frames: Vec<Bytes>,
    },
    /// The bytes cannot be split into frames; nothing more is read.
    Malformed {
        /// On which connection.
        link: Link,
        /// What is wrong.
        error: WireError,
    },
    /// Bytes left for the network.
    Sent {
        /// On which connection.
        link: Link,
        /// How many.
        bytes: usize,
    },
    /// A connection ended.
    Down {
        /// Which one.
        link: Link,
    },
}

/// The driver's end of a connection; dropping it closes the connection once what was handed over
/// has been written, or after a few seconds.
#[derive(Debug)]
pub struct Connection {
    writes: mpsc::Sender<(Bytes, Bytes)>,
    reader: tokio::task::AbortHandle,
    /// Tells the writer by its end that the connection is to be closed.
    _open: oneshot::Sender<()>,
}

impl Connection {
    /// Starts the two tasks of a connection.
    #[must_use]
    pub fn start(link: Link, stream: TcpStream, events: &mpsc::Sender<NetEvent>) -> Self {
        let _ = stream.set_nodelay(true);
        let socket = SockRef::from(&stream);
        let _ = socket.set_send_buffer_size(SEND_BUFFER_LEN);
        let (read, write) = stream.into_split();
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        let reader = tokio::spawn(read_frames(link, read, events.clone())).abort_handle();
        let (open, closed) = oneshot::channel::<()>();
        let writer = write_out(link, write, queue, events.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = writer => {}
                () = async { let _ = closed.await; tokio::time::sleep(LAST_WORDS).await } => {}
            }
        });
        Self { writes, reader, _open: open }
    }

    /// Hands bytes over; false if the connection does not take any more.
    #[must_use]
    pub fn send(&self, head: Bytes, body: Bytes) -> bool {
        self.writes.try_send((head, body)).is_ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_frames(link: Link, mut read: OwnedReadHalf, events: mpsc::Sender<NetEvent>) {
    let mut splitter = Splitter::new();
    loop {
        match read.read_buf(splitter.space()).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let mut frames = Vec::new();
        let malformed = loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !frames.is_empty() && events.send(NetEvent::Frames { link, frames }).await.is_err() {
            return;
        }
        if let Some(error) = malformed {
            let _ = events.send(NetEvent::Malformed { link, error }).await;
            return;
        }
    }
    let _ = events.send(NetEvent::Down { link }).await;
}

async fn write_out(
    link: Link,
    mut write: OwnedWriteHalf,
    mut queue: mpsc::Receiver<(Bytes, Bytes)>,
    events: mpsc::Sender<NetEvent>,
) {
    let mut batch = Vec::with_capacity(SLICES_MAX / 2);
    while queue.recv_many(&mut batch, SLICES_MAX / 2).await > 0 {
        let mut parts: Vec<Bytes> = batch
            .drain(..)
            .flat_map(|(head, body)| [head, body])
            .filter(Bytes::has_remaining)
            .collect();
        let mut first = 0;
        while first < parts.len() {
            let slices: Vec<IoSlice<'_>> =
                parts.iter().skip(first).map(|part| IoSlice::new(part)).collect();
            let Ok(mut written) = write.write_vectored(&slices).await else {
                let _ = events.send(NetEvent::Down { link }).await;
                return;
            };
            if written == 0 {
                let _ = events.send(NetEvent::Down { link }).await;
                return;
            }
            let bytes = written;
            for part in parts.iter_mut().skip(first) {
                let taken = written.min(part.len());
                part.advance(taken);
                written -= taken;
                if part.has_remaining() {
                    break;
                }
                first += 1;
            }
            if events.send(NetEvent::Sent { link, bytes }).await.is_err() {
                return;
            }
        }
    }
    let _ = write.shutdown().await;
}

/// Opens a listener on `addr`; an unspecified IPv6 address takes IPv4 connections too.
///
/// # Errors
/// The address is in use, or not ours.
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until `events` is closed.
pub async fn accept(listener: TcpListener, events: mpsc::Sender<NetEvent>) {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                if events.send(NetEvent::Accepted { stream, addr }).await.is_err() {
                    return;
                }
            }
            // Out of descriptors, or a connection that was gone before it was accepted: neither
            // gets better by trying at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Dials `addr`, and says how it went.
pub fn dial(addr: SocketAddr, events: mpsc::Sender<NetEvent>) {
    tokio::spawn(async move {
        let connecting = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(addr));
        let result = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let _ = events.send(NetEvent::Dialled { addr, result }).await;
    });
}
