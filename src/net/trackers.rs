//! One way to ask any tracker: by its URL, over one family.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use super::resolve::resolve;
use super::tracker_http::HttpTrackers;
use super::tracker_udp::UdpClient;
use crate::discovery::address::Policy;
use crate::discovery::fault::TrackerFault;
use crate::discovery::udp_tracker::{Answer, Query};
use crate::units::InfoHash;
use crate::wire::limits;
use crate::wire::tracker::url::{Scheme, TrackerUrl};
use crate::wire::tracker::{Announce, Family, Reply, Swarm};

/// How long one HTTP exchange may take, redirects included.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one UDP exchange may take: three sends of each step fit (BEP 15: 0, 15 and 45 s).
pub const UDP_TIMEOUT: Duration = Duration::from_secs(50);

/// Asks trackers. To be used inside a tokio runtime.
#[derive(Debug)]
pub struct TrackerClient {
    policy: Policy,
    udp_timeout: Duration,
    v4: PerFamily,
    v6: PerFamily,
}

#[derive(Debug)]
struct PerFamily {
    http: HttpTrackers,
    udp: OnceLock<Result<UdpClient, TrackerFault>>,
}

impl TrackerClient {
    /// A client with the usual time limits.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::with_timeouts(policy, HTTP_TIMEOUT, UDP_TIMEOUT)
    }

    /// A client with time limits for one exchange over HTTP and over UDP.
    #[must_use]
    pub fn with_timeouts(policy: Policy, http: Duration, udp: Duration) -> Self {
        let per = |family| PerFamily {
            http: HttpTrackers::new(family, policy.clone(), http),
            udp: OnceLock::new(),
        };
        Self { v4: per(Family::V4), v6: per(Family::V6), udp_timeout: udp, policy }
    }

    /// Announces to the tracker at `url` over `family`.
    ///
    /// # Errors
    /// Why there is no reply.
    pub async fn announce(
        &self,
        url: &TrackerUrl,
        family: Family,
        announce: &Announce,
        tracker_id: Option<&[u8]>,
    ) -> Result<Reply, TrackerFault> {
        if url.scheme() != Scheme::Udp {
            return self.per(family).http.announce(url, announce, tracker_id).await;
        }
        let url_data = url.path_and_query().into_bytes();
        let query = Query::Announce { announce: announce.clone(), url_data };
        match self.udp(url, family, query).await? {
            Answer::Announce(reply) => Ok(reply),
            Answer::Scrape(_) => Err(crossed()),
        }
    }

    /// Asks the tracker at `url` about swarms over `family`; those that it does not know are
    /// absent over HTTP and all zero over UDP.
    ///
    /// # Errors
    /// Why there is no reply.
    pub async fn scrape(
        &self,
        url: &TrackerUrl,
        family: Family,
        hashes: &[InfoHash],
    ) -> Result<BTreeMap<InfoHash, Swarm>, TrackerFault> {
        if url.scheme() != Scheme::Udp {
            return self.per(family).http.scrape(url, hashes).await;
        }
        let hashes = hashes.get(..limits::SCRAPE_HASHES_MAX).unwrap_or(hashes);
        match self.udp(url, family, Query::Scrape(hashes.to_vec())).await? {
            Answer::Scrape(swarms) => Ok(hashes.iter().copied().zip(swarms).collect()),
            Answer::Announce(_) => Err(crossed()),
        }
    }

    fn per(&self, family: Family) -> &PerFamily {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    async fn udp(
        &self,
        url: &TrackerUrl,
        family: Family,
        query: Query,
    ) -> Result<Answer, TrackerFault> {
        let timeout = self.udp_timeout;
        let exchange = async {
            let addrs = resolve(&url.host(), url.port(), family, &self.policy).await?;
            let to = addrs.first().ok_or(TrackerFault::NoAddress { family })?;
            let client = self.per(family).udp.get_or_init(|| {
                UdpClient::start(family).map_err(|e| TrackerFault::Io(e.to_string()))
            });
            client.as_ref().map_err(Clone::clone)?.ask(*to, query, timeout).await
        };
        let seconds = timeout.as_secs();
        let bounded = tokio::time::timeout(timeout, exchange).await;
        bounded.unwrap_or(Err(TrackerFault::Timeout { seconds }))
    }
}

/// The UDP client answers what was asked; anything else is a fault of ours, reported as such.
fn crossed() -> TrackerFault {
    TrackerFault::Io("an answer to another question".to_owned())
}
