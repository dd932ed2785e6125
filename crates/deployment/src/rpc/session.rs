//! An agent's session: yamux on a WebSocket, with both services on it, and the monitor that says
//! whether the agent is connected (coder/coder: coderd/workspaceagentsrpc.go).

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State as From},
    response::Response,
};
use coderctl_drpc::{Pinger, Server};
use coderctl_transport::BoxStream;
use futures_util::FutureExt as _;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use uuid::Uuid;

use super::{auth::Agent, calls::Caller, version};
use crate::{
    faults::Thing,
    http::{error::ApiError, extract::Query, sockets, tasks::Stopping},
    model::Timestamp,
    pubsub::channels::{WorkspaceEvent, WorkspaceEventKind},
    state::State,
    store::AuthenticatedAgent,
};

/// The shortest time for an answer to a ping, whatever the frequency
/// (coderd/workspaceagentsrpc.go).
const MIN_PATIENCE: Duration = Duration::from_secs(2);

/// `GET /workspaceagents/me/rpc?version=&role=`.
pub(super) async fn serve(
    From(state): From<State>,
    Agent(agent): Agent,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let version = version::accept(query.text("version"))?;
    // Others than the agent itself speak for it at times (a log streamer); that does not make it
    // connected.
    let monitored = matches!(query.text("role"), None | Some("agent"));
    let (response, upgrade) = sockets::upgrade_stream(request, None)?;
    upgrade.run(move |stream, stopping| async move {
        let session = Session { connection: Uuid::new_v4(), state, agent, version, monitored };
        session.run(stream, stopping).await;
    });
    Ok(response)
}

struct Session {
    /// Tells this session from the agent's next, which may begin before this one ends.
    connection: Uuid,
    state: State,
    agent: AuthenticatedAgent,
    version: String,
    monitored: bool,
}

impl Session {
    async fn run(self, stream: BoxStream, mut stopping: Stopping) {
        let id = self.agent.agent.id;
        if self.monitored && !self.connected().await {
            return;
        }
        tracing::debug!(agent = %id, version = self.version, "an agent is connected");
        let mut server = Server::connect(stream);
        let dropped = Arc::new(Notify::new());
        let caller = Caller::new(&self.state, &self.agent, &self.version, Arc::clone(&dropped));
        let mut cut = self.state.faults.live(|| Thing::Session(id));
        let mut calls = JoinSet::new();
        let pinger = server.session().pinger();
        let mut monitor = std::pin::pin!(self.monitor(pinger));
        let why = loop {
            while calls.try_join_next().is_some() {}
            tokio::select! {
                call = server.accept() => match call {
                    Some(call) => {
                        let caller = caller.clone();
                        calls.spawn(async move { caller.serve(call).await }.boxed());
                    }
                    None => break "the agent left",
                },
                why = &mut monitor => break why,
                () = dropped.notified() => break "a fault was asked for",
                () = cut.cut() => break "a fault was asked for",
                () = stopping.requested() => break "the server stops",
            }
        };
        // What is under way ends before it is said that the agent has gone.
        calls.shutdown().await;
        server.close().await;
        tracing::debug!(agent = %id, why, "an agent is disconnected");
        if self.monitored {
            self.disconnected().await;
        }
    }

    /// Notes that the agent is connected; whether that could be noted.
    async fn connected(&self) -> bool {
        let (id, replica) = (self.agent.agent.id, self.state.replica_id);
        let now = Timestamp::now();
        let noted = self.state.store.agent_connected(id, self.connection, replica, now).await;
        if let Err(error) = noted {
            tracing::error!(agent = %id, %error, "an agent's connection could not be noted");
            return false;
        }
        self.tell().await;
        true
    }

    async fn disconnected(&self) {
        let id = self.agent.agent.id;
        match self.state.store.agent_disconnected(id, self.connection, Timestamp::now()).await {
            Ok(true) => self.tell().await,
            // Its next session has begun already.
            Ok(false) => {}
            Err(error) => {
                tracing::error!(agent = %id, %error, "an agent's leave could not be noted");
            }
        }
    }

    /// Tells those who watch.
    async fn tell(&self) {
        let workspace = self.agent.workspace.id;
        // Whose it is may have changed since the session began.
        let owner = match self.state.store.workspace(workspace).await {
            Ok(workspace) => workspace.owner_id,
            Err(error) => {
                tracing::error!(%workspace, %error, "an owner could not be found");
                return;
            }
        };
        let kind = WorkspaceEventKind::AgentConnectionUpdate;
        let event = WorkspaceEvent::agent(kind, workspace, self.agent.agent.id);
        self.state.publish_workspace(owner, event).await;
    }

    /// Ends when the session should, and says why.
    async fn monitor(&self, pinger: Pinger) -> &'static str {
        if !self.monitored {
            return std::future::pending().await;
        }
        let every = self.state.config.agent_update_interval;
        let patience = (2 * every).max(MIN_PATIENCE);
        let pings = async {
            loop {
                match timeout(patience, pinger.ping()).await {
                    Ok(Ok(_)) => tokio::time::sleep(every).await,
                    Ok(Err(_)) => return "the agent's connection broke",
                    Err(_) => return "the agent does not answer",
                }
            }
        };
        tokio::select! {
            why = pings => why,
            why = self.checks(every) => why,
        }
    }

    async fn checks(&self, every: Duration) -> &'static str {
        let id = self.agent.agent.id;
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let store = &self.state.store;
            let checked = async {
                store.agent_seen(id, self.connection, Timestamp::now()).await?;
                store.agent_is_current(id).await
            };
            match checked.await {
                Ok(true) => {}
                Ok(false) => return "its build is outdated",
                Err(error) => {
                    tracing::error!(agent = %id, %error, "an agent could not be looked up");
                    return "the agent could not be looked up";
                }
            }
        }
    }
}
