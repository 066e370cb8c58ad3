//! `btlive completions`: what a shell completes.

use clap::ValueEnum;
use clap_complete::Shell as Generator;

use super::exit::Failure;
use super::{cli, file};

const HELP: &str = "\
Examples:
  btlive completions bash > ~/.local/share/bash-completion/completions/btlive
  btlive completions zsh > ~/.zfunc/_btlive
  btlive completions fish > ~/.config/fish/completions/btlive.fish";

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// The Z shell.
    Zsh,
    /// Fish.
    Fish,
}

/// Arguments of `btlive completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Runs `btlive completions`.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: Args) -> Result<(), Failure> {
    let generator = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut cli::command(), "btlive", &mut script);
    file::to_stdout(|out| out.write_all(&script))
}
