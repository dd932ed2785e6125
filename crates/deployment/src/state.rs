//! What all rooms of the deployment share.

use std::sync::Arc;

use url::Url;
use uuid::Uuid;

use crate::{
    config::Config,
    coordinator::Coordinator,
    faults::Faults,
    provisioner::Provisioner,
    pubsub::{Pubsub, channels::WorkspaceEvent},
    relay::Relay,
    store::Store,
};

/// What all rooms of the deployment share. Cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

/// Its parts.
pub struct Shared {
    /// What it was started with.
    pub config: Config,
    /// The URL by which clients and agents reach it.
    pub access_url: Url,
    /// Which of the processes that share the state this is; another one after each start.
    pub replica_id: Uuid,
    /// Users, workspaces, builds, agents, logs.
    pub store: Store,
    /// Who is told what happened.
    pub pubsub: Pubsub,
    /// Who may reach whom, and where.
    pub coordinator: Coordinator,
    /// The relay in this process.
    pub relay: Relay,
    /// Runs builds.
    pub provisioner: Provisioner,
    /// Faults to inject; none unless asked for.
    pub faults: Faults,
}

impl State {
    /// Brings the parts together.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Tells all who watch an owner's workspaces. What it is about has happened already, so that
    /// a failure is only logged.
    pub async fn publish_workspace(&self, owner: Uuid, event: WorkspaceEvent) {
        if let Err(error) = self.pubsub.publish_workspace_event(owner, &event).await {
            tracing::warn!(%owner, ?event, %error, "a workspace's news could not be told");
        }
    }
}

impl std::ops::Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
