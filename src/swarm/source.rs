//! When a source publishes, listens or follows (`specs/feed.md`, section Epochs).
//!
//! A source listens before it speaks, so that it never signs a place twice; it follows whoever is
//! ahead of it and takes over when the stream has fallen silent.

use std::sync::Arc;

use bytes::Bytes;

use super::Swarm;
use super::config::{Role, SourceConfig};
use super::io::{Event, Out, Record};
use crate::live::backlog::{Backlog, Input};
use crate::live::builder::{Builder, Last, Sealed};
use crate::live::feed::Offer;
use crate::live::{is_far_ahead, open_epoch};
use crate::media::join::{last_pcr, place};
use crate::media::ts::Pcr;
use crate::units::{BlockNo, Epoch, Now, Seq, Time};
use crate::wire::feed::{Entry, Flags};

/// A source listens this long at most before it publishes.
const LISTEN_US: u64 = 2_000_000;
/// While it hears of a stream that is not its own it listens longer, to see whether that advances:
/// what is told in the first second may be old, what comes after it is new.
const SETTLE_US: u64 = 1_000_000;
const LISTEN_FOREIGN_US: u64 = 3_300_000;
/// Heads of so many peers end the listening early.
const HEADS_WANTED: usize = 2;
/// Who follows keeps its input of this long: the silence before a takeover, what was under way
/// then, and a group of pictures.
const HELD_US: u64 = 15_000_000;
/// Pieces from the newest on in which the last program clock is looked for.
const CLOCK_PIECES: usize = 32;
/// How far a program clock may be ahead of what the dates of entries say.
const CLOCK_UNSURE_US: u64 = 100_000;
/// Who follows takes over after this long without an entry, and a random part of `RACE_US` more.
const TAKEOVER_US: u64 = 3_000_000;
const RACE_US: u64 = 500_000;

/// So long after its first, empty entry a source publishes what it kept: viewers order stripes on
/// that entry, and of two who take over at the same time one sees that it lost.
const SETTLE_TREES_US: u64 = 500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Hears what others know.
    Listening { until: Time },
    /// Signs.
    Publishing,
    /// Another source is ahead; takes over when that one has been silent until then.
    Following { patience_us: u64 },
    /// The end is signed, or was seen.
    Done,
    /// Signs nothing: a known epoch is so far ahead of our clock that one of the two is wrong.
    Refused,
}

/// How what waited is dated when it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dating {
    /// As it came in; it goes out all at once, in pieces as they would have been then.
    Held,
    /// As it came in, and it goes out one piece after the other: readers have what is left of their
    /// delay to fetch it in.
    Came,
    /// As it goes out: it came in so long ago that the delay of readers is over.
    Released,
}

/// The source's part of a swarm.
#[derive(Debug)]
pub(super) struct Source {
    config: SourceConfig,
    mode: Mode,
    builder: Option<Builder>,
    /// Input that is not published yet.
    backlog: Backlog,
    dating: Dating,
    input_ended: bool,
    own_last: Option<Last>,
    heard_at: Time,
    /// The head a second after the listening began.
    settled: Option<Option<Seq>>,
    peers_seen: usize,
    told: bool,
}

impl Source {
    pub(super) fn is_publishing(&self) -> bool {
        matches!(self.mode, Mode::Publishing | Mode::Done) && self.builder.is_some()
    }

    pub(super) fn hides(&self) -> bool {
        self.config.hide
    }

    pub(super) fn deadline(&self) -> Time {
        match (self.mode, &self.builder) {
            (Mode::Publishing, Some(builder)) => builder.deadline().min(self.backlog.deadline()),
            _ => Time::NEVER,
        }
    }

    /// Takes input, for now or for later. It is dropped where nothing will ever be published.
    fn take(&mut self, now: Time, input: Input) {
        if let Mode::Following { .. } = self.mode {
            self.backlog.drop_before(Time(now.0.saturating_sub(HELD_US)));
            if input == Input::Break {
                // What comes next does not go on from what is held.
                self.backlog.clear();
            }
        }
        if !matches!(self.mode, Mode::Done | Mode::Refused) {
            self.backlog.push(now, input);
        }
    }

    /// Seals what the pace lets out by now, and the end of the input behind the last of it.
    fn release(&mut self, now: Now) -> Vec<Sealed> {
        let (Mode::Publishing, Some(builder)) = (self.mode, &mut self.builder) else {
            return Vec::new();
        };
        let mut sealed = Vec::new();
        while let Some((came, input)) = self.backlog.pop_due(now.mono) {
            sealed.extend(match (input, self.dating) {
                (Input::Break, _) => builder.broke_off(now),
                (Input::Bytes(bytes), Dating::Held) => builder.push_held(now, came, bytes),
                (Input::Bytes(bytes), Dating::Came) => builder.push_late(now, came, bytes),
                (Input::Bytes(bytes), Dating::Released) => builder.push(now, bytes),
            });
        }
        if self.input_ended && self.backlog.is_empty() {
            sealed.extend(builder.end(now));
            self.mode = Mode::Done;
        }
        sealed
    }
}

impl Swarm {
    pub(super) fn start_source(&mut self) {
        let Role::Source(config) = &self.config.role else { return };
        let config = config.as_ref().clone();
        let until = self.now.mono.after_us(LISTEN_US);
        let own_last = config.last.as_ref().and_then(|raw| self.remember(raw));
        self.source = Some(Source {
            config,
            mode: Mode::Listening { until },
            builder: None,
            backlog: Backlog::default(),
            dating: Dating::Held,
            input_ended: false,
            own_last,
            heard_at: self.now.mono,
            settled: None,
            peers_seen: 0,
            told: false,
        });
    }

    /// Takes the last entry that was signed here back into the feed.
    fn remember(&mut self, raw: &Bytes) -> Option<Last> {
        let core = self.core.as_mut()?;
        core.feed.offer(raw).ok()?;
        let entry = Entry::parse(raw).ok()?;
        let digest = entry.digest(core.torrent.stream.info_hash);
        Some(Last { head: entry.head, digest })
    }

    pub(super) fn ingest(&mut self, bytes: Bytes) {
        self.input(Input::Bytes(bytes));
    }

    pub(super) fn ingest_break(&mut self) {
        self.input(Input::Break);
    }

    fn input(&mut self, input: Input) {
        let now = self.now;
        let Some(source) = &mut self.source else { return };
        source.take(now.mono, input);
        self.release();
    }

    pub(super) fn ingest_end(&mut self) {
        let Some(source) = &mut self.source else { return };
        // An encoder that ended while another one's stream went on says nothing of that stream.
        source.input_ended = !matches!(source.mode, Mode::Following { .. });
        self.release();
    }

    /// Publishes what may be published by now.
    fn release(&mut self) {
        let now = self.now;
        let Some(source) = &mut self.source else { return };
        let sealed = source.release(now);
        self.publish(sealed);
    }

    /// Closes pieces whose time is up.
    pub(super) fn publish_due(&mut self) {
        self.release();
        let now = self.now;
        let Some(source) = &mut self.source else { return };
        if let (Mode::Publishing, Some(builder)) = (source.mode, &mut source.builder) {
            let sealed = builder.tick(now);
            self.publish(sealed);
        }
    }

    /// Puts pieces into the swarm, each entry on disk before anybody can see it.
    fn publish(&mut self, sealed: Vec<Sealed>) {
        for Sealed { genuine, blocks } in sealed {
            let head = genuine.entry.head;
            self.out.push_back(Out::Persist(Record::Published(genuine.raw.clone())));
            let Some(core) = &mut self.core else { return };
            let genuine = match core.feed.take(genuine) {
                Offer::New(genuine) => genuine,
                Offer::Contradiction(_, Some(genuine)) => genuine,
                _ => continue,
            };
            let genuine: Arc<_> = genuine;
            self.entry_taken(None, &genuine);
            let count = blocks.len();
            for (block, payload) in blocks.into_iter().enumerate() {
                let Some(core) = &mut self.core else { return };
                self.totals.stream_bytes += payload.len() as u64;
                core.store.put_own(head.seq(), block as u16, payload);
                let no = BlockNo(head.first_block.0 + block as u64);
                let completed = block + 1 == count;
                self.block_verified(None, head.seq(), block as u16, no, completed);
            }
        }
    }

    pub(super) fn tick_source(&mut self) {
        if self.source.is_none() {
            return;
        }
        let now = self.now;
        let connected = self.peers.values().filter(|p| p.is_live()).count();
        let Some(source) = &mut self.source else { return };
        source.peers_seen = source.peers_seen.max(connected);
        match source.mode {
            Mode::Listening { until } => self.listen(until),
            Mode::Publishing => {
                if source.builder.as_mut().is_some_and(|b| b.clock_is_off(now)) {
                    self.begin_epoch();
                }
            }
            Mode::Following { patience_us } => {
                if now.mono.since_us(self.last_entry_at) > patience_us && self.may_take_over() {
                    self.begin_epoch();
                }
            }
            Mode::Done | Mode::Refused => {}
        }
    }

    fn listen(&mut self, until: Time) {
        let now = self.now.mono;
        let heads = self.peers.values().filter(|p| p.shown.is_some()).count();
        let (head, foreign) = (self.head(), self.foreign_head());
        let Some(source) = &mut self.source else { return };
        if now.since_us(source.heard_at) >= SETTLE_US {
            source.settled.get_or_insert(head);
        }
        let advances = source.settled.is_some_and(|settled| head > settled);
        if source.config.takeover || !foreign {
            if now >= until || heads >= HEADS_WANTED {
                self.decide(false);
            }
        } else if advances {
            self.decide(true);
        } else if now.since_us(source.heard_at) >= LISTEN_FOREIGN_US {
            self.decide(false);
        }
    }

    /// Whether the highest entry is above the last one that was signed here.
    fn foreign_head(&self) -> bool {
        let own = self.source.as_ref().and_then(|s| s.own_last.as_ref()).map(|l| l.head.seq());
        self.head() > own
    }

    /// The listening is over: go on, follow one who advances, or begin anew.
    fn decide(&mut self, follow: bool) {
        if follow {
            return self.follow_other();
        }
        let foreign = self.foreign_head();
        let Some(source) = &self.source else { return };
        let fresh = foreign || source.config.takeover;
        let is_over = |flags: Flags| flags.has(Flags::END) || flags.has(Flags::WITHDRAWN);
        let resumable = source.own_last.clone().filter(|last| !fresh && !is_over(last.head.flags));
        match resumable {
            Some(last) => self.go_on(last),
            None => self.begin_epoch(),
        }
    }

    fn follow_other(&mut self) {
        let patience_us = TAKEOVER_US + self.rng.below(RACE_US);
        let Some(head) = self.head() else { return };
        let Some(source) = &mut self.source else { return };
        source.builder = None;
        source.backlog.hold();
        source.input_ended = false;
        source.mode = Mode::Following { patience_us };
        if !std::mem::replace(&mut source.told, true) {
            self.event(Event::Superseded { by: head });
        }
        // From now on we are one of those who forward.
        self.can_start = false;
        self.floor = None;
        let links: Vec<_> = self.peers.keys().copied().collect();
        for link in links {
            self.show_interest(link);
        }
    }

    /// Whether a silent stream may be taken over: enough of those we see report the same head.
    fn may_take_over(&self) -> bool {
        let Some(core) = &self.core else { return false };
        let Some(head) = core.feed.highest().map(|g| g.entry.head) else { return false };
        if head.flags.has(Flags::END) || head.flags.has(Flags::WITHDRAWN) {
            return false;
        }
        let Some(source) = &self.source else { return false };
        // Not those of the epoch: who has fallen behind cannot tell that the head stands still.
        // The silent feed makes us ask for it, so everybody who is asked has shown what it has.
        let seq = head.seq();
        let reports = |p: &&super::peer::Peer| p.shown == Some(seq) || p.holds(seq);
        let same = self.peers.values().filter(|p| p.is_live()).filter(reports).count();
        same >= if source.peers_seen >= 2 { 2 } else { 1 }
    }

    fn go_on(&mut self, last: Last) {
        let now = self.now;
        let Some(core) = &self.core else { return };
        let (stream, media) = (core.torrent.stream, core.torrent.media.clone());
        let Some(source) = &mut self.source else { return };
        let key = source.config.key.clone();
        let epoch = last.head.epoch;
        let end_block = last.head.end_block();
        let mut builder = Builder::resume(stream, key, &media, now, last);
        if builder.clock_is_off(now) {
            return self.begin_epoch();
        }
        source.builder = Some(builder);
        source.dating = Dating::Came;
        source.mode = Mode::Publishing;
        self.upstream.enter_at(epoch, end_block);
        self.release_held();
    }

    /// Opens an epoch above everything that is known.
    fn begin_epoch(&mut self) {
        let now = self.now;
        let Some(core) = &self.core else { return };
        let (stream, media) = (core.torrent.stream, core.torrent.media.clone());
        let known = core.feed.highest().map(|g| g.entry.head);
        let ahead = known.is_some_and(|head| is_far_ahead(head.epoch, now.wall));
        let epoch = open_epoch(now.wall, known.map(|h| h.epoch), &mut self.rng);
        let published = self.published_clock();
        let is_first = known.is_none();
        let Some(source) = &mut self.source else { return };
        if ahead {
            source.mode = Mode::Refused;
            source.builder = None;
            source.backlog.clear();
            return;
        }
        let key = source.config.key.clone();
        let mut builder = Builder::open_epoch(stream, key, &media, now, epoch, known.as_ref());
        if let Mode::Following { .. } = source.mode {
            let input: Vec<Bytes> = source.backlog.bytes().cloned().collect();
            let from = place(&media, published, &input);
            leave_out(&mut source.backlog, &mut builder, now, from);
        }
        // At first nobody waits for anything yet whose uplink could be too narrow. Later what was
        // kept came in longer ago than readers wait: we followed, or listened to what was going on.
        source.dating = if is_first { Dating::Held } else { Dating::Released };
        source.builder = Some(builder);
        source.mode = Mode::Publishing;
        source.told = false;
        self.release_held();
    }

    /// The last program clock of what is published, or what it must have come to by the newest
    /// entry, where the newest pieces are not here.
    fn published_clock(&self) -> Option<Pcr> {
        let core = self.core.as_ref()?;
        let newest = core.feed.highest()?.entry.head;
        core.feed.iter().rev().take(CLOCK_PIECES).find_map(|known| {
            let head = &known.entry.head;
            let pcr = last_pcr(&core.store.piece(head.seq())?.whole()?)?;
            let since_us = newest.published().0.saturating_sub(head.published().0);
            // Of what is not here only the time is known: rather leave out a little too much.
            let unsure_us = if since_us > 0 { CLOCK_UNSURE_US } else { 0 };
            Some(pcr.after_us(since_us + unsure_us))
        })
    }

    /// What came in while we listened, or followed the same encoder, is published now: at once if
    /// nobody waits for anything yet, and otherwise at little more than the pace at which it came.
    fn release_held(&mut self) {
        let now = self.now;
        let links: Vec<_> = self.peers.keys().copied().collect();
        for link in links {
            self.show_interest(link);
        }
        let Some(source) = &mut self.source else { return };
        if source.dating == Dating::Held {
            source.backlog.release_all(now.mono);
            return self.release();
        }
        source.backlog.release(now.mono.after_us(SETTLE_TREES_US));
        let opened = source.builder.as_mut().map(|builder| builder.announce(now));
        self.publish(opened.into_iter().collect());
    }

    /// A higher epoch than ours came into sight: its source wins.
    pub(super) fn source_sees_epoch(&mut self, epoch: Epoch) {
        let Some(source) = &self.source else { return };
        let ours = source.builder.as_ref().map(Builder::epoch);
        if source.mode == Mode::Publishing && ours.is_some_and(|ours| epoch > ours) {
            self.follow_other();
        }
    }

    /// Proof against our own epoch: somebody runs with a copy of our state. Nobody can follow two
    /// chains, so a new one begins.
    pub(super) fn source_contradicted(&mut self, epoch: Epoch) {
        let Some(source) = &self.source else { return };
        let ours = source.builder.as_ref().map(Builder::epoch);
        if source.mode == Mode::Publishing && ours == Some(epoch) {
            self.begin_epoch();
        }
    }

    /// Whether the end is signed and every connected peer has said that it holds the last piece.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let done = self.source.as_ref().is_some_and(|s| s.mode == Mode::Done);
        let Some(core) = self.core.as_ref().filter(|_| done) else { return false };
        let last = core.feed.iter().rev().find(|g| g.entry.head.len > 0);
        let Some(last) = last.map(|g| g.entry.head.seq()) else { return true };
        self.peers.values().filter(|p| p.is_live() && p.wants).all(|p| p.holds(last))
    }

    /// What a source does at present, for the status line.
    #[must_use]
    pub fn source_mode(&self) -> Option<&'static str> {
        self.source.as_ref().map(|s| match s.mode {
            Mode::Listening { .. } => "listening",
            Mode::Publishing => "publishing",
            Mode::Following { .. } => "following",
            Mode::Done => "ended",
            Mode::Refused => "refused",
        })
    }

    /// The epoch that a source refuses to exceed because it lies more than 24 h ahead of the
    /// machine's clock: one of the two is wrong, and the operator has to say which.
    #[must_use]
    pub fn refused_epoch(&self) -> Option<Epoch> {
        let refused = self.source.as_ref().is_some_and(|s| s.mode == Mode::Refused);
        refused.then(|| self.epoch())
    }
}

/// Drops what a backlog has below the offset `from`, or all of it. The builder looks at it for what
/// it says of the rest.
fn leave_out(backlog: &mut Backlog, builder: &mut Builder, now: Now, from: Option<u64>) {
    let Some(from) = from else { return backlog.clear() };
    builder.begin_at(from);
    let mut at = 0;
    loop {
        let next = backlog.bytes().next().map_or(u64::MAX, |bytes| bytes.len() as u64);
        at = next.saturating_add(at);
        if at > from {
            return;
        }
        if let Some((_, Input::Bytes(bytes))) = backlog.pop() {
            // Nothing can be sealed of what is left out.
            builder.push(now, bytes);
        }
    }
}
