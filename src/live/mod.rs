//! What a live stream is: its feed, its clock, its pieces, its readers and its source. Pure parts
//! that know nothing of peers.

pub mod backlog;
pub mod builder;
pub mod clock;
pub mod delay;
pub mod feed;
pub mod proven;
pub mod reader;
pub mod store;

use crate::units::{InfoHash, UnixUs};

/// What the metainfo says of a live stream (`specs/live-torrent.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// SHA-1 of the raw `info` dictionary.
    pub info_hash: InfoHash,
    /// The broadcaster's Ed25519 key.
    pub public_key: [u8; 32],
    /// Longest piece, in bytes.
    pub piece_len: u32,
    /// Birth time that an ordinary peer keeps, in microseconds.
    pub window_us: u64,
    /// Bit rate that the broadcaster expects, in bit/s; a hint.
    pub bitrate: Option<u64>,
}

/// How far an epoch may lie ahead of a trusted clock (`specs/feed.md`, section Epochs).
pub const EPOCH_AHEAD_MAX_S: u64 = 24 * 3600;

/// Whether an epoch lies further ahead of a clock than an honest source can.
#[must_use]
pub fn is_far_ahead(epoch: crate::units::Epoch, wall: UnixUs) -> bool {
    epoch.unix_s() > wall.secs().saturating_add(EPOCH_AHEAD_MAX_S)
}

/// An epoch above `known`, for a source that starts at `wall` (`specs/feed.md`, section Epochs).
#[must_use]
pub fn open_epoch(
    wall: UnixUs,
    known: Option<crate::units::Epoch>,
    rng: &mut crate::machine::Rng,
) -> crate::units::Epoch {
    let after_known = known.map_or(0, |epoch| epoch.unix_s() + 1);
    let second = wall.secs().max(after_known).min((crate::units::Epoch::END >> 20) - 1);
    crate::units::Epoch(second << 20 | rng.below(1 << 20))
}

/// How far above every known index a new epoch starts, so that readers rarely see one go back.
pub const EPOCH_INDEX_GAP: u32 = 1024;
