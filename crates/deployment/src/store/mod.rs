//! The deployment's state, in SQLite or PostgreSQL.
//!
//! One method per thing to be done, in the file of its subject. A method that changes more than
//! one row is one transaction; when it returns well, what it did outlives the process. Nothing
//! here publishes: callers tell others through `pubsub` once a method has returned.
//!
//! Times are given by the caller (`now`), so that tests need no clock. Several processes that
//! share a PostgreSQL must have clocks that agree to within a few seconds: a job's lease is
//! judged by the clock of whoever looks.

mod agents;
mod builds;
mod db;
mod details;
mod drafts;
mod error;
mod jobs;
mod logs;
mod migrate;
mod parts;
mod prebuilds;
mod row;
mod templates;
mod users;
mod workspaces;

use std::sync::Arc;

pub use self::{
    agents::{AuthenticatedAgent, LifecycleUpdate},
    builds::ReinitBuilds,
    details::{AgentDetails, BuildDetails, ResourceDetails, WatchedBuild, WorkspaceDetails},
    drafts::{DRAFTS_KEPT, MOST_DRAFTS},
    error::StoreError,
    jobs::{AcquiredJob, CompletedJob},
    logs::{AppendedLogs, MAX_LOG_BYTES},
    parts::ConnectionReport,
    prebuilds::{Claim, Claimed, Prebuild},
    workspaces::{ACTIVITY_BUMP, WorkspaceFilter},
};
use self::{db::Db, row::Columns as _};
use crate::config::Storage;

/// The state. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Arc<Db>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dialect", &self.db.dialect).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the state, makes it if there is none, and brings it up to date.
    ///
    /// A directory and its files are for their owner alone, and for one process at a time.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] says what is to be done; [`StoreError::Unavailable`] may pass.
    pub async fn open(storage: &Storage) -> Result<Self, StoreError> {
        let db = Db::open(storage).await?;
        migrate::migrate(&db).await?;
        let store = Self { db: Arc::new(db) };
        store.ensure_prebuilds_user().await?;
        Ok(store)
    }

    /// Ends all connections; what follows is refused.
    pub async fn close(&self) {
        self.db.reader.close().await;
        self.db.writer.close().await;
    }

    /// A value that all processes on this state share; none if it was never set.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        sqlx::query("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a setting"))?
            .map(|row| row.text("value"))
            .transpose()
    }

    /// Sets a value unless it is set, and says which it is then: of several processes that begin
    /// at once, all get the same.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn setting_or_insert(&self, key: &str, value: &str) -> Result<String, StoreError> {
        let mut tx = self.db.begin("keep a setting").await?;
        sqlx::query(
            "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
        )
        .bind(key)
        .bind(value)
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable("keep a setting"))?;
        let kept = sqlx::query("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_one(tx.on())
            .await
            .map_err(StoreError::unavailable("keep a setting"))?
            .text("value")?;
        tx.commit("keep a setting").await?;
        Ok(kept)
    }
}

/// `$1, $2, …`: placeholders for a list of this many.
fn placeholders(count: usize) -> String {
    (1..=count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// How many ids are put into one statement: well below both databases' limits (SQLite 32,766,
/// PostgreSQL 65,535), and short enough to be planned quickly.
const IDS_PER_STATEMENT: usize = 500;
