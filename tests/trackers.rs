//! Trackers over real sockets: our clients against hostile ones, and against our own.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::btlive::discovery::address::{AddressFault, Policy};
use ::btlive::discovery::announce::{Config, State};
use ::btlive::discovery::fault::TrackerFault;
use ::btlive::discovery::tracker_store::{Bounds, Counts, TrackerStore};
use ::btlive::machine::Rng;
use ::btlive::net::announcer::{AnnouncerTask, Event as Found};
use ::btlive::net::tracker_server::TrackerServer;
use ::btlive::net::trackers::TrackerClient;
use ::btlive::units::{InfoHash, PeerId};
use ::btlive::wire::limits;
use ::btlive::wire::tracker::udp::{Request, Response};
use ::btlive::wire::tracker::url::TrackerUrl;
use ::btlive::wire::tracker::{Announce, Event, Family, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};

const HASH: InfoHash = InfoHash([0xaa; 20]);

fn announce(port: u16) -> Announce {
    Announce {
        info_hash: HASH,
        peer_id: PeerId::ours([b'x'; 12]),
        port,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: Event::Started,
        num_want: Some(50),
        key: 1,
    }
}

fn local() -> Policy {
    Policy { allow_local: true, ..Policy::default() }
}

/// A client that gives up after two seconds.
fn client() -> TrackerClient {
    let patience = Duration::from_secs(2);
    TrackerClient::with_timeouts(local(), patience, patience)
}

fn url(text: &str) -> TrackerUrl {
    TrackerUrl::parse(text).unwrap()
}

async fn ask(url_text: &str) -> Result<Reply, TrackerFault> {
    let begin = Instant::now();
    let outcome = client().announce(&url(url_text), Family::V4, &announce(7001), None).await;
    assert!(begin.elapsed() < Duration::from_secs(4), "took {:?}", begin.elapsed());
    outcome
}

/// What a hostile HTTP tracker does with a connection once it has read the request.
#[derive(Clone)]
enum Http {
    /// Sends this and closes.
    Sends(Vec<u8>),
    /// Sends this over and over, so many times.
    Floods(Vec<u8>, usize),
    /// Says nothing.
    Hangs,
    /// One byte every 100 ms.
    Drips,
}

/// Starts a hostile tracker; its address and the number of connections it took.
async fn hostile(
    behaviour: impl Fn(usize) -> Http + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let n = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(misbehave(stream, behaviour(n)));
        }
    });
    (addr, count)
}

async fn misbehave(mut stream: TcpStream, behaviour: Http) {
    let mut request = [0u8; 4096];
    let _ = stream.read(&mut request).await;
    match behaviour {
        Http::Sends(bytes) => {
            let _ = stream.write_all(&bytes).await;
        }
        Http::Floods(bytes, times) => {
            for _ in 0..times {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
        Http::Hangs => tokio::time::sleep(Duration::from_secs(60)).await,
        Http::Drips => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n").await;
            while stream.write_all(b"d").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A gzip member that unfolds about 160 times, written bit by bit with fixed codes (RFC 1951):
/// one zero byte, then matches of 258 bytes at distance 1.
fn gzip_bomb(matches: usize) -> Vec<u8> {
    struct Bits(Vec<u8>, u32, u32);
    impl Bits {
        fn put(&mut self, value: u32, count: u32) {
            for n in 0..count {
                self.1 |= (value >> n & 1) << self.2;
                self.2 += 1;
                if self.2 == 8 {
                    self.0.push(self.1 as u8);
                    (self.1, self.2) = (0, 0);
                }
            }
        }
    }
    let mut bits = Bits(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], 0, 0);
    // One final block with fixed codes (RFC 1951): literal 0 is 00110000.
    bits.put(0b011, 3);
    bits.put(0b0000_1100, 8);
    for _ in 0..matches {
        // Length 258 is code 285, 11000101, sent from its highest bit; distance 1 is 00000.
        bits.put(0b1010_0011, 8);
        bits.put(0, 5);
    }
    bits.put(0, 16);
    bits.0
}

#[tokio::test]
async fn a_body_of_64_mib_is_cut_off() {
    let chunk = vec![b'0'; 1 << 20];
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    let (addr, _) =
        hostile(move |_| Http::Floods([head.clone(), chunk.clone()].concat(), 64)).await;
    let max = limits::TRACKER_REPLY_LEN_MAX;
    assert_eq!(ask(&format!("http://{addr}/announce")).await, Err(TrackerFault::TooLong { max }));
}

#[tokio::test]
async fn a_gzip_bomb_is_cut_off_while_it_unfolds() {
    // 260 kB that would become 40 MB.
    let bomb = gzip_bomb(160_000);
    let (addr, _) =
        hostile(move |_| Http::Sends(http("200 OK\r\nContent-Encoding: gzip", &bomb))).await;
    let max = limits::TRACKER_REPLY_LEN_MAX;
    assert_eq!(ask(&format!("http://{addr}/announce")).await, Err(TrackerFault::TooLong { max }));
}

#[tokio::test]
async fn trackers_that_hang_or_drip_are_given_up() {
    for behaviour in [Http::Hangs, Http::Drips] {
        let (addr, _) = hostile(move |_| behaviour.clone()).await;
        let outcome = ask(&format!("http://{addr}/announce")).await;
        assert_eq!(outcome, Err(TrackerFault::Timeout { seconds: 2 }));
    }
}

#[tokio::test]
async fn twenty_redirects_are_not_followed() {
    let (addr, count) =
        hostile(|n| Http::Sends(http(&format!("302 Found\r\nLocation: /{n}"), b""))).await;
    let outcome = ask(&format!("http://{addr}/announce")).await;
    assert_eq!(outcome, Err(TrackerFault::Redirects { max: 5 }));
    assert_eq!(count.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_is_not_followed() {
    for target in ["http://169.254.169.254/latest/", "http://[fe80::1]/", "http://0.0.0.0/"] {
        let (addr, _) =
            hostile(move |_| Http::Sends(http(&format!("302 Found\r\nLocation: {target}"), b"")))
                .await;
        let outcome = ask(&format!("http://{addr}/announce")).await;
        let refused = matches!(
            outcome,
            Err(TrackerFault::Address(AddressFault::LinkLocal(_) | AddressFault::NoHost(_))
                | TrackerFault::NoAddress { .. })
        );
        assert!(refused, "{target}: {outcome:?}");
    }
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/", "//", "http://127.0.0.1:0/"] {
        let (addr, _) =
            hostile(move |_| Http::Sends(http(&format!("302 Found\r\nLocation: {target}"), b"")))
                .await;
        let outcome = ask(&format!("http://{addr}/announce")).await;
        assert!(
            matches!(outcome, Err(TrackerFault::Malformed(_) | TrackerFault::Url(_))),
            "{target}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_to_an_allowed_address_is_followed_with_its_arguments() {
    let (good, _) = hostile(|_| Http::Sends(http("200 OK", b"d8:intervali9e5:peers0:e"))).await;
    let (addr, _) = hostile(move |_| {
        Http::Sends(http(
            &format!("302 Found\r\nLocation: http://{good}/announce?info_hash=a"),
            b"",
        ))
    })
    .await;
    let reply = ask(&format!("http://{addr}/announce")).await.unwrap();
    assert_eq!(reply.interval_s, Some(9));
}

#[tokio::test]
async fn local_trackers_are_asked_only_with_permission() {
    let (addr, count) = hostile(|_| Http::Hangs).await;
    let client = TrackerClient::new(Policy::default());
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1"] {
        for scheme in ["http", "udp"] {
            let url = url(&format!("{scheme}://{host}:{}/announce", addr.port()));
            let outcome = client.announce(&url, Family::V4, &announce(7001), None).await;
            assert!(
                matches!(outcome, Err(TrackerFault::Address(AddressFault::Local(_)))),
                "{url}: {outcome:?}"
            );
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_million_peers_become_a_bounded_list_or_a_failure() {
    for (peers, fits) in [(1_000_000, false), (300_000, true)] {
        let list = b"\x08\x08\x08\x08\x1a\xe1".repeat(peers);
        let body = [format!("d5:peers{}:", list.len()).as_bytes(), &list, b"e"].concat();
        let (addr, _) = hostile(move |_| Http::Sends(http("200 OK", &body))).await;
        match ask(&format!("http://{addr}/announce")).await {
            Ok(reply) => {
                assert!(fits);
                assert_eq!(reply.peers.len(), limits::PEERS_PER_REPLY_MAX);
            }
            Err(fault) => {
                assert!(!fits);
                assert_eq!(fault, TrackerFault::TooLong { max: limits::TRACKER_REPLY_LEN_MAX });
            }
        }
    }
}

#[tokio::test]
async fn replies_that_are_none_name_the_tracker_as_the_culprit() {
    for (reply, status) in [
        (http("200 OK", b"<html>hello</html>"), None),
        (http("200 OK", b""), None),
        (http("200 OK", &b"l".repeat(7000)), None),
        (http("404 Not Found", b"<html>"), Some(404)),
        (http("302 Found", b""), Some(302)),
    ] {
        let (addr, _) = hostile(move |_| Http::Sends(reply.clone())).await;
        let fault = ask(&format!("http://{addr}/announce")).await.unwrap_err();
        match (status, fault) {
            (None, TrackerFault::Malformed(_)) => {}
            (Some(status), TrackerFault::Http { status: got }) => assert_eq!(got, status),
            (_, fault) => panic!("{fault:?}"),
        }
    }
    let nonsense = b"\0\x01\x02 nonsense\r\n\r\n".to_vec();
    let (addr, _) = hostile(move |_| Http::Sends(nonsense.clone())).await;
    let fault = ask(&format!("http://{addr}/announce")).await.unwrap_err();
    assert!(matches!(fault, TrackerFault::Io(_)), "{fault:?}");
    assert!(!fault.to_string().contains("info_hash"), "{fault}");
}

#[tokio::test]
async fn a_refusal_counts_whatever_its_status() {
    let body = b"d14:failure reason2:no8:retry in5:nevere";
    let (addr, _) = hostile(move |_| Http::Sends(http("400 Bad Request", body))).await;
    let fault = ask(&format!("http://{addr}/announce")).await.unwrap_err();
    assert!(matches!(fault, TrackerFault::Refused(_)), "{fault:?}");
}

/// A UDP tracker that answers as `answer` says: from which of its two sockets, and with what.
async fn hostile_udp(
    answer: impl Fn(Request) -> Vec<(bool, Response)> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0u8; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let Ok(request) = Request::parse(&buffer[..len]) else { continue };
            for (own, response) in answer(request) {
                let from_socket = if own { &socket } else { &other };
                let _ = from_socket.send_to(&response.encode(), from).await;
            }
        }
    });
    addr
}

fn udp_reply(request: &Request, wrong: bool) -> Response {
    let flip = if wrong { u32::MAX } else { 0 };
    match request {
        Request::Connect { transaction } => {
            Response::Connect { transaction: transaction ^ flip, connection: 5 }
        }
        Request::Announce { transaction, .. } | Request::Scrape { transaction, .. } => {
            let reply = Reply { interval_s: Some(9), ..Reply::default() };
            Response::Announce { transaction: transaction ^ flip, reply }
        }
    }
}

#[tokio::test]
async fn a_udp_answer_from_elsewhere_or_with_a_wrong_transaction_is_ignored() {
    for (own, wrong) in [(false, false), (true, true)] {
        let addr = hostile_udp(move |request| vec![(own, udp_reply(&request, wrong))]).await;
        let outcome = ask(&format!("udp://{addr}/announce")).await;
        assert_eq!(outcome, Err(TrackerFault::Timeout { seconds: 2 }));
    }
    let addr = hostile_udp(|request| {
        vec![
            (false, udp_reply(&request, false)),
            (true, udp_reply(&request, true)),
            (true, udp_reply(&request, false)),
        ]
    })
    .await;
    let reply = ask(&format!("udp://{addr}/announce")).await.unwrap();
    assert_eq!(reply.interval_s, Some(9));
}

fn config(tiers: Vec<Vec<String>>, port: u16) -> Config {
    let Announce { info_hash, left, key, .. } = announce(port);
    let peer_id = PeerId::ours([port as u8; 12]);
    let families = vec![Family::V4];
    let policy = local();
    Config {
        info_hash,
        peer_id,
        port,
        left,
        num_want: 50,
        key,
        tiers,
        private: false,
        families,
        policy,
        seed: 1,
    }
}

#[tokio::test]
async fn a_tracker_that_lists_itself_and_nonsense_yields_no_such_peer() {
    let (addr, _) = hostile(|_| {
        // Itself on its privileged port, port 0, multicast, ourselves, and one good peer thrice.
        let list = b"\x7f\0\0\x01\0\x50\x7f\0\0\x01\0\0\xe0\0\0\x01\x1a\xe1\x7f\0\0\x01\x1b\x59";
        let good = b"\x7f\0\0\x02\x1a\xe1".repeat(3);
        let list = [&list[..], &good].concat();
        let head = format!("d11:external ip4:\x7f\0\0\x018:intervali900e5:peers{}:", list.len());
        Http::Sends(http("200 OK", &[head.as_bytes(), &list, b"e"].concat()))
    })
    .await;
    let tiers = vec![vec![format!("http://{addr}/announce")]];
    let mut task = AnnouncerTask::start(config(tiers, 7001), Arc::new(client()));
    let found = tokio::time::timeout(Duration::from_secs(3), task.event()).await.unwrap();
    assert_eq!(found, Some(Found::Found(vec!["127.0.0.2:6881".parse().unwrap()])));
}

#[tokio::test]
async fn stopping_takes_two_seconds_at_most_even_when_trackers_hang() {
    let (addr, count) = hostile(|_| Http::Hangs).await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let udp = silent.local_addr().unwrap();
    let tiers = vec![vec![format!("http://{addr}/announce"), format!("udp://{udp}")]];
    let task = AnnouncerTask::start(config(tiers, 7001), Arc::new(client()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    task.stop().await;
    assert!(begin.elapsed() < Duration::from_millis(2400), "{:?}", begin.elapsed());
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

/// Our own tracker on loopback; it ends when `whitelists` is dropped.
struct OwnTracker {
    http: SocketAddr,
    udp: SocketAddr,
    whitelists: mpsc::Sender<BTreeSet<InfoHash>>,
    counts: watch::Receiver<Counts>,
}

fn own_tracker(ip: &str) -> OwnTracker {
    let any: SocketAddr = format!("{ip}:0").parse().unwrap();
    let store = TrackerStore::new(Bounds::default(), 120, None, Rng::new(1));
    let server = TrackerServer::bind(&[any], &[any], store).unwrap();
    let (http, udp) = (server.http_addrs()[0], server.udp_addrs()[0]);
    let (whitelists, receiver) = mpsc::channel(1);
    let (sender, counts) = watch::channel(Counts::default());
    tokio::spawn(server.run([7; 32], receiver, sender));
    OwnTracker { http, udp, whitelists, counts }
}

#[tokio::test]
async fn our_tracker_introduces_clients_over_http_and_udp_in_both_families() {
    for (ip, family) in [("127.0.0.1", Family::V4), ("[::1]", Family::V6)] {
        let tracker = own_tracker(ip);
        let client = client();
        let urls = [
            url(&format!("http://{}/announce", tracker.http)),
            url(&format!("udp://{}/announce", tracker.udp)),
        ];
        for (n, url) in urls.iter().cycle().take(4).enumerate() {
            let port = 7001 + n as u16;
            let reply = client.announce(url, family, &announce(port), None).await.unwrap();
            assert_eq!(reply.peers.len(), n, "{url}");
            assert_eq!((reply.interval_s, reply.leechers), (Some(120), Some(n as u32 + 1)));
        }
        for url in &urls {
            let swarms = client.scrape(url, family, &[HASH]).await.unwrap();
            assert_eq!(swarms[&HASH].leechers, 4);
            let stopped = Announce { event: Event::Stopped, ..announce(7001) };
            let reply = client.announce(url, family, &stopped, None).await.unwrap();
            assert_eq!((reply.peers.len(), reply.leechers), (0, Some(3)));
            client.announce(url, family, &announce(7001), None).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_whitelist_can_be_replaced_while_serving() {
    let tracker = own_tracker("127.0.0.1");
    let http = format!("http://{}/announce", tracker.http);
    let udp = format!("udp://{}/announce", tracker.udp);
    tracker.whitelists.send(BTreeSet::new()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for url in [&http, &udp] {
        assert!(matches!(ask(url).await, Err(TrackerFault::Refused(_))), "{url}");
    }
    tracker.whitelists.send(BTreeSet::from([HASH])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for url in [&http, &udp] {
        assert!(ask(url).await.is_ok(), "{url}");
    }
}

#[tokio::test]
async fn our_tracker_ignores_forged_connection_ids_and_nonsense() {
    let tracker = own_tracker("127.0.0.1");
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(tracker.udp).await.unwrap();
    let forged = Request::Scrape { connection: 1, transaction: 2, hashes: vec![HASH] };
    let mut buffer = [0u8; 2048];
    for raw in [vec![], vec![0; 16], vec![0xff; 1400], forged.encode()] {
        socket.send(&raw).await.unwrap();
        let wait = Duration::from_millis(100);
        // Nothing, or an error that is no longer than what came.
        if let Ok(Ok(len)) = tokio::time::timeout(wait, socket.recv(&mut buffer)).await {
            assert!(len <= raw.len());
            let response = Response::parse(&buffer[..len], Family::V4).unwrap();
            assert!(matches!(response, Response::Error { .. }));
        }
    }
    for raw in [&b"GET\r\n\r\n"[..], b"POST /announce HTTP/1.1\r\n\r\n", b"\0\0\0\r\n\r\n", b""] {
        let mut stream = TcpStream::connect(tracker.http).await.unwrap();
        stream.write_all(raw).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 40"), "{}", answer.escape_ascii());
    }
    assert!(ask(&format!("http://{}/announce", tracker.http)).await.is_ok());
}

#[tokio::test]
async fn announcers_find_each_other_over_our_tracker_and_say_goodbye() {
    let mut tracker = own_tracker("127.0.0.1");
    let dead = "http://127.0.0.1:1/announce".to_owned();
    let tiers = vec![vec![dead.clone()], vec![format!("udp://{}", tracker.udp)]];
    let first = AnnouncerTask::start(config(tiers.clone(), 7001), Arc::new(client()));
    let mut status = first.status();
    let patience = Duration::from_secs(3);
    let working = status.wait_for(|rows| rows.iter().any(|row| row.state == State::Working));
    tokio::time::timeout(patience, working).await.unwrap().unwrap();
    let mut second = AnnouncerTask::start(config(tiers, 7002), Arc::new(client()));
    let found = tokio::time::timeout(patience, second.event()).await.unwrap();
    assert_eq!(found, Some(Found::Found(vec!["127.0.0.1:7001".parse().unwrap()])));
    let row = status.borrow().iter().find(|row| row.url == dead).cloned().unwrap();
    assert!(row.error.is_some_and(|error| error.contains("refused")));
    first.stop().await;
    second.stop().await;
    let gone = tracker.counts.wait_for(|counts| counts.stopped == 2 && counts.peers == 0);
    tokio::time::timeout(patience, gone).await.unwrap().unwrap();
}

/// A file of `tests/tls`.
fn tls_file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name).display().to_string()
}

/// An HTTPS server with the certificate for localhost that answers each request with `reply`; the
/// number of requests that it could read.
fn https_server(reply: Vec<u8>) -> (u16, Arc<AtomicUsize>) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(tls_file("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls_file("localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, count) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket.unwrap());
            // One who does not trust the certificate hangs up here.
            if stream.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(&reply);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (port, count)
}

/// `btlive announce URL` where only `authority` is trusted.
fn announce_over_https(url: &str, authority: &str) -> support::btlive::Ended {
    let dir = support::temp_dir();
    let mut process = support::btlive::start(None, "announce", dir.path())
        .args([
            "announce",
            url,
            "--info-hash",
            &"ab".repeat(20),
            "--allow-local",
            "--keep",
            "--json",
        ])
        .env("SSL_CERT_FILE", tls_file(authority))
        .env("SSL_CERT_DIR", dir.path())
        .spawn();
    let status = process.wait(Duration::from_secs(20));
    let (stdout, stderr) = (process.stdout(), process.stderr());
    support::btlive::Ended { code: status.code(), stdout, stderr }
}

#[test]
fn an_https_tracker_is_asked_if_its_certificate_is_trusted_and_names_it() {
    let body = b"d8:intervali1234e5:peers6:\x08\x08\x08\x08\x1a\xe1e";
    let (port, count) = https_server(http("200 OK", body));
    let url = format!("https://localhost:{port}/announce");
    let ended = announce_over_https(&url, "authority.pem");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("1234") && ended.stdout.contains("8.8.8.8:6881"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // By another name; by an authority that nobody trusts.
    let by_number = format!("https://127.0.0.1:{port}/announce");
    for (url, authority) in [(&by_number, "authority.pem"), (&url, "localhost.pem")] {
        let ended = announce_over_https(url, authority);
        assert!(ended.code.is_some_and(|code| code != 0), "{url} with {authority} is trusted");
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1, "no announce before the certificate is trusted");
}

#[test]
fn a_redirect_leads_from_https_to_https_only() {
    let (addr, asked) = https_server(http("200 OK", b"d8:intervali77e5:peers0:e"));
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = plain.local_addr().unwrap();
    for (to, followed) in
        [(format!("https://localhost:{addr}/announce"), true), (format!("http://{plain}/"), false)]
    {
        let (port, _) = https_server(http(&format!("302 Found\r\nLocation: {to}"), b""));
        let url = format!("https://localhost:{port}/announce");
        let ended = announce_over_https(&url, "authority.pem");
        assert_eq!(ended.code == Some(0), followed, "{to}: {}", ended.stderr);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_hostile_tracker_costs_a_swarm_neither_memory_nor_the_peers_of_an_honest_one() {
    let honest = own_tracker("127.0.0.1");
    let other = AnnouncerTask::start(
        config(vec![vec![format!("http://{}/announce", honest.http)]], 7003),
        Arc::new(client()),
    );
    let mut status = other.status();
    let working = status.wait_for(|rows| rows.iter().any(|row| row.state == State::Working));
    tokio::time::timeout(Duration::from_secs(3), working).await.unwrap().unwrap();
    let flood = vec![b'0'; 1 << 20];
    let (flooding, _) = hostile(move |_| Http::Floods(flood.clone(), 64)).await;
    let (hanging, _) = hostile(|_| Http::Hangs).await;
    let (turning, _) =
        hostile(|n| Http::Sends(http(&format!("302 Found\r\nLocation: /{n}"), b""))).await;
    let elsewhere = hostile_udp(|request| vec![(false, udp_reply(&request, false))]).await;
    let urls = [flooding, hanging, turning].map(|addr| format!("http://{addr}/announce"));
    let mut tiers: Vec<Vec<String>> = urls.into_iter().map(|url| vec![url]).collect();
    tiers.push(vec![format!("udp://{elsewhere}/announce")]);
    tiers.push(vec![format!("http://{}/announce", honest.http)]);
    let mut task = AnnouncerTask::start(config(tiers, 7004), Arc::new(client()));
    let found = tokio::time::timeout(Duration::from_secs(3), task.event()).await.unwrap();
    assert_eq!(found, Some(Found::Found(vec!["127.0.0.1:7003".parse().unwrap()])));
    task.stop().await;
    other.stop().await;
}
