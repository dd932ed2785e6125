//! Every state that a workspace can be in ends in a connection or in one error with its own code.

use std::io::Write;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Options, Server, id, token_of};

/// A workspace with one agent and this further text.
fn template(more: &str) -> String {
    format!("[[agents]]\nname = \"main\"\n{more}")
}

/// How many builds it took so far.
fn builds(server: &Server, workspace: &str) -> Value {
    server.api().workspace(workspace)["latest_build"]["build_number"].clone()
}

#[test]
fn one_that_is_being_stopped_is_waited_for_and_started() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    let held = faults.hold("stop");
    server.api().build("dev", "stop");
    server.api().in_status("dev", "stopping");
    let mut ssh = server.background(&["ssh", "dev", "--", "exit 7"]);
    ssh.wait_for("is being stopped; waiting for that, then starting it");
    faults.disarm(held);
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(7), "{said}");
    assert_eq!(builds(&server, "dev"), 3);
}

#[test]
fn one_that_is_being_stopped_stays_so_where_it_may_not_be_started() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    let held = faults.hold("stop");
    server.api().build("dev", "stop");
    server.api().in_status("dev", "stopping");
    // At most it is waited for; then it is stopped.
    let ssh = server.background(&["ssh", "--disable-autostart", "dev", "--", "true"]);
    faults.disarm(held);
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(203), "{said}");
    assert_eq!(builds(&server, "dev"), 2);
}

#[test]
fn commands_that_find_it_starting_join_that_build() {
    let server = Options::default().dev().faults().start();
    server.run(&["stop", "dev", "-y"]).ends(0);
    let mut faults = server.faults();
    let held = faults.hold("start");
    let mut first = server.background(&["ssh", "dev", "--", "exit 7"]);
    first.wait_for("Workspace was stopped, starting workspace");
    server.api().in_status("dev", "starting");
    let mut others: Vec<_> =
        (0..3).map(|_| server.background(&["ssh", "dev", "--", "exit 7"])).collect();
    let mut start = server.background(&["start", "dev"]);
    start.wait_for("has begun already");
    for other in &mut others {
        other.wait_for("Starting workspace dev");
    }
    faults.disarm(held);
    for ssh in others.into_iter().chain([first]) {
        let (code, said) = ssh.finish();
        assert_eq!(code, Some(7), "{said}");
    }
    assert_eq!(start.finish().0, Some(0));
    assert_eq!(builds(&server, "dev"), 3);
}

#[test]
fn commands_that_start_it_at_the_same_time_make_one_build() {
    let server = Options::default().dev().faults().start();
    server.run(&["stop", "dev", "-y"]).ends(0);
    let mut faults = server.faults();
    // Or it might be up before the last of them asks.
    let held = faults.hold("start");
    let mut all: Vec<_> =
        (0..4).map(|_| server.background(&["ssh", "dev", "--", "exit 7"])).collect();
    for ssh in &mut all {
        ssh.wait_for("Starting workspace dev");
    }
    faults.disarm(held);
    for ssh in all {
        let (code, said) = ssh.finish();
        assert_eq!(code, Some(7), "{said}");
    }
    assert_eq!(builds(&server, "dev"), 3);
}

#[test]
fn a_build_that_waits_for_a_worker_is_waited_for() {
    let server = Options::default().faults().start();
    let (api, mut faults) = (server.api(), server.faults());
    let held = faults.hold("start");
    let template = api.template("one", &template(""));
    // As many as a server builds at a time, and one more.
    for number in 0..17 {
        api.create(&format!("w{number}"), &template);
    }
    let waits = api.workspace("w16");
    assert_eq!(waits["latest_build"]["job"]["status"], "pending", "{waits}");
    let ssh = server.background(&["ssh", "w16", "--", "exit 7"]);
    let create = server.background(&["start", "w16"]);
    faults.disarm(held);
    for running in [ssh, create] {
        let (code, said) = running.finish();
        assert!(matches!(code, Some(0 | 7)), "{code:?} {said}");
    }
}

#[test]
fn a_build_that_fails_is_told_with_its_reason() {
    let server = Server::empty();
    let failure = "[[failures]]\ntransition = \"start\"\nbuild = 3\nerror = \"no capacity left\"";
    server.create("flaky", &template(failure));
    server.run(&["stop", "flaky", "-y"]).ends(0);
    server.run(&["ssh", "flaky", "--", "true"]).ends(204).says("no capacity left");
    // It is not tried again and again without being asked.
    let seen = server.run(&["ssh", "flaky", "--", "true"]).ends(203);
    seen.says("the latest build of workspace `flaky` failed").says("no capacity left");
    server.run(&["start", "flaky"]).ends(0).says("stopping first");
    server.run(&["ssh", "flaky", "--", "exit 7"]).ends(7);
}

#[test]
fn a_first_build_that_fails_fails_the_command_that_asked_for_it() {
    let server = Server::empty();
    let steps = "[[start]]\nstage = \"Planning\"\nlog = [\"so far so good\"]\n\
                 [[failures]]\ntransition = \"start\"\nstep = 1\nerror = \"no \\u001b[31m luck\"";
    let file = server.template_file("bad", &template(steps));
    let seen = server.run(&["create", "bad", "--template", &file]).ends(204);
    // Hostile text arrives defused.
    seen.says("so far so good").says("luck").says_not("\x1b");
    server.run(&["ssh", "bad", "--", "true"]).ends(203);
}

#[test]
fn a_build_that_is_canceled_is_told_apart() {
    let server = Options::default().dev().faults().start();
    server.run(&["stop", "dev", "-y"]).ends(0);
    let mut faults = server.faults();
    let held = faults.hold("start");
    let mut ssh = server.background(&["ssh", "dev", "--", "true"]);
    ssh.wait_for("Workspace was stopped, starting workspace");
    let start = server.background(&["start", "dev"]);
    let api = server.api();
    let build = id(&api.in_status("dev", "starting")["latest_build"]);
    api.patch(&format!("/workspacebuilds/{build}/cancel"), &Value::Null);
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(204), "{said}");
    assert!(said.contains("was canceled"), "{said}");
    // This one may have come when all was over: then it waits for a build of its own.
    faults.disarm(held);
    let (code, said) = start.finish();
    assert!(matches!(code, Some(204 | 0)), "{code:?} {said}");
    server.run(&["start", "dev"]).ends(0);
    server.run(&["ssh", "dev", "--", "exit 7"]).ends(7);
}

#[test]
fn one_that_is_being_deleted_is_not_waited_for_in_vain() {
    let server = Options::default().dev().faults().start();
    let mut faults = server.faults();
    let held = faults.hold("delete");
    server.api().build("dev", "delete");
    server.api().in_status("dev", "deleting");
    let ssh = server.background(&["ssh", "dev", "--", "true"]);
    let start = server.background(&["start", "dev"]);
    faults.disarm(held);
    for running in [ssh, start] {
        let (code, said) = running.finish();
        // Gone before it was looked for, or while it was.
        assert!(matches!(code, Some(201 | 205)), "{code:?} {said}");
    }
    server.run(&["ssh", "dev", "--", "true"]).ends(201).says("there is no workspace `dev`");
}

#[test]
fn one_that_is_dormant_is_woken_only_where_it_may_be_started() {
    let server = Server::with_dev();
    server.run(&["stop", "dev", "-y"]).ends(0);
    let api = server.api();
    let path = format!("/workspaces/{}/dormant", id(&api.workspace("dev")));
    api.put(&path, &json!({"dormant": true}));
    let seen = server.run(&["ssh", "--disable-autostart", "dev", "--", "true"]).ends(203);
    seen.says("is dormant");
    let list = server.run(&["list", "-o", "json"]).ends(0);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list[0]["dormant"], true);
    server.run(&["ssh", "dev", "--", "exit 7"]).ends(7).says("Activating and starting dormant");
    assert!(api.workspace("dev")["dormant_at"].is_null());
}

#[test]
fn without_an_agent_nobody_can_connect() {
    let server = Server::empty();
    server.create("empty", "agents = []");
    server.run(&["ssh", "empty", "--", "true"]).ends(202).says("has no agents");
    server.run(&["ssh", "empty.main", "--", "true"]).ends(202);
    server.run(&["port-forward", "empty", "--tcp", "0:80"]).ends(202);
}

#[test]
fn of_two_agents_one_is_to_be_named() {
    let server = Server::empty();
    server.create("two", "[[agents]]\nname = \"cpu\"\n[[agents]]\nname = \"gpu\"");
    server.run(&["ssh", "two", "--", "true"]).ends(202).says("there are: cpu, gpu");
    server.run(&["ssh", "two.tpu", "--", "true"]).ends(202).says("there are: cpu, gpu");
    for name in ["cpu", "gpu"] {
        let line = "echo $CODER_WORKSPACE_AGENT_NAME";
        let seen = server.run(&["ssh", &format!("two.{name}"), "--", line]).ends(0);
        seen.prints(&format!("{name}\n"));
    }
    server.run(&["ssh", "gpu.two.admin", "--", "exit 7"]).ends(7);
}

/// A script that says something and goes on when it is told to.
const WAITS: &str = "[[agents.scripts]]\nname = \"prepare\"\n\
    run = \"mkfifo go; echo half way; read go <go; echo all the way\"\n";

#[test]
fn a_blocking_start_script_is_waited_for_and_its_log_is_shown() {
    let server = Server::empty();
    server.create("slow", &template(&format!("{WAITS}blocks_login = true")));
    server.api().agent_in("slow", "starting");
    let mut ssh = server.background(&["ssh", "slow", "--", "exit 7"]);
    ssh.wait_for("Running workspace agent startup scripts");
    ssh.wait_for("half way");
    // Who does not want to wait does not, and is told.
    let seen = server.run(&["ssh", "--wait", "no", "slow", "--", "echo in"]).ends(0);
    seen.prints("in\n").says("Startup scripts are still running");
    // Nor does a forward.
    let (forward, _) = server.forward("slow", 80);
    drop(forward);
    let mut go = std::fs::File::options().write(true).open(server.file("slow", "go")).unwrap();
    go.write_all(b"on\n").unwrap();
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(7), "{said}");
    server.api().agent_in("slow", "ready");
}

#[test]
fn a_start_script_that_does_not_block_is_waited_for_only_on_request() {
    let server = Server::empty();
    server.create("slow", &template(WAITS));
    server.run(&["ssh", "slow", "--", "exit 7"]).ends(7);
    let mut ssh = server.background(&["ssh", "--wait", "yes", "slow", "--", "exit 7"]);
    ssh.wait_for("half way");
    let mut go = std::fs::File::options().write(true).open(server.file("slow", "go")).unwrap();
    go.write_all(b"on\n").unwrap();
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(7), "{said}");
}

#[test]
fn start_scripts_that_fail_or_time_out_are_a_warning() {
    let server = Server::empty();
    let script = |run: &str, more: &str| {
        let script = "[[agents.scripts]]\nname = \"prepare\"\nblocks_login = true\n";
        template(&format!("{script}run = \"{run}\"\n{more}"))
    };
    server.create("fails", &script("echo broken >&2; exit 3", ""));
    let seen = server.run(&["ssh", "fails", "--", "exit 7"]).ends(7);
    seen.says("a startup script exited with an error");
    server.create("late", &script("mkfifo never; read never <never", "timeout = \"300ms\""));
    let seen = server.run(&["ssh", "late", "--", "exit 7"]).ends(7);
    seen.says("a startup script timed out");
}

#[test]
fn an_agent_that_never_connects_is_not_waited_for_for_ever() {
    let server = Options::default().external().start();
    server.create("away", &template("connection_timeout = \"1s\""));
    let mut command = server.command(&["ssh", "away", "--", "true"]);
    command.env("CODERCTL_DIAL_TIMEOUT", "3");
    let seen = crate::support::run(&mut command).ends(206);
    seen.says("is having trouble connecting").says("never connected");
}

#[test]
fn an_agent_that_connects_late_is_waited_for() {
    let server = Options::default().dev().external().start();
    let mut ssh = server.background(&["ssh", "dev", "--", "exit 7"]);
    ssh.wait_for("Waiting for the workspace agent to connect");
    let (_agent, _home) = server.agent(server.ready.agent_token.as_deref().unwrap());
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(7), "{said}");
}

#[test]
fn an_agent_s_token_is_good_for_the_latest_build_only() {
    let server = Options::default().dev().external().start();
    let token = server.ready.agent_token.clone().unwrap();
    let (agent, _home) = server.agent(&token);
    server.run(&["ssh", "dev", "--", "exit 7"]).ends(7);
    server.run(&["restart", "dev", "-y"]).ends(0);
    let asked = |token: &str| {
        let api = server.as_user(token).api();
        api.try_ask(Method::GET, "/workspaceagents/me/gitsshkey", "", "").unwrap().0
    };
    assert_eq!(asked(&token), http::StatusCode::UNAUTHORIZED);
    drop(agent);
}

#[test]
fn a_token_that_is_refused_is_told_from_a_workspace_that_is_not_there() {
    let server = Server::with_dev();
    for wrong in ["nonsense", "aaaaaaaaaa-bbbbbbbbbbbbbbbbbbbbbb", ""] {
        for command in [["ssh", "dev"], ["list", "-a"], ["start", "dev"], ["stop", "dev"]] {
            server.as_user(wrong).run_unchecked(&command).ends(200);
        }
    }
    server.run(&["ssh", "nowhere", "--", "true"]).ends(201).says("there is no workspace `nowhere`");
    server.run(&["ssh", "no where", "--", "true"]).ends(201);
    let nobody = server.by("http://127.0.0.1:1");
    nobody.run(&["--http-timeout", "1s", "ssh", "dev", "--", "true"]).ends(208);
}

#[test]
fn the_workspace_of_another_user_looks_as_if_there_were_none() {
    let server = Server::with_dev();
    let bob = server.as_user(&token_of(&server.api(), "bob"));
    for name in ["dev", "admin/dev", "main.dev.admin", "bob/dev"] {
        bob.run(&["ssh", name, "--", "true"]).ends(201);
    }
    let theirs = server.api().workspace("dev");
    for command in ["ssh", "start", "restart", "stop", "delete"] {
        let name = id(&theirs);
        let mut arguments = vec![command, &name];
        arguments.extend(if command == "ssh" { ["--", "true"].as_slice() } else { &["-y"] });
        bob.run(&arguments).ends(201);
    }
    bob.run(&["list", "-a", "-o", "json"]).ends(0).prints("[]\n");
    assert_eq!(builds(&server, "dev"), 1);
    // Their own is theirs.
    let template = id(&server.api().get("/templates")[0]);
    bob.api().create("mine", &template);
    bob.run(&["ssh", "mine", "--", "echo $CODER_WORKSPACE_OWNER_NAME"]).ends(0).prints("bob\n");
    server.run(&["ssh", "mine", "--", "true"]).ends(201);
}

#[test]
fn names_are_taken_once_and_templates_are_checked_before_anything_is_made() {
    let server = Server::with_dev();
    let file = server.template_file("good", &template(""));
    server.run(&["create", "dev", "--template", &file]).ends(1).says("dev");
    let wrong = server.template_file("wrong", "[[agents]]\nname = \"main\"\ncolour = 1");
    server.run(&["create", "fresh", "--template", &wrong]).ends(2).says("line 3");
    let missing = server.run(&["create", "fresh", "--template", "nothing"]).ends(2);
    missing.says("there is no template `nothing`").says("there are `built-in`");
    let choice = template("[[parameters]]\nname = \"size\"\noptions = [\"s\", \"l\"]");
    let choice = server.template_file("choice", &choice);
    server.run(&["create", "fresh", "--template", &choice]).ends(1).says("size");
    let create = ["create", "fresh", "--template", &choice, "--parameter"];
    server.run(&[&create[..], &["size=m"]].concat()).ends(1).says("size");
    server.run(&[&create[..], &["size=l"]].concat()).ends(0);
    server.run(&["ssh", "fresh", "--", "echo $PARAMETER_SIZE"]).ends(0).prints("l\n");
    let list = server.run(&["list", "-o", "json"]).ends(0);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["dev", "fresh"]);
}
