//! What a swarm knows of its upload, and a source of its viewers.

use super::*;
use crate::swarm::status::{Condition, Status};
use crate::wire::live::{Reason, VIEW_LAGS, View};

/// Bytes per second of the test stream.
const RATE: u64 = 500_000;

/// A source with so many copies of upload, and viewers with hardly any.
fn fed_by_the_source(copies: f64, viewers: usize) -> (Net, usize, Vec<usize>) {
    let mut net = Net::new();
    let mut config = net.config(source_role(None));
    config.upload_limit = Some((copies * RATE as f64) as u64);
    let source = net.add(config);
    let viewers = (0..viewers)
        .map(|_| {
            let mut config = net.config(Role::Viewer);
            config.upload_limit = Some(RATE / 50);
            let viewer = net.add(config);
            net.watch(viewer);
            net.introduce(viewer, &[source]);
            viewer
        })
        .collect();
    net.run(2.5);
    (net, source, viewers)
}

impl Net {
    fn status(&self, n: usize) -> Status {
        self.nodes[n].swarm.status(self.time(n))
    }
}

#[test]
fn viewers_without_upload_are_carried_by_a_source_that_has_enough() {
    let (mut net, source, viewers) = fed_by_the_source(4.0, 2);
    net.stream(source, 8.0, 0);
    for n in viewers.into_iter().chain([source]) {
        let status = net.status(n);
        assert_eq!((status.condition, status.reason), (Condition::Live, Reason::NONE));
        let index = status.resource_index.expect("offers came");
        assert!((index - 2.0).abs() < 0.2, "node {n}: {index}");
    }
}

#[test]
fn who_stalls_for_want_of_upload_says_so_and_the_source_is_told() {
    let (mut net, source, viewers) = fed_by_the_source(0.6, 3);
    net.stream(source, 12.0, 0);
    for n in viewers {
        let status = net.status(n);
        assert_eq!((status.condition, status.reason), (Condition::Stalled, Reason::UNSUSTAINABLE));
    }
    let status = net.status(source);
    assert_eq!(status.reason, Reason::UNSUSTAINABLE);
    assert!(status.resource_index.is_some_and(|index| index < 0.5), "{status:?}");
}

#[test]
fn a_source_counts_viewers_behind_others_and_samples_its_neighbours() {
    let mut net = Net::new();
    let mut config = net.config(source_role(None));
    config.feed_only = true;
    let source = net.add(config);
    let relay = net.viewer(&[]);
    let addr = net.nodes[relay].addr;
    net.give(source, In::Found { via: Via::User, addrs: vec![addr] });
    for _ in 0..3 {
        net.viewer(&[relay]);
    }
    net.run(2.5);
    net.stream(source, 16.0, 0);
    let audience = net.status(source).audience.expect("a source");
    assert_eq!((audience.estimate, audience.or_more, audience.sampled), (4, false, 1));
    assert_eq!(audience.stalled(), 0);
    assert!(audience.lag_ms.is_some_and(|lag| lag.p50 > 0.0 && lag.p50 < 1_000.0), "{audience:?}");
    assert_eq!(net.status(relay).audience, None);
}

#[test]
fn a_view_that_nobody_asked_for_is_ignored() {
    let mut net = Net::new();
    let source = net.source();
    net.viewer(&[source]);
    net.run(2.5);
    net.stream(source, 4.0, 0);
    let links: Vec<Link> =
        net.links.keys().filter(|(n, _)| *n == source).map(|(_, link)| *link).collect();
    let view = View { reason: Reason::OWN_DOWNLINK, lag_ms: [9; VIEW_LAGS] };
    for link in links {
        net.nodes[source].swarm.view_came(link, Some(view));
    }
    let audience = net.status(source).audience.expect("a source");
    assert_eq!((audience.sampled, audience.stalled()), (1, 0));
}
