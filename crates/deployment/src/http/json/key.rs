//! `codersdk/apikey.go`.

use serde::Serialize;
use uuid::Uuid;

use crate::model::{ApiKey, LoginType, Timestamp};

/// A key, without its secret.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Key {
    id: String,
    user_id: Uuid,
    last_used: Timestamp,
    expires_at: Timestamp,
    created_at: Timestamp,
    updated_at: Timestamp,
    login_type: LoginType,
    scope: &'static str,
    scopes: [&'static str; 1],
    token_name: String,
    lifetime_seconds: u64,
    allow_list: [&'static str; 1],
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
}

impl Key {
    /// `username`: whose it is, in lists of tokens.
    pub(in crate::http) fn new(key: ApiKey, username: String) -> Self {
        Self {
            id: key.id,
            user_id: key.user_id,
            last_used: key.last_used_at,
            expires_at: key.expires_at,
            created_at: key.created_at,
            updated_at: key.updated_at,
            login_type: key.login_type,
            scope: "all",
            scopes: ["coder:all"],
            token_name: key.token_name,
            lifetime_seconds: key.lifetime.as_secs(),
            allow_list: ["*:*"],
            username,
        }
    }
}

/// A key that was just made; the only time that its secret is told.
#[derive(Serialize)]
pub(in crate::http) struct NewKey<'a> {
    pub key: &'a str,
}
