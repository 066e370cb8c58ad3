//! BEP 15 connection ids without a table: a keyed hash of the client's address and the minute.
//!
//! Who gets one receives at its address, so nobody can announce for another or make the tracker
//! flood one. A flood of connect requests costs no memory.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::units::Time;

/// One minute in microseconds: how long one hash is given out.
const WINDOW_US: u64 = 60_000_000;
/// BEP 15: an id is taken until two minutes after it was sent, so two windows back count.
const WINDOWS_BACK: u64 = 2;

/// Makes and checks connection ids.
#[derive(Clone)]
pub struct ConnectionIds {
    secret: [u8; 32],
}

impl ConnectionIds {
    /// Ids that depend on `secret`, random and new for each run.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The id for a client at `ip`. The port is left out: some NATs change it between packets.
    #[must_use]
    pub fn make(&self, now: Time, ip: IpAddr) -> u64 {
        self.hash(now.0 / WINDOW_US, ip)
    }

    /// Whether `id` was given to `ip` at most two to three minutes ago.
    #[must_use]
    pub fn check(&self, now: Time, ip: IpAddr, id: u64) -> bool {
        let window = now.0 / WINDOW_US;
        (window.saturating_sub(WINDOWS_BACK)..=window).any(|window| self.hash(window, ip) == id)
    }

    fn hash(&self, window: u64, ip: IpAddr) -> u64 {
        let ip = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(window.to_be_bytes());
        hash.update(ip.octets());
        let digest: [u8; 32] = hash.finalize().into();
        digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_counts_for_its_address_for_two_minutes() {
        let ids = ConnectionIds::new([7; 32]);
        let (mine, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let start = Time(59_000_000);
        let id = ids.make(start, mine);
        for (seconds, counts) in [(0, true), (1, true), (120, true), (122, false), (999, false)] {
            assert_eq!(ids.check(start.after_us(seconds * 1_000_000), mine, id), counts);
        }
        assert!(!ids.check(start, other, id));
        assert!(!ids.check(start, mine, id ^ 1));
        assert!(!ConnectionIds::new([8; 32]).check(start, mine, id));
    }
}
