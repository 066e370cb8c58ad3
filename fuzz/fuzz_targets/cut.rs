//! The cutter gives out what it was given, and marks the same places however the stream is cut up.
//!
//! Random bytes never have tables with a good checksum, so the input is a recipe: which packets of
//! the built-in clip follow each other, and what junk is between them.
#![no_main]

use btlive::media::clip::DEMO;
use btlive::media::cut::{Cutter, MPEG_TS, Span};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// From this step of a recipe on there is junk, of the next step's value and length.
const JUNK: u8 = 240;

fn cooked(recipe: &[u8]) -> Vec<u8> {
    let packets: Vec<&[u8]> = DEMO.chunks(188).collect();
    let mut out = Vec::new();
    let mut steps = recipe.iter().copied();
    while let Some(step) = steps.next() {
        match packets.get(usize::from(step)) {
            Some(packet) if step < JUNK => out.extend_from_slice(packet),
            _ => {
                let value = steps.next().unwrap_or(0x47);
                out.extend(std::iter::repeat_n(value, usize::from(value)));
            }
        }
    }
    out
}

/// What comes out, and the marks with their offsets.
fn cut<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<(usize, Bytes)>) {
    let mut cutter = Cutter::new(MPEG_TS);
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    let mut take = |spans: Vec<Span>| {
        for span in spans {
            assert!(!span.bytes.is_empty());
            assert!(span.rap || span.tables.is_empty());
            if span.rap {
                marks.push((bytes.len(), span.tables));
            }
            bytes.extend(span.bytes);
        }
        bytes.len()
    };
    let mut came = 0;
    for chunk in chunks {
        came += chunk.len();
        let gone = take(cutter.push(Bytes::copy_from_slice(chunk)));
        assert!(came - gone <= 34 * 188, "{} bytes are held back", came - gone);
    }
    take(cutter.flush());
    (bytes, marks)
}

fuzz_target!(|recipe: &[u8]| {
    let size = 8 * usize::from(recipe.last().copied().unwrap_or_default()) + 1;
    let stream = cooked(recipe.get(..160).unwrap_or(recipe));
    let whole = cut(std::iter::once(stream.as_slice()));
    assert_eq!(whole.0, stream);
    let parts = cut(stream.chunks(size));
    assert_eq!(parts, whole);
});
