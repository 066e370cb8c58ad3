//! An entry has one spelling, and its claim stands for it: same signed bytes, same digest.
#![no_main]

use btlive::units::InfoHash;
use btlive::wire::feed::{Claim, Entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let hash = InfoHash([7; 20]);
    if let Ok(claim) = Claim::parse(bytes) {
        assert_eq!(claim.encode(), bytes);
    }
    let Ok(entry) = Entry::parse(bytes) else { return };
    assert_eq!(&entry.encode()[..], bytes);
    assert_eq!(entry.encoded_len(), bytes.len());
    let claim = Claim::parse(&entry.claim().encode()).expect("the claim of an entry");
    assert_eq!(claim, entry.claim());
    assert_eq!(claim.signed_bytes(hash), entry.signed_bytes(hash));
    assert_eq!(claim.digest(hash), entry.digest(hash));
    let blocks = entry.head.blocks();
    assert_eq!(entry.hashes.len(), usize::from(blocks));
    assert_eq!((0..blocks).map(|b| entry.head.block_len(b)).sum::<u32>(), entry.head.len);
    assert!(entry.head.published() >= entry.head.birth);
});
