//! (module doc)
pub mod http_out;
pub mod ingest;
pub mod readers;
mod udp_ingest;
