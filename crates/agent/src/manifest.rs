//! What the server says the agent is to be.

use std::{ffi::OsString, fmt, path::Path, time::Duration};

use coderctl_drpc::proto::agent as proto;
use coderctl_tailnet::{derp_map::DerpMap, ids::PeerId};
use serde_json::json;
use uuid::Uuid;

use crate::{environment, ssh::SessionEnvironment};

/// A manifest that can be worked with. Not for `Debug`: values of variables are often secrets.
#[derive(Clone)]
pub(crate) struct Manifest {
    pub(crate) agent_id: Uuid,
    pub(crate) workspace_id: Uuid,
    pub(crate) agent_name: String,
    pub(crate) workspace_name: String,
    pub(crate) owner_name: String,
    /// Expanded: absolute, or empty.
    pub(crate) directory: String,
    pub(crate) motd_file: String,
    pub(crate) vscode_proxy_uri: String,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) derp_map: DerpMap,
    /// Relays are to be reached over WebSocket only.
    pub(crate) force_websockets: bool,
    /// Peers may reach us through relays only.
    pub(crate) disable_direct: bool,
    pub(crate) scripts: Vec<Script>,
    pub(crate) apps: Vec<App>,
    pub(crate) metadata: Vec<Metadata>,
}

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) id: Uuid,
    pub(crate) log_source_id: Uuid,
    /// Where its output goes, besides the server; empty for a name of our own.
    pub(crate) log_path: String,
    pub(crate) text: String,
    /// Empty for none.
    pub(crate) cron: String,
    pub(crate) run_on_start: bool,
    pub(crate) run_on_stop: bool,
    /// Zero for none.
    pub(crate) timeout: Duration,
    pub(crate) display_name: String,
}

/// An app whose health is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) id: Uuid,
    pub(crate) slug: String,
    /// Empty when nobody wants to know.
    pub(crate) health_url: String,
    pub(crate) interval: Duration,
    pub(crate) threshold: u32,
}

/// A value that is shown in the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) key: String,
    pub(crate) script: String,
    /// Zero: once.
    pub(crate) interval: Duration,
    /// Zero: not said.
    pub(crate) timeout: Duration,
}

/// A secret of the owner.
#[derive(Clone)]
pub(crate) struct Secret {
    /// Variable to set, if any.
    pub(crate) variable: String,
    /// File to write, if any.
    pub(crate) file: String,
    pub(crate) value: zeroize::Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("variable", &self.variable)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A manifest that cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the server's manifest names no agent")]
    NoAgent,
    #[error("the server's manifest has a relay map that cannot be used: {0}")]
    DerpMap(#[from] coderctl_tailnet::derp_map::DerpMapError),
}

impl Manifest {
    /// Reads a manifest; paths are expanded against the agent's own variables.
    pub(crate) fn parse(
        message: proto::Manifest,
        process: &[(OsString, OsString)],
    ) -> Result<Self, ManifestError> {
        let agent_id = uuid(&message.agent_id);
        if agent_id.is_nil() {
            return Err(ManifestError::NoAgent);
        }
        let derp_map = match message.derp_map {
            Some(map) => DerpMap::from_proto(map)?,
            None => DerpMap::default(),
        };
        let secrets = message.secrets.into_iter().map(|secret| Secret {
            variable: secret.env_name,
            file: secret.file_path,
            value: zeroize::Zeroizing::new(secret.value),
        });
        Ok(Self {
            agent_id,
            workspace_id: uuid(&message.workspace_id),
            agent_name: message.agent_name,
            workspace_name: message.workspace_name,
            owner_name: message.owner_username,
            directory: environment::expand_directory(&message.directory, process),
            motd_file: message.motd_path,
            vscode_proxy_uri: message.vs_code_port_proxy_uri,
            variables: message.environment_variables.into_iter().collect(),
            secrets: secrets.collect(),
            derp_map,
            force_websockets: message.derp_force_websockets,
            disable_direct: message.disable_direct_connections,
            scripts: message.scripts.into_iter().map(script).collect(),
            apps: message.apps.into_iter().map(app).collect(),
            metadata: message.metadata.into_iter().map(metadata).collect(),
        })
    }

    /// The agent as a member of the tailnet.
    pub(crate) fn peer(&self) -> PeerId {
        PeerId::from_bytes(self.agent_id.into_bytes())
    }

    /// What sessions and scripts find.
    pub(crate) fn session(
        &self,
        token: &str,
        bin: &Path,
        banners: Vec<String>,
    ) -> SessionEnvironment {
        let secrets = self.secrets.iter().filter(|secret| !secret.variable.is_empty());
        SessionEnvironment {
            directory: self.directory.clone(),
            workspace_name: self.workspace_name.clone(),
            workspace_id: self.workspace_id.to_string(),
            owner_name: self.owner_name.clone(),
            agent_name: self.agent_name.clone(),
            agent_token: token.to_owned(),
            vscode_proxy_uri: Some(self.vscode_proxy_uri.clone()).filter(|uri| !uri.is_empty()),
            variables: self.variables.clone(),
            secrets: secrets
                .map(|secret| {
                    let value = String::from_utf8_lossy(&secret.value).into_owned();
                    (secret.variable.clone(), value)
                })
                .collect(),
            script_bin_dir: Some(bin.to_owned()),
            motd_file: self.motd_file.clone(),
            banners,
        }
    }

    /// For people who look for a fault, in the shape of `codersdk/agentsdk` (`Manifest`), which
    /// support bundles read; without secrets, and without what may quote them.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let redacted = |(name, _): &(String, String)| (name.clone(), "<redacted>".into());
        let variables: serde_json::Map<_, _> = self.variables.iter().map(redacted).collect();
        let scripts = self.scripts.iter().map(|script| {
            json!({
                "id": script.id,
                "log_source_id": script.log_source_id,
                "log_path": script.log_path,
                "script": "<redacted>",
                "cron": script.cron,
                "run_on_start": script.run_on_start,
                "run_on_stop": script.run_on_stop,
                "timeout": nanos(script.timeout),
                "display_name": script.display_name,
            })
        });
        let apps = self.apps.iter().map(|app| json!({ "id": app.id, "slug": app.slug }));
        let metadata = self.metadata.iter().map(|item| {
            json!({
                "key": item.key,
                "script": "<redacted>",
                "interval": item.interval.as_secs(),
                "timeout": item.timeout.as_secs(),
            })
        });
        json!({
            "agent_id": self.agent_id,
            "agent_name": self.agent_name,
            "owner_name": self.owner_name,
            "workspace_id": self.workspace_id,
            "workspace_name": self.workspace_name,
            "directory": self.directory,
            "motd_file": self.motd_file,
            "vscode_port_proxy_uri": self.vscode_proxy_uri,
            "environment_variables": variables,
            "scripts": scripts.collect::<Vec<_>>(),
            "apps": apps.collect::<Vec<_>>(),
            "metadata": metadata.collect::<Vec<_>>(),
        })
    }
}

fn script(message: proto::WorkspaceAgentScript) -> Script {
    Script {
        id: uuid(&message.id),
        log_source_id: uuid(&message.log_source_id),
        log_path: message.log_path,
        text: message.script,
        cron: message.cron,
        run_on_start: message.run_on_start,
        run_on_stop: message.run_on_stop,
        timeout: duration(message.timeout),
        display_name: message.display_name,
    }
}

fn app(message: proto::WorkspaceApp) -> App {
    let health = message.healthcheck.unwrap_or_default();
    App {
        id: uuid(&message.id),
        slug: message.slug,
        health_url: health.url,
        interval: duration(health.interval),
        threshold: u32::try_from(health.threshold).unwrap_or(0),
    }
}

fn metadata(message: proto::workspace_agent_metadata::Description) -> Metadata {
    Metadata {
        key: message.key,
        script: message.script,
        interval: fake_seconds(message.interval),
        timeout: fake_seconds(message.timeout),
    }
}

/// Durations of metadata carry seconds in the place of nanoseconds
/// (`codersdk/agentsdk/convert.go` agrees with `coderd/agentapi/manifest.go` on it).
fn fake_seconds(message: Option<prost_types::Duration>) -> Duration {
    let nanos = duration(message).as_nanos();
    Duration::from_secs(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A duration; missing or negative ones are none.
pub(crate) fn duration(message: Option<prost_types::Duration>) -> Duration {
    message.and_then(|duration| Duration::try_from(duration).ok()).unwrap_or_default()
}

/// Nil for what is no id.
fn uuid(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const HOME: [(&str, &str); 1] = [("HOME", "/home/me")];

    fn parse(message: proto::Manifest) -> Result<Manifest, ManifestError> {
        let process: Vec<_> = HOME.iter().map(|(k, v)| (k.into(), v.into())).collect();
        Manifest::parse(message, &process)
    }

    fn message() -> proto::Manifest {
        proto::Manifest { agent_id: vec![7; 16], ..Default::default() }
    }

    #[test]
    fn a_manifest_without_an_agent_is_refused() {
        for agent_id in [vec![], vec![0; 16], vec![7; 15]] {
            let result = parse(proto::Manifest { agent_id, ..Default::default() });
            assert!(matches!(result, Err(ManifestError::NoAgent)));
        }
        assert_eq!(parse(message()).unwrap().agent_id, Uuid::from_bytes([7; 16]));
    }

    #[test]
    fn durations_of_metadata_are_seconds_in_the_place_of_nanoseconds() {
        let description = proto::workspace_agent_metadata::Description {
            key: "load".to_owned(),
            interval: Some(prost_types::Duration { seconds: 0, nanos: 10 }),
            timeout: Some(prost_types::Duration { seconds: 0, nanos: 3 }),
            ..Default::default()
        };
        let script = proto::WorkspaceAgentScript {
            timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        };
        let manifest = parse(proto::Manifest {
            metadata: vec![description],
            scripts: vec![script],
            ..message()
        })
        .unwrap();
        assert_eq!(manifest.metadata[0].interval, Duration::from_secs(10));
        assert_eq!(manifest.metadata[0].timeout, Duration::from_secs(3));
        assert_eq!(manifest.scripts[0].timeout, Duration::from_secs(5), "these are real");
    }

    #[test]
    fn hostile_numbers_are_none() {
        let broken = Some(prost_types::Duration { seconds: -5, nanos: 0 });
        let endless = Some(prost_types::Duration { seconds: i64::MAX, nanos: i32::MAX });
        assert_eq!(duration(broken), Duration::ZERO);
        assert_eq!(fake_seconds(broken), Duration::ZERO);
        assert!(fake_seconds(endless) > Duration::from_secs(1));
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = proto::WorkspaceSecret {
            env_name: "TOKEN".to_owned(),
            file_path: String::new(),
            value: b"hush".to_vec(),
        };
        let manifest = parse(proto::Manifest {
            secrets: vec![secret],
            environment_variables: [("A".to_owned(), "quiet".to_owned())].into(),
            ..message()
        })
        .unwrap();
        let text = format!("{:?} {}", manifest.secrets, manifest.to_json());
        assert!(!text.contains("hush") && !text.contains("quiet"), "{text}");
        let session = manifest.session("t", Path::new("/bin"), vec![]);
        assert_eq!(session.secrets, [("TOKEN".to_owned(), "hush".to_owned())]);
    }
}
