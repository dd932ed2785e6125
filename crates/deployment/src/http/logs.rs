//! The logs of builds and agents: as a list, as text, and followed.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State as Shared},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, header};
use serde::Serialize;
use uuid::Uuid;

use super::{
    auth::Caller,
    error::ApiError,
    extract::{Query, Segments},
    json as wire,
    news::{Heard, News},
    sockets::{self, Close, Events, Gone},
    tasks::Stopping,
};
use crate::{
    model::{AgentLog, JobLog, Workspace},
    pubsub::{
        Event, Subscription,
        channels::{agent_logs, job_logs},
    },
    state::State,
    store::{Store, StoreError},
};

/// Lines that are read at once.
const PAGE: u32 = 1000;

/// How often followers of a job look without being told.
const LOOK: Duration = Duration::from_secs(60);

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/v2/workspacebuilds/{build}/logs", get(of_build))
        .route("/api/v2/workspaceagents/{agent}/logs", get(of_agent))
}

/// How a log is wanted.
enum Form {
    Json,
    Text,
    Followed,
}

impl Form {
    fn of(query: &Query) -> Result<Self, ApiError> {
        let wrong = |why: &str| {
            ApiError::bad_request("Query parameters have invalid values.").field("format", why)
        };
        match (query.text("format"), query.has("follow")) {
            (None | Some("json"), false) => Ok(Self::Json),
            (None | Some("json"), true) => Ok(Self::Followed),
            (Some("text"), false) => Ok(Self::Text),
            (Some("text"), true) => Err(wrong("must be json for a log that is followed")),
            (Some(_), _) => Err(wrong("must be json or text")),
        }
    }
}

fn text(lines: impl Iterator<Item = String>) -> Response {
    let mut response = lines.map(|line| line + "\n").collect::<String>().into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A line of a log, which is read in pages.
trait Line: Sized {
    fn id(&self) -> i64;

    /// The next lines of the job or agent `of` after this one; none at the end.
    fn page(
        store: &Store,
        of: Uuid,
        after: i64,
    ) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
}

impl Line for JobLog {
    fn id(&self) -> i64 {
        self.id
    }

    async fn page(store: &Store, of: Uuid, after: i64) -> Result<Vec<Self>, StoreError> {
        store.job_logs(of, after, PAGE).await
    }
}

impl Line for AgentLog {
    fn id(&self) -> i64 {
        self.id
    }

    async fn page(store: &Store, of: Uuid, after: i64) -> Result<Vec<Self>, StoreError> {
        store.agent_logs(of, after, PAGE).await
    }
}

/// All lines of a job or agent after this one.
async fn lines<L: Line>(state: &State, of: Uuid, mut after: i64) -> Result<Vec<L>, StoreError> {
    let mut all = Vec::new();
    loop {
        let page = L::page(&state.store, of, after).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.id();
        all.extend(page);
    }
}

async fn of_build(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::of(&query)?;
    let after = query.after()?;
    let (build, _) = caller.build(&state, path.id("build")?).await?;
    match form {
        Form::Json => {
            let lines = lines::<JobLog>(&state, build.job_id, after).await?;
            let lines: Vec<_> = lines.into_iter().map(wire::JobLogLine::from).collect();
            Ok(Json(lines).into_response())
        }
        Form::Text => {
            let lines = lines::<JobLog>(&state, build.job_id, after).await?;
            Ok(text(lines.into_iter().map(|line| {
                let JobLog { created_at, level, stage, output, .. } = line;
                format!("{created_at} [{level}] [provisioner|{stage}] {output}")
            })))
        }
        Form::Followed => {
            let channel = job_logs(build.job_id);
            let news = state.pubsub.subscribe(&channel).await.map_err(|error| {
                ApiError::internal("Failed to subscribe to the job's log.", error)
            })?;
            let (response, upgrade) = sockets::upgrade_events(request)?;
            upgrade.run(move |events, stopping| {
                follow_job(state, build.job_id, after, news, events, stopping)
            });
            Ok(response)
        }
    }
}

/// One line in each message; ends with the job.
async fn follow_job(
    state: State,
    job: Uuid,
    mut after: i64,
    mut news: Subscription,
    events: Events,
    mut stopping: Stopping,
) -> Close {
    loop {
        // Its state first: what a job that is over has said has been said by then.
        let lines = async {
            let over = !state.store.job(job).await?.status().is_active();
            Ok::<_, StoreError>((over, lines::<JobLog>(&state, job, after).await?))
        };
        let (over, lines) = match lines.await {
            Ok(lines) => lines,
            Err(error) => return unreadable(&error),
        };
        for line in lines {
            after = line.id;
            if send(&events, &wire::JobLogLine::from(line)).await.is_err() {
                return Close::normal();
            }
        }
        if over {
            return Close::new(1000, "done");
        }
        tokio::select! {
            event = news.recv() => match event {
                Some(Event::Message(_) | Event::Resync) => {}
                None => return shutting_down(),
            },
            () = tokio::time::sleep(LOOK) => {}
            () = stopping.requested() => return shutting_down(),
        }
    }
}

/// The client is to come again for what is missing.
fn unreadable(error: &StoreError) -> Close {
    tracing::error!(%error, "a log that is followed cannot be read");
    Close::new(1011, "the log cannot be read")
}

async fn send(events: &Events, value: &impl Serialize) -> Result<(), Gone> {
    match serde_json::to_string(value) {
        Ok(text) => events.send(text).await,
        Err(error) => {
            tracing::error!(%error, "a log line cannot be written as JSON");
            Ok(())
        }
    }
}

/// The client is to come again, to another server or this one when it is back.
fn shutting_down() -> Close {
    Close::new(1011, "server is shutting down")
}

async fn of_agent(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::of(&query)?;
    let after = query.after()?;
    let (agent, workspace) = caller.agent(&state, path.id("agent")?).await?;
    match form {
        Form::Json => {
            let lines = lines::<AgentLog>(&state, agent.id, after).await?;
            let lines: Vec<_> = lines.into_iter().map(wire::AgentLogLine::from).collect();
            Ok(Json(lines).into_response())
        }
        Form::Text => {
            let sources = state.store.log_sources(agent.id).await?.into_iter();
            let sources: HashMap<Uuid, String> =
                sources.map(|source| (source.id, source.display_name)).collect();
            let lines = lines::<AgentLog>(&state, agent.id, after).await?;
            let name = &agent.spec.name;
            Ok(text(lines.into_iter().map(|line| {
                let AgentLog { created_at, level, output, source_id, .. } = line;
                let source = sources.get(&source_id).filter(|source| !source.is_empty());
                let source = source.map(|source| format!("|{source}")).unwrap_or_default();
                format!("{created_at} [{level}] [agent.{name}{source}] {output}")
            })))
        }
        Form::Followed => {
            let failed =
                |error| ApiError::internal("Failed to subscribe to the agent's log.", error);
            let lines = state.pubsub.subscribe(&agent_logs(agent.id)).await.map_err(failed)?;
            let builds = News::subscribe(&state.pubsub, &workspace).await.map_err(failed)?;
            let (response, upgrade) = sockets::upgrade_events(request)?;
            let follow = FollowAgent {
                build_id: agent.build_id,
                agent_id: agent.id,
                workspace,
                state,
                after,
                lines,
                builds,
            };
            upgrade.run(|events, stopping| follow.run(events, stopping));
            Ok(response)
        }
    }
}

struct FollowAgent {
    state: State,
    workspace: Workspace,
    build_id: Uuid,
    agent_id: Uuid,
    after: i64,
    lines: Subscription,
    builds: News,
}

impl FollowAgent {
    /// A list of lines in each message, the first at once even if it is empty; ends when the agent
    /// is no longer part of the latest build.
    async fn run(mut self, events: Events, mut stopping: Stopping) -> Close {
        let mut first = true;
        loop {
            let (over, lines) = match self.read().await {
                Ok(read) => read,
                Err(error) => return unreadable(&error),
            };
            if first || !lines.is_empty() {
                first = false;
                self.after = lines.last().map_or(self.after, |line| line.id);
                let lines: Vec<_> = lines.into_iter().map(wire::AgentLogLine::from).collect();
                if send(&events, &lines).await.is_err() {
                    return Close::normal();
                }
            }
            if over {
                return Close::normal();
            }
            tokio::select! {
                event = self.lines.recv() => match event {
                    Some(Event::Message(_) | Event::Resync) => {}
                    None => return shutting_down(),
                },
                open = build_may_differ(&mut self.builds) => if !open {
                    return shutting_down();
                },
                () = stopping.requested() => return shutting_down(),
            }
        }
    }

    /// Whether there will be no more lines, asked first, and the lines.
    async fn read(&self) -> Result<(bool, Vec<AgentLog>), StoreError> {
        let (latest, _) = self.state.store.latest_build(self.workspace.id).await?;
        let lines = lines::<AgentLog>(&self.state, self.agent_id, self.after).await?;
        Ok((latest.id != self.build_id, lines))
    }
}

/// Waits until the latest build may be another one; false when the deployment ends.
async fn build_may_differ(news: &mut News) -> bool {
    loop {
        match news.next().await {
            None => return false,
            Some(Heard { state: false, resync: false, time: false, .. }) => {}
            Some(_) => return true,
        }
    }
}
