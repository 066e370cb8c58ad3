//! The list of commands and how one is chosen.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

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

/// Reads the arguments of this process; asked for help or the version it prints that and ends.
///
/// # Errors
/// What is wrong with the arguments, in one line with what was probably meant (code 2).
pub fn parse() -> Result<Cli, Failure> {
    use clap::error::ErrorKind;
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => Failure::usage(in_one_line(&error.to_string())),
    })
}

/// The command line. Variables that stand for flags take what people write: 1, yes, on, true.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            _ => arg,
        })
    })
}

/// An error of the arguments without the usage that follows it.
fn in_one_line(text: &str) -> String {
    let is_usage = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more");
    let lines = text.lines().take_while(|line| !is_usage(line)).map(str::trim);
    let mut out = String::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push_str(if out.ends_with(':') { " " } else { "; " });
        }
        out.push_str(line.strip_prefix("error: ").unwrap_or(line));
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_arguments_is_one_line_with_its_tip() {
        let table = [
            (&["btlive", "play", "--outputt", "x", "y"][..], "'--output'"),
            (&["btlive", "plya"], "'play'"),
            (&["btlive", "play"], "not provided: <TORRENT|MAGNET>"),
            (&["btlive", "play", "--wait", "x", "y"], "90s"),
            (&["btlive", "play", "--delay", "x", "y"], "write auto"),
        ];
        for (args, words) in table {
            let error = Cli::try_parse_from(args).expect_err("wrong arguments").to_string();
            let line = in_one_line(&error);
            assert!(line.contains(words), "{line}");
            assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }
}
