//! Workspace names as typed.
//!
//! | form | meaning |
//! |---|---|
//! | `ws` | own workspace |
//! | `ws.agent` | own workspace, named agent |
//! | `owner/ws`, `owner--ws` | someone else's |
//! | `owner/ws.agent`, `owner/ws--agent`, `owner--ws.agent`, `owner--ws--agent` | with agent |
//! | `agent.ws.owner` | the order of Coder Connect: three parts, dots only |
//! | a UUID | workspace id |
//!
//! These are the forms of coder/coder: cli/ssh.go, here for every command.

use uuid::Uuid;

use crate::{
    error::{CommandError, Kind},
    ui::quoted,
};

/// A workspace, perhaps of someone else, and perhaps one of its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose workspace: a user name, or `me`.
    pub owner: String,
    /// Its name or id.
    pub workspace: String,
    /// The agent, where one was named.
    pub agent: Option<String>,
}

/// Longest part of a name, in bytes: names are limited to 32 characters, ids are 36 long.
const LONGEST: usize = 64;

impl Target {
    /// Reads a name in any of the forms above.
    ///
    /// # Errors
    /// Of kind [`Kind::Workspace`]: nothing by that name can exist.
    pub fn parse(name: &str) -> Result<Self, CommandError> {
        // 32 digits without hyphens are a legal name, too: they stay what was typed.
        if let Some(id) = Uuid::try_parse(name).ok().filter(|_| name.len() != 32) {
            return Ok(Self::own(&id.hyphenated().to_string(), None));
        }
        let parts = split(name);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let dots_only = !name.contains('/') && !name.contains("--");
        let target = match parts.as_slice() {
            [workspace] => Self::own(workspace, None),
            [workspace, agent] if dots_only => Self::own(workspace, Some(agent)),
            // `owner/ws` where the second half is a dot apart would be three parts.
            [owner, workspace] if !name.contains('.') => Self::of(owner, workspace, None),
            [agent, workspace, owner] if dots_only => Self::of(owner, workspace, Some(agent)),
            [owner, workspace, agent] if !is_path_of_three(name) => {
                Self::of(owner, workspace, Some(agent))
            }
            _ => return Err(malformed(name)),
        };
        target.check(name)
    }

    /// Reads a host name as OpenSSH hands it over: `prefix` is stripped as a plain string, or,
    /// where it does not match, `suffix` as a whole DNS label (given without its dot).
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_host(
        host: &str,
        prefix: Option<&str>,
        suffix: Option<&str>,
    ) -> Result<Self, CommandError> {
        Self::parse(strip(host, prefix, suffix))
    }

    fn own(workspace: &str, agent: Option<&str>) -> Self {
        Self::of("me", workspace, agent)
    }

    fn of(owner: &str, workspace: &str, agent: Option<&str>) -> Self {
        Self {
            owner: owner.to_owned(),
            workspace: workspace.to_owned(),
            agent: agent.map(str::to_owned),
        }
    }

    /// Only what may be a name may become part of a URL or of a message.
    fn check(self, typed: &str) -> Result<Self, CommandError> {
        let parts = [Some(&self.owner), Some(&self.workspace), self.agent.as_ref()];
        let legal = |part: &&String| {
            part.len() <= LONGEST
                && !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if parts.iter().flatten().all(legal) { Ok(self) } else { Err(malformed(typed)) }
    }
}

impl std::fmt::Display for Target {
    /// The shortest form that means the same.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.owner != "me" {
            write!(f, "{}/", self.owner)?;
        }
        f.write_str(&self.workspace)?;
        match &self.agent {
            Some(agent) => write!(f, ".{agent}"),
            None => Ok(()),
        }
    }
}

/// Splits at `/`, at runs of `.` and at `--`. What begins or ends with one has an empty part.
fn split(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in name.split('/').flat_map(|part| part.split("--")) {
        let mut before = None;
        let single_dots = part.chars().filter(|&c| before.replace(c) != Some('.') || c != '.');
        parts.extend(single_dots.collect::<String>().split('.').map(str::to_owned));
    }
    parts
}

/// `a/b/c` is a path, not an owner, a workspace and an agent.
fn is_path_of_three(name: &str) -> bool {
    name.matches('/').count() > 1
}

fn strip<'a>(host: &'a str, prefix: Option<&str>, suffix: Option<&str>) -> &'a str {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(rest) = given(prefix).and_then(|prefix| host.strip_prefix(prefix.as_str())) {
        return rest;
    }
    let suffix = given(suffix).map(|suffix| format!(".{}", suffix.trim_start_matches('.')));
    suffix.and_then(|suffix| host.strip_suffix(suffix.as_str())).unwrap_or(host)
}

fn malformed(name: &str) -> CommandError {
    CommandError::msg(Kind::Workspace, format!("{} is not a workspace name", quoted(name)))
        .hint("write it as `workspace`, `owner/workspace`, `workspace.agent` or an id; `coderctl list` shows yours")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_means_what_it_means_to_the_go_client() {
        for (typed, owner, workspace, agent) in [
            ("ws", "me", "ws", None),
            ("my-ws", "me", "my-ws", None),
            ("ws.main", "me", "ws", Some("main")),
            ("ws..main", "me", "ws", Some("main")),
            ("bob/ws", "bob", "ws", None),
            ("bob--ws", "bob", "ws", None),
            ("bob/ws.main", "bob", "ws", Some("main")),
            ("bob/ws--main", "bob", "ws", Some("main")),
            ("bob--ws.main", "bob", "ws", Some("main")),
            ("bob--ws--main", "bob", "ws", Some("main")),
            ("main.ws.bob", "bob", "ws", Some("main")),
            ("main.ws.me", "me", "ws", Some("main")),
            (
                "0199d2c3-7f4a-7c1e-9a60-2f1c5b8d3e4f",
                "me",
                "0199d2c3-7f4a-7c1e-9a60-2f1c5b8d3e4f",
                None,
            ),
        ] {
            let read = Target::parse(typed).unwrap();
            let seen = (read.owner.as_str(), read.workspace.as_str(), read.agent.as_deref());
            assert_eq!(seen, (owner, workspace, agent), "{typed}");
        }
    }

    #[test]
    fn bad_names_are_refused_shortly_and_visibly() {
        let long = "x".repeat(100_000);
        for typed in [
            "",
            "a\nb",
            "a b",
            "a/b/c",
            "a.b.c.d",
            "a--",
            "/a",
            "..",
            ".a",
            "a.",
            "../../etc",
            "\x1b[2J",
            "a%2fb",
            "ö",
            &long,
        ] {
            let error = Target::parse(typed).unwrap_err();
            assert_eq!(error.kind.code(), 201);
            let text = error.to_string();
            assert!(text.len() < 400 && !text.contains(['\n', '\x1b']), "{text}");
        }
    }

    #[test]
    fn host_names_lose_their_prefix_or_else_their_suffix() {
        let read = |host: &str, prefix, suffix| {
            Target::parse_host(host, prefix, suffix).map(|target| target.to_string()).unwrap()
        };
        assert_eq!(read("coder.dev", Some("coder."), Some("coder")), "dev");
        assert_eq!(read("main.dev.bob.coder", Some("x-"), Some("coder")), "bob/dev.main");
        assert_eq!(read("acoder", None, Some("coder")), "acoder");
        assert_eq!(read("coder-vscode--bob--dev", Some("coder-vscode--"), None), "bob/dev");
        assert_eq!(read("dev", Some(""), Some("")), "dev");
    }

    proptest! {
        #[test]
        fn no_name_panics_and_what_is_read_is_harmless(typed in "[a-z./-]{0,20}|.{0,50}") {
            if let Ok(target) = Target::parse(&typed) {
                prop_assert!(Target::parse(&target.to_string()).is_ok(), "{}", target);
                prop_assert!(!target.workspace.contains(['/', '.', '%', '?', '#']));
            }
        }
    }
}
