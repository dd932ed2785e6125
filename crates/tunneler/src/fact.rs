//! What can be known about a workspace, in the words of its server.
//!
//! A fact that the server may spell in a way that is not known yet has an `Unknown` variant, which
//! means "no information" and changes nothing (gap T20).

use crate::{AgentId, BuildNumber};

/// What a build does to the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transition {
    /// Brings it up.
    Start,
    /// Takes it down and keeps what persists.
    Stop,
    /// Removes it for good.
    Delete,
}

impl Transition {
    /// Reads the server's word; `None` for any other word, which is no information.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "start" => Some(Self::Start),
            "stop" => Some(Self::Stop),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// How far the build's provisioner job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// Queued.
    Pending,
    /// At work.
    Running,
    /// Done.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Somebody asked it to end early.
    Canceling,
    /// It ended early.
    Canceled,
    /// `unknown`, or a word that is not known: no information.
    Unknown,
}

impl JobStatus {
    /// Reads the server's word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "canceling" => Self::Canceling,
            "canceled" => Self::Canceled,
            _ => Self::Unknown,
        }
    }

    /// Whether the job still has a way to go.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Canceling => true,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Unknown => false,
        }
    }
}

/// What an agent says of its start and shutdown scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifecycle {
    /// It has said nothing yet.
    Created,
    /// Start scripts run.
    Starting,
    /// A start script took too long; the agent works.
    StartTimeout,
    /// A start script failed; the agent works.
    StartError,
    /// Start scripts are done.
    Ready,
    /// Shutdown scripts run.
    ShuttingDown,
    /// A shutdown script took too long.
    ShutdownTimeout,
    /// A shutdown script failed.
    ShutdownError,
    /// It is gone.
    Off,
    /// A word that is not known: no information about scripts.
    Unknown,
}

impl Lifecycle {
    /// Reads the server's word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "starting" => Self::Starting,
            "start_timeout" => Self::StartTimeout,
            "start_error" => Self::StartError,
            "ready" => Self::Ready,
            "shutting_down" => Self::ShuttingDown,
            "shutdown_timeout" => Self::ShutdownTimeout,
            "shutdown_error" => Self::ShutdownError,
            "off" => Self::Off,
            _ => Self::Unknown,
        }
    }

    /// Whether the agent is going or gone.
    #[must_use]
    pub const fn is_shutdown(self) -> bool {
        match self {
            Self::ShuttingDown | Self::ShutdownTimeout | Self::ShutdownError | Self::Off => true,
            Self::Created
            | Self::Starting
            | Self::StartTimeout
            | Self::StartError
            | Self::Ready
            | Self::Unknown => false,
        }
    }
}

/// Whether the agent's server is in touch with it, from the agent's record (the watch never says).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentStatus {
    /// It has never connected.
    Connecting,
    /// It is connected.
    Connected,
    /// It was connected and is not any more.
    Disconnected,
    /// It has never connected, and the template's limit for that has passed.
    Timeout,
    /// A word that is not known: no information.
    Unknown,
}

impl AgentStatus {
    /// Reads the server's word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "connecting" => Self::Connecting,
            "connected" => Self::Connected,
            "disconnected" => Self::Disconnected,
            "timeout" => Self::Timeout,
            _ => Self::Unknown,
        }
    }
}

/// The workspace's latest build, as one source tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Start, stop or delete.
    pub transition: Transition,
    /// Its job's status.
    pub status: JobStatus,
    /// Its number where the source has it (REST and the event stream do, the watch does not).
    pub number: Option<BuildNumber>,
    /// Its job's error text, where the source has it and there is one.
    pub error: Option<String>,
}

impl Build {
    /// A build as the watch tells it: transition and job status.
    #[must_use]
    pub const fn new(transition: Transition, status: JobStatus) -> Self {
        Self { transition, status, number: None, error: None }
    }

    /// The same with its number.
    #[must_use]
    pub const fn numbered(mut self, number: u64) -> Self {
        self.number = Some(BuildNumber(number));
        self
    }
}

/// An agent's record, as REST tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Which agent.
    pub id: AgentId,
    /// What it says of its scripts.
    pub lifecycle: Lifecycle,
    /// Whether it is connected.
    pub status: AgentStatus,
    /// Whether any of its scripts has `start_blocks_login`.
    pub blocks_login: bool,
}

/// Which agent of the latest build is ours, as REST tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agents {
    /// Not told (the build has not finished, or it is a stop).
    Untold,
    /// This one.
    One(AgentRecord),
    /// None could be chosen.
    Problem(AgentProblem),
}

/// Why no agent could be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentProblem {
    /// The workspace has no agents.
    None,
    /// No name was given and there are several: their names (empty if the source does not say).
    Several(Vec<String>),
    /// None has the name that was given: the names that there are.
    NoSuchName(Vec<String>),
}

/// Everything that one REST read of the workspace tells: the latest build, its agent, dormancy.
///
/// A snapshot replaces what was known, unless its build is older than one that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The latest build.
    pub build: Build,
    /// The chosen agent of that build.
    pub agents: Agents,
    /// Whether the workspace is dormant.
    pub dormant: bool,
}
