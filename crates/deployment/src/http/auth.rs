//! Who asks, and what they may see.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use uuid::Uuid;

use super::{error::ApiError, extract::Client, rate::Rate, serve::Limits, token};
use crate::{
    decide::tokens::api_key_valid,
    model::{Agent, ApiKey, Build, Role, SessionToken, Timestamp, User, UserStatus, Workspace},
    state::State,
    store::StoreError,
};

/// The message of every 401 (`coderd/httpmw/apikey.go`); the detail says why.
const SIGNED_OUT: &str =
    "You are signed out or your session has expired. Please sign in again to continue.";

/// How often the use of a key is noted at most (`coderd/httpmw/apikey.go`).
const NOTE_USE: Duration = Duration::from_secs(60 * 60);

/// The user whose session token a request shows. A handler that has one is not entered without.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub user: User,
    /// By which key.
    pub key: ApiKey,
}

/// How often each user may ask, and how often an address may show a bad token.
#[derive(Debug)]
pub(super) struct Gate {
    users: Rate<Uuid>,
    refusals: Rate<IpAddr>,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            users: Rate::new(limits.user_burst, limits.user_per_second),
            refusals: Rate::new(limits.refusal_burst, limits.refusals_per_second),
        }
    }
}

impl FromRequestParts<State> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let gate = parts.extensions.get::<Arc<Gate>>().cloned();
        let caller = match authenticate(parts, state).await {
            Ok(caller) => caller,
            Err(refused) => {
                let Ok(Client(client)) = Client::from_request_parts(parts, state).await;
                let address = client.map_or(Ipv6Addr::LOCALHOST.into(), |client| client.ip());
                let gate = gate.filter(|_| refused.status == StatusCode::UNAUTHORIZED);
                return Err(match gate.map(|gate| gate.refusals.take(address)) {
                    Some(Err(wait)) => too_many(wait),
                    Some(Ok(())) | None => refused,
                });
            }
        };
        if let Some(gate) = gate {
            gate.users.take(caller.user.id).map_err(too_many)?;
        }
        Ok(caller)
    }
}

async fn authenticate(parts: &Parts, state: &State) -> Result<Caller, ApiError> {
    let refused =
        |detail: String| ApiError::new(StatusCode::UNAUTHORIZED, SIGNED_OUT).detail(detail);
    let text = token::of_request(&parts.headers, &parts.uri).ok_or_else(|| {
        refused("Cookie \"coder_session_token\" or query parameter must be provided.".to_owned())
    })?;
    let token = SessionToken::parse(&text)
        .map_err(|error| refused(format!("Invalid API key format: {error}")))?;
    let now = Timestamp::now();
    let found = state.store.api_key(token.id()).await?;
    api_key_valid(&token, found.as_ref().map(|(key, user)| (key, user)), now)
        .map_err(|refusal| refused(refusal.to_string()))?;
    let Some((key, mut user)) = found else {
        // The check above refuses what was not found.
        return Err(refused("API key is invalid.".to_owned()));
    };
    if user.status == UserStatus::Dormant {
        state.store.set_user_status(user.id, UserStatus::Active, now).await?;
        user.status = UserStatus::Active;
    }
    state.store.use_api_key(&key, NOTE_USE, now).await?;
    Ok(Caller { user, key })
}

fn too_many(wait: Duration) -> ApiError {
    ApiError::too_many(wait.as_secs() + 1)
}

impl Caller {
    /// Whether the user may do everything.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.user.role == Role::Owner
    }

    /// Whether the user may see and use what belongs to this user.
    #[must_use]
    pub fn may_use(&self, owner: Uuid) -> bool {
        self.is_owner() || self.user.id == owner
    }

    /// The same as of now: what a user may do can change while they follow something.
    ///
    /// # Errors
    /// 404 when they may do nothing any more.
    pub(super) async fn renew(&mut self, state: &State) -> Result<(), ApiError> {
        self.user = state.store.user(self.user.id).await?;
        match self.user.status {
            UserStatus::Active | UserStatus::Dormant => Ok(()),
            UserStatus::Suspended => Err(ApiError::not_found()),
        }
    }

    /// A user by `me`, id or name; `{user}` of a path.
    ///
    /// # Errors
    /// 404 for one that is not there, or that is none of the caller's business.
    pub async fn user(&self, state: &State, name: &str) -> Result<User, ApiError> {
        if name == "me" {
            return Ok(self.user.clone());
        }
        let user = match Uuid::parse_str(name) {
            Ok(id) => state.store.user(id).await?,
            Err(_) => state.store.user_by_name(name).await?,
        };
        if self.may_use(user.id) { Ok(user) } else { Err(ApiError::not_found()) }
    }

    /// A workspace, deleted or not.
    ///
    /// # Errors
    /// 404 for one that is not there, or another user's.
    pub async fn workspace(&self, state: &State, id: Uuid) -> Result<Workspace, ApiError> {
        let workspace = state.store.workspace(id).await?;
        if self.may_use(workspace.owner_id) { Ok(workspace) } else { Err(ApiError::not_found()) }
    }

    /// An agent and its workspace.
    ///
    /// # Errors
    /// 404 for one that is not there, or another user's.
    pub async fn agent(&self, state: &State, id: Uuid) -> Result<(Agent, Workspace), ApiError> {
        let agent = state.store.agent(id).await?;
        let workspace = self.workspace(state, agent.workspace_id).await?;
        if agent.deleted || workspace.deleted {
            return Err(ApiError::not_found());
        }
        Ok((agent, workspace))
    }

    /// A build and its workspace, deleted or not.
    ///
    /// # Errors
    /// 404 for one that is not there, or another user's.
    pub async fn build(&self, state: &State, id: Uuid) -> Result<(Build, Workspace), ApiError> {
        let build = state.store.build(id).await?;
        let workspace = self.workspace(state, build.workspace_id).await?;
        Ok((build, workspace))
    }
}

impl From<StoreError> for ApiError {
    /// What is not there looks like what may not be seen.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::not_found(),
            StoreError::Conflict(conflict) => {
                let status = StatusCode::from_u16(conflict.http_status());
                Self::new(status.unwrap_or(StatusCode::CONFLICT), conflict.to_string())
            }
            StoreError::Unavailable { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Unusable(_) => {
                Self::internal("The deployment's state cannot be read or changed.", error)
            }
        }
    }
}
