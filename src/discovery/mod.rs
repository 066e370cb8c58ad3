//! How peers are found: when which tracker is asked ([`announce`]) and why it gave no answer
//! ([`fault`]), which addresses may be contacted at all ([`address`]).

pub mod address;
pub mod announce;
pub mod fault;
