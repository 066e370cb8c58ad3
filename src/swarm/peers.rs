//! All connections by the driver's name for them: few, looked up all the time, seldom come and go.

use super::peer::Peer;
use crate::units::Link;

/// Connections in the order of their names. A lookup reads names that lie side by side, and each
/// connection takes the memory that it needs.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<(Link, Box<Peer>)>);

impl Peers {
    fn place(&self, link: Link) -> Result<usize, usize> {
        self.0.binary_search_by_key(&link, |(name, _)| *name)
    }

    pub(super) fn get(&self, link: &Link) -> Option<&Peer> {
        let at = self.place(*link).ok()?;
        self.0.get(at).map(|(_, peer)| &**peer)
    }

    pub(super) fn get_mut(&mut self, link: &Link) -> Option<&mut Peer> {
        let at = self.place(*link).ok()?;
        self.0.get_mut(at).map(|(_, peer)| &mut **peer)
    }

    pub(super) fn insert(&mut self, link: Link, peer: Peer) {
        match self.place(link) {
            Ok(at) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    **old = peer;
                }
            }
            Err(at) => self.0.insert(at, (link, Box::new(peer))),
        }
    }

    pub(super) fn remove(&mut self, link: &Link) -> Option<Box<Peer>> {
        let at = self.place(*link).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Link> {
        self.0.iter().map(|(link, _)| link)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.0.iter().map(|(_, peer)| &**peer)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.0.iter_mut().map(|(_, peer)| &mut **peer)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
