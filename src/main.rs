//! Parses the command line, starts a role, maps errors to exit codes; nothing else.

use std::process::ExitCode;

use clap::Parser;

use btlive::app::cli;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("btlive: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}
