//! The two clocks that machines are told.
#![allow(clippy::disallowed_methods)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::{Now, Time, UnixUs};

/// Where a driver's time begins.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time on both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = Time::ZERO.after(self.0.elapsed());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono, wall: UnixUs(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)) }
    }

    /// Waits until `deadline`; for ever if there is none.
    pub async fn sleep_until(&self, deadline: Option<Time>) {
        match deadline {
            None => std::future::pending().await,
            Some(at) => {
                let at = self.0 + at.since(Time::ZERO);
                tokio::time::sleep_until(at.into()).await;
            }
        }
    }
}

/// A seed from the operating system.
///
/// # Panics
/// Never on the systems that this runs on: without randomness nothing here may go on.
#[must_use]
pub fn seed() -> u64 {
    getrandom::u64().expect("the operating system gives random numbers")
}

/// A secret key from the operating system.
///
/// # Panics
/// As [`seed`].
#[must_use]
pub fn secret() -> [u8; 32] {
    let mut out = [0u8; 32];
    getrandom::fill(&mut out).expect("the operating system gives random numbers");
    out
}
