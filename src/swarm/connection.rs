//! How a connection begins, which message goes where, and why it ends.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::Swarm;
use super::io::{Event, Out};
use super::peer::{Peer, Stage};
use super::roster::FOREIGN_US;
use crate::units::{Link, PeerId, Seq};
use crate::wire::extended::{ExtendedHandshake, Extension, parse_dont_have};
use crate::wire::live::{Clock, Kind, Live, Report};
use crate::wire::message::{Handshake, Message, Reserved, WireError};

/// Connections to peers without our extension.
pub(super) const FOREIGN_MAX: usize = 4;
/// Connections from one host.
const PER_HOST_MAX: usize = 8;
/// A peer without our extension is served metadata this long.
const FOREIGN_OPEN_US: u64 = 5_000_000;
/// Handshakes must be complete this soon.
const HANDSHAKE_US: u64 = 10_000_000;
/// Something is sent at least this often.
const KEEP_ALIVE_US: u64 = 60_000_000;
/// A connection on which nothing arrives for this long is dead.
const SILENCE_US: u64 = 120_000_000;
/// A live peer that says nothing for this long is asked for its time: in a live stream there is
/// always something to say.
const PROBE_US: u64 = 2_000_000;
/// And is given up when it does not answer either.
const PROBED_SILENCE_US: u64 = 6_000_000;
/// Peers are asked for their time this often.
const CLOCK_US: u64 = 10_000_000;
/// Those who are fed over a line of which nobody says what it carries are asked this often.
const LEARN_US: u64 = 500_000;
/// Messages of our extension that a peer must understand to be a live peer.
const REQUIRED: [Kind; 6] =
    [Kind::Window, Kind::Entries, Kind::Subscribe, Kind::Grant, Kind::Skip, Kind::End];
/// A second address of a relay that is being fed is left alone for this long.
const SAME_RELAY_US: u64 = 60_000_000;
/// Small offences that are taken for races.
const STRIKES_MAX: u32 = 64;
/// A connection that has stood for so long may be closed to make a place.
const SETTLED_US: u64 = 20_000_000;
/// A peer is told what came under which credit id this often at most.
const REPORT_US: u64 = 1_000_000;
/// Answers to asks for runs and clocks that a peer gets in a second.
pub(super) const ANSWERS_PER_S: u32 = 32;
/// Messages that a peer may send in a second, blocks left out: each costs time that others wait
/// for. Who takes part in a stream of 20 Mbit/s needs a tenth of it.
pub(super) const MESSAGES_PER_S: u64 = 5000;
/// Bytes of blocks of no use that a peer may send in a second: those of a slow upstream at
/// 20 Mbit/s all come too late.
pub(super) const WASTE_PER_S: u64 = 3 << 20;
/// So many at once: what is under way when we enter an epoch.
pub(super) const WASTE_BURST: u64 = 16 << 20;
/// What looking at a block costs, in bytes: small ones are no cheaper.
const BLOCK_COST: usize = 1 << 10;
/// So many messages at once: what waits in the sockets when this machine comes back from a sleep.
pub(super) const MESSAGES_BURST: u64 = 20_000;

impl Swarm {
    pub(super) fn up(&mut self, link: Link, addr: SocketAddr, dialled: bool) {
        let now = self.now.mono;
        self.requested_at = now;
        self.roster.connected(addr, dialled);
        let crowd = self.is_crowd(addr);
        let places = self.config.peers_max;
        if !dialled && !crowd && self.peers.len() >= places {
            self.make_place();
        }
        let full = self.peers.len() >= places || crowd;
        let stranger = self.config.feed_only && !dialled;
        if self.stopping || self.roster.is_banned(addr, now) || (full && !dialled) || stranger {
            if dialled {
                self.roster.closed(addr, now, 0);
            }
            self.out.push_back(Out::Close { link });
            return;
        }
        self.peers.insert(link, Peer::new(link, addr, dialled, now));
        if dialled {
            self.shake(link);
        }
    }

    /// Sends the 68 bytes: at once to whom we dialled, to others only when they have named the
    /// torrent. Who merely connects must not learn what is watched here.
    fn shake(&mut self, link: Link) {
        let handshake = Handshake {
            reserved: Reserved::live(),
            info_hash: self.config.info_hash,
            peer_id: self.config.peer_id,
        };
        self.small.entry(link).or_default().extend_from_slice(&handshake.encode());
    }

    /// Whether so many connections come from one host already that another one would let it take
    /// the places of all others. On this machine and network many peers share an address.
    fn is_crowd(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        let shared = match ip {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
        };
        !shared && self.peers.values().filter(|p| p.addr.ip() == ip).count() >= PER_HOST_MAX
    }

    /// Closes one of the connections that we opened, for who may be unable to be reached itself:
    /// the one closed can be dialled by others. It must be of no use at present, and so many stay
    /// that whoever comes in masses cannot take the place of all whom we chose.
    fn make_place(&mut self) {
        let dialled = || self.peers.values().filter(|p| p.dialled);
        if dialled().count() <= self.config.peers_wanted / 2 {
            return;
        }
        let now = self.now.mono;
        let unused = dialled().filter(|p| {
            p.is_live()
                && p.orders.is_empty()
                && p.flows.is_empty()
                && now.since_us(p.up_at) >= SETTLED_US
                && !self.roster.is_named_by_user(p.addr)
        });
        let Some(link) = unused.map(|p| (p.hops == 0, p.up_at, p.link)).min() else { return };
        self.close(link.2, "makes place for one who comes", false);
    }

    pub(super) fn down(&mut self, link: Link) {
        if let Some(peer) = self.peers.remove(&link) {
            self.forget(&peer, "closed by the peer", false);
        }
    }

    /// Closes a connection for a reason that is not the peer's fault.
    pub(super) fn close(&mut self, link: Link, reason: &str, fault: bool) {
        let Some(peer) = self.peers.remove(&link) else { return };
        let last_words = self.small.remove(&link).unwrap_or_default().freeze();
        if !last_words.is_empty() && !fault {
            self.out.push_back(Out::Send { link, head: last_words, body: Bytes::new() });
        }
        self.out.push_back(Out::Close { link });
        self.forget(&peer, reason, fault);
    }

    /// Closes a connection because the peer broke a rule, and leaves it alone for an hour.
    pub(super) fn fault(&mut self, link: Link, what: &dyn Display) {
        let Some(peer) = self.peers.get(&link) else { return };
        let addr = peer.listens.unwrap_or(peer.addr);
        self.roster.ban(addr, self.now.mono);
        self.roster.ban(peer.addr, self.now.mono);
        let reason = what.to_string();
        self.close(link, &reason, true);
    }

    /// Notes an offence that a race can explain; too many cannot be one.
    pub(super) fn strike(&mut self, link: Link, what: &dyn Display) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.strike(self.now.mono) > STRIKES_MAX {
            self.fault(link, &format_args!("{STRIKES_MAX} times: {what}"));
        }
    }

    /// Clears up behind a connection that is gone.
    fn forget(&mut self, peer: &Peer, reason: &str, fault: bool) {
        let now = self.now.mono;
        self.small.remove(&peer.link);
        self.near.forget(peer.link);
        self.in_flight.retain(|_, link| *link != peer.link);
        self.pull_dirty = true;
        let rest = if matches!(peer.stage, Stage::Foreign { .. }) { FOREIGN_US } else { 0 };
        let listens = peer.listens.unwrap_or(peer.addr);
        if !self.peers.values().any(|p| p.listens == Some(listens)) {
            self.roster.closed(listens, now, rest);
        }
        self.roster.forget_teller(peer.link);
        self.lose_upstream(peer.link);
        self.note_clocks();
        let reason = reason.to_owned();
        self.event(Event::PeerLeft { addr: peer.addr, reason, fault });
    }

    /// Closes what is overdue and keeps the rest open.
    pub(super) fn check_connections(&mut self) {
        let now = self.now.mono;
        let mut close = Vec::new();
        let mut keep_alive = Vec::new();
        for peer in self.peers.values() {
            let silent = now.since_us(peer.last_in);
            match peer.stage {
                Stage::Handshake | Stage::Extended if now.since_us(peer.up_at) > HANDSHAKE_US => {
                    close.push((peer.link, "no handshake within 10 s"));
                }
                Stage::Foreign { close_at } if now >= close_at => {
                    close.push((peer.link, "does not speak the live extension"));
                }
                Stage::Live if silent > SILENCE_US => close.push((peer.link, "silent for 120 s")),
                Stage::Live if silent > PROBED_SILENCE_US && answers_probes(peer) => {
                    close.push((peer.link, "silent for 6 s, and to a probe"));
                }
                Stage::Live if now >= peer.claim_until => {
                    close.push((peer.link, "declared an epoch and did not show its entry in 2 s"));
                }
                Stage::Live if now.since_us(peer.last_out) > KEEP_ALIVE_US => {
                    keep_alive.push(peer.link);
                }
                _ => {}
            }
        }
        for (link, reason) in close {
            self.close(link, reason, false);
        }
        for link in keep_alive {
            self.send(link, &Message::KeepAlive);
        }
    }

    pub(super) fn frame(&mut self, link: Link, frame: &Bytes) {
        self.note_received(frame.len());
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.last_in = self.now.mono;
        self.totals.down_bytes += frame.len() as u64 + 4;
        if peer.stage == Stage::Handshake {
            match Handshake::parse(frame) {
                Ok(handshake) => self.handshake(link, &handshake),
                Err(error) => self.fault(link, &error),
            }
            return;
        }
        match Message::parse(frame) {
            Ok(message) if self.is_flood(link, &message) => {
                self.fault(link, &format_args!("more than {MESSAGES_PER_S} messages a second"));
            }
            Ok(message) => self.message(link, message),
            Err(error) => self.fault(link, &error),
        }
    }

    /// Notes a block that was of no use: of another epoch, or here already. Either may come for a
    /// while from a peer that does nothing wrong, but not in any amount.
    fn wasted(&mut self, link: Link, len: usize) {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.waste.refill(now);
        peer.waste.spend(len + BLOCK_COST);
        if !peer.waste.is_open() {
            let rate = WASTE_PER_S >> 10;
            self.fault(link, &format_args!("more than {rate} KiB/s of blocks that are of no use"));
        }
    }

    /// Whether this message is one too many. Blocks do not count: whoever sends one that was not
    /// asked for is dropped soon, and those that were must not be too quick.
    fn is_flood(&mut self, link: Link, message: &Message) -> bool {
        let Some(peer) = self.peers.get_mut(&link) else { return false };
        if matches!(message, Message::Piece { .. }) {
            return false;
        }
        peer.messages.refill(self.now.mono);
        peer.messages.spend(1);
        !peer.messages.is_open()
    }

    fn handshake(&mut self, link: Link, theirs: &Handshake) {
        if theirs.info_hash != self.config.info_hash {
            self.close(link, "asks for another torrent", false);
            return;
        }
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let (addr, dialled) = (peer.addr, peer.dialled);
        peer.id = theirs.peer_id;
        peer.fast = theirs.reserved.fast();
        peer.stage = Stage::Extended;
        if theirs.peer_id == self.config.peer_id {
            if dialled {
                self.roster.is_ours(addr);
            }
            self.close(link, "is ourselves", false);
            return;
        }
        if let Some(worse) = self.duplicate(link, theirs.peer_id) {
            self.close(worse, "a second connection to the same peer", false);
            if worse == link {
                if self.config.feed_only {
                    // Another address of the same relay, whose name leads to several.
                    self.roster.closed(addr, self.now.mono, SAME_RELAY_US);
                }
                return;
            }
        }
        if !dialled {
            self.shake(link);
        }
        if theirs.reserved.fast() {
            self.send(link, &Message::HaveNone);
        }
        if !theirs.reserved.extended() {
            self.make_foreign(link);
            return;
        }
        let size = self.torrent().map(|t| t.raw.len());
        let port = self.config.listen_port.filter(|_| !self.config.feed_only);
        let pex = self.exchanges_peers();
        let ours = ExtendedHandshake::ours(port, size, pex, addr.ip());
        self.send(link, &Message::Extended { id: 0, payload: ours.encode() });
    }

    /// Of two connections to one peer, the one that goes: both sides keep the one that the lower
    /// peer id dialled. A peer id is no secret: from another host it says nothing, or a stranger
    /// could push out any peer by taking its name.
    fn duplicate(&self, link: Link, id: PeerId) -> Option<Link> {
        let keep_dialled = self.config.peer_id.0 < id.0;
        let this = self.peers.get(&link)?;
        // Who was dialled because the user named it is no stranger.
        let known = |p: &Peer| self.config.feed_only || p.addr.ip() == this.addr.ip();
        let same = |p: &&Peer| p.id == id && p.link != link && known(p);
        let other = self.peers.values().find(same)?;
        if this.dialled == other.dialled {
            // Two of the same kind: the older one is more likely to be in use.
            return Some(link);
        }
        Some(if this.dialled == keep_dialled { other.link } else { link })
    }

    fn make_foreign(&mut self, link: Link) {
        let foreign =
            self.peers.values().filter(|p| matches!(p.stage, Stage::Foreign { .. })).count();
        let close_at = self.now.mono.after_us(FOREIGN_OPEN_US);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        peer.stage = Stage::Foreign { close_at };
        if foreign >= FOREIGN_MAX || self.core.is_none() && peer.metadata_size.is_none() {
            self.close(link, "does not speak the live extension", false);
        }
    }

    fn extended_handshake(&mut self, link: Link, payload: &Bytes) {
        let theirs = match ExtendedHandshake::parse(payload) {
            Ok(theirs) => theirs,
            Err(error) => return self.fault(link, &error),
        };
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.stage != Stage::Extended {
            // Sent again, for example by who has got the metadata: it replaces the first one, but
            // what was decided by that one stands.
            peer.metadata_size = theirs.metadata_size.or(peer.metadata_size);
            peer.ids = theirs.ids();
            return;
        }
        let speaks = REQUIRED.iter().all(|k| theirs.id_of(Extension::Live(*k)).is_some());
        if let (Some(port), false) = (theirs.p, peer.dialled) {
            peer.listens = Some(SocketAddr::new(peer.addr.ip(), port));
        }
        let (addr, listens, fast) = (peer.addr, peer.listens, peer.fast);
        peer.ids = theirs.ids();
        peer.metadata_size = theirs.metadata_size;
        if listens.is_some_and(|at| self.roster.is_banned(at, self.now.mono)) {
            self.close(link, "is banned", false);
            return;
        }
        if !speaks || !fast {
            self.make_foreign(link);
            return;
        }
        peer.stage = Stage::Live;
        if let Some(listens) = listens {
            self.roster.listens(listens, &mut self.rng);
            self.roster.proved(listens);
        }
        self.event(Event::PeerJoined { link, addr });
        self.greet(link);
    }

    /// The first words to a live peer: the highest entry, then the window, then the clock.
    pub(super) fn greet(&mut self, link: Link) {
        self.show_head(link);
        self.send_window(link);
        self.show_offer(link);
        self.ask_clock(link);
        self.tell_proof(link);
    }

    fn message(&mut self, link: Link, message: Message) {
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if let Message::Extended { id, payload } = message {
            self.extended(link, id, &payload);
            return;
        }
        if !peer.is_live() {
            // Before the extension handshake anything of BEP 3 may come; it means nothing here.
            return;
        }
        match message {
            Message::KeepAlive
            | Message::Extended { .. }
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::HaveNone
            | Message::Unknown { .. } => {}
            // Nobody holds all of a stream, and a bitfield has no place to count from.
            Message::Bitfield(_) | Message::HaveAll => {
                self.fault(link, &"a bitfield or have all in a live swarm");
            }
            Message::Choke => self.choked_by(link),
            Message::Unchoke => {
                peer.chokes_us = false;
                self.pull_dirty = true;
            }
            Message::Interested => {
                peer.wants = true;
                // Whoever is new is served at once.
                self.slow_at = self.slow_at.min(self.tick_at);
            }
            Message::NotInterested => peer.wants = false,
            Message::Have(index) => self.have(link, index),
            Message::Request(request) => self.requested(link, request),
            Message::Piece { index, begin, block } => {
                let wasted = self.totals.dropped + self.totals.duplicate;
                self.block_came(link, index, begin, &block);
                if self.totals.dropped + self.totals.duplicate > wasted {
                    self.wasted(link, block.len());
                }
            }
            Message::Cancel(request) => self.cancelled(link, request),
            Message::Reject(request) => self.rejected(link, request),
            // What may be asked for while choked is asked for when it is wanted anyway.
            Message::AllowedFast(_) => {}
        }
    }

    fn have(&mut self, link: Link, index: crate::units::PieceIndex) {
        let epoch = self.epoch();
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if !peer.haves.insert(index) {
            // Far from what it declared: a claim that nothing can come of.
            self.strike(link, &"a have far outside its window");
            return;
        }
        if peer.epoch != epoch {
            return;
        }
        let acknowledged = peer.was_told(index, now);
        if acknowledged && self.acknowledged(link, index) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&link) else { return };
        self.pull_dirty |= self.wanting.contains(&index);
        let seq = Seq { epoch, index };
        let Some(core) = &self.core else { return };
        if let Some(known) = core.feed.get(index) {
            let published = core.clock.local(known.entry.head.published(), now);
            let lag = published.map_or(0, |at| now.since_us(at));
            peer.have_lag_us = Some(peer.have_lag_us.map_or(lag, |old| (old * 7 + lag) / 8));
        } else if core.feed.head().is_none_or(|head| seq > head) {
            self.suspect_feed(link, seq);
        }
    }

    fn extended(&mut self, link: Link, id: u8, payload: &Bytes) {
        if id == 0 {
            return self.extended_handshake(link, payload);
        }
        let Some(peer) = self.peers.get(&link) else { return };
        if peer.stage == Stage::Extended {
            return self.fault(link, &"an extension message before the extension handshake");
        }
        let live = peer.is_live();
        let result = match Extension::from_our_id(id) {
            Some(Extension::Metadata) => self.metadata_message(link, payload),
            Some(Extension::Pex) => self.pex_message(link, payload),
            Some(Extension::DontHave) => parse_dont_have(payload).map(|index| {
                if let Some(peer) = self.peers.get_mut(&link) {
                    peer.haves.remove(index);
                }
            }),
            Some(Extension::Live(kind)) if live => match Live::parse(kind, payload) {
                Ok(Some(message)) => {
                    self.live_message(link, message);
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            Some(Extension::Live(_)) | None => Ok(()),
        };
        if let Err(error) = result {
            let error: WireError = error;
            self.fault(link, &error);
        }
    }

    fn live_message(&mut self, link: Link, message: Live) {
        match message {
            Live::Window(window) => self.window_came(link, &window),
            Live::Entries(entries) => self.entries_came(link, entries),
            Live::Subscribe(subscribe) => {
                self.near.fed.insert(link);
                self.subscribed(link, &subscribe);
            }
            Live::Grant(grant) => self.granted(link, &grant),
            Live::Skip(skip) => self.skipped(link, &skip),
            Live::End(end) => self.order_ended(link, end),
            Live::Clock(clock) => self.clock_came(link, clock),
            Live::Report(report) => self.report_came(link, &report),
            Live::Proof(proof) => self.proof_came(link, &proof),
            Live::Offer(offer) => self.offer_came(link, offer),
        }
    }

    fn clock_came(&mut self, link: Link, clock: Clock) {
        let (now, wall) = (self.now.mono, self.now.wall.0);
        let Some(peer) = self.peers.get_mut(&link) else { return };
        match clock {
            Clock::Ask { mine_us } => {
                if peer.may_answer(now, ANSWERS_PER_S) {
                    let answer =
                        Clock::Answer { mine_us: wall, yours_us: mine_us, arrived_us: wall };
                    self.send_live(link, &Live::Clock(answer));
                }
            }
            Clock::Answer { mine_us, yours_us, arrived_us } => {
                if !peer.answers_clock_ask(yours_us, now) {
                    return;
                }
                // RFC 5905, section 8: offset and round trip from four times.
                let (t1, t2) = (i128::from(yours_us), i128::from(arrived_us));
                let (t3, t4) = (i128::from(mine_us), i128::from(wall));
                let rtt = (t4 - t1) - (t3 - t2);
                let offset = ((t2 - t1) + (t3 - t4)) / 2;
                // What cannot be says nothing.
                if (0..30_000_000).contains(&rtt) {
                    peer.rtt_us = u64::try_from(rtt).ok();
                    if let (Ok(rtt), Ok(there)) = (i64::try_from(rtt), i64::try_from(t2 - t1)) {
                        peer.path.note(now, rtt, there);
                    }
                    peer.rtt_min_us = peer.rtt_min_us.into_iter().chain(peer.rtt_us).min();
                    peer.clock_offset_us = i64::try_from(offset).ok();
                }
                self.judge_clock();
            }
        }
    }

    /// What epochs are believed follows from who agrees on the time. A source never ignores one: it
    /// must know what it has to exceed.
    pub(super) fn judge_clock(&mut self) {
        self.note_clocks();
        let max = self.epoch_max().filter(|_| self.source.is_none());
        if let Some(core) = &mut self.core {
            core.feed.set_epoch_max(max);
        }
    }

    /// Asks peers for their time, each every ten seconds and those that fell silent at once.
    pub(super) fn tick_clocks(&mut self) {
        self.judge_clock();
        let now = self.now.mono;
        let learns = self.config.upload_limit.is_none();
        let due: Vec<Link> = self
            .peers
            .values()
            .filter(|p| {
                let asked = now.since_us(p.clock_at);
                let probe = now.since_us(p.last_in) > PROBE_US && asked >= PROBE_US;
                let learn = learns && p.is_fed() && asked >= LEARN_US && !p.is_asked_clock(now);
                p.is_live() && (asked >= CLOCK_US || probe || learn)
            })
            .map(|p| p.link)
            .collect();
        for link in due {
            self.ask_clock(link);
        }
    }

    fn ask_clock(&mut self, link: Link) {
        let (now, mine_us) = (self.now.mono, self.now.wall.0);
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.note_clock_ask(mine_us, now);
        }
        self.send_live(link, &Live::Clock(Clock::Ask { mine_us }));
    }

    /// Answers what came from this peer under which credit id, and how the stream comes; of what
    /// is answered to us nothing else was asked for.
    fn report_came(&mut self, link: Link, report: &Report) {
        let (report, credits) = match report {
            Report::Ask { report, credits } => (report, credits),
            Report::Answer { view, .. } => return self.view_came(link, *view),
        };
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        if peer.reported_at.is_some_and(|at| now.since_us(at) < REPORT_US) {
            return;
        }
        peer.reported_at = Some(now);
        let received = credits.iter().map(|id| (*id, self.credits.of(*id))).collect();
        let view = Some(self.own_view());
        self.send_live(link, &Live::Report(Report::Answer { report: *report, received, view }));
    }
}

/// Whether a peer understands the message that it is probed with.
fn answers_probes(peer: &Peer) -> bool {
    peer.ids.of(Extension::Live(Kind::Clock)).is_some()
}
