//! What readers are handed, and how far back the stream is fetched for them.

use super::io::{Delay, Delivery, Out, ReaderId};
use super::{READERS_MAX, Swarm};
use crate::live::delay::Arrivals;
use crate::live::reader::{Reader, View};
use crate::units::PieceIndex;
use crate::wire::feed::Head;

/// Deliveries to one reader in one turn; more waits for the next.
const DELIVERIES_MAX: usize = 64;

impl Swarm {
    pub(super) fn add_reader(&mut self, id: ReaderId, delay: Delay) {
        if self.readers.len() < READERS_MAX {
            self.readers.insert(id, Reader::new(delay));
            self.pull_dirty = true;
            self.play_dirty = true;
        } else {
            self.out.push_back(Out::Deliver { reader: id, item: Delivery::End });
        }
    }

    /// Hands readers what is due.
    pub(super) fn play(&mut self) {
        self.choose_floor();
        let joining = self.readers.values().any(|reader| reader.next().is_none());
        let pushed_from = if joining { self.pushed_from() } else { None };
        let Some(core) = &self.core else { return };
        let view = View {
            feed: &core.feed,
            store: &core.store,
            clock: &core.clock,
            arrivals: &self.arrivals,
            window_us: core.torrent.stream.window_us,
            can_start: self.can_start || self.source.is_some(),
            pushed_from,
        };
        let is_first = joining && self.readers.values().all(|reader| reader.next().is_none());
        for (id, reader) in &mut self.readers {
            for _ in 0..DELIVERIES_MAX {
                let Some(item) = reader.poll(self.now.mono, view) else { break };
                self.out.push_back(Out::Deliver { reader: *id, item });
            }
        }
        if is_first && self.readers.values().any(|reader| reader.next().is_some()) {
            // While nobody brought everything yet, pieces were late for that reason.
            self.arrivals = Arrivals::default();
        }
    }

    /// Notes how old a piece is that has just become whole: a reader with less delay would have
    /// had to wait for it. What was published before we came says nothing of that.
    pub(super) fn note_arrival(&mut self, head: &Head) {
        let now = self.now.mono;
        let Some(source_now) = self.core.as_ref().and_then(|core| core.clock.source(now)) else {
            return;
        };
        if self.lags.is_since(head.published()) {
            self.arrivals.note(now, source_now.0.saturating_sub(head.birth.0));
        }
    }

    /// The first piece worth fetching: where the slowest reader stands; for a relay where it
    /// joined.
    fn choose_floor(&mut self) {
        if !self.can_start {
            return;
        }
        let Some(core) = &self.core else { return };
        let epoch = core.feed.epoch();
        let nexts = self.readers.values().filter_map(Reader::next);
        let slowest = nexts.map(|s| if s.epoch == epoch { s.index } else { PieceIndex(0) }).min();
        if let Some(slowest) = slowest {
            self.floor = Some(slowest);
            return;
        }
        // Readers that have not started yet may still start further on.
        if self.floor.is_none() || !self.readers.is_empty() {
            let Some(source_now) = core.clock.source(self.now.mono) else { return };
            let start = core.feed.start_at(source_now, self.delay_us());
            let mut floor = start.or_else(|| core.feed.oldest()).map(|g| g.entry.head.index);
            if self.offers.is_room_known() && !self.readers.is_empty() {
                // From the newest place on: the past takes what others need for the present.
                let newest = core.feed.newest_start().map(|g| g.entry.head.index);
                floor = self.floor.or(newest).max(floor);
            }
            self.pull_dirty |= floor != self.floor;
            self.floor = floor;
        }
    }
}
