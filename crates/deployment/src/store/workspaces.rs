//! Workspaces.

use std::time::Duration;

use sqlx::any::{AnyExecutor, AnyRow};
use uuid::Uuid;

use super::{
    Store, StoreError,
    builds::{insert_build, insert_job},
    db::{Lock, Tx},
    row::{Columns as _, to_millis},
    users::found,
};
use crate::{
    decide::Conflict,
    model::{AutomaticUpdates, Build, Job, JobKind, NewBuild, NewWorkspace, Timestamp, Workspace},
};

pub(super) fn workspace(row: &AnyRow) -> Result<Workspace, StoreError> {
    Ok(Workspace {
        id: row.uuid("id")?,
        owner_id: row.uuid("owner_id")?,
        template_id: row.uuid("template_id")?,
        name: row.text("name")?,
        deleted: row.flag("deleted")?,
        dormant_at: row.maybe_time("dormant_at")?,
        ttl: match row.maybe_int("ttl_ms")? {
            None => None,
            Some(_) => Some(row.millis("ttl_ms")?),
        },
        autostart_schedule: row.maybe_text("autostart_schedule")?,
        automatic_updates: row.word("automatic_updates", AutomaticUpdates::parse)?,
        last_used_at: row.time("last_used_at")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// The workspace, deleted or not.
pub(super) async fn workspace_by_id(
    db: impl AnyExecutor<'_>,
    id: Uuid,
) -> Result<Workspace, StoreError> {
    let row = sqlx::query("SELECT * FROM workspaces WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(StoreError::unavailable("read a workspace"))?
        .ok_or(StoreError::NotFound("workspace"))?;
    workspace(&row)
}

/// The workspace, locked, if it is not deleted.
pub(super) async fn lock_live(tx: &mut Tx, id: Uuid) -> Result<Workspace, StoreError> {
    tx.lock(Lock::Workspace(id)).await?;
    let workspace = workspace_by_id(tx.on(), id).await?;
    if workspace.deleted {
        return Err(Conflict::WorkspaceDeleted.into());
    }
    Ok(workspace)
}

pub(super) fn name_taken(name: &str) -> Conflict {
    Conflict::NameTaken(format!("Workspace {name:?}"))
}

/// How much longer a workspace runs that is in use (upstream's default of a template's
/// `activity_bump`, coderd/database/queries/activitybump.sql).
pub const ACTIVITY_BUMP: Duration = Duration::from_hours(1);

/// Which workspaces to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkspaceFilter {
    /// Of this owner only.
    pub owner_id: Option<Uuid>,
    /// Of this template only.
    pub template_id: Option<Uuid>,
    /// Whose name contains this, without regard to case.
    pub name_contains: Option<String>,
}

impl Store {
    /// Makes a workspace with its first build and that build's job.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`] if the owner has one of this name.
    pub async fn create_workspace(
        &self,
        new: &NewWorkspace,
        build: &NewBuild,
        now: Timestamp,
    ) -> Result<(Workspace, Build, Job), StoreError> {
        const DOING: &str = "make a workspace";
        let mut tx = self.db.begin(DOING).await?;
        sqlx::query(
            "INSERT INTO workspaces (id, owner_id, template_id, name, deleted, dormant_at, ttl_ms,
                autostart_schedule, automatic_updates, last_used_at, created_at, updated_at)
             VALUES ($1, $2, $3, $4, 0, NULL, $5, $6, $7, $8, $8, $8)",
        )
        .bind(new.id.to_string())
        .bind(new.owner_id.to_string())
        .bind(new.template_id.to_string())
        .bind(new.name.as_str())
        .bind(new.ttl.map(to_millis))
        .bind(new.autostart_schedule.clone())
        .bind(new.automatic_updates.as_str())
        .bind(now.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unless_unique(DOING, name_taken(&new.name)))?;
        let job = insert_job(&mut tx, JobKind::WorkspaceBuild, build, now).await?;
        let build = insert_build(&mut tx, new.id, 1, build, now).await?;
        let workspace = workspace_by_id(tx.on(), new.id).await?;
        tx.commit(DOING).await?;
        Ok((workspace, build, job))
    }

    /// The workspace with this id, deleted or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn workspace(&self, id: Uuid) -> Result<Workspace, StoreError> {
        workspace_by_id(&self.db.reader, id).await
    }

    /// The owner's workspace of this name, without regard to case: the one that is not deleted,
    /// or else, with `include_deleted`, the one that was made last.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn workspace_by_name(
        &self,
        owner_id: Uuid,
        name: &str,
        include_deleted: bool,
    ) -> Result<Workspace, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM workspaces
             WHERE owner_id = $1 AND lower(name) = lower($2) AND deleted <= $3
             ORDER BY deleted, created_at DESC, id LIMIT 1",
        )
        .bind(owner_id.to_string())
        .bind(name)
        .bind(i64::from(include_deleted))
        .fetch_optional(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read a workspace"))?
        .ok_or(StoreError::NotFound("workspace"))?;
        workspace(&row)
    }

    /// The workspaces that are not deleted and fit the filter, by owner's name and name; prebuilt
    /// ones that nobody has claimed, too.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn workspaces(&self, filter: &WorkspaceFilter) -> Result<Vec<Workspace>, StoreError> {
        // A NULL says that all fit; its type is named, because PostgreSQL cannot guess it.
        sqlx::query(
            "SELECT w.* FROM workspaces w JOIN users u ON u.id = w.owner_id
             WHERE w.deleted = 0
               AND (CAST($1 AS TEXT) IS NULL OR w.owner_id = $1)
               AND (CAST($2 AS TEXT) IS NULL OR w.template_id = $2)
               AND (CAST($3 AS TEXT) IS NULL OR lower(w.name) LIKE lower($3) ESCAPE '!')
             ORDER BY u.username, w.name, w.id",
        )
        .bind(filter.owner_id.map(|id| id.to_string()))
        .bind(filter.template_id.map(|id| id.to_string()))
        .bind(filter.name_contains.as_deref().map(contains))
        .fetch_all(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the workspaces"))?
        .iter()
        .map(workspace)
        .collect()
    }

    /// Renames a workspace.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`]; [`Conflict::WorkspaceDeleted`]; [`StoreError::NotFound`].
    pub async fn rename_workspace(
        &self,
        id: Uuid,
        name: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "rename a workspace";
        let mut tx = self.db.begin(DOING).await?;
        lock_live(&mut tx, id).await?;
        sqlx::query("UPDATE workspaces SET name = $2, updated_at = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(name)
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unless_unique(DOING, name_taken(name)))?;
        tx.commit(DOING).await
    }

    /// Makes a workspace dormant, or wakes it. Says whether that changed anything.
    ///
    /// # Errors
    ///
    /// [`Conflict::Prebuild`]; [`Conflict::WorkspaceDeleted`]; [`StoreError::NotFound`].
    pub async fn set_dormant(
        &self,
        id: Uuid,
        dormant: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "change a workspace's dormancy";
        let mut tx = self.db.begin(DOING).await?;
        let workspace = lock_live(&mut tx, id).await?;
        if workspace.is_prebuild() {
            return Err(Conflict::Prebuild.into());
        }
        if workspace.dormant_at.is_some() == dormant {
            return Ok(false);
        }
        // Waking counts as use (`coderd/workspaces.go`).
        let last_used_at = if dormant { workspace.last_used_at } else { now };
        sqlx::query(
            "UPDATE workspaces SET dormant_at = $2, last_used_at = $3, updated_at = $4
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(dormant.then_some(now.micros()))
        .bind(last_used_at.micros())
        .bind(now.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await?;
        Ok(true)
    }

    /// Sets how long after a start the workspace is stopped, from its next start on.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is no such workspace that is not deleted.
    pub async fn set_ttl(
        &self,
        id: Uuid,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE workspaces SET ttl_ms = $2, updated_at = $3 WHERE id = $1 AND deleted = 0",
        )
        .bind(id.to_string())
        .bind(ttl.map(to_millis))
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("change a workspace"))?;
        found(done.rows_affected(), "workspace")
    }

    /// Sets when the workspace is started.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if there is no such workspace that is not deleted.
    pub async fn set_autostart(
        &self,
        id: Uuid,
        schedule: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE workspaces SET autostart_schedule = $2, updated_at = $3
             WHERE id = $1 AND deleted = 0",
        )
        .bind(id.to_string())
        .bind(schedule.map(str::to_owned))
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("change a workspace"))?;
        found(done.rows_affected(), "workspace")
    }

    /// The workspace was used. Never sets the time back; one that would be stopped soon runs for
    /// another [`ACTIVITY_BUMP`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn touch_workspace(&self, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
        const DOING: &str = "note the use of a workspace";
        let mut tx = self.db.begin(DOING).await?;
        sqlx::query("UPDATE workspaces SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2")
            .bind(id.to_string())
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
        // Only once a twentieth of it has gone by, so that not every report writes.
        let later = now.plus(ACTIVITY_BUMP);
        let soon = later.minus(ACTIVITY_BUMP / 20);
        sqlx::query(
            "UPDATE builds SET updated_at = $2,
                deadline = CASE WHEN max_deadline < $3 THEN max_deadline ELSE $3 END
             WHERE workspace_id = $1 AND transition = 'start' AND deadline < $4
               AND number = (SELECT MAX(number) FROM builds b WHERE b.workspace_id = $1)
               AND EXISTS (SELECT 1 FROM jobs j WHERE j.id = job_id AND j.completed_at IS NOT NULL)",
        )
        .bind(id.to_string())
        .bind(now.micros())
        .bind(later.micros())
        .bind(soon.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await
    }
}

/// A LIKE pattern for all that contains the text; `!` escapes.
fn contains(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for character in text.chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}
