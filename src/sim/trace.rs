//! The trace hash: a fingerprint of everything that happened, in order.

use sha2::{Digest, Sha256};

use crate::units::{Time, hex};

/// Bytes gathered before they are hashed.
const BUFFER_LEN: usize = 4096;

/// SHA-256 over (time, node, what, where, how much) of every input of every machine.
#[derive(Debug)]
pub(super) struct Trace {
    hash: Sha256,
    buffer: Vec<u8>,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { hash: Sha256::new(), buffer: Vec::with_capacity(BUFFER_LEN + 64) }
    }

    pub(super) fn note(&mut self, at: Time, node: u32, what: u8, place: u64, amount: u64) {
        self.buffer.extend_from_slice(&at.0.to_le_bytes());
        self.buffer.extend_from_slice(&node.to_le_bytes());
        self.buffer.push(what);
        self.buffer.extend_from_slice(&place.to_le_bytes());
        self.buffer.extend_from_slice(&amount.to_le_bytes());
        if self.buffer.len() >= BUFFER_LEN {
            self.hash.update(&self.buffer);
            self.buffer.clear();
        }
    }

    /// The hash of all so far, in hexadecimal digits.
    pub(super) fn finish(mut self) -> String {
        self.hash.update(&self.buffer);
        hex(&self.hash.finalize())
    }
}
