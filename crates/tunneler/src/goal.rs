//! From what is remembered to what should be: no state, no order of messages in here.

use crate::{
    AgentId, AgentProblem, AgentStatus, Config, JobStatus, Lifecycle, Outcome, Policy, Transition,
    Wait,
    memory::{Agent, Barrier, Memory},
    phase::Link,
};

/// What should be done while there is no tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Wait for the first build fact.
    Learn,
    /// Wait for the end of a stop.
    AwaitStop,
    /// Start the workspace.
    Start,
    /// Wait for the active start build.
    AwaitBuild,
    /// Wait for somebody to start the workspace that somebody stopped.
    AwaitStart,
    /// Wait for the agent.
    AwaitAgent(Missing),
    /// Dial the agent.
    Dial(AgentId),
    /// Give up.
    End(Outcome),
}

/// What an agent lacks to be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It has not been named.
    Name,
    /// Its record has not been read.
    Record,
    /// The server has lost it.
    Connection,
    /// It shuts down.
    Life,
    /// Its start scripts have not ended.
    Scripts,
}

/// What a link is to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may stay.
    Keep,
    /// It must go, for this reason.
    Drop(Outcome),
}

/// What the past allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    /// The application has been up, or our own start was accepted: a stop is somebody's wish.
    pub(crate) spent: bool,
    /// This agent has had its time to speak of its scripts.
    pub(crate) given_up: Option<AgentId>,
}

/// What should be done while there is no tunnel.
pub(crate) fn goal(memory: &Memory, config: &Config, past: Past) -> Goal {
    match &memory.barrier {
        Some(Barrier::Gone) => return Goal::End(Outcome::WorkspaceDeleted),
        Some(Barrier::Login) => return Goal::End(Outcome::NotLoggedIn),
        Some(Barrier::Access) => return Goal::End(Outcome::AccessLost),
        Some(Barrier::Deaf(_)) | None => {}
    }
    let goal = build_goal(memory, config, past);
    match (&goal, &memory.barrier) {
        (
            Goal::Learn
            | Goal::AwaitStop
            | Goal::AwaitBuild
            | Goal::AwaitStart
            | Goal::AwaitAgent(_),
            Some(Barrier::Deaf(outcome)),
        ) => Goal::End(outcome.clone()),
        (
            Goal::Learn
            | Goal::AwaitStop
            | Goal::Start
            | Goal::AwaitBuild
            | Goal::AwaitStart
            | Goal::AwaitAgent(_)
            | Goal::Dial(_)
            | Goal::End(_),
            _,
        ) => goal,
    }
}

fn build_goal(memory: &Memory, config: &Config, past: Past) -> Goal {
    let Some(build) = &memory.build else { return Goal::Learn };
    let failed = |status, error: &Option<String>| {
        Goal::End(match (memory.moved, status) {
            (true, JobStatus::Canceled) => Outcome::BuildCanceled,
            (true, _) => Outcome::BuildFailed(error.clone()),
            (false, status) => Outcome::WorkspaceFailed { status, error: error.clone() },
        })
    };
    match (build.transition, build.status) {
        (Transition::Delete, _) => Goal::End(Outcome::WorkspaceDeleted),
        (_, JobStatus::Unknown) => Goal::Learn,
        (Transition::Start, JobStatus::Pending | JobStatus::Running | JobStatus::Canceling) => {
            Goal::AwaitBuild
        }
        (Transition::Start, JobStatus::Succeeded) => agent_goal(memory, config, past),
        (Transition::Start, status @ (JobStatus::Failed | JobStatus::Canceled)) => {
            failed(status, &build.error)
        }
        (Transition::Stop, JobStatus::Pending | JobStatus::Running | JobStatus::Canceling) => {
            match autostart(config, past) {
                Autostart::Now | Autostart::BySomebody => Goal::AwaitStop,
                Autostart::Never => Goal::End(Outcome::WorkspaceStopped),
            }
        }
        (Transition::Stop, JobStatus::Succeeded) => match autostart(config, past) {
            Autostart::Now => Goal::Start,
            Autostart::BySomebody => Goal::AwaitStart,
            Autostart::Never if memory.dormant => Goal::End(Outcome::WorkspaceDormant),
            Autostart::Never => Goal::End(Outcome::WorkspaceStopped),
        },
        // A stop that did not succeed may have left everything running: the agent knows (T11).
        (Transition::Stop, status @ (JobStatus::Failed | JobStatus::Canceled)) => {
            match memory.current().map(|agent| agent.status) {
                Some(Some(AgentStatus::Connected)) => agent_goal(memory, config, past),
                Some(None) => Goal::AwaitAgent(Missing::Record),
                Some(Some(_)) | None => {
                    Goal::End(Outcome::WorkspaceFailed { status, error: build.error.clone() })
                }
            }
        }
    }
}

/// Who may start a stopped workspace.
pub(crate) enum Autostart {
    Now,
    BySomebody,
    Never,
}

pub(crate) fn autostart(config: &Config, past: Past) -> Autostart {
    let follow = config.policy == Policy::Follow;
    match past.spent {
        true if follow && config.restart && config.autostart => Autostart::Now,
        true if follow => Autostart::BySomebody,
        true => Autostart::Never,
        false if config.autostart => Autostart::Now,
        false => Autostart::Never,
    }
}

fn agent_goal(memory: &Memory, config: &Config, past: Past) -> Goal {
    if let Some(problem) = &memory.problem {
        return Goal::End(problem.into());
    }
    let Some(agent) = memory.current() else { return Goal::AwaitAgent(Missing::Name) };
    if agent.lifecycle.is_shutdown() {
        return match config.policy {
            Policy::Follow => Goal::AwaitAgent(Missing::Life),
            Policy::Once | Policy::Compatibility => Goal::End(Outcome::AgentShutDown),
        };
    }
    if agent.status == Some(AgentStatus::Disconnected) {
        return Goal::AwaitAgent(Missing::Connection);
    }
    match agent.lifecycle {
        Lifecycle::StartTimeout | Lifecycle::StartError if config.fail_on_script_error => {
            let timed_out = agent.lifecycle == Lifecycle::StartTimeout;
            Goal::End(Outcome::ScriptsFailed { timed_out })
        }
        Lifecycle::Created | Lifecycle::Starting | Lifecycle::Unknown => {
            match waits(config.wait, agent) {
                None => Goal::AwaitAgent(Missing::Record),
                Some(true) if past.given_up != Some(agent.id) => Goal::AwaitAgent(Missing::Scripts),
                Some(true | false) => Goal::Dial(agent.id),
            }
        }
        // Scripts that ended badly are a warning (T6).
        Lifecycle::Ready
        | Lifecycle::StartTimeout
        | Lifecycle::StartError
        | Lifecycle::ShuttingDown
        | Lifecycle::ShutdownTimeout
        | Lifecycle::ShutdownError
        | Lifecycle::Off => Goal::Dial(agent.id),
    }
}

/// Whether the agent's start scripts are waited for; `None` while that is not known.
pub(crate) const fn waits(wait: Wait, agent: &Agent) -> Option<bool> {
    match wait {
        Wait::Yes => Some(true),
        Wait::No => Some(false),
        Wait::Auto => agent.blocks_login,
    }
}

/// What a link that is being made (`dialling`) or works is to expect from what is known.
///
/// A link that works outlives builds that have not touched the workspace: queued, being canceled,
/// canceled, failed before they ran (T9, T11). A dial does not wait for those to be decided.
pub(crate) fn verdict(memory: &Memory, link: Link, dialling: bool) -> Verdict {
    if memory.barrier == Some(Barrier::Gone) {
        return Verdict::Drop(Outcome::WorkspaceDeleted);
    }
    let Some(build) = &memory.build else { return Verdict::Keep };
    let settled = match (build.transition, build.status) {
        (Transition::Delete, _) => return Verdict::Drop(Outcome::WorkspaceDeleted),
        (Transition::Start, JobStatus::Succeeded) => true,
        (_, JobStatus::Unknown) => true,
        (Transition::Start, JobStatus::Running) => {
            return Verdict::Drop(Outcome::WorkspaceReplaced);
        }
        (Transition::Stop, JobStatus::Running | JobStatus::Succeeded) => {
            return Verdict::Drop(Outcome::WorkspaceStopped);
        }
        (
            Transition::Start,
            JobStatus::Pending | JobStatus::Canceling | JobStatus::Failed | JobStatus::Canceled,
        ) if dialling => return Verdict::Drop(Outcome::WorkspaceReplaced),
        (Transition::Stop, JobStatus::Pending | JobStatus::Canceling) if dialling => {
            return Verdict::Drop(Outcome::WorkspaceStopped);
        }
        (Transition::Stop, JobStatus::Failed | JobStatus::Canceled)
            if dialling && memory.current().is_none() =>
        {
            return Verdict::Drop(Outcome::WorkspaceStopped);
        }
        (
            Transition::Start | Transition::Stop,
            JobStatus::Pending | JobStatus::Canceling | JobStatus::Failed | JobStatus::Canceled,
        ) => false,
    };
    if let Some(agent) = &memory.agent {
        if agent.id == link.agent && agent.lifecycle.is_shutdown() {
            return Verdict::Drop(Outcome::AgentShutDown);
        }
        if agent.id != link.agent && agent.current {
            return Verdict::Drop(Outcome::WorkspaceReplaced);
        }
    }
    match &memory.problem {
        // One that works is among the several.
        Some(AgentProblem::Several(_)) if !dialling => Verdict::Keep,
        Some(problem) if settled || dialling => Verdict::Drop(problem.into()),
        Some(_) | None => Verdict::Keep,
    }
}
