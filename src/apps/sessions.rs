//! `sessions`: the terminals that the agent keeps, which `ssh --session` comes back to.
//!
//! The agent of this repository lists them in its HTTP API, on port 4 of the tunnel, as
//! `GET /api/v0/terminals`. No other agent has such a list, and one without it says 404.

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{App, BoxFuture, Context, End, agent_api::List, once};
use crate::{
    error::{CommandError, Kind},
    ui::Ui,
};

const LIST: List = List { path: "/api/v0/terminals", what: "sessions" };

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
        Box::pin(once::run(context, async move |tunnel, ui| {
            let answer = LIST.ask(&*tunnel).await?;
            (self.show)(&ui, &understood(answer.status(), answer.body())?)
        }))
    }
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
    let mut listed: Vec<Session> = LIST.read(status, body)?;
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
