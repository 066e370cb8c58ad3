//! Streams whose window does not fit into memory: what is gone is neither claimed nor asked for.

use std::collections::BTreeSet;

use super::*;
use crate::wire::extended::parse_dont_have;

/// `count` pieces 200 ms apart whose lengths treble in the middle.
fn swelling(count: usize) -> Vec<Sealed> {
    let stream = Torrent::from_info(&info()).expect("valid").stream;
    let time = |us: u64| Now { mono: Time(SECOND + us), wall: UnixUs(WALL_US + SECOND + us) };
    let media = "application/octet-stream";
    let mut builder = Builder::open_epoch(stream, key(), media, time(0), EPOCH, None);
    let mut sealed = Vec::new();
    for n in 0..count {
        let us = n as u64 * 200_000;
        let len = if n < count / 2 { 20_000 } else { 60_000 };
        sealed.extend(builder.push(time(us), content(n * 60_000).take(len).collect()));
        sealed.extend(builder.tick(time(us + 200_000)));
    }
    sealed
}

/// What a peer believes that we hold, by what it was told.
fn believed(rig: &Rig, link: Link, sealed: &[Sealed]) -> (BTreeSet<u32>, u32) {
    let (mut held, mut kept) = (BTreeSet::new(), 0);
    for message in rig.messages(link) {
        match message {
            Message::Have(index) => {
                held.insert(index.0);
            }
            Message::Extended { id, payload } => match Extension::from_our_id(id) {
                Some(Extension::DontHave) => {
                    held.remove(&parse_dont_have(&payload).expect("ours").0);
                }
                Some(Extension::Live(Kind::Window)) => {
                    let Ok(Some(Live::Window(window))) = Live::parse(Kind::Window, &payload) else {
                        panic!("no window");
                    };
                    held = window.held().map(|index| index.0).collect();
                    kept = window.kept_ms;
                }
                _ => {}
            },
            _ => {}
        }
    }
    let head = sealed.last().expect("a piece").genuine.entry.head.birth.0;
    let birth = |index: u32| {
        let found = sealed.iter().find(|s| s.genuine.entry.head.index.0 == index);
        found.expect("known").genuine.entry.head.birth.0
    };
    held.retain(|index| head - birth(*index) <= u64::from(kept) * 1000);
    (held, kept)
}

#[test]
fn what_memory_does_not_hold_is_not_claimed_even_when_the_rate_rises() {
    let sealed = swelling(80);
    let mut config = Rig::config();
    config.memory_max = 500_000;
    let mut rig = Rig::with(config);
    let (upstream, neighbour) = (rig.honest(&sealed[..1]), rig.declared(EPOCH));
    rig.awake.push(neighbour);
    rig.pass(SECOND);
    let mut least = u32::MAX;
    for n in 1..sealed.len() {
        grant_all(&mut rig, upstream);
        rig.say_live(upstream, &push(&sealed[n].genuine.raw));
        for block in 0..sealed[n].blocks.len() {
            rig.say(upstream, &piece(&sealed[n], block));
        }
        rig.pass(200_000);
        let (held, kept) = believed(&rig, neighbour, &sealed[..=n]);
        let store = &rig.swarm.core.as_ref().expect("a torrent").store;
        for index in &held {
            let seq = Seq { epoch: EPOCH, index: PieceIndex(*index) };
            assert!(store.is_whole(seq), "{index} is claimed at {n}, keeping {kept} ms");
        }
        assert!(n < 4 || !held.is_empty(), "nothing is claimed at {n}");
        least = least.min(kept);
    }
    assert!(rig.faults().is_empty(), "{:?}", rig.faults());
    // 500 kB are 1.6 s of the second half.
    assert!((500..1700).contains(&least), "{least} ms");
}

#[test]
fn what_a_peer_no_longer_keeps_by_its_own_word_is_not_asked_of_it() {
    let sealed = chain(EPOCH, SECOND, 12);
    for (kept_ms, oldest) in [(60_000, 0), (1000, 6), (0, 0)] {
        let mut rig = Rig::viewer();
        let link = rig.honest(&sealed);
        let Live::Window(mut window) = window(EPOCH, 0, &[0xff; 2]) else { panic!("a window") };
        window.kept_ms = kept_ms;
        rig.say_live(link, &Live::Window(window));
        let head = sealed.last().expect("a piece").genuine.entry.head;
        let held: Vec<u32> = (0..=head.index.0)
            .filter(|index| {
                let seq = Seq { epoch: EPOCH, index: PieceIndex(*index) };
                rig.swarm.peers.get(&link).expect("open").holds(seq)
            })
            .collect();
        assert_eq!(held.first(), Some(&oldest), "keeping {kept_ms} ms");
        assert_eq!(held.len() as u32, head.index.0 + 1 - oldest);
    }
}
