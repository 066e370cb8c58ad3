//! Whatever lies in a file of state, what is written into it next is what is found there next; what
//! a torn or foreign file holds is never taken for an entry of the length it claims.
#![no_main]

use std::sync::LazyLock;

use btlive::net::state::State;
use btlive::swarm::io::Record;
use btlive::units::InfoHash;
use btlive::wire::limits::ENTRY_LEN_MAX;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static DIR: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

fuzz_target!(|bytes: &[u8]| {
    let (hash, dir) = (InfoHash([7; 20]), DIR.path());
    let path = dir.join(hash.to_string());
    std::fs::create_dir_all(&path).expect("a directory");
    std::fs::write(path.join("head"), bytes).expect("a file");
    let open = || State::open(dir, hash, false).expect("a viewer's state");
    let mut state = open();
    let found = state.found_head.clone();
    assert!(found.as_ref().is_none_or(|f| f.len() <= ENTRY_LEN_MAX && f.len() <= bytes.len()));
    let next = Bytes::copy_from_slice(&bytes[..bytes.len().min(ENTRY_LEN_MAX)]);
    state.write(&Record::Head(next.clone())).expect("a disk");
    drop(state);
    assert_eq!(open().found_head, Some(next));
});
