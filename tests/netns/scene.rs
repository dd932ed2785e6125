//! A server, an agent and a client on a network, and a connection through all of it.

use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    support::{Client, Running, clean, coderctl, has, local_port, running::wait_for_end, skipped},
};

/// One at a time: what is measured is time.
static TURN: Mutex<()> = Mutex::new(());

/// The permission to begin, and how much is to be carried.
pub(crate) struct Turn {
    bytes: u64,
    _turn: MutexGuard<'static, ()>,
}

/// Everything.
pub(crate) struct Scene {
    pub(crate) network: Network,
    pub(crate) server: Server,
    forward: Program,
    _agent: Program,
    _agent_home: TempDir,
    ends: Option<[TcpStream; 2]>,
    bytes: u64,
}

/// A program that tells what it said when a case fails.
struct Program {
    name: &'static str,
    running: Running,
}

/// A `coderctl server` on a network.
pub(crate) struct Server {
    running: Option<Running>,
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
    Some(Turn { bytes: mebibytes << 20, _turn: turn })
}

impl Turn {
    /// Sets everything up, with the client at the first site and the agent at the second.
    pub(crate) fn scene(&self, kinds: [Kind; 2], link: Option<LinkConfig>) -> Scene {
        self.scene_on(Network::new(kinds, link))
    }

    /// The same on a network that is there.
    pub(crate) fn scene_on(&self, network: Network) -> Scene {
        let server = Server::start(&network.server);
        let agent_home = TempDir::new().unwrap();
        let [here, there] = &network.sites;
        let listener = there.host.within(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let agent = there.host.within(|| {
            let Ready { url, agent_token, .. } = &server.ready;
            let mut command = agent_program(agent_home.path());
            command
                .env("CODER_AGENT_URL", url)
                .env("CODER_AGENT_TOKEN", agent_token)
                .stdout(Stdio::null());
            Program { name: "agent", running: Running::start(&mut command) }
        });
        let client = server.client();
        let spec = format!("127.0.0.1:0:{}", listener.local_addr().unwrap().port());
        let (forward, near) = here.host.within(|| {
            let arguments = ["-vv", "port-forward", "dev", "--tcp", &spec];
            let mut forward = client.background(&arguments);
            let local = local_port(&forward.wait_for("Forwarding"));
            forward.wait_for("Ready!");
            let forward = Program { name: "client", running: forward };
            (forward, TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap())
        });
        let (far, _) = listener.accept().unwrap();
        Scene {
            network,
            server,
            forward,
            _agent: agent,
            _agent_home: agent_home,
            ends: Some([near, far]),
            bytes: self.bytes,
        }
    }
}

impl Scene {
    /// Waits until the client has a direct path.
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
        let client = &mut self.forward.running;
        let mut last = client.seen().lines().rev().find_map(Way::told);
        while last != Some(way) {
            last = Way::told(&client.wait_for(NEWS));
        }
    }

    /// Begins to carry bytes over the connection, which has one exchange.
    pub(crate) fn exchange(&mut self) -> Exchange {
        Exchange::start(self.ends.take().unwrap(), self.bytes)
    }

    /// Waits for the end of an exchange and tells what was seen; the ways that the client took,
    /// one after the other, and the outcome.
    #[track_caller]
    pub(crate) fn finish(self, exchange: Exchange) -> (Vec<Way>, Outcome) {
        let outcome = exchange.finish();
        let mut client = self.forward;
        client.running.signal(Signal::INT);
        let ways: Vec<Way> = client.running.rest().lines().filter_map(Way::told).collect();
        assert_eq!(wait_for_end(&mut client.running.child).code(), Some(0));
        let case = std::thread::current().name().unwrap_or("?").to_owned();
        let [here, there] = self.network.kinds();
        let Outcome { took, gap } = &outcome;
        let rate = self.bytes as f64 / took.as_secs_f64() / f64::from(1 << 20);
        let mebibytes = self.bytes >> 20;
        // Nobody listens: then nobody needs to know.
        let _ = writeln!(
            std::io::stderr(),
            "netns: {case} ({here:?}, {there:?}): {mebibytes} MiB each way in {took:.1?} ({rate:.0} MiB/s), \
            at most {gap:.2?} without progress, {ways:?}"
        );
        (ways, outcome)
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

/// How its log says that it takes another way.
const NEWS: &str = "another way";

/// A way that the client took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Relay,
}

impl Way {
    /// The way that a line of its log tells of.
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
    fn start(namespace: &Namespace) -> Self {
        let home = Arc::new(TempDir::new().unwrap());
        let (running, ready) = run(namespace, &home);
        Self { running: Some(running), home, ready }
    }

    fn client(&self) -> Client {
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
        self.running = Some(run(namespace, &self.home).0);
    }
}

/// Our agent, or that of the program that is named in its place.
fn agent_program(home: &Path) -> Command {
    let Some(other) = std::env::var_os("CODERCTL_TEST_NETNS_AGENT") else {
        let mut command = coderctl(home);
        command.args(["-vv", "agent"]);
        return command;
    };
    let mut command = Command::new(other);
    clean(&mut command, home);
    command.arg("agent").stdin(Stdio::null());
    command
}

/// Runs a server; what it says of itself once it is ready.
fn run(namespace: &Namespace, home: &TempDir) -> (Running, Ready) {
    let (state, file) = (home.path().join("state"), home.path().join("ready.json"));
    let url = format!("http://{SERVER}:3000");
    let mut command = coderctl(home.path());
    command
        .args(["server", "--insecure", "--workspace", "dev", "--external-agent"])
        .args(["--listen", &format!("{SERVER}:3000"), "--access-url", &url, "--state"])
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
