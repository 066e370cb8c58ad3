//! What can be planned.

use std::net::SocketAddrV4;

use super::link::ParcelId;
use super::uplink::PipeId;
use super::wires::NodeId;
use crate::units::Link;

/// One life of a node: a restarted node is a new one, and what was planned for the old one is
/// void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) node: NodeId,
    pub(super) number: u32,
}

/// Something that will happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A machine's deadline.
    Tick(Life),
    /// A parcel may have left the uplink.
    Uplink { node: NodeId },
    /// A parcel reaches the receiver's line.
    Arrive { pipe: PipeId, parcel: ParcelId },
    /// A parcel has passed the receiver's line.
    Landed { pipe: PipeId, parcel: ParcelId },
    /// The end of a byte stream arrives.
    End { pipe: PipeId },
    /// A connection may have been cut off for too long.
    Dead { conn: u64 },
    /// A connection attempt reaches its target.
    Knock { from: Life, to: NodeId },
    /// A connection attempt came to nothing.
    Refused { from: Life, to: NodeId },
    /// The same at an address where no node listens.
    RefusedAt { from: Life, addr: SocketAddrV4 },
    /// The dialler learns that its connection is open.
    Dialled { conn: u64 },
    /// The listener learns of the connection.
    Accepted { conn: u64 },
    /// One end of a connection learns that it is gone.
    Gone { link: Link, life: Life },
    /// Bytes that are kept back pass for sent.
    Swallowed { link: Link, life: Life, bytes: u32 },
    /// A reader takes more pieces.
    Credit(Life),
    /// A node asks the tracker.
    Announce(Life),
    /// The tracker's answer arrives.
    Introduced(Life),
    /// The encoder has more bytes for the source.
    Ingest(Life),
    /// A node starts.
    Start { node: NodeId },
    /// A node leaves in good order.
    Leave(Life),
    /// A node that is leaving has said all it had to say.
    Exit(Life),
    /// A frozen node goes on.
    Thaw(Life),
    /// A reader that stood still goes on.
    Resume(Life),
    /// A cut network heals.
    Heal { event: u32 },
    /// Everybody must have caught up with what happened.
    CaughtUp,
    /// The scenario says so.
    Scripted { event: u32 },
    /// Measuring begins.
    Measure,
    /// Nodes are asked how they fare.
    Ask,
}
