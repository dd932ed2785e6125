//! The HTTP face: REST, watches, logs, upgrades.

mod agents;
pub mod auth;
mod builds;
pub mod error;
pub mod extract;
mod json;
mod logs;
mod names;
mod news;
pub mod rate;
mod search;
pub mod serve;
mod site;
pub mod sockets;
pub mod sse;
pub mod tasks;
mod templates;
pub mod token;
mod users;
mod view;
mod watch;
mod workspaces;

use std::sync::Arc;

use axum::{Extension, Router};
use http::StatusCode;

use self::error::ApiError;
use crate::state::State;

/// Every route of the deployment.
pub fn router(state: State) -> Router {
    let gate = Arc::new(auth::Gate::new(&state.config.limits));
    Router::new()
        .merge(crate::rpc::routes())
        .merge(crate::relay::routes())
        .merge(crate::coordinator::routes())
        .merge(site::routes())
        .merge(users::routes())
        .merge(templates::routes())
        .merge(workspaces::routes())
        .merge(builds::routes())
        .merge(agents::routes())
        .merge(logs::routes())
        .merge(watch::routes())
        .fallback(route_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Extension(gate))
        .with_state(state)
}

/// What older clients take for "this server is too old" (`coderd/httpapi/httpapi.go`).
async fn route_not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "Route not found.")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed.")
}
