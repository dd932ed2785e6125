//! The agents' side: the Agent and Tailnet services over dRPC, and `/reinit`.
//!
//! ```text
//!   me/rpc ─► auth ─► session (yamux, monitor) ─► calls ─► rules (pure) ─► store, events
//!                                                   └─ Tailnet: coordinator
//!   me/reinit ─► auth ─► subscriptions ─► decide::reinit ─► event stream
//! ```

mod auth;
mod calls;
mod manifest;
mod reinit;
mod rest;
mod rules;
mod session;
mod sub_agents;
pub(crate) mod version;

use axum::{
    Router,
    routing::{get, patch, post},
};
use uuid::Uuid;

use crate::{
    model::{NewAgentLog, Timestamp},
    pubsub::channels::{WorkspaceEvent, WorkspaceEventKind},
    state::State,
    store::StoreError,
};

/// The routes under `/api/v2/workspaceagents/me`.
pub fn routes() -> Router<State> {
    let me = Router::new()
        .route("/rpc", get(session::serve))
        .route("/reinit", get(reinit::serve))
        .route("/gitsshkey", get(rest::git_ssh_key))
        .route("/external-auth", get(rest::external_auth))
        .route("/log-source", post(rest::log_source))
        .route("/logs", patch(rest::logs));
    Router::new().nest("/api/v2/workspaceagents/me", me)
}

/// Adds lines to an agent's log and tells those who follow it; whether the log is full.
async fn append_logs(
    state: &State,
    agent: Uuid,
    source: Uuid,
    lines: &[NewAgentLog],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let appended = state.store.append_agent_logs(agent, source, lines, now).await?;
    if let Some(after) = appended.created_after()
        && let Err(error) = state.pubsub.publish_agent_logs(agent, after).await
    {
        tracing::warn!(%agent, %error, "new lines of an agent's log could not be told");
    }
    let kind = if appended.newly_overflowed {
        Some(WorkspaceEventKind::AgentLogsOverflow)
    } else {
        appended.first_lines.then_some(WorkspaceEventKind::AgentFirstLogs)
    };
    if let Some(kind) = kind {
        let workspace = state.store.agent(agent).await?.workspace_id;
        let owner = state.store.workspace(workspace).await?.owner_id;
        state.publish_workspace(owner, WorkspaceEvent::agent(kind, workspace, agent)).await;
    }
    Ok(appended.overflowed)
}
