//! The resource index of the swarm: what all viewers together upload, in copies of the stream, over
//! the copies that they need (`specs/scheduling.md`, section Resource index).
//!
//! Nobody sees everybody. Each node takes the mean over the neighbours it has, tells it, and leans
//! towards what they tell: so what all have seen comes together, and who lies is outvoted.

use super::Swarm;
use crate::units::Time;
use crate::wire::live::{HOPS_UNKNOWN, Reason, UNKNOWN};

/// Numbers of an offer are in this part of the stream's rate.
const UNIT: f64 = 256.0;
/// What anybody claims counts up to so many copies: a few who say more must not hide that there is
/// too little.
const CLAIM_MAX: f64 = 4.0;
/// One of so many, those who claim most, counts only as much as the next below.
const DOUBTED: usize = 8;
/// Of five neighbours the two who tell most and the two who tell least are left out.
const OUTVOTED: (usize, usize) = (2, 5);
/// What a node sees itself counts this much beside what its neighbours tell.
const OWN_PART: f64 = 1.0 / 8.0;
/// In a swarm of fewer viewers the source's upload is no small part of all; a node with so few
/// neighbours may take it that they are all.
const SMALL_SWARM: usize = 16;
/// Below this the swarm cannot carry the stream.
pub(super) const SUSTAINABLE: f64 = 1.0;
/// Of so many neighbours one must stall before a source believes that something is lacking.
const STALLING: usize = 20;
/// And for so long it believes it.
const LACKING_US: u64 = 30_000_000;

/// What is known of the swarm's upload.
#[derive(Debug, Default)]
pub(super) struct Resources {
    /// The estimate.
    index: Option<f64>,
    /// When one of many neighbours last stalled for want of blocks.
    lacking_at: Option<Time>,
}

/// The mean of what viewers claim to upload, in copies; `source`: what a source adds that is no
/// small part of it. `None` of nobody.
fn sample(mut claims: Vec<f64>, source: f64) -> Option<f64> {
    let count = claims.len();
    claims.iter_mut().for_each(|claim| *claim = claim.clamp(0.0, CLAIM_MAX));
    claims.sort_unstable_by(f64::total_cmp);
    let doubted = count / DOUBTED;
    let believed = claims.get(..count - doubted)?;
    let most = believed.last()?;
    let sum = believed.iter().sum::<f64>() + most * doubted as f64 + source;
    Some(sum / count as f64)
}

/// The mean of what neighbours tell, in copies, without the highest and the lowest two fifths.
fn consensus(mut told: Vec<f64>) -> Option<f64> {
    told.sort_unstable_by(f64::total_cmp);
    let left_out = told.len() * OUTVOTED.0 / OUTVOTED.1;
    let middle = told.get(left_out..told.len() - left_out).filter(|middle| !middle.is_empty())?;
    Some(middle.iter().sum::<f64>() / middle.len() as f64)
}

/// What a node believes that saw `seen` itself and was told `told`.
fn estimate(seen: f64, told: Vec<f64>) -> f64 {
    consensus(told).map_or(seen, |others| seen * OWN_PART + others * (1.0 - OWN_PART))
}

impl Swarm {
    /// What this node uploads at most, in copies of the stream.
    pub(super) fn upload_copies(&self) -> f64 {
        let rate = (self.stream_rate() as f64).max(1.0);
        self.upload_limit().unwrap_or_else(|| self.flow_budget()) as f64 / rate
    }

    /// The swarm's upload over what it needs, as far as this node can tell: below 1 the stream
    /// cannot reach everybody whole. `None` before anybody told.
    #[must_use]
    pub fn resource_index(&self) -> Option<f64> {
        self.resources.index
    }

    /// Whether the swarm's upload does not carry the stream.
    pub(super) fn is_unsustainable(&self) -> bool {
        self.resources.index.is_some_and(|index| index < SUSTAINABLE)
    }

    /// Whether viewers lack what a source sends because the swarm cannot carry it.
    pub(super) fn starves_viewers(&self) -> bool {
        let lacking = self.resources.lacking_at;
        self.is_publishing()
            && self.is_unsustainable()
            && lacking.is_some_and(|at| self.now.mono.since_us(at) < LACKING_US)
    }

    /// Judges the swarm's upload anew, and at a source whether viewers lack anything.
    pub(super) fn judge_resources(&mut self) {
        let offers = || self.peers.values().filter_map(|p| Some((p.hops, p.offer.as_ref()?)));
        let known = |number: &u16| *number != UNKNOWN;
        let copies = |number: u16| f64::from(number) / UNIT;
        let of = |source: bool| {
            let these = offers().filter(move |(hops, _)| (*hops == 0) == source);
            these.map(|(_, offer)| offer.upload).filter(known).map(copies)
        };
        let mut viewers: Vec<f64> = of(false).collect();
        let mut sources: Vec<f64> = of(true).collect();
        if viewers.is_empty() && sources.is_empty() {
            return;
        }
        let own = if self.is_publishing() { &mut sources } else { &mut viewers };
        own.push(self.upload_copies());
        let source = sources.into_iter().fold(0.0, f64::max).min(SMALL_SWARM as f64);
        let source = if viewers.len() < SMALL_SWARM { source } else { 0.0 };
        let told = offers().map(|(_, offer)| offer.mean).filter(known).map(copies).collect();
        self.resources.index = sample(viewers, source).map(|seen| estimate(seen, told));
        if self.is_publishing() {
            self.judge_viewers();
        }
    }

    /// Looks how many neighbours stall for want of blocks.
    fn judge_viewers(&mut self) {
        let viewers = || self.peers.values().filter(|p| p.is_live() && p.hops != 0);
        let lacks = |reason| {
            [Reason::NO_UPSTREAM, Reason::SLOW_UPSTREAM, Reason::UNSUSTAINABLE].contains(&reason)
        };
        let lacking = viewers().filter(|p| p.hops != HOPS_UNKNOWN && lacks(p.reason)).count();
        if lacking > 0 && lacking * STALLING >= viewers().count() {
            self.resources.lacking_at = Some(self.now.mono);
        }
    }

    /// The estimate as offers say it.
    pub(super) fn told_index(&self) -> u16 {
        let told = |index: f64| (index * UNIT).round().clamp(0.0, f64::from(UNKNOWN - 1)) as u16;
        self.resources.index.map_or(UNKNOWN, told)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::machine::Rng;

    /// Uploads of `mixed-1.3`, shares in tenths.
    const MIXED: [f64; 10] = [0.0, 0.0, 0.5, 0.5, 0.5, 1.5, 1.5, 1.5, 3.5, 3.5];

    /// What 300 nodes with some 40 neighbours each believe over the truth, after telling each other
    /// eight times; every tenth lies if there is a lie.
    fn believed(uploads: &[f64], lie: Option<f64>) -> Vec<f64> {
        const NODES: usize = 300;
        let mut rng = Rng::new(5);
        let upload: Vec<f64> = (0..NODES).map(|n| uploads[n % uploads.len()]).collect();
        let mut lies: Vec<Option<f64>> = vec![None; NODES];
        lies[..NODES / 10].fill(lie);
        rng.shuffle(&mut lies);
        let mut neighbours = vec![Vec::new(); NODES];
        for a in 0..NODES {
            for _ in 0..20 {
                let b = rng.index(NODES);
                if a != b {
                    neighbours[a].push(b);
                    neighbours[b].push(a);
                }
            }
        }
        let seen: Vec<f64> = (0..NODES)
            .map(|n| {
                let others = neighbours[n].iter().map(|m| lies[*m].unwrap_or(upload[*m]));
                sample(others.chain([upload[n]]).collect(), 0.0).expect("neighbours")
            })
            .collect();
        let mut index = seen.clone();
        for _ in 0..8 {
            let told: Vec<f64> = (0..NODES).map(|n| lies[n].unwrap_or(index[n])).collect();
            index = (0..NODES)
                .map(|n| estimate(seen[n], neighbours[n].iter().map(|m| told[*m]).collect()))
                .collect();
        }
        let truth = upload.iter().sum::<f64>() / NODES as f64;
        let honest = index.into_iter().zip(lies).filter(|(_, lie)| lie.is_none());
        honest.map(|(index, _)| index / truth).collect()
    }

    fn share_within(parts: &[f64], most: f64) -> f64 {
        let right = parts.iter().filter(|part| (*part - 1.0).abs() <= most).count();
        right as f64 / parts.len() as f64
    }

    #[test]
    fn everybody_knows_the_index_within_a_tenth() {
        for uploads in [&MIXED[..], &[1.1], &[0.0, 3.0]] {
            let parts = believed(uploads, None);
            assert!(share_within(&parts, 0.1) >= 0.9, "{uploads:?}: {parts:?}");
        }
    }

    #[test]
    fn a_tenth_of_liars_moves_the_index_by_less_than_a_quarter() {
        for lie in [0.0, 4.0, 255.0] {
            let parts = believed(&MIXED, Some(lie));
            assert!(share_within(&parts, 0.25) >= 0.9, "{lie}: {parts:?}");
        }
    }

    #[test]
    fn a_source_counts_where_it_is_no_small_part() {
        // Two viewers without upload, and a source that sends three copies.
        assert_eq!(sample(vec![0.0, 0.0], 3.0), Some(1.5));
        assert_eq!(sample(Vec::new(), 3.0), None);
    }

    proptest! {
        #[test]
        fn no_third_of_neighbours_can_take_a_node_beyond_what_the_others_tell(
            honest in prop::collection::vec(0.0f64..8.0, 9..60),
            lies in prop::collection::vec(0.0f64..256.0, 0..20),
        ) {
            let lies = lies.into_iter().take(honest.len() / 2);
            let told = honest.iter().copied().chain(lies).collect();
            let least = honest.iter().copied().fold(f64::INFINITY, f64::min);
            let most = honest.iter().copied().fold(0.0, f64::max);
            let got = consensus(told).expect("somebody told");
            prop_assert!(got >= least - 1e-9 && got <= most + 1e-9);
        }

        #[test]
        fn no_claim_counts_for_more_than_the_most_that_counts(
            claims in prop::collection::vec(0.0f64..256.0, 1..80),
        ) {
            let got = sample(claims, 0.0).expect("somebody claims");
            prop_assert!((0.0..=CLAIM_MAX).contains(&got));
        }
    }
}
