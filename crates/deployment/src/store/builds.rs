//! Builds, and their jobs' beginning.

use sqlx::any::{AnyExecutor, AnyRow};
use uuid::Uuid;

use super::{
    Store, StoreError,
    db::Tx,
    details::jobs,
    jobs::job_by_id,
    row::{Columns as _, to_json},
    users::found,
    workspaces::{lock_live, workspace_by_id},
};
use crate::{
    decide::{Conflict, builds::admit},
    model::{Build, BuildReason, Job, JobKind, NewBuild, Timestamp, Transition, Workspace},
};

pub(super) fn build(row: &AnyRow) -> Result<Build, StoreError> {
    Ok(Build {
        id: row.uuid("id")?,
        workspace_id: row.uuid("workspace_id")?,
        template_version_id: row.uuid("template_version_id")?,
        number: row.int32("number")?,
        transition: row.word("transition", Transition::parse)?,
        reason: row.word("reason", BuildReason::parse)?,
        initiator_id: row.uuid("initiator_id")?,
        job_id: row.uuid("job_id")?,
        preset_id: row.maybe_uuid("preset_id")?,
        parameters: row.json("parameters")?,
        deadline: row.maybe_time("deadline")?,
        max_deadline: row.maybe_time("max_deadline")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

/// The latest build of a workspace and its job, if it has one.
pub(super) async fn latest(
    tx: &mut Tx,
    workspace_id: Uuid,
) -> Result<Option<(Build, Job)>, StoreError> {
    let Some(row) =
        sqlx::query("SELECT * FROM builds WHERE workspace_id = $1 ORDER BY number DESC LIMIT 1")
            .bind(workspace_id.to_string())
            .fetch_optional(tx.on())
            .await
            .map_err(StoreError::unavailable("read the latest build"))?
    else {
        return Ok(None);
    };
    let build = build(&row)?;
    let job = job_by_id(tx.on(), build.job_id).await?;
    Ok(Some((build, job)))
}

pub(super) async fn insert_job(
    tx: &mut Tx,
    kind: JobKind,
    new: &NewBuild,
    now: Timestamp,
) -> Result<Job, StoreError> {
    sqlx::query(
        "INSERT INTO jobs (id, kind, initiator_id, input, created_at, updated_at, attempt,
            logs_length, logs_overflowed)
         VALUES ($1, $2, $3, $4, $5, $5, 0, 0, 0)",
    )
    .bind(new.job_id.to_string())
    .bind(kind.as_str())
    .bind(new.initiator_id.to_string())
    .bind(to_json(&new.input))
    .bind(now.micros())
    .execute(tx.on())
    .await
    .map_err(StoreError::unavailable("make a job"))?;
    job_by_id(tx.on(), new.job_id).await
}

pub(super) async fn insert_build(
    tx: &mut Tx,
    workspace_id: Uuid,
    number: i32,
    new: &NewBuild,
    now: Timestamp,
) -> Result<Build, StoreError> {
    sqlx::query(
        "INSERT INTO builds (id, workspace_id, template_version_id, number, transition, reason,
            initiator_id, job_id, preset_id, parameters, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
    )
    .bind(new.id.to_string())
    .bind(workspace_id.to_string())
    .bind(new.template_version_id.to_string())
    .bind(i64::from(number))
    .bind(new.transition.as_str())
    .bind(new.reason.as_str())
    .bind(new.initiator_id.to_string())
    .bind(new.job_id.to_string())
    .bind(new.preset_id.map(|id| id.to_string()))
    .bind(to_json(&new.parameters))
    .bind(now.micros())
    .execute(tx.on())
    .await
    .map_err(StoreError::unless_unique("make a build", Conflict::BuildActive))?;
    build_by_id(tx.on(), new.id).await
}

pub(super) async fn build_by_id(db: impl AnyExecutor<'_>, id: Uuid) -> Result<Build, StoreError> {
    let row = sqlx::query("SELECT * FROM builds WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(StoreError::unavailable("read a build"))?
        .ok_or(StoreError::NotFound("workspace build"))?;
    build(&row)
}

/// What of a workspace's builds `/reinit` is decided by; see `decide::reinit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReinitBuilds {
    /// The workspace, as it is now.
    pub workspace: Workspace,
    /// Who made its first build.
    pub first_build_initiator: Uuid,
    /// Its latest build.
    pub latest: Build,
    /// And that build's job.
    pub job: Job,
}

impl Store {
    /// Makes the next build of a workspace, and its job. A start wakes a dormant workspace.
    ///
    /// # Errors
    ///
    /// [`Conflict::BuildActive`] if the latest build is not over: of several at once one is made;
    /// [`Conflict::WorkspaceDeleted`]; [`StoreError::NotFound`].
    pub async fn insert_build(
        &self,
        workspace_id: Uuid,
        new: &NewBuild,
        now: Timestamp,
    ) -> Result<(Build, Job), StoreError> {
        const DOING: &str = "make a build";
        let mut tx = self.db.begin(DOING).await?;
        let workspace = lock_live(&mut tx, workspace_id).await?;
        let made = next_build(&mut tx, &workspace, new, now).await?;
        if new.transition == Transition::Start && workspace.dormant_at.is_some() {
            sqlx::query(
                "UPDATE workspaces SET dormant_at = NULL, last_used_at = $2, updated_at = $2
                 WHERE id = $1",
            )
            .bind(workspace_id.to_string())
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
        }
        tx.commit(DOING).await?;
        Ok(made)
    }

    /// The build with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn build(&self, id: Uuid) -> Result<Build, StoreError> {
        build_by_id(&self.db.reader, id).await
    }

    /// The build of this number.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn build_by_number(
        &self,
        workspace_id: Uuid,
        number: i32,
    ) -> Result<Build, StoreError> {
        let row = sqlx::query("SELECT * FROM builds WHERE workspace_id = $1 AND number = $2")
            .bind(workspace_id.to_string())
            .bind(i64::from(number))
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a build"))?
            .ok_or(StoreError::NotFound("workspace build"))?;
        build(&row)
    }

    /// The build that a job runs.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if the job runs none.
    pub async fn build_of_job(&self, job_id: Uuid) -> Result<Build, StoreError> {
        let row = sqlx::query("SELECT * FROM builds WHERE job_id = $1")
            .bind(job_id.to_string())
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a build"))?
            .ok_or(StoreError::NotFound("workspace build"))?;
        build(&row)
    }

    /// The latest build of a workspace, and its job.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn latest_build(&self, workspace_id: Uuid) -> Result<(Build, Job), StoreError> {
        let row = sqlx::query(
            "SELECT * FROM builds WHERE workspace_id = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(workspace_id.to_string())
        .fetch_optional(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the latest build"))?
        .ok_or(StoreError::NotFound("workspace build"))?;
        let build = build(&row)?;
        let job = job_by_id(&self.db.reader, build.job_id).await?;
        Ok((build, job))
    }

    /// The builds of a workspace and their jobs, the latest first; at most `limit`, after leaving
    /// out `offset`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn builds(
        &self,
        workspace_id: Uuid,
        limit: u32,
        offset: u32,
    ) -> Result<Vec<(Build, Job)>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let builds = sqlx::query(
            "SELECT * FROM builds WHERE workspace_id = $1
             ORDER BY number DESC LIMIT $2 OFFSET $3",
        )
        .bind(workspace_id.to_string())
        .bind(i64::from(limit))
        .bind(i64::from(offset))
        .fetch_all(tx.on())
        .await
        .map_err(StoreError::unavailable("read the builds of a workspace"))?
        .iter()
        .map(build)
        .collect::<Result<Vec<_>, _>>()?;
        let job_ids: Vec<Uuid> = builds.iter().map(|build| build.job_id).collect();
        let mut jobs = jobs(&mut tx, &job_ids).await?;
        builds
            .into_iter()
            .map(|build| {
                let job =
                    jobs.remove(&build.job_id).ok_or(StoreError::NotFound("provisioner job"))?;
                Ok((build, job))
            })
            .collect()
    }

    /// Sets when the workspace will be stopped.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn set_deadline(
        &self,
        build_id: Uuid,
        deadline: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE builds SET deadline = $2, updated_at = $3 WHERE id = $1")
            .bind(build_id.to_string())
            .bind(deadline.map(Timestamp::micros))
            .bind(now.micros())
            .execute(&self.db.writer)
            .await
            .map_err(StoreError::unavailable("change a build's deadline"))?;
        found(done.rows_affected(), "workspace build")
    }

    /// The workspaces that run past their deadline: their latest build is a start that succeeded
    /// and should have ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn workspaces_past_deadline(&self, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        sqlx::query(
            "SELECT b.workspace_id FROM builds b
             JOIN jobs j ON j.id = b.job_id
             JOIN workspaces w ON w.id = b.workspace_id
             WHERE b.deadline <= $1 AND b.transition = 'start' AND w.deleted = 0
               AND j.completed_at IS NOT NULL AND j.canceled_at IS NULL AND j.error IS NULL
               AND b.number = (SELECT MAX(number) FROM builds WHERE workspace_id = w.id)
             ORDER BY b.deadline",
        )
        .bind(now.micros())
        .fetch_all(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("find workspaces to be stopped"))?
        .iter()
        .map(|row| row.uuid("workspace_id"))
        .collect()
    }

    /// What `/reinit` is decided by, all of it read at one moment.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn reinit_builds(&self, workspace_id: Uuid) -> Result<ReinitBuilds, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let workspace = workspace_by_id(tx.on(), workspace_id).await?;
        let first_build_initiator =
            sqlx::query("SELECT initiator_id FROM builds WHERE workspace_id = $1 AND number = 1")
                .bind(workspace_id.to_string())
                .fetch_optional(tx.on())
                .await
                .map_err(StoreError::unavailable("read the first build"))?
                .ok_or(StoreError::NotFound("workspace build"))?
                .uuid("initiator_id")?;
        let (latest, job) =
            latest(&mut tx, workspace_id).await?.ok_or(StoreError::NotFound("workspace build"))?;
        Ok(ReinitBuilds { workspace, first_build_initiator, latest, job })
    }
}

/// Makes the next build of a locked workspace.
pub(super) async fn next_build(
    tx: &mut Tx,
    workspace: &Workspace,
    new: &NewBuild,
    now: Timestamp,
) -> Result<(Build, Job), StoreError> {
    let latest = latest(tx, workspace.id).await?;
    let facts = latest.map(|(build, job)| (build.number, job.status()));
    let number = admit(workspace.deleted, facts)?;
    let job = insert_job(tx, JobKind::WorkspaceBuild, new, now).await?;
    let build = insert_build(tx, workspace.id, number, new, now).await?;
    Ok((build, job))
}
