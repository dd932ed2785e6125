//! `GET /workspaceagents/me/reinit`: an agent waits for the claim of its prebuilt workspace
//! (coder/coder: coderd/workspaceagents.go `workspaceAgentReinit`).
//!
//! Subscribed first, and only then read whose the workspace is, so that no claim falls between. What
//! is decided then ([`decide`]) is decided again whenever something happens to the workspace and at
//! every ping: a claim that fails is published nowhere, and its agent hears of it by the end of the
//! stream and a 409 on its next try. A stream ends with its first event.

use std::time::Duration;

use axum::{extract::State as From, response::Response};
use futures_util::stream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use uuid::Uuid;

use super::auth::Agent;
use crate::{
    decide::reinit::{Decision, Facts, Refusal, RunsFor, decide},
    http::{
        error::ApiError,
        extract::{Query, boolean},
        sse,
        tasks::Stopping,
    },
    model::{AgentToken, ReinitEvent},
    pubsub::{
        Event, Subscription,
        channels::{WorkspaceEvent, workspace_owner},
        claims::{ClaimListener, Heard},
    },
    state::State,
    store::StoreError,
};

/// How often it is decided again: as often as the stream is pinged.
const AGAIN: Duration = sse::PING;

/// Answers it.
pub(super) async fn serve(
    From(state): From<State>,
    Agent(agent): Agent,
    query: Query,
    stopping: Stopping,
) -> Result<Response, ApiError> {
    // Garbage is false, as upstream's.
    let wait = query.text("wait").and_then(boolean).unwrap_or(false);
    let runs_for = RunsFor { agent_id: id(&query, "agent_id")?, owner_id: id(&query, "owner_id")? };
    let workspace = agent.workspace.id;
    let failed = |error: &dyn std::error::Error| {
        ApiError::internal("The workspace's claims cannot be waited for.", chain(error))
    };
    let claims =
        ClaimListener::listen(&state.pubsub, workspace).await.map_err(|error| failed(&error))?;
    let mut waiting = Waiting {
        question: Question {
            token: agent.agent.auth_token,
            agent: agent.agent.id,
            workspace,
            wait,
            runs_for,
            state,
        },
        claims,
        owner: None,
        again: again(),
    };
    let decision = waiting.decide().await.map_err(|error| failed(&error))?;
    match decision {
        Decision::Refuse(refusal) => Err(refused(&refusal)),
        Decision::Send(event) => Ok(sse::response(stream::iter(data(&event)), stopping)),
        Decision::Wait => {
            // The head alone might wait for a first frame.
            let first = stream::iter([sse::Event::Ping]);
            let then = stream::unfold(Some(waiting), |waiting| async {
                let event = waiting?.wait().await?;
                Some((data(&event)?, None))
            });
            Ok(sse::response(futures_util::StreamExt::chain(first, then), stopping))
        }
    }
}

/// What is asked again and again.
struct Question {
    state: State,
    token: AgentToken,
    /// The row that the token stood for at first.
    agent: Uuid,
    workspace: Uuid,
    wait: bool,
    runs_for: RunsFor,
}

/// A stream that has nothing to say yet.
struct Waiting {
    question: Question,
    claims: ClaimListener,
    /// What happens to the workspaces of its owner, who may change.
    owner: Option<(Uuid, Subscription)>,
    again: Interval,
}

fn again() -> Interval {
    let mut again = interval_at(Instant::now() + AGAIN, AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    again
}

impl Waiting {
    /// Waits for the one event; `None` when there is none to wait for any more.
    async fn wait(mut self) -> Option<ReinitEvent> {
        loop {
            tokio::select! {
                heard = self.claims.recv() => match heard {
                    Heard::Claim(event) => return Some(event),
                    Heard::Resync => {}
                },
                () = news(self.owner.as_mut(), self.question.workspace) => {}
                _ = self.again.tick() => {}
            }
            match self.decide().await {
                Ok(Decision::Wait) => {}
                Ok(Decision::Send(event)) => return Some(event),
                // The agent is told when it asks again.
                Ok(Decision::Refuse(_)) => return None,
                // It may pass; if not, the agent loses nothing by waiting.
                Err(error) => {
                    let workspace = self.question.workspace;
                    tracing::error!(%workspace, %error, "a claim could not be looked for");
                }
            }
        }
    }

    /// Decides, from what is so after the subscriptions stand.
    async fn decide(&mut self) -> Result<Decision, StoreError> {
        loop {
            let facts = self.question.facts().await?;
            let owner = facts.owner_id;
            let heard = self.owner.as_ref().is_some_and(|(of, _)| *of == owner);
            if heard || !self.question.wait {
                return Ok(decide(self.question.wait, &facts, self.question.runs_for));
            }
            match self.question.state.pubsub.subscribe(&workspace_owner(owner)).await {
                // What happened before is read once more.
                Ok(subscription) => self.owner = Some((owner, subscription)),
                // Then it is seen at the next ping.
                Err(error) => {
                    tracing::warn!(%error, "an owner's workspaces cannot be followed");
                    return Ok(decide(self.question.wait, &facts, self.question.runs_for));
                }
            }
        }
    }
}

impl Question {
    async fn facts(&self) -> Result<Facts, StoreError> {
        let store = &self.state.store;
        let builds = store.reinit_builds(self.workspace).await?;
        // A claim's rows have the tokens of the first build's; between them there is none.
        let row = store.authenticate_agent(self.token).await?;
        let agent_id = row.map_or(self.agent, |row| row.agent.id);
        Ok(Facts {
            workspace_id: self.workspace,
            owner_id: builds.workspace.owner_id,
            first_build_initiator: builds.first_build_initiator,
            stage: builds.job.input.prebuilt_workspace_stage,
            initiator: builds.latest.initiator_id,
            status: builds.job.status(),
            error: builds.job.error.clone(),
            agent_id,
        })
    }
}

/// Waits until something may have happened to the workspace.
async fn news(owner: Option<&mut (Uuid, Subscription)>, workspace: Uuid) {
    let Some((_, subscription)) = owner else { return std::future::pending().await };
    loop {
        match subscription.recv().await {
            Some(Event::Resync) => return,
            Some(Event::Message(payload)) => match WorkspaceEvent::parse(&payload) {
                Ok(event) if event.workspace_id == workspace => return,
                Ok(_) | Err(_) => {}
            },
            // The server stops, which the stream hears by itself.
            None => return std::future::pending().await,
        }
    }
}

fn data(event: &ReinitEvent) -> Option<sse::Event> {
    match sse::Event::data(event) {
        Ok(event) => Some(event),
        Err(error) => {
            tracing::error!(%error, "a claim's event cannot be written");
            None
        }
    }
}

fn refused(refusal: &Refusal) -> ApiError {
    ApiError::conflict(refusal.message()).detail(refusal.detail())
}

fn id(query: &Query, name: &'static str) -> Result<Option<Uuid>, ApiError> {
    query.text(name).map(Uuid::parse_str).transpose().map_err(|error| {
        ApiError::bad_request("Query parameters have invalid values.")
            .field(name, format!("Query param {name:?} must be a UUID: {error}"))
    })
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
