//! `ssh`: forwards beside a session, the authentication agent, escapes, what editors ask for.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
    process::Stdio,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Running, Server, ask, has, local_port, reverse, service, until};

/// A command that says when it runs, and goes on until it is told to end.
const LASTING: &str = "echo up >&2; exec cat";

#[test]
fn forwards_beside_a_command_are_ready_with_it_and_end_with_it() {
    let server = Server::with_dev();
    let port = service(reverse);
    let local = format!("127.0.0.1:0:127.0.0.1:{port}");
    let remote = format!("127.0.0.1:0:127.0.0.1:{port}");
    let mut command =
        server.command(&["ssh", "dev", "-L", &local, "-R", &remote, "-D", "0", "--", LASTING]);
    let mut session = Running::start(command.stdin(Stdio::piped()));
    let there = local_port(&session.wait_for("locally to 'tcp://127.0.0.1:"));
    session.wait_for("Forwarding 'socks5://");
    // The workspace is on this host, and so is the listener there.
    let back = local_port(&session.wait_for("in the workspace to"));
    session.wait_for("up");
    for port in [there, back] {
        assert_eq!(ask(port, b"abc"), b"cba");
    }
    session.signal(Signal::TERM);
    let (code, said) = session.finish();
    assert_eq!(code, Some(143), "{said}");
    assert!(!said.contains("Ready!"), "{said}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", there)).is_err(), "it ended with it");
}

#[test]
fn forwards_with_ports_of_their_own_are_silent() {
    let server = Server::with_dev();
    let socket = server.home.path().join("here.sock");
    let socket = socket.to_str().unwrap();
    let forward = format!("{socket}:127.0.0.1:{}", service(reverse));
    let line = ["ssh", "dev", "-L", &forward, "--", "echo done"];
    server.run(&line).ends(0).prints("done\n").says_nothing();
    // A listener that cannot be had is found out before anything is done.
    std::fs::write(socket, "").unwrap();
    server.run(&line).ends(210).says("no socket");
    // One in the workspace, before the command runs.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = format!("127.0.0.1:{}:127.0.0.1:80", taken.local_addr().unwrap().port());
    let seen = server.run(&["ssh", "dev", "-R", &spec, "--", "echo never"]).ends(211).prints("");
    assert!(seen.stderr.contains("in the workspace: the SSH server refused"), "{seen:?}");
}

#[test]
fn forwards_alone() {
    let server = Server::with_dev();
    let spec = format!("0:127.0.0.1:{}", service(reverse));
    let mut forward = server.background(&["ssh", "-N", "dev", "-L", &spec]);
    let port = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    assert_eq!(ask(port, b"abc"), b"cba");
    forward.signal(Signal::INT);
    assert_eq!(forward.finish().0, Some(0));
}

/// Answers `agent` to whatever comes.
fn authentication_agent(server: &Server) -> PathBuf {
    let path = server.home.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut question = [0; 5];
            connection.read_exact(&mut question).unwrap();
            // SSH_AGENT_IDENTITIES_ANSWER, none (draft-ietf-sshm-ssh-agent section 3.5).
            connection.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).unwrap();
        }
    });
    path
}

#[test]
fn programs_there_ask_the_authentication_agent_here_if_they_may() {
    let server = Server::with_dev();
    if !has("ssh-add") {
        return;
    }
    let socket = authentication_agent(&server);
    let run = |flags: &[&str], socket: &str| {
        let line = [&["ssh", "dev"], flags, &["--", "ssh-add -l"]].concat();
        let mut command = server.command(&line);
        crate::support::run(command.env("SSH_AUTH_SOCK", socket))
    };
    let here = socket.to_str().unwrap();
    run(&["-A"], here).ends(1).prints("The agent has no identities.\n");
    run(&["-A", "--identity-agent", here], "/nowhere").ends(1).says_nothing();
    run(&[], here).ends(2).says("Could not open a connection");
    run(&["-A"], "").ends(2).says("SSH_AUTH_SOCK is not set");
    // One that is not there fails that question only. (`ssh-add` ends as it finds its socket closed:
    // before it asked, while it asks, or after; the shell around it does not care.)
    let line = ["ssh", "dev", "-A", "--", "ssh-add -l || echo unanswered"];
    let mut command = server.command(&line);
    let seen = crate::support::run(command.env("SSH_AUTH_SOCK", "/nowhere"));
    seen.ends(0).prints("unanswered\n");
}

#[test]
fn variables_come_from_files_too() {
    let server = Server::with_dev();
    let file = server.home.path().join("env");
    std::fs::write(&file, "# mine\nA=of the file\nB=kept\n").unwrap();
    let file = file.to_str().unwrap();
    let line = ["ssh", "dev", "--env-file", file, "-e", "A=typed", "--", "echo $A, $B"];
    server.run(&line).ends(0).prints("typed, kept\n");
}

#[test]
fn a_shell_without_a_terminal_is_a_pipe() {
    let server = Server::with_dev();
    server
        .feed(&["ssh", "-T", "dev"], b"test -t 0 || echo pipe; exit 4\n")
        .ends(4)
        .prints("pipe\n");
}

#[test]
fn an_escape_ends_a_session_on_a_terminal() {
    let server = Server::with_dev();
    let mut terminal = server.terminal(&["ssh", "dev"], (24, 80));
    terminal.types("echo a-$((40+2))\n");
    terminal.wait_for("a-42");
    terminal.types("~?");
    terminal.wait_for("end the connection");
    terminal.types("~.");
    terminal.wait_for("Connection closed");
    assert_eq!(terminal.finish(), Some(255));
    // Another one, or none.
    let mut terminal = server.terminal(&["ssh", "dev", "--escape-char", "%"], (24, 80));
    terminal.types("echo ~.-$((40+3))\n");
    terminal.wait_for("~.-43");
    terminal.types("%.");
    assert_eq!(terminal.finish(), Some(255));
    let mut terminal = server.terminal(&["ssh", "dev", "--escape-char=none"], (24, 80));
    terminal.types("~. 2>/dev/null; echo still-$((40+4)); exit 6\n");
    terminal.wait_for("still-44");
    assert_eq!(terminal.finish(), Some(6));
}

/// What the test program is to its children.
fn file_of_parent(directory: &std::path::Path) -> PathBuf {
    directory.join(format!("{}.json", std::process::id()))
}

#[test]
fn editors_read_how_the_tunnel_is() {
    let server = Server::with_dev();
    let directory = server.home.path().join("deep/info");
    let line = [
        "ssh",
        "dev",
        "--network-info-dir",
        directory.to_str().unwrap(),
        "--network-info-interval",
        "20ms",
        "--",
        "head -c 3000000 /dev/zero; echo up >&2; exec cat",
    ];
    let mut command = server.command(&line);
    let mut session = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
    session.wait_for("up");
    let file = file_of_parent(&directory);
    let info = until("the file", || {
        let info: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).unwrap();
        // Only what is measured has a round trip of its own.
        (info["latency"].as_f64()? > 0.0).then_some(info)
    });
    let keys: Vec<_> = info.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "derp_latency",
            "download_bytes_sec",
            "latency",
            "p2p",
            "preferred_derp",
            "upload_bytes_sec",
            "using_coder_connect"
        ]
    );
    let home = info["preferred_derp"].as_str().unwrap();
    assert!(!home.is_empty() && info["derp_latency"][home].as_f64().unwrap() > 0.0, "{info}");
    assert_eq!(info["using_coder_connect"], false);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    session.signal(Signal::TERM);
    assert_eq!(session.finish().0, Some(143));
    // Nowhere to write to.
    let line = ["ssh", "dev", "--network-info-dir", "/dev/null/info", "--", "true"];
    server.run(&line).ends(210).says("cannot write the network info");
}

#[test]
fn older_editors_have_a_command_of_their_own() {
    let server = Server::with_dev();
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (url, token) = (file("url", &server.url), file("token", &format!("{}\n", server.token)));
    let info = place.path().join("info");
    let logs = place.path().to_str().unwrap();
    let line = [
        "vscodessh",
        "--network-info-dir",
        info.to_str().unwrap(),
        "--session-token-file",
        &token,
        "--url-file",
        &url,
        "--log-dir",
        logs,
        "coder-vscode--me--dev",
    ];
    let mut command = server.command(&line);
    command.env_remove("CODER_URL").env_remove("CODER_SESSION_TOKEN");
    let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 8];
    session.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    session.kill().unwrap();
    session.wait().unwrap();
    assert_eq!(&said, b"SSH-2.0-");
    assert!(place.path().join(format!("{}.log", std::process::id())).exists());
}

#[test]
fn a_named_session_is_come_back_to() {
    let server = Server::with_dev();
    let line = ["ssh", "dev", "--session", "work"];
    let mut terminal = server.terminal(&line, (24, 80));
    // A shell that sets up its terminal may miss what is typed meanwhile.
    terminal.types_until("KEPT=$((40+2)); echo set-$KEPT\n", "set-42");
    terminal.types("\n~.");
    terminal.wait_for("left the session");
    assert_eq!(terminal.finish(), Some(0));
    // The last of it is shown again, and it is the same shell.
    let mut terminal = server.terminal(&line, (30, 100));
    terminal.wait_for("set-42");
    terminal.types("echo still-$KEPT-$(stty size | tr ' ' x)\n");
    terminal.wait_for("still-42-30x100");
    terminal.types("exit\n");
    assert_eq!(terminal.finish(), Some(0));
    let mut terminal = server.terminal(&line, (24, 80));
    terminal.types_until("echo new-${KEPT:-one}; exit\n", "new-one");
    assert_eq!(terminal.finish(), Some(0));
}

#[test]
fn the_status_of_a_named_session_is_its_programs() {
    let server = Server::with_dev();
    for (does, status) in [("exit $a", 7), ("kill -TERM $$", 143)] {
        let command = format!("echo up; read a; {does}");
        let line = ["ssh", "dev", "--session", "work", "--", &command];
        let mut terminal = server.terminal(&line, (24, 80));
        terminal.wait_for("up");
        terminal.types("7\n");
        assert_eq!(terminal.finish(), Some(status));
    }
    // A script's too, which has no input.
    let line = ["ssh", "dev", "--session", "job", "--", "echo done; exit 4"];
    server.run(&line).ends(4).prints("done\r\n").says_nothing();
}

#[test]
fn sessions_are_listed_while_their_programs_run() {
    let server = Server::with_dev();
    let list = ["sessions", "dev", "-o", "json"];
    let listed = || -> Value { serde_json::from_slice(&server.run(&list).ends(0).bytes).unwrap() };
    server.run(&["sessions", "dev"]).ends(0).prints("").says("No sessions found");
    server.run(&list).ends(0).prints("[]\n");
    let line = ["ssh", "dev", "--session", "work", "--", "echo up; read a"];
    let mut terminal = server.terminal(&line, (24, 80));
    terminal.wait_for("up");
    let seen = listed();
    assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
    assert_eq!((&seen[0]["name"], &seen[0]["attached"]), (&"work".into(), &1.into()), "{seen}");
    assert_eq!(seen[0]["command"], "echo up; read a", "{seen}");
    assert_eq!(seen[0]["id"], "776f726b-0000-0000-0000-000000000000", "{seen}");
    terminal.types("~.");
    assert_eq!(terminal.finish(), Some(0));
    // The agent has to hear of it.
    until("nobody looks at it", || (listed()[0]["attached"] == 0).then_some(()));
    let table = server.run(&["sessions", "dev"]).ends(0).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAME  ATTACHED  CREATED"), "{table}");
    assert!(
        lines[1].starts_with("work  0 ") && lines[1].ends_with("Z  echo up; read a"),
        "{table}"
    );
    let mut terminal = server.terminal(&line, (24, 80));
    terminal.wait_for("up");
    terminal.types("x\n");
    assert_eq!(terminal.finish(), Some(0));
    server.run(&list).ends(0).prints("[]\n");
    server.run(&["stop", "dev", "-y"]).ends(0);
    server.run(&["sessions", "dev"]).ends(203);
}
