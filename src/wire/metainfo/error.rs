//! What can be wrong with a metainfo file, and what is only worth a warning.

use thiserror::Error;

use crate::wire::bencode::BencodeError;

/// What makes a path unfit to be written below a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathFault {
    /// No element, or one of no characters.
    #[error("is empty or has an empty element")]
    Empty,
    /// `.` or `..`.
    #[error("has the element \".\" or \"..\"")]
    Dots,
    /// A slash, a backslash or a leading drive letter.
    #[error("has a separator or drive letter inside an element")]
    Separator,
    /// A NUL character.
    #[error("has a NUL character")]
    Nul,
    /// Longer than the limit.
    #[error("is longer than 4096 bytes")]
    TooLong,
}

/// How the two halves of a hybrid torrent disagree (BEP 52, upgrade path).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HybridFault {
    /// Not the same files in the same order.
    #[error("the v1 and v2 lists differ in number, order, path or length of files")]
    Files,
    /// A file of the v1 list does not begin at a piece.
    #[error("a file of the v1 list does not begin at a piece; padding is missing")]
    Alignment,
}

/// Why a metainfo file or an `info` dictionary is refused. The file's maker is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetainfoError {
    /// It is no acceptable bencode.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// The outermost value, or `info`, is no dictionary.
    #[error("\"{what}\" is not a dictionary")]
    NotDict {
        /// `torrent` or `info`.
        what: &'static str,
    },
    /// A key that must be there is not.
    #[error("\"{key}\" is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key has a value of the wrong type or size.
    #[error("\"{key}\" is not {expected}")]
    Form {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A number outside its range.
    #[error("\"{key}\" is {value}; it must be {min} to {max}")]
    Range {
        /// The key.
        key: &'static str,
        /// The value found.
        value: i64,
        /// The smallest value allowed.
        min: i64,
        /// The largest value allowed.
        max: i64,
    },
    /// A piece length that is no power of two where one is required.
    #[error("\"piece length\" is {value}; it must be a power of two")]
    PieceLength {
        /// The value found.
        value: i64,
    },
    /// A live torrent of a later version.
    #[error("live torrent of version {version}: needs a newer btlive (this one knows version 1)")]
    NewerLive {
        /// Its version.
        version: i64,
    },
    /// A `meta version` other than 2 (BEP 52).
    #[error("\"meta version\" is {version}: needs a newer btlive (this one knows version 2)")]
    NewerMeta {
        /// Its version.
        version: i64,
    },
    /// A live torrent that also claims to be an ordinary one.
    #[error("\"info\" has both \"live\" and \"{key}\"")]
    LiveAndOrdinary {
        /// The key that must not be there.
        key: &'static str,
    },
    /// The public key is no point of the curve, not canonical, or of small order.
    #[error("\"public key\" is no usable Ed25519 key")]
    PublicKey,
    /// A live `info` above its limit.
    #[error("live \"info\" of {len} bytes, limit {max}")]
    LiveTooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// `pieces` does not have 20 bytes for each piece.
    #[error("\"pieces\" has {len} bytes; {pieces} pieces need {expected}")]
    PiecesLen {
        /// Its length.
        len: usize,
        /// Pieces that the files fill.
        pieces: u64,
        /// The length that would fit.
        expected: u64,
    },
    /// More bytes than any torrent has.
    #[error("files of more than {max} bytes in all")]
    TotalSize {
        /// The limit.
        max: u64,
    },
    /// Neither a file nor a list of files.
    #[error("the torrent has no files")]
    NoFiles,
    /// Both `length` and `files`.
    #[error("\"info\" has both \"length\" and \"files\"")]
    LengthAndFiles,
    /// A path that leaves its folder or cannot be written.
    #[error("path \"{path}\" {fault}")]
    Path {
        /// The path, cut short.
        path: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// Two files of one name.
    #[error("path \"{path}\" occurs twice")]
    DuplicatePath {
        /// The path, cut short.
        path: String,
    },
    /// A file where another file needs a folder.
    #[error("path \"{path}\" is a file and also the folder of \"{inner}\"")]
    PathOverlap {
        /// The file, cut short.
        path: String,
        /// The file below it, cut short.
        inner: String,
    },
    /// Paths longer than any torrent has.
    #[error("paths of more than {max} bytes in all")]
    PathsTotal {
        /// The limit.
        max: usize,
    },
    /// A file larger than a piece without its layer of piece hashes.
    #[error("\"piece layers\" has no layer for \"{path}\"")]
    LayerMissing {
        /// The file, cut short.
        path: String,
    },
    /// A layer of the wrong number of hashes.
    #[error("the piece layer of \"{path}\" has {len} bytes; its size needs {expected}")]
    LayerLen {
        /// The file, cut short.
        path: String,
        /// Bytes in the layer.
        len: usize,
        /// Bytes that fit the file.
        expected: u64,
    },
    /// A layer whose hashes do not lead to the file's root.
    #[error("the piece layer of \"{path}\" does not hash to its pieces root")]
    LayerRoot {
        /// The file, cut short.
        path: String,
    },
    /// The two halves of a hybrid torrent disagree.
    #[error("hybrid torrent: {0}")]
    Hybrid(HybridFault),
}

impl MetainfoError {
    /// A short name of the kind of error, for tests and machine-readable output.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bencode(e) => e.kind(),
            Self::NotDict { .. } => "not_dict",
            Self::Missing { .. } => "missing",
            Self::Form { .. } => "form",
            Self::Range { .. } => "range",
            Self::PieceLength { .. } => "piece_length",
            Self::NewerLive { .. } => "newer_live",
            Self::NewerMeta { .. } => "newer_meta",
            Self::LiveAndOrdinary { .. } => "live_and_ordinary",
            Self::PublicKey => "public_key",
            Self::LiveTooLong { .. } => "live_too_long",
            Self::PiecesLen { .. } => "pieces_len",
            Self::TotalSize { .. } => "total_size",
            Self::NoFiles => "no_files",
            Self::LengthAndFiles => "length_and_files",
            Self::Path { .. } => "path",
            Self::DuplicatePath { .. } => "duplicate_path",
            Self::PathOverlap { .. } => "path_overlap",
            Self::PathsTotal { .. } => "paths_total",
            Self::LayerMissing { .. } => "layer_missing",
            Self::LayerLen { .. } => "layer_len",
            Self::LayerRoot { .. } => "layer_root",
            Self::Hybrid(_) => "hybrid",
        }
    }
}

/// What is wrong with a file that can be used all the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Warning {
    /// Keys out of order: other programs may see another info-hash.
    #[error("dictionary keys are out of order at byte {offset}")]
    KeyOrder {
        /// Where the first one stands.
        offset: usize,
    },
    /// Bytes behind the torrent.
    #[error("{extra} bytes follow the torrent")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A key outside `info` whose value cannot be used.
    #[error("\"{key}\" is malformed and ignored (in part)")]
    Ignored {
        /// The key.
        key: &'static str,
    },
    /// More entries than are read.
    #[error("\"{key}\" has more than {max} entries; the rest is ignored")]
    TooMany {
        /// The key.
        key: &'static str,
        /// The limit.
        max: usize,
    },
    /// A text that is not UTF-8; its stray bytes are shown as `%XX`.
    #[error("\"{text}\" is not UTF-8 in the file")]
    NotUtf8 {
        /// The text as it is shown, cut short.
        text: String,
    },
    /// Two paths that are one where upper and lower case are the same.
    #[error("\"{a}\" and \"{b}\" differ only in upper and lower case")]
    CaseOnly {
        /// One path, cut short.
        a: String,
        /// The other, cut short.
        b: String,
    },
    /// A piece layer that belongs to no file.
    #[error("\"piece layers\" has {count} layers that no file needs")]
    SpareLayers {
        /// How many.
        count: usize,
    },
}

/// The beginning of a path or text, for a message.
pub(super) fn cut(text: &str) -> String {
    super::cut_chars(text, 120)
}
