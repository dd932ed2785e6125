//! Agents: their rows, who may speak for them, what they say of themselves.

use sqlx::any::{AnyExecutor, AnyRow};
use uuid::Uuid;

use super::{
    Store, StoreError,
    builds::build_by_id,
    db::{Lock, Tx},
    jobs::job_by_id,
    parts::insert_parts,
    row::{Columns as _, corrupt, to_json, to_seconds},
    users::found,
    workspaces::workspace_by_id,
};
use crate::{
    decide::{
        Conflict,
        agents::{LifecycleColumns, after_report, report_time},
        tokens::{AgentRow, BuildFacts, agent_token_valid},
    },
    model::{
        Agent, AgentSpec, AgentToken, Build, Lifecycle, NewAgent, Subsystem, Timestamp, Transition,
        Workspace,
    },
};

pub(super) fn agent(row: &AnyRow) -> Result<Agent, StoreError> {
    let timeout = row.seconds("connection_timeout_seconds")?;
    Ok(Agent {
        id: row.uuid("id")?,
        parent_id: row.maybe_uuid("parent_id")?,
        resource_id: row.uuid("resource_id")?,
        build_id: row.uuid("build_id")?,
        workspace_id: row.uuid("workspace_id")?,
        // The error must not repeat the token.
        auth_token: AgentToken::parse(&row.text("auth_token")?)
            .ok_or_else(|| corrupt("auth_token", "it is no UUID"))?,
        spec: AgentSpec {
            name: row.text("name")?,
            operating_system: row.text("operating_system")?,
            architecture: row.text("architecture")?,
            directory: row.text("directory")?,
            environment: row.json("environment")?,
            motd_file: row.text("motd_file")?,
            connection_timeout: (!timeout.is_zero()).then_some(timeout),
            troubleshooting_url: row.text("troubleshooting_url")?,
            display_apps: row.json("display_apps")?,
        },
        deleted: row.flag("deleted")?,
        lifecycle: row.word("lifecycle", Lifecycle::parse)?,
        started_at: row.maybe_time("started_at")?,
        ready_at: row.maybe_time("ready_at")?,
        first_connected_at: row.maybe_time("first_connected_at")?,
        last_connected_at: row.maybe_time("last_connected_at")?,
        disconnected_at: row.maybe_time("disconnected_at")?,
        replica_id: row.maybe_uuid("replica_id")?,
        version: row.text("version")?,
        api_version: row.text("api_version")?,
        expanded_directory: row.text("expanded_directory")?,
        subsystems: row.json("subsystems")?,
        logs_length: row.int("logs_length")?,
        logs_overflowed: row.flag("logs_overflowed")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(super) async fn agent_by_id(db: impl AnyExecutor<'_>, id: Uuid) -> Result<Agent, StoreError> {
    let row = sqlx::query("SELECT * FROM agents WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(StoreError::unavailable("read an agent"))?
        .ok_or(StoreError::NotFound("workspace agent"))?;
    agent(&row)
}

pub(super) async fn insert_agent(
    tx: &mut Tx,
    build: &Build,
    resource_id: Uuid,
    parent_id: Option<Uuid>,
    position: usize,
    new: &NewAgent,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO agents (id, parent_id, resource_id, build_id, workspace_id, auth_token,
            token_lookup, name, operating_system, architecture, directory, environment, motd_file,
            connection_timeout_seconds, troubleshooting_url, display_apps, deleted, lifecycle,
            version, api_version, expanded_directory, subsystems, logs_length, logs_overflowed,
            position, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0, $17,
            '', '', '', '[]', 0, 0, $18, $19, $19)",
    )
    .bind(new.id.to_string())
    .bind(parent_id.map(|id| id.to_string()))
    .bind(resource_id.to_string())
    .bind(build.id.to_string())
    .bind(build.workspace_id.to_string())
    .bind(new.auth_token.expose().to_string())
    .bind(new.auth_token.lookup())
    .bind(new.spec.name.as_str())
    .bind(new.spec.operating_system.as_str())
    .bind(new.spec.architecture.as_str())
    .bind(new.spec.directory.as_str())
    .bind(to_json(&new.spec.environment))
    .bind(new.spec.motd_file.as_str())
    .bind(new.spec.connection_timeout.map_or(0, to_seconds))
    .bind(new.spec.troubleshooting_url.as_str())
    .bind(to_json(&new.spec.display_apps))
    .bind(Lifecycle::Created.as_str())
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .bind(now.micros())
    .execute(tx.on())
    .await
    .map_err(StoreError::unless_unique(
        "keep an agent",
        Conflict::Invalid(format!("Two agents of the build are named {:?}.", new.spec.name)),
    ))?;
    insert_parts(tx, new, now).await
}

/// Who showed an agent's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatedAgent {
    /// The agent.
    pub agent: Agent,
    /// Its build.
    pub build: Build,
    /// Its workspace.
    pub workspace: Workspace,
}

/// What a report of an agent's lifecycle came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleUpdate {
    /// The agent, as it is now.
    pub agent: Agent,
    /// Whose its workspace is: their channel is to be told.
    pub owner_id: Uuid,
}

impl Store {
    /// Whose token this is, if it is good now: see `decide::tokens::agent_token_valid`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]. A token that is unknown or outdated is `Ok(None)`.
    pub async fn authenticate_agent(
        &self,
        token: AgentToken,
    ) -> Result<Option<AuthenticatedAgent>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let rows = sqlx::query(
            "SELECT a.id AS agent_id, a.deleted AS deleted, w.deleted AS workspace_deleted,
                    b.number AS number, b.transition AS transition, b.job_id AS job_id,
                    l.number AS latest_number, l.transition AS latest_transition,
                    l.job_id AS latest_job_id
             FROM agents a
             JOIN workspaces w ON w.id = a.workspace_id
             JOIN builds b ON b.id = a.build_id
             JOIN builds l ON l.workspace_id = a.workspace_id
              AND l.number = (SELECT MAX(number) FROM builds WHERE workspace_id = a.workspace_id)
             WHERE a.token_lookup = $1
             ORDER BY b.number DESC",
        )
        .bind(token.lookup())
        .fetch_all(tx.on())
        .await
        .map_err(StoreError::unavailable("find an agent by its token"))?;
        for row in &rows {
            let build = facts(&mut tx, row, "number", "transition", "job_id").await?;
            let latest =
                facts(&mut tx, row, "latest_number", "latest_transition", "latest_job_id").await?;
            let valid = agent_token_valid(&AgentRow {
                deleted: row.flag("deleted")?,
                workspace_deleted: row.flag("workspace_deleted")?,
                build,
                latest,
            });
            if valid {
                let agent = agent_by_id(tx.on(), row.uuid("agent_id")?).await?;
                let build = build_by_id(tx.on(), agent.build_id).await?;
                let workspace = workspace_by_id(tx.on(), agent.workspace_id).await?;
                return Ok(Some(AuthenticatedAgent { agent, build, workspace }));
            }
        }
        Ok(None)
    }

    /// The agent with this id, of any build.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent(&self, id: Uuid) -> Result<Agent, StoreError> {
        agent_by_id(&self.db.reader, id).await
    }

    /// The agents of a build that are not deleted, in the template's order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn agents_of_build(&self, build_id: Uuid) -> Result<Vec<Agent>, StoreError> {
        sqlx::query(
            "SELECT * FROM agents WHERE build_id = $1 AND deleted = 0
             ORDER BY resource_id, position, created_at, id",
        )
        .bind(build_id.to_string())
        .fetch_all(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the agents of a build"))?
        .iter()
        .map(agent)
        .collect()
    }

    /// The names and tokens of the agents of a workspace's first build: those that a claim build
    /// is to use again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn first_agent_tokens(
        &self,
        workspace_id: Uuid,
    ) -> Result<Vec<(String, AgentToken)>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.* FROM agents a JOIN builds b ON b.id = a.build_id
             WHERE a.workspace_id = $1 AND b.number = 1 AND a.parent_id IS NULL
             ORDER BY a.name",
        )
        .bind(workspace_id.to_string())
        .fetch_all(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the agents of the first build"))?;
        rows.iter().map(|row| agent(row).map(|agent| (agent.spec.name, agent.auth_token))).collect()
    }

    /// Whether an agent's build is still its workspace's latest, or it may still report by the
    /// exception of `decide::tokens::agent_token_valid`. An RPC session whose agent is not is to
    /// be closed.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent_is_current(&self, id: Uuid) -> Result<bool, StoreError> {
        let agent = self.agent(id).await?;
        let found = self.authenticate_agent(agent.auth_token).await?;
        Ok(found.is_some_and(|found| found.agent.id == id))
    }

    /// An agent says how far its scripts are. Never checks the order; see
    /// `decide::agents::after_report`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn update_lifecycle(
        &self,
        id: Uuid,
        state: Lifecycle,
        changed_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<LifecycleUpdate, StoreError> {
        const DOING: &str = "note an agent's lifecycle";
        let mut tx = self.db.begin(DOING).await?;
        tx.lock(Lock::Agent(id)).await?;
        let before = agent_by_id(tx.on(), id).await?;
        let columns = after_report(
            LifecycleColumns {
                state: before.lifecycle,
                started_at: before.started_at,
                ready_at: before.ready_at,
            },
            state,
            report_time(changed_at, now),
        );
        sqlx::query(
            "UPDATE agents SET lifecycle = $2, started_at = $3, ready_at = $4, updated_at = $5
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(columns.state.as_str())
        .bind(columns.started_at.map(Timestamp::micros))
        .bind(columns.ready_at.map(Timestamp::micros))
        .bind(now.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        let agent = agent_by_id(tx.on(), id).await?;
        let owner_id = workspace_by_id(tx.on(), agent.workspace_id).await?.owner_id;
        tx.commit(DOING).await?;
        Ok(LifecycleUpdate { agent, owner_id })
    }

    /// An agent says what it is: its version (with a leading `v`), where it works, what it runs
    /// in; and which API version its session has.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn update_startup(
        &self,
        id: Uuid,
        version: &str,
        api_version: &str,
        expanded_directory: &str,
        subsystems: &[Subsystem],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut subsystems = subsystems.to_vec();
        subsystems.sort_by_key(|subsystem| subsystem.as_str());
        subsystems.dedup();
        let done = sqlx::query(
            "UPDATE agents SET version = $2, api_version = $3, expanded_directory = $4,
                subsystems = $5, updated_at = $6
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(version)
        .bind(api_version)
        .bind(expanded_directory)
        .bind(to_json(&subsystems))
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("note what an agent is"))?;
        found(done.rows_affected(), "workspace agent")
    }

    /// An agent's session `connection_id` began on this replica. Of two sessions, the later
    /// counts.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent_connected(
        &self,
        id: Uuid,
        connection_id: Uuid,
        replica_id: Uuid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE agents SET first_connected_at = COALESCE(first_connected_at, $4),
                last_connected_at = $4, disconnected_at = NULL, connection_id = $2,
                replica_id = $3, updated_at = $4
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(connection_id.to_string())
        .bind(replica_id.to_string())
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("note that an agent connected"))?;
        found(done.rows_affected(), "workspace agent")
    }

    /// The session is alive; does nothing if a later one has begun.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn agent_seen(
        &self,
        id: Uuid,
        connection_id: Uuid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE agents SET last_connected_at = $3, disconnected_at = NULL, updated_at = $3
             WHERE id = $1 AND connection_id = $2",
        )
        .bind(id.to_string())
        .bind(connection_id.to_string())
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("note that an agent is connected"))?;
        Ok(())
    }

    /// The session ended; does nothing, and says so, if a later one has begun.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn agent_disconnected(
        &self,
        id: Uuid,
        connection_id: Uuid,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE agents SET disconnected_at = $3, updated_at = $3
             WHERE id = $1 AND connection_id = $2",
        )
        .bind(id.to_string())
        .bind(connection_id.to_string())
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("note that an agent disconnected"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Makes a sub-agent of an agent, on its resource.
    ///
    /// # Errors
    ///
    /// [`Conflict::Invalid`] if the name is taken; [`StoreError::NotFound`].
    pub async fn create_sub_agent(
        &self,
        parent_id: Uuid,
        new: &NewAgent,
        now: Timestamp,
    ) -> Result<Agent, StoreError> {
        const DOING: &str = "make a sub-agent";
        let mut tx = self.db.begin(DOING).await?;
        tx.lock(Lock::Agent(parent_id)).await?;
        let parent = agent_by_id(tx.on(), parent_id).await?;
        let build = build_by_id(tx.on(), parent.build_id).await?;
        insert_agent(&mut tx, &build, parent.resource_id, Some(parent_id), 0, new, now).await?;
        let agent = agent_by_id(tx.on(), new.id).await?;
        tx.commit(DOING).await?;
        Ok(agent)
    }

    /// The sub-agents of an agent that are not deleted, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn sub_agents(&self, parent_id: Uuid) -> Result<Vec<Agent>, StoreError> {
        sqlx::query(
            "SELECT * FROM agents WHERE parent_id = $1 AND deleted = 0 ORDER BY created_at, id",
        )
        .bind(parent_id.to_string())
        .fetch_all(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the sub-agents of an agent"))?
        .iter()
        .map(agent)
        .collect()
    }

    /// Deletes a sub-agent of this agent.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] if this agent has no such sub-agent.
    pub async fn delete_sub_agent(
        &self,
        parent_id: Uuid,
        id: Uuid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE agents SET deleted = 1, updated_at = $3
             WHERE id = $1 AND parent_id = $2 AND deleted = 0",
        )
        .bind(id.to_string())
        .bind(parent_id.to_string())
        .bind(now.micros())
        .execute(&self.db.writer)
        .await
        .map_err(StoreError::unavailable("delete a sub-agent"))?;
        found(done.rows_affected(), "workspace agent")
    }
}

async fn facts(
    tx: &mut Tx,
    row: &AnyRow,
    number: &str,
    transition: &str,
    job_id: &str,
) -> Result<BuildFacts, StoreError> {
    Ok(BuildFacts {
        number: row.int32(number)?,
        transition: row.word(transition, Transition::parse)?,
        status: job_by_id(tx.on(), row.uuid(job_id)?).await?.status(),
    })
}
