//! The peer wire: handshake, messages of BEP 3, BEP 6 and BEP 10, and the splitter that finds
//! them in a byte stream.
//!
//! A message is parsed from a whole frame and shares its memory: no payload is copied.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32};
use nom::{IResult, Parser};

use super::limits::FRAME_LEN_MAX;
use crate::units::{BLOCK_LEN, InfoHash, PeerId, PieceIndex};

/// Bytes of the handshake that opens every connection (BEP 3).
pub const HANDSHAKE_LEN: usize = 68;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// What is wrong with bytes that a peer sent. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame longer than any valid message.
    #[error("frame of {claimed_len} bytes, limit {FRAME_LEN_MAX}")]
    FrameTooLong {
        /// The length the peer claimed.
        claimed_len: u32,
    },
    /// The stream does not begin with a BitTorrent handshake.
    #[error("no BitTorrent handshake")]
    NotBitTorrent,
    /// A message that is shorter or longer than its type allows.
    #[error("{message} of {len} bytes is too short or too long")]
    Length {
        /// The message's name.
        message: &'static str,
        /// Its length in bytes, type byte included.
        len: usize,
    },
    /// A field with a value that its definition excludes.
    #[error("{message}: {field} is {value}")]
    Value {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// A dictionary inside an extension message that is not well formed.
    #[error("{message}: not a valid dictionary")]
    Dictionary {
        /// The message's name.
        message: &'static str,
    },
}

/// The reserved bits of the handshake: what a peer can do beyond BEP 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// Fast extension (BEP 6) and extension protocol (BEP 10): what a live swarm needs.
    #[must_use]
    pub fn live() -> Self {
        Self([0, 0, 0, 0, 0, 0x10, 0, 0x04])
    }

    /// Whether the peer speaks the extension protocol (BEP 10).
    #[must_use]
    pub fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Whether the peer speaks the fast extension (BEP 6).
    #[must_use]
    pub fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// Whether the peer runs a DHT node (BEP 5).
    #[must_use]
    pub fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }

    /// Whether the peer understands v2 torrents (BEP 52).
    #[must_use]
    pub fn v2(self) -> bool {
        self.0[7] & 0x10 != 0
    }
}

/// The first 68 bytes on a connection (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Extension bits.
    pub reserved: Reserved,
    /// The torrent that this connection is about.
    pub info_hash: InfoHash,
    /// Who speaks.
    pub peer_id: PeerId,
}

impl Handshake {
    /// Reads a handshake.
    ///
    /// # Errors
    /// [`WireError::NotBitTorrent`] if the length or the protocol string is not BEP 3's.
    pub fn parse(frame: &[u8]) -> Result<Self, WireError> {
        let frame: &[u8; HANDSHAKE_LEN] = frame.try_into().map_err(|_| WireError::NotBitTorrent)?;
        let (protocol, rest) = frame.split_at(20);
        let (reserved, rest) = rest.split_at(8);
        let (info_hash, peer_id) = rest.split_at(20);
        if protocol != PROTOCOL {
            return Err(WireError::NotBitTorrent);
        }
        Ok(Self {
            reserved: Reserved(array(reserved)),
            info_hash: InfoHash(array(info_hash)),
            peer_id: PeerId(array(peer_id)),
        })
    }

    /// The 68 bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HANDSHAKE_LEN);
        out.put_slice(PROTOCOL);
        out.put_slice(&self.reserved.0);
        out.put_slice(&self.info_hash.0);
        out.put_slice(&self.peer_id.0);
        out.freeze()
    }
}

/// `bytes` as an array; zeros where it is shorter (callers have checked the length).
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let len = bytes.len().min(N);
    out[..len].copy_from_slice(&bytes[..len]);
    out
}

/// A range of a piece, as `request`, `cancel` and `reject` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The piece.
    pub index: PieceIndex,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Bytes asked for.
    pub len: u32,
}

/// A message of BEP 3, BEP 6 or BEP 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Nothing; keeps the connection open.
    KeepAlive,
    /// No request will be served.
    Choke,
    /// Requests will be served.
    Unchoke,
    /// The sender wants something the receiver has.
    Interested,
    /// The sender wants nothing.
    NotInterested,
    /// The sender has verified this piece.
    Have(PieceIndex),
    /// What the sender has, one bit a piece (not used in a live swarm).
    Bitfield(Bytes),
    /// Asks for a block.
    Request(Request),
    /// A block.
    Piece {
        /// The piece.
        index: PieceIndex,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// The payload, at most 16 KiB.
        block: Bytes,
    },
    /// Takes a request back.
    Cancel(Request),
    /// UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// A piece worth asking for (BEP 6).
    Suggest(PieceIndex),
    /// The sender has everything (BEP 6; not used in a live swarm).
    HaveAll,
    /// The sender has nothing to declare (BEP 6).
    HaveNone,
    /// This request will not be served (BEP 6).
    Reject(Request),
    /// This piece may be asked for while choked (BEP 6).
    AllowedFast(PieceIndex),
    /// A message of an extension (BEP 10); 0 is the extension handshake.
    Extended {
        /// The number that the receiver gave the extension in its handshake.
        id: u8,
        /// The extension's own bytes.
        payload: Bytes,
    },
    /// A type that this version does not know; ignored.
    Unknown {
        /// The type.
        id: u8,
    },
}

type Input<'a> = &'a [u8];

fn request(input: Input<'_>) -> IResult<Input<'_>, Request> {
    let (rest, (index, begin, len)) = (be_u32, be_u32, be_u32).parse(input)?;
    Ok((rest, Request { index: PieceIndex(index), begin, len }))
}

fn index(input: Input<'_>) -> IResult<Input<'_>, PieceIndex> {
    be_u32.map(PieceIndex).parse(input)
}

impl Message {
    /// Reads the message in a frame (the bytes after the length prefix).
    ///
    /// # Errors
    /// [`WireError::Length`] if the frame does not have its type's length, and
    /// [`WireError::Value`] for a block of more than 16 KiB.
    pub fn parse(frame: &Bytes) -> Result<Self, WireError> {
        if frame.is_empty() {
            return Ok(Self::KeepAlive);
        }
        let whole = frame.as_ref();
        let (body, id) = be_u8::<_, nom::error::Error<Input<'_>>>(whole)
            .map_err(|_| WireError::Length { message: "message", len: whole.len() })?;
        let name = Self::name_of(id);
        let wrong = |_| WireError::Length { message: name, len: whole.len() };
        let parsed: IResult<Input<'_>, Self> = match id {
            0 => Ok((body, Self::Choke)),
            1 => Ok((body, Self::Unchoke)),
            2 => Ok((body, Self::Interested)),
            3 => Ok((body, Self::NotInterested)),
            4 => index.map(Self::Have).parse(body),
            5 => Ok((&[][..], Self::Bitfield(frame.slice_ref(body)))),
            6 => request.map(Self::Request).parse(body),
            7 => {
                let (block, (index, begin)) = (index, be_u32).parse(body).map_err(wrong)?;
                if block.is_empty() || block.len() > BLOCK_LEN as usize {
                    return Err(WireError::Value {
                        message: name,
                        field: "block length",
                        value: block.len() as u64,
                    });
                }
                Ok((&[][..], Self::Piece { index, begin, block: frame.slice_ref(block) }))
            }
            8 => request.map(Self::Cancel).parse(body),
            9 => be_u16.map(Self::Port).parse(body),
            13 => index.map(Self::Suggest).parse(body),
            14 => Ok((body, Self::HaveAll)),
            15 => Ok((body, Self::HaveNone)),
            16 => request.map(Self::Reject).parse(body),
            17 => index.map(Self::AllowedFast).parse(body),
            20 => {
                let (payload, id) = be_u8(body).map_err(wrong)?;
                Ok((&[][..], Self::Extended { id, payload: frame.slice_ref(payload) }))
            }
            _ => return Ok(Self::Unknown { id }),
        };
        match parsed {
            Ok(([], message)) => Ok(message),
            _ => Err(WireError::Length { message: name, len: whole.len() }),
        }
    }

    /// The message as it goes on the wire, without a block's payload: that is sent behind it as it
    /// lies in memory ([`Message::body`]).
    #[must_use]
    pub fn head(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        self.put_head(&mut out);
        out.freeze()
    }

    /// Appends what [`Message::head`] returns.
    pub fn put_head(&self, out: &mut BytesMut) {
        let simple = |out: &mut BytesMut, id: u8| {
            out.put_u32(1);
            out.put_u8(id);
        };
        let piece = |out: &mut BytesMut, id: u8, index: PieceIndex| {
            out.put_u32(5);
            out.put_u8(id);
            out.put_u32(index.0);
        };
        let range = |out: &mut BytesMut, id: u8, r: &Request| {
            out.put_u32(13);
            out.put_u8(id);
            out.put_u32(r.index.0);
            out.put_u32(r.begin);
            out.put_u32(r.len);
        };
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => simple(out, 0),
            Self::Unchoke => simple(out, 1),
            Self::Interested => simple(out, 2),
            Self::NotInterested => simple(out, 3),
            Self::Have(i) => piece(out, 4, *i),
            Self::Bitfield(bits) => {
                out.put_u32(1 + bits.len() as u32);
                out.put_u8(5);
                out.put_slice(bits);
            }
            Self::Request(r) => range(out, 6, r),
            Self::Piece { index, begin, block } => {
                out.put_u32(9 + block.len() as u32);
                out.put_u8(7);
                out.put_u32(index.0);
                out.put_u32(*begin);
            }
            Self::Cancel(r) => range(out, 8, r),
            Self::Port(port) => {
                out.put_u32(3);
                out.put_u8(9);
                out.put_u16(*port);
            }
            Self::Suggest(i) => piece(out, 13, *i),
            Self::HaveAll => simple(out, 14),
            Self::HaveNone => simple(out, 15),
            Self::Reject(r) => range(out, 16, r),
            Self::AllowedFast(i) => piece(out, 17, *i),
            Self::Extended { id, payload } => {
                out.put_u32(2 + payload.len() as u32);
                out.put_u8(20);
                out.put_u8(*id);
                out.put_slice(payload);
            }
            Self::Unknown { id } => simple(out, *id),
        }
    }

    /// The payload that follows the head: a block, or nothing.
    #[must_use]
    pub fn body(&self) -> Bytes {
        match self {
            Self::Piece { block, .. } => block.clone(),
            _ => Bytes::new(),
        }
    }

    /// The name of a message type, as the BEPs give it.
    #[must_use]
    pub fn name_of(id: u8) -> &'static str {
        match id {
            0 => "choke",
            1 => "unchoke",
            2 => "interested",
            3 => "not interested",
            4 => "have",
            5 => "bitfield",
            6 => "request",
            7 => "piece",
            8 => "cancel",
            9 => "port",
            13 => "suggest",
            14 => "have all",
            15 => "have none",
            16 => "reject",
            17 => "allowed fast",
            20 => "extended",
            _ => "unknown",
        }
    }
}

/// Finds frames in a byte stream: first the handshake, then message bodies.
///
/// Frames share the read buffer's memory; once their users let go of them the buffer is used
/// again, so a connection holds one buffer and the partial frame at its end.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    handshake_seen: bool,
}

/// Room that the splitter makes for one read.
const READ_LEN: usize = 32 << 10;

impl Splitter {
    /// A splitter at the start of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer to read into, with room for a read and for the rest of a frame under way.
    pub fn space(&mut self) -> &mut BytesMut {
        let wanted = match self.frame_len() {
            Ok(Some(len)) => len.saturating_sub(self.buffer.len()).clamp(4096, READ_LEN),
            _ => READ_LEN,
        };
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(READ_LEN);
        }
        &mut self.buffer
    }

    /// Appends bytes that arrived elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held back because their frame is not whole yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Length of the next frame with its prefix, if enough of it is here to tell.
    fn frame_len(&self) -> Result<Option<usize>, WireError> {
        if !self.handshake_seen {
            let seen = self.buffer.len().min(PROTOCOL.len());
            if self.buffer[..seen] != PROTOCOL[..seen] {
                return Err(WireError::NotBitTorrent);
            }
            return Ok(Some(HANDSHAKE_LEN));
        }
        let Some(prefix) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let claimed_len = u32::from_be_bytes(*prefix);
        if claimed_len as usize > FRAME_LEN_MAX {
            return Err(WireError::FrameTooLong { claimed_len });
        }
        Ok(Some(4 + claimed_len as usize))
    }

    /// The next whole frame, without its length prefix.
    ///
    /// # Errors
    /// The stream is not BitTorrent, or a frame is longer than any message; nothing more can be
    /// read from it then.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(len) = self.frame_len()? else { return Ok(None) };
        if self.buffer.len() < len {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(len).freeze();
        if self.handshake_seen {
            frame.advance(4);
        }
        self.handshake_seen = true;
        Ok(Some(frame))
    }
}

/// Takes `len` bytes as a slice of `frame`, sharing its memory.
pub(super) fn take_shared<'a>(
    frame: &Bytes,
    input: Input<'a>,
    len: usize,
) -> IResult<Input<'a>, Bytes> {
    let (rest, part) = take(len).parse(input)?;
    Ok((rest, frame.slice_ref(part)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(message: &Message) -> Vec<u8> {
        let mut out = message.head().to_vec();
        out.extend_from_slice(&message.body());
        out
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let range = (any::<u32>(), any::<u32>(), any::<u32>())
            .prop_map(|(i, begin, len)| Request { index: PieceIndex(i), begin, len });
        let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Choke),
            Just(Message::Unchoke),
            Just(Message::Interested),
            Just(Message::NotInterested),
            any::<u32>().prop_map(|i| Message::Have(PieceIndex(i))),
            bytes(64).prop_map(Message::Bitfield),
            range.clone().prop_map(Message::Request),
            (any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 1..2000)).prop_map(
                |(i, begin, block)| Message::Piece {
                    index: PieceIndex(i),
                    begin,
                    block: block.into()
                }
            ),
            range.clone().prop_map(Message::Cancel),
            any::<u16>().prop_map(Message::Port),
            any::<u32>().prop_map(|i| Message::Suggest(PieceIndex(i))),
            Just(Message::HaveAll),
            Just(Message::HaveNone),
            range.prop_map(Message::Reject),
            any::<u32>().prop_map(|i| Message::AllowedFast(PieceIndex(i))),
            (any::<u8>(), bytes(200)).prop_map(|(id, payload)| Message::Extended { id, payload }),
        ]
    }

    proptest! {
        #[test]
        fn every_message_reads_back_as_it_was_written(message in any_message()) {
            let bytes = Bytes::from(whole(&message));
            prop_assert_eq!(Message::parse(&bytes.slice(4..)), Ok(message));
        }

        #[test]
        fn the_splitter_finds_the_same_frames_however_the_stream_is_cut(
            messages in prop::collection::vec(any_message(), 0..20),
            cuts in prop::collection::vec(1usize..700, 1..60),
        ) {
            let handshake = Handshake {
                reserved: Reserved::live(),
                info_hash: InfoHash([7; 20]),
                peer_id: PeerId([8; 20]),
            };
            let mut stream = handshake.encode().to_vec();
            for message in &messages {
                stream.extend(whole(message));
            }
            let mut splitter = Splitter::new();
            let mut frames = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                splitter.push(now);
                while let Some(frame) = splitter.next_frame().expect("valid stream") {
                    frames.push(frame);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(Handshake::parse(&frames[0]), Ok(handshake));
            let read: Vec<_> =
                frames[1..].iter().map(|f| Message::parse(f).expect("valid message")).collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn no_frame_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Message::parse(&bytes.into());
        }
    }

    #[test]
    fn a_stream_that_is_not_bittorrent_is_told_by_its_first_wrong_byte() {
        let mut splitter = Splitter::new();
        splitter.push(b"\x13BitTorrent prot");
        assert_eq!(splitter.next_frame(), Ok(None));
        splitter.push(b"X");
        assert_eq!(splitter.next_frame(), Err(WireError::NotBitTorrent));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_any_of_it_is_stored() {
        let mut splitter = Splitter { handshake_seen: true, ..Splitter::default() };
        splitter.push(&[0xff; 4]);
        let claimed_len = u32::MAX;
        assert_eq!(splitter.next_frame(), Err(WireError::FrameTooLong { claimed_len }));
    }

    #[test]
    fn messages_of_the_wrong_length_are_refused() {
        let cases: [&[u8]; 6] = [
            b"\x00\x00",                 // choke with a body
            b"\x04\x00\x00\x00",         // have cut short
            b"\x06\x00\x00\x00\x01",     // request cut short
            b"\x07\x00\x00\x00\x01\x00", // piece without offset
            b"\x09\x00\x00\x00",         // port too long
            b"\x14",                     // extended without number
        ];
        for case in cases {
            let parsed = Message::parse(&Bytes::copy_from_slice(case));
            assert!(matches!(parsed, Err(WireError::Length { .. })), "{case:?}: {parsed:?}");
        }
    }
}
