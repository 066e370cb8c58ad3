//! The same machines on a simulated network.
//!
//! A [`world`] holds nodes, each a machine with an uplink, a clock of its own and a place in the
//! network, and plays what happens to them in the order of (time, planning). Everything random
//! follows from one seed, so a run is its scenario: the same seed gives the same trace hash.
//!
//! | module | answers |
//! | --- | --- |
//! | [`queue`] | what happens next |
//! | [`uplink`] | when a byte is out |
//! | [`link`] | what travels between two nodes, in which pieces |
//! | [`share`] | how a thousand viewers share one copy of a block |
//! | [`clip`] | what the encoder puts out |
//! | [`reference`] | how fast it could be |

pub mod clip;
mod link;
pub mod queue;
pub mod reference;
mod share;
pub mod uplink;
