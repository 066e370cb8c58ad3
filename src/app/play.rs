//! `btlive play`: joins a stream, verifies it, plays it.
#![allow(clippy::disallowed_methods)]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::args::{Behind, Span, listen_address};
use super::cli::block_on;
use super::common::{Common, Stop, stop_signal};
use super::exit::{Code, Failure};
use super::session::{Session, Setup, Told};
use super::status::reason_name;
use super::target::Target;
use crate::live::delay::AUTO_FIRST;
use crate::net::driver::{Node, Snapshot};
use crate::net::http_out::{self, ListenError, OpenError, Opening, Published, StreamSource};
use crate::net::player::{Player, PlayerError};
use crate::net::sinks::{self, Finish, Sink, SinkError};
use crate::swarm::config::Role;
use crate::swarm::io::{Delay, Event};
use crate::swarm::status::Condition;
use crate::wire::limits;
use crate::wire::metainfo::MEDIA_MPEG_TS;

/// How far behind to play if nobody says.
const DELAY: Duration = Duration::from_secs(2);
/// HTTP clients that may read at once.
const CLIENTS_MAX: usize = 250;
/// After the end, others are served for this long: some may have only us.
const LINGER: Duration = Duration::from_millis(1500);
/// After the end, HTTP readers get this long to take what is left.
const READERS_END: Duration = Duration::from_secs(10);

const HELP: &str = "\
Without --output, --http or --player the stream goes to standard output if that is no terminal, \
and is otherwise served over HTTP at an address that is printed.

Examples:
  btlive play my.torrent --player mpv
  btlive play 'magnet:?xt=urn:btih:…' > stream.ts
  btlive play my.torrent --http 127.0.0.1:8000";

/// Arguments of `btlive play`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The live torrent: a file or a magnet link
    #[arg(value_name = "TORRENT|MAGNET")]
    pub target: String,
    /// Writes the stream to standard output (-) or to this file
    #[arg(long, value_name = "-|FILE", env = "BTLIVE_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Starts a player on the stream: mpv, vlc, ffplay or any command; ends when it ends
    #[arg(long, value_name = "COMMAND", env = "BTLIVE_PLAYER")]
    pub player: Option<String>,
    /// Serves the stream over HTTP here, to any number of players; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", env = "BTLIVE_HTTP", value_parser = listen_address)]
    pub http: Option<SocketAddr>,
    /// How far behind the broadcaster to play, at most the stream's window; auto: as little as was
    /// enough in the last minute, from 0.5 s to 30 s [default: 2s]
    #[arg(long, value_name = "TIME|auto", env = "BTLIVE_DELAY")]
    pub delay: Option<Behind>,
    /// How long to wait for a stream that is not there
    #[arg(long, value_name = "TIME", default_value = "30s", env = "BTLIVE_WAIT")]
    pub wait: Span,
    /// Ends with code 11 if the stream stalls for longer than this
    #[arg(long, value_name = "TIME", env = "BTLIVE_MAX_STALL")]
    pub max_stall: Option<Span>,
    /// What all commands in a swarm share.
    #[command(flatten)]
    pub common: Common,
    /// Arguments for the player, behind --
    #[arg(last = true, value_name = "ARGS")]
    pub player_args: Vec<String>,
}

impl Args {
    fn delay(&self) -> Delay {
        match self.delay {
            None => Delay::Fixed(DELAY),
            Some(Behind::Span(Span(delay))) => Delay::Fixed(delay),
            Some(Behind::Auto) => Delay::Auto,
        }
    }

    /// Refuses a delay at which nothing is kept any more. A short window under the usual delay is
    /// no fault of the user's: then it is played as late as it is kept.
    fn fits(&self, window: Duration) -> Result<(), Failure> {
        let delay = match self.delay {
            Some(Behind::Span(Span(delay))) if delay > window => delay,
            _ => return Ok(()),
        };
        let (delay, window) = (delay.as_secs_f64(), window.as_secs_f64());
        Err(Failure::usage(format_args!(
            "--delay {delay}s: peers keep {window} s of this stream, so {window}s is the most"
        )))
    }
}

/// Runs `btlive play`.
///
/// # Errors
/// The stream is not found, stalls for too long, or an output fails.
pub fn run(args: Args) -> Result<(), Failure> {
    args.common.begin()?;
    block_on(play(args))
}

/// Where the stream goes.
struct Outputs {
    sink: Option<Sink>,
    http: Option<SocketAddr>,
}

fn outputs(args: &Args) -> Result<Outputs, Failure> {
    if args.player.is_none() && !args.player_args.is_empty() {
        return Err(Failure::usage("arguments behind -- are for --player, which is not given"));
    }
    let named = args.output.as_ref().map(|path| match path.to_str() {
        Some("-") => Sink::Stdout,
        _ => Sink::File(path.clone()),
    });
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let nothing = named.is_none() && args.http.is_none() && args.player.is_none();
    let stdout_free = !std::io::stdout().is_terminal() && !args.common.json;
    Ok(match nothing {
        true if stdout_free => Outputs { sink: Some(Sink::Stdout), http: None },
        true => Outputs { sink: None, http: Some(local) },
        false => {
            let http = args.http.or(args.player.is_some().then_some(local));
            Outputs { sink: named, http }
        }
    })
}

async fn play(args: Args) -> Result<(), Failure> {
    let outputs = outputs(&args)?;
    let target = Target::read(&args.target)?;
    let window_max = Duration::from_secs(limits::WINDOW_S_MAX.into());
    args.fits(target.window().unwrap_or(window_max))?;
    // A path that cannot be written is known before anything else starts.
    let file = match &outputs.sink {
        Some(sink) => Some((sink.clone(), sinks::open(sink).map_err(|e| sink_failure(&e))?)),
        None => None,
    };
    let setup = Setup {
        role_name: "play",
        role: Role::Viewer,
        left_zero: false,
        delay: match args.delay() {
            Delay::Fixed(delay) => delay,
            Delay::Auto => AUTO_FIRST,
        },
        stdout_is_media: outputs.sink == Some(Sink::Stdout),
        feed_only: Vec::new(),
    };
    let session = Session::start(&args.common, target, setup).await?;
    let url = match outputs.http {
        Some(addr) => {
            let url = serve(&session, addr, args.delay(), args.wait.0).await?;
            // The URL is what the user waits for: also when quiet.
            eprintln!("playing at {url}");
            Some(url)
        }
        None => None,
    };
    let player = match (&args.player, &url) {
        (Some(command), Some(url)) => Some(start_player(command, &args.player_args, url)?),
        _ => None,
    };
    let writing = match file {
        Some((sink, file)) => {
            let reader = session.node.open_reader(args.delay()).await;
            let reader =
                reader.ok_or_else(|| Failure::new(Code::Unexpected, "the node is gone"))?;
            Some(tokio::spawn(sinks::write(sink, file, reader)))
        }
        None => None,
    };
    Playing { session, writing, player, began: Instant::now(), seen: false, stalled: None }
        .run(&args)
        .await
}

fn start_player(command: &str, args: &[String], url: &str) -> Result<Player, Failure> {
    Player::start(command, args, url).map_err(|e| Failure::new(Code::Player, e))
}

fn sink_failure(error: &SinkError) -> Failure {
    Failure::new(Code::of_file(&error.error), error)
}

/// A stream as the HTTP side sees it.
struct Source {
    node: Node,
    delay: Delay,
    document: watch::Receiver<Value>,
}

impl StreamSource for Source {
    fn open(&self) -> Opening<'_> {
        Box::pin(async {
            let reader = self.node.open_reader(self.delay).await;
            reader.ok_or_else(|| OpenError { reason: "stopped".to_owned() })
        })
    }

    fn status(&self) -> Value {
        self.document.borrow().clone()
    }
}

/// Opens the address that HTTP is served at.
///
/// # Errors
/// The address is in use or not ours.
pub(super) async fn listen_http(addr: SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    http_out::listen(addr).await.map_err(|error| {
        let code = match &error {
            ListenError::AddressInUse(_) => Code::AddressInUse,
            ListenError::Address { error, .. } => Code::of_address(error),
        };
        Failure::new(code, error)
    })
}

/// Serves the stream over HTTP to readers `delay` behind the broadcaster, each of whom waits at
/// most `wait` for it; returns its URL.
pub(super) async fn serve(
    session: &Session,
    addr: SocketAddr,
    delay: Delay,
    wait: Duration,
) -> Result<String, Failure> {
    let listener = listen_http(addr).await?;
    let bound = listener.local_addr().map_err(|e| Failure::new(Code::Network, e))?;
    let id = session.target.info_hash.to_string();
    let source = Source { node: session.node.clone(), delay, document: session.document() };
    let published = Published {
        id: id.clone(),
        name: session.target.name.clone().unwrap_or_else(|| id.clone()),
        media: session.target.media().unwrap_or_else(|| MEDIA_MPEG_TS.to_owned()),
        source: Arc::new(source),
    };
    let settings = http_out::Settings { bound, wait, clients_max: CLIENTS_MAX };
    tokio::spawn(http_out::serve(listener, http_out::router(vec![published], settings)));
    Ok(http_out::url(bound, &id))
}

/// A stream that is being played.
struct Playing {
    session: Session,
    writing: Option<JoinHandle<Result<Finish, SinkError>>>,
    player: Option<Player>,
    began: Instant,
    seen: bool,
    stalled: Option<Instant>,
}

impl Playing {
    async fn run(mut self, args: &Args) -> Result<(), Failure> {
        let outcome = self.watch(args).await;
        if outcome.is_ok() {
            let _ = tokio::time::timeout(LINGER, self.idle()).await;
        }
        let finished = self.session.finish().await;
        outcome.and(finished)
    }

    /// Lets the session go on.
    async fn idle(&mut self) {
        while self.session.next().await.is_ok() {}
    }

    async fn watch(&mut self, args: &Args) -> Result<(), Failure> {
        let stop = stop_signal();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                told = self.session.next() => match told? {
                    Told::Second(snapshot) => self.second(args, &snapshot)?,
                    Told::Event(Event::Ended) if self.only_http() => {
                        return self.end_http().await;
                    }
                    Told::Event(_) => {}
                },
                finish = written(&mut self.writing) => return ended(finish),
                result = ended_player(&mut self.player) => {
                    return result.map_err(|e| Failure::new(Code::Player, e));
                }
                stop = &mut stop => return match stop {
                    Stop::Interrupt => Err(Failure::new(Code::Interrupted, "interrupted")),
                    Stop::Terminate => Ok(()),
                },
            }
        }
    }

    /// Whether the stream goes to HTTP clients only, and no player of ours is among them.
    fn only_http(&self) -> bool {
        self.writing.is_none() && self.player.is_none()
    }

    /// The stream has ended and goes to HTTP clients only: they get what is left.
    async fn end_http(&mut self) -> Result<(), Failure> {
        let until = Instant::now() + READERS_END;
        while Instant::now() < until {
            if let Told::Second(snapshot) = self.session.next().await?
                && snapshot.readers == 0
            {
                break;
            }
        }
        Ok(())
    }

    fn second(&mut self, args: &Args, snapshot: &Snapshot) -> Result<(), Failure> {
        if let Some(window_us) = snapshot.stream_window_us {
            args.fits(Duration::from_micros(window_us))?;
        }
        let status = &snapshot.status;
        let here = snapshot.first_delivery_us.is_some()
            || (self.writing.is_none() && matches!(status.condition, Condition::Live));
        self.seen |= here;
        if !self.seen && self.began.elapsed() > args.wait.0 {
            let why = match (status.condition, status.connected) {
                (Condition::Ended, _) => "the broadcast is over",
                (_, 0) if status.known == 0 && !args.common.allow_local => {
                    "no peer is known (addresses of this machine or network are left out without \
                     --allow-local)"
                }
                (_, 0) if status.known == 0 => "no peer is known",
                (_, 0) => "no peer can be reached",
                (Condition::Joining, _) => "peers are there, but none shows the stream",
                (Condition::Stale, _) => "only an old broadcast is there",
                _ => "the stream is there, but nothing can be played",
            };
            return Err(Failure::new(
                Code::NotFound,
                format_args!("nothing to play within {} s: {why}", args.wait.0.as_secs_f64()),
            ));
        }
        if self.seen && status.condition == Condition::Stalled {
            let since = *self.stalled.get_or_insert_with(Instant::now);
            if let Some(limit) = args.max_stall.filter(|limit| since.elapsed() > limit.0) {
                let reason = reason_name(status.reason).unwrap_or("unknown");
                return Err(Failure::new(
                    Code::Stalled,
                    format_args!("stalled for {} s: {reason}", limit.0.as_secs_f64()),
                ));
            }
        } else {
            self.stalled = None;
        }
        Ok(())
    }
}

async fn written(
    writing: &mut Option<JoinHandle<Result<Finish, SinkError>>>,
) -> Result<Finish, SinkError> {
    match writing {
        Some(task) => task.await.unwrap_or(Ok(Finish::Stopped)),
        None => std::future::pending().await,
    }
}

async fn ended_player(player: &mut Option<Player>) -> Result<(), PlayerError> {
    match player {
        Some(player) => player.wait().await,
        None => std::future::pending().await,
    }
}

fn ended(finish: Result<Finish, SinkError>) -> Result<(), Failure> {
    match finish {
        Ok(Finish::Ended | Finish::ReaderGone) => Ok(()),
        Ok(Finish::Stopped) => Err(Failure::new(Code::Unexpected, "the node ended by itself")),
        Err(error) => Err(sink_failure(&error)),
    }
}
