//! Provisioner jobs: who runs them, and how they end.

use std::time::Duration;

use sqlx::any::{AnyExecutor, AnyRow};
use uuid::Uuid;

use super::{
    Store, StoreError,
    agents::insert_agent,
    builds::build_by_id,
    db::{Lock, Tx},
    row::{Columns as _, to_json},
    workspaces::workspace_by_id,
};
use crate::{
    decide::{
        Conflict,
        builds::{JobEvent, job_status_after},
    },
    model::{
        Build, Job, JobKind, JobLease, JobStatus, NewResource, Timestamp, Transition, Workspace,
    },
};

pub(super) fn job(row: &AnyRow) -> Result<Job, StoreError> {
    Ok(Job {
        id: row.uuid("id")?,
        kind: row.word("kind", JobKind::parse)?,
        initiator_id: row.uuid("initiator_id")?,
        input: row.json("input")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        started_at: row.maybe_time("started_at")?,
        canceled_at: row.maybe_time("canceled_at")?,
        completed_at: row.maybe_time("completed_at")?,
        error: row.maybe_text("error")?,
        error_code: row.maybe_text("error_code")?,
        worker_id: row.maybe_uuid("worker_id")?,
        lease_until: row.maybe_time("lease_until")?,
        attempt: row.int("attempt")?,
        logs_overflowed: row.flag("logs_overflowed")?,
    })
}

pub(super) async fn job_by_id(db: impl AnyExecutor<'_>, id: Uuid) -> Result<Job, StoreError> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(StoreError::unavailable("read a job"))?
        .ok_or(StoreError::NotFound("provisioner job"))?;
    job(&row)
}

/// A job that a worker has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquiredJob {
    /// The right to run it.
    pub lease: JobLease,
    /// The job.
    pub job: Job,
    /// Another worker had it, and let its lease run out or gave it back: some of it may be done.
    pub taken_over: bool,
}

/// A job of a build that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedJob {
    /// The job; its status says whether what it made was kept.
    pub job: Job,
    /// The build.
    pub build: Build,
    /// The workspace, as it is now.
    pub workspace: Workspace,
}

/// The job, locked, if the lease is the one that is good. If it is not, the transaction is undone
/// before this returns: as long as the job is locked, those who look for work pass it by.
pub(super) async fn leased(mut tx: Tx, lease: JobLease) -> Result<(Tx, Job), StoreError> {
    tx.lock(Lock::Job(lease.job_id)).await?;
    let job = job_by_id(tx.on(), lease.job_id).await?;
    let holds = job.completed_at.is_none()
        && job.worker_id == Some(lease.worker_id)
        && job.attempt == lease.attempt;
    if holds {
        Ok((tx, job))
    } else {
        tx.rollback().await;
        Err(Conflict::LeaseLost.into())
    }
}

/// Ends a locked job.
async fn end(
    tx: &mut Tx,
    job: &Job,
    error: Option<(&str, Option<&str>)>,
    now: Timestamp,
) -> Result<Job, StoreError> {
    // An error is never empty, which would read as a success.
    let (error, code) = match error {
        Some(("", code)) => (Some("The provisioner gave no reason."), code),
        Some((error, code)) => (Some(error), code),
        None => (None, None),
    };
    sqlx::query(
        "UPDATE jobs SET completed_at = $2, updated_at = $2, error = $3, error_code = $4,
            lease_until = NULL
         WHERE id = $1",
    )
    .bind(job.id.to_string())
    .bind(now.micros())
    .bind(error.map(str::to_owned))
    .bind(code.map(str::to_owned))
    .execute(tx.on())
    .await
    .map_err(StoreError::unavailable("end a job"))?;
    job_by_id(tx.on(), job.id).await
}

impl Store {
    /// The job with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn job(&self, id: Uuid) -> Result<Job, StoreError> {
        job_by_id(&self.db.reader, id).await
    }

    /// Takes the first job that waits, or that another worker has left, for as long as `lease`;
    /// none if there is nothing to do. Of several workers that ask at once, one gets it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn acquire_job(
        &self,
        worker_id: Uuid,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<AcquiredJob>, StoreError> {
        const DOING: &str = "take a job";
        let mut tx = self.db.begin(DOING).await?;
        let Some(row) = tx.next_job(now.micros()).await? else {
            return Ok(None);
        };
        let before = job(&row)?;
        job_status_after(before.status(), JobEvent::Acquire)?;
        sqlx::query(
            "UPDATE jobs SET worker_id = $2, lease_until = $3, attempt = attempt + 1,
                started_at = COALESCE(started_at, $4), updated_at = $4
             WHERE id = $1",
        )
        .bind(before.id.to_string())
        .bind(worker_id.to_string())
        .bind(now.plus(lease).micros())
        .bind(now.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        let job = job_by_id(tx.on(), before.id).await?;
        tx.commit(DOING).await?;
        Ok(Some(AcquiredJob {
            lease: JobLease { job_id: job.id, worker_id, attempt: job.attempt },
            job,
            taken_over: before.started_at.is_some(),
        }))
    }

    /// Keeps a job for as long as `lease` from now, and says how far it is: the worker of one
    /// that is `canceling` is to stop.
    ///
    /// # Errors
    ///
    /// [`Conflict::LeaseLost`].
    pub async fn renew_job(
        &self,
        lease: JobLease,
        until: Duration,
        now: Timestamp,
    ) -> Result<JobStatus, StoreError> {
        const DOING: &str = "keep a job";
        let (mut tx, job) = leased(self.db.begin(DOING).await?, lease).await?;
        sqlx::query("UPDATE jobs SET lease_until = $2, updated_at = $3 WHERE id = $1")
            .bind(lease.job_id.to_string())
            .bind(now.plus(until).micros())
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await?;
        Ok(job.status())
    }

    /// Gives a job back: another worker may take it at once.
    ///
    /// # Errors
    ///
    /// [`Conflict::LeaseLost`].
    pub async fn release_job(&self, lease: JobLease, now: Timestamp) -> Result<(), StoreError> {
        const DOING: &str = "give a job back";
        let (mut tx, _) = leased(self.db.begin(DOING).await?, lease).await?;
        sqlx::query(
            "UPDATE jobs SET worker_id = NULL, lease_until = NULL, updated_at = $2 WHERE id = $1",
        )
        .bind(lease.job_id.to_string())
        .bind(now.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await
    }

    /// A build's job is done: keeps what it made, all at once. A start sets the workspace's
    /// deadline, a delete deletes the workspace. If somebody has asked to cancel the job
    /// meanwhile, it is canceled and nothing is kept: see the status of what is returned.
    ///
    /// # Errors
    ///
    /// [`Conflict::LeaseLost`]; [`Conflict::Invalid`] if two agents have one name.
    pub async fn complete_job(
        &self,
        lease: JobLease,
        resources: &[NewResource],
        now: Timestamp,
    ) -> Result<CompletedJob, StoreError> {
        const DOING: &str = "complete a job";
        let build = self.build_of_job(lease.job_id).await?;
        let mut tx = self.db.begin(DOING).await?;
        tx.lock(Lock::Workspace(build.workspace_id)).await?;
        let (mut tx, before) = leased(tx, lease).await?;
        let status = job_status_after(before.status(), JobEvent::Complete)?;
        if status == JobStatus::Succeeded {
            for (position, resource) in resources.iter().enumerate() {
                insert_resource(&mut tx, &build, position, resource, now).await?;
            }
            let workspace = workspace_by_id(tx.on(), build.workspace_id).await?;
            match build.transition {
                Transition::Start => {
                    sqlx::query("UPDATE builds SET deadline = $2, updated_at = $3 WHERE id = $1")
                        .bind(build.id.to_string())
                        .bind(workspace.ttl.map(|ttl| now.plus(ttl).micros()))
                        .bind(now.micros())
                        .execute(tx.on())
                        .await
                        .map_err(StoreError::unavailable(DOING))?;
                }
                Transition::Delete => {
                    sqlx::query("UPDATE workspaces SET deleted = 1, updated_at = $2 WHERE id = $1")
                        .bind(workspace.id.to_string())
                        .bind(now.micros())
                        .execute(tx.on())
                        .await
                        .map_err(StoreError::unavailable(DOING))?;
                }
                Transition::Stop => {}
            }
        }
        let job = end(&mut tx, &before, None, now).await?;
        let workspace = workspace_by_id(tx.on(), build.workspace_id).await?;
        let build = build_by_id(tx.on(), build.id).await?;
        tx.commit(DOING).await?;
        Ok(CompletedJob { job, build, workspace })
    }

    /// A job went wrong. An empty error becomes a sentence, so that it is no success.
    ///
    /// # Errors
    ///
    /// [`Conflict::LeaseLost`].
    pub async fn fail_job(
        &self,
        lease: JobLease,
        error: &str,
        error_code: Option<&str>,
        now: Timestamp,
    ) -> Result<Job, StoreError> {
        const DOING: &str = "fail a job";
        let (mut tx, before) = leased(self.db.begin(DOING).await?, lease).await?;
        job_status_after(before.status(), JobEvent::Fail)?;
        let job = end(&mut tx, &before, Some((error, error_code)), now).await?;
        tx.commit(DOING).await?;
        Ok(job)
    }

    /// The worker has stopped a job that it was asked to stop: it is canceled. One that nobody
    /// asked to stop has failed.
    ///
    /// # Errors
    ///
    /// [`Conflict::LeaseLost`].
    pub async fn job_stopped(&self, lease: JobLease, now: Timestamp) -> Result<Job, StoreError> {
        const DOING: &str = "end a canceled job";
        let (mut tx, before) = leased(self.db.begin(DOING).await?, lease).await?;
        let error = match job_status_after(before.status(), JobEvent::Stopped)? {
            JobStatus::Failed => Some(("The provisioner stopped before the build was done.", None)),
            JobStatus::Canceled
            | JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Succeeded
            | JobStatus::Canceling => None,
        };
        let job = end(&mut tx, &before, error, now).await?;
        tx.commit(DOING).await?;
        Ok(job)
    }

    /// Asks to cancel a job: one that waits is canceled at once, one that runs is `canceling`
    /// until its worker has stopped. With `expect`, only if it is so far.
    ///
    /// # Errors
    ///
    /// [`Conflict::JobCompleted`], [`Conflict::JobAlreadyCanceled`],
    /// [`Conflict::NotInExpectedState`]; [`StoreError::NotFound`].
    pub async fn cancel_job(
        &self,
        job_id: Uuid,
        expect: Option<JobStatus>,
        now: Timestamp,
    ) -> Result<Job, StoreError> {
        const DOING: &str = "cancel a job";
        let mut tx = self.db.begin(DOING).await?;
        tx.lock(Lock::Job(job_id)).await?;
        let before = job_by_id(tx.on(), job_id).await?;
        let status = job_status_after(before.status(), JobEvent::Cancel { expect })?;
        // A job that was given back waits again, though it was begun: it is over at once, too.
        let at_once = status == JobStatus::Canceled || before.worker_id.is_none();
        sqlx::query(
            "UPDATE jobs SET canceled_at = $2, updated_at = $2, completed_at = $3 WHERE id = $1",
        )
        .bind(job_id.to_string())
        .bind(now.micros())
        .bind(at_once.then_some(now.micros()))
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        let job = job_by_id(tx.on(), job_id).await?;
        tx.commit(DOING).await?;
        Ok(job)
    }

    /// How many jobs wait before this one, counting it, and how many wait in all: `(0, n)` if it
    /// does not wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn queue_position(&self, job_id: Uuid) -> Result<(i64, i64), StoreError> {
        let job = self.job(job_id).await?;
        let row = sqlx::query(
            "SELECT COUNT(*) AS size,
                    COUNT(CASE WHEN created_at < $1 OR (created_at = $1 AND id <= $2) THEN 1 END)
                        AS position
             FROM jobs WHERE completed_at IS NULL AND worker_id IS NULL",
        )
        .bind(job.created_at.micros())
        .bind(job_id.to_string())
        .fetch_one(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the queue of jobs"))?;
        let waits = job.completed_at.is_none() && job.worker_id.is_none();
        let position = if waits { row.int("position")? } else { 0 };
        Ok((position, row.int("size")?))
    }
}

async fn insert_resource(
    tx: &mut Tx,
    build: &Build,
    position: usize,
    new: &NewResource,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO resources (id, job_id, transition, kind, name, hide, icon, metadata,
            position, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(new.id.to_string())
    .bind(build.job_id.to_string())
    .bind(build.transition.as_str())
    .bind(new.kind.as_str())
    .bind(new.name.as_str())
    .bind(i64::from(new.hide))
    .bind(new.icon.as_str())
    .bind(to_json(&new.metadata))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .bind(now.micros())
    .execute(tx.on())
    .await
    .map_err(StoreError::unavailable("keep a resource"))?;
    for (position, agent) in new.agents.iter().enumerate() {
        insert_agent(tx, build, new.id, None, position, agent, now).await?;
    }
    Ok(())
}
