//! The same machines on a simulated network.
