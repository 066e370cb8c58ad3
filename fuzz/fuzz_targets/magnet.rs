//! A link that was read is written so that it reads back as the same link.
#![no_main]

use btlive::wire::magnet::Magnet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(magnet) = Magnet::parse(text) else { return };
    assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
});
