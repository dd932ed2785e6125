//! Users, their keys and tokens, and the one organization.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State as Shared,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    auth::Caller,
    error::ApiError,
    extract::{self, MaybeJson, Query, Segments},
    json::{self as wire, ORGANIZATION, ORGANIZATION_ID},
    names,
};
use crate::{
    model::{ApiKey, LoginType, NewUser, Role, SessionToken, Timestamp, User},
    state::State,
};

/// How long a session lives after each use (`codersdk/deployment.go`, `SessionDuration`).
const SESSION: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a token lives unless it is said (`coderd/apikey.go`).
const TOKEN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest that a token may live: a year.
const LONGEST_TOKEN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/v2/users/first", get(first).post(make_first))
        .route("/api/v2/users/login", post(login))
        .route("/api/v2/users/logout", post(logout))
        .route("/api/v2/users/authmethods", get(auth_methods))
        .route("/api/v2/users", get(list).post(create))
        .route("/api/v2/users/{user}", get(user))
        .route("/api/v2/users/{user}/organizations", get(organizations_of))
        .route("/api/v2/users/{user}/organizations/{organization}", get(organization_of))
        .route("/api/v2/users/{user}/keys", post(make_session))
        .route("/api/v2/users/{user}/keys/tokens", get(tokens).post(make_token))
        .route("/api/v2/users/{user}/keys/tokens/tokenconfig", get(token_config))
        .route("/api/v2/users/{user}/keys/tokens/{name}", get(token_by_name))
        .route("/api/v2/users/{user}/keys/{key}", get(key).delete(delete_key))
        .route("/api/v2/users/{user}/keys/{key}/expire", put(expire_key))
        .route("/api/v2/organizations", get(organizations))
        .route("/api/v2/organizations/{organization}", get(organization))
        .route("/api/v2/organizations/{organization}/members/{user}", get(member))
}

/// 200 as soon as there is a user, else 404 (`coderd/users.go`). A deployment makes its first
/// user itself.
async fn first(Shared(state): Shared<State>) -> Result<Response, ApiError> {
    if state.store.users().await?.is_empty() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "The initial user has not been created!"));
    }
    Ok(Json(json!({"message": "The initial user has already been created!"})).into_response())
}

async fn make_first() -> ApiError {
    ApiError::conflict("The initial user has already been created.")
        .detail("This deployment makes its first user itself, and tells whoever starts it a token.")
}

/// There are no passwords.
async fn login() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "Password authentication is disabled.")
        .detail("This deployment has no passwords: log in with a token.")
}

async fn auth_methods() -> Json<Value> {
    Json(json!({
        "password": {"enabled": false},
        "github": {"enabled": false, "default_provider_configured": false},
        "oidc": {"enabled": false, "signInText": "", "iconUrl": ""},
    }))
}

/// Revokes the key that is used.
async fn logout(Shared(state): Shared<State>, caller: Caller) -> Result<Json<Value>, ApiError> {
    state.store.delete_api_key(caller.user.id, &caller.key.id).await?;
    Ok(Json(json!({"message": "Logged out!"})))
}

async fn list(
    Shared(state): Shared<State>,
    caller: Caller,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    owners_only(&caller)?;
    let wanted = query.text("q").unwrap_or_default().to_lowercase();
    let users = state.store.users().await?;
    let found: Vec<_> = users
        .into_iter()
        .filter(|user| {
            user.username.to_lowercase().contains(&wanted)
                || user.email.to_lowercase().contains(&wanted)
        })
        .map(wire::User::new)
        .collect();
    Ok(Json(json!({"count": found.len(), "users": found})))
}

#[derive(Deserialize)]
struct CreateUser {
    username: String,
    email: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    login_type: String,
    #[serde(default)]
    password: String,
}

async fn create(
    Shared(state): Shared<State>,
    caller: Caller,
    extract::Json(asked): extract::Json<CreateUser>,
) -> Result<Response, ApiError> {
    owners_only(&caller)?;
    names::check("username", &asked.username)?;
    if !asked.email.contains('@') || asked.email.chars().any(char::is_control) {
        let error = ApiError::bad_request("Validation failed.");
        return Err(error.field("email", "must be an address"));
    }
    if !matches!(asked.login_type.as_str(), "none" | "token") || !asked.password.is_empty() {
        return Err(ApiError::bad_request("This deployment has no passwords.")
            .detail("Make the user without one, then make a token for them.")
            .field("login_type", "must be none"));
    }
    let new = NewUser {
        id: Uuid::new_v4(),
        username: asked.username,
        email: asked.email,
        name: asked.name,
        role: Role::Member,
    };
    let user = state.store.create_user(&new, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, Json(wire::User::new(user))).into_response())
}

fn owners_only(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_owner() {
        return Ok(());
    }
    Err(ApiError::forbidden("Only owners of the deployment may do that."))
}

async fn user(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::User>, ApiError> {
    let user = caller.user(&state, path.text("user")).await?;
    Ok(Json(wire::User::new(user)))
}

async fn organizations(_: Caller) -> Json<Value> {
    Json(json!([wire::Organization::the_one()]))
}

async fn organizations_of(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    caller.user(&state, path.text("user")).await?;
    Ok(Json(json!([wire::Organization::the_one()])))
}

async fn organization_of(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Organization>, ApiError> {
    caller.user(&state, path.text("user")).await?;
    the_organization(&path)?;
    Ok(Json(wire::Organization::the_one()))
}

async fn organization(_: Caller, path: Segments) -> Result<Json<wire::Organization>, ApiError> {
    the_organization(&path)?;
    Ok(Json(wire::Organization::the_one()))
}

/// The path's `{organization}` must be the one that there is: by id, name, or `default`.
pub(super) fn the_organization(path: &Segments) -> Result<(), ApiError> {
    let named = path.text("organization");
    let it = named == ORGANIZATION
        || named == "default"
        || Uuid::parse_str(named) == Ok(ORGANIZATION_ID);
    if it { Ok(()) } else { Err(ApiError::not_found()) }
}

async fn member(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Member>, ApiError> {
    the_organization(&path)?;
    let user = caller.user(&state, path.text("user")).await?;
    Ok(Json(wire::Member::new(user)))
}

async fn make_session(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Response, ApiError> {
    let user = caller.user(&state, path.text("user")).await?;
    make_key(&state, &user, LoginType::Password, String::new(), SESSION).await
}

#[derive(Default, Deserialize)]
struct CreateToken {
    /// Nanoseconds; 0 for the usual.
    #[serde(default)]
    lifetime: i64,
    #[serde(default)]
    token_name: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    scopes: Vec<String>,
}

async fn make_token(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    MaybeJson(asked): MaybeJson<CreateToken>,
) -> Result<Response, ApiError> {
    let user = caller.user(&state, path.text("user")).await?;
    let CreateToken { lifetime, token_name, scope, scopes } = asked.unwrap_or_default();
    let lifetime = match u64::try_from(lifetime) {
        Ok(0) => TOKEN,
        Ok(nanos) => Duration::from_nanos(nanos),
        Err(_) => Duration::ZERO,
    };
    // Shorter than what times are kept in would be a token that is over at once.
    if lifetime < Duration::from_secs(1) || lifetime > LONGEST_TOKEN {
        return Err(ApiError::bad_request("Failed to validate create API key request.")
            .field("lifetime", "must be at least a second and at most a year"));
    }
    let limited = |scope: &String| !matches!(scope.as_str(), "" | "all" | "coder:all");
    if limited(&scope) || scopes.iter().any(limited) {
        return Err(ApiError::bad_request("Failed to validate create API key request.")
            .field("scopes", "tokens of this deployment may do all that their user may"));
    }
    let token_name = if token_name.is_empty() {
        // As upstream names them, after the moment.
        format!("token-{}", Timestamp::now().micros())
    } else {
        names::check("token_name", &token_name)?;
        token_name
    };
    make_key(&state, &user, LoginType::Token, token_name, lifetime).await
}

async fn make_key(
    state: &State,
    user: &User,
    login_type: LoginType,
    token_name: String,
    lifetime: Duration,
) -> Result<Response, ApiError> {
    let token = SessionToken::generate()
        .map_err(|error| ApiError::internal("The system has no randomness.", error))?;
    let now = Timestamp::now();
    let key = ApiKey {
        id: token.id().to_owned(),
        user_id: user.id,
        hashed_secret: token.hashed_secret(),
        login_type,
        token_name,
        lifetime,
        expires_at: now.plus(lifetime),
        last_used_at: now,
        created_at: now,
        updated_at: now,
    };
    state.store.create_api_key(&key).await?;
    let secret = token.expose();
    Ok((StatusCode::CREATED, Json(wire::NewKey { key: &secret })).into_response())
}

async fn tokens(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
    query: Query,
) -> Result<Json<Vec<wire::Key>>, ApiError> {
    let user = caller.user(&state, path.text("user")).await?;
    let all = query.flag("include_all")?;
    let expired = query.flag("include_expired")?;
    let users = if all && caller.is_owner() { state.store.users().await? } else { vec![user] };
    let now = Timestamp::now();
    let mut found = Vec::new();
    for user in users {
        let keys = state.store.api_keys(user.id).await?.into_iter();
        let tokens = keys.filter(|key| key.login_type == LoginType::Token);
        let wanted = tokens.filter(|key| expired || key.expires_at > now);
        found.extend(wanted.map(|key| wire::Key::new(key, user.username.clone())));
    }
    Ok(Json(found))
}

async fn token_config(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<Value>, ApiError> {
    caller.user(&state, path.text("user")).await?;
    let nanos = u64::try_from(LONGEST_TOKEN.as_nanos()).unwrap_or(u64::MAX);
    Ok(Json(json!({"max_token_lifetime": nanos})))
}

/// The key of a path's user that fits.
async fn find(
    state: &State,
    caller: &Caller,
    path: &Segments,
    fits: impl Fn(&ApiKey) -> bool,
) -> Result<ApiKey, ApiError> {
    let user = caller.user(state, path.text("user")).await?;
    let keys = state.store.api_keys(user.id).await?;
    keys.into_iter().find(fits).ok_or_else(ApiError::not_found)
}

async fn token_by_name(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Key>, ApiError> {
    let name = path.text("name");
    let fits = |key: &ApiKey| key.login_type == LoginType::Token && key.token_name == name;
    let key = find(&state, &caller, &path, fits).await?;
    Ok(Json(wire::Key::new(key, String::new())))
}

async fn key(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<Json<wire::Key>, ApiError> {
    let key = find(&state, &caller, &path, |key| key.id == path.text("key")).await?;
    Ok(Json(wire::Key::new(key, String::new())))
}

async fn delete_key(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<StatusCode, ApiError> {
    let key = find(&state, &caller, &path, |key| key.id == path.text("key")).await?;
    state.store.delete_api_key(key.user_id, &key.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn expire_key(
    Shared(state): Shared<State>,
    caller: Caller,
    path: Segments,
) -> Result<StatusCode, ApiError> {
    let key = find(&state, &caller, &path, |key| key.id == path.text("key")).await?;
    state.store.expire_api_key(key.user_id, &key.id, Timestamp::now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
