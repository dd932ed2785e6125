//! Leaving slow start before the queue overflows: HyStart++ (RFC 9406).
//!
//! When round trips become longer, a queue fills. Then growth goes on at a quarter of its pace for
//! five rounds; if the round trips become shorter again it was no queue.

use std::time::Duration;

/// RFC 9406, 4.3.
const LEAST_RISE: Duration = Duration::from_millis(4);
const MOST_RISE: Duration = Duration::from_millis(16);
const DIVISOR: u32 = 8;
const SAMPLES: u32 = 8;
const GROWTH_DIVISOR: usize = 4;
const ROUNDS: u32 = 5;

/// How slow start proceeds.
#[derive(Debug, Clone, Copy)]
pub(super) struct HyStart {
    last_round: Option<Duration>,
    this_round: Option<Duration>,
    samples: u32,
    pace: Pace,
}

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// The window grows by what arrives.
    Full,
    /// Conservative slow start: round trips became longer than this.
    Conservative { baseline: Duration, rounds: u32 },
}

/// What an acknowledgement means for slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// Grow by so many bytes.
    By(usize),
    /// Slow start is over.
    Over,
}

impl HyStart {
    pub(super) const fn new() -> Self {
        Self { last_round: None, this_round: None, samples: 0, pace: Pace::Full }
    }

    /// Bytes arrived.
    pub(super) fn arrived(&mut self, bytes: usize, rtt: Option<Duration>, round: bool) -> Growth {
        if round {
            self.last_round = self.this_round.take();
            self.samples = 0;
            if let Pace::Conservative { rounds, .. } = &mut self.pace {
                *rounds += 1;
                if *rounds >= ROUNDS {
                    return Growth::Over;
                }
            }
        }
        if let Some(rtt) = rtt {
            self.this_round = Some(self.this_round.map_or(rtt, |shortest| shortest.min(rtt)));
            self.samples += 1;
        }
        if let Some(this) = self.this_round.filter(|_| self.samples >= SAMPLES) {
            self.judge(this);
        }
        match self.pace {
            Pace::Full => Growth::By(bytes),
            Pace::Conservative { .. } => Growth::By(bytes / GROWTH_DIVISOR),
        }
    }

    fn judge(&mut self, this: Duration) {
        match self.pace {
            Pace::Full => {
                let Some(last) = self.last_round else { return };
                let rise = (last / DIVISOR).clamp(LEAST_RISE, MOST_RISE);
                if this >= last + rise {
                    self.pace = Pace::Conservative { baseline: this, rounds: 0 };
                }
            }
            Pace::Conservative { baseline, .. } if this < baseline => self.pace = Pace::Full,
            Pace::Conservative { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(hystart: &mut HyStart, rtt: u64) -> Vec<Growth> {
        let rtt = Some(Duration::from_millis(rtt));
        (0..10).map(|at| hystart.arrived(1000, rtt, at == 0)).collect()
    }

    #[test]
    fn longer_round_trips_slow_the_growth_and_then_end_it() {
        let mut hystart = HyStart::new();
        assert_eq!(round(&mut hystart, 20), [Growth::By(1000); 10]);
        assert_eq!(round(&mut hystart, 23), [Growth::By(1000); 10]);
        let slower = round(&mut hystart, 28);
        assert_eq!(slower[6], Growth::By(1000), "seven samples do not count");
        assert_eq!(slower[7], Growth::By(250));
        for _ in 1..ROUNDS {
            assert_eq!(round(&mut hystart, 30)[0], Growth::By(250));
        }
        assert_eq!(round(&mut hystart, 30)[0], Growth::Over);
    }

    #[test]
    fn a_rise_that_passes_was_no_queue() {
        let mut hystart = HyStart::new();
        for (rtt, last) in [(20, 1000), (30, 250), (22, 1000), (22, 1000)] {
            assert_eq!(round(&mut hystart, rtt)[9], Growth::By(last), "{rtt}");
        }
    }
}
