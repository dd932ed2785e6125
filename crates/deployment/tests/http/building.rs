//! Workspaces and builds: made, refused, cancelled, scheduled; templates from files.

use bytes::Bytes;
use coderctl_deployment::model::{JobStatus, Timestamp};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    client::Answer,
    world::{Someone, World},
};

async fn build(world: &World, of: &Someone, body: Value) -> Answer {
    let path = format!("/workspaces/{}/builds", of.workspace.id);
    world.call(Method::POST, &path, &of.token, body).await
}

fn id(answer: &Answer) -> Uuid {
    answer.json()["id"].as_str().unwrap().parse().unwrap()
}

async fn built(world: &World, of: &Someone, body: Value) -> Value {
    let answer = build(world, of, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    world.job(id(&answer), JobStatus::Succeeded).await;
    world.get(&format!("/workspacebuilds/{}", id(&answer)), &of.token).await.json()
}

#[tokio::test]
async fn one_build_at_a_time() {
    let world = World::new().await;
    let alice = &world.alice;
    let held = world.hold_jobs();
    // Of ten at once one is made.
    let all = (0..10).map(|_| build(&world, alice, json!({"transition": "stop"})));
    let answers = futures_util::future::join_all(all).await;
    let made: Vec<_> = answers.iter().filter(|one| one.status == StatusCode::CREATED).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    for refused in answers.iter().filter(|one| one.status != StatusCode::CREATED) {
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert_eq!(refused.message(), "A workspace build is already active.");
    }
    world.release_jobs(held);
    world.job(id(made[0]), JobStatus::Succeeded).await;
    let build = world.get(&format!("/workspacebuilds/{}", id(made[0])), &alice.token).await.json();
    assert_eq!((&build["build_number"], &build["status"]), (&json!(2), &json!("stopped")));
    assert_eq!(build["resources"], json!([]));
}

#[tokio::test]
async fn a_life_from_start_to_deletion() {
    let world = World::new().await;
    let alice = &world.alice;
    let by_id = format!("/workspaces/{}", alice.workspace.id);
    built(&world, alice, json!({"transition": "stop", "reason": "cli"})).await;
    let large = json!([{"name": "size", "value": "large"}]);
    let started = built(
        &world,
        alice,
        json!({"transition": "start", "reason": "ssh_connection", "rich_parameter_values": large}),
    )
    .await;
    assert_eq!(
        (&started["reason"], &started["status"]),
        (&json!("ssh_connection"), &json!("running"))
    );
    let agents = started["resources"][0]["agents"].as_array().unwrap();
    assert_eq!((agents.len(), &agents[0]["name"]), (1, &json!("main")));
    let path = format!("/workspacebuilds/{}/parameters", started["id"].as_str().unwrap());
    let wanted = json!([{"name": "size", "value": "large"}, {"name": "zone", "value": "here"}]);
    assert_eq!(world.get(&path, &alice.token).await.json(), wanted);
    // Later builds keep the values.
    built(&world, alice, json!({"transition": "stop"})).await;
    let again = built(&world, alice, json!({"transition": "start"})).await;
    let path = format!("/workspacebuilds/{}/parameters", again["id"].as_str().unwrap());
    assert_eq!(world.get(&path, &alice.token).await.json(), wanted);

    built(&world, alice, json!({"transition": "delete", "orphan": false})).await;
    let gone = world.get(&by_id, &alice.token).await;
    assert_eq!(gone.status, StatusCode::GONE);
    assert!(gone.message().contains("was deleted"), "{gone:?}");
    let shown = world.get(&format!("{by_id}?include_deleted=true"), &alice.token).await.json();
    assert_eq!(shown["latest_build"]["status"], "deleted");
    let name = "/users/me/workspace/dev";
    assert_eq!(world.get(name, &alice.token).await.status, StatusCode::NOT_FOUND);
    let path = format!("{name}?include_deleted=true");
    assert_eq!(world.get(&path, &alice.token).await.json()["id"], shown["id"]);
    assert_eq!(build(&world, alice, json!({"transition": "start"})).await.status, StatusCode::GONE);
    let path = format!("/workspaceagents/{}", alice.agent.id);
    assert_eq!(world.get(&path, &alice.token).await.status, StatusCode::NOT_FOUND);
    // The name is free again, and the living one is found by it.
    let new = json!({"name": "dev", "template_id": alice.workspace.template_id});
    let made = world.call(Method::POST, "/users/me/workspaces", &alice.token, new.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let found = world.get(&format!("{name}?include_deleted=true"), &alice.token).await;
    assert_eq!(id(&found), id(&made));
    let taken = world.call(Method::POST, "/users/me/workspaces", &alice.token, new).await;
    assert_eq!(taken.status, StatusCode::CONFLICT, "{taken:?}");
    assert_eq!(taken.json()["validations"][0]["field"], "name");
}

#[tokio::test]
async fn cancelling() {
    let world = World::new().await;
    let alice = &world.alice;
    let held = world.hold_jobs();
    let running = id(&build(&world, alice, json!({"transition": "stop"})).await);
    world.job(running, JobStatus::Running).await;
    let cancel = async |build: Uuid, query: &str| {
        let path = format!("/workspacebuilds/{build}/cancel{query}");
        let answer = world.call(Method::PATCH, &path, &alice.token, Value::Null).await;
        (answer.status.as_u16(), answer.message())
    };
    let (status, message) = cancel(running, "?expect_status=tired").await;
    assert_eq!(status, 400);
    assert!(message.starts_with("Invalid expect_status \"tired\"."), "{message}");
    assert_eq!(cancel(running, "?expect_status=pending").await.0, 412);
    assert_eq!(cancel(running, "?expect_status=running").await.0, 200);
    let again = cancel(running, "").await;
    let over = (400, "Job has already completed!".to_owned());
    assert!(again == over || again == (400, "Job has already been marked as canceled!".to_owned()));
    world.job(running, JobStatus::Canceled).await;
    assert_eq!(cancel(running, "").await, over);
    assert_eq!(cancel(alice.build.id, "").await, over);
    world.release_jobs(held);
    // The workspace may be built again.
    built(&world, alice, json!({"transition": "start"})).await;
}

#[tokio::test]
async fn deadlines() {
    let world = World::new().await;
    let alice = &world.alice;
    let one = format!("/workspaces/{}", alice.workspace.id);
    let put = async |rest: &str, body: Value| {
        let answer = world.call(Method::PUT, &format!("{one}/{rest}"), &alice.token, body).await;
        let message = if answer.body.is_empty() { String::new() } else { answer.message() };
        (answer.status.as_u16(), message)
    };
    let hours = |count: u64| {
        let at = Timestamp::now().plus(std::time::Duration::from_secs(3600 * count));
        json!({"deadline": at})
    };
    assert_eq!(put("extend", hours(3)).await, (409, "Workspace shutdown is manual.".to_owned()));
    assert_eq!(put("ttl", json!({"ttl_ms": 7_200_000})).await.0, 204);
    built(&world, alice, json!({"transition": "stop"})).await;
    let stopped = "Workspace must be started, current status: stop".to_owned();
    assert_eq!(put("extend", hours(3)).await, (409, stopped));
    let started = built(&world, alice, json!({"transition": "start"})).await;
    assert!(started["deadline"].is_string(), "{started}");
    let (status, message) = put("extend", json!({"deadline": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(status, 400);
    assert!(message.contains("at least 30 minutes in the future"), "{message}");
    assert_eq!(put("extend", hours(3)).await.0, 200);
    let workspace = world.get(&one, &alice.token).await.json();
    assert_eq!(workspace["ttl_ms"], 7_200_000);
    assert!(workspace["latest_build"]["deadline"].as_str() > started["deadline"].as_str());
    // Without a time to live there is no deadline either.
    assert_eq!(put("ttl", json!({"ttl_ms": null})).await.0, 204);
    let workspace = world.get(&one, &alice.token).await.json();
    assert_eq!(
        (&workspace["ttl_ms"], &workspace["latest_build"]["deadline"]),
        (&Value::Null, &Value::Null)
    );
}

/// Uploads a template and makes a version of it.
async fn version(world: &World, text: &str, template: Option<Uuid>) -> Value {
    let request = Request::post(format!("{}api/v2/files", world.deployment.url()))
        .header("coder-session-token", &world.admin.token)
        .header("content-type", "application/toml")
        .body(Bytes::copy_from_slice(text.as_bytes()))
        .unwrap();
    let answer = world.answer(request).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let body = json!({
        "file_id": answer.json()["hash"], "storage_method": "file", "provisioner": "echo",
        "template_id": template,
    });
    let path = "/organizations/coder/templateversions";
    let answer = world.call(Method::POST, path, &world.admin.token, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let version = answer.json();
    let path = format!("/templateversions/{}", version["id"].as_str().unwrap());
    let read = world.get(&path, &world.admin.token).await;
    assert_eq!(read.json(), version);
    // Nobody else's before a template has it.
    assert_eq!(world.get(&path, &world.bob.token).await.status, StatusCode::NOT_FOUND);
    version
}

#[tokio::test]
async fn a_template_from_a_file() {
    let world = World::new().await;
    let admin = &world.admin.token;
    let broken = version(&world, "[[agents]]\nname = 7", None).await;
    assert_eq!(broken["job"]["status"], "failed");
    assert!(broken["job"]["error"].as_str().unwrap().starts_with("line 2, column 8"), "{broken}");
    let make = async |name: &str, version: &Value| {
        let body = json!({"name": name, "template_version_id": version["id"]});
        world.call(Method::POST, "/organizations/coder/templates", admin, body).await
    };
    assert_eq!(make("broken", &broken).await.status, StatusCode::BAD_REQUEST);

    let first = version(&world, "[[agents]]\nname = \"one\"", None).await;
    assert_eq!(
        (&first["job"]["status"], &first["template_id"]),
        (&json!("succeeded"), &Value::Null)
    );
    let taken = make("test", &first).await;
    assert_eq!(taken.status, StatusCode::CONFLICT, "{taken:?}");
    let template = make("mine", &first).await;
    assert_eq!(template.status, StatusCode::CREATED, "{template:?}");
    assert_eq!(template.json()["active_version_id"], first["id"]);
    // It has a template now, and no other may have it.
    assert_eq!(make("again", &first).await.status, StatusCode::BAD_REQUEST);

    let second = version(&world, "[[agents]]\nname = \"two\"", Some(id(&template))).await;
    assert_eq!(second["name"], "v2");
    let path = format!("/templates/{}/versions", id(&template));
    for _ in 0..2 {
        let body = json!({"id": second["id"]});
        let answer = world.call(Method::PATCH, &path, admin, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let other = format!("/templates/{}/versions", world.alice.workspace.template_id);
    let third = version(&world, "[[agents]]\nname = \"three\"", Some(id(&template))).await;
    let answer = world.call(Method::PATCH, &other, admin, json!({"id": third["id"]})).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    let path = "/organizations/coder/templates/mine";
    let template = world.get(path, &world.bob.token).await.json();
    assert_eq!(template["active_version_id"], second["id"]);

    // A workspace of it, as the Go client asks for one: a rehearsal first.
    let bob = &world.bob.token;
    let version = template["active_version_id"].as_str().unwrap();
    let rehearsal = format!("/templateversions/{version}/dry-run");
    let asked = json!({"workspace_name": "x", "rich_parameter_values": null});
    let job = world.call(Method::POST, &rehearsal, bob, asked).await;
    assert_eq!(job.status, StatusCode::CREATED, "{job:?}");
    let of_job = format!("{rehearsal}/{}", id(&job));
    assert_eq!(world.get(&of_job, bob).await.json(), job.json());
    let resources = world.get(&format!("{of_job}/resources"), bob).await.json();
    assert_eq!(resources[0]["agents"][0]["name"], "two");
    let mut log = world.socket(&format!("{of_job}/logs?follow"), bob).await;
    assert_eq!(crate::world::farewell(&mut log).await, (1000, "done".to_owned()));
    let new = json!({"name": "x", "template_version_id": version});
    let made = world.call(Method::POST, "/users/me/workspaces", bob, new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.json()["template_name"], "mine");
}

#[tokio::test]
async fn files_that_are_no_templates() {
    let world = World::new().await;
    for (kind, body, status) in [
        ("application/x-tar", "x".into(), 400),
        ("application/toml", vec![0xff], 400),
        ("application/toml", vec![b' '; 256 * 1024 + 1], 413),
    ] {
        let request = Request::post(format!("{}api/v2/files", world.deployment.url()))
            .header("coder-session-token", &world.admin.token)
            .header("content-type", kind)
            .body(Bytes::from(body))
            .unwrap();
        let answer = world.answer(request).await;
        assert_eq!(answer.status.as_u16(), status, "{kind}: {answer:?}");
        assert!(!answer.message().is_empty());
    }
}

#[tokio::test]
async fn a_preset_sets_what_it_names() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = format!("/templateversions/{}/presets", alice.build.template_version_id);
    let preset = world.get(&path, &alice.token).await.json()[0]["ID"].clone();
    let new = json!({
        "name": "big", "template_id": alice.workspace.template_id,
        "template_version_preset_id": preset,
        "rich_parameter_values": [{"name": "size", "value": "small"}, {"name": "zone", "value": "there"}],
    });
    let made = world.call(Method::POST, "/users/me/workspaces", &alice.token, new).await.json();
    let build = &made["latest_build"];
    assert_eq!(build["template_version_preset_id"], preset);
    let path = format!("/workspacebuilds/{}/parameters", build["id"].as_str().unwrap());
    let wanted = json!([{"name": "size", "value": "large"}, {"name": "zone", "value": "there"}]);
    assert_eq!(world.get(&path, &alice.token).await.json(), wanted);
}
