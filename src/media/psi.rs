//! The tables that say which packets make up a program (ISO/IEC 13818-1, 2.4.4): program
//! association and program map, as far as finding the picture and the clock needs them.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16};
use nom::{IResult, Parser};

use super::ts::{Header, PACKET_LEN, Packet, Pid};

/// Longest section of the two tables, heads included.
const SECTION_LEN_MAX: usize = 1024;
/// Programs of one stream whose map is looked at; more are passed on like everything else.
const PROGRAMS_MAX: usize = 64;
/// Elementary streams of one program that are looked at.
const STREAMS_MAX: usize = 64;

/// What kind of content an elementary stream has, as far as finding starting points needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// H.264 (stream type 0x1B).
    H264,
    /// H.265 (stream type 0x24, or private data registered as `HEVC`).
    H265,
    /// MPEG-1 or MPEG-2 video (stream types 0x01 and 0x02).
    Mpeg2,
    /// Another picture coding: only the random access indicator tells where it may start.
    OtherVideo,
    /// Sound.
    Audio,
    /// Subtitles, data and the unknown.
    Other,
}

impl Coding {
    /// Whether it is a picture.
    #[must_use]
    pub fn is_video(self) -> bool {
        !matches!(self, Self::Audio | Self::Other)
    }
}

/// One elementary stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its packets.
    pub pid: Pid,
    /// Its content.
    pub coding: Coding,
}

/// What a packet brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Neither of the two tables.
    Nothing,
    /// A program association table.
    Pat,
    /// The map of the program that is followed.
    Pmt,
}

/// Follows the first program of a stream through its tables.
///
/// A table counts once its checksum fits. Of a stream with several programs the first one listed
/// is followed.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pat: Section,
    pmt: Section,
    program: Option<Pid>,
    map_pids: BTreeSet<Pid>,
    pcr_pid: Option<Pid>,
    leader: Option<Stream>,
    pat_packet: Option<Packet>,
    pmt_packet: Option<Packet>,
}

impl Tables {
    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next packet of the stream.
    pub fn packet(&mut self, header: &Header, packet: &Packet) -> Seen {
        if header.damaged || header.scrambled || !header.has_payload() {
            return Seen::Nothing;
        }
        if header.pid == Pid::PAT {
            self.pat_part(header, packet)
        } else if Some(header.pid) == self.program {
            self.pmt_part(header, packet)
        } else {
            Seen::Nothing
        }
    }

    fn pat_part(&mut self, header: &Header, packet: &Packet) -> Seen {
        let mut seen = Seen::Nothing;
        let mut pat = std::mem::take(&mut self.pat);
        pat.push(header.unit_start, header.payload(packet), |section, in_one_packet| {
            if let Ok((_, programs)) = association(section) {
                self.programs(&programs);
                self.pat_packet = in_one_packet.then_some(*packet);
                seen = Seen::Pat;
            }
        });
        self.pat = pat;
        seen
    }

    fn programs(&mut self, programs: &[Pid]) {
        let first = programs.first().copied();
        if first != self.program {
            *self = Self { program: first, ..Self::default() };
        }
        self.map_pids = programs.iter().copied().collect();
    }

    fn pmt_part(&mut self, header: &Header, packet: &Packet) -> Seen {
        let mut seen = Seen::Nothing;
        let mut pmt = std::mem::take(&mut self.pmt);
        pmt.push(header.unit_start, header.payload(packet), |section, in_one_packet| {
            if let Ok((_, (pcr_pid, streams))) = map(section) {
                self.pcr_pid = (pcr_pid != Pid::NULL).then_some(pcr_pid);
                self.leader = leader(&streams);
                self.pmt_packet = in_one_packet.then_some(*packet);
                seen = Seen::Pmt;
            }
        });
        self.pmt = pmt;
        seen
    }

    /// Whether packets of `pid` carry a program map.
    #[must_use]
    pub fn is_map(&self, pid: Pid) -> bool {
        self.map_pids.contains(&pid)
    }

    /// Whose packets carry the clock, once the map said it.
    #[must_use]
    pub fn pcr_pid(&self) -> Option<Pid> {
        self.pcr_pid
    }

    /// The elementary stream whose starting points are the program's: the first picture, without
    /// one the first sound.
    #[must_use]
    pub fn leader(&self) -> Option<Stream> {
        self.leader
    }

    /// The latest packets with the association and the map (376 bytes), for a decoder that starts
    /// behind them; `None` if one is not known or does not fit into one packet.
    #[must_use]
    pub fn copies(&self) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(2 * PACKET_LEN);
        out.extend_from_slice(self.pat_packet.as_ref()?);
        out.extend_from_slice(self.pmt_packet.as_ref()?);
        Some(out.freeze())
    }
}

fn leader(streams: &[Stream]) -> Option<Stream> {
    let audio = || streams.iter().find(|s| s.coding == Coding::Audio);
    streams.iter().find(|s| s.coding.is_video()).or_else(audio).copied()
}

/// Puts the sections of one PID together.
#[derive(Clone, Debug, Default)]
struct Section {
    /// The section under way, from its first byte.
    buffer: Vec<u8>,
    /// Whether a beginning was seen.
    open: bool,
}

impl Section {
    /// Takes the payload of one packet; `each` gets every section that becomes whole, and whether
    /// it began in this very packet.
    fn push(&mut self, unit_start: bool, payload: &[u8], mut each: impl FnMut(&[u8], bool)) {
        if !unit_start {
            self.extend(payload);
            self.complete(false, &mut each);
            return;
        }
        let Some((&pointer, rest)) = payload.split_first() else { return };
        let Some((tail, fresh)) = rest.split_at_checked(usize::from(pointer)) else {
            *self = Self::default();
            return;
        };
        self.extend(tail);
        self.complete(false, &mut each);
        *self = Self { buffer: Vec::new(), open: true };
        self.extend(fresh);
        self.complete(true, &mut each);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.open && self.buffer.len() < SECTION_LEN_MAX {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn complete(&mut self, in_one_packet: bool, each: &mut impl FnMut(&[u8], bool)) {
        while self.open {
            let &[table, high, low, ..] = self.buffer.as_slice() else { return };
            let len = 3 + usize::from(u16::from_be_bytes([high & 0x0F, low]));
            if table == 0xFF || len > SECTION_LEN_MAX {
                *self = Self::default();
                return;
            }
            let Some(section) = self.buffer.get(..len) else { return };
            if crc32(section) == 0 {
                each(section, in_one_packet);
            }
            self.buffer.drain(..len);
        }
    }
}

fn fault(input: &[u8]) -> nom::Err<nom::error::Error<&[u8]>> {
    nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Verify))
}

/// Strips the eight common bytes of a section and its checksum; `table` must fit and the section
/// must be the one in force, not one announced for later.
fn body(table: u8, input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (rest, head) = take(8usize).parse(input)?;
    let &[id, high, _, _, _, version, ..] = head else { return Err(fault(input)) };
    let is_current = version & 1 != 0;
    if id != table || high & 0x80 == 0 || !is_current {
        return Err(fault(input));
    }
    take(rest.len().saturating_sub(4)).parse(rest)
}

/// The PIDs of the program maps, in the order in which they are listed.
fn association(section: &[u8]) -> IResult<&[u8], Vec<Pid>> {
    let (end, mut rest) = body(0x00, section)?;
    let mut out = Vec::new();
    while !rest.is_empty() && out.len() < PROGRAMS_MAX {
        let (next, (program, pid)) = (be_u16, be_u16).parse(rest)?;
        // Program 0 is not a program but the network table.
        if program != 0 {
            out.push(Pid(pid & 0x1FFF));
        }
        rest = next;
    }
    Ok((end, out))
}

/// The PID of the clock and the elementary streams.
fn map(section: &[u8]) -> IResult<&[u8], (Pid, Vec<Stream>)> {
    let (end, rest) = body(0x02, section)?;
    let (rest, (pcr_pid, info_len)) = (be_u16, be_u16).parse(rest)?;
    let (mut rest, _) = take(info_len & 0x0FFF).parse(rest)?;
    let mut out = Vec::new();
    while !rest.is_empty() && out.len() < STREAMS_MAX {
        let (next, (kind, pid, len)) = (be_u8, be_u16, be_u16).parse(rest)?;
        let (next, descriptors) = take(len & 0x0FFF).parse(next)?;
        out.push(Stream { pid: Pid(pid & 0x1FFF), coding: coding(kind, descriptors) });
        rest = next;
    }
    Ok((end, (Pid(pcr_pid & 0x1FFF), out)))
}

/// ISO/IEC 13818-1 table 2-34, and what ATSC and DVB add to it.
fn coding(stream_type: u8, descriptors: &[u8]) -> Coding {
    match stream_type {
        0x01 | 0x02 => Coding::Mpeg2,
        0x1B => Coding::H264,
        0x24 => Coding::H265,
        0x10 | 0x1F..=0x21 | 0x32..=0x34 | 0x42 | 0xD1 | 0xEA => Coding::OtherVideo,
        0x03 | 0x04 | 0x0F | 0x11 | 0x1C | 0x81 | 0x84 | 0x87 => Coding::Audio,
        0x06 => private_coding(descriptors),
        _ => Coding::Other,
    }
}

/// What private data are, by their registration (0x05) or a DVB audio descriptor.
fn private_coding(mut descriptors: &[u8]) -> Coding {
    while let Some((&[tag, len], rest)) = descriptors.split_first_chunk() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(len)) else { break };
        match (tag, value.get(..4)) {
            (0x05, Some(b"HEVC")) => return Coding::H265,
            (0x05, Some(b"AV01" | b"VVC " | b"VP09" | b"drac")) => return Coding::OtherVideo,
            (0x05, Some(b"Opus" | b"AC-3" | b"EAC3")) => return Coding::Audio,
            (0x6A | 0x7A | 0x7B | 0x7C, _) => return Coding::Audio,
            _ => descriptors = rest,
        }
    }
    Coding::Other
}

/// The checksum of ISO/IEC 13818-1 annex A; 0 over a section that ends in its own checksum.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| {
            (crc << 1) ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::sample;

    fn read(packets: &[Packet]) -> (Tables, Vec<Seen>) {
        let mut tables = Tables::new();
        let seen = packets.iter().map(|p| tables.packet(&Header::read(p), p)).collect();
        (tables, seen)
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn the_first_picture_leads() {
        let pmt = sample::pmt(0, &[(0x0F, sample::AUDIO), (0x1B, sample::VIDEO)]);
        let (tables, seen) = read(&[sample::pat(0), pmt]);
        assert_eq!(seen, [Seen::Pat, Seen::Pmt]);
        assert_eq!(tables.leader(), Some(Stream { pid: sample::VIDEO, coding: Coding::H264 }));
        assert_eq!(tables.pcr_pid(), Some(sample::VIDEO));
        assert!(tables.is_map(sample::MAP));
        assert_eq!(tables.copies().expect("both").as_ref(), [sample::pat(0), pmt].concat());
    }

    #[test]
    fn sound_leads_where_there_is_no_picture() {
        let (tables, _) = read(&[sample::pat(0), sample::pmt(0, &[(0x0F, sample::AUDIO)])]);
        assert_eq!(tables.leader().map(|s| s.coding), Some(Coding::Audio));
    }

    #[test]
    fn a_table_whose_checksum_does_not_fit_is_ignored() {
        let mut pat = sample::pat(0);
        pat[12] ^= 1;
        let (tables, seen) = read(&[pat]);
        assert_eq!(seen, [Seen::Nothing]);
        assert!(tables.copies().is_none());
    }

    #[test]
    fn a_map_of_several_packets_is_read_but_not_copied() {
        let many: Vec<(u8, Pid)> = (0..60).map(|n| (0x0F, Pid(0x200 + n))).collect();
        let section = sample::pmt_section(&many);
        let packets = sample::section_packets(sample::MAP, &section);
        assert_eq!(packets.len(), 2);
        let (tables, seen) = read(&[&[sample::pat(0)][..], &packets].concat());
        assert_eq!(seen.last(), Some(&Seen::Pmt));
        assert_eq!(tables.leader().map(|s| s.pid), Some(Pid(0x200)));
        assert!(tables.copies().is_none());
    }

    #[test]
    fn private_data_are_what_their_descriptor_says() {
        assert_eq!(coding(0x06, b"\x05\x04HEVC"), Coding::H265);
        assert_eq!(coding(0x06, b"\x0a\x01x\x6a\x00"), Coding::Audio);
        assert_eq!(coding(0x06, b"\x05\xff"), Coding::Other);
    }

    proptest! {
        #[test]
        fn any_bytes_with_a_good_checksum_are_read_or_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400), table in 0u8..3,
        ) {
            bytes.insert(0, table);
            let crc = crc32(&bytes);
            bytes.extend(crc.to_be_bytes());
            let _ = association(&bytes);
            let _ = map(&bytes);
        }

        #[test]
        fn a_section_under_way_stays_bounded(
            parts in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..184)), 0..40),
        ) {
            let mut section = Section::default();
            for (start, payload) in parts {
                section.push(start, &payload, |_, _| ());
                prop_assert!(section.buffer.len() < SECTION_LEN_MAX + PACKET_LEN);
            }
        }
    }
}
