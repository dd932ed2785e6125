//! What is asked of workspaces: builds, new workspaces, and what those are made of.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Build, Client, Error, Workspace,
    client::{json, segment},
};

/// What a build does to a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// Makes it run.
    Start,
    /// Stops it; its persistent part stays.
    Stop,
    /// Removes it.
    Delete,
}

/// Why a build is asked for, as the audit log shows it (coder/coder: codersdk/workspacebuilds.go).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Somebody connects; the Go client says so of its forwards, too.
    SshConnection,
    /// A command asked for it.
    Cli,
}

/// A template's parameter and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A build to be made.
#[derive(Debug, Clone, Serialize)]
pub struct BuildRequest {
    transition: Transition,
    reason: Reason,
    /// Another version than that of the last build.
    #[serde(skip_serializing_if = "Option::is_none")]
    template_version_id: Option<Uuid>,
    /// Parameters that change; others keep their last values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rich_parameter_values: Vec<Parameter>,
}

impl BuildRequest {
    /// A build of the last build's version, with its parameters.
    #[must_use]
    pub fn new(transition: Transition, reason: Reason) -> Self {
        Self { transition, reason, template_version_id: None, rich_parameter_values: Vec::new() }
    }

    /// The same with these parameters changed.
    #[must_use]
    pub fn parameters(mut self, parameters: Vec<Parameter>) -> Self {
        self.rich_parameter_values = parameters;
        self
    }
}

/// A workspace to be made.
#[derive(Debug, Clone, Serialize)]
pub struct NewWorkspace {
    /// Its name.
    pub name: String,
    /// Of which template.
    pub template_id: Uuid,
    /// Which preset of the template; with one, a prebuilt workspace may be claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_version_preset_id: Option<Uuid>,
    /// Values of parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rich_parameter_values: Vec<Parameter>,
}

/// An organization.
#[derive(Debug, Clone, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
}

/// A template.
#[derive(Debug, Clone, Deserialize)]
pub struct Template {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its current version.
    pub active_version_id: Uuid,
}

/// A version of a template, which a job imports.
#[derive(Debug, Clone, Deserialize)]
pub struct TemplateVersion {
    /// Its id.
    pub id: Uuid,
    /// The job that imports it.
    pub job: super::types::Job,
}

/// A preset of a template version. Its keys are capitalised (coder/coder: codersdk/presets.go).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Preset {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Whether it is what is meant when none is named.
    #[serde(default)]
    pub default: bool,
}

impl Client {
    /// Asks for a build. A start gets the template's active version where the workspace or the
    /// template wants that; `updating` is called where only the template's refusal tells.
    ///
    /// # Errors
    /// 409 when a build is active, 403 and 400 when it is refused; see [`Error`].
    pub async fn build_workspace(
        &self,
        workspace: &Workspace,
        mut request: BuildRequest,
        updating: impl FnOnce(),
    ) -> Result<Build, Error> {
        let path = format!("/workspaces/{}/builds", workspace.id);
        let newer = workspace.newer_version();
        if newer.is_none() || request.transition != Transition::Start {
            return self.post(&path, &request).await;
        }
        if workspace.wants_newest() {
            request.template_version_id = newer;
        }
        match self.post(&path, &request).await {
            // A template that insists on its active version says it like this.
            Err(error)
                if error.is(StatusCode::FORBIDDEN) && request.template_version_id.is_none() =>
            {
                updating();
                request.template_version_id = newer;
                self.post(&path, &request).await
            }
            outcome => outcome,
        }
    }

    /// Asks for a workspace of one's own.
    ///
    /// # Errors
    /// 409 when there is one of that name, 400 and 403 when it is refused; see [`Error`].
    pub async fn create_workspace(&self, workspace: &NewWorkspace) -> Result<Workspace, Error> {
        self.post("/users/me/workspaces", workspace).await
    }

    /// The organizations of the user.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn organizations(&self) -> Result<Vec<Organization>, Error> {
        self.get("/users/me/organizations", &[]).await
    }

    /// A template by name.
    ///
    /// # Errors
    /// 404 when the organization has none of that name; see [`Error`].
    pub async fn template(&self, organization: Uuid, name: &str) -> Result<Template, Error> {
        let name = segment(name)?;
        self.get(&format!("/organizations/{organization}/templates/{name}"), &[]).await
    }

    /// The templates of an organization that the user may see.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn templates(&self, organization: Uuid) -> Result<Vec<Template>, Error> {
        self.get(&format!("/organizations/{organization}/templates"), &[]).await
    }

    /// The presets of a template version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn presets(&self, version: Uuid) -> Result<Vec<Preset>, Error> {
        let presets: Option<Vec<Preset>> =
            self.get(&format!("/templateversions/{version}/presets"), &[]).await?;
        Ok(presets.unwrap_or_default())
    }

    /// Uploads a file; answers its id. Servers that do not take its kind answer 400.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upload(&self, kind: &'static str, content: Bytes) -> Result<Uuid, Error> {
        #[derive(Deserialize)]
        struct Answer {
            hash: Uuid,
        }
        let kind = HeaderValue::from_static(kind);
        let (call, answer) = self
            .send_with(Method::POST, "/files", content, &[(header::CONTENT_TYPE, kind)])
            .await?;
        let answer: Answer = self.decode(&call, &answer)?;
        Ok(answer.hash)
    }

    /// Makes a version of an uploaded file, of this template or of one to be made.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_template_version(
        &self,
        organization: Uuid,
        template: Option<Uuid>,
        file: Uuid,
    ) -> Result<TemplateVersion, Error> {
        let path = format!("/organizations/{organization}/templateversions");
        let mut body = serde_json::json!({
            "file_id": file, "storage_method": "file", "provisioner": "echo",
        });
        if let Some(template) = template {
            body["template_id"] = template.to_string().into();
        }
        self.post(&path, &body).await
    }

    /// A template version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn template_version(&self, id: Uuid) -> Result<TemplateVersion, Error> {
        self.get(&format!("/templateversions/{id}"), &[]).await
    }

    /// Makes a template of a version.
    ///
    /// # Errors
    /// 409 when there is one of that name; see [`Error`].
    pub async fn create_template(
        &self,
        organization: Uuid,
        name: &str,
        version: Uuid,
    ) -> Result<Template, Error> {
        let path = format!("/organizations/{organization}/templates");
        let body = serde_json::json!({"name": name, "template_version_id": version});
        self.post(&path, &body).await
    }

    /// Makes this version a template's current one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn activate_version(&self, template: Uuid, version: Uuid) -> Result<(), Error> {
        let body = json(&serde_json::json!({"id": version}));
        let path = format!("/templates/{template}/versions");
        self.send(Method::PATCH, &path, body).await.map(drop)
    }
}
