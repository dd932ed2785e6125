//! Users and their keys.

use std::time::Duration;

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    Store, StoreError,
    row::{Columns as _, corrupt, to_seconds},
};
use crate::{
    decide::Conflict,
    model::{
        ApiKey, LoginType, NewUser, PREBUILDS_USER, PREBUILDS_USERNAME, Role, Timestamp, User,
        UserStatus, hex, unhex,
    },
};

fn user(row: &AnyRow) -> Result<User, StoreError> {
    Ok(User {
        id: row.uuid("id")?,
        username: row.text("username")?,
        email: row.text("email")?,
        name: row.text("name")?,
        status: row.word("status", UserStatus::parse)?,
        role: row.word("role", Role::parse)?,
        is_system: row.flag("is_system")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        last_seen_at: row.maybe_time("last_seen_at")?,
    })
}

fn api_key(row: &AnyRow) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: row.text("id")?,
        user_id: row.uuid("user_id")?,
        hashed_secret: hashed_secret(&row.text("hashed_secret")?)?,
        login_type: row.word("login_type", LoginType::parse)?,
        token_name: row.text("token_name")?,
        lifetime: row.seconds("lifetime_seconds")?,
        expires_at: row.time("expires_at")?,
        last_used_at: row.time("last_used_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn hashed_secret(text: &str) -> Result<[u8; 32], StoreError> {
    unhex(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| corrupt("hashed_secret", "it is not 64 hexadecimal digits"))
}

impl Store {
    /// Makes the owner of prebuilt workspaces, unless there is one.
    pub(super) async fn ensure_prebuilds_user(&self) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO users (id, username, email, name, status, role, is_system, created_at,
                updated_at, last_seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, 1, 0, 0, NULL) ON CONFLICT (id) DO NOTHING",
        )
        .bind(PREBUILDS_USER.to_string())
        .bind(PREBUILDS_USERNAME)
        .bind("prebuilds@system")
        .bind("Prebuilt workspaces")
        .bind(UserStatus::Active.as_str())
        .bind(Role::Member.as_str())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("make the prebuilds user"))?;
        Ok(())
    }

    /// Makes a user.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`] if another has the name or the address.
    pub async fn create_user(&self, new: &NewUser, now: Timestamp) -> Result<User, StoreError> {
        sqlx::query(
            "INSERT INTO users (id, username, email, name, status, role, is_system, created_at,
                updated_at, last_seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $7, NULL)",
        )
        .bind(new.id.to_string())
        .bind(new.username.as_str())
        .bind(new.email.as_str())
        .bind(new.name.as_str())
        .bind(UserStatus::Active.as_str())
        .bind(new.role.as_str())
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unless_unique(
            "make a user",
            Conflict::NameTaken(format!("A user named {:?} or with that address", new.username)),
        ))?;
        self.user(new.id).await
    }

    /// The user with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user(&self, id: Uuid) -> Result<User, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a user"))?
            .ok_or(StoreError::NotFound("user"))?;
        user(&row)
    }

    /// The user of this name, without regard to case.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_by_name(&self, username: &str) -> Result<User, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE lower(username) = lower($1)")
            .bind(username)
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a user"))?
            .ok_or(StoreError::NotFound("user"))?;
        user(&row)
    }

    /// All users that are people, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        sqlx::query("SELECT * FROM users WHERE is_system = 0 ORDER BY username")
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the users"))?
            .iter()
            .map(user)
            .collect()
    }

    /// Sets whether a user may use the deployment.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn set_user_status(
        &self,
        id: Uuid,
        status: UserStatus,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE users SET status = $2, updated_at = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(status.as_str())
            .bind(now.micros())
            .execute(&self.db.writer)
            .await
            .map_err(StoreError::unavailable("change a user"))?;
        found(done.rows_affected(), "user")
    }

    /// Keeps a new key.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`] if the user has a token of this name.
    pub async fn create_api_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_keys (id, user_id, hashed_secret, login_type, token_name,
                lifetime_seconds, expires_at, last_used_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(key.id.as_str())
        .bind(key.user_id.to_string())
        .bind(hex(&key.hashed_secret))
        .bind(key.login_type.as_str())
        .bind(key.token_name.as_str())
        .bind(to_seconds(key.lifetime))
        .bind(key.expires_at.micros())
        .bind(key.last_used_at.micros())
        .bind(key.created_at.micros())
        .bind(key.updated_at.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unless_unique(
            "keep an API key",
            Conflict::NameTaken(format!("A token with name {:?}", key.token_name)),
        ))?;
        Ok(())
    }

    /// The key with this id, and its user; none if there is no such key. Whether it is good is
    /// `decide::tokens::api_key_valid`'s to say.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn api_key(&self, id: &str) -> Result<Option<(ApiKey, User)>, StoreError> {
        let Some(row) = sqlx::query("SELECT * FROM api_keys WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read an API key"))?
        else {
            return Ok(None);
        };
        let key = api_key(&row)?;
        let user = self.user(key.user_id).await?;
        Ok(Some((key, user)))
    }

    /// The keys of a user, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn api_keys(&self, user_id: Uuid) -> Result<Vec<ApiKey>, StoreError> {
        sqlx::query("SELECT * FROM api_keys WHERE user_id = $1 ORDER BY created_at, id")
            .bind(user_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the API keys of a user"))?
            .iter()
            .map(api_key)
            .collect()
    }

    /// A key was used: it, and its user, were seen; it lives for its lifetime from now on.
    ///
    /// Writes at most once in `at_most_every` (upstream: an hour, `coderd/httpmw/apikey.go`), by
    /// what `key` says.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn use_api_key(
        &self,
        key: &ApiKey,
        at_most_every: Duration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if now.since(key.last_used_at) < at_most_every {
            return Ok(());
        }
        let mut tx = self.db.begin("note the use of an API key").await?;
        sqlx::query(
            "UPDATE api_keys SET last_used_at = $2, expires_at = $3, updated_at = $2
             WHERE id = $1 AND last_used_at < $2",
        )
        .bind(key.id.as_str())
        .bind(now.micros())
        .bind(now.plus(key.lifetime).micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable("note the use of an API key"))?;
        sqlx::query("UPDATE users SET last_seen_at = $2 WHERE id = $1")
            .bind(key.user_id.to_string())
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable("note the use of an API key"))?;
        tx.commit("note the use of an API key").await
    }

    /// Ends a key's life now, and keeps it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the user has no such key.
    pub async fn expire_api_key(
        &self,
        user_id: Uuid,
        id: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE api_keys SET expires_at = $3, updated_at = $3
             WHERE id = $1 AND user_id = $2",
        )
        .bind(id)
        .bind(user_id.to_string())
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("expire an API key"))?;
        found(done.rows_affected(), "API key")
    }

    /// Forgets a key.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the user has no such key.
    pub async fn delete_api_key(&self, user_id: Uuid, id: &str) -> Result<(), StoreError> {
        let done = sqlx::query("DELETE FROM api_keys WHERE id = $1 AND user_id = $2")
            .bind(id)
            .bind(user_id.to_string())
            .execute(&self.db.writer)
            .await
            .map_err(StoreError::unavailable("delete an API key"))?;
        found(done.rows_affected(), "API key")
    }
}

/// An error if no row was changed.
pub(super) fn found(rows: u64, what: &'static str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::NotFound(what)) } else { Ok(()) }
}
