//! The files of an ordinary torrent: the v1 list (BEP 3, BEP 47), the v2 tree (BEP 52), and what
//! makes a set of paths safe to write below a folder.

use super::error::{HybridFault, MetainfoError, PathFault, Warning, cut};
use super::{Warnings, escape_utf8};
use crate::wire::bencode::{Entry, Value};
use crate::wire::limits;

/// Bytes in all files together that no torrent reaches (1 PiB).
pub const TOTAL_LEN_MAX: u64 = 1 << 50;

/// Bytes in a path below the torrent's folder.
const PATH_LEN_MAX: usize = 4096;

/// One file of an ordinary torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it goes below the torrent's folder, its elements joined by `/`; no element is empty,
    /// `.` or `..` or has a separator in it. Stray bytes that are not UTF-8 stand as `%XX`.
    pub path: Box<str>,
    /// Bytes.
    pub length: u64,
    /// Attributes (BEP 47).
    pub attr: Attr,
    /// Where a symbolic link points, below the torrent's folder.
    pub symlink: Option<Box<str>>,
    /// Root of the tree of SHA-256 hashes; v2 and hybrid, not for empty files.
    pub pieces_root: Option<[u8; 32]>,
}

/// Attributes of a file (BEP 47).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attr {
    /// Only fills up a piece: all zeros, not written.
    pub pad: bool,
    /// May be executed.
    pub executable: bool,
    /// Hidden.
    pub hidden: bool,
    /// A symbolic link.
    pub symlink: bool,
}

impl Attr {
    fn read(value: Option<&Value<'_>>) -> Self {
        let chars = value.and_then(Value::bytes).unwrap_or_default();
        let has = |c: u8| chars.contains(&c);
        Self { pad: has(b'p'), executable: has(b'x'), hidden: has(b'h'), symlink: has(b'l') }
    }
}

/// Reads one element of a path; refuses what could leave the folder.
pub(super) fn element(
    raw: &[u8],
    first: bool,
    warnings: &mut Warnings,
) -> Result<String, MetainfoError> {
    let (text, is_utf8) = escape_utf8(raw);
    let fault = if text.is_empty() {
        Some(PathFault::Empty)
    } else if text == "." || text == ".." {
        Some(PathFault::Dots)
    } else if text.contains(['/', '\\']) || (first && is_drive(&text)) {
        Some(PathFault::Separator)
    } else if text.contains('\0') {
        Some(PathFault::Nul)
    } else if text.len() > PATH_LEN_MAX {
        Some(PathFault::TooLong)
    } else {
        None
    };
    if let Some(fault) = fault {
        return Err(MetainfoError::Path { path: cut(&text), fault });
    }
    if !is_utf8 {
        warnings.add(Warning::NotUtf8 { text: cut(&text) });
    }
    Ok(text)
}

fn is_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':'] if letter.is_ascii_alphabetic())
}

fn append(path: &mut String, element: &str) -> Result<(), MetainfoError> {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(element);
    if path.len() > PATH_LEN_MAX {
        let fault = PathFault::TooLong;
        return Err(MetainfoError::Path { path: cut(path), fault });
    }
    Ok(())
}

/// Reads a list of path elements.
fn path(value: &Value<'_>, warnings: &mut Warnings) -> Result<Box<str>, MetainfoError> {
    let form = MetainfoError::Form { key: "path", expected: "a list of strings" };
    let mut out = String::new();
    for (n, item) in value.list().ok_or(form.clone())?.iter().enumerate() {
        let raw = item.bytes().ok_or(form.clone())?;
        append(&mut out, &element(raw, n == 0, warnings)?)?;
    }
    if out.is_empty() {
        return Err(MetainfoError::Path { path: String::new(), fault: PathFault::Empty });
    }
    Ok(out.into())
}

fn length(value: Option<&Value<'_>>) -> Result<u64, MetainfoError> {
    let value = value.ok_or(MetainfoError::Missing { key: "length" })?;
    let form = MetainfoError::Form { key: "length", expected: "an integer" };
    let value = value.int().ok_or(form)?;
    let max = TOTAL_LEN_MAX as i64;
    u64::try_from(value).ok().filter(|n| *n <= TOTAL_LEN_MAX).ok_or(MetainfoError::Range {
        key: "length",
        value,
        min: 0,
        max,
    })
}

/// What v1 and v2 say alike about one file.
fn file(path: Box<str>, entry: &Value<'_>, warnings: &mut Warnings) -> Result<File, MetainfoError> {
    let attr = Attr::read(entry.get(b"attr"));
    // BEP 47: the length of a symbolic link may be left out.
    let length = match (attr.symlink, entry.get(b"length")) {
        (true, None) => 0,
        (_, value) => length(value)?,
    };
    let symlink = match entry.get(b"symlink path") {
        Some(target) if attr.symlink => Some(self::path(target, warnings)?),
        _ => None,
    };
    Ok(File { path, length, attr, symlink, pieces_root: None })
}

/// Files as they are read, within a bound on their paths together: stray bytes take three times
/// their room, and the file's own length is no bound for that.
#[derive(Default)]
struct FileList {
    files: Vec<File>,
    paths_len: usize,
}

impl FileList {
    fn push(&mut self, file: File) -> Result<(), MetainfoError> {
        let max = limits::METAINFO_PATHS_LEN_MAX;
        let target = file.symlink.as_ref().map_or(0, |to| to.len());
        self.paths_len = self.paths_len.saturating_add(file.path.len() + target);
        if self.paths_len > max {
            return Err(MetainfoError::PathsTotal { max });
        }
        self.files.push(file);
        Ok(())
    }
}

/// Reads the files of a v1 `info`: one `length`, or a list of `files`.
pub(super) fn v1(
    info: &Value<'_>,
    name: &str,
    warnings: &mut Warnings,
) -> Result<Vec<File>, MetainfoError> {
    let list = match (info.get(b"length"), info.get(b"files")) {
        (Some(_), Some(_)) => return Err(MetainfoError::LengthAndFiles),
        (Some(_), None) => return Ok(vec![file(name.into(), info, warnings)?]),
        (None, Some(list)) => list,
        (None, None) => return Err(MetainfoError::NoFiles),
    };
    let form = MetainfoError::Form { key: "files", expected: "a list of dictionaries" };
    let list = list.list().ok_or(form.clone())?;
    // As many as the checked tokens at most.
    let mut files = FileList { files: Vec::with_capacity(list.len()), paths_len: 0 };
    for entry in list {
        if entry.dict().is_none() {
            return Err(form);
        }
        let utf8 = entry.get(b"path.utf-8").filter(|v| v.list().is_some());
        let path = match utf8.or_else(|| entry.get(b"path")) {
            Some(value) => path(value, warnings)?,
            // BEP 47: padding needs no path.
            None if Attr::read(entry.get(b"attr")).pad => ".pad".into(),
            None => return Err(MetainfoError::Missing { key: "path" }),
        };
        files.push(file(path, entry, warnings)?)?;
    }
    Ok(files.files)
}

/// Reads the files of a v2 `file tree`, in its order.
pub(super) fn v2(tree: &Value<'_>, warnings: &mut Warnings) -> Result<Vec<File>, MetainfoError> {
    let form = MetainfoError::Form { key: "file tree", expected: "a dictionary" };
    let root = tree.dict().ok_or(form)?;
    let mut files = FileList::default();
    let mut path = String::new();
    folder(root, &mut path, &mut files, warnings)?;
    Ok(files.files)
}

/// Reads one folder. It calls itself only as deep as the bencode check let through (64 levels).
fn folder(
    entries: &[Entry<'_>],
    path: &mut String,
    files: &mut FileList,
    warnings: &mut Warnings,
) -> Result<(), MetainfoError> {
    let form = MetainfoError::Form { key: "file tree", expected: "made of dictionaries" };
    for entry in entries {
        let below = entry.value.dict().ok_or(form.clone())?;
        let before = path.len();
        append(path, &element(entry.key, before == 0, warnings)?)?;
        match below {
            [leaf] if leaf.key.is_empty() => {
                files.push(v2_file(path.as_str().into(), &leaf.value, warnings)?)?;
            }
            _ => folder(below, path, files, warnings)?,
        }
        path.truncate(before);
    }
    Ok(())
}

fn v2_file(
    path: Box<str>,
    leaf: &Value<'_>,
    warnings: &mut Warnings,
) -> Result<File, MetainfoError> {
    let mut file = file(path, leaf, warnings)?;
    if file.length > 0 {
        let root = leaf.get(b"pieces root").ok_or(MetainfoError::Missing { key: "pieces root" })?;
        let root = root.bytes().and_then(|b| <[u8; 32]>::try_from(b).ok());
        let form = MetainfoError::Form { key: "pieces root", expected: "a string of 32 bytes" };
        file.pieces_root = Some(root.ok_or(form)?);
    }
    Ok(file)
}

/// The bytes of all files together.
pub(super) fn total(files: &[File]) -> Result<u64, MetainfoError> {
    // Each length is at most 2^50 and there are fewer than 2^20 files, but the sum is checked
    // as it grows all the same.
    files.iter().try_fold(0u64, |sum, file| {
        sum.checked_add(file.length)
            .filter(|sum| *sum <= TOTAL_LEN_MAX)
            .ok_or(MetainfoError::TotalSize { max: TOTAL_LEN_MAX })
    })
}

/// Refuses two files of one path and files that are also folders; warns of paths that are one
/// where case does not count. Padding is never written and so cannot be in the way.
pub(super) fn check_paths(files: &[File], warnings: &mut Warnings) -> Result<(), MetainfoError> {
    let mut paths: Vec<&str> =
        files.iter().filter(|f| !f.attr.pad).map(|f| f.path.as_ref()).collect();
    // Element by element, whatever a path is the folder of follows it at once.
    paths.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    for pair in paths.windows(2) {
        let [a, b] = pair else { continue };
        match b.strip_prefix(a) {
            Some("") => return Err(MetainfoError::DuplicatePath { path: cut(a) }),
            Some(rest) if rest.starts_with('/') => {
                return Err(MetainfoError::PathOverlap { path: cut(a), inner: cut(b) });
            }
            _ => {}
        }
    }
    warn_of_case(&paths, warnings);
    Ok(())
}

/// Finds equal names by a short hash first: names in lower case, all at once, would take as much
/// room as the file itself.
fn warn_of_case(paths: &[&str], warnings: &mut Warnings) {
    let lower = |path: &str| path.to_lowercase();
    let hash = |path: &str| {
        // FNV-1a. A collision costs a warning at most.
        let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        lower(path).bytes().fold(0xcbf2_9ce4_8422_2325, step)
    };
    let mut hashed: Vec<(u64, &str)> = paths.iter().map(|path| (hash(path), *path)).collect();
    hashed.sort_unstable();
    let same =
        |pair: &&[(u64, &str)]| matches!(pair, [(m, a), (n, b)] if m == n && lower(a) == lower(b));
    for pair in hashed.windows(2).filter(same).take(limits::METAINFO_WARNINGS_MAX) {
        if let [(_, a), (_, b)] = pair {
            warnings.add(Warning::CaseOnly { a: cut(a), b: cut(b) });
        }
    }
}

/// Checks that the v1 list says the same as the v2 tree, and takes over its roots.
pub(super) fn merge_hybrid(
    v1: &mut [File],
    v2: &[File],
    piece_length: u32,
) -> Result<(), MetainfoError> {
    let differ = MetainfoError::Hybrid(HybridFault::Files);
    let mut roots = v2.iter();
    let mut offset = 0u64;
    for file in v1 {
        if !file.attr.pad {
            let twin = roots.next().ok_or(differ.clone())?;
            if twin.path != file.path || twin.length != file.length {
                return Err(differ);
            }
            if file.length > 0 && !offset.is_multiple_of(u64::from(piece_length)) {
                return Err(MetainfoError::Hybrid(HybridFault::Alignment));
            }
            file.pieces_root = twin.pieces_root;
        }
        offset = offset.saturating_add(file.length);
    }
    if roots.next().is_some() { Err(differ) } else { Ok(()) }
}
