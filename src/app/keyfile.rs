//! The key file: the identity of a stream in one moveable file (`specs/live-torrent.md`, section
//! Key file). What is in it is never shown; errors name the path and a line number at most.
#![allow(clippy::disallowed_methods)]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use ed25519_dalek::SigningKey;
use thiserror::Error;

use super::exit::{Code, Failure};
use super::file::read_bounded;
use crate::units::{hex, hex_into};

/// The first line of a key file.
pub const FIRST_LINE: &str = "btlive key 1";

/// Bytes that a key file has at most.
pub const LEN_MAX: usize = 4096;

/// What is wrong with a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// The first line is another one.
    #[error("is no key file: its first line is not \"btlive key 1\"")]
    Format,
    /// A later version of the format.
    #[error("is a key file of a later version: needs a newer btlive")]
    Newer,
    /// A line that means nothing.
    #[error("is damaged in line {line}")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// No seed, or two.
    #[error("is damaged: it must have one \"seed\" line, has {count}")]
    Seeds {
        /// How many there are.
        count: usize,
    },
    /// The public key it names is not that of its seed.
    #[error("is damaged: its seed does not belong to its public key")]
    Mismatch,
}

impl KeyFault {
    /// A short name of the kind of error, for tests.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Newer => "newer",
            Self::Line { .. } => "line",
            Self::Seeds { .. } => "seeds",
            Self::Mismatch => "mismatch",
        }
    }
}

/// Whether a file that begins with `head` means to be a key file.
#[must_use]
pub fn looks_like_one(head: &[u8]) -> bool {
    head.starts_with(b"btlive key ")
}

/// Reads the text of a key file.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &[u8]) -> Result<SigningKey, KeyFault> {
    let text = std::str::from_utf8(text).map_err(|_| KeyFault::Format)?;
    let mut lines = text.lines().map(str::trim).zip(1..);
    match lines.next() {
        Some((FIRST_LINE, _)) => {}
        Some((line, _)) if looks_like_one(line.as_bytes()) => return Err(KeyFault::Newer),
        _ => return Err(KeyFault::Format),
    }
    let (mut seeds, mut public) = (Vec::new(), None);
    for (text, line) in lines {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = text.split_once(':').ok_or(KeyFault::Line { line })?;
        let mut bytes = [0u8; 32];
        if !hex_into(value.trim(), &mut bytes) {
            return Err(KeyFault::Line { line });
        }
        match name.trim() {
            "seed" => seeds.push(bytes),
            "public key" => public = Some(bytes),
            _ => return Err(KeyFault::Line { line }),
        }
    }
    let [seed] = seeds.as_slice() else { return Err(KeyFault::Seeds { count: seeds.len() }) };
    let key = SigningKey::from_bytes(seed);
    if public.is_some_and(|public| public != key.verifying_key().to_bytes()) {
        return Err(KeyFault::Mismatch);
    }
    Ok(key)
}

/// The text of a key file.
#[must_use]
pub fn encode(key: &SigningKey) -> String {
    format!(
        "{FIRST_LINE}\n\
         # Whoever has this file can publish as this stream. Keep a copy; give it to nobody.\n\
         public key: {}\n\
         seed: {}\n",
        hex(key.verifying_key().as_bytes()),
        hex(key.as_bytes()),
    )
}

/// A key from the operating system's randomness.
///
/// # Errors
/// Code 1 if the operating system has none.
pub fn generate() -> Result<SigningKey, Failure> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed)
        .map_err(|e| Failure::new(Code::Unexpected, format_args!("no randomness: {e}")))?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads a key file.
///
/// # Errors
/// Code 2 if there is none or it is no key file, code 5 if it cannot be read.
pub fn read(path: &Path) -> Result<SigningKey, Failure> {
    let text = read_bounded(path, LEN_MAX)?;
    parse(&text).map_err(|fault| Failure::usage(format_args!("{} {fault}", path.display())))
}

/// Creates a key file that only its owner can read. An existing file is never touched, even if it
/// appears at the last moment.
///
/// # Errors
/// Code 5, also if the file exists.
pub fn write_new(path: &Path, key: &SigningKey) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|e| Failure::disk(path, &e))?;
    let written = file.write_all(encode(key).as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error: io::Error| {
        // Half a key file would be taken for a damaged identity; the file is ours.
        let _ = std::fs::remove_file(path);
        Failure::disk(path, &error)
    })
}

/// One line of advice if others than the owner may read the file.
#[must_use]
pub fn open_to_others(path: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
        let path = path.display();
        (mode & 0o077 != 0)
            .then(|| format!("{path} can be read by others (mode {mode:o}): chmod 600 {path}"))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.key");
        let key = generate().expect("randomness");
        write_new(&path, &key).expect("written");
        assert_eq!(read(&path).expect("valid").to_bytes(), key.to_bytes());
        assert_eq!(open_to_others(&path), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(&path, open).expect("permissions");
            assert!(open_to_others(&path).is_some_and(|advice| advice.contains("644")));
        }
    }

    #[test]
    fn an_existing_file_is_never_touched() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.key");
        std::fs::write(&path, "mine").expect("written");
        let key = SigningKey::from_bytes(&[1; 32]);
        assert_eq!(write_new(&path, &key).expect_err("exists").code, Code::Disk);
        assert_eq!(std::fs::read(&path).expect("there"), b"mine");
    }

    #[test]
    fn a_damaged_key_is_refused_without_showing_it() {
        let good = encode(&SigningKey::from_bytes(&[1; 32]));
        let other = hex(SigningKey::from_bytes(&[2; 32]).verifying_key().as_bytes());
        let own = hex(SigningKey::from_bytes(&[1; 32]).verifying_key().as_bytes());
        let seed = good.lines().last().expect("a seed");
        let table: &[(String, &str)] = &[
            (String::new(), "format"),
            ("d4:infod".into(), "format"),
            (good.replace("key 1", "key 2"), "newer"),
            (good.replace("seed", "sead"), "line"),
            (good.replace("seed: 01", "seed: 0g"), "line"),
            (good.replace("seed: 0101", "seed: 01"), "line"),
            (good.replace("seed: ", "# "), "seeds"),
            (format!("{good}{seed}\n"), "seeds"),
            (good.replace(&own, &other), "mismatch"),
        ];
        for (text, expected) in table {
            let fault = parse(text.as_bytes()).expect_err(expected);
            assert_eq!(fault.kind(), *expected);
            assert!(!fault.to_string().contains("0101"), "{fault}");
        }
        let windows = good.replace('\n', "\r\n");
        assert!(parse(windows.as_bytes()).is_ok());
    }
}
