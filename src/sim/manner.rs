//! How nodes treat the others: honestly, or in one of the ways that a swarm has to bear.
//!
//! Within every node is the honest machine. Who misbehaves has another word in what it writes, or a
//! line that carries less than the machine was told.
//!
//! | key of a scenario | what a viewer of this share does | file |
//! | --- | --- | --- |
//! | `polluters` | has a wrong bit in every block | here |
//! | `stallers` | promises blocks and sends none | [`withholder`] |
//! | `liars` | says that all upload `liars_claim` copies | [`liar`] |
//! | `boasters` | promises everything at once, and vouches for anybody | [`boaster`] |
//! | `window_liars` | announces what it lacks and leaves requests unanswered | [`window_liar`] |
//! | `withholders` | grants entries and blocks and sends neither | [`withholder`] |
//! | `flooders` | asks and subscribes without end | [`flooder`] |
//! | `replayers` | pushes old entries and forged ones | [`replayer`] |
//! | `drips` | has a line that carries a twentieth of what it offers | here |
//! | `reflectors` | sends addresses of nobody and of a victim (BEP 11) | [`reflector`] |

mod boaster;
mod flooder;
mod liar;
pub(super) mod reflector;
mod replayer;
mod window_liar;
mod withholder;
mod write;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use self::replayer::Tape;
pub(super) use self::write::Write;
use self::write::{Fate, Said};
use super::scenario::Scenario;
use crate::units::{Link, Time};
use crate::wire::extended::Extension;
use crate::wire::live::{Entries, Kind, Live};
use crate::wire::message::Message;

/// What the line of a drip carries of what it offers.
const DRIP_PART: f64 = 0.05;

/// How a node treats the others.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(super) enum Manner {
    #[default]
    Honest,
    Polluter,
    Staller,
    /// With the copies that it claims.
    Liar(f64),
    Boaster,
    WindowLiar,
    Withholder,
    Flooder,
    Replayer,
    Drip,
    Reflector,
}

impl Manner {
    /// What becomes of a viewer for whom this number from 0 to 1 was drawn.
    pub(super) fn of(scenario: &Scenario, draw: f64) -> Self {
        let manners = [
            Self::Polluter,
            Self::Staller,
            Self::Liar(scenario.liars_claim),
            Self::Boaster,
            Self::WindowLiar,
            Self::Withholder,
            Self::Flooder,
            Self::Replayer,
            Self::Drip,
            Self::Reflector,
        ];
        let mut below = 0.0;
        for ((_, share), manner) in scenario.misbehaving().into_iter().zip(manners) {
            below += share;
            if draw < below {
                return manner;
            }
        }
        Self::Honest
    }

    /// What of the upload that its machine is told the line really carries.
    pub(super) fn line_part(self) -> f64 {
        if self == Self::Drip { DRIP_PART } else { 1.0 }
    }

    fn judge(self, said: &Said) -> Fate {
        match self {
            Self::Staller => withholder::stall(said),
            Self::Liar(copies) => liar::judge(said, copies),
            Self::Boaster => boaster::judge(said),
            Self::WindowLiar => window_liar::judge(said),
            Self::Withholder => withholder::withhold(said),
            Self::Reflector => reflector::judge(said),
            Self::Honest | Self::Polluter | Self::Flooder | Self::Replayer | Self::Drip => {
                Fate::Keep
            }
        }
    }

    /// Whether its own words are changed, or others added.
    fn rewrites(self) -> bool {
        !matches!(self, Self::Honest | Self::Polluter | Self::Drip)
    }
}

/// What was said besides on one connection.
#[derive(Clone, Copy, Debug)]
struct Besides {
    count: u64,
    at: Time,
}

/// A node's manner, and what it needs to keep to it.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    manner: Manner,
    node: u32,
    besides: BTreeMap<Link, Besides>,
    tape: Tape,
}

impl Conduct {
    /// The conduct of this node.
    pub(super) fn new(manner: Manner, node: u32) -> Self {
        Self { manner, node, ..Self::default() }
    }

    /// A frame comes to the node.
    pub(super) fn hear(&mut self, frame: &Bytes) {
        if self.manner != Manner::Replayer {
            return;
        }
        let Ok(Message::Extended { id, payload }) = Message::parse(frame) else { return };
        if id != Extension::Live(Kind::Entries).our_id() {
            return;
        }
        if let Ok(Some(Live::Entries(
            Entries::Push { entries } | Entries::Answer { entries, .. },
        ))) = Live::parse(Kind::Entries, &payload)
        {
            self.tape.note(&entries);
        }
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, link: Link) {
        self.besides.remove(&link);
    }

    /// What goes out instead of `write`, and how many of its bytes do not.
    pub(super) fn say(&mut self, now: Time, link: Link, write: Write) -> (Write, usize) {
        if self.manner == Manner::Polluter {
            return (polluted(write), 0);
        }
        if !self.manner.rewrites() {
            return (write, 0);
        }
        let more = self.more(now, link, &write);
        let manner = self.manner;
        let told = write.retold(|said| manner.judge(said), &more);
        let missing = write.len().saturating_sub(told.len());
        (told, missing)
    }

    /// What is said besides. Nothing before the extension handshakes are through: a message of the
    /// live extension shows that they are.
    fn more(&mut self, now: Time, link: Link, write: &Write) -> Vec<Message> {
        let every_us = match self.manner {
            Manner::WindowLiar => return window_liar::more(write),
            Manner::Flooder => 0,
            Manner::Replayer => replayer::EVERY_US,
            Manner::Reflector => reflector::EVERY_US,
            _ => return Vec::new(),
        };
        let Some(last) = self.besides.get(&link).copied() else {
            if write.said().iter().any(|said| matches!(said, Said::Live(_))) {
                self.besides.insert(link, Besides { count: 0, at: now });
            }
            return Vec::new();
        };
        let since_us = now.since_us(last.at);
        if last.count > 0 && since_us < every_us {
            return Vec::new();
        }
        let (more, said) = match self.manner {
            Manner::Flooder => {
                let more = flooder::more(last.count, since_us);
                let count = more.len() as u64;
                (more, count)
            }
            Manner::Replayer => (self.tape.more(last.count), 1),
            _ => (reflector::more(self.node, last.count), 1),
        };
        if !more.is_empty() {
            self.besides.insert(link, Besides { count: last.count + said, at: now });
        }
        more
    }
}

/// A block with a wrong bit.
fn polluted(write: Write) -> Write {
    let mut body = BytesMut::from(&write.body[..]);
    let place = body.len() / 2;
    if let Some(byte) = body.get_mut(place) {
        *byte ^= 1;
    }
    Write { body: body.freeze(), ..write }
}

#[cfg(test)]
mod tests {
    use super::write::live;
    use super::write::tests::write;
    use super::*;
    use crate::units::{Epoch, PieceIndex};
    use crate::wire::live::Clock;

    fn scenario() -> Scenario {
        let text = "polluters = 0.1\nboasters = 0.2\ndrips = 0.3\nreflectors = 0.4";
        Scenario::parse(text).expect("valid")
    }

    fn clock() -> Write {
        write(&[live(&Live::Clock(Clock::Ask { mine_us: 1 }))])
    }

    #[test]
    fn each_manner_has_its_share() {
        let scenario = scenario();
        for (draw, manner) in [
            (0.05, Manner::Polluter),
            (0.15, Manner::Boaster),
            (0.45, Manner::Drip),
            (0.95, Manner::Reflector),
        ] {
            assert_eq!(Manner::of(&scenario, draw), manner, "{draw}");
        }
        assert_eq!(Manner::of(&Scenario::default(), 0.0), Manner::Honest);
    }

    #[test]
    fn nothing_is_said_besides_before_the_extension_handshakes() {
        let mut conduct = Conduct::new(Manner::Flooder, 3);
        let early = write(&[Message::HaveNone, Message::Extended { id: 0, payload: Bytes::new() }]);
        for at in [1, 2] {
            let said = conduct.say(Time(at * 1_000_000), Link(1), early.clone());
            assert_eq!(said, (early.clone(), 0));
        }
        conduct.say(Time(3_000_000), Link(1), clock());
        let (told, missing) = conduct.say(Time(3_100_000), Link(1), clock());
        assert_eq!((told.said().len(), missing), (21, 0));
    }

    #[test]
    fn what_does_not_go_out_is_counted() {
        let mut conduct = Conduct::new(Manner::Staller, 3);
        let block = Message::Piece {
            index: PieceIndex(1),
            begin: 0,
            block: Bytes::from_static(b"payload"),
        };
        let whole = write(&[Message::Unchoke, block]);
        let got = conduct.say(Time(1), Link(1), whole.clone());
        let kept = write(&[Message::Unchoke]);
        assert_eq!(got, (kept.clone(), whole.len() - kept.len()));
    }

    #[test]
    fn a_replayer_repeats_what_it_heard() {
        let mut conduct = Conduct::new(Manner::Replayer, 3);
        let entries = vec![Bytes::from_static(b"some entry")];
        let push = live(&Live::Entries(Entries::Push { entries }));
        conduct.hear(&write(std::slice::from_ref(&push)).head.slice(4..));
        conduct.hear(
            &write(&[live(&Live::Entries(Entries::Ask {
                run: 1,
                epoch: Epoch(1),
                index: PieceIndex(1),
                count: 1,
            }))])
            .head
            .slice(4..),
        );
        conduct.say(Time(1_000_000), Link(1), clock());
        let (told, _) = conduct.say(Time(1_300_000), Link(1), clock());
        assert_eq!(told, clock().retold(|_| Fate::Keep, &[push]));
    }
}
