//! Scenarios: what a simulated swarm is made of and what happens to it, as a TOML file.

use serde::{Deserialize, Serialize};

use super::expect::Expect;
use super::uplink::Order;

/// Most viewers a scenario may ask for.
const VIEWERS_MAX: u32 = 1_000_000;
/// Longest run, in seconds of simulated time.
const DURATION_S_MAX: f64 = 86_400.0 * 7.0;
/// Mean of the mixed classes, in multiples of the bit rate.
const MIXED_MEAN: f64 = 1.3;

/// Why a scenario cannot be run. The file is at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{message}{}", did_you_mean(hint.as_deref()))]
    Syntax {
        /// What the parser says, with the line.
        message: String,
        /// The known key that is nearest to an unknown one.
        hint: Option<String>,
    },
    /// A value outside its range.
    #[error("{key} is {value}; it must be {range}")]
    Range {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is possible.
        range: &'static str,
    },
}

/// How upload is spread over the viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Uploads {
    /// Everybody uploads `resource_index` times the bit rate.
    #[default]
    Equal,
    /// 20 % upload nothing, 30 % 0.5 times the bit rate, 30 % 1.5 times, 20 % 3.5 times, scaled to
    /// `resource_index` (1.3 as they stand).
    Mixed,
}

/// A class of viewers.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Share of the viewers, 0 to 1.
    pub share: f64,
    /// Upload in multiples of the bit rate.
    pub times: f64,
}

/// How thoroughly a run is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checks {
    /// What readers get.
    Readers,
    /// And the bounds of a machine at every 256th step.
    #[default]
    Some,
    /// The bounds at every step, and every message on the wire.
    All,
}

/// The network between the nodes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Shortest one-way time between two nodes, in milliseconds.
    pub hop_min_ms: f64,
    /// Longest one-way time between two nodes, in milliseconds.
    pub hop_max_ms: f64,
    /// Extra one-way time of a single parcel, up to this, in milliseconds.
    pub jitter_ms: f64,
    /// How connections share an uplink.
    pub uplink: Order,
    /// Download of a viewer in multiples of the bit rate; unlimited if absent.
    pub download_times: Option<f64>,
    /// Probability that bytes sent or received together are cut at a random place.
    pub cut: f64,
    /// Share of the viewers that cannot be dialled.
    pub unreachable: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            hop_min_ms: 10.0,
            hop_max_ms: 75.0,
            jitter_ms: 0.0,
            uplink: Order::Fair,
            download_times: None,
            cut: 0.02,
            unreachable: 0.0,
        }
    }
}

/// The tracker.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tracker {
    /// Addresses in an answer.
    pub numwant: u32,
    /// Seconds between two announces of a node.
    pub interval_s: f64,
    /// Seconds after which a node with fewer than four connections may ask again.
    pub min_interval_s: f64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { numwant: 50, interval_s: 300.0, min_interval_s: 10.0 }
    }
}

/// Viewers come and go all the time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Mean time that a viewer stays, in seconds (exponentially distributed); for each that goes
    /// another one comes.
    pub session_mean_s: f64,
    /// Share of those that go without a word.
    #[serde(default)]
    pub vanish: f64,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `count` viewers come within `for_s`.
    Join,
    /// Viewers leave in good order.
    Leave,
    /// Viewers' processes die; their machines close the connections.
    Crash,
    /// Viewers' machines lose power: nobody closes anything.
    Vanish,
    /// Viewers' processes stand still for `for_s`.
    Freeze,
    /// Readers of viewers take nothing for `for_s`.
    StallReader,
    /// Viewers are cut off from all others for `for_s`.
    Partition,
    /// The standbys are cut off from all others for `for_s`.
    StandbyPartition,
    /// Connections of viewers are reset.
    Reset,
    /// Viewers' wall clocks jump by `by_s`.
    ClockJump,
    /// The source's process dies and is back after `for_s`.
    SourceCrash,
    /// The source's input falls silent for `for_s`.
    SourceSilence,
    /// The tracker does not answer for `for_s`.
    TrackerDown,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Happening {
    /// When, in seconds from the start of the run.
    pub at_s: f64,
    /// What.
    pub kind: Kind,
    /// To which share of the viewers.
    #[serde(default)]
    pub share: f64,
    /// To how many viewers, besides `share`.
    #[serde(default)]
    pub count: u32,
    /// For how long, in seconds.
    #[serde(default)]
    pub for_s: f64,
    /// By how much a clock jumps, in seconds.
    #[serde(default)]
    pub by_s: f64,
    /// Share of those that leave who go without a word.
    #[serde(default)]
    pub vanish: f64,
    /// Whether a crashed source comes back without what it had stored.
    #[serde(default)]
    pub lose_state: bool,
    /// Seconds after the end of it within which everybody must have caught up; 0: not checked.
    #[serde(default)]
    pub caught_up_s: f64,
    /// Seconds after the end of it in which what happens to those who stay is put down to it, in
    /// the report's `recovery`; 0: not watched.
    #[serde(default)]
    pub watch_s: f64,
}

/// A whole scenario.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What reports call it.
    pub name: String,
    /// What everything random follows from.
    pub seed: u64,
    /// Viewers at the start.
    pub viewers: u32,
    /// Seconds for which the source is alone: it listens before it publishes, and who comes before
    /// the stream is as old as the target delay has to wait for it.
    pub lead_s: f64,
    /// The viewers at the start come within this many seconds after that.
    pub join_s: f64,
    /// Further sources that wait for the first one to fall silent.
    pub standbys: u32,
    /// Bit/s of the stream.
    pub bitrate: u64,
    /// How upload is spread.
    pub uploads: Uploads,
    /// Mean upload of the viewers in multiples of the bit rate.
    pub resource_index: f64,
    /// Classes of viewers, instead of `uploads`.
    pub classes: Vec<Class>,
    /// Upload of the source in multiples of the bit rate.
    pub source_copies: f64,
    /// Whether the source is told its upload limit; otherwise it has to learn it.
    pub source_limit_known: bool,
    /// Whether viewers are told theirs.
    pub viewer_limits_known: bool,
    /// Seconds that are measured.
    pub duration_s: f64,
    /// Seconds before that.
    pub warm_up_s: f64,
    /// Target delay of the viewers, in milliseconds.
    pub delay_ms: u64,
    /// They choose it themselves; what comes later than `delay_ms` does not count all the same.
    pub delay_auto: bool,
    /// Milliseconds between two random access points.
    pub key_frame_ms: u64,
    /// Longest piece, in bytes.
    pub piece_length: u32,
    /// Seconds that viewers keep.
    pub window_s: u32,
    /// Wall clocks are wrong by up to so many seconds.
    pub clock_skew_s: f64,
    /// Share of the viewers that send wrong bytes for every block.
    pub polluters: f64,
    /// Share of the viewers that promise blocks and never send one.
    pub stallers: f64,
    /// Share of the viewers that say untruly what they and others upload.
    pub liars: f64,
    /// What they say, in multiples of the bit rate.
    pub liars_claim: f64,
    /// Share of the viewers that promise everything at once to anybody, and say of each other that
    /// they received a lot.
    pub boasters: f64,
    /// Share of the viewers that announce pieces which they do not hold, and leave requests for
    /// them unanswered.
    pub window_liars: f64,
    /// Share of the viewers that grant entries and blocks and send neither.
    pub withholders: f64,
    /// Share of the viewers that ask and subscribe far more often than anybody needs to.
    pub flooders: f64,
    /// Share of the viewers that push old and forged entries.
    pub replayers: f64,
    /// Share of the viewers whose line carries a twentieth of what they offer.
    pub drips: f64,
    /// Share of the viewers whose peer exchange has addresses of nobody and of one victim.
    pub reflectors: f64,
    /// How thoroughly to check.
    pub checks: Checks,
    /// Whether what one node has verified is verified for all, as long as the bytes are equal: real
    /// signatures and hashes, each worked out once. Without it every node works out its own; the
    /// trace is the same.
    pub prove_once: bool,
    /// The network.
    pub network: Network,
    /// The tracker.
    pub tracker: Tracker,
    /// Coming and going.
    pub churn: Option<Churn>,
    /// What happens when.
    pub event: Vec<Happening>,
    /// What must be reached.
    pub expect: Expect,
    /// What should be reached: told, and no reason to fail.
    pub aim: Expect,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "steady".to_owned(),
            seed: 1,
            viewers: 20,
            lead_s: 6.0,
            join_s: 2.0,
            standbys: 0,
            bitrate: 4_000_000,
            uploads: Uploads::Equal,
            resource_index: 1.3,
            classes: Vec::new(),
            source_copies: 4.0,
            source_limit_known: true,
            viewer_limits_known: true,
            duration_s: 60.0,
            warm_up_s: 15.0,
            delay_ms: 3_000,
            delay_auto: false,
            key_frame_ms: 1_000,
            piece_length: 64 << 10,
            window_s: 60,
            clock_skew_s: 0.0,
            polluters: 0.0,
            stallers: 0.0,
            liars: 0.0,
            liars_claim: 100.0,
            boasters: 0.0,
            window_liars: 0.0,
            withholders: 0.0,
            flooders: 0.0,
            replayers: 0.0,
            drips: 0.0,
            reflectors: 0.0,
            checks: Checks::Some,
            prove_once: true,
            network: Network::default(),
            tracker: Tracker::default(),
            churn: None,
            event: Vec::new(),
            expect: Expect::default(),
            aim: Expect::default(),
        }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`], which names the key at fault.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let message = error.to_string().trim().replace('\n', " ");
            ScenarioError::Syntax { hint: nearest_key(error.message()), message }
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ScenarioError::Range`] for the first that is not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        within("viewers", f64::from(self.viewers), 1.0, f64::from(VIEWERS_MAX), "1 to 1000000")?;
        within("standbys", f64::from(self.standbys), 0.0, 16.0, "0 to 16")?;
        within("bitrate", self.bitrate as f64, 8e3, 1e9, "8000 to 1000000000 bit/s")?;
        within("resource_index", self.resource_index, 0.0, 1e3, "0 to 1000")?;
        within("source_copies", self.source_copies, 0.01, 1e6, "0.01 to 1000000")?;
        within("delay_ms", self.delay_ms as f64, 100.0, 600e3, "100 to 600000")?;
        within("key_frame_ms", self.key_frame_ms as f64, 20.0, 60e3, "20 to 60000")?;
        within(
            "piece_length",
            f64::from(self.piece_length),
            16384.0,
            1048576.0,
            "16 KiB to 1 MiB",
        )?;
        within("window_s", f64::from(self.window_s), 1.0, 3600.0, "1 to 3600")?;
        within("liars_claim", self.liars_claim, 0.0, 255.0, "0 to 255")?;
        within("clock_skew_s", self.clock_skew_s, 0.0, 1e6, "0 to 1000000")?;
        for (key, seconds) in [
            ("lead_s", self.lead_s),
            ("join_s", self.join_s),
            ("duration_s", self.duration_s),
            ("warm_up_s", self.warm_up_s),
        ] {
            within(key, seconds, 0.0, DURATION_S_MAX, "0 to 604800")?;
        }
        for (key, share) in self.misbehaving() {
            within(key, share, 0.0, 1.0, "0 to 1")?;
        }
        let sum: f64 = self.misbehaving().iter().map(|(_, share)| share).sum();
        let keys = self.misbehaving().map(|(key, _)| key).join(" + ");
        // Tenths do not add up exactly.
        within(&keys, sum, 0.0, 1.0 + 1e-9, "0 to 1")?;
        self.check_network()?;
        self.check_classes()?;
        self.event.iter().enumerate().try_for_each(|(n, event)| event.check(n))
    }

    /// Shares of the viewers that misbehave, each by its key.
    pub(super) fn misbehaving(&self) -> [(&'static str, f64); 10] {
        [
            ("polluters", self.polluters),
            ("stallers", self.stallers),
            ("liars", self.liars),
            ("boasters", self.boasters),
            ("window_liars", self.window_liars),
            ("withholders", self.withholders),
            ("flooders", self.flooders),
            ("replayers", self.replayers),
            ("drips", self.drips),
            ("reflectors", self.reflectors),
        ]
    }

    fn check_network(&self) -> Result<(), ScenarioError> {
        let network = &self.network;
        within("network.cut", network.cut, 0.0, 1.0, "0 to 1")?;
        within("network.unreachable", network.unreachable, 0.0, 1.0, "0 to 1")?;
        within("network.hop_min_ms", network.hop_min_ms, 0.0, 10e3, "0 to 10000")?;
        within(
            "network.hop_max_ms",
            network.hop_max_ms,
            network.hop_min_ms,
            10e3,
            "hop_min_ms to 10000",
        )?;
        within("network.jitter_ms", network.jitter_ms, 0.0, 10e3, "0 to 10000")?;
        within(
            "network.download_times",
            network.download_times.unwrap_or(1.0),
            0.1,
            1e6,
            "0.1 to 1000000",
        )?;
        within("tracker.numwant", f64::from(self.tracker.numwant), 1.0, 200.0, "1 to 200")?;
        within("tracker.interval_s", self.tracker.interval_s, 1.0, 86_400.0, "1 to 86400")?;
        within("tracker.min_interval_s", self.tracker.min_interval_s, 1.0, 86_400.0, "1 to 86400")?;
        if let Some(churn) = &self.churn {
            within("churn.session_mean_s", churn.session_mean_s, 0.1, 1e6, "0.1 to 1000000")?;
            within("churn.vanish", churn.vanish, 0.0, 1.0, "0 to 1")?;
        }
        Ok(())
    }

    fn check_classes(&self) -> Result<(), ScenarioError> {
        for class in &self.classes {
            within("classes.share", class.share, 0.0, 1.0, "0 to 1")?;
            within("classes.times", class.times, 0.0, 1e3, "0 to 1000")?;
        }
        let sum: f64 = self.classes.iter().map(|class| class.share).sum();
        if self.classes.is_empty() {
            return Ok(());
        }
        within("sum of classes.share", sum, 0.999, 1.001, "1")
    }

    /// The classes of viewers, fewest uploads first as given.
    #[must_use]
    pub fn upload_classes(&self) -> Vec<Class> {
        if !self.classes.is_empty() {
            return self.classes.clone();
        }
        let scale = self.resource_index / MIXED_MEAN;
        match self.uploads {
            Uploads::Equal => vec![Class { share: 1.0, times: self.resource_index }],
            Uploads::Mixed => [(0.2, 0.0), (0.3, 0.5), (0.3, 1.5), (0.2, 3.5)]
                .map(|(share, times)| Class { share, times: times * scale })
                .to_vec(),
        }
    }

    /// Mean upload of the viewers in multiples of the bit rate.
    #[must_use]
    pub fn mean_upload(&self) -> f64 {
        self.upload_classes().iter().map(|class| class.share * class.times).sum()
    }
}

impl Happening {
    fn check(&self, n: usize) -> Result<(), ScenarioError> {
        let key = |name: &str| format!("event {}: {name}", n + 1);
        within(&key("at_s"), self.at_s, 0.0, DURATION_S_MAX, "0 to 604800")?;
        within(&key("for_s"), self.for_s, 0.0, DURATION_S_MAX, "0 to 604800")?;
        within(&key("caught_up_s"), self.caught_up_s, 0.0, DURATION_S_MAX, "0 to 604800")?;
        within(&key("watch_s"), self.watch_s, 0.0, DURATION_S_MAX, "0 to 604800")?;
        within(&key("vanish"), self.vanish, 0.0, 1.0, "0 to 1")?;
        within(&key("share"), self.share, 0.0, 1.0, "0 to 1")?;
        within(&key("count"), f64::from(self.count), 0.0, f64::from(VIEWERS_MAX), "0 to 1000000")?;
        within(&key("by_s"), self.by_s.abs(), 0.0, 1e6, "-1000000 to 1000000")
    }
}

/// Whether `value` is from `min` to `max`; not a number is in no range.
fn within(
    key: &str,
    value: f64,
    min: f64,
    max: f64,
    range: &'static str,
) -> Result<(), ScenarioError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ScenarioError::Range { key: key.to_owned(), value: value.to_string(), range })
}

/// The known key that is nearest to the unknown one, both taken from what the parser says:
/// "unknown field `a`, expected one of `b`, `c`".
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().filter(|_| message.starts_with("unknown"))?;
    quoted.min_by_key(|known| distance(unknown, known)).map(str::to_owned)
}

fn did_you_mean(hint: Option<&str>) -> String {
    hint.map(|known| format!("; did you mean \"{known}\"?")).unwrap_or_default()
}

/// Letters to insert, delete or replace to come from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_from_a_file() {
        let text = r#"
            name = "crowd"
            viewers = 100
            bitrate = 2_000_000
            uploads = "mixed"
            [network]
            unreachable = 0.6
            [[event]]
            at_s = 20
            kind = "join"
            count = 1000
            for_s = 10
            [expect]
            continuity = 0.999
            [expect.newcomers]
            startup_p50_ms = 1_500
            [aim]
            p99_ratio = 1.5
        "#;
        let scenario = Scenario::parse(text).expect("valid");
        assert_eq!(scenario.event[0].kind, Kind::Join);
        assert_eq!(scenario.network.hop_max_ms, 75.0);
        assert!((scenario.mean_upload() - 1.3).abs() < 1e-9);
        assert_eq!(scenario.expect.newcomers.startup_p50_ms, Some(1_500.0));
        assert_eq!(scenario.aim.p99_ratio, Some(1.5));
        let written = toml::to_string(&scenario).expect("it can be written");
        assert_eq!(Scenario::parse(&written), Ok(scenario));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        for (text, hint) in [
            ("viewer = 3", "viewers"),
            ("[network]\njiter_ms = 3", "jitter_ms"),
            ("[[event]]\nat_s = 1\nkind = \"partitoin\"", "partition"),
        ] {
            let error = Scenario::parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("did you mean \"{hint}\"")), "{error}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_with_their_numbers() {
        for (text, words) in [
            ("viewers = 0", "viewers is 0"),
            ("bitrate = 7", "bitrate is 7"),
            ("warm_up_s = nan", "warm_up_s is NaN"),
            ("[network]\nhop_min_ms = 80", "network.hop_max_ms is 75"),
            ("flooders = 1.5", "flooders is 1.5"),
            ("boasters = -0.1", "boasters is -0.1"),
            ("drips = 0.5\nwithholders = 0.75", "drips + reflectors is 1.25"),
            ("classes = [{ share = 0.5, times = 1 }]", "sum of classes.share is 0.5"),
            ("[[event]]\nat_s = -1\nkind = \"join\"", "event 1: at_s is -1"),
        ] {
            let error = Scenario::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
