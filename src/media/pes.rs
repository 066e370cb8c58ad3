//! The heads of PES packets (ISO/IEC 13818-1, 2.4.3.6): their time stamps, and whether what
//! follows is a picture at which a decoder may start.

use super::psi::Coding;

/// A time stamp in ticks of 90 kHz; it wraps at 2^33.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Where stamps begin again at 0.
    pub const WRAP: u64 = 1 << 33;
    /// Ticks in a second.
    pub const PER_S: u64 = 90_000;

    /// Ticks from `earlier` to `self`, across a wrap if there was one; more than half of
    /// [`Stamp::WRAP`] if `self` is in truth the earlier one.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        (self.0 % Self::WRAP + Self::WRAP - earlier.0 % Self::WRAP) % Self::WRAP
    }

    /// `self + ticks`, across a wrap if there is one.
    #[must_use]
    pub fn plus(self, ticks: u64) -> Self {
        Self((self.0 % Self::WRAP + ticks % Self::WRAP) % Self::WRAP)
    }
}

/// The head of a PES packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What kind of stream it says it is (0xC0 to 0xDF sound, 0xE0 to 0xEF pictures).
    pub stream_id: u8,
    /// When it is shown.
    pub pts: Option<Stamp>,
    /// When it is decoded, if that is another moment.
    pub dts: Option<Stamp>,
    /// Bytes of the head; it may reach beyond the packet in which it begins.
    pub len: usize,
}

/// Where in the PES packet the two stamps stand.
pub(super) const PTS_AT: usize = 9;
/// See [`PTS_AT`].
pub(super) const DTS_AT: usize = 14;

impl Head {
    /// Reads the head at the start of a payload; `None` if there is none, or a time stamp is cut
    /// off.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let &[0, 0, 1, stream_id, _, _, marker, flags, len, ..] = payload else { return None };
        if !has_stamps(stream_id) || marker & 0xC0 != 0x80 {
            return None;
        }
        let stamp = |at: usize| payload.get(at..)?.first_chunk().map(read_stamp);
        let (has_pts, has_dts) = (flags & 0x80 != 0, flags & 0xC0 == 0xC0);
        let pts = if has_pts { Some(stamp(PTS_AT)?) } else { None };
        let dts = if has_dts { Some(stamp(DTS_AT)?) } else { None };
        Some(Self { stream_id, pts, dts, len: 9 + usize::from(len) })
    }

    /// When it is decoded.
    #[must_use]
    pub fn decoded(&self) -> Option<Stamp> {
        self.dts.or(self.pts)
    }
}

/// Whether packets of this kind have the long head (ISO/IEC 13818-1, table 2-21).
fn has_stamps(stream_id: u8) -> bool {
    !matches!(stream_id, ..0xBC | 0xBC | 0xBE | 0xBF | 0xF0..=0xF2 | 0xF8 | 0xFF)
}

/// 3 + 15 + 15 bits, each group followed by a marker bit.
fn read_stamp(field: &[u8; 5]) -> Stamp {
    let [a, b, c, d, e] = field.map(u64::from);
    Stamp((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Writes `stamp` over the one in `field`; the four bits that say which stamp it is stay.
pub(super) fn write_stamp(field: &mut [u8; 5], stamp: Stamp) {
    let s = stamp.0 % Stamp::WRAP;
    let byte = |shift: u64| (s >> shift & 0xFF) as u8;
    let [kind, ..] = *field;
    *field = [
        kind & 0xF0 | (byte(30) & 7) << 1 | 1,
        byte(22),
        (byte(15) & 0x7F) << 1 | 1,
        byte(7),
        (byte(0) & 0x7F) << 1 | 1,
    ];
}

/// Whether the coded picture that begins `es` is one at which a decoder may start, as far as its
/// first bytes show it: a parameter set or a start picture stands before any other picture.
#[must_use]
pub fn starts_decoding(coding: Coding, es: &[u8]) -> bool {
    let mut rest = es;
    while let Some(at) = rest.windows(3).position(|w| w == [0, 0, 1]) {
        rest = rest.get(at + 3..).unwrap_or_default();
        let Some(&code) = rest.first() else { return false };
        match verdict(coding, code) {
            Some(verdict) => return verdict,
            None => continue,
        }
    }
    false
}

/// What the byte after a start code decides; `None` if the next one must be looked at.
fn verdict(coding: Coding, code: u8) -> Option<bool> {
    match coding {
        // Rec. ITU-T H.264, table 7-1: 1 to 4 other slices, 5 instantaneous refresh, 7 parameters.
        Coding::H264 => match code & 0x1F {
            5 | 7 => Some(true),
            1..=4 => Some(false),
            _ => None,
        },
        // Rec. ITU-T H.265, table 7-1: 0 to 15 other, 16 to 23 random access, 32 and 33 parameters.
        Coding::H265 => match code >> 1 & 0x3F {
            16..=23 | 32 | 33 => Some(true),
            0..=15 => Some(false),
            _ => None,
        },
        // ISO/IEC 13818-2, table 6-1: a sequence header, or a picture without one.
        Coding::Mpeg2 => match code {
            0xB3 => Some(true),
            0x00 => Some(false),
            _ => None,
        },
        Coding::OtherVideo | Coding::Audio | Coding::Other => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn starting_pictures_are_told_from_others() {
        let table: [(Coding, &[u8], bool); 9] = [
            (Coding::H264, &[0, 0, 0, 1, 9, 0xF0, 0, 0, 1, 0x67], true),
            (Coding::H264, &[0, 0, 0, 1, 9, 0xF0, 0, 0, 1, 0x65], true),
            (Coding::H264, &[0, 0, 0, 1, 9, 0xF0, 0, 0, 1, 0x41, 0, 0, 1, 0x67], false),
            (Coding::H264, &[0, 0, 1], false),
            (Coding::H265, &[0, 0, 1, 35 << 1, 1, 0, 0, 1, 32 << 1], true),
            (Coding::H265, &[0, 0, 1, 21 << 1], true),
            (Coding::H265, &[0, 0, 1, 1 << 1], false),
            (Coding::Mpeg2, &[0, 0, 1, 0xB3], true),
            (Coding::Mpeg2, &[0, 0, 1, 0x00], false),
        ];
        for (coding, es, expected) in table {
            assert_eq!(starts_decoding(coding, es), expected, "{coding:?} {es:?}");
        }
    }

    #[test]
    fn a_head_that_is_cut_off_is_none() {
        let whole = [0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1];
        assert_eq!(Head::read(&whole).and_then(|h| h.pts), Some(Stamp(0)));
        for len in 0..whole.len() {
            assert_eq!(Head::read(&whole[..len]), None);
        }
    }

    proptest! {
        #[test]
        fn stamps_read_as_written(stamp in 0..Stamp::WRAP, kind in any::<u8>()) {
            let mut field = [kind, 0, 0, 0, 0];
            write_stamp(&mut field, Stamp(stamp));
            prop_assert_eq!(read_stamp(&field), Stamp(stamp));
            prop_assert_eq!(field[0] & 0xF0, kind & 0xF0);
        }

        #[test]
        fn any_payload_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(head) = Head::read(&bytes) {
                prop_assert!(head.decoded().is_none_or(|s| s.0 < Stamp::WRAP));
            }
            let _ = starts_decoding(Coding::H264, &bytes);
        }
    }
}
