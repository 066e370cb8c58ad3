//! The info-hash is that of the bytes that came, and a live torrent is written as it was read.
#![no_main]

use btlive::wire::bencode::raw_span;
use btlive::wire::metainfo::{Info, LiveTorrent, Metainfo};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sha1::{Digest, Sha1};

fuzz_target!(|bytes: &[u8]| {
    let file = Bytes::copy_from_slice(bytes);
    let _ = Info::parse(file.clone());
    let Ok(meta) = Metainfo::parse(file.clone()) else { return };
    let raw = raw_span(&file, b"info").expect("it was found");
    assert_eq!(&meta.info.raw[..], raw);
    if meta.info.kind.name() != "v2" {
        assert_eq!(meta.info.info_hash.0[..], Sha1::digest(raw)[..]);
    }
    if let Some(content) = meta.info.content() {
        for file in &content.files {
            let escapes = |part: &str| matches!(part, "" | "." | "..");
            assert!(!file.path.split('/').any(escapes) && !file.path.contains(['\\', '\0']));
        }
    }
    if let Some(torrent) = LiveTorrent::from_metainfo(&meta) {
        if meta.info.live().is_some_and(|live| !live.extended) {
            assert_eq!(torrent.encode_info(), raw);
        }
        let again = Metainfo::parse(torrent.encode().into()).expect("written by us");
        assert_eq!(again.info.live().map(|l| l.public_key), Some(torrent.public_key));
    }
});
