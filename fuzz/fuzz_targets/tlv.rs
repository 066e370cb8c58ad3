//! An area of fields is what its fields are: written one by one they give the same bytes.
#![no_main]

use btlive::wire::tlv::{CRITICAL, Tlvs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(area) = Tlvs::parse(bytes) else { return };
    assert_eq!(area.as_bytes(), bytes);
    let mut again = Tlvs::default();
    for (kind, value) in area.iter() {
        again = again.with(kind, &value).expect("it was in an area");
        assert!(area.get(kind).is_some());
    }
    assert_eq!(again, area);
    let critical = area.iter().map(|(kind, _)| kind).find(|kind| kind & CRITICAL != 0);
    assert_eq!(area.unknown_critical(&[]), critical);
});
