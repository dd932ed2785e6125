//! How the server is to behave, and what its sessions find.

use std::{ffi::OsString, fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{NoObserver, SessionObserver};

/// What sessions find: the parts of the manifest that concern them. The server is given a new one
/// whenever the manifest changes; sessions that run keep what they began with.
///
/// The host key is derived from the names of owner, workspace and agent, so that it stays the same
/// when a workspace is rebuilt. It keeps nobody out: clients do not check it, since the tunnel has
/// authenticated the agent already.
#[derive(Clone, Default)]
pub struct SessionEnvironment {
    /// The manifest's directory, as the manifest says it: `~` and variables are expanded. Empty,
    /// or not there: the home directory.
    pub directory: String,
    /// `CODER_WORKSPACE_NAME`
    pub workspace_name: String,
    /// `CODER_WORKSPACE_ID`
    pub workspace_id: String,
    /// `CODER_WORKSPACE_OWNER_NAME`
    pub owner_name: String,
    /// `CODER_WORKSPACE_AGENT_NAME`
    pub agent_name: String,
    /// `CODER_AGENT_TOKEN`. Redacted in `Debug`.
    pub agent_token: String,
    /// `VSCODE_PROXY_URI`, if the server has given one.
    pub vscode_proxy_uri: Option<String>,
    /// The manifest's variables; `$NAME` and `${NAME}` in the values are expanded against the
    /// agent's own environment.
    pub variables: Vec<(String, String)>,
    /// The user's secrets that have a variable's name. Nothing in them is expanded. Redacted in
    /// `Debug`.
    pub secrets: Vec<(String, String)>,
    /// Put before `PATH`, if any.
    pub script_bin_dir: Option<PathBuf>,
    /// The file that the manifest names as message of the day; empty for none.
    pub motd_file: String,
    /// The texts of the announcement banners that are enabled.
    pub banners: Vec<String>,
}

impl fmt::Debug for SessionEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnvironment")
            .field("directory", &self.directory)
            .field("workspace_name", &self.workspace_name)
            .field("workspace_id", &self.workspace_id)
            .field("owner_name", &self.owner_name)
            .field("agent_name", &self.agent_name)
            .field("variables", &self.variables.len())
            .field("secrets", &self.secrets.len())
            .field("motd_file", &self.motd_file)
            .finish_non_exhaustive()
    }
}

/// What clients may not do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blocks {
    /// `CODER_AGENT_BLOCK_FILE_TRANSFER`: sftp, scp, rsync, nc.
    pub file_transfer: bool,
    /// `CODER_AGENT_BLOCK_REVERSE_PORT_FORWARDING`: listeners in the workspace.
    pub reverse_forwarding: bool,
    /// `CODER_AGENT_BLOCK_LOCAL_PORT_FORWARDING`: connections from the workspace.
    pub local_forwarding: bool,
}

/// How the server is to behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The environment of the agent itself, which sessions inherit (`std::env::vars_os`).
    pub process_environment: Vec<(OsString, OsString)>,
    /// What clients may not do.
    pub blocks: Blocks,
    /// `CODER_AGENT_SSH_MAX_TIMEOUT`: how long a client may be silent. From 3 s on, it is asked
    /// whether it is still there after a third of this, and given up after three questions
    /// without a sign of life; below, a connection is cut after this time whatever it does.
    pub max_timeout: Duration,
    /// Is told of sessions.
    pub observer: Arc<dyn SessionObserver>,
}

/// The default of [`Settings::max_timeout`] (`cli/agent.go`).
pub const MAX_TIMEOUT: Duration = Duration::from_secs(72 * 3600);

impl Default for Settings {
    fn default() -> Self {
        Self {
            process_environment: Vec::new(),
            blocks: Blocks::default(),
            max_timeout: MAX_TIMEOUT,
            observer: Arc::new(NoObserver),
        }
    }
}
