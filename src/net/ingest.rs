//! Where a stream comes from: a pipe, a file, datagrams, the built-in clip. Whatever it is, it
//! arrives as [`IngestItem`]s over a bounded channel, so that a source reads no faster than the
//! stream is published.
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read, Seek};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tracing::debug;

use super::udp_ingest;
use crate::media::clip;
use crate::media::pace::Pacer;
use crate::media::relabel::Relabel;
use crate::media::ts::{Framer, PACKET_LEN, Unit};

/// Items that may wait to be published.
const QUEUE_LEN: usize = 64;
/// Bytes read at once.
const READ_LEN: usize = 64 << 10;
/// Bytes that are paced as one: what fits into a datagram, so that no burst is longer.
const SLICE_LEN: usize = 7 * PACKET_LEN;
/// A source that is later than this does not hurry to make up for it.
const LATE_MAX: Duration = Duration::from_secs(2);
/// Shorter waits are not worth a wake-up.
const WAIT_MIN: Duration = Duration::from_millis(2);
/// An input without packets in so many bytes is none; until then nothing of it is published.
const CHECK_LEN: usize = 64 << 10;

/// What a source brings.
#[derive(Debug)]
pub enum IngestItem {
    /// The next bytes; never empty.
    Bytes(Bytes),
    /// The source broke off and may come back; what comes next begins at a clean packet.
    Break,
    /// The source has ended.
    End,
    /// The source failed; nothing comes after this.
    Error(IngestError),
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The value of `--input` is none.
    #[error("\"{input}\" is no input: {reason}")]
    Unreadable {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such file.
    #[error("{}: no such file", .0.display())]
    NotFound(PathBuf),
    /// The file may not be read.
    #[error("{}: permission denied", .0.display())]
    Denied(PathBuf),
    /// The file cannot be read for another reason.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Somebody else listens there.
    #[error("{0} is in use by another program")]
    AddressInUse(SocketAddr),
    /// No socket can be opened there.
    #[error("cannot receive on {addr}: {error}")]
    Address {
        /// Where.
        addr: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// Standard input is a keyboard.
    #[error("standard input is a terminal; pipe a stream into it or name one with --input")]
    Terminal,
    /// Only what can be read again can be looped.
    #[error("only a file can be looped, not {0}")]
    NotLoopable(String),
    /// The input had its chance to show a packet and did not.
    #[error("{what} is no MPEG-TS: no packet in {len} bytes; ffmpeg writes it with -f mpegts")]
    NotTs {
        /// What was read.
        what: String,
        /// Bytes that were looked at.
        len: u64,
    },
    /// The input ended before it began.
    #[error("{0} ended without a single byte")]
    Empty(String),
    /// Reading failed half-way.
    #[error("reading {what} failed: {error}")]
    Read {
        /// What was read.
        what: String,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Where a stream comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input (`-`).
    Stdin,
    /// A file, a named pipe or a device.
    File(PathBuf),
    /// Datagrams (`udp://`).
    Udp(UdpInput),
    /// The built-in clip, looped; not to be had by name.
    Demo,
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Udp(udp) => write!(f, "udp://{}", udp.addr),
            Self::Demo => f.write_str("the built-in clip"),
        }
    }
}

/// Where datagrams are received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpInput {
    /// The local address, or the group that is joined if it is a multicast one.
    pub addr: SocketAddr,
    /// Multicast: by which interface; an IPv4 address of it, its name or its number.
    pub interface: Option<String>,
    /// Datagrams of others are ignored; with a multicast IPv4 address the network is told so.
    pub source: Option<IpAddr>,
}

impl FromStr for Input {
    type Err = IngestError;

    fn from_str(text: &str) -> Result<Self, IngestError> {
        let wrong =
            |reason: &str| IngestError::Unreadable { input: text.into(), reason: reason.into() };
        if text == "-" {
            return Ok(Self::Stdin);
        }
        match text.split_once("://") {
            None if text.is_empty() => Err(wrong("write -, a file or udp://HOST:PORT")),
            None => Ok(Self::File(text.into())),
            Some(("udp", rest)) => udp_url(rest).map(Self::Udp).map_err(|reason| wrong(&reason)),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some((scheme, _)) => Err(wrong(&format!(
                "{scheme}:// is not understood; write -, a file or udp://HOST:PORT"
            ))),
        }
    }
}

/// Reads `[@]HOST:PORT[?interface=..&source=..]`.
fn udp_url(rest: &str) -> Result<UdpInput, String> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.strip_prefix('@').unwrap_or(place).trim_end_matches('/');
    let (host, port) = place.rsplit_once(':').ok_or("the port is missing: udp://HOST:PORT")?;
    let port = port.parse().ok().filter(|p| *p > 0).ok_or("the port is a number up to 65535")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match host {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => host.parse().map_err(|_| "HOST is an address of this machine or of a group")?,
    };
    let mut input = UdpInput { addr: SocketAddr::new(ip, port), interface: None, source: None };
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "interface" | "localaddr" => input.interface = Some(value.into_owned()),
            "source" | "sources" => {
                let source = value.parse().map_err(|_| format!("source={value} is no address"))?;
                input.source = Some(source);
            }
            // Settings of other programs that have no meaning for a receiver without limits.
            "pkt_size" | "fifo_size" | "buffer_size" | "overrun_nonfatal" | "reuse" => {}
            _ => return Err(format!("\"{key}\" is unknown; there are interface and source")),
        }
    }
    Ok(input)
}

/// What happens at the end of an input that could come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnEof {
    /// The stream ends with it.
    #[default]
    End,
    /// The stream stays alive; a named pipe is opened again.
    Wait,
}

/// How a source is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// A file is read at the speed it was made for, not as fast as possible.
    pub realtime: bool,
    /// A file begins again at its end, its time stamps go on. Always in real time: a loop has no
    /// other speed.
    pub looped: bool,
    /// What the end of the input means.
    pub on_eof: OnEof,
    /// Datagrams that stay away for so long are a break.
    pub silence: Duration,
    /// Speed of a file without a clock, bit/s.
    pub rate: u64,
    /// Whether what holds no MPEG-TS packets is refused.
    pub expects_ts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            realtime: false,
            looped: false,
            on_eof: OnEof::End,
            silence: Duration::from_secs(3),
            rate: 4_000_000,
            expects_ts: true,
        }
    }
}

/// A source that is being read.
#[derive(Debug)]
pub struct Ingest {
    items: mpsc::Receiver<IngestItem>,
    check: Option<Check>,
}

impl Ingest {
    /// Opens a source and begins to read it. Dropping the `Ingest` stops that.
    ///
    /// # Errors
    /// The source does not exist, may not be read, or its address is taken.
    pub async fn open(input: Input, options: Options) -> Result<Self, IngestError> {
        let (tx, items) = mpsc::channel(QUEUE_LEN);
        let check = options.expects_ts.then(|| Check::new(&input));
        match input {
            Input::Stdin if options.looped => {
                return Err(IngestError::NotLoopable(input.to_string()));
            }
            Input::Udp(_) if options.looped => {
                return Err(IngestError::NotLoopable(input.to_string()));
            }
            Input::Stdin if io::stdin().is_terminal() => return Err(IngestError::Terminal),
            Input::Stdin => thread(tx, move |out| out.pipe(io::stdin().lock(), &options)),
            Input::File(path) => open_file(path, options, tx).await?,
            Input::Udp(udp) => {
                let socket = udp_ingest::open(&udp)?;
                tokio::spawn(udp_ingest::receive(socket, udp, options.silence, tx));
            }
            Input::Demo => thread(tx, move |out| {
                out.looped(Cursor::new(clip::DEMO), "the built-in clip", &options)
            }),
        }
        Ok(Self { items, check })
    }

    /// The next item; `None` after the end or an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<IngestItem> {
        loop {
            let item = self.items.recv().await?;
            let Some(check) = &mut self.check else { return Some(item) };
            if let Some(verdict) = check.judge(item) {
                // A break leaves the question open.
                if !matches!(verdict, IngestItem::Break) {
                    self.check = None;
                }
                return Some(verdict);
            }
        }
    }
}

/// Holds the beginning of a stream back until it has shown a packet: what is none would be signed
/// and sent to everybody, and nobody could play it.
#[derive(Debug)]
struct Check {
    framer: Framer,
    what: String,
    held: BytesMut,
}

impl Check {
    fn new(input: &Input) -> Self {
        Self { framer: Framer::new(), what: input.to_string(), held: BytesMut::new() }
    }

    /// What to hand on, if it is known.
    fn judge(&mut self, item: IngestItem) -> Option<IngestItem> {
        let mut has_packet = false;
        let each = |unit: Unit<'_>| has_packet |= matches!(unit, Unit::Packet { .. });
        let is_over = match item {
            IngestItem::Bytes(bytes) => {
                self.framer.push(&bytes, each);
                self.held.extend_from_slice(&bytes);
                self.held.len() >= CHECK_LEN
            }
            IngestItem::End => {
                self.framer.finish(each);
                true
            }
            IngestItem::Break => {
                self.framer = Framer::new();
                self.held.clear();
                return Some(IngestItem::Break);
            }
            IngestItem::Error(error) => return Some(IngestItem::Error(error)),
        };
        match (has_packet, is_over) {
            (true, _) => Some(IngestItem::Bytes(self.held.split().freeze())),
            (false, true) => Some(IngestItem::Error(self.fault())),
            (false, false) => None,
        }
    }

    fn fault(&self) -> IngestError {
        let what = self.what.clone();
        match self.held.len() {
            0 => IngestError::Empty(what),
            len => IngestError::NotTs { what, len: len as u64 },
        }
    }
}

async fn open_file(
    path: PathBuf,
    options: Options,
    tx: mpsc::Sender<IngestItem>,
) -> Result<(), IngestError> {
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => IngestError::NotFound(path.clone()),
        io::ErrorKind::PermissionDenied => IngestError::Denied(path.clone()),
        _ => IngestError::File { path: path.clone(), error },
    };
    let meta = tokio::fs::metadata(&path).await.map_err(fault)?;
    if meta.is_dir() {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(IngestError::File { path, error });
    }
    let kind = meta.file_type();
    if kind.is_fifo() || kind.is_char_device() {
        if options.looped {
            return Err(IngestError::NotLoopable(path.display().to_string()));
        }
        // Opening a pipe waits for its writer, so the thread does it.
        thread(tx, move |out| out.named_pipe(&path, &options));
        return Ok(());
    }
    let file = tokio::fs::File::open(&path).await.map_err(fault)?.into_std().await;
    let what = path.display().to_string();
    thread(tx, move |out| {
        if options.looped { out.looped(file, &what, &options) } else { out.file(file, &options) }
    });
    Ok(())
}

/// Why a thread stopped reading early.
enum Stop {
    /// Nobody listens any more.
    Unwanted,
    Failed(IngestError),
}

/// Runs `read` on a thread of its own: reads of pipes and disks cannot be cancelled.
fn thread(
    tx: mpsc::Sender<IngestItem>,
    read: impl FnOnce(&mut Out) -> Result<OnEof, Stop> + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut out = Out { tx, pace: None };
        let last = match read(&mut out) {
            Ok(OnEof::End) => IngestItem::End,
            Ok(OnEof::Wait) => IngestItem::Break,
            Err(Stop::Unwanted) => return,
            Err(Stop::Failed(error)) => IngestItem::Error(error),
        };
        let stays_open = matches!(last, IngestItem::Break);
        if out.tx.blocking_send(last).is_ok() && stays_open {
            debug!("the input has ended, the stream stays alive");
            while !out.tx.is_closed() {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    });
}

/// The reading end of a source's thread.
struct Out {
    tx: mpsc::Sender<IngestItem>,
    pace: Option<Pace>,
}

impl Out {
    fn pipe(&mut self, reader: impl Read, options: &Options) -> Result<OnEof, Stop> {
        self.read_all(reader, "standard input")?;
        Ok(options.on_eof)
    }

    fn named_pipe(&mut self, path: &Path, options: &Options) -> Result<OnEof, Stop> {
        let what = path.display().to_string();
        loop {
            let file = File::open(path)
                .map_err(|error| Stop::Failed(IngestError::File { path: path.into(), error }))?;
            self.read_all(file, &what)?;
            if options.on_eof == OnEof::End {
                return Ok(OnEof::End);
            }
            self.item(IngestItem::Break)?;
        }
    }

    fn file(&mut self, file: File, options: &Options) -> Result<OnEof, Stop> {
        self.pace = options.realtime.then(|| Pace::new(options.rate));
        self.read_all(file, "the file")?;
        Ok(options.on_eof)
    }

    fn looped(
        &mut self,
        mut clip: impl Read + Seek,
        what: &str,
        options: &Options,
    ) -> Result<OnEof, Stop> {
        self.pace = Some(Pace::new(options.rate));
        let failed = |error| Stop::Failed(IngestError::Read { what: what.into(), error });
        let mut relabel = Relabel::new();
        let mut buffer = vec![0; READ_LEN];
        loop {
            let mut framer = Framer::new();
            let (mut len, mut read) = (0, 0);
            loop {
                let count = read_some(&mut clip, &mut buffer).map_err(failed)?;
                let mut packets = BytesMut::with_capacity(count + PACKET_LEN);
                let each = |unit: Unit<'_>| relabel_unit(&mut relabel, unit, &mut packets);
                match buffer.get(..count) {
                    Some([]) | None => framer.finish(each),
                    Some(bytes) => framer.push(bytes, each),
                }
                len += packets.len();
                read += count as u64;
                self.bytes(packets.freeze())?;
                // A file without packets need not be read to its end.
                if count == 0 || (len == 0 && read >= CHECK_LEN as u64) {
                    break;
                }
            }
            if len == 0 {
                return Err(Stop::Failed(IngestError::NotTs { what: what.into(), len: read }));
            }
            relabel.rewind();
            clip.rewind().map_err(failed)?;
        }
    }

    fn read_all(&mut self, mut reader: impl Read, what: &str) -> Result<(), Stop> {
        let mut buffer = vec![0; READ_LEN];
        loop {
            let count = read_some(&mut reader, &mut buffer).map_err(|error| {
                Stop::Failed(IngestError::Read { what: what.to_string(), error })
            })?;
            match buffer.get(..count) {
                Some([]) | None => return Ok(()),
                Some(bytes) => self.bytes(Bytes::copy_from_slice(bytes))?,
            }
        }
    }

    /// Sends `bytes` when they are due.
    fn bytes(&mut self, mut bytes: Bytes) -> Result<(), Stop> {
        let mut due_len = 0;
        while let (Some(pace), true) = (&mut self.pace, due_len < bytes.len()) {
            let end = bytes.len().min(due_len + SLICE_LEN);
            let wait = pace.wait(bytes.get(due_len..end).unwrap_or_default());
            if !wait.is_zero() {
                self.item(IngestItem::Bytes(bytes.split_to(due_len)))?;
                std::thread::sleep(wait);
                due_len = 0;
            }
            due_len = bytes.len().min(due_len + SLICE_LEN);
        }
        self.item(IngestItem::Bytes(bytes))
    }

    fn item(&mut self, item: IngestItem) -> Result<(), Stop> {
        if matches!(&item, IngestItem::Bytes(bytes) if bytes.is_empty()) {
            return Ok(());
        }
        self.tx.blocking_send(item).map_err(|_| Stop::Unwanted)
    }
}

fn relabel_unit(relabel: &mut Relabel, unit: Unit<'_>, out: &mut BytesMut) {
    if let Unit::Packet { packet, .. } = unit {
        let mut packet = *packet;
        relabel.packet(&mut packet);
        out.extend_from_slice(&packet);
    }
}

/// A read that a signal does not end.
fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Holds bytes back until they are due.
struct Pace {
    pacer: Pacer,
    start: Instant,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { pacer: Pacer::new(rate), start: Instant::now() }
    }

    /// How long to wait before `slice` may go.
    fn wait(&mut self, slice: &[u8]) -> Duration {
        let due = Duration::from_micros(self.pacer.push(slice));
        let now = self.start.elapsed();
        // The machine slept, or the swarm did not take the bytes: the lost time stays lost.
        if let Some(late) = now.checked_sub(due).filter(|late| *late > LATE_MAX) {
            self.start += late;
        }
        let wait = due.saturating_sub(now);
        if wait < WAIT_MIN { Duration::ZERO } else { wait }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn items(input: Input, options: Options) -> Vec<IngestItem> {
        let mut ingest = Ingest::open(input, options).await.expect("opens");
        let mut out = Vec::new();
        while let Some(item) = ingest.next().await {
            out.push(item);
        }
        out
    }

    fn bytes(items: &[IngestItem]) -> Vec<u8> {
        let bytes = items.iter().filter_map(|item| match item {
            IngestItem::Bytes(bytes) => Some(bytes.as_ref()),
            _ => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    #[test]
    fn inputs_read_as_people_write_them() {
        let udp = |addr: &str, interface: Option<&str>, source: Option<&str>| {
            Input::Udp(UdpInput {
                addr: addr.parse().expect("address"),
                interface: interface.map(str::to_string),
                source: source.map(|s| s.parse().expect("address")),
            })
        };
        let table = [
            ("-", Input::Stdin),
            ("a/b.ts", Input::File("a/b.ts".into())),
            ("file:///a b.ts", Input::File("/a b.ts".into())),
            ("udp://127.0.0.1:5000", udp("127.0.0.1:5000", None, None)),
            ("udp://@:5000", udp("0.0.0.0:5000", None, None)),
            ("udp://localhost:5000/?pkt_size=1316", udp("127.0.0.1:5000", None, None)),
            ("udp://@[ff15::1]:5000?interface=eth0", udp("[ff15::1]:5000", Some("eth0"), None)),
            (
                "udp://@239.1.1.1:5000?interface=10.0.0.1&source=10.0.0.9",
                udp("239.1.1.1:5000", Some("10.0.0.1"), Some("10.0.0.9")),
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Input>().expect(text), expected);
        }
    }

    #[test]
    fn what_is_no_input_is_refused_with_the_reason() {
        for text in [
            "",
            "udp://127.0.0.1",
            "udp://example.org:5",
            "udp://127.0.0.1:0",
            "udp://127.0.0.1:5?sauce=1",
            "gopher://x",
        ] {
            let error = text.parse::<Input>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_arrives_whole_and_then_ends() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(clip::DEMO).expect("writes");
        let items = items(Input::File(file.path().into()), Options::default()).await;
        assert_eq!(bytes(&items), clip::DEMO);
        assert!(matches!(items.last(), Some(IngestItem::End)));
    }

    #[tokio::test]
    async fn a_missing_file_and_a_folder_are_named() {
        let dir = tempfile::tempdir().expect("folder");
        let open = |path: PathBuf| Ingest::open(Input::File(path), Options::default());
        let error = open(dir.path().join("none.ts")).await.expect_err("missing");
        assert!(matches!(error, IngestError::NotFound(_)), "{error}");
        let error = open(dir.path().into()).await.expect_err("a folder");
        assert!(error.to_string().contains("directory"), "{error}");
    }

    #[tokio::test]
    async fn only_files_with_packets_can_be_looped() {
        let options = || Options { looped: true, ..Options::default() };
        let error = Ingest::open(Input::Stdin, options()).await.expect_err("a pipe");
        assert!(matches!(error, IngestError::NotLoopable(_)), "{error}");
        let file = tempfile::NamedTempFile::new().expect("file");
        let items = items(Input::File(file.path().into()), options()).await;
        assert!(matches!(items.as_slice(), [IngestItem::Error(IngestError::NotTs { .. })]));
    }

    #[tokio::test]
    async fn nothing_of_an_input_without_packets_is_handed_on() {
        for len in [0, 1, 5000, 3 * CHECK_LEN] {
            let mut file = tempfile::NamedTempFile::new().expect("file");
            file.write_all(&vec![b'x'; len]).expect("writes");
            let items = items(Input::File(file.path().into()), Options::default()).await;
            let [IngestItem::Error(error)] = items.get(..1).unwrap_or_default() else {
                panic!("{len}: {items:?}");
            };
            let empty = matches!(error, IngestError::Empty(_));
            assert_eq!(empty, len == 0, "{error}");
            assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_single_packet_and_what_is_before_it_are_handed_on() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        let stream = [b"junk", clip::DEMO.get(..PACKET_LEN).expect("a packet")].concat();
        file.write_all(&stream).expect("writes");
        let items = items(Input::File(file.path().into()), Options::default()).await;
        assert_eq!(bytes(&items), stream);
    }

    #[tokio::test]
    async fn the_clip_is_paced_by_its_clock() {
        let mut ingest = Ingest::open(Input::Demo, Options::default()).await.expect("opens");
        let start = Instant::now();
        let mut len = 0;
        while start.elapsed() < Duration::from_millis(900) {
            let Ok(item) = tokio::time::timeout(Duration::from_millis(200), ingest.next()).await
            else {
                continue;
            };
            if let Some(IngestItem::Bytes(bytes)) = item {
                len += bytes.len();
            }
        }
        // A second holds an eighth of the clip; its key frame is the largest part of it.
        let share = clip::DEMO.len() / 8;
        assert!((share / 2..share * 2).contains(&len), "{len} {share}");
    }

    #[tokio::test]
    async fn an_input_that_waits_breaks_and_stays_open() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let options = Options { on_eof: OnEof::Wait, ..Options::default() };
        let input = Input::File(file.path().into());
        let mut ingest = Ingest::open(input, options).await.expect("opens");
        assert!(matches!(ingest.next().await, Some(IngestItem::Break)));
        let more = tokio::time::timeout(Duration::from_millis(300), ingest.next()).await;
        assert!(more.is_err(), "{more:?}");
    }

    #[tokio::test]
    async fn a_named_pipe_is_opened_again() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(status.success());
        let options = Options { on_eof: OnEof::Wait, expects_ts: false, ..Options::default() };
        let mut ingest = Ingest::open(Input::File(path.clone()), options).await.expect("opens");
        for text in ["one", "two"] {
            let path = path.clone();
            std::thread::spawn(move || std::fs::write(path, text))
                .join()
                .expect("ends")
                .expect("ok");
            let item = ingest.next().await;
            assert!(matches!(item, Some(IngestItem::Bytes(ref b)) if b == text), "{item:?}");
            assert!(matches!(ingest.next().await, Some(IngestItem::Break)));
        }
    }
}
