//! How peers are found: which addresses may be contacted ([`address`]).

pub mod address;
