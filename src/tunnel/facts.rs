//! From what the control plane says to what the tunneler understands.

use coderctl_tunneler::{
    AgentId, AgentProblem, AgentRecord, AgentStatus, Agents, Build, Event, Failure, FailureKind,
    JobStatus, Lifecycle, Snapshot, Transition,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{self, Agent, Fact, WatchError, Workspace},
    error::Kind,
};

/// When a stop is worth a word: half an hour before, as the Go client (coder/coder: cli/ssh.go).
const STOP_IS_NEAR: SignedDuration = SignedDuration::from_mins(30);

/// Everything that one read of the workspace tells. `name` is the agent that was asked for, or
/// that was chosen before.
///
/// `None` for a transition of a kind that is not known: then there is nothing to be said.
pub(super) fn snapshot(workspace: &Workspace, name: Option<&str>) -> Option<Snapshot> {
    let build = &workspace.latest_build;
    let transition = Transition::parse(&build.transition)?;
    let status = JobStatus::parse(&build.job.status);
    let done = transition == Transition::Start && status == JobStatus::Succeeded;
    let agents = if done {
        match choose(workspace, name) {
            Ok(agent) => Agents::One(record(agent)),
            Err(problem) => Agents::Problem(problem),
        }
    } else {
        Agents::Untold
    };
    let mut told = Build::new(transition, status).numbered(build.build_number);
    told.error = build.job.error.clone().filter(|error| !error.is_empty());
    Some(Snapshot { build: told, agents, dormant: workspace.dormant_at.is_some() })
}

/// Which of the latest build's agents is meant. Without a name it is the only one, or the only
/// one that is not in a dev container of another.
///
/// # Errors
/// Why none can be chosen, with the names that there are.
pub(crate) fn choose<'a>(
    workspace: &'a Workspace,
    name: Option<&str>,
) -> Result<&'a Agent, AgentProblem> {
    let all: Vec<&Agent> = workspace.agents().collect();
    let names = || {
        let mut names: Vec<String> = all.iter().map(|agent| agent.name.clone()).collect();
        names.sort();
        names
    };
    if all.is_empty() {
        return Err(AgentProblem::None);
    }
    if let Some(name) = name {
        let found = all.iter().find(|agent| agent.name == name);
        return found.copied().ok_or_else(|| AgentProblem::NoSuchName(names()));
    }
    if let [only] = all[..] {
        return Ok(only);
    }
    let mut roots = all.iter().filter(|agent| agent.parent_id.is_none());
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        _ => Err(AgentProblem::Several(names())),
    }
}

/// How many minutes are left until autostop stops a running workspace, if that is near.
pub(super) fn stops_soon(workspace: &Workspace, now: Timestamp) -> Option<i64> {
    let build = &workspace.latest_build;
    let left = build.deadline.filter(|_| build.transition == "start")?.duration_since(now);
    (SignedDuration::ZERO..=STOP_IS_NEAR).contains(&left).then(|| left.as_mins())
}

/// An agent's record.
pub(super) fn record(agent: &Agent) -> AgentRecord {
    AgentRecord {
        id: AgentId(agent.id.as_u128()),
        lifecycle: Lifecycle::parse(&agent.lifecycle_state),
        status: AgentStatus::parse(&agent.status),
        blocks_login: agent.blocks_login(),
    }
}

/// Whether the watch told of a build that did not succeed: it never says why.
pub(super) fn wants_reason(fact: &Fact) -> bool {
    match fact {
        Fact::Build { job_status, .. } => matches!(job_status.as_str(), "failed" | "canceled"),
        Fact::Agent { .. }
        | Fact::SeveralAgents
        | Fact::NoSuchAgent
        | Fact::NoAgent
        | Fact::Snapshot(_)
        | Fact::Other => false,
    }
}

/// What the watch told, apart from snapshots.
pub(super) fn fact(fact: &Fact) -> Option<Event> {
    Some(match fact {
        Fact::Build { transition, job_status } => {
            Event::Build(Build::new(Transition::parse(transition)?, JobStatus::parse(job_status)))
        }
        Fact::Agent { id, lifecycle } => {
            Event::Agent { id: AgentId(id.as_u128()), lifecycle: Lifecycle::parse(lifecycle) }
        }
        Fact::SeveralAgents => Event::AgentProblem(AgentProblem::Several(Vec::new())),
        Fact::NoSuchAgent => Event::AgentProblem(AgentProblem::NoSuchName(Vec::new())),
        Fact::NoAgent => Event::AgentProblem(AgentProblem::None),
        Fact::Other => Event::OtherMessage,
        Fact::Snapshot(_) => return None,
    })
}

/// Why a call failed, as the tunneler sorts it.
pub(super) fn failure(error: &api::Error) -> Failure {
    let kind = if error.is_transient() {
        FailureKind::Transient
    } else {
        match error.status().map(|status| status.as_u16()) {
            Some(401) => FailureKind::Login,
            Some(404) => FailureKind::Access,
            Some(410) => FailureKind::Gone,
            _ if error.kind() == Kind::Protocol => FailureKind::Protocol,
            _ => FailureKind::Refused,
        }
    };
    Failure::new(kind, chain(error))
}

/// Why a watch could not be opened, or ended.
pub(super) fn watch_failure(error: &WatchError) -> Failure {
    match error {
        WatchError::Api(error) => failure(error),
        WatchError::Told { .. } | WatchError::Silent => {
            let kind = match error.is_transient() {
                true => FailureKind::Transient,
                false => FailureKind::Refused,
            };
            Failure::new(kind, error.to_string())
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.ends_with(&more) {
            text += ": ";
            text += &more;
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(agents: &[(&str, bool)]) -> Workspace {
        let agents: Vec<_> = agents
            .iter()
            .map(|(name, child)| {
                let id = "ab8545d3-479d-4c05-ba6d-5000150329dd";
                serde_json::json!({"id": id, "name": name, "parent_id": child.then_some(id)})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": "99020e73-89e4-4b47-92b4-cfa51f29fd20", "name": "dev",
            "latest_build": {
                "id": "d1d047ca-9c58-4093-9964-900d931d963b", "transition": "start",
                "job": {"status": "succeeded"}, "resources": [{"agents": agents}],
            }
        }))
        .unwrap()
    }

    #[test]
    fn the_agent_is_the_named_one_or_the_only_one_that_is_no_dev_container() {
        type Row<'a> = (&'a [(&'a str, bool)], Option<&'a str>, Result<&'a str, AgentProblem>);
        let rows: [Row<'_>; 7] = [
            (&[], None, Err(AgentProblem::None)),
            (&[("main", false)], None, Ok("main")),
            (&[("main", false)], Some("Main"), Err(AgentProblem::NoSuchName(vec!["main".into()]))),
            (&[("b", false), ("a", false)], Some("a"), Ok("a")),
            (
                &[("b", false), ("a", false)],
                None,
                Err(AgentProblem::Several(vec!["a".into(), "b".into()])),
            ),
            (&[("main", false), ("box", true)], None, Ok("main")),
            (&[("main", false), ("box", true)], Some("box"), Ok("box")),
        ];
        for (agents, name, expected) in rows {
            let workspace = workspace(agents);
            let chosen = choose(&workspace, name).map(|agent| agent.name.as_str());
            assert_eq!(chosen, expected, "{agents:?} {name:?}");
        }
    }

    #[test]
    fn a_stop_is_told_half_an_hour_before_and_not_after() {
        let now = Timestamp::UNIX_EPOCH;
        let mut workspace = workspace(&[]);
        let rows = [(None, None), (Some(31), None), (Some(30), Some(30)), (Some(0), Some(0))];
        for (deadline, expected) in rows.into_iter().chain([(Some(-1), None)]) {
            let deadline = deadline.map(|minutes| now + SignedDuration::from_mins(minutes));
            workspace.latest_build.deadline = deadline;
            assert_eq!(stops_soon(&workspace, now), expected, "{deadline:?}");
        }
        workspace.latest_build.deadline = Some(now);
        workspace.latest_build.transition = "stop".to_owned();
        assert_eq!(stops_soon(&workspace, now), None);
    }

    #[test]
    fn agents_of_an_unfinished_build_are_not_told() {
        let mut workspace = workspace(&[("main", false)]);
        workspace.latest_build.job.status = "running".to_owned();
        assert_eq!(snapshot(&workspace, None).unwrap().agents, Agents::Untold);
        workspace.latest_build.transition = "hibernate".to_owned();
        assert!(snapshot(&workspace, None).is_none());
    }
}
