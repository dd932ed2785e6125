//! CUBIC (RFC 9438), with HyStart++ (RFC 9406) in the first slow start.

use std::time::Duration;

use super::hystart::{Growth, HyStart};
use super::{Arrival, Controller, INITIAL_SEGMENTS};
use crate::time::Time;

/// RFC 9438, 4.6: what is left of the window after a loss.
const BETA: f64 = 0.7;

/// RFC 9438, 5: segments by second cubed.
const C: f64 = 0.4;

/// RFC 9438, 4.3: growth of a window that is as fair as Reno's.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// How much faster than window by round trip segments leave, so that the window is what limits
/// (Linux: `tcp_pacing_ss_ratio`, `tcp_pacing_ca_ratio`).
const PACE_SLOW_START: f64 = 2.0;
const PACE_AVOIDANCE: f64 = 1.2;

/// The controller.
#[derive(Debug, Clone)]
pub struct Cubic {
    mss: f64,
    /// The window, in bytes.
    window: f64,
    /// Slow start ends here.
    threshold: f64,
    phase: Phase,
    /// The window at the last loss, where the way was full.
    full: f64,
    /// What there was before the last loss, in case it was none.
    before: Option<Box<Self>>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Before the first loss.
    Starting(HyStart),
    /// Behind a timeout: up to the threshold.
    Restarting,
    /// A loss is behind us, growth along the curve begins with the next arrival.
    Settling,
    Curve(Curve),
}

/// Growth since a loss, in bytes and seconds.
#[derive(Debug, Clone, Copy)]
struct Curve {
    began: Time,
    /// When the window is what it was before the loss (K).
    plateau: f64,
    /// The window of a Reno sender (W_est).
    reno: f64,
    /// The last arrival at which the window was what limited.
    used: Time,
}

impl Cubic {
    /// A controller for segments of `mss` bytes.
    pub fn new(mss: usize) -> Self {
        let mss = mss as f64;
        Self {
            mss,
            window: mss * INITIAL_SEGMENTS as f64,
            threshold: f64::INFINITY,
            phase: Phase::Starting(HyStart::new()),
            full: 0.0,
            before: None,
        }
    }

    fn slow_start(&self) -> bool {
        matches!(self.phase, Phase::Starting(_) | Phase::Restarting)
    }

    /// RFC 9438, 4.2 to 4.4.
    fn follow(&mut self, mut curve: Curve, arrival: &Arrival) {
        // Time in which the window was not used does not count (RFC 9438, 5.8).
        let pause = arrival.now.since(curve.used);
        if !arrival.window_limited {
            self.phase = Phase::Curve(curve);
            return;
        }
        let round_trip = arrival.rtt.or(arrival.shortest).unwrap_or_default();
        if pause > round_trip * 4 {
            curve.began = curve.began + pause;
        }
        curve.used = arrival.now;
        let delivered = arrival.delivered as f64;
        let at = |time: f64| C * self.mss * (time - curve.plateau).powi(3) + self.full;
        let time = arrival.now.since(curve.began).as_secs_f64();
        let alpha = if curve.reno < self.full { ALPHA } else { 1.0 };
        curve.reno += alpha * self.mss * delivered / self.window;
        self.window = if at(time) < curve.reno {
            self.window.max(curve.reno)
        } else {
            let ahead = at(time + round_trip.as_secs_f64());
            let target = ahead.clamp(self.window, self.window * 1.5);
            self.window + (target - self.window) * delivered / self.window
        };
        self.phase = Phase::Curve(curve);
    }

    fn curve(&self, now: Time) -> Curve {
        let plateau = ((self.full - self.window).max(0.0) / self.mss / C).cbrt();
        Curve { began: now, plateau, reno: self.window, used: now }
    }

    /// RFC 9438, 4.6 and 4.7.
    fn reduce(&mut self, outstanding: usize) {
        self.before = None;
        self.before = Some(Box::new(self.clone()));
        let window = self.window.min(outstanding as f64).max(2.0 * self.mss);
        self.full = if window < self.full { window * (1.0 + BETA) / 2.0 } else { window };
        self.threshold = (window * BETA).max(2.0 * self.mss);
    }
}

impl Controller for Cubic {
    fn window(&self) -> usize {
        self.window as usize
    }

    fn rate(&self, smoothed: Option<Duration>) -> Option<u64> {
        let smoothed = smoothed?.as_secs_f64().max(1e-6);
        let ahead = if self.slow_start() { PACE_SLOW_START } else { PACE_AVOIDANCE };
        Some((ahead * self.window / smoothed) as u64)
    }

    fn arrived(&mut self, arrival: &Arrival) {
        if arrival.recovering {
            return;
        }
        match self.phase {
            Phase::Starting(mut hystart) => {
                let growth = hystart.arrived(arrival.delivered, arrival.rtt, arrival.round);
                self.phase = Phase::Starting(hystart);
                match growth {
                    Growth::By(bytes) if arrival.window_limited => self.window += bytes as f64,
                    Growth::By(_) => {}
                    Growth::Over => {
                        self.threshold = self.window;
                        self.full = self.window;
                        self.phase = Phase::Settling;
                    }
                }
            }
            Phase::Restarting => {
                if arrival.window_limited {
                    self.window += arrival.delivered as f64;
                }
                if self.window >= self.threshold {
                    self.phase = Phase::Settling;
                }
            }
            Phase::Settling => self.follow(self.curve(arrival.now), arrival),
            Phase::Curve(curve) => self.follow(curve, arrival),
        }
    }

    fn lost(&mut self, outstanding: usize, _now: Time) -> Option<usize> {
        self.reduce(outstanding);
        self.window = self.threshold;
        self.phase = Phase::Settling;
        Some(self.window as usize)
    }

    fn recovered(&mut self, _now: Time) {}

    fn timed_out(&mut self, outstanding: usize, _now: Time) {
        self.reduce(outstanding);
        // RFC 5681, 3.1: the loss window.
        self.window = self.mss;
        self.phase = Phase::Restarting;
    }

    fn mistaken(&mut self) {
        if let Some(before) = self.before.take() {
            *self = *before;
        }
    }

    fn idle(&mut self, timeouts: u32, _now: Time) {
        // The window halves with each timeout's time, but not below what a new connection has
        // (RFC 2861, 3.1; RFC 7661, 4.4 reduces in the same manner).
        let initial = self.mss * INITIAL_SEGMENTS as f64;
        if self.window > initial {
            self.threshold = self.threshold.max(self.window * 0.75);
            self.window = (self.window / f64::from(1 << timeouts.min(16))).max(initial);
            if !self.slow_start() {
                self.phase = Phase::Restarting;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;
    const RTT: Duration = Duration::from_millis(20);

    fn arrival(now: Time, delivered: usize, round: bool) -> Arrival {
        Arrival {
            now,
            delivered,
            flying_before: delivered,
            flying: 0,
            lost: 0,
            rtt: Some(RTT),
            shortest: Some(RTT),
            round,
            window_limited: true,
            recovering: false,
            rate: None,
        }
    }

    /// A round trip in which a whole window arrives.
    fn round(cubic: &mut Cubic, now: &mut Time) {
        *now = *now + RTT;
        for at in 0..cubic.window() / MSS {
            cubic.arrived(&arrival(*now, MSS, at == 0));
        }
    }

    #[test]
    fn slow_start_doubles_until_a_loss() {
        let (mut cubic, mut now) = (Cubic::new(MSS), Time::default());
        for expected in [20, 40, 80] {
            round(&mut cubic, &mut now);
            assert_eq!(cubic.window(), expected * MSS);
        }
        assert_eq!(cubic.lost(80 * MSS, now), Some(56 * MSS));
        assert_eq!(cubic.window(), 56 * MSS);
    }

    #[test]
    fn behind_a_loss_the_window_is_back_when_the_rfc_says() {
        let (mut cubic, mut now) = (Cubic::new(MSS), Time::default());
        cubic.window = 1000.0 * MSS as f64;
        cubic.lost(1000 * MSS, now);
        // K is the cube root of 300 / 0.4: 9.1 s. 1.4 s before, the last segment but one is there.
        // Reno, with 0.53 segments in each round trip, would take 11.3 s.
        let began = now;
        while cubic.window() < 999 * MSS {
            round(&mut cubic, &mut now);
        }
        let took = now.since(began).as_secs_f64();
        assert!((7.6..7.9).contains(&took), "{took}");
    }

    #[test]
    fn a_small_window_grows_as_renos() {
        let (mut cubic, mut now) = (Cubic::new(MSS), Time::default());
        cubic.window = 20.0 * MSS as f64;
        cubic.lost(20 * MSS, now);
        for _ in 0..10 {
            round(&mut cubic, &mut now);
        }
        let expected = 14.0 + 10.0 * ALPHA;
        let window = cubic.window / MSS as f64;
        assert!((window - expected).abs() < 0.5, "{window}");
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let mut cubic = Cubic::new(MSS);
        let unused = Arrival { window_limited: false, ..arrival(Time::default(), MSS, true) };
        cubic.arrived(&unused);
        cubic.arrived(&Arrival { recovering: true, ..arrival(Time::default(), MSS, true) });
        assert_eq!(cubic.window(), 10 * MSS);
    }

    #[test]
    fn a_second_loss_below_the_first_leaves_room_to_others() {
        let mut cubic = Cubic::new(MSS);
        cubic.window = 100.0 * MSS as f64;
        cubic.lost(100 * MSS, Time::default());
        cubic.lost(70 * MSS, Time::default());
        assert_eq!(cubic.full as usize, 59_500);
    }

    #[test]
    fn a_mistake_is_taken_back() {
        let mut cubic = Cubic::new(MSS);
        cubic.timed_out(10 * MSS, Time::default());
        assert_eq!(cubic.window(), MSS);
        cubic.mistaken();
        assert_eq!(cubic.window(), 10 * MSS);
        assert!(cubic.threshold.is_infinite());
    }

    #[test]
    fn a_pause_halves_the_window_down_to_the_initial_one() {
        let mut cubic = Cubic::new(MSS);
        cubic.window = 100.0 * MSS as f64;
        cubic.idle(1, Time::default());
        assert_eq!(cubic.window(), 50 * MSS);
        cubic.idle(10, Time::default());
        assert_eq!(cubic.window(), 10 * MSS);
    }
}
