//! What one message, one block and one entry cost: the limits of everything that is built on them.
//!
//! Names end with what one iteration stands for; rates are in bytes of payload.

use std::hint::black_box;

use btlive::live::feed::signature_holds;
use btlive::units::{BLOCK_LEN, BlockNo, Epoch, InfoHash, PeerId, PieceIndex, UnixUs};
use btlive::wire::bencode::{Limits, Mode, Value, check};
use btlive::wire::extended::ExtendedHandshake;
use btlive::wire::feed::{Entry, Flags, Head};
use btlive::wire::live::{Entries, Kind, Live};
use btlive::wire::message::{Handshake, Message, Request, Reserved, Splitter};
use btlive::wire::tlv::Tlvs;
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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
    let hashes = vec![[9; 32]; usize::from(head.blocks())];
    let mut entry = Entry { head, hashes, ext: Tlvs::default(), signature: [0; 64] };
    entry.signature = key.sign(&entry.signed_bytes(info_hash())).to_bytes();
    entry
}

fn feed(c: &mut Criterion) {
    let key = SigningKey::from_bytes(&[42; 32]);
    let public = key.verifying_key();
    let entry = entry(&key);
    let raw = entry.encode();
    let block = vec![0xa5; BLOCK_LEN as usize];
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
    group.throughput(Throughput::Bytes(u64::from(BLOCK_LEN)));
    group.bench_function("sha256_of_block_of_16_kib", |b| {
        b.iter(|| Sha256::digest(black_box(&block)));
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

criterion_group!(benches, wire, feed, bencode);
criterion_main!(benches);
