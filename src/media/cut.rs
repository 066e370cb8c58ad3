//! Where a piece may begin so that a decoder can start at it.
//!
//! The [`Cutter`] lets every byte through untouched and in order, and marks *random access points*:
//! the tables that stand directly before a key frame, or the key frame itself together with copies
//! of the latest tables. What it marks is a function of the bytes alone, never of the sizes in
//! which they arrive; only [`Cutter::flush`] can give a mark up, because it will not wait for it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::pes::{Head, Stamp, starts_decoding};
use super::psi::{Coding, Seen, Tables};
use super::ts::{Framer, Header, Packet, Pid, Unit};

/// The media type of a transport stream.
pub const MPEG_TS: &str = "video/mp2t";

/// Packets that may wait for the key frame behind their tables.
const GROUP_PACKETS_MAX: u32 = 32;
/// Without packets in so many bytes, a stream is treated as one that cannot be understood.
const OPAQUE_AFTER_LEN: u64 = 64 << 10;
/// Sound can be entered anywhere; it is marked this often (ticks of 90 kHz).
const AUDIO_MARK_GAP: u64 = Stamp::PER_S / 2;
/// Streams of nothing but key frames are marked this often (ticks of 90 kHz).
const VIDEO_MARK_GAP: u64 = Stamp::PER_S / 10;

/// Consecutive bytes of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The bytes as they came in; never empty.
    pub bytes: Bytes,
    /// Whether a random access point is at the first of them.
    pub rap: bool,
    /// Packets to put ahead for a decoder that starts here: latest association and map, 376 bytes.
    /// Empty if the bytes begin with tables, or this is no random access point.
    pub tables: Bytes,
}

/// Marks the random access points of a stream as it passes.
#[derive(Debug)]
pub struct Cutter {
    /// `None` for media that are no transport stream.
    scan: Option<Scan>,
    /// What came in and was not yet given out.
    held: VecDeque<Bytes>,
    /// Offset of the first byte of `held`.
    given: u64,
}

impl Cutter {
    /// A cutter for a stream of this media type.
    #[must_use]
    pub fn new(media: &str) -> Self {
        let is_ts = media.eq_ignore_ascii_case(MPEG_TS);
        Self { scan: is_ts.then(Scan::default), held: VecDeque::new(), given: 0 }
    }

    /// Whether the stream cannot be understood, so that one boundary is as good as any other: its
    /// media type is another, or 64 KiB in a row held no packets.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.scan.as_ref().is_none_or(|scan| scan.framer.junk_len() >= OPAQUE_AFTER_LEN)
    }

    /// Takes the next bytes and gives out what is decided. At most 32 packets of tables and two of
    /// anything else are held back until a later push, which keeps the buffers they came in alive.
    pub fn push(&mut self, chunk: Bytes) -> Vec<Span> {
        let Some(scan) = &mut self.scan else {
            let span = Span { bytes: chunk, rap: false, tables: Bytes::new() };
            return if span.bytes.is_empty() { Vec::new() } else { vec![span] };
        };
        let marks = scan.push(&chunk, self.given);
        let until = scan.undecided();
        self.held.push_back(chunk);
        self.give(marks, until)
    }

    /// Gives out everything that is held back. The stream may go on; a mark that would have fallen
    /// into these bytes is lost, or moves to the key frame behind them.
    pub fn flush(&mut self) -> Vec<Span> {
        self.give(Vec::new(), u64::MAX)
    }

    /// The input broke off: gives out everything that is held back and forgets what it knew. What
    /// comes next is the beginning of a stream.
    pub fn restart(&mut self) -> Vec<Span> {
        let out = self.flush();
        self.given = 0;
        if let Some(scan) = &mut self.scan {
            *scan = Scan::default();
        }
        out
    }

    /// Gives out the held bytes below the offset `until`, divided at the marks.
    fn give(&mut self, marks: Vec<Mark>, until: u64) -> Vec<Span> {
        let mut out = Vec::new();
        let mut current = None;
        for mark in marks {
            self.give_span(current.take(), mark.at, &mut out);
            current = Some(mark);
        }
        self.give_span(current, until, &mut out);
        out
    }

    /// Gives out the held bytes below `until`; the first of them carry `mark`.
    fn give_span(&mut self, mut mark: Option<Mark>, until: u64, out: &mut Vec<Span>) {
        while self.given < until {
            let Some(mut chunk) = self.held.pop_front() else { return };
            let len = chunk.len().min(usize::try_from(until - self.given).unwrap_or(usize::MAX));
            let bytes = chunk.split_to(len);
            if !chunk.is_empty() {
                self.held.push_front(chunk);
            }
            if bytes.is_empty() {
                continue;
            }
            self.given += len as u64;
            let mark = mark.take();
            out.push(Span {
                bytes,
                rap: mark.is_some(),
                tables: mark.map(|m| m.tables).unwrap_or_default(),
            });
        }
    }
}

/// A random access point.
#[derive(Debug)]
struct Mark {
    at: u64,
    tables: Bytes,
}

/// What is known of the stream from its packets.
#[derive(Debug, Default)]
struct Scan {
    framer: Framer,
    state: State,
}

/// Tables that may turn out to stand directly before a key frame.
#[derive(Debug)]
struct Group {
    at: u64,
    packets: u32,
    has_pat: bool,
    has_pmt: bool,
}

impl Scan {
    /// Looks through `chunk`; marks below `given` would come too late and are not made.
    fn push(&mut self, chunk: &[u8], given: u64) -> Vec<Mark> {
        let Self { framer, state } = self;
        let mut marks = Vec::new();
        framer.push(chunk, |unit| match unit {
            Unit::Packet { at, packet } => marks.extend(state.packet(at, packet, given)),
            Unit::Junk { .. } => state.group = None,
        });
        marks
    }

    /// Offset from which on a mark may still be made.
    fn undecided(&self) -> u64 {
        self.state.group.as_ref().map_or(self.framer.position(), |group| group.at)
    }
}

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    group: Option<Group>,
    /// When the latest marked access unit is shown.
    marked: Option<Stamp>,
}

impl State {
    fn packet(&mut self, at: u64, packet: &Packet, given: u64) -> Option<Mark> {
        let header = Header::read(packet);
        let seen = self.tables.packet(&header, packet);
        if let Some(pts) = self.start(&header, packet) {
            let mark = self.mark(at, given, pts);
            self.group = None;
            return mark;
        }
        self.extend_group(at, &header, seen);
        None
    }

    fn extend_group(&mut self, at: u64, header: &Header, seen: Seen) {
        if header.pid == Pid::PAT && header.unit_start {
            self.group = Some(Group { at, packets: 0, has_pat: false, has_pmt: false });
        }
        let is_companion = self.is_companion(header);
        let Some(group) = &mut self.group else { return };
        group.packets += 1;
        group.has_pat |= seen == Seen::Pat;
        group.has_pmt |= seen == Seen::Pmt;
        if !is_companion || group.packets > GROUP_PACKETS_MAX {
            self.group = None;
        }
    }

    /// Whether a packet may stand between the tables and their key frame: it carries nothing that
    /// is played.
    fn is_companion(&self, header: &Header) -> bool {
        let pid = header.pid;
        pid == Pid::PAT
            || pid == Pid::NULL
            || pid.is_service_information()
            || self.tables.is_map(pid)
            || !header.has_payload()
    }

    /// When the access unit is shown that begins in this packet and at which a decoder may start.
    /// The outer `None` means that there is none, the inner one that it does not say when.
    fn start(&self, header: &Header, packet: &Packet) -> Option<Option<Stamp>> {
        let leader = self.tables.leader()?;
        if header.pid != leader.pid || !header.unit_start || header.damaged {
            return None;
        }
        let payload = header.payload(packet);
        let head = (!header.scrambled).then(|| Head::read(payload)).flatten();
        let pts = head.and_then(|h| h.pts);
        let may_start = match leader.coding {
            Coding::Audio => pts.is_some(),
            coding => {
                let es = head.and_then(|h| payload.get(h.len..)).unwrap_or_default();
                header.random_access || starts_decoding(coding, es)
            }
        };
        may_start.then_some(pts)
    }

    fn mark(&mut self, at: u64, given: u64, pts: Option<Stamp>) -> Option<Mark> {
        if self.is_too_soon(pts) {
            return None;
        }
        let group = self.group.as_ref().filter(|g| g.has_pat && g.has_pmt && g.at >= given);
        let mark = match group {
            Some(group) => Mark { at: group.at, tables: Bytes::new() },
            None => Mark { at, tables: self.tables.copies().filter(|_| at >= given)? },
        };
        self.marked = pts;
        Some(mark)
    }

    fn is_too_soon(&self, pts: Option<Stamp>) -> bool {
        let is_audio = self.tables.leader().is_some_and(|s| s.coding == Coding::Audio);
        let gap = if is_audio { AUDIO_MARK_GAP } else { VIDEO_MARK_GAP };
        // A stamp that went back is far ahead modulo the wrap, so it does not keep marks away.
        matches!((pts, self.marked), (Some(pts), Some(last)) if pts.since(last) < gap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{self, AUDIO, AV, frame, null, pat, pes, pmt};
    use super::super::ts::PACKET_LEN;
    use super::*;

    type Marks = Vec<(usize, Bytes)>;

    fn cut_with(mut cutter: Cutter, input: &[u8], sizes: &[usize]) -> (Vec<u8>, Marks) {
        let (mut bytes, mut marks) = (Vec::new(), Vec::new());
        let mut take = |spans: Vec<Span>| {
            for span in spans {
                assert!(!span.bytes.is_empty(), "an empty span");
                if span.rap {
                    marks.push((bytes.len(), span.tables));
                }
                bytes.extend(span.bytes);
            }
        };
        for chunk in sample::chunks(input, sizes) {
            take(cutter.push(Bytes::copy_from_slice(chunk)));
        }
        take(cutter.flush());
        (bytes, marks)
    }

    fn cut(input: &[u8], sizes: &[usize]) -> (Vec<u8>, Marks) {
        cut_with(Cutter::new(MPEG_TS), input, sizes)
    }

    /// Offsets of the marks in packets, and the lengths of their tables.
    fn check(parts: &[Vec<u8>], expected: &[(usize, usize)]) {
        let (bytes, marks) = cut(&parts.concat(), &[]);
        assert_eq!(bytes, parts.concat());
        let marks: Vec<_> = marks.iter().map(|(at, t)| (at / PACKET_LEN, t.len())).collect();
        assert_eq!(marks, expected);
    }

    fn tables() -> Vec<u8> {
        [pat(0), pmt(0, &AV)].concat()
    }

    fn sound(n: u64) -> Vec<u8> {
        let pts = Stamp(n * 1920);
        sample::packet(AUDIO, true, n as u8, true, None, &pes(0xC0, pts, &[1; 20])).to_vec()
    }

    #[test]
    fn a_cut_is_at_the_tables_directly_before_a_key_frame() {
        check(&[frame(0, false), tables(), frame(1, true), frame(2, false)], &[(2, 0)]);
        let with_null = [tables(), null().to_vec()].concat();
        check(&[frame(0, false), with_null, frame(1, true)], &[(2, 0)]);
    }

    #[test]
    fn a_key_frame_without_tables_before_it_brings_copies_of_the_latest() {
        let parts = [tables(), sound(1), frame(1, true), frame(2, false), frame(9, true)];
        check(&parts, &[(3, 376), (7, 376)]);
        let (_, marks) = cut(&parts.concat(), &[]);
        assert_eq!(marks[0].1, tables());
    }

    #[test]
    fn no_mark_is_made_before_the_tables_are_known() {
        check(&[frame(0, true), frame(1, false), frame(2, false)], &[]);
    }

    #[test]
    fn a_key_frame_without_the_indicator_is_known_by_its_first_units() {
        let es = [0, 0, 0, 1, 9, 0xF0, 0, 0, 0, 1, 0x67, 0x42];
        let bare =
            |pts| sample::packet(sample::VIDEO, true, 0, false, None, &pes(0xE0, Stamp(pts), &es));
        check(&[tables(), frame(1, false), bare(90_000).to_vec(), frame(60, false)], &[(4, 376)]);
    }

    #[test]
    fn sound_alone_is_marked_twice_a_second() {
        let mut parts = vec![[pat(0), pmt(0, &[(0x0F, AUDIO)])].concat()];
        parts.extend((0..100).map(sound));
        // 100 frames of 21.3 ms are 2.13 s.
        let (_, marks) = cut(&parts.concat(), &[]);
        assert_eq!(marks.len(), 5);
    }

    #[test]
    fn a_stream_of_key_frames_alone_is_marked_ten_times_a_second() {
        let parts: Vec<_> = [tables()].into_iter().chain((0..26).map(|n| frame(n, true))).collect();
        // 26 frames of 40 ms: every third one.
        assert_eq!(cut(&parts.concat(), &[]).1.len(), 9);
    }

    #[test]
    fn tables_are_not_held_back_behind_more_than_a_few_packets() {
        let mut cutter = Cutter::new(MPEG_TS);
        let input = [tables(), null().repeat(40)].concat();
        let given: usize = cutter.push(input.clone().into()).iter().map(|s| s.bytes.len()).sum();
        assert_eq!(given, input.len());
    }

    #[test]
    fn a_flush_gives_out_the_tables_and_the_mark_moves_to_the_key_frame() {
        let mut cutter = Cutter::new(MPEG_TS);
        let first = [frame(0, false), frame(1, false), tables()].concat();
        assert_eq!(cutter.push(first.into()).iter().map(|s| s.bytes.len()).sum::<usize>(), 4 * 188);
        assert_eq!(cutter.flush().iter().map(|s| s.bytes.len()).sum::<usize>(), 2 * 188);
        let spans = cutter.push(frame(2, true).into());
        assert_eq!(spans.len(), 1);
        assert!(spans[0].rap && spans[0].tables.len() == 376);
    }

    #[test]
    fn after_a_restart_old_tables_are_forgotten() {
        let mut cutter = Cutter::new(MPEG_TS);
        cutter.push([tables(), frame(0, true), null()[..50].to_vec()].concat().into());
        assert_eq!(cutter.restart().iter().map(|s| s.bytes.len()).sum::<usize>(), 50);
        let again = [frame(1, true), frame(30, true), tables(), frame(60, true)].concat();
        let spans = cutter.push(again.into());
        assert_eq!(
            spans.iter().map(|s| (s.rap, s.bytes.len() / 188)).collect::<Vec<_>>(),
            [(false, 4), (true, 4)]
        );
    }

    #[test]
    fn what_is_no_transport_stream_passes_as_it_is() {
        let mut cutter = Cutter::new("audio/ogg");
        assert!(cutter.is_opaque());
        let bytes = Bytes::from([tables(), frame(0, true)].concat());
        let spans = cutter.push(bytes.clone());
        assert_eq!(spans, [Span { bytes, rap: false, tables: Bytes::new() }]);
        let mut cutter = Cutter::new(MPEG_TS);
        assert!(!cutter.is_opaque());
        assert_eq!(cutter.push(vec![0; 70_000].into()).len(), 1);
        assert!(cutter.is_opaque());
        cutter.push(null().repeat(3).into());
        assert!(!cutter.is_opaque());
    }

    #[test]
    fn aligned_input_is_not_copied() {
        let input = Bytes::from([tables(), frame(0, true), frame(1, false)].concat());
        let spans = Cutter::new(MPEG_TS).push(input.clone());
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].bytes.as_ptr(), input.as_ptr());
    }

    proptest! {
        #[test]
        fn bytes_pass_untouched_and_marks_do_not_depend_on_chunking(
            input in sample::stream(), sizes in sample::sizes(),
        ) {
            let (bytes, marks) = cut(&input, &sizes);
            prop_assert_eq!(&bytes, &input);
            prop_assert_eq!(cut(&input, &[]).1, marks);
        }

        #[test]
        fn little_is_held_back(input in sample::stream(), sizes in sample::sizes()) {
            let mut cutter = Cutter::new(MPEG_TS);
            let (mut came, mut gone) = (0, 0);
            for chunk in sample::chunks(&input, &sizes) {
                came += chunk.len();
                let spans = cutter.push(Bytes::copy_from_slice(chunk));
                gone += spans.iter().map(|s| s.bytes.len()).sum::<usize>();
                prop_assert!(came - gone <= 34 * PACKET_LEN);
            }
        }
    }
}
