//! Bytes to values and back: pure, stateless, bounded. Every length a stranger chose is checked
//! against the table below before anything is allocated.

pub mod bencode;
pub mod extended;
pub mod feed;
pub mod live;
pub mod magnet;
pub mod message;
pub mod metainfo;
pub mod text;
pub mod tlv;
pub mod tracker;

/// Limits of every format this crate reads, in one place (`specs/wire.md`, section Limits).
pub mod limits {
    /// Nesting of bencoded lists and dictionaries.
    pub const BENCODE_DEPTH_MAX: usize = 16;
    /// Tokens in one bencoded value.
    pub const BENCODE_TOKENS_MAX: usize = 200_000;
    /// Nesting in a metainfo file: a v2 file tree takes one level a folder.
    pub const METAINFO_DEPTH_MAX: usize = 64;
    /// Tokens in a metainfo file: some 50,000 files. With the bounds below, explaining one takes
    /// less than 64 MiB.
    pub const METAINFO_TOKENS_MAX: usize = 300_000;
    /// A metainfo file.
    pub const TORRENT_LEN_MAX: usize = 16 << 20;
    /// Paths of all files in one metainfo file, in bytes.
    pub const METAINFO_PATHS_LEN_MAX: usize = 12 << 20;
    /// Warnings kept about one metainfo file.
    pub const METAINFO_WARNINGS_MAX: usize = 20;
    /// Piece length of an ordinary torrent.
    pub const ORDINARY_PIECE_LEN_MAX: u32 = 512 << 20;
    /// Trackers, web seeds or nodes taken from one metainfo file, each.
    pub const METAINFO_LIST_MAX: usize = 256;
    /// A URL in a metainfo file or magnet link.
    pub const URL_LEN_MAX: usize = 2048;
    /// The `info` dictionary of a live torrent: one block of BEP 9.
    pub const LIVE_INFO_LEN_MAX: usize = 16 << 10;
    /// Name of a live torrent, in bytes of UTF-8.
    pub const NAME_LEN_MAX: usize = 255;
    /// Media type of a live torrent.
    pub const MEDIA_LEN_MAX: usize = 64;
    /// Bitrate that a live torrent may hint at, bit/s.
    pub const BITRATE_MAX: u64 = 1_000_000_000_000;
    /// The `info` dictionary taken from peers (BEP 9).
    pub const METADATA_LEN_MAX: usize = 4 << 20;
    /// A magnet link.
    pub const MAGNET_LEN_MAX: usize = 8 << 10;
    /// Name in a magnet link, in bytes of UTF-8.
    pub const MAGNET_NAME_LEN_MAX: usize = 1024;
    /// Trackers, web seeds or peers taken from one magnet link, each.
    pub const MAGNET_LIST_MAX: usize = 64;
    /// Ranges of files in one magnet link.
    pub const MAGNET_RANGES_MAX: usize = 256;
    /// Salt of a channel (BEP 44).
    pub const SALT_LEN_MAX: usize = 64;
    /// A frame on the peer wire, length prefix not counted: a `bl_entries` answer of 128 KiB and
    /// its heads is the largest that is valid.
    pub const FRAME_LEN_MAX: usize = 132 << 10;
    /// A feed entry with its signature.
    pub const ENTRY_LEN_MAX: usize = 4096;
    /// Type-length-value area of a feed entry.
    pub const ENTRY_EXT_LEN_MAX: usize = 512;
    /// Shortest piece length a live torrent may declare.
    pub const PIECE_LEN_MIN: u32 = 16 << 10;
    /// Longest piece length a live torrent may declare.
    pub const PIECE_LEN_MAX: u32 = 1 << 20;
    /// Longest window a live torrent may declare, in seconds of birth time.
    pub const WINDOW_S_MAX: u32 = 3600;
    /// Pieces in the bitmap of one window message.
    pub const WINDOW_PIECES_MAX: usize = 16_384;
    /// Subscriptions a side may hold open on one connection.
    pub const SUBSCRIPTIONS_MAX: usize = 64;
    /// Requests a side may have outstanding on one connection (`reqq`, BEP 10).
    pub const REQUESTS_QUEUED_MAX: usize = 250;
    /// Runs of entries a side may ask for at once on one connection.
    pub const RUNS_MAX: usize = 8;
    /// Entries in one answer to a run.
    pub const RUN_ENTRIES_MAX: usize = 256;
    /// Bytes of entries in one answer to a run.
    pub const RUN_LEN_MAX: usize = 128 << 10;
    /// A proof of equivocation.
    pub const PROOF_LEN_MAX: usize = 4096;
    /// A tracker's reply, after decompression.
    pub const TRACKER_REPLY_LEN_MAX: usize = 2 << 20;
    /// A tracker's address.
    pub const TRACKER_URL_LEN_MAX: usize = 2048;
    /// A tracker's words (failure, warning, id), in bytes.
    pub const TRACKER_TEXT_LEN_MAX: usize = 1024;
    /// Info-hashes in one scrape (BEP 15 fits about 74 in a datagram).
    pub const SCRAPE_HASHES_MAX: usize = 74;
    /// A tracker's datagram, either way.
    pub const TRACKER_DATAGRAM_LEN_MAX: usize = 8 << 10;
    /// Peers taken from one tracker reply or peer-exchange message.
    pub const PEERS_PER_REPLY_MAX: usize = 200;
}
