//! Peers whose peer exchange (BEP 11) has addresses of nobody, or of a victim who shall be dialled
//! by all.

use std::net::SocketAddr;

use super::super::node::addr_of;
use super::write::{Fate, Said};
use crate::wire::extended::{Extension, Pex};
use crate::wire::message::Message;

/// Between two messages on one connection, in microseconds: as often as anybody listens.
pub(super) const EVERY_US: u64 = 30_000_000;
/// Addresses of each kind in a message.
const ADDRS: u32 = 25;
/// Nodes from this number on live in no scenario.
const NOBODY: u32 = 1_500_000;
/// The viewer whom they want to harm.
const VICTIM: u32 = 1;
/// The first of the victim's ports at which nobody listens.
const PORT: u16 = 7_000;

/// The machine's own peer exchange is not sent.
pub(super) fn judge(said: &Said) -> Fate {
    match said {
        Said::Other(Message::Extended { id, .. }) if *id == Extension::Pex.our_id() => Fate::Drop,
        _ => Fate::Keep,
    }
}

/// Message number `n` of node `by`: other addresses each time.
pub(super) fn more(by: u32, n: u64) -> Vec<Message> {
    let first = (by.wrapping_mul(97).wrapping_add(n as u32) % 1_000) * ADDRS;
    let nobody = (first..first + ADDRS).map(|m| addr_of(NOBODY + m));
    let ports = (first..first + ADDRS).map(|m| PORT + m as u16);
    let victim = ports.map(|port| SocketAddr::new(addr_of(VICTIM).ip(), port));
    let pex = Pex { added: nobody.chain(victim).collect(), dropped: Vec::new() };
    vec![Message::Extended { id: Extension::Pex.our_id(), payload: pex.encode() }]
}

/// Whose host it is that only reflectors name, the victim's or nobody's.
pub(in crate::sim) fn named(addr: SocketAddr) -> Option<Named> {
    let nobody = super::super::node::node_at(addr, u32::MAX as usize);
    if nobody.is_some_and(|node| node >= NOBODY) {
        return Some(Named::Nobody);
    }
    (addr.ip() == addr_of(VICTIM).ip() && addr.port() >= PORT).then_some(Named::Victim(VICTIM))
}

/// Who is behind an address that only reflectors name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Named {
    /// Nobody: a dial is never answered.
    Nobody,
    /// A node that does not listen there.
    Victim(u32),
}

#[cfg(test)]
mod tests {
    use super::super::write::live;
    use super::super::write::tests::write;
    use super::*;
    use crate::wire::live::{Clock, Live};

    #[test]
    fn only_who_is_told_of_is_untrue() {
        let pex = Pex { added: vec![addr_of(3)], dropped: Vec::new() };
        let pex = Message::Extended { id: Extension::Pex.our_id(), payload: pex.encode() };
        let ask = live(&Live::Clock(Clock::Ask { mine_us: 5 }));
        let told = write(&[pex, ask.clone()]).retold(judge, &more(4, 0));
        assert_eq!(told, write(&[&[ask], &more(4, 0)[..]].concat()));
    }

    #[test]
    fn no_address_told_of_is_that_of_a_listener() {
        for n in [0, 1, 999, u64::MAX] {
            let Message::Extended { payload, .. } = &more(7, n)[0] else { panic!("no pex") };
            let added = Pex::parse(payload).expect("a list").added;
            let of = |who| added.iter().filter(|addr| named(**addr) == Some(who)).count();
            assert_eq!((of(Named::Nobody), of(Named::Victim(VICTIM))), (25, 25));
        }
        assert_eq!((named(addr_of(VICTIM)), named(addr_of(1_000_000))), (None, None));
    }
}
