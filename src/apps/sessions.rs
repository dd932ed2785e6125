//! `sessions`: the terminals that the agent keeps, which `ssh --session` comes back to.
//!
//! The agent of this repository lists them in its HTTP API, on port 4 of the tunnel, as
//! `GET /api/v0/terminals`. No other agent has such a list, and one without it says 404.

use bytes::Bytes;
use coderctl_transport::{self as transport, Limits};
use http::{Request, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    App, BoxFuture, Context, End, Event, Tunnel,
    session::{AGE, BUSY, asked, attached, detached, ended_by, lost, reach},
};
use crate::{
    error::{CommandError, Kind},
    ui::Ui,
};

/// The agent's port for its HTTP API (coder/coder: `AgentHTTPAPIServerPort`).
const PORT: u16 = 4;

/// A session, as its agent tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// What clients name it by.
    pub id: Uuid,
    /// What runs in it; empty for a login shell. Not to be printed unescaped.
    pub command: String,
    /// When it began, by the workspace's clock.
    pub created_at: Timestamp,
    /// How many clients look at it.
    pub attached: u64,
}

/// Shows them, the oldest first; the exit code.
pub type Show = fn(&Ui, &[Session]) -> Result<u8, CommandError>;

/// The app behind `sessions`.
#[derive(Debug)]
pub struct Sessions {
    show: Show,
}

impl Sessions {
    /// Will show what there is.
    #[must_use]
    pub fn new(show: Show) -> Self {
        Self { show }
    }
}

impl App for Sessions {
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(self.show, context))
    }
}

async fn run(show: Show, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    let way = match attached(&mut tunnel).await {
        Ok(way) => way,
        Err(error) => return End::Failed(error),
    };
    // The driver may be gone, and with it the one who listens.
    let _ = events.send(Event::Up);
    tokio::select! {
        listed = list(&*way) => match listed.and_then(|listed| show(&ui, &listed)) {
            Ok(code) => End::Done(code),
            Err(error) => End::Failed(error),
        },
        () = asked(&mut close) => End::Done(0),
        Some(signal) = signals.recv() => End::Done(ended_by(signal)),
        () = detached(&mut tunnel) => lost(None),
    }
}

async fn list(tunnel: &dyn Tunnel) -> Result<Vec<Session>, CommandError> {
    let stream = reach(tunnel, PORT, "the agent's HTTP API").await?;
    let request = Request::get("/api/v0/terminals")
        .header(header::HOST, "workspace")
        .header(header::CONNECTION, "close")
        .body(Bytes::new())
        .map_err(|error| CommandError::new(Kind::Other, error))?;
    let answer = transport::call(Box::new(stream), "the agent", request, Limits::default()).await;
    let answer = answer.map_err(broken)?;
    understood(answer.status(), answer.body())
}

/// No whole answer.
fn broken(error: transport::Error) -> CommandError {
    let (kind, hint) = if matches!(error, transport::Error::Timeout { .. }) {
        (Kind::Timeout, BUSY)
    } else if matches!(error, transport::Error::Broken { .. }) {
        (Kind::Tunnel, BUSY)
    } else {
        (Kind::Protocol, AGE)
    };
    let error = anyhow::Error::new(error).context("the agent does not list its sessions");
    CommandError::new(kind, error).hint(hint)
}

/// What an answer says.
fn understood(status: StatusCode, body: &[u8]) -> Result<Vec<Session>, CommandError> {
    if status == StatusCode::NOT_FOUND {
        let text = "this workspace's agent does not list its sessions";
        return Err(CommandError::msg(Kind::Protocol, text).hint(
            "only the agent of coderctl does; any agent's are come back to by name, with \
             `coderctl ssh WORKSPACE --session NAME`",
        ));
    }
    if status != StatusCode::OK {
        let text = format!("the agent does not list its sessions: it answers {status}");
        return Err(CommandError::msg(Kind::Protocol, text).hint(AGE));
    }
    let mut listed: Vec<Session> = serde_json::from_slice(body).map_err(|error| {
        let error = anyhow::Error::new(error);
        let error = error.context("the agent's list of sessions cannot be understood");
        CommandError::new(Kind::Protocol, error).hint(AGE)
    })?;
    listed.sort_by_key(|session| session.created_at);
    Ok(listed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_oldest_comes_first_and_what_is_new_is_passed_over() {
        let body = br#"[
            {"id": "776f726b-0000-0000-0000-000000000000", "command": "", "attached": 2,
             "created_at": "2026-01-02T03:04:06Z", "colour": "red"},
            {"id": "6f6c6400-0000-0000-0000-000000000000", "command": "top", "attached": 0,
             "created_at": "2026-01-02T03:04:05.5Z"}
        ]"#;
        let listed = understood(StatusCode::OK, body).unwrap();
        let seen: Vec<_> = listed.iter().map(|one| (one.command.as_str(), one.attached)).collect();
        assert_eq!(seen, [("top", 0), ("", 2)]);
        assert!(understood(StatusCode::OK, b"[]").unwrap().is_empty());
    }

    #[test]
    fn an_answer_that_is_no_list_is_an_error_that_says_so() {
        for (status, body, said) in [
            (404, &b"404 page not found\n"[..], "this workspace's agent does not list"),
            (404, b"[]", "this workspace's agent does not list"),
            (500, b"", "it answers 500 Internal Server Error"),
            (204, b"", "it answers 204 No Content"),
            (200, b"", "cannot be understood: EOF"),
            (200, b"{}", "cannot be understood"),
            (200, br#"[{"id": "x"}]"#, "cannot be understood"),
        ] {
            let error = understood(StatusCode::from_u16(status).unwrap(), body).unwrap_err();
            assert_eq!((error.kind.code(), error.hints.len()), (212, 1), "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
