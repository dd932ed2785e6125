//! Several servers on one PostgreSQL are one deployment.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Balancer, GREETER, Never, Options, Running, Server, agents, ask, id, noise, postgres, reverse,
    service, start_agent, until,
};

/// Two servers on one database, if there is a PostgreSQL. It ends after them.
struct Pair {
    one: Server,
    two: Server,
    database: postgres::Database,
}

impl Pair {
    fn start(options: &Options) -> Option<Self> {
        let database = postgres::database()?;
        let options = options.clone().with(&["--postgres", &database.url]);
        let one = options.clone().start();
        let two = one.beside(options);
        assert_eq!(one.token, two.token);
        assert_ne!(one.url, two.url);
        Some(Self { one, two, database })
    }
}

#[test]
fn an_agent_on_one_and_a_client_on_the_other_meet_by_any_path() {
    let options = Options::default().dev().external();
    let Some(Pair { one, two, .. }) = &Pair::start(&options) else { return };
    let token = one.ready.agent_token.clone().unwrap();
    assert_eq!(two.ready.agent_token.as_ref(), Some(&token));
    let home = tempfile::tempdir().unwrap();
    let _agent = start_agent(&one.url, &token, home.path());
    let data = noise(17, 4 << 20);
    for client in [two, one] {
        for relay_only in ["true", "false"] {
            let mut command = client.command(&["ssh", "dev", "--", "cat"]);
            command.env("CODER_DISABLE_DIRECT_CONNECTIONS", relay_only);
            let seen = crate::support::feed(&mut command, &data).ends(0);
            assert!(seen.bytes == data, "{} bytes came back", seen.bytes.len());
        }
    }
    let (_forward, local) = two.forward("dev", service(reverse));
    assert_eq!(ask(local, b"abc"), b"cba");
}

#[test]
fn what_happens_on_one_is_seen_on_the_other() {
    let Some(Pair { one, two, .. }) = &Pair::start(&Options::default().dev()) else { return };
    let never = Never::within(two.home.path());
    let line = format!("echo set >&2; exec cat {never}");
    let mut session = two.background(&["ssh", "dev", "--", &line]);
    session.wait_for("set");
    let (mut forward, local) = two.forward("dev", service(reverse));
    one.run(&["stop", "dev", "-y"]).ends(0);
    let (code, said) = session.finish();
    assert_eq!(code, Some(203), "{said}");
    forward.wait_for("waiting for somebody to start it");
    two.run(&["ssh", "--disable-autostart", "dev", "--", "true"]).ends(203);
    one.run(&["start", "dev"]).ends(0);
    assert_eq!(ask(local, b"abc"), b"cba");
    // Who has logged in to one is known to the other.
    let made = one.api().post("/users/me/keys/tokens", &serde_json::json!({}));
    let login = two.as_user(made["key"].as_str().unwrap());
    assert_eq!(login.api().get("/users/me")["username"], "admin");
    // Logs, too: one follows what the other does.
    let steps = "[[agents]]\nname = \"main\"\n[[start]]\nstage = \"Planning\"\nlog = [\"hello\"]\n\
                 duration = \"200ms\"";
    let file = two.template_file("steps", steps);
    two.run(&["create", "steps", "--template", &file]).ends(0).says("hello");
    one.run(&["ssh", "steps", "--", "exit 7"]).ends(7);
    forward.signal(Signal::INT);
    assert_eq!(forward.finish().0, Some(0));
}

#[test]
fn a_claim_on_one_reaches_an_agent_on_the_other() {
    let Some(database) = postgres::database() else { return };
    let options = Options::default().with(&["--postgres", &database.url]);
    let one = options.clone().start();
    let api = one.api();
    let preset = r#"
[[presets]]
name = "ready"
default = true
prebuilds = 2
"#;
    api.template("prebuilt", &format!("{GREETER}{preset}"));
    let prebuilds: Vec<_> = api.prebuilds(2).into_keys().collect();
    // Their agents are all on the first.
    let two = one.beside(options);
    for name in ["mine", "next"] {
        two.run(&["create", name, "--template", "prebuilt"]).ends(0);
        let claimed = two.api().workspace(name);
        assert!(prebuilds.contains(&id(&claimed)), "{claimed}");
        let seen = two.run(&["ssh", name, "--", "cat owners"]).ends(0);
        let lines: Vec<_> = seen.stdout.lines().collect();
        assert!(lines[0].starts_with("for prebuilds in "), "{lines:?}");
        assert_eq!(lines[1..], [format!("for admin in {name}")], "{lines:?}");
    }
}

#[test]
fn agents_and_clients_of_a_replica_that_is_killed_move_to_the_other() {
    let options = Options::default().dev().external();
    // What is named first ends last.
    let Some(Pair { database, mut one, two }) = Pair::start(&options) else { return };
    let balancer = Balancer::new();
    balancer.lead_to(&one.url);
    let client = one.by(&balancer.url());
    let home = tempfile::tempdir().unwrap();
    let _agent = start_agent(&balancer.url(), one.ready.agent_token.as_ref().unwrap(), home.path());
    for relay_only in ["true", "false"] {
        let mut command = client.command(&["ssh", "dev", "--", "echo up >&2; cat; exit 7"]);
        command.env("CODER_DISABLE_DIRECT_CONNECTIONS", relay_only);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut session = Running::start(&mut command);
        session.wait_for("up");
        let (forward, local) = client.forward("dev", service(reverse));
        assert_eq!(ask(local, b"before"), b"erofeb");

        balancer.lead_to(&two.url);
        one.kill();

        assert_eq!(ask(local, b"after"), b"retfa");
        client.run(&["ssh", "dev", "--", "exit 9"]).ends(9);
        drop(session.child.stdin.take());
        let (code, said) = session.finish();
        assert_eq!(code, Some(7), "{said}");
        forward.signal(Signal::INT);
        assert_eq!(forward.finish().0, Some(0));

        // And back again.
        let options = Options::default().external();
        one = one.crash_and_restart(options.with(&["--postgres", &database.url]));
        balancer.lead_to(&one.url);
    }
}

#[test]
fn agents_that_ran_inside_a_replica_that_is_killed_run_inside_the_other() {
    let Some(mut pair) = Pair::start(&Options::default()) else { return };
    let Pair { one, two, .. } = &mut pair;
    one.create("first", "[[agents]]\nname = \"main\"");
    two.create("second", "[[agents]]\nname = \"main\"");
    for name in ["first", "second"] {
        one.run(&["ssh", name, "--", "echo here >kept"]).ends(0);
    }
    one.kill();
    for name in ["first", "second"] {
        until(&format!("{name} has an agent"), || {
            let workspace = two.api().workspace(name);
            agents(&workspace).iter().all(connected_now).then_some(())
        });
        two.run(&["ssh", name, "--", "cat kept"]).ends(0).prints("here\n");
    }
    // Builds that the dead one had begun or would have made are the other's.
    two.run(&["restart", "first", "-y"]).ends(0);
    two.run(&["ssh", "first", "--", "exit 7"]).ends(7);
}

fn connected_now(agent: &Value) -> bool {
    agent["status"] == "connected"
}

#[test]
fn a_command_may_be_answered_by_now_one_and_now_the_other() {
    let Some(Pair { one, two, .. }) = &Pair::start(&Options::default().dev()) else { return };
    let balancer = Balancer::new();
    balancer.lead_to_all(&[&one.url, &two.url]);
    let client = one.by(&balancer.url());
    for round in 0..4 {
        client.run(&["ssh", "dev", "--", "exit 7"]).ends(7);
        client.create(&format!("w{round}"), "[[agents]]\nname = \"main\"");
        client.run(&["ssh", &format!("w{round}"), "--", "exit 7"]).ends(7);
        client.run(&["restart", "dev", "-y"]).ends(0);
    }
}
