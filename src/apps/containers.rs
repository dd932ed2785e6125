//! `ssh --container`: a container in the workspace for a session to run in.
//!
//! An agent runs such a session through `docker exec` (coder/coder: agent/agentcontainers). One that
//! has no containers runs it beside them without a word, and one that does not know this container
//! says so in words that depend on its version. So its own list is read first.

use http::StatusCode;
use serde::Deserialize;

use super::{Tunnel, agent_api::List, session::AGE};
use crate::{
    error::{CommandError, Kind},
    ui::{escape, quoted},
};

/// What agents list (coder/coder: agent/agentcontainers/api.go).
const LIST: List = List { path: "/api/v0/containers", what: "containers" };

/// The variables that tell an agent (coder/coder: agent/agentssh/agentssh.go).
const CONTAINER: &str = "CODER_CONTAINER";
const USER: &str = "CODER_CONTAINER_USER";

/// Names that an error tells; who has more knows how to ask for them.
const MOST_NAMES: usize = 20;

/// A container, and who to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name, or its whole id.
    pub name: String,
    /// The user in it, instead of its own default.
    pub user: Option<String>,
}

/// A container, as the agent tells of it.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    name: String,
    running: bool,
    /// What became of one that does not run.
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct Answer {
    /// Go writes an empty list as null.
    containers: Option<Vec<Listed>>,
}

/// Why there is no list.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: String,
}

impl Container {
    /// The variables of a session that is to run there.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let user = self.user.iter().map(|user| (USER.to_owned(), user.clone()));
        std::iter::once((CONTAINER.to_owned(), self.name.clone())).chain(user)
    }

    /// Makes sure that it is there and runs.
    pub(super) async fn find(&self, tunnel: &dyn Tunnel) -> Result<(), CommandError> {
        let answer = LIST.ask(tunnel).await?;
        self.among(&understood(answer.status(), answer.body())?)
    }

    fn among(&self, listed: &[Listed]) -> Result<(), CommandError> {
        let found = listed.iter().find(|one| one.name == self.name || one.id == self.name);
        let name = quoted(&self.name);
        match found {
            Some(one) if one.running => Ok(()),
            Some(one) => {
                let status = match one.status.is_empty() {
                    true => String::new(),
                    false => format!(": {}", quoted(&one.status)),
                };
                let text = format!("container {name} of the workspace does not run{status}");
                Err(CommandError::msg(Kind::Remote, text)
                    .hint("start it in the workspace, e.g. with `docker start`"))
            }
            None if listed.is_empty() => {
                let text = format!("there is no container {name}: the workspace has none");
                Err(CommandError::msg(Kind::Remote, text)
                    .hint("leave --container (-c) away for a session beside them"))
            }
            None => {
                let mut names: Vec<_> =
                    listed.iter().take(MOST_NAMES).map(|one| quoted(&one.name)).collect();
                names.sort_unstable();
                let more = match listed.len().saturating_sub(MOST_NAMES) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let text = format!("there is no container {name} in the workspace");
                Err(CommandError::msg(Kind::Remote, text)
                    .hint(format!("there is: {}{more}", names.join(", "))))
            }
        }
    }
}

/// What an answer says.
fn understood(status: StatusCode, body: &[u8]) -> Result<Vec<Listed>, CommandError> {
    if status == StatusCode::NOT_FOUND {
        let text = "this workspace's agent is too old to run sessions in containers";
        return Err(CommandError::msg(Kind::Protocol, text).hint(AGE));
    }
    let Refusal { message, detail } = serde_json::from_slice(body).unwrap_or_default();
    if status.is_server_error() && !message.is_empty() {
        let why = [&message, &detail].into_iter().filter(|text| !text.is_empty());
        let why: Vec<_> = why.map(|text| escape(text)).collect();
        let text = format!("the agent does not list its containers: {}", why.join(": "));
        return Err(CommandError::msg(Kind::Remote, text)
            .hint("look in the workspace whether `docker ps` works there"));
    }
    if status == StatusCode::FORBIDDEN {
        // Upstream's agent says how to switch them on.
        let why = match message.is_empty() {
            true => String::new(),
            false => format!(": {}", quoted(&message)),
        };
        let text = format!("this workspace's agent offers no containers{why}");
        let error = CommandError::msg(Kind::Remote, text);
        return Err(match detail.is_empty() {
            true => error.hint("its template decides that (CODER_AGENT_DEVCONTAINERS_ENABLE)"),
            false => error.hint(format!("the agent says: {}", quoted(&detail))),
        });
    }
    let answer: Answer = LIST.read(status, body)?;
    Ok(answer.containers.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const LISTED: &[u8] = br#"{"devcontainers": [], "containers": [
        {"id": "b2", "name": "web", "image": "x", "running": true, "status": "running"},
        {"id": "a1", "name": "db\u001b[2J", "running": false, "status": "exited with code 1"}
    ]}"#;

    fn find(name: &str, status: u16, body: &[u8]) -> Result<(), CommandError> {
        let container = Container { name: name.into(), user: None };
        container.among(&understood(StatusCode::from_u16(status).unwrap(), body)?)
    }

    #[test]
    fn a_container_goes_by_its_name_or_its_id() {
        find("web", 200, LISTED).unwrap();
        find("b2", 200, LISTED).unwrap();
    }

    #[test]
    fn what_is_not_there_is_refused_with_what_there_is() {
        for (name, status, body, code, said, hint) in [
            (
                "we",
                200,
                LISTED,
                211,
                "there is no container `we` in the workspace",
                "there is: `db\\x1b[2J`, `web`",
            ),
            (
                "a1",
                200,
                LISTED,
                211,
                "container `a1` of the workspace does not run: `exited with code 1`",
                "start it in the workspace, e.g. with `docker start`",
            ),
            (
                "web",
                200,
                b"{\"containers\": null}",
                211,
                "there is no container `web`: the workspace has none",
                "leave --container (-c) away for a session beside them",
            ),
            (
                "web",
                403,
                b"{\"message\": \"Not enabled.\", \"detail\": \"Set X=true.\"}",
                211,
                "this workspace's agent offers no containers: `Not enabled.`",
                "the agent says: `Set X=true.`",
            ),
            (
                "web",
                403,
                b"no",
                211,
                "this workspace's agent offers no containers",
                "its template decides that (CODER_AGENT_DEVCONTAINERS_ENABLE)",
            ),
            (
                "web",
                404,
                b"",
                212,
                "this workspace's agent is too old to run sessions in containers",
                AGE,
            ),
            (
                "web",
                500,
                br#"{"message": "Could not.", "detail": "docker\u001b"}"#,
                211,
                "the agent does not list its containers: Could not.: docker\\x1b",
                "look in the workspace whether `docker ps` works there",
            ),
            (
                "web",
                500,
                b"",
                212,
                "the agent does not list its containers: it answers 500 Internal Server Error",
                AGE,
            ),
            (
                "web",
                200,
                b"[]",
                212,
                "the agent's list of containers cannot be understood: invalid length 0, expected \
              struct Answer with 1 element at line 1 column 2",
                AGE,
            ),
        ] {
            let error = find(name, status, body).unwrap_err();
            assert_eq!((error.kind.code(), error.to_string()), (code, said.to_owned()));
            assert_eq!(error.hints, [hint]);
        }
        let many: Vec<_> = (0..25)
            .map(|n| serde_json::json!({"id": "", "name": n.to_string(), "running": true}))
            .collect();
        let body = serde_json::json!({ "containers": many }).to_string();
        let error = find("x", 200, body.as_bytes()).unwrap_err();
        assert!(error.hints[0].ends_with("`9` and 5 more"), "{:?}", error.hints);
    }

    #[test]
    fn an_agent_is_told_by_variables() {
        let told = |user: Option<&str>| {
            let container = Container { name: "web".into(), user: user.map(str::to_owned) };
            container.variables().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(told(None), ["CODER_CONTAINER=web"]);
        assert_eq!(told(Some("ann")), ["CODER_CONTAINER=web", "CODER_CONTAINER_USER=ann"]);
    }
}
