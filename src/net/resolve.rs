//! Names to addresses that may be contacted: what is judged here is what is connected to.

use std::net::{IpAddr, SocketAddr};

use crate::discovery::address::{Policy, Purpose, judge};
use crate::discovery::fault::TrackerFault;
use crate::wire::tracker::Family;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What the operating system said, as people say it.
pub fn plain(error: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    let words = match error.kind() {
        Kind::ConnectionRefused => "connection refused, nothing listens there",
        Kind::ConnectionReset => "it closed the connection",
        Kind::TimedOut => "no answer to the attempt to connect",
        Kind::HostUnreachable => "the host cannot be reached",
        Kind::NetworkUnreachable => "this machine has no network that leads there",
        _ => {
            let text = error.to_string();
            let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            return text.split(" (os error").next().unwrap_or(text).to_owned();
        }
    };
    words.to_owned()
}

/// The addresses of `host` in `family` that `policy` allows, at most eight.
///
/// # Errors
/// The name leads nowhere, nowhere in this family, or only where nothing may be sent.
pub async fn resolve(
    host: &str,
    port: u16,
    family: Family,
    policy: &Policy,
) -> Result<Vec<SocketAddr>, TrackerFault> {
    let all: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => {
            let looked_up = tokio::net::lookup_host((host, port))
                .await
                .map_err(|e| TrackerFault::Resolve { host: host.to_owned(), why: plain(&e) })?;
            looked_up.collect()
        }
    };
    let ours: Vec<_> = all.into_iter().filter(|addr| Family::of(addr) == family).collect();
    let mut fault = TrackerFault::NoAddress { family };
    let mut allowed = Vec::new();
    for addr in ours {
        match judge(addr, Purpose::Tracker, policy) {
            Ok(()) if allowed.len() < ADDRESSES_MAX => allowed.push(addr),
            Ok(()) => {}
            Err(refused) => fault = refused.into(),
        }
    }
    if allowed.is_empty() { Err(fault) } else { Ok(allowed) }
}
