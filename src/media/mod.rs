//! Where an MPEG transport stream may be cut, how it is paced and looped. Pure, and with one
//! exception ([`relabel`], asked for by name) nothing here alters a byte.
//!
//! [`ts`] finds packets in any byte stream, [`psi`] reads the tables that say which packets belong
//! to the picture, [`pes`] reads their time stamps. [`cut`] uses all three to mark where a piece
//! may begin, [`join`] to find where one input goes on behind another, [`pace`] to play a file at
//! the speed it was made for, [`relabel`] to loop it.

pub mod clip;
pub mod cut;
pub mod join;
pub mod pace;
pub mod pes;
pub mod psi;
pub mod relabel;
#[cfg(test)]
mod sample;
pub mod ts;
