//! The layer of piece hashes of a v2 file, verified against its root (BEP 52).

use sha2::{Digest, Sha256};

/// A node of the tree.
pub type Hash = [u8; 32];

/// Bytes in a hash.
pub const HASH_LEN: usize = 32;

/// Levels of a tree over anything a 64-bit length can count.
const LEVELS_MAX: usize = 64;

fn join(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// The root of a subtree whose `levels` levels stand over leaves that are all zero: what stands in
/// for pieces beyond the end of a file.
#[must_use]
pub fn zero_root(levels: u32) -> Hash {
    (0..levels).fold([0u8; 32], |node, _| join(&node, &node))
}

/// The root over `layer`, a concatenation of hashes that is filled up with `pad` to a power of two.
///
/// Keeps one node a level instead of the layer, as layers may be megabytes. `None` if the layer is
/// empty or no multiple of 32 bytes.
#[must_use]
pub fn root_of_layer(layer: &[u8], pad: Hash) -> Option<Hash> {
    let (hashes, rest) = layer.as_chunks::<HASH_LEN>();
    if hashes.is_empty() || !rest.is_empty() {
        return None;
    }
    let mut waiting: [Option<Hash>; LEVELS_MAX] = [None; LEVELS_MAX];
    for hash in hashes {
        let mut node = *hash;
        for slot in &mut waiting {
            match slot.take() {
                Some(left) => node = join(&left, &node),
                None => {
                    *slot = Some(node);
                    break;
                }
            }
        }
    }
    let levels = hashes.len().next_power_of_two().trailing_zeros() as usize;
    let mut pad = pad;
    let mut right: Option<Hash> = None;
    for left in waiting.iter().take(levels) {
        right = match (left, right) {
            (Some(left), Some(right)) => Some(join(left, &right)),
            (Some(only), None) => Some(join(only, &pad)),
            (None, Some(only)) => Some(join(&only, &pad)),
            (None, None) => None,
        };
        pad = join(&pad, &pad);
    }
    right.or_else(|| waiting.get(levels).copied().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same root, level by level over the whole layer.
    fn plain(hashes: &[Hash], mut pad: Hash) -> Hash {
        let mut level = hashes.to_vec();
        while level.len() > 1 {
            if level.len() % 2 == 1 {
                level.push(pad);
            }
            level = level.chunks(2).map(|pair| join(&pair[0], &pair[1])).collect();
            pad = join(&pad, &pad);
        }
        level[0]
    }

    #[test]
    fn the_root_is_that_of_the_whole_tree() {
        let pad = zero_root(2);
        for count in 1..40u8 {
            let hashes: Vec<Hash> = (0..count).map(|n| [n; 32]).collect();
            let layer = hashes.concat();
            assert_eq!(root_of_layer(&layer, pad), Some(plain(&hashes, pad)), "{count}");
        }
    }

    #[test]
    fn a_layer_of_broken_hashes_has_no_root() {
        assert_eq!(root_of_layer(&[], [0; 32]), None);
        assert_eq!(root_of_layer(&[0; 33], [0; 32]), None);
    }
}
