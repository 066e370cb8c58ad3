//! Cases for `specs/feed.md`.

use btlive::live::Stream;
use btlive::live::feed::{EntryFault, Feed, Offer, contradict, signature_holds};
use btlive::units::{BLOCK_LEN, BlockNo, Epoch, InfoHash, PieceIndex, UnixUs, hex, hex_into};
use btlive::wire::feed::{Claim, Entry, Flags, Head};
use btlive::wire::live::{Kind, Live, Proof};
use btlive::wire::tlv::Tlvs;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Read, check, long, root, vector};

const SEED: [u8; 32] = [42; 32];
const PIECE_LEN: u32 = 65_536;
const OLD: u64 = (1_700_000_000 << 20) | 0x1_2345;
const NEW: u64 = (1_700_000_100 << 20) | 7;

fn info_hash() -> InfoHash {
    InfoHash(std::array::from_fn(|n| n as u8 * 13))
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&SEED)
}

fn stream(public_key: [u8; 32]) -> Stream {
    let (window_us, bitrate) = (60_000_000, None);
    Stream { info_hash: info_hash(), public_key, piece_len: PIECE_LEN, window_us, bitrate }
}

fn public_key() -> [u8; 32] {
    key().verifying_key().to_bytes()
}

/// Byte `i` of the payload of piece `index`.
fn payload(index: u32, i: u32) -> u8 {
    ((31 * u64::from(index) + u64::from(i)) % 251) as u8
}

fn hashes(head: &Head) -> Vec<[u8; 32]> {
    let block = |b: u16| {
        let from = u32::from(b) * BLOCK_LEN;
        let bytes: Vec<u8> =
            (from..from + head.block_len(b)).map(|i| payload(head.index.0, i)).collect();
        Sha256::digest(bytes).into()
    };
    (0..head.blocks()).map(block).collect()
}

fn sign(mut entry: Entry) -> Entry {
    entry.signature = key().sign(&entry.signed_bytes(info_hash())).to_bytes();
    entry
}

/// The next entry of a chain, born 200 ms after the last one.
fn next(last: Option<&Entry>, epoch: u64, index: u32, len: u32, flags: u16, ext: Tlvs) -> Entry {
    let start = UnixUs((epoch >> 20) * 1_000_000);
    let head = Head {
        epoch: Epoch(epoch),
        index: PieceIndex(index),
        first_block: last.map_or(BlockNo(0), |e| e.head.end_block()),
        len,
        flags: Flags(flags),
        key_id: 0,
        birth: last.map_or(start, |e| UnixUs(e.head.birth.0 + 200_000)),
        span_us: 200_000,
        previous: last.map_or([0; 32], |e| e.digest(info_hash())),
    };
    sign(Entry { hashes: hashes(&head), head, ext, signature: [0; 64] })
}

/// Two packets that stand for tables.
fn tables() -> Vec<u8> {
    let packet = |pid: u8| {
        let mut packet = vec![0xff; 188];
        packet[..5].copy_from_slice(&[0x47, 0x40, pid, 0x10, 0]);
        packet
    };
    [packet(0), packet(16)].concat()
}

fn field(kind: u16, value: &[u8]) -> Tlvs {
    Tlvs::default().with(kind, value).expect("short")
}

/// A whole epoch: tables, full and short blocks, idle, an unknown field, the end.
fn old_epoch() -> Vec<(&'static str, Entry)> {
    let rows: [(&str, u32, u16, Tlvs); 6] = [
        ("a start with tables, two blocks", 20_000, 1, field(1, &tables())),
        ("one whole block", 16_384, 0, Tlvs::default()),
        ("a hundred bytes", 100, 0, Tlvs::default()),
        ("idle", 0, 4, Tlvs::default()),
        ("a discontinuity with an unknown field", 40_000, 3, field(0x0123, b"later")),
        ("the end", 0, 8, Tlvs::default()),
    ];
    chain(OLD, 0, rows)
}

/// The epoch behind it, 1,024 above its last index, withdrawn.
fn new_epoch() -> Vec<(&'static str, Entry)> {
    let rows = [
        ("a new epoch", 300, 3, Tlvs::default()),
        ("the longest piece of this torrent", PIECE_LEN, 0, Tlvs::default()),
        ("an unknown flag", 1, 0x8000, Tlvs::default()),
        ("withdrawn", 0, 16, Tlvs::default()),
    ];
    chain(NEW, 5 + 1024, rows)
}

fn chain<const N: usize>(
    epoch: u64,
    first: u32,
    rows: [(&'static str, u32, u16, Tlvs); N],
) -> Vec<(&'static str, Entry)> {
    let mut out: Vec<(&str, Entry)> = Vec::new();
    for (n, (name, len, flags, ext)) in rows.into_iter().enumerate() {
        let last = out.last().map(|(_, entry)| entry);
        let entry = next(last, epoch, first + n as u32, len, flags, ext);
        out.push((name, entry));
    }
    out
}

pub(super) fn two_entries() -> [Bytes; 2] {
    let chain = old_epoch();
    [chain[1].1.encode(), chain[2].1.encode()]
}

pub(super) fn proof() -> Proof {
    let chain = old_epoch();
    let (first, other) = (&chain[1].1, next(Some(&chain[0].1), OLD, 1, 99, 0, Tlvs::default()));
    Proof { first: first.claim(), second: other.claim() }
}

/// A signed entry that is changed before or after it is signed.
fn changed(change: impl FnOnce(&mut Entry), signed: bool) -> Vec<u8> {
    let mut entry = next(None, OLD, 9, 100, 1, Tlvs::default());
    change(&mut entry);
    let entry = if signed { sign(entry) } else { entry };
    entry.encode().to_vec()
}

fn with_len(entry: &mut Entry, len: u32) {
    entry.head.len = len;
    entry.hashes = hashes(&entry.head);
}

/// A signed entry with some of its bytes replaced.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = changed(|_| {}, false);
    out[at..at + bytes.len()].copy_from_slice(bytes);
    out
}

fn odd_entries() -> Vec<(&'static str, Vec<u8>)> {
    let whole = changed(|_| {}, false);
    let highest = |e: &mut Entry| {
        e.head.index.0 = u32::MAX - 1;
        e.hashes = hashes(&e.head);
    };
    let long_ext = |len: usize| move |e: &mut Entry| e.ext = field(7, &vec![0; len - 4]);
    vec![
        ("forged: a bit of the birth", changed(|e| e.head.birth.0 ^= 1, false)),
        ("forged: a bit of a hash", changed(|e| e.hashes[0][0] ^= 1, false)),
        ("forged: a field put in", changed(|e| e.ext = field(7, b"x"), false)),
        ("forged: signed for another torrent", {
            let sign = |e: &mut Entry| {
                e.signature = key().sign(&e.signed_bytes(InfoHash([1; 20]))).to_bytes();
            };
            changed(sign, false)
        }),
        ("forged: a critical field put in", changed(|e| e.ext = field(0x8001, b""), false)),
        ("a key id of a later version", changed(|e| e.head.key_id = 1, true)),
        ("a critical field of a later version", changed(|e| e.ext = field(0x8001, b""), true)),
        ("longest extension area", changed(long_ext(512), true)),
        ("extension area too long", changed(long_ext(513), true)),
        ("highest index", changed(highest, true)),
        ("index beyond the highest", changed(|e| e.head.index.0 = u32::MAX, true)),
        ("epoch 0", changed(|e| e.head.epoch.0 = 0, true)),
        ("epoch 2^53", changed(|e| e.head.epoch.0 = 1 << 53, true)),
        ("first block 2^53", changed(|e| e.head.first_block.0 = 1 << 53, true)),
        ("birth 2^53", changed(|e| e.head.birth.0 = 1 << 53, true)),
        ("longer than the torrent's pieces", changed(|e| with_len(e, PIECE_LEN + 1), true)),
        ("longer than any piece", changed(|e| with_len(e, (1 << 20) + 1), true)),
        ("empty without a flag that says so", changed(|e| with_len(e, 0), true)),
        ("payload in an idle piece", changed(|e| e.head.flags = Flags::IDLE, true)),
        ("a hash too few", patched(20, &20_000u32.to_be_bytes())),
        ("an extension area that runs into the signature", patched(104, &[0, 4])),
        ("a field cut short", {
            // Four bytes of extension area whose field claims a value that is not there.
            let mut bytes = whole.clone();
            bytes.splice(104..106, [0, 4, 0, 7, 0, 1]);
            bytes
        }),
        ("cut by a byte", whole[..whole.len() - 1].to_vec()),
        ("a byte too long", [&whole[..], &[0]].concat()),
        ("a head and nothing else", whole[..72].to_vec()),
        ("nothing", Vec::new()),
    ]
}

#[test]
fn entries() {
    let (old, new) = (old_epoch(), new_epoch());
    let names =
        |chain: &[(&str, Entry)]| chain.iter().map(|(name, _)| json!(name)).collect::<Vec<_>>();
    let genuine = old.iter().chain(&new).map(|(name, e)| (*name, e.encode().to_vec()));
    let vectors: Vec<Value> =
        genuine.chain(odd_entries()).map(|(n, b)| entry_vector(n, &b)).collect();
    let file = json!({
        "seed": hex(&SEED),
        "public_key": hex(&public_key()),
        "info_hash": hex(&info_hash().0),
        "piece_length": PIECE_LEN,
        "chains": [names(&old), names(&new)],
        "vectors": vectors,
    });
    check("feed/entries.json", &file);
}

fn entry_vector(name: &str, bytes: &[u8]) -> Value {
    let read = Entry::parse(bytes);
    let mut row = vector(name, bytes, Read::of(read.map(|entry| Some(entry_fields(&entry)))));
    let mut feed = Feed::new(stream(public_key())).expect("a key");
    row["verdict"] = json!(match feed.offer(&Bytes::copy_from_slice(bytes)) {
        Ok(Offer::New(_)) => "genuine",
        Ok(other) => panic!("{name}: {other:?}"),
        Err(EntryFault::Form(_)) => "form",
        Err(EntryFault::Forged(_)) => "forged",
        Err(EntryFault::UnknownKey(_) | EntryFault::NeedsNewer(_)) => "needs newer",
        Err(EntryFault::PieceTooLong { .. }) => "too long",
    });
    row
}

fn entry_fields(entry: &Entry) -> Value {
    let head = &entry.head;
    json!({
        "epoch": long(head.epoch.0), "index": head.index.0, "first_block": long(head.first_block.0),
        "length": head.len, "flags": head.flags.0, "key_id": head.key_id,
        "birth": long(head.birth.0), "span": head.span_us, "previous": hex(&head.previous),
        "hashes": entry.hashes.iter().map(|h| hex(h)).collect::<Vec<_>>(),
        "extensions": entry.ext.iter().map(|(k, v)| json!([k, hex(&v)])).collect::<Vec<_>>(),
        "signature": hex(&entry.signature),
        "signed": hex(&entry.signed_bytes(info_hash())),
        "digest": hex(&entry.digest(info_hash())),
        "claim": hex(&entry.claim().encode()),
    })
}

#[test]
fn proofs() {
    let first = next(None, OLD, 9, 100, 1, Tlvs::default());
    let second = next(Some(&first), OLD, 10, 100, 0, Tlvs::default());
    let third = next(Some(&second), OLD, 11, 100, 0, Tlvs::default());
    let other = |change: &dyn Fn(&mut Entry)| {
        let mut entry = second.clone();
        change(&mut entry);
        sign(entry).claim()
    };
    let (a, b) = (first.claim(), second.claim());
    let mut forged = other(&|e| e.head.len = 99);
    forged.signature[3] ^= 1;
    let key_id = |mut entry: Entry| {
        entry.head.key_id = 1;
        sign(entry).claim()
    };
    let cases = [
        ("one place, another hash", b, other(&|e| e.hashes[0][0] ^= 1)),
        ("one place, the higher length first", other(&|e| e.head.len = 101), b),
        ("neighbours, another previous", a, other(&|e| e.head.previous[31] ^= 1)),
        ("neighbours, the later one first", other(&|e| e.head.previous[31] ^= 1), a),
        ("neighbours, a block left out", a, other(&|e| e.head.first_block.0 += 1)),
        ("neighbours, born earlier", a, other(&|e| e.head.birth.0 = a.head.birth.0 - 1)),
        ("neighbours, born at the same time", a, other(&|e| e.head.birth = a.head.birth)),
        ("neighbours that follow", a, b),
        ("the same twice", a, a),
        ("the same with another signature", a, another_nonce()),
        ("two places apart", a, third.claim()),
        ("other epochs", a, other(&|e| e.head.epoch.0 += 1)),
        ("one of them forged", b, forged),
        ("of a key id that cannot be judged", key_id(first.clone()), key_id(second.clone())),
    ];
    let vectors: Vec<Value> = cases
        .into_iter()
        .map(|(name, first, second)| {
            let proof = Proof { first, second };
            let mut feed = Feed::new(stream(public_key())).expect("a key");
            let proves = feed.offer_proof(&proof) == Some(true);
            assert!(!proves || contradict(&first, &second, info_hash()), "{name}");
            let bytes = Live::Proof(proof.clone()).encode();
            assert_eq!(Live::parse(Kind::Proof, &bytes), Ok(Some(Live::Proof(proof))));
            json!({ "name": name, "hex": hex(&bytes), "proves": proves })
        })
        .collect();
    let file = json!({
        "public_key": hex(&public_key()),
        "info_hash": hex(&info_hash().0),
        "vectors": vectors,
    });
    check("feed/proofs.json", &file);
}

/// The odd signatures: made by `tests/second/odd_signatures.py`, as no library makes them.
fn odd_signatures() -> Vec<Value> {
    let path = root().join("specs/vectors/feed/signatures.json");
    let text = std::fs::read_to_string(path).expect("signatures.json");
    let file: Value = serde_json::from_str(&text).expect("signatures.json is JSON");
    assert_eq!(file["info_hash"], json!(hex(&info_hash().0)));
    file["vectors"].as_array().expect("vectors").clone()
}

fn bytes_of<const N: usize>(vector: &Value, key: &str) -> [u8; N] {
    let mut out = [0; N];
    assert!(vector[key].as_str().is_some_and(|text| hex_into(text, &mut out)), "{vector}");
    out
}

/// A claim for the subject with a signature that holds and differs from the usual one.
fn another_nonce() -> Claim {
    let vectors = odd_signatures();
    let vector = vectors.iter().find(|v| v["name"] == "another nonce").expect("another nonce");
    Claim::parse(&bytes_of::<{ Claim::LEN }>(vector, "hex")).expect("a claim")
}

#[test]
fn signatures_hold_by_the_strict_rule_only() {
    let usual = next(None, OLD, 9, 100, 1, Tlvs::default()).claim();
    for vector in odd_signatures() {
        let public_key = bytes_of::<32>(&vector, "public_key");
        let claim = Claim::parse(&bytes_of::<{ Claim::LEN }>(&vector, "hex")).expect("a claim");
        assert_eq!((claim.head, claim.tail), (usual.head, usual.tail));
        if vector["name"] == "as signed" {
            assert_eq!(claim, usual);
        }
        let has_feed = Feed::new(stream(public_key)).is_some();
        let holds = has_feed
            && VerifyingKey::from_bytes(&public_key)
                .is_ok_and(|key| signature_holds(&key, &claim, info_hash()));
        assert_eq!(json!(has_feed), vector["has_feed"], "{vector}");
        assert_eq!(json!(holds), vector["holds"], "{vector}");
    }
}
