//! What each endpoint says, to the letter; and that nothing is missing that a real server says.

use coderctl_deployment::model::{JobStatus, Lifecycle};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{golden::assert_golden, world::World};

/// Answers of a Coder server of July 2026 (ids and dates are of throw-away rows).
const RECORDED: [(&str, &str); 3] = [
    ("workspace", include_str!("recorded/workspace.json")),
    ("agent", include_str!("recorded/agent.json")),
    ("template-version", include_str!("recorded/template-version.json")),
];

#[tokio::test]
async fn every_endpoint_has_its_shape() {
    let world = World::new().await;
    let alice = &world.alice;
    let (workspace, build, agent) = (alice.workspace.id, alice.build.id, alice.agent.id);
    let (template, version) = (alice.workspace.template_id, alice.build.template_version_id);
    world.report(alice, agent, Lifecycle::Starting).await;
    world.report(alice, agent, Lifecycle::Ready).await;
    for (name, path) in [
        ("hello", String::new()),
        ("build-info", "/buildinfo".into()),
        ("update-check", "/updatecheck".into()),
        ("appearance", "/appearance".into()),
        ("deployment-ssh", "/deployment/ssh".into()),
        ("entitlements", "/entitlements".into()),
        ("experiments", "/experiments".into()),
        ("regions", "/regions".into()),
        ("first-user", "/users/first".into()),
        ("auth-methods", "/users/authmethods".into()),
        ("user", "/users/me".into()),
        ("tokens", "/users/me/keys/tokens".into()),
        ("token", "/users/me/keys/tokens/test".into()),
        ("token-config", "/users/me/keys/tokens/tokenconfig".into()),
        ("organizations", "/users/me/organizations".into()),
        ("organization", "/organizations/default".into()),
        ("member", "/organizations/coder/members/me".into()),
        ("templates", "/templates?q=exact_name:test".into()),
        ("template", format!("/templates/{template}")),
        ("template-by-name", "/organizations/coder/templates/test".into()),
        ("template-versions", format!("/templates/{template}/versions")),
        ("template-version", format!("/templateversions/{version}")),
        ("presets", format!("/templateversions/{version}/presets")),
        ("rich-parameters", format!("/templateversions/{version}/rich-parameters")),
        ("external-auth", format!("/templateversions/{version}/external-auth")),
        ("workspace", format!("/workspaces/{workspace}")),
        ("workspace-by-name", "/users/me/workspace/dev".into()),
        ("workspaces", "/workspaces?q=owner:me".into()),
        ("resolve-autostart", format!("/workspaces/{workspace}/resolve-autostart")),
        ("build", format!("/workspacebuilds/{build}")),
        ("build-by-number", "/users/me/workspace/dev/builds/1".into()),
        ("builds", format!("/workspaces/{workspace}/builds")),
        ("build-parameters", format!("/workspacebuilds/{build}/parameters")),
        ("build-resources", format!("/workspacebuilds/{build}/resources")),
        ("build-timings", format!("/workspacebuilds/{build}/timings")),
        ("build-logs", format!("/workspacebuilds/{build}/logs")),
        ("agent", format!("/workspaceagents/{agent}")),
        ("agent-logs", format!("/workspaceagents/{agent}/logs")),
        ("connection", "/workspaceagents/connection".into()),
    ] {
        let answer = world.get(&path, &alice.token).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        assert!(answer.header("content-type").starts_with("application/json"), "{path}");
        assert_golden(name, &stable(name, answer.json()));
    }
}

/// What differs from one run to the next without being an id or a time.
fn stable(name: &str, mut answer: Value) -> Value {
    if name == "connection" {
        let regions = answer["derp_map"]["Regions"].as_object_mut().unwrap();
        for node in regions.values_mut().flat_map(|region| region["Nodes"].as_array_mut().unwrap())
        {
            for port in ["DERPPort", "STUNPort"] {
                if node[port].as_i64().is_some_and(|port| port > 0) {
                    node[port] = json!("<port>");
                }
            }
        }
    }
    // The job may have begun already.
    let build = match name {
        "create-build" => Some(&mut answer),
        "create-workspace" => Some(&mut answer["latest_build"]),
        _ => None,
    };
    if let Some(build) = build {
        let known =
            matches!(build["status"].as_str().unwrap(), "pending" | "starting" | "stopping");
        assert!(known, "{build}");
        let build = build.as_object_mut().unwrap();
        for member in ["status", "matched_provisioners", "updated_at"] {
            assert!(build.remove(member).is_some(), "{member}");
        }
        let job = build["job"].as_object_mut().unwrap();
        for member in ["status", "queue_position", "queue_size"] {
            assert!(job.remove(member).is_some(), "{member}");
        }
        for member in ["started_at", "worker_id"] {
            job.remove(member);
        }
    }
    answer
}

/// Every member that a real server writes is there, and of the same kind.
#[tokio::test]
async fn nothing_is_missing_that_a_real_server_says() {
    let world = World::new().await;
    let alice = &world.alice;
    let version = alice.build.template_version_id;
    for (name, path) in [
        ("workspace", format!("/workspaces/{}", alice.workspace.id)),
        ("agent", format!("/workspaceagents/{}", alice.agent.id)),
        ("template-version", format!("/templateversions/{version}")),
    ] {
        let recorded = RECORDED.iter().find(|(known, _)| *known == name).unwrap().1;
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        let ours = world.get(&path, &alice.token).await.json();
        let mut missing = Vec::new();
        compare(name, &recorded, &ours, &mut missing);
        // Those are said once there is something to be said, or by a worker, or by a template
        // with a schedule.
        missing.retain(|path| {
            let last = path.rsplit('.').next().unwrap();
            !matches!(
                last,
                "first_connected_at"
                    | "last_connected_at"
                    | "latency"
                    | "worker_id"
                    | "autostart_schedule"
                    | "ttl_ms"
            )
        });
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

fn compare(at: &str, recorded: &Value, ours: &Value, missing: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                let at = format!("{at}.{key}");
                match ours.get(key) {
                    Some(ours) => compare(&at, value, ours, missing),
                    None => missing.push(at),
                }
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if let (Some(recorded), Some(ours)) = (recorded.first(), ours.first()) {
                compare(&format!("{at}[]"), recorded, ours, missing);
            }
        }
        // A member that may be null is null in one and set in the other.
        (Value::Null, _) | (_, Value::Null) => {}
        (recorded, ours) => {
            if std::mem::discriminant(recorded) != std::mem::discriminant(ours) {
                missing.push(format!("{at} is {ours} and not like {recorded}"));
            }
        }
    }
}

#[tokio::test]
async fn answers_to_what_changes_something() {
    let world = World::new().await;
    let (admin, alice) = (&world.admin, &world.alice);
    let one = format!("/workspaces/{}", alice.workspace.id);
    let template = alice.workspace.template_id;
    let held = world.hold_jobs();
    let call =
        async |name: &str, method: Method, path: &str, token: &str, body: Value, status: u16| {
            let answer = world.call(method, path, token, body).await;
            assert_eq!(answer.status.as_u16(), status, "{path}: {answer:?}");
            if !name.is_empty() {
                assert_golden(name, &stable(name, answer.json()));
            }
            answer
        };
    let (post, put) = (Method::POST, Method::PUT);
    let stop = json!({"transition": "stop", "reason": "cli"});
    let path = format!("{one}/builds");
    let build = call("create-build", post.clone(), &path, &alice.token, stop, 201).await.json();
    let id: uuid::Uuid = build["id"].as_str().unwrap().parse().unwrap();
    let workspace = json!({"name": "two", "template_id": template});
    call("create-workspace", post.clone(), "/users/me/workspaces", &alice.token, workspace, 201)
        .await;
    world.job(id, JobStatus::Running).await;
    let path = format!("/workspacebuilds/{id}/cancel?expect_status=running");
    call("cancel", Method::PATCH, &path, &alice.token, Value::Null, 200).await;
    world.release_jobs(held);
    world.job(id, JobStatus::Canceled).await;

    call("session", post.clone(), "/users/me/keys", &alice.token, Value::Null, 201).await;
    let token = json!({"lifetime": 60_000_000_000_i64, "token_name": "short", "scope": "all"});
    call("new-token", post.clone(), "/users/me/keys/tokens", &alice.token, token, 201).await;
    let user = json!({"username": "carol", "email": "carol@example.com", "login_type": "none"});
    call("new-user", post.clone(), "/users", &admin.token, user, 201).await;
    let path = format!("{one}/usage");
    call("", post.clone(), &path, &alice.token, Value::Null, 204).await;
    let path = format!("{one}/ttl");
    call("", put.clone(), &path, &alice.token, json!({"ttl_ms": 3_600_000}), 204).await;
    let path = format!("{one}/dormant");
    call("dormant", put.clone(), &path, &alice.token, json!({"dormant": true}), 200).await;
    call("", put.clone(), &path, &alice.token, json!({"dormant": true}), 304).await;
    call("", put.clone(), &path, &alice.token, json!({"dormant": false}), 200).await;
    call("", Method::PATCH, &one, &alice.token, json!({"name": "dev2"}), 204).await;
    call("logout", post, "/users/logout", &alice.token, Value::Null, 200).await;
    call("signed-out", Method::GET, "/users/me", &alice.token, Value::Null, 401).await;
}
