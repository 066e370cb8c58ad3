//! Peers that announce pieces which they do not hold, and leave requests for them unanswered.

use bytes::Bytes;

use super::write::{Fate, Said, Write, live};
use crate::units::PieceIndex;
use crate::wire::live::{Live, Window};
use crate::wire::message::Message;

/// With each `have` they announce so many pieces behind it.
const AHEAD: u32 = 4;

/// Every bit of a window is set, and no request is rejected: who asks waits for nothing.
pub(super) fn judge(said: &Said) -> Fate {
    match said {
        Said::Live(Live::Window(window)) => {
            let bitmap = Bytes::from(vec![0xff; window.bitmap.len()]);
            Fate::Instead(live(&Live::Window(Window { bitmap, ..window.clone() })))
        }
        Said::Other(Message::Reject(_)) => Fate::Drop,
        _ => Fate::Keep,
    }
}

/// Announces, behind the last piece that `write` announces, the next ones.
pub(super) fn more(write: &Write) -> Vec<Message> {
    let index = |said: &Said| match said {
        Said::Other(Message::Have(index)) => Some(index.0),
        _ => None,
    };
    let Some(last) = write.said().iter().filter_map(index).max() else { return Vec::new() };
    (1..=AHEAD)
        .filter_map(|n| last.checked_add(n))
        .map(|index| Message::Have(PieceIndex(index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::write;
    use super::*;
    use crate::units::Epoch;
    use crate::wire::live::Reason;
    use crate::wire::message::Request;
    use crate::wire::tlv::Tlvs;

    #[test]
    fn only_what_is_held_is_untrue_and_only_rejects_are_missing() {
        let window = |bits: u8| {
            let (epoch, base) = (Epoch(1), PieceIndex(8));
            let (kept_ms, hops, reason, ext) = (1000, 2, Reason::NONE, Tlvs::default());
            let bitmap = Bytes::from(vec![bits]);
            live(&Live::Window(Window { epoch, base, kept_ms, hops, reason, bitmap, ext }))
        };
        let have = |index| Message::Have(PieceIndex(index));
        let reject = Message::Reject(Request { index: PieceIndex(9), begin: 0, len: 16_384 });
        let said = write(&[window(0b1000_0000), have(10), have(9), reject]);
        let told = said.retold(judge, &more(&said));
        let ahead = [11, 12, 13, 14].map(have);
        assert_eq!(told, write(&[&[window(0xff), have(10), have(9)], &ahead[..]].concat()));
    }
}
