//! What a UDP tracker's datagram reads as, it reads as again after we wrote it, in both families.
#![no_main]

use btlive::wire::limits;
use btlive::wire::tracker::Family;
use btlive::wire::tracker::udp::Response;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for family in [Family::V4, Family::V6] {
        let Ok(response) = Response::parse(bytes, family) else { continue };
        if let Response::Announce { reply, .. } = &response {
            assert!(reply.peers.len() <= limits::PEERS_PER_REPLY_MAX);
            assert!(reply.peers.iter().all(|peer| Family::of(&peer.addr) == family));
        }
        assert_eq!(Response::parse(&response.encode(), family).as_ref(), Ok(&response));
    }
});
