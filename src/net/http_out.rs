//! Streams for players over HTTP: endless MPEG-TS, a page that names the URL, a playlist, status.
//!
//! The server does not know the swarm. It asks a [`StreamSource`] for a reader per request and
//! writes out what that reader gets, so that nobody's coming, going or stalling concerns another.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http_body::Frame;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::readers::ReaderHandle;
use crate::media::cut::MPEG_TS;
use crate::swarm::io::Delivery;

/// What a client is told to wait before it asks again, in seconds.
const RETRY_AFTER_S: &str = "10";

/// Why a stream cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct OpenError {
    /// A reason code of the status document, such as `no_upstream`.
    pub reason: String,
}

/// A reader that is on its way.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<ReaderHandle, OpenError>> + Send + 'a>>;

/// A stream that can be played.
pub trait StreamSource: Send + Sync + 'static {
    /// Adds a reader at the newest place that leaves the target delay.
    fn open(&self) -> Opening<'_>;

    /// The status document of the stream.
    fn status(&self) -> serde_json::Value;
}

/// A stream with the names under which it is published.
#[derive(Clone)]
pub struct Published {
    /// Its info-hash in hexadecimal digits.
    pub id: String,
    /// Its name; a stranger chose it.
    pub name: String,
    /// Its media type.
    pub media: String,
    /// Where its readers come from.
    pub source: Arc<dyn StreamSource>,
}

/// What the server is to do.
#[derive(Clone)]
pub struct Settings {
    /// The address it listens on; a loopback one answers only to local names.
    pub bound: SocketAddr,
    /// How long a client waits for the first bytes of a stream.
    pub wait: Duration,
    /// Clients that may read at once.
    pub clients_max: usize,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error("{0} is in use by another program")]
    AddressInUse(SocketAddr),
    /// The address cannot be used for another reason.
    #[error("cannot listen on {addr}: {error}")]
    Address {
        /// Where.
        addr: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Listens on `addr`; port 0 lets the kernel choose, the listener knows which.
///
/// # Errors
/// The address is taken, or is none of this machine.
pub async fn listen(addr: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::AddressInUse(addr),
        _ => ListenError::Address { addr, error },
    })
}

/// Serves `router` until the future is dropped, which closes every connection.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    // A small piece must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

/// The URL under which `id` is played.
#[must_use]
pub fn url(bound: SocketAddr, id: &str) -> String {
    format!("http://{}/s/{id}.ts", reachable(bound))
}

/// `bound`, or loopback if it stands for every address of this machine.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[derive(Clone)]
struct Site {
    streams: Arc<Vec<Published>>,
    settings: Settings,
    clients: Arc<Semaphore>,
}

impl Site {
    fn find(&self, id: &str) -> Option<&Published> {
        self.streams.iter().find(|s| s.id.eq_ignore_ascii_case(id) || s.name == id)
    }

    /// The host that the client used, so that the URLs it is given work for it too.
    fn host(&self, headers: &HeaderMap) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
        match host {
            Some(host) if !host.is_empty() && host.chars().all(is_plain) => host.to_string(),
            _ => reachable(self.settings.bound).to_string(),
        }
    }
}

/// The routes for `streams`.
pub fn router(streams: Vec<Published>, settings: Settings) -> Router {
    let clients = Arc::new(Semaphore::new(settings.clients_max.min(Semaphore::MAX_PERMITS)));
    let site = Site { streams: Arc::new(streams), settings, clients };
    Router::new()
        .route("/", get(page))
        .route("/s/{file}", get(play).head(play_head))
        .route("/playlist.m3u", get(playlist))
        .route("/api/v1/streams/{id}", get(status))
        .route("/healthz", get(async || "ok\n"))
        .fallback(async || refusal(StatusCode::NOT_FOUND, "unknown_path"))
        .layer(middleware::from_fn_with_state(site.clone(), check_host))
        .with_state(site)
}

/// A web page of a stranger can point a name of its own at this machine (DNS rebinding). Bound to
/// loopback, only names that mean this machine are answered.
async fn check_host(State(site): State<Site>, request: Request, next: Next) -> Response {
    let bound = site.settings.bound.ip();
    let in_header = request.headers().get(header::HOST).map(|h| h.to_str().unwrap_or("?"));
    let in_target = request.uri().authority().map(|a| a.as_str());
    let is_local = [in_header, in_target].into_iter().flatten().all(|h| is_this_machine(h, bound));
    if bound.is_loopback() && !is_local {
        return refusal(StatusCode::FORBIDDEN, "foreign_host");
    }
    next.run(request).await
}

/// Whether `host`, perhaps with a port, means this machine.
fn is_this_machine(host: &str, bound: IpAddr) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == bound)
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    let text = format!("{}\n", json!({ "error": status.as_u16(), "reason": reason }));
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (status, kind, text).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let after = HeaderValue::from_static(RETRY_AFTER_S);
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

/// The head of an answer with a stream in it: no length, and no ranges, which live has not.
fn stream_response(stream: &Published, body: Body) -> Response {
    let media = HeaderValue::from_str(&stream.media)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let head = [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("none")),
    ];
    (head, body).into_response()
}

/// The stream that a path names: `ID.ts`, for other media than MPEG-TS also `ID` alone.
fn named<'a>(site: &'a Site, file: &str) -> Option<&'a Published> {
    match file.strip_suffix(".ts") {
        Some(id) => site.find(id),
        None => site.find(file).filter(|stream| stream.media != MPEG_TS),
    }
}

async fn play_head(State(site): State<Site>, Path(file): Path<String>) -> Response {
    match named(&site, &file) {
        Some(stream) => stream_response(stream, Body::new(Unsized)),
        None => refusal(StatusCode::NOT_FOUND, "unknown_stream"),
    }
}

async fn play(State(site): State<Site>, Path(file): Path<String>) -> Response {
    let Some(stream) = named(&site, &file) else {
        return refusal(StatusCode::NOT_FOUND, "unknown_stream");
    };
    let Ok(permit) = site.clients.clone().try_acquire_owned() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "too_many_clients");
    };
    match timeout(site.settings.wait, first_piece(&*stream.source)).await {
        Ok(Ok((reader, first))) => {
            stream_response(stream, Body::new(Playback::new(reader, first, permit)))
        }
        Ok(Err(error)) => refusal(StatusCode::SERVICE_UNAVAILABLE, &error.reason),
        Err(_) => {
            let status = stream.source.status();
            let reason = status.get("reason").and_then(|r| r.as_str()).unwrap_or("no_upstream");
            refusal(StatusCode::SERVICE_UNAVAILABLE, reason)
        }
    }
}

/// A new reader and what it gets first: the answer waits for it, since a status line cannot be
/// taken back.
async fn first_piece(source: &dyn StreamSource) -> Result<(ReaderHandle, Delivery), OpenError> {
    let failed = |reason: &str| OpenError { reason: reason.into() };
    let mut reader = source.open().await?;
    loop {
        match reader.next().await {
            Some(Delivery::Skip { .. }) => {}
            Some(Delivery::End) => return Err(failed("ended")),
            Some(piece) => return Ok((reader, piece)),
            None => return Err(failed("stopped")),
        }
    }
}

/// A body of unknown length, for answers that have only a head: a length of 0 would be a lie.
struct Unsized;

impl HttpBody for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

/// The body of an answer: the pieces as they come, until the signed end of the stream.
struct Playback {
    reader: ReaderHandle,
    /// What is left of the piece being written.
    piece: VecDeque<Bytes>,
    /// Whether credit is owed for it.
    is_open: bool,
    _client: OwnedSemaphorePermit,
}

impl Playback {
    fn new(reader: ReaderHandle, first: Delivery, client: OwnedSemaphorePermit) -> Self {
        let mut playback = Self { reader, piece: VecDeque::new(), is_open: false, _client: client };
        playback.begin(first);
        playback
    }

    fn begin(&mut self, item: Delivery) {
        if let Delivery::Piece { tables, blocks, .. } = item {
            self.is_open = true;
            self.piece.push_back(tables);
            self.piece.extend(blocks);
        }
    }
}

impl HttpBody for Playback {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            while let Some(bytes) = self.piece.pop_front() {
                if !bytes.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
            }
            // The connection has asked for more, so it has room for what was handed to it.
            if std::mem::take(&mut self.is_open) {
                self.reader.taken();
            }
            match self.reader.poll_next(context) {
                Poll::Ready(None | Some(Delivery::End)) => return Poll::Ready(None),
                Poll::Ready(Some(item)) => self.begin(item),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

async fn status(State(site): State<Site>, Path(id): Path<String>) -> Response {
    match site.find(&id) {
        Some(stream) => {
            let head =
                [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            (head, format!("{}\n", stream.source.status())).into_response()
        }
        None => refusal(StatusCode::NOT_FOUND, "unknown_stream"),
    }
}

async fn playlist(State(site): State<Site>, headers: HeaderMap) -> Response {
    let host = site.host(&headers);
    let mut out = String::from("#EXTM3U\n");
    for Published { id, name, .. } in site.streams.iter() {
        let name = playlist_name(name);
        let _ = write!(
            out,
            "#EXTINF:-1 tvg-id=\"{id}\" tvg-name=\"{name}\" group-title=\"btlive\",{name}\n\
             http://{host}/s/{id}.ts\n"
        );
    }
    ([(header::CONTENT_TYPE, "audio/x-mpegurl")], out).into_response()
}

/// A name that cannot leave its line or its quotes.
fn playlist_name(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_control() || c == '"' { '\'' } else { c });
    plain.take(200).collect()
}

async fn page(State(site): State<Site>, headers: HeaderMap) -> Response {
    let host = escaped(&site.host(&headers));
    let mut out = String::from(
        "<!doctype html>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width\">\n<title>btlive</title>\n\
         <style>body{font-family:sans-serif;max-width:45em;margin:2em auto;padding:0 1em}\
         code{background:#8882;padding:.2em .4em;overflow-wrap:anywhere}</style>\n",
    );
    for Published { id, name, .. } in site.streams.iter() {
        let (id, name) = (escaped(id), escaped(name));
        let url = format!("http://{host}/s/{id}.ts");
        let _ = write!(
            out,
            "<h1>{name}</h1>\n<p>Open this in a player such as mpv or VLC:</p>\n\
             <p><code>{url}</code></p>\n<p><a href=\"/s/{id}.ts\">stream</a> · \
             <a href=\"/playlist.m3u\">playlist</a> · \
             <a href=\"/api/v1/streams/{id}\">status</a></p>\n"
        );
    }
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (head, out).into_response()
}

/// `text` as it may stand in HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use super::super::readers::open_reader;
    use super::*;
    use crate::swarm::io::{In, ReaderId};
    use crate::units::Seq;

    type Readers = mpsc::Receiver<mpsc::Sender<Delivery>>;

    /// Hands the sending ends of its readers to the test.
    struct Fake {
        opened: mpsc::Sender<mpsc::Sender<Delivery>>,
        inputs: mpsc::Sender<In>,
        is_dead: Mutex<bool>,
    }

    impl StreamSource for Fake {
        fn open(&self) -> Opening<'_> {
            Box::pin(async {
                let (tx, handle) = open_reader(ReaderId(1), self.inputs.clone());
                self.opened.send(tx).await.expect("the test listens");
                if *self.is_dead.lock().expect("not poisoned") {
                    return Err(OpenError { reason: "withdrawn".into() });
                }
                Ok(handle)
            })
        }

        fn status(&self) -> serde_json::Value {
            json!({ "state": "joining", "reason": "no_upstream" })
        }
    }

    struct Server {
        addr: SocketAddr,
        readers: Readers,
        inputs: mpsc::Receiver<In>,
        source: Arc<Fake>,
    }

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    async fn server(clients_max: usize) -> Server {
        let listener = listen("127.0.0.1:0".parse().expect("address")).await.expect("listens");
        let bound = listener.local_addr().expect("address");
        let (opened, readers) = mpsc::channel(8);
        let (tx, inputs) = mpsc::channel(64);
        let source = Arc::new(Fake { opened, inputs: tx, is_dead: Mutex::new(false) });
        let name = "a <b> \"c\"\nd".to_string();
        let stream =
            Published { id: ID.into(), name, media: MPEG_TS.into(), source: source.clone() };
        let settings = Settings { bound, wait: Duration::from_millis(300), clients_max };
        tokio::spawn(serve(listener, router(vec![stream], settings)));
        Server { addr: bound, readers, inputs, source }
    }

    impl Server {
        async fn send(&self, request: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.addr).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("writes");
            stream
        }

        async fn ask(&self, method: &str, path: &str, more: &str) -> TcpStream {
            let host = if more.contains("Host:") { "" } else { "Host: localhost\r\n" };
            let request = format!("{method} {path} HTTP/1.1\r\n{host}{more}\r\n");
            self.send(&request).await
        }

        /// The whole answer to a request that ends.
        async fn answer(&self, method: &str, path: &str, more: &str) -> String {
            let more = format!("{more}Connection: close\r\n");
            let mut stream = self.ask(method, path, &more).await;
            let mut out = Vec::new();
            let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut out)).await;
            read.expect("in time").expect("reads");
            String::from_utf8_lossy(&out).into_owned()
        }

        async fn reader(&mut self) -> mpsc::Sender<Delivery> {
            let opened = timeout(Duration::from_secs(5), self.readers.recv()).await;
            opened.expect("in time").expect("the server lives")
        }
    }

    fn piece(tables: &'static str, blocks: &[&'static str]) -> Delivery {
        Delivery::Piece {
            seq: Seq::default(),
            tables: Bytes::from(tables),
            blocks: blocks.iter().map(|b| Bytes::from(*b)).collect(),
            discontinuity: false,
        }
    }

    async fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut out = String::new();
        while !out.contains(end) {
            let mut part = [0; 512];
            let read = timeout(Duration::from_secs(5), stream.read(&mut part)).await;
            let len = read.unwrap_or_else(|_| panic!("no {end:?} in {out:?}")).expect("reads");
            assert!(len > 0, "closed after {out:?}");
            out.push_str(&String::from_utf8_lossy(&part[..len]));
        }
        out
    }

    fn path() -> String {
        format!("/s/{ID}.ts")
    }

    #[tokio::test]
    async fn a_player_gets_tables_blocks_and_no_length() {
        let mut server = server(8).await;
        let mut player = server.ask("GET", &path(), "Range: bytes=0-\r\n").await;
        let reader = server.reader().await;
        reader.send(piece("tables", &["one", "two"])).await.expect("room");
        let text = read_until(&mut player, "two").await;
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("content-type: video/mp2t"), "{head}");
        assert!(!head.contains("content-length") && !head.contains("content-range"), "{head}");
        let at = |word| body.find(word).expect(word);
        assert!(at("tables") < at("one") && at("one") < at("two"), "{body}");
    }

    #[tokio::test]
    async fn a_gap_keeps_the_connection_and_the_end_closes_it() {
        let mut server = server(8).await;
        let mut player = server.ask("GET", &path(), "").await;
        let reader = server.reader().await;
        reader.send(piece("", &["one"])).await.expect("room");
        read_until(&mut player, "one").await;
        reader.send(Delivery::Skip { from: Seq::default(), pieces: 3 }).await.expect("room");
        tokio::time::sleep(Duration::from_millis(400)).await;
        reader.send(piece("", &["two"])).await.expect("room");
        read_until(&mut player, "two").await;
        reader.send(Delivery::End).await.expect("room");
        read_until(&mut player, "0\r\n\r\n").await;
    }

    #[tokio::test]
    async fn credit_comes_back_for_what_was_written_and_the_reader_is_removed() {
        let mut server = server(8).await;
        let player = server.ask("GET", &path(), "").await;
        let reader = server.reader().await;
        assert!(matches!(server.inputs.recv().await, Some(In::ReaderCredit { .. })));
        reader.send(piece("", &["one"])).await.expect("room");
        let credit = server.inputs.recv().await;
        assert!(matches!(credit, Some(In::ReaderCredit { pieces: 1, .. })), "{credit:?}");
        drop(player);
        let removed = timeout(Duration::from_secs(5), server.inputs.recv()).await;
        assert!(matches!(removed, Ok(Some(In::RemoveReader { .. }))), "{removed:?}");
    }

    #[tokio::test]
    async fn a_player_that_stops_reading_gets_no_credit() {
        let mut server = server(8).await;
        let _player = server.ask("GET", &path(), "").await;
        let reader = server.reader().await;
        assert!(matches!(server.inputs.recv().await, Some(In::ReaderCredit { .. })));
        let block: &'static str = Box::leak("x".repeat(16 << 10).into_boxed_str());
        let mut credits = 0;
        // A core without rules: one piece of 1 MiB for each credit.
        for _ in 0..64 {
            reader.send(piece("", &[block; 64])).await.expect("room");
            match timeout(Duration::from_millis(300), server.inputs.recv()).await {
                Ok(Some(In::ReaderCredit { pieces, .. })) => credits += pieces,
                _ => break,
            }
        }
        assert!(credits < 32, "{credits} MiB went into a connection that nobody reads");
    }

    #[tokio::test]
    async fn a_dead_channel_is_refused_after_the_wait_and_in_no_other_way() {
        let mut server = server(8).await;
        let answer = server.answer("GET", &path(), "").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("retry-after: 10"), "{answer}");
        assert!(answer.contains(r#""reason":"no_upstream""#), "{answer}");
        assert!(server.reader().await.is_closed());
        *server.source.is_dead.lock().expect("not poisoned") = true;
        assert!(server.answer("GET", &path(), "").await.contains("withdrawn"));
    }

    #[tokio::test]
    async fn a_head_request_starts_nothing() {
        let mut server = server(8).await;
        let answer = server.answer("HEAD", &path(), "").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("content-type: video/mp2t"), "{answer}");
        assert!(!answer.contains("content-length"), "{answer}");
        assert!(server.readers.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_does_not_exist_or_is_not_allowed_is_said() {
        let server = server(0).await;
        let table = [
            ("GET", "/s/other.ts", "404"),
            ("HEAD", "/s/other.ts", "404"),
            ("GET", "/api/v1/streams/other", "404"),
            ("GET", "/other", "404"),
            ("POST", path().as_str(), "405"),
            ("DELETE", "/", "405"),
            ("GET", path().as_str(), "503"),
            ("GET", "/healthz", "200"),
        ]
        .map(|(method, path, status)| (method, path.to_string(), status));
        for (method, path, status) in table {
            let answer = server.answer(method, &path, "").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {answer}");
        }
        assert!(server.answer("GET", &path(), "").await.contains("too_many_clients"));
    }

    #[tokio::test]
    async fn on_loopback_only_local_names_are_answered() {
        let server = server(8).await;
        let allowed = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:1", "[::1]:8642"];
        let refused = ["evil.example", "127.0.0.1.evil.example", "192.168.0.1", "[::2]", "", "]"];
        for (hosts, status) in [(&allowed[..], "200"), (&refused[..], "403")] {
            for host in hosts {
                let answer = server.answer("GET", "/healthz", &format!("Host: {host}\r\n")).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host} {answer}");
            }
        }
        let foreign = "http://evil.example/healthz";
        let answer = server.answer("GET", foreign, "Host: localhost\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }

    #[tokio::test]
    async fn the_playlist_names_the_host_that_was_asked() {
        let server = server(8).await;
        let answer = server.answer("GET", "/playlist.m3u", "Host: localhost:99\r\n").await;
        assert!(answer.contains("content-type: audio/x-mpegurl"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        let lines: Vec<_> = body.lines().collect();
        assert_eq!(lines[0], "#EXTM3U");
        assert!(lines[1].ends_with(",a <b> 'c''d"), "{body}");
        assert_eq!(lines[2], format!("http://localhost:99/s/{ID}.ts"));
    }

    #[tokio::test]
    async fn the_page_shows_the_name_as_text() {
        let server = server(8).await;
        let answer = server.answer("GET", "/", "").await;
        assert!(answer.contains("<h1>a &lt;b&gt; &quot;c&quot; d</h1>"), "{answer}");
        assert!(answer.contains(&format!("http://localhost/s/{ID}.ts")), "{answer}");
        let status = server.answer("GET", &format!("/api/v1/streams/{ID}"), "").await;
        assert!(status.contains(r#""state":"joining""#), "{status}");
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let server = server(1).await;
        let error = listen(server.addr).await.expect_err("taken");
        assert!(matches!(error, ListenError::AddressInUse(addr) if addr == server.addr));
    }
}
