//! The machines that ship, made for a simulated world: one key, one torrent, many swarms.

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use sha1::{Digest, Sha1};

use super::node::{Birth, Diagnosis, Maker, Node, Role};
use super::scenario::Scenario;
use crate::live::proven::Proven;
use crate::machine::Rng;
use crate::swarm::Swarm;
use crate::swarm::audience::Audience;
use crate::swarm::config::{Config, Role as SwarmRole, SourceConfig};
use crate::swarm::io::Trace;
use crate::swarm::status::Condition;
use crate::units::{InfoHash, Now, PeerId, Seq};
use crate::wire::live::Reason;
use crate::wire::metainfo::LiveTorrent;

/// Makes swarms for a scenario.
#[derive(Debug)]
pub struct Swarms {
    key: SigningKey,
    info: Bytes,
    info_hash: InfoHash,
    source_limit_known: bool,
    viewer_limits_known: bool,
    proven: Option<Proven>,
}

/// Bytes of blocks that all nodes hold in common.
const SHARED_BYTES_MAX: usize = 256 << 20;

impl Swarms {
    /// One stream for all; its key follows from the seed and protects nothing.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let mut secret = [0; 32];
        Rng::new(scenario.seed).fill(&mut secret);
        let key = SigningKey::from_bytes(&secret);
        let torrent = LiveTorrent {
            name: "simulated".to_owned(),
            piece_length: scenario.piece_length,
            private: false,
            public_key: key.verifying_key().to_bytes(),
            window_s: scenario.window_s,
            media: "video/mp2t".to_owned(),
            bitrate: Some(scenario.bitrate),
            tiers: Vec::new(),
            origins: Vec::new(),
            created_by: None,
        };
        let info = Bytes::from(torrent.encode_info());
        let info_hash = InfoHash(Sha1::digest(&info).into());
        let proven = scenario.prove_once.then(|| Proven::new(SHARED_BYTES_MAX));
        Self {
            key,
            info,
            info_hash,
            source_limit_known: scenario.source_limit_known,
            viewer_limits_known: scenario.viewer_limits_known,
            proven,
        }
    }
}

impl Maker for Swarms {
    type Node = Swarm;

    fn make(&mut self, birth: Birth, _: Now) -> Swarm {
        let mut rng = Rng::new(birth.seed);
        let mut name = [0; 12];
        rng.fill(&mut name);
        let mut config = Config::viewer(self.info_hash, PeerId::ours(name), rng.next_u64());
        config.info = Some(self.info.clone());
        config.listen_port = Some(birth.addr.port());
        let known = match birth.role {
            Role::Viewer => self.viewer_limits_known,
            _ => self.source_limit_known,
        };
        config.upload_limit = known.then_some(birth.upload_bps / 8);
        config.head = birth.records.head;
        config.proven = self.proven.clone();
        if birth.role != Role::Viewer {
            config.role = SwarmRole::Source(Box::new(SourceConfig {
                key: self.key.clone(),
                last: birth.records.published,
                takeover: false,
                hide: false,
            }));
        }
        let mut swarm = Swarm::new(config);
        swarm.set_tracing(true);
        swarm
    }
}

impl Node for Swarm {
    fn invariant(&self) -> Result<(), String> {
        Self::invariant(self)
    }

    fn verified(&mut self) -> Option<(Seq, u16)> {
        match self.poll_trace()? {
            Trace::Verified { at, block } => Some((at, block)),
        }
    }

    fn audience(&self) -> Option<Audience> {
        Self::audience(self)
    }

    fn diagnosis(&self, now: Now) -> Diagnosis {
        let (condition, reason) = Self::diagnosis(self, now);
        Diagnosis {
            stalls: condition == Condition::Stalled,
            unsustainable: reason == Reason::UNSUSTAINABLE,
            resource_index: self.resource_index(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Report;
    use super::super::world::World;
    use super::*;

    fn run(text: &str) -> Report {
        let base = "viewers = 12\nbitrate = 1_000_000\nwarm_up_s = 6\nduration_s = 6\n\
                    join_s = 1\nlead_s = 4\npolluters = 0.1\n";
        let scenario = Scenario::parse(&format!("{base}{text}")).expect("valid scenario");
        World::new(scenario.clone(), Swarms::new(&scenario)).run().expect("no violation")
    }

    #[test]
    fn proving_once_changes_nothing_but_the_work() {
        let (once, each) = (run("prove_once = true"), run("prove_once = false"));
        assert_eq!(once.trace_hash, each.trace_hash);
        assert_eq!(once.block_lag_ms, each.block_lag_ms);
        assert!(once.faults > 0 && once.faults == each.faults, "polluters are found both ways");
    }
}
