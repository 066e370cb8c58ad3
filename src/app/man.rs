//! `btlive man`: the manual, made from the same words as `--help`.

use super::exit::Failure;
use super::{cli, file};

const HELP: &str = "\
Examples:
  btlive man | man -l -
  btlive man play > btlive-play.1";

/// Arguments of `btlive man`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The page of this command; without it, of btlive itself
    pub command: Option<String>,
}

/// Runs `btlive man`.
///
/// # Errors
/// Code 2 for a command that does not exist, 5 if standard output cannot be written.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut whole = cli::command();
    // Fills in what commands inherit.
    whole.build();
    let command = match &args.command {
        None => whole,
        Some(name) => page(&whole, name)?,
    };
    let mut page = Vec::new();
    // Writing into memory does not fail.
    let _ = clap_mangen::Man::new(command).render(&mut page);
    file::to_stdout(|out| out.write_all(&page))
}

fn page(whole: &clap::Command, name: &str) -> Result<clap::Command, Failure> {
    // clap's own `help` has nothing to say but what the pages say.
    let all = || whole.get_subcommands().filter(|command| command.get_name() != "help");
    let found = all().find(|command| command.get_name() == name).ok_or_else(|| {
        let all: Vec<&str> = all().map(clap::Command::get_name).collect();
        Failure::usage(format_args!("no command \"{name}\"; there are {}", all.join(", ")))
    })?;
    Ok(found.clone())
}
