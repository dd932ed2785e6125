use std::{sync::Arc, time::Duration};

use coderctl_tunneler::{AgentStatus, JobStatus, Lifecycle, Outcome, Transition};
use http::StatusCode;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    Environment, Session, global::Headers, rows::Row, spelling, target::Target, until_signal,
    write_data,
};
use crate::{
    api::{Client, Workspace},
    apps::report,
    error::{CommandError, Kind},
    tunnel::{choose, resolve, why_over},
    ui::quoted,
};

const EXAMPLES: &str = "Examples:
  coderctl start dev --no-wait && coderctl wait dev --for agent-ready --timeout 10m
  coderctl stop dev --no-wait && coderctl wait dev --for stopped";

/// Wait until a workspace is where it should be
///
/// It starts and stops nothing. It ends early when what is waited for cannot come any more: the
/// build failed (204), the workspace was deleted (205), a start script failed (206), there is no
/// such agent (202). With -o json it shows the workspace then, as `show` does; null when it is
/// deleted.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// What to wait for
    #[arg(long = "for", value_enum, default_value = "agent-ready", value_name = "STATE")]
    goal: Goal,

    /// Longest time to wait; without, for as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    timeout: Option<Duration>,

    /// What to write to standard output then
    #[arg(short, long, value_enum, default_value = "none", value_name = "FORMAT")]
    output: Shown,

    #[command(flatten)]
    pub(super) headers: Headers,
}

/// What is shown at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shown {
    /// Nothing
    None,
    /// The workspace
    Json,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    /// Its start build has succeeded
    Started,
    /// Its agent has connected
    Connected,
    /// Its agent has connected, and its start scripts have succeeded
    #[value(alias = "ready")]
    AgentReady,
    /// Its stop build has succeeded
    Stopped,
    /// There is no such workspace any more
    Deleted,
}

/// Between looks without news, doubled up to [`MAX_PAUSE`]: the watch tells of builds and scripts at
/// once, but not of every agent that connects.
const PAUSE: Duration = Duration::from_millis(500);

const MAX_PAUSE: Duration = Duration::from_secs(4);

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let ui = &environment.ui;
    let name = quoted(&target.workspace);
    let mut wait = Wait { client: session.api(), goal: args.goal, now: String::new() };
    let work = async {
        let what = args.goal.word();
        let stage = ui.stage(format_args!("Waiting for workspace {name} to be {what}"));
        let met = match args.timeout {
            None => wait.until_met(&target).await,
            Some(limit) => match timeout(limit, wait.until_met(&target)).await {
                Ok(met) => met,
                Err(_) => {
                    let now = match wait.now.as_str() {
                        "" => "the server has not said what it is".to_owned(),
                        now => now.to_owned(),
                    };
                    let why = format!("workspace {name} was not {what} within {limit:?}: {now}");
                    Err(CommandError::msg(Kind::Timeout, why)
                        .hint("wait longer, or look at `coderctl show` and `coderctl logs`"))
                }
            },
        };
        let workspace = met?;
        stage.finish();
        match args.output {
            Shown::None => Ok(0),
            Shown::Json => write_data(ui, &report::json(&workspace.as_ref().map(Row::of))?),
        }
    };
    until_signal(work).await
}

struct Wait<'a> {
    client: &'a Client,
    goal: Goal,
    /// What it is at the moment, as a sentence.
    now: String,
}

impl Wait<'_> {
    /// Looks again and again; gives the workspace as it is then, or none when it is deleted.
    async fn until_met(&mut self, target: &Target) -> Result<Option<Workspace>, CommandError> {
        let gone = |goal| goal == Goal::Deleted;
        let mut workspace = match resolve(self.client, target).await {
            // What was deleted before anybody asked for it is no different.
            Err(error) if error.kind == Kind::Workspace && gone(self.goal) => return Ok(None),
            found => found?,
        };
        let news = News::of(self.client, workspace.id, target.agent.clone());
        let mut pause = PAUSE;
        loop {
            match self.goal.judge(&workspace, target.agent.as_deref()) {
                Verdict::Met => return Ok(Some(workspace)),
                Verdict::Never(outcome) => {
                    let unknown = || CommandError::msg(Kind::Other, "it cannot come any more");
                    return Err(why_over(outcome, &workspace.name).unwrap_or_else(unknown));
                }
                Verdict::Not(now) => self.now = now,
            }
            tokio::select! {
                () = news.told.notified() => pause = PAUSE,
                () = sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
            }
            workspace = match self.client.workspace(workspace.id).await {
                Err(error) if error.is(StatusCode::GONE) || error.is(StatusCode::NOT_FOUND) => {
                    if gone(self.goal) {
                        return Ok(None);
                    }
                    return Err(error.into());
                }
                found => found?,
            };
        }
    }
}

/// Tells when something has happened to a workspace, as far as the server says so.
struct News {
    told: Arc<Notify>,
    task: JoinHandle<()>,
}

impl News {
    fn of(client: &Client, workspace: Uuid, agent: Option<String>) -> Self {
        let (client, told) = (client.clone(), Arc::new(Notify::new()));
        let tell = Arc::clone(&told);
        let task = tokio::spawn(async move {
            loop {
                match client.watch(workspace, agent.as_deref()).await {
                    Ok(mut watch) => {
                        while watch.next().await.is_ok() {
                            tell.notify_one();
                        }
                    }
                    Err(error) => tracing::debug!(%error, "no watch; looking from time to time"),
                }
                sleep(MAX_PAUSE).await;
            }
        });
        Self { told, task }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether it is where it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Met,
    /// Not yet: what it is, as a sentence.
    Not(String),
    /// It never will be, without somebody's help.
    Never(Outcome),
}

impl Goal {
    fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Connected => "connected",
            Self::AgentReady => "ready",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }

    fn judge(self, workspace: &Workspace, agent: Option<&str>) -> Verdict {
        let build = &workspace.latest_build;
        let is = |what: &str| Verdict::Not(format!("it is {what}"));
        let Some(transition) = Transition::parse(&build.transition) else {
            return is("in a transition that this client does not know");
        };
        let wanted = match self {
            Self::Started | Self::Connected | Self::AgentReady => Transition::Start,
            Self::Stopped => Transition::Stop,
            Self::Deleted => Transition::Delete,
        };
        match JobStatus::parse(&build.job.status) {
            JobStatus::Succeeded => match transition {
                Transition::Delete if wanted != transition => {
                    Verdict::Never(Outcome::WorkspaceDeleted)
                }
                _ if wanted == transition => self.judge_agent(workspace, agent),
                Transition::Start => is("started"),
                Transition::Stop | Transition::Delete => is("stopped"),
            },
            JobStatus::Failed if wanted == transition => {
                let error = build.job.error.clone().filter(|error| !error.is_empty());
                Verdict::Never(Outcome::BuildFailed(error))
            }
            JobStatus::Canceled if wanted == transition => Verdict::Never(Outcome::BuildCanceled),
            JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Canceling
            | JobStatus::Canceled
            | JobStatus::Failed
            | JobStatus::Unknown => is(&build.status),
        }
    }

    /// The build has brought it to where it should be; only an agent may be missing.
    fn judge_agent(self, workspace: &Workspace, name: Option<&str>) -> Verdict {
        let scripts = match self {
            Self::Started | Self::Stopped | Self::Deleted => return Verdict::Met,
            Self::Connected => false,
            Self::AgentReady => true,
        };
        let agent = match choose(workspace, name) {
            Ok(agent) => agent,
            Err(problem) => return Verdict::Never((&problem).into()),
        };
        if AgentStatus::parse(&agent.status) != AgentStatus::Connected {
            return Verdict::Not(format!("agent {} is {}", quoted(&agent.name), agent.status));
        }
        match Lifecycle::parse(&agent.lifecycle_state) {
            _ if !scripts => Verdict::Met,
            Lifecycle::Ready => Verdict::Met,
            Lifecycle::StartError => Verdict::Never(Outcome::ScriptsFailed { timed_out: false }),
            Lifecycle::StartTimeout => Verdict::Never(Outcome::ScriptsFailed { timed_out: true }),
            Lifecycle::Created
            | Lifecycle::Starting
            | Lifecycle::ShuttingDown
            | Lifecycle::ShutdownTimeout
            | Lifecycle::ShutdownError
            | Lifecycle::Off
            | Lifecycle::Unknown => {
                let (name, lifecycle) = (quoted(&agent.name), &agent.lifecycle_state);
                Verdict::Not(format!("agent {name} is connected, and {lifecycle}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(transition: &str, status: &str, agent: &str, lifecycle: &str) -> Workspace {
        let id = "d1d047ca-9c58-4093-9964-900d931d963b";
        serde_json::from_value(serde_json::json!({
            "id": id, "name": "dev",
            "latest_build": {
                "id": id, "transition": transition, "status": "under way", "job": {"status": status},
                "resources": [{"agents": [
                    {"id": id, "name": "main", "status": agent, "lifecycle_state": lifecycle},
                ]}],
            }
        }))
        .unwrap()
    }

    #[test]
    fn the_latest_build_and_the_agent_decide() {
        use Verdict::{Met, Never, Not};
        let failed = || Never(Outcome::BuildFailed(None));
        let scripts = |timed_out| Never(Outcome::ScriptsFailed { timed_out });
        let not = |what: &str| Not(what.to_owned());
        let under_way = || not("it is under way");
        let connecting = || not("agent `main` is connecting");
        let starting = || not("agent `main` is connected, and starting");
        let deleted = || Never(Outcome::WorkspaceDeleted);
        // The build and its job, the agent's status and lifecycle; then the verdicts for started,
        // connected, agent-ready, stopped and deleted.
        let rows = [
            (
                ("start", "pending", "", ""),
                [under_way(), under_way(), under_way(), under_way(), under_way()],
            ),
            (("start", "failed", "", ""), [failed(), failed(), failed(), under_way(), under_way()]),
            (
                ("start", "canceled", "", ""),
                [
                    Never(Outcome::BuildCanceled),
                    Never(Outcome::BuildCanceled),
                    Never(Outcome::BuildCanceled),
                    under_way(),
                    under_way(),
                ],
            ),
            (
                ("start", "succeeded", "connecting", "created"),
                [Met, connecting(), connecting(), not("it is started"), not("it is started")],
            ),
            (
                ("start", "succeeded", "connected", "starting"),
                [Met, Met, starting(), not("it is started"), not("it is started")],
            ),
            (
                ("start", "succeeded", "connected", "ready"),
                [Met, Met, Met, not("it is started"), not("it is started")],
            ),
            (
                ("start", "succeeded", "connected", "start_error"),
                [Met, Met, scripts(false), not("it is started"), not("it is started")],
            ),
            (
                ("start", "succeeded", "connected", "start_timeout"),
                [Met, Met, scripts(true), not("it is started"), not("it is started")],
            ),
            (
                ("stop", "running", "", ""),
                [under_way(), under_way(), under_way(), under_way(), under_way()],
            ),
            (
                ("stop", "succeeded", "", ""),
                [
                    not("it is stopped"),
                    not("it is stopped"),
                    not("it is stopped"),
                    Met,
                    not("it is stopped"),
                ],
            ),
            (
                ("stop", "failed", "", ""),
                [under_way(), under_way(), under_way(), failed(), under_way()],
            ),
            (("delete", "succeeded", "", ""), [deleted(), deleted(), deleted(), deleted(), Met]),
            (
                ("delete", "failed", "", ""),
                [under_way(), under_way(), under_way(), under_way(), failed()],
            ),
        ];
        let goals =
            [Goal::Started, Goal::Connected, Goal::AgentReady, Goal::Stopped, Goal::Deleted];
        for ((transition, status, agent, lifecycle), expected) in rows {
            let workspace = workspace(transition, status, agent, lifecycle);
            for (goal, expected) in goals.into_iter().zip(expected) {
                let found = goal.judge(&workspace, None);
                assert_eq!(found, expected, "{goal:?}: {transition} {status} {agent} {lifecycle}");
            }
        }
        let ready = workspace("start", "succeeded", "connected", "ready");
        let none = Goal::AgentReady.judge(&ready, Some("other"));
        assert_eq!(none, Never(Outcome::NoSuchAgent(vec!["main".to_owned()])));
    }
}
