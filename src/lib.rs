//! Live streaming over ordinary BitTorrent swarms.
//!
//! A broadcaster publishes a *live torrent*: a metainfo file that names a public key instead of
//! piece hashes. What the pieces are is said, piece by piece, by a signed *feed* that travels over
//! the same peer connections as the data. Everything else is the BitTorrent that trackers and
//! peers already speak. `specs/` describes the formats and the protocol.
//!
//! # The seam
//!
//! Protocol is state machines: time and bytes go in, actions come out ([`machine`]). Nothing below
//! [`net`] reads a clock, opens a socket or draws an unseeded random number, so the simulator
//! ([`sim`]) and the real drivers ([`net`]) run the very same code.
//!
//! # Code map, from the ground up
//!
//! | module | answers |
//! | --- | --- |
//! | [`units`] | which numbers must not be mixed up |
//! | [`machine`] | what goes into a machine and what comes out |
//! | [`wire`] | how bytes become values and back |
//! | [`media`] | where an MPEG-TS may be cut, how it is paced and looped |
//! | [`live`] | what a live stream is: feed, window, pieces, readers, source |
//! | [`discovery`] | when which tracker is asked, which address may be contacted |
//! | [`swarm`] | who talks to whom about which block |
//! | [`net`] | sockets, clocks, files: the drivers |
//! | [`sim`] | the same machines on a simulated network |
//! | [`app`] | what a person starts: commands, outputs, status |
//!
//! Each layer imports only what stands above it in this table; `tests/tidy.rs` holds it.
#![forbid(unsafe_code)]

pub mod machine;
pub mod units;

pub mod wire;

pub mod media;

pub mod live;

pub mod discovery;

pub mod swarm;

pub mod net;

pub mod sim;

pub mod app;
