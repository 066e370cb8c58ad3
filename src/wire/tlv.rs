//! Type-length-value areas: how entries and messages grow without a break (`specs/wire.md`,
//! section Extension areas).

use bytes::{BufMut, Bytes, BytesMut};

/// A field whose type has this bit must be understood by whoever uses what it stands in.
pub const CRITICAL: u16 = 0x8000;

/// A run of fields: type (2 bytes), length (2 bytes), value. Unknown ones are kept as they are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tlvs(Bytes);

impl Tlvs {
    /// Takes `bytes` if they are whole fields.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split_field(rest)?;
        }
        Some(Self(Bytes::copy_from_slice(bytes)))
    }

    /// The area's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same area with one more field; `None` if the value is too long for its length field.
    #[must_use]
    pub fn with(&self, kind: u16, value: &[u8]) -> Option<Self> {
        let len = u16::try_from(value.len()).ok()?;
        let mut out = BytesMut::with_capacity(self.0.len() + 4 + value.len());
        out.put_slice(&self.0);
        out.put_u16(kind);
        out.put_u16(len);
        out.put_slice(value);
        Some(Self(out.freeze()))
    }

    /// Every field as its type and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Bytes)> + '_ {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let ((kind, value), behind) = split_field(rest)?;
            rest = behind;
            Some((kind, self.0.slice_ref(value)))
        })
    }

    /// The value of the first field of this type.
    #[must_use]
    pub fn get(&self, kind: u16) -> Option<Bytes> {
        self.iter().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    /// The first critical field that is not among `known`: its holder needs a newer version.
    #[must_use]
    pub fn unknown_critical(&self, known: &[u16]) -> Option<u16> {
        self.iter().map(|(kind, _)| kind).find(|k| k & CRITICAL != 0 && !known.contains(k))
    }
}

/// A field's type and value.
type Field<'a> = (u16, &'a [u8]);

/// Splits the first field off `bytes`.
fn split_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let kind = u16::from_be_bytes([head[0], head[1]]);
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    (rest.len() >= len).then(|| {
        let (value, rest) = rest.split_at(len);
        ((kind, value), rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_unknown_ones_kept() {
        let area = Tlvs::default().with(7, b"abc").and_then(|t| t.with(0x8001, b"")).expect("fits");
        assert_eq!(area.get(7).as_deref(), Some(&b"abc"[..]));
        assert_eq!(area.unknown_critical(&[]), Some(0x8001));
        assert_eq!(area.unknown_critical(&[0x8001]), None);
        assert_eq!(Tlvs::parse(area.as_bytes()), Some(area));
    }

    #[test]
    fn a_cut_field_is_no_area() {
        assert_eq!(Tlvs::parse(b"\x00\x01\x00\x02a"), None);
        assert_eq!(Tlvs::parse(b"\x00\x01\x00"), None);
    }
}
