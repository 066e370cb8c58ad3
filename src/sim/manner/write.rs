//! A write to a connection, taken apart into messages and put together again.

use bytes::{Bytes, BytesMut};

use crate::wire::extended::Extension;
use crate::wire::live::Live;
use crate::wire::message::{HANDSHAKE_LEN, Message};

/// Length prefix of a frame.
const PREFIX_LEN: usize = 4;
/// First byte of a handshake.
const GREETING: u8 = 19;
/// Type of a `piece` message.
const PIECE: u8 = 7;

/// What a node hands over at once: whole frames, and of the last one perhaps only the head, with
/// the payload in `body`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) struct Write {
    pub(in crate::sim) head: Bytes,
    pub(in crate::sim) body: Bytes,
}

/// One thing that is said in a write.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is handled one at a time, never kept")]
pub(super) enum Said {
    /// A message of the live extension.
    Live(Live),
    /// A `piece` message.
    Block,
    /// Any other message.
    Other(Message),
    /// The handshake, or what nobody can read.
    Opaque,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Drop,
    Instead(Message),
}

impl Write {
    pub(super) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// What is said in it, in order.
    pub(super) fn said(&self) -> Vec<Said> {
        self.parts().iter().map(|part| self.read(part)).collect()
    }

    /// The same write after `judge` has decided about each thing in it, and with `more` said
    /// besides.
    pub(super) fn retold(&self, judge: impl Fn(&Said) -> Fate, more: &[Message]) -> Self {
        let (mut head, mut body) = (BytesMut::new(), self.body.clone());
        let put = |out: &mut BytesMut, message: &Message| {
            message.put_head(out);
            out.extend_from_slice(&message.body());
        };
        let parts = self.parts();
        let last = parts.len().saturating_sub(1);
        let cut = !self.body.is_empty();
        for (n, part) in parts.iter().enumerate() {
            if cut && n == last {
                // Nothing can stand between a head and its payload.
                more.iter().for_each(|message| put(&mut head, message));
            }
            match judge(&self.read(part)) {
                Fate::Keep => {
                    head.extend_from_slice(part);
                    continue;
                }
                Fate::Drop => {}
                Fate::Instead(message) => put(&mut head, &message),
            }
            if cut && n == last {
                body = Bytes::new();
            }
        }
        if !cut {
            more.iter().for_each(|message| put(&mut head, message));
        }
        Self { head: head.freeze(), body }
    }

    /// The handshake and the frames with their prefixes; the last one may be a mere head.
    fn parts(&self) -> Vec<Bytes> {
        let mut rest = self.head.clone();
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let len = match rest.first_chunk::<PREFIX_LEN>() {
                Some([GREETING, ..]) => HANDSHAKE_LEN,
                Some(prefix) => PREFIX_LEN + u32::from_be_bytes(*prefix) as usize,
                None => rest.len(),
            };
            parts.push(rest.split_to(len.min(rest.len())));
        }
        parts
    }

    fn read(&self, part: &Bytes) -> Said {
        match part.get(PREFIX_LEN) {
            _ if part.first() == Some(&GREETING) => return Said::Opaque,
            Some(&PIECE) => return Said::Block,
            _ => {}
        }
        let frame = part.slice(PREFIX_LEN.min(part.len())..);
        match Message::parse(&frame) {
            Ok(Message::Extended { id, payload }) => match Extension::from_our_id(id) {
                Some(Extension::Live(kind)) => match Live::parse(kind, &payload) {
                    Ok(Some(live)) => Said::Live(live),
                    _ => Said::Opaque,
                },
                _ => Said::Other(Message::Extended { id, payload }),
            },
            Ok(message) => Said::Other(message),
            Err(_) => Said::Opaque,
        }
    }
}

/// A message of the live extension with the number that every node here gives it.
pub(super) fn live(live: &Live) -> Message {
    Message::Extended { id: Extension::Live(live.kind()).our_id(), payload: live.encode() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::units::{InfoHash, PeerId, PieceIndex};
    use crate::wire::live::{Clock, End, Reason};
    use crate::wire::message::{Handshake, Reserved};

    /// A write of these messages, the payload of the last one by itself.
    pub(in crate::sim::manner) fn write(messages: &[Message]) -> Write {
        let mut head = BytesMut::new();
        let mut body = Bytes::new();
        for message in messages {
            head.extend_from_slice(&body);
            message.put_head(&mut head);
            body = message.body();
        }
        Write { head: head.freeze(), body }
    }

    fn block() -> Message {
        Message::Piece { index: PieceIndex(1), begin: 0, block: Bytes::from_static(b"payload") }
    }

    fn end() -> Message {
        live(&Live::End(End { id: 1, reason: Reason::DONE }))
    }

    #[test]
    fn what_is_kept_stays_byte_for_byte_as_it_was() {
        let (reserved, info_hash, peer_id) = (Reserved::live(), InfoHash([7; 20]), PeerId([8; 20]));
        let greeting = Handshake { reserved, info_hash, peer_id }.encode();
        let rest = write(&[Message::HaveNone, block(), Message::KeepAlive, end(), block()]);
        let head = [&greeting[..], &rest.head].concat().into();
        let whole = Write { head, body: rest.body };
        assert_eq!(whole.retold(|_| Fate::Keep, &[]), whole);
    }

    #[test]
    fn what_is_said_besides_stands_behind_whole_messages() {
        let more = live(&Live::Clock(Clock::Ask { mine_us: 5 }));
        for (said, told) in [
            (vec![end(), block()], vec![end(), more.clone(), block()]),
            (vec![block(), end()], vec![block(), end(), more.clone()]),
        ] {
            assert_eq!(
                write(&said).retold(|_| Fate::Keep, std::slice::from_ref(&more)),
                write(&told)
            );
        }
    }

    #[test]
    fn a_block_is_dropped_with_its_payload() {
        let judge = |said: &Said| match said {
            Said::Block => Fate::Drop,
            _ => Fate::Keep,
        };
        let told = write(&[block(), end(), block()]).retold(judge, &[]);
        assert_eq!(told, write(&[end()]));
    }
}
