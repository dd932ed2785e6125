//! How a deployment bears many: workspaces that are watched, agents that idle, and how fast a
//! change of an agent's lifecycle reaches all who watch it.
//!
//! ```text
//! cargo run --release -p coderctl-deployment --example scale -- [WORKSPACES [AGENTS [SECONDS]]]
//! ```
//!
//! The deployment runs in a process of its own, so that its memory (`VmRSS`) and CPU time are not
//! those of the clients. With `CODER` in the environment (the path of a Go `coder`), one agent of
//! that client idles beside ours.

use std::{
    error::Error,
    fs,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use coderctl_agent::{Options as AgentOptions, Token, TokenSource};
use coderctl_deployment::{
    Config, Deployment,
    config::{AgentMode, Storage},
    model::Lifecycle,
    provisioner::template::BUILT_IN_NAME,
};
use coderctl_drpc::{
    Client,
    proto::{
        agent::{self, lifecycle::State},
        rpc,
    },
};
use coderctl_transport::{Message, Options, Transport, WebSocket, WebSocketOptions};
use http::Request;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
};
use url::Url;
use uuid::Uuid;

type Failure = Box<dyn Error + Send + Sync>;

/// Changes of the lifecycle that are timed.
const CHANGES: usize = 200;

/// Who watch the workspace whose agent changes, beside the one who watches each workspace.
const AUDIENCE: usize = 100;

/// What the deployment's process says of itself.
#[derive(Serialize, Deserialize)]
struct Up {
    url: String,
    token: String,
    workspaces: Vec<Uuid>,
    /// Of the first workspace, whose agent is ours to play.
    agent_token: String,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve(number(1, 0)?, number(2, 0)?).await;
    }
    let (workspaces, agents, seconds) = (number(0, 1000)?, number(1, 200)?, number(2, 30)?);
    let idle = Duration::from_secs(seconds as u64);

    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", &workspaces.to_string(), &agents.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().ok_or("the deployment ended")?;
    let mut told = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
    let up = told.next_line().await?.ok_or("the deployment ended")?;
    let up: Up = serde_json::from_str(&up)?;
    let before = Usage::of(pid)?;
    say(&format!("{workspaces} workspaces, nobody there: {} KiB", before.memory));

    tell(&mut child, "agents").await?;
    told.next_line().await?.ok_or("the deployment ended")?;
    let attached = Usage::of(pid)?;
    tokio::time::sleep(idle).await;
    let rested = Usage::of(pid)?;
    let each = rested.memory.saturating_sub(before.memory) as f64 / agents as f64;
    let cpu = rested.cpu_share(&attached, idle) / agents as f64;
    say(&format!(
        "{agents} idle agents in it: {} KiB, that is {each:.0} KiB and {cpu:.4} % of a core each",
        rested.memory
    ));
    if let Some(coder) = std::env::var_os("CODER") {
        let (memory, share) = go_agent(&coder.to_string_lossy(), &up, idle).await?;
        say(&format!(
            "an idle agent of the Go client: {memory:.0} KiB and {share:.4} % of a core; ours is \
             {:.3} and {:.3} of that",
            each / memory,
            cpu / share
        ));
    }

    let transport = Transport::new(Options::default())?;
    let (heard, mut news) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    let audience = up.workspaces.iter().chain(std::iter::repeat_n(&up.workspaces[0], AUDIENCE));
    for (index, workspace) in audience.enumerate() {
        let mut socket = watch(&transport, &up, *workspace).await?;
        let heard = (index == 0 || index >= up.workspaces.len()).then(|| heard.clone());
        watchers.spawn(async move {
            while let Ok(message) = socket.next().await {
                if let (Message::Text(text), Some(heard)) = (message, &heard)
                    && text.contains("agent_update")
                {
                    // Nobody listens any more at the end.
                    let _ = heard.send(());
                }
            }
        });
    }
    let watched = Usage::of(pid)?;
    tokio::time::sleep(idle).await;
    let quiet = Usage::of(pid)?;
    let sockets = (up.workspaces.len() + AUDIENCE) as f64;
    say(&format!(
        "{sockets} watches: {} KiB, that is {:.1} KiB each, {:.2} % of a core in all",
        quiet.memory,
        quiet.memory.saturating_sub(rested.memory) as f64 / sockets,
        quiet.cpu_share(&watched, idle) - rested.cpu_share(&attached, idle)
    ));

    let agent = play(&transport, &up).await?;
    let mut took = Vec::with_capacity(CHANGES);
    // The first report settles what the watchers were told when they came.
    for index in 0..=CHANGES {
        while news.try_recv().is_ok() {}
        let state = if index % 2 == 0 { State::Starting } else { State::Ready };
        let began = Instant::now();
        report(&agent, state).await?;
        for _ in 0..=AUDIENCE {
            news.recv().await.ok_or("the watchers ended")?;
        }
        if index > 0 {
            took.push(began.elapsed());
        }
    }
    took.sort_unstable();
    let percentile = |share: usize| took[(took.len() - 1) * share / 100];
    say(&format!(
        "a lifecycle change reached all {} who watch its workspace, beside {} others, within \
         {:?} (p50), {:?} (p99), {:?} (most)",
        AUDIENCE + 1,
        up.workspaces.len() - 1,
        percentile(50),
        percentile(99),
        percentile(100)
    ));
    Ok(())
}

/// The deployment's process: workspaces first, then, when asked, real agents of `agents` of them.
async fn serve(workspaces: usize, agents: usize) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let mut config = Config::new(Storage::Memory, directory.path());
    config.agents = AgentMode::ByHand;
    let deployment = Deployment::start(config).await?;
    let user = deployment.first_user("admin", "admin@localhost").await?;
    let token = deployment.new_token(user.id, "scale", Duration::from_hours(1)).await?;
    let mut up = Up {
        url: deployment.url().to_string(),
        token: token.expose().to_string(),
        workspaces: Vec::new(),
        agent_token: String::new(),
    };
    let mut tokens = Vec::new();
    for index in 0..workspaces {
        let of = (index > 0).then_some(BUILT_IN_NAME);
        let made = deployment.create_workspace(user.id, &format!("w{index}"), of).await?;
        let built = deployment.built(&made).await?;
        up.workspaces.push(made.workspace.id);
        tokens.push(built[0].auth_token.expose().to_string());
    }
    up.agent_token.clone_from(&tokens[0]);
    let mut out = tokio::io::stdout();
    out.write_all(format!("{}\n", serde_json::to_string(&up)?).as_bytes()).await?;
    out.flush().await?;

    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut running = JoinSet::new();
    while let Some(order) = orders.next_line().await? {
        if order != "agents" {
            continue;
        }
        let transport = Transport::new(Options::default())?;
        let url = Url::parse(&up.url)?;
        for token in tokens.iter().skip(1).take(agents) {
            let token = TokenSource::Fixed(Token::new(token));
            let mut options = AgentOptions::new(url.clone(), token, transport.clone());
            options.log_dir = directory.path().to_owned();
            options.script_data_dir = directory.path().to_owned();
            running.spawn(coderctl_agent::run(options, std::future::pending()));
        }
        let store = &deployment.state().store;
        for workspace in up.workspaces.iter().skip(1).take(agents) {
            let (build, _) = store.latest_build(*workspace).await?;
            while store.agents_of_build(build.id).await?[0].lifecycle != Lifecycle::Ready {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        out.write_all(b"attached\n").await?;
        out.flush().await?;
    }
    Ok(())
}

async fn tell(child: &mut Child, order: &str) -> Result<(), Failure> {
    let stdin = child.stdin.as_mut().ok_or("no stdin")?;
    Ok(stdin.write_all(format!("{order}\n").as_bytes()).await?)
}

fn request(up: &Up, path: &str, token: &str) -> Result<Request<()>, Failure> {
    let uri = Url::parse(&up.url)?.join(path)?.to_string();
    Ok(Request::get(uri).header("Coder-Session-Token", token).body(())?)
}

async fn watch(transport: &Transport, up: &Up, workspace: Uuid) -> Result<WebSocket, Failure> {
    let path = format!("/api/v2/workspaces/{workspace}/agent-connection-watch");
    let request = request(up, &path, &up.token)?;
    Ok(transport.websocket(request, WebSocketOptions::default()).await?)
}

/// A session of the first workspace's agent.
async fn play(transport: &Transport, up: &Up) -> Result<Client, Failure> {
    let path = "/api/v2/workspaceagents/me/rpc?version=2.0&role=agent";
    let request = request(up, path, &up.agent_token)?;
    let socket = transport.websocket(request, WebSocketOptions::default()).await?;
    Ok(Client::connect(socket.into_stream()))
}

async fn report(agent: &Client, state: State) -> Result<(), Failure> {
    let lifecycle =
        agent::Lifecycle { state: state.into(), changed_at: Some(SystemTime::now().into()) };
    let request = agent::UpdateLifecycleRequest { lifecycle: Some(lifecycle) };
    let _: agent::Lifecycle = agent.unary(rpc::agent::UPDATE_LIFECYCLE, &request).await?;
    Ok(())
}

/// Memory (KiB) and CPU (percent of a core) of a Go agent that idles beside ours.
async fn go_agent(coder: &str, up: &Up, idle: Duration) -> Result<(f64, f64), Failure> {
    let home = tempfile::tempdir()?;
    let child = Command::new(coder)
        .arg("agent")
        .env_clear()
        .envs([("HOME", home.path()), ("CODER_AGENT_LOG_DIR", home.path())])
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CODER_AGENT_URL", &up.url)
        .env("CODER_AGENT_TOKEN", &up.agent_token)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().ok_or("the Go agent ended")?;
    // Its start is not what is measured.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = Usage::of(pid)?;
    tokio::time::sleep(idle).await;
    let after = Usage::of(pid)?;
    Ok((after.memory as f64, after.cpu_share(&before, idle)))
}

/// What a process uses.
struct Usage {
    /// Resident, in KiB.
    memory: u64,
    /// CPU time so far, in ticks of 10 ms (`CLK_TCK` is 100 on Linux).
    ticks: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self, Failure> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name in parentheses: utime and stime are fields 14 and 15 (proc(5)).
        let (_, rest) = stat.rsplit_once(')').ok_or("no stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Self { memory: memory.ok_or("no VmRSS")?, ticks })
    }

    /// Percent of a core between two looks.
    fn cpu_share(&self, before: &Self, between: Duration) -> f64 {
        (self.ticks - before.ticks) as f64 / between.as_secs_f64()
    }
}

fn say(text: &str) {
    use std::io::Write as _;
    // A closed stdout is nobody's loss here.
    let _ = writeln!(std::io::stdout(), "{text}");
}
