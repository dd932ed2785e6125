//! The HTTP face: REST, watches, logs, upgrades.

pub mod error;
pub mod extract;
pub mod rate;
pub mod serve;
pub mod sockets;
pub mod sse;
pub mod tasks;
pub mod token;

use axum::Router;

use crate::state::State;

/// Every route of the deployment.
pub fn router(state: State) -> Router {
    Router::new().merge(crate::rpc::routes()).with_state(state)
}
