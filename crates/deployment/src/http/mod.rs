//! The HTTP face: REST, watches, logs, upgrades.

pub mod error;
pub mod serve;
pub mod sockets;
pub mod tasks;

use axum::Router;

use crate::state::State;

/// Every route of the deployment.
pub fn router(state: State) -> Router {
    Router::new().merge(crate::rpc::routes()).with_state(state)
}
