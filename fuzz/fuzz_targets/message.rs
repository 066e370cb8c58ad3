//! A message or handshake that is read gives the same bytes when it is written again.
#![no_main]

use btlive::wire::message::{Handshake, Message};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(handshake) = Handshake::parse(bytes) {
        assert_eq!(&handshake.encode()[..], bytes);
    }
    let Ok(message) = Message::parse(&Bytes::copy_from_slice(bytes)) else { return };
    if matches!(message, Message::Unknown { .. }) {
        return;
    }
    let written = [message.head(), message.body()].concat();
    let (len, frame) = written.split_at(4);
    assert_eq!(len, (bytes.len() as u32).to_be_bytes());
    assert_eq!(frame, bytes);
});
