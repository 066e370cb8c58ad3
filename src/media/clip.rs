//! The clip inside the program, for demonstrations without any other source.

/// Eight seconds of a moving test pattern with beeps: H.264 baseline of 320x180 at 25 pictures a
/// second, a key frame each second, and AAC, as MPEG-TS. Made by `assets/make-demo-clip.sh` so that
/// it loops without a seam once [`super::relabel`] rewrites its time stamps.
pub const DEMO: &[u8] = include_bytes!("../../assets/demo.ts");

/// What the clip lasts, in microseconds.
pub const DEMO_US: u64 = 8_000_000;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::cut::{Cutter, MPEG_TS};
    use super::super::pace::Pacer;
    use super::super::relabel::Relabel;
    use super::super::ts::{Header, PACKET_LEN, Packet, Pid};
    use super::*;

    fn passes(count: usize) -> Vec<u8> {
        let mut relabel = Relabel::new();
        let mut out = Vec::new();
        for _ in 0..count {
            for packet in DEMO.chunks(PACKET_LEN) {
                let mut packet: Packet = packet.try_into().expect("whole packets");
                relabel.packet(&mut packet);
                out.extend(packet);
            }
            relabel.rewind();
        }
        out
    }

    #[test]
    fn the_clip_fits_into_the_program() {
        assert!(DEMO.len() <= 300_000);
        assert_eq!(DEMO.len() % PACKET_LEN, 0);
    }

    #[test]
    fn the_clip_can_be_entered_at_every_second_of_every_pass() {
        let mut cutter = Cutter::new(MPEG_TS);
        let spans = cutter.push(Bytes::from(passes(3)));
        let marks: Vec<_> = spans.iter().filter(|s| s.rap).collect();
        assert_eq!(marks.len(), 24);
        for span in marks {
            let bytes = if span.tables.is_empty() { &span.bytes } else { &span.tables };
            let first = bytes.first_chunk().map(Header::read).map(|h| h.pid);
            assert_eq!(first, Some(Pid::PAT));
        }
    }

    #[test]
    fn the_clip_lasts_eight_seconds_in_every_pass() {
        let mut pacer = Pacer::new(1_000_000);
        for pass in passes(3).chunks(DEMO.len()).enumerate().map(|(n, pass)| (n as u64, pass)) {
            let due = pacer.push(pass.1);
            let expected = (pass.0 + 1) * DEMO_US;
            assert!(due.abs_diff(expected) <= 50_000, "{due} {expected}");
        }
    }
}
