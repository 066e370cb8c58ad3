//! A live message that is read is written as the bytes it began with, and reads back the same.
//! The first byte chooses the message; only fields behind it may be left out.
#![no_main]

use btlive::wire::live::{Kind, Live};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, payload)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(*kind) % Kind::ALL.len()];
    let payload = Bytes::copy_from_slice(payload);
    let Ok(Some(live)) = Live::parse(kind, &payload) else { return };
    assert_eq!(live.kind(), kind);
    let written = live.encode();
    assert!(payload.starts_with(&written));
    assert_eq!(Live::parse(kind, &written), Ok(Some(live)));
});
