//! Logs, as lists, as text, and followed.

use coderctl_deployment::model::{JobStatus, LogLevel, NewAgentLog, Timestamp};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{Someone, World, farewell, heard};

async fn start(world: &World, of: &Someone) -> Uuid {
    for transition in ["stop", "start"] {
        let path = format!("/workspaces/{}/builds", of.workspace.id);
        let body = json!({"transition": transition});
        let answer = world.call(Method::POST, &path, &of.token, body).await;
        let id: Uuid = answer.json()["id"].as_str().unwrap().parse().unwrap();
        if transition == "start" {
            return id;
        }
        world.job(id, JobStatus::Succeeded).await;
    }
    unreachable!("the second is a start")
}

fn outputs(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["output"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_builds_log() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = format!("/workspacebuilds/{}/logs", alice.build.id);
    let all = world.get(&path, &alice.token).await.json();
    let all = all.as_array().unwrap();
    assert_eq!(outputs(all), ["first", "second"]);
    let after = &all[0]["id"];
    let rest = world.get(&format!("{path}?after={after}"), &alice.token).await.json();
    assert_eq!(outputs(rest.as_array().unwrap()), ["second"]);
    let text = world.get(&format!("{path}?format=text"), &alice.token).await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        lines,
        ["[info] [provisioner|Planning] first", "[warn] [provisioner|Planning] second"]
    );

    // One that is over: what there is, then the end.
    for (query, wanted) in [("follow", all.len()), (&format!("follow=false&after={after}"), 1)] {
        let mut socket = world.socket(&format!("{path}?{query}"), &alice.token).await;
        for line in &all[all.len() - wanted..] {
            assert_eq!(heard(&mut socket).await, *line, "{query}");
        }
        assert_eq!(farewell(&mut socket).await, (1000, "done".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn a_builds_log_as_it_grows() {
    let world = World::new().await;
    let alice = &world.alice;
    let held = world.hold_jobs();
    // Held from its first step on: stop is held as well, so let it pass first.
    world.release_jobs(held);
    let stop = json!({"transition": "stop"});
    let path = format!("/workspaces/{}/builds", alice.workspace.id);
    let stopped = world.call(Method::POST, &path, &alice.token, stop).await.json();
    world.job(stopped["id"].as_str().unwrap().parse().unwrap(), JobStatus::Succeeded).await;
    let held = world.hold_jobs();
    let begun = json!({"transition": "start"});
    let begun = world.call(Method::POST, &path, &alice.token, begun).await.json();
    let id: Uuid = begun["id"].as_str().unwrap().parse().unwrap();
    world.job(id, JobStatus::Running).await;
    let mut socket =
        world.socket(&format!("/workspacebuilds/{id}/logs?follow"), &alice.token).await;
    world.release_jobs(held);
    for output in ["first", "second"] {
        assert_eq!(heard(&mut socket).await["output"], output);
    }
    assert_eq!(farewell(&mut socket).await, (1000, "done".to_owned()));
    world.job(id, JobStatus::Succeeded).await;
}

#[tokio::test]
async fn a_cancelled_builds_log_ends() {
    let world = World::new().await;
    let alice = &world.alice;
    let held = world.hold_jobs();
    let path = format!("/workspaces/{}/builds", alice.workspace.id);
    let begun = world.call(Method::POST, &path, &alice.token, json!({"transition": "stop"})).await;
    let id: Uuid = begun.json()["id"].as_str().unwrap().parse().unwrap();
    world.job(id, JobStatus::Running).await;
    let mut socket =
        world.socket(&format!("/workspacebuilds/{id}/logs?follow"), &alice.token).await;
    let cancel = format!("/workspacebuilds/{id}/cancel");
    let answer = world.call(Method::PATCH, &cancel, &alice.token, Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(farewell(&mut socket).await, (1000, "done".to_owned()));
    world.release_jobs(held);
    world.job(id, JobStatus::Canceled).await;
}

async fn say(world: &World, of: &Someone, outputs: &[&str]) {
    let now = Timestamp::now();
    let line = |output: &&str| NewAgentLog {
        created_at: now,
        level: LogLevel::Info,
        output: (*output).to_owned(),
    };
    let lines: Vec<_> = outputs.iter().map(line).collect();
    let source = world.store().log_sources(of.agent.id).await.unwrap()[0].id;
    let kept = world.store().append_agent_logs(of.agent.id, source, &lines, now).await.unwrap();
    let after = kept.created_after().unwrap();
    world.state().pubsub.publish_agent_logs(of.agent.id, after).await.unwrap();
}

#[tokio::test]
async fn an_agents_log() {
    let world = World::new().await;
    let alice = &world.alice;
    let path = format!("/workspaceagents/{}/logs", alice.agent.id);
    let mut socket = world.socket(&format!("{path}?follow&no_compression"), &alice.token).await;
    assert_eq!(heard(&mut socket).await, json!([]));
    say(&world, alice, &["one", "two"]).await;
    let lines = heard(&mut socket).await;
    let lines = lines.as_array().unwrap();
    assert_eq!(outputs(lines), ["one", "two"]);
    say(&world, alice, &["three"]).await;
    assert_eq!(outputs(heard(&mut socket).await.as_array().unwrap()), ["three"]);
    let after = &lines[0]["id"];
    let rest = world.get(&format!("{path}?after={after}"), &alice.token).await.json();
    assert_eq!(outputs(rest.as_array().unwrap()), ["two", "three"]);
    let text = world.get(&format!("{path}?format=text&after={after}"), &alice.token).await;
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["[info] [agent.main|install] two", "[info] [agent.main|install] three"]);

    // It ends with the build that the agent is of, which may have had a last word.
    start(&world, alice).await;
    assert_eq!(farewell(&mut socket).await, (1000, String::new()));
    let mut late = world.socket(&format!("{path}?follow&after={after}"), &alice.token).await;
    assert_eq!(outputs(heard(&mut late).await.as_array().unwrap()), ["two", "three"]);
    assert_eq!(farewell(&mut late).await, (1000, String::new()));
}
