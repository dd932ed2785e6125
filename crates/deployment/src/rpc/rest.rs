//! What an agent asks by plain requests.

use axum::{Json as Answer, extract::State as From, response::IntoResponse};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::auth::Agent;
use crate::{
    http::{error::ApiError, extract::Json},
    model::{LogLevel, NewAgentLog, Timestamp},
    state::State,
};

/// Bytes of a log source's name and icon (coder/coder: codersdk/agentsdk/agentsdk.go sends short
/// ones).
const MAX_NAME: usize = 1024;

/// `POST /workspaceagents/me/log-source`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct LogSource {
    id: Uuid,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    icon: String,
}

/// Keeps a log source, unless it is known.
pub(super) async fn log_source(
    From(state): From<State>,
    Agent(agent): Agent,
    Json(source): Json<LogSource>,
) -> Result<impl IntoResponse, ApiError> {
    if source.display_name.len() > MAX_NAME || source.icon.len() > MAX_NAME {
        return Err(ApiError::bad_request("The log source's name or icon is too long."));
    }
    state
        .store
        .add_log_source(
            agent.agent.id,
            source.id,
            &source.display_name,
            &source.icon,
            Timestamp::now(),
        )
        .await
        .map_err(|error| ApiError::internal("The log source could not be kept.", error))?;
    Ok((StatusCode::CREATED, Answer(source)))
}

/// `PATCH /workspaceagents/me/logs`, from agents before API 2.
#[derive(Debug, Deserialize)]
pub(super) struct Logs {
    #[serde(default)]
    log_source_id: Uuid,
    logs: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    created_at: Timestamp,
    output: String,
    #[serde(default)]
    level: String,
}

/// Adds lines to an agent's log.
pub(super) async fn logs(
    From(state): From<State>,
    Agent(agent): Agent,
    Json(logs): Json<Logs>,
) -> Result<impl IntoResponse, ApiError> {
    if logs.logs.is_empty() {
        return Err(ApiError::bad_request("No logs were provided."));
    }
    let lines: Vec<_> = logs
        .logs
        .into_iter()
        .map(|line| NewAgentLog {
            created_at: line.created_at,
            level: LogLevel::parse(&line.level).unwrap_or(LogLevel::Info),
            output: line.output,
        })
        .collect();
    let now = Timestamp::now();
    let overflowed = super::append_logs(&state, agent.agent.id, logs.log_source_id, &lines, now)
        .await
        .map_err(|error| ApiError::internal("The logs could not be kept.", error))?;
    if overflowed {
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "Logs limit exceeded"));
    }
    Ok(StatusCode::OK)
}

/// `GET /workspaceagents/me/external-auth`: there are no git providers.
pub(super) async fn external_auth(Agent(_): Agent) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "No external authentication providers are configured.")
        .detail("This deployment has none; git is used with its own credentials.")
}

/// `GET /workspaceagents/me/gitsshkey`: users have none here.
pub(super) async fn git_ssh_key(Agent(_): Agent) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "The workspace's owner has no Git SSH key.")
        .detail("This deployment makes none; git is used with its own keys.")
}
