//! Users, a template, workspaces and builds to test with.

use std::{collections::BTreeMap, time::Duration};

use coderctl_deployment::{
    model::{
        Agent, AgentScript, AgentSpec, AgentToken, App, AppHealth, AutomaticUpdates, Build,
        BuildReason, Job, JobInput, Lifecycle, MetadataDescription, NewAgent, NewBuild,
        NewResource, NewUser, NewWorkspace, PREBUILDS_USER, PrebuildStage, Preset, Role,
        SharingLevel, Template, TemplateVersion, Timestamp, Transition, Workspace,
    },
    store::{CompletedJob, Store},
};
use uuid::Uuid;

/// A lease that no test outlives.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// Seconds after the beginning of a test's time.
pub(crate) fn at(second: u64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs(1_800_000_000 + second))
}

/// What most tests begin with.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) alice: Uuid,
    pub(crate) bob: Uuid,
    pub(crate) template: Template,
    pub(crate) version: TemplateVersion,
    pub(crate) preset: Preset,
}

impl World {
    pub(crate) async fn new(store: &Store) -> Self {
        let alice = user(store, "alice").await;
        let bob = user(store, "bob").await;
        let template_id = Uuid::new_v4();
        let version = TemplateVersion {
            id: Uuid::new_v4(),
            template_id,
            name: "first".to_owned(),
            source: "[[agent]]\nname = \"main\"\n".to_owned(),
            created_by: alice,
            created_at: at(0),
        };
        let template = Template {
            id: template_id,
            name: "dev".to_owned(),
            display_name: "Development".to_owned(),
            active_version_id: version.id,
            allow_user_cancel_workspace_jobs: true,
            require_active_version: false,
            default_ttl: Some(Duration::from_secs(3_600)),
            deleted: false,
            created_at: at(0),
            updated_at: at(0),
        };
        let preset = Preset {
            id: Uuid::new_v4(),
            template_version_id: version.id,
            name: "large".to_owned(),
            is_default: true,
            parameters: BTreeMap::from([("cpu".to_owned(), "8".to_owned())]),
            desired_prebuilds: 3,
            created_at: at(0),
        };
        store.create_template(&template, &version, std::slice::from_ref(&preset)).await.unwrap();
        Self { store: store.clone(), alice, bob, template, version, preset }
    }

    pub(crate) fn workspace(&self, owner_id: Uuid, name: &str) -> NewWorkspace {
        NewWorkspace {
            id: Uuid::new_v4(),
            owner_id,
            template_id: self.template.id,
            name: name.to_owned(),
            ttl: Some(Duration::from_secs(600)),
            autostart_schedule: None,
            automatic_updates: AutomaticUpdates::Never,
        }
    }

    pub(crate) fn build(&self, transition: Transition) -> NewBuild {
        self.build_by(self.alice, transition, PrebuildStage::None)
    }

    pub(crate) fn build_by(
        &self,
        initiator_id: Uuid,
        transition: Transition,
        stage: PrebuildStage,
    ) -> NewBuild {
        let id = Uuid::new_v4();
        NewBuild {
            id,
            template_version_id: self.version.id,
            transition,
            reason: BuildReason::Initiator,
            initiator_id,
            preset_id: (stage != PrebuildStage::None).then_some(self.preset.id),
            parameters: self.preset.parameters.clone(),
            job_id: Uuid::new_v4(),
            input: JobInput {
                workspace_build_id: Some(id),
                prebuilt_workspace_stage: stage,
                ..JobInput::default()
            },
        }
    }

    /// A workspace of Alice whose first build waits.
    pub(crate) async fn created(&self, name: &str) -> (Workspace, Build, Job) {
        self.store
            .create_workspace(
                &self.workspace(self.alice, name),
                &self.build(Transition::Start),
                at(1),
            )
            .await
            .unwrap()
    }

    /// A workspace of Alice that runs, with one agent `main`.
    pub(crate) async fn running(&self, name: &str) -> (Workspace, Build, Agent) {
        let (workspace, build, _) = self.created(name).await;
        let done = self.succeed(vec![resource(vec![agent("main")])]).await;
        assert_eq!(done.build.id, build.id, "another job waited");
        let agents = self.store.agents_of_build(build.id).await.unwrap();
        (workspace, done.build, agents[0].clone())
    }

    /// Makes the next build of a workspace.
    pub(crate) async fn next(&self, workspace: Uuid, transition: Transition) -> (Build, Job) {
        self.store.insert_build(workspace, &self.build(transition), at(2)).await.unwrap()
    }

    /// Takes the job that waits, and completes it.
    pub(crate) async fn succeed(&self, resources: Vec<NewResource>) -> CompletedJob {
        let worker = Uuid::new_v4();
        let taken =
            self.store.acquire_job(worker, LEASE, at(3)).await.unwrap().expect("a job that waits");
        self.store.complete_job(taken.lease, &resources, at(4)).await.unwrap()
    }

    /// Takes the job that waits, and fails it.
    pub(crate) async fn fail(&self, error: &str) -> Job {
        let worker = Uuid::new_v4();
        let taken =
            self.store.acquire_job(worker, LEASE, at(3)).await.unwrap().expect("a job that waits");
        self.store.fail_job(taken.lease, error, None, at(4)).await.unwrap()
    }

    /// A prebuilt workspace that runs and whose agent is ready.
    pub(crate) async fn prebuilt(&self, name: &str) -> (Workspace, Agent) {
        let (workspace, build, _) = self
            .store
            .create_workspace(
                &self.workspace(PREBUILDS_USER, name),
                &self.build_by(PREBUILDS_USER, Transition::Start, PrebuildStage::Create),
                at(1),
            )
            .await
            .unwrap();
        self.succeed(vec![resource(vec![agent("main")])]).await;
        let agents = self.store.agents_of_build(build.id).await.unwrap();
        let agent = self
            .store
            .update_lifecycle(agents[0].id, Lifecycle::Ready, Some(at(5)), at(5))
            .await
            .unwrap()
            .agent;
        (workspace, agent)
    }
}

pub(crate) async fn user(store: &Store, name: &str) -> Uuid {
    let new = NewUser {
        id: Uuid::new_v4(),
        username: name.to_owned(),
        email: format!("{name}@example.com"),
        name: String::new(),
        role: Role::Member,
    };
    store.create_user(&new, at(0)).await.unwrap().id
}

pub(crate) fn resource(agents: Vec<NewAgent>) -> NewResource {
    NewResource {
        id: Uuid::new_v4(),
        kind: "directory".to_owned(),
        name: "home".to_owned(),
        hide: false,
        icon: String::new(),
        metadata: vec![],
        agents,
    }
}

pub(crate) fn agent(name: &str) -> NewAgent {
    NewAgent {
        id: Uuid::new_v4(),
        auth_token: AgentToken::generate(),
        spec: AgentSpec {
            name: name.to_owned(),
            operating_system: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            directory: "~/project".to_owned(),
            environment: BTreeMap::from([(
                "GREETING".to_owned(),
                "it's \"ö\" \\ $HOME".to_owned(),
            )]),
            motd_file: "/etc/motd".to_owned(),
            connection_timeout: Some(Duration::from_secs(120)),
            troubleshooting_url: "https://example.com/help".to_owned(),
            display_apps: vec![],
        },
        scripts: vec![AgentScript {
            id: Uuid::new_v4(),
            log_source_id: Uuid::new_v4(),
            display_name: "Startup".to_owned(),
            icon: String::new(),
            log_path: String::new(),
            script: "echo hello".to_owned(),
            cron: String::new(),
            run_on_start: true,
            run_on_stop: false,
            start_blocks_login: true,
            timeout: Duration::from_millis(1_500),
        }],
        apps: vec![App {
            id: Uuid::new_v4(),
            slug: "web".to_owned(),
            display_name: "Web".to_owned(),
            icon: String::new(),
            command: String::new(),
            url: "http://localhost:8080".to_owned(),
            external: false,
            subdomain: true,
            sharing_level: SharingLevel::Owner,
            healthcheck_url: "http://localhost:8080/healthz".to_owned(),
            healthcheck_interval: Duration::from_secs(5),
            healthcheck_threshold: 3,
            health: AppHealth::Initializing,
            hidden: false,
        }],
        metadata: vec![MetadataDescription {
            key: "load".to_owned(),
            display_name: "Load".to_owned(),
            script: "uptime".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
        }],
    }
}
