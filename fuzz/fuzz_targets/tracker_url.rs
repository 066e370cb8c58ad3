//! A tracker URL that is taken reads the same again, and its announce URL keeps host and port.
#![no_main]

use btlive::wire::tracker::url::{TrackerUrl, percent_decode, percent_encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut text = String::new();
    percent_encode(bytes, &mut text);
    assert_eq!(percent_decode(text.as_bytes()).as_deref(), Some(bytes));
    let Some(url) = std::str::from_utf8(bytes).ok().and_then(|t| TrackerUrl::parse(t).ok()) else {
        return;
    };
    assert!(!url.host().is_empty() && url.port() != 0);
    // The library may lengthen a URL beyond the limit by encoding it, never change what it names.
    if let Ok(again) = TrackerUrl::parse(url.as_str()) {
        assert_eq!(again, url);
    }
    if let Ok(scrape) = url.scrape_url(&[]) {
        assert!(scrape.contains("/scrape"));
    }
});
