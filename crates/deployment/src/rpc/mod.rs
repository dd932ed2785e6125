//! The agents' side: the Agent and Tailnet services over dRPC, and `/reinit`.

mod manifest;
mod rules;

use axum::Router;

use crate::state::State;

/// The routes under `/api/v2/workspaceagents/me`.
pub fn routes() -> Router<State> {
    Router::new()
}
