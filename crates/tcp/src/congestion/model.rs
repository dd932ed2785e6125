//! A controller that models the way: how fast it delivers, and how long it is, after the ideas of
//! BBR (Cardwell, Cheng, Yeganeh, Jacobson: BBR congestion control, ACM Queue 2016;
//! draft-ietf-ccwg-bbr).
//!
//! A loss alone says nothing to it, so it is for ways that lose by themselves. It keeps twice under
//! way what the way holds, sends at the rate that was delivered, and tries now and then whether there
//! is more (a quarter faster for a round trip, and slower by as much for the next) and whether the
//! way is shorter than it looks (four segments under way for a moment). When a round trip loses much
//! of what it sends, a queue overflows, and what is under way is bounded by what then arrived.

use std::time::Duration;

use super::{Arrival, Controller, INITIAL_SEGMENTS};
use crate::time::Time;

/// Growth in each round trip at the beginning: 2 / ln 2, so that the rate doubles.
const STARTUP: f64 = 2.885;

/// Rounds for which a measured rate counts.
const RATE_ROUNDS: usize = 10;

/// The beginning is over when three rounds bring less than a quarter more.
const FULL_ROUNDS: u32 = 3;
const FULL_GROWTH: f64 = 1.25;

/// The paces of a cycle, each kept for a round trip.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];

/// What is under way, of what the way holds: acknowledgements may come late and together.
const AHEAD: f64 = 2.0;

/// A shortest round trip is believed for this long, and then looked for for this long.
const BELIEVED: Duration = Duration::from_secs(10);
const LOOKS: Duration = Duration::from_millis(200);

/// A round trip that loses more than this, of what it delivers, has overflowed a queue; what is
/// under way shrinks to this part (draft-ietf-ccwg-bbr, 2.7 and 2.8: 2 % and 0.7, here with room for
/// ways that lose 2 % by themselves).
const OVERFLOW: f64 = 0.05;
const BETA: f64 = 0.7;

/// The controller.
#[derive(Debug, Clone)]
pub struct Model {
    mss: usize,
    mode: Mode,
    /// The best rates of the last rounds, in bytes by second.
    rates: [f64; RATE_ROUNDS],
    rounds: usize,
    shortest: Option<(Duration, Time)>,
    /// Delivered and lost in this round.
    delivered: usize,
    lost: usize,
    /// What is under way at most, behind an overflow; grows back.
    bound: f64,
    /// Restarting from one segment, behind a timeout, until something arrives.
    restarting: bool,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// The rate doubles.
    Starting { best: f64, idle_rounds: u32 },
    /// What the beginning put into queues drains.
    Draining,
    /// A place of the [`CYCLE`], since then.
    Cruising { place: usize, since: Time },
    /// Nearly nothing is under way, until then, to see the way without queues.
    Looking { until: Option<Time> },
}

impl Model {
    /// A controller for segments of `mss` bytes.
    pub fn new(mss: usize) -> Self {
        Self {
            mss,
            mode: Mode::Starting { best: 0.0, idle_rounds: 0 },
            rates: [0.0; RATE_ROUNDS],
            rounds: 0,
            shortest: None,
            delivered: 0,
            lost: 0,
            bound: f64::INFINITY,
            restarting: false,
        }
    }

    fn best_rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// Bytes that the way holds.
    fn holds(&self) -> Option<f64> {
        let (shortest, _) = self.shortest?;
        let rate = self.best_rate();
        (rate > 0.0).then_some(rate * shortest.as_secs_f64())
    }

    fn note_rate(&mut self, arrival: &Arrival) {
        if arrival.round {
            self.rounds += 1;
            self.rates[self.rounds % RATE_ROUNDS] = 0.0;
        }
        let Some(rate) = arrival.rate else { return };
        let measured = rate.bytes_per_second as f64;
        // What the application limited tells only if it is more than was known.
        if !rate.limited || measured > self.best_rate() {
            let best = &mut self.rates[self.rounds % RATE_ROUNDS];
            *best = best.max(measured);
        }
    }

    fn note_round_trip(&mut self, arrival: &Arrival) {
        let Some(took) = arrival.rtt else { return };
        let stale = |at| arrival.now.since(at) > BELIEVED;
        let looking = matches!(self.mode, Mode::Looking { until: Some(_) });
        if self.shortest.is_none_or(|(shortest, at)| took <= shortest || (looking && stale(at))) {
            self.shortest = Some((took, arrival.now));
        }
    }

    /// The end of a round trip that lost more than a way does by itself.
    fn note_losses(&mut self, arrival: &Arrival) {
        self.delivered += arrival.delivered;
        self.lost += arrival.lost;
        if !arrival.round {
            return;
        }
        let few = 8 * self.mss;
        if self.lost as f64 > OVERFLOW * self.delivered as f64 && self.lost > few / 2 {
            let arrived = self.holds().unwrap_or(0.0).max(self.delivered as f64);
            self.bound = (self.bound.min(arrived * AHEAD) * BETA).max(few as f64);
            if matches!(self.mode, Mode::Starting { .. }) {
                self.mode = Mode::Draining;
            }
        } else {
            self.bound *= 1.0 + OVERFLOW;
        }
        (self.delivered, self.lost) = (0, 0);
    }

    fn step(&mut self, arrival: &Arrival) {
        let now = arrival.now;
        let shortest = self.shortest.map_or(Duration::ZERO, |(shortest, _)| shortest);
        self.mode = match self.mode {
            Mode::Starting { best, idle_rounds } if arrival.round => {
                let limited = arrival.rate.is_some_and(|rate| rate.limited);
                let rate = self.best_rate();
                match (rate >= best * FULL_GROWTH, limited) {
                    (true, _) => Mode::Starting { best: rate, idle_rounds: 0 },
                    (false, true) => self.mode,
                    (false, false) if idle_rounds + 1 >= FULL_ROUNDS => Mode::Draining,
                    (false, false) => Mode::Starting { best, idle_rounds: idle_rounds + 1 },
                }
            }
            Mode::Draining if self.holds().is_some_and(|it| arrival.flying as f64 <= it) => {
                Mode::Cruising { place: 2, since: now }
            }
            Mode::Cruising { place, since } if now.since(since) >= shortest => {
                Mode::Cruising { place: (place + 1) % CYCLE.len(), since: now }
            }
            Mode::Looking { until: None } if arrival.flying <= 4 * self.mss => {
                Mode::Looking { until: Some(now + LOOKS.max(shortest)) }
            }
            Mode::Looking { until: Some(until) } if now >= until => {
                self.shortest = self.shortest.map(|(shortest, _)| (shortest, now));
                Mode::Cruising { place: 2, since: now }
            }
            same @ (Mode::Starting { .. }
            | Mode::Draining
            | Mode::Cruising { .. }
            | Mode::Looking { .. }) => same,
        };
        let stale = self.shortest.is_some_and(|(_, at)| now.since(at) > BELIEVED);
        if stale && matches!(self.mode, Mode::Cruising { .. }) {
            self.mode = Mode::Looking { until: None };
        }
    }

    fn pace(&self) -> f64 {
        match self.mode {
            Mode::Starting { .. } => STARTUP,
            Mode::Draining => 1.0 / STARTUP,
            Mode::Cruising { place, .. } => CYCLE[place],
            Mode::Looking { .. } => 1.0,
        }
    }
}

impl Controller for Model {
    fn window(&self) -> usize {
        let least = 4 * self.mss;
        if self.restarting {
            return self.mss;
        }
        let ahead = match self.mode {
            Mode::Starting { .. } => STARTUP,
            Mode::Draining | Mode::Cruising { .. } => AHEAD,
            Mode::Looking { .. } => return least,
        };
        match self.holds() {
            // A little more than that, for acknowledgements that cover several segments.
            Some(holds) => ((holds * ahead) as usize + 3 * self.mss)
                .min(self.bound as usize)
                .max(if ahead > AHEAD { INITIAL_SEGMENTS * self.mss } else { least }),
            None => INITIAL_SEGMENTS * self.mss,
        }
    }

    fn rate(&self, smoothed: Option<Duration>) -> Option<u64> {
        let best = self.best_rate();
        let rate = if best > 0.0 {
            best
        } else {
            (INITIAL_SEGMENTS * self.mss) as f64 / smoothed?.as_secs_f64().max(1e-6)
        };
        Some((rate * self.pace()) as u64)
    }

    fn arrived(&mut self, arrival: &Arrival) {
        self.restarting &= arrival.delivered == 0;
        self.note_rate(arrival);
        self.note_round_trip(arrival);
        self.note_losses(arrival);
        self.step(arrival);
    }

    fn lost(&mut self, _outstanding: usize, _now: Time) -> Option<usize> {
        None
    }

    fn recovered(&mut self, _now: Time) {}

    fn timed_out(&mut self, _outstanding: usize, _now: Time) {
        self.restarting = true;
    }

    fn mistaken(&mut self) {
        self.restarting = false;
    }

    fn idle(&mut self, _timeouts: u32, _now: Time) {
        // The rate is what a pause does not change; it is paced from the first segment on.
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rate;
    use super::*;

    const MSS: usize = 1000;
    const RTT: Duration = Duration::from_millis(20);

    /// A round trip of a way with this rate and round trip.
    fn round(model: &mut Model, now: &mut Time, rate: u64, rtt: Duration, lost: usize) {
        *now = *now + rtt;
        let delivered = (rate as f64 * rtt.as_secs_f64()) as usize;
        for at in 0..4 {
            model.arrived(&Arrival {
                now: *now,
                delivered: delivered / 4,
                flying_before: 0,
                flying: delivered,
                lost: lost / 4,
                rtt: Some(rtt),
                shortest: Some(rtt),
                round: at == 0,
                window_limited: true,
                recovering: false,
                rate: Some(Rate { bytes_per_second: rate, limited: false }),
            });
        }
    }

    fn cruising() -> (Model, Time) {
        let (mut model, mut now) = (Model::new(MSS), Time::default());
        for rate in [1_000_000, 2_000_000, 4_000_000] {
            round(&mut model, &mut now, rate, RTT, 0);
        }
        assert!(matches!(model.mode, Mode::Starting { .. }));
        (0..6).for_each(|_| round(&mut model, &mut now, 5_000_000, RTT, 0));
        assert!(matches!(model.mode, Mode::Cruising { .. }), "{:?}", model.mode);
        (model, now)
    }

    #[test]
    fn it_finds_what_the_way_holds_and_keeps_twice_as_much_under_way() {
        let (model, _) = cruising();
        assert_eq!(model.window(), 2 * 100_000 + 3 * MSS);
    }

    #[test]
    fn a_few_losses_change_nothing_and_many_do() {
        let (mut model, mut now) = cruising();
        let window = model.window();
        (0..20).for_each(|_| round(&mut model, &mut now, 5_000_000, RTT, 2 * MSS));
        assert_eq!(model.window(), window);
        (0..2).for_each(|_| round(&mut model, &mut now, 5_000_000, RTT, 20 * MSS));
        assert!(model.window() < window * 3 / 4, "{}", model.window());
        (0..30).for_each(|_| round(&mut model, &mut now, 5_000_000, RTT, 0));
        assert_eq!(model.window(), window);
    }

    #[test]
    fn it_looks_whether_the_way_is_shorter_now_and_then() {
        let (mut model, mut now) = cruising();
        let began = now;
        while !matches!(model.mode, Mode::Looking { .. }) {
            round(&mut model, &mut now, 5_000_000, RTT * 2, 0);
            assert!(now.since(began) < BELIEVED * 2);
        }
        assert_eq!(model.window(), 4 * MSS);
        (0..60).for_each(|_| round(&mut model, &mut now, 50_000, RTT * 2, 0));
        assert!(matches!(model.mode, Mode::Cruising { .. }), "{:?}", model.mode);
        assert_eq!(model.shortest.map(|(rtt, _)| rtt), Some(RTT * 2));
    }

    #[test]
    fn behind_a_timeout_it_begins_with_one_segment() {
        let (mut model, mut now) = cruising();
        model.timed_out(0, now);
        assert_eq!(model.window(), MSS);
        round(&mut model, &mut now, 5_000_000, RTT, 0);
        assert!(model.window() > 100 * MSS);
    }
}
