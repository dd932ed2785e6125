//! A server, an agent and a client on a network, and a connection through all of it.

use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use super::{
    exchange::{Exchange, Outcome},
    link::LinkConfig,
    namespace::Namespace,
    nat::Kind,
    network::{Network, SERVER},
    support::{Client, Running, clean, coderctl, has, running::wait_for_end, skipped},
};

/// One at a time: what is measured is time.
static TURN: Mutex<()> = Mutex::new(());

/// The permission to begin, and how much is to be carried.
pub(crate) struct Turn {
    bytes: u64,
    /// Whether the client may use direct paths.
    direct: bool,
    _turn: MutexGuard<'static, ()>,
}

/// Everything.
pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) server: Server,
    programs: Programs,
    _agent_home: TempDir,
    ends: Option<[TcpStream; 2]>,
    bytes: u64,
}

/// The client's `port-forward`, and the agent.
struct Programs {
    client: Program,
    agent: Program,
}

/// A program that tells what it said when a case fails.
struct Program {
    name: &'static str,
    running: Running,
    /// Whether it is of this project.
    ours: bool,
}

/// What was seen of an exchange.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The ways that the end that is ours took, one after the other.
    pub(crate) ways: Vec<Way>,
    /// The longest time without progress.
    gap: Duration,
    /// Whether both ends are ours.
    ours: bool,
}

/// A `coderctl server` on a network.
pub(crate) struct Server {
    running: Option<Running>,
    address: &'static str,
    home: Arc<TempDir>,
    ready: Ready,
}

#[derive(Deserialize)]
struct Ready {
    url: String,
    token: String,
    agent_token: String,
}

/// Whether these tests are wanted and possible; says loudly why not.
pub(crate) fn turn() -> Option<Turn> {
    let Ok(wanted) = std::env::var("CODERCTL_TEST_NETNS") else {
        skipped("CODERCTL_TEST_NETNS is not set");
        return None;
    };
    let mebibytes: u64 = wanted.parse().expect("CODERCTL_TEST_NETNS is a number of MiB");
    if !rustix::process::geteuid().is_root() {
        skipped("namespaces need root");
        return None;
    }
    if !has("ip") || !has("iptables") {
        return None;
    }
    // What another case left half-done has gone with it.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Turn { bytes: mebibytes << 20, direct: true, _turn: turn })
}

impl Turn {
    /// Where the client may use relays only.
    pub(crate) fn without_direct_paths(self) -> Self {
        Self { direct: false, ..self }
    }

    /// Sets everything up, with the client at the first site and the agent at the second.
    pub(crate) fn scene(&self, kinds: [Kind; 2], link: Option<LinkConfig>) -> Scene {
        self.scene_on(Network::new(kinds, link))
    }

    /// The same on a network that is there.
    pub(crate) fn scene_on(&self, network: Network) -> Scene {
        let server = Server::start_at(&network.server, SERVER);
        let agent_home = TempDir::new().unwrap();
        let [here, there] = &network.sites;
        let listener = there.host.within(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let agent = there.host.within(|| Program::agent(&server.ready, agent_home.path()));
        let remote = listener.local_addr().unwrap().port();
        let client = server.client();
        let (client, near) = here.host.within(|| Program::client(&client, remote, self.direct));
        let (far, _) = listener.accept().unwrap();
        Scene {
            network,
            server,
            programs: Programs { client, agent },
            _agent_home: agent_home,
            ends: Some([near, far]),
            bytes: self.bytes,
        }
    }
}

impl Scene {
    /// Waits until the end that tells has a direct path.
    #[track_caller]
    pub(crate) fn wait_for_direct(&mut self) {
        self.wait_for(Way::Direct);
    }

    /// Waits until it has none.
    #[track_caller]
    pub(crate) fn wait_for_relay(&mut self) {
        self.wait_for(Way::Relay);
    }

    #[track_caller]
    fn wait_for(&mut self, way: Way) {
        let teller = &mut self.programs.teller().running;
        let mut last = teller.seen().lines().rev().find_map(Way::told);
        while last != Some(way) {
            last = Way::told(&teller.wait_for(NEWS));
        }
    }

    /// Begins to carry bytes over the connection, which has one exchange.
    pub(crate) fn exchange(&mut self) -> Exchange {
        Exchange::start(self.ends.take().unwrap(), self.bytes)
    }

    /// Waits for the end of an exchange, and tells what was seen.
    #[track_caller]
    pub(crate) fn finish(self, exchange: Exchange) -> Seen {
        let Outcome { took, gap } = exchange.finish();
        let mut programs = self.programs;
        let ours = programs.client.ours && programs.agent.ours;
        // First the one that tells, lest it tell of the end of the other.
        let teller = programs.teller();
        teller.running.signal(Signal::INT);
        let status = wait_for_end(&mut teller.running.child);
        let told = teller.running.rest();
        let ways: Vec<Way> = told.lines().filter_map(Way::told).collect();
        if programs.client.ours {
            assert_eq!(status.code(), Some(0));
        }
        let case = std::thread::current().name().unwrap_or("?").to_owned();
        let [here, there] = self.network.kinds();
        let rate = self.bytes as f64 / took.as_secs_f64() / f64::from(1 << 20);
        let mebibytes = self.bytes >> 20;
        // Nobody listens: then nobody needs to know.
        let _ = writeln!(
            std::io::stderr(),
            "netns: {case} ({here:?}, {there:?}): {mebibytes} MiB each way in {took:.1?} ({rate:.0} MiB/s), \
            at most {gap:.2?} without progress, {ways:?}"
        );
        Seen { ways, gap, ours }
    }
}

impl Seen {
    /// The way taken at the end was this, if that is ours to promise.
    #[track_caller]
    pub(crate) fn ended(&self, way: Way) {
        assert!(!self.ours || self.ways.last() == Some(&way), "{self:?}");
    }

    /// Bytes always came again within this time, if that is ours to promise.
    #[track_caller]
    pub(crate) fn paused_at_most(&self, limit: Duration) {
        assert!(!self.ours || self.gap <= limit, "{self:?}");
    }
}

impl Programs {
    /// The one that tells which ways it takes.
    fn teller(&mut self) -> &mut Program {
        match self.client.ours {
            true => &mut self.client,
            false => &mut self.agent,
        }
    }
}

impl Program {
    /// The agent, in this namespace.
    fn agent(Ready { url, agent_token, .. }: &Ready, home: &Path) -> Self {
        let other = std::env::var_os("CODERCTL_TEST_NETNS_AGENT");
        let mut command = match &other {
            None => coderctl(home),
            Some(program) => {
                let mut command = Command::new(program);
                clean(&mut command, home);
                command
            }
        };
        if other.is_none() {
            command.arg("-vv");
        }
        command
            .arg("agent")
            .envs([("CODER_AGENT_URL", url), ("CODER_AGENT_TOKEN", agent_token)])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self { name: "agent", running: Running::start(&mut command), ours: other.is_none() }
    }

    /// A forward to this port, in this namespace, and a connection to it.
    fn client(client: &Client, remote: u16, direct: bool) -> (Self, TcpStream) {
        let other = std::env::var("CODERCTL_TEST_NETNS_CLIENT").ok();
        // Not every program says which port it was given: so it is told one that is free, where
        // nobody else takes any.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let local = free.local_addr().unwrap().port();
        drop(free);
        let spec = format!("127.0.0.1:{local}:{remote}");
        let arguments = ["port-forward", "dev", "--tcp", &spec];
        let mut command = match &other {
            None => client.command(&[&["-vv"], &arguments[..]].concat()),
            Some(program) => client.program(program, &arguments),
        };
        if !direct {
            command.env("CODER_DISABLE_DIRECT_CONNECTIONS", "true");
        }
        let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        running.wait_for("Ready!");
        let program = Self { name: "client", running, ours: other.is_none() };
        (program, TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It may have ended already.
            let _ = self.running.child.kill();
            let text = format!("--- the {} said:\n{}\n", self.name, self.running.rest());
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

/// How a log says that another way is taken.
const NEWS: &str = "another way";

/// A way that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Relay,
}

impl Way {
    /// The way that a line of a log tells of.
    fn told(line: &str) -> Option<Self> {
        let news = line.split_once(NEWS)?.1;
        match (news.contains("Direct("), news.contains("Relay(")) {
            (true, _) => Some(Self::Direct),
            (false, true) => Some(Self::Relay),
            (false, false) => None,
        }
    }
}

impl Server {
    /// One at this address of a namespace.
    pub(crate) fn start_at(namespace: &Namespace, address: &'static str) -> Self {
        let home = Arc::new(TempDir::new().unwrap());
        let (running, ready) = run(namespace, address, &home);
        Self { running: Some(running), address, home, ready }
    }

    pub(crate) fn client(&self) -> Client {
        let Ready { url, token, .. } = &self.ready;
        Client { home: Arc::clone(&self.home), url: url.clone(), token: token.clone() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        self.running.take();
    }

    /// Starts it again, on its state.
    pub(crate) fn restart(&mut self, namespace: &Namespace) {
        self.running = Some(run(namespace, self.address, &self.home).0);
    }
}

/// Runs a server; what it says of itself once it is ready.
fn run(namespace: &Namespace, address: &str, home: &TempDir) -> (Running, Ready) {
    let (state, file) = (home.path().join("state"), home.path().join("ready.json"));
    let url = format!("http://{address}:3000");
    let mut command = coderctl(home.path());
    command
        .args(["server", "--insecure", "--workspace", "dev", "--external-agent"])
        .args(["--listen", &format!("{address}:3000"), "--access-url", &url, "--state"])
        .arg(state)
        .arg("--ready-file")
        .arg(&file)
        .stdout(Stdio::null());
    let running = namespace.within(|| {
        let mut running = Running::start(&mut command);
        running.wait_for("Ready!");
        running
    });
    let ready = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    (running, ready)
}
