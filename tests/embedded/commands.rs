//! The small commands, against a deployment: what somebody does in between.

use crate::support::{Options, Server, feed, run};

/// One agent whose start script says something and waits for a file.
const SLOW: &str = r#"
[[agents]]
name = "main"

[[agents.scripts]]
name = "Setup"
run = "echo begun; while ! test -e go; do sleep 0.05; done; echo done"
"#;

#[test]
fn a_login_and_its_end() {
    let server = Server::empty();
    let logged_in = |arguments: &[&str]| {
        let mut command = server.command(arguments);
        command.env_remove("CODER_URL").env_remove("CODER_SESSION_TOKEN");
        command
    };
    run(&mut logged_in(&["whoami"])).ends(200);
    let token = format!("{}\n", server.token);
    feed(&mut logged_in(&["login", &server.url, "--token-stdin"]), token.as_bytes()).ends(0);
    let seen = run(&mut logged_in(&["whoami", "-o", "json"])).ends(0);
    let user: serde_json::Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(user[0]["url"], server.url.trim_end_matches('/'));
    let config = server.home.path().join(".config/coderv2");
    let session = std::fs::read_to_string(config.join("session")).unwrap();
    assert_ne!(session, server.token);
    run(&mut logged_in(&["logout"])).ends(0).says("You are no longer logged in to");
    run(&mut logged_in(&["whoami"])).ends(200);
    // The session is over at the deployment, too; the token that made it is not.
    let mut command = server.command(&["whoami"]);
    run(command.env("CODER_SESSION_TOKEN", session)).ends(200);
    server.run(&["whoami"]).ends(0);
}

#[test]
fn states_are_waited_for_and_logs_followed() {
    let server = Options::default().faults().start();
    let file = server.template_file("slow", SLOW);
    let mut faults = server.faults();
    let held = faults.hold("start");
    server.run(&["create", "slow", "--template", &file, "--no-wait"]).ends(0);
    let mut started = server.background(&["wait", "slow", "--for", "started"]);
    let ready = server.background(&["wait", "slow", "--for", "agent-ready", "-o", "json"]);
    started.wait_for("to be started");
    server
        .run(&["wait", "slow", "--for", "connected", "--timeout", "100ms"])
        .ends(207)
        .says("was not connected within 100ms: ");
    faults.disarm(held);
    let (code, said) = started.finish();
    assert_eq!(code, Some(0), "{said}");
    server.run(&["wait", "slow", "--for", "connected"]).ends(0);
    server.run(&["wait", "slow", "--timeout", "100ms"]).ends(207);
    std::fs::write(server.file("slow", "go"), "").unwrap();
    let (code, said) = ready.finish();
    assert_eq!(code, Some(0), "{said}");
    let seen = server.run(&["logs", "slow.main"]).ends(0);
    assert!(seen.stdout.contains("[agent.main|Setup] [info] begun\n"), "{seen:?}");
    // It goes on until the workspace is built anew.
    let follow =
        server.command(&["logs", "slow", "-f"]).stdout(std::process::Stdio::piped()).spawn();
    let mut follow = follow.unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    let mut until = |what: &str| lines.any(|line| line.unwrap().ends_with(what));
    assert!(until("[agent.main|Setup] [info] done"));
    let stopped = server.background(&["wait", "slow", "--for", "stopped"]);
    server.run(&["stop", "slow", "-y"]).ends(0);
    assert_eq!(stopped.finish().0, Some(0));
    assert_eq!(follow.wait().unwrap().code(), Some(0));
    let deleted = server.background(&["wait", "slow", "--for", "deleted"]);
    server.run(&["delete", "slow", "-y"]).ends(0);
    assert_eq!(deleted.finish().0, Some(0));
    server.run(&["wait", "slow"]).ends(201);
}

#[test]
fn what_cannot_come_any_more_is_not_waited_for() {
    let server = Server::empty();
    let script =
        "[[agents]]\nname = \"main\"\n[[agents.scripts]]\nname = \"Setup\"\nrun = \"exit 3\"";
    server.create("sad", script);
    server.run(&["wait", "sad"]).ends(206).says("a start script of workspace `sad` failed");
    server.run(&["wait", "sad", "--for", "connected"]).ends(0);
    server.run(&["wait", "sad.other"]).ends(202).says("there are: main");
    let failure = "[[failures]]\ntransition = \"start\"\nbuild = 1\nerror = \"no capacity left\"";
    let file = server.template_file("broken", &format!("[[agents]]\nname = \"main\"\n{failure}"));
    server.run(&["create", "broken", "--template", &file]).ends(204);
    server.run(&["wait", "broken", "--for", "started"]).ends(204).says("no capacity left");
}
