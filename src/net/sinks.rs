//! A stream written to standard output or to a file.
//!
//! The writing is done by a thread of its own: a pipe that nobody reads and a disk that stalls
//! hold up this reader alone, which then gets no credit.
#![allow(clippy::disallowed_methods)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

use super::readers::ReaderHandle;
use crate::swarm::io::Delivery;

/// Slices handed to the kernel at once.
const SLICES_MAX: usize = 64;

/// Where a stream is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file, which is created or emptied; a named pipe or device is written to.
    File(PathBuf),
}

impl std::fmt::Display for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// How writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The broadcaster ended the stream.
    Ended,
    /// Whoever read from us has gone, which is a normal end.
    ReaderGone,
    /// The swarm was stopped.
    Stopped,
}

/// Why writing failed.
#[derive(Debug, thiserror::Error)]
#[error("writing to {sink} failed after {written} bytes: {error}")]
pub struct SinkError {
    /// Where it was written.
    pub sink: Sink,
    /// Bytes that got there.
    pub written: u64,
    /// What the operating system said.
    pub error: io::Error,
}

/// Opens `sink`, so that a path that cannot be written is known before anything else starts.
///
/// # Errors
/// The file cannot be created.
pub fn open(sink: &Sink) -> Result<File, SinkError> {
    let file = match sink {
        // Not the buffered standard output, which looks for line ends.
        Sink::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        Sink::File(path) => File::create(path),
    };
    file.map_err(|error| SinkError { sink: sink.clone(), written: 0, error })
}

/// Writes what `reader` gets to `file`, opened by [`open`], until one of the two ends.
///
/// # Errors
/// The disk is full or broken. That the other end of a pipe is closed is no error.
pub async fn write(
    sink: Sink,
    mut file: File,
    mut reader: ReaderHandle,
) -> Result<Finish, SinkError> {
    let (tx, rx) = oneshot::channel();
    std::thread::spawn(move || {
        let mut written = 0;
        let result = match copy(&mut file, &mut reader, &mut written) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Finish::ReaderGone),
            Err(error) => Err(SinkError { sink, written, error }),
            Ok(finish) => Ok(finish),
        };
        // If nobody waits, nobody wants to know.
        let _ = tx.send(result);
    });
    rx.await.unwrap_or(Ok(Finish::Stopped))
}

fn copy(out: &mut impl Write, reader: &mut ReaderHandle, written: &mut u64) -> io::Result<Finish> {
    while let Some(item) = reader.blocking_next() {
        match item {
            Delivery::Piece { tables, blocks, .. } => {
                write_whole(out, std::iter::once(tables).chain(blocks).collect(), written)?;
                reader.taken();
            }
            Delivery::Skip { .. } => {}
            Delivery::End => {
                out.flush()?;
                return Ok(Finish::Ended);
            }
        }
    }
    Ok(Finish::Stopped)
}

/// Writes all `parts` with as few calls as the other end allows.
fn write_whole(out: &mut impl Write, parts: Vec<Bytes>, written: &mut u64) -> io::Result<()> {
    let mut parts = VecDeque::from(parts);
    while let Some(first) = parts.front() {
        if first.is_empty() {
            parts.pop_front();
            continue;
        }
        let slices: Vec<IoSlice<'_>> =
            parts.iter().take(SLICES_MAX).map(|part| IoSlice::new(part)).collect();
        let mut taken = match out.write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        *written += taken as u64;
        for part in &mut parts {
            let some = taken.min(part.len());
            part.advance(some);
            taken -= some;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::sync::mpsc;

    use super::super::readers::open_reader;
    use super::*;
    use crate::swarm::io::{In, ReaderId};
    use crate::units::Seq;

    fn reader() -> (mpsc::Sender<Delivery>, ReaderHandle, mpsc::Receiver<In>) {
        let (inputs, rx) = mpsc::channel(64);
        let (tx, handle) = open_reader(ReaderId(1), inputs);
        (tx, handle, rx)
    }

    fn piece(tables: &'static str, block: &'static str) -> Delivery {
        Delivery::Piece {
            seq: Seq::default(),
            tables: Bytes::from(tables),
            blocks: vec![Bytes::from(block), Bytes::from("!")],
            discontinuity: false,
        }
    }

    #[tokio::test]
    async fn a_file_gets_the_stream_in_order_until_it_ends() {
        let dir = tempfile::tempdir().expect("folder");
        let sink = Sink::File(dir.path().join("out.ts"));
        let (tx, handle, _inputs) = reader();
        for item in [
            piece("tables", "one"),
            Delivery::Skip { from: Seq::default(), pieces: 2 },
            piece("", "two"),
            Delivery::End,
        ] {
            tx.send(item).await.expect("room");
        }
        let file = open(&sink).expect("opens");
        assert_eq!(write(sink.clone(), file, handle).await.expect("written"), Finish::Ended);
        let text = std::fs::read_to_string(dir.path().join("out.ts")).expect("reads");
        assert_eq!(text, "tablesone!two!");
    }

    /// Takes up to five bytes at a time, and of the first slice only.
    struct Narrow(Vec<u8>);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let some = bytes.iter().take(5);
            self.0.extend(some);
            Ok(bytes.len().min(5))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_taken_in_small_bites_is_written_whole_and_once() {
        let parts: Vec<Bytes> =
            (0..200).map(|n| Bytes::from(vec![n; usize::from(n) % 9])).collect();
        let mut out = Narrow(Vec::new());
        let mut written = 0;
        write_whole(&mut out, parts.clone(), &mut written).expect("written");
        assert_eq!(out.0, parts.concat());
        assert_eq!(written, out.0.len() as u64);
    }

    #[tokio::test]
    async fn a_closed_pipe_is_a_normal_end() {
        let (mut read, write_end) = io::pipe().expect("pipe");
        let file = File::from(std::os::fd::OwnedFd::from(write_end));
        let (tx, handle, _inputs) = reader();
        let writing = tokio::spawn(write(Sink::Stdout, file, handle));
        tx.send(piece("", "one")).await.expect("room");
        let mut out = [0; 4];
        tokio::task::spawn_blocking(move || read.read_exact(&mut out))
            .await
            .expect("ok")
            .expect("ok");
        while tx.send(piece("", "two")).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(writing.await.expect("joins").expect("no error"), Finish::ReaderGone);
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_gets_no_credit_and_holds_up_nobody() {
        let (_read, write_end) = io::pipe().expect("pipe");
        let file = File::from(std::os::fd::OwnedFd::from(write_end));
        let (tx, handle, mut inputs) = reader();
        let writing = tokio::spawn(write(Sink::Stdout, file, handle));
        let block: &'static str = Box::leak("x".repeat(1 << 20).into_boxed_str());
        tx.send(piece("", block)).await.expect("room");
        inputs.recv().await.expect("the first credit");
        let more = tokio::time::timeout(std::time::Duration::from_millis(200), inputs.recv()).await;
        assert!(more.is_err(), "{more:?}");
        writing.abort();
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_written_and_a_full_disk_are_named() {
        let error = open(&Sink::File("/none/out.ts".into())).expect_err("no such folder");
        assert!(error.to_string().contains("/none/out.ts"), "{error}");
        let sink = Sink::File("/dev/full".into());
        let (tx, handle, _inputs) = reader();
        tx.send(piece("", "one")).await.expect("room");
        let file = open(&sink).expect("opens");
        let error = write(sink, file, handle).await.expect_err("full");
        assert!(error.to_string().contains("/dev/full failed after 0 bytes"), "{error}");
    }
}
