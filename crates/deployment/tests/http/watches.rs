//! Watches: what is said when, in which order, and to whom.

use std::time::Duration;

use bytes::Bytes;
use coderctl_deployment::{
    faults::Fault,
    model::{AgentSpec, AgentToken, JobStatus, Lifecycle, NewAgent, Role, Timestamp, UserStatus},
};
use coderctl_transport::{Body, Error, Message, WebSocket};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    client::{PATIENCE, soon, transport},
    world::{Someone, World, farewell, heard},
};

/// A message in short: `start/succeeded`, `<agent> ready`, `error 1`.
fn short(message: &Value) -> String {
    let members = message.as_object().unwrap();
    let set: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
    assert!(set.len() == 1 && members.contains_key("error"), "{message}");
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    match (set[0].0.as_str(), set[0].1) {
        ("build_update", update) => {
            format!("{}/{}", word(&update["transition"]), word(&update["job_status"]))
        }
        ("agent_update", update) => {
            format!("{} {}", word(&update["id"]), word(&update["lifecycle"]))
        }
        ("error", error) => {
            let retryable = if error["retryable"] == true { " retryable" } else { "" };
            format!("error {}{retryable}", error["code"])
        }
        other => panic!("{other:?}"),
    }
}

async fn next(socket: &mut WebSocket) -> String {
    short(&heard(socket).await)
}

fn path(of: &Someone, rest: &str) -> String {
    format!("/workspaces/{}/{rest}", of.workspace.id)
}

async fn build(world: &World, of: &Someone, body: Value) -> Uuid {
    let answer = world.call(Method::POST, &path(of, "builds"), &of.token, body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_agent_is_never_told_before_its_build() {
    let world = World::new().await;
    let alice = &world.alice;
    let mut socket = world.socket(&path(alice, "agent-connection-watch"), &alice.token).await;
    let first = alice.agent.id;
    assert_eq!(next(&mut socket).await, "start/succeeded");
    assert_eq!(next(&mut socket).await, format!("{first} created"));
    for lifecycle in [Lifecycle::Starting, Lifecycle::Ready] {
        world.report(alice, first, lifecycle).await;
        assert_eq!(next(&mut socket).await, format!("{first} {lifecycle}"));
    }
    // Again and again, a stop and a start. What is told may skip states, but is in order: after a
    // start that has succeeded an agent follows, of that build, and none before.
    for _ in 0..3 {
        build(&world, alice, json!({"transition": "stop"})).await;
        loop {
            let message = next(&mut socket).await;
            assert!(message.starts_with("stop/"), "{message}");
            if message == "stop/succeeded" {
                break;
            }
        }
        build(&world, alice, json!({"transition": "start"})).await;
        loop {
            let message = next(&mut socket).await;
            assert!(message.starts_with("start/"), "{message}");
            if message == "start/succeeded" {
                break;
            }
        }
        let agent = world.agents(alice.workspace.id).await[0].id;
        assert_ne!(agent, first);
        assert_eq!(next(&mut socket).await, format!("{agent} created"));
    }
}

#[tokio::test]
async fn what_is_said_at_first() {
    let world = World::new().await;
    let (alice, bob) = (&world.alice, &world.bob);
    let open = async |of: &Someone, query: &str| {
        world.socket(&path(of, &format!("agent-connection-watch{query}")), &of.token).await
    };
    let id = alice.agent.id;
    let mut named = open(alice, "?agent_name=main").await;
    assert_eq!(next(&mut named).await, "start/succeeded");
    assert_eq!(next(&mut named).await, format!("{id} created"));

    let mut wrong = open(alice, "?agent_name=gpu").await;
    assert_eq!(next(&mut wrong).await, "start/succeeded");
    assert_eq!(next(&mut wrong).await, "error 2");
    assert_eq!(farewell(&mut wrong).await, (1000, "error".to_owned()));

    // A second agent makes a watch without a name ambiguous, at the next report.
    let mut unnamed = open(alice, "").await;
    for _ in 0..2 {
        next(&mut unnamed).await;
    }
    let sub = NewAgent {
        id: Uuid::new_v4(),
        auth_token: AgentToken::generate(),
        spec: AgentSpec { name: "sub".to_owned(), ..AgentSpec::default() },
        scripts: Vec::new(),
        apps: Vec::new(),
        metadata: Vec::new(),
    };
    world.store().create_sub_agent(id, &sub, Timestamp::now()).await.unwrap();
    world.report(alice, id, Lifecycle::Ready).await;
    assert_eq!(next(&mut unnamed).await, "error 1");
    assert_eq!(farewell(&mut unnamed).await, (1000, "error".to_owned()));
    assert_eq!(next(&mut named).await, format!("{id} ready"));

    // A stopped workspace has nothing to say of agents.
    let stop = build(&world, bob, json!({"transition": "stop"})).await;
    world.job(stop, JobStatus::Succeeded).await;
    let mut stopped = open(bob, "").await;
    assert_eq!(next(&mut stopped).await, "stop/succeeded");
    world.report(bob, bob.agent.id, Lifecycle::Off).await;

    // A deletion ends the watch; a watch of what is deleted begins with its end.
    let delete = build(&world, bob, json!({"transition": "delete"})).await;
    world.job(delete, JobStatus::Succeeded).await;
    let mut last = next(&mut stopped).await;
    while last.starts_with("delete/") {
        last = next(&mut stopped).await;
    }
    assert_eq!(last, "error 5");
    assert_eq!(farewell(&mut stopped).await, (1000, "error".to_owned()));
    let mut deleted = open(bob, "").await;
    assert_eq!(next(&mut deleted).await, "error 5");
    assert_eq!(farewell(&mut deleted).await, (1000, "error".to_owned()));
}

#[tokio::test]
async fn a_watch_tells_of_its_own_workspace_only() {
    let world = World::new().await;
    let alice = &world.alice;
    let new = json!({"name": "other", "template_id": alice.workspace.template_id});
    let made = world.call(Method::POST, "/users/me/workspaces", &alice.token, new).await.json();
    let other: Uuid = made["latest_build"]["id"].as_str().unwrap().parse().unwrap();
    world.job(other, JobStatus::Succeeded).await;
    let mut socket = world.socket(&path(alice, "agent-connection-watch"), &alice.token).await;
    for _ in 0..2 {
        next(&mut socket).await;
    }
    // News of the other workspace, on the same channel, come before those of this one.
    let workspace: Uuid = made["id"].as_str().unwrap().parse().unwrap();
    let agent = world.agents(workspace).await[0].id;
    let sibling = Someone {
        user: alice.user.clone(),
        token: alice.token.clone(),
        workspace: world.store().workspace(workspace).await.unwrap(),
        build: alice.build.clone(),
        agent: alice.agent.clone(),
    };
    world.report(&sibling, agent, Lifecycle::Ready).await;
    world.report(alice, alice.agent.id, Lifecycle::StartError).await;
    assert_eq!(next(&mut socket).await, format!("{} start_error", alice.agent.id));
}

#[tokio::test]
async fn whoever_may_no_longer_read_hears_so() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = path(alice, "agent-connection-watch");
    // An owner of the deployment sees everything, as long as they are one.
    let mut socket = world.socket(&path, &world.admin.token).await;
    for _ in 0..2 {
        next(&mut socket).await;
    }
    let now = Timestamp::now();
    let admin = world.admin.user.id;
    world.store().set_user_status(admin, UserStatus::Suspended, now).await.unwrap();
    world.report(alice, alice.agent.id, Lifecycle::Ready).await;
    let error = heard(&mut socket).await;
    assert_eq!(short(&error), "error 5");
    assert_eq!(error["error"]["details"], "unauthorized");
    assert_eq!(farewell(&mut socket).await, (1000, "error".to_owned()));
    assert_eq!(world.admin.user.role, Role::Owner);
}

#[tokio::test]
async fn a_client_that_talks_is_sent_away() {
    let world = World::new().await;
    let alice = &world.alice;
    for (rest, code) in [("agent-connection-watch", 1008), ("watch-ws", 1002)] {
        let mut socket = world.socket(&path(alice, rest), &alice.token).await;
        for _ in 0..2 {
            heard(&mut socket).await;
        }
        socket.send(Bytes::from_static(b"hello")).await.unwrap();
        let reason = "unexpected data message".to_owned();
        assert_eq!(farewell(&mut socket).await, (code, reason), "{rest}");
    }
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let world = World::new().await;
    let alice = &world.alice;
    let mut watch = world.socket(&path(alice, "agent-connection-watch"), &alice.token).await;
    for _ in 0..2 {
        next(&mut watch).await;
    }
    let mut events = stream(&world, alice).await;
    for _ in 0..2 {
        event(&mut events).await;
    }
    let logs = format!("/workspaceagents/{}/logs?follow", alice.agent.id);
    let mut logs = world.socket(&logs, &alice.token).await;
    heard(&mut logs).await;
    let seen = async {
        assert_eq!(next(&mut watch).await, "error 4 retryable");
        assert_eq!(farewell(&mut watch).await, (1000, "error".to_owned()));
        assert_eq!(farewell(&mut logs).await.0, 1011);
        assert_eq!(soon(events.body.chunk()).await.unwrap(), None);
        // The rest of the closing handshakes.
        drop((watch, logs, events));
    };
    tokio::join!(soon(world.deployment.shutdown()), seen);
}

/// An event stream, and what of it is not yet an event.
struct Stream {
    body: Body,
    rest: String,
}

async fn stream(world: &World, of: &Someone) -> Stream {
    let request = Request::get(format!("{}api/v2{}", world.deployment.url(), path(of, "watch")))
        .header("coder-session-token", &of.token)
        .body(Bytes::new())
        .unwrap();
    let response = transport().stream(request, PATIENCE).await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache");
    assert_eq!(header("x-accel-buffering"), "no");
    Stream { body: response.into_body(), rest: String::new() }
}

/// The next event: its type and its data.
async fn event(stream: &mut Stream) -> (String, Value) {
    while !stream.rest.contains("\n\n") {
        let chunk = soon(stream.body.chunk()).await.unwrap().expect("the stream goes on");
        stream.rest += std::str::from_utf8(&chunk).unwrap();
    }
    let (frame, rest) = stream.rest.split_once("\n\n").unwrap();
    let (frame, rest) = (frame.to_owned(), rest.to_owned());
    stream.rest = rest;
    let mut lines = frame.lines();
    let kind = lines.next().unwrap().strip_prefix("event: ").unwrap().to_owned();
    let data = lines.next().map_or(Value::Null, |line| {
        serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap()
    });
    assert_eq!(lines.next(), None);
    (kind, data)
}

#[tokio::test]
async fn the_whole_workspace_as_events() {
    let world = World::new().await;
    let alice = &world.alice;
    let mut events = stream(&world, alice).await;
    assert_eq!(event(&mut events).await, ("ping".to_owned(), Value::Null));
    let (kind, workspace) = event(&mut events).await;
    assert_eq!(kind, "data");
    let same = world.get(&format!("/workspaces/{}", alice.workspace.id), &alice.token).await;
    assert_eq!(workspace, same.json());
    let lifecycle = |workspace: &Value| {
        let agent = &workspace["latest_build"]["resources"][0]["agents"][0];
        agent["lifecycle_state"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(lifecycle(&workspace), "created");
    world.report(alice, alice.agent.id, Lifecycle::Ready).await;
    let (_, workspace) = event(&mut events).await;
    assert_eq!(lifecycle(&workspace), "ready");
    build(&world, alice, json!({"transition": "stop"})).await;
    loop {
        let (kind, workspace) = event(&mut events).await;
        assert_eq!(
            (kind.as_str(), &workspace["latest_build"]["build_number"]),
            ("data", &json!(2))
        );
        if workspace["latest_build"]["status"] == "stopped" {
            break;
        }
    }
}

#[tokio::test]
async fn the_whole_workspace_as_messages() {
    let world = World::new().await;
    let alice = &world.alice;
    let mut socket = world.socket(&path(alice, "watch-ws"), &alice.token).await;
    assert_eq!(heard(&mut socket).await, json!({"type": "ping", "data": null}));
    let first = heard(&mut socket).await;
    let same = world.get(&format!("/workspaces/{}", alice.workspace.id), &alice.token).await;
    assert_eq!(first, json!({"type": "data", "data": same.json()}));
    world.report(alice, alice.agent.id, Lifecycle::Ready).await;
    assert_eq!(heard(&mut socket).await["data"]["health"]["healthy"], false);
}

#[tokio::test]
async fn lost_news_are_made_up_for_by_the_next() {
    let world = World::new().await;
    let alice = &world.alice;
    let mut socket = world.socket(&path(alice, "agent-connection-watch"), &alice.token).await;
    for _ in 0..2 {
        next(&mut socket).await;
    }
    let channel = format!("workspace_owner:{}", alice.user.id);
    let lost = Fault::DropEvent { channel, nth: 1, times: 1 };
    world.state().faults.arm(lost).unwrap();
    world.report(alice, alice.agent.id, Lifecycle::Starting).await;
    world.report(alice, alice.agent.id, Lifecycle::Ready).await;
    assert_eq!(next(&mut socket).await, format!("{} ready", alice.agent.id));
}

/// Many watch, one changes: it is told, to all who watch it and to nobody else.
#[tokio::test]
async fn one_change_reaches_all_its_watchers() {
    let world = World::new().await;
    let alice = &world.alice;
    let template = alice.workspace.template_id;
    let mut others = Vec::new();
    for number in 0..20 {
        let new = json!({"name": format!("w{number}"), "template_id": template});
        let made = world.call(Method::POST, "/users/me/workspaces", &alice.token, new).await;
        let made = made.json();
        let build: Uuid = made["latest_build"]["id"].as_str().unwrap().parse().unwrap();
        world.job(build, JobStatus::Succeeded).await;
        let id = made["id"].as_str().unwrap();
        let path = format!("/workspaces/{id}/agent-connection-watch");
        let mut socket = world.socket(&path, &alice.token).await;
        for _ in 0..2 {
            next(&mut socket).await;
        }
        others.push(socket);
    }
    let mut watchers = Vec::new();
    for _ in 0..20 {
        let path = path(alice, "agent-connection-watch");
        let mut socket = world.socket(&path, &alice.token).await;
        for _ in 0..2 {
            next(&mut socket).await;
        }
        watchers.push(socket);
    }
    world.report(alice, alice.agent.id, Lifecycle::Ready).await;
    for socket in &mut watchers {
        assert_eq!(next(socket).await, format!("{} ready", alice.agent.id));
    }
    for socket in &mut others {
        // Whatever they would have been told is told by now: it was published before.
        let quiet = tokio::time::timeout(Duration::from_millis(1), socket.next()).await;
        assert!(
            !matches!(quiet, Ok(Ok(Message::Text(_)) | Err(Error::Closed { .. }))),
            "{quiet:?}"
        );
    }
}
