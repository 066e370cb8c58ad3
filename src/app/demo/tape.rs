//! Whether what a viewer got is what the broadcaster took in, byte for byte.
//!
//! The tape is the stream as it went into the broadcaster. A witness follows it with the bytes
//! that one viewer hands over, packet by packet, and writes down where they part.

use crate::media::ts::PACKET_LEN;

/// Bytes of the stream that are kept to compare with: some minutes of the clip.
const TAPE_LEN_MAX: usize = 16 << 20;
/// Packets that name a place in the stream: their time stamps occur once.
const NEEDLE_PACKETS: usize = 12;
/// A stream may begin with tables that were put ahead of it for the decoder.
const AHEAD_PACKETS_MAX: usize = 4;
/// Bytes that fit nowhere are given up one packet at a time once there are so many.
const LOST_LEN_MAX: usize = 2 * NEEDLE_PACKETS * PACKET_LEN;

/// The stream as the broadcaster took it in.
#[derive(Debug, Default)]
pub(super) struct Tape {
    bytes: Vec<u8>,
    begin: u64,
}

impl Tape {
    /// Adds what the broadcaster takes in.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > TAPE_LEN_MAX {
            let old = self.bytes.len() - TAPE_LEN_MAX / 2;
            self.bytes.drain(..old);
            self.begin += old as u64;
        }
    }

    /// Bytes taken in so far.
    pub(super) fn end(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }

    fn holds(&self, at: u64, packet: &[u8]) -> bool {
        let Some(from) = at.checked_sub(self.begin) else { return false };
        self.bytes.get(from as usize..).is_some_and(|rest| rest.starts_with(packet))
    }

    /// Where `needle` is, at or behind `from`.
    fn find(&self, needle: &[u8], from: u64) -> Option<u64> {
        let skip = usize::try_from(from.saturating_sub(self.begin)).ok()?;
        let places = self.bytes.get(skip..)?.windows(needle.len());
        let at = places.enumerate().find(|(_, place)| *place == needle)?.0;
        Some(self.begin + (skip + at) as u64)
    }
}

/// What became of one viewer's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Bytes that are the broadcaster's, in order.
    pub(super) delivered: u64,
    /// Places where the order broke.
    pub(super) gaps: u64,
    /// Bytes of the stream that were left out there.
    pub(super) lost: u64,
    /// Bytes that the broadcaster never took in.
    pub(super) foreign: u64,
    /// Where the viewer began.
    pub(super) from: Option<u64>,
    /// Where it stands.
    pub(super) at: u64,
}

/// Compares what one viewer gets.
#[derive(Debug, Default)]
pub(super) struct Witness {
    tally: Tally,
    /// Bytes without a place yet: less than a packet, or more while the place is not known.
    held: Vec<u8>,
    follows: bool,
}

impl Witness {
    /// Takes what a viewer handed over.
    pub(super) fn push(&mut self, tape: &Tape, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        loop {
            let went_on = if self.follows { self.follow(tape) } else { self.look(tape, false) };
            if !went_on {
                return;
            }
        }
    }

    /// The viewer hands over no more; what is held is judged.
    pub(super) fn finish(&mut self, tape: &Tape) -> Tally {
        while if self.follows { self.follow(tape) } else { self.look(tape, true) } {}
        // The stream may have been ended within a packet.
        if self.follows && tape.holds(self.tally.at, &self.held) {
            let rest = self.held.len() as u64;
            self.tally.at += rest;
            self.tally.delivered += rest;
            self.held.clear();
        }
        self.tally.foreign += self.held.len() as u64;
        self.held.clear();
        self.tally
    }

    /// What is known so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    fn follow(&mut self, tape: &Tape) -> bool {
        let fits = |at: u64, packet: &[u8]| tape.holds(at, packet);
        let mut taken = 0;
        for packet in self.held.chunks_exact(PACKET_LEN) {
            if !fits(self.tally.at + taken, packet) {
                self.follows = false;
                break;
            }
            taken += PACKET_LEN as u64;
        }
        self.held.drain(..taken as usize);
        self.tally.at += taken;
        self.tally.delivered += taken;
        !self.follows
    }

    /// Looks for the place of what is held; at the end also with less to go by.
    fn look(&mut self, tape: &Tape, is_end: bool) -> bool {
        let whole = NEEDLE_PACKETS * PACKET_LEN;
        let len = if is_end { self.held.len() / PACKET_LEN * PACKET_LEN } else { whole };
        for ahead in 0..=AHEAD_PACKETS_MAX {
            let skip = ahead * PACKET_LEN;
            let until = if is_end { len } else { skip + len };
            let Some(needle) = self.held.get(skip..until).filter(|n| !n.is_empty()) else { break };
            if let Some(at) = tape.find(needle, self.tally.at) {
                self.found(at, skip);
                return true;
            }
        }
        if self.held.len() < LOST_LEN_MAX {
            return false;
        }
        // Between two gaps there may be less than names a place for certain. The first place where
        // it fits is not behind the true one.
        let first = self.held.get(..PACKET_LEN).filter(|_| self.tally.from.is_some());
        if let Some(at) = first.and_then(|packet| tape.find(packet, self.tally.at)) {
            self.found(at, 0);
            return true;
        }
        self.held.drain(..PACKET_LEN);
        self.tally.foreign += PACKET_LEN as u64;
        true
    }

    fn found(&mut self, at: u64, skip: usize) {
        self.held.drain(..skip);
        if self.tally.from.is_none() {
            self.tally.from = Some(at);
        } else if at > self.tally.at {
            self.tally.gaps += 1;
            self.tally.lost += at - self.tally.at;
        }
        self.tally.at = at;
        self.follows = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u32) -> Vec<u8> {
        let mut packet = vec![0x47; PACKET_LEN];
        packet[4..8].copy_from_slice(&number.to_be_bytes());
        packet
    }

    fn packets(numbers: std::ops::Range<u32>) -> Vec<u8> {
        numbers.flat_map(packet).collect()
    }

    fn tally(tape: std::ops::Range<u32>, seen: &[u8]) -> Tally {
        let mut whole = Tape::default();
        whole.push(&packets(tape));
        let mut witness = Witness::default();
        // Pieces of any length, as a pipe brings them.
        for part in seen.chunks(100) {
            witness.push(&whole, part);
        }
        witness.finish(&whole)
    }

    const LEN: u64 = PACKET_LEN as u64;

    #[test]
    fn a_viewer_that_began_in_the_middle_and_lost_nothing_has_no_gap() {
        let seen = tally(0..100, &packets(30..100));
        let expected =
            Tally { delivered: 70 * LEN, from: Some(30 * LEN), at: 100 * LEN, ..Tally::default() };
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_short_between_two_gaps_has_its_place_too() {
        let seen = tally(0..200, &[packets(0..50), packets(60..66), packets(100..200)].concat());
        let expected = Tally {
            delivered: 156 * LEN,
            gaps: 2,
            lost: 44 * LEN,
            from: Some(0),
            at: 200 * LEN,
            ..Tally::default()
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn tables_put_ahead_are_no_fault() {
        let seen = tally(0..100, &[packet(1000), packet(1001), packets(30..100)].concat());
        assert_eq!((seen.gaps, seen.foreign, seen.delivered), (0, 0, 70 * LEN));
    }

    #[test]
    fn what_was_left_out_is_counted() {
        let seen = tally(0..100, &[packets(0..40), packets(45..100)].concat());
        assert_eq!((seen.gaps, seen.lost, seen.foreign), (1, 5 * LEN, 0));
        assert_eq!(seen.at, 100 * LEN);
    }

    #[test]
    fn a_changed_packet_is_foreign_and_leaves_a_gap() {
        let seen = tally(0..200, &[packets(0..40), packet(7777), packets(41..200)].concat());
        assert_eq!((seen.gaps, seen.lost), (1, LEN));
        assert_eq!(seen.at, 200 * LEN);
    }

    #[test]
    fn bytes_from_elsewhere_are_foreign() {
        let seen = tally(0..100, &packets(500..600));
        assert_eq!((seen.delivered, seen.foreign), (0, 100 * LEN));
        assert_eq!(seen.from, None);
    }

    #[test]
    fn a_short_end_is_seen() {
        assert_eq!(tally(0..100, &packets(0..99)).at, 99 * LEN);
    }

    #[test]
    fn the_tape_forgets_but_counts_on() {
        let mut tape = Tape::default();
        let part = packets(0..1000);
        let passes = TAPE_LEN_MAX / part.len() + 2;
        for _ in 0..passes {
            tape.push(&part);
        }
        assert_eq!(tape.end(), (passes * part.len()) as u64);
        assert!(tape.bytes.len() <= TAPE_LEN_MAX);
    }
}
