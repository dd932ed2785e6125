//! The states of `Follow` and `Once`, each with what it owns.

use crate::{AgentId, ConnectionId, Outcome, State};

/// Where the machine is, and what that state holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No tunnel, none being made: one of the four waiting states.
    Idle(Waiting),
    /// `EstablishTailnet`: the dial is unanswered.
    Dialling(Link),
    /// `TailnetUp`: the attachment is unanswered.
    Attaching(Link),
    /// `ApplicationUp`.
    Up(Link),
    /// `ShutdownApplication`: something was asked of the application and is unanswered.
    Parting {
        /// The tunnel that is closed next, if there is one.
        link: Option<Link>,
        /// What was asked.
        ask: AppAsk,
        /// What comes after.
        then: Then,
    },
    /// `ShutdownTailnet`: a canceled dial, or the closing of the tunnel, is unanswered.
    Closing {
        /// Which tunnel.
        link: Link,
        /// Whether it is the dial that is unanswered.
        dialling: bool,
        /// What comes after.
        then: Then,
    },
    /// `Exit`.
    Exit,
}

/// The four states without a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// `Init`.
    Facts,
    /// `WaitToStart`.
    Stop,
    /// `WaitForWorkspaceStarted`.
    Build,
    /// `WaitForAgent`.
    Agent,
}

/// A tunnel, or the dial for one: its name and the agent at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) agent: AgentId,
}

/// What was asked of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppAsk {
    Attach,
    Detach,
    Close,
}

/// What comes after the tunnel is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    /// Look at the facts again.
    Return,
    /// The end.
    Leave {
        /// Why.
        outcome: Outcome,
        /// Where that was decided.
        at: State,
    },
}

impl Phase {
    /// The state that this is.
    pub(crate) const fn state(&self) -> State {
        match self {
            Self::Idle(Waiting::Facts) => State::Init,
            Self::Idle(Waiting::Stop) => State::WaitToStart,
            Self::Idle(Waiting::Build) => State::WaitForWorkspaceStarted,
            Self::Idle(Waiting::Agent) => State::WaitForAgent,
            Self::Dialling(_) => State::EstablishTailnet,
            Self::Attaching(_) => State::TailnetUp,
            Self::Up(_) => State::ApplicationUp,
            Self::Parting { .. } => State::ShutdownApplication,
            Self::Closing { .. } => State::ShutdownTailnet,
            Self::Exit => State::Exit,
        }
    }

    /// Whether the end has been decided (or reached).
    pub(crate) const fn is_leaving(&self) -> bool {
        match self {
            Self::Parting { then, .. } | Self::Closing { then, .. } => match then {
                Then::Leave { .. } => true,
                Then::Return => false,
            },
            Self::Exit => true,
            Self::Idle(_) | Self::Dialling(_) | Self::Attaching(_) | Self::Up(_) => false,
        }
    }
}
