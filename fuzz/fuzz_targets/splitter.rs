//! The frames of a stream are the same however it is cut, and no byte is lost. The input is a
//! count, as many lengths of chunks, and the stream.
#![no_main]

use btlive::wire::message::{Splitter, WireError};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// Frames, what ended the stream, and bytes that are held back.
type Split = (Vec<Bytes>, Option<WireError>, usize);

fn split<'a>(chunks: impl Iterator<Item = &'a [u8]>, read_into_buffer: bool) -> Split {
    let mut splitter = Splitter::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        if read_into_buffer {
            splitter.space().extend_from_slice(chunk);
        } else {
            splitter.push(chunk);
        }
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) => return (frames, Some(e), 0),
            }
        }
    }
    (frames, None, splitter.pending())
}

fn cut<'a>(mut stream: &'a [u8], lens: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for len in lens.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (chunk, rest) = stream.split_at((usize::from(*len) + 1).min(stream.len()));
        chunks.push(chunk);
        stream = rest;
    }
    chunks
}

fuzz_target!(|bytes: &[u8]| {
    let Some((count, rest)) = bytes.split_first() else { return };
    let Some((lens, stream)) = rest.split_at_checked(usize::from(*count)) else { return };
    let whole = split([stream].into_iter(), false);
    if !lens.is_empty() {
        let chunks = cut(stream, lens);
        assert_eq!(split(chunks.iter().copied(), false), whole);
        assert_eq!(split(chunks.into_iter(), true), whole);
    }
    let (frames, None, pending) = whole else { return };
    let framed: usize = frames.iter().skip(1).map(|frame| 4 + frame.len()).sum();
    let handshake = frames.first().map_or(0, Bytes::len);
    assert_eq!(handshake + framed + pending, stream.len());
});
