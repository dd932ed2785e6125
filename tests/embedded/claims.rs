//! Prebuilt workspaces, claimed: from the preset in a template to a session of the new owner's.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Api, GREETER, Options, Server, id, token_of, until};

/// A template with `count` prebuilt workspaces.
fn template(count: usize, more: &str) -> String {
    format!(
        r#"{GREETER}
[[parameters]]
name = "size"
default = "small"
[[presets]]
name = "large"
default = true
prebuilds = {count}
parameters = {{ size = "large" }}
{more}
"#
    )
}

fn create(server: &Server, name: &str) {
    let seen = server.run(&["create", name, "--template", "prebuilt", "--preset", "large"]);
    seen.ends(0);
}

/// It is this workspace, under a new name and owner.
#[track_caller]
fn is(api: &Api, name: &str, prebuilds: &[String]) -> String {
    let id = id(&api.workspace(name));
    assert!(prebuilds.contains(&id), "{name} was not claimed, but built");
    id
}

/// Its start scripts have run for somebody else first, and then for its owner, once.
#[track_caller]
fn greeted(server: &Server, name: &str) {
    let seen = server.run(&["ssh", name, "--", "cat owners; echo $PARAMETER_SIZE"]).ends(0);
    let lines: Vec<_> = seen.stdout.lines().collect();
    let owner = format!("for admin in {name}");
    assert!(
        matches!(lines[..], [first, second, "large"]
            if first.starts_with("for prebuilds in prebuilt-") && second == owner),
        "{lines:?}"
    );
}

#[test]
fn a_prebuilt_workspace_is_claimed_and_prepared_again_for_its_owner() {
    let server = Server::empty();
    let api = server.api();
    api.template("prebuilt", &template(1, ""));
    let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
    let agent = id(&crate::support::agents(&api.get(&format!("/workspaces/{}", prebuilds[0])))[0]);
    create(&server, "mine");
    is(&api, "mine", &prebuilds);
    greeted(&server, "mine");
    let workspace = api.workspace("mine");
    assert_eq!(workspace["owner_name"], "admin");
    assert_eq!(workspace["latest_build"]["build_number"], 2);
    assert_ne!(id(&crate::support::agents(&workspace)[0]), agent, "an agent of the new build");
    // Another takes its place.
    api.prebuilds(1);
    // The next builds are as those of any workspace.
    server.run(&["restart", "mine", "-y"]).ends(0);
    let seen = server.run(&["ssh", "mine", "--", "cat owners"]).ends(0);
    let lines: Vec<_> = seen.stdout.lines().skip(1).collect();
    assert_eq!(lines, ["for admin in mine", "for admin in mine"]);
    server.run(&["delete", "mine", "-y"]).ends(0);
}

#[test]
fn two_claims_in_a_row_and_one_too_many() {
    let server = Options::default().faults().start();
    let api = server.api();
    api.template("prebuilt", &template(2, ""));
    let prebuilds: Vec<_> = api.prebuilds(2).into_keys().collect();
    create(&server, "one");
    create(&server, "two");
    let (one, two) = (is(&api, "one", &prebuilds), is(&api, "two", &prebuilds));
    assert_ne!(one, two);
    greeted(&server, "one");
    greeted(&server, "two");
    api.prebuilds(2);
    // Without one, a workspace is built.
    let seen = server.run(&["create", "none", "--template", "prebuilt", "--preset", "none"]);
    seen.ends(0);
    let seen = server.run(&["ssh", "none", "--", "cat owners; echo $PARAMETER_SIZE"]).ends(0);
    seen.prints("for admin in none\nsmall\n");
}

#[test]
fn two_people_who_claim_at_once_get_one_each() {
    let server = Server::empty();
    let api = server.api();
    api.template("prebuilt", &template(1, ""));
    let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
    let bob = server.as_user(&token_of(&api, "bob"));
    let arguments = ["create", "mine", "--template", "prebuilt", "--preset", "large"];
    let both = [server.background(&arguments), bob.background(&arguments)];
    for create in both {
        let (code, said) = create.finish();
        assert_eq!(code, Some(0), "{said}");
    }
    let ids = [id(&api.workspace("mine")), id(&bob.api().workspace("mine"))];
    assert_ne!(ids[0], ids[1]);
    let claimed = ids.iter().filter(|id| prebuilds.contains(id)).count();
    assert!(claimed <= 1, "{ids:?}");
    for (client, name) in [(&*server, "admin"), (&bob, "bob")] {
        let seen = client.run(&["ssh", "mine", "--", "tail -n 1 owners"]).ends(0);
        seen.prints(&format!("for {name} in mine\n"));
    }
}

#[test]
fn one_that_is_claimed_while_its_agent_is_away_is_its_owners_when_it_comes_back() {
    let server = Options::default().faults().start();
    let (api, mut faults) = (server.api(), server.faults());
    api.template("prebuilt", &template(1, ""));
    let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
    // The agent is cut off: nothing is told to it, and it is not let in.
    let away = json!({"path": "/api/v2/workspaceagents/me", "status": 503, "times": 1_000_000});
    let away = faults.arm(json!({"answer": away}));
    until("the agent is away", || {
        faults.say(&json!({"drop_sessions": {}}));
        faults.say(&json!({"cut_streams": {"path": "/api/v2/workspaceagents/me"}}));
        let workspace = api.get(&format!("/workspaces/{}", prebuilds[0]));
        (crate::support::agents(&workspace)[0]["status"] == "disconnected").then_some(())
    });
    create(&server, "mine");
    is(&api, "mine", &prebuilds);
    faults.disarm(away);
    api.agent_in("mine", "ready");
    greeted(&server, "mine");
}

#[test]
fn a_claim_that_is_told_twice_or_not_at_all_is_one_restart() {
    for fault in ["drop_event", "duplicate_event"] {
        let server = Options::default().faults().start();
        let api = server.api();
        api.template("prebuilt", &template(1, ""));
        let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
        let number = server.faults().arm(json!({fault: {"channel": "prebuild_claimed_"}}));
        create(&server, "mine");
        is(&api, "mine", &prebuilds);
        greeted(&server, "mine");
        assert_eq!(server.faults().hits(number), 1, "{fault}");
        greeted(&server, "mine");
    }
}

#[test]
fn a_claim_that_fails_is_built_again() {
    let server = Server::empty();
    let api = server.api();
    let failure = "[[failures]]\ntransition = \"start\"\nkind = \"claim\"\nerror = \"no room\"";
    api.template("prebuilt", &template(1, failure));
    let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
    let arguments = ["create", "mine", "--template", "prebuilt"];
    server.run(&arguments).ends(204).says("no room");
    is(&api, "mine", &prebuilds);
    server.run(&["ssh", "mine", "--", "true"]).ends(203).says("no room");
    server.run(&["start", "mine"]).ends(0);
    greeted(&server, "mine");
}

#[test]
fn a_claim_that_is_canceled_is_built_again() {
    let server = Options::default().faults().start();
    let (api, mut faults) = (server.api(), server.faults());
    api.template("prebuilt", &template(1, ""));
    let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
    let workspace = json!({"workspace": prebuilds[0]});
    let held = faults.arm(json!({"hold_job": workspace}));
    let create = server.background(&["create", "mine", "--template", "prebuilt"]);
    let mine = until("it is claimed", || {
        let list = api.get("/workspaces?q=owner:me");
        list["workspaces"].as_array().unwrap().first().cloned()
    });
    assert_eq!(id(&mine), prebuilds[0]);
    api.in_status("mine", "starting");
    let build = id(&mine["latest_build"]);
    api.patch(&format!("/workspacebuilds/{build}/cancel"), &Value::Null);
    let (code, said) = create.finish();
    assert_eq!(code, Some(204), "{said}");
    faults.disarm(held);
    server.run(&["ssh", "mine", "--", "true"]).ends(203).says("was canceled");
    server.run(&["start", "mine"]).ends(0);
    greeted(&server, "mine");
}

#[test]
fn a_claim_outlives_the_server_and_is_finished_by_the_next() {
    let server = Options::default().faults().start();
    let api = server.api();
    api.template("prebuilt", &template(1, ""));
    let prebuilds: Vec<_> = api.prebuilds(1).into_keys().collect();
    let workspace = json!({"workspace": prebuilds[0]});
    server.faults().arm(json!({"hold_job": workspace}));
    let large = ["create", "mine", "--template", "prebuilt", "--preset", "large", "--no-wait"];
    server.run(&large).ends(0);
    let server = server.crash_and_restart(Options::default());
    is(&server.api(), "mine", &prebuilds);
    server.run(&["start", "mine"]).ends(0);
    server.api().agent_in("mine", "ready");
    let owners: PathBuf = server.file("mine", "owners");
    // The agent of the second process may have begun before the claim was done.
    let owners = std::fs::read_to_string(owners).unwrap();
    let last = owners.lines().last();
    assert_eq!(last, Some("for admin in mine"), "{owners}");
    server.run(&["ssh", "mine", "--", "exit 7"]).ends(7);
}
