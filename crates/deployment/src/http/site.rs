//! What the deployment says of itself, to anybody or to any user.

use axum::{
    Json, Router,
    extract::State as Shared,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{auth::Caller, error::ApiError, serve::BUILD_VERSION};
use crate::state::State;

/// The setting that names the deployment.
const DEPLOYMENT_ID: &str = "deployment_id";

/// The version of the agent API (`tailnet/proto/version.go`).
const AGENT_API: &str = "2.10";

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/", get(front_page))
        .route("/cli-auth", get(cli_auth))
        .route("/healthz", get(|| async { "OK" }))
        .route("/latency-check", get(|| async { "OK" }))
        .route("/api/v2", get(hello))
        .route("/api/v2/buildinfo", get(build_info))
        .route("/api/v2/updatecheck", get(update_check))
        .route("/api/v2/deployment/ssh", get(ssh))
        .route("/api/v2/appearance", get(appearance))
        .route("/api/v2/entitlements", get(entitlements))
        .route("/api/v2/experiments", get(experiments))
        .route("/api/v2/regions", get(regions))
}

async fn hello() -> Json<Value> {
    Json(json!({"message": "👋"}))
}

/// `codersdk/deployment.go`.
async fn build_info(Shared(state): Shared<State>) -> Result<Json<Value>, ApiError> {
    let new = Uuid::new_v4().to_string();
    let id = state.store.setting_or_insert(DEPLOYMENT_ID, &new).await?;
    Ok(Json(json!({
        "external_url": "",
        "version": BUILD_VERSION,
        "dashboard_url": origin(&state),
        "telemetry": false,
        "workspace_proxy": false,
        "agent_api_version": AGENT_API,
        "provisioner_api_version": "",
        "upgrade_message": "",
        "deployment_id": id,
        "webpush_public_key": "",
    })))
}

fn origin(state: &State) -> &str {
    state.access_url.as_str().trim_end_matches('/')
}

async fn update_check() -> Json<Value> {
    Json(json!({"current": true, "version": BUILD_VERSION, "url": ""}))
}

/// What host names of workspaces look like; upstream's defaults.
async fn ssh(_: Caller) -> Json<Value> {
    Json(json!({
        "hostname_prefix": "coder.",
        "hostname_suffix": "coder",
        "ssh_config_options": {},
    }))
}

async fn appearance() -> Json<Value> {
    Json(json!({
        "application_name": "",
        "logo_url": "",
        "docs_url": "https://coder.com/docs",
        "service_banner": {"enabled": false},
        "announcement_banners": [],
        "support_links": [],
    }))
}

/// No licence, and nothing that needs one.
async fn entitlements(_: Caller) -> Json<Value> {
    Json(json!({
        "features": {},
        "warnings": [],
        "errors": [],
        "has_license": false,
        "trial": false,
        "require_telemetry": false,
        "refreshed_at": crate::model::Timestamp::now(),
    }))
}

async fn experiments(_: Caller) -> Json<Value> {
    Json(json!([]))
}

/// This server, and no proxies.
async fn regions(Shared(state): Shared<State>, _: Caller) -> Json<Value> {
    Json(json!({"regions": [{
        "id": Uuid::nil(),
        "name": "primary",
        "display_name": "Default",
        "icon_url": "",
        "healthy": true,
        "path_app_url": origin(&state),
        "wildcard_hostname": "",
    }]}))
}

async fn front_page(Shared(state): Shared<State>) -> Response {
    page(
        "coderctl server",
        &format!(
            "<p>This is a Coder-compatible deployment without a dashboard.</p>\
             <pre>coderctl login {0}\ncoderctl list\ncoderctl ssh WORKSPACE</pre>\
             <p>The <code>coder</code> command works as well: <code>coder login {0}</code>.</p>",
            escaped(origin(&state))
        ),
    )
}

/// Where `coder login` sends people for a token.
async fn cli_auth(Shared(state): Shared<State>) -> Response {
    page(
        "A session token",
        &format!(
            "<p>This deployment has no passwords: whoever starts it is told a token, on its \
             standard output or in its ready file. With a token, more can be made:</p>\
             <pre>coder login {0} --token TOKEN\ncoder tokens create --name laptop</pre>",
            escaped(origin(&state))
        ),
    )
}

fn page(title: &str, body: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         </head><body><h1>{title}</h1>{body}</body></html>\n"
    );
    let mut response = (StatusCode::OK, Html(page)).into_response();
    // Nothing on these pages loads or runs anything.
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
