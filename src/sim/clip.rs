//! The simulated encoder: an MPEG-TS of constant rate whose every byte follows from its place.
//!
//! Each packet of the video stream carries its own number, and the rest of it follows from the
//! number and the seed. So a reader's bytes can be checked without keeping what was broadcast:
//! any piece says where in the stream it belongs and what it must look like.

use crate::machine::Rng;

/// Bytes in a transport stream packet (ISO/IEC 13818-1).
pub const PACKET_LEN: usize = 188;
/// PID of the program map table.
const PMT_PID: u16 = 0x1000;
/// PID of the video.
const VIDEO_PID: u16 = 0x100;
/// Where a video packet carries its number, counted from its end.
const NUMBER_LEN: usize = 8;
/// Video frames per second.
const FRAMES_PER_S: u64 = 25;

/// A stream, defined by its rate, its key-frame interval and a seed.
#[derive(Clone, Debug)]
pub struct Clip {
    seed: u64,
    bitrate: u64,
    /// Packets from one key frame to the next; the first two of them are PAT and PMT.
    group: u64,
    /// Packets from one video frame to the next.
    frame: u64,
}

impl Clip {
    /// A stream of `bitrate` bit/s with a key frame about every `key_frames_ms`.
    #[must_use]
    pub fn new(seed: u64, bitrate: u64, key_frames_ms: u64) -> Self {
        let packets = |ms: u64| bitrate * ms / 8_000 / PACKET_LEN as u64;
        Self {
            seed,
            bitrate,
            group: packets(key_frames_ms).max(4),
            frame: packets(1_000 / FRAMES_PER_S).max(2),
        }
    }

    /// Packets that the encoder has put out after `us` microseconds.
    #[must_use]
    pub fn packets_after(&self, us: u64) -> u64 {
        let bits = u128::from(us) * u128::from(self.bitrate) / 1_000_000;
        (bits / (8 * PACKET_LEN as u128)) as u64
    }

    /// Bytes of packet `number`.
    #[must_use]
    pub fn packet(&self, number: u64) -> [u8; PACKET_LEN] {
        let (group, place) = (number / self.group, number % self.group);
        match place {
            0 => table(0, group, &PAT),
            1 => table(PMT_PID, group, &PMT),
            _ => self.video(number, group, place),
        }
    }

    /// Bytes of the packets `from..to`.
    #[must_use]
    pub fn bytes(&self, from: u64, to: u64) -> Vec<u8> {
        (from..to).flat_map(|number| self.packet(number)).collect()
    }

    /// Where in the stream `bytes` begins, in bytes: found from the packet numbers in it.
    #[must_use]
    pub fn locate(&self, bytes: &[u8]) -> Option<u64> {
        (0..PACKET_LEN.min(bytes.len())).find_map(|shift| {
            // Tables carry no number: look past them.
            bytes[shift..].chunks_exact(PACKET_LEN).take(3).zip(0u64..).find_map(|(packet, n)| {
                let number = self.number(packet)?;
                let start = number.checked_sub(n)? * PACKET_LEN as u64;
                start.checked_sub(shift as u64)
            })
        })
    }

    /// Whether `bytes` is what the stream holds from byte `offset` on.
    #[must_use]
    pub fn holds(&self, offset: u64, mut bytes: &[u8]) -> bool {
        let mut number = offset / PACKET_LEN as u64;
        let mut skip = (offset % PACKET_LEN as u64) as usize;
        while !bytes.is_empty() {
            let packet = self.packet(number);
            let len = (PACKET_LEN - skip).min(bytes.len());
            if packet[skip..skip + len] != bytes[..len] {
                return false;
            }
            bytes = &bytes[len..];
            (number, skip) = (number + 1, 0);
        }
        true
    }

    /// The number in `packet`, if it is one of the video packets of this stream.
    fn number(&self, packet: &[u8]) -> Option<u64> {
        let tail = packet.get(PACKET_LEN - NUMBER_LEN..PACKET_LEN)?;
        let number = u64::from_be_bytes(tail.try_into().ok()?);
        // A stray number must not make the product of number and packet length overflow.
        (number < 1 << 40 && self.packet(number) == packet).then_some(number)
    }

    fn video(&self, number: u64, group: u64, place: u64) -> [u8; PACKET_LEN] {
        let key = place == 2;
        let frame_start = key || (place - 2).is_multiple_of(self.frame);
        let counter = group * (self.group - 2) + place - 2;
        let mut out = [0; PACKET_LEN];
        out[0] = 0x47;
        out[1] = (VIDEO_PID >> 8) as u8 | if frame_start { 0x40 } else { 0 };
        out[2] = VIDEO_PID as u8;
        out[3] = if frame_start { 0x30 } else { 0x10 } | (counter & 15) as u8;
        let mut at = 4;
        if frame_start {
            let bits = u128::from(number) * 8 * PACKET_LEN as u128;
            let clock_90k = (bits * 90_000 / u128::from(self.bitrate)) as u64;
            out[at..at + 8].copy_from_slice(&adaptation(key, clock_90k));
            at += 8;
            out[at..at + 14].copy_from_slice(&pes_head(clock_90k + 9_000));
            at += 14;
        }
        Rng::new(self.seed ^ number.wrapping_mul(0x9E37_79B9)).fill(&mut out[at..]);
        out[PACKET_LEN - NUMBER_LEN..].copy_from_slice(&number.to_be_bytes());
        out
    }
}

/// Section of a program association table: program 1 has its map at [`PMT_PID`].
const PAT: [u8; 12] = [0x00, 0xb0, 0x0d, 0x00, 0x01, 0xc1, 0x00, 0x00, 0x00, 0x01, 0xf0, 0x00];
/// Section of a program map table: one H.264 stream at [`VIDEO_PID`], which carries the clock.
const PMT: [u8; 17] = [
    0x02, 0xb0, 0x12, 0x00, 0x01, 0xc1, 0x00, 0x00, 0xe1, 0x00, 0xf0, 0x00, 0x1b, 0xe1, 0x00, 0xf0,
    0x00,
];

/// A packet with one whole table section.
fn table(pid: u16, counter: u64, section: &[u8]) -> [u8; PACKET_LEN] {
    let mut out = [0xff; PACKET_LEN];
    out[..5].copy_from_slice(&[
        0x47,
        0x40 | (pid >> 8) as u8,
        pid as u8,
        0x10 | (counter & 15) as u8,
        0,
    ]);
    out[5..5 + section.len()].copy_from_slice(section);
    out[5 + section.len()..9 + section.len()].copy_from_slice(&crc(section).to_be_bytes());
    out
}

/// Adaptation field of 8 bytes with a clock reference.
fn adaptation(key: bool, clock_90k: u64) -> [u8; 8] {
    let base = clock_90k & ((1 << 33) - 1);
    let flags = 0x10 | if key { 0x40 } else { 0 };
    let [.., a, b, c, d] = ((base >> 1) as u32).to_be_bytes();
    [7, flags, a, b, c, d, ((base & 1) as u8) << 7 | 0x7e, 0]
}

/// Head of a PES packet of unbounded length with a presentation time.
fn pes_head(time_90k: u64) -> [u8; 14] {
    let bits = |shift: u32, mask: u64| ((time_90k >> shift) & mask) as u8;
    [
        0,
        0,
        1,
        0xe0,
        0,
        0,
        0x80,
        0x80,
        5,
        0x21 | bits(30, 7) << 1,
        bits(22, 0xff),
        bits(15, 0x7f) << 1 | 1,
        bits(7, 0xff),
        bits(0, 0x7f) << 1 | 1,
    ]
}

/// The CRC of MPEG-2 tables: polynomial 0x04c11db7, most significant bit first, no final
/// inversion.
fn crc(section: &[u8]) -> u32 {
    section.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            (crc << 1) ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_the_stream_says_where_it_belongs() {
        let clip = Clip::new(3, 4_000_000, 1000);
        let bytes = clip.bytes(0, 4000);
        let group = clip.group as usize * PACKET_LEN;
        for offset in [0, 1, 187, 188, 377, group, group - 188, group - 5, group + 188, 70_000] {
            assert_eq!(clip.locate(&bytes[offset..offset + 16_384]), Some(offset as u64));
            assert!(clip.holds(offset as u64, &bytes[offset..offset + 16_384]));
        }
        assert_eq!(clip.locate(&[0x47; 16_384]), None);
    }

    #[test]
    fn one_wrong_bit_is_seen() {
        let clip = Clip::new(3, 4_000_000, 1000);
        let mut bytes = clip.bytes(10, 90);
        assert!(clip.holds(1880, &bytes));
        bytes[9_000] ^= 1;
        assert!(!clip.holds(1880, &bytes));
    }

    #[test]
    fn table_sections_leave_no_remainder() {
        // A section followed by its CRC has the CRC 0.
        for section in [&PAT[..], &PMT[..]] {
            let whole: Vec<u8> = [section, &crc(section).to_be_bytes()].concat();
            assert_eq!(crc(&whole), 0);
            assert_eq!(usize::from(section[2]), whole.len() - 3);
        }
    }

    #[test]
    fn a_key_frame_follows_its_tables() {
        let clip = Clip::new(3, 2_000_000, 500);
        let key = clip.packet(clip.group * 7 + 2);
        assert_eq!(key[3] & 0x20, 0x20);
        assert_eq!(key[5] & 0x40, 0x40);
        assert_eq!(clip.packet(clip.group * 7)[..5], [0x47, 0x40, 0x00, 0x17, 0x00]);
    }
}
