//! (module doc)
pub mod ingest;
mod udp_ingest;
