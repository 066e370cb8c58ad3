//! Every byte of any stream is in exactly one unit, however the stream is cut up; what reads the
//! packets terminates, and what rewrites them touches neither their length nor their place, and in
//! the first pass nothing at all. Who reads only the copies of the tables knows as much as who read
//! all of them; stamps are of 33 bits.
#![no_main]

use btlive::media::pace::Pacer;
use btlive::media::pes::{Head, Stamp, starts_decoding};
use btlive::media::psi::{Coding, Tables};
use btlive::media::relabel::Relabel;
use btlive::media::ts::{Framer, Header, Unit};
use libfuzzer_sys::fuzz_target;

/// Offsets, lengths and kinds of the units; neighbouring junk is one.
fn units<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<(u64, usize, bool)> {
    let mut out: Vec<(u64, usize, bool)> = Vec::new();
    let mut take = |unit: Unit<'_>| match unit {
        Unit::Packet { at, packet } => out.push((at, packet.len(), true)),
        Unit::Junk { at, len } => match out.last_mut() {
            Some((_, total, false)) => *total += len,
            _ => out.push((at, len, false)),
        },
    };
    let mut framer = Framer::new();
    for chunk in chunks {
        framer.push(chunk, &mut take);
    }
    framer.finish(&mut take);
    out
}

fuzz_target!(|data: &[u8]| {
    let size = data.last().copied().unwrap_or_default();
    let whole = units(std::iter::once(data));
    let mut next = 0;
    for (at, len, _) in &whole {
        assert_eq!(*at, next);
        next += *len as u64;
    }
    assert_eq!(next, data.len() as u64);
    assert_eq!(units(data.chunks(usize::from(size).max(1))), whole);

    let mut tables = Tables::new();
    let mut relabel = Relabel::new();
    let mut rewound = false;
    let mut framer = Framer::new();
    framer.push(data, |unit| {
        let Unit::Packet { packet, .. } = unit else { return };
        let header = Header::read(packet);
        tables.packet(&header, packet);
        let payload = header.payload(packet);
        if let Some(head) = Head::read(payload) {
            assert!([head.pts, head.dts].into_iter().flatten().all(|s| s.0 < Stamp::WRAP));
            assert_eq!(head.decoded(), head.dts.or(head.pts));
        }
        for coding in [Coding::H264, Coding::H265, Coding::Mpeg2] {
            let _ = starts_decoding(coding, payload);
        }
        let mut rewritten = *packet;
        relabel.packet(&mut rewritten);
        assert!(rewound || rewritten == *packet);
        let again = Header::read(&rewritten);
        assert_eq!((again.pid, again.payload_at()), (header.pid, header.payload_at()));
        if payload.first() == Some(&0x42) {
            relabel.rewind();
            rewound = true;
        }
    });

    if let Some(copies) = tables.copies() {
        let mut again = Tables::new();
        Framer::new().push(&copies, |unit| {
            let Unit::Packet { packet, .. } = unit else { return };
            again.packet(&Header::read(packet), packet);
        });
        // A framer that has seen two packets may wait for the third.
        let read = again.copies().is_some();
        assert!(!read || again.leader() == tables.leader() && again.pcr_pid() == tables.pcr_pid());
    }

    let mut pacer = Pacer::new(u64::from(size));
    let mut last = 0;
    for chunk in data.chunks(376) {
        let due = pacer.push(chunk);
        assert!(due >= last);
        last = due;
    }
});
