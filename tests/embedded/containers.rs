//! `ssh --container`, with a `docker` that is a script.

use std::{
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::Server;

/// One container that runs, `web`, and one that does not. What is run there runs here, and knows
/// where it is by its variables.
const DOCKER: &str = r#"#!/bin/sh
case "$1" in
ps) echo aa; echo bb;;
inspect)
    WEB='{"Id": "aa", "Name": "/web", "Created": "2026-01-02T03:04:05Z", "State": {"Running": true},
        "Config": {"Labels": {"devcontainer.metadata": "[{\"remoteEnv\": {\"KIND\": \"dev\"}}]"}}}'
    DB='{"Id": "bb", "Name": "/db", "Created": "2026-01-02T03:04:05Z",
        "State": {"Running": false, "ExitCode": 3}, "Config": {}}'
    case "$*" in
    *"aa bb") printf '[%s, %s]' "$WEB" "$DB";;
    *) printf '[%s]' "$WEB";;
    esac;;
exec)
    shift
    IN=none; AS=nobody; TTY=no
    while :; do
        case "$1" in
        --interactive) shift;;
        --tty) TTY=yes; shift;;
        --user) AS=$2; shift 2;;
        --workdir) shift 2;;
        --env) export "$2"; shift 2;;
        *) IN=$1; shift; break;;
        esac
    done
    export IN AS TTY
    case "$*" in
    whoami) echo ann;;
    "cat /etc/passwd") echo "ann:x:7:7::/tmp:/bin/sh"; echo "root:x:0:0::/:/bin/sh";;
    *) exec "$@";;
    esac;;
esac
"#;

/// A workspace `dev` that finds this `docker`.
fn server(directory: &Path) -> Server {
    let docker = directory.join("docker");
    // Written by another process: nobody who forks here meanwhile holds it open for writing.
    let written = Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$0\""])
        .arg(&docker)
        .arg(DOCKER)
        .status()
        .unwrap();
    assert!(written.success());
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::empty();
    let path = directory.display();
    let text =
        format!("[[agents]]\nname = \"main\"\nenvironment = {{ PATH = \"{path}:$PATH\" }}\n");
    server.create("dev", &text);
    server
}

#[test]
fn a_session_in_a_container_of_the_workspace() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path());
    let say = "echo $IN $AS $TTY $KIND $SAID $(pwd >/dev/null; cat)";
    let seen = server.feed(&["ssh", "dev", "-c", "web", "-e", "SAID=hi", "--", say], b"input");
    seen.ends(0).prints("web ann no dev hi input\n");
    // By its id, as somebody else; the status is the program's.
    let line = ["ssh", "dev", "-c", "aa", "--container-user", "root", "--", "echo $IN $AS; exit 7"];
    server.run(&line).ends(7).prints("aa root\n");
    // A shell has a terminal there.
    let mut terminal = server.terminal(&["ssh", "dev", "-c", "web"], (24, 80));
    terminal.types_until("echo in-$IN-$TTY-$TERM\n", "in-web-yes-xterm");
    terminal.types("exit 5\n");
    assert_eq!(terminal.finish(), Some(5));
    // And so has a named session.
    let line =
        ["ssh", "dev", "-c", "web", "--session", "work", "--", "echo in-$IN; read a; exit $a"];
    let mut terminal = server.terminal(&line, (24, 80));
    terminal.wait_for("in-web");
    terminal.types("6\n");
    assert_eq!(terminal.finish(), Some(6));
}

#[test]
fn a_container_that_is_not_there_is_refused_with_those_that_are() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path());
    for line in [&["ssh", "dev", "-c", "we"][..], &["ssh", "dev", "-c", "we", "--session", "w"]] {
        let seen = server.run(line).ends(211).prints("");
        let seen = seen.says("error: there is no container `we` in the workspace\n");
        seen.says("there is: `db`, `web`");
    }
    let seen = server.run(&["ssh", "dev", "-c", "db", "--", "true"]).ends(211).prints("");
    seen.says("container `db` of the workspace does not run: `exited with code 3`");
    // OpenSSH's way asks for none.
    let mut command = server.command(&["ssh", "--stdio", "-c", "nowhere", "dev"]);
    let mut session = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 8];
    session.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    session.kill().unwrap();
    session.wait().unwrap();
    assert_eq!(&said, b"SSH-2.0-");
}

#[test]
fn a_workspace_without_docker_says_so() {
    let server = Server::empty();
    let text = "[[agents]]\nname = \"main\"\nenvironment = { PATH = \"/nowhere\" }\n";
    server.create("dev", text);
    let seen = server.run(&["ssh", "dev", "-c", "web", "--", "true"]).ends(211);
    seen.says("the agent does not list its containers: Could not get containers: docker ps: ");
}
