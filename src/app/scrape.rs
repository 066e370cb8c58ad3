//! `btlive scrape`: what a tracker counts, without announcing anything.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cli::block_on;
use super::exit::{Code, Failure};
use super::reach::{Reach, failure, info_hash, print_line, tracker_url};
use crate::discovery::fault::TrackerFault;
use crate::units::InfoHash;
use crate::wire::limits;
use crate::wire::tracker::Swarm;
use crate::wire::tracker::url::{Scheme, TrackerUrl};

/// Arguments of `btlive scrape`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tracker's announce URL: http://, https:// or udp://
    pub url: String,
    /// A swarm, 40 hexadecimal digits; repeatable. Without it an HTTP tracker is asked for all
    #[arg(long, value_parser = info_hash)]
    pub info_hash: Vec<InfoHash>,
    /// How the tracker is reached
    #[command(flatten)]
    pub reach: Reach,
}

/// What is printed with `--json`, one a swarm; numbers are null if the tracker does not know it.
#[derive(Debug, Serialize)]
struct Document {
    url: String,
    info_hash: String,
    seeders: Option<u32>,
    leechers: Option<u32>,
    completed: Option<u32>,
}

/// Scrapes once and prints one line a swarm.
///
/// # Errors
/// Code 2 for a URL that is none to ask or has no scrape URL, 4 if the tracker does not answer,
/// refuses or knows none of the swarms.
pub fn run(args: Args) -> Result<(), Failure> {
    let url = tracker_url(&args.url)?;
    if url.scheme() == Scheme::Udp && args.info_hash.is_empty() {
        return Err(Failure::usage("a udp tracker is asked about swarms: give --info-hash"));
    }
    if args.info_hash.len() > limits::SCRAPE_HASHES_MAX {
        let (len, max) = (args.info_hash.len(), limits::SCRAPE_HASHES_MAX);
        return Err(Failure::usage(format_args!("{len} info-hashes, limit {max}")));
    }
    block_on(async move {
        let swarms = ask(&args, &url).await.map_err(|fault| failure(&url, &fault))?;
        let mut rows: Vec<(InfoHash, Option<Swarm>)> =
            args.info_hash.iter().map(|hash| (*hash, swarms.get(hash).copied())).collect();
        if args.info_hash.is_empty() {
            rows.extend(swarms.iter().map(|(hash, swarm)| (*hash, Some(*swarm))));
        }
        for (hash, swarm) in &rows {
            print(&args, &url, *hash, *swarm);
        }
        if !args.info_hash.is_empty() && rows.iter().all(|(_, swarm)| swarm.is_none()) {
            return Err(Failure::new(
                Code::Network,
                format_args!("{url} knows none of the info-hashes"),
            ));
        }
        Ok(())
    })
}

async fn ask(args: &Args, url: &TrackerUrl) -> Result<BTreeMap<InfoHash, Swarm>, TrackerFault> {
    let asked =
        args.reach.ask(async |client, family| client.scrape(url, family, &args.info_hash).await);
    asked.await
}

fn print(args: &Args, url: &TrackerUrl, hash: InfoHash, swarm: Option<Swarm>) {
    use std::io::Write;
    if args.reach.json {
        print_line(&Document {
            url: url.to_string(),
            info_hash: hash.to_string(),
            seeders: swarm.map(|swarm| swarm.seeders),
            leechers: swarm.map(|swarm| swarm.leechers),
            completed: swarm.map(|swarm| swarm.completed),
        });
        return;
    }
    let line = match swarm {
        None => format!("{hash}  unknown to the tracker"),
        Some(Swarm { seeders, completed, leechers }) => {
            format!("{hash}  seeders {seeders}  leechers {leechers}  completed {completed}")
        }
    };
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
