//! Deadlines that hold across the tunneler's steps, as pure bookkeeping: times come in as arguments.

use std::time::Duration;

use coderctl_tunneler::Step;
use tokio::time::Instant;

use crate::{
    error::{CommandError, Kind},
    ui::Ui,
};

/// How long things may take; `None` is for ever, or as long as the steps' own limits allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Everything up to readiness.
    pub total: Option<Duration>,
    /// A build: one that stops the workspace to end, one that starts it to be made.
    pub start: Option<Duration>,
    /// The agent to connect.
    pub agent: Option<Duration>,
    /// The tunnel to come up, each time until readiness.
    pub connect: Option<Duration>,
    /// Everything to be back after it was lost.
    pub reconnect: Option<Duration>,
    /// Nothing being open.
    pub idle: Option<Duration>,
}

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// It was not ready in time.
    Total(Duration),
    /// It was not back in time.
    Reconnect(Duration),
    /// Nothing was open for this long.
    Idle(Duration),
}

/// What the limits depend on.
#[derive(Debug)]
pub(super) struct Clock {
    limits: Limits,
    begun: Instant,
    ready: bool,
    lost: Option<Instant>,
    open: usize,
    idle_since: Instant,
}

impl Clock {
    pub(super) fn begin(limits: Limits, now: Instant) -> Self {
        Self { limits, begun: now, ready: false, lost: None, open: 0, idle_since: now }
    }

    /// The app works on a tunnel.
    pub(super) fn up(&mut self, now: Instant) {
        self.lost = None;
        if !std::mem::replace(&mut self.ready, true) {
            self.idle_since = now;
        }
    }

    /// The app was taken off its tunnel.
    pub(super) fn down(&mut self, now: Instant) {
        if self.ready {
            self.lost.get_or_insert(now);
        }
    }

    /// This many sessions or connections are open.
    pub(super) fn open(&mut self, open: usize, now: Instant) {
        if self.open > 0 && open == 0 {
            self.idle_since = now;
        }
        self.open = open;
    }

    /// What runs out next, and when. While the tunnel is lost nothing is idle: it is waited for.
    pub(super) fn next(&self) -> Option<(Instant, Over)> {
        let due = |since: Instant, limit: Option<Duration>, over: fn(Duration) -> Over| {
            limit.map(|limit| (since + limit, over(limit)))
        };
        match (self.ready, self.lost) {
            (false, _) => due(self.begun, self.limits.total, Over::Total),
            (true, Some(lost)) => due(lost, self.limits.reconnect, Over::Reconnect),
            (true, None) if self.open == 0 => due(self.idle_since, self.limits.idle, Over::Idle),
            (true, None) => None,
        }
    }
}

/// What was being waited for, and for how long already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waited {
    pub(super) step: Step,
    pub(super) time: Duration,
}

impl Over {
    /// How the program ends.
    ///
    /// # Errors
    /// [`Kind::Timeout`] for all but idleness, which is an end that was wanted.
    pub(super) fn conclude(
        self,
        workspace: &str,
        waited: Waited,
        ui: &Ui,
    ) -> Result<u8, CommandError> {
        let (what, limit) = match self {
            Self::Total(limit) => ("not ready", limit),
            Self::Reconnect(limit) => ("not back", limit),
            Self::Idle(limit) => {
                let after = limit.as_secs_f32();
                ui.line(format_args!("Nothing was open for {after} s, ending"));
                return Ok(0);
            }
        };
        let Waited { step, time } = waited;
        let (after, time) = (limit.as_secs_f32(), time.as_secs_f32());
        let said = format!(
            "workspace {workspace}: {what} after {after} s, waiting for {step} for the last \
             {time:.1} s"
        );
        Err(CommandError::msg(Kind::Timeout, said)
            .hint("try again, and look at the workspace in the dashboard meanwhile"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui;

    const SECOND: Duration = Duration::from_secs(1);

    fn clock() -> (Clock, Instant) {
        let limits = Limits {
            total: Some(10 * SECOND),
            reconnect: Some(5 * SECOND),
            idle: Some(60 * SECOND),
            ..Limits::default()
        };
        let now = Instant::now();
        (Clock::begin(limits, now), now)
    }

    #[test]
    fn one_limit_after_the_other_holds() {
        let (mut clock, now) = clock();
        let at = |seconds: u32| now + seconds * SECOND;
        clock.down(at(1));
        assert_eq!(clock.next(), Some((at(10), Over::Total(10 * SECOND))), "not ready yet");
        clock.up(at(2));
        assert_eq!(clock.next(), Some((at(62), Over::Idle(60 * SECOND))));
        clock.open(1, at(3));
        assert_eq!(clock.next(), None);
        clock.down(at(4));
        clock.down(at(6));
        assert_eq!(
            clock.next(),
            Some((at(9), Over::Reconnect(5 * SECOND))),
            "since the first loss"
        );
        clock.open(0, at(7));
        clock.up(at(8));
        assert_eq!(clock.next(), Some((at(67), Over::Idle(60 * SECOND))));
        // Ready once, it is ready for good.
        clock.up(at(50));
        assert_eq!(clock.next(), Some((at(67), Over::Idle(60 * SECOND))));
    }

    #[test]
    fn without_limits_nothing_runs_out() {
        let now = Instant::now();
        let mut clock = Clock::begin(Limits::default(), now);
        assert_eq!(clock.next(), None);
        clock.up(now);
        assert_eq!(clock.next(), None);
        clock.down(now);
        assert_eq!(clock.next(), None);
    }

    #[test]
    fn what_ran_out_is_named_with_its_step() {
        let (ui, said) = Ui::captured(ui::Options::default());
        let conclude = |over: Over, step, time| {
            over.conclude("`dev`", Waited { step, time }, &ui)
                .map_err(|error| (error.kind.code(), error.to_string()))
        };
        for (over, step, time, expected) in [
            (
                Over::Total(10 * SECOND),
                Step::Agent,
                Duration::from_millis(8250),
                "workspace `dev`: not ready after 10 s, waiting for the agent to connect for the \
                 last 8.2 s",
            ),
            (
                Over::Reconnect(SECOND / 2),
                Step::Dial,
                SECOND / 2,
                "workspace `dev`: not back after 0.5 s, waiting for the tunnel to come up for the \
                 last 0.5 s",
            ),
        ] {
            assert_eq!(conclude(over, step, time), Err((207, expected.to_owned())));
        }
        assert_eq!(conclude(Over::Idle(60 * SECOND), Step::Attach, SECOND), Ok(0));
        assert_eq!(said.stderr(), "Nothing was open for 60 s, ending\n");
    }
}
