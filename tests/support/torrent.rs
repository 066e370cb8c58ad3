//! Ordinary torrents for ordinary clients (BEP 3), and the paths and links they are given.

use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::bencode::Value;

/// An ordinary torrent of one file.
pub(crate) struct Torrent {
    /// The `.torrent` file.
    pub(crate) path: PathBuf,
    /// Its info-hash.
    pub(crate) info_hash: [u8; 20],
    /// The file's name.
    pub(crate) name: String,
    /// A magnet link with the trackers.
    pub(crate) magnet: String,
}

/// Writes `content` as `NAME` into `dir` and its torrent beside it.
pub(crate) fn ordinary(dir: &Path, name: &str, content: &[u8], trackers: &[&str]) -> Torrent {
    const PIECE_LEN: usize = 64 * 1024;
    std::fs::write(dir.join(name), content).expect("write the content");
    let pieces: Vec<u8> = content.chunks(PIECE_LEN).flat_map(Sha1::digest).collect();
    let info = Value::dict([
        ("length", Value::Int(content.len() as i64)),
        ("name", Value::string(name)),
        ("piece length", Value::Int(PIECE_LEN as i64)),
        ("pieces", Value::string(pieces)),
    ]);
    let info_hash: [u8; 20] = Sha1::digest(info.encode()).into();
    let tiers = trackers.iter().map(|url| Value::List(vec![Value::string(url)])).collect();
    let mut entries = vec![("info", info), ("announce-list", Value::List(tiers))];
    entries.extend(trackers.first().map(|url| ("announce", Value::string(url))));
    let path = dir.join(format!("{name}.torrent"));
    std::fs::write(&path, Value::dict(entries).encode()).expect("write the torrent");
    let links: String = trackers.iter().map(|url| format!("&tr={url}")).collect();
    let magnet = format!("magnet:?xt=urn:btih:{}&dn={name}{links}", hex(&info_hash));
    Torrent { path, info_hash, name: name.to_owned(), magnet }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An info-hash from hex.
///
/// # Panics
/// If it is none.
pub(crate) fn info_hash(hex: &str) -> [u8; 20] {
    from_hex(hex)
}

/// Bytes from hex.
///
/// # Panics
/// If it is not so many bytes in hex.
pub(crate) fn from_hex<const N: usize>(hex: &str) -> [u8; N] {
    assert_eq!(hex.len(), 2 * N, "{N} bytes in hex: {hex}");
    std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hex digits"))
}
