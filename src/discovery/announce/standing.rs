//! How one tracker stands: in each family, what it last said or why it said nothing, and when it
//! may be asked again. Whether it is asked then is the schedule's matter.

use std::time::Duration;

use serde::Serialize;

use super::{
    AskId, BACKOFF_MAX, BACKOFF_MIN, INTERVAL_DEFAULT, INTERVAL_MAX, INTERVAL_MIN, NO_ADDRESS_WAIT,
};
use crate::discovery::fault::TrackerFault;
use crate::machine::Rng;
use crate::units::Time;
use crate::wire::text::one_line;
use crate::wire::tracker::url::TrackerUrl;
use crate::wire::tracker::{Family, Reply, Retry};

/// How one tracker stands, for the status document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its URL, escaped and cut.
    pub url: String,
    /// How it stands.
    pub state: State,
    /// Seeds that it counts.
    pub seeders: Option<u32>,
    /// Other peers that it counts.
    pub leechers: Option<u32>,
    /// Seconds until it is asked again, if it is.
    pub next_announce_s: Option<u64>,
    /// Why it does not work, or its warning; escaped and cut.
    pub error: Option<String>,
}

/// How a tracker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not asked so far: trackers before it work.
    Idle,
    /// An announce is under way.
    Asking,
    /// It answers.
    Working,
    /// It failed and is asked again later.
    Failed,
    /// It wants never to be asked again (BEP 31), or its URL is none to ask.
    GivenUp,
}

/// One tracker in one family.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) family: Family,
    pub(super) standing: Standing,
    /// The ask under way.
    pub(super) asking: Option<(AskId, Time)>,
    /// It took our `started`: no other one is sent, and it is owed a `stopped`.
    pub(super) told: bool,
    /// Early announces in a row; each doubles the wait before the next.
    pub(super) early: u32,
    pub(super) seeders: Option<u32>,
    pub(super) leechers: Option<u32>,
    pub(super) error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Never answered nor failed.
    Untried,
    /// Works; asked again at `regular`, from `early` on if peers are few.
    Works { regular: Time, early: Time },
    /// Failed `times` in a row; may be asked again at `retry`.
    Failed { times: u32, retry: Time },
    /// Has no address in this family; looked up again at `retry`.
    Absent { retry: Time },
    /// Never to be asked again.
    GivenUp,
}

#[derive(Clone, Debug)]
pub(super) struct Tracker {
    pub(super) url: TrackerUrl,
    pub(super) tracker_id: Option<Vec<u8>>,
    pub(super) ends: Vec<End>,
}

impl Tracker {
    pub(super) fn new(url: TrackerUrl, families: &[Family]) -> Self {
        let ends = families.iter().map(|&family| End {
            family,
            standing: Standing::Untried,
            asking: None,
            told: false,
            early: 0,
            seeders: None,
            leechers: None,
            error: None,
        });
        Self { url, tracker_id: None, ends: ends.collect() }
    }

    /// Every family failed and none is being asked.
    pub(super) fn is_silent(&self) -> bool {
        self.ends.iter().all(|end| {
            let failed = !matches!(end.standing, Standing::Untried | Standing::Works { .. });
            failed && end.asking.is_none()
        })
    }

    /// Some family may be asked now.
    pub(super) fn is_ready(&self, now: Time) -> bool {
        self.ends.iter().any(|end| match end.standing {
            Standing::Untried | Standing::Works { .. } => true,
            Standing::Failed { retry, .. } | Standing::Absent { retry } => retry <= now,
            Standing::GivenUp => false,
        })
    }

    /// When the first family that failed may be asked again.
    pub(super) fn retry(&self) -> Option<Time> {
        let retries = self.ends.iter().filter_map(|end| match end.standing {
            Standing::Failed { retry, .. } | Standing::Absent { retry } => Some(retry),
            _ => None,
        });
        retries.min()
    }

    pub(super) fn fails_in(&self, end: usize) -> bool {
        self.ends
            .get(end)
            .is_some_and(|end| matches!(end.standing, Standing::Failed { .. } | Standing::GivenUp))
    }

    pub(super) fn row(&self, now: Time, few: bool) -> Row {
        // The end that stands best speaks for the tracker: no IPv6 is no failure.
        let best = self.ends.iter().min_by_key(|end| end.rank());
        let in_s = |at: Time| at.since_us(now) / 1_000_000;
        let next = self.ends.iter().filter_map(|end| match end.standing {
            Standing::Works { regular, early } => Some(if few { early } else { regular }),
            Standing::Failed { retry, .. } => Some(retry),
            _ => None,
        });
        Row {
            url: one_line(self.url.as_str(), 300),
            state: best.map_or(State::GivenUp, End::state),
            seeders: self.ends.iter().filter_map(|end| end.seeders).max(),
            leechers: self.ends.iter().filter_map(|end| end.leechers).max(),
            next_announce_s: next.min().map(in_s),
            error: best.and_then(|end| end.error.as_ref()).map(|text| one_line(text, 300)),
        }
    }
}

impl End {
    /// It answered.
    pub(super) fn accept(&mut self, now: Time, reply: &Reply, rng: &mut Rng) {
        let interval = interval(reply);
        let jitter = rng.below(60_000_000.min(interval.as_micros() as u64 / 10));
        let early = Duration::from_secs(30) + Duration::from_micros(rng.below(30_000_000));
        let early = early.saturating_mul(1 << self.early.min(10));
        let early = early.max(reply.interval_min_s.map_or(Duration::ZERO, seconds));
        self.asking = None;
        self.standing = Standing::Works {
            regular: now.after(interval).after_us(jitter),
            early: now.after(early.min(interval)),
        };
        self.seeders = reply.seeders;
        self.leechers = reply.leechers;
        self.error = reply.warning.as_ref().map(|warning| format!("warning: {warning}"));
    }

    /// It did not, or refused.
    pub(super) fn fail(&mut self, now: Time, fault: &TrackerFault, rng: &mut Rng) {
        let spread = 0.75 + rng.unit() / 2.0;
        let late = 1.0 + rng.unit() / 10.0;
        let times = match self.standing {
            Standing::Failed { times, .. } => times.saturating_add(1),
            _ => 1,
        };
        self.asking = None;
        self.standing = match (fault, retry_of(fault)) {
            (TrackerFault::NoAddress { .. }, _) => {
                Standing::Absent { retry: now.after(NO_ADDRESS_WAIT.mul_f64(spread)) }
            }
            (TrackerFault::Url(_), _) | (_, Some(Retry::Never)) => Standing::GivenUp,
            (_, Some(Retry::Minutes(minutes))) => {
                let wait = seconds(minutes.saturating_mul(60)).clamp(INTERVAL_MIN, INTERVAL_MAX);
                Standing::Failed { times, retry: now.after(wait.mul_f64(late)) }
            }
            _ => {
                let wait = BACKOFF_MIN.saturating_mul(1 << times.saturating_sub(1).min(16));
                let wait = wait.min(BACKOFF_MAX).mul_f64(spread);
                Standing::Failed { times, retry: now.after(wait) }
            }
        };
        if is_refusal(fault) {
            // It does not know us, so the next announce says `started` again.
            self.told = false;
        }
        self.error = Some(fault.to_string());
    }

    fn rank(&self) -> u8 {
        match (self.standing, self.asking) {
            (Standing::Works { .. }, _) => 0,
            (_, Some(_)) => 1,
            (Standing::Untried, None) => 2,
            (Standing::Failed { .. }, None) => 3,
            (Standing::Absent { .. }, None) => 4,
            (Standing::GivenUp, None) => 5,
        }
    }

    fn state(&self) -> State {
        match (self.asking, self.standing) {
            (Some(_), _) => State::Asking,
            (None, Standing::Untried) => State::Idle,
            (None, Standing::Works { .. }) => State::Working,
            (None, Standing::Failed { .. } | Standing::Absent { .. }) => State::Failed,
            (None, Standing::GivenUp) => State::GivenUp,
        }
    }
}

impl Row {
    pub(super) fn refused(url: &str, fault: &TrackerFault) -> Self {
        Self {
            url: one_line(url, 300),
            state: State::GivenUp,
            seeders: None,
            leechers: None,
            next_announce_s: None,
            error: Some(one_line(&fault.to_string(), 300)),
        }
    }
}

/// How long this reply lets us be silent: within the bounds, and never below its minimum.
fn interval(reply: &Reply) -> Duration {
    let wanted = reply.interval_s.map_or(INTERVAL_DEFAULT, seconds);
    let minimum = reply.interval_min_s.map_or(Duration::ZERO, seconds);
    wanted.max(minimum).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(s.into()).min(INTERVAL_MAX)
}

fn retry_of(fault: &TrackerFault) -> Option<Retry> {
    match fault {
        TrackerFault::Refused(refusal) => refusal.retry,
        _ => None,
    }
}

fn is_refusal(fault: &TrackerFault) -> bool {
    matches!(fault, TrackerFault::Refused(_) | TrackerFault::Unlisted)
}
