//! Streams to broadcast: a made-up MPEG-TS, ffmpeg's, their pacing, and a look at what came out.

use std::io::{Read, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::debian_tool;
use super::process::{Process, Start};

/// Bytes in a transport stream packet (ISO/IEC 13818-1, 2.4.3.2).
pub(crate) const PACKET_LEN: usize = 188;

/// Video frames a second.
const FRAMES_PER_S: u32 = 25;

const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x0100;

/// A made-up transport stream: PAT and PMT before each key frame, a key frame (random access
/// point) every second or as often as is said, a PCR in each frame, and a number in each packet, so
/// that no two stretches of it are alike. Nothing decodes it; ffmpeg's stream is for that.
pub(crate) struct FakeTs {
    packets_per_frame: usize,
    frames_per_key: u32,
    frame: u32,
    packet: u64,
    continuity: [u8; 3],
}

impl FakeTs {
    /// A stream of about `rate` bit/s.
    pub(crate) fn new(rate: u64) -> Self {
        let bits = u64::from(FRAMES_PER_S) * 8 * PACKET_LEN as u64;
        let packets_per_frame = usize::try_from((rate / bits).max(3)).expect("a sane rate");
        let frames_per_key = FRAMES_PER_S;
        Self { packets_per_frame, frames_per_key, frame: 0, packet: 0, continuity: [0; 3] }
    }

    /// The same with a key frame every `seconds`.
    pub(crate) fn key_every(self, seconds: u32) -> Self {
        Self { frames_per_key: seconds * FRAMES_PER_S, ..self }
    }

    /// The next frame's packets: 40 ms of the stream.
    pub(crate) fn frame(&mut self) -> Vec<u8> {
        let key = self.frame.is_multiple_of(self.frames_per_key);
        let mut out = Vec::with_capacity(self.packets_per_frame * PACKET_LEN);
        if key {
            out.extend(self.section(0, 0, &PAT));
            out.extend(self.section(1, PMT_PID, &PMT));
        }
        let mut first = true;
        while out.len() < self.packets_per_frame * PACKET_LEN {
            out.extend(self.video(first, key));
            first = false;
        }
        self.frame += 1;
        out
    }

    /// The frames of the first `seconds`.
    pub(crate) fn frames(rate: u64, seconds: u32) -> impl Iterator<Item = Vec<u8>> + Send {
        let mut stream = Self::new(rate);
        (0..seconds * FRAMES_PER_S).map(move |_| stream.frame())
    }

    /// All of the first `seconds`.
    pub(crate) fn seconds(rate: u64, seconds: u32) -> Vec<u8> {
        Self::frames(rate, seconds).flatten().collect()
    }

    fn header(&mut self, counter: usize, pid: u16, start: bool, adaptation: bool) -> [u8; 4] {
        let continuity = self.continuity[counter];
        self.continuity[counter] = (continuity + 1) % 16;
        let [high, low] = pid.to_be_bytes();
        let control = if adaptation { 0x30 } else { 0x10 };
        [0x47, high | if start { 0x40 } else { 0 }, low, control | continuity]
    }

    /// A packet with one whole section of program-specific information.
    fn section(&mut self, counter: usize, pid: u16, section: &[u8]) -> Vec<u8> {
        let mut packet = self.header(counter, pid, true, false).to_vec();
        packet.push(0);
        packet.extend(section);
        packet.extend(crc32_mpeg(section).to_be_bytes());
        packet.resize(PACKET_LEN, 0xff);
        packet
    }

    fn video(&mut self, first: bool, key: bool) -> Vec<u8> {
        let mut packet = self.header(2, VIDEO_PID, first, first).to_vec();
        let ticks = u64::from(self.frame) * u64::from(90_000 / FRAMES_PER_S);
        if first {
            let flags = if key { 0x50 } else { 0x10 };
            packet.extend([7, flags]);
            packet.extend(pcr(ticks));
            packet.extend([0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5]);
            packet.extend(pts(ticks + 9_000));
            let slice = if key { 0x65 } else { 0x41 };
            packet.extend([0, 0, 0, 1, 0x09, 0xf0, 0, 0, 0, 1, slice]);
        }
        self.packet += 1;
        packet.extend(numbered_fill(self.packet).take(PACKET_LEN - packet.len()));
        packet
    }
}

/// A program association section: program 1 is described at [`PMT_PID`].
const PAT: [u8; 12] = [0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0];

/// A program map section: one H.264 stream at [`VIDEO_PID`], which carries the PCR.
const PMT: [u8; 17] = [2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 0, 0xf0, 0];

/// Bytes that follow from `number` and never hold a start code, because none is zero.
fn numbered_fill(number: u64) -> impl Iterator<Item = u8> {
    let digits = (0..10).map(move |n| (number >> (7 * n)) as u8 | 0x80);
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    digits.chain(std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state as u8 | 0x80)
    }))
}

fn pcr(ticks: u64) -> [u8; 6] {
    let bits = (ticks & 0x1_ffff_ffff) << 15 | 0x7e00;
    std::array::from_fn(|n| (bits >> (40 - 8 * n)) as u8)
}

fn pts(ticks: u64) -> [u8; 5] {
    let part = |shift: u64, mask: u64| ((ticks >> shift) & mask) as u8;
    [
        0x21 | part(29, 0x0e),
        part(22, 0xff),
        0x01 | part(14, 0xfe),
        part(7, 0xff),
        0x01 | (part(0, 0x7f) << 1),
    ]
}

fn crc32_mpeg(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

/// Writes `frames` to `input` as an encoder does, one each 40 ms, on a thread of its own, then
/// closes it. A reader that goes away ends it early.
pub(crate) fn feed(
    frames: impl Iterator<Item = Vec<u8>> + Send + 'static,
    mut input: impl Write + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let start = Instant::now();
        let frame_time = Duration::from_secs(1) / FRAMES_PER_S;
        for (frame, n) in frames.zip(1..) {
            if input.write_all(&frame).and_then(|()| input.flush()).is_err() {
                return;
            }
            std::thread::sleep((frame_time * n).saturating_sub(start.elapsed()));
        }
    })
}

/// Copies `from` to `input` and gives what was copied, once it ends.
pub(crate) fn tee(
    mut from: impl Read + Send + 'static,
    mut input: impl Write + Send + 'static,
) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            all.extend_from_slice(&buffer[..len]);
            if input.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        all
    })
}

/// Starts ffmpeg: H.264 and AAC in real time for `seconds`, as MPEG-TS on its standard output.
pub(crate) fn ffmpeg(seconds: u32, dir: &Path) -> Process {
    let encode = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 \
                  -keyint_min 25 -sc_threshold 0 -b:v 900k -maxrate 900k -bufsize 900k \
                  -c:a aac -b:a 96k -f mpegts -flush_packets 1 pipe:1";
    Start::new("ffmpeg", debian_tool("ffmpeg"), dir)
        .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
        .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"])
        .args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"])
        .args(["-t", &seconds.to_string()])
        .args(encode.split_whitespace())
        .with_stdout()
        .spawn()
}

/// Where `part` lies in `whole`, byte for byte.
pub(crate) fn is_contiguous_part(whole: &[u8], part: &[u8]) -> Option<usize> {
    contiguous_part(whole, part).ok()
}

/// As [`is_contiguous_part`], with what is wrong in words.
pub(crate) fn contiguous_part(whole: &[u8], part: &[u8]) -> Result<usize, String> {
    let head = &part[..part.len().min(4 * PACKET_LEN)];
    if head.is_empty() {
        return Err("nothing at all".to_owned());
    }
    let start = whole.windows(head.len()).position(|window| window == head);
    let start = start.ok_or("its first packets are nowhere in what was sent")?;
    let expected = &whole[start..];
    match part.iter().zip(expected).position(|(a, b)| a != b) {
        None if part.len() > expected.len() => {
            Err(format!("{} bytes follow the end of what was sent", part.len() - expected.len()))
        }
        None => Ok(start),
        Some(at) => Err(differs(whole, part, start, at)),
    }
}

/// Says where `part` leaves `whole` and where in `whole` it goes on.
fn differs(whole: &[u8], part: &[u8], start: usize, at: usize) -> String {
    let rest = &part[at..part.len().min(at + 4 * PACKET_LEN)];
    let goes_on = whole.windows(rest.len()).position(|window| window == rest);
    let goes_on = goes_on.map_or("nowhere".to_owned(), |there| format!("at byte {there}"));
    format!(
        "of {} bytes that begin at byte {start} of the stream, byte {at} is the first wrong one; \
         the stream goes on {goes_on} instead of at byte {}",
        part.len(),
        start + at
    )
}
