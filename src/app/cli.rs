//! The list of commands and how one is chosen.

use clap::{Parser, Subcommand};

use super::exit::{Code, Failure};

/// Live streaming over ordinary BitTorrent swarms.
#[derive(Debug, Parser)]
#[command(name = "btlive", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Makes a live torrent and its key file.
    Create(super::create::Args),
    /// Takes a stream in, signs it and seeds it.
    Broadcast(super::broadcast::Args),
    /// Joins a stream, verifies it, plays it.
    Play(super::play::Args),
    /// Relays a stream without playing it.
    Seed(super::seed::Args),
    /// Explains a torrent file, a magnet link or a key file.
    Inspect(super::inspect::Args),
    /// Announces once to one tracker and shows exactly what it said.
    Announce(super::announce::Args),
    /// Asks one tracker what it counts.
    Scrape(super::scrape::Args),
    /// Runs a small tracker for a LAN, a demo or a test; not one for the public.
    Tracker(super::tracker::Args),
    /// Shows a live stream on this machine alone: tracker, broadcaster and viewers.
    Demo(super::demo::Args),
    /// Plays a scenario on a simulated network.
    Sim(super::sim::Args),
    /// Prints what a shell needs to complete commands.
    Completions(super::completions::Args),
    /// Prints the manual page of a command.
    Man(super::man::Args),
}

/// Runs the command that the arguments name.
///
/// # Errors
/// Whatever the command could not do, with its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Create(args) => super::create::run(args),
        Command::Broadcast(args) => super::broadcast::run(args),
        Command::Play(args) => super::play::run(args),
        Command::Seed(args) => super::seed::run(args),
        Command::Inspect(args) => super::inspect::run(args),
        Command::Announce(args) => super::announce::run(args),
        Command::Scrape(args) => super::scrape::run(args),
        Command::Tracker(args) => super::tracker::run(args),
        Command::Demo(args) => super::demo::run(args),
        Command::Sim(args) => super::sim::run(args),
        Command::Completions(args) => super::completions::run(args),
        Command::Man(args) => super::man::run(args),
    }
}

/// Runs `future` on a runtime of this thread alone: one node, one owner, no locks.
///
/// # Errors
/// The failure of `future`, or that the operating system gave no event queue.
pub fn block_on<F>(future: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Code::Unexpected, format_args!("no event queue: {e}")))?;
    let result = runtime.block_on(future);
    // A reader blocked on a terminal must not hold up the exit.
    runtime.shutdown_background();
    result
}
