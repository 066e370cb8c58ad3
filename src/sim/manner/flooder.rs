//! Peers that ask for more than anybody could want: entries, clocks, reports, subscriptions.

use super::write::live;
use crate::units::{BlockNo, Epoch};
use crate::wire::live::{Clock, Cover, Entries, Live, NEWEST, Report, Stripe, Subscribe};
use crate::wire::message::Message;
use crate::wire::tlv::Tlvs;

/// Messages a second on each connection: six times what a node must answer.
const RATE: u64 = 200;
/// Most at once.
const BURST: u64 = 100;
/// Ids from here on are not those of the machine inside.
const FIRST_ID: u8 = 32;
/// The highest id of a subscription.
const LAST_ID: u8 = 63;

/// What is said besides on a connection on which `before` messages of the flood have gone out, the
/// last of them `since_us` ago.
pub(super) fn more(before: u64, since_us: u64) -> Vec<Message> {
    let count = (since_us.saturating_mul(RATE) / 1_000_000).min(BURST);
    (before..before + count).map(|n| live(&nth(n))).collect()
}

/// Subscriptions until there are no ids left, which take places and never a block; then asks.
fn nth(n: u64) -> Live {
    let id = FIRST_ID.saturating_add(u8::try_from(n / 2).unwrap_or(u8::MAX));
    match n % 4 {
        0 | 2 if id <= LAST_ID => Live::Subscribe(wish(id)),
        0 => Live::Report(Report::Ask { report: n as u8, credits: vec![1; 32] }),
        1 | 2 => {
            let run = 128 | (n / 4) as u8;
            Live::Entries(Entries::Ask { run, epoch: Epoch(1), index: NEWEST, count: 256 })
        }
        _ => Live::Clock(Clock::Ask { mine_us: n }),
    }
}

/// A wish for all entries.
fn wish(id: u8) -> Subscribe {
    let (stripe, epoch, cover) = (Stripe::Entries, Epoch(0), Cover::ALL);
    let (first, last) = (BlockNo(0), BlockNo(u64::MAX));
    Subscribe { id, stripe, epoch, cover, first, last, ext: Tlvs::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_of_a_flood_is_wrong_in_itself() {
        let mut ids = Vec::new();
        for n in 0..1000 {
            let live = nth(n);
            assert_eq!(Live::parse(live.kind(), &live.encode()), Ok(Some(live.clone())));
            if let Live::Subscribe(wish) = live {
                ids.push(wish.id);
            }
        }
        assert_eq!(ids, (FIRST_ID..=LAST_ID).collect::<Vec<u8>>(), "each id once");
    }

    #[test]
    fn a_flood_is_as_fast_as_its_rate_and_no_burst_is_without_a_bound() {
        assert_eq!(more(7, 100_000).len(), 20);
        assert_eq!(more(7, u64::MAX).len(), 100);
        assert!(more(7, 4_000).is_empty());
    }
}
