//! Parses the command line, starts a role, maps errors to exit codes; nothing else.

use std::process::ExitCode;

use btlive::app::cli;

fn main() -> ExitCode {
    match cli::parse().and_then(cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("btlive: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}
