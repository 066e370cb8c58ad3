//! What the strict check lets through has one spelling: serde_bencode and our own writer give the
//! same bytes again. What it lets through, the lenient check does too.
#![no_main]

use btlive::wire::bencode::{Encoder, Limits, Mode, Value, check, check_prefix, from_checked};
use libfuzzer_sys::fuzz_target;
use serde_bencode::value::Value as Typed;

fuzz_target!(|bytes: &[u8]| {
    let limits = &Limits::MESSAGE;
    let strict = check(bytes, Mode::Strict, limits);
    let lenient = check(bytes, Mode::Lenient, limits);
    assert!(strict.is_err() || lenient.is_ok());
    if lenient.is_ok() {
        assert_eq!(check_prefix(bytes, Mode::Lenient, limits), Ok(bytes.len()));
        let _ = Value::parse(bytes, Mode::Lenient, limits);
        let _ = from_checked::<Typed>(bytes, Mode::Lenient, limits);
    }
    if strict.is_ok() {
        let typed: Typed = from_checked(bytes, Mode::Strict, limits).expect("checked");
        assert_eq!(serde_bencode::to_bytes(&typed).expect("a value"), bytes);
        let tree = Value::parse(bytes, Mode::Strict, limits).expect("checked");
        let mut encoder = Encoder::default();
        encoder.value(&tree);
        assert_eq!(encoder.finish(), bytes);
    }
});
