//! The schedule against trackers that answer, fail, refuse and hang, over hours of made-up time.

use super::*;
use crate::machine::drain;
use crate::wire::tracker::{Peer, Refusal, Retry};
use std::collections::BTreeMap;

/// Trackers by URL, a clock that skips, and what was asked when.
struct World {
    announcer: Announcer,
    now: Time,
    deadline: Option<Time>,
    behaviours: BTreeMap<String, Behaviour>,
    asked: Vec<(u64, String, Event)>,
    answers: Vec<(Time, AskId, Result<Reply, TrackerFault>)>,
    found: Vec<SocketAddr>,
    dropped: usize,
    done: Option<Time>,
}

#[derive(Clone)]
enum Behaviour {
    Replies(Reply),
    Fails(TrackerFault),
    Hangs,
}

fn reply(interval_s: u32, interval_min_s: Option<u32>) -> Behaviour {
    Behaviour::Replies(Reply { interval_s: Some(interval_s), interval_min_s, ..Reply::default() })
}

fn dead() -> Behaviour {
    Behaviour::Fails(TrackerFault::Io("connection refused".into()))
}

fn refusing(retry: Retry) -> Behaviour {
    let reason = "no\x1b[2J".to_owned();
    Behaviour::Fails(TrackerFault::Refused(Refusal { reason, retry: Some(retry) }))
}

fn url(name: &str) -> String {
    format!("http://{name}.example/announce")
}

impl World {
    fn new(tiers: &[&[&str]], private: bool, trackers: &[(&str, Behaviour)]) -> Self {
        let tiers = tiers.iter().map(|tier| tier.iter().map(|name| url(name)).collect());
        let announcer = Announcer::new(Config {
            info_hash: InfoHash([1; 20]),
            peer_id: PeerId::ours([2; 12]),
            port: 6881,
            left: 1,
            num_want: 50,
            key: 3,
            tiers: tiers.collect(),
            private,
            families: vec![Family::V4],
            policy: Policy::default(),
            seed: 4,
        });
        let behaviours = trackers.iter().map(|(name, b)| (url(name), b.clone())).collect();
        let mut world = Self {
            announcer,
            now: Time::ZERO,
            deadline: None,
            behaviours,
            asked: Vec::new(),
            answers: Vec::new(),
            found: Vec::new(),
            dropped: 0,
            done: None,
        };
        world.feed(In::Tick);
        world
    }

    fn set(&mut self, name: &str, behaviour: Behaviour) {
        self.behaviours.insert(url(name), behaviour);
    }

    fn live(&mut self, live_peers: usize) {
        self.feed(In::Swarm { live_peers, uploaded: 0, downloaded: 0 });
    }

    fn feed(&mut self, input: In) {
        let mut outs = Vec::new();
        let now = Now { mono: self.now, ..Now::default() };
        self.deadline = drain(&mut self.announcer, now, input, |out| outs.push(out));
        for out in outs {
            match out {
                Out::Ask(ask) => self.take(*ask),
                Out::Found(addrs) => self.found.extend(addrs),
                Out::DropPeers => self.dropped += 1,
                Out::Done => self.done = Some(self.now),
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        let name = ask.url.as_str().to_owned();
        let outcome = match self.behaviours.get(&name) {
            Some(Behaviour::Replies(reply)) => Ok(reply.clone()),
            Some(Behaviour::Fails(fault)) => Err(fault.clone()),
            _ => {
                self.asked.push((self.now.0 / 1_000_000, name, ask.announce.event));
                return;
            }
        };
        self.asked.push((self.now.0 / 1_000_000, name, ask.announce.event));
        self.answers.push((self.now.after_us(100_000), ask.id, outcome));
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        for _ in 0..100_000 {
            self.answers.sort_by_key(|(at, id, _)| (*at, *id));
            let answer = self.answers.first().map(|(at, ..)| *at);
            let next = [answer, self.deadline].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if answer == Some(next) {
                let (_, id, outcome) = self.answers.remove(0);
                self.feed(In::Answer { id, outcome });
            } else {
                self.feed(In::Tick);
            }
        }
        panic!("the announcer never rests");
    }

    fn names(&self) -> Vec<&str> {
        let name = |url: &'_ str| url.find('.').and_then(|at| url.get(7..at).map(str::len));
        self.asked
            .iter()
            .map(|(_, url, _)| url.get(7..7 + name(url).unwrap_or(0)).unwrap_or(""))
            .collect()
    }

    fn times_of(&self, name: &str) -> Vec<u64> {
        self.asked.iter().filter(|(_, u, _)| *u == url(name)).map(|(at, ..)| *at).collect()
    }

    fn row(&self, name: &str) -> Row {
        let rows = self.announcer.status(self.now);
        rows.into_iter().find(|row| row.url == url(name)).expect("a row")
    }
}

#[test]
fn all_trackers_are_raced_for_the_first_peers() {
    let ok = reply(1800, None);
    let mut world = World::new(
        &[&["a"], &["b"], &["c"]],
        false,
        &[("a", Behaviour::Hangs), ("b", ok.clone()), ("c", ok)],
    );
    world.run(1);
    assert_eq!(world.names(), ["a", "b", "c"]);
    assert!(world.asked.iter().all(|(.., event)| *event == Event::Started));
}

#[test]
fn the_race_is_bounded_and_ends_with_the_first_live_peer() {
    let names: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    let tier: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&[&tier], false, &[]);
    assert_eq!(world.asked.len(), RACE_MAX);
    world.live(1);
    world.run(30);
    assert_eq!(world.asked.len(), RACE_MAX);
}

#[test]
fn after_the_race_only_the_first_working_tier_is_asked() {
    let ok = reply(1800, None);
    let mut world = World::new(&[&["a"], &["b"]], false, &[("a", ok.clone()), ("b", ok)]);
    world.live(4);
    world.run(4 * 3600);
    assert_eq!(world.times_of("b"), [0]);
    let times = world.times_of("a");
    assert!(times.windows(2).all(|w| (1800..=1861).contains(&(w[1] - w[0]))), "{times:?}");
    assert_eq!(times.len(), 8);
}

#[test]
fn a_dead_tier_is_covered_by_the_next_and_taken_back_when_it_returns() {
    let ok = reply(1800, None);
    let mut world = World::new(&[&["a"], &["b"]], false, &[("a", dead()), ("b", ok.clone())]);
    world.run(1);
    world.live(4);
    world.run(7200);
    assert!(world.times_of("b").len() >= 3);
    assert_eq!(world.row("a").state, State::Failed);
    assert_eq!(world.row("a").error.as_deref(), Some("connection refused"));
    world.set("a", ok);
    world.run(2500);
    let before = world.times_of("b").len();
    world.run(7200);
    assert_eq!(world.times_of("b").len(), before);
    assert_eq!(world.row("a").state, State::Working);
}

#[test]
fn failures_back_off_to_half_an_hour() {
    let mut world = World::new(&[&["a"]], false, &[("a", dead())]);
    world.run(24 * 3600);
    let times = world.times_of("a");
    assert!((50..90).contains(&times.len()), "{times:?}");
    assert!(times.windows(2).all(|w| w[1] - w[0] >= 11), "{times:?}");
}

#[test]
fn a_tracker_that_answers_moves_to_the_front_of_its_tier() {
    let mut world =
        World::new(&[&["a", "b", "c"]], false, &[("a", dead()), ("b", dead()), ("c", dead())]);
    world.run(1);
    world.set("b", reply(1800, None));
    world.live(4);
    world.run(3600);
    assert_eq!(world.announcer.status(world.now)[0].url, url("b"));
}

#[test]
fn early_announces_come_only_while_peers_are_few_and_grow_rarer() {
    let mut world = World::new(&[&["a"]], false, &[("a", reply(1800, None))]);
    world.run(3600);
    let times = world.times_of("a");
    assert!((30..=61).contains(&(times[1] - times[0])), "{times:?}");
    assert!(times.len() <= 9, "{times:?}");
    let early = times.len();
    world.live(4);
    world.run(1700);
    assert!(world.times_of("a").len() <= early + 1);
}

#[test]
fn a_minimum_interval_holds_for_early_announces_too() {
    let mut world = World::new(&[&["a"]], false, &[("a", reply(1800, Some(900)))]);
    world.run(5000);
    let times = world.times_of("a");
    assert!(times.windows(2).all(|w| w[1] - w[0] >= 900), "{times:?}");
    assert_eq!(times[1] - times[0], 900);
}

#[test]
fn absurd_intervals_are_bounded() {
    for (interval, low, high) in [(0, 60, 67), (u32::MAX, 86_400, 86_461)] {
        let mut world = World::new(&[&["a"]], false, &[("a", reply(interval, None))]);
        world.live(9);
        world.run(90_000);
        let times = world.times_of("a");
        assert!((low..=high).contains(&(times[1] - times[0])), "{interval}: {times:?}");
    }
}

#[test]
fn retry_in_is_obeyed_and_never_means_never() {
    for (retry, most) in [(Retry::Minutes(60), 25), (Retry::Never, 1)] {
        let mut world = World::new(&[&["a"]], false, &[("a", refusing(retry))]);
        world.run(24 * 3600);
        let times = world.times_of("a");
        assert!(times.len() <= most, "{times:?}");
        assert!(times.windows(2).all(|w| w[1] - w[0] >= 3600), "{times:?}");
    }
}

#[test]
fn a_trackers_words_are_escaped_in_the_status() {
    let mut world = World::new(&[&["a"]], false, &[("a", refusing(Retry::Never))]);
    world.run(1);
    let row = world.row("a");
    assert_eq!(row.error.as_deref(), Some("tracker says: no\\u{1b}[2J"));
    assert_eq!(row.state, State::GivenUp);
}

#[test]
fn started_is_said_once_to_each_and_completed_never() {
    let mut world = World::new(&[&["a"]], false, &[("a", dead())]);
    world.run(100);
    assert!(world.asked.iter().all(|(.., event)| *event == Event::Started));
    world.set("a", reply(60, None));
    world.run(1000);
    let accepted = world.asked.iter().rposition(|(.., event)| *event == Event::Started);
    let rest = world.asked.split_off(accepted.expect("started") + 1);
    assert!(!rest.is_empty() && rest.iter().all(|(.., event)| *event == Event::None));
}

#[test]
fn stopped_goes_to_all_that_were_told_started() {
    let ok = reply(1800, None);
    let trackers = [("a", ok.clone()), ("b", dead()), ("c", ok), ("d", Behaviour::Hangs)];
    let mut world = World::new(&[&["a"], &["b"], &["c"], &["d"]], false, &trackers);
    world.run(1);
    world.asked.clear();
    world.feed(In::Stop);
    assert_eq!(world.names(), ["a", "c", "d"]);
    assert!(world.asked.iter().all(|(.., event)| *event == Event::Stopped));
    world.run(10);
    assert_eq!(world.done, Some(Time(3_000_000)));
}

#[test]
fn the_end_comes_at_once_when_all_answer() {
    let mut world = World::new(&[&["a"]], false, &[("a", reply(1800, None))]);
    world.run(1);
    world.feed(In::Stop);
    world.run(10);
    assert_eq!(world.done, Some(Time(1_100_000)));
    let mut idle = World::new(&[], false, &[]);
    idle.feed(In::Stop);
    assert_eq!(idle.done, Some(Time::ZERO));
}

#[test]
fn a_private_swarm_uses_one_tracker_at_a_time() {
    let ok = reply(1800, None);
    let trackers = [("a", dead()), ("b", ok.clone()), ("c", ok)];
    let mut world = World::new(&[&["a"], &["b"], &["c"]], true, &trackers);
    assert_eq!(world.names(), ["a"]);
    world.run(1);
    assert_eq!(world.names(), ["a", "b"]);
    assert_eq!(world.dropped, 1);
    world.run(24 * 3600);
    assert!(world.times_of("c").is_empty());
    assert_eq!(world.times_of("a").len(), 1);
}

#[test]
fn a_silent_private_tracker_is_kept_while_a_peer_lives() {
    let ok = reply(1800, None);
    let mut world = World::new(&[&["a"], &["b"]], true, &[("a", ok.clone()), ("b", ok)]);
    world.run(1);
    world.live(1);
    world.set("a", dead());
    world.run(24 * 3600);
    assert!(world.times_of("b").is_empty());
    assert!(world.times_of("a").len() > 20);
    assert_eq!(world.dropped, 0);
    world.live(0);
    assert_eq!(world.times_of("b").len(), 1);
    assert_eq!(world.dropped, 1);
}

#[test]
fn private_trackers_that_all_fail_are_asked_in_turn_without_haste() {
    let mut world = World::new(&[&["a"], &["b"]], true, &[("a", dead()), ("b", dead())]);
    world.run(24 * 3600);
    assert!((100..200).contains(&world.asked.len()), "{}", world.asked.len());
}

#[test]
fn peers_are_reported_once_judged_and_without_ourselves() {
    let peer = |addr: &str| Peer::from(addr.parse::<SocketAddr>().expect("address"));
    let mut peers = vec![peer("8.8.8.8:6881"); 500];
    for bad in ["8.8.4.4:0", "8.8.4.4:25", "127.0.0.1:6881", "224.0.0.1:6881", "9.9.9.9:6881"] {
        peers.push(peer(bad));
    }
    peers.push(peer("[::ffff:8.8.8.8]:6881"));
    peers.push(Peer { id: Some(PeerId::ours([2; 12])), ..peer("7.7.7.7:6881") });
    let external_ip = Some("9.9.9.9".parse().expect("ip"));
    let reply = Behaviour::Replies(Reply { peers, external_ip, ..Reply::default() });
    let mut world = World::new(&[&["a"]], false, &[("a", reply)]);
    world.run(1);
    assert_eq!(world.found, ["8.8.8.8:6881".parse().expect("address")]);
}

#[test]
fn urls_that_are_no_trackers_are_shown_and_not_asked() {
    let mut world = World::new(&[], false, &[]);
    let mut config = world.announcer.config.clone();
    config.tiers = vec![vec!["http://t.example/a?info_hash=x".into(), "wss://x.example".into()]];
    world.announcer = Announcer::new(config);
    world.feed(In::Tick);
    world.run(3600);
    assert!(world.asked.is_empty());
    let rows = world.announcer.status(world.now);
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.state == State::GivenUp && row.error.is_some()));
}

#[test]
fn the_same_seed_asks_the_same_at_the_same_time() {
    let run = || {
        let trackers = [("a", dead()), ("b", reply(300, None)), ("c", dead())];
        let mut world = World::new(&[&["a", "b", "c"]], false, &trackers);
        world.run(10_000);
        world.asked
    };
    assert_eq!(run(), run());
}
