//! What happens to one workspace, as those hear it who watch it.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use uuid::Uuid;

use crate::{
    model::Workspace,
    pubsub::{
        Event, Pubsub, PubsubError, Subscription,
        channels::{WorkspaceEvent, WorkspaceEventKind, workspace_owner},
    },
};

/// How often a watcher looks without being told: some things change by the clock alone (an agent
/// that times out), and news on an old owner's channel end when a prebuilt workspace is claimed.
const LOOK: Duration = Duration::from_secs(60);

/// What may have changed. Several events at once become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Heard {
    /// A build, or the workspace itself.
    pub state: bool,
    /// An agent's lifecycle.
    pub lifecycle: bool,
    /// Something else: statistics, metadata, logs, connections.
    pub other: bool,
    /// Events may have been lost.
    pub resync: bool,
    /// Nobody said anything, it is only time to look.
    pub time: bool,
}

/// The news of a workspace.
#[derive(Debug)]
pub(super) struct News {
    pubsub: Pubsub,
    workspace_id: Uuid,
    owner_id: Uuid,
    subscription: Subscription,
    look: Interval,
}

impl News {
    /// Subscribes. What is read afterwards misses nothing.
    pub(super) async fn subscribe(
        pubsub: &Pubsub,
        workspace: &Workspace,
    ) -> Result<Self, PubsubError> {
        let subscription = pubsub.subscribe(&workspace_owner(workspace.owner_id)).await?;
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            pubsub: pubsub.clone(),
            workspace_id: workspace.id,
            owner_id: workspace.owner_id,
            subscription,
            look,
        })
    }

    /// Listens on another channel when the workspace has another owner; says whether it has. What
    /// was read before must be read again then.
    pub(super) async fn follow_owner(&mut self, owner_id: Uuid) -> Result<bool, PubsubError> {
        if owner_id == self.owner_id {
            return Ok(false);
        }
        self.subscription = self.pubsub.subscribe(&workspace_owner(owner_id)).await?;
        self.owner_id = owner_id;
        Ok(true)
    }

    /// Waits for news of this workspace; none when the deployment ends. What else has come by then
    /// is included.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        let mut heard = Heard::default();
        while heard == Heard::default() {
            tokio::select! {
                event = self.subscription.recv() => self.note(&event?, &mut heard),
                _ = self.look.tick() => heard.time = true,
            }
        }
        while let Some(event) = self.subscription.recv().now_or_never() {
            // An end is found out by the next call.
            let Some(event) = event else { break };
            self.note(&event, &mut heard);
        }
        Some(heard)
    }

    fn note(&self, event: &Event, heard: &mut Heard) {
        let payload = match event {
            Event::Message(payload) => payload,
            Event::Resync => {
                heard.resync = true;
                return;
            }
        };
        let event = match WorkspaceEvent::parse(payload) {
            Ok(event) if event.workspace_id == self.workspace_id => event,
            // Another workspace of the owner.
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "an event that cannot be read");
                return;
            }
        };
        match event.kind {
            WorkspaceEventKind::StateChange => heard.state = true,
            WorkspaceEventKind::AgentLifecycleUpdate => heard.lifecycle = true,
            WorkspaceEventKind::StatsUpdate
            | WorkspaceEventKind::MetadataUpdate
            | WorkspaceEventKind::AppHealthUpdate
            | WorkspaceEventKind::AgentConnectionUpdate
            | WorkspaceEventKind::AgentFirstLogs
            | WorkspaceEventKind::AgentLogsOverflow
            | WorkspaceEventKind::AgentTimeout
            | WorkspaceEventKind::AgentAppStatusUpdate => heard.other = true,
        }
    }
}
