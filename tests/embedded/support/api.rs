//! What tests ask a deployment themselves, and make of it.

use std::{cell::RefCell, collections::BTreeMap};

use bytes::Bytes;
use coderctl_transport::{Limits, Options, Transport};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::until;

/// The REST interface, as one user.
pub struct Api {
    url: String,
    token: String,
    transport: Transport,
    runtime: RefCell<Runtime>,
}

impl Api {
    pub fn new(url: &str, token: &str) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            transport: Transport::new(Options::default()).unwrap(),
            runtime: RefCell::new(Builder::new_current_thread().enable_all().build().unwrap()),
        }
    }

    /// Asks; `None` when no answer came.
    pub fn try_ask(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Option<(StatusCode, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v2{path}", self.url))
            .header("Coder-Session-Token", &self.token)
            .header("Content-Type", kind)
            .body(body.into())
            .unwrap();
        let answer = self.transport.request(request, Limits::default());
        let answer = self.runtime.borrow_mut().block_on(answer).ok()?;
        // Nothing, and what is no JSON, is null.
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        Some((answer.status(), body))
    }

    /// Asks with a JSON body; `None` when no answer came.
    pub fn try_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Option<(StatusCode, Value)> {
        self.try_ask(method, path, "application/json", body.to_string())
    }

    /// Asks, and is answered with success.
    #[track_caller]
    fn done(&self, method: Method, path: &str, body: &Value) -> Value {
        let asked = format!("{method} {path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.try_ask(method, path, "application/json", body).unwrap();
        assert!(status.is_success(), "{asked}: {status} {answer}");
        answer
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.done(Method::GET, path, &Value::Null)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.done(Method::POST, path, body)
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.done(Method::PUT, path, body)
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Value {
        self.done(Method::PATCH, path, body)
    }

    /// Makes a template, or the next version of one; its id.
    #[track_caller]
    pub fn template(&self, name: &str, text: &str) -> String {
        let (status, file) =
            self.try_ask(Method::POST, "/files", "application/toml", text.to_owned()).unwrap();
        assert_eq!(status, StatusCode::CREATED, "{file}");
        let organization = &self.get("/users/me/organizations")[0]["id"];
        let organization = format!("/organizations/{}", organization.as_str().unwrap());
        let mut version = json!({
            "file_id": file["hash"], "storage_method": "file", "provisioner": "echo",
        });
        let path = format!("{organization}/templates/{name}");
        let known = match self.try_ask(Method::GET, &path, "", "").unwrap() {
            (StatusCode::OK, template) => Some(template["id"].as_str().unwrap().to_owned()),
            (StatusCode::NOT_FOUND, _) => None,
            other => panic!("{other:?}"),
        };
        if let Some(template) = &known {
            version["template_id"] = template.as_str().into();
        }
        let version = self.post(&format!("{organization}/templateversions"), &version);
        assert_eq!(version["job"]["status"], "succeeded", "{version}");
        match known {
            Some(template) => {
                let path = format!("/templates/{template}/versions");
                self.patch(&path, &json!({"id": version["id"]}));
                template
            }
            None => {
                let body = json!({"name": name, "template_version_id": version["id"]});
                let made = self.post(&format!("{organization}/templates"), &body);
                made["id"].as_str().unwrap().to_owned()
            }
        }
    }

    /// Asks for a workspace of a template, by its id.
    #[track_caller]
    pub fn create(&self, name: &str, template: &str) -> Value {
        self.post("/users/me/workspaces", &json!({"name": name, "template_id": template}))
    }

    /// A workspace of one's own.
    #[track_caller]
    pub fn workspace(&self, name: &str) -> Value {
        self.get(&format!("/users/me/workspace/{name}"))
    }

    /// Asks for a build of a workspace.
    #[track_caller]
    pub fn build(&self, name: &str, transition: &str) -> Value {
        let id = id(&self.workspace(name));
        self.post(&format!("/workspaces/{id}/builds"), &json!({"transition": transition}))
    }

    /// A workspace, once its latest build's status is this.
    #[track_caller]
    pub fn in_status(&self, name: &str, status: &str) -> Value {
        until(&format!("{name} is {status}"), || {
            let workspace = self.workspace(name);
            (workspace["latest_build"]["status"] == status).then_some(workspace)
        })
    }

    /// Its only agent, once its lifecycle is this.
    #[track_caller]
    pub fn agent_in(&self, name: &str, lifecycle: &str) -> Value {
        until(&format!("the agent of {name} is {lifecycle}"), || {
            let workspace = self.workspace(name);
            let mut agents = agents(&workspace).into_iter();
            agents.next().filter(|agent| agent["lifecycle_state"] == lifecycle)
        })
    }

    /// The prebuilt workspaces that may be claimed, once there are so many.
    #[track_caller]
    pub fn prebuilds(&self, count: usize) -> BTreeMap<String, Value> {
        until(&format!("{count} prebuilt workspaces"), || {
            let found = self.get("/workspaces?q=owner:prebuilds");
            let ready: BTreeMap<_, _> = found["workspaces"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|workspace| {
                    let agents = agents(workspace);
                    workspace["latest_build"]["status"] == "running"
                        && !agents.is_empty()
                        && agents.iter().all(|agent| agent["lifecycle_state"] == "ready")
                })
                .map(|workspace| (id(workspace), workspace.clone()))
                .collect();
            (ready.len() == count).then_some(ready)
        })
    }
}

/// The id of anything.
#[track_caller]
pub fn id(of: &Value) -> String {
    of["id"].as_str().unwrap_or_else(|| panic!("no id in {of}")).to_owned()
}

/// The agents of a workspace's latest build.
pub fn agents(workspace: &Value) -> Vec<Value> {
    let resources = workspace["latest_build"]["resources"].as_array();
    let agents = |resource: &Value| resource["agents"].as_array().cloned().unwrap_or_default();
    resources.into_iter().flatten().flat_map(agents).collect()
}

/// Another user, and a token of theirs.
#[track_caller]
pub fn token_of(owner: &Api, name: &str) -> String {
    let email = format!("{name}@example.com");
    owner.post("/users", &json!({"username": name, "email": email, "login_type": "none"}));
    let made = owner.post(&format!("/users/{name}/keys/tokens"), &json!({}));
    made["key"].as_str().unwrap().to_owned()
}
