//! Builds that a command asks for, followed to their end. What `start`, `stop`, `restart`,
//! `delete` and `create` have in common.

use std::time::Duration;

use http::StatusCode;

use super::{Environment, Session, global, spelling, target::Target, until_signal};
use crate::{
    api::{Build, BuildRequest, Client, Parameter, Reason, Transition, Workspace},
    error::{CommandError, Kind},
    tunnel::{build_lines, resolve},
    ui::{Ui, quoted},
};

/// Times that another build may be in the way, one after the other, before we give up.
const MOST_CONFLICTS: usize = 5;

/// Between looks at a build whose log ended before it did, doubled up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(250);

const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long to wait for builds.
#[derive(clap::Args)]
pub(super) struct Waiting {
    /// Do not wait for the build
    #[arg(long)]
    pub no_wait: bool,

    /// Longest time to wait for the build; it goes on when that has passed
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    pub timeout: Option<Duration>,
}

/// Values of the template's parameters.
#[derive(clap::Args)]
pub(super) struct Parameters {
    /// Parameter of the template, as `name=value`; repeatable [env: CODER_RICH_PARAMETER]
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    parameter: Vec<String>,
}

impl Parameters {
    pub(super) fn read(&self) -> Result<Vec<Parameter>, CommandError> {
        let given = global::list("CODER_RICH_PARAMETER", &self.parameter)?;
        let parse = |text: String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Parameter { name: name.to_owned(), value: value.to_owned() })
            }
            Some(_) | None => {
                let why = format!("the parameter {} is not name=value", quoted(&text));
                Err(CommandError::msg(Kind::Usage, why))
            }
        };
        given.into_iter().map(parse).collect()
    }
}

/// Builds of one deployment.
pub(super) struct Builder<'a> {
    session: Session,
    ui: &'a Ui,
    waiting: Waiting,
}

impl<'a> Builder<'a> {
    pub(super) async fn open(
        environment: &'a Environment,
        waiting: Waiting,
    ) -> Result<Self, CommandError> {
        let session = Session::open(environment).await?;
        Ok(Self { session, ui: &environment.ui, waiting })
    }

    pub(super) fn api(&self) -> &Client {
        self.session.api()
    }

    pub(super) async fn find(&self, name: &str) -> Result<Workspace, CommandError> {
        resolve(self.api(), &Target::parse(name)?).await
    }

    /// Does the work until a signal or the time limit ends the wait for it.
    pub(super) async fn bounded(
        &self,
        work: impl Future<Output = Result<u8, CommandError>>,
    ) -> Result<u8, CommandError> {
        let limited = async {
            let Some(limit) = self.waiting.timeout else { return work.await };
            let late = |_| {
                let why = format!("the build did not end within {limit:?}");
                CommandError::msg(Kind::Timeout, why)
            };
            tokio::time::timeout(limit, work).await.map_err(late)?
        };
        until_signal(limited).await.map_err(|error| {
            let broken_off = matches!(error.kind, Kind::Timeout | Kind::Signal(_));
            if broken_off && error.hints.is_empty() {
                error.hint("a build that was begun goes on; `coderctl list` shows its state")
            } else {
                error
            }
        })
    }

    /// Brings a workspace from whatever state it is in to where this transition leads.
    pub(super) async fn reach(
        &self,
        goal: Transition,
        mut workspace: Workspace,
        parameters: &[Parameter],
    ) -> Result<u8, CommandError> {
        let name = workspace.name.clone();
        let Words { doing, done, .. } = words(goal);
        for _ in 0..MOST_CONFLICTS {
            let build = &workspace.latest_build;
            match step(goal, &build.transition, &build.job.status) {
                Step::Done => {
                    self.ui.line(format_args!("The {name} workspace is {done} already"));
                    return Ok(0);
                }
                Step::Join => {
                    self.ui.line(format_args!("{doing} workspace {name} has begun already"));
                    return self.finish(&name, goal, build).await;
                }
                Step::Pass => self.pass(&workspace).await?,
                Step::Gone => return Err(deleted(&name)),
                Step::StopFirst => {
                    self.ui.line("The last start failed; stopping first");
                    let stop = BuildRequest::new(Transition::Stop, Reason::Cli);
                    if let Some(build) = self.ask(&workspace, stop).await? {
                        self.follow(&name, Transition::Stop, &build).await?;
                    }
                }
                Step::Ask => {
                    let request =
                        BuildRequest::new(goal, Reason::Cli).parameters(parameters.to_vec());
                    if let Some(build) = self.ask(&workspace, request).await? {
                        return self.finish(&name, goal, &build).await;
                    }
                }
            }
            workspace = self.api().workspace(workspace.id).await?;
        }
        let why = format!("other builds of workspace {} keep getting in the way", quoted(&name));
        Err(CommandError::msg(Kind::Other, why).hint("find out who else builds it, and try again"))
    }

    /// Follows a build to its end and says so, unless nobody wants to wait.
    pub(super) async fn finish(
        &self,
        name: &str,
        transition: Transition,
        build: &Build,
    ) -> Result<u8, CommandError> {
        let Words { done, asked, .. } = words(transition);
        if self.waiting.no_wait {
            self.ui.line(format_args!("The {name} workspace {asked}"));
            return Ok(0);
        }
        self.follow(name, transition, build).await?;
        self.ui.line(format_args!("The {name} workspace has been {done}"));
        Ok(0)
    }

    /// Asks for a build. `None`: another one was faster.
    async fn ask(
        &self,
        workspace: &Workspace,
        request: BuildRequest,
    ) -> Result<Option<Build>, CommandError> {
        let updating =
            || self.ui.line("The template wants its active version; updating the workspace");
        match self.api().build_workspace(workspace, request, updating).await {
            Ok(build) => Ok(Some(build)),
            Err(error) if error.is(StatusCode::CONFLICT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a build that is in the way, whatever becomes of it.
    async fn pass(&self, workspace: &Workspace) -> Result<(), CommandError> {
        let build = &workspace.latest_build;
        let name = &workspace.name;
        let stage = self.ui.stage(format_args!("Waiting for a build of {name} to end"));
        self.watch(build).await?;
        stage.finish();
        Ok(())
    }

    /// Follows a build to its end.
    async fn follow(
        &self,
        name: &str,
        transition: Transition,
        build: &Build,
    ) -> Result<(), CommandError> {
        let Words { doing, .. } = words(transition);
        let stage = self.ui.stage(format_args!("{doing} workspace {name}"));
        let ended = self.watch(build).await?;
        let what = format!("the build of workspace {}", quoted(name));
        let text = match ended.job.status.as_str() {
            "succeeded" => {
                stage.finish();
                return Ok(());
            }
            "canceled" => format!("{what} was canceled"),
            _ => match ended.job.error.filter(|text| !text.is_empty()) {
                Some(why) => format!("{what} failed: {why}"),
                None => format!("{what} failed"),
            },
        };
        drop(stage);
        Err(CommandError::msg(Kind::Build, text)
            .hint("look at the build's log above or in the dashboard, and try again"))
    }

    /// Shows a build's log until its job is over; answers the build as it is then.
    async fn watch(&self, build: &Build) -> Result<Build, CommandError> {
        if !self.ui.is_quiet()
            && let Err(error) = self.api().follow_build_log(build.id, build_lines(self.ui)).await
        {
            // Without its log a build is waited for all the same.
            tracing::debug!(%error, "the build's log is not to be had");
        }
        let mut pause = PAUSE;
        loop {
            let now = self.api().build(build.id).await?;
            if !is_active(&now.job.status) {
                return Ok(now);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// What `stop` and `delete` take.
#[derive(clap::Args)]
pub(super) struct Ending {
    /// Workspace: name, owner/name or id
    workspace: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    waiting: Waiting,
}

impl Ending {
    /// Asks `question` of the workspace's name, and brings it there. Where nobody can be asked
    /// `--yes` may be a `must`.
    pub(super) async fn run(
        self,
        environment: &Environment,
        goal: Transition,
        question: impl FnOnce(&str) -> String,
        must: bool,
    ) -> Result<u8, CommandError> {
        let builder = Builder::open(environment, self.waiting).await?;
        let work = async {
            let workspace = builder.find(&self.workspace).await?;
            confirm(&environment.ui, self.yes, &question(&workspace.name), must).await?;
            builder.reach(goal, workspace, &[]).await
        };
        builder.bounded(work).await
    }
}

/// Asks before something is lost, where somebody can be asked; `--yes` is asked for elsewhere.
pub(super) async fn confirm(
    ui: &Ui,
    yes: bool,
    question: &str,
    must: bool,
) -> Result<(), CommandError> {
    if yes || (!must && !ui.can_ask()) {
        return Ok(());
    }
    if !ui.can_ask() {
        return Err(CommandError::msg(Kind::Usage, "this needs to be confirmed")
            .hint("nobody can be asked here: confirm with --yes"));
    }
    ui.ask(&format!("{question} [y/N] "));
    // A signal ends the command while this still waits; it ends with the process.
    let line = tokio::task::spawn_blocking(crate::ui::read_line).await;
    let failed = |error| CommandError::new(Kind::Other, anyhow::Error::from(error));
    let line = line.map_err(|error| CommandError::new(Kind::Other, error))?.map_err(failed)?;
    match line.as_deref().map(|line| line.to_lowercase()).as_deref() {
        Some("y" | "yes") => Ok(()),
        Some(_) | None => Err(CommandError::msg(Kind::Other, "not confirmed, nothing was done")),
    }
}

fn is_active(status: &str) -> bool {
    matches!(status, "pending" | "running" | "canceling")
}

fn deleted(name: &str) -> CommandError {
    CommandError::msg(Kind::Deleted, format!("workspace {} was deleted", quoted(name)))
        .hint("`coderctl list` shows the workspaces that there are")
}

/// What to do next about a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is where it should be.
    Done,
    /// The build that leads there runs already.
    Join,
    /// Another build runs.
    Pass,
    /// It was deleted.
    Gone,
    /// What a failed start left behind is removed first (coder/coder: cli/start.go).
    StopFirst,
    /// Ask for the build.
    Ask,
}

/// What to do next, by the latest build's transition and the status of its job.
fn step(goal: Transition, transition: &str, status: &str) -> Step {
    let wanted = match goal {
        Transition::Start => "start",
        Transition::Stop => "stop",
        Transition::Delete => "delete",
    };
    match (transition, status) {
        (transition, "pending" | "running") if transition == wanted => Step::Join,
        (_, "pending" | "running" | "canceling") => Step::Pass,
        ("delete", "succeeded") => Step::Gone,
        (transition, "succeeded") if transition == wanted => Step::Done,
        ("start", "failed") if goal == Transition::Start => Step::StopFirst,
        _ => Step::Ask,
    }
}

/// What is said of a transition.
struct Words {
    doing: &'static str,
    done: &'static str,
    asked: &'static str,
}

fn words(transition: Transition) -> Words {
    match transition {
        Transition::Start => {
            Words { doing: "Starting", done: "started", asked: "is being started" }
        }
        Transition::Stop => Words { doing: "Stopping", done: "stopped", asked: "is being stopped" },
        Transition::Delete => {
            Words { doing: "Deleting", done: "deleted", asked: "is being deleted" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_next_follows_from_the_latest_build() {
        use Step::{Ask, Done, Gone, Join, Pass, StopFirst};
        use Transition::{Delete, Start, Stop};
        // The latest build, then what start, stop and delete do about it.
        for (transition, status, start, stop, delete) in [
            ("start", "pending", Join, Pass, Pass),
            ("start", "running", Join, Pass, Pass),
            ("start", "succeeded", Done, Ask, Ask),
            ("start", "failed", StopFirst, Ask, Ask),
            ("start", "canceling", Pass, Pass, Pass),
            ("start", "canceled", Ask, Ask, Ask),
            ("start", "unheard-of", Ask, Ask, Ask),
            ("stop", "running", Pass, Join, Pass),
            ("stop", "succeeded", Ask, Done, Ask),
            ("stop", "failed", Ask, Ask, Ask),
            ("delete", "running", Pass, Pass, Join),
            ("delete", "succeeded", Gone, Gone, Gone),
            ("delete", "failed", Ask, Ask, Ask),
        ] {
            for (goal, expected) in [(Start, start), (Stop, stop), (Delete, delete)] {
                let found = step(goal, transition, status);
                assert_eq!(found, expected, "{goal:?} after {transition}/{status}");
            }
        }
    }
}
