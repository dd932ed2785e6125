//! What an agent is started with.

use std::{env, ffi::OsString, fmt, path::PathBuf, time::Duration};

use coderctl_transport::Transport;
use url::Url;

use crate::{
    Services, Token, TokenSource,
    ssh::{Blocks, MAX_TIMEOUT},
};

/// What to do when the server says that this process is another agent now: its machine outlived a
/// stop and a start, and its token names the new build's agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnNewAgentId {
    /// Start over, as after a claim: scripts, environment and apps of the new build take effect.
    #[default]
    Reinit,
    /// Go on as before, and tell the new agent's row the whole life so far.
    Replay,
}

/// What an agent is started with. Cheap to clone.
#[derive(Clone)]
pub struct Options {
    /// The deployment's URL, `CODER_AGENT_URL`.
    pub server: Url,
    /// Who we are.
    pub token: TokenSource,
    /// The way to the deployment and its relays.
    pub transport: Transport,
    /// Where scripts' logs go that name no absolute path; `CODER_AGENT_LOG_DIR`, by default the
    /// system's directory for temporary files.
    pub log_dir: PathBuf,
    /// Under it lies `coder-script-data`, with `bin` (in every `PATH`) and a directory for each
    /// script; `CODER_AGENT_SCRIPT_DATA_DIR`, by default as [`log_dir`](Self::log_dir).
    pub script_data_dir: PathBuf,
    /// The environment that scripts and sessions inherit; by default this process's own. `HOME`
    /// and `SHELL` are read from it, so that several agents may live in one process.
    pub environment: Vec<(OsString, OsString)>,
    /// What SSH clients may not do.
    pub blocks: Blocks,
    /// How long an SSH client may be silent; `CODER_AGENT_SSH_MAX_TIMEOUT`.
    pub ssh_max_timeout: Duration,
    /// Ports of the tunnel that are served in this process.
    pub services: Services,
    /// What to do when we are another agent all of a sudden.
    pub on_new_agent_id: OnNewAgentId,
}

impl Options {
    /// Options for a deployment, with defaults for everything else.
    #[must_use]
    pub fn new(server: Url, token: TokenSource, transport: Transport) -> Self {
        Self {
            server,
            token,
            transport,
            log_dir: env::temp_dir(),
            script_data_dir: env::temp_dir(),
            environment: env::vars_os().collect(),
            blocks: Blocks::default(),
            ssh_max_timeout: MAX_TIMEOUT,
            services: Services::default(),
            on_new_agent_id: OnNewAgentId::default(),
        }
    }

    /// A variable of [`environment`](Self::environment); `None` when it is unset, empty or no
    /// text.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().rev().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.to_str()).filter(|value| !value.is_empty())
    }

    /// The home directory: `HOME`, else `/`.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.variable("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
    }
}

impl fmt::Debug for Options {
    /// Variables are often secrets: only how many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("server", &self.server.as_str())
            .field("token", &self.token)
            .field("transport", &self.transport)
            .field("log_dir", &self.log_dir)
            .field("script_data_dir", &self.script_data_dir)
            .field("environment", &self.environment.len())
            .field("blocks", &self.blocks)
            .field("ssh_max_timeout", &self.ssh_max_timeout)
            .field("services", &self.services)
            .field("on_new_agent_id", &self.on_new_agent_id)
            .finish()
    }
}

/// How a command line says where the deployment is and which agent this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// `CODER_AGENT_URL`
    pub url: Option<String>,
    /// `CODER_AGENT_TOKEN`
    pub token: Option<Token>,
    /// `CODER_AGENT_TOKEN_FILE`; a token that is given directly wins.
    pub token_file: Option<PathBuf>,
    /// `CODER_AGENT_AUTH`: only `token`, which is the default, is known here.
    pub auth: Option<String>,
}

/// Largest token file that is read, in bytes: a token has 36.
const LARGEST: u64 = 4096;

impl Login {
    /// Reads the variables that the Go agent reads (`cli/root.go`, `cli/agent.go`); empty ones count as
    /// unset.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name| variable(name).filter(|value| !value.trim().is_empty());
        Self {
            url: read("CODER_AGENT_URL"),
            token: read("CODER_AGENT_TOKEN").map(Token::new),
            token_file: read("CODER_AGENT_TOKEN_FILE").map(PathBuf::from),
            auth: read("CODER_AGENT_AUTH"),
        }
    }

    /// The deployment's URL and the token. Reads the token's file if need be.
    ///
    /// # Errors
    /// [`LoginError`], which names what is missing or wrong and what to do.
    pub fn resolve(&self) -> Result<(Url, TokenSource), LoginError> {
        match self.auth.as_deref() {
            None | Some("token") => {}
            Some(other) => return Err(LoginError::Auth(other.to_owned())),
        }
        let text = self.url.as_deref().ok_or(LoginError::NoUrl)?.trim();
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| LoginError::Url(text.to_owned()))?;
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => read_token(file)?,
            (None, None) => return Err(LoginError::NoToken),
        };
        Ok((url, TokenSource::Fixed(token)))
    }
}

fn read_token(file: &std::path::Path) -> Result<Token, LoginError> {
    use std::io::Read as _;
    let failed = |source| LoginError::File { file: file.to_owned(), source };
    let mut text = zeroize::Zeroizing::new(String::new());
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    let token = Token::new(text.as_str());
    if token.expose().is_empty() {
        return Err(LoginError::EmptyFile(file.to_owned()));
    }
    Ok(token)
}

/// Why it is not known which agent this is.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No URL.
    #[error("no deployment: set CODER_AGENT_URL to its URL")]
    NoUrl,
    /// Not a URL.
    #[error(
        "{0:?} is not the URL of a deployment; CODER_AGENT_URL is like https://coder.example.com"
    )]
    Url(String),
    /// No token.
    #[error("no agent token: set CODER_AGENT_TOKEN, or CODER_AGENT_TOKEN_FILE to a file with it")]
    NoToken,
    /// Another way of authentication than by token.
    #[error("CODER_AGENT_AUTH={0:?} is not known here; only \"token\" is")]
    Auth(String),
    /// The token's file cannot be read.
    #[error("cannot read the agent token from {file:?}, which CODER_AGENT_TOKEN_FILE names")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token's file has nothing in it.
    #[error("there is no agent token in {0:?}, which CODER_AGENT_TOKEN_FILE names")]
    EmptyFile(PathBuf),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn login(variables: &[(&str, &str)]) -> Result<(Url, TokenSource), LoginError> {
        let read = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Login::from_env(read).resolve()
    }

    #[test]
    fn the_environment_says_where_and_who() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "\n from-file \n").unwrap();
        let file = file.to_str().unwrap();
        let url = ("CODER_AGENT_URL", "http://127.0.0.1:3000");
        let token = |found: Result<(Url, TokenSource), LoginError>| match found.unwrap().1 {
            TokenSource::Fixed(token) => token.expose().to_owned(),
            TokenSource::Provider(_) => panic!("not fixed"),
        };
        assert_eq!(token(login(&[url, ("CODER_AGENT_TOKEN", "given")])), "given");
        assert_eq!(token(login(&[url, ("CODER_AGENT_TOKEN_FILE", file)])), "from-file");
        let both = [url, ("CODER_AGENT_TOKEN", "given"), ("CODER_AGENT_TOKEN_FILE", file)];
        assert_eq!(token(login(&both)), "given");
    }

    #[test]
    fn what_is_missing_is_named() {
        let url = ("CODER_AGENT_URL", "http://127.0.0.1:3000");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let empty = empty.path().to_str().unwrap();
        for (variables, expected) in [
            (vec![], "CODER_AGENT_URL"),
            (
                vec![("CODER_AGENT_URL", "coder.example.com")],
                "\"coder.example.com\" is not the URL",
            ),
            (vec![("CODER_AGENT_URL", "ftp://x")], "is not the URL"),
            (vec![url], "CODER_AGENT_TOKEN"),
            (vec![url, ("CODER_AGENT_TOKEN", "  ")], "CODER_AGENT_TOKEN"),
            (vec![url, ("CODER_AGENT_TOKEN_FILE", "/nonexistent/file")], "/nonexistent/file"),
            (vec![url, ("CODER_AGENT_TOKEN_FILE", empty)], "there is no agent token in"),
            (vec![url, ("CODER_AGENT_AUTH", "aws-instance-identity")], "aws-instance-identity"),
        ] {
            let error = login(&variables).unwrap_err().to_string();
            assert!(error.contains(expected), "{variables:?}: {error}");
        }
    }
}
