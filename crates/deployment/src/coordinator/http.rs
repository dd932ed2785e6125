//! Where clients reach the coordinator (coder/coder: coderd/workspaceagents.go).

use axum::{
    Router,
    extract::{Request, State as Shared},
    response::{IntoResponse, Response},
    routing::get,
};
use coderctl_tailnet::ids::PeerId;
use coderctl_transport::BoxStream;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::{Client, Coordinator};
use crate::{
    http::{
        auth::Caller,
        error::ApiError,
        extract::{Query, Segments},
        sockets::upgrade_stream,
    },
    rpc::version,
    state::State,
};

/// What a request without a version asks for, at the endpoint of an agent: the protocol before
/// this one, which nobody speaks any more.
const BEFORE: &str = "1.0";

/// The coordinator's routes.
pub fn routes() -> Router<State> {
    Router::new()
        .route("/api/v2/workspaceagents/{workspaceagent}/coordinate", get(coordinate))
        .route("/api/v2/tailnet", get(tailnet))
        .route("/api/v2/derp-map", get(derp_map))
}

/// Coordination with one agent.
async fn coordinate(
    Shared(state): Shared<State>,
    caller: Caller,
    segments: Segments,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let (agent, _) = caller.agent(&state, segments.id("workspaceagent")?).await?;
    version::accept(Some(query.text("version").unwrap_or(BEFORE)))?;
    serve(&state, &caller, &query, Some(agent.id), request)
}

/// Coordination with whatever agents the user may reach.
async fn tailnet(
    Shared(state): Shared<State>,
    caller: Caller,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    version::accept(query.text("version"))?;
    serve(&state, &caller, &query, None, request)
}

fn serve(
    state: &State,
    caller: &Caller,
    query: &Query,
    only: Option<Uuid>,
    request: Request,
) -> Result<Response, ApiError> {
    let coordinator = state.coordinator.clone();
    let user = caller.user.id;
    let peer = peer(&coordinator, user, query.text("resume_token"))?;
    let (response, upgrade) = upgrade_stream(request, None)?;
    let client = Client { peer, user, only };
    upgrade.run(move |stream, mut stopping| async move {
        coordinator.serve_client(stream, client, stopping.requested()).await;
    });
    Ok(response)
}

/// Who the client is: who it was, or somebody new.
fn peer(coordinator: &Coordinator, user: Uuid, token: Option<&str>) -> Result<PeerId, ApiError> {
    let Some(token) = token else {
        return coordinator
            .new_peer()
            .map_err(|error| ApiError::internal("No name could be made for this peer.", error));
    };
    coordinator.resume(token, user).map_err(|error| {
        const MESSAGE: &str = "Invalid resume token";
        ApiError::new(StatusCode::UNAUTHORIZED, MESSAGE)
            .detail(error.to_string())
            .field("resume_token", MESSAGE)
    })
}

/// The relay map as JSON, now and whenever it changes, for old clients.
async fn derp_map(Shared(state): Shared<State>, _: Caller, request: Request) -> Response {
    match upgrade_stream(request, None) {
        Ok((response, upgrade)) => {
            upgrade.run(move |stream, mut stopping| async move {
                tokio::select! {
                    ended = tell_map(&state.coordinator, stream) => {
                        if let Err(error) = ended {
                            tracing::debug!(%error, "a client heard no more of the relay map");
                        }
                    }
                    () = stopping.requested() => {}
                }
            });
            response
        }
        Err(error) => error.into_response(),
    }
}

/// Each flush is one message.
async fn tell_map(coordinator: &Coordinator, stream: BoxStream) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut map = coordinator.derp_map();
    let mut ignored = [0; 64];
    loop {
        let json = serde_json::to_vec(&*map.borrow_and_update())?;
        writer.write_all(&json).await?;
        writer.flush().await?;
        loop {
            tokio::select! {
                // The sender lives as long as the coordinator.
                Ok(()) = map.changed() => break,
                read = reader.read(&mut ignored) => if read? == 0 {
                    return writer.shutdown().await;
                },
            }
        }
    }
}
