//! `btlive announce`: one announce to one tracker, shown as the tracker said it.

use clap::ValueEnum;
use serde::Serialize;

use super::cli::block_on;
use super::exit::{Failure, one_line};
use super::reach::{Reach, failure, info_hash, print_line, tracker_url};
use crate::discovery::fault::TrackerFault;
use crate::net::clock::seed;
use crate::units::{InfoHash, PeerId, hex};
use crate::wire::tracker::url::TrackerUrl;
use crate::wire::tracker::{Announce, Event, Reply};

/// Arguments of `btlive announce`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tracker: http://, https:// or udp://
    pub url: String,
    /// The swarm: 40 hexadecimal digits
    #[arg(long, value_parser = info_hash)]
    pub info_hash: InfoHash,
    /// Why it is announced
    #[arg(long, value_enum, default_value_t = EventArg::None)]
    pub event: EventArg,
    /// The port to announce
    #[arg(long, default_value_t = 6881)]
    pub port: u16,
    /// Bytes still wanted; 0 announces a seed
    #[arg(long, default_value_t = 1)]
    pub left: u64,
    /// Leaves this machine on the tracker's list; else it is taken off again with `stopped`
    #[arg(long)]
    pub keep: bool,
    /// Peers to ask for
    #[arg(long, default_value_t = 50)]
    pub numwant: u32,
    /// How the tracker is reached
    #[command(flatten)]
    pub reach: Reach,
}

/// The events of BEP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventArg {
    /// A regular announce
    None,
    /// The first one
    Started,
    /// The last one
    Stopped,
    /// The download is complete
    Completed,
}

impl From<EventArg> for Event {
    fn from(event: EventArg) -> Self {
        match event {
            EventArg::None => Self::None,
            EventArg::Started => Self::Started,
            EventArg::Stopped => Self::Stopped,
            EventArg::Completed => Self::Completed,
        }
    }
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Document {
    url: String,
    info_hash: String,
    seeders: Option<u32>,
    leechers: Option<u32>,
    downloaded: Option<u32>,
    interval: Option<u32>,
    min_interval: Option<u32>,
    peers: Vec<String>,
    external_ip: Option<String>,
    tracker_id: Option<String>,
    warning: Option<String>,
}

/// Announces once and prints the answer.
///
/// # Errors
/// Code 2 for a URL that is none to ask, 4 if the tracker does not answer or refuses.
pub fn run(args: Args) -> Result<(), Failure> {
    let url = tracker_url(&args.url)?;
    block_on(async move {
        let announce = announce(&args);
        let asked = ask(&args.reach, &url, &announce, None).await;
        let reply = asked.map_err(|fault| failure(&url, &fault))?;
        if args.reach.json {
            print_json(&args, &url, &reply);
        } else {
            print_text(&reply);
        }
        if !args.keep && announce.event != Event::Stopped {
            // Others would dial a peer that is not there until the tracker forgets it.
            let goodbye = Announce { event: Event::Stopped, num_want: Some(0), ..announce };
            let said = ask(&args.reach, &url, &goodbye, reply.tracker_id.as_deref()).await;
            if let Err(fault) = said {
                let line = one_line(&fault.to_string(), 300);
                eprintln!("btlive: still on the list of {url}, stopped was not taken: {line}");
            }
        }
        Ok(())
    })
}

fn announce(args: &Args) -> Announce {
    let mut random = [0u8; 12];
    crate::machine::Rng::new(seed()).fill(&mut random);
    Announce {
        info_hash: args.info_hash,
        peer_id: PeerId::ours(random),
        port: args.port,
        uploaded: 0,
        downloaded: 0,
        left: args.left,
        event: args.event.into(),
        num_want: Some(args.numwant),
        key: (seed() >> 32) as u32,
    }
}

async fn ask(
    reach: &Reach,
    url: &TrackerUrl,
    announce: &Announce,
    id: Option<&[u8]>,
) -> Result<Reply, TrackerFault> {
    reach.ask(async |client, family| client.announce(url, family, announce, id).await).await
}

fn print_json(args: &Args, url: &TrackerUrl, reply: &Reply) {
    let document = Document {
        url: url.to_string(),
        info_hash: args.info_hash.to_string(),
        seeders: reply.seeders,
        leechers: reply.leechers,
        downloaded: reply.downloaded,
        interval: reply.interval_s,
        min_interval: reply.interval_min_s,
        peers: reply.peers.iter().map(|peer| peer.addr.to_string()).collect(),
        external_ip: reply.external_ip.map(|ip| ip.to_string()),
        tracker_id: reply.tracker_id.as_deref().map(hex),
        warning: reply.warning.clone(),
    };
    print_line(&document);
}

fn print_text(reply: &Reply) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let said = |number: Option<u32>| number.map_or("not said".to_owned(), |n| n.to_string());
    let mut lines = vec![
        format!("seeders       {}", said(reply.seeders)),
        format!("leechers      {}", said(reply.leechers)),
        format!("interval      {} s", said(reply.interval_s)),
    ];
    if let Some(minimum) = reply.interval_min_s {
        lines.push(format!("min interval  {minimum} s"));
    }
    if let Some(downloaded) = reply.downloaded {
        lines.push(format!("downloaded    {downloaded}"));
    }
    if let Some(ip) = reply.external_ip {
        lines.push(format!("external ip   {ip}"));
    }
    if let Some(id) = &reply.tracker_id {
        lines.push(format!("tracker id    {}", hex(id)));
    }
    if let Some(warning) = &reply.warning {
        lines.push(format!("warning       {}", one_line(warning, 1000)));
    }
    lines.push(format!("peers         {}", reply.peers.len()));
    lines.extend(reply.peers.iter().map(|peer| format!("  {}", peer.addr)));
    let _ = writeln!(out, "{}", lines.join("\n"));
}
