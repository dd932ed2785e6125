//! A user reaches nothing of another user's, by no endpoint, and learns not even that it is there.

use coderctl_deployment::{model::Role, store::WorkspaceFilter};
use coderctl_transport::Error;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::World;

/// Everything that names something: the method, the path, a body that would be right.
fn calls(world: &World, workspace: Uuid, build: Uuid, agent: Uuid, user: &str) -> Vec<Call> {
    let (get, post, put, patch) = (Method::GET, Method::POST, Method::PUT, Method::PATCH);
    let nothing = || Value::Null;
    let template = world.alice.workspace.template_id;
    let mut calls = Vec::new();
    let mut call = |method: &Method, path: String, body: Value| {
        calls.push(Call { method: method.clone(), path, body });
    };
    for rest in ["", "/builds", "/timings", "/resolve-autostart", "/watch"] {
        call(&get, format!("/workspaces/{workspace}{rest}"), nothing());
    }
    call(&get, format!("/workspaces/{workspace}?include_deleted=true"), nothing());
    let one = format!("/workspaces/{workspace}");
    for transition in ["start", "stop", "delete"] {
        call(&post, format!("{one}/builds"), json!({"transition": transition}));
    }
    call(&post, format!("{one}/usage"), nothing());
    call(&post, format!("{one}/usage"), json!({"agent_id": agent, "app_name": "ssh"}));
    call(&put, format!("{one}/dormant"), json!({"dormant": true}));
    call(&put, format!("{one}/extend"), json!({"deadline": "2100-01-01T00:00:00Z"}));
    call(&put, format!("{one}/ttl"), json!({"ttl_ms": 3_600_000}));
    call(&put, format!("{one}/autostart"), json!({"schedule": null}));
    call(&patch, one, json!({"name": "mine-now"}));
    for rest in ["", "/parameters", "/resources", "/timings", "/logs", "/logs?format=text"] {
        call(&get, format!("/workspacebuilds/{build}{rest}"), nothing());
    }
    call(&patch, format!("/workspacebuilds/{build}/cancel"), nothing());
    call(&patch, format!("/workspacebuilds/{build}/cancel?expect_status=pending"), nothing());
    for rest in ["", "/connection", "/listening-ports", "/containers", "/pty", "/logs"] {
        call(&get, format!("/workspaceagents/{agent}{rest}"), nothing());
    }
    for rest in [
        "",
        "/workspace/dev",
        "/workspace/dev/builds/1",
        "/organizations",
        "/keys/tokens",
        "/keys/tokens/test",
        "/keys/tokens/tokenconfig",
    ] {
        call(&get, format!("/users/{user}{rest}"), nothing());
    }
    call(&get, format!("/organizations/default/members/{user}"), nothing());
    call(&post, format!("/users/{user}/keys"), nothing());
    call(&post, format!("/users/{user}/keys/tokens"), json!({"token_name": "x"}));
    let new = json!({"name": "theirs", "template_id": template});
    call(&post, format!("/users/{user}/workspaces"), new.clone());
    call(&post, format!("/organizations/default/members/{user}/workspaces"), new);
    calls
}

/// What asks for a socket.
fn sockets(workspace: Uuid, build: Uuid, agent: Uuid) -> [String; 6] {
    [
        format!("/workspaces/{workspace}/agent-connection-watch"),
        format!("/workspaces/{workspace}/agent-connection-watch?agent_name=main"),
        format!("/workspaces/{workspace}/watch-ws"),
        format!("/workspacebuilds/{build}/logs?follow"),
        format!("/workspaceagents/{agent}/logs?follow"),
        format!("/workspaceagents/{agent}/coordinate?version=2.0"),
    ]
}

#[derive(Debug)]
struct Call {
    method: Method,
    path: String,
    body: Value,
}

/// All rows that a stranger could have changed.
async fn rows(world: &World) -> String {
    let mut all = String::new();
    for someone in [&world.admin, &world.alice, &world.bob] {
        let store = world.store();
        let workspace = store.workspace(someone.workspace.id).await.unwrap();
        let builds = store.builds(workspace.id, 100, 0).await.unwrap();
        let keys = store.api_keys(someone.user.id).await.unwrap();
        let agent = store.agent_details(someone.agent.id).await.unwrap();
        all += &format!("{workspace:?} {builds:?} {keys:?} {agent:?}\n");
    }
    let filter = WorkspaceFilter::default();
    all + &format!("{:?}", world.store().workspaces(&filter).await.unwrap())
}

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let world = World::new().await;
    let alice = &world.alice;
    let before = rows(&world).await;
    let unknown = Uuid::new_v4();
    let theirs = calls(&world, alice.workspace.id, alice.build.id, alice.agent.id, "alice");
    let by_id = calls(
        &world,
        alice.workspace.id,
        alice.build.id,
        alice.agent.id,
        &alice.user.id.to_string(),
    );
    let nobodys = calls(&world, unknown, unknown, unknown, "nobody");
    for ((theirs, by_id), nobodys) in theirs.iter().zip(&by_id).zip(&nobodys) {
        let mut answers = Vec::new();
        for call in [theirs, by_id, nobodys] {
            let Call { method, path, body } = call;
            let answer = world.call(method.clone(), path, &world.bob.token, body.clone()).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{call:?}: {answer:?}");
            answers.push(answer.body);
        }
        assert!(answers[0] == answers[1] && answers[1] == answers[2], "{theirs:?}: {answers:?}");
    }
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn nobody_watches_or_reaches_anothers_workspace() {
    let world = World::new().await;
    let alice = &world.alice;
    let unknown = Uuid::new_v4();
    let theirs = sockets(alice.workspace.id, alice.build.id, alice.agent.id);
    let nobodys = sockets(unknown, unknown, unknown);
    for (theirs, nobodys) in theirs.iter().zip(&nobodys) {
        let mut refusals = Vec::new();
        for path in [theirs, nobodys] {
            match world.try_socket(path, &world.bob.token).await {
                Err(Error::Status { parts, body, .. }) => {
                    assert_eq!(parts.status, StatusCode::NOT_FOUND, "{path}");
                    refusals.push(body);
                }
                Err(other) => panic!("{path}: {other}"),
                Ok(_) => panic!("{path} was opened"),
            }
        }
        assert_eq!(refusals[0], refusals[1], "{theirs}");
        // It is the right path: its owner gets in, and so does an owner of the deployment.
        for token in [&alice.token, &world.admin.token] {
            world.try_socket(theirs, token).await.unwrap();
        }
    }
}

#[tokio::test]
async fn lists_show_ones_own() {
    let world = World::new().await;
    let names = async |path: &str, token: &str| {
        let answer = world.get(path, token).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let answer = answer.json();
        let owner = |one: &Value| one["owner_name"].as_str().unwrap().to_owned();
        let owners: Vec<_> = answer["workspaces"].as_array().unwrap().iter().map(owner).collect();
        if !path.contains("limit") {
            assert_eq!(answer["count"], owners.len());
        }
        owners
    };
    let (admin, bob) = (&world.admin.token, &world.bob.token);
    for (path, wanted) in [
        ("/workspaces", vec!["bob"]),
        ("/workspaces?q=", vec!["bob"]),
        ("/workspaces?q=owner:me", vec!["bob"]),
        ("/workspaces?q=owner:bob", vec!["bob"]),
        ("/workspaces?q=bob/dev", vec!["bob"]),
        ("/workspaces?q=owner:alice", vec![]),
        ("/workspaces?q=alice/dev", vec![]),
        ("/workspaces?q=owner:nobody", vec![]),
        ("/workspaces?q=owner:prebuilds", vec![]),
    ] {
        assert_eq!(names(path, bob).await, wanted, "{path}");
    }
    let id = world.alice.workspace.id;
    assert!(names(&format!("/workspaces?q=id:{id}"), bob).await.is_empty());
    assert_eq!(names(&format!("/workspaces?q=id:{id}"), admin).await, ["alice"]);
    assert_eq!(names("/workspaces", admin).await, ["admin", "alice", "bob"]);
    assert_eq!(names("/workspaces?q=owner:alice", admin).await, ["alice"]);
    let page = "/workspaces?limit=1&offset=1&q=name:dev";
    assert_eq!(names(page, admin).await, ["alice"]);
    assert_eq!(world.get(page, admin).await.json()["count"], 3);
}

#[tokio::test]
async fn only_owners_of_the_deployment_do_what_concerns_all() {
    let world = World::new().await;
    let bob = &world.bob.token;
    for (method, path, body) in [
        (Method::GET, "/users", Value::Null),
        (
            Method::POST,
            "/users",
            json!({"username": "eve", "email": "eve@example.com", "login_type": "none"}),
        ),
        (Method::POST, "/files", json!("x")),
        (Method::POST, "/organizations/default/templateversions", json!({"file_id": Uuid::nil()})),
        (
            Method::POST,
            "/organizations/default/templates",
            json!({"name": "x", "template_version_id": Uuid::nil()}),
        ),
    ] {
        let answer = world.call(method, path, bob, body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {answer:?}");
        assert_eq!(answer.message(), "Forbidden.", "{path}");
    }
    // Nor do they make workspaces in others' names.
    let new = json!({"name": "x", "template_id": world.alice.workspace.template_id});
    let answer = world.call(Method::POST, "/users/alice/workspaces", &world.admin.token, new).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let made = world.store().users().await.unwrap();
    assert_eq!(made.iter().filter(|user| user.role == Role::Member).count(), 2);
    assert_eq!(made.len(), 3);
}

#[tokio::test]
async fn an_agents_token_is_no_users() {
    let world = World::new().await;
    let token = world.alice.agent.auth_token.expose().to_string();
    let path = format!("/workspaces/{}", world.alice.workspace.id);
    let answer = world.get(&path, &token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // Nor is a user's one an agent's.
    let answer = world.get("/workspaceagents/me/rpc?version=2.0", &world.alice.token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
