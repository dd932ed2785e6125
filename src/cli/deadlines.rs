//! Flags for how long things may take.

use std::time::Duration;

use super::spelling;
use crate::tunnel::Limits;

/// Until the command works.
#[derive(clap::Args)]
#[command(next_help_heading = "Time limits")]
pub(super) struct Deadlines {
    /// For everything until it is ready
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    timeout: Option<Duration>,

    /// For the workspace to start
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    start_timeout: Option<Duration>,

    /// For the agent to connect; 10m unless given
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    agent_timeout: Option<Duration>,

    /// For the tunnel to come up
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    connect_timeout: Option<Duration>,
}

/// Afterwards, for commands that go on.
#[derive(clap::Args)]
#[command(next_help_heading = "Time limits")]
pub(super) struct Endurance {
    /// For everything to be back after it was lost; without, it waits for as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    reconnect_timeout: Option<Duration>,

    /// End when nothing was open for this long
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    idle_timeout: Option<Duration>,
}

impl Deadlines {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            total: self.timeout,
            start: self.start_timeout,
            agent: self.agent_timeout,
            connect: self.connect_timeout,
            ..Limits::default()
        }
    }
}

impl Endurance {
    /// These limits with ours.
    pub(super) fn add_to(&self, limits: Limits) -> Limits {
        Limits { reconnect: self.reconnect_timeout, idle: self.idle_timeout, ..limits }
    }
}
