//! Whose swarm is meant: what a torrent file or a magnet link says, and where its peers are.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::common::Common;
use super::exit::Failure;
use super::file::read_bounded;
use crate::swarm::io::Via;
use crate::units::InfoHash;
use crate::wire::limits::{MAGNET_LEN_MAX, TORRENT_LEN_MAX};
use crate::wire::magnet::{Magnet, PeerAddr};
use crate::wire::metainfo::{Info, Metainfo};

/// Addresses of one peer's name that are tried.
const ADDRESSES_MAX: usize = 8;
/// A name is looked up for so long. They come from links too, so they are looked up all at once
/// and none of them holds up the others.
const LOOKUP_MAX: Duration = Duration::from_secs(3);

/// What a torrent file or a magnet link says.
#[derive(Clone, Debug)]
pub struct Target {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The raw `info` dictionary, if the target has it.
    pub info: Option<Bytes>,
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Trackers in tiers.
    pub tiers: Vec<Vec<String>>,
    /// Peers that the link names.
    pub peers: Vec<PeerAddr>,
    /// Whether only trackers may introduce peers.
    pub private: bool,
}

impl Target {
    /// Reads a torrent file or a magnet link of a live stream.
    ///
    /// # Errors
    /// It is neither, or not of a live stream.
    pub fn read(text: &str) -> Result<Self, Failure> {
        if text.starts_with("magnet:") {
            return Self::from_magnet(text);
        }
        let bytes = read_bounded(Path::new(text), TORRENT_LEN_MAX)?;
        let metainfo = Metainfo::parse(bytes.into())
            .map_err(|e| Failure::usage(format_args!("{text}: {e}")))?;
        if metainfo.info.live().is_none() {
            return Err(Failure::usage(format_args!(
                "{text} is an ordinary torrent ({}), not a live one",
                metainfo.info.kind.name()
            )));
        }
        Ok(Self {
            info_hash: metainfo.info.info_hash,
            info: Some(metainfo.info.raw.clone()),
            name: Some(metainfo.info.name.clone()),
            tiers: metainfo.tiers.clone(),
            peers: Vec::new(),
            private: metainfo.info.private,
        })
    }

    /// The media type of the stream, if the target says it.
    #[must_use]
    pub fn media(&self) -> Option<String> {
        Some(self.live()?.live()?.media.clone())
    }

    /// How much of the stream its peers keep, if the target says it.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.live()?.live()?.window_s.into()))
    }

    fn live(&self) -> Option<Info> {
        Info::parse(self.info.clone()?).ok()
    }

    fn from_magnet(text: &str) -> Result<Self, Failure> {
        if text.len() > MAGNET_LEN_MAX {
            return Err(Failure::usage(format_args!("magnet link of {} bytes", text.len())));
        }
        let magnet = Magnet::parse(text).map_err(Failure::usage)?;
        let Some(info_hash) = magnet.info_hash else {
            return Err(Failure::usage("the link names no live stream (xt=urn:btih:…)"));
        };
        Ok(Self {
            info_hash,
            info: None,
            name: magnet.name,
            tiers: magnet.trackers.into_iter().map(|tracker| vec![tracker]).collect(),
            peers: magnet.peers,
            private: false,
        })
    }
}

/// The peers that the user and the link name; those whose name leads nowhere are left out.
///
/// # Errors
/// A peer that the user names is no address.
pub async fn named_peers(
    common: &Common,
    target: &Target,
) -> Result<Vec<(Via, SocketAddr)>, Failure> {
    let mut named = Vec::new();
    for text in &common.peer {
        let peer: PeerAddr = text.parse().map_err(|_| {
            Failure::usage(format_args!("--peer {text}: write ADDR:PORT, as in 192.0.2.1:6881"))
        })?;
        named.push((Via::User, peer));
    }
    named.extend(target.peers.iter().map(|peer| (Via::Magnet, peer.clone())));
    Ok(addresses(named).await)
}

/// The addresses of peers; those whose name leads nowhere are left out.
pub async fn addresses(named: Vec<(Via, PeerAddr)>) -> Vec<(Via, SocketAddr)> {
    let mut lookups = JoinSet::new();
    let mut found = Vec::new();
    for (via, peer) in named {
        match peer {
            PeerAddr::Ip(addr) => found.push((via, addr)),
            PeerAddr::Host { host, port } => {
                lookups.spawn(async move { (via, look_up(&host, port).await) });
            }
        }
    }
    for (via, addrs) in lookups.join_all().await {
        found.extend(addrs.into_iter().map(|addr| (via, addr)));
    }
    found
}

async fn look_up(host: &str, port: u16) -> Vec<SocketAddr> {
    match tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addrs)) => addrs.take(ADDRESSES_MAX).collect(),
        Ok(Err(error)) => {
            tracing::warn!(host, %error, "the peer's name is not known");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(host, "no answer about the peer's name");
            Vec::new()
        }
    }
}
