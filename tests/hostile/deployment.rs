//! A deployment with one workspace, `dev`, and what a test scripts of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use coderctl_drpc::proto::tailnet::CoordinateResponse;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::{JoinHandle, JoinSet},
};
use uuid::{Uuid, uuid};

use crate::{
    agent::{Agent, AgentKind},
    coordinator::{self, Coordinator},
    http::{self, Reply, Request, Say},
    program::LONGEST,
    relay::{Relay, RelayKind},
};

pub(crate) const WORKSPACE: Uuid = uuid!("99020e73-89e4-4b47-92b4-cfa51f29fd20");
pub(crate) const AGENT: Uuid = uuid!("ab8545d3-479d-4c05-ba6d-5000150329dd");
pub(crate) const BUILD: Uuid = uuid!("d1d047ca-9c58-4093-9964-900d931d963b");

/// News that cut the watches off.
pub(crate) const CUT: &str = "cut";

/// What a test answers itself: to `METHOD /path`, asked for the so-many-th time (from 0). `None`
/// is the answer that a deployment gives.
type Script = Box<dyn Fn(&str, usize, &State) -> Option<Reply> + Send + Sync>;

/// What is different from a deployment where all is well.
pub(crate) struct Plan {
    pub(crate) workspace: Value,
    pub(crate) script: Script,
    pub(crate) coordinator: Coordinator,
    pub(crate) relay: RelayKind,
    pub(crate) agent: AgentKind,
    /// Messages of a build's log, and how the build ends (status, error); `None`: never.
    pub(crate) build: (Vec<Value>, Option<(&'static str, &'static str)>),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            workspace: workspace("start", "succeeded", &[agent("main", "ready")]),
            script: Box::new(|_, _, _| None),
            coordinator: Coordinator::Well,
            relay: RelayKind::Well,
            agent: AgentKind::Well,
            build: (Vec::new(), Some(("succeeded", ""))),
        }
    }
}

/// A plan with this script.
pub(crate) fn scripted(
    script: impl Fn(&str, usize, &State) -> Option<Reply> + Send + Sync + 'static,
) -> Plan {
    Plan { script: Box::new(script), ..Plan::default() }
}

/// A workspace's JSON.
pub(crate) fn workspace(transition: &str, job: &str, agents: &[Value]) -> Value {
    json!({
        "id": WORKSPACE, "name": "dev", "owner_name": "me",
        "latest_build": {
            "id": BUILD, "build_number": 7, "transition": transition, "job": {"status": job},
            "resources": [{"agents": agents}],
        },
    })
}

/// An agent's JSON.
pub(crate) fn agent(name: &str, lifecycle: &str) -> Value {
    json!({
        "id": AGENT, "name": name, "status": "connected", "lifecycle_state": lifecycle,
        "scripts": [], "log_sources": [],
    })
}

/// A deployment that ends with the test.
pub(crate) struct Deployment {
    address: SocketAddr,
    pub(crate) state: Arc<State>,
    server: JoinHandle<()>,
}

/// What its connections share.
pub(crate) struct State {
    plan: Plan,
    pub(crate) workspace: Mutex<Value>,
    news: broadcast::Sender<String>,
    counts: Mutex<BTreeMap<String, usize>>,
    journal: watch::Sender<Vec<String>>,
    /// What coordinators say beside their answers.
    pub(crate) coordinators: broadcast::Sender<CoordinateResponse>,
    /// How often all connections were cut.
    cuts: watch::Sender<usize>,
    pub(crate) agent: Agent,
    pub(crate) relay: Arc<Relay>,
}

impl Deployment {
    pub(crate) async fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Arc::new(Relay::new(plan.relay.clone()));
        let (journal, _) = watch::channel(Vec::new());
        let agent = Agent::start(plan.agent.clone(), Arc::clone(&relay), journal.clone());
        relay.set_agent(agent.key(), agent.packets());
        let state = Arc::new(State {
            workspace: Mutex::new(plan.workspace.clone()),
            plan,
            news: broadcast::channel(64).0,
            counts: Mutex::default(),
            journal,
            coordinators: broadcast::channel(64).0,
            cuts: watch::channel(0).0,
            agent,
            relay,
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, server }
    }

    pub(crate) async fn well() -> Self {
        Self::start(Plan::default()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that happened: requests, and what coordinator and agent noted.
    pub(crate) fn journal(&self) -> Vec<String> {
        self.state.journal.borrow().clone()
    }

    /// How often something happened.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.state.journal.borrow().iter().filter(|entry| *entry == what).count()
    }

    /// Everybody who was told of us was told that we left.
    #[track_caller]
    pub(crate) fn assert_left(&self) {
        let journal = self.journal();
        let (begun, left) = (self.count("add_tunnel"), self.count("disconnect"));
        assert!(left >= begun, "{journal:?}");
    }

    /// Waits until something happened this often.
    pub(crate) async fn until(&self, what: &str, times: usize) {
        let mut journal = self.state.journal.subscribe();
        let enough = |all: &Vec<String>| all.iter().filter(|entry| *entry == what).count() >= times;
        let waiting = tokio::time::timeout(LONGEST, journal.wait_for(enough));
        assert!(waiting.await.is_ok(), "no {what:?} {times} times: {:?}", self.journal());
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.journal.send_modify(|all| all.push(what.into()));
    }

    /// Cuts every connection, as a server does that is restarted.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Tells all watches.
    pub(crate) fn tell(&self, news: impl Into<String>) {
        // Perhaps nobody watches.
        let _ = self.news.send(news.into());
    }

    /// The workspace is like this from now on, and the watches are told of its build.
    pub(crate) fn turn(&self, workspace: Value) {
        let told = told(&workspace);
        *self.workspace.lock().unwrap() = workspace;
        for update in told {
            self.tell(update);
        }
    }

    fn read(&self) -> Value {
        self.workspace.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.spawn(converse(stream, Arc::clone(&state)));
            }
            Some(ended) = connections.join_next() => ended.unwrap(),
        }
    }
}

async fn converse(mut stream: TcpStream, state: Arc<State>) {
    let Some(request) = http::read(&mut stream).await else { return };
    let before = {
        let mut counts = state.counts.lock().unwrap();
        let count = counts.entry(request.line.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let scripted = (state.plan.script)(&request.line, before, &state);
    state.note(&request.line);
    let mut cuts = state.cuts.subscribe();
    let answer = async {
        match scripted {
            Some(reply) => http::answer(stream, &request, reply).await,
            None => route(stream, request, Arc::clone(&state)).await,
        }
    };
    tokio::select! {
        () = answer => {}
        _ = cuts.changed() => {}
    }
}

async fn route(stream: TcpStream, request: Request, state: Arc<State>) {
    let line = request.line.replace("/api/v2/", "/");
    let ids = [(WORKSPACE, "WORKSPACE"), (AGENT, "AGENT"), (BUILD, "BUILD")];
    let line = ids.iter().fold(line, |line, (id, name)| line.replace(&id.to_string(), name));
    let reply = match line.as_str() {
        "GET /users/me/workspace/dev" | "GET /workspaces/WORKSPACE" => {
            Reply::Json(200, state.read().to_string())
        }
        "GET /workspaceagents/AGENT" => {
            let agent = state.read()["latest_build"]["resources"][0]["agents"][0].take();
            Reply::Json(200, agent.to_string())
        }
        "GET /workspaceagents/connection" | "GET /workspaceagents/AGENT/connection" => {
            Reply::Json(200, json!({ "derp_map": relay_map() }).to_string())
        }
        "GET /workspaces/WORKSPACE/agent-connection-watch" => {
            return watch_workspace(stream, &request, &state).await;
        }
        "GET /workspaces/WORKSPACE/watch" => Reply::Bytes(event_stream(&state.read())),
        "GET /tailnet" | "GET /workspaceagents/AGENT/coordinate" => {
            let Some(socket) = http::websocket(stream, &request).await else { return };
            return coordinator::serve(state.plan.coordinator.clone(), socket, &state).await;
        }
        "GET /derp" => {
            if request.wants_websocket() {
                state.note("relay by WebSocket");
            }
            return state.relay.open(stream, &request).await;
        }
        "POST /workspaces/WORKSPACE/usage" => Reply::Bytes(
            b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        ),
        "POST /workspaces/WORKSPACE/builds" => {
            let mut building = state.read();
            building["latest_build"]["transition"] = json!("start");
            building["latest_build"]["build_number"] = json!(8);
            building["latest_build"]["job"]["status"] = json!("running");
            state.turn(building.clone());
            Reply::Json(201, building["latest_build"].to_string())
        }
        "GET /workspacebuilds/BUILD/logs" => return build_log(stream, &request, &state).await,
        _ => Reply::error(404, "Route not found."),
    };
    http::answer(stream, &request, reply).await;
}

/// The relay inside the control plane.
pub(crate) fn relay_map() -> Value {
    json!({"Regions": {"999": {
        "EmbeddedRelay": true, "RegionID": 999, "RegionCode": "coder", "RegionName": "Relay",
        "Nodes": [{"Name": "999b", "RegionID": 999, "HostName": "relay.invalid", "DERPPort": 1,
                   "STUNPort": -1}],
    }}})
}

/// What the watch tells of a workspace.
fn told(workspace: &Value) -> Vec<String> {
    let build = &workspace["latest_build"];
    let (transition, status) = (&build["transition"], &build["job"]["status"]);
    let mut told = vec![json!({"build_update": {"transition": transition, "job_status": status}})];
    let agent = &build["resources"][0]["agents"][0];
    if transition == "start" && status == "succeeded" && agent["id"].is_string() {
        let (id, lifecycle) = (&agent["id"], &agent["lifecycle_state"]);
        told.push(json!({"agent_update": {"id": id, "lifecycle": lifecycle}}));
    }
    told.iter().map(Value::to_string).collect()
}

async fn watch_workspace(stream: TcpStream, request: &Request, state: &State) {
    let mut news = state.news.subscribe();
    let Some(mut socket) = http::websocket(stream, request).await else { return };
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    for first in told(&state.read()) {
        if socket.send(Message::text(first)).await.is_err() {
            return;
        }
    }
    loop {
        tokio::select! {
            Ok(text) = news.recv() => {
                if text == CUT {
                    return;
                }
                if socket.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
            heard = socket.next() => if !matches!(heard, Some(Ok(_))) { return },
        }
    }
}

/// What servers without the watch have.
fn event_stream(workspace: &Value) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    format!("{head}event: ping\n\nevent: data\ndata: {workspace}\n\n").into_bytes()
}

async fn build_log(stream: TcpStream, request: &Request, state: &State) {
    let (lines, end) = &state.plan.build;
    let mut script: Vec<Say> = lines.iter().map(|line| Say::Text(line.to_string())).collect();
    if let Some((status, error)) = end {
        script.push(Say::Close(1000));
        let mut done = state.read();
        done["latest_build"]["job"] = json!({"status": status, "error": error});
        http::answer(stream, request, Reply::Socket(script)).await;
        state.turn(done);
    } else {
        http::answer(stream, request, Reply::Socket(script)).await;
    }
}
