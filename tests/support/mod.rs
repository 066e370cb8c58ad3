//! Helpers for tests with real processes: trackers, clients, btlive itself, streams, namespaces.
//!
//! Every wait has a deadline, every process dies with the value that stands for it, and what a
//! process printed is in the message of the test that it failed.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod announce;
pub(crate) mod bencode;
pub(crate) mod btlive;
pub(crate) mod client;
pub(crate) mod namespace;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod stream;
pub(crate) mod swarm;
pub(crate) mod torrent;
pub(crate) mod tracker;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Asks `probe` every 50 ms until it gives a value.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "no {what} within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ports are taken from below the range that the kernel gives to outgoing connections, so that
/// nobody gets a port between our look at it and the moment its program listens.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// The first of `count` neighbouring ports that are free for TCP and UDP.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at once begin at different places.
    let begin = (std::process::id() % 1000) as u16 * 20;
    for _ in 0..PORTS.len() {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = PORTS.start + begin.wrapping_add(step) % (PORTS.end - PORTS.start - count);
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} neighbouring free ports in {PORTS:?}");
}

/// A port that is free for TCP and UDP.
pub(crate) fn free_port() -> u16 {
    free_ports(1)
}

fn is_free(port: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok()
}

/// A directory that is gone after the test.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("btlive-test-").tempdir().expect("a temporary directory")
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `make tools` builds what is no Debian package.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The path of a file that `make tools` made.
///
/// # Panics
/// If it is missing: a test whose program is missing fails, it is never skipped.
#[track_caller]
pub(crate) fn built_tool(path: &str) -> PathBuf {
    let full = tools().join(path);
    assert!(full.exists(), "{path} is missing below target/tools: run `make tools` (as root)");
    full
}

/// The name of a program from a Debian package, after a look that it is there.
///
/// # Panics
/// If it is missing.
#[track_caller]
pub(crate) fn debian_tool(name: &'static str) -> &'static str {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs).any(|dir| dir.join(name).exists());
    assert!(found, "{name} is not installed: run `make tools` (as root)");
    name
}

/// At most a few swarms run at once, so that they measure themselves and not the machine.
const SWARMS_MAX: usize = 3;

static SWARMS: Mutex<usize> = Mutex::new(0);
static SWARM_ENDED: Condvar = Condvar::new();

/// The right to run one swarm, or to run one alone, given back on drop.
pub(crate) struct SwarmSlot(usize);

/// Waits for the right to run a swarm.
pub(crate) fn swarm_slot() -> SwarmSlot {
    take_slots(1)
}

/// Waits for the right to run a swarm beside no other one, for those that fill the machine.
pub(crate) fn swarm_alone() -> SwarmSlot {
    take_slots(SWARMS_MAX)
}

fn take_slots(count: usize) -> SwarmSlot {
    let running = SWARMS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running = SWARM_ENDED
        .wait_while(running, |running| *running + count > SWARMS_MAX)
        .unwrap_or_else(PoisonError::into_inner);
    *running += count;
    SwarmSlot(count)
}

impl Drop for SwarmSlot {
    fn drop(&mut self) {
        *SWARMS.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        SWARM_ENDED.notify_all();
    }
}
