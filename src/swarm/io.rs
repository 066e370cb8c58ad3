//! What a swarm is told and what it wants done: the inputs and outputs of the machine.

use std::net::SocketAddr;

use bytes::Bytes;

pub use crate::live::delay::Delay;
pub use crate::live::reader::Delivery;
use crate::units::{Epoch, Link, PieceIndex, Seq};
use crate::wire::message::WireError;

/// One who reads the stream in order: a pipe, a file, an HTTP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// How an address became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// Named by the user (`--peer`).
    User,
    /// Named by the link (`x.pe`).
    Magnet,
    /// In a tracker's list.
    Tracker,
    /// In a peer's list (BEP 11).
    Pex,
    /// It connected to us.
    Inbound,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum In {
    /// The deadline has come.
    Tick,
    /// A connection is open. `dialled` if it answers an [`Out::Dial`].
    Up {
        /// The driver's name for it.
        link: Link,
        /// The remote end.
        addr: SocketAddr,
        /// Whether we opened it.
        dialled: bool,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The address that was dialled.
        addr: SocketAddr,
    },
    /// A whole frame arrived: first the 68-byte handshake, then message bodies without their
    /// length prefix (empty for a keep-alive).
    Frame {
        /// On which connection.
        link: Link,
        /// The frame.
        frame: Bytes,
    },
    /// Several frames arrived together: the same as one [`In::Frame`] for each, in one turn. What
    /// stands behind a frame for which the machine closes the connection is not looked at.
    Frames {
        /// On which connection.
        link: Link,
        /// The frames, in order.
        frames: Vec<Bytes>,
    },
    /// The byte stream of a connection cannot be split into frames; the driver reads no more.
    Malformed {
        /// On which connection.
        link: Link,
        /// What is wrong with it.
        error: WireError,
    },
    /// This many bytes handed over by [`Out::Send`] have left for the network.
    Sent {
        /// On which connection.
        link: Link,
        /// Bytes, heads included.
        bytes: usize,
    },
    /// The same for several connections, told in one turn.
    SentAll(Vec<(Link, usize)>),
    /// A connection is gone; nothing more comes or goes on it.
    Down {
        /// Which one.
        link: Link,
    },
    /// Addresses of possible peers.
    Found {
        /// Who named them.
        via: Via,
        /// The addresses; at most a few hundred are kept.
        addrs: Vec<SocketAddr>,
    },
    /// Source only: bytes of the stream to publish.
    Ingest(Bytes),
    /// Source only: the input has ended, and with it the stream.
    IngestEnd,
    /// Source only: the input broke off and may come back; it starts again at a clean packet.
    IngestBreak,
    /// A reader has come.
    AddReader {
        /// Its name, chosen by the driver.
        reader: ReaderId,
        /// How far behind the broadcaster it plays.
        delay: Delay,
    },
    /// A reader can take this many further pieces.
    ReaderCredit {
        /// Which one.
        reader: ReaderId,
        /// Pieces.
        pieces: u32,
    },
    /// A reader has left.
    RemoveReader {
        /// Which one.
        reader: ReaderId,
    },
    /// Close all connections: a private torrent's tracker was changed (BEP 27).
    DropPeers,
    /// Leave the swarm: a source that has not ended its stream just falls silent.
    Stop,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Out {
    /// Open a connection; answered by `Up` or `DialFailed`.
    Dial {
        /// Whereto.
        addr: SocketAddr,
    },
    /// Send `head` and then `body` as they are; answered by `Sent` as bytes leave.
    Send {
        /// On which connection.
        link: Link,
        /// Framing and small messages.
        head: Bytes,
        /// A block's payload, shared with the store; empty for anything else.
        body: Bytes,
    },
    /// Send what was handed over, then close; no `Down` follows.
    Close {
        /// Which connection.
        link: Link,
    },
    /// Put a record where it survives the death of this process. The driver does it before it
    /// carries out any later output.
    Persist(Record),
    /// Hand something to a reader.
    Deliver {
        /// To whom.
        reader: ReaderId,
        /// What.
        item: Delivery,
    },
    /// Something worth telling the user or the log.
    Event(Event),
}

/// What must survive the death of a process (`specs/feed.md`, section State on disk).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The last entry a source signed, as its wire bytes; before any peer can see it.
    Published(Bytes),
    /// The highest entry verified, as its wire bytes.
    Head(Bytes),
    /// The `info` dictionary as peers gave it.
    Metadata(Bytes),
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The `info` dictionary arrived and fits its info-hash.
    MetadataComplete,
    /// It arrived, and it is private (BEP 27): who has a link only should not be here.
    Private,
    /// The `info` dictionary arrived, and it is not that of a live torrent.
    NotLive,
    /// A peer's handshake and extension handshake are done and it speaks our extension.
    PeerJoined {
        /// The connection.
        link: Link,
        /// The remote end.
        addr: SocketAddr,
    },
    /// A connection ended, and why.
    PeerLeft {
        /// The remote end.
        addr: SocketAddr,
        /// One line for the log; names the culprit where there is one.
        reason: String,
        /// Whether the peer broke a rule.
        fault: bool,
    },
    /// The stream is in a new epoch.
    EpochChanged {
        /// Which one.
        epoch: Epoch,
    },
    /// An entry needs a newer version of this program.
    NeedsNewer {
        /// Its place.
        at: Seq,
    },
    /// A source that was told of a higher epoch follows it and publishes no more.
    Superseded {
        /// The epoch of the other source.
        by: Seq,
    },
    /// The broadcaster signed two different entries for one place.
    Equivocation {
        /// The place.
        at: Seq,
    },
    /// A source published a piece.
    Published {
        /// Which one.
        index: PieceIndex,
    },
    /// The signed end of the stream has come into sight.
    Ended,
}

/// A step that a simulation wants to see and nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A block was verified for the first time, or published.
    Verified {
        /// The piece.
        at: Seq,
        /// The block within it.
        block: u16,
    },
}
