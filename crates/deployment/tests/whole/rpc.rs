//! The agents' side of the deployment, asked by a scripted agent.

use std::time::Duration;

use bytes::Bytes;
use coderctl_deployment::{
    config::AgentMode,
    faults::Fault,
    model::{Agent, AppHealth, EXTERNAL_LOG_SOURCE, Lifecycle, Transition},
    provisioner::create::Made,
    pubsub::{
        Event, Subscription,
        channels::{LogsAfter, WorkspaceEvent, WorkspaceEventKind, agent_logs, workspace_owner},
    },
    store::MAX_LOG_BYTES,
};
use coderctl_drpc::{
    Client, RpcError,
    proto::{
        agent::{self as proto, lifecycle::State},
        rpc::agent as rpc,
    },
};
use coderctl_transport::{Error, WebSocketOptions};
use http::{Method, Request, StatusCode};
use prost_types::{Duration as Span, Timestamp as Moment};
use uuid::Uuid;

use crate::world::{LIMIT, World, token, transport, until};

const TEMPLATE: &str = r#"
[[agents]]
name = "main"
directory = "project"
environment = { A = "b" }
motd = "motd.txt"
[[agents.scripts]]
name = "prepare"
run = "true"
blocks_login = true
timeout = "3s"
[[agents.metadata]]
key = "load"
run = "uptime"
interval = "10s"
timeout = "3s"
[[agents.apps]]
slug = "web"
url = "http://localhost:1"
healthcheck = { url = "http://localhost:1/health" }
[[agents.apps]]
slug = "top"
command = "top"
"#;

/// A world whose one workspace's agent the test is.
struct Scripted {
    world: World,
    made: Made,
    agent: Agent,
}

impl Scripted {
    async fn new() -> Self {
        Self::every(Duration::from_secs(15)).await
    }

    /// With this time between two looks at a session.
    async fn every(interval: Duration) -> Self {
        let world = World::with(|config| {
            config.agents = AgentMode::ByHand;
            config.agent_update_interval = interval;
        })
        .await;
        let template = world.template("scripted", TEMPLATE).await;
        let made = world.create("dev", &template).await;
        world.succeeded(made.job.id).await;
        let agent = world.agent(made.build.id, Lifecycle::Created).await;
        Self { world, made, agent }
    }

    async fn connect(&self, query: &str) -> Result<Client, Error> {
        let request =
            self.world.request(Method::GET, &path(query), &token(&self.agent), "").map(|_| ());
        let socket = transport().websocket(request, WebSocketOptions::default()).await?;
        Ok(Client::connect(socket.into_stream()))
    }

    /// Connects, and hears nothing of that afterwards.
    async fn connect_and_follow(&self) -> (Client, Subscription) {
        let channel = workspace_owner(self.world.user.id);
        let mut news = self.world.state().pubsub.subscribe(&channel).await.unwrap();
        let client = self.connect("?version=2.4").await.unwrap();
        assert_eq!(heard(&mut news).await.kind, WorkspaceEventKind::AgentConnectionUpdate);
        (client, news)
    }

    async fn row(&self) -> Agent {
        self.world.store().agent(self.agent.id).await.unwrap()
    }
}

fn path(query: &str) -> String {
    format!("/api/v2/workspaceagents/me/rpc{query}")
}

/// The next event of the workspaces of an owner.
async fn heard(news: &mut Subscription) -> WorkspaceEvent {
    let event = tokio::time::timeout(LIMIT, news.recv()).await.unwrap().unwrap();
    match event {
        Event::Message(payload) => WorkspaceEvent::parse(&payload).unwrap(),
        Event::Resync => panic!("a resync"),
    }
}

fn at(seconds: i64) -> Option<Moment> {
    Some(Moment { seconds, nanos: 0 })
}

fn lifecycle(state: State, changed_at: Option<Moment>) -> proto::UpdateLifecycleRequest {
    proto::UpdateLifecycleRequest {
        lifecycle: Some(proto::Lifecycle { state: state.into(), changed_at }),
    }
}

fn remote(error: RpcError) -> String {
    let RpcError::Remote { message, .. } = error else { panic!("not the server's error: {error}") };
    message
}

/// Calls, and expects the server to refuse.
async fn refused<Req: prost::Message, Resp: prost::Message + Default>(
    client: &Client,
    name: &str,
    request: &Req,
) -> String {
    let answer: Result<Resp, RpcError> = client.unary(name, request).await;
    remote(answer.err().unwrap_or_else(|| panic!("{name} is not refused")))
}

#[tokio::test]
async fn a_session_needs_a_good_token_a_version_and_an_upgrade() {
    let scripted = Scripted::new().await;
    for query in ["", "?version=2.0", "?version=2.11", "?version=2.99&role=agent"] {
        let client = scripted.connect(query).await.unwrap();
        let manifest: proto::Manifest =
            client.unary(rpc::GET_MANIFEST, &proto::GetManifestRequest {}).await.unwrap();
        assert_eq!(manifest.agent_id, scripted.agent.id.as_bytes(), "{query}");
    }
    for query in ["?version=1.0", "?version=3.0", "?version=x"] {
        let Err(Error::Status { parts, body, .. }) = scripted.connect(query).await else {
            panic!("{query} is accepted")
        };
        assert_eq!(parts.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(String::from_utf8_lossy(&body).contains("\"field\":\"version\""), "{query}");
    }
    let world = &scripted.world;
    let answer = world.ask(Method::GET, &path("?version=2.0"), &token(&scripted.agent), "").await;
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    for bad in ["", "x", "00000000-0000-0000-0000-000000000007"] {
        let answer = world.ask(Method::GET, &path("?version=2.0"), bad, "").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{bad:?}");
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert!(body["message"].is_string() && body["detail"].is_string(), "{body}");
    }
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_manifest_says_what_the_state_says_now() {
    let scripted = Scripted::new().await;
    let client = scripted.connect("?version=2.4").await.unwrap();
    let ask = proto::GetManifestRequest {};
    let manifest: proto::Manifest = client.unary(rpc::GET_MANIFEST, &ask).await.unwrap();
    assert_eq!(manifest.workspace_id, scripted.made.workspace.id.as_bytes());
    assert_eq!(
        (manifest.owner_username.as_str(), manifest.workspace_name.as_str()),
        ("alice", "dev")
    );
    assert_eq!((manifest.agent_name.as_str(), manifest.directory.as_str()), ("main", "project"));
    assert_eq!(manifest.motd_path, "motd.txt");
    assert_eq!(manifest.environment_variables["A"], "b");
    let script = &manifest.scripts[0];
    assert!(script.run_on_start && script.start_blocks_login && !script.run_on_stop);
    assert_eq!(script.timeout, Some(Span { seconds: 3, nanos: 0 }));
    assert_eq!(manifest.metadata[0].interval, Some(Span { seconds: 0, nanos: 10 }));
    assert_eq!(manifest.metadata[0].timeout, Some(Span { seconds: 0, nanos: 3 }));
    let slugs: Vec<_> = manifest.apps.iter().map(|app| app.slug.as_str()).collect();
    assert_eq!(slugs, ["web", "top"]);
    assert!(manifest.derp_map.unwrap().regions.contains_key(&999));

    let now = coderctl_deployment::model::Timestamp::now();
    scripted
        .world
        .store()
        .rename_workspace(scripted.made.workspace.id, "other", now)
        .await
        .unwrap();
    let manifest: proto::Manifest = client.unary(rpc::GET_MANIFEST, &ask).await.unwrap();
    assert_eq!(manifest.workspace_name, "other");
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_lifecycle_is_stored_and_told() {
    let scripted = Scripted::new().await;
    let (client, mut news) = scripted.connect_and_follow().await;
    let report = async |state, moment| {
        let request = lifecycle(state, moment);
        let echo: proto::Lifecycle = client.unary(rpc::UPDATE_LIFECYCLE, &request).await.unwrap();
        assert_eq!(Some(echo), request.lifecycle, "it is echoed");
        let row = scripted.row().await;
        let seconds = |at: Option<coderctl_deployment::model::Timestamp>| at.map(|at| at.unix().0);
        (row.lifecycle, seconds(row.started_at), seconds(row.ready_at))
    };
    assert_eq!(report(State::Starting, at(5)).await, (Lifecycle::Starting, Some(5), None));
    let event = heard(&mut news).await;
    assert_eq!(
        (event.kind, event.workspace_id, event.agent_id),
        (
            WorkspaceEventKind::AgentLifecycleUpdate,
            scripted.made.workspace.id,
            Some(scripted.agent.id)
        )
    );
    assert_eq!(report(State::Ready, at(7)).await, (Lifecycle::Ready, Some(5), Some(7)));
    assert_eq!(
        report(State::Starting, at(9)).await,
        (Lifecycle::Starting, Some(9), None),
        "starting after ready begins anew"
    );
    let (_, started, ready) = report(State::StartError, None).await;
    assert_eq!(started, Some(9));
    assert!(ready.unwrap() > 1_700_000_000, "no time means now");

    for request in [
        lifecycle(State::Unspecified, at(9)),
        proto::UpdateLifecycleRequest {
            lifecycle: Some(proto::Lifecycle { state: 77, changed_at: at(9) }),
        },
        proto::UpdateLifecycleRequest::default(),
    ] {
        let why = refused::<_, proto::Lifecycle>(&client, rpc::UPDATE_LIFECYCLE, &request).await;
        assert!(why.contains("lifecycle"), "{why}");
    }
    assert_eq!(scripted.row().await.lifecycle, Lifecycle::StartError, "nothing was stored");
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn what_an_agent_is_is_stored() {
    let scripted = Scripted::new().await;
    let client = scripted.connect("?version=2.7").await.unwrap();
    let startup = |version: &str| proto::UpdateStartupRequest {
        startup: Some(proto::Startup {
            version: version.to_owned(),
            expanded_directory: "/home/me/project".to_owned(),
            subsystems: vec![2, 1, 2],
        }),
    };
    let _: proto::Startup = client.unary(rpc::UPDATE_STARTUP, &startup("v2.33.0")).await.unwrap();
    let row = scripted.row().await;
    assert_eq!((row.version.as_str(), row.api_version.as_str()), ("v2.33.0", "2.7"));
    assert_eq!((row.expanded_directory.as_str(), row.subsystems.len()), ("/home/me/project", 2));
    let why = refused::<_, proto::Startup>(&client, rpc::UPDATE_STARTUP, &startup("2.33.0")).await;
    assert!(why.contains("leading \"v\""), "{why}");
    assert_eq!(scripted.row().await.version, "v2.33.0");
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn logs_are_kept_told_and_limited() {
    let scripted = Scripted::new().await;
    let (client, mut news) = scripted.connect_and_follow().await;
    let pubsub = &scripted.world.state().pubsub;
    let mut lines = pubsub.subscribe(&agent_logs(scripted.agent.id)).await.unwrap();
    let batch = |text: String, level| proto::BatchCreateLogsRequest {
        log_source_id: Uuid::nil().as_bytes().to_vec(),
        logs: vec![proto::Log { created_at: at(5), output: text, level }],
    };
    let send = async |request| -> bool {
        let answer: proto::BatchCreateLogsResponse =
            client.unary(rpc::BATCH_CREATE_LOGS, &request).await.unwrap();
        answer.log_limit_exceeded
    };
    assert!(!send(batch("one".to_owned(), 4)).await);
    let Some(Event::Message(payload)) = lines.recv().await else { panic!("no news of lines") };
    let after: LogsAfter = serde_json::from_slice(&payload).unwrap();
    let store = scripted.world.store();
    let kept = store.agent_logs(scripted.agent.id, after.created_after, 10).await.unwrap();
    assert_eq!((kept.len(), kept[0].output.as_str()), (1, "one"));
    assert_eq!(kept[0].source_id, EXTERNAL_LOG_SOURCE);
    assert_eq!(heard(&mut news).await.kind, WorkspaceEventKind::AgentFirstLogs);

    let half = "x".repeat(usize::try_from(MAX_LOG_BYTES / 2).unwrap());
    assert!(!send(batch(half.clone(), 0)).await);
    assert!(send(batch(half, 0)).await, "more than the limit in all");
    assert_eq!(heard(&mut news).await.kind, WorkspaceEventKind::AgentLogsOverflow);
    assert!(send(batch("short".to_owned(), 0)).await, "and nothing is kept after that");
    assert!(scripted.row().await.logs_overflowed);
    assert_eq!(store.agent_logs(scripted.agent.id, 0, 10).await.unwrap().len(), 2);
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn reports_are_stored_or_refused_each_by_its_rule() {
    let scripted = Scripted::new().await;
    let (client, mut news) = scripted.connect_and_follow().await;
    let store = scripted.world.store();
    let id = scripted.agent.id;

    let answer: proto::UpdateStatsResponse =
        client.unary(rpc::UPDATE_STATS, &proto::UpdateStatsRequest::default()).await.unwrap();
    assert_eq!(answer.report_interval, Some(Span { seconds: 30, nanos: 0 }));

    let report = |value: &str| proto::BatchUpdateMetadataRequest {
        metadata: vec![proto::Metadata {
            key: "load".to_owned(),
            result: Some(proto::workspace_agent_metadata::Result {
                value: value.to_owned(),
                ..Default::default()
            }),
        }],
    };
    let _: proto::BatchUpdateMetadataResponse =
        client.unary(rpc::BATCH_UPDATE_METADATA, &report(" 0.5 ")).await.unwrap();
    let known = store.metadata(id).await.unwrap();
    assert_eq!((known[0].value.as_str(), known[0].error.as_str()), ("0.5", ""));
    let _: proto::BatchUpdateMetadataResponse =
        client.unary(rpc::BATCH_UPDATE_METADATA, &report(&"x".repeat(3000))).await.unwrap();
    let known = store.metadata(id).await.unwrap();
    assert_eq!(known[0].value.len(), 2048);
    assert!(known[0].error.contains("truncated"), "{}", known[0].error);

    let apps = store.apps(id).await.unwrap();
    let health = |app: &[u8], health: proto::AppHealth| proto::BatchUpdateAppHealthRequest {
        updates: vec![proto::batch_update_app_health_request::HealthUpdate {
            id: app.to_vec(),
            health: health.into(),
        }],
    };
    let healthy = health(apps[0].id.as_bytes(), proto::AppHealth::Healthy);
    for _ in 0..2 {
        let _: proto::BatchUpdateAppHealthResponse =
            client.unary(rpc::BATCH_UPDATE_APP_HEALTHS, &healthy).await.unwrap();
    }
    assert_eq!(heard(&mut news).await.kind, WorkspaceEventKind::AppHealthUpdate);
    assert_eq!(store.apps(id).await.unwrap()[0].health, AppHealth::Healthy);
    for app in [apps[1].id, Uuid::new_v4(), Uuid::nil()] {
        let request = health(app.as_bytes(), proto::AppHealth::Healthy);
        let name = rpc::BATCH_UPDATE_APP_HEALTHS;
        refused::<_, proto::BatchUpdateAppHealthResponse>(&client, name, &request).await;
    }

    let script = store.scripts(id).await.unwrap()[0].id;
    let timing = |id: Uuid, start, end| proto::WorkspaceAgentScriptCompletedRequest {
        timing: Some(proto::Timing {
            script_id: id.as_bytes().to_vec(),
            start,
            end,
            exit_code: 3,
            stage: 0,
            status: 1,
        }),
    };
    let _: proto::WorkspaceAgentScriptCompletedResponse =
        client.unary(rpc::SCRIPT_COMPLETED, &timing(script, at(5), at(6))).await.unwrap();
    assert_eq!(store.script_timings(id).await.unwrap()[0].exit_code, 3);
    for request in [
        timing(script, None, at(6)),
        timing(script, at(7), at(6)),
        timing(Uuid::new_v4(), at(5), at(6)),
    ] {
        let name = rpc::SCRIPT_COMPLETED;
        refused::<_, proto::WorkspaceAgentScriptCompletedResponse>(&client, name, &request).await;
    }

    let connection = |id: Uuid, action| proto::ReportConnectionRequest {
        connection: Some(proto::Connection {
            id: id.as_bytes().to_vec(),
            action,
            r#type: 1,
            timestamp: at(5),
            ip: "localhost".to_owned(),
            status_code: 7,
            ..Default::default()
        }),
    };
    let one = Uuid::new_v4();
    for action in [1, 2] {
        let () = client.unary(rpc::REPORT_CONNECTION, &connection(one, action)).await.unwrap();
    }
    let known = store.connections(id).await.unwrap();
    assert_eq!((known.len(), known[0].ip.as_str(), known[0].exit_code), (1, "127.0.0.1", Some(7)));
    refused::<_, ()>(&client, rpc::REPORT_CONNECTION, &connection(Uuid::nil(), 1)).await;
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn what_is_not_there_is_empty_or_unimplemented() {
    let scripted = Scripted::new().await;
    let client = scripted.connect("?version=2.10").await.unwrap();
    let banner: proto::ServiceBanner =
        client.unary(rpc::GET_SERVICE_BANNER, &proto::GetServiceBannerRequest {}).await.unwrap();
    assert!(!banner.enabled);
    let banners: proto::GetAnnouncementBannersResponse = client
        .unary(rpc::GET_ANNOUNCEMENT_BANNERS, &proto::GetAnnouncementBannersRequest {})
        .await
        .unwrap();
    assert!(banners.announcement_banners.is_empty());
    let monitoring: proto::GetResourcesMonitoringConfigurationResponse = client
        .unary(
            rpc::GET_RESOURCES_MONITORING_CONFIGURATION,
            &proto::GetResourcesMonitoringConfigurationRequest {},
        )
        .await
        .unwrap();
    assert!(monitoring.memory.is_none() && monitoring.volumes.is_empty());
    assert_eq!(monitoring.config.unwrap().num_datapoints, 20);
    for name in [
        rpc::PUSH_CONTEXT_STATE,
        rpc::REPORT_BOUNDARY_LOGS,
        rpc::UPDATE_APP_STATUS,
        "/coder.agent.v2.Agent/OfTheFuture",
        "/nonsense",
    ] {
        let answer: Result<(), _> = client.unary(name, &()).await;
        assert!(answer.unwrap_err().is_unimplemented(), "{name}");
    }
    // The session lives all the same.
    let _: proto::Manifest =
        client.unary(rpc::GET_MANIFEST, &proto::GetManifestRequest {}).await.unwrap();
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn an_agent_makes_agents_of_its_own() {
    let scripted = Scripted::new().await;
    let client = scripted.connect("?version=2.8").await.unwrap();
    let ask = |name: &str| proto::CreateSubAgentRequest {
        name: name.to_owned(),
        directory: "/work".to_owned(),
        architecture: "amd64".to_owned(),
        operating_system: "linux".to_owned(),
        apps: ["web", "web", "Not A Slug"]
            .map(|slug| proto::create_sub_agent_request::App {
                slug: slug.to_owned(),
                ..Default::default()
            })
            .to_vec(),
        ..Default::default()
    };
    let made: proto::CreateSubAgentResponse =
        client.unary(rpc::CREATE_SUB_AGENT, &ask("inner")).await.unwrap();
    let sub = made.agent.unwrap();
    let id = Uuid::from_slice(&sub.id).unwrap();
    let wrong: Vec<_> = made.app_creation_errors.iter().map(|error| error.index).collect();
    assert_eq!(wrong, [1, 2]);
    let row = scripted.world.store().agent(id).await.unwrap();
    assert_eq!(row.parent_id, Some(scripted.agent.id));
    // It has a session of its own, with a token of its own.
    let inner = Scripted { agent: row, ..scripted };
    let session = inner.connect("?version=2.5").await.unwrap();
    let manifest: proto::Manifest =
        session.unary(rpc::GET_MANIFEST, &proto::GetManifestRequest {}).await.unwrap();
    assert_eq!(
        manifest.parent_id.as_deref(),
        inner.agent.parent_id.as_ref().map(|id| &id.as_bytes()[..])
    );
    // And only its own parent deletes it.
    let delete = proto::DeleteSubAgentRequest { id: sub.id.clone() };
    refused::<_, proto::DeleteSubAgentResponse>(&session, rpc::DELETE_SUB_AGENT, &delete).await;

    let name = rpc::CREATE_SUB_AGENT;
    for wrong in ["inner", "Not A Name", ""] {
        refused::<_, proto::CreateSubAgentResponse>(&client, name, &ask(wrong)).await;
    }
    let list = proto::ListSubAgentsRequest {};
    let all: proto::ListSubAgentsResponse =
        client.unary(rpc::LIST_SUB_AGENTS, &list).await.unwrap();
    assert_eq!(all.agents.len(), 1);
    let _: proto::DeleteSubAgentResponse =
        client.unary(rpc::DELETE_SUB_AGENT, &delete).await.unwrap();
    let all: proto::ListSubAgentsResponse =
        client.unary(rpc::LIST_SUB_AGENTS, &list).await.unwrap();
    assert!(all.agents.is_empty());
    inner.world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_session_makes_an_agent_connected_and_its_end_disconnected() {
    let scripted = Scripted::new().await;
    let channel = workspace_owner(scripted.world.user.id);
    let mut news = scripted.world.state().pubsub.subscribe(&channel).await.unwrap();
    let client = scripted.connect("?version=2.4").await.unwrap();
    let event = heard(&mut news).await;
    assert_eq!(
        (event.kind, event.agent_id),
        (WorkspaceEventKind::AgentConnectionUpdate, Some(scripted.agent.id))
    );
    let row = scripted.row().await;
    assert!(row.first_connected_at.is_some() && row.disconnected_at.is_none());
    assert_eq!(row.replica_id, Some(scripted.world.state().replica_id));

    // The next session begins before the first ends: the agent is never disconnected.
    let next = scripted.connect("?version=2.4").await.unwrap();
    assert_eq!(heard(&mut news).await.kind, WorkspaceEventKind::AgentConnectionUpdate);
    client.close().await;
    let _: proto::Manifest =
        next.unary(rpc::GET_MANIFEST, &proto::GetManifestRequest {}).await.unwrap();
    assert_eq!(scripted.row().await.disconnected_at, None);

    next.close().await;
    assert_eq!(heard(&mut news).await.kind, WorkspaceEventKind::AgentConnectionUpdate);
    let after = scripted.row().await;
    assert!(after.disconnected_at >= after.last_connected_at);
    assert_eq!(after.first_connected_at, row.first_connected_at, "once for a row");
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn others_that_speak_for_an_agent_do_not_make_it_connected() {
    let scripted = Scripted::new().await;
    let client = scripted.connect("?version=2.4&role=logstream-kube").await.unwrap();
    let _: proto::Manifest =
        client.unary(rpc::GET_MANIFEST, &proto::GetManifestRequest {}).await.unwrap();
    assert_eq!(scripted.row().await.first_connected_at, None);
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_session_ends_when_its_build_is_outdated() {
    let scripted = Scripted::every(Duration::from_millis(20)).await;
    let client = scripted.connect("?version=2.4").await.unwrap();
    let seen = scripted.row().await.last_connected_at;
    until("it is seen again", async || {
        (scripted.row().await.last_connected_at > seen).then_some(())
    })
    .await;
    let hold = Fault::HoldJob { workspace: None, transition: None };
    scripted.world.faults().arm(hold).unwrap();
    let (_, job) = scripted.world.build(scripted.made.workspace.id, Transition::Stop).await;
    scripted.world.running(job.id).await;
    // A stop that runs is to hear its scripts' last words.
    let request = lifecycle(State::ShuttingDown, None);
    let _: proto::Lifecycle = client.unary(rpc::UPDATE_LIFECYCLE, &request).await.unwrap();
    scripted.world.faults().disarm(None);
    scripted.world.succeeded(job.id).await;
    tokio::time::timeout(LIMIT, client.closed()).await.unwrap();
    until("it is noted", async || scripted.row().await.disconnected_at).await;
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn a_session_ends_when_the_agent_does_not_answer() {
    let scripted = Scripted::every(Duration::from_millis(20)).await;
    let request = scripted
        .world
        .request(Method::GET, &path("?version=2.4"), &token(&scripted.agent), "")
        .map(|_: Bytes| ());
    let request: Request<()> = request;
    // A socket that nobody reads.
    let silent = transport().websocket(request, WebSocketOptions::default()).await.unwrap();
    until("it is connected", async || scripted.row().await.first_connected_at).await;
    until("it is disconnected", async || scripted.row().await.disconnected_at).await;
    drop(silent);
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn calls_fail_and_sessions_end_as_asked_for() {
    let scripted = Scripted::new().await;
    let faults = scripted.world.faults();
    let fault = |json: &str| serde_json::from_str::<Fault>(json).unwrap();
    faults
        .arm(fault(
            r#"{"fail_call": {"method": "UpdateLifecycle", "nth": 2, "code": 7, "message": "no"}}"#,
        ))
        .unwrap();
    let client = scripted.connect("?version=2.4").await.unwrap();
    let request = lifecycle(State::Starting, None);
    let call = || client.unary::<_, proto::Lifecycle>(rpc::UPDATE_LIFECYCLE, &request);
    call().await.unwrap();
    assert!(matches!(call().await, Err(RpcError::Remote { code: 7, message }) if message == "no"));
    call().await.unwrap();

    faults.arm(fault(r#"{"fail_call": {"method": "GetManifest", "drop_session": true}}"#)).unwrap();
    let ask = proto::GetManifestRequest {};
    let answer: Result<proto::Manifest, _> = client.unary(rpc::GET_MANIFEST, &ask).await;
    assert!(answer.is_err());
    tokio::time::timeout(LIMIT, client.closed()).await.unwrap();

    let other = Uuid::from_u128(7);
    faults.arm(Fault::AgentId { agent: scripted.agent.id, becomes: other }).unwrap();
    let client = scripted.connect("?version=2.4").await.unwrap();
    let manifest: proto::Manifest = client.unary(rpc::GET_MANIFEST, &ask).await.unwrap();
    assert_eq!(manifest.agent_id, other.as_bytes());
    assert_eq!(faults.drop_sessions(Some(scripted.agent.id)), 1);
    tokio::time::timeout(LIMIT, client.closed()).await.unwrap();
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn requests_are_answered_and_streams_cut_as_asked_for() {
    let scripted = Scripted::new().await;
    let world = &scripted.world;
    let reinit = "/api/v2/workspaceagents/me/reinit";
    let fault = |status| Fault::Answer {
        path: reinit.to_owned(),
        method: None,
        status,
        retry_after: Some(1),
        nth: 1,
        times: 1,
    };
    for status in [401, 409, 429, 500] {
        world.faults().arm(fault(status)).unwrap();
        let answer = world.ask(Method::GET, reinit, &token(&scripted.agent), "").await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (status, &"1".parse().unwrap())
        );
    }
    let mut stream = world.follow(reinit, &token(&scripted.agent)).await.into_body();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "event: ping\n\n");
    assert!(world.faults().cut_streams("/api/v2/workspaceagents/me/re") > 0);
    assert!(stream.chunk().await.is_err(), "it breaks off");

    let client = scripted.connect("?version=2.4").await.unwrap();
    until("the socket is cut", async || (world.faults().cut_streams(&path("")) > 0).then_some(()))
        .await;
    tokio::time::timeout(LIMIT, client.closed()).await.unwrap();
    scripted.world.deployment.shutdown().await;
}

#[tokio::test]
async fn plain_requests_of_an_agent_are_answered() {
    let scripted = Scripted::new().await;
    let world = &scripted.world;
    let me = "/api/v2/workspaceagents/me";
    let token = token(&scripted.agent);
    let source = Uuid::new_v4();
    let body = format!(r#"{{"id": "{source}", "display_name": "Mine", "icon": "/i.svg"}}"#);
    for _ in 0..2 {
        let answer = world.ask(Method::POST, &format!("{me}/log-source"), &token, &body).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
    }
    let sources = world.store().log_sources(scripted.agent.id).await.unwrap();
    assert!(sources.iter().any(|known| known.id == source && known.display_name == "Mine"));
    let body = format!(
        r#"{{"log_source_id": "{source}",
            "logs": [{{"created_at": "2026-01-01T00:00:00Z", "output": "hi", "level": "warn"}}]}}"#
    );
    let answer = world.ask(Method::PATCH, &format!("{me}/logs"), &token, &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let lines = world.store().agent_logs(scripted.agent.id, 0, 10).await.unwrap();
    assert_eq!((lines[0].output.as_str(), lines[0].source_id), ("hi", source));
    for (method, path, body, status) in [
        (Method::PATCH, "logs", r#"{"logs": []}"#, 400),
        (Method::PATCH, "logs", "{", 400),
        (Method::POST, "log-source", r#"{"id": "x"}"#, 400),
        (Method::GET, "gitsshkey", "", 404),
        (Method::GET, "external-auth?id=github", "", 404),
    ] {
        let answer = world.ask(method, &format!("{me}/{path}"), &token, body).await;
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert!(body["message"].is_string(), "{path}: {body}");
    }
    scripted.world.deployment.shutdown().await;
}
