//! How messages with a secret in them print: every field but the secret.

use std::fmt;

use super::{
    agent::{Manifest, SubAgent, WorkspaceSecret},
    tailnet::RefreshResumeTokenResponse,
};

/// Stands where a secret would.
struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl fmt::Debug for RefreshResumeTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token: _, refresh_in, expires_at, peer_id } = self;
        f.debug_struct("RefreshResumeTokenResponse")
            .field("token", &Redacted)
            .field("refresh_in", refresh_in)
            .field("expires_at", expires_at)
            .field("peer_id", peer_id)
            .finish()
    }
}

impl fmt::Debug for WorkspaceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { env_name, file_path, value: _ } = self;
        f.debug_struct("WorkspaceSecret")
            .field("env_name", env_name)
            .field("file_path", file_path)
            .field("value", &Redacted)
            .finish()
    }
}

impl fmt::Debug for SubAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, id, auth_token: _ } = self;
        f.debug_struct("SubAgent")
            .field("name", name)
            .field("id", id)
            .field("auth_token", &Redacted)
            .finish()
    }
}

/// Environment values are often tokens (`CODER_AGENT_TOKEN`, a template's own), so only their
/// names print; scripts, which may quote them, print as a count.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("agent_id", &self.agent_id)
            .field("agent_name", &self.agent_name)
            .field("workspace_id", &self.workspace_id)
            .field("workspace_name", &self.workspace_name)
            .field("owner_username", &self.owner_username)
            .field("parent_id", &self.parent_id)
            .field("directory", &self.directory)
            .field("environment", &self.environment_variables.keys().collect::<Vec<_>>())
            .field("scripts", &self.scripts.len())
            .field("apps", &self.apps.len())
            .field("metadata", &self.metadata.len())
            .field("devcontainers", &self.devcontainers.len())
            .field("secrets", &self.secrets)
            .field("derp_map", &self.derp_map)
            .field("derp_force_websockets", &self.derp_force_websockets)
            .field("disable_direct_connections", &self.disable_direct_connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let manifest = Manifest {
            environment_variables: [("TOKEN".to_owned(), "hush".to_owned())].into(),
            secrets: vec![WorkspaceSecret { value: b"hush".to_vec(), ..Default::default() }],
            ..Default::default()
        };
        let token = RefreshResumeTokenResponse { token: "hush".to_owned(), ..Default::default() };
        let sub = SubAgent { auth_token: b"hush".to_vec(), ..Default::default() };
        let text = format!("{manifest:?} {token:?} {sub:?}");
        assert!(!text.contains("hush") && !text.contains("104, 117"), "{text}");
        assert!(text.contains("TOKEN"), "{text}");
    }
}
