//! Several things read at one moment, as the API shows them together.

use std::collections::HashMap;

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    IDS_PER_STATEMENT, Store, StoreError,
    agents::agent,
    builds::build,
    db::Tx,
    jobs::job,
    parts::{app, log_source, script, timing},
    placeholders,
    row::Columns as _,
    templates::template_by_id,
    workspaces::workspace,
};
use crate::{
    decide::{tokens::BuildFacts, watch::WatchedAgent},
    model::{
        Agent, AgentScript, App, Build, Job, LogSource, Resource, ScriptTiming, Template,
        Transition, Workspace,
    },
};

/// An agent with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDetails {
    /// The agent.
    pub agent: Agent,
    /// Its scripts, in the template's order.
    pub scripts: Vec<AgentScript>,
    /// How they went, the first first.
    pub timings: Vec<ScriptTiming>,
    /// Where its log's lines come from.
    pub log_sources: Vec<LogSource>,
    /// Its apps, in the template's order.
    pub apps: Vec<App>,
}

/// A resource with its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceDetails {
    /// The resource.
    pub resource: Resource,
    /// Its agents that are not deleted, sub-agents among them.
    pub agents: Vec<AgentDetails>,
}

/// A build with what it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildDetails {
    /// The build.
    pub build: Build,
    /// Its job.
    pub job: Job,
    /// The name of its version of the template.
    pub template_version_name: String,
    /// The name of who made it.
    pub initiator_name: String,
    /// What it made, in the template's order.
    pub resources: Vec<ResourceDetails>,
}

/// A workspace with its latest build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceDetails {
    /// The workspace.
    pub workspace: Workspace,
    /// The name of its owner.
    pub owner_name: String,
    /// Its template.
    pub template: Template,
    /// Its latest build.
    pub latest_build: BuildDetails,
}

/// What a watch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedBuild {
    /// Whose the workspace is now.
    pub owner_id: Uuid,
    /// Its latest build.
    pub build: BuildFacts,
    /// That build's agents that are not deleted.
    pub agents: Vec<WatchedAgent>,
}

impl Store {
    /// Workspaces with their latest builds, in the order of `ids`; those that do not exist are
    /// left out, deleted ones are not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn workspace_details(
        &self,
        ids: &[Uuid],
    ) -> Result<Vec<WorkspaceDetails>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let mut all = Vec::with_capacity(ids.len());
        let mut templates = HashMap::<Uuid, Template>::new();
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let rows = many(
                &mut tx,
                "SELECT b.*, u.username AS owner_name
                 FROM builds b
                 JOIN workspaces w ON w.id = b.workspace_id
                 JOIN users u ON u.id = w.owner_id
                 WHERE b.number = (SELECT MAX(number) FROM builds WHERE workspace_id = w.id)
                   AND w.id",
                "",
                ids,
            )
            .await?;
            let mut owners = HashMap::new();
            let mut builds = Vec::with_capacity(rows.len());
            for row in &rows {
                let build = build(row)?;
                owners.insert(build.workspace_id, row.text("owner_name")?);
                builds.push(build);
            }
            let mut latest: HashMap<Uuid, BuildDetails> = with_resources(&mut tx, builds)
                .await?
                .into_iter()
                .map(|details| (details.build.workspace_id, details))
                .collect();
            let mut workspaces = HashMap::new();
            for row in &many(&mut tx, "SELECT * FROM workspaces WHERE id", "", ids).await? {
                let workspace = workspace(row)?;
                workspaces.insert(workspace.id, workspace);
            }
            for id in ids {
                let (Some(workspace), Some(latest_build), Some(owner_name)) =
                    (workspaces.remove(id), latest.remove(id), owners.remove(id))
                else {
                    continue;
                };
                let template = match templates.get(&workspace.template_id) {
                    Some(template) => template.clone(),
                    None => {
                        let template = template_by_id(tx.on(), workspace.template_id).await?;
                        templates.insert(template.id, template.clone());
                        template
                    }
                };
                all.push(WorkspaceDetails { workspace, owner_name, template, latest_build });
            }
        }
        Ok(all)
    }

    /// Builds with what they made, in the order of `ids`; those that do not exist are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn build_details(&self, ids: &[Uuid]) -> Result<Vec<BuildDetails>, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let mut found = HashMap::new();
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let builds = many(&mut tx, "SELECT * FROM builds WHERE id", "", ids)
                .await?
                .iter()
                .map(build)
                .collect::<Result<Vec<_>, _>>()?;
            for details in with_resources(&mut tx, builds).await? {
                found.insert(details.build.id, details);
            }
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// An agent, of any build, with what belongs to it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent_details(&self, id: Uuid) -> Result<AgentDetails, StoreError> {
        let mut tx = self.db.begin_read().await?;
        let agents = many(&mut tx, "SELECT * FROM agents WHERE id", "", &[id])
            .await?
            .iter()
            .map(agent)
            .collect::<Result<Vec<_>, _>>()?;
        with_parts(&mut tx, agents).await?.pop().ok_or(StoreError::NotFound("workspace agent"))
    }

    /// What a watch of a workspace is about, all of it at one moment; none if the workspace is
    /// deleted or has no build.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn watched_build(
        &self,
        workspace_id: Uuid,
    ) -> Result<Option<WatchedBuild>, StoreError> {
        const DOING: &str = "read what is watched";
        let mut tx = self.db.begin_read().await?;
        let Some(row) = sqlx::query(
            "SELECT b.id AS build_id, b.number AS number, b.transition AS transition,
                    w.owner_id AS owner_id, j.*
             FROM builds b
             JOIN workspaces w ON w.id = b.workspace_id
             JOIN jobs j ON j.id = b.job_id
             WHERE w.id = $1 AND w.deleted = 0
             ORDER BY b.number DESC LIMIT 1",
        )
        .bind(workspace_id.to_string())
        .fetch_optional(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?
        else {
            return Ok(None);
        };
        let facts = BuildFacts {
            number: row.int32("number")?,
            transition: row.word("transition", Transition::parse)?,
            status: job(&row)?.status(),
        };
        let agents = sqlx::query(
            "SELECT * FROM agents WHERE build_id = $1 AND deleted = 0
             ORDER BY position, created_at, id",
        )
        .bind(row.text("build_id")?)
        .fetch_all(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?
        .iter()
        .map(|row| {
            agent(row).map(|agent| WatchedAgent {
                id: agent.id,
                name: agent.spec.name,
                lifecycle: agent.lifecycle,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(WatchedBuild { owner_id: row.uuid("owner_id")?, build: facts, agents }))
    }
}

/// Reads the rows for which what `select` ends with is one of `ids`.
async fn many(
    tx: &mut Tx,
    select: &'static str,
    order: &'static str,
    ids: &[Uuid],
) -> Result<Vec<AnyRow>, StoreError> {
    let mut all = Vec::new();
    for ids in ids.chunks(IDS_PER_STATEMENT) {
        // Made of constants and numbered placeholders alone.
        let statement = format!("{select} IN ({}) {order}", placeholders(ids.len()));
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
        for id in ids {
            query = query.bind(id.to_string());
        }
        all.extend(
            query.fetch_all(tx.on()).await.map_err(StoreError::unavailable("read several rows"))?,
        );
    }
    Ok(all)
}

/// The jobs with these ids.
pub(super) async fn jobs(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<Uuid, Job>, StoreError> {
    let mut jobs = HashMap::with_capacity(ids.len());
    for row in &many(tx, "SELECT * FROM jobs WHERE id", "", ids).await? {
        let job = job(row)?;
        jobs.insert(job.id, job);
    }
    Ok(jobs)
}

fn resource(row: &AnyRow) -> Result<Resource, StoreError> {
    Ok(Resource {
        id: row.uuid("id")?,
        job_id: row.uuid("job_id")?,
        transition: row.word("transition", Transition::parse)?,
        kind: row.text("kind")?,
        name: row.text("name")?,
        hide: row.flag("hide")?,
        icon: row.text("icon")?,
        metadata: row.json("metadata")?,
        created_at: row.time("created_at")?,
    })
}

async fn with_resources(tx: &mut Tx, builds: Vec<Build>) -> Result<Vec<BuildDetails>, StoreError> {
    let ids: Vec<Uuid> = builds.iter().map(|build| build.id).collect();
    let job_ids: Vec<Uuid> = builds.iter().map(|build| build.job_id).collect();

    let agents = many(
        tx,
        "SELECT * FROM agents WHERE deleted = 0 AND build_id",
        "ORDER BY position, created_at, id",
        &ids,
    )
    .await?
    .iter()
    .map(agent)
    .collect::<Result<Vec<_>, _>>()?;
    let mut agents_of: HashMap<Uuid, Vec<AgentDetails>> = HashMap::new();
    for details in with_parts(tx, agents).await? {
        agents_of.entry(details.agent.resource_id).or_default().push(details);
    }

    let mut resources_of: HashMap<Uuid, Vec<ResourceDetails>> = HashMap::new();
    for row in
        &many(tx, "SELECT * FROM resources WHERE job_id", "ORDER BY position, id", &job_ids).await?
    {
        let resource = resource(row)?;
        resources_of.entry(resource.job_id).or_default().push(ResourceDetails {
            agents: agents_of.remove(&resource.id).unwrap_or_default(),
            resource,
        });
    }

    let mut names = HashMap::new();
    for row in &many(
        tx,
        "SELECT b.id AS id, v.name AS version_name, u.username AS initiator_name
         FROM builds b
         JOIN template_versions v ON v.id = b.template_version_id
         JOIN users u ON u.id = b.initiator_id
         WHERE b.id",
        "",
        &ids,
    )
    .await?
    {
        names.insert(row.uuid("id")?, (row.text("version_name")?, row.text("initiator_name")?));
    }
    let mut jobs = jobs(tx, &job_ids).await?;

    builds
        .into_iter()
        .map(|build| {
            let job = jobs.remove(&build.job_id).ok_or(StoreError::NotFound("provisioner job"))?;
            let (template_version_name, initiator_name) =
                names.remove(&build.id).unwrap_or_default();
            Ok(BuildDetails {
                resources: resources_of.remove(&build.job_id).unwrap_or_default(),
                job,
                template_version_name,
                initiator_name,
                build,
            })
        })
        .collect()
}

async fn with_parts(tx: &mut Tx, agents: Vec<Agent>) -> Result<Vec<AgentDetails>, StoreError> {
    let ids: Vec<Uuid> = agents.iter().map(|agent| agent.id).collect();
    let mut scripts = parts(
        tx,
        "SELECT * FROM agent_scripts WHERE agent_id",
        "ORDER BY position, id",
        &ids,
        script,
    )
    .await?;
    let mut timings =
        parts(tx, "SELECT * FROM script_timings WHERE agent_id", "ORDER BY id", &ids, timing)
            .await?;
    let mut log_sources = parts(
        tx,
        "SELECT * FROM log_sources WHERE agent_id",
        "ORDER BY created_at, id",
        &ids,
        log_source,
    )
    .await?;
    let mut apps =
        parts(tx, "SELECT * FROM apps WHERE agent_id", "ORDER BY position, id", &ids, app).await?;
    Ok(agents
        .into_iter()
        .map(|agent| AgentDetails {
            scripts: scripts.remove(&agent.id).unwrap_or_default(),
            timings: timings.remove(&agent.id).unwrap_or_default(),
            log_sources: log_sources.remove(&agent.id).unwrap_or_default(),
            apps: apps.remove(&agent.id).unwrap_or_default(),
            agent,
        })
        .collect())
}

/// What belongs to each of these agents.
async fn parts<T>(
    tx: &mut Tx,
    select: &'static str,
    order: &'static str,
    agents: &[Uuid],
    read: fn(&AnyRow) -> Result<T, StoreError>,
) -> Result<HashMap<Uuid, Vec<T>>, StoreError> {
    let mut parts: HashMap<Uuid, Vec<T>> = HashMap::new();
    for row in &many(tx, select, order, agents).await? {
        parts.entry(row.uuid("agent_id")?).or_default().push(read(row)?);
    }
    Ok(parts)
}
