//! Looks after agents beyond builds: starts them again with the server, takes over those of a
//! process that is gone, ends those whose workspace another process stops.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{
    agents::{Agents, AgentsError, Wanted},
    create::next_build,
};
use crate::{
    config::Storage,
    decide::Conflict,
    model::{BuildReason, JobStatus, Timestamp, Transition},
    pubsub::{Event, Subscription},
    state::State,
    store::{StoreError, WorkspaceFilter},
};

/// The channel on which processes ask each other to end a workspace's agents; the payload is the
/// workspace's id. Ours, not upstream's.
const LEAVE: &str = "coderctl_agents_leave";

/// How often another process's agents are looked at, whether it is gone.
const LOOK: Duration = Duration::from_secs(5);

/// How often workspaces are looked for whose time is over.
const DEADLINES: Duration = Duration::from_secs(10);

/// How long another process has to end agents: as long as we have, and to hear of it.
const PATIENCE: Duration = Duration::from_secs(70);

/// Pause between two looks whether another process has ended agents.
const PAUSE: Duration = Duration::from_millis(50);

/// What becomes of a workspace's agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// They should run.
    Run,
    /// They should end.
    End,
    /// Whatever they do, it is right: a build is under way or went wrong.
    Leave,
}

/// What should become of a workspace's agents, by its latest build.
///
/// | | pending | running | succeeded | canceling | failed, canceled |
/// |---|---|---|---|---|---|
/// | start | leave | leave | run | leave | leave |
/// | stop, delete | leave | leave | end | leave | leave |
///
/// A stop that runs ends them itself, after its steps.
fn care(transition: Transition, status: JobStatus) -> Care {
    match (transition, status) {
        (Transition::Start, JobStatus::Succeeded) => Care::Run,
        (Transition::Stop | Transition::Delete, JobStatus::Succeeded) => Care::End,
        (
            Transition::Start | Transition::Stop | Transition::Delete,
            JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Canceling
            | JobStatus::Canceled
            | JobStatus::Failed,
        ) => Care::Leave,
    }
}

/// Looks after them until `stop`.
pub(super) async fn run(state: &State, stop: impl Future<Output = ()>) {
    let agents = state.provisioner.agents();
    let leave = match state.pubsub.subscribe(LEAVE).await {
        Ok(subscription) => Some(subscription),
        Err(error) => {
            tracing::warn!(%error, "other processes cannot ask for the end of agents");
            None
        }
    };
    let takeovers = async {
        start_all(state).await;
        // Nobody else may have a state that is not shared.
        if matches!(state.config.storage, Storage::Postgres(_)) {
            loop {
                sleep(LOOK).await;
                start_all(state).await;
            }
        }
    };
    let deadlines = async {
        loop {
            sleep(DEADLINES).await;
            if let Err(error) = autostop(state).await {
                tracing::error!(%error, "workspaces whose time is over could not be found");
            }
        }
    };
    let all = async { tokio::join!(takeovers, deadlines, requests(agents, leave)) };
    tokio::select! {
        _ = all => {}
        () = stop => {}
    }
}

/// Ends the agents that run here whenever another process asks for it.
async fn requests(agents: &Agents, leave: Option<Subscription>) {
    let Some(mut leave) = leave else { return };
    let mut leaving = JoinSet::new();
    while let Some(event) = leave.recv().await {
        while leaving.try_join_next().is_some() {}
        // Who asks looks again and again, and gives up in the end.
        let Event::Message(payload) = event else { continue };
        match Uuid::try_parse_ascii(&payload) {
            Ok(workspace) => {
                let agents = agents.clone();
                leaving.spawn(async move { agents.stop(workspace).await }.boxed());
            }
            Err(_) => tracing::warn!("a process asks for the end of agents of no workspace"),
        }
    }
}

/// Waits until another process, if there is one, has ended a workspace's agents.
pub(super) async fn elsewhere(state: &State, workspace: Uuid) -> Result<(), AgentsError> {
    let agents = state.provisioner.agents();
    if agents.gone(workspace)? {
        return Ok(());
    }
    if let Err(error) = state.pubsub.publish(LEAVE, &workspace.to_string()).await {
        tracing::warn!(%workspace, %error, "a process could not be asked to end its agents");
    }
    let end = Instant::now() + PATIENCE;
    while !agents.gone(workspace)? {
        if Instant::now() > end {
            tracing::warn!(%workspace, "another process did not end a workspace's agents");
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Starts all agents that should run and do not.
async fn start_all(state: &State) {
    let workspaces = match state.store.workspaces(&WorkspaceFilter::default()).await {
        Ok(workspaces) => workspaces,
        Err(error) => {
            tracing::error!(%error, "the workspaces whose agents should run are not known");
            return;
        }
    };
    for workspace in workspaces {
        if state.provisioner.agents().runs(workspace.id) {
            continue;
        }
        if let Err(error) = tend(state, workspace.id).await {
            tracing::error!(workspace = %workspace.id, %error, "its agents do not run");
        }
    }
}

/// Why a workspace could not be looked after.
#[derive(Debug, thiserror::Error)]
enum TendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Agents(#[from] AgentsError),
}

async fn tend(state: &State, workspace: Uuid) -> Result<(), TendError> {
    let (build, job) = state.store.latest_build(workspace).await?;
    match care(build.transition, job.status()) {
        Care::Run => {
            let agents = state.store.agents_of_build(build.id).await?;
            let wanted: Vec<_> = agents.iter().filter_map(Wanted::of).collect();
            state.provisioner.agents().start(workspace, &wanted).await?;
        }
        Care::End => {
            state.provisioner.agents().stop(workspace).await;
        }
        Care::Leave => {}
    }
    Ok(())
}

/// Stops workspaces whose deadline is over.
async fn autostop(state: &State) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for id in state.store.workspaces_past_deadline(now).await? {
        let workspace = state.store.workspace(id).await?;
        let (latest, _) = state.store.latest_build(id).await?;
        let (owner, reason) = (workspace.owner_id, BuildReason::Autostop);
        let build = next_build(&latest, Transition::Stop, owner, reason);
        match state.store.insert_build(id, &build, now).await {
            Ok(_) => super::build_made(state, workspace.owner_id, id).await,
            // Somebody was quicker.
            Err(StoreError::Conflict(Conflict::BuildActive | Conflict::WorkspaceDeleted)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
