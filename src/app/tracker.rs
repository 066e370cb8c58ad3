//! `btlive tracker`: a small tracker for a LAN, a demo or a test; not one for the public.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::args::{Span, listen_address};
use super::cli::block_on;
use super::exit::{Code, Failure};
use super::file;
use super::reach::print_line;
use crate::discovery::tracker_store::{Bounds, Counts, TrackerStore};
use crate::machine::Rng;
use crate::net::clock::{secret, seed};
use crate::net::tracker_server::TrackerServer;
use crate::units::InfoHash;

/// Where both protocols listen if neither is named.
const DEFAULT_ADDR: &str = "127.0.0.1:6969";
/// A whitelist file: 100,000 lines of a hash.
const WHITELIST_LEN_MAX: usize = 4 << 20;
/// What `--interval` may be, in seconds.
const INTERVAL_S: std::ops::RangeInclusive<u64> = 1..=86_400;

/// Arguments of `btlive tracker`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen for HTTP here; repeatable, port 0 lets the kernel choose. Without --http and --udp
    /// both listen on 127.0.0.1:6969
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub http: Vec<SocketAddr>,
    /// Listen for UDP here; repeatable
    #[arg(long, value_name = "ADDR:PORT", value_parser = listen_address)]
    pub udp: Vec<SocketAddr>,
    /// Serve only these swarms: a file with one info-hash a line, read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub whitelist: Option<PathBuf>,
    /// How often clients shall announce, 1s to 1d
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub interval: Span,
    /// Counts as JSON on stdout, once a second
    #[arg(long, env = "BTLIVE_JSON")]
    pub json: bool,
}

/// The first line with `--json`.
#[derive(Debug, Serialize)]
struct Listening {
    http: Vec<String>,
    udp: Vec<String>,
}

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// Code 2 for a whitelist that is none or not there, 5 if it cannot be read, 10 for an address in
/// use, 4 for one that cannot be bound.
pub fn run(args: Args) -> Result<(), Failure> {
    let whitelist = args.whitelist.as_deref().map(read_whitelist).transpose()?;
    block_on(serve(args, whitelist))
}

async fn serve(args: Args, whitelist: Option<BTreeSet<InfoHash>>) -> Result<(), Failure> {
    let interval_s = interval_s(args.interval)?;
    let store = TrackerStore::new(Bounds::default(), interval_s, whitelist, Rng::new(seed()));
    let (http, udp) = if args.http.is_empty() && args.udp.is_empty() {
        let addr: SocketAddr = DEFAULT_ADDR
            .parse()
            .map_err(|e| Failure::new(Code::Unexpected, format_args!("{DEFAULT_ADDR}: {e}")))?;
        (vec![addr], vec![addr])
    } else {
        (args.http.clone(), args.udp.clone())
    };
    let server =
        TrackerServer::bind(&http, &udp, store).map_err(|(addr, e)| bind_failure(addr, &e))?;
    say_where(&args, &server);

    let (whitelists, whitelists_rx) = mpsc::channel(4);
    let (counts_tx, counts) = watch::channel(Counts::default());
    let running = server.run(secret(), whitelists_rx, counts_tx);
    tokio::select! {
        () = running => Ok(()),
        ended = control(&args, whitelists, counts) => ended,
    }
}

fn interval_s(Span(interval): Span) -> Result<u32, Failure> {
    let seconds = interval.as_secs_f64().round() as u64;
    let fits = Some(seconds).filter(|s| INTERVAL_S.contains(s));
    fits.and_then(|s| u32::try_from(s).ok())
        .ok_or_else(|| Failure::usage("--interval must be 1s to 1d"))
}

/// Reloads, reports, and returns when the tracker shall end.
async fn control(
    args: &Args,
    whitelists: mpsc::Sender<BTreeSet<InfoHash>>,
    counts: watch::Receiver<Counts>,
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(Code::Unexpected, format_args!("signals: {e}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut report = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Code::Interrupted, "interrupted"));
            }
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => {
                let Some(path) = args.whitelist.as_deref() else { continue };
                match read_whitelist(path) {
                    Ok(whitelist) => {
                        eprintln!("btlive: whitelist of {} info-hashes", whitelist.len());
                        let _ = whitelists.send(whitelist).await;
                    }
                    // A file half written must not end the tracker.
                    Err(failure) => eprintln!("btlive: whitelist kept as it was: {failure}"),
                }
            }
            _ = report.tick() => {
                if args.json {
                    print_line(&*counts.borrow());
                }
            }
        }
    }
}

fn say_where(args: &Args, server: &TrackerServer) {
    let (http, udp) = (server.http_addrs(), server.udp_addrs());
    for addr in &http {
        eprintln!("tracker: http://{addr}/announce");
    }
    for addr in &udp {
        eprintln!("tracker: udp://{addr}/announce");
    }
    if args.json {
        let texts = |addrs: Vec<SocketAddr>| addrs.iter().map(ToString::to_string).collect();
        print_line(&Listening { http: texts(http), udp: texts(udp) });
    }
}

fn bind_failure(addr: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(Code::of_address(error), format_args!("{addr}: {error}"))
}

/// Reads one info-hash a line; empty lines and what follows a `#` do not count.
fn read_whitelist(path: &Path) -> Result<BTreeSet<InfoHash>, Failure> {
    let text = file::read_text(path, WHITELIST_LEN_MAX)?;
    let mut hashes = BTreeSet::new();
    for (n, line) in text.lines().enumerate() {
        let word = line.split('#').next().unwrap_or_default().trim();
        if word.is_empty() {
            continue;
        }
        let hash = InfoHash::from_hex(word).ok_or_else(|| {
            let (path, n) = (path.display(), n + 1);
            Failure::usage(format!("{path}, line {n}: an info-hash is 40 hexadecimal digits"))
        })?;
        hashes.insert(hash);
    }
    Ok(hashes)
}
