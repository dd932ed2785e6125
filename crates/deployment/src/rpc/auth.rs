//! Which agent a request comes from.

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};

use crate::{
    http::{error::ApiError, token},
    model::AgentToken,
    state::State,
    store::AuthenticatedAgent,
};

/// The agent that a request shows the token of. A token is good while its agent's build is the
/// latest; between a build's beginning and its end there is none, so that 401 is ordinary then.
pub(super) struct Agent(pub(super) AuthenticatedAgent);

impl FromRequestParts<State> for Agent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let Some(text) = token::of_request(&parts.headers, &parts.uri) else {
            return Err(refused("Workspace agent token is missing.")
                .detail("Send it in the header Coder-Session-Token."));
        };
        let token = AgentToken::parse(&text).ok_or_else(|| {
            refused("Workspace agent token is invalid.")
                .detail("An agent's token is a UUID; this is none.")
        })?;
        let found = state.store.authenticate_agent(token).await.map_err(|error| {
            ApiError::internal("The agent's token could not be looked up.", error)
        })?;
        found.map(Self).ok_or_else(|| {
            refused("Workspace agent not authorized.").detail(
                "No agent of a latest build has this token: the workspace is being built, or has \
                 been stopped or rebuilt.",
            )
        })
    }
}

fn refused(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message)
}
