//! What a tunneler is told at its birth.

use std::time::Duration;

use crate::{Backoff, Deadlines};

/// What a loss means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Go back and wait for the next build or agent; the application stays, detached (forwards).
    Follow,
    /// Drain and exit with the reason (sessions).
    Once,
    /// Upstream's table as it is, gaps included; for tests.
    Compatibility,
}

/// Whether start scripts are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Always.
    Yes,
    /// Never: dial as soon as there is an agent.
    No,
    /// If any script of the agent has `start_blocks_login`.
    Auto,
}

/// What a tunneler is told at its birth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What a loss means.
    pub policy: Policy,
    /// Whether a workspace that is found stopped may be started.
    pub autostart: bool,
    /// Whether a workspace that somebody stops after it was up, or after our start, may be started
    /// again (`Follow` only; without it the tunneler waits for somebody to start it).
    pub restart: bool,
    /// Whether start scripts are waited for.
    pub wait: Wait,
    /// Whether a failed start script ends the tunneler instead of being a warning.
    pub fail_on_script_error: bool,
    /// How long a connected agent that must be waited for may stay `created` (or say a word that
    /// is not known) before it is dialled anyway. An agent reports `starting` within about a
    /// second of connecting; one that never does has outlived a stop and start of its workspace.
    pub scripts_grace: Duration,
    /// How often everything is read again (T21).
    pub resync: Duration,
    /// Pauses between tries of the watch, the start and the dial.
    pub backoff: Backoff,
    /// How many tries in a row of the watch, the start and the dial may fail before the
    /// application was up for the first time. Afterwards there is no limit.
    pub attempts: u32,
    /// How long each step may take.
    pub deadlines: Deadlines,
}

impl Config {
    /// The defaults for a policy.
    ///
    /// Autostart on, no restart, `Wait::Auto`. Resynchronisation once a minute, as often as the Go
    /// client looks at a workspace that it is connected to. Back-off from 1 s to 15 s, as the Go client's event
    /// stream; ten tries, as its first requests. Twenty seconds of grace: twenty times what an agent
    /// needs, and still within a person's patience. Ten seconds to drain: several times the
    /// second that the goodbye to the coordinator may take, and what service managers grant at least.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            autostart: true,
            restart: false,
            wait: Wait::Auto,
            fail_on_script_error: false,
            scripts_grace: Duration::from_secs(20),
            resync: Duration::from_secs(60),
            backoff: Backoff { first: Duration::from_secs(1), max: Duration::from_secs(15) },
            attempts: 10,
            deadlines: Deadlines { drain: Some(Duration::from_secs(10)), ..Deadlines::default() },
        }
    }
}
