//! What a source learns of its viewers: how many there are, how late the stream is for them, and
//! why some stall (`specs/wire.md`, section Views).
//!
//! Neighbours are asked in turn how the stream comes to them: a sample, drawn by chance as far as
//! trackers hand out addresses by chance. How many viewers there are follows from what subscribers
//! say of those below them.

use std::collections::BTreeMap;

use super::Swarm;
use super::status::Percentiles;
use crate::units::{Link, Time};
use crate::wire::live::{Cover, Live, Reason, Report, UNKNOWN, VIEW_LAGS, View};

/// A neighbour is asked so often.
const ASK_US: u64 = 10_000_000;
/// What it answered counts for so long.
const FRESH_US: u64 = 30_000_000;
/// Our own view is worked out anew at most so often, whoever asks.
const KEEP_US: u64 = 2_000_000;

/// What a neighbour was asked and answered.
#[derive(Debug, Default)]
pub struct Sampled {
    /// When it was asked last, and whether the answer is still to come.
    asked: Option<(Time, bool)>,
    /// What it answered, and when.
    view: Option<(Time, View)>,
}

/// The viewers of a source, as far as it can tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Audience {
    /// How many there are.
    pub estimate: u32,
    /// There may be more: some subscriber counts no further.
    pub or_more: bool,
    /// Viewers whose answers the rest is about.
    pub sampled: usize,
    /// From a block's publication until they had it, over their blocks of the last minute.
    pub lag_ms: Option<Percentiles>,
    /// Of those sampled, how many stall for which reason.
    pub reasons: BTreeMap<Reason, usize>,
}

impl Audience {
    /// How many of those sampled stall.
    #[must_use]
    pub fn stalled(&self) -> usize {
        self.reasons.values().sum()
    }
}

impl Swarm {
    /// Asks neighbours in turn how the stream comes to them.
    pub(super) fn tick_audience(&mut self) {
        if !self.is_publishing() {
            return;
        }
        let now = self.now.mono;
        let due: Vec<Link> = self
            .peers
            .values_mut()
            .filter(|p| p.is_live() && p.hops != 0)
            .filter(|p| p.sampled.asked.is_none_or(|(at, _)| now.since_us(at) >= ASK_US))
            .map(|p| {
                p.sampled.asked = Some((now, true));
                p.link
            })
            .collect();
        for link in due {
            self.send_live(link, &Live::Report(Report::Ask { report: 0, credits: Vec::new() }));
        }
    }

    /// A neighbour answered; who was not asked is not listened to.
    pub(super) fn view_came(&mut self, link: Link, view: Option<View>) {
        let now = self.now.mono;
        let Some(peer) = self.peers.get_mut(&link) else { return };
        let Some((_, open)) = peer.sampled.asked.as_mut().filter(|(_, open)| *open) else { return };
        *open = false;
        peer.sampled.view = view.map(|view| (now, view));
    }

    /// How the stream comes to us.
    pub(super) fn own_view(&mut self) -> View {
        let now = self.now.mono;
        if let Some((_, view)) = self.view.filter(|(at, _)| now.since_us(*at) < KEEP_US) {
            return view;
        }
        let view = View { reason: self.stall_reason(), lag_ms: self.lags.spread_ms(now) };
        self.view = Some((now, view));
        view
    }

    /// The viewers, if we publish.
    #[must_use]
    pub fn audience(&self) -> Option<Audience> {
        if !self.is_publishing() {
            return None;
        }
        let now = self.now.mono;
        let viewers = || self.peers.values().filter(|p| p.is_live() && p.hops != 0);
        let fresh = viewers().filter_map(|p| p.sampled.view);
        let views: Vec<View> =
            fresh.filter(|(at, _)| now.since_us(*at) < FRESH_US).map(|(_, view)| view).collect();
        let lags = views.iter().flat_map(|v| v.lag_ms).filter(|lag| *lag != UNKNOWN);
        let mut reasons = BTreeMap::new();
        for view in views.iter().filter(|v| v.reason != Reason::NONE) {
            *reasons.entry(view.reason).or_insert(0) += 1;
        }
        let (below, or_more) = self.count_below();
        let estimate = below.max(u32::try_from(viewers().count()).unwrap_or(u32::MAX));
        Some(Audience {
            estimate,
            or_more,
            sampled: views.len(),
            lag_ms: Percentiles::of_us(lags.map(|ms| i64::from(ms) * 1000).collect()),
            reasons,
        })
    }

    /// How many get the stream through us, in the median over stripes, and whether one of those
    /// whom we send it counts no further.
    fn count_below(&self) -> (u32, bool) {
        let k = self.upstream.k();
        let mut or_more = false;
        let mut counts: Vec<u32> = Vec::with_capacity(usize::from(k));
        for stripe in 0..k {
            let cover = Cover { k, stripes: 1 << stripe, part: 0xff };
            let mut count = 0;
            for (peer, _) in self.flows_of(&cover) {
                let below = peer.offer.as_ref().map_or(0, |offer| offer.below(k, stripe));
                or_more |= below == u8::MAX;
                count += 1 + u32::from(below);
            }
            counts.push(count);
        }
        counts.sort_unstable();
        (counts.get(counts.len() / 2).copied().unwrap_or(0), or_more)
    }
}

/// Of `values` that which (2 i + 1) / 32 of them do not exceed, for each place `i`.
pub(super) fn spread(mut values: Vec<u16>) -> [u16; VIEW_LAGS] {
    values.sort_unstable();
    let mut out = [UNKNOWN; VIEW_LAGS];
    for (i, place) in out.iter_mut().enumerate() {
        let rank = ((2 * i + 1) * values.len()).div_ceil(2 * VIEW_LAGS);
        *place = values.get(rank.saturating_sub(1)).copied().unwrap_or(UNKNOWN);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_stands_for_all_lags_and_is_empty_of_none() {
        let lags = spread((1..=320).rev().collect());
        assert_eq!((lags[0], lags[7], lags[15]), (10, 150, 310));
        assert_eq!(spread(vec![7]), [7; VIEW_LAGS]);
        assert_eq!(spread(Vec::new()), [UNKNOWN; VIEW_LAGS]);
    }
}
