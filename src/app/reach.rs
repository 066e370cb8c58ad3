//! How one tracker is asked by hand, and how its answer is shown: what `announce` and `scrape`
//! share.

use std::time::Duration;

use serde::Serialize;

use super::args::Span;
use super::exit::{Code, Failure};
use crate::discovery::address::{AddressFault, Policy};
use crate::discovery::fault::TrackerFault;
use crate::net::trackers::TrackerClient;
use crate::units::InfoHash;
use crate::wire::tracker::Family;
use crate::wire::tracker::url::TrackerUrl;

/// How a tracker is reached and its answer shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    /// Use IPv6 only (default: IPv4, and IPv6 if the tracker has no IPv4 address)
    #[arg(long)]
    pub ipv6: bool,
    /// Permit trackers on private and loopback addresses
    #[arg(long, env = "BTLIVE_ALLOW_LOCAL")]
    pub allow_local: bool,
    /// How long to wait for the tracker
    #[arg(long, default_value = "15s")]
    pub timeout: Span,
    /// One JSON document per line on stdout
    #[arg(long, env = "BTLIVE_JSON")]
    pub json: bool,
}

impl Reach {
    /// Asks over IPv4, and over IPv6 only if the tracker has no IPv4 address or that is wished.
    ///
    /// # Errors
    /// What the last family that was tried came to.
    pub async fn ask<T>(
        &self,
        ask: impl AsyncFn(&TrackerClient, Family) -> Result<T, TrackerFault>,
    ) -> Result<T, TrackerFault> {
        let client = self.client();
        let families: &[Family] = if self.ipv6 { &[Family::V6] } else { &[Family::V4, Family::V6] };
        let mut last = TrackerFault::NoAddress { family: Family::V4 };
        for &family in families {
            match ask(&client, family).await {
                Err(fault @ TrackerFault::NoAddress { .. }) => last = fault,
                done => return done,
            }
        }
        Err(last)
    }

    /// A client that waits as long as the user wants.
    fn client(&self) -> TrackerClient {
        let Span(timeout) = self.timeout;
        let timeout = timeout.max(Duration::from_millis(1));
        let policy = Policy { allow_local: self.allow_local, ..Policy::default() };
        TrackerClient::with_timeouts(policy, timeout, timeout)
    }
}

/// Reads an info-hash from the command line.
///
/// # Errors
/// One line that says what an info-hash looks like.
pub fn info_hash(text: &str) -> Result<InfoHash, String> {
    InfoHash::from_hex(text).ok_or_else(|| "an info-hash is 40 hexadecimal digits".to_owned())
}

/// Reads the tracker that a command shall ask.
///
/// # Errors
/// One line that says what a tracker's URL looks like.
pub fn tracker_url(text: &str) -> Result<TrackerUrl, Failure> {
    TrackerUrl::parse(text).map_err(|e| Failure::usage(format_args!("tracker \"{text}\": {e}")))
}

/// How a command ends on `fault` of the tracker at `url`.
#[must_use]
pub fn failure(url: &TrackerUrl, fault: &TrackerFault) -> Failure {
    let code = match fault {
        TrackerFault::Url(_) | TrackerFault::Address(AddressFault::Local(_)) => Code::Usage,
        _ => Code::Network,
    };
    Failure::new(code, format_args!("{url}: {fault}"))
}

/// Prints one JSON document; a reader that went away is no failure.
pub fn print_line(document: &impl Serialize) {
    use std::io::Write;
    let line = serde_json::to_string(document).unwrap_or_default();
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
