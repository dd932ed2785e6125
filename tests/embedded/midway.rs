//! What happens to sessions and forwards that are up: workspaces stop, servers and agents restart,
//! connections break.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Balancer, Client, LONGEST, Never, Options, Running, Server, Terminal, ask, id, local_port,
    reverse, service, until,
};

/// A session that gives back what it is told.
struct Echo {
    running: Running,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Echo {
    /// `ssh` into this workspace, which answers.
    fn start(client: &Client, workspace: &str) -> Self {
        Self::of(&mut client.command(&["ssh", workspace, "--", "cat"]))
    }

    fn of(command: &mut Command) -> Self {
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let child: &mut Child = &mut running.child;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut echo = Self { running, stdin, stdout };
        echo.answers("first words");
        echo
    }

    /// It still answers.
    #[track_caller]
    fn answers(&mut self, text: &str) {
        self.stdin.as_ref().unwrap().write_all(text.as_bytes()).unwrap();
        let mut answer = vec![0; text.len()];
        // One that hangs is killed, and that is the end of its output.
        let deadline = self.running.deadline();
        if let Err(error) = self.stdout.read_exact(&mut answer) {
            let status = self.running.child.wait().unwrap();
            panic!("{text:?}: {error}, {status}, {}", self.running.rest());
        }
        drop(deadline);
        assert_eq!(String::from_utf8_lossy(&answer), text);
    }

    /// Its input ends, and so does it.
    #[track_caller]
    fn ends(mut self) {
        drop(self.stdin.take());
        let (code, said) = self.running.finish();
        assert_eq!(code, Some(0), "{said}");
    }
}

/// A server behind a balancer with one workspace `dev` whose agent is a process of its own.
struct Apart {
    server: Option<Server>,
    client: Client,
    balancer: Balancer,
    agent: Option<Running>,
    home: tempfile::TempDir,
    token: String,
}

impl Apart {
    fn new() -> Self {
        let server = Options::default().dev().external().start();
        let balancer = Balancer::new();
        balancer.lead_to(&server.url);
        let client = server.by(&balancer.url());
        let token = server.ready.agent_token.clone().unwrap();
        let (agent, home) = client.agent(&token);
        server.api().agent_in("dev", "ready");
        Self { server: Some(server), client, balancer, agent: Some(agent), home, token }
    }

    /// Kills the server without a warning; another one takes its place.
    fn restart_server(&mut self) {
        let server = self.server.take().unwrap();
        let server = server.crash_and_restart(Options::default().external());
        self.balancer.lead_to(&server.url);
        self.server = Some(server);
    }

    /// Starts the agent again.
    fn start_agent(&mut self) {
        self.agent =
            Some(crate::support::start_agent(&self.client.url, &self.token, self.home.path()));
    }

    /// A session that waits for its input to end, and has begun.
    fn session(&self) -> Running {
        let mut command = self.client.command(&["ssh", "dev", "--", "echo set >&2; exec cat"]);
        let mut session = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
        session.wait_for("set");
        session
    }
}

#[test]
fn a_session_in_a_workspace_that_is_stopped_ends_with_the_reason() {
    let server = Server::with_dev();
    let never = Never::within(server.home.path());
    let line = format!("echo set >&2; exec cat {never}");
    let mut session = server.background(&["ssh", "dev", "--", &line]);
    session.wait_for("set");
    server.run(&["stop", "dev", "-y"]).ends(0);
    let (code, said) = session.finish();
    assert_eq!(code, Some(203), "{said}");
    assert!(said.contains("was stopped"), "{said}");
}

#[test]
fn a_session_in_a_workspace_that_is_deleted_ends_with_the_reason() {
    let server = Server::with_dev();
    let never = Never::within(server.home.path());
    let line = format!("echo set >&2; exec cat {never}");
    let mut session = server.background(&["ssh", "dev", "--", &line]);
    session.wait_for("set");
    server.run(&["delete", "dev", "-y"]).ends(0);
    let (code, said) = session.finish();
    assert_eq!(code, Some(205), "{said}");
}

#[test]
fn a_forward_follows_a_stop_and_a_start() {
    let server = Server::with_dev();
    let (mut forward, local) = server.forward("dev", service(reverse));
    assert_eq!(ask(local, b"before"), b"erofeb");
    server.run(&["stop", "dev", "-y"]).ends(0);
    forward.wait_for("waiting for somebody to start it");
    server.run(&["start", "dev"]).ends(0);
    // Its listener was there all the time.
    assert_eq!(ask(local, b"after"), b"retfa");
    server.run(&["restart", "dev", "-y"]).ends(0);
    assert_eq!(ask(local, b"again"), b"niaga");
    forward.signal(Signal::INT);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_forward_of_a_workspace_that_is_deleted_ends() {
    let server = Server::with_dev();
    let (forward, _) = server.forward("dev", 80);
    server.run(&["delete", "dev", "-y"]).ends(0);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(205), "{said}");
}

#[test]
fn a_command_under_a_forward_is_told_when_there_is_nothing_left_to_forward_to() {
    let server = Server::with_dev();
    let never = Never::within(server.home.path());
    let line = format!(
        "trap 'echo told >&2; exit 9' TERM; echo set >&2; cat {never} >/dev/null 2>&1 & wait"
    );
    let forward = ["port-forward", "dev", "--tcp", "0:80", "--", "sh", "-c", &line];
    let mut command = server.command(&forward);
    let mut running = Running::start(command.stdout(Stdio::null()));
    running.wait_for("set");
    server.run(&["delete", "dev", "-y"]).ends(0);
    running.wait_for("told");
    let (code, said) = running.finish();
    assert_eq!(code, Some(205), "{said}");
}

#[test]
fn a_stop_that_is_canceled_before_it_begins_leaves_a_session_alone() {
    let server = Options::default().dev().faults().start();
    let (api, mut faults) = (server.api(), server.faults());
    let mut echo = Echo::start(&server, "dev");
    // Nobody has time for it.
    let held = faults.hold("start");
    let template = id(&api.get("/templates")[0]);
    for number in 0..16 {
        api.create(&format!("w{number}"), &template);
        api.in_status(&format!("w{number}"), "starting");
    }
    let build = id(&api.build("dev", "stop"));
    echo.running.wait_for("Workspace dev is being stopped");
    api.patch(&format!("/workspacebuilds/{build}/cancel"), &Value::Null);
    api.in_status("dev", "canceled");
    echo.answers("after a stop that was canceled");
    faults.disarm(held);
    echo.ends();
}

#[test]
fn a_session_outlives_its_server_by_any_path() {
    for direct in ["false", "true"] {
        let mut apart = Apart::new();
        let mut command = apart.client.command(&["ssh", "dev", "--", "cat"]);
        command.env("CODER_DISABLE_DIRECT_CONNECTIONS", direct);
        let mut echo = Echo::of(&mut command);
        apart.restart_server();
        echo.answers("after a restart of the server");
        apart.restart_server();
        echo.answers("and another one");
        echo.ends();
        // Who comes anew is let in as well.
        apart.client.run(&["ssh", "dev", "--", "exit 7"]).ends(7);
    }
}

#[test]
fn a_forward_outlives_its_server() {
    let mut apart = Apart::new();
    let (forward, local) = apart.client.forward("dev", service(reverse));
    assert_eq!(ask(local, b"before"), b"erofeb");
    apart.restart_server();
    assert_eq!(ask(local, b"after"), b"retfa");
    forward.signal(Signal::INT);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_session_ends_with_255_when_its_agent_is_killed_and_started_again() {
    let mut apart = Apart::new();
    let session = apart.session();
    apart.agent = None;
    // Without this one it would take as long as a tunnel may be silent.
    apart.start_agent();
    let (code, said) = session.finish();
    assert_eq!(code, Some(255), "{said}");
    assert!(said.contains("connection lost"), "{said}");
}

#[test]
fn a_session_whose_agent_leaves_in_order_ends_at_once() {
    let mut apart = Apart::new();
    let session = apart.session();
    let agent = apart.agent.take().unwrap();
    agent.signal(Signal::TERM);
    let (code, said) = agent.finish();
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = session.finish();
    // What comes first: that the agent shuts down, or that the session is broken off.
    assert!(matches!(code, Some(206 | 255)), "{code:?}: {said}");
}

#[test]
fn a_forward_follows_an_agent_that_is_killed_and_started_again() {
    let mut apart = Apart::new();
    let (forward, local) = apart.client.forward("dev", service(reverse));
    assert_eq!(ask(local, b"before"), b"erofeb");
    apart.agent = None;
    apart.start_agent();
    until("the forward is back", || {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap();
        connection.set_read_timeout(Some(LONGEST)).unwrap();
        // Broken off while the agent is away.
        let asked = connection.write_all(b"after");
        let asked = asked.and_then(|()| connection.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        asked.and_then(|()| connection.read_to_end(&mut answer)).ok()?;
        (answer == b"retfa").then_some(())
    });
    forward.signal(Signal::INT);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(0), "{said}");
}

/// What the agent kept has gone with it; the name leads to a new terminal at once.
#[test]
fn a_named_session_follows_an_agent_that_is_killed_and_started_again() {
    let mut apart = Apart::new();
    let mut terminal = apart.client.terminal(&["ssh", "dev", "--session", "work"], (24, 80));
    terminal.types_until("KEPT=$((40+2)); echo set-$KEPT\n", "set-42");
    apart.agent = None;
    apart.start_agent();
    terminal.wait_for("connection lost, coming back to the session");
    terminal.types_until("echo back-${KEPT:-anew}; exit\n", "back-anew");
    assert_eq!(terminal.finish(), Some(0));
}

#[test]
fn a_named_session_goes_on_when_its_server_and_relay_come_back() {
    let mut apart = Apart::new();
    let relayed = [
        ("CODER_URL", apart.client.url.as_str()),
        ("CODER_SESSION_TOKEN", apart.client.token.as_str()),
        ("CODER_DISABLE_DIRECT_CONNECTIONS", "true"),
    ];
    let command = "echo up; read a; echo got-$a; read b; exit $b";
    let line = ["ssh", "dev", "--session", "work", "--", command];
    let mut terminal = Terminal::start(apart.client.home.path(), &relayed, &line, (24, 80));
    terminal.wait_for("up");
    apart.balancer.lead_to_all(&[]);
    apart.server.as_mut().unwrap().kill();
    // On its way until there is one again.
    terminal.types("one\n");
    apart.restart_server();
    terminal.wait_for("got-one");
    terminal.types("9\n");
    assert_eq!(terminal.finish(), Some(9));
}

#[test]
fn what_breaks_beside_the_tunnel_does_not_break_a_session() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    let mut echo = Echo::start(&server, "dev");
    // The agent's session with its server.
    until("the agent's session is cut", || {
        (faults.say(&json!({"drop_sessions": {}}))["cut"] == 1).then_some(())
    });
    echo.answers("after the agent's session broke");
    // What the client watches.
    until("the watch is cut", || {
        let cut = faults.say(&json!({"cut_streams": {"path": "/api/v2/workspaces/"}}));
        (cut["cut"].as_u64() > Some(0)).then_some(())
    });
    echo.answers("after the watch broke");
    // Coordination and relay.
    for path in ["/api/v2/workspaceagents/", "/api/v2/tailnet", "/derp"] {
        faults.say(&json!({"cut_streams": {"path": path}}));
        echo.answers(&format!("after {path} broke"));
    }
    // A server that is unwell for a while.
    let unwell = json!({"answer": {"path": "/api/v2", "status": 500, "times": 1000}});
    let unwell = faults.arm(unwell);
    faults.say(&json!({"cut_streams": {"path": "/"}}));
    echo.answers("while the server is unwell");
    faults.disarm(unwell);
    echo.answers("after the server was unwell");
    echo.ends();
}

#[test]
fn a_session_through_a_relay_that_hangs_for_a_while_goes_on() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    let mut command = server.command(&["ssh", "dev", "--", "cat"]);
    command.env("CODER_DISABLE_DIRECT_CONNECTIONS", "true");
    let mut echo = Echo::of(&mut command);
    faults.say(&json!({"freeze_relay": true}));
    echo.stdin.as_ref().unwrap().write_all(b"frozen").unwrap();
    faults.say(&json!({"freeze_relay": false}));
    let mut answer = [0; 6];
    echo.stdout.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"frozen");
    echo.ends();
}

#[test]
fn a_token_that_expires_ends_nothing_that_is_up() {
    let server = Options::default().dev().faults().start();
    let made = server.api().post("/users/me/keys/tokens", &json!({"token_name": "short"}));
    let client = server.as_user(made["key"].as_str().unwrap());
    let mut echo = Echo::start(&client, "dev");
    let key = client.token.split('-').next().unwrap().to_owned();
    server.api().put(&format!("/users/me/keys/{key}/expire"), &Value::Null);
    server.faults().say(&json!({"cut_streams": {"path": "/api/v2/workspaces/"}}));
    echo.running.wait_for("the session token is refused now; the tunnel stays up");
    echo.answers("still there");
    echo.ends();
    client.run(&["ssh", "dev", "--", "true"]).ends(200);
}

#[test]
fn a_first_answer_that_fails_is_asked_for_again() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    for status in [429, 500, 502, 503] {
        let fault = json!({"path": "/api/v2/users/me/workspace", "status": status, "times": 2});
        let fault = faults.arm(json!({"answer": fault}));
        server.run(&["ssh", "dev", "--", "exit 7"]).ends(7);
        assert_eq!(faults.hits(fault), 2);
        faults.disarm(fault);
    }
    let local = {
        // An agent whose first calls fail comes up all the same.
        let method = json!({"method": "UpdateStartup", "times": 2, "drop_session": true});
        faults.arm(json!({"fail_call": method}));
        let remote = format!("127.0.0.1:0:{}", service(reverse));
        let mut forward = server.background(&["port-forward", "dev", "--tcp", &remote]);
        let local = local_port(&forward.wait_for("Forwarding"));
        forward.wait_for("Ready!");
        server.run(&["restart", "dev", "-y"]).ends(0);
        assert_eq!(ask(local, b"abc"), b"cba");
        local
    };
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, local)).is_err(), "its forward is gone");
}
