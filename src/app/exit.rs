//! How a command ends: the documented exit codes and the one line that explains a failure.

use std::fmt;

pub use crate::wire::text::one_line;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Unexpected, or a demo or check that failed.
    Unexpected = 1,
    /// Wrong usage, configuration or input.
    Usage = 2,
    /// Offline, or not found within `--wait`.
    NotFound = 3,
    /// The network or a tracker failed.
    Network = 4,
    /// A file or disk failed.
    Disk = 5,
    /// A signature or hash does not fit.
    Signature = 6,
    /// Access denied.
    Denied = 7,
    /// The input ended in an error.
    Ingest = 8,
    /// The player failed or could not be started.
    Player = 9,
    /// The address is in use.
    AddressInUse = 10,
    /// Stalled longer than `--max-stall`.
    Stalled = 11,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Code {
    /// How a command ends on a file that fails with `error`.
    #[must_use]
    pub fn of_file(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Disk,
        }
    }

    /// How a command ends on an address that cannot be listened on.
    #[must_use]
    pub fn of_address(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::AddrInUse => Self::AddressInUse,
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Network,
        }
    }
}

/// Why a command failed: a code for scripts and one line for people.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// One line that says who is at fault and with which numbers.
    pub message: String,
}

impl Failure {
    /// A failure with its line; control characters in it (a stranger may have chosen some of the
    /// words) are escaped and it is cut to 1,000 characters.
    #[must_use]
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: one_line(&message.to_string(), 1000) }
    }

    /// Wrong usage, configuration or input (code 2).
    #[must_use]
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A file or disk failed (code 5), or the file may not be used (code 7), with its path.
    #[must_use]
    pub fn disk(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Code::of_file(error), format_args!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
