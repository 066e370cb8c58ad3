//! Every message of `specs/wire.md` with each of its fields at 0, 1 and its maximum, by a table of
//! offsets; in the right state and in wrong ones.

use super::*;

/// What a message with such a field has to lead to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// No correct peer says it: closed, with the culprit named.
    Fault,
    /// It is right, or to be ignored.
    Open,
    /// Another form or meaning follows from the value; both may be right.
    Either,
}
use Then::{Either, Fault, Open};

/// Name, offset, bytes, and what follows from 0, from 1 and from all bits set.
type Field = (&'static str, usize, usize, [Then; 3]);

/// A message that is right as it stands, and its fields.
struct Form {
    name: &'static str,
    /// Its type, and for an extended message its number.
    head: Vec<u8>,
    body: Vec<u8>,
    fields: Vec<Field>,
}

const ANY: [Then; 3] = [Open; 3];

fn basic(name: &'static str, kind: u8, len: usize, fields: &[Field]) -> Form {
    Form { name, head: vec![kind], body: vec![0; len], fields: fields.to_vec() }
}

fn live(kind: Kind, body: &[u8], fields: &[Field]) -> Form {
    let head = vec![20, Extension::Live(kind).our_id()];
    Form { name: kind.name(), head, body: body.to_vec(), fields: fields.to_vec() }
}

/// The messages of BEP 3 and BEP 6.
fn basic_forms() -> Vec<Form> {
    let request: [Field; 3] = [("index", 0, 4, ANY), ("offset", 4, 4, ANY), ("length", 8, 4, ANY)];
    let mut piece =
        basic("piece", 7, 9, &[("index", 0, 4, ANY), ("offset", 4, 4, [Open, Fault, Fault])]);
    piece.body[8] = 7;
    vec![
        basic("choke", 0, 0, &[]),
        basic("unchoke", 1, 0, &[]),
        basic("interested", 2, 0, &[]),
        basic("not interested", 3, 0, &[]),
        basic("have", 4, 4, &[("index", 0, 4, ANY)]),
        basic("request", 6, 12, &request),
        piece,
        basic("cancel", 8, 12, &request),
        basic("port", 9, 2, &[("port", 0, 2, ANY)]),
        basic("suggest", 13, 4, &[("index", 0, 4, ANY)]),
        basic("have none", 15, 0, &[]),
        basic("reject", 16, 12, &request),
        basic("allowed fast", 17, 4, &[("index", 0, 4, ANY)]),
        basic("unknown", 99, 4, &[("any", 0, 4, ANY)]),
    ]
}

/// The messages of this extension.
fn live_forms() -> Vec<Form> {
    let (count, end) = ([Open, Fault, Fault], [Open, Open, Open]);
    let mut subscribe = vec![0; 32];
    (subscribe[2], subscribe[3], subscribe[7]) = (1, 1, 1);
    let mut grant = vec![0; 28];
    (grant[2], grant[3], grant[7]) = (1, 1, 1);
    let mut ask = vec![0; 16];
    ask[15] = 1;
    let clock = |op: u8, len: usize| [&[op][..], &vec![0; len]].concat();
    vec![
        live(
            Kind::Window,
            &[0; 20],
            &[
                ("epoch", 0, 8, [Open, Open, Fault]),
                ("base", 8, 4, ANY),
                ("kept", 12, 4, ANY),
                ("hops", 16, 1, ANY),
                ("reason", 17, 1, ANY),
                ("bitmap length", 18, 2, count),
            ],
        ),
        live(
            Kind::Entries,
            &ask,
            &[
                ("op", 0, 1, [Open, Either, Open]),
                ("run", 1, 1, ANY),
                ("epoch", 2, 8, ANY),
                ("index", 10, 4, ANY),
                ("count", 14, 2, [Fault, Open, Fault]),
            ],
        ),
        live(Kind::Entries, &[1, 0, 0, 0], &[("run", 1, 1, ANY), ("entries", 2, 2, count)]),
        live(Kind::Entries, &[2, 0, 0], &[("entries", 1, 2, count)]),
        live(Kind::Entries, &[2, 0, 1, 0, 0], &[("entry length", 3, 2, [Fault; 3])]),
        live(
            Kind::Subscribe,
            &subscribe,
            &[
                ("id", 0, 1, [Open, Open, Fault]),
                ("kind", 1, 1, ANY),
                ("k", 2, 1, [Fault, Open, Fault]),
                ("part", 3, 1, [Fault, Open, Open]),
                ("stripes", 4, 4, [Fault, Open, Fault]),
                ("epoch", 8, 8, ANY),
                ("first", 16, 8, ANY),
                ("last", 24, 8, ANY),
            ],
        ),
        live(
            Kind::Grant,
            &grant,
            &[
                ("id", 0, 1, end),
                ("reason", 1, 1, ANY),
                ("k", 2, 1, [Fault, Open, Fault]),
                ("part", 3, 1, ANY),
                ("stripes", 4, 4, [Open, Open, Fault]),
                ("credit", 8, 4, ANY),
                ("epoch", 12, 8, ANY),
                ("first", 20, 8, ANY),
            ],
        ),
        live(
            Kind::Skip,
            &[0; 12],
            &[
                ("id", 0, 1, end),
                ("reason", 1, 1, ANY),
                ("blocks", 2, 2, count),
                ("epoch", 4, 8, ANY),
            ],
        ),
        live(Kind::End, &[0; 2], &[("id", 0, 1, end), ("reason", 1, 1, ANY)]),
        live(Kind::Clock, &clock(0, 8), &[("op", 0, 1, [Open, Fault, Open]), ("mine", 1, 8, ANY)]),
        live(
            Kind::Clock,
            &clock(1, 24),
            &[("mine", 1, 8, ANY), ("yours", 9, 8, ANY), ("arrived", 17, 8, ANY)],
        ),
        live(
            Kind::Report,
            &[0; 3],
            &[("op", 0, 1, ANY), ("report", 1, 1, ANY), ("rows", 2, 1, count)],
        ),
        live(Kind::Report, &[1, 0, 0], &[("report", 1, 1, ANY), ("rows", 2, 1, count)]),
        live(
            Kind::Offer,
            &[&[0; 18][..], &[1, 0, 0, 0, 0, 0]].concat(),
            &[
                ("epoch", 0, 8, [Open, Open, Fault]),
                ("base", 8, 2, ANY),
                ("entries", 10, 2, ANY),
                ("upload", 12, 2, ANY),
                ("room", 14, 2, ANY),
                ("mean", 16, 2, ANY),
                ("k", 18, 1, [Fault, Open, Fault]),
                ("lag", 19, 2, ANY),
                ("bar", 21, 1, ANY),
                ("below", 22, 1, ANY),
                ("branch", 23, 1, ANY),
            ],
        ),
    ]
}

/// A frame with the field at 0, 1 or its maximum.
fn with(form: &Form, (_, at, len, _): Field, value: usize) -> Bytes {
    let mut body = form.body.clone();
    let field = &mut body[at..at + len];
    field.fill(if value == 2 { 0xff } else { 0 });
    if value == 1 {
        field[len - 1] = 1;
    }
    [&form.head[..], &body].concat().into()
}

/// What came of a peer, with its fault.
fn outcome(rig: &Rig, link: Link) -> Option<(SocketAddr, String)> {
    rig.events.iter().rev().find_map(|event| match event {
        Event::PeerLeft { addr, reason, fault: true } if !rig.is_open(link) => {
            Some((*addr, reason.clone()))
        }
        _ => None,
    })
}

#[track_caller]
fn judge(what: &str, name: &str, rig: &Rig, link: Link, then: Then) {
    let outcome = outcome(rig, link);
    assert_eq!(outcome.is_none(), rig.is_open(link), "{what}");
    match then {
        Either => {}
        Open => assert_eq!(outcome, None, "{what}"),
        Fault => {
            let (addr, reason) = outcome.unwrap_or_else(|| panic!("{what}: still open"));
            assert_eq!(addr.ip(), SocketAddr::from(([50, link.0 as u8, 0, 9], 0)).ip(), "{what}");
            // Blocks and entries are judged on their own, all else by the codec of the message.
            let named = reason.contains(name) || reason.contains("entry");
            assert!(name == "piece" || named, "{what}: {reason}");
        }
    }
}

#[test]
fn each_field_at_0_1_and_its_maximum_leads_to_what_the_table_says() {
    let sealed = chain(EPOCH, SECOND, 2);
    for form in basic_forms().into_iter().chain(live_forms()) {
        for field in form.fields.clone() {
            for (value, then) in field.3.into_iter().enumerate() {
                let mut rig = Rig::viewer();
                let honest = rig.honest(&sealed);
                // Blocks are looked at only in the receiver's epoch; a window must not go back.
                let link = if form.name == "bl_window" { rig.live() } else { rig.declared(EPOCH) };
                rig.give(In::Frame { link, frame: with(&form, field, value) });
                let what =
                    format!("{} with {} at {}", form.name, field.0, ["0", "1", "max"][value]);
                judge(&what, form.name, &rig, link, then);
                assert!(rig.is_open(honest), "{what}");
                assert_eq!(rig.head(), Some(sealed[1].genuine.entry.head.seq()), "{what}");
            }
        }
    }
}

#[test]
fn each_message_a_byte_too_short_or_too_long_is_a_fault_of_its_sender() {
    // Unknown types have no length; these messages may be followed by fields.
    for form in basic_forms().into_iter().chain(live_forms()).filter(|f| f.name != "unknown") {
        let whole = [&form.head[..], &form.body].concat();
        let mut wrong = vec![[&whole[..], &[0]].concat()];
        if !form.body.is_empty() {
            wrong.push(whole[..whole.len() - 1].to_vec());
        }
        for frame in wrong {
            // A piece of any length up to a block's is right.
            if form.name == "piece" && frame.len() > whole.len() {
                continue;
            }
            let mut rig = Rig::viewer();
            let link = rig.declared(EPOCH);
            let what = format!("{} of {} bytes", form.name, frame.len());
            rig.give(In::Frame { link, frame: frame.into() });
            judge(&what, form.name, &rig, link, Fault);
        }
    }
}

#[test]
fn a_bitfield_or_have_all_is_no_word_of_a_live_swarm() {
    for message in [Message::HaveAll, Message::Bitfield(vec![0xff; 4].into())] {
        let mut rig = Rig::viewer();
        let link = rig.live();
        rig.say(link, &message);
        judge(&format!("{message:?}"), "have all", &rig, link, Fault);
    }
}

#[test]
fn every_message_instead_of_a_handshake_is_a_fault() {
    for form in basic_forms().into_iter().chain(live_forms()) {
        let mut rig = Rig::viewer();
        let link = rig.up();
        rig.give(In::Frame { link, frame: [&form.head[..], &form.body].concat().into() });
        judge(form.name, "no BitTorrent handshake", &rig, link, Fault);
    }
}

#[test]
fn before_the_extension_handshake_only_its_own_messages_are_a_fault() {
    for (forms, then) in [(basic_forms(), Open), (live_forms(), Fault)] {
        for form in forms {
            let mut rig = Rig::viewer();
            let link = rig.up();
            rig.shake(link, Reserved::live());
            rig.give(In::Frame { link, frame: [&form.head[..], &form.body].concat().into() });
            judge(form.name, "before the extension handshake", &rig, link, then);
            assert!(rig.sent_len(link) < 1000, "{}", form.name);
        }
    }
}

#[test]
fn without_metadata_every_message_is_survived_and_nothing_is_promised() {
    for form in basic_forms().into_iter().chain(live_forms()) {
        let mut config = Rig::config();
        config.info = None;
        let mut rig = Rig::with(config);
        let link = rig.live();
        let frame: Bytes = [&form.head[..], &form.body].concat().into();
        for _ in 0..3 {
            rig.give(In::Frame { link, frame: frame.clone() });
            rig.pass(60_000);
        }
        // The second wish under one id is a fault, all else is early at most.
        let then = if form.name == "bl_subscribe" { Either } else { Open };
        let then = if form.body == [2, 0, 1, 0, 0] { Either } else { then };
        judge(form.name, form.name, &rig, link, then);
        let promised = |live: &Live| matches!(live, Live::Grant(g) if !g.cover.is_empty());
        let blocks = rig.lives(link).iter().any(|l| promised(l) && form.body[1] == 0);
        assert!(!blocks, "{}: blocks of an unknown stream are granted", form.name);
    }
}

#[test]
fn entries_pushed_before_the_metadata_are_kept_in_bounds_and_judged_with_it() {
    let mut config = Rig::config();
    config.info = None;
    let mut rig = Rig::with(config);
    let (liar, honest) = (rig.live(), rig.live());
    let sealed = chain(EPOCH, SECOND, 2);
    let mut forged = sealed[1].genuine.raw.to_vec();
    forged[30] ^= 1;
    for _ in 0..100 {
        rig.say_live(liar, &push(&forged.clone().into()));
    }
    rig.say_live(honest, &push(&sealed[0].genuine.raw));
    rig.extension_handshake(honest, Some(info().len()));
    rig.pass(100_000);
    let data = MetadataMessage::Data { piece: 0, total_size: Some(info().len()), data: info() };
    let id = Extension::Metadata.our_id();
    rig.say(honest, &Message::Extended { id, payload: data.encode() });
    assert!(rig.events.contains(&Event::MetadataComplete));
    assert!(!rig.is_open(liar) && rig.is_open(honest), "{:?}", rig.faults());
    assert_eq!(rig.head(), Some(sealed[0].genuine.entry.head.seq()));
}

#[test]
fn sloppy_numbers_in_bencoded_messages_count_as_absent() {
    let handshake =
        |key: &str, value: &str| format!("d1:md9:bl_windowi1ee{}:{key}{value}e", key.len());
    let numbers = ["i0e", "i1e", "i-1e", "i65536e", "i9223372036854775807e", "0:", "le", "de"];
    for key in ["metadata_size", "p", "reqq", "v", "yourip"] {
        for value in numbers {
            let mut rig = Rig::viewer();
            let link = rig.live();
            let payload = handshake(key, value).into_bytes().into();
            rig.say(link, &Message::Extended { id: 0, payload });
            judge(&format!("{key} = {value}"), "", &rig, link, Open);
        }
    }
    for value in numbers {
        let mut rig = Rig::viewer();
        let link = rig.live();
        for payload in [
            format!("d8:msg_typei0e5:piece{value}e"),
            format!("d8:msg_type{value}5:piecei0ee"),
            format!("d8:msg_typei1e5:piecei0e10:total_size{value}e"),
            format!("d5:added{value}6:added6{value}7:dropped{value}e"),
        ] {
            let id = if payload.contains("added") { Extension::Pex } else { Extension::Metadata };
            let payload = payload.into_bytes().into();
            rig.say(link, &Message::Extended { id: id.our_id(), payload });
        }
        rig.pass(SECOND);
        assert!(rig.sent_len(link) < 20_000);
    }
}

#[test]
fn an_entry_with_any_field_at_0_1_or_its_maximum_moves_nothing_unless_it_was_signed_so() {
    // The offsets of `specs/feed.md`.
    let fields: [(&str, usize, usize); 10] = [
        ("epoch", 0, 8),
        ("index", 8, 4),
        ("first block", 12, 8),
        ("length", 20, 4),
        ("flags", 24, 2),
        ("key id", 26, 2),
        ("birth", 28, 8),
        ("span", 36, 4),
        ("previous", 40, 32),
        ("hash", 72, 32),
    ];
    let sealed = chain(EPOCH, SECOND, 2);
    let raw = &sealed[1].genuine.raw;
    for (name, at, len) in fields {
        for fill in [0, 1, 0xff] {
            let mut bytes = raw.to_vec();
            bytes[at..at + len].fill(if fill == 1 { 0 } else { fill });
            if fill == 1 {
                bytes[at + len - 1] = 1;
            }
            if bytes == *raw {
                continue;
            }
            let mut rig = Rig::viewer();
            rig.honest(&sealed[..1]);
            let (link, other) = (rig.declared(EPOCH), rig.declared(EPOCH));
            let pushed = |rig: &Rig| {
                let push = |l: &Live| matches!(l, Live::Entries(Entries::Push { .. }));
                rig.lives(other).iter().filter(|live| push(live)).count()
            };
            let before = pushed(&rig);
            rig.say_live(link, &push(&bytes.into()));
            let what = format!("{name} at {fill}");
            assert_eq!(rig.head(), Some(sealed[0].genuine.entry.head.seq()), "{what}");
            assert_eq!(pushed(&rig), before, "{what} is passed on");
            let judged = !rig.is_open(link);
            // Below the window nothing is looked at; an unknown key is for later versions.
            assert!(judged || matches!(name, "epoch" | "index" | "key id"), "{what}");
        }
    }
}

#[test]
fn every_kind_of_message_in_a_flood_ends_the_connection_that_it_comes_on() {
    let sealed = chain(EPOCH, SECOND, 3);
    for form in basic_forms().into_iter().chain(live_forms()) {
        let mut rig = Rig::viewer();
        let honest = rig.honest(&sealed);
        let link = rig.declared(EPOCH);
        let frame: Bytes = [&form.head[..], &form.body].concat().into();
        let mut said = 0;
        while rig.is_open(link) && said < 30_000 {
            rig.give(In::Frame { link, frame: frame.clone() });
            said += 1;
        }
        assert!(!rig.is_open(link), "{}: {said} in no time", form.name);
        assert_eq!(rig.faults().len(), 1, "{}: the culprit is named", form.name);
        assert!(rig.is_open(honest), "{}", form.name);
    }
}

#[test]
fn blocks_of_no_use_are_borne_for_a_while_and_not_in_any_amount() {
    let sealed = chain(EPOCH, SECOND, 3);
    for (what, epoch) in [("of another epoch", Epoch(EPOCH.0 - 9)), ("that are here", EPOCH)] {
        let mut rig = Rig::viewer();
        rig.knows(&sealed);
        let link = rig.declared(epoch);
        rig.pass(SECOND);
        grant_all(&mut rig, link);
        let block = piece(&sealed[2], 0);
        for _ in 0..500 {
            rig.say(link, &block);
        }
        assert!(rig.is_open(link), "{what}: a race is no crime: {:?}", rig.faults());
        for _ in 0..1000 {
            rig.say(link, &block);
        }
        assert!(!rig.is_open(link), "{what}");
        assert!(rig.faults()[0].contains("of no use"), "{what}: {:?}", rig.faults());
    }
}

#[test]
fn window_messages_come_once_a_second_or_not_for_long() {
    let mut rig = Rig::viewer();
    let honest = rig.honest(&chain(EPOCH, SECOND, 3));
    let (calm, hasty) = (rig.declared(EPOCH), rig.declared(EPOCH));
    for n in 0..200u8 {
        rig.say_live(calm, &window(EPOCH, 0, &[n]));
        rig.say(hasty, &Message::KeepAlive);
        rig.pass(SECOND);
    }
    assert!(rig.is_open(calm) && rig.is_open(honest));
    for n in 0..200u8 {
        rig.say_live(hasty, &window(EPOCH, 0, &[n]));
    }
    assert!(!rig.is_open(hasty) && rig.is_open(calm) && rig.is_open(honest));
    assert!(rig.faults().iter().any(|f| f.contains("window messages")));
}

#[test]
fn epochs_that_are_declared_one_after_the_other_do_not_make_us_repeat_our_head() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    rig.honest(&sealed);
    let link = rig.live();
    for epoch in 1..1000 {
        rig.say_live(link, &window(Epoch(epoch), 0, &[]));
    }
    let most = 70 * sealed[2].genuine.raw.len() + 1000;
    assert!(rig.sent_len(link) < most, "{} bytes", rig.sent_len(link));
    assert!(!rig.is_open(link));
}

#[test]
fn a_late_answer_and_one_to_no_ask_are_no_offence_and_bring_what_a_push_would() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut rig = Rig::viewer();
    let link = rig.declared(EPOCH);
    let entries = sealed.iter().rev().map(|s| s.genuine.raw.clone()).collect();
    for run in [0, 7, 255] {
        let entries = Vec::new();
        rig.say_live(link, &Live::Entries(Entries::Answer { run, entries }));
    }
    rig.say_live(link, &Live::Entries(Entries::Answer { run: 200, entries }));
    assert!(rig.is_open(link));
    assert_eq!(rig.head(), Some(sealed[2].genuine.entry.head.seq()));
}

#[test]
fn asks_that_a_peer_leaves_unanswered_are_given_up() {
    let mut rig = Rig::viewer();
    let link = rig.honest(&chain(EPOCH, SECOND, 3));
    for n in 1..=8 {
        rig.say_live(link, &window(Epoch(EPOCH.0 + n), 0, &[]));
    }
    let runs = |rig: &Rig| rig.swarm.peers.get(&link).map_or(0, |p| p.runs.len());
    assert!(runs(&rig) > 0);
    rig.say_live(link, &push(&chain(Epoch(EPOCH.0 + 8), SECOND, 1)[0].genuine.raw));
    rig.pass(SECOND);
    let asks = |rig: &Rig| {
        let ask = |live: &Live| matches!(live, Live::Entries(Entries::Ask { .. }));
        rig.lives(link).iter().filter(|live| ask(live)).count()
    };
    let early = asks(&rig);
    rig.pass(20 * SECOND);
    assert!(runs(&rig) < 8 && asks(&rig) > early + 2, "{} and then {}", early, asks(&rig));
}

#[test]
fn a_have_after_the_entry_makes_its_sender_answer_for_the_block() {
    let sealed = chain(EPOCH, SECOND, 3);
    for (waits, convicted) in [(true, true), (false, false)] {
        let mut rig = Rig::viewer();
        rig.knows(&sealed);
        // Whoever comes now is shown the head.
        let liar = rig.declared(EPOCH);
        rig.awake.push(liar);
        let index = sealed[2].genuine.entry.head.index;
        // What comes at once has crossed the entry on its way and says nothing about it.
        rig.pass(if waits { SECOND } else { 10_000 });
        rig.say(liar, &Message::Have(index));
        rig.pass(SECOND);
        assert!(grant_all(&mut rig, liar) > 4);
        rig.say(liar, &spoilt(&sealed[2], 0));
        assert_eq!(!rig.is_open(liar), convicted, "{:?}", rig.faults());
    }
}

#[test]
fn a_second_extension_handshake_renumbers_and_changes_nothing_else() {
    let mut rig = Rig::viewer();
    rig.honest(&chain(EPOCH, SECOND, 3));
    let link = rig.declared(EPOCH);
    let ours = ExtendedHandshake::ours(None, None, false, [203, 0, 113, 1].into());
    let m = ours.m.into_iter().map(|(name, id)| (name, id + 100)).collect();
    let payload = ExtendedHandshake { m, ..ExtendedHandshake::default() }.encode();
    let joined = rig.events.len();
    rig.say(link, &Message::Extended { id: 0, payload });
    rig.say_live(link, &Live::Clock(Clock::Ask { mine_us: 1 }));
    let number = 100 + Extension::Live(Kind::Clock).our_id();
    let renumbered = |m: &Message| matches!(m, Message::Extended { id, .. } if *id == number);
    assert!(rig.messages(link).iter().any(renumbered));
    assert_eq!(rig.events.len(), joined);
}

#[test]
fn rejects_of_an_epoch_that_is_over_name_the_range_that_was_asked_for() {
    let sealed = chain(EPOCH, SECOND, 3);
    let mut config = Rig::config();
    config.upload_limit = Some(1);
    let mut rig = Rig::with(config);
    let source = rig.honest(&sealed);
    rig.pass(SECOND);
    for sealed in &sealed {
        for block in 0..sealed.blocks.len() {
            grant_all(&mut rig, source);
            rig.say(source, &piece(sealed, block));
        }
    }
    let link = rig.declared(EPOCH);
    rig.swarm.peers.get_mut(&link).expect("open").choked = false;
    let last = sealed[0].blocks.len() - 1;
    let index = sealed[0].genuine.entry.head.index;
    let len = sealed[0].blocks[last].len() as u32;
    let request = Request { index, begin: last as u32 * 16_384, len };
    assert!(len < 16_384);
    // The first ones leave at once, what follows waits for the uplink.
    for _ in 0..4 {
        rig.say(link, &Message::Request(Request { begin: 0, len: 16_384, ..request }));
    }
    rig.say(link, &Message::Request(request));
    assert!(!rig.messages(link).contains(&Message::Reject(request)));
    rig.say_live(source, &push(&chain(Epoch(EPOCH.0 + 1), SECOND, 1)[0].genuine.raw));
    assert!(rig.messages(link).contains(&Message::Reject(request)));
}

#[test]
fn a_standby_takes_over_only_where_two_peers_report_the_standing_head() {
    let sealed = chain(EPOCH, SECOND, 8);
    for (behind, mode) in [(false, "publishing"), (true, "following")] {
        let mut config = Rig::config();
        config.role = source_role(None);
        let mut rig = Rig::with(config);
        let (one, other) = (rig.honest(&sealed[..1]), rig.honest(&sealed[..1]));
        for link in [one, other] {
            rig.say_live(link, &window(EPOCH, 0, &[0x80]));
        }
        rig.pass(SECOND);
        for sealed in &sealed[1..] {
            rig.say_live(one, &push(&sealed.genuine.raw));
            if !behind {
                rig.say_live(other, &push(&sealed.genuine.raw));
            }
            rig.pass(200_000);
        }
        assert_eq!(rig.swarm.source_mode(), Some("following"), "while it is fed");
        rig.pass(8 * SECOND);
        assert_eq!(rig.swarm.source_mode(), Some(mode), "one of two has fallen behind: {behind}");
        assert!(rig.is_open(one) && rig.is_open(other));
    }
}

#[test]
fn a_source_goes_on_behind_its_last_entry_but_not_behind_an_end_or_a_withdrawal() {
    let table = [(Flags::IDLE, true), (Flags::END, false), (Flags::WITHDRAWN, false)];
    for (flags, goes_on) in table {
        let mut config = Rig::config();
        let last = signed(|head| (head.flags, head.len) = (flags, 0));
        config.role = source_role(Some(last));
        let mut rig = Rig::with(config);
        rig.pass(3 * SECOND);
        rig.give(In::Ingest(Bytes::from_static(&[7; 100])));
        rig.pass(SECOND);
        assert_eq!(rig.swarm.source_mode(), Some("publishing"));
        let head = rig.swarm.head().expect("an entry");
        assert_eq!(head.epoch == EPOCH, goes_on, "{flags:?}");
    }
}

#[test]
fn what_came_under_a_credit_id_is_reported_after_its_order_is_gone() {
    let sealed = chain(EPOCH, SECOND, 4);
    let mut rig = Rig::viewer();
    let upstream = rig.honest(&sealed[..1]);
    rig.pass(SECOND);
    let orders: Vec<_> = rig.lives(upstream).into_iter().filter_map(as_wish).collect();
    for order in &orders {
        let (reason, ext) = (Reason::NONE, Tlvs::default());
        let Subscribe { id, cover, epoch, first, .. } = *order;
        let grant = Grant { id, reason, cover, credit: 77, epoch, first, ext };
        rig.say_live(upstream, &Live::Grant(grant));
    }
    let mut came = 0;
    for sealed in &sealed[1..] {
        rig.say_live(upstream, &push(&sealed.genuine.raw));
        for (block, payload) in sealed.blocks.iter().enumerate() {
            rig.say(upstream, &piece(sealed, block));
            came += payload.len() as u64;
        }
    }
    for order in &orders {
        rig.say_live(upstream, &Live::End(End { id: order.id, reason: Reason::LEAVING }));
    }
    rig.give(In::Down { link: upstream });
    let judge = rig.declared(EPOCH);
    rig.say_live(judge, &Live::Report(Report::Ask { report: 3, credits: vec![77, 78] }));
    let told = rig.lives(judge).into_iter().find_map(|live| match live {
        Live::Report(Report::Answer { report: 3, received, .. }) => Some(received),
        _ => None,
    });
    assert_eq!(told, Some(vec![(77, came), (78, 0)]));
}

fn as_wish(live: Live) -> Option<Subscribe> {
    if let Live::Subscribe(wish) = live { Some(wish).filter(|w| !w.is_change()) } else { None }
}
