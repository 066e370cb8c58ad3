//! Who talks to whom about which block: one machine per stream.
//!
//! [`Swarm`] owns every connection of one stream and all that is known of it. Its parts, each an
//! `impl` of its own subject:
//!
//! | module | answers |
//! | --- | --- |
//! | [`config`] | what a swarm is started with |
//! | [`io`] | what it is told and what it wants done |
//! | [`peer`], `peers` | what is known of one connection, and all of them |
//! | `connection` | how a connection begins, which message goes where, why it ends |
//! | `entries` | how the feed spreads |
//! | `epochs` | what happens when a source begins anew |
//! | `upstream` | from whom which stripe is ordered |
//! | `grants` | who is granted which subscription |
//! | `downstream` | what is sent, in which order, how fast |
//! | `pull` | which missing block is asked of whom |
//! | `choker` | whose requests are served |
//! | [`uplink`] | what our line can send, when nobody says |
//! | `credit` | how much came under which credit id |
//! | `memory` | what is kept, here and elsewhere |
//! | `offers` | what a subscription here, or there, would bring |
//! | [`audience`] | what a source learns of its viewers |
//! | `resources` | whether the swarm's upload carries the stream |
//! | `exchange` | metadata and addresses from peer to peer |
//! | `source` | when a source publishes, listens or follows |
//! | `playback` | what readers are handed |
//! | [`status`] | how it fares |
//! | [`haves`], [`rate`], [`roster`] | parts with no knowledge of the rest |

pub mod audience;
mod choker;
pub mod config;
mod connection;
mod credit;
mod downstream;
mod entries;
mod epochs;
mod exchange;
mod grants;
pub mod haves;
pub mod io;
mod memory;
mod offers;
pub mod peer;
mod peers;
mod playback;
mod pull;
pub mod rate;
mod resources;
pub mod roster;
mod source;
pub mod status;
#[cfg(test)]
mod tests;
pub mod uplink;
mod upstream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::live::clock::StreamClock;
use crate::live::delay::Arrivals;
use crate::live::feed::Feed;
use crate::live::reader::{Played, Reader};
use crate::live::store::Store;
use crate::machine::{Machine, Rng};
use crate::units::{BlockId, Epoch, Link, Now, PieceIndex, Seq, Time};
use crate::wire::extended::Extension;
use crate::wire::live::{HOPS_UNKNOWN, Live, Reason, View};
use crate::wire::message::Message;

use config::{Config, Role, Torrent};
use credit::Credits;
use exchange::MetadataFetch;
use io::{Event, In, Out, ReaderId, Record, Trace, Via};
use offers::Offers;
use peer::Peer;
use peers::Peers;
use rate::Bucket;
use resources::Resources;
use roster::Roster;
use source::Source;
use status::Lags;
use uplink::Uplink;
use upstream::Upstream;

/// Maintenance runs this often while there are connections.
const TICK_US: u64 = 50_000;
/// A burst is what leaves in this time, since so late may a timer be; at least half a block and at
/// most two: enough to keep a link busy, too little to queue behind.
const BURST_MS: u64 = 30;
const BURST_LEN_MIN: u64 = 8 << 10;
const BURST_LEN_MAX: u64 = 2 * 16_397;

/// What may leave at once of what `rate` bytes per second allow.
fn burst_len(rate: u64) -> u64 {
    (rate * BURST_MS / 1000).clamp(BURST_LEN_MIN, BURST_LEN_MAX)
}
/// What takes seconds is looked at this often.
const SLOW_TICK_US: u64 = 250_000;
/// Readers at once.
pub const READERS_MAX: usize = 256;
/// Small messages that may wait for a peer that does not read; beyond, it is too slow to keep.
pub const QUEUE_LEN_MAX: usize = 1 << 20;

/// What exists only once the `info` dictionary is here.
#[derive(Debug)]
struct Core {
    torrent: Torrent,
    feed: Feed,
    store: Store,
    clock: StreamClock,
}

/// The connections that are worth a look for one purpose, so that nobody has to look at all.
#[derive(Debug, Default)]
struct Near {
    /// With jobs that wait.
    loaded: BTreeSet<Link>,
    /// With bytes handed to the driver that have not left yet.
    sending: BTreeSet<Link>,
    /// With subscriptions of theirs.
    fed: BTreeSet<Link>,
    /// With subscriptions of ours.
    ordered: BTreeSet<Link>,
    /// With requests of ours.
    asked: BTreeSet<Link>,
    /// With blocks that wait for their entry.
    holding: BTreeSet<Link>,
    /// Written to in this turn beyond what may wait for one who does not read.
    stuck: Vec<Link>,
}

impl Near {
    fn forget(&mut self, link: Link) {
        self.loaded.remove(&link);
        self.sending.remove(&link);
        self.fed.remove(&link);
        self.ordered.remove(&link);
        self.asked.remove(&link);
        self.holding.remove(&link);
    }
}

/// How the stream runs at present; reckoned anew with each entry.
#[derive(Clone, Copy, Debug)]
struct Pace {
    piece_us: u64,
    rate: u64,
}

/// One stream and everybody we know who has to do with it.
#[derive(Debug)]
pub struct Swarm {
    config: Config,
    rng: Rng,
    now: Now,
    started: Option<Time>,
    core: Option<Core>,
    metadata: MetadataFetch,
    peers: Peers,
    /// Which of them are worth a look: each set holds at least those it is named for, and what is
    /// no longer one is taken out when it is met.
    near: Near,
    roster: Roster,
    out: VecDeque<Out>,
    /// Small messages of this turn, by connection: they leave in one write.
    small: BTreeMap<Link, BytesMut>,
    trace: Option<VecDeque<Trace>>,

    readers: BTreeMap<ReaderId, Reader>,
    /// What readers who are gone had played.
    played_before: Played,
    source: Option<Source>,
    /// Whether a reader may be given something since it was looked at.
    play_dirty: bool,
    /// Length of a piece in microseconds and bytes of stream per second at present.
    pace: Pace,
    /// Others' clocks minus ours, in microseconds: the median.
    clock_offset_us: i64,
    /// Whether any peer keeps less than the torrent's window.
    any_less: bool,
    upstream: Upstream,
    offers: Offers,
    resources: Resources,
    /// How the stream comes to us, as anybody who asks is told, and when that was worked out.
    view: Option<(Time, View)>,
    credits: Credits,
    bucket: Option<Bucket>,
    /// What the line can send, as far as it was learnt; it counts only if no limit is given.
    uplink: Uplink,
    download: Option<Bucket>,

    /// Pieces of the current epoch that lack blocks.
    incomplete: BTreeSet<PieceIndex>,
    /// When the entry of an incomplete piece came.
    entry_at: BTreeMap<PieceIndex, Time>,
    /// The first piece that is fetched; below it nothing is asked for.
    floor: Option<PieceIndex>,
    /// Whether the entries reach back far enough to choose where to start.
    can_start: bool,
    backfill_at: Time,
    /// Who is asked for which block.
    in_flight: BTreeMap<BlockId, Link>,
    /// When blocks that no neighbour had went out again.
    rescued: BTreeMap<BlockId, Time>,
    /// The distance and reason that windows said last, and when that was told.
    said: (u8, Reason),
    said_at: Time,
    /// When a flow may be moved again, and when somebody last wished for a primary stripe.
    swap_at: Time,
    primary_at: Time,
    /// The birth time that we say we keep.
    kept_us: u64,
    /// Completed pieces still to be announced, and when.
    untold: Vec<(Time, Seq)>,
    /// When a block was last asked for, by us or of us, or somebody joined who may ask.
    requested_at: Time,

    last_entry_at: Time,
    feed_retry_at: Time,
    feed_backoff_us: u64,
    tick_at: Time,
    choke_at: Time,
    shed_at: Time,
    head_kept: Option<Seq>,
    head_kept_at: Time,
    proof_told: Option<Epoch>,
    ended_told: bool,
    needs_newer_told: bool,
    stopping: bool,
    pull_dirty: bool,
    /// When a block that is on its way will be asked for by time alone.
    pull_at: Time,
    /// Incomplete pieces of which a block is wanted that nobody could be asked for.
    wanting: BTreeSet<PieceIndex>,
    /// When slow maintenance is due.
    slow_at: Time,

    lags: Lags,
    /// How old pieces were when they were whole, of what was published since we listen.
    arrivals: Arrivals,
    totals: status::Totals,
}

impl Swarm {
    /// A swarm that knows what `config` says and nobody yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut rng = Rng::new(config.seed);
        let roster = Roster::new(config.policy.clone());
        let upstream = Upstream::new(rng.fork());
        let mut swarm = Self {
            rng,
            now: Now::default(),
            started: None,
            core: None,
            metadata: MetadataFetch::default(),
            peers: Peers::default(),
            near: Near::default(),
            roster,
            out: VecDeque::new(),
            small: BTreeMap::new(),
            trace: None,
            readers: BTreeMap::new(),
            played_before: Played::default(),
            source: None,
            play_dirty: false,
            pace: Pace { piece_us: 250_000, rate: 500_000 },
            clock_offset_us: 0,
            any_less: false,
            upstream,
            offers: Offers::default(),
            resources: Resources::default(),
            view: None,
            credits: Credits::default(),
            bucket: None,
            uplink: Uplink::new(grants::copies(&config.role), Time::ZERO),
            download: None,
            incomplete: BTreeSet::new(),
            entry_at: BTreeMap::new(),
            floor: None,
            can_start: false,
            backfill_at: Time::ZERO,
            in_flight: BTreeMap::new(),
            rescued: BTreeMap::new(),
            said: (HOPS_UNKNOWN, Reason::NONE),
            said_at: Time::ZERO,
            swap_at: Time::ZERO,
            primary_at: Time::ZERO,
            kept_us: 0,
            untold: Vec::new(),
            requested_at: Time::ZERO,
            last_entry_at: Time::ZERO,
            feed_retry_at: Time::ZERO,
            feed_backoff_us: 0,
            tick_at: Time::ZERO,
            choke_at: Time::ZERO,
            shed_at: Time::ZERO,
            head_kept: None,
            head_kept_at: Time::ZERO,
            proof_told: None,
            ended_told: false,
            needs_newer_told: false,
            stopping: false,
            pull_dirty: false,
            pull_at: Time::ZERO,
            wanting: BTreeSet::new(),
            slow_at: Time::ZERO,
            lags: Lags::default(),
            arrivals: Arrivals::default(),
            totals: status::Totals::default(),
            config,
        };
        if let Some(info) = swarm.config.info.clone() {
            swarm.learn_torrent(&info);
        }
        swarm
    }

    /// Whether the `info` dictionary is here.
    #[must_use]
    pub fn torrent(&self) -> Option<&Torrent> {
        self.core.as_ref().map(|core| &core.torrent)
    }

    /// Records every verified block for [`Swarm::poll_trace`].
    pub fn set_tracing(&mut self, on: bool) {
        self.trace = on.then(VecDeque::new);
    }

    /// The next traced step.
    pub fn poll_trace(&mut self) -> Option<Trace> {
        self.trace.as_mut()?.pop_front()
    }

    fn start(&mut self) {
        self.started = Some(self.now.mono);
        self.requested_at = self.now.mono;
        let now = self.now.mono;
        let bucket = |rate: u64| Bucket::new(rate, burst_len(rate), now);
        self.bucket = self.config.paced_limit().map(bucket);
        self.download = self.config.download_limit.map(bucket);
        if matches!(self.config.role, Role::Source(_)) {
            self.start_source();
        }
    }

    /// Takes the `info` dictionary, whose hash the caller has checked or trusts.
    fn learn_torrent(&mut self, raw: &Bytes) -> bool {
        let Some(torrent) = Torrent::from_info(raw) else { return false };
        let Some(feed) = Feed::new(torrent.stream) else { return false };
        let feed = feed.with_proven(self.config.proven.clone());
        let store = Store::new(torrent.stream.window_us, self.config.memory_max)
            .with_proven(self.config.proven.clone());
        let clock = StreamClock::default();
        self.kept_us = torrent.stream.window_us;
        self.core = Some(Core { torrent, feed, store, clock });
        if let Some(head) = self.config.head.clone()
            && let Some(core) = &mut self.core
        {
            // Kept on disk from an earlier run: what is below it is never taken for new.
            let _ = core.feed.offer(&head);
            self.head_kept = core.feed.head();
        }
        self.note_pace();
        true
    }

    fn epoch(&self) -> Epoch {
        self.core.as_ref().map_or(Epoch(0), |core| core.feed.epoch())
    }

    fn head(&self) -> Option<Seq> {
        self.core.as_ref()?.feed.head()
    }

    fn is_publishing(&self) -> bool {
        self.source.as_ref().is_some_and(Source::is_publishing)
    }

    /// Whether addresses may come from anyone but trackers and the user.
    fn is_private(&self) -> bool {
        self.torrent().is_some_and(|t| t.private)
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Out::Event(event));
    }

    /// Queues a small message; all of a turn leave in one write.
    fn send(&mut self, link: Link, message: &Message) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.last_out = self.now.mono;
        message.put_head(self.small.entry(link).or_default());
    }

    /// Queues an extension message, if the peer understands it.
    fn send_extended(&mut self, link: Link, extension: Extension, payload: Bytes) -> bool {
        let id = self.peers.get(&link).and_then(|p| p.ids.of(extension));
        let Some(id) = id else { return false };
        self.send(link, &Message::Extended { id, payload });
        true
    }

    /// Queues a message of the live extension.
    fn send_live(&mut self, link: Link, live: &Live) -> bool {
        if matches!(live, Live::Subscribe(_)) {
            self.near.ordered.insert(link);
        }
        self.send_extended(link, Extension::Live(live.kind()), live.encode())
    }

    /// Hands bytes to the driver: what is queued for the link, then `body`.
    fn write(&mut self, link: Link, body: Bytes) {
        let head = self.small.remove(&link).unwrap_or_default().freeze();
        self.hand_over(link, head, body);
    }

    /// Hands small messages for a link to the driver for which nothing else is queued.
    fn write_alone(&mut self, link: Link, head: Bytes) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.last_out = self.now.mono;
        }
        self.hand_over(link, head, Bytes::new());
    }

    fn hand_over(&mut self, link: Link, head: Bytes, body: Bytes) {
        let len = head.len() + body.len();
        let cost = self.with_heads(len);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if len == 0 {
            return;
        }
        let takes_us = self.bucket.as_ref().map_or(0, |bucket| bucket.takes_us(cost));
        peer.note_queued(len, takes_us, self.now.mono);
        self.near.sending.insert(link);
        if peer.queued > QUEUE_LEN_MAX {
            self.near.stuck.push(link);
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.spend(cost);
        }
        self.totals.up_bytes += len as u64;
        self.out.push_back(Out::Send { link, head, body });
    }

    fn flush(&mut self) {
        while let Some((link, _)) = self.small.first_key_value() {
            let link = *link;
            self.write(link, Bytes::new());
        }
        for link in std::mem::take(&mut self.near.stuck) {
            self.close(link, "does not read what it is sent", false);
        }
    }

    /// What is due by time alone.
    fn tick(&mut self) {
        let now = self.now.mono;
        self.tick_at = now.after_us(TICK_US);
        if now >= self.slow_at {
            self.slow_tick();
        }
        self.tell_haves();
        self.tell_changes();
        self.tick_metadata();
        self.tick_source();
        self.tick_uplink();
        self.tick_feed();
        self.tick_upstream();
        self.tell_offer();
        self.expire_jobs();
        self.expire_requests();
        self.keep_head();
        self.dial();
    }

    /// What need not be looked at twenty times a second.
    fn slow_tick(&mut self) {
        self.slow_at = self.now.mono.after_us(SLOW_TICK_US);
        self.check_connections();
        self.expire_runs();
        self.tick_choker();
        self.tick_exchange();
        self.tick_clocks();
        self.judge_resources();
        self.tick_audience();
        let peers = &self.peers;
        let is = |link: &Link, held: fn(&Peer) -> bool| peers.get(link).is_some_and(held);
        self.near.fed.retain(|link| is(link, |p| !p.flows.is_empty()));
        self.near.ordered.retain(|link| is(link, |p| !p.orders.is_empty()));
        self.near.asked.retain(|link| is(link, |p| !p.asked.is_empty()));
        self.near.holding.retain(|link| is(link, |p| !p.held.is_empty()));
        self.near.loaded.retain(|link| is(link, |p| !p.jobs.is_empty()));
    }

    /// Peers with subscriptions of ours among them.
    fn suppliers(&self) -> impl Iterator<Item = &Peer> {
        self.near.ordered.iter().filter_map(|link| self.peers.get(link))
    }

    /// Peers with subscriptions of theirs among them.
    fn fed(&self) -> impl Iterator<Item = &Peer> {
        self.near.fed.iter().filter_map(|link| self.peers.get(link))
    }

    /// Peers with waiting jobs among them.
    fn loaded(&self) -> impl Iterator<Item = &Peer> {
        self.near.loaded.iter().filter_map(|link| self.peers.get(link))
    }

    /// Dials while there are fewer connections than wanted.
    fn dial(&mut self) {
        if self.stopping {
            return;
        }
        while self.peers.len() < self.config.peers_wanted {
            let Some(addr) = self.roster.dial(self.now.mono, &mut self.rng) else { return };
            self.out.push_back(Out::Dial { addr });
        }
    }

    /// Writes down the highest entry, once a second at most.
    fn keep_head(&mut self) {
        let now = self.now.mono;
        if now.since_us(self.head_kept_at) < 1_000_000 && !self.stopping {
            return;
        }
        let Some(highest) = self.core.as_ref().and_then(|core| core.feed.highest()) else { return };
        let seq = highest.entry.head.seq();
        if self.head_kept.is_none_or(|kept| seq > kept) {
            let raw = highest.raw.clone();
            self.head_kept = Some(seq);
            self.head_kept_at = now;
            self.out.push_back(Out::Persist(Record::Head(raw)));
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.keep_head();
        self.drop_peers("we leave");
    }

    fn drop_peers(&mut self, reason: &str) {
        let links: Vec<Link> = self.peers.keys().copied().collect();
        for link in links {
            self.close(link, reason, false);
        }
    }

    /// Whether every buffer is within its bound.
    ///
    /// # Errors
    /// Which one is not, with its size.
    pub fn invariant(&self) -> Result<(), String> {
        use crate::wire::limits;
        let bound = |what: &str, size: usize, max: usize| {
            if size <= max { Ok(()) } else { Err(format!("{what}: {size}, limit {max}")) }
        };
        // Those under way when the last place was taken come on top.
        bound("connections", self.peers.len(), self.config.peers_max + roster::DIALS_MAX)?;
        bound("readers", self.readers.len(), READERS_MAX)?;
        if let Some(core) = &self.core {
            bound("store", core.store.bytes(), core.store.bytes_max() + (1 << 20))?;
            bound("entries", core.feed.len(), limits::WINDOW_PIECES_MAX)?;
            bound("pieces", core.store.len(), limits::WINDOW_PIECES_MAX + limits::RUN_ENTRIES_MAX)?;
        }
        let pieces_max = limits::WINDOW_PIECES_MAX + limits::RUN_ENTRIES_MAX;
        bound("incomplete", self.incomplete.len(), pieces_max)?;
        bound("entry times", self.entry_at.len(), pieces_max)?;
        let asked_max = 2 * limits::REQUESTS_QUEUED_MAX * self.peers.len();
        bound("in flight", self.in_flight.len(), asked_max)?;
        bound("addresses", self.roster.len(), roster::KNOWN_MAX)?;
        let all = self.peers.values().flat_map(|p| &p.held).map(|h| h.payload.len()).sum();
        bound("held blocks of all", all, entries::HELD_BYTES_ALL_MAX)?;
        self.near_is_complete()?;
        for peer in self.peers.values() {
            bound("held pieces", peer.held.len(), 2 * 64)?;
            bound("early entries", peer.early_entries.len(), entries::EARLY_ENTRIES_MAX)?;
            bound("accused", peer.accused.len(), limits::WINDOW_PIECES_MAX)?;
            bound("orders", peer.orders.len(), limits::SUBSCRIPTIONS_MAX)?;
            bound("flows", peer.flows.len(), limits::SUBSCRIPTIONS_MAX)?;
            bound("requests", peer.asked.len(), 2 * limits::REQUESTS_QUEUED_MAX)?;
            bound("jobs", peer.jobs.len(), downstream::JOBS_MAX)?;
            bound("runs", peer.runs.len(), limits::RUNS_MAX)?;
            let held: usize = peer.held.iter().map(|h| h.payload.len()).sum();
            bound("held blocks", held, entries::HELD_BYTES_MAX)?;
            bound("queued", peer.queued, QUEUE_LEN_MAX + (1 << 20))?;
        }
        Ok(())
    }
}

impl Swarm {
    /// Whether every connection that is worth a look is known to be.
    fn near_is_complete(&self) -> Result<(), String> {
        for peer in self.peers.values() {
            let link = peer.link;
            for (what, is, known) in [
                ("loaded", !peer.jobs.is_empty(), self.near.loaded.contains(&link)),
                ("sending", peer.queued > 0, self.near.sending.contains(&link)),
                ("fed", !peer.flows.is_empty(), self.near.fed.contains(&link)),
                ("ordered", !peer.orders.is_empty(), self.near.ordered.contains(&link)),
                ("asked", !peer.asked.is_empty(), self.near.asked.contains(&link)),
                ("holding", !peer.held.is_empty(), self.near.holding.contains(&link)),
            ] {
                if is && !known {
                    return Err(format!("{link} is {what} and not known to be"));
                }
            }
        }
        Ok(())
    }
}

impl Machine for Swarm {
    type In = In;
    type Out = Out;

    fn handle(&mut self, now: Now, input: In) {
        self.now = now;
        if self.started.is_none() {
            self.start();
        }
        match input {
            In::Tick => {}
            In::Up { link, addr, dialled } => self.up(link, addr, dialled),
            In::DialFailed { addr } => self.roster.failed(addr, now.mono),
            In::Frame { link, frame } => self.frame(link, &frame),
            In::Frames { link, frames } => {
                for frame in &frames {
                    self.frame(link, frame);
                }
            }
            In::Malformed { link, error } => self.fault(link, &error),
            In::Sent { link, bytes } => {
                self.sent(link, bytes);
                if now.mono < self.tick_at {
                    // Nothing else has changed.
                    self.pump();
                    return self.flush();
                }
            }
            In::SentAll(all) => {
                for (link, bytes) in all {
                    self.sent(link, bytes);
                }
                if now.mono < self.tick_at {
                    self.pump();
                    return self.flush();
                }
            }
            In::Down { link } => self.down(link),
            In::Found { via, addrs } => self.found(via, &addrs),
            In::Ingest(bytes) => self.ingest(bytes),
            In::IngestEnd => self.ingest_end(),
            In::IngestBreak => self.ingest_break(),
            In::AddReader { reader, delay } => self.add_reader(reader, delay),
            In::ReaderCredit { reader, pieces } => {
                if let Some(reader) = self.readers.get_mut(&reader) {
                    reader.add_credit(pieces);
                    self.play_dirty = true;
                }
            }
            In::RemoveReader { reader } => self.remove_reader(reader),
            In::DropPeers => self.drop_peers("the tracker was changed"),
            In::Stop => self.stop(),
        }
        if now.mono >= self.tick_at {
            self.tick();
            self.play_dirty = true;
        }
        self.publish_due();
        if self.play_dirty || self.reader_at() <= now.mono {
            self.play_dirty = false;
            self.play();
        }
        self.pull_dirty |= now.mono >= self.pull_at;
        self.pull();
        self.pump();
        self.flush();
    }

    fn poll(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        if self.stopping {
            return None;
        }
        let readers = self.reader_at();
        let source = self.source.as_ref().map_or(Time::NEVER, Source::deadline);
        let tick = if self.peers.is_empty() && self.source.is_none() {
            self.tick_at.max(self.roster.next_at())
        } else {
            self.tick_at
        };
        Some(tick.min(readers).min(source).min(self.pump_at()))
    }
}

impl Swarm {
    /// Bytes have left for the network.
    fn sent(&mut self, link: Link, bytes: usize) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.queued = peer.queued.saturating_sub(bytes);
        peer.moved_at = self.now.mono;
        if peer.queued == 0 {
            peer.is_slow = self.now.mono > peer.drains_by;
            self.near.sending.remove(&link);
        }
        self.uplink.sent(self.now.mono, bytes);
    }

    /// When a reader may be given something by time alone.
    fn reader_at(&self) -> Time {
        self.readers.values().map(Reader::deadline).min().unwrap_or(Time::NEVER)
    }

    fn found(&mut self, via: Via, addrs: &[std::net::SocketAddr]) {
        if self.config.feed_only && via != Via::User {
            return;
        }
        let mut addrs = addrs.to_vec();
        addrs.truncate(crate::wire::limits::PEERS_PER_REPLY_MAX);
        self.roster.add(via, &addrs, &mut self.rng);
        self.dial();
    }
}
