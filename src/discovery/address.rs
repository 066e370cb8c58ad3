//! Which addresses may be contacted (`specs/tracker.md`, section Addresses).
//!
//! A link or a torrent comes from strangers, and so does what a tracker lists or redirects to: it
//! must not make this machine talk to its own network. Addresses are judged after resolution and
//! again after every redirect, never names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// What an address is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A tracker that a link, torrent or the user names.
    Tracker,
    /// A peer out of somebody's list.
    Peer,
}

/// What the user allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Private, shared, loopback and unique local addresses may be contacted (`--allow-local`).
    pub allow_local: bool,
    /// Our own listening addresses, as far as they are known: not dialled as peers.
    pub own: Vec<SocketAddr>,
}

/// Why an address is not contacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressFault {
    /// Port 0.
    #[error("{0} has port 0")]
    PortZero(SocketAddr),
    /// A port below 1024: no peer listens there, but a mail or web server might.
    #[error("{0} has a privileged port")]
    PrivilegedPort(SocketAddr),
    /// Our own address.
    #[error("{0} is our own address")]
    Own(SocketAddr),
    /// Unspecified, multicast, broadcast or reserved: nobody can be there.
    #[error("{0} is no address of a host")]
    NoHost(SocketAddr),
    /// Link-local, or where clouds answer questions about their machines.
    #[error("{0} is link-local or a cloud's metadata service")]
    LinkLocal(SocketAddr),
    /// A private, shared, loopback or unique local address without `--allow-local`.
    #[error("{0} is a local address; --allow-local permits it")]
    Local(SocketAddr),
}

/// How far away an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Global,
    Local,
    LinkLocal,
    None,
}

/// Whether `addr` may be contacted for `purpose`.
///
/// # Errors
/// Why not.
pub fn judge(addr: SocketAddr, purpose: Purpose, policy: &Policy) -> Result<(), AddressFault> {
    if addr.port() == 0 {
        return Err(AddressFault::PortZero(addr));
    }
    match reach(addr.ip()) {
        Reach::None => return Err(AddressFault::NoHost(addr)),
        Reach::LinkLocal => return Err(AddressFault::LinkLocal(addr)),
        Reach::Local if !policy.allow_local => return Err(AddressFault::Local(addr)),
        Reach::Local | Reach::Global => {}
    }
    if purpose == Purpose::Peer {
        if addr.port() < 1024 {
            return Err(AddressFault::PrivilegedPort(addr));
        }
        let canonical = canonical(addr);
        if policy.own.iter().any(|own| self::canonical(*own) == canonical) {
            return Err(AddressFault::Own(addr));
        }
    }
    Ok(())
}

/// `addr` with a v4-mapped address as the IPv4 address that it is.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => match embedded_v4(ip) {
            Some(v4) => reach_v4(v4),
            None => reach_v6(ip),
        },
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        // "This network", multicast, reserved and broadcast (RFC 1122, RFC 5771, RFC 1112).
        [0, ..] | [224..=255, ..] => Reach::None,
        // Link-local (RFC 3927), where clouds keep their metadata services.
        [169, 254, ..] => Reach::LinkLocal,
        // Metadata services outside the link-local range (Alibaba, Azure's wire server).
        [100, 100, 100, 200] | [168, 63, 129, 16] => Reach::LinkLocal,
        // RFC 1918, loopback, shared address space (RFC 6598), protocol assignments (RFC 6890)
        // and benchmarking (RFC 2544).
        [10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Local,
        [192, 0, 0, _] | [198, 18..=19, ..] => Reach::Local,
        _ => Reach::Global,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    if ip.is_loopback() {
        return Reach::Local;
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => Reach::None,
        // fe80::/10, and the site-local addresses that once stood beside it.
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        [0xfec0..=0xfeff, ..] => Reach::Local,
        // Metadata services of EC2, Google Cloud and Oracle inside fc00::/7.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254]
        | [0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => Reach::LinkLocal,
        [0xfc00..=0xfdff, ..] => Reach::Local,
        // Translation prefix for local use (RFC 8215), discard (RFC 6666).
        [0x0064, 0xff9b, 1, ..] | [0x0100, 0, 0, 0, ..] => Reach::Local,
        _ => Reach::Global,
    }
}

/// The IPv4 address that an IPv6 address leads to: v4-mapped and v4-compatible (RFC 4291), 6to4
/// (RFC 3056), NAT64 (RFC 6052), Teredo (RFC 4380), ISATAP (RFC 5214).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x0064, 0xff9b, 0, 0, 0, 0, a, b] => Some(join(a, b)),
        [0, 0, 0, 0, 0xffff, 0, a, b] => Some(join(a, b)),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => Some(join(a, b)),
        [0x2002, a, b, ..] => Some(join(a, b)),
        [0x2001, 0, _, _, _, _, a, b] => Some(join(!a, !b)),
        [_, _, _, _, 0 | 0x0200, 0x5efe, a, b] => Some(join(a, b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn verdicts(addr: &str) -> (bool, bool) {
        let addr: SocketAddr = addr.parse().expect("address");
        let open = Policy { allow_local: true, ..Policy::default() };
        let strict = judge(addr, Purpose::Tracker, &Policy::default()).is_ok();
        (strict, judge(addr, Purpose::Tracker, &open).is_ok())
    }

    #[test]
    fn global_addresses_may_be_contacted() {
        for addr in ["8.8.8.8:80", "172.32.0.1:1", "100.128.0.1:1", "[2606:4700::1]:80"] {
            assert_eq!(verdicts(addr), (true, true), "{addr}");
        }
    }

    #[test]
    fn local_addresses_need_permission() {
        for addr in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "10.1.2.3:80",
            "172.16.0.1:80",
            "172.31.255.255:80",
            "192.168.1.1:80",
            "100.64.0.1:80",
            "[::1]:80",
            "[fd12::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::127.0.0.1]:80",
            "[64:ff9b::10.0.0.1]:80",
            "[2002:c0a8:0101::1]:80",
            "[2001:0:1:1:1:1:3f57:fefe]:80",
            "[2607:f8b0::5efe:10.0.0.1]:80",
        ] {
            assert_eq!(verdicts(addr), (false, true), "{addr}");
        }
    }

    #[test]
    fn link_local_and_metadata_are_never_contacted() {
        for addr in [
            "169.254.169.254:80",
            "169.254.0.1:80",
            "100.100.100.200:80",
            "[fe80::1]:80",
            "[febf::1]:80",
            "[fd00:ec2::254]:80",
            "[::ffff:169.254.169.254]:80",
            "[64:ff9b::a9fe:a9fe]:80",
            "[2002:a9fe:a9fe::1]:80",
        ] {
            assert_eq!(verdicts(addr), (false, false), "{addr}");
        }
    }

    #[test]
    fn nobody_is_at_port_zero_multicast_broadcast_or_nowhere() {
        for addr in [
            "8.8.8.8:0",
            "224.0.0.1:80",
            "239.255.255.250:1900",
            "255.255.255.255:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "240.0.0.1:80",
            "[::]:80",
            "[ff02::1]:80",
            "[::ffff:224.0.0.1]:80",
            "[::ffff:0.0.0.0]:80",
        ] {
            assert_eq!(verdicts(addr), (false, false), "{addr}");
        }
    }

    #[test]
    fn peers_on_privileged_ports_and_ourselves_are_not_dialled() {
        let own: SocketAddr = "8.8.8.8:6881".parse().expect("address");
        let policy = Policy { allow_local: true, own: vec![own] };
        let peer = |text: &str| judge(text.parse().expect("address"), Purpose::Peer, &policy);
        assert_eq!(peer("8.8.8.8:6881"), Err(AddressFault::Own(own)));
        assert!(matches!(peer("[::ffff:8.8.8.8]:6881"), Err(AddressFault::Own(_))));
        assert!(matches!(peer("8.8.8.8:25"), Err(AddressFault::PrivilegedPort(_))));
        assert_eq!(peer("8.8.8.8:6882"), Ok(()));
        assert_eq!(judge(own, Purpose::Tracker, &policy), Ok(()));
    }
}
