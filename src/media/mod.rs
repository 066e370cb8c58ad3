//! Where an MPEG transport stream may be cut, how it is paced and looped. Pure: nothing
//! here alters a byte.
//!
//! [`ts`] finds packets in any byte stream, [`psi`] reads the tables that say which packets belong
//! to the picture, [`pes`] reads their time stamps. [`cut`] uses all three to mark where a piece
//! may begin.

pub mod cut;
pub mod pes;
pub mod psi;
#[cfg(test)]
mod sample;
pub mod ts;
