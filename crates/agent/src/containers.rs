//! Containers beside the agent, by way of the `docker` command: what there is, and how to run
//! something there (`agent/agentcontainers/containers_dockercli.go`).

use std::{
    ffi::{OsStr, OsString},
    process::Stdio,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

use crate::environment::Environment;

/// How long a question to `docker` may take: its daemon may be busy starting something.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest answer that is read, in bytes: a container's description has some 10 KiB.
const MOST: u64 = 16 << 20;

/// Longest name: docker's own are host names of 63 bytes at most, its ids have 64.
const LONGEST_NAME: usize = 255;

/// Why nothing can be done with a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("containers are switched off (CODER_AGENT_DEVCONTAINERS_ENABLE)")]
    Off,
    #[error("{0:?} is no name of a container")]
    Name(String),
    #[error("docker {doing}: {why}")]
    Docker { doing: &'static str, why: String },
    #[error("container {container} has no user {user:?}")]
    NoUser { container: String, user: String },
}

/// A container, as clients are told (`codersdk/workspaceagents.go`, `WorkspaceAgentContainer`).
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    id: String,
    name: String,
    image: String,
    running: bool,
    status: String,
    created_at: String,
}

/// What `docker inspect` tells.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    created: String,
    config: Config,
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    #[serde(default)]
    exit_code: i64,
}

/// What the tools of development containers note in a label
/// (<https://containers.dev/implementors/reference/#labels>).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    remote_env: std::collections::BTreeMap<String, Option<String>>,
}

impl From<Inspected> for Listed {
    fn from(one: Inspected) -> Self {
        let status = match (one.state.running, one.state.exit_code) {
            (true, _) => "running".to_owned(),
            (false, 0) => "exited successfully".to_owned(),
            (false, code) => format!("exited with code {code}"),
        };
        Self {
            id: one.id,
            name: one.name.trim_start_matches('/').to_owned(),
            image: one.config.image,
            running: one.state.running,
            status,
            created_at: one.created,
        }
    }
}

/// All containers, running or not.
pub(crate) async fn list(environment: &Environment) -> Result<Vec<Listed>, Error> {
    let ids = docker(environment, "ps", &["ps", "--all", "--quiet", "--no-trunc"]).await?;
    let ids: Vec<_> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(inspect(environment, &ids).await?.into_iter().map(Listed::from).collect())
}

async fn inspect(environment: &Environment, names: &[&str]) -> Result<Vec<Inspected>, Error> {
    let arguments = [&["inspect", "--type", "container"], names].concat();
    let text = docker(environment, "inspect", &arguments).await?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Docker { doing: "inspect", why: error.to_string() })
}

/// A container to run something in, and who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    container: String,
    user: String,
    home: String,
    shell: String,
    /// `NAME=VALUE`
    variables: Vec<String>,
}

impl Inside {
    /// Finds out about a container. Without a user, it is the container's own choice.
    pub(crate) async fn enter(
        environment: &Environment,
        container: &str,
        user: &str,
    ) -> Result<Self, Error> {
        if !environment.has_containers() {
            return Err(Error::Off);
        }
        if !is_name(container) {
            return Err(Error::Name(container.to_owned()));
        }
        let user = match user {
            "" => {
                let said = docker(environment, "exec", &["exec", container, "whoami"]).await?;
                said.trim().to_owned()
            }
            user => user.to_owned(),
        };
        // There need not be a getent.
        let passwd = ["exec", container, "cat", "/etc/passwd"];
        let passwd = docker(environment, "exec", &passwd).await?;
        let metadata = inspect(environment, &[container]).await?.into_iter().find_map(|one| {
            one.config.labels.and_then(|mut labels| labels.remove("devcontainer.metadata"))
        });
        let (home, shell) = entry(&passwd, &user)
            .ok_or_else(|| Error::NoUser { container: container.to_owned(), user: user.clone() })?;
        let variables = metadata.map(|text| remote_env(&text)).unwrap_or_default();
        Ok(Self { container: container.to_owned(), user, home, shell, variables })
    }

    /// The command that runs this text there, or a login shell where it is empty, with a terminal
    /// if it has one itself. Its own environment is the agent's, which `docker` needs and what runs
    /// in the container does not see.
    pub(crate) fn command(
        &self,
        environment: &Environment,
        text: &OsStr,
        terminal: bool,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive"]);
        if terminal {
            command.arg("--tty");
        }
        command.args(["--user", &self.user, "--workdir", &self.home]);
        for variable in &self.variables {
            command.args(["--env", variable]);
        }
        for (mut variable, value) in variables {
            variable.push("=");
            variable.push(value);
            command.arg("--env").arg(variable);
        }
        command.args([&self.container, &self.shell]);
        match text.is_empty() {
            true => command.arg("-l"),
            false => command.arg("-c").arg(text),
        };
        environment.equip(&mut command);
        command
    }
}

/// Whether docker would take it for a name or an id, and not for a flag.
fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let begins = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    begins && text.len() <= LONGEST_NAME && text.bytes().all(fine)
}

/// A user's home and shell, by name or by number (`docker exec --user` takes both, and a group
/// behind a colon).
fn entry(passwd: &str, user: &str) -> Option<(String, String)> {
    let user = user.split(':').next().unwrap_or_default();
    passwd.lines().find_map(|line| {
        let fields: Vec<_> = line.trim().split(':').collect();
        match fields[..] {
            [name, _, uid, _, _, home, shell] if name == user || uid == user => {
                let or = |text: &str, default: &str| {
                    if text.is_empty() { default.to_owned() } else { text.to_owned() }
                };
                Some((or(home, "/"), or(shell, "/bin/sh")))
            }
            _ => None,
        }
    })
}

/// The variables that a label says, sorted. One that cannot be read says none: what runs in the
/// container does without.
fn remote_env(label: &str) -> Vec<String> {
    let metadata: Vec<Metadata> = match serde_json::from_str(label) {
        Ok(metadata) => metadata,
        Err(error) => {
            tracing::warn!(%error, "a container's label devcontainer.metadata");
            return Vec::new();
        }
    };
    let all = metadata.into_iter().flat_map(|one| one.remote_env);
    let mut variables: Vec<_> =
        all.map(|(name, value)| format!("{name}={}", value.unwrap_or_default())).collect();
    variables.sort_unstable();
    variables
}

/// Runs `docker` to its end: what it prints.
async fn docker(
    environment: &Environment,
    doing: &'static str,
    arguments: &[&str],
) -> Result<String, Error> {
    let failed = |why: String| Error::Docker { doing, why };
    let mut command = Command::new("docker");
    environment.equip(&mut command);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = async {
        let mut child = command.spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
        Ok::<_, std::io::Error>((child.wait().await?, stdout, stderr))
    };
    let ended = timeout(PATIENCE, running).await;
    let ended = ended.map_err(|_| failed(format!("no answer within {} s", PATIENCE.as_secs())))?;
    let (status, stdout, stderr) = ended.map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(stdout);
    }
    let said = stderr.trim();
    Err(failed(if said.is_empty() { status.to_string() } else { said.to_owned() }))
}

/// All of a stream, or the first of it.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(MOST).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use super::*;
    use crate::ssh::SessionEnvironment;

    /// A `docker` that is this script.
    fn scripted(script: &str) -> (Environment, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let docker = directory.path().join("docker");
        // Written by another process: nobody who forks here meanwhile holds it open for writing.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\""])
            .arg(&docker)
            .arg(script)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut path = directory.path().as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        let process = [("PATH".into(), path)].into();
        (Environment::new(process, Arc::new(SessionEnvironment::default())), directory)
    }

    const ONE: &str = r#"case "$1" in
        ps) echo b2; echo a1;;
        inspect) cat <<'END'
[{"Id": "b2", "Name": "/web", "Created": "2026-01-02T03:04:05.6Z", "State": {"Running": true, "ExitCode": 0},
  "Config": {"Image": "img", "Labels": {"devcontainer.metadata":
    "[{\"remoteEnv\": {\"Z\": \"1\", \"A\": null}}, {\"id\": \"x\"}]"}}},
 {"Id": "a1", "Name": "/db", "Created": "", "State": {"Running": false, "ExitCode": 3}, "Config": {"Labels": null}}]
END
            ;;
        exec) case "$*" in
            "exec web whoami") echo ann;;
            "exec web cat /etc/passwd") echo root:x:0:0::/root:; echo ann:x:7:7:Ann,,:/home/ann:/bin/zsh;;
            *) echo "unexpected: $*" >&2; exit 9;;
            esac;;
        esac"#;

    #[tokio::test]
    async fn containers_are_listed_as_clients_know_them() {
        let (environment, _docker) = scripted(ONE);
        let listed = serde_json::to_value(list(&environment).await.unwrap()).unwrap();
        assert_eq!(
            listed,
            serde_json::json!([
                {"id": "b2", "name": "web", "image": "img", "running": true, "status": "running",
                 "created_at": "2026-01-02T03:04:05.6Z"},
                {"id": "a1", "name": "db", "image": "", "running": false,
                 "status": "exited with code 3", "created_at": ""},
            ])
        );
        let (environment, _docker) = scripted("exit 0");
        assert_eq!(list(&environment).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_command_runs_there_as_its_user() {
        let (environment, _docker) = scripted(ONE);
        let words = |inside: &Inside, text: &str, terminal| {
            let variables = [("TERM".into(), "xterm".into())];
            let command = inside.command(&environment, text.as_ref(), terminal, variables);
            let words = command.as_std().get_args().map(|word| word.to_str().unwrap().to_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        let ann = Inside::enter(&environment, "web", "").await.unwrap();
        assert_eq!(
            words(&ann, "make all", false),
            "exec --interactive --user ann --workdir /home/ann --env A= --env Z=1 \
             --env TERM=xterm web /bin/zsh -c make all"
        );
        let root = Inside::enter(&environment, "web", "0:0").await.unwrap();
        assert_eq!(
            words(&root, "", true),
            "exec --interactive --tty --user 0:0 --workdir /root --env A= --env Z=1 \
             --env TERM=xterm web /bin/sh -l"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_entered_is_said() {
        let (environment, _docker) = scripted(ONE);
        let enter = async |name: &str, user: &str| {
            Inside::enter(&environment, name, user).await.unwrap_err().to_string()
        };
        assert_eq!(enter("web", "bob").await, "container web has no user \"bob\"");
        assert_eq!(enter("db", "").await, "docker exec: unexpected: exec db whoami");
        for name in ["", "--privileged", "a b", "a/b", "ä", "a\n"] {
            assert_eq!(enter(name, "").await, format!("{name:?} is no name of a container"));
        }
        let (environment, _docker) = scripted("exit 3");
        let error = list(&environment).await.unwrap_err();
        assert_eq!(error.to_string(), "docker ps: exit status: 3");
        let nothing = [("PATH".into(), "/nowhere".into())].into();
        let environment = Environment::new(nothing, Arc::new(SessionEnvironment::default()));
        let error = list(&environment).await.unwrap_err();
        assert_eq!(error.to_string(), "docker ps: No such file or directory (os error 2)");
    }

    #[test]
    fn a_label_that_is_none_of_theirs_says_nothing() {
        for label in ["", "{}", "[1]", "[{\"remoteEnv\": 1}]"] {
            assert!(remote_env(label).is_empty(), "{label}");
        }
    }
}
