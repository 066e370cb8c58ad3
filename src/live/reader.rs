//! In-order reading: one cursor a reader, each at its own delay.
//!
//! A reader starts at a random access point that leaves its target delay, is given at once what is
//! due, and then each piece when its birth is the delay ago; it comes to that delay by playing a
//! little slower or faster. What is missing is waited for; it is skipped when its patience is over
//! and something behind it is here, or sooner if it is a hole of a moment. Time is the stream's own
//! clock, so a reader whose clock on the wall is wrong plays like any other.

use bytes::Bytes;

use super::clock::StreamClock;
use super::delay::{Aim, Arrivals, Delay};
use super::feed::Feed;
use super::store::{Piece, Store};
use crate::units::{BlockNo, Epoch, PieceIndex, Seq, Time, UnixUs};
use crate::wire::feed::{EXT_TABLES, Flags, Head};

/// What a reader gets, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A whole piece.
    Piece {
        /// Its place in the stream.
        seq: Seq,
        /// Packets to put ahead of it for a decoder that starts here (PAT and PMT); empty if the
        /// piece has them itself or the reader has seen them.
        tables: Bytes,
        /// Its blocks in order.
        blocks: Vec<Bytes>,
        /// Whether what came before is missing.
        discontinuity: bool,
    },
    /// Pieces that will not come: their deadline passed, or their epoch did.
    Skip {
        /// The first missing piece.
        from: Seq,
        /// How many; 0 if nobody knows, because an epoch broke off.
        pieces: u32,
    },
    /// The broadcaster ended the stream.
    End,
}

/// Shortest time that a missing piece is waited for beyond its deadline.
const PATIENCE_US_MIN: u64 = 500_000;
/// With a delay that the user chose it is waited for only this long if so much is whole behind it:
/// one hole of a moment must not make all that follows late.
const HOLE_US: u64 = 200_000;
const RUN_US: u64 = 500_000;
/// A piece that is late by more than this is a stall.
const STALL_US: u64 = 200_000;
/// Without a piece for as long as this a player has starved.
const STARVED_US: u64 = 3_000_000;
/// Then what is missing is waited for only this long beyond its deadline, whatever the aim.
const STARVED_PATIENCE_US: u64 = 300_000;
/// The pace at which a joiner's pieces come is reckoned over this long at least.
const PACE_US_MIN: u64 = 500_000;
/// What is pushed may be this old and not here yet.
const PUSHED_US: u64 = 1_000_000;
/// What is here lasts for so long at least: what is pushed does not come evenly.
const CUSHION_US: u64 = 250_000;
/// A start is waited for this long beyond the delay; then the best that is here is taken.
const START_US: u64 = 500_000;
/// While nothing is whole that is put off for this long: a place chosen then is chosen blindly.
const NOTHING_US: u64 = 2_000_000;

/// What a reader looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The entries.
    pub feed: &'a Feed,
    /// The blocks.
    pub store: &'a Store,
    /// The source's clock as seen from here.
    pub clock: &'a StreamClock,
    /// How old pieces were when they were whole.
    pub arrivals: &'a Arrivals,
    /// Birth time that peers keep, in microseconds.
    pub window_us: u64,
    /// Whether the entries reach back far enough to choose where to start.
    pub can_start: bool,
    /// The block from which on everything comes by itself; `None` while something does not.
    pub pushed_from: Option<BlockNo>,
}

/// What became of a reader so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Pieces handed over.
    pub pieces: u64,
    /// Pieces skipped.
    pub missed: u64,
    /// When the first piece was handed over.
    pub first_at: Option<Time>,
    /// Times it waited for more than 200 ms.
    pub stalls: u64,
    /// Microseconds waited in them.
    pub stalled_us: u64,
    /// Birth of the last piece to its handing over, in microseconds.
    pub delay_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Where to start is not chosen yet.
    Joining,
    /// Plays; `next` comes next.
    Playing,
    /// The signed end was handed over.
    Ended,
}

/// One who reads in order.
#[derive(Debug)]
pub struct Reader {
    state: State,
    aim: Aim,
    /// Present delay between birth and handing over; `None` before the first piece.
    lag_us: Option<u64>,
    credit: u32,
    next: Seq,
    joining_since: Option<Time>,
    chosen_at: Time,
    fresh: bool,
    discontinuity: bool,
    /// When the missing piece was due, while one is waited for.
    due_since: Option<Time>,
    deadline: Time,
    /// When the last piece was handed over.
    given_at: Option<Time>,
    played: Played,
}

impl Reader {
    /// A reader that aims at `delay` between birth and handing over.
    #[must_use]
    pub fn new(delay: Delay) -> Self {
        Self {
            state: State::Joining,
            aim: Aim::new(delay),
            lag_us: None,
            credit: 0,
            next: Seq::default(),
            joining_since: None,
            chosen_at: Time::ZERO,
            fresh: true,
            discontinuity: false,
            due_since: None,
            deadline: Time::NEVER,
            given_at: None,
            played: Played::default(),
        }
    }

    /// The reader can take this many further pieces.
    pub fn add_credit(&mut self, pieces: u32) {
        self.credit = self.credit.saturating_add(pieces);
    }

    /// What comes next, once the start is chosen.
    #[must_use]
    pub fn next(&self) -> Option<Seq> {
        (self.state == State::Playing).then_some(self.next)
    }

    /// The delay it aims at, in microseconds.
    #[must_use]
    pub fn target_us(&self) -> u64 {
        self.aim.us()
    }

    /// What became of it so far.
    #[must_use]
    pub fn played(&self) -> &Played {
        &self.played
    }

    /// Since when it waits for a piece that is due, if it does.
    #[must_use]
    pub fn waits_since(&self) -> Option<Time> {
        self.due_since
    }

    /// Whether it was given the end of the stream.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// When [`Reader::poll`] may have something without anything new having arrived.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// What to hand over next; called until `None`.
    pub fn poll(&mut self, now: Time, view: View<'_>) -> Option<Delivery> {
        self.deadline = Time::NEVER;
        let source_now = view.clock.source(now)?;
        if self.state == State::Joining {
            self.join(now, source_now, view)?;
        }
        self.aim.settle(now, view.window_us, view.arrivals.largest_us(now));
        // Empty pieces pass without a delivery; at most a window of them in a row.
        loop {
            if self.state == State::Ended || self.credit == 0 {
                return None;
            }
            match self.step(now, source_now, view) {
                Step::Wait(until) => {
                    self.deadline = until;
                    return None;
                }
                Step::Passed => {}
                Step::Give(delivery) => {
                    // Whoever takes no more in this turn has to come back for the next.
                    self.deadline = now;
                    return Some(delivery);
                }
            }
        }
    }

    /// Chooses where to start: the oldest place that is not due yet and from which what is here
    /// lasts as long as what lacks will take to come. On a quick network that is far back, and the
    /// delay is whole from the start; on a slow one it is the next random access point that is
    /// pushed whole, and the delay grows as it plays.
    fn join(&mut self, now: Time, source_now: UnixUs, view: View<'_>) -> Option<()> {
        if !view.can_start {
            return None;
        }
        let start = view.feed.start_at(source_now, self.aim.us());
        let head = start.or_else(|| view.feed.oldest())?.entry.head;
        if start.is_none() && !head.flags.empty_piece() {
            // No place to decode from is known: a second later any place will do.
            let known_for = source_now.0.saturating_sub(head.published().0);
            if known_for < 1_000_000 {
                self.deadline = now.after_us(1_000_000 - known_for);
                return None;
            }
        }
        let waited = now.since_us(*self.joining_since.get_or_insert(now));
        let late = waited >= self.aim.us() + START_US;
        if late {
            let best = places(view.feed, &head).max_by_key(|h| (run_len(view, h), h.index));
            let is_hopeless = waited >= self.aim.us() + START_US + NOTHING_US;
            let is_some = |head: &&Head| head.flags.empty_piece() || run_len(view, head) > 0;
            return self.start(now, best.filter(|head| is_hopeless || is_some(head)));
        }
        let ready = |head: &&Head| {
            let cushion = CUSHION_US.min(self.aim.us() / 2);
            let lasts = |pushed_from| lasts(view, head, source_now, waited, (pushed_from, cushion));
            head.flags.empty_piece() || view.pushed_from.is_some_and(lasts)
        };
        self.start(now, places(view.feed, &head).find(ready))
    }

    /// Starts at a place, or waits on if there is none.
    fn start(&mut self, now: Time, place: Option<&Head>) -> Option<()> {
        let Some(head) = place else {
            self.deadline = now.after_us(50_000);
            return None;
        };
        self.next = head.seq();
        self.chosen_at = now;
        self.state = State::Playing;
        Some(())
    }

    fn step(&mut self, now: Time, source_now: UnixUs, view: View<'_>) -> Step {
        if let Some(piece) = view.store.piece(self.next).filter(|piece| piece.is_whole()) {
            return self.reach(now, source_now, piece);
        }
        if view.feed.epoch() > self.next.epoch {
            return self.enter_epoch(now, source_now, view);
        }
        let due = self.due_missing(view);
        let Some(due) = due else {
            // The head was reached: nothing is late before the source published more.
            self.due_since = None;
            return Step::Wait(Time::NEVER);
        };
        let lag = self.lag_us.unwrap_or(self.aim.us());
        let mut due_at = view.clock.local(UnixUs(due.0.saturating_add(lag)), now).unwrap_or(now);
        if self.fresh {
            due_at = due_at.max(self.chosen_at);
        }
        if now >= due_at && !self.fresh {
            self.due_since.get_or_insert(due_at);
        }
        // Whoever plays with less delay than it aims at has the rest of it left to wait.
        let spare = self.aim.us().saturating_sub(lag);
        let give_up = if self.is_starved(now) {
            due_at.after_us(STARVED_PATIENCE_US)
        } else {
            due_at.after_us(spare + self.patience_us())
        };
        let hole_until = due_at.after_us(spare + HOLE_US).min(give_up);
        if now >= give_up || (now >= hole_until && self.is_hole(view)) {
            return self.skip(now, view);
        }
        let next = [due_at, hole_until, give_up].into_iter().find(|at| now < *at);
        Step::Wait(next.unwrap_or(give_up))
    }

    /// Whether what is missing is a hole in a stream that comes in time otherwise, and the delay is
    /// not ours to make longer.
    fn is_hole(&self, view: View<'_>) -> bool {
        if self.aim.is_chosen_here() {
            return false;
        }
        let behind = Seq { index: self.next.index.next(), ..self.next };
        let mut behind = view.store.range(behind).skip_while(|(_, piece)| !piece.is_whole());
        let Some((first, piece)) = behind.next() else { return false };
        let span_us = |piece: &Piece| u64::from(piece.genuine.entry.head.span_us);
        let (mut last, mut run_us) = (*first, span_us(piece));
        for (seq, piece) in behind {
            let follows = seq.epoch == last.epoch && seq.index == last.index.next();
            if run_us >= RUN_US || !follows || !piece.is_whole() {
                break;
            }
            (last, run_us) = (*seq, run_us + span_us(piece));
        }
        first.epoch == self.next.epoch && run_us >= RUN_US
    }

    /// Whether the player has had nothing for so long that every further wait is one too many.
    fn is_starved(&self, now: Time) -> bool {
        self.given_at.is_some_and(|at| now.since_us(at) > STARVED_US)
    }

    /// How long a missing piece is waited for beyond its deadline.
    fn patience_us(&self) -> u64 {
        (self.aim.us() / 2).max(PATIENCE_US_MIN)
    }

    /// Birth of the missing piece, or of the first known one behind it.
    fn due_missing(&self, view: View<'_>) -> Option<UnixUs> {
        if let Some(known) = view.feed.get(self.next.index) {
            return Some(known.entry.head.birth);
        }
        let head = view.feed.head()?;
        if head.index < self.next.index {
            return None;
        }
        view.feed.iter().find(|g| g.entry.head.index > self.next.index).map(|g| g.entry.head.birth)
    }

    /// Hands over a whole piece, once it is due.
    fn reach(&mut self, now: Time, source_now: UnixUs, piece: &Piece) -> Step {
        let head = &piece.genuine.entry.head;
        if head.flags.has(Flags::END) || head.flags.has(Flags::WITHDRAWN) {
            self.state = State::Ended;
            return Step::Give(Delivery::End);
        }
        if head.len == 0 {
            self.next.index = self.next.index.next();
            return Step::Passed;
        }
        let age = source_now.0.saturating_sub(head.birth.0);
        let lag = *self.lag_us.get_or_insert(age.min(self.aim.us()));
        if age < lag {
            return Step::Wait(now.after_us(lag - age));
        }
        if self.due_since.is_some() {
            self.aim.waited(age);
        }
        // Who had to wait has a longer delay from then on. What comes later still is handed over at
        // once: the player has stood still meanwhile and needs it to go on.
        let lag = lag.max(age.min(self.aim.late_us()));
        self.lag_us = Some(self.aim.approach(lag, u64::from(head.span_us)));
        self.note_stall(now);
        self.given_at = Some(now);
        self.played.pieces += 1;
        self.played.first_at.get_or_insert(now);
        self.played.delay_us = age;
        self.credit -= 1;
        self.next.index = self.next.index.next();
        let fresh = std::mem::take(&mut self.fresh);
        let discontinuity = std::mem::take(&mut self.discontinuity)
            || (!fresh && head.flags.has(Flags::DISCONTINUITY));
        let tables = if fresh || discontinuity {
            piece.genuine.entry.ext.get(EXT_TABLES).unwrap_or_default()
        } else {
            Bytes::new()
        };
        let blocks = piece.whole().unwrap_or_default();
        Step::Give(Delivery::Piece { seq: head.seq(), tables, blocks, discontinuity })
    }

    fn note_stall(&mut self, now: Time) {
        if let Some(since) = self.due_since.take() {
            let waited = now.since_us(since);
            if waited > STALL_US {
                self.played.stalls += 1;
                self.played.stalled_us += waited;
            }
        }
    }

    /// Moves to the next whole piece behind the missing ones, if there is one.
    fn skip(&mut self, now: Time, view: View<'_>) -> Step {
        let behind = Seq { index: self.next.index.next(), ..self.next };
        let below_window = view.store.first().is_none_or(|first| first > self.next);
        let found =
            view.store.range(behind).take_while(|(seq, _)| seq.epoch == self.next.epoch).find(
                |(_, piece)| {
                    let starts = piece.genuine.entry.head.flags.has(Flags::RANDOM_ACCESS);
                    // One who fell out of the window goes on where a decoder can.
                    piece.is_whole() && (starts || !below_window)
                },
            );
        let Some((seq, _)) = found else { return Step::Wait(Time::NEVER) };
        let (from, to) = (self.next, *seq);
        self.aim.missed(now);
        self.skip_to(from, to, to.index.0 - from.index.0)
    }

    /// The source began anew: what is still whole of the old epoch comes first, then the new one
    /// from its first place to decode from.
    fn enter_epoch(&mut self, now: Time, source_now: UnixUs, view: View<'_>) -> Step {
        let epoch: Epoch = view.feed.epoch();
        let rest = view
            .store
            .range(self.next)
            .take_while(|(seq, _)| seq.epoch == self.next.epoch)
            .find(|(_, piece)| piece.is_whole() && piece.genuine.entry.head.len > 0);
        if let Some((seq, _)) = rest {
            let (from, to) = (self.next, *seq);
            return self.skip_to(from, to, to.index.0 - from.index.0);
        }
        let start = view.feed.first_start().or_else(|| {
            let oldest = view.feed.oldest()?;
            let waited = source_now.0.saturating_sub(oldest.entry.head.published().0);
            (waited >= 1_000_000 || oldest.entry.head.flags.empty_piece()).then_some(oldest)
        });
        let Some(start) = start else { return Step::Wait(now.after_us(200_000)) };
        let from = self.next;
        let to = Seq { epoch, index: start.entry.head.index };
        self.skip_to(from, to, 0)
    }

    fn skip_to(&mut self, from: Seq, to: Seq, pieces: u32) -> Step {
        self.next = to;
        self.discontinuity = true;
        self.played.missed += u64::from(pieces);
        Step::Give(Delivery::Skip { from, pieces })
    }

    /// The first piece that the reader may still need.
    #[must_use]
    pub fn floor(&self) -> Option<PieceIndex> {
        self.next().map(|seq| seq.index)
    }
}

enum Step {
    Wait(Time),
    Passed,
    Give(Delivery),
}

/// Where a reader may start from `first` on.
fn places<'a>(feed: &'a Feed, first: &'a Head) -> impl Iterator<Item = &'a Head> {
    let later = feed
        .iter()
        .map(|known| &known.entry.head)
        .filter(|head| head.index > first.index && head.flags.has(Flags::RANDOM_ACCESS));
    std::iter::once(first).chain(later)
}

/// Pieces that are whole from `start` on without a hole.
fn run_len(view: View<'_>, start: &Head) -> usize {
    let behind = view.store.range(start.seq()).zip(start.index.0..);
    let whole = behind.take_while(|((seq, piece), index)| {
        piece.is_whole() && seq.epoch == start.epoch && seq.index.0 == *index
    });
    whole.count()
}

/// Whether what is whole from `start` on lasts as long as what lacks up to the present will take
/// to come, at the pace at which it came so far. What is pushed, from `pushed_from` on, comes as
/// fast as it is played and does not lack while it is young; `cushion_us` has to be here at least.
fn lasts(
    view: View<'_>,
    start: &Head,
    source_now: UnixUs,
    waited_us: u64,
    (pushed_from, cushion_us): (BlockNo, u64),
) -> bool {
    let run = view.feed.iter().map(|known| &known.entry.head);
    let mut run = run.skip_while(|head| head.index < start.index).peekable();
    let (mut here, mut lacks) = (0, 0);
    let mut contiguous = true;
    while let Some(head) = run.next() {
        let next = run.peek();
        // A piece lasts until the next one's birth: one that was held back says nothing by its
        // span. Behind the last one is what was not published yet.
        let until = next.map_or(source_now, |next| next.birth.min(source_now)).0;
        let lasts = until.saturating_sub(head.birth.0);
        let is_whole = view.store.piece(head.seq()).is_some_and(Piece::is_whole);
        let span = if next.is_some() { lasts } else { lasts.min(u64::from(head.span_us)) };
        let age = source_now.0.saturating_sub(head.published().0);
        let is_coming = head.first_block >= pushed_from && age < PUSHED_US;
        if is_whole && contiguous {
            here += span;
            lacks += if is_coming { 0 } else { lasts - span };
        } else if !is_whole && !is_coming {
            lacks += lasts;
        }
        let is_followed = next.is_none_or(|next| next.index == head.index.next());
        contiguous &= is_whole && is_followed;
    }
    let age = source_now.0.saturating_sub(start.birth.0);
    // What came, came in this time: here / came is the pace, and lacks / pace the time to wait.
    // What came within a moment says little of what is to follow.
    let came = waited_us.max(PACE_US_MIN).min(age);
    here >= cushion_us.min(age)
        && here > 0
        && u128::from(here) * u128::from(here) >= u128::from(lacks) * u128::from(came)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::feed::tests::{block_bytes, chain, stream};
    use super::*;

    /// A viewer's view with pieces of one block, born 131 ms apart from 1 s on.
    struct Scene {
        feed: Feed,
        store: Store,
        clock: StreamClock,
        arrivals: Arrivals,
        raws: Vec<Bytes>,
    }

    impl Scene {
        /// Entries and blocks of all pieces but the `missing` ones.
        fn new(pieces: usize, missing: &[usize]) -> Self {
            let raws = chain(9, 0, &vec![1000; pieces]);
            let mut scene = Self {
                feed: Feed::new(stream()).expect("key"),
                store: Store::new(60_000_000, 1 << 24),
                clock: StreamClock::default(),
                arrivals: Arrivals::default(),
                raws,
            };
            // The source's clock and ours are the same here.
            scene.clock.observe(Time(1_000_000), UnixUs(1_000_000));
            for n in 0..pieces {
                scene.entry(n);
                if !missing.contains(&n) {
                    scene.block(n);
                }
            }
            scene
        }

        fn entry(&mut self, n: usize) {
            self.feed.offer(&self.raws[n]).expect("genuine");
            let genuine = self.feed.get(PieceIndex(n as u32)).expect("taken").clone();
            self.store.expect(&genuine);
        }

        fn block(&mut self, n: usize) {
            let seq = Seq { epoch: Epoch(9), index: PieceIndex(n as u32) };
            self.store.put(seq, 0, &block_bytes(seq, 0, 1000));
        }

        fn view(&self) -> View<'_> {
            View {
                feed: &self.feed,
                store: &self.store,
                clock: &self.clock,
                arrivals: &self.arrivals,
                window_us: 60_000_000,
                can_start: true,
                pushed_from: Some(BlockNo(u64::MAX)),
            }
        }

        fn read(&self, reader: &mut Reader, at: u64) -> Vec<String> {
            let view = self.view();
            std::iter::from_fn(|| reader.poll(Time(at), view)).map(|d| short(&d)).collect()
        }
    }

    fn short(delivery: &Delivery) -> String {
        match delivery {
            Delivery::Piece { seq, discontinuity: false, .. } => format!("{}", seq.index),
            Delivery::Piece { seq, .. } => format!("!{}", seq.index),
            Delivery::Skip { pieces, .. } => format!("skip {pieces}"),
            Delivery::End => "end".to_owned(),
        }
    }

    fn aiming_at(delay_ms: u64) -> Reader {
        let mut reader = Reader::new(Delay::Auto);
        reader.aim = Aim::exactly(Duration::from_millis(delay_ms));
        reader
    }

    fn reader(delay_ms: u64) -> Reader {
        let mut reader = aiming_at(delay_ms);
        reader.add_credit(1000);
        reader
    }

    const fn birth(n: u64) -> u64 {
        1_000_000 + n * 131_000
    }

    #[test]
    fn a_reader_starts_where_a_decoder_can_that_is_not_due_yet() {
        let scene = Scene::new(20, &[]);
        let mut reader = reader(500);
        // The start at 12 is 393 ms old when piece 15 is born.
        assert_eq!(scene.read(&mut reader, birth(15)), ["12"]);
        let lag = 393_000 + 131_000 * 3 / 100;
        assert_eq!(reader.deadline(), Time(birth(13) + lag));
        assert_eq!(scene.read(&mut reader, birth(13) + lag), ["13"]);
    }

    #[test]
    fn a_start_that_is_waited_for_too_long_is_the_one_with_most_behind_it() {
        // Nothing comes by itself. There are places at 24, 28, 32 and 36.
        let scene = Scene::new(40, &[25, 30, 38]);
        let mut reader = reader(2_000);
        reader.joining_since = Some(Time(birth(20)));
        let read = |reader: &mut Reader, at| {
            let view = View { pushed_from: None, ..scene.view() };
            std::iter::from_fn(|| reader.poll(Time(at), view))
                .map(|d| short(&d))
                .collect::<Vec<_>>()
        };
        assert!(read(&mut reader, birth(20) + 2_000_000 + START_US - 1).is_empty());
        let at = birth(20) + 2_000_000 + START_US;
        assert_eq!(read(&mut reader, at).first().map(String::as_str), Some("32"));
    }

    #[test]
    fn on_a_young_stream_the_delay_grows_by_3_percent() {
        let scene = Scene::new(8, &[]);
        let mut reader = reader(2_000);
        assert_eq!(scene.read(&mut reader, birth(1)), ["0"]);
        let lag = 131_000 + 131_000 * 3 / 100;
        assert_eq!(reader.deadline(), Time(birth(1) + lag));
    }

    /// Reads at each moment that the reader asks for, from `from` to `until`.
    fn play(scene: &Scene, reader: &mut Reader, from: u64, until: u64) -> Vec<String> {
        let (mut at, mut out) = (from, Vec::new());
        while at <= until {
            out.extend(scene.read(reader, at));
            at = reader.deadline().0.max(at + 1);
        }
        out
    }

    #[test]
    fn a_reader_later_than_it_aims_at_plays_3_percent_faster() {
        let mut scene = Scene::new(12, &[9]);
        let mut reader = Reader::new(Duration::from_secs(1).into());
        reader.add_credit(1000);
        // It aims at 900 ms.
        assert_eq!(play(&scene, &mut reader, birth(4) + 900_000, birth(9) + 979_999).len(), 5);
        scene.block(9);
        assert_eq!(scene.read(&mut reader, birth(9) + 980_000), ["9"]);
        let faster = 131_000 * 3 / 100;
        assert_eq!(reader.deadline(), Time(birth(10) + 980_000 - faster));
        assert_eq!(scene.read(&mut reader, birth(10) + 980_000 - faster), ["10"]);
        assert_eq!(reader.deadline(), Time(birth(11) + 980_000 - 2 * faster));
    }

    #[test]
    fn what_is_later_than_the_delay_is_handed_over_at_once() {
        let mut scene = Scene::new(13, &[9]);
        let mut reader = Reader::new(Duration::from_secs(1).into());
        reader.add_credit(1000);
        assert_eq!(play(&scene, &mut reader, birth(4) + 900_000, birth(9) + 1_299_999).len(), 5);
        scene.block(9);
        assert_eq!(scene.read(&mut reader, birth(9) + 1_300_000), ["9", "10", "11"]);
    }

    #[test]
    fn a_reader_that_chooses_its_delay_keeps_that_of_a_late_piece() {
        let mut scene = Scene::new(40, &[30]);
        let mut reader = Reader::new(Delay::Auto);
        reader.add_credit(1000);
        play(&scene, &mut reader, birth(16) + 2_000_000, birth(30) + 2_399_999);
        assert_eq!(reader.next().map(|seq| seq.index.0), Some(30));
        scene.block(30);
        assert_eq!(scene.read(&mut reader, birth(30) + 2_400_000), ["30"]);
        assert_eq!(reader.target_us(), 3_000_000);
        // Nothing more is handed over at once: it goes on as late as it is, and a little slower.
        assert_eq!(reader.deadline(), Time(birth(31) + 2_400_000 + 131_000 * 3 / 100));
    }

    #[test]
    fn a_missing_piece_is_waited_for_and_then_skipped_for_what_is_behind_it() {
        let mut scene = Scene::new(12, &[9, 10]);
        let mut reader = reader(200);
        assert_eq!(scene.read(&mut reader, birth(8) + 150_000), ["8"]);
        assert!(scene.read(&mut reader, birth(9) + 650_000).is_empty());
        scene.block(9);
        assert_eq!(scene.read(&mut reader, birth(9) + 690_000), ["9"]);
        assert_eq!(scene.read(&mut reader, birth(10) + 700_000), ["skip 1", "!11"]);
        assert_eq!(reader.played().missed, 1);
        assert_eq!(reader.played().stalls, 2);
    }

    #[test]
    fn a_hole_of_a_moment_is_skipped_before_what_follows_is_late_if_the_user_chose_the_delay() {
        for (pieces, skipped) in [(14, true), (13, false)] {
            // Behind the hole are four pieces, 524 ms, or three.
            let mut scene = Scene::new(pieces, &[9]);
            let mut reader = Reader::new(Duration::from_secs(2).into());
            reader.add_credit(1000);
            let due = birth(9) + 1_800_000;
            let before = play(&scene, &mut reader, birth(4) + 1_800_000, due + HOLE_US - 1);
            assert_eq!(before.last().map(String::as_str), Some("8"));
            let at_due = scene.read(&mut reader, due + HOLE_US);
            assert_eq!(at_due.first().map(String::as_str), skipped.then_some("skip 1"));
            // Where too little follows it is waited for.
            scene.block(9);
            let next = scene.read(&mut reader, due + 2 * HOLE_US);
            assert_eq!(next.first().map(String::as_str), Some(if skipped { "11" } else { "9" }));
        }
    }

    #[test]
    fn a_reader_that_chooses_its_delay_waits_for_a_hole() {
        let mut scene = Scene::new(20, &[9]);
        let mut reader = Reader::new(Delay::Auto);
        reader.add_credit(1000);
        play(&scene, &mut reader, birth(4) + 2_000_000, birth(9) + 2_500_000);
        assert_eq!(reader.next().map(|seq| seq.index.0), Some(9));
        scene.block(9);
        assert_eq!(scene.read(&mut reader, birth(9) + 2_600_000)[0], "9");
    }

    #[test]
    fn one_who_had_nothing_for_three_seconds_waits_only_for_a_moment_more() {
        let mut scene = Scene::new(9, &[]);
        let mut reader = reader(1_500);
        // The delay is still short: there was not more to wait for at the start.
        assert_eq!(play(&scene, &mut reader, birth(8), birth(8) + 1_500_000).len(), 9);
        let lag = reader.lag_us.expect("it plays");
        scene.raws = chain(9, 0, &[1000; 40]);
        (9..40).for_each(|n| scene.entry(n));
        (32..40).for_each(|n| scene.block(n));
        let at = birth(31) + lag + STARVED_PATIENCE_US;
        // What lies before 31 is overdue by far.
        assert_eq!(scene.read(&mut reader, at).first().map(String::as_str), Some("skip 23"));
    }

    #[test]
    fn nothing_is_skipped_while_there_is_nothing_behind_it() {
        let mut scene = Scene::new(10, &[9]);
        let mut reader = reader(200);
        assert_eq!(scene.read(&mut reader, birth(8) + 150_000), ["8"]);
        assert!(scene.read(&mut reader, birth(9) + 5_000_000).is_empty());
        scene.block(9);
        assert_eq!(scene.read(&mut reader, birth(9) + 6_000_000), ["9"]);
    }

    #[test]
    fn a_reader_without_credit_gets_nothing_and_one_below_the_window_moves_to_a_start() {
        let mut scene = Scene::new(24, &[]);
        let mut reader = aiming_at(100);
        reader.add_credit(1);
        assert_eq!(scene.read(&mut reader, birth(6)), ["4"]);
        assert!(scene.read(&mut reader, birth(23)).is_empty());
        let newest = UnixUs(birth(23));
        let mut small = Store::new(131_000 * 10, 1 << 24);
        for n in 0..24 {
            let genuine = scene.feed.get(PieceIndex(n)).expect("known").clone();
            small.expect(&genuine);
            let seq = genuine.entry.head.seq();
            small.put(seq, 0, &block_bytes(seq, 0, 1000));
        }
        small.slide(newest);
        scene.store = small;
        reader.add_credit(1);
        assert_eq!(scene.read(&mut reader, birth(23)), ["skip 11", "!16"]);
    }

    #[test]
    fn a_new_epoch_is_entered_behind_what_is_left_of_the_old_one() {
        let mut scene = Scene::new(10, &[9]);
        let mut reader = reader(100);
        assert_eq!(scene.read(&mut reader, birth(4) + 100_000), ["4"]);
        assert_eq!(scene.read(&mut reader, birth(8) + 50_000), ["5", "6", "7"]);
        scene.raws = chain(10, 2000, &[1000; 2]);
        for raw in scene.raws.clone() {
            scene.feed.offer(&raw).expect("genuine");
        }
        for index in [2000, 2001] {
            let genuine = scene.feed.get(PieceIndex(index)).expect("known").clone();
            scene.store.expect(&genuine);
            let seq = genuine.entry.head.seq();
            scene.store.put(seq, 0, &block_bytes(seq, 0, 1000));
        }
        assert_eq!(scene.read(&mut reader, birth(12)), ["8", "skip 0", "!2000", "2001"]);
    }

    #[test]
    fn the_signed_end_is_the_last_thing_a_reader_gets() {
        let mut scene = Scene::new(1, &[]);
        let mut builder = crate::live::builder::Builder::open_epoch(
            stream(),
            super::super::feed::tests::key(),
            "x/y",
            crate::units::Now { mono: Time(0), wall: UnixUs(birth(3)) },
            Epoch(11),
            None,
        );
        let end = builder.end(crate::units::Now { mono: Time(0), wall: UnixUs(birth(3)) });
        let Some(genuine) = end.first().map(|s| s.genuine.clone()) else { panic!("no end") };
        scene.feed.take(genuine);
        let genuine = scene.feed.highest().expect("taken").clone();
        scene.store.expect(&genuine);
        let mut reader = reader(100);
        assert_eq!(scene.read(&mut reader, birth(4)), ["end"]);
        assert!(reader.is_ended());
    }
}
