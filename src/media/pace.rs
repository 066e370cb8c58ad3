//! When each part of a file is due, so that it is played at the speed it was made for.

use super::psi::Tables;
use super::ts::{Framer, Header, Packet, Pcr, Pid, Unit};

/// Ticks of the program clock in a microsecond.
const TICKS_PER_US: u64 = 27;
/// A clock that moves further between two of its packets has jumped.
const STEP_MAX: u64 = 5_000_000 * TICKS_PER_US;
/// Time that passes at a jump of the clock at most.
const JUMP_MAX: u64 = 100_000 * TICKS_PER_US;
/// Without the clock for longer than this, by the mean rate, it is taken to be lost.
const LOST_AFTER: u64 = 2_000_000 * TICKS_PER_US;

/// Says when the bytes of a file are due, by the program clock in them (ISO/IEC 13818-1, 2.4.2).
///
/// Between two packets with the clock the previous interval goes on. A clock that jumps or wraps
/// makes no pause; where there is none the bytes pass at a constant rate.
#[derive(Debug)]
pub struct Pacer {
    framer: Framer,
    clock: Clock,
}

impl Pacer {
    /// A pacer that falls back to `rate` bit/s where there is no clock.
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { framer: Framer::new(), clock: Clock::new(rate) }
    }

    /// Takes the next bytes of the file and says when the last of them is due, in microseconds
    /// since the first byte of the file. Never less than said before.
    pub fn push(&mut self, chunk: &[u8]) -> u64 {
        let Self { framer, clock } = self;
        clock.len += chunk.len() as u64;
        framer.push(chunk, |unit| {
            if let Unit::Packet { at, packet } = unit {
                clock.packet(at, packet);
            }
        });
        clock.due() / TICKS_PER_US
    }
}

/// The latest packet with the clock.
#[derive(Clone, Copy, Debug)]
struct Point {
    pid: Pid,
    pcr: Pcr,
    at: u64,
}

#[derive(Debug)]
struct Clock {
    tables: Tables,
    rate: u64,
    /// Bytes so far.
    len: u64,
    point: Option<Point>,
    /// Ticks since the start at `point`.
    passed: u64,
    /// The latest interval between two packets with the clock: ticks and bytes.
    interval: (u64, u64),
    /// Ticks that were already said.
    said: u64,
}

impl Clock {
    fn new(rate: u64) -> Self {
        let tables = Tables::new();
        Self { tables, rate, len: 0, point: None, passed: 0, interval: (0, 0), said: 0 }
    }

    fn packet(&mut self, at: u64, packet: &Packet) {
        let header = Header::read(packet);
        self.tables.packet(&header, packet);
        let Some(pcr) = header.pcr.filter(|_| !header.damaged) else { return };
        let next = Point { pid: header.pid, pcr, at };
        match self.point {
            Some(last) if last.pid == next.pid => {
                self.advance(last, next, header.discontinuity);
            }
            // The first clock seen is followed, until the one shows that the map names.
            Some(last) if self.tables.pcr_pid() == Some(next.pid) => self.jump(last, next),
            Some(_) => {}
            None => {
                self.passed = self.at_rate(at);
                self.point = Some(next);
            }
        }
    }

    fn advance(&mut self, last: Point, next: Point, is_jump: bool) {
        let step = next.pcr.since(last.pcr);
        if is_jump || step > STEP_MAX {
            self.jump(last, next);
            return;
        }
        self.passed += step;
        self.interval = (step, next.at - last.at);
        self.point = Some(next);
    }

    fn jump(&mut self, last: Point, next: Point) {
        self.passed += self.expected(next.at - last.at).min(JUMP_MAX);
        self.point = Some(next);
    }

    /// Ticks that `len` bytes take if the latest interval goes on.
    fn expected(&self, len: u64) -> u64 {
        let (ticks, bytes) = self.interval;
        scale(len, ticks, bytes).unwrap_or_else(|| self.at_rate(len).min(JUMP_MAX))
    }

    /// Ticks that `len` bytes take at the constant rate.
    fn at_rate(&self, len: u64) -> u64 {
        scale(len, 8 * 1_000_000 * TICKS_PER_US, self.rate).unwrap_or(0)
    }

    fn due(&mut self) -> u64 {
        let now = match self.point {
            None => self.at_rate(self.len),
            Some(point) => self.passed + self.since_point(point),
        };
        self.said = self.said.max(now);
        self.said
    }

    fn since_point(&self, point: Point) -> u64 {
        let len = self.len.saturating_sub(point.at);
        let mean = scale(len, self.passed, point.at).unwrap_or_else(|| self.at_rate(len));
        if mean > LOST_AFTER {
            return mean;
        }
        // A large picture behind a small one must not run ahead: the clock is due again when the
        // latest interval is over.
        self.expected(len).min(if self.interval.0 > 0 { self.interval.0 } else { JUMP_MAX })
    }
}

/// `len * ticks / bytes`.
fn scale(len: u64, ticks: u64, bytes: u64) -> Option<u64> {
    let wide = (u128::from(len) * u128::from(ticks)).checked_div(u128::from(bytes))?;
    Some(u64::try_from(wide).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample::{self, VIDEO, frame, null, packet};
    use super::super::ts::PACKET_LEN;
    use super::*;

    fn clock(ms: u64) -> Vec<u8> {
        let pcr = Some(Pcr((Pcr::WRAP + ms * 27_000) % Pcr::WRAP));
        [packet(VIDEO, false, 0, false, pcr, &[]), null(), null(), null()].concat()
    }

    fn dues(parts: &[Vec<u8>]) -> Vec<u64> {
        let mut pacer = Pacer::new(1_000_000);
        parts.iter().map(|part| pacer.push(part) / 1000).collect()
    }

    #[test]
    fn a_file_is_due_by_its_clock() {
        let parts: Vec<_> = (0..50).map(|n| frame(n, n == 0)).collect();
        let dues = dues(&parts);
        assert!(dues[2] >= 80 && dues[2] <= 120, "{dues:?}");
        assert!(dues[49] >= 1960 && dues[49] <= 2000, "{dues:?}");
    }

    #[test]
    fn a_jump_of_the_clock_makes_no_pause() {
        let times = [0, 40, 80, 3_600_000, 3_600_040, 500, 540];
        let dues = dues(&times.map(clock));
        assert!(*dues.last().expect("seven") <= 400, "{dues:?}");
    }

    #[test]
    fn a_wrap_of_the_clock_is_no_jump() {
        let parts: Vec<_> = (0..20)
            .map(|n| {
                let pcr = Pcr((Pcr::WRAP - 300 * 27_000 + n * 40 * 27_000) % Pcr::WRAP);
                packet(VIDEO, false, 0, false, Some(pcr), &[]).repeat(4)
            })
            .collect();
        let dues = dues(&parts);
        assert!((760..=800).contains(dues.last().expect("twenty")), "{dues:?}");
    }

    #[test]
    fn without_a_clock_the_rate_is_constant() {
        let parts = vec![vec![1; 12_500]; 10];
        assert_eq!(dues(&parts), (1..=10).map(|n| n * 100).collect::<Vec<_>>());
    }

    #[test]
    fn a_clock_that_vanishes_is_replaced_by_the_mean_rate() {
        let parts: Vec<_> = (0..50).map(|n| clock(n * 40)).collect();
        let len = parts.concat().len();
        let silent = null().repeat(2 * len / PACKET_LEN);
        let dues = dues(&[parts.concat(), silent]);
        assert!((5_500..=6_500).contains(&dues[1]), "{dues:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_due_before_what_came_before_it(
            input in sample::stream(), sizes in sample::sizes(), rate in 0u64..10_000_000,
        ) {
            let mut pacer = Pacer::new(rate);
            let mut last = 0;
            for chunk in sample::chunks(&input, &sizes) {
                let due = pacer.push(chunk);
                prop_assert!(due >= last);
                last = due;
            }
        }
    }
}
