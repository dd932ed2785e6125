//! Everything that can wake a tunneler, and how long each takes.

use std::{fmt, time::Duration};

/// A timer, by what it is for. At most one of each is armed; arming again replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// It is time to read the workspace again, in case the watch has gone deaf (T21).
    Resync,
    /// The pause before the watch is opened again is over.
    WatchBackoff,
    /// The pause before the workspace is asked to start again is over.
    StartBackoff,
    /// The pause before the agent is dialled again is over.
    DialBackoff,
    /// It is time to read the agent's record again.
    AgentPoll,
    /// A connected agent has had its time to say something of its scripts.
    ScriptsGrace,
    /// A step has had its time.
    Deadline(Step),
}

/// A step that can be given a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Learning the workspace's state.
    Learn,
    /// Builds: a stop to end, a start to be made.
    Build,
    /// The agent to connect.
    Agent,
    /// The start scripts to end.
    Scripts,
    /// The tunnel to come up.
    Dial,
    /// The application to work on it.
    Attach,
    /// Everything to be closed after the end was decided.
    Drain,
}

impl Step {
    /// What was waited for: "waiting for …".
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Learn => "the workspace's state",
            Self::Build => "the workspace to start",
            Self::Agent => "the agent to connect",
            Self::Scripts => "the start scripts to end",
            Self::Dial => "the tunnel to come up",
            Self::Attach => "the application to come up",
            Self::Drain => "everything to close",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

/// How long each step may take; `None` is for ever. All but `drain` hold until the application is
/// up for the first time: a forward that waits for its workspace to come back waits without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadlines {
    /// Learning the workspace's state.
    pub learn: Option<Duration>,
    /// Builds: a stop to end, a start to be made.
    pub build: Option<Duration>,
    /// The agent to connect.
    pub agent: Option<Duration>,
    /// The start scripts to end.
    pub scripts: Option<Duration>,
    /// The tunnel to come up, for each dial.
    pub dial: Option<Duration>,
    /// The application to work on it.
    pub attach: Option<Duration>,
    /// Everything to be closed after the end was decided; then [`crate::Action::Exit`] comes
    /// without the missing answers.
    pub drain: Option<Duration>,
}

impl Deadlines {
    /// How long this step may take.
    #[must_use]
    pub const fn of(&self, step: Step) -> Option<Duration> {
        match step {
            Step::Learn => self.learn,
            Step::Build => self.build,
            Step::Agent => self.agent,
            Step::Scripts => self.scripts,
            Step::Dial => self.dial,
            Step::Attach => self.attach,
            Step::Drain => self.drain,
        }
    }
}

/// A pause that doubles with each failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// Never longer than this.
    pub max: Duration,
}

impl Backoff {
    /// The pause after this many failures in a row (1 is the first).
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}
