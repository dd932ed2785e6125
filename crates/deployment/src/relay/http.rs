//! Where the relay answers: `/derp` and `/derp/latency-check` (coder/coder: coderd/coderd.go,
//! tailnet/derp.go).

use axum::{
    Router,
    extract::{self, Request},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    http::{
        error::ApiError,
        sockets::{StreamUpgrade, upgrade_raw, upgrade_stream, wants},
    },
    state::State,
};

/// The sub-protocol of WebSockets that carry DERP.
const PROTOCOL: &str = "derp";

/// The relay's routes.
pub fn routes() -> Router<State> {
    Router::new()
        .route("/derp", get(derp))
        // A latency check measures a round trip; what it says does not matter.
        .route("/derp/latency-check", get(|| async { StatusCode::OK }))
}

async fn derp(extract::State(state): extract::State<State>, request: Request) -> Response {
    match upgrade(&state, request) {
        Ok((response, upgrade)) => {
            let relay = state.relay.clone();
            upgrade.run(move |stream, mut stopping| async move {
                tokio::select! {
                    _ = relay.serve(stream) => {}
                    () = stopping.requested() => {}
                }
            });
            response
        }
        Err(error) => error.into_response(),
    }
}

fn upgrade(state: &State, request: Request) -> Result<(Response, StreamUpgrade), ApiError> {
    let relay = &state.relay;
    if !relay.has_room() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The relay has no room for another client.",
        ));
    }
    let headers = request.headers();
    if headers.contains_key("derp-fast-start") {
        return Err(ApiError::bad_request("This relay offers no fast start.")
            .field("Derp-Fast-Start", "is only for relays that announce it in their certificate"));
    }
    // Very old clients say WebSocket and mean DERP, so that the sub-protocol decides.
    let websocket = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .any(|value| value.to_str().is_ok_and(|value| value.contains(PROTOCOL)));
    if websocket && wants(&request, "websocket") {
        return upgrade_stream(request, Some(PROTOCOL));
    }
    let mut answer = HeaderMap::new();
    answer.insert(HeaderName::from_static("derp-version"), HeaderValue::from_static("2"));
    if let Ok(key) = HeaderValue::from_str(&relay.public_key().to_string()) {
        answer.insert(HeaderName::from_static("derp-public-key"), key);
    }
    upgrade_raw(request, "DERP", answer)
}
