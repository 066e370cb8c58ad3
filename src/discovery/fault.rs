//! Why a tracker gave no answer, and who is at fault.

use thiserror::Error;

use super::address::AddressFault;
use crate::wire::text::one_line;
use crate::wire::tracker::udp::UdpFault;
use crate::wire::tracker::url::UrlFault;
use crate::wire::tracker::{Family, Refusal};

/// Characters of a tracker's own words that are shown.
pub const WORDS_SHOWN_MAX: usize = 200;

/// Why an announce or scrape came to nothing. Shown texts are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TrackerFault {
    /// The URL is not one to ask: whoever wrote it is at fault.
    #[error(transparent)]
    Url(#[from] UrlFault),
    /// The host leads to an address that may not be contacted.
    #[error(transparent)]
    Address(#[from] AddressFault),
    /// The host has no address of this family; not a failure of the tracker.
    #[error("the tracker has no {family:?} address")]
    NoAddress {
        /// The family asked for.
        family: Family,
    },
    /// The host name leads nowhere.
    #[error("the name {host} leads nowhere: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// The tracker answered and refused.
    #[error("tracker says: {}", one_line(&.0.reason, WORDS_SHOWN_MAX))]
    Refused(Refusal),
    /// opentracker's empty answer: the swarm is not on its list.
    #[error("the tracker does not serve this info-hash")]
    Unlisted,
    /// The answer is no tracker's: the tracker is at fault.
    #[error("malformed reply: {0}")]
    Malformed(String),
    /// A datagram that BEP 15 does not know: the tracker is at fault.
    #[error("malformed reply: {0}")]
    Datagram(#[from] UdpFault),
    /// An HTTP status other than 200 without a tracker's reply in it.
    #[error("HTTP status {status}")]
    Http {
        /// The status.
        status: u16,
    },
    /// The reply is longer than anything sensible, after decompression.
    #[error("reply longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Sent on and on.
    #[error("more than {max} redirects")]
    Redirects {
        /// The limit.
        max: usize,
    },
    /// No answer in time.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
    /// The operating system, TLS or HTTP layer failed.
    #[error("{}", one_line(.0, WORDS_SHOWN_MAX))]
    Io(String),
}
