//! `btlive demo`: a tracker, a broadcaster and viewers on this machine, over real sockets.
//!
//! The bytes that each viewer hands over are compared with those that went into the broadcaster,
//! so the verdict does not rest on what the nodes say of themselves.
#![allow(clippy::disallowed_methods)]

mod member;
mod tape;
mod verdict;

use std::future::pending;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::args::{Span, listen_address};
use super::cli::block_on;
use super::exit::{Code, Failure};
use super::reach::print_line;
use super::{file, keyfile};
use crate::discovery::tracker_store::{Bounds, Counts, TrackerStore};
use crate::machine::Rng;
use crate::media::clip;
use crate::net::clock;
use crate::net::ingest::{Ingest, IngestItem, Input, Options};
use crate::net::tracker_server::TrackerServer;
use crate::wire::metainfo::{LiveTorrent, MEDIA_MPEG_TS};
use member::{Heard, Member, Stage};
use tape::{Tape, Witness};
use verdict::{Seen, Verdict};

/// How long a demonstration lasts that nobody watches.
const DURATION_UNWATCHED: Duration = Duration::from_secs(20);
/// When somebody is killed, if no time is given.
const KILL_AT: Duration = Duration::from_secs(5);
/// A killed broadcaster comes back after this time.
const DEAD_FOR: Duration = Duration::from_secs(2);
/// After the end of the stream, viewers get this long to play what is left.
const END_WAIT: Duration = Duration::from_secs(15);
/// A connection over loopback is there within this time.
const LOOPBACK_WAIT: Duration = Duration::from_secs(3);
/// A broadcaster publishes within this time.
const PUBLISHING_WAIT: Duration = Duration::from_secs(8);
/// Seconds between announces to the demonstration's tracker.
const ANNOUNCE_EVERY_S: u32 = 30;
/// Bytes of a full piece: a quarter to half a second of the clip.
const PIECE_LEN: u32 = 16 << 10;
/// What viewers hand over waits for its comparison.
const HEARD_MAX: usize = 64;

/// The clip's bytes per second.
const BYTE_RATE: u64 = clip::DEMO.len() as u64 * 1_000_000 / clip::DEMO_US;

const HELP: &str = "\
Needs no network, no ffmpeg and no rights, and leaves no file behind. The broadcaster may send \
only --uplink copies of the stream, so viewers must pass it on to each other. Ends with code 0 \
only if what every viewer got is byte for byte what the broadcaster took in, up to the end. After \
--kill broadcaster, what it had not passed on may be missing: at most 5 seconds of the stream.

Examples:
  btlive demo
  btlive demo --viewers 8 --uplink 2 --processes
  btlive demo --kill broadcaster --at 8s --duration 25s
  btlive demo --duration 20s --json";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    /// The broadcaster, which is started again two seconds later.
    Broadcaster,
    /// The last viewer.
    Viewer,
    /// The viewer that has passed on most; not the one that serves HTTP.
    Relay,
}

impl Victim {
    fn name(self) -> &'static str {
        match self {
            Self::Broadcaster => "broadcaster",
            Self::Viewer => "viewer",
            Self::Relay => "relay",
        }
    }
}

/// Arguments of `btlive demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Viewers
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=50))]
    pub viewers: u16,
    /// Ends after this time; else after 20s if nobody watches, on a terminal with Ctrl-C
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Span>,
    /// Copies of the stream that the broadcaster may send
    #[arg(long, value_name = "COPIES", default_value = "1.5", value_parser = copies)]
    pub uplink: f64,
    /// Runs the broadcaster and each viewer as a process of its own
    #[arg(long)]
    pub processes: bool,
    /// Kills somebody, without a goodbye
    #[arg(long, value_enum, value_name = "WHO")]
    pub kill: Option<Victim>,
    /// When to kill, counted from the start; 5s if not given
    #[arg(long, value_name = "TIME", requires = "kill")]
    pub at: Option<Span>,
    /// Where the first viewer serves the stream to players; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0",
          value_parser = listen_address)]
    pub http: SocketAddr,
    /// Prints the verdict as one JSON document
    #[arg(long, env = "BTLIVE_JSON")]
    pub json: bool,
}

fn copies(text: &str) -> Result<f64, String> {
    let copies = text.parse().ok().filter(|copies| (1.0..=100.0).contains(copies));
    copies.ok_or_else(|| "a number from 1 to 100".to_owned())
}

/// Runs `btlive demo`.
///
/// # Errors
/// Code 1 if a viewer lacks a piece, 4 without loopback, 10 if the address for HTTP is taken, 130
/// after a second Ctrl-C.
pub fn run(args: Args) -> Result<(), Failure> {
    let duration = duration(&args)?;
    block_on(Box::pin(demo(args, duration)))
}

/// How long it lasts; none is until Ctrl-C.
fn duration(args: &Args) -> Result<Option<Duration>, Failure> {
    let unwatched = args.json || !std::io::stdout().is_terminal();
    let duration = match args.duration {
        Some(Span(duration)) => Some(duration),
        None => unwatched.then_some(DURATION_UNWATCHED),
    };
    if duration.is_some_and(|duration| duration < Duration::from_secs(1)) {
        return Err(Failure::usage("--duration must be at least 1s"));
    }
    if args.kill.is_some() && duration.is_some_and(|duration| kill_at(args) >= duration) {
        return Err(Failure::usage("--at must be before the end, which --duration names"));
    }
    if matches!(args.kill, Some(Victim::Viewer | Victim::Relay)) && args.viewers < 2 {
        return Err(Failure::usage("--kill of a viewer needs --viewers 2 or more"));
    }
    Ok(duration)
}

fn kill_at(args: &Args) -> Duration {
    args.at.map_or(KILL_AT, |Span(at)| at)
}

/// A folder that is gone with the value.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("btlive-demo-{:016x}", clock::seed()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Failure::disk(&path, &e))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tracker on loopback, alive as long as the value.
struct Tracker {
    url: String,
    _whitelists: mpsc::Sender<std::collections::BTreeSet<crate::units::InfoHash>>,
}

impl Tracker {
    async fn start() -> Result<Self, Failure> {
        let rng = Rng::new(clock::seed());
        let store = TrackerStore::new(Bounds::default(), ANNOUNCE_EVERY_S, None, rng);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server =
            TrackerServer::bind(&[addr], &[], store).map_err(|(_, error)| no_loopback(&error))?;
        let addrs = server.http_addrs();
        let bound = addrs.first().ok_or_else(|| Failure::new(Code::Network, "no address"))?;
        let url = format!("http://{bound}/announce");
        let (whitelists, receiver) = mpsc::channel(1);
        tokio::spawn(server.run(clock::secret(), receiver, watch::channel(Counts::default()).0));
        // An interface that is down can be listened on all the same.
        let reached = tokio::time::timeout(LOOPBACK_WAIT, TcpStream::connect(bound)).await;
        reached.map_err(Into::into).and_then(|tried| tried).map_err(|e| no_loopback(&e))?;
        Ok(Self { url, _whitelists: whitelists })
    }
}

fn no_loopback(error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Network,
        format_args!(
            "127.0.0.1 cannot be reached ({error}): the demo needs the loopback interface; try: \
             ip link set lo up"
        ),
    )
}

/// Makes the live torrent with a fresh key.
fn make_torrent(dir: &Path, tracker: &str) -> Result<(PathBuf, PathBuf), Failure> {
    let key = keyfile::generate()?;
    let torrent = LiveTorrent {
        name: "btlive demo".into(),
        piece_length: PIECE_LEN,
        private: false,
        public_key: key.verifying_key().to_bytes(),
        window_s: 60,
        media: MEDIA_MPEG_TS.into(),
        bitrate: Some(BYTE_RATE * 8),
        tiers: vec![vec![tracker.to_owned()]],
        origins: Vec::new(),
        created_by: None,
    };
    let (torrent_path, key_path) = (dir.join("demo.torrent"), dir.join("demo.key"));
    keyfile::write_new(&key_path, &key)?;
    file::replace(&torrent_path, &torrent.encode())?;
    Ok((torrent_path, key_path))
}

async fn demo(args: Args, duration: Option<Duration>) -> Result<(), Failure> {
    let interrupts = signal(SignalKind::interrupt());
    let interrupts =
        interrupts.map_err(|e| Failure::new(Code::Unexpected, format_args!("signals: {e}")))?;
    // Known before anything starts, and told the same way whoever will listen there.
    drop(super::play::listen_http(args.http).await?);
    let folder = Folder::new()?;
    let tracker = Tracker::start().await?;
    let (torrent, key) = make_torrent(&folder.0, &tracker.url)?;
    let stage = Stage {
        dir: folder.0.clone(),
        torrent,
        key,
        upload_limit: (args.uplink * (BYTE_RATE * 8) as f64) as u64,
        processes: args.processes,
    };
    let show = Show::start(&args, stage, interrupts).await?;
    let verdict = show.run(&args, duration, tracker.url).await?;
    conclude(&args, &verdict)
}

/// Prints the verdict; it is the exit code too.
fn conclude(args: &Args, verdict: &Verdict) -> Result<(), Failure> {
    let faults = verdict.faults();
    if args.json {
        print_line(&verdict.json());
    } else {
        file::to_stdout(|out| {
            verdict.print(out)?;
            if faults.is_empty() { out.write_all(NEXT.as_bytes()) } else { Ok(()) }
        })?;
    }
    match faults.as_slice() {
        [] => Ok(()),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { "" } else { " (and more)" };
            Err(Failure::new(Code::Unexpected, format_args!("the demo failed: {first}{more}")))
        }
    }
}

/// What to try after it.
const NEXT: &str = "
Try your own stream:
  btlive create --name mine --bitrate 4M --tracker http://127.0.0.1:6969/announce --out my.torrent
  btlive tracker &
  ffmpeg -re -i film.mp4 -c copy -f mpegts - |
    btlive broadcast my.torrent --key my.key --allow-local
  btlive play my.torrent --player mpv --allow-local
Two machines: run `btlive tracker --http 0.0.0.0:6969`, name it by this machine's address in
  --tracker, take my.torrent (never my.key) to the other machine, and there:
  btlive play my.torrent --player mpv --allow-local
";

/// A demonstration that runs.
struct Show {
    stage: Stage,
    interrupts: Signal,
    ingest: Ingest,
    tape: Tape,
    broadcaster: Option<Member>,
    feed: Option<mpsc::Sender<Bytes>>,
    /// What the clip brought and the broadcaster has no room for yet.
    waiting: Option<Bytes>,
    viewers: Vec<Viewer>,
    heard: mpsc::Receiver<(usize, Heard)>,
    documents: Vec<Value>,
    fault: Option<String>,
    began: Instant,
}

/// A viewer beside what it got.
struct Viewer {
    member: Option<Member>,
    witness: Witness,
    has_ended: bool,
    seen: Seen,
}

/// Why the main part of a demonstration is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    InTime,
    Interrupted,
    Failed,
}

impl Show {
    async fn start(args: &Args, stage: Stage, interrupts: Signal) -> Result<Self, Failure> {
        let (broadcaster, feed) = stage.broadcaster().await?;
        // What comes in while it still listens for others would go out as one burst.
        wait_until_publishing(&broadcaster).await;
        let began = Instant::now();
        let (ear, heard) = mpsc::channel(HEARD_MAX);
        let mut viewers = Vec::new();
        for number in 1..=usize::from(args.viewers) {
            let http = (number == 1).then_some(args.http);
            let member = stage.viewer(number, http, ear.clone()).await?;
            if let Some(url) = &member.url {
                eprintln!("open {url} in any player, such as mpv or VLC");
            }
            viewers.push(Viewer {
                member: Some(member),
                witness: Witness::default(),
                has_ended: false,
                seen: Seen { number, ..Seen::default() },
            });
        }
        let options = Options { looped: true, ..Options::default() };
        let ingest = Ingest::open(Input::Demo, options).await;
        let ingest = ingest.map_err(|e| Failure::new(Code::Unexpected, e))?;
        Ok(Self {
            stage,
            interrupts,
            ingest,
            tape: Tape::default(),
            broadcaster: Some(broadcaster),
            feed: Some(feed),
            waiting: None,
            viewers,
            heard,
            documents: Vec::new(),
            fault: None,
            began,
        })
    }

    async fn run(
        mut self,
        args: &Args,
        duration: Option<Duration>,
        tracker: String,
    ) -> Result<Verdict, Failure> {
        if duration.is_none() {
            eprintln!("Ctrl-C ends the demo and prints its verdict");
        }
        let over = self.play(args, duration).await?;
        // The clip's end is the stream's end for everybody.
        if over != Over::Failed {
            self.flush().await;
        }
        self.feed = None;
        self.play_out().await?;
        let seconds = self.began.elapsed().as_secs_f64();
        self.leave().await;
        let verdict = Verdict {
            taken_in: self.tape.end(),
            viewers: self.viewers.into_iter().map(|viewer| viewer.seen).collect(),
            broadcaster: self.documents,
            fault: self.fault,
            seconds,
            uplink: args.uplink,
            byte_rate: BYTE_RATE,
            killed: args.kill.map(Victim::name),
            processes: args.processes,
            tracker,
        };
        Ok(verdict)
    }

    /// Feeds the broadcaster and listens to the viewers until the time is over.
    async fn play(&mut self, args: &Args, duration: Option<Duration>) -> Result<Over, Failure> {
        let end = duration.map(|duration| self.began + duration);
        let mut kill = args.kill.map(|victim| (self.began + kill_at(args), victim));
        let mut restart = None;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let is_watched = std::io::stderr().is_terminal() && !args.json;
        loop {
            tokio::select! {
                item = self.ingest.next(), if self.waiting.is_none() => match item {
                    Some(IngestItem::Bytes(bytes)) => self.waiting = Some(bytes),
                    _ => {
                        self.fault = Some("the clip has ended".into());
                        return Ok(Over::Failed);
                    }
                },
                permit = room(&self.feed), if self.waiting.is_some() => self.pass_on(permit),
                heard = self.heard.recv() => self.hear(heard),
                () = until(kill.map(|(at, _)| at)) => {
                    if let Some((_, victim)) = kill.take() {
                        self.kill(victim).await;
                        restart = (victim == Victim::Broadcaster)
                            .then(|| Instant::now() + DEAD_FOR);
                    }
                }
                () = until(restart) => {
                    restart = None;
                    let (member, feed) = self.stage.broadcaster().await?;
                    (self.broadcaster, self.feed) = (Some(member), Some(feed));
                }
                () = until(end) => return Ok(Over::InTime),
                _ = self.interrupts.recv() => return Ok(Over::Interrupted),
                _ = tick.tick() => {
                    if is_watched {
                        eprint!("\r\x1b[K{}", self.line());
                    }
                    if let Some(who) = self.who_is_gone() {
                        self.fault = Some(format!("{who} ended by itself"));
                        return Ok(Over::Failed);
                    }
                }
            }
        }
    }

    /// Gives the broadcaster what waits; one that is dead misses it.
    fn pass_on(&mut self, permit: Option<mpsc::OwnedPermit<Bytes>>) {
        if let (Some(bytes), Some(permit)) = (self.waiting.take(), permit) {
            self.tape.push(&bytes);
            permit.send(bytes);
        }
    }

    /// The last part that the clip brought goes out too, if there is room for it soon.
    async fn flush(&mut self) {
        if self.waiting.is_some() {
            let permit = tokio::time::timeout(Duration::from_secs(1), room(&self.feed)).await;
            self.pass_on(permit.unwrap_or(None));
        }
    }

    fn hear(&mut self, heard: Option<(usize, Heard)>) {
        let Some((number, heard)) = heard else { return };
        let Some(viewer) = self.viewers.get_mut(number - 1) else { return };
        match heard {
            Heard::Bytes(bytes) => viewer.witness.push(&self.tape, &bytes),
            Heard::End => viewer.has_ended = true,
        }
    }

    /// Who has ended that nobody told to.
    fn who_is_gone(&self) -> Option<String> {
        if self.broadcaster.as_ref().is_some_and(Member::is_gone) {
            return Some("the broadcaster".into());
        }
        let gone = |v: &&Viewer| v.member.as_ref().is_some_and(Member::is_gone);
        self.viewers.iter().find(gone).map(|viewer| format!("viewer {}", viewer.seen.number))
    }

    async fn kill(&mut self, victim: Victim) {
        if victim == Victim::Broadcaster {
            if let Some(broadcaster) = self.broadcaster.take() {
                eprintln!("killing the broadcaster");
                self.documents.push(broadcaster.kill().await);
            }
            // Not before: the end of its input would be the end of the stream.
            self.feed = None;
            return;
        }
        let sent = |viewer: &Viewer| {
            let document = viewer.member.as_ref().map(Member::document).unwrap_or_default();
            let sent = document.pointer("/bytes/up_payload").and_then(Value::as_u64);
            (if victim == Victim::Relay { sent.unwrap_or(0) } else { 0 }, viewer.seen.number)
        };
        // The first viewer serves the one who watches.
        let others = self.viewers.iter_mut().skip(1);
        let Some(viewer) = others.max_by_key(|viewer| sent(viewer)) else { return };
        if let Some(member) = viewer.member.take() {
            eprintln!("killing viewer {}", viewer.seen.number);
            viewer.seen.document = member.kill().await;
            viewer.seen.killed = true;
            viewer.has_ended = true;
        }
    }

    /// The stream has ended: viewers play what is left.
    async fn play_out(&mut self) -> Result<(), Failure> {
        let late = Instant::now() + END_WAIT;
        while self.viewers.iter().any(|viewer| !viewer.has_ended) {
            tokio::select! {
                heard = self.heard.recv() => {
                    if heard.is_none() {
                        return Ok(());
                    }
                    self.hear(heard);
                }
                () = sleep_until(late) => return Ok(()),
                _ = self.interrupts.recv() => {
                    return Err(Failure::new(Code::Interrupted, "interrupted"));
                }
            }
        }
        Ok(())
    }

    /// Everybody leaves, and says how it was.
    async fn leave(&mut self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        for viewer in &mut self.viewers {
            if let Some(member) = viewer.member.take() {
                let latest = member.document();
                match member.finish().await {
                    Ok(document) => viewer.seen.document = document,
                    Err(failure) => {
                        viewer.seen.document = latest;
                        viewer.seen.fault = Some(failure.message);
                    }
                }
            }
            viewer.seen.tally = viewer.witness.finish(&self.tape);
        }
        if let Some(broadcaster) = self.broadcaster.take() {
            let latest = broadcaster.document();
            match broadcaster.finish().await {
                Ok(document) => self.documents.push(document),
                Err(failure) => {
                    self.documents.push(latest);
                    self.fault = Some(format!("broadcaster: {}", failure.message));
                }
            }
        }
    }

    /// One line for a terminal.
    fn line(&self) -> String {
        let playing = |viewer: &&Viewer| viewer.witness.tally().delivered > 0;
        let playing = self.viewers.iter().filter(playing).count();
        let gaps: u64 = self.viewers.iter().map(|viewer| viewer.witness.tally().gaps).sum();
        let document = self.broadcaster.as_ref().map(Member::document).unwrap_or_default();
        let copies = document.pointer("/copies_sent").and_then(Value::as_f64).unwrap_or(0.0);
        format!(
            "{:.0} s: {playing} of {} viewers play, {gaps} gaps, broadcaster sent {copies:.1} \
             copies",
            self.began.elapsed().as_secs_f64(),
            self.viewers.len(),
        )
    }
}

/// Waits until a broadcaster has found out that it is alone; for a while at most.
async fn wait_until_publishing(broadcaster: &Member) {
    let late = Instant::now() + PUBLISHING_WAIT;
    while Instant::now() < late
        && !broadcaster.is_gone()
        && broadcaster.source().await.as_deref() != Some("publishing")
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits until the broadcaster can take more; at once if there is none.
async fn room(feed: &Option<mpsc::Sender<Bytes>>) -> Option<mpsc::OwnedPermit<Bytes>> {
    feed.clone()?.reserve_owned().await.ok()
}
