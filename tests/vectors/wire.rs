//! Cases for `specs/wire.md`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use btlive::units::{BlockNo, Epoch, InfoHash, PeerId, PieceIndex, hex};
use btlive::wire::extended::{ExtendedHandshake, MetadataMessage, Pex, parse_dont_have};
use btlive::wire::live::{
    CHANGE, Clock, Cover, End, Entries, Grant, HOPS_UNKNOWN, Kind, Live, NEWEST, Offer, Proof,
    Reason, Report, Skip, Stripe, StripeOffer, Subscribe, UNKNOWN, VIEW_LAGS, View, Window,
};
use btlive::wire::message::{Handshake, Message, Request, Reserved, Splitter};
use btlive::wire::tlv::Tlvs;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Read, check, feed, long, message_vector, vector};

const EPOCH: Epoch = Epoch((1_700_000_000 << 20) | 0x1_2345);

fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn handshakes() {
    let ours = Handshake {
        reserved: Reserved::live(),
        info_hash: InfoHash([0xa5; 20]),
        peer_id: PeerId::ours(*b"abcdefghijkl"),
    };
    let other = Handshake { reserved: Reserved([1, 2, 3, 4, 5, 0xff, 7, 0x15]), ..ours };
    let bytes = ours.encode();
    let mut long_name = bytes.to_vec();
    long_name[0] = 20;
    let mut other_name = bytes.to_vec();
    other_name[19] = b'L';
    let cases: [(&str, &[u8]); 5] = [
        ("fast extension and extension protocol", &bytes),
        ("further bits", &other.encode()),
        ("another length of the name", &long_name),
        ("another name", &other_name),
        ("cut short", &bytes[..67]),
    ];
    let vectors: Vec<Value> = cases
        .iter()
        .map(|(name, bytes)| {
            let fields = |h: Handshake| {
                Some(json!({
                    "reserved": hex(&h.reserved.0),
                    "extended": h.reserved.extended(),
                    "fast": h.reserved.fast(),
                    "dht": h.reserved.dht(),
                    "info_hash": hex(&h.info_hash.0),
                    "peer_id": hex(&h.peer_id.0),
                }))
            };
            vector(name, bytes, Read::of(Handshake::parse(bytes).map(fields)))
        })
        .collect();
    check("wire/handshakes.json", &json!({ "vectors": vectors }));
}

#[test]
fn frames() {
    let have = Message::Have(PieceIndex(7)).head();
    let block = Message::Piece {
        index: PieceIndex(7),
        begin: 16_384,
        block: Bytes::from_static(b"payload"),
    };
    let several = cat(&[&have, &[0; 4], &block.head(), &block.body(), &have]);
    let cases: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("have, keep-alive, piece, have", &several),
        ("the last one cut", &several[..several.len() - 1]),
        ("half a length", &several[..2]),
        ("longest length", &[0, 2, 16, 0]),
        ("a length beyond the limit", &[0, 2, 16, 1]),
    ];
    let vectors: Vec<Value> = cases
        .iter()
        .map(|(name, bytes)| {
            let mut splitter = Splitter::new();
            let handshake = Handshake {
                reserved: Reserved::live(),
                info_hash: InfoHash([1; 20]),
                peer_id: PeerId([2; 20]),
            };
            splitter.push(&handshake.encode());
            assert!(splitter.next_frame().expect("handshake").is_some());
            splitter.push(bytes);
            vector(name, bytes, Read::of(split(&mut splitter).map(Some)))
        })
        .collect();
    check("wire/frames.json", &json!({ "vectors": vectors }));
}

fn split(splitter: &mut Splitter) -> Result<Value, btlive::wire::message::WireError> {
    let mut frames = Vec::new();
    while let Some(frame) = splitter.next_frame()? {
        frames.push(hex(&frame));
    }
    Ok(json!({ "frames": frames, "rest": splitter.pending() }))
}

#[test]
fn messages() {
    let range = Request { index: PieceIndex(1029), begin: 32_768, len: 16_384 };
    let of = |m: Message| cat(&[&m.head(), &m.body()])[4..].to_vec();
    let block = |block: Vec<u8>| {
        let (index, begin) = (PieceIndex(u32::MAX - 1), 1 << 20);
        of(Message::Piece { index, begin, block: block.into() })
    };
    let id = |id: u8| vec![id];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("keep-alive", Vec::new()),
        ("choke", of(Message::Choke)),
        ("unchoke", of(Message::Unchoke)),
        ("interested", of(Message::Interested)),
        ("not interested", of(Message::NotInterested)),
        ("have", of(Message::Have(PieceIndex(0x0102_0304)))),
        ("bitfield", of(Message::Bitfield(Bytes::from_static(&[0x80, 1])))),
        ("empty bitfield", of(Message::Bitfield(Bytes::new()))),
        ("request", of(Message::Request(range))),
        ("piece", block(b"payload".to_vec())),
        ("cancel", of(Message::Cancel(range))),
        ("port", of(Message::Port(6881))),
        ("suggest", of(Message::Suggest(PieceIndex(3)))),
        ("have all", of(Message::HaveAll)),
        ("have none", of(Message::HaveNone)),
        ("reject", of(Message::Reject(range))),
        ("allowed fast", of(Message::AllowedFast(PieceIndex(3)))),
        ("extended", of(Message::Extended { id: 4, payload: Bytes::from_static(b"xyz") })),
        ("extended without payload", vec![20, 4]),
        ("unknown type", cat(&[&[10], b"anything"])),
        ("unknown type 21", id(21)),
        ("choke with a body", vec![0, 0]),
        ("have cut short", vec![4, 0, 0, 0]),
        ("have too long", vec![4, 0, 0, 0, 0, 0]),
        ("request cut short", cat(&[&[6], &[0; 11]])),
        ("piece without payload", cat(&[&[7], &[0; 8]])),
        ("piece without offset", cat(&[&[7], &[0; 6]])),
        ("piece beyond a block", cat(&[&[7], &[0; 8], &[0; 16_385]])),
        ("port too long", vec![9, 0, 0, 0]),
        ("have none with a body", vec![15, 0]),
        ("extended without number", id(20)),
    ];
    let vectors: Vec<Value> = cases
        .iter()
        .map(|(name, bytes)| {
            let read = Message::parse(&Bytes::from(bytes.clone()));
            vector(name, bytes, Read::of(read.map(message_fields)))
        })
        .collect();
    check("wire/messages.json", &json!({ "vectors": vectors }));
}

fn message_fields(message: Message) -> Option<Value> {
    let range = |message: &str, r: Request| {
        let (index, offset, length) = (r.index.0, r.begin, r.len);
        json!({ "message": message, "index": index, "offset": offset, "length": length })
    };
    let index = |message: &str, i: PieceIndex| json!({ "message": message, "index": i.0 });
    Some(match message {
        Message::KeepAlive => json!({ "message": "keep-alive" }),
        Message::Choke => json!({ "message": "choke" }),
        Message::Unchoke => json!({ "message": "unchoke" }),
        Message::Interested => json!({ "message": "interested" }),
        Message::NotInterested => json!({ "message": "not interested" }),
        Message::Have(i) => index("have", i),
        Message::Bitfield(bits) => json!({ "message": "bitfield", "bits": hex(&bits) }),
        Message::Request(r) => range("request", r),
        Message::Piece { index, begin, block } => {
            let payload = hex(&block);
            json!({ "message": "piece", "index": index.0, "offset": begin, "payload": payload })
        }
        Message::Cancel(r) => range("cancel", r),
        Message::Port(port) => json!({ "message": "port", "port": port }),
        Message::Suggest(i) => index("suggest", i),
        Message::HaveAll => json!({ "message": "have all" }),
        Message::HaveNone => json!({ "message": "have none" }),
        Message::Reject(r) => range("reject", r),
        Message::AllowedFast(i) => index("allowed fast", i),
        Message::Extended { id, payload } => {
            json!({ "message": "extended", "number": id, "payload": hex(&payload) })
        }
        Message::Unknown { .. } => return None,
    })
}

#[test]
fn extended_messages() {
    let v4 = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 7).into(), 6881);
    let v6 = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 51_413);
    let mut ours = ExtendedHandshake::ours(Some(6881), Some(300), true, v4.ip());
    ours.v = Some("btlive 0.1.0".to_owned());
    let mut private = ExtendedHandshake::ours(None, None, false, v6.ip());
    private.v = None;
    let pex = Pex { added: vec![v4, v6], dropped: vec![v4] };
    let data = MetadataMessage::Data {
        piece: 1,
        total_size: Some(16_389),
        data: Bytes::from_static(b"d4:e"),
    };
    let h = "handshake";
    let (m, p, d) = ("ut_metadata", "ut_pex", "lt_donthave");
    let nested = cat(&[&[b'l'; 17], &[b'e'; 17]]);
    let nested = cat(&[b"d1:a", &nested, b"e"]);
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        (h, "ours", ours.encode().to_vec()),
        (h, "ours in a private torrent, without metadata", private.encode().to_vec()),
        (h, "empty", b"de".to_vec()),
        (
            h,
            "unsorted, unknown keys, values of wrong types",
            b"d1:v3:abc1:md11:ut_metadatai3e6:ut_pexi-1e4:zeroi0e3:bigi256ee4:reqq3:xyz2:zzlee"
                .to_vec(),
        ),
        (
            h,
            "a port of zero and an absurd metadata size",
            b"d13:metadata_sizei4194305e1:pi0ee".to_vec(),
        ),
        (h, "a version that is not UTF-8", b"d1:v3:a\xff1e".to_vec()),
        (h, "a name that is not UTF-8", b"d1:md2:\xff1i3e6:ut_pexi4eee".to_vec()),
        (h, "m that is no dictionary", b"d1:mi1e1:pi6881ee".to_vec()),
        (h, "numbers below zero", b"d13:metadata_sizei-1e1:pi-1e4:reqqi-1ee".to_vec()),
        (h, "minus zero", b"d1:pi-0ee".to_vec()),
        (h, "a number beyond 64 bits", b"d1:pi9223372036854775808ee".to_vec()),
        (h, "an address of another length", b"d6:yourip3:abce".to_vec()),
        (h, "a key that occurs twice", b"d1:pi1e1:pi2ee".to_vec()),
        (h, "bytes behind it", b"deX".to_vec()),
        (h, "a list", b"le".to_vec()),
        (h, "a number with a leading zero", b"d1:pi01ee".to_vec()),
        (h, "nested too deep", nested),
        (h, "nothing", Vec::new()),
        (m, "request", MetadataMessage::Request { piece: 2 }.encode().to_vec()),
        (m, "data", data.encode().to_vec()),
        (m, "reject", MetadataMessage::Reject { piece: 0 }.encode().to_vec()),
        (m, "a later type", b"d8:msg_typei7e5:piecei0ee".to_vec()),
        (m, "data without its size", b"d8:msg_typei1e5:piecei0eeabc".to_vec()),
        (m, "data without data", b"d8:msg_typei1e5:piecei0e10:total_sizei9ee".to_vec()),
        (m, "a piece below zero", b"d8:msg_typei0e5:piecei-1ee".to_vec()),
        (m, "no piece", b"d8:msg_typei0ee".to_vec()),
        (m, "no dictionary", b"i0e".to_vec()),
        (p, "both families", pex.encode().to_vec()),
        (p, "empty", b"de".to_vec()),
        (p, "an address cut short", b"d5:added8:\xc0\x00\x02\x07\x1a\xe1\x01\x02e".to_vec()),
        (p, "no dictionary", b"le".to_vec()),
        (d, "index", vec![1, 2, 3, 4]),
        (d, "cut short", vec![1, 2, 3]),
        (d, "too long", vec![1, 2, 3, 4, 5]),
    ];
    let vectors: Vec<Value> = cases
        .iter()
        .map(|(message, name, bytes)| {
            message_vector(message, name, bytes, read_extended(message, bytes))
        })
        .collect();
    check("wire/extended.json", &json!({ "vectors": vectors }));
}

fn read_extended(message: &str, bytes: &[u8]) -> Read {
    match message {
        "handshake" => Read::of(ExtendedHandshake::parse(bytes).map(|h| {
            Some(json!({
                "m": h.m, "v": h.v, "p": h.p, "reqq": h.reqq, "metadata_size": h.metadata_size,
                "yourip": h.yourip.as_ref().map(IpAddr::to_string),
            }))
        })),
        "ut_metadata" => {
            let read = MetadataMessage::parse(&Bytes::copy_from_slice(bytes));
            Read::of(read.map(|m| m.map(metadata_fields)))
        }
        "ut_pex" => {
            let list = |addrs: &[SocketAddr]| -> Vec<String> {
                addrs.iter().map(SocketAddr::to_string).collect()
            };
            Read::of(Pex::parse(bytes).map(|pex| {
                Some(json!({ "added": list(&pex.added), "dropped": list(&pex.dropped) }))
            }))
        }
        _ => Read::of(parse_dont_have(bytes).map(|index| Some(json!({ "index": index.0 })))),
    }
}

fn metadata_fields(message: MetadataMessage) -> Value {
    match message {
        MetadataMessage::Request { piece } => json!({ "type": "request", "piece": piece }),
        MetadataMessage::Reject { piece } => json!({ "type": "reject", "piece": piece }),
        MetadataMessage::Data { piece, total_size, data } => {
            let data = hex(&data);
            json!({ "type": "data", "piece": piece, "total_size": total_size, "data": data })
        }
    }
}

/// A field that nobody knows, one that must be known, and one that is cut short.
const FIELD: &[u8] = &[0, 5, 0, 2, 0xab, 0xcd];
const CRITICAL: &[u8] = &[0x80, 5, 0, 0];
const CUT: &[u8] = &[0, 5, 0, 3, 0xab, 0xcd];

#[test]
fn live_messages() {
    let good = good_messages();
    let mut cases: Vec<(Kind, String, Vec<u8>)> = Vec::new();
    for (name, live) in &good {
        cases.push((live.kind(), (*name).to_owned(), live.encode().to_vec()));
    }
    for kind in Kind::ALL {
        let (_, live) = good.iter().find(|(_, live)| live.kind() == kind).expect("each kind");
        let bytes = live.encode();
        let with = |field: &[u8]| cat(&[&bytes, field]);
        cases.push((kind, "with an unknown field".to_owned(), with(FIELD)));
        cases.push((kind, "with an unknown critical field".to_owned(), with(CRITICAL)));
        cases.push((kind, "with a field cut short".to_owned(), with(CUT)));
        let long = cat(&[&[0, 5, 1, 0xfd], &[0; 509]]);
        cases.push((kind, "with a field area of 513 bytes".to_owned(), with(&long)));
        let longest = cat(&[&[0, 5, 1, 0xfc], &[0; 508]]);
        cases.push((kind, "with a field area of 512 bytes".to_owned(), with(&longest)));
        let twice = cat(&[FIELD, FIELD]);
        cases.push((kind, "with a field that occurs twice".to_owned(), with(&twice)));
        cases.push((kind, "cut by one byte".to_owned(), bytes[..bytes.len() - 1].to_vec()));
        cases.push((kind, "nothing".to_owned(), Vec::new()));
    }
    // Each further form of a message: every one may carry fields, and none may be cut.
    let forms = good.iter().filter(|(name, _)| ["ask", "answer", "refusal"].contains(name));
    for (name, live) in forms {
        let bytes = live.encode();
        let named = |what: &str| format!("{name}, {what}");
        cases.push((live.kind(), named("with an unknown field"), cat(&[&bytes, FIELD])));
        cases.push((live.kind(), named("with a critical field"), cat(&[&bytes, CRITICAL])));
        cases.push((live.kind(), named("cut by one byte"), bytes[..bytes.len() - 1].to_vec()));
    }
    cases.extend(bad_messages().into_iter().map(|(k, name, bytes)| (k, name.to_owned(), bytes)));
    let vectors: Vec<Value> = cases
        .iter()
        .map(|(kind, name, bytes)| {
            let read = Live::parse(*kind, &Bytes::from(bytes.clone()));
            message_vector(kind.name(), name, bytes, Read::of(read.map(|l| l.map(live_fields))))
        })
        .collect();
    check("wire/live.json", &json!({ "vectors": vectors }));
}

fn good_messages() -> Vec<(&'static str, Live)> {
    let ext = Tlvs::default;
    let window = Window {
        epoch: EPOCH,
        base: PieceIndex(1029),
        kept_ms: 60_000,
        hops: 1,
        reason: Reason::NONE,
        bitmap: Bytes::from_static(&[0b1110_1000, 1]),
        ext: ext(),
    };
    let joining = Window {
        epoch: Epoch(0),
        base: PieceIndex(0),
        kept_ms: 0,
        hops: HOPS_UNKNOWN,
        reason: Reason::NO_UPSTREAM,
        bitmap: Bytes::new(),
        ext: ext(),
    };
    let top = Window { base: PieceIndex(u32::MAX - 3), ..window.clone() };
    let [first, second] = feed::two_entries();
    let cover = Cover { k: 6, stripes: 0b10_0001, part: 0x0f };
    let subscribe = Subscribe {
        id: 63,
        stripe: Stripe::Blocks,
        epoch: EPOCH,
        cover,
        first: BlockNo(4711),
        last: BlockNo(u64::MAX),
        ext: ext(),
    };
    let change = Subscribe { first: CHANGE, last: BlockNo(5000), ..subscribe.clone() };
    let all_32 = Cover { k: 32, stripes: u32::MAX, part: 0xff };
    let entries = Subscribe {
        id: 0,
        stripe: Stripe::Entries,
        epoch: Epoch(0),
        cover: Cover::ALL,
        first: BlockNo(0),
        ..subscribe.clone()
    };
    let grant = Grant {
        id: 63,
        reason: Reason::FULL,
        cover: Cover { stripes: 1, ..cover },
        credit: 0xdead_beee,
        epoch: EPOCH,
        first: BlockNo(4712),
        ext: ext(),
    };
    let none = Cover { stripes: 0, part: 0, ..cover };
    let blocks = vec![BlockNo(4711), BlockNo(1 << 40)];
    let ask = |index| Entries::Ask { run: 3, epoch: EPOCH, index, count: 256 };
    let answer = Clock::Answer { mine_us: 3, yours_us: u64::MAX, arrived_us: 1 << 60 };
    vec![
        ("window", Live::Window(window)),
        ("window of one who joins", Live::Window(joining)),
        ("window at the last index", Live::Window(top)),
        ("push", Live::Entries(Entries::Push { entries: vec![first.clone(), second.clone()] })),
        ("ask", Live::Entries(ask(PieceIndex(1040)))),
        ("ask for the newest", Live::Entries(ask(NEWEST))),
        ("answer", Live::Entries(Entries::Answer { run: 3, entries: vec![second, first] })),
        ("empty answer", Live::Entries(Entries::Answer { run: 4, entries: Vec::new() })),
        ("wish for blocks", Live::Subscribe(subscribe.clone())),
        ("wish for all of 32 stripes", Live::Subscribe(Subscribe { cover: all_32, ..subscribe })),
        ("change", Live::Subscribe(change)),
        ("wish for entries", Live::Subscribe(entries)),
        ("grant in part", Live::Grant(grant.clone())),
        ("refusal", Live::Grant(Grant { cover: none, credit: 0, ..grant })),
        ("skip", Live::Skip(Skip { id: 63, reason: Reason::LATE, epoch: EPOCH, blocks })),
        ("end", Live::End(End { id: 63, reason: Reason::DONE })),
        ("end with a reason of a later version", Live::End(End { id: 1, reason: Reason(200) })),
        ("ask", Live::Clock(Clock::Ask { mine_us: 1_700_000_000_000_000 })),
        ("answer", Live::Clock(answer)),
        ("ask", Live::Report(Report::Ask { report: 9, credits: vec![1, 0xdead_beef] })),
        (
            "answer",
            Live::Report(Report::Answer {
                report: 9,
                received: vec![(1, 0), (3, u64::MAX)],
                view: None,
            }),
        ),
        (
            "answer with a view",
            Live::Report(Report::Answer { report: 9, received: Vec::new(), view: Some(view()) }),
        ),
        ("proof", Live::Proof(feed::proof())),
        ("four stripes", Live::Offer(offer())),
        ("nothing to give yet", Live::Offer(Offer { base_ms: UNKNOWN, ..nothing_offered() })),
    ]
}

fn view() -> View {
    let mut lag_ms = [UNKNOWN; VIEW_LAGS];
    (0u16..).zip(&mut lag_ms).for_each(|(i, lag)| *lag = 100 + 20 * i);
    View { reason: Reason::UNSUSTAINABLE, lag_ms }
}

fn offer() -> Offer {
    let stripe = |lag_ms, bar, below, branch| StripeOffer { lag_ms, bar, below, branch };
    Offer {
        epoch: EPOCH,
        base_ms: 85,
        entries_ms: 112,
        upload: 333,
        room: 64,
        mean: 290,
        stripes: vec![
            stripe(140, 0, 3, 200),
            stripe(310, 5, 0, 0),
            stripe(65_534, 255, 255, 255),
            stripe(UNKNOWN, 255, 0, 1),
        ],
        ext: Tlvs::default(),
    }
}

fn nothing_offered() -> Offer {
    let stripes = vec![StripeOffer { lag_ms: UNKNOWN, bar: 255, below: 0, branch: 0 }];
    let (base_ms, entries_ms, upload, room, mean) = (UNKNOWN, UNKNOWN, UNKNOWN, 0, UNKNOWN);
    let ext = Tlvs::default();
    Offer { epoch: EPOCH, base_ms, entries_ms, upload, room, mean, stripes, ext }
}

fn bad_messages() -> Vec<(Kind, &'static str, Vec<u8>)> {
    let window = |epoch: u64, len: u16| {
        let bits = vec![0; usize::from(len)];
        cat(&[&epoch.to_be_bytes(), &[0; 10], &len.to_be_bytes(), &bits])
    };
    let ask = |count: u16| cat(&[&[0, 1], &[0; 12], &count.to_be_bytes()]);
    let order = |kind: u8, id: u8, k: u8, part: u8, stripes: u32| {
        cat(&[&[id, kind, k, part], &stripes.to_be_bytes(), &[0; 24]])
    };
    let grant = |k: u8, stripes: u32| cat(&[&[1, 0, k, 1], &stripes.to_be_bytes(), &[0; 20]]);
    let skip = |n: u16| cat(&[&[1, 0], &n.to_be_bytes(), &vec![0; 8 + 8 * usize::from(n)]]);
    let one = |len: u16| cat(&[&[2, 0, 1], &len.to_be_bytes(), &vec![0; usize::from(len)]]);
    let report = |op: u8, n: u8, row: usize| cat(&[&[op, 7, n], &vec![0; row * usize::from(n)]]);
    let offered = |epoch: u64, k: u8| {
        cat(&[&epoch.to_be_bytes(), &[0; 10], &[k], &vec![0; 5 * usize::from(k)]])
    };
    let mut bad_claim = feed::proof().first.encode().to_vec();
    bad_claim[8..12].fill(0xff);
    bad_claim.extend(feed::proof().second.encode());
    vec![
        (Kind::Window, "largest bitmap", window(1, 2048)),
        (Kind::Window, "bitmap beyond the limit", window(1, 2049)),
        (Kind::Window, "highest epoch", window((1 << 53) - 1, 0)),
        (Kind::Window, "epoch beyond the limit", window(1 << 53, 0)),
        (Kind::Entries, "ask for none", ask(0)),
        (Kind::Entries, "ask for 257", ask(257)),
        (Kind::Entries, "an op of a later version", vec![3]),
        (Kind::Entries, "entry beyond the limit", one(4097)),
        (Kind::Entries, "longest entry, never judged here", one(4096)),
        (Kind::Entries, "an entry of no bytes", one(0)),
        (Kind::Entries, "an answer of none", vec![1, 255, 0, 0]),
        (Kind::Entries, "257 entries", cat(&[&[2, 1, 1], &[0; 514]])),
        (Kind::Subscribe, "a kind of a later version", vec![0, 2]),
        (Kind::Subscribe, "id 64", order(0, 64, 1, 1, 1)),
        (Kind::Subscribe, "a last block before the first", {
            let ends = cat(&[&9u64.to_be_bytes(), &8u64.to_be_bytes()]);
            cat(&[&[1, 0, 1, 255, 0, 0, 0, 1], &7u64.to_be_bytes(), &ends])
        }),
        (Kind::Subscribe, "no stripes at all", order(0, 1, 0, 1, 1)),
        (Kind::Subscribe, "33 stripes", order(0, 1, 33, 1, 1)),
        (Kind::Subscribe, "a stripe beyond k", order(0, 1, 6, 1, 1 << 6)),
        (Kind::Subscribe, "an empty part", order(0, 1, 6, 0, 1)),
        (Kind::Subscribe, "an empty set of stripes", order(0, 1, 6, 1, 0)),
        (Kind::Grant, "a stripe beyond k", grant(6, 1 << 6)),
        (Kind::Grant, "33 stripes", grant(33, 1)),
        (Kind::Grant, "no stripes at all", grant(0, 0)),
        (Kind::Grant, "an id that nobody can have", cat(&[&[64, 0, 1, 1, 0, 0, 0, 1], &[0; 20]])),
        (Kind::Grant, "a part without stripes", grant(1, 0)),
        (Kind::Skip, "no blocks", skip(0)),
        (Kind::Skip, "an id that nobody can have", cat(&[&[255, 0, 0, 0], &[0; 8]])),
        (Kind::End, "an id that nobody can have", vec![64, 0]),
        (Kind::Skip, "256 blocks", skip(256)),
        (Kind::Skip, "257 blocks", skip(257)),
        (Kind::Clock, "an op of a later version", vec![2]),
        (Kind::Clock, "an ask that is cut short", vec![0, 1, 2]),
        (Kind::Report, "an op of a later version", vec![2, 0, 255]),
        (Kind::Report, "no rows", report(0, 0, 4)),
        (Kind::Report, "32 rows", report(1, 32, 12)),
        (Kind::Report, "a view cut short", cat(&[&report(1, 0, 12), &[0, 1, 0, 32], &[0; 32]])),
        (Kind::Report, "a longer view", cat(&[&report(1, 0, 12), &[0, 1, 0, 34], &[0; 34]])),
        (Kind::Report, "33 rows asked for", report(0, 33, 4)),
        (Kind::Report, "33 rows answered", report(1, 33, 12)),
        (Kind::Offer, "no stripes", offered(1, 0)),
        (Kind::Offer, "32 stripes", offered(1, 32)),
        (Kind::Offer, "33 stripes", offered(1, 33)),
        (Kind::Offer, "epoch beyond the limit", offered(1 << 53, 1)),
        (Kind::Proof, "a claim with an index beyond the limit", bad_claim),
    ]
}

fn live_fields(live: Live) -> Value {
    let entries = |list: &[Bytes]| list.iter().map(|e| hex(e)).collect::<Vec<_>>();
    match live {
        Live::Window(m) => json!({
            "epoch": long(m.epoch.0), "base": m.base.0, "kept": m.kept_ms, "hops": m.hops,
            "reason": m.reason.0, "held": m.held().map(|i| i.0).collect::<Vec<_>>(),
        }),
        Live::Entries(Entries::Ask { run, epoch, index, count }) => json!({
            "op": "ask", "run": run, "epoch": long(epoch.0), "index": index.0, "count": count,
        }),
        Live::Entries(Entries::Answer { run, entries: list }) => {
            json!({ "op": "answer", "run": run, "entries": entries(&list) })
        }
        Live::Entries(Entries::Push { entries: list }) => {
            json!({ "op": "push", "entries": entries(&list) })
        }
        Live::Subscribe(m) => json!({
            "id": m.id, "kind": match m.stripe { Stripe::Blocks => 0, Stripe::Entries => 1 },
            "k": m.cover.k, "part": m.cover.part, "stripes": m.cover.stripes,
            "epoch": long(m.epoch.0), "first": long(m.first.0), "last": long(m.last.0),
            "change": m.is_change(),
        }),
        Live::Grant(m) => json!({
            "id": m.id, "reason": m.reason.0, "k": m.cover.k, "part": m.cover.part,
            "stripes": m.cover.stripes, "credit": m.credit, "epoch": long(m.epoch.0),
            "first": long(m.first.0), "refused": m.cover.is_empty(),
        }),
        Live::Skip(m) => json!({
            "id": m.id, "reason": m.reason.0, "epoch": long(m.epoch.0),
            "blocks": m.blocks.iter().map(|b| long(b.0)).collect::<Vec<_>>(),
        }),
        Live::End(m) => json!({ "id": m.id, "reason": m.reason.0 }),
        Live::Clock(Clock::Ask { mine_us }) => json!({ "op": "ask", "mine": long(mine_us) }),
        Live::Clock(Clock::Answer { mine_us, yours_us, arrived_us }) => json!({
            "op": "answer", "mine": long(mine_us), "yours": long(yours_us),
            "arrived": long(arrived_us),
        }),
        Live::Report(Report::Ask { report, credits }) => {
            json!({ "op": "ask", "report": report, "rows": credits })
        }
        Live::Report(Report::Answer { report, received, view }) => {
            let rows: Vec<_> = received.iter().map(|(id, n)| json!([id, long(*n)])).collect();
            let view = view.map(|v| json!({ "reason": v.reason.0, "lags": v.lag_ms }));
            json!({ "op": "answer", "report": report, "rows": rows, "view": view })
        }
        Live::Proof(Proof { first, second }) => {
            json!({ "first": hex(&first.encode()), "second": hex(&second.encode()) })
        }
        Live::Offer(m) => {
            let stripes = m.stripes.iter();
            let rows: Vec<_> =
                stripes.map(|s| json!([s.lag_ms, s.bar, s.below, s.branch])).collect();
            json!({
                "epoch": long(m.epoch.0), "base": m.base_ms, "entries": m.entries_ms,
                "upload": m.upload, "room": m.room, "mean": m.mean, "stripes": rows,
            })
        }
    }
}

#[test]
fn covers() {
    let cases = [(1, 1, 0xff), (6, 0b10_0001, 0x0f), (32, 1 << 31, 1), (4, 0b0110, 0b1000_0001)];
    let vectors: Vec<Value> = cases
        .into_iter()
        .map(|(k, stripes, part)| {
            let cover = Cover { k, stripes, part };
            let covered: Vec<u64> = (0..100).filter(|n| cover.covers(BlockNo(*n))).collect();
            json!({ "k": k, "stripes": stripes, "part": part, "covered": covered })
        })
        .collect();
    check("wire/covers.json", &json!({ "vectors": vectors }));
}
