//! A clip that is looped as one stream without end: time stamps, clock and continuity counters go
//! on where the previous pass stopped (ISO/IEC 13818-1, 2.4.3), across the 33-bit wrap too.

use std::collections::BTreeMap;

use super::pes::{DTS_AT, Head, PTS_AT, Stamp, write_stamp};
use super::psi::Tables;
use super::ts::{Header, PCR_AT, Packet, Pcr, Pid, write_pcr};

/// A pause between two pictures that is longer than this is not repeated at the seam.
const GAP_MAX: u64 = Stamp::PER_S;
/// What the last picture lasts if it is the only one.
const GAP_DEFAULT: u64 = 3600;
/// Bytes of a unit of sound that are looked at.
const UNIT_LEN_MAX: usize = 64 << 10;

/// Rewrites the packets of a clip, pass after pass.
///
/// The length of a pass is that of the program's leading stream, unless another picture or sound
/// reaches further. The first pass is left as it is.
#[derive(Debug, Default)]
pub struct Relabel {
    tables: Tables,
    /// Added to every stamp of this pass, modulo the wrap.
    shift: u64,
    tracks: BTreeMap<Pid, Track>,
}

/// One PID of the clip.
#[derive(Debug, Default)]
struct Track {
    /// First and latest decoding time of this pass, as they stand in the clip.
    span: Option<(Stamp, Stamp)>,
    /// The latest step between two decoding times.
    gap: Option<u64>,
    /// First and latest clock of this pass.
    clock: Option<(Pcr, Pcr)>,
    is_picture: bool,
    /// Sound only: the beginning of the latest unit, and what the one before it measured.
    unit: Vec<u8>,
    before: Measure,
    /// Added to every continuity counter of this pass; `None` before its first packet.
    counter_shift: Option<u8>,
    /// The latest counter given out.
    counter: Option<u8>,
}

impl Relabel {
    /// For a clip that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rewrites the next packet of the clip.
    pub fn packet(&mut self, packet: &mut Packet) {
        let header = Header::read(packet);
        self.tables.packet(&header, packet);
        if header.pid == Pid::NULL || header.damaged {
            return;
        }
        let track = self.tracks.entry(header.pid).or_default();
        track.count(&header, packet);
        track.clock(&header, packet, self.shift);
        if header.has_payload() && !header.scrambled {
            track.stamps(&header, packet, self.shift);
        }
    }

    /// The clip has ended and begins again with the next packet.
    pub fn rewind(&mut self) {
        self.shift = (self.shift + self.pass_len()) % Stamp::WRAP;
        for track in self.tracks.values_mut() {
            *track = Track { counter: track.counter, ..Track::default() };
        }
    }

    /// Ticks of 90 kHz from the first stamp of this pass to the first of the next one.
    fn pass_len(&self) -> u64 {
        let leader = self.tables.leader().and_then(|s| self.tracks.get(&s.pid)?.len());
        let others = self.tracks.values().flat_map(|t| [t.len(), t.clock_len()]).flatten();
        let longest = |a: u64, b: u64| {
            let ahead = Stamp(b).since(Stamp(a));
            if ahead < Stamp::WRAP / 2 { b } else { a }
        };
        leader.into_iter().chain(others).reduce(longest).unwrap_or(0)
    }
}

impl Track {
    fn count(&mut self, header: &Header, packet: &mut Packet) {
        let shift = *self.counter_shift.get_or_insert_with(|| {
            let step = u8::from(header.has_payload());
            self.counter.map_or(0, |last| last.wrapping_add(step).wrapping_sub(header.continuity))
        });
        let counter = header.continuity.wrapping_add(shift) & 0x0F;
        packet[3] = packet[3] & 0xF0 | counter;
        self.counter = Some(counter);
    }

    fn clock(&mut self, header: &Header, packet: &mut Packet, shift: u64) {
        let Some(pcr) = header.pcr else { return };
        let first = self.clock.map_or(pcr, |(first, _)| first);
        self.clock = Some((first, pcr));
        if shift == 0 {
            // Written again even the same time may have other reserved bits.
            return;
        }
        if let Some(field) = packet.get_mut(PCR_AT..).and_then(|f| f.first_chunk_mut()) {
            *field = write_pcr(Pcr(pcr.0 + shift * 300));
        }
    }

    fn stamps(&mut self, header: &Header, packet: &mut Packet, shift: u64) {
        let payload = packet.get_mut(header.payload_at()..).unwrap_or_default();
        let head = if header.unit_start { Head::read(payload) } else { None };
        let Some(head) = head.filter(is_played) else {
            self.extend(payload);
            return;
        };
        self.is_picture = is_picture(&head);
        if let Some(decoded) = head.decoded() {
            self.begin(decoded);
        }
        self.extend(payload.get(head.len..).unwrap_or_default());
        let stamps = [(PTS_AT, head.pts), (DTS_AT, head.dts)];
        for (at, stamp) in stamps.into_iter().filter(|_| shift > 0) {
            let field = payload.get_mut(at..).and_then(|f| f.first_chunk_mut());
            if let (Some(field), Some(stamp)) = (field, stamp) {
                write_stamp(field, stamp.plus(shift));
            }
        }
    }

    fn begin(&mut self, decoded: Stamp) {
        self.span = Some(match self.span {
            None => (decoded, decoded),
            Some((first, last)) => {
                self.gap = Some(decoded.since(last)).filter(|g| (1..=GAP_MAX).contains(g));
                (first, decoded)
            }
        });
        self.before = Measure::of(&self.unit);
        self.unit.clear();
    }

    fn extend(&mut self, payload: &[u8]) {
        if !self.is_picture && self.unit.len() < UNIT_LEN_MAX {
            self.unit.extend_from_slice(payload);
        }
    }

    /// Ticks from the first unit to the end of the last one.
    fn len(&self) -> Option<u64> {
        let (first, last) = self.span?;
        Some(last.plus(self.last_len()).since(first))
    }

    /// What the last unit lasts: as long as the one before it. Sound comes several frames at a
    /// time, so there the two are compared.
    fn last_len(&self) -> u64 {
        let gap = self.gap.unwrap_or(GAP_DEFAULT);
        let last = Measure::of(&self.unit);
        let (part, whole) = match (last.frames, self.before.frames) {
            (Some(part), Some(whole)) => (part, whole),
            _ => (last.bytes, self.before.bytes),
        };
        if part == 0 || whole == 0 { gap } else { (gap * part / whole).clamp(1, GAP_MAX) }
    }

    fn clock_len(&self) -> Option<u64> {
        let (first, last) = self.clock?;
        Some(last.since(first) / 300 + 1)
    }
}

/// How much sound a unit holds.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    bytes: u64,
    /// Frames of equal duration, where they can be counted.
    frames: Option<u64>,
}

impl Measure {
    fn of(unit: &[u8]) -> Self {
        Self { bytes: unit.len() as u64, frames: adts_frames(unit) }
    }
}

/// The AAC frames in `unit`, if it consists of ADTS frames (ISO/IEC 13818-7, 6.2).
fn adts_frames(mut unit: &[u8]) -> Option<u64> {
    let mut frames = 0;
    while let &[0xFF, b1, _, b3, b4, b5, ..] = unit {
        let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
        if b1 & 0xF6 != 0xF0 || len < 7 {
            return None;
        }
        frames += 1;
        unit = unit.get(len..).unwrap_or_default();
    }
    (unit.is_empty() && frames > 0).then_some(frames)
}

fn is_picture(head: &Head) -> bool {
    matches!(head.stream_id, 0xE0..=0xEF)
}

/// Whether it is sound or picture: others have stamps too, but say nothing about the length.
fn is_played(head: &Head) -> bool {
    matches!(head.stream_id, 0xBD | 0xC0..=0xEF | 0xFD)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, AUDIO, AV, FRAME, frame, packet, pat, pes, pmt};
    use super::super::ts::{Framer, PACKET_LEN, Unit};
    use super::*;

    fn looped(relabel: &mut Relabel, clip: &[u8], passes: usize) -> Vec<Packet> {
        let mut out = Vec::new();
        for _ in 0..passes {
            for packet in clip.chunks(PACKET_LEN) {
                let mut packet: Packet = packet.try_into().expect("whole packets");
                relabel.packet(&mut packet);
                out.push(packet);
            }
            relabel.rewind();
        }
        out
    }

    fn pictures(packets: &[Packet]) -> Vec<Stamp> {
        packets
            .iter()
            .map(|p| (Header::read(p), p))
            .filter(|(h, _)| h.pid == sample::VIDEO && h.unit_start)
            .filter_map(|(h, p)| Head::read(h.payload(p))?.pts)
            .collect()
    }

    /// Eight frames, so that the counters do not fit by chance.
    fn clip(first: u64) -> Vec<u8> {
        let mut out = [pat(0), pmt(0, &AV)].concat();
        out.extend((first..first + 7).flat_map(|n| frame(n, n == first)));
        out
    }

    #[test]
    fn the_first_pass_is_left_as_it_is() {
        assert_eq!(looped(&mut Relabel::new(), &clip(0), 1).concat(), clip(0));
    }

    #[test]
    fn the_first_pass_keeps_reserved_bits_that_are_not_as_the_standard_wants_them() {
        let mut odd = clip(0);
        for packet in odd.chunks_mut(PACKET_LEN) {
            let packet: &mut Packet = packet.try_into().expect("whole packets");
            let header = Header::read(packet);
            if header.pcr.is_some() {
                packet[PCR_AT + 4] ^= 0x7E;
            }
            if Head::read(header.payload(packet)).is_some_and(|head| head.pts.is_some()) {
                packet[header.payload_at() + PTS_AT + 4] ^= 1;
            }
        }
        assert!(odd != clip(0));
        assert!(looped(&mut Relabel::new(), &odd, 1).concat() == odd);
    }

    #[test]
    fn pictures_follow_each_other_at_an_even_pace_over_the_seam() {
        let stamps = pictures(&looped(&mut Relabel::new(), &clip(0), 5));
        assert_eq!(stamps.len(), 35);
        assert!(stamps.windows(2).all(|w| w[1].since(w[0]) == FRAME), "{stamps:?}");
    }

    #[test]
    fn stamps_and_clock_go_on_across_their_wrap() {
        let first = (Stamp::WRAP - 10 * FRAME) / FRAME;
        let packets = looped(&mut Relabel::new(), &clip(first), 5);
        let stamps = pictures(&packets);
        assert!(stamps.windows(2).all(|w| w[1].since(w[0]) == FRAME), "{stamps:?}");
        let clocks: Vec<_> = packets.iter().filter_map(|p| Header::read(p).pcr).collect();
        assert!(clocks.windows(2).all(|w| w[1].since(w[0]) == FRAME * 300), "{clocks:?}");
        assert!(stamps.iter().any(|s| s.0 < FRAME * 10));
    }

    #[test]
    fn continuity_counters_have_no_step_at_the_seam() {
        let packets = looped(&mut Relabel::new(), &clip(0), 5);
        for pid in [Pid::PAT, sample::MAP, sample::VIDEO] {
            let counters: Vec<_> =
                packets.iter().map(Header::read).filter(|h| h.pid == pid).collect();
            let steps = counters.windows(2);
            assert!(
                steps.clone().all(|w| (w[0].continuity + 1) % 16 == w[1].continuity),
                "{pid:?}"
            );
        }
    }

    #[test]
    fn sound_that_ends_after_the_picture_is_not_overlapped() {
        // Three frames in the last unit where the one before has four.
        let sound = |n: u64, frames: usize| {
            let adts = [0xFF, 0xF1, 0x4C, 0x80, 1, 0x40, 0xFC, 0, 0, 0].repeat(frames);
            let pts = Stamp(20_000 + n * 4 * 1920);
            packet(AUDIO, true, n as u8, true, None, &pes(0xC0, pts, &adts)).to_vec()
        };
        let clip = [clip(0), sound(0, 4), sound(1, 4), sound(2, 4), sound(3, 3)].concat();
        let packets = looped(&mut Relabel::new(), &clip, 2);
        let starts: Vec<_> = packets
            .iter()
            .map(|p| (Header::read(p), p))
            .filter(|(h, _)| h.pid == AUDIO)
            .filter_map(|(h, p)| Head::read(h.payload(p))?.pts)
            .collect();
        assert_eq!(starts[4].since(starts[3]), 3 * 1920);
    }

    #[test]
    fn a_clip_without_stamps_is_only_counted() {
        let mut framer = Framer::new();
        let mut relabel = Relabel::new();
        let bytes = [pat(0), pat(1), pat(2)].concat();
        for _ in 0..2 {
            framer.push(&bytes, |unit| {
                if let Unit::Packet { packet, .. } = unit {
                    relabel.packet(&mut packet.clone());
                }
            });
            relabel.rewind();
        }
        assert_eq!(relabel.shift, 0);
    }
}
