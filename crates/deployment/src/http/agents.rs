//! Agents: what is known of one, and how it is reached.

use axum::{
    Json, Router,
    extract::State as Shared,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;

use super::{auth::Caller, error::ApiError, extract::Segments, json as wire, view};
use crate::state::State;

pub(super) fn routes() -> Router<State> {
    let one = "/api/v2/workspaceagents/{agent}";
    Router::new()
        .route("/api/v2/workspaceagents/connection", get(any_connection))
        .route(one, get(by_id))
        .route(&format!("{one}/connection"), get(connection))
        .route(&format!("{one}/listening-ports"), get(through_a_tunnel))
        .route(&format!("{one}/containers"), get(containers))
        .route(&format!("{one}/pty"), get(through_a_tunnel))
}

async fn by_id(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Agent>, ApiError> {
    let (agent, _) = caller.agent(&state, path.id("agent")?).await?;
    let details = state.store.agent_details(agent.id).await?;
    Ok(Json(view::agent(&state, details)))
}

async fn any_connection(Shared(state): Shared<State>, _: Caller) -> Response {
    Json(state.coordinator.connection_info()).into_response()
}

async fn connection(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Response, ApiError> {
    caller.agent(&state, path.id("agent")?).await?;
    Ok(Json(state.coordinator.connection_info()).into_response())
}

/// Agents here know nothing of containers; that is what upstream's say then.
async fn containers(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Response, ApiError> {
    caller.agent(&state, path.id("agent")?).await?;
    Err(ApiError::new(StatusCode::FORBIDDEN, "Agent dev containers are not enabled."))
}

/// What a server could only find out through a tunnel of its own. Clients ask the agent itself,
/// through theirs (its port 4).
async fn through_a_tunnel(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Response, ApiError> {
    caller.agent(&state, path.id("agent")?).await?;
    Err(ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "This deployment does not connect to agents itself.",
    )
    .detail("Ask the agent through a tunnel instead."))
}
