//! The same machines on a simulated network.
//!
//! A [`world`] holds nodes, each a machine with an uplink, a clock of its own and a place in the
//! network, and plays what happens to them in the order of (time, planning). Everything random
//! follows from one seed, so a run is its scenario: the same seed gives the same trace hash.
//!
//! | module | answers |
//! | --- | --- |
//! | [`scenario`] | what a swarm is made of and what happens to it |
//! | [`expect`] | what a run must reach |
//! | [`world`] | who lives, and what happens in which order |
//! | [`node`] | what a machine needs to be simulated |
//! | [`machines`] | how the machines that ship come into it |
//! | [`queue`] | what happens next |
//! | `wires`, `link`, [`uplink`] | what travels between nodes, and when it is out |
//! | `share` | how a thousand viewers share one copy of a block |
//! | [`clip`] | what the encoder puts out |
//! | `tracker` | who is introduced to whom |
//! | [`check`], `spy` | what must never happen, to readers and on the wire |
//! | `meter`, [`group`], [`report`] | how fast and how well it went, and for whom |
//! | [`mod@reference`] | how fast it could be |
//! | `manner` | how those who misbehave do it |
//! | `trace` | whether two runs were the same |

pub mod check;
pub mod clip;
mod event;
pub mod expect;
pub mod group;
mod link;
pub mod machines;
mod manner;
mod meter;
pub mod node;
pub mod queue;
pub mod reference;
pub mod report;
pub mod scenario;
mod share;
mod spy;
#[cfg(test)]
mod toy;
mod trace;
mod tracker;
pub mod uplink;
mod wires;
pub mod world;
