//! (module doc)
pub mod http_out;
pub mod ingest;
pub mod player;
pub mod readers;
pub mod sinks;
mod udp_ingest;
