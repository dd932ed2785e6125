//! A deployment that lasts as long as one command.

use std::process::Command;

use tempfile::TempDir;

use crate::support::{Seen, coderctl, run};

/// `coderctl demo WORDS`, with a home and a directory for temporary files that are looked at afterwards.
struct Demo {
    home: TempDir,
}

impl Demo {
    fn new() -> Self {
        Self { home: TempDir::new().unwrap() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = coderctl(self.home.path());
        command.arg("demo").args(words).env("TMPDIR", self.home.path());
        command
    }

    fn run(&self, words: &[&str]) -> Seen {
        let seen = run(&mut self.command(words));
        let left: Vec<_> = std::fs::read_dir(self.home.path()).unwrap().collect();
        assert!(left.is_empty(), "something is left: {left:?}");
        seen
    }
}

#[test]
fn a_command_runs_in_the_workspace_and_nothing_is_left() {
    let seen = Demo::new().run(&["ssh", "--", "echo out; echo err >&2; exit 7"]).ends(7);
    assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_workspace_is_a_place_of_its_own() {
    let seen =
        Demo::new().run(&["ssh", "--", "echo $CODER $CODER_WORKSPACE_NAME; cd; pwd"]).ends(0);
    let (first, home) = seen.stdout.split_once('\n').unwrap();
    assert_eq!(first, "true dev");
    assert!(home.contains("coderctl-demo"), "{home}");
}

#[test]
fn a_command_under_a_forward_reaches_the_web_service_inside() {
    let script = "exec 3<>/dev/tcp/127.0.0.1/$CODERCTL_PORT; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; \
                  cat <&3; exit 9";
    let arguments = ["port-forward", "--tcp", "0:80", "--", "bash", "-c", script];
    let seen = Demo::new().run(&arguments).ends(9);
    assert!(seen.stdout.starts_with("HTTP/1.0 200 OK\r\n"), "{seen:?}");
    assert!(seen.stdout.contains("coderctl demo"), "{seen:?}");
}

#[test]
fn a_forward_that_would_lead_to_itself_is_refused() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let seen = Demo::new().run(&["port-forward", "--tcp", &port]).ends(210);
    assert!(seen.stderr.contains("is a listener of this very forward"), "{seen:?}");
}

#[test]
fn other_commands_see_the_demo_too() {
    let seen = Demo::new().run(&["list", "-o", "json"]).ends(0);
    let list: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(list[0]["name"], "dev");
    assert_eq!(list[0]["status"], "running");
    Demo::new().run(&["stop", "-y"]).ends(0);
    Demo::new().run(&["restart", "-y"]).ends(0);
    Demo::new().run(&["delete", "-y"]).ends(0);
    Demo::new().run(&["login"]).ends(2);
    Demo::new().run(&["ssh", "other", "--", "true"]).ends(201);
}

#[test]
fn a_login_is_neither_used_nor_touched() {
    let demo = Demo::new();
    let mut command = demo.command(&["ssh", "--", "true"]);
    command.env("CODER_URL", "http://127.0.0.1:1").env("CODER_SESSION_TOKEN", "wrong");
    run(&mut command).ends(0);
    assert!(!demo.home.path().join(".config").exists());
}
