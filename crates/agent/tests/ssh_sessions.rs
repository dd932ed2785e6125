//! Sessions, with our own client, in memory. The names of the agent's tests upstream are given
//! where there is one (`agent/agent_test.go`, `agent/agentssh/agentssh_test.go`).

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod ssh_common;

use std::time::Duration;

use coderctl_agent::ssh::{Blocks, SessionEnvironment, SessionKind, Settings};
use coderctl_ssh::{Error, Exit, Options, Request, Session};
use ssh_common::{Agent, Told, exec, is_alive, on_terminal, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn shell() -> Options {
    Options::new(Request::Shell)
}

/// Reads until this has come.
async fn read_until(session: &mut Session, expected: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.contains(expected) {
            let chunk = session.stdout.chunk().await.unwrap();
            let chunk = chunk.unwrap_or_else(|| panic!("it ended at {text:?}"));
            text += &String::from_utf8_lossy(&chunk);
        }
    };
    within(read).await;
    text
}

/// `SessionExec`, `ClosesStdin`
#[tokio::test]
async fn a_command_has_its_streams_and_status() {
    let agent = Agent::new();
    let (_client, mut session) = agent.open(exec("cat; echo $GREETING >&2; exit 7")).await;
    session.stdin.write_all(b"in\0\xff\r\n").await.unwrap();
    session.stdin.shutdown().await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    within(session.stdout.read_to_end(&mut out)).await.unwrap();
    within(session.stderr.read_to_end(&mut err)).await.unwrap();
    assert_eq!((&out[..], &err[..]), (&b"in\0\xff\r\n"[..], &b"\n"[..]));
    assert_eq!(within(session.exit()).await, Exit::Status(7));
}

/// `Session_EnvironmentVariables`, `CoderEnvVars`, `SSHConnectionEnvVars`,
/// `SSHConnectionLoginVars`, `Session_SecretInjection`
#[tokio::test]
async fn variables_have_their_precedence() {
    let agent = Agent::with(Settings::default(), |environment| SessionEnvironment {
        vscode_proxy_uri: Some("https://example.test".into()),
        variables: vec![
            ("FROM_THE_MANIFEST".into(), "<$FROM_THE_AGENT>".into()),
            ("MINE".into(), "manifest".into()),
            ("SECRET".into(), "manifest".into()),
        ],
        secrets: vec![("SECRET".into(), "$HOME".into())],
        script_bin_dir: Some("/opt/scripts".into()),
        ..environment
    });
    let pairs = [
        ("MINE", "client"),
        ("YOURS", "client"),
        ("FROM_THE_AGENT", "client"),
        ("CODER", "client"),
        ("CODER_CONTAINER", ""),
        ("CODER_CONTAINER_USER", "client"),
        ("CODER_SSH_SESSION_TYPE", "vscode"),
        ("TERM", "client"),
    ];
    let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let (out, _, exit) = agent.output(Options { env, ..exec("env") }).await;
    assert_eq!(exit, Exit::Status(0));
    let lines: Vec<&str> = out.lines().collect();
    for line in [
        "CODER=true",
        "CODER_WORKSPACE_NAME=dev",
        "CODER_WORKSPACE_AGENT_NAME=main",
        "CODER_WORKSPACE_OWNER_NAME=me",
        "CODER_WORKSPACE_ID=6a2d5c1e-0000-0000-0000-000000000000",
        "CODER_AGENT_TOKEN=hush",
        "VSCODE_PROXY_URI=https://example.test",
        "FROM_THE_MANIFEST=<agent>",
        "FROM_THE_AGENT=client",
        "MINE=manifest",
        "YOURS=client",
        "SECRET=$HOME",
        "SSH_CLIENT=0.0.0.0 0 0",
        "SSH_CONNECTION=0.0.0.0 0 0.0.0.0 0",
    ] {
        assert!(lines.contains(&line), "{line} in {out}");
    }
    for name in ["USER=", "LOGNAME=", "SHELL=/", "PATH=/opt/scripts:"] {
        assert!(lines.iter().any(|line| line.starts_with(name)), "{name} in {out}");
    }
    for name in ["CODER_CONTAINER", "CODER_SSH_SESSION_TYPE=", "GIT_SSH_COMMAND=", "SSH_TTY="] {
        assert!(!lines.iter().any(|line| line.starts_with(name)), "{name} in {out}");
    }
}

/// `SessionTTYShell`
#[tokio::test]
async fn a_shell_on_a_terminal() {
    let agent = Agent::new();
    let (_client, mut session) = agent.open(on_terminal(shell())).await;
    let typed = b"echo [$TERM]; test $SSH_TTY = $(tty) && echo same-$((6*7)); stty size\n";
    session.stdin.write_all(typed).await.unwrap();
    let text = read_until(&mut session, "31 97").await;
    assert!(text.contains("[xterm-256color]") && text.contains("same-42"), "{text}");
    session.control.window_change(61, 17);
    session.stdin.write_all(b"stty size\n").await.unwrap();
    read_until(&mut session, "17 61").await;
    session.stdin.write_all(b"exit 5\n").await.unwrap();
    assert_eq!(within(session.exit()).await, Exit::Status(5));
}

/// `SessionTTYExitCode`
#[tokio::test]
async fn a_command_that_is_not_found_has_127() {
    let agent = Agent::new();
    let (out, _, exit) = agent.output(on_terminal(exec("definitely-not-a-command"))).await;
    assert_eq!(exit, Exit::Status(127), "{out}");
    let (_, err, exit) = agent.output(exec("definitely-not-a-command")).await;
    assert_eq!(exit, Exit::Status(127));
    assert!(err.contains("not found"), "{err}");
}

/// `Session_TTY_FastCommandHasOutput`
#[tokio::test]
async fn the_output_of_a_fast_command_is_there() {
    let agent = Agent::new();
    for round in 0..20 {
        let (out, _, exit) = agent.output(on_terminal(exec(&format!("echo {round}")))).await;
        assert_eq!((&out[..], exit), (&format!("{round}\r\n")[..], Exit::Status(0)));
        let (out, err, _) = agent.output(exec(&format!("echo {round}; echo e >&2"))).await;
        assert_eq!((&out[..], &err[..]), (&format!("{round}\n")[..], "e\n"));
    }
}

/// `Session_TTY_HugeOutputIsNotLost`
#[tokio::test]
async fn huge_output_is_not_lost() {
    const MUCH: usize = 4 << 20;
    let agent = Agent::new();
    let command = format!("head -c {MUCH} /dev/zero | tr '\\0' x");
    for options in [exec(&command), on_terminal(exec(&command))] {
        let (out, _, exit) = agent.output(options).await;
        assert_eq!((out.len(), exit), (MUCH, Exit::Status(0)));
        assert!(out.bytes().all(|byte| byte == b'x'));
    }
}

/// A terminal that somebody in the background keeps open does not hold the session.
#[tokio::test]
async fn a_session_ends_with_its_program() {
    let agent = Agent::new();
    let command = "trap '' HUP; sleep 1000 & echo $!";
    let (out, _, exit) = agent.output(on_terminal(exec(command))).await;
    assert_eq!(exit, Exit::Status(0));
    assert!(is_alive(out.trim()), "{out}");
    let status = std::process::Command::new("kill").arg(out.trim()).status().unwrap();
    assert!(status.success());
}

/// `Session_TTY_MOTD`, `Session_TTY_MOTD_Update`, `Session_TTY_QuietLogin`
#[tokio::test]
async fn a_login_is_greeted_unless_it_asked_for_silence() {
    let motd = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(motd.path(), "Message of\nthe day\n").unwrap();
    let with = |environment: SessionEnvironment, banners: &[&str]| SessionEnvironment {
        motd_file: motd.path().to_str().unwrap().into(),
        banners: banners.iter().map(|&banner| banner.to_owned()).collect(),
        ..environment
    };
    let agent = Agent::with(Settings::default(), |environment| with(environment, &["First\n"]));
    let greeted = async |agent: &Agent, options: Options| {
        let (_client, mut session) = agent.open(options).await;
        session.stdin.write_all(b"echo up-$((6*7)); exit\n").await.unwrap();
        let text = read_until(&mut session, "up-42").await;
        assert_eq!(within(session.exit()).await, Exit::Status(0));
        text
    };
    let text = greeted(&agent, on_terminal(shell())).await;
    assert!(text.starts_with("First\r\n\r\nMessage of\r\nthe day\r\n"), "{text:?}");
    // New ones are for new sessions.
    agent.server.set_environment(with(ssh_common::environment(), &["Second"]));
    let text = greeted(&agent, on_terminal(shell())).await;
    assert!(text.starts_with("Second\r\n\r\nMessage of\r\n"), "{text:?}");
    // Not without a terminal, not for a command.
    assert!(greeted(&agent, shell()).await.starts_with("up-42"));
    let (text, ..) = agent.output(on_terminal(exec("true"))).await;
    assert_eq!(text, "");
    std::fs::write(agent.path(".hushlogin"), "").unwrap();
    let text = greeted(&agent, on_terminal(shell())).await;
    assert!(text.starts_with("Second\r\n\r\n") && !text.contains("Message of"), "{text:?}");
}

/// `Stats_Magic`, and the connection reports
#[tokio::test]
async fn sessions_are_told_of() {
    let mut agent = Agent::new();
    for (said, kind) in [
        (None, SessionKind::Ssh),
        (Some("VSCode"), SessionKind::VsCode),
        (Some("jetbrains"), SessionKind::JetBrains),
        (Some("emacs"), SessionKind::Unknown),
    ] {
        let env = said.map(|said| ("CODER_SSH_SESSION_TYPE".to_owned(), said.to_owned()));
        let options = Options { env: env.into_iter().collect(), ..exec("env; exit 3") };
        let (out, _, exit) = agent.output(options).await;
        assert_eq!(exit, Exit::Status(3));
        assert!(!out.contains("CODER_SSH_SESSION_TYPE"));
        let Some(Told::Connected(connection)) = within(agent.told.recv()).await else {
            panic!("nothing was told");
        };
        assert_eq!(connection.kind, kind);
        let reason = "the program ended with status 3".to_owned();
        let end = Told::Disconnected(connection, 3, reason);
        assert_eq!(within(agent.told.recv()).await, Some(end));
    }
}

/// `Signal`, on pipes and on a terminal
#[tokio::test]
async fn signals_reach_what_the_shell_waits_for() {
    let agent = Agent::new();
    let traps = "trap 'echo caught; exit 42' INT; echo up; while :; do sleep 0.05; done";
    for options in [exec(traps), on_terminal(exec(traps))] {
        let (_client, mut session) = agent.open(options).await;
        read_until(&mut session, "up").await;
        session.control.signal("INT");
        read_until(&mut session, "caught").await;
        assert_eq!(within(session.exit()).await, Exit::Status(42));
    }
    // Killed alone, the shell would leave behind who holds its streams.
    for (signal, name) in [("TERM", "TERM"), ("USR2", "USR2"), ("NONSENSE", "KILL")] {
        let (_client, mut session) = agent.open(exec("echo up; sleep 1000; echo never")).await;
        read_until(&mut session, "up").await;
        session.control.signal(signal);
        let exit = within(session.exit()).await;
        let Exit::Signal { name: told, .. } = &exit else { panic!("{exit:?}") };
        assert_eq!(told, name);
    }
}

/// A signal that comes before the program is not lost.
#[tokio::test]
async fn a_program_that_kills_itself_is_told_by_its_signal() {
    let agent = Agent::new();
    let (_, _, exit) = agent.output(exec("kill -SEGV $$")).await;
    assert!(matches!(&exit, Exit::Signal { name, .. } if name == "SEGV"), "{exit:?}");
}

/// `ExecuteShebang`
#[tokio::test]
async fn a_script_names_its_interpreter() {
    let agent = Agent::new();
    let out = agent.run("#!/bin/sh -e\necho one\necho two").await;
    assert_eq!(out, "one\ntwo\n");
    let out = agent.run("  #!/usr/bin/env python3\nimport sys; print(sys.argv)").await;
    assert_eq!(out, "['-c']\n");
}

#[tokio::test]
async fn sessions_begin_where_the_manifest_says() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap();
    let directory = path.to_str().unwrap().to_owned();
    let agent = Agent::with(Settings::default(), |environment| SessionEnvironment {
        directory: directory.clone(),
        ..environment
    });
    assert_eq!(agent.run("pwd").await.trim(), directory);
    drop(place);
    let home = agent.home.path().canonicalize().unwrap();
    assert_eq!(agent.run("pwd -P").await.trim(), home.to_str().unwrap());
}

#[tokio::test]
async fn a_session_that_cannot_be_set_up_says_why() {
    let agent = Agent::without_manifest(Settings::default());
    let (out, err, exit) = agent.output(exec("true")).await;
    assert_eq!((&out[..], exit), ("", Exit::Status(229)));
    assert!(err.contains("does not know its workspace yet"), "{err}");
    let agent = Agent::new();
    let (out, _, exit) = agent.output(on_terminal(exec("#!/nonexistent/shell\nx"))).await;
    assert_eq!(exit, Exit::Status(229));
    assert!(out.contains("cannot start the program"), "{out}");
    let (_, err, exit) = agent.output(exec("#!/nonexistent/shell\nx")).await;
    assert_eq!(exit, Exit::Status(229));
    assert!(err.contains("cannot start the program"), "{err}");
}

/// `FileTransferBlocked`
#[tokio::test]
async fn carrying_files_can_be_forbidden() {
    let agent = Agent::blocking(Blocks { file_transfer: true, ..Blocks::default() });
    for command in ["scp -t /tmp", "rsync --server .", "/usr/bin/nc h 1", "sftp"] {
        let (out, _, exit) = agent.output(exec(command)).await;
        let text = "\u{2}File transfer has been disabled.\n";
        assert_eq!((&out[..], exit), (text, Exit::Status(65)), "{command}");
    }
    let (out, _, exit) = agent.output(Options::new(Request::Subsystem("sftp".into()))).await;
    assert_eq!((&out[..], exit), ("", Exit::Status(65)));
    assert_eq!(agent.run("echo scp").await, "scp\n");
}

/// As with OpenSSH: who starts something in the background may leave.
#[tokio::test]
async fn a_program_on_pipes_outlives_its_client_and_hears_of_the_close() {
    // Where tests run, SIGHUP may be ignored, and shells cannot take that back. What is handled
    // here is back to its default in a child.
    let _handled = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let mut agent = Agent::new();
    let file = agent.path("ended");
    let script = format!(
        // Its streams lead nowhere when the client is gone, and shells have much to say.
        "exec 2>/dev/null; trap 'echo hangup > {0}; exit' HUP; echo $$; \
         while :; do sleep 0.05; done",
        file.display()
    );
    let (client, mut session) = agent.open(exec(&script)).await;
    let pid = read_until(&mut session, "\n").await;
    drop((client, session));
    while !matches!(within(agent.told.recv()).await, Some(Told::Disconnected(..))) {}
    agent.run("true").await;
    assert!(is_alive(&pid) && !file.exists());
    within(agent.server.close()).await;
    until("the process hears SIGHUP", || file.exists()).await;
    until("the process ends", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn a_program_on_a_terminal_ends_with_its_client() {
    let agent = Agent::new();
    // One that minds SIGHUP, one that does not.
    for script in ["echo $$; sleep 1000", "trap '' HUP; echo $$; sleep 1000"] {
        let (client, mut session) = agent.open(on_terminal(exec(script))).await;
        let pid = read_until(&mut session, "\n").await;
        assert!(is_alive(&pid));
        drop((client, session));
        until("the process ends", || !is_alive(&pid)).await;
    }
}

/// `CloseActiveConnections`
#[tokio::test]
async fn closing_ends_everything_without_a_status() {
    let mut agent = Agent::new();
    let (_one, idle) = agent.open(exec("cat")).await;
    let (_other, mut terminal) = agent.open(on_terminal(exec("echo $$; sleep 1000"))).await;
    let pid = read_until(&mut terminal, "\n").await;
    let began = std::time::Instant::now();
    within(agent.server.close()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    until("the process ends", || !is_alive(&pid)).await;
    for session in [&idle, &terminal] {
        let exit = within(session.exit()).await;
        assert!(matches!(exit, Exit::Lost(_)), "{exit:?}");
    }
    let mut ends = 0;
    while let Some(told) = within(agent.told.recv()).await {
        if let Told::Disconnected(_, code, reason) = told {
            assert_eq!((code, &reason[..]), (1, "the agent is shutting down"));
            ends += 1;
            if ends == 2 {
                break;
            }
        }
    }
    let late = within(coderctl_ssh::open(agent.connect(), exec("true"))).await;
    assert!(late.is_err(), "it is closed");
    within(agent.server.close()).await;
}

/// `CODER_AGENT_SSH_MAX_TIMEOUT`, below 3 s
#[tokio::test]
async fn a_short_limit_cuts_connections() {
    let max_timeout = Duration::from_millis(300);
    let agent = Agent::with(Settings { max_timeout, ..Settings::default() }, |e| e);
    let (_client, session) = agent.open(exec("cat")).await;
    let exit = within(session.exit()).await;
    assert!(matches!(exit, Exit::Lost(Error::Disconnected { .. })), "{exit:?}");
}

/// A window's worth of input that nobody reads, and the program ends all the same.
#[tokio::test]
async fn input_that_nobody_reads_holds_up_nothing() {
    let agent = Agent::new();
    let (_client, Session { mut stdin, mut stdout, control, .. }) =
        agent.open(exec("exec <&-; echo done")).await;
    let typing = tokio::spawn(async move { while stdin.write_all(&[0; 65536]).await.is_ok() {} });
    let mut text = String::new();
    within(stdout.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "done\n");
    assert_eq!(within(control.exit()).await, Exit::Status(0));
    within(typing).await.unwrap();
}

/// A client that does not read slows the program down, and nothing is lost.
#[tokio::test]
async fn output_that_nobody_reads_waits() {
    const MUCH: usize = 8 << 20;
    let agent = Agent::new();
    let file = agent.path("written");
    let command = format!("head -c {MUCH} /dev/zero; touch {}", file.display());
    let (_client, Session { mut stdout, control, .. }) = agent.open(exec(&command)).await;
    agent.run("true").await;
    assert!(!file.exists(), "more was taken than fits into the window and a pipe");
    let mut bytes = Vec::new();
    within(stdout.read_to_end(&mut bytes)).await.unwrap();
    assert_eq!(bytes.len(), MUCH);
    assert_eq!(within(control.exit()).await, Exit::Status(0));
}
