//! What belongs to an agent: scripts, apps, metadata, log sources, connections.

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    Store, StoreError,
    db::{Lock, Tx},
    row::{Columns as _, to_millis, to_seconds},
};
use crate::{
    decide::Conflict,
    model::{
        AgentScript, App, AppHealth, ConnectionLog, ConnectionType, LogSource, MetadataDescription,
        MetadataReport, Metadatum, NewAgent, ScriptStage, ScriptStatus, ScriptTiming, SharingLevel,
        Timestamp,
    },
};

pub(super) fn script(row: &AnyRow) -> Result<AgentScript, StoreError> {
    Ok(AgentScript {
        id: row.uuid("id")?,
        log_source_id: row.uuid("log_source_id")?,
        display_name: row.text("display_name")?,
        icon: row.text("icon")?,
        log_path: row.text("log_path")?,
        script: row.text("script")?,
        cron: row.text("cron")?,
        run_on_start: row.flag("run_on_start")?,
        run_on_stop: row.flag("run_on_stop")?,
        start_blocks_login: row.flag("start_blocks_login")?,
        timeout: row.millis("timeout_ms")?,
    })
}

pub(super) fn timing(row: &AnyRow) -> Result<ScriptTiming, StoreError> {
    Ok(ScriptTiming {
        script_id: row.uuid("script_id")?,
        started_at: row.time("started_at")?,
        ended_at: row.time("ended_at")?,
        exit_code: row.int32("exit_code")?,
        stage: row.word("stage", ScriptStage::parse)?,
        status: row.word("status", ScriptStatus::parse)?,
    })
}

pub(super) fn app(row: &AnyRow) -> Result<App, StoreError> {
    Ok(App {
        id: row.uuid("id")?,
        slug: row.text("slug")?,
        display_name: row.text("display_name")?,
        icon: row.text("icon")?,
        command: row.text("command")?,
        url: row.text("url")?,
        external: row.flag("external")?,
        subdomain: row.flag("subdomain")?,
        sharing_level: row.word("sharing_level", SharingLevel::parse)?,
        healthcheck_url: row.text("healthcheck_url")?,
        healthcheck_interval: row.seconds("healthcheck_interval_seconds")?,
        healthcheck_threshold: row.int32("healthcheck_threshold")?,
        health: row.word("health", AppHealth::parse)?,
        hidden: row.flag("hidden")?,
    })
}

pub(super) fn log_source(row: &AnyRow) -> Result<LogSource, StoreError> {
    Ok(LogSource {
        id: row.uuid("id")?,
        agent_id: row.uuid("agent_id")?,
        display_name: row.text("display_name")?,
        icon: row.text("icon")?,
        created_at: row.time("created_at")?,
    })
}

fn metadatum(row: &AnyRow) -> Result<Metadatum, StoreError> {
    Ok(Metadatum {
        description: MetadataDescription {
            key: row.text("key")?,
            display_name: row.text("display_name")?,
            script: row.text("script")?,
            interval: row.seconds("interval_seconds")?,
            timeout: row.seconds("timeout_seconds")?,
        },
        value: row.text("value")?,
        error: row.text("error")?,
        collected_at: row.maybe_time("collected_at")?,
    })
}

fn connection(row: &AnyRow) -> Result<ConnectionLog, StoreError> {
    let exit_code = match row.maybe_int("exit_code")? {
        None => None,
        Some(_) => Some(row.int32("exit_code")?),
    };
    Ok(ConnectionLog {
        id: row.uuid("id")?,
        agent_id: row.uuid("agent_id")?,
        kind: row.word("kind", ConnectionType::parse)?,
        ip: row.text("ip")?,
        app_name: row.text("app_name")?,
        connected_at: row.maybe_time("connected_at")?,
        disconnected_at: row.maybe_time("disconnected_at")?,
        exit_code,
        reason: row.text("reason")?,
    })
}

/// Keeps what belongs to a new agent.
pub(super) async fn insert_parts(
    tx: &mut Tx,
    agent: &NewAgent,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = agent.id.to_string();
    for (position, script) in agent.scripts.iter().enumerate() {
        insert_script(tx, &id, position, script, now).await?;
    }
    for (position, app) in agent.apps.iter().enumerate() {
        insert_app(tx, &id, position, app).await?;
    }
    for (position, metadatum) in agent.metadata.iter().enumerate() {
        insert_metadatum(tx, &id, position, metadatum).await?;
    }
    Ok(())
}

async fn insert_script(
    tx: &mut Tx,
    agent_id: &str,
    position: usize,
    script: &AgentScript,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO agent_scripts (id, agent_id, log_source_id, display_name, icon, log_path,
            script, cron, run_on_start, run_on_stop, start_blocks_login, timeout_ms, position)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(script.id.to_string())
    .bind(agent_id)
    .bind(script.log_source_id.to_string())
    .bind(script.display_name.as_str())
    .bind(script.icon.as_str())
    .bind(script.log_path.as_str())
    .bind(script.script.as_str())
    .bind(script.cron.as_str())
    .bind(i64::from(script.run_on_start))
    .bind(i64::from(script.run_on_stop))
    .bind(i64::from(script.start_blocks_login))
    .bind(to_millis(script.timeout))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .execute(tx.on())
    .await
    .map_err(StoreError::unavailable("keep a script"))?;
    insert_log_source(tx, agent_id, script.log_source_id, &script.display_name, &script.icon, now)
        .await
}

async fn insert_log_source(
    tx: &mut Tx,
    agent_id: &str,
    id: Uuid,
    display_name: &str,
    icon: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO log_sources (id, agent_id, display_name, icon, created_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (agent_id, id) DO NOTHING",
    )
    .bind(id.to_string())
    .bind(agent_id)
    .bind(display_name)
    .bind(icon)
    .bind(now.micros())
    .execute(tx.on())
    .await
    .map_err(StoreError::unavailable("keep a log source"))?;
    Ok(())
}

async fn insert_app(
    tx: &mut Tx,
    agent_id: &str,
    position: usize,
    app: &App,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO apps (id, agent_id, slug, display_name, icon, command, url, external,
            subdomain, sharing_level, healthcheck_url, healthcheck_interval_seconds,
            healthcheck_threshold, health, hidden, position)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(app.id.to_string())
    .bind(agent_id)
    .bind(app.slug.as_str())
    .bind(app.display_name.as_str())
    .bind(app.icon.as_str())
    .bind(app.command.as_str())
    .bind(app.url.as_str())
    .bind(i64::from(app.external))
    .bind(i64::from(app.subdomain))
    .bind(app.sharing_level.as_str())
    .bind(app.healthcheck_url.as_str())
    .bind(to_seconds(app.healthcheck_interval))
    .bind(i64::from(app.healthcheck_threshold))
    .bind(app.health.as_str())
    .bind(i64::from(app.hidden))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .execute(tx.on())
    .await
    .map_err(StoreError::unless_unique(
        "keep an app",
        Conflict::Invalid(format!("Two apps of an agent have the slug {:?}.", app.slug)),
    ))?;
    Ok(())
}

async fn insert_metadatum(
    tx: &mut Tx,
    agent_id: &str,
    position: usize,
    metadatum: &MetadataDescription,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO agent_metadata (agent_id, key, display_name, script, interval_seconds,
            timeout_seconds, value, error, position)
         VALUES ($1, $2, $3, $4, $5, $6, '', '', $7)",
    )
    .bind(agent_id)
    .bind(metadatum.key.as_str())
    .bind(metadatum.display_name.as_str())
    .bind(metadatum.script.as_str())
    .bind(to_seconds(metadatum.interval))
    .bind(to_seconds(metadatum.timeout))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .execute(tx.on())
    .await
    .map_err(StoreError::unless_unique(
        "keep a metadata key",
        Conflict::Invalid(format!("Two metadata of an agent have the key {:?}.", metadatum.key)),
    ))?;
    Ok(())
}

/// What an agent says of somebody's connection to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// The agent's id for it, the same for both its ends.
    pub id: Uuid,
    /// How.
    pub kind: ConnectionType,
    /// From where, without a port; may be empty.
    pub ip: String,
    /// With which app; may be empty.
    pub app_name: String,
    /// When.
    pub at: Timestamp,
    /// For its end: with which status, and why (may be empty). None for its beginning.
    pub ended: Option<(i32, String)>,
}

impl Store {
    /// The scripts of an agent, in the template's order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn scripts(&self, agent_id: Uuid) -> Result<Vec<AgentScript>, StoreError> {
        sqlx::query("SELECT * FROM agent_scripts WHERE agent_id = $1 ORDER BY position, id")
            .bind(agent_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the scripts of an agent"))?
            .iter()
            .map(script)
            .collect()
    }

    /// The apps of an agent, in the template's order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn apps(&self, agent_id: Uuid) -> Result<Vec<App>, StoreError> {
        sqlx::query("SELECT * FROM apps WHERE agent_id = $1 ORDER BY position, id")
            .bind(agent_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the apps of an agent"))?
            .iter()
            .map(app)
            .collect()
    }

    /// What an agent is to report, and what it reported, in the template's order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn metadata(&self, agent_id: Uuid) -> Result<Vec<Metadatum>, StoreError> {
        sqlx::query("SELECT * FROM agent_metadata WHERE agent_id = $1 ORDER BY position, key")
            .bind(agent_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the metadata of an agent"))?
            .iter()
            .map(metadatum)
            .collect()
    }

    /// An agent reports values; keys that were not asked for are left out. The limits of
    /// `coderd/agentapi/metadata.go` are the caller's to keep.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn update_metadata(
        &self,
        agent_id: Uuid,
        reports: &[MetadataReport],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep an agent's metadata";
        let mut tx = self.db.begin(DOING).await?;
        tx.lock(Lock::Agent(agent_id)).await?;
        for report in reports {
            sqlx::query(
                "UPDATE agent_metadata SET value = $3, error = $4, collected_at = $5
                 WHERE agent_id = $1 AND key = $2",
            )
            .bind(agent_id.to_string())
            .bind(report.key.as_str())
            .bind(storable(&report.value))
            .bind(storable(&report.error))
            .bind(now.micros())
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
        }
        tx.commit(DOING).await
    }

    /// An agent says how well its apps are; says whether anything changed. All or nothing.
    ///
    /// # Errors
    ///
    /// [`Conflict::Invalid`] if the agent has no such app, or it has nothing to be asked
    /// (`coderd/agentapi/apps.go`).
    pub async fn update_app_health(
        &self,
        agent_id: Uuid,
        updates: &[(Uuid, AppHealth)],
    ) -> Result<bool, StoreError> {
        const DOING: &str = "keep the health of apps";
        let mut tx = self.db.begin(DOING).await?;
        tx.lock(Lock::Agent(agent_id)).await?;
        let mut changed = false;
        for (id, health) in updates {
            let row = sqlx::query("SELECT * FROM apps WHERE agent_id = $1 AND id = $2")
                .bind(agent_id.to_string())
                .bind(id.to_string())
                .fetch_optional(tx.on())
                .await
                .map_err(StoreError::unavailable(DOING))?
                .ok_or_else(|| Conflict::Invalid(format!("The agent has no app {id}.")))?;
            let app = app(&row)?;
            if app.healthcheck_url.is_empty() {
                let reason = format!("The app {:?} has no health check.", app.slug);
                return Err(Conflict::Invalid(reason).into());
            }
            if app.health != *health {
                sqlx::query("UPDATE apps SET health = $2 WHERE id = $1")
                    .bind(id.to_string())
                    .bind(health.as_str())
                    .execute(tx.on())
                    .await
                    .map_err(StoreError::unavailable(DOING))?;
                changed = true;
            }
        }
        tx.commit(DOING).await?;
        Ok(changed)
    }

    /// The log sources of an agent, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn log_sources(&self, agent_id: Uuid) -> Result<Vec<LogSource>, StoreError> {
        sqlx::query("SELECT * FROM log_sources WHERE agent_id = $1 ORDER BY created_at, id")
            .bind(agent_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the log sources of an agent"))?
            .iter()
            .map(log_source)
            .collect()
    }

    /// Keeps a log source of an agent, unless it is known.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn add_log_source(
        &self,
        agent_id: Uuid,
        id: Uuid,
        display_name: &str,
        icon: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep a log source";
        let mut tx = self.db.begin(DOING).await?;
        insert_log_source(
            &mut tx,
            &agent_id.to_string(),
            id,
            &storable(display_name),
            &storable(icon),
            now,
        )
        .await?;
        tx.commit(DOING).await
    }

    /// A script of an agent has ended.
    ///
    /// # Errors
    ///
    /// [`Conflict::Invalid`] if the agent has no such script, or the times are not in order
    /// (`coderd/agentapi/scripts.go`).
    pub async fn script_completed(
        &self,
        agent_id: Uuid,
        timing: &ScriptTiming,
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep how a script went";
        if timing.ended_at < timing.started_at {
            let reason = "The script ended before it began.".to_owned();
            return Err(Conflict::Invalid(reason).into());
        }
        let mut tx = self.db.begin(DOING).await?;
        sqlx::query("SELECT id FROM agent_scripts WHERE id = $1 AND agent_id = $2")
            .bind(timing.script_id.to_string())
            .bind(agent_id.to_string())
            .fetch_optional(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?
            .ok_or_else(|| {
                Conflict::Invalid(format!("The agent has no script {}.", timing.script_id))
            })?;
        sqlx::query(
            "INSERT INTO script_timings (script_id, agent_id, started_at, ended_at, exit_code,
                stage, status)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(timing.script_id.to_string())
        .bind(agent_id.to_string())
        .bind(timing.started_at.micros())
        .bind(timing.ended_at.micros())
        .bind(i64::from(timing.exit_code))
        .bind(timing.stage.as_str())
        .bind(timing.status.as_str())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        tx.commit(DOING).await
    }

    /// How an agent's scripts went, the first first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn script_timings(&self, agent_id: Uuid) -> Result<Vec<ScriptTiming>, StoreError> {
        sqlx::query("SELECT * FROM script_timings WHERE agent_id = $1 ORDER BY id")
            .bind(agent_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read how scripts went"))?
            .iter()
            .map(timing)
            .collect()
    }

    /// Somebody connected to an agent, or left it. The ends may be reported in any order.
    ///
    /// # Errors
    ///
    /// [`Conflict::Invalid`] if the id is nil (`coderd/agentapi/connectionlog.go`).
    pub async fn report_connection(
        &self,
        agent_id: Uuid,
        report: &ConnectionReport,
    ) -> Result<(), StoreError> {
        if report.id.is_nil() {
            let reason = "The connection has no id.".to_owned();
            return Err(Conflict::Invalid(reason).into());
        }
        let begins = report.ended.is_none().then_some(report.at.micros());
        let ends = report.ended.is_some().then_some(report.at.micros());
        let (code, reason) = match &report.ended {
            Some((code, reason)) => (Some(i64::from(*code)), storable(reason)),
            None => (None, String::new()),
        };
        sqlx::query(
            "INSERT INTO connection_logs (agent_id, id, kind, ip, app_name, connected_at,
                disconnected_at, exit_code, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (agent_id, id) DO UPDATE SET
                connected_at = COALESCE(connection_logs.connected_at, excluded.connected_at),
                disconnected_at =
                    COALESCE(connection_logs.disconnected_at, excluded.disconnected_at),
                exit_code = COALESCE(connection_logs.exit_code, excluded.exit_code),
                reason = CASE WHEN connection_logs.reason = '' THEN excluded.reason
                    ELSE connection_logs.reason END",
        )
        .bind(agent_id.to_string())
        .bind(report.id.to_string())
        .bind(report.kind.as_str())
        .bind(storable(&report.ip))
        .bind(storable(&report.app_name))
        .bind(begins)
        .bind(ends)
        .bind(code)
        .bind(reason)
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("keep a connection"))?;
        Ok(())
    }

    /// Who was connected to an agent.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn connections(&self, agent_id: Uuid) -> Result<Vec<ConnectionLog>, StoreError> {
        sqlx::query("SELECT * FROM connection_logs WHERE agent_id = $1 ORDER BY connected_at, id")
            .bind(agent_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read an agent's connections"))?
            .iter()
            .map(connection)
            .collect()
    }
}

/// Text as both databases keep it: PostgreSQL refuses a NUL, which becomes the replacement
/// character.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
