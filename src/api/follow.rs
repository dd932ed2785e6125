//! Logs: as they are, or followed line by line, each line once however often the connection breaks.

use std::{collections::BTreeMap, time::Duration};

use coderctl_transport::WebSocketOptions;
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Client, Error,
    watch::{Silence, hear},
};

/// Pause before a broken log is followed again; doubled up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);

const MAX_PAUSE: Duration = Duration::from_secs(8);

/// Times that following may fail without a single new line in between: with the pauses, more than
/// a minute, which a restart of the server does not take.
const MAX_FAILURES: u32 = 12;

/// A line of a log. Not to be printed unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Grows from line to line.
    pub id: i64,
    /// When it was written.
    pub time: Option<Timestamp>,
    /// The stage of a build, the source of an agent's line.
    pub source: String,
    /// `debug`, `info`, `warn`, `error`, …
    pub level: String,
    /// The text.
    pub output: String,
}

#[derive(Deserialize)]
struct BuildLine {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    created_at: Option<Timestamp>,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    log_level: String,
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
struct AgentLine {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    created_at: Option<Timestamp>,
    #[serde(default)]
    source_id: Uuid,
    #[serde(default)]
    level: String,
    #[serde(default)]
    output: String,
}

impl BuildLine {
    fn read(self) -> LogLine {
        LogLine {
            id: self.id,
            time: self.created_at,
            source: self.stage,
            level: self.log_level,
            output: self.output,
        }
    }
}

impl AgentLine {
    fn read(self, sources: &BTreeMap<Uuid, String>) -> LogLine {
        LogLine {
            id: self.id,
            time: self.created_at,
            source: sources.get(&self.source_id).cloned().unwrap_or_default(),
            level: self.level,
            output: self.output,
        }
    }
}

impl Client {
    /// A build's log, as far as it is written.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn build_log(&self, build: Uuid) -> Result<Vec<LogLine>, Error> {
        let lines: Option<Vec<BuildLine>> = self.get(&build_log(build), &[]).await?;
        Ok(lines.into_iter().flatten().map(BuildLine::read).collect())
    }

    /// An agent's log, as far as it is written. `sources` names those who write to it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn agent_log(
        &self,
        agent: Uuid,
        sources: &BTreeMap<Uuid, String>,
    ) -> Result<Vec<LogLine>, Error> {
        let lines: Option<Vec<AgentLine>> = self.get(&agent_log(agent), &[]).await?;
        Ok(lines.into_iter().flatten().map(|line| line.read(sources)).collect())
    }

    /// Hands each line of a build's log to `say` until the log is complete. A connection that
    /// breaks is made again behind the last line.
    ///
    /// # Errors
    /// When the server refuses the log.
    pub async fn follow_build_log(
        &self,
        build: Uuid,
        mut say: impl FnMut(LogLine) + Send,
    ) -> Result<(), Error> {
        let read = &mut |text: &str| {
            let line: BuildLine = serde_json::from_str(text)?;
            Ok(vec![line.read()])
        };
        self.follow(&build_log(build), read, &mut say).await
    }

    /// Hands each line of an agent's log to `say`, until the agent is no longer the workspace's.
    /// `sources` names those who write to it.
    ///
    /// # Errors
    /// When the server refuses the log.
    pub async fn follow_agent_log(
        &self,
        agent: Uuid,
        sources: &BTreeMap<Uuid, String>,
        mut say: impl FnMut(LogLine) + Send,
    ) -> Result<(), Error> {
        let read = &mut |text: &str| {
            let lines: Vec<AgentLine> = serde_json::from_str(text)?;
            Ok(lines.into_iter().map(|line| line.read(sources)).collect())
        };
        self.follow(&agent_log(agent), read, &mut say).await
    }

    async fn follow(
        &self,
        path: &str,
        read: &mut (dyn FnMut(&str) -> serde_json::Result<Vec<LogLine>> + Send),
        say: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<(), Error> {
        let call = format!("GET /api/v2{path}");
        let mut last: i64 = 0;
        let mut pause = PAUSE;
        let mut failures = 0;
        loop {
            let before = last;
            match self.follow_once(path, &call, &mut last, read, say).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "log broke off");
                    if last > before {
                        (pause, failures) = (PAUSE, 0);
                    }
                    failures += 1;
                    if failures > MAX_FAILURES {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn follow_once(
        &self,
        path: &str,
        call: &str,
        last: &mut i64,
        read: &mut (dyn FnMut(&str) -> serde_json::Result<Vec<LogLine>> + Send),
        say: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<(), Error> {
        let after = last.to_string();
        let mut parameters = vec![("follow", ""), ("no_compression", "")];
        if *last > 0 {
            parameters.push(("after", &after));
        }
        let request = self.empty_request(path, &parameters)?;
        let socket = self.transport().websocket(request, WebSocketOptions::default()).await;
        let mut socket = socket.map_err(|error| self.refused(call, error))?;
        loop {
            let text = match hear(&mut socket).await {
                Ok(text) => text,
                Err(Silence::Broke(coderctl_transport::Error::Closed { code: 1000, .. })) => {
                    return Ok(());
                }
                Err(Silence::Broke(error)) => return Err(error.into()),
                Err(Silence::Dead) => {
                    let (host, after) = (self.host(), super::watch::DEAD_AFTER);
                    let step = coderctl_transport::Step::Body;
                    return Err(coderctl_transport::Error::Timeout { host, step, after }.into());
                }
            };
            let lines =
                read(&text).map_err(|source| Error::Decode { call: call.to_owned(), source })?;
            for line in lines {
                if line.id > *last || line.id == 0 {
                    *last = line.id.max(*last);
                    say(line);
                }
            }
        }
    }
}

fn build_log(build: Uuid) -> String {
    format!("/workspacebuilds/{build}/logs")
}

fn agent_log(agent: Uuid) -> String {
    format!("/workspaceagents/{agent}/logs")
}
