//! How the feed spreads: entries are checked, kept, passed on to those who subscribed to them,
//! asked for in runs, and missed when they fail to come.

use std::sync::Arc;

use bytes::Bytes;

use super::Swarm;
use super::connection::ANSWERS_PER_S;
use super::io::Event;
use super::peer::{OrderState, Run};
use crate::live::feed::{EntryFault, Genuine, Offer};
use crate::units::{BLOCK_LEN, BlockId, Epoch, Link, PieceIndex, Seq, Time};
use crate::wire::feed::Flags;
use crate::wire::limits::{RUN_ENTRIES_MAX, RUN_LEN_MAX};
use crate::wire::live::{Entries, Live, NEWEST, Proof};

/// Unverified payload that one peer may have us hold.
pub(super) const HELD_BYTES_MAX: usize = 256 << 10;
/// Unverified payload held in all.
pub(super) const HELD_BYTES_ALL_MAX: usize = 1 << 20;
/// Entries held for a peer before the `info` dictionary is here.
pub(super) const EARLY_ENTRIES_MAX: usize = 8;
/// An ask that is not answered by then is given up.
const RUN_US: u64 = 2_000_000;
/// A block without its entry is held this long at least.
const HELD_US_MIN: u64 = 500_000;
/// Entries that a joiner asks for at once, at least and at most; and how far behind its delay the
/// random access point may be at which it starts.
const JOIN_RUN_MIN: u64 = 32;
const JOIN_RUN_MAX: u64 = 64;
const JOIN_BEHIND_US: u64 = 1_500_000;
/// After a silence as long as this the trees of the stripes are formed anew.
const SILENT_US: u64 = 2_500_000;
/// The feed is missed after this long at least.
const FEED_SILENCE_US_MIN: u64 = 1_500_000;
/// Longest pause between two attempts to find a better source of entries.
const FEED_BACKOFF_US_MAX: u64 = 5_000_000;
/// What peers hold is forgotten when it is below the window by up to so many pieces.
const SLIDE_PIECES: u32 = 64;
/// A pause of the input longer than this is none of the stream's time.
const GAP_US: u64 = 500_000;
/// A new epoch's entry must come this soon after it was declared.
pub(super) const CLAIM_US: u64 = 2_000_000;

impl Swarm {
    pub(super) fn entries_came(&mut self, link: Link, entries: Entries) {
        match entries {
            Entries::Ask { run, epoch, index, count } => {
                self.run_asked(link, run, epoch, index, count);
            }
            Entries::Answer { run, entries } => self.run_came(link, run, &entries),
            Entries::Push { entries } => {
                for raw in &entries {
                    if !self.entry_came(link, raw) {
                        return;
                    }
                }
            }
        }
    }

    /// Looks at one entry; false if the connection is gone.
    fn entry_came(&mut self, link: Link, raw: &Bytes) -> bool {
        let Some(core) = &mut self.core else {
            let early = self.peers.get_mut(&link).map(|p| &mut p.early_entries);
            if let Some(early) = early.filter(|e| e.len() < EARLY_ENTRIES_MAX) {
                early.push(Bytes::copy_from_slice(raw));
            }
            return true;
        };
        match core.feed.offer(raw) {
            Ok(Offer::New(genuine)) => self.entry_taken(Some(link), &genuine),
            Ok(Offer::Known(seq)) => self.shown(link, seq),
            // Not verified, so it shows nothing.
            Ok(Offer::Old(_) | Offer::Ahead(_)) => {}
            Ok(Offer::Contradiction(proof, genuine)) => {
                match genuine {
                    Some(genuine) => self.entry_taken(Some(link), &genuine),
                    // It holds to the other chain: its blocks are good by another entry.
                    None => self.acquit(link, proof.second.head.seq()),
                }
                self.contradicted(None, &proof);
            }
            Err(EntryFault::UnknownKey(_)) => {}
            Err(EntryFault::NeedsNewer(at)) => {
                if !std::mem::replace(&mut self.needs_newer_told, true) {
                    self.event(Event::NeedsNewer { at });
                }
            }
            Err(error) => {
                self.fault(link, &error);
                return false;
            }
        }
        true
    }

    /// The peer showed that it knows an entry.
    fn shown(&mut self, link: Link, seq: Seq) {
        let epoch = self.epoch();
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.shown = peer.shown.max(Some(seq));
            if seq.epoch >= peer.epoch {
                peer.claim_until = Time::NEVER;
            }
            if seq.epoch != epoch {
                return;
            }
            if peer.note_showed(seq.index) && peer.epoch == seq.epoch {
                let piece = seq.index;
                self.fault(link, &format_args!("a block of piece {piece} failed its hash"));
            }
        }
    }

    /// The peer says that it holds a piece whose entry it has had from us: from now on its blocks
    /// of that piece are judged by this entry, unless the broadcaster signed two. True if the
    /// connection is gone.
    pub(super) fn acknowledged(&mut self, link: Link, index: PieceIndex) -> bool {
        let epoch = self.epoch();
        let proven = self.core.as_ref().and_then(|c| c.feed.proof()).is_some_and(|p| p.0 == epoch);
        let known = self.core.as_ref().is_some_and(|c| c.feed.get(index).is_some());
        let Some(peer) = self.peers.get_mut(&link) else { return true };
        if proven || !known || peer.showed(index) {
            return false;
        }
        let accused = peer.note_showed(index);
        if accused {
            self.fault(link, &format_args!("a block of piece {index} failed its hash"));
        }
        accused
    }

    /// The peer showed another genuine entry than ours: its blocks of that piece were no lie.
    fn acquit(&mut self, link: Link, seq: Seq) {
        if let Some(peer) = self.peers.get_mut(&link)
            && peer.epoch == seq.epoch
        {
            peer.accused.remove(&seq.index);
        }
    }

    /// What follows from a new genuine entry, from a peer or our own.
    pub(super) fn entry_taken(&mut self, from: Option<Link>, genuine: &Arc<Genuine>) {
        let now = self.now.mono;
        let head = genuine.entry.head;
        let seq = head.seq();
        self.follow_epoch(seq.epoch);
        if let Some(link) = from {
            self.shown(link, seq);
        }
        let Some(core) = &mut self.core else { return };
        let is_head = core.feed.head() == Some(seq);
        core.store.expect(genuine);
        if is_head {
            core.clock.observe(now, head.published());
            self.lags.head(head.published());
            let silent_us = now.since_us(std::mem::replace(&mut self.last_entry_at, now));
            if silent_us > SILENT_US {
                self.form_anew();
            }
            self.feed_backoff_us = 0;
            self.note_entry(head.published());
        }
        if head.len > 0 {
            self.incomplete.insert(seq.index);
            self.entry_at.insert(seq.index, now);
            self.expect_blocks(&head);
        }
        if is_head || self.is_full() {
            self.slide();
        }
        if is_head {
            self.pass_on(from, genuine);
            self.note_end(&head.flags);
        }
        self.note_pace();
        self.try_held(seq);
        self.pull_dirty = true;
        self.play_dirty = true;
    }

    fn is_full(&self) -> bool {
        let pieces = self.core.as_ref().map_or(0, |core| core.store.len());
        pieces > crate::wire::limits::WINDOW_PIECES_MAX
    }

    fn note_end(&mut self, flags: &Flags) {
        let ended = flags.has(Flags::END) || flags.has(Flags::WITHDRAWN);
        if ended && !std::mem::replace(&mut self.ended_told, true) {
            self.event(Event::Ended);
        } else if !ended {
            self.ended_told = false;
        }
    }

    /// Sends a new head to everybody who subscribed to entries and does not have it.
    fn pass_on(&mut self, from: Option<Link>, genuine: &Genuine) {
        let seq = genuine.entry.head.seq();
        let fed = self.near.fed.iter().filter_map(|link| self.peers.get(link));
        let to: Vec<Link> = fed
            .filter(|p| Some(p.link) != from && p.is_live() && p.shown < Some(seq))
            .filter(|p| p.flows.values().any(|flow| flow.cover.is_none()))
            .map(|p| p.link)
            .collect();
        for link in to {
            self.push_entry(link, genuine);
        }
    }

    fn push_entry(&mut self, link: Link, genuine: &Genuine) {
        let (seq, now, epoch) = (genuine.entry.head.seq(), self.now.mono, self.epoch());
        if let Some(peer) = self.peers.get_mut(&link).filter(|_| seq.epoch == epoch) {
            peer.note_told(seq.index, now);
        }
        let push = Entries::Push { entries: vec![genuine.raw.clone()] };
        self.send_live(link, &Live::Entries(push));
    }

    /// Forgets what the window no longer covers.
    fn slide(&mut self) {
        let Some(core) = &mut self.core else { return };
        let Some(head) = core.feed.highest().map(|g| g.entry.head) else { return };
        let gone = core.store.slide(head.birth);
        self.slide_haves();
        let last = gone.last().map(|piece| piece.genuine.entry.head.seq());
        let Some(last) = last.filter(|last| last.epoch == head.epoch) else { return };
        let first = last.index.next();
        let Some(core) = &mut self.core else { return };
        core.feed.forget_below(first);
        while self.incomplete.first().is_some_and(|index| *index < first) {
            self.incomplete.pop_first();
        }
        while self.entry_at.first_key_value().is_some_and(|(index, _)| *index < first) {
            self.entry_at.pop_first();
        }
        while self.in_flight.first_key_value().is_some_and(|(id, _)| id.piece < first) {
            self.in_flight.pop_first();
        }
        self.untold.retain(|(_, seq)| *seq > last);
        // A peer keeps no more than we do, as far as we care; looked at once in so many pieces.
        let many = gone
            .iter()
            .any(|piece| piece.genuine.entry.head.index.0 / SLIDE_PIECES != first.0 / SLIDE_PIECES);
        for peer in self.peers.values_mut().filter(|_| many) {
            peer.forget_below(first);
        }
        self.tell_lost(&gone, head.epoch, head.birth);
    }

    /// Shows a peer the highest entry that we know.
    pub(super) fn show_head(&mut self, link: Link) {
        let highest = self.core.as_ref().and_then(|core| core.feed.highest()).cloned();
        if let Some(highest) = highest {
            self.push_entry(link, &highest);
        }
    }

    fn run_asked(&mut self, link: Link, run: u8, epoch: Epoch, index: PieceIndex, count: u16) {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if !peer.may_answer(now, ANSWERS_PER_S) {
            // Answered with nothing, so that the number of the ask is free again.
            let entries = Vec::new();
            self.send_live(link, &Live::Entries(Entries::Answer { run, entries }));
            return self.strike(link, &"too many asks for runs");
        }
        // Beyond its share it gets one entry an ask: enough to follow, too little to burden us.
        peer.run_bytes.refill(now);
        let most = if peer.run_bytes.is_open() { RUN_ENTRIES_MAX } else { 1 };
        let count = usize::from(count).min(most);
        let entries = match &self.core {
            Some(core) if core.feed.epoch() == epoch || index == NEWEST => {
                core.feed.run(index, count, RUN_LEN_MAX)
            }
            _ => Vec::new(),
        };
        peer.run_bytes.spend(entries.iter().map(Bytes::len).sum());
        self.send_live(link, &Live::Entries(Entries::Answer { run, entries }));
    }

    fn run_came(&mut self, link: Link, run: u8, entries: &[Bytes]) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let Some(asked) = peer.runs.remove(&run) else {
            // Late, or to no ask at all: no offence, and its entries are as good as pushed ones.
            return self.entries_came(link, Entries::Push { entries: entries.to_vec() });
        };
        if asked.index != NEWEST && entries.is_empty() {
            // Not held there; a block of it that waits here has no one left to vouch for it.
            let held = peer.held.len();
            peer.held.retain(|h| h.block.piece != asked.index);
            if peer.held.len() < held {
                self.strike(link, &"a block without an entry");
            }
        }
        for raw in entries {
            if !self.entry_came(link, raw) {
                return;
            }
        }
        let brought = self.core.as_ref().is_some_and(|c| c.feed.get(asked.index).is_some());
        self.check_start(entries.len(), brought);
        self.fill_entry_gaps(link);
    }

    /// Asks a peer for a run of entries; false if too many are under way.
    pub(super) fn ask_run(
        &mut self,
        link: Link,
        epoch: Epoch,
        index: PieceIndex,
        count: u16,
    ) -> bool {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return false };
        if peer.runs.values().any(|r| r.epoch == epoch && r.index == index) {
            return true;
        }
        let Some(run) = peer.free_run_id() else { return false };
        peer.runs.insert(run, Run { at: now, epoch, index });
        self.send_live(link, &Live::Entries(Entries::Ask { run, epoch, index, count }))
    }

    /// Holes between entries that are here are asked for where their upper end came from.
    fn fill_entry_gaps(&mut self, link: Link) {
        let Some(core) = &self.core else { return };
        let epoch = core.feed.epoch();
        let low = self.floor.unwrap_or(PieceIndex(0));
        let mut above: Option<PieceIndex> = None;
        let mut gap = None;
        for genuine in core.feed.iter().rev() {
            let index = genuine.entry.head.index;
            if let Some(above) = above
                && index.next() < above
                && above > low
            {
                gap = Some((above.minus(1), (above.0 - index.0 - 1).min(RUN_ENTRIES_MAX as u32)));
                break;
            }
            if index < low {
                break;
            }
            above = Some(index);
        }
        if let Some((index, count)) = gap {
            self.ask_run(link, epoch, index, count as u16);
        }
    }

    /// Keeps a block whose entry is not here, and asks its sender for it.
    pub(super) fn hold(&mut self, link: Link, block: BlockId, payload: &Bytes) {
        let now = self.now.mono;
        let holding = self.near.holding.iter().filter_map(|link| self.peers.get(link));
        let all: usize = holding.flat_map(|p| &p.held).map(|h| h.payload.len()).sum();
        let epoch = self.epoch();
        let piece_len = self.torrent().map_or(0, |t| t.stream.piece_len);
        if u32::from(block.block) >= piece_len.div_ceil(BLOCK_LEN) {
            // No piece is so long: such numbers would only fill the list with small blocks.
            return self.strike(link, &"a block behind the end of its piece");
        }
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let mut pieces: Vec<PieceIndex> = peer.held.iter().map(|h| h.block.piece).collect();
        pieces.push(block.piece);
        pieces.sort_unstable();
        pieces.dedup();
        let bytes: usize = peer.held.iter().map(|h| h.payload.len()).sum();
        let room = pieces.len() <= super::peer::HELD_PIECES_MAX
            && bytes + payload.len() <= HELD_BYTES_MAX
            && all + payload.len() <= HELD_BYTES_ALL_MAX;
        if room && !peer.held.iter().any(|h| h.block == block) {
            let payload = Bytes::copy_from_slice(payload);
            peer.held.push(super::peer::HeldBlock { block, payload, at: now });
            self.near.holding.insert(link);
        }
        self.ask_run(link, epoch, block.piece, 1);
    }

    /// An entry came: judges the blocks that waited for it.
    fn try_held(&mut self, seq: Seq) {
        let holding = self.near.holding.iter().filter_map(|link| self.peers.get(link));
        let waiting: Vec<Link> = holding
            .filter(|p| p.held.iter().any(|h| h.block.piece == seq.index))
            .map(|p| p.link)
            .collect();
        for link in waiting {
            let Some(peer) = self.peers.get_mut(&link) else { continue };
            if peer.epoch != seq.epoch {
                continue;
            }
            let all = std::mem::take(&mut peer.held);
            let (ready, kept) = all.into_iter().partition(|h| h.block.piece == seq.index);
            peer.held = kept;
            let ready: Vec<super::peer::HeldBlock> = ready;
            for held in ready {
                self.judge_block(link, held.block, &held.payload, None);
            }
        }
    }

    /// A peer speaks of a piece above our head whose entry we lack.
    pub(super) fn suspect_feed(&mut self, link: Link, seq: Seq) {
        // If our own sources of entries are as quick as they should be, it comes by itself.
        let piece_us = self.piece_us();
        if self.now.mono.since_us(self.last_entry_at) > piece_us {
            self.ask_run(link, seq.epoch, NEWEST, 8);
        }
    }

    /// How long a piece lasts at present, in microseconds.
    pub(super) fn piece_us(&self) -> u64 {
        self.pace.piece_us
    }

    /// Bytes of stream per second at present, silences left out: what there is to send when there
    /// is something to send.
    pub(super) fn stream_rate(&self) -> u64 {
        self.pace.rate
    }

    /// Reckons anew how the stream runs.
    pub(super) fn note_pace(&mut self) {
        self.pace = super::Pace { piece_us: self.recent_piece_us(), rate: self.recent_rate() };
    }

    fn recent_piece_us(&self) -> u64 {
        let Some(core) = &self.core else { return 250_000 };
        let recent = core.feed.iter().rev().take(16).map(|g| g.entry.head.birth.0);
        let ends = recent.fold(None, |ends: Option<(u64, u64, u64)>, birth| {
            Some(ends.map_or((birth, birth, 0), |(newest, _, count)| (newest, birth, count + 1)))
        });
        let Some((newest, oldest, count)) = ends.filter(|(.., count)| *count > 0) else {
            return 250_000;
        };
        // Whoever signs two chains in one epoch may have births that fall.
        (newest.saturating_sub(oldest) / count).clamp(20_000, 1_000_000)
    }

    fn recent_rate(&self) -> u64 {
        let Some(core) = &self.core else { return 500_000 };
        let hint = core.torrent.stream.bitrate.map_or(500_000, |bits| bits / 8);
        let recent = core.feed.iter().rev().take(64).map(|g| &g.entry.head);
        let (mut bytes, mut span_us) = (0, 0);
        let mut next_birth: Option<u64> = None;
        for head in recent.filter(|head| head.len > 0) {
            let own = u64::from(head.span_us);
            let until_next = next_birth.map_or(own, |next| next.saturating_sub(head.birth.0));
            bytes += u64::from(head.len);
            span_us += if until_next > own + GAP_US { own } else { until_next };
            next_birth = Some(head.birth.0);
        }
        if span_us < 2_000_000 { hint } else { (bytes * 1_000_000 / span_us).max(1000) }
    }

    /// Looks after the feed: sources that fell silent, the entries that a joiner needs.
    pub(super) fn tick_feed(&mut self) {
        if self.core.is_some() && !self.is_publishing() {
            self.tick_entry_orders();
            self.backfill();
        }
    }

    /// Gives up what was asked for and did not come, and blocks whose entry did not.
    pub(super) fn expire_runs(&mut self) {
        let now = self.now.mono;
        if self.core.is_none() {
            return;
        }
        let patience = HELD_US_MIN.max(self.piece_us());
        let mut unexplained = Vec::new();
        for peer in self.peers.values_mut() {
            // Given up: a peer need not answer all asks, and the number is free again.
            if !peer.runs.is_empty() {
                peer.runs.retain(|_, run| now.since_us(run.at) < RUN_US);
            }
            let held = peer.held.len();
            peer.held.retain(|held| now.since_us(held.at) < patience);
            if peer.held.len() < held {
                unexplained.push(peer.link);
            }
        }
        for link in unexplained {
            self.strike(link, &"a block without an entry");
        }
    }

    /// Two sources of entries are kept; both are replaced when the feed falls silent.
    fn tick_entry_orders(&mut self) {
        let now = self.now.mono;
        let silence = FEED_SILENCE_US_MIN.max(2 * self.piece_us());
        let limit = silence + self.feed_backoff_us;
        let missed_since = self.last_entry_at.max(self.feed_retry_at);
        if now.since_us(missed_since) > limit && !self.ended_told {
            let old: Vec<(Link, u8)> = self.entry_orders().collect();
            for (link, id) in &old {
                self.end_order(*link, *id);
            }
            self.feed_retry_at = now;
            self.feed_backoff_us =
                (self.feed_backoff_us * 2).clamp(500_000, FEED_BACKOFF_US_MAX - 1_500_000);
            let avoid: Vec<Link> = old.into_iter().map(|(link, _)| link).collect();
            self.order_entries(&avoid);
            // Whoever is there may know more; asking everybody once costs one message each.
            let live: Vec<Link> =
                self.peers.values().filter(|p| p.is_live()).map(|p| p.link).take(8).collect();
            for link in live {
                self.ask_run(link, self.epoch(), NEWEST, 8);
            }
            return;
        }
        self.order_entries(&[]);
    }

    /// Our subscriptions to entries that are asked or granted.
    pub(super) fn entry_orders(&self) -> impl Iterator<Item = (Link, u8)> + '_ {
        self.suppliers().flat_map(|p| {
            let entries =
                |o: &super::peer::Order| o.stripe.is_none() && o.state != OrderState::Ending;
            p.orders.iter().filter(move |(_, o)| entries(o)).map(|(id, _)| (p.link, *id))
        })
    }

    /// Asks for the entries that lie between the head and the place where a reader may start.
    fn backfill(&mut self) {
        let now = self.now.mono;
        if self.can_start || now < self.backfill_at {
            return;
        }
        let Some(core) = &self.core else { return };
        let Some(head) = core.feed.head() else { return };
        let below = core.feed.oldest().map_or(head.index, |g| g.entry.head.index);
        let gap_free = core.feed.len() as u32 == head.index.0 - below.0 + 1;
        let from = if gap_free { below.minus(1) } else { head.index };
        // By chance, so that one who answers with nothing of use cannot keep us from starting.
        let able: Vec<Link> = self
            .peers
            .values()
            .filter(|p| p.is_live() && p.shown.is_some_and(|s| s.epoch == head.epoch))
            .filter(|p| p.free_run_id().is_some())
            .map(|p| p.link)
            .collect();
        let floor = core.feed.floor();
        let Some(link) = able.get(self.rng.index(able.len())).copied() else { return };
        // An answer comes within a round trip; after half a second somebody else is asked.
        self.backfill_at = now.after_us(500_000);
        if below <= floor {
            self.can_start = true;
        } else {
            let needed = (self.delay_us() + JOIN_BEHIND_US) / self.piece_us().max(1);
            let count = needed.clamp(JOIN_RUN_MIN, JOIN_RUN_MAX) as u16;
            self.ask_run(link, head.epoch, from, count);
        }
    }

    /// Whether the entries now reach back to a place where a reader may start.
    fn check_start(&mut self, came: usize, brought: bool) {
        let now = self.now.mono;
        if self.can_start {
            return;
        }
        let Some(core) = &self.core else { return };
        let Some(source_now) = core.clock.source(now) else { return };
        let delay = self.delay_us();
        let wanted = crate::units::UnixUs(source_now.0.saturating_sub(delay));
        let reached = core.feed.first_start().is_some_and(|g| g.entry.head.birth <= wanted);
        let oldest = core.feed.oldest().map(|g| g.entry.head);
        // The oldest there is: the epoch's first, or nobody showed an older one.
        let bottom = oldest.is_some_and(|h| h.first_block.0 == 0 && h.previous == [0; 32]);
        let deep = oldest.is_some_and(|h| h.birth.0 + 10_000_000 < wanted.0);
        if reached || bottom || deep || came == 0 {
            self.can_start = true;
        } else if brought {
            self.backfill_at = now;
            self.backfill();
        }
    }

    /// The longest delay that a reader aims at.
    pub(super) fn delay_us(&self) -> u64 {
        let configured = u64::try_from(self.config.delay.as_micros()).unwrap_or(u64::MAX);
        self.readers
            .values()
            .map(crate::live::reader::Reader::target_us)
            .max()
            .unwrap_or(configured)
    }

    pub(super) fn proof_came(&mut self, link: Link, proof: &Proof) {
        let Some(core) = &mut self.core else { return };
        match core.feed.offer_proof(proof) {
            Some(true) => self.contradicted(Some(link), proof),
            Some(false) => {}
            None => self.fault(link, &"a proof that proves nothing"),
        }
    }

    /// The broadcaster contradicted itself: told once an epoch, to the user and to all peers.
    fn contradicted(&mut self, from: Option<Link>, proof: &Proof) {
        let epoch = proof.first.head.epoch;
        if self.proof_told.is_some_and(|told| told >= epoch) {
            return;
        }
        self.proof_told = Some(epoch);
        self.event(Event::Equivocation { at: proof.first.head.seq() });
        let others = self.peers.values().filter(|p| p.is_live() && Some(p.link) != from);
        for link in others.map(|p| p.link).collect::<Vec<_>>() {
            self.tell_proof(link);
        }
        self.source_contradicted(epoch);
    }

    /// Shows a peer the proof that is known of the present epoch.
    pub(super) fn tell_proof(&mut self, link: Link) {
        let Some(core) = &self.core else { return };
        let Some((epoch, proof)) = core.feed.proof() else { return };
        if *epoch < core.feed.epoch() {
            return;
        }
        let proof = Live::Proof(proof.clone());
        self.send_live(link, &proof);
    }
}
