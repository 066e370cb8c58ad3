//! `btlive broadcast`: takes a stream in, signs it and seeds it.
#![allow(clippy::disallowed_methods)]

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;

use super::args::Rate;
use super::cli::block_on;
use super::common::{Common, Stop, stop_signal};
use super::exit::{Code, Failure};
use super::keyfile;
use super::relays::Relays;
use super::session::{Session, Setup, Told};
use super::target::Target;
use super::upload::Upload;
use crate::live::EPOCH_AHEAD_MAX_S;
use crate::net::ingest::{self, Ingest, IngestError, IngestItem, Input};
use crate::swarm::config::{Role, SourceConfig};
use crate::swarm::io::{Event, In};
use crate::wire::magnet::PeerAddr;
use crate::wire::metainfo::{Info, MEDIA_MPEG_TS};

/// After the end of the stream, those who lack the last piece are served this long.
const DRAIN: Duration = Duration::from_secs(10);
/// And everybody for this long, so that the word of the end gets around.
const LINGER: Duration = Duration::from_millis(1500);

/// What the end of the input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnEof {
    /// The stream ends.
    End,
    /// The stream waits for the input to come back.
    Wait,
}

const HELP: &str = "\
Ctrl-C ends the stream for all viewers; a second one stops at once. SIGTERM leaves the stream open \
for the next start, which goes on where this one stopped.

Examples:
  ffmpeg -re -i film.mp4 -c copy -f mpegts - | btlive broadcast my.torrent --key my.key
  btlive broadcast my.torrent --key my.key --input film.ts --loop
  btlive broadcast my.torrent --key my.key --input udp://127.0.0.1:5000
  btlive broadcast my.torrent --key my.key --feed-only relay.example.org:6881";

/// Arguments of `btlive broadcast`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The live torrent, made by `btlive create`
    pub torrent: String,
    /// The key file of the torrent
    #[arg(long, value_name = "FILE", env = "BTLIVE_KEY")]
    pub key: PathBuf,
    /// Where the stream comes from: - (standard input), a file, or udp://HOST:PORT
    #[arg(long, value_name = "INPUT", default_value = "-", env = "BTLIVE_INPUT")]
    pub input: String,
    /// Plays a file again and again, its time stamps going on; implies --realtime
    #[arg(long = "loop", env = "BTLIVE_LOOP")]
    pub looped: bool,
    /// Reads a file at the speed of its own clock instead of as fast as it can be sent
    #[arg(long, env = "BTLIVE_REALTIME")]
    pub realtime: bool,
    /// What the end of the input means
    #[arg(long, value_enum, default_value = "end", value_name = "WHAT", env = "BTLIVE_ON_EOF")]
    pub on_eof: OnEof,
    /// Takes the stream over at once from a broadcaster with the same key
    #[arg(long, env = "BTLIVE_TAKEOVER")]
    pub takeover: bool,
    /// Does not tell trackers and peers that this is the source
    #[arg(long, env = "BTLIVE_HIDE")]
    pub hide: bool,
    /// Feeds these relays alone (repeatable): nothing is announced and nobody can connect; relays
    /// run `btlive seed`, which announces
    #[arg(long, value_name = "PEER", env = "BTLIVE_FEED_ONLY", num_args = 1..,
          value_delimiter = ',')]
    pub feed_only: Vec<PeerAddr>,
    /// What all commands in a swarm share.
    #[command(flatten)]
    pub common: Common,
}

/// Runs `btlive broadcast`.
///
/// # Errors
/// The torrent, key or input does not fit, or the node failed.
pub fn run(args: Args) -> Result<(), Failure> {
    args.common.begin()?;
    block_on(broadcast(args))
}

fn ingest_failure(error: &IngestError) -> Failure {
    let code = match error {
        IngestError::Unreadable { .. }
        | IngestError::NotFound(_)
        | IngestError::Terminal
        | IngestError::NotLoopable(_)
        | IngestError::NotTs { .. }
        | IngestError::Empty(_) => Code::Usage,
        IngestError::Denied(_) => Code::Denied,
        IngestError::AddressInUse(_) => Code::AddressInUse,
        IngestError::Address { .. } => Code::Network,
        // A folder is no disk's fault; other commands call it wrong usage as well.
        IngestError::File { error, .. } if error.kind() == ErrorKind::IsADirectory => Code::Usage,
        IngestError::File { .. } => Code::Disk,
        IngestError::Read { .. } => Code::Ingest,
    };
    Failure::new(code, error)
}

/// The key, if it is the torrent's.
fn signing_key(args: &Args, info: &Bytes) -> Result<ed25519_dalek::SigningKey, Failure> {
    let key = keyfile::read(&args.key)?;
    if let Some(warning) = keyfile::open_to_others(&args.key) {
        eprintln!("warning: {warning}");
    }
    let info = Info::parse(info.clone()).map_err(Failure::usage)?;
    let fits = info.live().is_some_and(|l| l.public_key == key.verifying_key().to_bytes());
    if !fits {
        return Err(Failure::new(
            Code::Signature,
            format_args!("{} is not the key of {}", args.key.display(), args.torrent),
        ));
    }
    Ok(key)
}

async fn broadcast(args: Args) -> Result<(), Failure> {
    args.common.must_send("broadcast")?;
    let target = Target::read(&args.torrent)?;
    let Some(info) = target.info.clone() else {
        return Err(Failure::usage("a broadcaster needs the torrent file, not a magnet link"));
    };
    let key = signing_key(&args, &info)?;
    let parsed = Info::parse(info).map_err(Failure::usage)?;
    let (media, bitrate) =
        parsed.live().map_or((MEDIA_MPEG_TS, None), |l| (l.media.as_str(), l.bitrate));
    let input: Input = args.input.parse().map_err(|e| ingest_failure(&e))?;
    let options = ingest::Options {
        realtime: args.realtime || args.looped,
        looped: args.looped,
        on_eof: match args.on_eof {
            OnEof::End => ingest::OnEof::End,
            OnEof::Wait => ingest::OnEof::Wait,
        },
        rate: bitrate.unwrap_or(4_000_000),
        expects_ts: media == MEDIA_MPEG_TS,
        ..ingest::Options::default()
    };
    let ingest = Ingest::open(input, options).await.map_err(|e| ingest_failure(&e))?;
    let (takeover, hide) = (args.takeover, args.hide);
    let relays = Relays::new(args.feed_only.clone());
    let source = SourceConfig { key, last: None, takeover, hide };
    let setup = Setup {
        role_name: "broadcast",
        role: Role::Source(Box::new(source)),
        left_zero: !hide,
        delay: Duration::from_secs(2),
        stdout_is_media: false,
        feed_only: relays.named().to_vec(),
    };
    let session = Session::start(&args.common, target, setup).await?;
    session.say(&format!("broadcasting {}; Ctrl-C ends the stream", parsed.name));
    if let (Some(Rate(limit)), Some(bitrate)) = (args.common.upload_limit, bitrate)
        && limit < bitrate
    {
        session.say(&format!(
            "warning: --upload-limit {} Mbit/s is less than the stream's {} Mbit/s: not even one \
             viewer will get all of it",
            limit as f64 / 1e6,
            bitrate as f64 / 1e6
        ));
    }
    let upload = Upload::new(args.common.upload_limit.is_some());
    pump(session, ingest, (relays, upload)).await
}

/// Moves the stream from its input into the swarm until one of them ends.
async fn pump(
    mut session: Session,
    mut ingest: Ingest,
    (mut relays, mut upload): (Relays, Upload),
) -> Result<(), Failure> {
    let stop = stop_signal();
    tokio::pin!(stop);
    let outcome = loop {
        tokio::select! {
            item = ingest.next() => match item {
                Some(IngestItem::Bytes(bytes)) => {
                    session.node.input(In::Ingest(bytes)).await;
                }
                Some(IngestItem::Break) => {
                    session.node.input(In::IngestBreak).await;
                }
                Some(IngestItem::Error(error)) => break Err(ingest_failure(&error)),
                Some(IngestItem::End) | None => break Ok(None),
            },
            told = session.next() => match told {
                Ok(told) => {
                    if let Told::Second(snapshot) = &told {
                        relays.second(&session, snapshot.status.connected);
                        if let Some(words) = upload.second(Instant::now(), &snapshot.status) {
                            session.say(&words);
                        }
                    }
                    if let Err(failure) = heed(&session, &told) {
                        break Err(failure);
                    }
                }
                Err(failure) => return Err(failure),
            },
            stop = &mut stop => break Ok(Some(stop)),
        }
    };
    if matches!(outcome, Ok(None | Some(Stop::Interrupt))) {
        session.node.input(In::IngestEnd).await;
        // After a first Ctrl-C the second one ends the process by itself.
        let stopped = matches!(outcome, Ok(Some(_)));
        let stop = async { if stopped { std::future::pending().await } else { stop.await } };
        tokio::pin!(stop);
        drain(&mut session, &mut stop).await?;
    }
    session.finish().await?;
    match outcome? {
        Some(Stop::Interrupt) => Err(Failure::new(Code::Interrupted, "interrupted")),
        _ => Ok(()),
    }
}

/// Says what a broadcaster should know; ends what makes no sense.
fn heed(session: &Session, told: &Told) -> Result<(), Failure> {
    match told {
        Told::Event(Event::Superseded { .. }) => {
            session.say(
                "another broadcaster with this key is ahead: following it, and taking over when \
                 it falls silent",
            );
        }
        Told::Event(Event::Equivocation { at }) => {
            session.say(&format!(
                "two broadcasters signed {at} differently: does another machine use a copy of \
                 this state?"
            ));
        }
        Told::Second(snapshot) => {
            let ahead = snapshot.status.epoch.unix_s().saturating_sub(unix_s());
            if ahead > EPOCH_AHEAD_MAX_S || snapshot.source_mode == Some("refused") {
                return Err(Failure::usage(format_args!(
                    "the stream's epoch is {ahead} s ahead of this machine's clock; set the clock"
                )));
            }
        }
        Told::Event(_) => {}
    }
    Ok(())
}

fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

/// Serves the last pieces to those who lack them.
async fn drain(
    session: &mut Session,
    stop: &mut (impl Future<Output = Stop> + Unpin),
) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        tokio::select! {
            told = session.next() => {
                if let Told::Second(snapshot) = told? {
                    let waited = since.elapsed();
                    if waited > DRAIN || (snapshot.is_drained && waited > LINGER) {
                        return Ok(());
                    }
                }
            }
            _ = &mut *stop => return Ok(()),
        }
    }
}
