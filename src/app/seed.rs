//! `btlive seed`: relays a live swarm without playing it.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::args::{Size, Span};
use super::cli::block_on;
use super::common::{Common, Stop, stop_signal};
use super::exit::{Code, Failure};
use super::session::{Session, Setup, Told};
use super::target::Target;
use crate::swarm::config::Role;

/// Arguments of `btlive seed`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The live torrent: a file or a magnet link
    #[arg(value_name = "TORRENT|MAGNET")]
    pub target: String,
    /// Ends after this time
    #[arg(long, value_name = "TIME", env = "BTLIVE_UNTIL")]
    pub until: Option<Span>,
    /// Ends when this much has been sent
    #[arg(long, value_name = "SIZE", env = "BTLIVE_CAP")]
    pub cap: Option<Size>,
    /// What all commands in a swarm share.
    #[command(flatten)]
    pub common: Common,
}

/// Runs `btlive seed`.
///
/// # Errors
/// The torrent cannot be used, or the node failed.
pub fn run(args: Args) -> Result<(), Failure> {
    args.common.begin()?;
    block_on(seed(args))
}

async fn seed(args: Args) -> Result<(), Failure> {
    args.common.must_send("seed")?;
    let target = Target::read(&args.target)?;
    let setup = Setup {
        role_name: "seed",
        role: Role::Relay,
        left_zero: false,
        delay: Duration::from_secs(2),
        stdout_is_media: false,
        feed_only: Vec::new(),
    };
    let mut session = Session::start(&args.common, target, setup).await?;
    let name = session.target.name.clone().unwrap_or_else(|| "the stream".to_owned());
    session.say(&format!("relaying {name}; Ctrl-C stops"));
    let outcome = watch(&mut session, &args).await;
    let finished = session.finish().await;
    outcome.and(finished)
}

async fn watch(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let began = Instant::now();
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            told = session.next() => match told? {
                Told::Second(snapshot) => {
                    let sent = snapshot.status.up_bytes;
                    let full = args.cap.is_some_and(|cap| sent >= cap.0);
                    let late = args.until.is_some_and(|until| began.elapsed() >= until.0);
                    if full || late {
                        session.say(&format!("done: {sent} bytes sent"));
                        return Ok(());
                    }
                }
                Told::Event(_) => {}
            },
            stop = &mut stop => return match stop {
                Stop::Interrupt => Err(Failure::new(Code::Interrupted, "interrupted")),
                Stop::Terminate => Ok(()),
            },
        }
    }
}
