//! The agent-connection watch: what to send, given what was sent and what was read
//! (`coderd/workspaceconnwatcher/watcher.go`).

use serde::Serialize;
use uuid::Uuid;

use super::tokens::BuildFacts;
use crate::model::{JobStatus, Lifecycle, Transition};

/// What makes the watch look again. It always reads the latest build and then that build's
/// agents, whatever made it look, so that an agent is never sent before its build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// It begins.
    Begin,
    /// A build was made, or its job moved on.
    StateChange,
    /// An agent of the workspace reported, any of them.
    Lifecycle,
    /// Notifications may have been lost.
    Resync,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The latest build, and its agents.
    State {
        /// The latest build.
        build: BuildFacts,
        /// Its agents, those that are not deleted.
        agents: Vec<WatchedAgent>,
    },
    /// The workspace is deleted, or has no build.
    NoRows,
    /// The user may not read the workspace, or no longer.
    Unauthorized,
    /// The store did not answer.
    Failed(String),
}

/// An agent of the latest build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedAgent {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it says of its scripts.
    pub lifecycle: Lifecycle,
}

/// A message of the watch, as JSON: exactly one member is set, `error` is always there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_update: Option<BuildUpdate>,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_update: Option<AgentUpdate>,
    /// The end: after it the socket is closed with 1000 and the reason `error`.
    pub error: Option<WatchError>,
}

/// The latest build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BuildUpdate {
    /// What it does.
    pub transition: Transition,
    /// How far it is.
    pub job_status: JobStatus,
}

/// The chosen agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AgentUpdate {
    /// What it says of its scripts.
    pub lifecycle: Lifecycle,
    /// Its id.
    pub id: Uuid,
}

/// Why the watch ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchError {
    /// Which one.
    pub code: i32,
    /// Whether to try again.
    pub retryable: bool,
    /// For people.
    pub message: String,
    /// More of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl WatchError {
    /// 1: several agents, and none was named.
    #[must_use]
    pub fn too_many_agents() -> Self {
        Self::new(1, false, "The workspace has several agents: name one with agent_name.")
    }

    /// 2: no agent has that name.
    #[must_use]
    pub fn name_not_found(name: &str) -> Self {
        Self {
            details: name.to_owned(),
            ..Self::new(2, false, "No agent of the workspace has that name.")
        }
    }

    /// 3: the build has no agents.
    #[must_use]
    pub fn no_agents() -> Self {
        Self::new(3, false, "The workspace has no agents.")
    }

    /// 4: this server stops.
    #[must_use]
    pub fn server_shutdown() -> Self {
        Self::new(4, true, "The server is shutting down: connect again.")
    }

    /// 5: a query failed, for now.
    #[must_use]
    pub fn database(details: String) -> Self {
        Self { details, ..Self::new(5, true, "The workspace cannot be read.") }
    }

    /// 5: a query failed for good.
    #[must_use]
    pub fn database_final(details: &str) -> Self {
        Self { details: details.to_owned(), ..Self::new(5, false, "The workspace cannot be read.") }
    }

    fn new(code: i32, retryable: bool, message: &str) -> Self {
        Self { code, retryable, message: message.to_owned(), details: String::new() }
    }
}

impl Message {
    /// The build.
    #[must_use]
    pub fn build(build: BuildFacts) -> Self {
        Self {
            build_update: Some(BuildUpdate {
                transition: build.transition,
                job_status: build.status,
            }),
            agent_update: None,
            error: None,
        }
    }

    /// The agent.
    #[must_use]
    pub fn agent(agent: &WatchedAgent) -> Self {
        Self {
            build_update: None,
            agent_update: Some(AgentUpdate { lifecycle: agent.lifecycle, id: agent.id }),
            error: None,
        }
    }

    /// The end.
    #[must_use]
    pub fn error(error: WatchError) -> Self {
        Self { build_update: None, agent_update: None, error: Some(error) }
    }
}

/// One client's watch: remembers the build that was sent last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    agent_name: Option<String>,
    sent: Option<BuildFacts>,
}

impl Watch {
    /// Of the agent of this name, or of the only one.
    #[must_use]
    pub fn new(agent_name: Option<String>) -> Self {
        Self { agent_name, sent: None }
    }

    /// What to send, in order. An error is the last message, and then the socket is closed.
    ///
    /// | | build differs from the one sent | same build |
    /// |---|---|---|
    /// | start, succeeded | build, agent | agent if one reported, else nothing |
    /// | any other | build | nothing |
    ///
    /// After `Resync` (and at `Begin`) every build differs.
    pub fn next(&mut self, trigger: Trigger, reading: Reading) -> Vec<Message> {
        let (build, agents) = match reading {
            Reading::State { build, agents } => (build, agents),
            Reading::NoRows => {
                let error = WatchError::database_final("no rows in result set");
                return vec![Message::error(error)];
            }
            Reading::Unauthorized => {
                let error = WatchError::database_final("unauthorized");
                return vec![Message::error(error)];
            }
            Reading::Failed(details) => return vec![Message::error(WatchError::database(details))],
        };
        match trigger {
            Trigger::Begin | Trigger::Resync => self.sent = None,
            Trigger::StateChange | Trigger::Lifecycle => {}
        }
        let mut messages = Vec::new();
        let differs = self.sent != Some(build);
        if differs {
            messages.push(Message::build(build));
            self.sent = Some(build);
        }
        let started = build.transition == Transition::Start && build.status == JobStatus::Succeeded;
        if started && (differs || trigger == Trigger::Lifecycle) {
            messages.push(match choose(self.agent_name.as_deref(), &agents) {
                Ok(agent) => Message::agent(agent),
                Err(error) => Message::error(error),
            });
        }
        messages
    }
}

fn choose<'a>(
    name: Option<&str>,
    agents: &'a [WatchedAgent],
) -> Result<&'a WatchedAgent, WatchError> {
    match (name, agents) {
        (_, []) => Err(WatchError::no_agents()),
        (Some(name), agents) => agents
            .iter()
            .find(|agent| agent.name == name)
            .ok_or_else(|| WatchError::name_not_found(name)),
        (None, [agent]) => Ok(agent),
        (None, _) => Err(WatchError::too_many_agents()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use JobStatus::{Canceled, Canceling, Failed, Pending, Running, Succeeded};
    use Transition::{Delete, Start, Stop};
    use Trigger::{Begin, Lifecycle as Reported, Resync, StateChange};

    fn agent(id: u128, name: &str, lifecycle: Lifecycle) -> WatchedAgent {
        WatchedAgent { id: Uuid::from_u128(id), name: name.to_owned(), lifecycle }
    }

    fn state(number: i32, transition: Transition, status: JobStatus) -> Reading {
        Reading::State {
            build: BuildFacts { number, transition, status },
            agents: vec![agent(1, "main", Lifecycle::Ready)],
        }
    }

    /// The messages in short: `start/pending`, `1 ready`, `error 5 final`.
    fn short(messages: &[Message]) -> Vec<String> {
        messages
            .iter()
            .map(|message| match (&message.build_update, &message.agent_update, &message.error) {
                (Some(build), None, None) => {
                    format!("{}/{}", build.transition, build.job_status)
                }
                (None, Some(agent), None) => {
                    format!("{} {}", agent.id.as_u128(), agent.lifecycle)
                }
                (None, None, Some(error)) => {
                    format!("error {}{}", error.code, if error.retryable { "" } else { " final" })
                }
                other => panic!("not exactly one member: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn after_each_trigger() {
        type Row = (&'static str, Trigger, Option<Reading>, Reading, &'static [&'static str]);
        // name, trigger, sent before, read, wanted
        let rows: Vec<Row> = vec![
            (
                "begins, running",
                Begin,
                None,
                state(1, Start, Succeeded),
                &["start/succeeded", "1 ready"],
            ),
            ("begins, pending", Begin, None, state(1, Start, Pending), &["start/pending"]),
            ("begins, starting", Begin, None, state(1, Start, Running), &["start/running"]),
            ("begins, failed", Begin, None, state(1, Start, Failed), &["start/failed"]),
            ("begins, canceling", Begin, None, state(1, Start, Canceling), &["start/canceling"]),
            ("begins, canceled", Begin, None, state(1, Start, Canceled), &["start/canceled"]),
            ("begins, stopped", Begin, None, state(2, Stop, Succeeded), &["stop/succeeded"]),
            ("begins, stopping", Begin, None, state(2, Stop, Running), &["stop/running"]),
            ("begins, deleting", Begin, None, state(2, Delete, Running), &["delete/running"]),
            ("begins, deleted", Begin, None, Reading::NoRows, &["error 5 final"]),
            (
                "nothing changed",
                StateChange,
                Some(state(1, Start, Succeeded)),
                state(1, Start, Succeeded),
                &[],
            ),
            (
                "the status changed",
                StateChange,
                Some(state(1, Start, Pending)),
                state(1, Start, Running),
                &["start/running"],
            ),
            (
                "states were skipped",
                StateChange,
                Some(state(1, Start, Pending)),
                state(1, Start, Succeeded),
                &["start/succeeded", "1 ready"],
            ),
            (
                "another build in the same state",
                StateChange,
                Some(state(1, Start, Succeeded)),
                state(3, Start, Succeeded),
                &["start/succeeded", "1 ready"],
            ),
            (
                "a stop begins",
                StateChange,
                Some(state(1, Start, Succeeded)),
                state(2, Stop, Pending),
                &["stop/pending"],
            ),
            (
                "an agent reported",
                Reported,
                Some(state(1, Start, Succeeded)),
                state(1, Start, Succeeded),
                &["1 ready"],
            ),
            (
                "an agent reported while it stops",
                Reported,
                Some(state(2, Stop, Running)),
                state(2, Stop, Running),
                &[],
            ),
            (
                "an agent reported, and its build is news",
                Reported,
                Some(state(1, Start, Running)),
                state(1, Start, Succeeded),
                &["start/succeeded", "1 ready"],
            ),
            (
                "an old agent reported, and the new build is news",
                Reported,
                Some(state(1, Start, Succeeded)),
                state(2, Stop, Pending),
                &["stop/pending"],
            ),
            (
                "resync, running",
                Resync,
                Some(state(1, Start, Succeeded)),
                state(1, Start, Succeeded),
                &["start/succeeded", "1 ready"],
            ),
            (
                "resync, stopped",
                Resync,
                Some(state(2, Stop, Succeeded)),
                state(2, Stop, Succeeded),
                &["stop/succeeded"],
            ),
            (
                "deleted under way",
                StateChange,
                Some(state(2, Delete, Running)),
                Reading::NoRows,
                &["error 5 final"],
            ),
            (
                "access lost",
                StateChange,
                Some(state(1, Start, Succeeded)),
                Reading::Unauthorized,
                &["error 5 final"],
            ),
            (
                "the store is away",
                StateChange,
                Some(state(1, Start, Succeeded)),
                Reading::Failed("gone".to_owned()),
                &["error 5"],
            ),
        ];
        for (name, trigger, before, reading, wanted) in rows {
            let mut watch = Watch::new(None);
            if let Some(before) = before {
                watch.next(Begin, before);
            }
            assert_eq!(short(&watch.next(trigger, reading)), wanted, "{name}");
        }
    }

    #[test]
    fn which_agent() {
        let main = || agent(1, "main", Lifecycle::Created);
        let side = || agent(2, "side", Lifecycle::Ready);
        for (name, asked, agents, wanted) in [
            ("the only one", None, vec![main()], "1 created"),
            ("the one named", Some("side"), vec![main(), side()], "2 ready"),
            ("several", None, vec![main(), side()], "error 1 final"),
            ("not there", Some("third"), vec![main(), side()], "error 2 final"),
            ("another case", Some("Main"), vec![main()], "error 2 final"),
            ("none", None, vec![], "error 3 final"),
            ("none, named", Some("main"), vec![], "error 3 final"),
        ] {
            let reading = Reading::State {
                build: BuildFacts { number: 1, transition: Start, status: Succeeded },
                agents,
            };
            let mut watch = Watch::new(asked.map(str::to_owned));
            assert_eq!(short(&watch.next(Begin, reading)), ["start/succeeded", wanted], "{name}");
        }
    }

    #[test]
    fn on_the_wire() {
        let Reading::State { build, agents } = state(1, Start, Succeeded) else {
            panic!("not a state");
        };
        for (message, wanted) in [
            (
                Message::build(build),
                r#"{"build_update":{"transition":"start","job_status":"succeeded"},"error":null}"#,
            ),
            (
                Message::agent(&agents[0]),
                r#"{"agent_update":{"lifecycle":"ready","id":"00000000-0000-0000-0000-000000000001"},"error":null}"#,
            ),
            (
                Message::error(WatchError::database_final("unauthorized")),
                r#"{"error":{"code":5,"retryable":false,"message":"The workspace cannot be read.","details":"unauthorized"}}"#,
            ),
            (
                Message::error(WatchError::server_shutdown()),
                r#"{"error":{"code":4,"retryable":true,"message":"The server is shutting down: connect again."}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), wanted);
        }
    }
}
