//! Requests that are wrong, and who may make any at all.

use std::time::Duration;

use bytes::Bytes;
use coderctl_deployment::{
    config::Limits,
    model::{ApiKey, LoginType, SessionToken, Timestamp, UserStatus},
    store::WorkspaceFilter,
};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::World;

/// Each member has the wrong kind of value.
const WRONG_KINDS: &str = r#"{"transition": 7, "agent_id": 1, "dormant": 1, "deadline": "soon",
    "ttl_ms": "x", "schedule": 1, "name": 1, "lifetime": "x", "rich_parameter_values": 1}"#;

/// Everything that a request could have changed.
async fn rows(world: &World) -> String {
    let store = world.store();
    let filter = WorkspaceFilter::default();
    let workspaces = store.workspaces(&filter).await.unwrap();
    let templates = store.templates().await.unwrap();
    let mut all = format!("{:?} {workspaces:?} {templates:?}", store.users().await.unwrap());
    for workspace in &workspaces {
        all += &format!("{:?}", store.builds(workspace.id, 100, 0).await.unwrap());
    }
    all
}

#[tokio::test]
async fn malformed_requests_change_nothing() {
    let world = World::new().await;
    let alice = &world.alice;
    let admin = &world.admin;
    let template = alice.workspace.template_id;
    let version = alice.build.template_version_id;
    let one = format!("/workspaces/{}", alice.workspace.id);
    let build = format!("/workspacebuilds/{}", alice.build.id);
    let agent = format!("/workspaceagents/{}", alice.agent.id);
    let before = rows(&world).await;
    let (get, post, put, patch) = (Method::GET, Method::POST, Method::PUT, Method::PATCH);
    let builds = format!("{one}/builds");
    let new = |extra: Value| {
        let mut body = json!({"name": "new-one", "template_id": template});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let parameter = |name: &str, value: &str| json!([{"name": name, "value": value}]);
    let workspaces = "/users/me/workspaces";
    // The request, and the field that is wrong.
    let cases: Vec<(&Method, String, Value, &str)> = vec![
        (&get, "/workspaces/xyz".into(), Value::Null, "workspace"),
        (&get, format!("{one}?include_deleted=perhaps"), Value::Null, "include_deleted"),
        (&get, "/workspaces?q=foo:bar".into(), Value::Null, "foo"),
        (&get, "/workspaces?q=a/b/c".into(), Value::Null, "q"),
        (&get, "/workspaces?limit=-1".into(), Value::Null, "limit"),
        (&get, "/workspaces?offset=x".into(), Value::Null, "offset"),
        (&get, format!("{builds}?since=yesterday"), Value::Null, "since"),
        (&get, "/templates?q=foo:bar".into(), Value::Null, "foo"),
        (&get, "/workspacebuilds/1".into(), Value::Null, "build"),
        (&get, format!("{build}/logs?after=x"), Value::Null, "after"),
        (&get, format!("{build}/logs?after=-1"), Value::Null, "after"),
        (&get, format!("{build}/logs?format=xml"), Value::Null, "format"),
        (&get, format!("{build}/logs?format=text&follow"), Value::Null, "format"),
        (&get, "/workspaceagents/zzz".into(), Value::Null, "agent"),
        (&get, format!("{agent}/logs?after=-1"), Value::Null, "after"),
        (&get, "/templateversions/x".into(), Value::Null, "version"),
        (&post, builds.clone(), json!({"transition": "explode"}), "transition"),
        (&post, builds.clone(), json!({"transition": "start", "reason": "whim"}), "reason"),
        (&post, builds.clone(), json!({"transition": "start", "log_level": "debug"}), "log_level"),
        (&post, builds.clone(), json!({"transition": "start", "dry_run": true}), "dry_run"),
        (
            &post,
            builds.clone(),
            json!({"transition": "start", "template_version_id": Uuid::new_v4()}),
            "template_version_id",
        ),
        (
            &post,
            builds.clone(),
            json!({"transition": "start", "template_version_preset_id": Uuid::new_v4()}),
            "template_version_preset_id",
        ),
        (
            &post,
            builds.clone(),
            json!({"transition": "start", "rich_parameter_values": parameter("size", "huge")}),
            "rich_parameter_values",
        ),
        (
            &post,
            builds.clone(),
            json!({"transition": "start", "rich_parameter_values": parameter("zone", "there")}),
            "zone",
        ),
        (&post, workspaces.into(), json!({"name": "x"}), "template_id"),
        (&post, workspaces.into(), new(json!({"template_version_id": version})), "template_id"),
        (&post, workspaces.into(), new(json!({"template_id": Uuid::new_v4()})), "template_id"),
        (&post, workspaces.into(), new(json!({"name": "-bad-"})), "name"),
        (&post, workspaces.into(), new(json!({"name": ""})), "name"),
        (&post, workspaces.into(), new(json!({"ttl_ms": 5})), "ttl_ms"),
        (&post, workspaces.into(), new(json!({"automatic_updates": "often"})), "automatic_updates"),
        (&post, workspaces.into(), new(json!({"autostart_schedule": "0 9 * * *"})), "schedule"),
        (
            &post,
            workspaces.into(),
            new(json!({"template_version_preset_id": Uuid::new_v4()})),
            "template_version_preset_id",
        ),
        (
            &post,
            workspaces.into(),
            new(json!({"rich_parameter_values": parameter("colour", "red")})),
            "rich_parameter_values",
        ),
        (&put, format!("{one}/ttl"), json!({"ttl_ms": 1}), "ttl_ms"),
        (&put, format!("{one}/autostart"), json!({"schedule": "0 9 * * *"}), "schedule"),
        (&post, format!("{one}/usage"), json!({"app_name": "ssh"}), "agent_id"),
        (&post, format!("{one}/usage"), json!({"agent_id": alice.agent.id}), "app_name"),
        (
            &post,
            format!("{one}/usage"),
            json!({"agent_id": alice.agent.id, "app_name": "games"}),
            "app_name",
        ),
        (&patch, one.clone(), json!({"name": "a--b"}), "name"),
        (&post, "/users/me/keys/tokens".into(), json!({"lifetime": -1}), "lifetime"),
        (&post, "/users/me/keys/tokens".into(), json!({"lifetime": 1}), "lifetime"),
        (&post, "/users/me/keys/tokens".into(), json!({"token_name": "a b"}), "token_name"),
        (&post, "/users/me/keys/tokens".into(), json!({"scopes": ["workspace:read"]}), "scopes"),
        (
            &post,
            "/users".into(),
            json!({"username": "a b", "email": "a@example.com", "login_type": "none"}),
            "username",
        ),
        (
            &post,
            "/users".into(),
            json!({"username": "ab", "email": "nowhere", "login_type": "none"}),
            "email",
        ),
        (
            &post,
            "/users".into(),
            json!({"username": "ab", "email": "a@example.com", "login_type": "password",
                   "password": "secret"}),
            "login_type",
        ),
        (
            &post,
            "/organizations/default/templateversions".into(),
            json!({"file_id": Uuid::new_v4()}),
            "file_id",
        ),
        (
            &post,
            "/organizations/default/templates".into(),
            json!({"name": "new-one", "template_version_id": Uuid::new_v4()}),
            "template_version_id",
        ),
        (
            &patch,
            format!("/templates/{template}/versions"),
            json!({"id": Uuid::new_v4()}),
            "template_version_id",
        ),
    ];
    for (method, path, body, field) in cases {
        // What concerns all is asked by who may.
        let concerns_all = ["/users", "/organizations", "/templates"];
        let all = concerns_all.iter().any(|start| path.starts_with(start));
        let token = if all && !path.contains("/me/") { &admin.token } else { &alice.token };
        let answer = world.call(method.clone(), &path, token, body.clone()).await;
        let what = format!("{method} {path} {body}: {answer:?}");
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}");
        let answer = answer.json();
        assert!(!answer["message"].as_str().unwrap().is_empty(), "{what}");
        let fields: Vec<_> =
            answer["validations"].as_array().unwrap().iter().map(|one| &one["field"]).collect();
        assert_eq!(fields[0], field, "{what}");
    }
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn bodies_that_are_no_json_change_nothing() {
    let world = World::new().await;
    let alice = &world.alice;
    let one = format!("/workspaces/{}", alice.workspace.id);
    let before = rows(&world).await;
    for (method, path) in [
        (Method::POST, format!("{one}/builds")),
        (Method::POST, format!("{one}/usage")),
        (Method::PUT, format!("{one}/dormant")),
        (Method::PUT, format!("{one}/extend")),
        (Method::PUT, format!("{one}/ttl")),
        (Method::PUT, format!("{one}/autostart")),
        (Method::PATCH, one.clone()),
        (Method::POST, "/users/me/workspaces".to_owned()),
        (Method::POST, "/organizations/default/members/me/workspaces".to_owned()),
        (Method::POST, "/users/me/keys/tokens".to_owned()),
        (Method::POST, format!("/templateversions/{}/dry-run", alice.build.template_version_id)),
    ] {
        for body in ["{", "[1]", "\"x\"", "\u{0}", WRONG_KINDS] {
            let answer = world.send(method.clone(), &path, &alice.token, Bytes::from(body)).await;
            let what = format!("{method} {path} {body}: {answer:?}");
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}");
            assert_eq!(answer.message(), "Request body must be valid JSON.", "{what}");
        }
    }
    let large = Bytes::from(vec![b' '; (1 << 20) + 1]);
    let path = format!("{one}/builds");
    let answer = world.send(Method::POST, &path, &alice.token, large).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    let world = World::new().await;
    let token = &world.alice.token;
    for (method, path, status, message) in [
        (Method::GET, "/nothing", 404, "Route not found."),
        (Method::GET, "/workspaces/", 404, "Route not found."),
        (Method::DELETE, "/workspaces", 405, "Method not allowed."),
        (Method::POST, "/users/login", 403, "Password authentication is disabled."),
        (Method::POST, "/users/first", 409, "The initial user has already been created."),
    ] {
        let answer = world.call(method, path, token, Value::Null).await;
        assert_eq!(
            (answer.status.as_u16(), answer.message().as_str()),
            (status, message),
            "{path}"
        );
        assert!(!answer.header("x-coder-build-version").is_empty(), "{path}");
    }
    let url = world.deployment.url();
    for (path, contains) in [("", "coderctl login"), ("cli-auth", "TOKEN"), ("healthz", "OK")] {
        let request = Request::get(format!("{url}{path}")).body(Bytes::new()).unwrap();
        let answer = world.answer(request).await;
        let body = String::from_utf8_lossy(&answer.body);
        assert!(answer.status == StatusCode::OK && body.contains(contains), "{path}: {body}");
    }
}

#[tokio::test]
async fn tokens_that_are_not_good() {
    let world = World::new().await;
    let store = world.store();
    let alice = &world.alice;
    let good = &alice.token;
    let (id, _) = good.split_once('-').unwrap();
    let now = Timestamp::now();
    let expired = SessionToken::generate().unwrap();
    let key = ApiKey {
        id: expired.id().to_owned(),
        user_id: alice.user.id,
        hashed_secret: expired.hashed_secret(),
        login_type: LoginType::Token,
        token_name: "expired".to_owned(),
        lifetime: Duration::from_secs(1),
        expires_at: now.minus(Duration::from_secs(1)),
        last_used_at: now,
        created_at: now,
        updated_at: now,
    };
    store.create_api_key(&key).await.unwrap();
    store.set_user_status(world.bob.user.id, UserStatus::Suspended, now).await.unwrap();
    let unknown = SessionToken::generate().unwrap().expose().to_string();
    for (token, why) in [
        ("", "must be provided"),
        ("nonsense", "Invalid API key format"),
        (&unknown, "API key is invalid."),
        (&format!("{id}-{}", "x".repeat(22)), "API key secret is invalid."),
        (&expired.expose(), "API key expired at"),
        (&world.bob.token, "Your account is suspended."),
    ] {
        let answer = world.get("/users/me", token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{why}: {answer:?}");
        assert!(answer.message().starts_with("You are signed out"), "{why}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(why), "{why}: {answer:?}");
        assert!(answer.header("www-authenticate").starts_with("Bearer "), "{why}");
    }
    // A dormant user who comes back is active again; sockets are refused like all else.
    store.set_user_status(alice.user.id, UserStatus::Dormant, now).await.unwrap();
    assert_eq!(world.get("/users/me", good).await.json()["status"], "active");
    let path = format!("/workspaces/{}/agent-connection-watch", alice.workspace.id);
    match world.try_socket(&path, &unknown).await {
        Err(coderctl_transport::Error::Status { parts, .. }) => {
            assert_eq!(parts.status, StatusCode::UNAUTHORIZED);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_used_key_lives_on_and_an_ended_one_does_not() {
    let world = World::new().await;
    let alice = &world.alice;
    let session = world.call(Method::POST, "/users/me/keys", &alice.token, Value::Null).await;
    let session = session.json()["key"].as_str().unwrap().to_owned();
    let (id, _) = session.split_once('-').unwrap();
    // Last used long ago: the next use moves its end.
    let (mut key, _) = world.store().api_key(id).await.unwrap().unwrap();
    let hour = Duration::from_secs(3600);
    let long_ago = Timestamp::now().minus(2 * hour);
    world.store().delete_api_key(alice.user.id, id).await.unwrap();
    key.last_used_at = long_ago;
    key.expires_at = Timestamp::now().plus(hour);
    world.store().create_api_key(&key).await.unwrap();
    assert_eq!(world.get("/users/me", &session).await.status, StatusCode::OK);
    let (used, _) = world.store().api_key(id).await.unwrap().unwrap();
    assert!(used.last_used_at > long_ago && used.expires_at > key.expires_at, "{used:?}");

    let path = format!("/users/me/keys/{id}");
    let expire = format!("{path}/expire");
    let answer = world.call(Method::PUT, &expire, &alice.token, Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/users/me", &session).await.status, StatusCode::UNAUTHORIZED);
    let answer = world.call(Method::DELETE, &path, &alice.token, Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let answer = world.call(Method::DELETE, &path, &alice.token, Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_again() {
    let limits = Limits {
        user_burst: 3,
        user_per_second: 1,
        refusal_burst: 2,
        refusals_per_second: 1,
        ..Limits::default()
    };
    let world = World::with(|config| config.limits = limits).await;
    let ask = async |token: &str, times: usize| {
        let mut last = None;
        for _ in 0..times {
            last = Some(world.get("/users/me", token).await);
        }
        last.unwrap()
    };
    assert_eq!(ask(&world.alice.token, 3).await.status, StatusCode::OK);
    let answer = ask(&world.alice.token, 2).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    // It is that user's affair alone.
    assert_eq!(ask(&world.bob.token, 1).await.status, StatusCode::OK);
    assert_eq!(ask("nonsense", 2).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("nonsense", 2).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask(&world.bob.token, 1).await.status, StatusCode::OK);
}
