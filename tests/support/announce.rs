//! A tracker client for tests, on its own so that it shares no fault with the code under test
//! (BEP 3, 15, 23, 48).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use super::bencode::{self, Value};
use super::namespace::{Namespace, command_in};

/// What is said to a tracker.
#[derive(Clone, Copy)]
pub(crate) struct Ask {
    /// The torrent.
    pub(crate) info_hash: [u8; 20],
    /// The port that others may dial.
    pub(crate) port: u16,
    /// Bytes left; 0 for a seed.
    pub(crate) left: u64,
    /// What happened.
    pub(crate) event: Event,
}

/// The event of an announce.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// The first announce.
    Started,
    /// The last announce.
    Stopped,
}

/// What a tracker said.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Seconds until the next announce is wanted.
    pub(crate) interval_s: i64,
    /// The peers (IPv4).
    pub(crate) peers: Vec<SocketAddrV4>,
}

/// How many a tracker knows of.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(crate) struct Count {
    /// Peers with nothing left.
    pub(crate) seeders: i64,
    /// Peers with something left.
    pub(crate) leechers: i64,
}

impl Ask {
    /// A different peer id for each port.
    fn peer_id(&self) -> [u8; 20] {
        let text = format!("-XX0001-{:012}", self.port);
        std::array::from_fn(|n| text.as_bytes()[n])
    }
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("%{b:02x}")).collect()
}

/// Asks over HTTP, from inside a namespace if one is given.
pub(crate) fn http(url: &str, ask: &Ask, from: Option<&Namespace>) -> Result<Reply, String> {
    let event = if ask.event == Event::Started { "started" } else { "stopped" };
    let (hash, id) = (percent(&ask.info_hash), percent(&ask.peer_id()));
    let (port, left) = (ask.port, ask.left);
    let query = format!(
        "{url}?info_hash={hash}&peer_id={id}&port={port}&uploaded=0&downloaded=0&left={left}\
         &compact=1&numwant=50&event={event}"
    );
    let value = get(&query, from)?;
    if let Some(reason) = value.get("failure reason").and_then(Value::bytes) {
        return Err(String::from_utf8_lossy(reason).into_owned());
    }
    let peers = match value.get("peers") {
        Some(Value::Bytes(compact)) => compact_peers(compact),
        other => return Err(format!("peers are {other:?}")),
    };
    let interval_s = value.get("interval").and_then(Value::int).unwrap_or_default();
    Ok(Reply { interval_s, peers })
}

/// Asks for the counts over HTTP.
pub(crate) fn http_scrape(
    url: &str,
    info_hash: [u8; 20],
    from: Option<&Namespace>,
) -> Result<Count, String> {
    let url = url.replace("/announce", "/scrape");
    let value = get(&format!("{url}?info_hash={}", percent(&info_hash)), from)?;
    let Some(Value::Dict(files)) = value.get("files") else {
        return Err(format!("no files in {value:?}"));
    };
    // One hash was asked for. Its key is not looked at: one tracker is known to mangle it.
    let Some(file) = files.values().next() else {
        return Ok(Count { seeders: 0, leechers: 0 });
    };
    let number = |key| file.get(key).and_then(Value::int).ok_or(format!("no {key} in {file:?}"));
    Ok(Count { seeders: number("complete")?, leechers: number("incomplete")? })
}

fn get(url: &str, from: Option<&Namespace>) -> Result<Value, String> {
    let mut curl = command_in(from, "curl");
    curl.args(["--silent", "--show-error", "--globoff", "--max-time", "5", "--noproxy", "*", url]);
    let output = curl.output().map_err(|e| format!("curl: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    // aquatic_http ends its replies with a line end that is no bencode.
    bencode::decode(output.stdout.trim_ascii_end())
        .ok_or_else(|| format!("no bencode: {}", String::from_utf8_lossy(&output.stdout)))
}

fn compact_peers(bytes: &[u8]) -> Vec<SocketAddrV4> {
    let peer = |p: &[u8]| {
        let ip = Ipv4Addr::new(p[0], p[1], p[2], p[3]);
        SocketAddrV4::new(ip, u16::from_be_bytes([p[4], p[5]]))
    };
    bytes.chunks_exact(6).map(peer).collect()
}

/// A UDP tracker to which a connection id was asked for (BEP 15).
pub(crate) struct Udp {
    socket: UdpSocket,
    connection: [u8; 8],
}

/// How often a tracker is asked before it counts as silent.
const UDP_ATTEMPTS: usize = 3;

impl Udp {
    /// Asks `address` (`127.0.0.1:6969`) for a connection id.
    pub(crate) fn connect(address: &str) -> Result<Self, String> {
        let io = |e: std::io::Error| format!("{address}: {e}");
        let any: IpAddr = match address.starts_with('[') {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).map_err(io)?;
        socket.connect(address).map_err(io)?;
        socket.set_read_timeout(Some(Duration::from_secs(3))).map_err(io)?;
        let udp = Self { socket, connection: 0x0417_2710_1980_u64.to_be_bytes() };
        let reply = udp.exchange(0, &[])?;
        let connection = reply.get(..8).ok_or("short connect reply")?;
        Ok(Self { connection: connection.try_into().expect("8 bytes"), ..udp })
    }

    /// Sends one action and gives what follows action and transaction id in the reply. Asks again
    /// where none comes, as datagrams may be lost (BEP 15, "Time outs").
    fn exchange(&self, action: u32, body: &[u8]) -> Result<Vec<u8>, String> {
        let transaction = 0x5eed_0000 + action;
        let action_bytes = action.to_be_bytes();
        let packet = [&self.connection, &action_bytes[..], &transaction.to_be_bytes(), body];
        let packet = packet.concat();
        let answered = (0..UDP_ATTEMPTS).find_map(|_| self.attempt(&packet, transaction).ok());
        let reply = answered.map_or_else(|| self.attempt(&packet, transaction), Ok)?;
        let text = String::from_utf8_lossy(&reply[8..]);
        if reply[..4] != action_bytes {
            return Err(format!("refused: {text}"));
        }
        Ok(reply[8..].to_vec())
    }

    /// Sends a packet and gives the reply to it; late replies to earlier ones are passed over.
    fn attempt(&self, packet: &[u8], transaction: u32) -> Result<Vec<u8>, String> {
        self.socket.send(packet).map_err(|e| e.to_string())?;
        let mut buffer = [0; 4096];
        loop {
            let len = self.socket.recv(&mut buffer).map_err(|e| e.to_string())?;
            let reply = buffer.get(..len).filter(|r| r.len() >= 8).ok_or("short reply")?;
            if reply[4..8] == transaction.to_be_bytes() {
                return Ok(reply.to_vec());
            }
        }
    }

    /// Announces.
    pub(crate) fn announce(&self, ask: &Ask) -> Result<Reply, String> {
        let event: u32 = if ask.event == Event::Started { 2 } else { 3 };
        let numwant = 50_u32;
        let body = [
            &ask.info_hash[..],
            &ask.peer_id(),
            &0_u64.to_be_bytes(),
            &ask.left.to_be_bytes(),
            &0_u64.to_be_bytes(),
            &event.to_be_bytes(),
            &0_u32.to_be_bytes(),
            &u32::from(ask.port).to_be_bytes(),
            &numwant.to_be_bytes(),
            &ask.port.to_be_bytes(),
        ];
        let reply = self.exchange(1, &body.concat())?;
        let interval = number(&reply, 0).ok_or("short announce reply")?;
        Ok(Reply {
            interval_s: interval,
            peers: compact_peers(reply.get(12..).unwrap_or_default()),
        })
    }

    /// Asks for the counts.
    pub(crate) fn scrape(&self, info_hash: [u8; 20]) -> Result<Count, String> {
        let reply = self.exchange(2, &info_hash)?;
        let short = "short scrape reply";
        let (seeders, leechers) =
            (number(&reply, 0).ok_or(short)?, number(&reply, 8).ok_or(short)?);
        Ok(Count { seeders, leechers })
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i64> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(four).into())
}
