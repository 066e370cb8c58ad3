//! How peers are found: when which tracker is asked ([`announce`]) how datagrams get there and
//! back ([`udp_tracker`]), why there was no answer ([`fault`]), and which addresses may be contacted
//! at all ([`address`]).

pub mod address;
pub mod announce;
pub mod fault;
pub mod udp_tracker;
