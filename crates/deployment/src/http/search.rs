//! Search queries: `key:value` terms and bare words (`coderd/searchquery/search.go`).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{error::ApiError, extract::boolean, json::ORGANIZATION, json::ORGANIZATION_ID};
use crate::model::{AgentStatus, Timestamp, WorkspaceStatus};

/// A query that cannot be understood: which part of it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    field: String,
    why: String,
}

impl Wrong {
    fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    pub(super) fn into_api(self, message: &str) -> ApiError {
        ApiError::bad_request(message).field(self.field, self.why)
    }
}

/// The terms of a query, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Terms(BTreeMap<String, String>);

impl Terms {
    /// The key of the bare words, joined by spaces.
    pub(super) const BARE: &str = "";

    /// Splits a query at spaces outside of double quotes, and each term at its colon.
    pub(super) fn parse(query: &str) -> Result<Self, Wrong> {
        let query = query.to_lowercase();
        let mut terms = Self::default();
        let mut bare = Vec::new();
        for term in split(&query, ' ') {
            let parts = split(term, ':');
            match parts.as_slice() {
                [_] if !term.starts_with(':') && !term.ends_with(':') => bare.push(unquoted(term)),
                [key, value] if !term.starts_with(':') && !term.ends_with(':') => {
                    let (key, value) = (unquoted(key).to_owned(), unquoted(value).to_owned());
                    if terms.0.insert(key.clone(), value).is_some() {
                        return Err(Wrong::new(key, "may be given once only"));
                    }
                }
                _ => {
                    let why = format!("{term:?} must be a word, or a key and a value with one ':'");
                    return Err(Wrong::new("q", why));
                }
            }
        }
        if !bare.is_empty() {
            terms.0.insert(Self::BARE.to_owned(), bare.join(" "));
        }
        Ok(terms)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, Wrong> {
        self.parsed(key, "must be true or false", boolean)
    }

    fn time(&mut self, key: &'static str) -> Result<Option<Timestamp>, Wrong> {
        // What was lowered: RFC 3339's letters are capitals.
        let read = |text: &str| Timestamp::parse_rfc3339(&text.to_uppercase()).ok();
        self.parsed(key, "must be a time like 2006-01-02T15:04:05Z", read)
    }

    fn parsed<T>(
        &mut self,
        key: &'static str,
        must: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        let Some(text) = self.take(key) else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| Wrong::new(key, format!("{text:?} {must}")))
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Wrong> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(key) => {
                Err(Wrong::new(key.clone(), format!("{key:?} is not a valid query param")))
            }
        }
    }
}

/// The parts between delimiters that are not within double quotes; empty parts are left out.
fn split(text: &str, delimiter: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|character| {
        quoted ^= character == '"';
        !quoted && character == delimiter
    })
    .filter(|part| !part.is_empty())
    .collect()
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('"')
}

/// Which workspaces are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct WorkspaceQuery {
    pub ids: Option<Vec<Uuid>>,
    /// A user's name, or `me`.
    pub owner: Option<String>,
    /// Part of the name.
    pub name: Option<String>,
    pub template: Option<String>,
    pub status: Option<WorkspaceStatus>,
    /// Any agent has one of these.
    pub agents: Vec<AgentStatus>,
    pub dormant: Option<bool>,
    pub outdated: Option<bool>,
    pub last_used_after: Option<Timestamp>,
    pub last_used_before: Option<Timestamp>,
    /// A parameter's name, and its value if that matters.
    pub parameter: Option<(String, Option<String>)>,
    /// It asks for something that no workspace here has or is.
    pub nothing: bool,
}

impl WorkspaceQuery {
    pub(super) fn parse(query: &str) -> Result<Self, Wrong> {
        let mut terms = Terms::parse(query)?;
        let mut wanted = Self::default();
        if let Some(bare) = terms.take(Terms::BARE) {
            match bare.split('/').collect::<Vec<_>>().as_slice() {
                [name] => wanted.name = Some((*name).to_owned()),
                [owner, name] => {
                    wanted.owner = Some((*owner).to_owned());
                    wanted.name = Some((*name).to_owned());
                }
                _ => {
                    let why = format!("Query element {bare:?} can only contain 1 '/'");
                    return Err(Wrong::new("q", why));
                }
            }
        }
        wanted.owner = terms.take("owner").or(wanted.owner).filter(|owner| !owner.is_empty());
        wanted.name = terms.take("name").or(wanted.name).filter(|name| !name.is_empty());
        wanted.template = terms.take("template");
        wanted.ids = terms.parsed("id", "must be UUIDs", |text| {
            text.split(',').map(|id| Uuid::parse_str(id.trim()).ok()).collect()
        })?;
        wanted.status = terms.parsed("status", "is not a status of workspaces", |text| {
            WorkspaceStatus::parse(text).ok()
        })?;
        let agents = terms.parsed("has-agent", "is not a status of agents", |text| {
            text.split(',').map(|status| AgentStatus::parse(status.trim()).ok()).collect()
        })?;
        wanted.agents = agents.unwrap_or_default();
        match terms.boolean("healthy")? {
            Some(true) => wanted.agents.push(AgentStatus::Connected),
            Some(false) => {
                wanted.agents.extend([AgentStatus::Disconnected, AgentStatus::Timeout]);
            }
            None => {}
        }
        wanted.dormant = terms.boolean("dormant")?;
        wanted.outdated = terms.boolean("outdated")?;
        wanted.last_used_after = terms.time("last_used_after")?;
        wanted.last_used_before = terms.time("last_used_before")?;
        wanted.parameter =
            terms.parsed("param", "must be a name, or name=value", |text| {
                match text.trim().split('=').collect::<Vec<_>>().as_slice() {
                    [name] => Some(((*name).to_owned(), None)),
                    [name, value] if !value.is_empty() => {
                        Some(((*name).to_owned(), Some((*value).to_owned())))
                    }
                    _ => None,
                }
            })?;
        let organization = terms.take("organization");
        wanted.nothing = organization.is_some_and(|named| {
            named != ORGANIZATION && Uuid::parse_str(&named) != Ok(ORGANIZATION_ID)
        });
        // Nothing is shared here, and there are neither tasks nor external agents.
        for key in ["shared", "has-ai-task", "has_external_agent"] {
            wanted.nothing |= terms.boolean(key)? == Some(true);
        }
        for key in ["shared_with_user", "shared_with_group"] {
            wanted.nothing |= terms.take(key).is_some();
        }
        terms.finish()?;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn queries() {
        let id = Uuid::from_u128(1);
        let base = WorkspaceQuery::default;
        let text = |text: &str| Some(text.to_owned());
        let rows = [
            ("", base()),
            ("Dev", WorkspaceQuery { name: text("dev"), ..base() }),
            ("my dev", WorkspaceQuery { name: text("my dev"), ..base() }),
            ("bob/dev", WorkspaceQuery { owner: text("bob"), name: text("dev"), ..base() }),
            ("owner:me", WorkspaceQuery { owner: text("me"), ..base() }),
            (
                "owner:me name:dev",
                WorkspaceQuery { owner: text("me"), name: text("dev"), ..base() },
            ),
            ("template:\"with space\"", WorkspaceQuery { template: text("with space"), ..base() }),
            ("status:running", WorkspaceQuery { status: Some(WorkspaceStatus::Running), ..base() }),
            (
                "has-agent:connected,timeout",
                WorkspaceQuery {
                    agents: vec![AgentStatus::Connected, AgentStatus::Timeout],
                    ..base()
                },
            ),
            (
                "healthy:false",
                WorkspaceQuery {
                    agents: vec![AgentStatus::Disconnected, AgentStatus::Timeout],
                    ..base()
                },
            ),
            (
                "dormant:true outdated:false",
                WorkspaceQuery { dormant: Some(true), outdated: Some(false), ..base() },
            ),
            (
                "last_used_after:\"1970-01-01T00:00:00Z\"",
                WorkspaceQuery { last_used_after: Some(Timestamp::EPOCH), ..base() },
            ),
            (&format!("id:{id}"), WorkspaceQuery { ids: Some(vec![id]), ..base() }),
            (
                "param:size=large",
                WorkspaceQuery { parameter: Some(("size".to_owned(), text("large"))), ..base() },
            ),
            ("param:size", WorkspaceQuery { parameter: Some(("size".to_owned(), None)), ..base() }),
            ("organization:coder shared:false", base()),
            ("organization:other", WorkspaceQuery { nothing: true, ..base() }),
            ("shared:true", WorkspaceQuery { nothing: true, ..base() }),
        ];
        for (query, wanted) in rows {
            assert_eq!(WorkspaceQuery::parse(query), Ok(wanted), "{query}");
        }
    }

    #[test]
    fn queries_that_are_none() {
        for (query, field) in [
            ("foo:bar", "foo"),
            ("status:great", "status"),
            ("id:x", "id"),
            ("has-agent:gone", "has-agent"),
            ("dormant:perhaps", "dormant"),
            ("last_used_before:yesterday", "last_used_before"),
            ("param:a=b=c", "param"),
            ("param:a=", "param"),
            ("a/b/c", "q"),
            (":x", "q"),
            ("x:", "q"),
            ("a:b:c", "q"),
            (":", "q"),
            ("name:a name:b", "name"),
        ] {
            assert_eq!(WorkspaceQuery::parse(query).unwrap_err().field, field, "{query}");
        }
    }
}
