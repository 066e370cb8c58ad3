//! One copy of every block, however many viewers hold it.
//!
//! A real viewer keeps its own copy of each block. A thousand simulated ones would need gigabytes
//! for the same bytes, so `piece` frames with equal content are handed out as one shared buffer.
//! Only frames that are equal byte for byte are shared; a forged block stays the forger's own.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

/// Message id, piece index and offset: the part of a `piece` frame before its payload (BEP 3).
const HEAD_LEN: usize = 9;
/// Message id of `piece`.
const PIECE: u8 = 7;

/// The shared frames, the youngest of them up to a number of bytes.
#[derive(Debug)]
pub(super) struct Shared {
    frames: BTreeMap<[u8; HEAD_LEN], Bytes>,
    by_age: VecDeque<[u8; HEAD_LEN]>,
    bytes: usize,
    bytes_max: usize,
}

impl Shared {
    /// Keeps at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { frames: BTreeMap::new(), by_age: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The frame that begins with `head` and goes on with `body`.
    pub(super) fn frame(&mut self, head: &[u8], body: &Bytes) -> Bytes {
        if let Ok(key) = <[u8; HEAD_LEN]>::try_from(head)
            && key[0] == PIECE
        {
            if let Some(frame) = self.frames.get(&key)
                && same(&frame[HEAD_LEN..], body)
            {
                return frame.clone();
            }
            let frame = joined(head, body);
            self.keep(key, &frame);
            return frame;
        }
        joined(head, body)
    }

    /// The shared frame with the content of `frame`, if it is one that is shared; else `frame`.
    pub(super) fn intern(&mut self, frame: Bytes) -> Bytes {
        if frame.first() == Some(&PIECE) && frame.len() > HEAD_LEN {
            let body = frame.slice(HEAD_LEN..);
            return self.frame(&frame[..HEAD_LEN], &body);
        }
        frame
    }

    fn keep(&mut self, key: [u8; HEAD_LEN], frame: &Bytes) {
        if self.frames.contains_key(&key) {
            return; // Somebody else's content for the same block: not worth sharing.
        }
        self.bytes += frame.len();
        self.frames.insert(key, frame.clone());
        self.by_age.push_back(key);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.by_age.pop_front() else { break };
            self.bytes -= self.frames.remove(&oldest).map_or(0, |frame| frame.len());
        }
    }
}

/// Whether two buffers hold the same bytes; the same memory needs no look.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (std::ptr::eq(a, b) || a == b)
}

fn joined(head: &[u8], body: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(head.len() + body.len());
    frame.extend_from_slice(head);
    frame.extend_from_slice(body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [u8; HEAD_LEN] = [7, 0, 0, 0, 1, 0, 0, 0, 0];

    #[test]
    fn equal_blocks_share_memory_and_different_ones_do_not() {
        let mut shared = Shared::new(1000);
        let first = shared.frame(&HEAD, &Bytes::from(vec![1; 100]));
        let again = shared.frame(&HEAD, &Bytes::from(vec![1; 100]));
        assert_eq!(first.as_ptr(), again.as_ptr());
        let forged = shared.frame(&HEAD, &Bytes::from(vec![2; 100]));
        assert_eq!(&forged[HEAD_LEN..], [2; 100]);
        let after = shared.frame(&HEAD, &first.slice(HEAD_LEN..));
        assert_eq!(first.as_ptr(), after.as_ptr());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let mut shared = Shared::new(250);
        for piece in 0..5 {
            let mut head = HEAD;
            head[4] = piece;
            shared.frame(&head, &Bytes::from(vec![0; 91]));
        }
        assert_eq!(shared.frames.len(), 2);
    }
}
