//! What survives the death of a process (`specs/feed.md`, section State on disk).
//!
//! A record lies in one of two slots of a file, written in turn, each with its number and its
//! digest: whenever the process dies, the last whole record is there. Records are written, not
//! synced: they survive the process, and a source that finds the machine rebooted does not rely on
//! them.
//!
//! Only the user may read what lies here: it tells which streams were watched or published. The
//! modes of files and folders are therefore set outright, whatever the umask makes of them.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::swarm::io::Record;
use crate::units::InfoHash;
use crate::wire::limits::{ENTRY_LEN_MAX, METADATA_LEN_MAX};

const MAGIC: &[u8; 8] = b"BLSTATE1";
/// Magic, number, boot id, length.
const HEAD_LEN: usize = 8 + 8 + 16 + 2;
/// Where the second slot begins.
const SLOT_LEN: u64 = 4608;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process publishes this stream from the same directory.
    #[error("{} is in use by another broadcaster of this stream", .0.display())]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

/// A file of two slots.
#[derive(Debug)]
struct Slots {
    path: PathBuf,
    file: File,
    number: u64,
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    number: u64,
    boot: [u8; 16],
    payload: Bytes,
}

impl Slots {
    fn open(path: PathBuf) -> Result<(Self, Option<Found>), StateError> {
        let file = open_private(&path, false)
            .map_err(|error| StateError::File { path: path.clone(), error })?;
        let newest = [0, SLOT_LEN]
            .into_iter()
            .filter_map(|at| read_slot(&file, at))
            // No run of ours writes so many records: behind this one there would be none.
            .filter(|found| found.number < u64::MAX)
            .max_by_key(|found| found.number);
        let number = newest.as_ref().map_or(0, |found| found.number);
        Ok((Self { path, file, number }, newest))
    }

    fn write(&mut self, boot: [u8; 16], payload: &[u8]) -> Result<(), StateError> {
        let number = self.number + 1;
        let slot = encode_slot(number, boot, payload);
        let at = (number % 2) * SLOT_LEN;
        let fail = |error| StateError::File { path: self.path.clone(), error };
        self.file.write_all_at(&slot, at).map_err(fail)?;
        self.number = number;
        Ok(())
    }
}

fn encode_slot(number: u64, boot: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(HEAD_LEN + payload.len() + 32);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&number.to_be_bytes());
    slot.extend_from_slice(&boot);
    slot.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    slot.extend_from_slice(payload);
    let digest = Sha256::digest(&slot);
    slot.extend_from_slice(&digest);
    slot
}

fn read_slot(file: &File, at: u64) -> Option<Found> {
    let mut bytes = vec![0; SLOT_LEN as usize];
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], at + len as u64) {
            Ok(0) | Err(_) => break,
            Ok(n) => len += n,
        }
    }
    decode_slot(&bytes[..len])
}

fn decode_slot(bytes: &[u8]) -> Option<Found> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
    let payload_len = usize::from(u16::from_be_bytes([head[32], head[33]]));
    if &head[..8] != MAGIC || payload_len > ENTRY_LEN_MAX || rest.len() < payload_len + 32 {
        return None;
    }
    let (payload, digest) = rest.split_at(payload_len);
    let whole = &bytes[..HEAD_LEN + payload_len];
    (Sha256::digest(whole).as_slice() == &digest[..32]).then(|| Found {
        number: u64::from_be_bytes(head[8..16].try_into().unwrap_or_default()),
        boot: head[16..32].try_into().unwrap_or_default(),
        payload: Bytes::copy_from_slice(payload),
    })
}

/// The state of one stream.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    head: Slots,
    published: Option<Slots>,
    _lock: Option<File>,
    boot: [u8; 16],
    /// The highest entry that was ever verified here.
    pub found_head: Option<Bytes>,
    /// The last entry signed here, if the machine has not rebooted since.
    pub found_published: Option<Bytes>,
    /// The `info` dictionary that peers gave; its hash is to be checked.
    pub found_info: Option<Bytes>,
}

impl State {
    /// Opens the state of a stream below `dir`; for a source no second process may.
    ///
    /// # Errors
    /// The directory cannot be used, or another source uses it.
    pub fn open(dir: &Path, info_hash: InfoHash, source: bool) -> Result<Self, StateError> {
        let dir = dir.join(info_hash.to_string());
        let fail = |path: &Path, error| StateError::File { path: path.to_owned(), error };
        make_private_dir(&dir).map_err(|error| fail(&dir, error))?;
        // Folders above it may be meant for more than this; this one is not.
        keep_private(&dir, 0o700);
        let boot = boot_id();
        let lock = if source { Some(lock(&dir.join("lock"))?) } else { None };
        let (head, found_head) = Slots::open(dir.join("head"))?;
        let (published, found_published) = if source {
            let (slots, found) = Slots::open(dir.join("published"))?;
            (Some(slots), found)
        } else {
            (None, None)
        };
        let found_published =
            found_published.filter(|f| f.boot == boot && boot != [0; 16]).map(|f| f.payload);
        let info = dir.join("info");
        let found_info = fs::metadata(&info)
            .is_ok_and(|m| m.len() <= METADATA_LEN_MAX as u64)
            .then(|| fs::read(&info).ok().map(Bytes::from))
            .flatten();
        let found_head = found_head.map(|found| found.payload);
        Ok(Self {
            dir,
            head,
            published,
            _lock: lock,
            boot,
            found_head,
            found_published,
            found_info,
        })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The disk is full or broken. A source must not go on then.
    pub fn write(&mut self, record: &Record) -> Result<(), StateError> {
        match record {
            Record::Head(raw) => self.head.write([0; 16], raw),
            Record::Published(raw) => match &mut self.published {
                Some(slots) => slots.write(self.boot, raw),
                None => Ok(()),
            },
            Record::Metadata(raw) => {
                let path = self.dir.join("info");
                let part = self.dir.join("info.part");
                let written = write_private(&part, raw).and_then(|()| fs::rename(&part, &path));
                written.map_err(|error| StateError::File { path, error })
            }
        }
    }
}

/// Opens a file for reading and writing that nobody else may open, made if it is not there.
fn open_private(path: &Path, emptied: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(emptied).mode(0o600);
    let file = options.open(path)?;
    if file.metadata().is_ok_and(|m| m.is_file()) {
        keep_private(path, 0o600);
    }
    Ok(file)
}

/// Gives a file or folder of ours its mode, which another umask or an earlier version may have
/// left otherwise. One that belongs to somebody else keeps its mode: its owner has chosen it.
fn keep_private(path: &Path, mode: u32) {
    if fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o777 != mode) {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
}

/// Creates or replaces a file that only the user may read.
///
/// # Errors
/// The disk is full or broken, or the file is not the user's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    open_private(path, true)?.write_all(bytes)
}

/// Makes a folder that only the user may enter, and those above it that are missing.
fn make_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_private_dir(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            keep_private(path, 0o700);
            Ok(())
        }
        // Somebody was quicker, or it is no folder, which whoever uses it will be told.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    let fail = |error| StateError::File { path: path.to_owned(), error };
    let file = open_private(path, false).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StateError::Locked(path.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// The kernel's name for the time since it was started; zeros where it has none.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    if crate::units::hex_into(&digits, &mut id) { id } else { [0; 16] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: InfoHash = InfoHash([3; 20]);

    fn published(n: u8) -> Record {
        Record::Published(Bytes::from(vec![n; 300]))
    }

    #[test]
    fn the_last_record_is_found_again() {
        let dir = tempfile::tempdir().expect("directory");
        for n in 1..6 {
            let mut state = State::open(dir.path(), HASH, true).expect("opens");
            let before = state.found_published.clone();
            assert_eq!(before, (n > 1).then(|| Bytes::from(vec![n - 1; 300])));
            state.write(&published(n)).expect("written");
            state.write(&Record::Head(Bytes::from(vec![n; 9]))).expect("written");
        }
        let state = State::open(dir.path(), HASH, false).expect("opens");
        assert_eq!(state.found_head, Some(Bytes::from(vec![5; 9])));
    }

    #[test]
    fn a_record_torn_at_any_byte_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("slots");
        for cut in (0..HEAD_LEN + 300 + 32).step_by(7) {
            let (mut slots, _) = Slots::open(path.clone()).expect("opens");
            slots.write([1; 16], &[7; 300]).expect("written");
            let torn = encode_slot(slots.number + 1, [1; 16], &[8; 300]);
            let at = ((slots.number + 1) % 2) * SLOT_LEN;
            slots.file.write_all_at(&torn[..cut], at).expect("written");
            let (_, found) = Slots::open(path.clone()).expect("opens");
            assert_eq!(found.map(|f| f.payload), Some(Bytes::from(vec![7; 300])), "cut at {cut}");
        }
    }

    #[test]
    fn two_sources_cannot_share_a_directory() {
        let dir = tempfile::tempdir().expect("directory");
        let _first = State::open(dir.path(), HASH, true).expect("opens");
        assert!(matches!(State::open(dir.path(), HASH, true), Err(StateError::Locked(_))));
        assert!(State::open(dir.path(), HASH, false).is_ok(), "a viewer may");
    }

    #[test]
    fn what_an_earlier_version_left_open_to_others_is_closed() {
        let dir = tempfile::tempdir().expect("directory");
        let below = dir.path().join(HASH.to_string());
        fs::create_dir_all(&below).expect("directory");
        for name in ["lock", "head", "published", "info.part"] {
            fs::write(below.join(name), b"").expect("written");
            let open = fs::Permissions::from_mode(0o644);
            fs::set_permissions(below.join(name), open).expect("opened");
        }
        let mut state = State::open(dir.path(), HASH, true).expect("opens");
        state.write(&Record::Metadata(Bytes::from_static(b"d1:ai1ee"))).expect("written");
        for name in ["lock", "head", "published", "info"] {
            let mode = fs::metadata(below.join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(&below).expect("it").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn behind_a_record_with_the_last_number_the_next_one_is_found() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("slots");
        fs::write(&path, encode_slot(u64::MAX, [1; 16], b"foreign")).expect("written");
        let (mut slots, found) = Slots::open(path.clone()).expect("opens");
        assert_eq!(found, None);
        slots.write([1; 16], b"ours").expect("written");
        let (_, found) = Slots::open(path).expect("opens");
        assert_eq!(found.map(|f| f.payload), Some(Bytes::from_static(b"ours")));
    }

    #[test]
    fn garbage_is_no_record() {
        let dir = tempfile::tempdir().expect("directory");
        let below = dir.path().join(HASH.to_string());
        fs::create_dir_all(&below).expect("directory");
        fs::write(below.join("published"), vec![0xff; 10_000]).expect("written");
        let state = State::open(dir.path(), HASH, true).expect("opens");
        assert_eq!(state.found_published, None);
    }
}
