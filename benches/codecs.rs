//! What one message, one block and one entry cost: the limits of everything that is built on them.
//!
//! Names end with what one iteration stands for; rates are in bytes of payload. What a codec cannot
//! be faster than is measured beside it, in the group `floor`: the bare signature, hash or copy.
//! Writes the medians to docs/performance.md.
#![allow(clippy::disallowed_methods, reason = "a measurement writes its page")]

#[path = "../tests/support/page.rs"]
mod page;

use std::hint::black_box;

use btlive::live::Stream;
use btlive::live::feed::{Feed, Offer, signature_holds};
use btlive::live::store::{Put, Store};
use btlive::units::{BLOCK_LEN, BlockNo, Epoch, InfoHash, PeerId, PieceIndex, UnixUs};
use btlive::wire::bencode::{Limits, Mode, Value, check};
use btlive::wire::extended::ExtendedHandshake;
use btlive::wire::feed::{Entry, Flags, Head};
use btlive::wire::live::{Entries, Kind, Live};
use btlive::wire::message::{Handshake, Message, Request, Reserved, Splitter};
use btlive::wire::tlv::Tlvs;
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

/// Messages of each kind in the mixed stream.
const ROUNDS: u64 = 100;

fn info_hash() -> InfoHash {
    InfoHash([7; 20])
}

/// A splitter behind its handshake.
fn splitter() -> Splitter {
    let (info_hash, peer_id) = (info_hash(), PeerId([2; 20]));
    let mut splitter = Splitter::new();
    splitter.push(&Handshake { reserved: Reserved::live(), info_hash, peer_id }.encode());
    splitter.next_frame().expect("handshake").expect("whole");
    splitter
}

/// Reads every message of `stream`; how many there were.
fn read_all(splitter: &mut Splitter, stream: &[u8]) -> u64 {
    splitter.push(stream);
    let mut count = 0;
    while let Some(frame) = splitter.next_frame().expect("valid stream") {
        black_box(Message::parse(&frame).expect("valid message"));
        count += 1;
    }
    count
}

fn wire(c: &mut Criterion) {
    let range = Request { index: PieceIndex(1029), begin: 16_384, len: BLOCK_LEN };
    let kinds = [
        Message::Have(PieceIndex(1029)),
        Message::Request(range),
        Message::Cancel(range),
        Message::Reject(range),
        Message::KeepAlive,
        Message::Unchoke,
        Message::Extended { id: 10, payload: Bytes::from_static(&[0; 9]) },
    ];
    let mut mixed = BytesMut::new();
    for message in kinds.iter().cycle().take(kinds.len() * ROUNDS as usize) {
        message.put_head(&mut mixed);
    }
    let count = kinds.len() as u64 * ROUNDS;
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Elements(count));
    group.bench_function("split_and_parse_700_mixed_messages", |b| {
        let mut splitter = splitter();
        b.iter(|| assert_eq!(read_all(&mut splitter, black_box(&mixed)), count));
    });

    let block = Bytes::from(vec![0xa5; BLOCK_LEN as usize]);
    let piece = Message::Piece { index: PieceIndex(1029), begin: 0, block };
    let piece = [piece.head(), piece.body()].concat();
    group.throughput(Throughput::Bytes(u64::from(BLOCK_LEN)));
    group.bench_function("split_and_parse_piece_of_16_kib", |b| {
        let mut splitter = splitter();
        b.iter(|| assert_eq!(read_all(&mut splitter, black_box(&piece)), 1));
    });
    group.finish();
}

/// An entry for a quarter of a second at 4 Mbit/s: 125,000 bytes in eight blocks.
fn entry(key: &SigningKey) -> Entry {
    let head = Head {
        epoch: Epoch(1_700_000_000 << 20),
        index: PieceIndex(1029),
        first_block: BlockNo(4711),
        len: 125_000,
        flags: Flags::RANDOM_ACCESS,
        key_id: 0,
        birth: UnixUs(1_700_000_000_000_000),
        span_us: 250_000,
        previous: [3; 32],
    };
    let len = |block| head.block_len(block) as usize;
    let hashes = (0..head.blocks()).map(|b| Sha256::digest(vec![0xa5; len(b)]).into()).collect();
    let mut entry = Entry { head, hashes, ext: Tlvs::default(), signature: [0; 64] };
    entry.signature = key.sign(&entry.signed_bytes(info_hash())).to_bytes();
    entry
}

fn stream(key: &SigningKey) -> Stream {
    Stream {
        info_hash: info_hash(),
        public_key: key.verifying_key().to_bytes(),
        piece_len: 131_072,
        window_us: 60_000_000,
        bitrate: None,
    }
}

fn feed(c: &mut Criterion) {
    let key = SigningKey::from_bytes(&[42; 32]);
    let public = key.verifying_key();
    let entry = entry(&key);
    let raw = entry.encode();
    let block = Bytes::from(vec![0xa5; BLOCK_LEN as usize]);
    let mut group = c.benchmark_group("feed");
    group.bench_function("parse_entry_of_8_blocks", |b| {
        b.iter(|| Entry::parse(black_box(&raw)).expect("valid"));
    });
    group.bench_function("parse_and_verify_entry_of_8_blocks", |b| {
        b.iter(|| {
            let entry = Entry::parse(black_box(&raw)).expect("valid");
            assert!(signature_holds(&public, &entry.claim(), info_hash()));
        });
    });
    group.bench_function("sign_entry_of_8_blocks", |b| {
        b.iter(|| key.sign(&black_box(&entry).signed_bytes(info_hash())));
    });
    let push = Live::Entries(Entries::Push { entries: vec![raw; 8] }).encode();
    group.bench_function("parse_push_of_8_entries", |b| {
        b.iter(|| Live::parse(Kind::Entries, black_box(&push)).expect("valid"));
    });
    let mut feed = Feed::new(stream(&key)).expect("a key");
    let Ok(Offer::New(genuine)) = feed.offer(&entry.encode()) else { panic!("known") };
    group.throughput(Throughput::Bytes(u64::from(BLOCK_LEN)));
    group.bench_function("verify_and_keep_block_of_16_kib", |b| {
        let fresh = || {
            let mut store = Store::new(60_000_000, 1 << 20);
            store.expect(&genuine);
            store
        };
        let put = |mut store: Store| {
            assert_eq!(store.put(genuine.entry.head.seq(), 0, black_box(&block)), Put::Verified);
            store
        };
        b.iter_batched(fresh, put, BatchSize::SmallInput);
    });
    group.finish();
}

/// What the layers below cost by themselves.
fn floor(c: &mut Criterion) {
    let key = SigningKey::from_bytes(&[42; 32]);
    let public = key.verifying_key();
    let signature = key.sign(&[7; 80]);
    let block = vec![0xa5; BLOCK_LEN as usize];
    let mut room = vec![0; BLOCK_LEN as usize];
    let mut group = c.benchmark_group("floor");
    group.bench_function("verify_strict_80_bytes", |b| {
        b.iter(|| public.verify_strict(black_box(&[7; 80]), &signature).expect("genuine"));
    });
    group.bench_function("sign_80_bytes", |b| b.iter(|| key.sign(black_box(&[7; 80]))));
    group.bench_function("sha256_16_kib", |b| b.iter(|| Sha256::digest(black_box(&block))));
    group.bench_function("copy_16_kib", |b| {
        b.iter(|| black_box(&mut room).copy_from_slice(black_box(&block)));
    });
    group.finish();
}

fn bencode(c: &mut Criterion) {
    let peer = std::net::Ipv4Addr::new(192, 0, 2, 7).into();
    let bytes = ExtendedHandshake::ours(Some(6881), Some(300), true, peer).encode();
    let mut group = c.benchmark_group("bencode");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("check_extension_handshake", |b| {
        b.iter(|| check(black_box(&bytes), Mode::Strict, &Limits::MESSAGE).expect("canonical"));
    });
    group.bench_function("parse_extension_handshake_to_tree", |b| {
        b.iter(|| {
            let tree = Value::parse(black_box(&bytes), Mode::Lenient, &Limits::MESSAGE);
            black_box(tree.expect("valid"));
        });
    });
    group.finish();
}

criterion_group!(benches, wire, feed, bencode, floor);

/// What is measured, how many make one run, and the floor beside it.
const ROWS: [(&str, &str, f64, Option<&str>); 9] = [
    ("a small message", "wire/split_and_parse_700_mixed_messages", 700.0, None),
    ("a block of 16 KiB", "wire/split_and_parse_piece_of_16_kib", 1.0, Some("copy_16_kib")),
    ("an entry read", "feed/parse_entry_of_8_blocks", 1.0, None),
    (
        "an entry read and verified",
        "feed/parse_and_verify_entry_of_8_blocks",
        1.0,
        Some("verify_strict_80_bytes"),
    ),
    ("an entry signed", "feed/sign_entry_of_8_blocks", 1.0, Some("sign_80_bytes")),
    ("a push of 8 entries read", "feed/parse_push_of_8_entries", 1.0, None),
    (
        "a block verified and kept",
        "feed/verify_and_keep_block_of_16_kib",
        1.0,
        Some("sha256_16_kib"),
    ),
    ("an extension handshake checked", "bencode/check_extension_handshake", 1.0, None),
    ("the same read", "bencode/parse_extension_handshake_to_tree", 1.0, None),
];

/// The median of a benchmark in nanoseconds, as Criterion left it; `None` if it did not run.
fn median_ns(name: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| page::root().join("target"), std::path::PathBuf::from);
    let path = target.join("criterion").join(name).join("new/estimates.json");
    let text = std::fs::read_to_string(path).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
    estimates.pointer("/median/point_estimate")?.as_f64()
}

fn table() -> Option<String> {
    let mut text = String::from(
        "`cargo bench --bench codecs`, medians.\n\n\
         | what | time | floor beside it | ratio |\n| --- | --- | --- | --- |\n",
    );
    for (what, name, count, floor) in ROWS {
        let ns = median_ns(name)? / count;
        text += &format!("| {what} | {} | ", shown(ns));
        text += &match floor {
            Some(floor) => {
                let least = median_ns(&format!("floor/{floor}"))?;
                format!("{floor}: {} | {:.2} |\n", shown(least), ns / least)
            }
            None => "| |\n".to_owned(),
        };
    }
    Some(text)
}

fn shown(ns: f64) -> String {
    if ns < 1000.0 { format!("{ns:.0} ns") } else { format!("{:.1} µs", ns / 1000.0) }
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // Not when only some of them ran.
    if let Some(table) = table() {
        page::write("codecs", &table);
    }
}
