//! What happens to a workspace, as it happens: `watch` and `watch-ws` (the whole workspace each
//! time) and `agent-connection-watch` (builds and agents only).

use axum::{
    Router,
    extract::{Request, State as Shared},
    response::Response,
    routing::get,
};
use futures_util::{Stream, stream};
use http::StatusCode;
use serde::Serialize;
use uuid::Uuid;

use super::{
    auth::Caller,
    error::{self, ApiError},
    extract::{Query, Segments},
    news::{Heard, News},
    sockets::{self, Close, Events, Gone},
    sse::{self, Event},
    tasks::Stopping,
    view,
};
use crate::{
    decide::watch::{Message, Reading, Trigger, Watch, WatchError},
    model::Workspace,
    state::State,
};

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/v2/workspaces/{workspace}/watch", get(watch))
        .route("/api/v2/workspaces/{workspace}/watch-ws", get(watch_ws))
        .route("/api/v2/workspaces/{workspace}/agent-connection-watch", get(connection_watch))
}

/// Upstream's 500 for a subscription that fails.
fn no_subscription(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal("Failed to subscribe to workspace events.", error)
}

/// The whole workspace, at first and whenever something happens to it.
struct Following {
    state: State,
    caller: Caller,
    workspace_id: Uuid,
    news: News,
    /// What was sent last: what only time may have changed is sent only if it has.
    sent: String,
    first: bool,
}

impl Following {
    async fn new(state: State, caller: Caller, workspace: &Workspace) -> Result<Self, ApiError> {
        let news = News::subscribe(&state.pubsub, workspace).await.map_err(no_subscription)?;
        let workspace_id = workspace.id;
        Ok(Self { state, caller, workspace_id, news, sent: String::new(), first: true })
    }

    /// The workspace as JSON once there is something new to say; none when the deployment ends.
    async fn next(&mut self) -> Option<Result<String, ApiError>> {
        loop {
            let heard = if self.first {
                self.first = false;
                Heard { state: true, ..Heard::default() }
            } else {
                self.news.next().await?
            };
            let only_time = heard == Heard { time: true, ..Heard::default() };
            match self.read().await {
                Ok(text) if only_time && text == self.sent => {}
                Ok(text) => {
                    self.sent.clone_from(&text);
                    return Some(Ok(text));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn read(&mut self) -> Result<String, ApiError> {
        loop {
            self.caller.renew(&self.state).await?;
            let workspace = self.caller.workspace(&self.state, self.workspace_id).await?;
            let whole = view::workspace_by_id(&self.state, workspace.id).await?;
            let moved = self.news.follow_owner(workspace.owner_id).await;
            if !moved.map_err(no_subscription)? {
                return text(&whole);
            }
        }
    }
}

fn text(value: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value)
        .map_err(|error| ApiError::internal("The workspace cannot be written as JSON.", error))
}

async fn watch(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    stopping: Stopping,
) -> Result<Response, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let following = Following::new(state, caller, &workspace).await?;
    Ok(sse::response(frames(following), stopping))
}

/// A ping says that the subscription is there; then the workspace, and it again and again.
fn frames(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(None, {
        let mut waiting = Some(following);
        move |current: Option<Following>| {
            let begins = waiting.take();
            async move {
                if let Some(following) = begins {
                    return Some((Event::Ping, Some(following)));
                }
                let mut following = current?;
                let event = match following.next().await? {
                    Ok(text) => Event::Data(text),
                    Err(error) => frame_of(&error.body),
                };
                Some((event, Some(following)))
            }
        }
    })
}

/// An error's body; should it ever not be writable, the stream goes on.
fn frame_of(body: &error::Body) -> Event {
    Event::error(body).unwrap_or(Event::Ping)
}

async fn watch_ws(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    request: Request,
) -> Result<Response, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let mut following = Following::new(state, caller, &workspace).await?;
    let (response, upgrade) = sockets::upgrade_events(request)?;
    // `coderd/httpapi/websocket.go`: whoever talks breaks the protocol.
    upgrade.talked(1002).run(move |events, mut stopping| async move {
        let work = async {
            events.send(r#"{"type":"ping","data":null}"#.to_owned()).await?;
            while let Some(next) = following.next().await {
                let message = match next {
                    Ok(text) => format!(r#"{{"type":"data","data":{text}}}"#),
                    Err(error) => match text(&error.body) {
                        Ok(text) => format!(r#"{{"type":"error","data":{text}}}"#),
                        Err(_) => continue,
                    },
                };
                events.send(message).await?;
            }
            Ok::<_, Gone>(())
        };
        tokio::select! {
            _ = work => Close::normal(),
            () = stopping.requested() => Close::new(1001, "server is shutting down"),
        }
    });
    Ok(response)
}

/// `coderd/workspaceconnwatcher/watcher.go`; what is sent when is `decide::watch`'s to say.
async fn connection_watch(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let workspace = caller.workspace(&state, path.id("workspace")?).await?;
    let agent_name = query.text("agent_name").map(str::to_owned);
    let news = News::subscribe(&state.pubsub, &workspace).await.map_err(no_subscription)?;
    let (response, upgrade) = sockets::upgrade_events(request)?;
    let watching =
        Watching { state, caller, workspace_id: workspace.id, news, watch: Watch::new(agent_name) };
    upgrade.run(|events, stopping| watching.run(events, stopping));
    Ok(response)
}

struct Watching {
    state: State,
    caller: Caller,
    workspace_id: Uuid,
    news: News,
    watch: Watch,
}

impl Watching {
    async fn run(mut self, events: Events, mut stopping: Stopping) -> Close {
        let ended = tokio::select! {
            ended = self.follow(&events) => ended,
            () = stopping.requested() => {
                send(&events, &Message::error(WatchError::server_shutdown())).await.map(|()| true)
            }
        };
        match ended {
            Ok(true) => Close::new(1000, "error"),
            Ok(false) => Close::normal(),
            Err(Gone) => Close::normal(),
        }
    }

    /// Says whether it ended with an error that the client was told.
    async fn follow(&mut self, events: &Events) -> Result<bool, Gone> {
        let mut trigger = Trigger::Begin;
        loop {
            let reading = self.read().await;
            for message in self.watch.next(trigger, reading) {
                send(events, &message).await?;
                if message.error.is_some() {
                    return Ok(true);
                }
            }
            trigger = loop {
                let Some(heard) = self.news.next().await else {
                    send(events, &Message::error(WatchError::server_shutdown())).await?;
                    return Ok(true);
                };
                if let Some(trigger) = trigger_of(heard) {
                    break trigger;
                }
            };
        }
    }

    async fn read(&mut self) -> Reading {
        loop {
            let watched = match self.state.store.watched_build(self.workspace_id).await {
                Ok(Some(watched)) => watched,
                Ok(None) => return Reading::NoRows,
                Err(error) => return Reading::Failed(error.to_string()),
            };
            match self.caller.renew(&self.state).await {
                Ok(()) if self.caller.may_use(watched.owner_id) => {}
                Err(error) if error.status != StatusCode::NOT_FOUND => {
                    return Reading::Failed(error.body.message);
                }
                Ok(()) | Err(_) => return Reading::Unauthorized,
            }
            match self.news.follow_owner(watched.owner_id).await {
                Ok(false) => {
                    return Reading::State { build: watched.build, agents: watched.agents };
                }
                Ok(true) => {}
                Err(error) => return Reading::Failed(error.to_string()),
            }
        }
    }
}

async fn send(events: &Events, message: &Message) -> Result<(), Gone> {
    match serde_json::to_string(message) {
        Ok(text) => events.send(text).await,
        Err(error) => {
            tracing::error!(%error, "a message of a watch cannot be written as JSON");
            Ok(())
        }
    }
}

/// What of the news the connection watch is about.
fn trigger_of(heard: Heard) -> Option<Trigger> {
    match heard {
        Heard { resync: true, .. } => Some(Trigger::Resync),
        Heard { lifecycle: true, .. } => Some(Trigger::Lifecycle),
        Heard { state: true, .. } | Heard { time: true, .. } => Some(Trigger::StateChange),
        Heard { resync: false, lifecycle: false, state: false, time: false, other: _ } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_connection_watch_hears() {
        let nothing = Heard::default();
        for (heard, wanted) in [
            (nothing, None),
            (Heard { other: true, ..nothing }, None),
            (Heard { state: true, ..nothing }, Some(Trigger::StateChange)),
            (Heard { time: true, ..nothing }, Some(Trigger::StateChange)),
            (Heard { lifecycle: true, other: true, ..nothing }, Some(Trigger::Lifecycle)),
            (Heard { lifecycle: true, state: true, ..nothing }, Some(Trigger::Lifecycle)),
            (Heard { resync: true, lifecycle: true, ..nothing }, Some(Trigger::Resync)),
        ] {
            assert_eq!(trigger_of(heard), wanted, "{heard:?}");
        }
    }
}
