//! The extension protocol (BEP 10) and the extensions that ordinary peers share with us: metadata
//! (BEP 9), peer exchange (BEP 11), `lt_donthave` (BEP 54).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Bytes, BytesMut};

use super::bencode::{Encoder, Limits, Mode, Value};
use super::limits::{METADATA_LEN_MAX, PEERS_PER_REPLY_MAX};
use super::live::Kind;
use super::message::WireError;
use crate::units::PieceIndex;

/// Bytes in a piece of metadata (BEP 9).
pub const METADATA_PIECE_LEN: usize = 16 << 10;
/// Names kept of a peer's `m`.
const NAMES_MAX: usize = 64;

/// The extensions we number ourselves, in the order of their numbers from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extension {
    /// `ut_metadata` (BEP 9)
    Metadata,
    /// `ut_pex` (BEP 11)
    Pex,
    /// `lt_donthave` (BEP 54)
    DontHave,
    /// One of ours.
    Live(Kind),
}

impl Extension {
    /// The name in `m`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Metadata => "ut_metadata",
            Self::Pex => "ut_pex",
            Self::DontHave => "lt_donthave",
            Self::Live(kind) => kind.name(),
        }
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Metadata, Self::Pex, Self::DontHave]
            .into_iter()
            .chain(Kind::ALL.into_iter().map(Self::Live))
    }

    /// The number under which we want to receive it.
    #[must_use]
    pub fn our_id(self) -> u8 {
        Self::all().position(|e| e == self).map_or(0, |n| n as u8 + 1)
    }

    /// What we receive under this number.
    #[must_use]
    pub fn from_our_id(id: u8) -> Option<Self> {
        Self::all().nth(usize::from(id.checked_sub(1)?))
    }
}

/// The extension handshake (BEP 10): what the sender understands and under which numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ExtendedHandshake {
    /// Extension names and the numbers to send them under.
    pub m: BTreeMap<String, u8>,
    /// Client name and version.
    pub v: Option<String>,
    /// TCP port on which the sender listens.
    pub p: Option<u16>,
    /// Requests that may be outstanding.
    pub reqq: Option<u32>,
    /// Bytes of the `info` dictionary, if the sender has it.
    pub metadata_size: Option<usize>,
    /// The receiver's address as the sender sees it.
    pub yourip: Option<IpAddr>,
}

impl ExtendedHandshake {
    /// Ours.
    #[must_use]
    pub fn ours(port: Option<u16>, metadata_size: Option<usize>, pex: bool, peer: IpAddr) -> Self {
        let m = Extension::all()
            .filter(|e| pex || *e != Extension::Pex)
            .map(|e| (e.name().to_owned(), e.our_id()))
            .collect();
        Self {
            m,
            v: Some(concat!("btlive ", env!("CARGO_PKG_VERSION")).to_owned()),
            p: port,
            reqq: Some(super::limits::REQUESTS_QUEUED_MAX as u32),
            metadata_size,
            yourip: Some(peer),
        }
    }

    /// Reads a handshake. Sloppy dictionaries are taken; values of the wrong type count as absent.
    ///
    /// # Errors
    /// The payload is not a bencoded dictionary within the limits.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let wrong = || WireError::Dictionary { message: "extension handshake" };
        let dict = Value::parse(payload, Mode::Lenient, &Limits::MESSAGE).map_err(|_| wrong())?;
        dict.dict().ok_or_else(wrong)?;
        let int = |key: &[u8]| dict.get(key).and_then(Value::int);
        let m = dict.get(b"m").and_then(Value::dict).unwrap_or_default();
        let m = m
            .iter()
            .take(NAMES_MAX)
            .filter_map(|e| {
                let name = std::str::from_utf8(e.key).ok().filter(|name| name.len() <= 64)?;
                Some((name.to_owned(), u8::try_from(e.value.int()?).ok()?))
            })
            .filter(|(_, id)| *id != 0)
            .collect();
        Ok(Self {
            m,
            v: dict.get(b"v").and_then(Value::text).map(|v| super::text::one_line(v, 60)),
            p: int(b"p").and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
            reqq: int(b"reqq").and_then(|n| u32::try_from(n).ok()),
            metadata_size: int(b"metadata_size")
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| (1..=METADATA_LEN_MAX).contains(n)),
            yourip: dict.get(b"yourip").and_then(Value::bytes).and_then(ip),
        })
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = Encoder::dict_of(|dict| {
            dict.dict(b"m", |m| {
                for (name, id) in &self.m {
                    m.int(name.as_bytes(), i64::from(*id));
                }
            });
            if let Some(size) = self.metadata_size {
                dict.int(b"metadata_size", size as i64);
            }
            if let Some(p) = self.p {
                dict.int(b"p", i64::from(p));
            }
            if let Some(reqq) = self.reqq {
                dict.int(b"reqq", i64::from(reqq));
            }
            if let Some(v) = &self.v {
                dict.bytes(b"v", v.as_bytes());
            }
            match self.yourip {
                Some(IpAddr::V4(v4)) => dict.bytes(b"yourip", v4.octets()),
                Some(IpAddr::V6(v6)) => dict.bytes(b"yourip", v6.octets()),
                None => {}
            }
        });
        payload.into()
    }

    /// The number under which the sender wants to receive `extension`.
    #[must_use]
    pub fn id_of(&self, extension: Extension) -> Option<u8> {
        self.m.get(extension.name()).copied()
    }

    /// The numbers under which the sender wants to receive what we know.
    #[must_use]
    pub fn ids(&self) -> Ids {
        let mut ids = Ids::default();
        for (extension, id) in Extension::all().zip(&mut ids.0) {
            *id = self.id_of(extension).unwrap_or(0);
        }
        ids
    }
}

/// Extensions that we know at most.
const KNOWN_MAX: usize = 24;

/// Under which numbers a peer wants to receive what we know; small enough to be kept for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ids([u8; KNOWN_MAX]);

impl Ids {
    /// The number for `extension`, if the peer knows it.
    #[must_use]
    pub fn of(&self, extension: Extension) -> Option<u8> {
        let place = usize::from(extension.our_id()).checked_sub(1)?;
        self.0.get(place).copied().filter(|id| *id > 0)
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(super::message::array::<4>(bytes)))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(super::message::array::<16>(bytes)))),
        _ => None,
    }
}

/// A message of `ut_metadata` (BEP 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataMessage {
    /// Asks for a piece of 16 KiB.
    Request {
        /// Which one.
        piece: u32,
    },
    /// Brings a piece.
    Data {
        /// Which one.
        piece: u32,
        /// Bytes of the whole, if the sender says so.
        total_size: Option<usize>,
        /// The piece.
        data: Bytes,
    },
    /// Will not bring a piece.
    Reject {
        /// Which one.
        piece: u32,
    },
}

impl MetadataMessage {
    /// Reads a message; `Ok(None)` is a type that BEP 9 leaves open.
    ///
    /// # Errors
    /// The payload does not begin with a dictionary that has a type and a piece.
    pub fn parse(payload: &Bytes) -> Result<Option<Self>, WireError> {
        let wrong = || WireError::Dictionary { message: "ut_metadata" };
        let (dict, len) =
            Value::parse_prefix(payload, Mode::Lenient, &Limits::MESSAGE).map_err(|_| wrong())?;
        let int = |key: &[u8]| dict.get(key).and_then(Value::int);
        let kind = int(b"msg_type").ok_or_else(wrong)?;
        let piece = int(b"piece").and_then(|p| u32::try_from(p).ok()).ok_or_else(wrong)?;
        let total_size = int(b"total_size").and_then(|n| usize::try_from(n).ok());
        Ok(match kind {
            0 => Some(Self::Request { piece }),
            1 => Some(Self::Data { piece, total_size, data: payload.slice(len..) }),
            2 => Some(Self::Reject { piece }),
            _ => None,
        })
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, piece) = match self {
            Self::Request { piece } => (0, piece),
            Self::Data { piece, .. } => (1, piece),
            Self::Reject { piece } => (2, piece),
        };
        let head = Encoder::dict_of(|dict| {
            dict.int(b"msg_type", kind);
            dict.int(b"piece", i64::from(*piece));
            if let Self::Data { total_size: Some(size), .. } = self {
                dict.int(b"total_size", *size as i64);
            }
        });
        let mut out = BytesMut::from(&head[..]);
        if let Self::Data { data, .. } = self {
            out.extend_from_slice(data);
        }
        out.freeze()
    }
}

/// A message of `ut_pex` (BEP 11).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pex {
    /// Peers that the sender is connected to since its last message.
    pub added: Vec<SocketAddr>,
    /// Peers that it is no longer connected to.
    pub dropped: Vec<SocketAddr>,
}

impl Pex {
    /// Reads a message; at most 200 addresses of a kind are taken.
    ///
    /// # Errors
    /// The payload is not a bencoded dictionary within the limits.
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let wrong = || WireError::Dictionary { message: "ut_pex" };
        let dict = Value::parse(payload, Mode::Lenient, &Limits::MESSAGE).map_err(|_| wrong())?;
        dict.dict().ok_or_else(wrong)?;
        let list = |v4: &[u8], v6: &[u8]| {
            let v4 = dict.get(v4).and_then(Value::bytes).unwrap_or_default();
            let v6 = dict.get(v6).and_then(Value::bytes).unwrap_or_default();
            v4.chunks_exact(6)
                .filter_map(|p| compact(p, 4))
                .chain(v6.chunks_exact(18).filter_map(|p| compact(p, 16)))
                .take(PEERS_PER_REPLY_MAX)
                .collect()
        };
        Ok(Self { added: list(b"added", b"added6"), dropped: list(b"dropped", b"dropped6") })
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let pack = |addrs: &[SocketAddr], v4: bool| {
            let mut out = Vec::new();
            for addr in addrs.iter().filter(|a| a.is_ipv4() == v4) {
                match addr.ip() {
                    IpAddr::V4(ip) => out.extend(ip.octets()),
                    IpAddr::V6(ip) => out.extend(ip.octets()),
                }
                out.extend(addr.port().to_be_bytes());
            }
            out
        };
        let flags = |v4: bool| vec![0u8; self.added.iter().filter(|a| a.is_ipv4() == v4).count()];
        let payload = Encoder::dict_of(|dict| {
            dict.bytes(b"added", pack(&self.added, true));
            dict.bytes(b"added.f", flags(true));
            dict.bytes(b"added6", pack(&self.added, false));
            dict.bytes(b"added6.f", flags(false));
            dict.bytes(b"dropped", pack(&self.dropped, true));
            dict.bytes(b"dropped6", pack(&self.dropped, false));
        });
        payload.into()
    }
}

/// An address in compact form (BEP 23, BEP 7): `ip_len` bytes of address, two of port.
fn compact(bytes: &[u8], ip_len: usize) -> Option<SocketAddr> {
    let (address, port) = bytes.split_at_checked(ip_len)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(SocketAddr::new(ip(address)?, port))
}

/// Reads `lt_donthave` (BEP 54): a piece that the sender lost.
///
/// # Errors
/// The payload is not four bytes long.
pub fn parse_dont_have(payload: &[u8]) -> Result<PieceIndex, WireError> {
    let wrong = WireError::Length { message: "lt_donthave", len: payload.len() };
    let index: [u8; 4] = payload.try_into().map_err(|_| wrong)?;
    Ok(PieceIndex(u32::from_be_bytes(index)))
}

/// The payload of an `lt_donthave` message (BEP 54).
#[must_use]
pub fn encode_dont_have(index: PieceIndex) -> Bytes {
    Bytes::copy_from_slice(&index.0.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_extension_has_a_number_of_its_own() {
        for extension in Extension::all() {
            assert_eq!(Extension::from_our_id(extension.our_id()), Some(extension));
        }
        assert_eq!(Extension::from_our_id(0), None);
        assert_eq!(Extension::from_our_id(200), None);
    }

    #[test]
    fn our_handshake_reads_back_as_it_was_written() {
        let peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        let ours = ExtendedHandshake::ours(Some(6881), Some(300), true, peer);
        assert_eq!(ExtendedHandshake::parse(&ours.encode()), Ok(ours));
    }

    #[test]
    fn a_sloppy_handshake_is_taken_for_what_it_says() {
        let sloppy = b"d1:v3:abc1:md11:ut_metadatai3e6:ut_pexi-1e4:zeroi0ee4:reqq3:xyze";
        let handshake = ExtendedHandshake::parse(sloppy).expect("a dictionary");
        assert_eq!(handshake.id_of(Extension::Metadata), Some(3));
        assert_eq!(handshake.id_of(Extension::Pex), None);
        assert_eq!((handshake.reqq, handshake.v.as_deref()), (None, Some("abc")));
    }

    #[test]
    fn metadata_is_bounded_by_its_claimed_size() {
        let absurd = b"d13:metadata_sizei99999999999ee";
        assert_eq!(ExtendedHandshake::parse(absurd).expect("valid").metadata_size, None);
        assert!(ExtendedHandshake::parse(&[b'l'; 7000]).is_err());
    }

    #[test]
    fn a_metadata_piece_follows_its_dictionary() {
        let data = MetadataMessage::Data {
            piece: 1,
            total_size: Some(20_000),
            data: Bytes::from_static(b"d4:rest"),
        };
        assert_eq!(MetadataMessage::parse(&data.encode()), Ok(Some(data)));
        let later = Bytes::from_static(b"d8:msg_typei7e5:piecei0ee");
        assert_eq!(MetadataMessage::parse(&later), Ok(None));
    }

    proptest! {
        #[test]
        fn peer_exchange_reads_back_as_it_was_written(
            v4 in prop::collection::vec(any::<(u32, u16)>(), 0..60),
            v6 in prop::collection::vec(any::<(u128, u16)>(), 0..60),
        ) {
            let v4 = v4.iter().map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(*ip).into(), *port));
            let v6 = v6.iter().map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(*ip).into(), *port));
            let added = v4.clone().chain(v6.clone()).collect();
            let pex = Pex { added, dropped: v4.chain(v6).collect() };
            prop_assert_eq!(Pex::parse(&pex.encode()), Ok(pex));
        }

        #[test]
        fn no_payload_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExtendedHandshake::parse(&bytes);
            let _ = Pex::parse(&bytes);
            let _ = MetadataMessage::parse(&bytes.into());
        }
    }
}
