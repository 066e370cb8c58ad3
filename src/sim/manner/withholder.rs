//! Peers that keep back what they have promised: blocks alone, or the feed as well.

use super::write::{Fate, Said};
use crate::wire::live::{Entries, Live};

/// No block is sent.
pub(super) fn stall(said: &Said) -> Fate {
    match said {
        Said::Block => Fate::Drop,
        _ => Fate::Keep,
    }
}

/// No block is sent and no entry, whether it was asked for, subscribed to or neither.
pub(super) fn withhold(said: &Said) -> Fate {
    match said {
        Said::Live(Live::Entries(Entries::Push { entries } | Entries::Answer { entries, .. }))
            if !entries.is_empty() =>
        {
            Fate::Drop
        }
        _ => stall(said),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::write::live;
    use super::super::write::tests::write;
    use super::*;
    use crate::units::{Epoch, PieceIndex};
    use crate::wire::message::Message;

    #[test]
    fn only_blocks_and_entries_are_missing() {
        let entries = || vec![Bytes::from_static(b"entry")];
        let push = live(&Live::Entries(Entries::Push { entries: entries() }));
        let answer = live(&Live::Entries(Entries::Answer { run: 1, entries: entries() }));
        let (epoch, index) = (Epoch(1), PieceIndex(5));
        let ask = live(&Live::Entries(Entries::Ask { run: 1, epoch, index, count: 3 }));
        let block = Message::Piece { index, begin: 0, block: Bytes::from_static(b"payload") };
        let said = write(&[push.clone(), ask.clone(), answer, Message::Have(index), block]);
        assert_eq!(said.retold(withhold, &[]), write(&[ask.clone(), Message::Have(index)]));
        assert_eq!(write(std::slice::from_ref(&push)).retold(stall, &[]), write(&[push]));
    }
}
