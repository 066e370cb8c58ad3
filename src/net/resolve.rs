//! Names to addresses that may be contacted: what is judged here is what is connected to.

use std::net::{IpAddr, SocketAddr};

use crate::discovery::address::{Policy, Purpose, judge};
use crate::discovery::fault::TrackerFault;
use crate::wire::tracker::Family;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

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
                .map_err(|e| TrackerFault::Resolve { host: host.to_owned(), why: e.to_string() })?;
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
