//! A stream that arrives in datagrams, from one sender or by multicast.
//!
//! Senders do not keep to packet boundaries (some fill every datagram to its last byte), so the
//! payloads are taken as one stream of bytes.
#![allow(clippy::disallowed_methods)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info};

use super::ingest::{IngestError, IngestItem, UdpInput};

/// Asked of the kernel, so that a busy second loses nothing; it may grant less.
const RECEIVE_BUFFER_LEN: usize = 4 << 20;
/// The longest datagram.
const DATAGRAM_LEN_MAX: usize = 64 << 10;
/// Bytes that are handed on as one item.
const BATCH_LEN: usize = 64 << 10;

/// Opens the socket and joins the group.
pub(super) fn open(input: &UdpInput) -> Result<UdpSocket, IngestError> {
    let addr = input.addr;
    socket(input).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => IngestError::AddressInUse(addr),
        _ => IngestError::Address { addr, error },
    })
}

fn socket(input: &UdpInput) -> io::Result<UdpSocket> {
    let addr = input.addr;
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The kernel may cap it; a smaller buffer still works.
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN) {
        debug!(%error, "the receive buffer stays as it is");
    }
    let is_multicast = addr.ip().is_multicast();
    if is_multicast {
        socket.set_reuse_address(true)?;
    }
    // Bound to the group, the socket gets what is sent to the group and nothing else.
    socket.bind(&addr.into())?;
    if is_multicast {
        join(&socket, input)?;
    }
    UdpSocket::from_std(socket.into())
}

fn join(socket: &Socket, input: &UdpInput) -> io::Result<()> {
    let interface = input.interface.as_deref();
    match input.addr.ip() {
        IpAddr::V4(group) => match (input.source, interface_v4(interface)?) {
            (Some(IpAddr::V4(source)), InterfaceIndexOrAddress::Address(address)) => {
                socket.join_ssm_v4(&source, &group, &address)
            }
            (_, interface) => socket.join_multicast_v4_n(&group, &interface),
        },
        IpAddr::V6(group) => {
            let index = interface.map(interface_index).transpose()?.unwrap_or(0);
            socket.join_multicast_v6(&group, index)
        }
    }
}

fn interface_v4(interface: Option<&str>) -> io::Result<InterfaceIndexOrAddress> {
    let Some(name) = interface else {
        return Ok(InterfaceIndexOrAddress::Address(Ipv4Addr::UNSPECIFIED));
    };
    match name.parse() {
        Ok(address) => Ok(InterfaceIndexOrAddress::Address(address)),
        Err(_) => interface_index(name).map(InterfaceIndexOrAddress::Index),
    }
}

/// The number of an interface, given as such or by its name (Linux).
fn interface_index(name: &str) -> io::Result<u32> {
    if let Ok(index) = name.parse() {
        return Ok(index);
    }
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no interface \"{name}\""));
    if name.contains('/') || name.starts_with('.') {
        return Err(unknown());
    }
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
    text.ok().and_then(|t| t.trim().parse().ok()).ok_or_else(unknown)
}

/// Hands on what arrives until nobody wants it.
pub(super) async fn receive(
    socket: UdpSocket,
    input: UdpInput,
    silence: Duration,
    tx: mpsc::Sender<IngestItem>,
) {
    info!(addr = %input.addr, "waiting for datagrams");
    let mut datagram = vec![0; DATAGRAM_LEN_MAX];
    let mut is_flowing = false;
    loop {
        let item = tokio::select! {
            () = tx.closed() => return,
            batch = timeout(silence, batch(&socket, &mut datagram, input.source)) => match batch {
                Ok(Ok(bytes)) => IngestItem::Bytes(bytes),
                Ok(Err(error)) => {
                    IngestItem::Error(IngestError::Address { addr: input.addr, error })
                }
                Err(_) if is_flowing => IngestItem::Break,
                Err(_) => continue,
            },
        };
        is_flowing = matches!(item, IngestItem::Bytes(_));
        let is_over = matches!(item, IngestItem::Error(_));
        if tx.send(item).await.is_err() || is_over {
            return;
        }
    }
}

/// Waits for a datagram and takes along those that are there already.
async fn batch(
    socket: &UdpSocket,
    datagram: &mut [u8],
    source: Option<IpAddr>,
) -> io::Result<Bytes> {
    let is_wanted = |from: SocketAddr| source.is_none_or(|source| from.ip() == source);
    let mut out = BytesMut::new();
    loop {
        socket.readable().await?;
        while out.len() < BATCH_LEN {
            match socket.try_recv_from(datagram) {
                Ok((len, from)) if is_wanted(from) => {
                    out.extend_from_slice(datagram.get(..len).unwrap_or_default());
                }
                Ok(_) => {}
                Err(error) if is_passing(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if !out.is_empty() {
            return Ok(out.freeze());
        }
    }
}

/// Errors that say nothing about the next datagram.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::super::ingest::{Ingest, Input, Options};
    use super::*;

    fn free_port() -> u16 {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        socket.local_addr().expect("address").port()
    }

    async fn next(ingest: &mut Ingest) -> IngestItem {
        timeout(Duration::from_secs(5), ingest.next()).await.expect("in time").expect("an item")
    }

    async fn opened(url: &str) -> Result<Ingest, IngestError> {
        let silence = Duration::from_millis(300);
        let options = Options { silence, expects_ts: false, ..Options::default() };
        Ingest::open(url.parse::<Input>()?, options).await
    }

    /// Sends packets in datagrams that are no multiple of them, and checks what arrives.
    async fn check(url: &str, to: SocketAddr) {
        let mut ingest = opened(url).await.expect("opens");
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        SockRef::from(&sender).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("loopback");
        let sent: Vec<u8> = (0..188 * 47).map(|n| (n % 251) as u8).collect();
        for datagram in sent.chunks(1472) {
            sender.send_to(datagram, to).expect("sends");
        }
        let mut came = Vec::new();
        while came.len() < sent.len() {
            match next(&mut ingest).await {
                IngestItem::Bytes(bytes) => came.extend(bytes),
                other => panic!("{other:?} after {} bytes", came.len()),
            }
        }
        assert_eq!(came, sent);
        assert!(matches!(next(&mut ingest).await, IngestItem::Break));
        sender.send_to(b"again", to).expect("sends");
        assert!(matches!(next(&mut ingest).await, IngestItem::Bytes(b) if b == "again"));
    }

    #[tokio::test]
    async fn datagrams_become_one_stream_and_silence_a_break() {
        let port = free_port();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        check(&format!("udp://127.0.0.1:{port}"), to).await;
    }

    #[tokio::test]
    async fn a_group_is_joined_by_the_interface_named() {
        let port = free_port();
        let group = SocketAddr::from(([239, 255, 77, 1], port));
        check(&format!("udp://@239.255.77.1:{port}?interface=127.0.0.1"), group).await;
        check(&format!("udp://@239.255.77.1:{port}?interface=lo&source=127.0.0.1"), group).await;
    }

    #[tokio::test]
    async fn datagrams_of_others_are_ignored() {
        let port = free_port();
        let mut ingest =
            opened(&format!("udp://127.0.0.1:{port}?source=127.0.0.2")).await.expect("opens");
        for (from, text) in [("127.0.0.1:0", "stranger"), ("127.0.0.2:0", "friend")] {
            let sender = std::net::UdpSocket::bind(from).expect("binds");
            sender.send_to(text.as_bytes(), ("127.0.0.1", port)).expect("sends");
        }
        assert!(matches!(next(&mut ingest).await, IngestItem::Bytes(b) if b == "friend"));
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let holder = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let addr = holder.local_addr().expect("address");
        let error = opened(&format!("udp://{addr}")).await.expect_err("taken");
        assert!(matches!(error, IngestError::AddressInUse(a) if a == addr), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_interface_is_named() {
        let error = opened("udp://239.1.1.1:5000?interface=none7").await.expect_err("unknown");
        assert!(error.to_string().contains("none7"), "{error}");
    }
}
