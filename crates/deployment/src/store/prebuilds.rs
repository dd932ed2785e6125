//! Prebuilt workspaces: which there are, and giving one to its new owner.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Store, StoreError,
    agents::agent,
    builds::{build, latest, next_build},
    db::Locked,
    jobs::job_by_id,
    row::to_millis,
    workspaces::{lock_live, name_taken, workspace, workspace_by_id},
};
use crate::model::{
    Build, Job, JobStatus, Lifecycle, NewBuild, PREBUILDS_USER, Timestamp, Transition, Workspace,
};

/// How often another candidate is looked for when one was changed under the claimer's eyes.
const TRIES: usize = 64;

/// Who wants a prebuilt workspace, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Any that was built with this preset.
    pub preset_id: Uuid,
    /// Whose it will be.
    pub owner_id: Uuid,
    /// What it will be called.
    pub name: String,
    /// How long after a start it is stopped.
    pub ttl: Option<Duration>,
    /// When it is started.
    pub autostart_schedule: Option<String>,
    /// The claim build: a start, by the new owner, its stage `Claim`.
    pub build: NewBuild,
}

/// A prebuilt workspace that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The workspace: the same id, another owner and name.
    pub workspace: Workspace,
    /// Its claim build.
    pub build: Build,
    /// And that build's job.
    pub job: Job,
}

/// A prebuilt workspace that nobody has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prebuild {
    /// The workspace.
    pub workspace: Workspace,
    /// Its latest build.
    pub build: Build,
    /// And that build's job.
    pub job: Job,
    /// Whether it may be claimed: it runs, and all its agents are ready.
    pub ready: bool,
}

impl Store {
    /// Gives the oldest prebuilt workspace of a preset that is ready to its new owner: its owner,
    /// name and schedule are changed and its claim build is made, all at once. None if there is
    /// none that is ready. Of several claims at once, no two get the same.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`](crate::decide::Conflict::NameTaken) if the new owner has a
    /// workspace of this name.
    pub async fn claim_prebuild(
        &self,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        const DOING: &str = "claim a prebuilt workspace";
        // Several claims are to go on side by side; but one that is locked may yet be free (a claim
        // of it may fail), so before there is none they are waited for.
        let mut locked = Locked::PassBy;
        for _ in 0..TRIES {
            let mut tx = self.db.begin(DOING).await?;
            let row = tx.next_prebuild(PREBUILDS_USER, claim.preset_id, locked).await?;
            let Some(row) = row else {
                match locked {
                    Locked::PassBy => locked = Locked::WaitFor,
                    Locked::WaitFor => return Ok(None),
                }
                continue;
            };
            let candidate = workspace(&row)?;
            // PostgreSQL: between finding and locking it, another may have made its next build.
            // Now that it is locked, what is read stays so.
            let still = latest(&mut tx, candidate.id).await?.is_some_and(|(build, job)| {
                build.preset_id == Some(claim.preset_id)
                    && build.transition == Transition::Start
                    && job.status() == JobStatus::Succeeded
            });
            if !still {
                continue;
            }
            let given = sqlx::query(
                "UPDATE workspaces SET owner_id = $2, name = $3, ttl_ms = $4,
                    autostart_schedule = $5, last_used_at = $6, updated_at = $6
                 WHERE id = $1",
            )
            .bind(candidate.id.to_string())
            .bind(claim.owner_id.to_string())
            .bind(claim.name.as_str())
            .bind(claim.ttl.map(to_millis))
            .bind(claim.autostart_schedule.clone())
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unless_unique(DOING, name_taken(&claim.name)));
            if let Err(error) = given {
                // Not only dropped: as long as it is locked, others pass it by.
                tx.rollback().await;
                return Err(error);
            }
            let (build, job) = next_build(&mut tx, &candidate, &claim.build, now).await?;
            let workspace = workspace_by_id(tx.on(), candidate.id).await?;
            tx.commit(DOING).await?;
            return Ok(Some(Claimed { workspace, build, job }));
        }
        Ok(None)
    }

    /// Makes a build that deletes a prebuilt workspace; none if somebody has claimed it meanwhile.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::decide::Conflict) if a build is under way, or it is deleted already.
    pub async fn delete_prebuild(
        &self,
        workspace_id: Uuid,
        build: &NewBuild,
        now: Timestamp,
    ) -> Result<Option<(Build, Job)>, StoreError> {
        const DOING: &str = "delete a prebuilt workspace";
        let mut tx = self.db.begin(DOING).await?;
        let workspace = lock_live(&mut tx, workspace_id).await?;
        if !workspace.is_prebuild() {
            return Ok(None);
        }
        let made = next_build(&mut tx, &workspace, build, now).await?;
        tx.commit(DOING).await?;
        Ok(Some(made))
    }

    /// All prebuilt workspaces that nobody has claimed and that are not deleted, the oldest
    /// first: what is to be compared with what the presets want.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn prebuilds(&self) -> Result<Vec<Prebuild>, StoreError> {
        const DOING: &str = "read the prebuilt workspaces";
        let mut tx = self.db.begin_read().await?;
        let rows = sqlx::query(
            "SELECT * FROM workspaces WHERE owner_id = $1 AND deleted = 0 ORDER BY created_at, id",
        )
        .bind(PREBUILDS_USER.to_string())
        .fetch_all(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        let mut prebuilds = Vec::with_capacity(rows.len());
        for row in &rows {
            let workspace = workspace(row)?;
            let Some(row) = sqlx::query(
                "SELECT * FROM builds WHERE workspace_id = $1 ORDER BY number DESC LIMIT 1",
            )
            .bind(workspace.id.to_string())
            .fetch_optional(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?
            else {
                continue;
            };
            let build = build(&row)?;
            let job = job_by_id(tx.on(), build.job_id).await?;
            let agents = sqlx::query(
                "SELECT * FROM agents
                 WHERE build_id = $1 AND deleted = 0 AND parent_id IS NULL",
            )
            .bind(build.id.to_string())
            .fetch_all(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?
            .iter()
            .map(agent)
            .collect::<Result<Vec<_>, _>>()?;
            let ready = build.transition == Transition::Start
                && job.status() == JobStatus::Succeeded
                && workspace.dormant_at.is_none()
                && !agents.is_empty()
                && agents.iter().all(|agent| agent.lifecycle == Lifecycle::Ready);
            prebuilds.push(Prebuild { workspace, build, job, ready });
        }
        Ok(prebuilds)
    }
}
