//! What became of a terminal's program, in the words of its agent.

use std::time::Duration;

use coderctl_transport as transport;
use http::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    apps::{Tunnel, agent_api},
    error::{CommandError, Kind},
};

/// How long it may take the agent to tell of a terminal: it waits some seconds itself for a program
/// that is about to end.
const ASK: Duration = Duration::from_secs(10);

/// What became of a terminal's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Runs,
    Ended(u8),
    /// The agent does not tell.
    Unknown,
}

/// What the agent of this repository answers.
#[derive(Deserialize)]
struct Status {
    running: bool,
    exit_code: Option<i32>,
}

/// Asks the agent what became of a terminal's program.
///
/// # Errors
/// It did not answer.
pub(super) async fn fate(tunnel: &dyn Tunnel, id: Uuid) -> Result<Fate, CommandError> {
    match timeout(ASK, agent_api::get(tunnel, &format!("/api/v0/terminals/{id}"))).await {
        Ok(Ok(Ok(answer))) => Ok(told(answer.status(), answer.body())),
        // Who refuses, or speaks otherwise, has nothing to tell.
        Ok(Ok(Err(error))) if !matches!(error, transport::Error::Broken { .. }) => {
            tracing::debug!(%error, "the agent's word on the session");
            Ok(Fate::Unknown)
        }
        Ok(Err(error)) if error.kind == Kind::Remote => Ok(Fate::Unknown),
        Ok(Ok(Err(error))) => Err(CommandError::new(Kind::Tunnel, error)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(CommandError::msg(Kind::Timeout, "no word on the session from its agent")),
    }
}

/// What an answer says.
fn told(status: StatusCode, body: &[u8]) -> Fate {
    if status != StatusCode::OK {
        return Fate::Unknown;
    }
    match serde_json::from_slice(body) {
        Ok(Status { running: true, .. }) => Fate::Runs,
        // No wrapping: 256 is no success.
        Ok(Status { exit_code: Some(code), .. }) => {
            Fate::Ended(u8::try_from(code).unwrap_or(u8::MAX))
        }
        Ok(Status { exit_code: None, .. }) => Fate::Unknown,
        Err(error) => {
            tracing::debug!(%error, "the agent's word on the session");
            Fate::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_say_of_an_end() {
        for (status, body, expected) in [
            (200, r#"{"running":false,"exit_code":0}"#, Fate::Ended(0)),
            (200, r#"{"running":false,"exit_code":143,"new":1}"#, Fate::Ended(143)),
            (200, r#"{"running":false,"exit_code":256}"#, Fate::Ended(255)),
            (200, r#"{"running":false,"exit_code":-1}"#, Fate::Ended(255)),
            (200, r#"{"running":true,"exit_code":null}"#, Fate::Runs),
            (200, r#"{"running":false,"exit_code":null}"#, Fate::Unknown),
            (200, "[]", Fate::Unknown),
            (404, "", Fate::Unknown),
            (500, r#"{"running":true}"#, Fate::Unknown),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(told(status, body.as_bytes()), expected, "{body}");
        }
    }
}
