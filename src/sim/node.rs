//! What the simulator needs of a machine, and what a machine needs to be born.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;

use crate::machine::Machine;
use crate::swarm::audience::Audience;
use crate::swarm::io::{In, Out};
use crate::units::{Now, Seq};

/// A machine that can be simulated.
pub trait Node: Machine<In = In, Out = Out> {
    /// Whether every buffer is within its bound; asked after steps.
    ///
    /// # Errors
    /// What is beyond which bound.
    fn invariant(&self) -> Result<(), String>;

    /// A block that was verified since the last call, each told once.
    fn verified(&mut self) -> Option<(Seq, u16)>;

    /// What it says of itself.
    fn diagnosis(&self, now: Now) -> Diagnosis;

    /// What it knows of its viewers, if it is a source.
    fn audience(&self) -> Option<Audience> {
        None
    }
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// Its stream stalls.
    pub stalls: bool,
    /// The bit rate is not sustainable.
    pub unsustainable: bool,
    /// What it takes the swarm's resource index for.
    pub resource_index: Option<f64>,
}

/// What a node is in the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes the stream.
    Source,
    /// Publishes the stream as soon as the source falls silent.
    Standby,
    /// Follows the stream and plays it.
    Viewer,
}

/// What survives the death of a node: the latest record of each kind.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The last entry signed, as its wire bytes.
    pub published: Option<Bytes>,
    /// The highest entry verified, as its wire bytes.
    pub head: Option<Bytes>,
}

/// What a node starts with.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Its role.
    pub role: Role,
    /// The address at which it listens.
    pub addr: SocketAddr,
    /// Seed of its random numbers; another one for each life.
    pub seed: u64,
    /// Bit/s it may send.
    pub upload_bps: u64,
    /// What an earlier life left behind.
    pub records: Records,
}

/// Makes the machines of a world.
pub trait Maker {
    /// What it makes.
    type Node: Node;

    /// A machine that starts now.
    fn make(&mut self, birth: Birth, now: Now) -> Self::Node;
}

/// Port at which every node listens.
const PORT: u16 = 6881;

/// The address of a node: neighbours in number lie in different networks, all of them public.
pub(super) fn addr_of(node: u32) -> SocketAddr {
    let (high, rest) = (node % 80, node / 80);
    let (mid, low) = (rest % 251, rest / 251 % 250);
    let ip = Ipv4Addr::new(20 + high as u8, mid as u8, low as u8, 1 + (rest / 62_750) as u8);
    SocketAddr::from((ip, PORT))
}

/// The node that listens at `addr`, if any of so many does.
pub(super) fn node_at(addr: SocketAddr, nodes: usize) -> Option<u32> {
    let SocketAddr::V4(v4) = addr else { return None };
    let [a, b, c, d] = v4.ip().octets().map(u32::from);
    let rest = d.checked_sub(1)? * 62_750 + c * 251 + b;
    let node = rest * 80 + a.checked_sub(20)?;
    ((node as usize) < nodes && addr_of(node) == addr).then_some(node)
}

/// The address from which connection number `conn` of a node comes: another port for each.
pub(super) fn outgoing_addr(node: u32, conn: u64) -> SocketAddr {
    SocketAddr::new(addr_of(node).ip(), 32_768 + (conn % 28_000) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_own() {
        for node in (0..2_000_000).step_by(997).chain(0..300) {
            assert_eq!(node_at(addr_of(node), 2_000_001), Some(node));
        }
        assert_eq!(node_at(addr_of(7), 7), None);
        assert_eq!(node_at(outgoing_addr(3, 9), 100), None);
    }
}
