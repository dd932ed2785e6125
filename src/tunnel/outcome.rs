//! Why the tunneler is done, as an exit code and the last line that the user sees.

use coderctl_tunneler::{Deadlines, Exit, JobStatus, Outcome, Step};

use crate::error::{CommandError, Kind};

/// What an exit means, with the next step that it suggests.
///
/// # Errors
/// As [`tell`].
pub(super) fn conclude(
    exit: Exit,
    workspace: &str,
    signal: Option<u8>,
    deadlines: &Deadlines,
) -> Result<u8, CommandError> {
    tell(exit, workspace, signal, deadlines).map_err(|error| match next_step(error.kind) {
        Some(step) if error.hints.is_empty() => error.hint(step),
        Some(_) | None => error,
    })
}

/// What to do about an error of this kind, where its cause suggests nothing better.
fn next_step(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Stopped => "start it again, or look at its builds in the dashboard",
        Kind::Build => "look at the build's log in the dashboard, repair its cause and try again",
        Kind::Deleted => "`coderctl list` shows the workspaces that there are",
        Kind::Workspace => "`coderctl list` shows your workspaces",
        Kind::Agent => "look at the workspace's agents in the dashboard, or name another",
        Kind::AgentState => "look at the agent's log in the dashboard, or restart the workspace",
        Kind::Timeout => "try again, and look at the workspace in the dashboard meanwhile",
        Kind::Server => "check the network and the deployment, then try again",
        Kind::Tunnel => "the deployment's relay must be reachable; -v shows how far it got",
        Kind::Protocol => "compare the versions of the deployment and of coderctl",
        Kind::Login => "log in again with `coderctl login URL`, or renew CODER_SESSION_TOKEN",
        Kind::Other
        | Kind::Usage
        | Kind::CannotRun
        | Kind::NoCommand
        | Kind::Signal(_)
        | Kind::Local
        | Kind::Remote
        | Kind::Lost => {
            return None;
        }
    })
}

/// What an exit means for a program whose app was up or not.
///
/// `workspace` is the name as the user knows it; `signal` the signal that asked for the end.
///
/// # Errors
/// Every outcome but a done app and a wanted end of an app that was up.
fn tell(
    exit: Exit,
    workspace: &str,
    signal: Option<u8>,
    deadlines: &Deadlines,
) -> Result<u8, CommandError> {
    let fail = |kind, text: String| Err(CommandError::msg(kind, text));
    match exit.outcome {
        Outcome::AppDone(code) => Ok(code),
        Outcome::UserStop if exit.was_up => Ok(0),
        Outcome::UserStop => {
            fail(Kind::Signal(signal.unwrap_or(2)), "interrupted before it was done".into())
        }
        Outcome::AppFailed(text) => fail(Kind::Other, text),
        Outcome::AppLost(text) => fail(Kind::Lost, text),
        Outcome::WorkspaceStopped if exit.was_up => {
            fail(Kind::Stopped, format!("workspace {workspace} was stopped"))
        }
        Outcome::WorkspaceStopped => {
            Err(CommandError::msg(Kind::Stopped, format!("workspace {workspace} is stopped"))
                .hint("start it, or drop --disable-autostart"))
        }
        Outcome::WorkspaceFailed { status, error } => {
            let what = match status {
                JobStatus::Canceled | JobStatus::Canceling => "was canceled",
                JobStatus::Pending
                | JobStatus::Running
                | JobStatus::Succeeded
                | JobStatus::Failed
                | JobStatus::Unknown => "failed",
            };
            let cause = error.map(|error| format!(": {error}")).unwrap_or_default();
            Err(CommandError::msg(
                Kind::Stopped,
                format!("the latest build of workspace {workspace} {what}, so it cannot be started{cause}"),
            )
            .hint("look at the build's log in the dashboard and build the workspace again"))
        }
        Outcome::WorkspaceDormant => {
            Err(CommandError::msg(Kind::Stopped, format!("workspace {workspace} is dormant"))
                .hint("wake it in the dashboard, or drop --disable-autostart"))
        }
        Outcome::StartRefused(text) => {
            fail(Kind::Stopped, format!("workspace {workspace} could not be started: {text}"))
        }
        Outcome::BuildFailed(error) => {
            let cause = error.map(|error| format!(": {error}")).unwrap_or_default();
            fail(Kind::Build, format!("the build of workspace {workspace} failed{cause}"))
        }
        Outcome::BuildCanceled => {
            fail(Kind::Build, format!("the build of workspace {workspace} was canceled"))
        }
        Outcome::WorkspaceReplaced => fail(
            Kind::Stopped,
            format!("workspace {workspace} was stopped: a newer build replaced it"),
        ),
        Outcome::WorkspaceDeleted => {
            fail(Kind::Deleted, format!("workspace {workspace} is deleted"))
        }
        Outcome::NoAgent => fail(Kind::Agent, format!("workspace {workspace} has no agents")),
        Outcome::SeveralAgents(names) => Err(CommandError::msg(
            Kind::Agent,
            format!("workspace {workspace} has several agents{}", listed(&names)),
        )
        .hint(format!("name one: {}.AGENT", workspace.trim_matches('`')))),
        Outcome::NoSuchAgent(names) => fail(
            Kind::Agent,
            format!("workspace {workspace} has no agent of that name{}", listed(&names)),
        ),
        Outcome::AgentShutDown => {
            fail(Kind::AgentState, format!("the agent of workspace {workspace} is shutting down"))
        }
        Outcome::AgentNeverConnected => {
            let waited = match deadlines.of(Step::Agent) {
                Some(limit) => format!(", though it had {} s", limit.as_secs_f32()),
                None => String::new(),
            };
            let said = format!("the agent of workspace {workspace} never connected{waited}");
            fail(Kind::AgentState, said)
        }
        Outcome::ScriptsFailed { timed_out } => {
            let how = if timed_out { "timed out" } else { "failed" };
            fail(Kind::AgentState, format!("a start script of workspace {workspace} {how}"))
        }
        Outcome::AccessLost => fail(
            Kind::Workspace,
            format!("there is no workspace {workspace}, or you have no access to it"),
        ),
        Outcome::NotLoggedIn => fail(Kind::Login, "the session token is refused".into()),
        Outcome::WatchUnusable(text) => fail(
            Kind::Protocol,
            format!("the server refuses to tell about workspace {workspace}: {text}"),
        ),
        Outcome::ServerUnreachable(text) => {
            fail(Kind::Server, format!("the server cannot be reached: {text}"))
        }
        Outcome::DialFailed(text) => {
            fail(Kind::Tunnel, format!("no tunnel to workspace {workspace}: {text}"))
        }
        Outcome::TunnelLost(text) => {
            let kind = if exit.was_up { Kind::Lost } else { Kind::Tunnel };
            fail(kind, format!("connection lost: {text}"))
        }
        Outcome::TimedOut { step } => {
            let after = match deadlines.of(step) {
                Some(limit) => format!(" after {} s", limit.as_secs_f32()),
                None => String::new(),
            };
            fail(
                Kind::Timeout,
                format!("workspace {workspace}: timed out{after}, waiting for {step}"),
            )
        }
        Outcome::Protocol(text) => fail(Kind::Protocol, text),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; there are: {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use coderctl_tunneler::State;

    use super::*;

    fn code(outcome: Outcome, was_up: bool) -> u8 {
        let exit = Exit { outcome, at: State::Init, was_up };
        match conclude(exit, "dev", Some(15), &Deadlines::default()) {
            Ok(code) => code,
            Err(error) => error.kind.code(),
        }
    }

    #[test]
    fn a_step_that_took_too_long_is_named_with_its_limit() {
        let limit = |seconds| Some(std::time::Duration::from_secs(seconds));
        let deadlines = Deadlines {
            build: limit(300),
            agent: limit(60),
            dial: limit(20),
            ..Deadlines::default()
        };
        let timed_out = |step| Outcome::TimedOut { step };
        for (outcome, expected) in [
            (
                timed_out(Step::Build),
                "workspace `dev`: timed out after 300 s, waiting for the workspace to start",
            ),
            (
                timed_out(Step::Agent),
                "workspace `dev`: timed out after 60 s, waiting for the agent to connect",
            ),
            (
                timed_out(Step::Dial),
                "workspace `dev`: timed out after 20 s, waiting for the tunnel to come up",
            ),
            (
                timed_out(Step::Scripts),
                "workspace `dev`: timed out, waiting for the start scripts to end",
            ),
            (
                Outcome::AgentNeverConnected,
                "the agent of workspace `dev` never connected, though it had 60 s",
            ),
        ] {
            let exit = Exit { outcome, at: State::Init, was_up: false };
            let error = conclude(exit, "`dev`", None, &deadlines).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn each_outcome_has_the_exit_code_of_its_cause() {
        let text = || "why".to_owned();
        let rows = [
            (Outcome::AppDone(7), true, 7),
            (Outcome::UserStop, true, 0),
            (Outcome::UserStop, false, 143),
            (Outcome::AppFailed(text()), true, 1),
            (Outcome::AppLost(text()), true, 255),
            (Outcome::WorkspaceStopped, true, 203),
            (Outcome::WorkspaceStopped, false, 203),
            (Outcome::WorkspaceFailed { status: JobStatus::Failed, error: None }, false, 203),
            (Outcome::WorkspaceDormant, false, 203),
            (Outcome::StartRefused(text()), false, 203),
            (Outcome::BuildFailed(None), false, 204),
            (Outcome::BuildCanceled, false, 204),
            (Outcome::WorkspaceReplaced, true, 203),
            (Outcome::WorkspaceDeleted, true, 205),
            (Outcome::NoAgent, false, 202),
            (Outcome::SeveralAgents(vec![text()]), false, 202),
            (Outcome::NoSuchAgent(vec![]), false, 202),
            (Outcome::AgentShutDown, false, 206),
            (Outcome::AgentNeverConnected, false, 206),
            (Outcome::ScriptsFailed { timed_out: true }, false, 206),
            (Outcome::AccessLost, false, 201),
            (Outcome::NotLoggedIn, false, 200),
            (Outcome::WatchUnusable(text()), false, 212),
            (Outcome::ServerUnreachable(text()), false, 208),
            (Outcome::DialFailed(text()), false, 209),
            (Outcome::TunnelLost(text()), true, 255),
            (Outcome::TunnelLost(text()), false, 209),
            (Outcome::TimedOut { step: Step::Dial }, false, 207),
            (Outcome::Protocol(text()), false, 212),
        ];
        for (outcome, was_up, expected) in rows {
            let name = format!("{outcome:?}");
            assert_eq!(code(outcome, was_up), expected, "{name}");
        }
    }
}
