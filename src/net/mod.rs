//! The drivers: the only layer below the commands that opens sockets, reads clocks and draws
//! seeds. A driver owns a machine, moves bytes for it and obeys its deadline.

pub mod announcer;
pub mod clock;
pub mod driver;
pub mod http_out;
pub mod ingest;
pub mod player;
pub mod readers;
pub mod resolve;
pub mod sinks;
pub mod state;
pub mod tcp;
pub mod tracker_http;
pub mod tracker_server;
pub mod tracker_udp;
pub mod trackers;
mod udp_ingest;
