//! Who talks to whom about which block: one machine per stream.

pub mod haves;
pub mod io;
pub mod rate;
pub mod roster;
