//! One uplink of a node, shared by all its connections.
//!
//! Every connection offers the parcel at the head of its queue. In [`Order::Fair`] the rate is
//! divided evenly among the connections that have something to send, as TCP flows of one kind
//! come to share a bottleneck: generalised processor sharing, kept exact with a virtual clock that
//! runs at the rate over the number of busy connections, so that one event per parcel is enough.
//! Small parcels pass by, one behind the other, and what is shared stands still for as long.
//! In [`Order::Fifo`] parcels leave one after the other in the order in which they were handed
//! over, as through one socket buffer.

use std::collections::BTreeMap;

use crate::units::Time;

/// How connections share an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Evenly among the busy connections.
    #[default]
    Fair,
    /// First handed over, first sent.
    Fifo,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId(pub(super) u64);

/// Fraction bits of the virtual clock, whose unit is a byte.
const FRACTION: u32 = 16;
/// What "no limit" stands for, in bytes per second (100 Gbit/s).
const RATE_MAX: u64 = 12_500_000_000;

/// The place of an offered parcel in the uplink; kept by the connection to withdraw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place(u64);

/// An uplink and the parcels offered to it.
#[derive(Debug)]
pub(super) struct Uplink {
    /// Bytes per second.
    rate: u64,
    order: Order,
    /// Bytes (shifted by [`FRACTION`]) that every busy connection has been served since all were
    /// idle; in Fifo order the bytes that the uplink has served.
    served: u64,
    /// When `served` was brought up to date.
    served_at: Time,
    /// Offered parcels by the value of `served` (Fair) or the turn (Fifo) at which they are done,
    /// with their lengths.
    offers: BTreeMap<(Place, PipeId), u32>,
    /// Until when small parcels that pass by take up the line.
    passing_until: Time,
    /// Microseconds for which what is offered has yet to stand still, since small parcels pass.
    owed_us: u64,
    /// Fifo: the offer being served, and when it is done in terms of `served`.
    serving: Option<(u64, (Place, PipeId))>,
}

impl Uplink {
    /// An uplink of so many bytes per second (no limit if `None`).
    pub(super) fn new(rate: Option<u64>, order: Order) -> Self {
        Self {
            rate: rate.unwrap_or(RATE_MAX).clamp(1, RATE_MAX),
            order,
            served: 0,
            served_at: Time::ZERO,
            offers: BTreeMap::new(),
            passing_until: Time::ZERO,
            owed_us: 0,
            serving: None,
        }
    }

    /// Offers the parcel at the head of `pipe`; `turn` numbers the parcels of this uplink in the
    /// order in which they were handed over.
    pub(super) fn offer(&mut self, now: Time, pipe: PipeId, len: u32, turn: u64) -> Place {
        self.serve(now);
        let place = match self.order {
            Order::Fair => Place(self.served + (u64::from(len) << FRACTION)),
            Order::Fifo => Place(turn),
        };
        self.offers.insert((place, pipe), len);
        place
    }

    /// Lets `len` bytes pass by what is offered; returns when they are out. Asked only in
    /// [`Order::Fair`], where a small parcel waits for hardly more than itself.
    pub(super) fn pass(&mut self, now: Time, len: u32) -> Time {
        self.serve(now);
        let us = (u64::from(len) * 1_000_000).div_ceil(self.rate);
        self.owed_us += us;
        self.passing_until = self.passing_until.max(now).after_us(us);
        self.passing_until
    }

    /// Takes back what `pipe` offered.
    pub(super) fn withdraw(&mut self, now: Time, pipe: PipeId, place: Place) {
        self.serve(now);
        self.offers.remove(&(place, pipe));
        if self.serving.is_some_and(|(_, offer)| offer == (place, pipe)) {
            self.serving = None;
        }
    }

    /// When the next parcel is out, if nothing changes before that. Asked for after every change.
    pub(super) fn next(&mut self) -> Option<Time> {
        let done = self.first_done()?.0;
        let share = self.share();
        let left = u128::from(done.saturating_sub(self.served));
        let us = (left * share * 1_000_000).div_ceil(u128::from(self.rate) << FRACTION);
        let us = u64::try_from(us).unwrap_or(u64::MAX).saturating_add(self.owed_us);
        Some(self.served_at.after_us(us))
    }

    /// A connection whose parcel has left by `now`; it is no longer offered.
    pub(super) fn finished(&mut self, now: Time) -> Option<PipeId> {
        self.serve(now);
        let (done, offer) = match self.order {
            Order::Fair => self.first_done()?,
            Order::Fifo => self.serving?,
        };
        if done > self.served {
            return None;
        }
        self.offers.remove(&offer);
        self.serving = None;
        Some(offer.1)
    }

    /// The offer that is done first, and when in terms of `served`.
    fn first_done(&mut self) -> Option<(u64, (Place, PipeId))> {
        let (&offer, &len) = self.offers.first_key_value()?;
        match self.order {
            Order::Fair => Some((offer.0.0, offer)),
            Order::Fifo => {
                let done = self.served + (u64::from(len) << FRACTION);
                Some(*self.serving.get_or_insert((done, offer)))
            }
        }
    }

    /// Among how many connections the rate is divided.
    fn share(&self) -> u128 {
        match self.order {
            Order::Fair => self.offers.len() as u128,
            Order::Fifo => 1,
        }
    }

    /// Runs the virtual clock up to `now`.
    fn serve(&mut self, now: Time) {
        let passed_us = now.since_us(self.served_at);
        let stood_us = passed_us.min(self.owed_us);
        self.owed_us -= stood_us;
        if self.offers.is_empty() {
            self.served = 0;
        } else {
            let us = u128::from(passed_us - stood_us);
            let bytes = ((us * u128::from(self.rate)) << FRACTION) / (self.share() * 1_000_000);
            self.served = self.served.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        self.served_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers `(at_us, pipe, len)` to an uplink of 1 byte per microsecond; returns who left when.
    fn run(order: Order, offers: &[(u64, u64, u32)]) -> Vec<(u64, u64)> {
        let mut uplink = Uplink::new(Some(1_000_000), order);
        let mut out = Vec::new();
        let mut waiting = offers.iter().enumerate().peekable();
        loop {
            let offer_at = waiting.peek().map_or(Time::NEVER, |(_, offer)| Time(offer.0));
            let done_at = uplink.next().unwrap_or(Time::NEVER);
            if offer_at.min(done_at) == Time::NEVER {
                return out;
            }
            if offer_at <= done_at {
                if let Some((turn, &(at, pipe, len))) = waiting.next() {
                    uplink.offer(Time(at), PipeId(pipe), len, turn as u64);
                }
            } else {
                while let Some(pipe) = uplink.finished(done_at) {
                    out.push((pipe.0, done_at.0));
                }
            }
        }
    }

    #[test]
    fn fair_connections_share_the_rate_evenly() {
        // The second joins when half of the first is out; both then run at half the rate.
        assert_eq!(run(Order::Fair, &[(0, 1, 1000), (500, 2, 1000)]), [(1, 1500), (2, 2000)]);
    }

    #[test]
    fn a_small_parcel_passes_a_large_one_of_another_connection() {
        let order = run(Order::Fair, &[(0, 1, 16_384), (100, 2, 50)]);
        assert_eq!(order, [(2, 200), (1, 16_434)]);
    }

    #[test]
    fn fifo_sends_one_parcel_after_the_other() {
        assert_eq!(run(Order::Fifo, &[(0, 2, 1000), (1, 1, 50)]), [(2, 1000), (1, 1050)]);
    }

    #[test]
    fn a_withdrawn_parcel_leaves_its_share_to_the_others() {
        for order in [Order::Fair, Order::Fifo] {
            let mut uplink = Uplink::new(Some(1_000_000), order);
            let place = uplink.offer(Time(0), PipeId(1), 1000, 0);
            uplink.offer(Time(0), PipeId(2), 1000, 1);
            uplink.withdraw(Time(0), PipeId(1), place);
            assert_eq!(uplink.next(), Some(Time(1000)), "{order:?}");
            assert_eq!(uplink.finished(Time(1000)), Some(PipeId(2)), "{order:?}");
            assert_eq!(uplink.next(), None);
        }
    }

    #[test]
    fn what_passes_by_takes_its_time_from_what_is_offered() {
        let mut uplink = Uplink::new(Some(1_000_000), Order::Fair);
        uplink.offer(Time(0), PipeId(1), 1000, 0);
        assert_eq!(uplink.pass(Time(100), 50), Time(150));
        assert_eq!(uplink.pass(Time(100), 50), Time(200));
        assert_eq!(uplink.next(), Some(Time(1100)));
        assert_eq!(uplink.finished(Time(1099)), None);
        assert_eq!(uplink.finished(Time(1100)), Some(PipeId(1)));
    }

    #[test]
    fn without_a_limit_everything_leaves_at_once() {
        let mut uplink = Uplink::new(None, Order::Fair);
        uplink.offer(Time(7), PipeId(1), 1000, 0);
        assert!(uplink.next().is_some_and(|at| at <= Time(8)));
    }
}
