//! When a source publishes, listens or follows (`specs/feed.md`, section Epochs).
//!
//! A source listens before it speaks, so that it never signs a place twice; it follows whoever is
//! ahead of it and takes over when the stream has fallen silent.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Swarm;
use super::config::{Role, SourceConfig};
use super::io::{Event, Out, Record};
use crate::live::builder::{Builder, Last, Sealed};
use crate::live::feed::Offer;
use crate::live::{is_far_ahead, open_epoch};
use crate::units::{BlockNo, Epoch, Seq, Time};
use crate::wire::feed::{Entry, Flags};

/// A source listens this long at most before it publishes.
const LISTEN_US: u64 = 2_000_000;
/// While it hears of a stream that is not its own it listens longer, to see whether that advances:
/// what is told in the first second may be old, what comes after it is new.
const SETTLE_US: u64 = 1_000_000;
const LISTEN_FOREIGN_US: u64 = 3_300_000;
/// Heads of so many peers end the listening early.
const HEADS_WANTED: usize = 2;
/// Input that is kept while listening.
const HELD_LEN_MAX: usize = 16 << 20;
/// Who follows takes over after this long without an entry, and a random part of `RACE_US` more.
const TAKEOVER_US: u64 = 3_000_000;
const RACE_US: u64 = 2_000_000;

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

/// The source's part of a swarm.
#[derive(Debug)]
pub(super) struct Source {
    config: SourceConfig,
    mode: Mode,
    builder: Option<Builder>,
    held: VecDeque<(Time, Bytes)>,
    held_len: usize,
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
            (Mode::Publishing, Some(builder)) => builder.deadline(),
            _ => Time::NEVER,
        }
    }

    /// Input that waits for the first piece, dropping the oldest beyond the bound.
    fn hold(&mut self, now: Time, bytes: Bytes) {
        self.held_len += bytes.len();
        self.held.push_back((now, bytes));
        while self.held_len > HELD_LEN_MAX {
            let Some((_, oldest)) = self.held.pop_front() else { return };
            self.held_len -= oldest.len();
        }
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
            held: VecDeque::new(),
            held_len: 0,
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
        let now = self.now;
        let Some(source) = &mut self.source else { return };
        match (source.mode, &mut source.builder) {
            (Mode::Publishing, Some(builder)) => {
                let sealed = builder.push(now, bytes);
                self.publish(sealed);
            }
            (Mode::Listening { .. }, _) => source.hold(now.mono, bytes),
            _ => {}
        }
    }

    pub(super) fn ingest_end(&mut self) {
        let now = self.now;
        let Some(source) = &mut self.source else { return };
        source.input_ended = true;
        if let (Mode::Publishing, Some(builder)) = (source.mode, &mut source.builder) {
            let sealed = builder.end(now);
            source.mode = Mode::Done;
            self.publish(sealed);
        }
    }

    pub(super) fn ingest_break(&mut self) {
        let now = self.now;
        let Some(source) = &mut self.source else { return };
        if let (Mode::Publishing, Some(builder)) = (source.mode, &mut source.builder) {
            let sealed = builder.broke_off(now);
            self.publish(sealed);
        }
    }

    /// Closes pieces whose time is up.
    pub(super) fn publish_due(&mut self) {
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
        source.held.clear();
        source.held_len = 0;
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
        let Some(source) = &mut self.source else { return };
        if ahead {
            source.mode = Mode::Refused;
            source.builder = None;
            source.held.clear();
            source.held_len = 0;
            return;
        }
        let key = source.config.key.clone();
        source.builder = Some(Builder::open_epoch(stream, key, &media, now, epoch, known.as_ref()));
        source.mode = Mode::Publishing;
        source.told = false;
        self.release_held();
    }

    /// What came in while we listened is published now.
    fn release_held(&mut self) {
        let now = self.now;
        let links: Vec<_> = self.peers.keys().copied().collect();
        for link in links {
            self.show_interest(link);
        }
        let Some(source) = &mut self.source else { return };
        source.held_len = 0;
        let Some(builder) = &mut source.builder else { return };
        let mut sealed = Vec::new();
        for (came, bytes) in source.held.drain(..) {
            sealed.extend(builder.push_held(now, came, bytes));
        }
        let ended = source.input_ended;
        self.publish(sealed);
        if ended {
            self.ingest_end();
        }
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
