//! Small transport streams for the tests of this layer.

use proptest::prelude::*;

use super::pes::{Stamp, write_stamp};
use super::psi::crc32;
use super::ts::{PACKET_LEN, Packet, Pcr, Pid, SYNC, write_pcr};

pub(super) const MAP: Pid = Pid(0x1000);
pub(super) const VIDEO: Pid = Pid(0x100);
pub(super) const AUDIO: Pid = Pid(0x101);

/// A packet with `payload`, filled up with stuffing in its adaptation field.
pub(super) fn packet(
    pid: Pid,
    start: bool,
    cc: u8,
    random_access: bool,
    pcr: Option<Pcr>,
    payload: &[u8],
) -> Packet {
    let mut adaptation = Vec::new();
    if random_access || pcr.is_some() || payload.len() < 184 {
        let flags = u8::from(random_access) << 6 | u8::from(pcr.is_some()) << 4;
        adaptation.push(flags);
        adaptation.extend(pcr.iter().flat_map(|p| write_pcr(*p)));
        let room = 183 - payload.len().min(183 - adaptation.len());
        adaptation.resize(room, 0xFF);
        if payload.len() == 183 {
            adaptation.clear();
        }
        adaptation.insert(0, adaptation.len() as u8);
    }
    let [high, low] = pid.0.to_be_bytes();
    let kind = u8::from(!adaptation.is_empty()) << 5 | u8::from(!payload.is_empty()) << 4;
    let mut out = vec![SYNC, u8::from(start) << 6 | high, low, kind | cc & 15];
    out.extend(adaptation);
    out.extend(payload);
    out.truncate(PACKET_LEN);
    out.try_into().expect("a whole packet")
}

pub(super) fn null() -> Packet {
    packet(Pid::NULL, false, 0, false, None, &[0xFF; 184])
}

fn section(table: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() + 9;
    let mut out = vec![table, 0xB0 | (len >> 8) as u8, len as u8, 0, 1, 0xC1, 0, 0];
    out.extend(body);
    let crc = crc32(&out);
    out.extend(crc.to_be_bytes());
    out
}

pub(super) fn section_packets(pid: Pid, section: &[u8]) -> Vec<Packet> {
    let mut bytes = vec![0];
    bytes.extend(section);
    bytes.resize(bytes.len().next_multiple_of(184), 0xFF);
    (0..)
        .zip(bytes.chunks(184))
        .map(|(n, part)| packet(pid, n == 0, n, false, None, part))
        .collect()
}

pub(super) fn pat(cc: u8) -> Packet {
    let [high, low] = MAP.0.to_be_bytes();
    let mut out = section_packets(Pid::PAT, &section(0, &[0, 1, 0xE0 | high, low]))[0];
    out[3] |= cc & 15;
    out
}

pub(super) fn pmt_section(streams: &[(u8, Pid)]) -> Vec<u8> {
    let [high, low] = VIDEO.0.to_be_bytes();
    let mut body = vec![0xE0 | high, low, 0xF0, 0];
    for (kind, pid) in streams {
        let [high, low] = pid.0.to_be_bytes();
        body.extend([*kind, 0xE0 | high, low, 0xF0, 0]);
    }
    section(2, &body)
}

pub(super) fn pmt(cc: u8, streams: &[(u8, Pid)]) -> Packet {
    let mut out = section_packets(MAP, &pmt_section(streams))[0];
    out[3] |= cc & 15;
    out
}

/// The beginning of a PES packet.
pub(super) fn pes(stream_id: u8, pts: Stamp, es: &[u8]) -> Vec<u8> {
    let mut field = [0x21, 0, 1, 0, 1];
    write_stamp(&mut field, pts);
    let mut out = vec![0, 0, 1, stream_id, 0, 0, 0x80, 0x80, 5];
    out.extend(field);
    out.extend(es);
    out
}

pub(super) const AV: [(u8, Pid); 2] = [(0x1B, VIDEO), (0x0F, AUDIO)];

/// The pictures of the sample streams are so far apart.
pub(super) const FRAME: u64 = 3600;

/// A frame of two packets; a key frame has the random access indicator.
pub(super) fn frame(n: u64, key: bool) -> Vec<u8> {
    let pts = Stamp(n * FRAME + 20_000);
    let pcr = Pcr((n * FRAME) * 300);
    let es: &[u8] = if key { &[0, 0, 1, 0x65, 1] } else { &[0, 0, 1, 0x41, 1] };
    let first = packet(VIDEO, true, (2 * n) as u8, key, Some(pcr), &pes(0xE0, pts, es));
    [first, packet(VIDEO, false, (2 * n + 1) as u8, false, None, &[n as u8; 184])].concat()
}

/// Cuts `bytes` into pieces of `sizes`, over and over; one piece if there are none.
pub(super) fn chunks<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at((*size).min(bytes.len()));
        out.push(chunk);
        bytes = rest;
    }
    if !bytes.is_empty() {
        out.push(bytes);
    }
    out
}

pub(super) fn sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1usize..900, 1..12)
}

/// Streams with everything in them that decides where one may cut.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => any::<u8>().prop_map(|cc| pat(cc).to_vec()),
        4 => any::<u8>().prop_map(|cc| pmt(cc, &AV).to_vec()),
        2 => Just(null().to_vec()),
        1 => Just(null().repeat(40)),
        4 => (0u64..1000).prop_map(|n| frame(n, true)),
        6 => (0u64..1000).prop_map(|n| frame(n, false)),
        2 => Just(packet(AUDIO, true, 0, true, None, &pes(0xC0, Stamp(1), &[1])).to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..500),
        1 => proptest::collection::vec(prop_oneof![Just(SYNC), any::<u8>()], 0..500),
    ];
    proptest::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}
