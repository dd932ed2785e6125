//! Logs of jobs and of agents: ids that increase, and a limit.

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    Store, StoreError,
    agents::agent_by_id,
    db::{Lock, Tx},
    jobs::leased,
    parts::storable,
    row::Columns as _,
};
use crate::model::{
    AgentLog, EXTERNAL_LOG_SOURCE, EXTERNAL_LOG_SOURCE_NAME, JobLease, JobLog, JobLogSource,
    LogLevel, NewAgentLog, NewJobLog, Timestamp,
};

/// The most bytes of output that are kept of one agent, or of one job
/// (`coderd/agentapi/logs.go`, `coderd/provisionerdserver/provisionerdserver.go`): 1 MiB.
pub const MAX_LOG_BYTES: i64 = 1 << 20;

/// How many lines are put into one statement: a round trip for each would make a long log slow.
const LINES_PER_STATEMENT: usize = 100;

/// What became of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedLogs {
    /// The id of the first line; none if none were kept.
    pub first_id: Option<i64>,
    /// The id of the last one.
    pub last_id: Option<i64>,
    /// The limit is reached: these lines, and all later ones, are left out.
    pub overflowed: bool,
    /// It was reached just now.
    pub newly_overflowed: bool,
    /// These are the first lines.
    pub first_lines: bool,
}

impl AppendedLogs {
    /// What followers are told: there is something after this id.
    #[must_use]
    pub fn created_after(&self) -> Option<i64> {
        self.first_id.map(|id| id - 1)
    }

    /// Counts lines that were inserted. Both databases number rows of one statement in its order,
    /// but need not return them so.
    fn add(&mut self, rows: &[AnyRow]) -> Result<(), StoreError> {
        for row in rows {
            let id = row.int("id")?;
            self.first_id = Some(self.first_id.map_or(id, |first| first.min(id)));
            self.last_id = Some(self.last_id.map_or(id, |last| last.max(id)));
        }
        Ok(())
    }
}

fn job_log(row: &AnyRow) -> Result<JobLog, StoreError> {
    Ok(JobLog {
        id: row.int("id")?,
        job_id: row.uuid("job_id")?,
        created_at: row.time("created_at")?,
        source: row.word("source", JobLogSource::parse)?,
        level: row.word("level", LogLevel::parse)?,
        stage: row.text("stage")?,
        output: row.text("output")?,
    })
}

fn agent_log(row: &AnyRow) -> Result<AgentLog, StoreError> {
    Ok(AgentLog {
        id: row.int("id")?,
        created_at: row.time("created_at")?,
        level: row.word("level", LogLevel::parse)?,
        source_id: row.uuid("source_id")?,
        output: row.text("output")?,
    })
}

/// Whether a log of `length` bytes has room for `lines`, and how long it is then. An empty line
/// counts as one byte, so that their number has an end, too.
fn room<'a>(length: i64, lines: impl Iterator<Item = &'a String>) -> Option<i64> {
    let bytes: usize = lines.map(|line| line.len().max(1)).sum();
    let after = length.checked_add(i64::try_from(bytes).ok()?)?;
    (after <= MAX_LOG_BYTES).then_some(after)
}

/// `($1, $2), ($3, $4), …`: places for this many rows of this many columns.
fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

const NOTHING: AppendedLogs = AppendedLogs {
    first_id: None,
    last_id: None,
    overflowed: false,
    newly_overflowed: false,
    first_lines: false,
};

impl Store {
    /// Adds lines to the log of a job that this worker has. Lines that would make the log longer
    /// than [`MAX_LOG_BYTES`] are left out, all of the call, and so are all later ones.
    ///
    /// # Errors
    ///
    /// [`Conflict::LeaseLost`](crate::decide::Conflict::LeaseLost).
    pub async fn append_job_logs(
        &self,
        lease: JobLease,
        logs: &[NewJobLog],
    ) -> Result<AppendedLogs, StoreError> {
        const DOING: &str = "keep a job's log";
        if logs.is_empty() {
            return Ok(NOTHING);
        }
        // The lock makes ids of one job visible in their order, which followers rely on.
        let (mut tx, job) = leased(self.db.begin(DOING).await?, lease).await?;
        let id = lease.job_id.to_string();
        let length = length_of_job_log(&mut tx, &id).await?;
        if job.logs_overflowed {
            return Ok(AppendedLogs { overflowed: true, ..NOTHING });
        }
        let Some(after) = room(length, logs.iter().map(|log| &log.output)) else {
            sqlx::query("UPDATE jobs SET logs_overflowed = 1 WHERE id = $1")
                .bind(id)
                .execute(tx.on())
                .await
                .map_err(StoreError::unavailable(DOING))?;
            tx.commit(DOING).await?;
            return Ok(AppendedLogs { overflowed: true, newly_overflowed: true, ..NOTHING });
        };
        let mut appended = AppendedLogs { first_lines: length == 0, ..NOTHING };
        for lines in logs.chunks(LINES_PER_STATEMENT) {
            let statement = format!(
                "INSERT INTO job_logs (job_id, created_at, source, level, stage, output)
                 VALUES {} RETURNING id",
                places(lines.len(), 6)
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
            for log in lines {
                query = query
                    .bind(id.as_str())
                    .bind(log.created_at.micros())
                    .bind(log.source.as_str())
                    .bind(log.level.as_str())
                    .bind(storable(&log.stage))
                    .bind(storable(&log.output));
            }
            let rows = query.fetch_all(tx.on()).await.map_err(StoreError::unavailable(DOING))?;
            appended.add(&rows)?;
        }
        sqlx::query("UPDATE jobs SET logs_length = $2 WHERE id = $1")
            .bind(id)
            .bind(after)
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await?;
        Ok(appended)
    }

    /// The lines of a job's log after this id, in order, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn job_logs(
        &self,
        job_id: Uuid,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobLog>, StoreError> {
        sqlx::query("SELECT * FROM job_logs WHERE job_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(job_id.to_string())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a job's log"))?
            .iter()
            .map(job_log)
            .collect()
    }

    /// Adds lines to an agent's log. A nil source is the external one
    /// ([`EXTERNAL_LOG_SOURCE`]), which is made when it is needed. Lines that would make the log
    /// longer than [`MAX_LOG_BYTES`] are left out, all of the call, and so are all later ones.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn append_agent_logs(
        &self,
        agent_id: Uuid,
        source_id: Uuid,
        logs: &[NewAgentLog],
        now: Timestamp,
    ) -> Result<AppendedLogs, StoreError> {
        const DOING: &str = "keep an agent's log";
        let mut tx = self.db.begin(DOING).await?;
        // The lock makes ids of one agent visible in their order, which followers rely on.
        tx.lock(Lock::Agent(agent_id)).await?;
        let agent = agent_by_id(tx.on(), agent_id).await?;
        let id = agent_id.to_string();
        if agent.logs_overflowed || logs.is_empty() {
            return Ok(AppendedLogs { overflowed: agent.logs_overflowed, ..NOTHING });
        }
        let Some(after) = room(agent.logs_length, logs.iter().map(|log| &log.output)) else {
            sqlx::query("UPDATE agents SET logs_overflowed = 1, updated_at = $2 WHERE id = $1")
                .bind(id)
                .bind(now.micros())
                .execute(tx.on())
                .await
                .map_err(StoreError::unavailable(DOING))?;
            tx.commit(DOING).await?;
            return Ok(AppendedLogs { overflowed: true, newly_overflowed: true, ..NOTHING });
        };
        let source_id = if source_id.is_nil() {
            sqlx::query(
                "INSERT INTO log_sources (id, agent_id, display_name, icon, created_at)
                 VALUES ($1, $2, $3, '', $4) ON CONFLICT (agent_id, id) DO NOTHING",
            )
            .bind(EXTERNAL_LOG_SOURCE.to_string())
            .bind(id.as_str())
            .bind(EXTERNAL_LOG_SOURCE_NAME)
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
            EXTERNAL_LOG_SOURCE
        } else {
            source_id
        };
        let mut appended = AppendedLogs { first_lines: agent.logs_length == 0, ..NOTHING };
        for lines in logs.chunks(LINES_PER_STATEMENT) {
            let statement = format!(
                "INSERT INTO agent_logs (agent_id, created_at, level, source_id, output)
                 VALUES {} RETURNING id",
                places(lines.len(), 5)
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
            for log in lines {
                query = query
                    .bind(id.as_str())
                    .bind(log.created_at.micros())
                    .bind(log.level.as_str())
                    .bind(source_id.to_string())
                    .bind(storable(&log.output));
            }
            let rows = query.fetch_all(tx.on()).await.map_err(StoreError::unavailable(DOING))?;
            appended.add(&rows)?;
        }
        sqlx::query("UPDATE agents SET logs_length = $2, updated_at = $3 WHERE id = $1")
            .bind(id)
            .bind(after)
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await?;
        Ok(appended)
    }

    /// The lines of an agent's log after this id, in order, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn agent_logs(
        &self,
        agent_id: Uuid,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AgentLog>, StoreError> {
        sqlx::query("SELECT * FROM agent_logs WHERE agent_id = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(agent_id.to_string())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read an agent's log"))?
            .iter()
            .map(agent_log)
            .collect()
    }
}

async fn length_of_job_log(tx: &mut Tx, job_id: &str) -> Result<i64, StoreError> {
    sqlx::query("SELECT logs_length FROM jobs WHERE id = $1")
        .bind(job_id)
        .fetch_one(tx.on())
        .await
        .map_err(StoreError::unavailable("read the length of a job's log"))?
        .int("logs_length")
}
