//! What a swarm is started with.

use bytes::Bytes;
use ed25519_dalek::SigningKey;

use crate::discovery::address::Policy;
use crate::live::Stream;
use crate::live::proven::Proven;
use crate::units::{InfoHash, PeerId};
use crate::wire::metainfo::Info;

/// What a node does in the swarm.
#[derive(Clone, Debug)]
pub enum Role {
    /// Plays the stream and passes it on.
    Viewer,
    /// Passes it on without playing it.
    Relay,
    /// Publishes it.
    Source(Box<SourceConfig>),
}

/// What a source needs beyond what everybody needs.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The secret half of the stream's key.
    pub key: SigningKey,
    /// The last entry signed here, as its wire bytes, if the machine has not rebooted since.
    pub last: Option<Bytes>,
    /// Take over at once from a source that is there, instead of following it.
    pub takeover: bool,
    /// Do not say that this is the source.
    pub hide: bool,
}

/// What a swarm is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which swarm.
    pub info_hash: InfoHash,
    /// The raw `info` dictionary, if it is here; otherwise peers are asked for it.
    pub info: Option<Bytes>,
    /// Our name in it.
    pub peer_id: PeerId,
    /// What we do in it.
    pub role: Role,
    /// The TCP port that others can reach us on.
    pub listen_port: Option<u16>,
    /// Which addresses may be dialled.
    pub policy: Policy,
    /// All bytes sent, per second.
    pub upload_limit: Option<u64>,
    /// Bytes of a packet that are no payload of TCP, if `upload_limit` is what a line carries with
    /// them: 52 with IPv4, a time stamp and nothing else. 0 if it is payload alone.
    pub packet_heads: u64,
    /// Payload asked for, per second.
    pub download_limit: Option<u64>,
    /// Connections at most.
    pub peers_max: usize,
    /// Connections that are looked for.
    pub peers_wanted: usize,
    /// Payload kept in memory, in bytes.
    pub memory_max: usize,
    /// Whether peers are told of peers (BEP 11); never in a private torrent or with `feed_only`.
    pub pex: bool,
    /// Only peers that the user names are fed: nobody else is dialled, told of or let in.
    pub feed_only: bool,
    /// The highest entry that was ever verified here, as its wire bytes.
    pub head: Option<Bytes>,
    /// Delay from birth at which a relay fetches, and a viewer without a reader yet.
    pub delay: std::time::Duration,
    /// Seed of everything random in the machine.
    pub seed: u64,
    /// What other machines of this process have verified, where many play in one stream: entries
    /// and blocks with the same bytes are not verified again and kept in one copy. `None`, as in
    /// every program that plays one part, verifies all and copies what it keeps.
    pub proven: Option<Proven>,
}

/// Part of a line's rate that is used.
const PACED_PERCENT: u64 = 95;

impl Config {
    /// What is sent of the upload limit: where it is that of a line, a little less, so that no
    /// queue stands in front of it.
    #[must_use]
    pub fn paced_limit(&self) -> Option<u64> {
        let percent = if self.packet_heads > 0 { PACED_PERCENT } else { 100 };
        self.upload_limit.map(|limit| (limit * percent / 100).max(1))
    }

    /// A viewer of `info_hash` with defaults.
    #[must_use]
    pub fn viewer(info_hash: InfoHash, peer_id: PeerId, seed: u64) -> Self {
        Self {
            info_hash,
            info: None,
            peer_id,
            role: Role::Viewer,
            listen_port: None,
            policy: Policy::default(),
            upload_limit: None,
            packet_heads: 0,
            download_limit: None,
            peers_max: 60,
            peers_wanted: 24,
            memory_max: 256 << 20,
            pex: true,
            feed_only: false,
            head: None,
            delay: std::time::Duration::from_secs(2),
            seed,
            proven: None,
        }
    }
}

/// What the `info` dictionary of a live torrent says, as the swarm needs it.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// The stream's constants.
    pub stream: Stream,
    /// Media type of the payload.
    pub media: String,
    /// Whether only trackers may introduce peers (BEP 27).
    pub private: bool,
    /// The raw dictionary, as it is served to others (BEP 9).
    pub raw: Bytes,
}

impl Torrent {
    /// Reads a raw `info` dictionary; `None` if it is not that of a live torrent.
    #[must_use]
    pub fn from_info(raw: &Bytes) -> Option<Self> {
        let info = Info::parse(raw.clone()).ok()?;
        let live = info.live()?;
        let stream = Stream {
            info_hash: info.info_hash,
            public_key: live.public_key,
            piece_len: info.piece_length,
            window_us: u64::from(live.window_s) * 1_000_000,
            bitrate: live.bitrate,
        };
        let media = live.media.clone();
        Some(Self { stream, media, private: info.private, raw: raw.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_not_used_up_to_its_last_byte() {
        let mut config = Config::viewer(InfoHash([0; 20]), PeerId([0; 20]), 1);
        config.upload_limit = Some(1_000_000);
        assert_eq!(config.paced_limit(), Some(1_000_000), "payload alone");
        config.packet_heads = 52;
        assert_eq!(config.paced_limit(), Some(950_000));
        config.upload_limit = Some(1);
        assert_eq!(config.paced_limit(), Some(1));
    }
}
