//! What is read of a sloppy peer's extension messages is written so that it reads back the same.
//! The first byte chooses the message.
#![no_main]

use btlive::wire::extended::{ExtendedHandshake, MetadataMessage, Pex, parse_dont_have};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, payload)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => {
            let Ok(mut handshake) = ExtendedHandshake::parse(payload) else { return };
            // The name was made fit to be shown, which is not undone.
            handshake.v = None;
            assert_eq!(ExtendedHandshake::parse(&handshake.encode()), Ok(handshake));
        }
        1 => {
            let payload = Bytes::copy_from_slice(payload);
            let Ok(Some(message)) = MetadataMessage::parse(&payload) else { return };
            assert_eq!(MetadataMessage::parse(&message.encode()), Ok(Some(message)));
        }
        2 => {
            let Ok(pex) = Pex::parse(payload) else { return };
            assert_eq!(Pex::parse(&pex.encode()), Ok(pex));
        }
        _ => assert_eq!(parse_dont_have(payload).is_ok(), payload.len() == 4),
    }
});
