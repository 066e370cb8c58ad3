//! Small files read within a bound and replaced whole, and standard output written without dying
//! of a closed pipe.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use super::exit::{Code, Failure};

/// Reads a whole file of at most `len_max` bytes; `-` is standard input.
///
/// # Errors
/// Code 2 if there is no such file or it is larger (the size is looked at before anything is
/// read), code 5 if reading fails.
pub fn read_bounded(path: &Path, len_max: usize) -> Result<Vec<u8>, Failure> {
    if path.as_os_str() == "-" {
        return read_from(io::stdin().lock(), 0, path, len_max);
    }
    read_file(path, len_max)
}

/// Reads a whole text file of at most `len_max` bytes, never standard input.
///
/// # Errors
/// As [`read_bounded`]; code 2 also if it is not UTF-8.
pub fn read_text(path: &Path, len_max: usize) -> Result<String, Failure> {
    String::from_utf8(read_file(path, len_max)?)
        .map_err(|_| Failure::usage(format_args!("{} is not UTF-8", path.display())))
}

fn read_file(path: &Path, len_max: usize) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|e| not_there_or_disk(path, &e))?;
    let meta = file.metadata().map_err(|e| Failure::disk(path, &e))?;
    if meta.is_dir() {
        return Err(Failure::usage(format_args!("{} is a folder", path.display())));
    }
    if meta.len() > len_max as u64 {
        return Err(too_large(path, len_max));
    }
    read_from(file, meta.len() as usize, path, len_max)
}

fn read_from(
    source: impl Read,
    len_hint: usize,
    path: &Path,
    len_max: usize,
) -> Result<Vec<u8>, Failure> {
    // One byte more than the hint, so that the end is seen without growing the buffer.
    let mut bytes = Vec::with_capacity(len_hint.min(len_max) + 1);
    let mut source = source.take(len_max as u64 + 1);
    source.read_to_end(&mut bytes).map_err(|e| Failure::disk(path, &e))?;
    if bytes.len() > len_max {
        return Err(too_large(path, len_max));
    }
    Ok(bytes)
}

fn too_large(path: &Path, len_max: usize) -> Failure {
    Failure::usage(format_args!("{} is larger than {len_max} bytes", path.display()))
}

fn not_there_or_disk(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::usage(format_args!("{}: no such file", path.display())),
        _ => Failure::disk(path, error),
    }
}

/// Creates or replaces a file so that no reader ever sees half of it.
///
/// # Errors
/// Code 5 if the disk refuses; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|error| {
        // The failure that is reported is the first one.
        let _ = fs::remove_file(&part);
        Failure::disk(path, &error)
    })
}

/// Writes to standard output. A reader that has gone away (`| head`) is no failure.
///
/// # Errors
/// Code 5 if it cannot be written for another reason.
pub fn to_stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Disk, format_args!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_no_file_is_refused_unread() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        replace(&path, b"12345").expect("written");
        assert_eq!(read_bounded(&path, 5).expect("fits"), b"12345");
        assert_eq!(read_bounded(&path, 4).expect_err("too large").code, Code::Usage);
        assert_eq!(read_bounded(dir.path(), 4).expect_err("a folder").code, Code::Usage);
        let absent = dir.path().join("absent");
        assert_eq!(read_bounded(&absent, 4).expect_err("absent").code, Code::Usage);
    }

    #[test]
    fn a_replaced_file_leaves_no_parts_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        replace(&path, b"old").expect("written");
        replace(&path, b"new").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
    }
}
