//! Where one input goes on behind another of the same encoder: found by the program clock, which
//! both carry.

use bytes::Bytes;

use super::cut::Cutter;
use super::ts::{Framer, Header, Pcr, Unit};

/// Clocks further apart than this are not of one encoder (ticks of 27 MHz): a minute.
const APART_MAX: u64 = 60 * 27_000_000;

/// The last program clock in consecutive bytes of a stream, if there is one.
#[must_use]
pub fn last_pcr<'a>(chunks: impl IntoIterator<Item = &'a Bytes>) -> Option<Pcr> {
    clocks(chunks).last().map(|(_, pcr)| *pcr)
}

/// The offset in an input from which on it goes on behind `published`, the last program clock of
/// what is already out: its first random access point behind that, or, where there is none yet, its
/// first clock behind. If the two have no clock in common, the newest random access point. `None`
/// if the input has nothing of that kind: then it can only begin with what comes next.
#[must_use]
pub fn place(media: &str, published: Option<Pcr>, input: &[Bytes]) -> Option<u64> {
    let starts = starts(media, input);
    let clocks = clocks(input);
    // The clock in force at a place is the next one: a random access point shows it itself.
    let clock_at = |at: u64| clocks.get(clocks.partition_point(|(offset, _)| *offset < at));
    let is_common =
        |published: Pcr, pcr: Pcr| pcr.since(published).min(published.since(pcr)) <= APART_MAX;
    let newest = clocks.last().map(|(_, pcr)| *pcr);
    let published = published.filter(|published| newest.is_some_and(|n| is_common(*published, n)));
    let Some(published) = published else { return starts.last().copied() };
    let is_behind = |pcr: Pcr| (1..=APART_MAX).contains(&pcr.since(published));
    let at_start = starts.iter().find(|at| clock_at(**at).is_some_and(|(_, pcr)| is_behind(*pcr)));
    let at_clock = || clocks.iter().find(|(_, pcr)| is_behind(*pcr)).map(|(at, _)| *at);
    at_start.copied().or_else(at_clock)
}

/// Offsets of the random access points of an input.
fn starts(media: &str, input: &[Bytes]) -> Vec<u64> {
    let (mut cutter, mut at, mut out) = (Cutter::new(media), 0, Vec::new());
    for span in input.iter().flat_map(|chunk| cutter.push(chunk.clone())) {
        out.extend(span.rap.then_some(at));
        at += span.bytes.len() as u64;
    }
    out
}

/// Where a program clock stands, and what it shows.
fn clocks<'a>(chunks: impl IntoIterator<Item = &'a Bytes>) -> Vec<(u64, Pcr)> {
    let mut framer = Framer::new();
    let mut out = Vec::new();
    let mut note = |unit: Unit<'_>| {
        if let Unit::Packet { at, packet } = unit
            && let Some(pcr) = Header::read(packet).pcr
        {
            out.push((at, pcr));
        }
    };
    for chunk in chunks {
        framer.push(chunk, &mut note);
    }
    framer.finish(&mut note);
    out
}

#[cfg(test)]
mod tests {
    use super::super::clip::DEMO;
    use super::super::cut::MPEG_TS;
    use super::super::ts::PACKET_LEN;
    use super::*;

    const PACKETS: usize = DEMO.len() / PACKET_LEN;

    /// The clip from packet `from` to packet `to`, in portions.
    fn part(from: usize, to: usize) -> Vec<Bytes> {
        DEMO[from * PACKET_LEN..to * PACKET_LEN].chunks(1000).map(Bytes::copy_from_slice).collect()
    }

    /// Offsets of the random access points of the clip.
    fn all_starts() -> Vec<u64> {
        starts(MPEG_TS, &part(0, PACKETS))
    }

    /// What was published up to packet `end` is continued with an input that has the packets
    /// `from..to`. The place in the clip.
    fn joined(end: usize, from: usize, to: usize) -> Option<u64> {
        let published = last_pcr(&part(0, end)).expect("a clock");
        let place = place(MPEG_TS, Some(published), &part(from, to))?;
        Some(place + (from * PACKET_LEN) as u64)
    }

    #[test]
    fn an_input_goes_on_at_the_first_random_access_point_behind_what_is_out() {
        for end in [PACKETS / 3, PACKETS / 2, PACKETS * 3 / 4] {
            let next = all_starts().into_iter().find(|at| *at >= (end * PACKET_LEN) as u64);
            assert_eq!(joined(end, PACKETS / 10, PACKETS), next);
        }
    }

    #[test]
    fn before_the_next_random_access_point_came_it_goes_on_at_the_clock() {
        let last_start = *all_starts().last().expect("a start") as usize / PACKET_LEN;
        let end = last_start + (PACKETS - last_start) / 2;
        let at = joined(end, PACKETS / 10, PACKETS).expect("a clock behind");
        assert!((end * PACKET_LEN..(end + 200) * PACKET_LEN).contains(&(at as usize)), "{at}");
        assert_eq!(joined(PACKETS, PACKETS / 10, PACKETS), None);
    }

    #[test]
    fn an_input_with_another_clock_begins_at_its_newest_random_access_point() {
        let input = part(PACKETS / 10, PACKETS);
        let newest = all_starts().last().map(|at| at - (PACKETS / 10 * PACKET_LEN) as u64);
        let published = last_pcr(&input).expect("a clock");
        let elsewhere = published.after_us(3_600_000_000);
        for published in [None, Some(elsewhere)] {
            assert_eq!(place(MPEG_TS, published, &input), newest);
        }
    }

    #[test]
    fn bytes_that_are_no_transport_stream_have_no_place() {
        let input = [Bytes::from(vec![1; 100_000])];
        assert_eq!(last_pcr(&input), None);
        assert_eq!(place(MPEG_TS, None, &input), None);
        assert_eq!(place("application/octet-stream", None, &input), None);
    }

    #[test]
    fn a_clock_goes_on_across_its_wrap() {
        let late = Pcr(Pcr::WRAP - 27);
        assert_eq!(late.after_us(3), Pcr(54));
        assert_eq!(late.after_us(3).since(late), 81);
    }
}
