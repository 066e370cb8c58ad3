//! How peers are found: when which tracker is asked ([`announce`]), how datagrams get there and
//! back ([`udp_tracker`]), why there was no answer ([`fault`]), and which addresses may be
//! contacted at all ([`address`]). Our own small tracker remembers in [`tracker_store`] and knows
//! its UDP clients by [`connection_id`].

pub mod address;
pub mod announce;
pub mod connection_id;
pub mod fault;
pub mod tracker_store;
pub mod udp_tracker;
