//! Who talks to whom about which block: one machine per stream.

pub mod io;
