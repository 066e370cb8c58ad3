//! What memory lets us keep, what we say of that, and what peers say of theirs (`specs/wire.md`,
//! section Sliding).

use super::Swarm;
use super::epochs::WINDOW_US;
use super::peer::Peer;
use crate::live::store::Piece;
use crate::units::{Epoch, Link, PieceIndex, Seq, UnixUs};
use crate::wire::extended::{Extension, encode_dont_have};

impl Swarm {
    /// The birth time that we say we keep: the torrent's window, or a little less than what memory
    /// holds, so that a stream whose rate varies does not make every window message untrue.
    pub(super) fn may_keep_us(&self) -> u64 {
        let Some(core) = &self.core else { return 0 };
        let (window, room) = (core.torrent.stream.window_us, core.store.room_us());
        let near = self.kept_us <= room && room / 2 < self.kept_us;
        if room >= window {
            window
        } else if near {
            self.kept_us
        } else {
            (room / 8 * 7).max(1000)
        }
    }

    /// Tells of pieces that went although we had said that we keep them: by a new window message,
    /// or one by one while none may be sent.
    pub(super) fn tell_lost(&mut self, gone: &[Piece], epoch: Epoch, newest: UnixUs) {
        let oldest = newest.0.saturating_sub(self.kept_us);
        let heads = gone.iter().filter(|p| p.is_whole()).map(|p| p.genuine.entry.head);
        let lost: Vec<PieceIndex> = heads
            .filter(|head| head.epoch == epoch && head.birth.0 >= oldest && head.len > 0)
            .map(|head| head.index)
            .collect();
        if lost.is_empty() {
            return;
        }
        if self.now.mono.since_us(self.said_at) >= WINDOW_US {
            return self.tell_window();
        }
        let told = |p: &&Peer| p.is_live() && p.epoch == epoch;
        let links: Vec<Link> = self.peers.values().filter(told).map(|p| p.link).collect();
        for link in links {
            for index in &lost {
                self.send_extended(link, Extension::DontHave, encode_dont_have(*index));
            }
        }
    }

    /// Takes for gone what a peer no longer keeps by its own word, seen from our head.
    pub(super) fn slide_haves(&mut self) {
        if !self.any_less {
            return;
        }
        let Some(core) = &self.core else { return };
        let Some(head) = core.feed.highest().map(|g| g.entry.head) else { return };
        let less = |p: &&mut Peer| {
            p.epoch == head.epoch && (1..core.torrent.stream.window_us).contains(&p.kept_us)
        };
        for peer in self.peers.values_mut().filter(less) {
            let oldest = head.birth.0.saturating_sub(peer.kept_us);
            let from = Seq { epoch: head.epoch, index: peer.gone_below };
            let births = core.store.range(from).map(|(seq, p)| (seq, p.genuine.entry.head.birth));
            let gone =
                births.take_while(|(seq, birth)| seq.epoch == head.epoch && birth.0 < oldest);
            if let Some((last, _)) = gone.last() {
                peer.gone_below = last.index.next();
                peer.haves.forget_below(peer.gone_below);
            }
        }
    }
}
