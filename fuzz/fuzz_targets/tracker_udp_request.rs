//! What a UDP client's datagram reads as, it reads as again after we wrote it.
#![no_main]

use btlive::wire::limits;
use btlive::wire::tracker::udp::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = Request::parse(bytes) else { return };
    match &request {
        Request::Connect { .. } => {}
        Request::Announce { url_data, .. } => {
            assert!(url_data.len() <= limits::TRACKER_URL_LEN_MAX);
        }
        Request::Scrape { hashes, .. } => assert!(hashes.len() <= limits::SCRAPE_HASHES_MAX),
    }
    assert_eq!(Request::parse(&request.encode()).as_ref(), Ok(&request));
});
