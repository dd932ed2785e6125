//! `vscodessh`: what older editor extensions call instead of `ssh --stdio` (coder/coder:
//! cli/vscodessh.go).

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    Environment, Session,
    global::Headers,
    session, spelling,
    ssh::{self, WaitArg, log_file},
    target::Target,
};
use crate::{
    api::Token,
    apps::{
        network_info::{self, NetworkInfo},
        stdio::Stdio,
        streamed::Streamed,
    },
    error::{CommandError, Kind},
    tunnel::{self, Limits, Request},
    ui::quoted,
};

/// Longest file with a URL or a token, in bytes: more than either may have.
const LONGEST: u64 = 64 * 1024;

/// Carry SSH on stdin and stdout for an editor extension
#[derive(clap::Args)]
pub(super) struct Args {
    /// Host name: coder-vscode--OWNER--WORKSPACE[--AGENT]
    host: String,

    /// Directory for a file that tells how the tunnel is
    #[arg(long, value_name = "DIR")]
    network_info_dir: PathBuf,

    /// How often it is written; 5s unless given
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    network_info_interval: Option<Duration>,

    /// File with the session token
    #[arg(long, value_name = "FILE")]
    session_token_file: PathBuf,

    /// File with the URL of the deployment
    #[arg(long, value_name = "FILE")]
    url_file: PathBuf,

    /// Directory for a debug log of this session
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,

    /// Whether to wait for the workspace's start scripts; auto waits for blocking ones
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    wait: WaitArg,

    #[command(flatten)]
    pub(super) headers: Headers,
}

impl Args {
    /// The file that `--log-dir` asks for, under the number of our parent.
    pub(super) fn log_file(&self) -> Result<Option<File>, CommandError> {
        let directory = self.log_dir.as_ref().filter(|path| !path.as_os_str().is_empty());
        let Some(directory) = directory else { return Ok(None) };
        log_file::create(&directory.join(format!("{}.log", network_info::parent()))).map(Some)
    }
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let target = target(&args.host)?;
    let url = session::parse_url(&content(&args.url_file)?)?;
    let token = Token::new(&content(&args.session_token_file)?);
    let session = Session::at(environment, url, Some(&token)).await?;
    let interval = args.network_info_interval.unwrap_or(ssh::INFO_INTERVAL);
    let app = NetworkInfo::new(Box::new(Streamed::new(Stdio)), args.network_info_dir, interval);
    let request = Request {
        target,
        wait: args.wait.into(),
        autostart: false,
        follow: false,
        restart: false,
        limits: Limits::default(),
        usage_app: Some("vscode".to_owned()),
        app: Box::new(app),
    };
    tunnel::run(&session, &environment.ui, request).await
}

fn target(host: &str) -> Result<Target, CommandError> {
    let parts: Vec<_> = host.split("--").collect();
    let (owner, workspace, agent) = match parts[..] {
        [_, owner, workspace] => (owner, workspace, None),
        [_, owner, workspace, agent] => (owner, workspace, Some(agent)),
        _ => ("", "", None),
    };
    if owner.is_empty() || workspace.is_empty() || agent == Some("") {
        let text = format!("invalid host name {}", quoted(host));
        return Err(CommandError::msg(Kind::Usage, text)
            .hint("write coder-vscode--OWNER--WORKSPACE, perhaps with --AGENT"));
    }
    Ok(Target {
        owner: owner.to_owned(),
        workspace: workspace.to_owned(),
        agent: agent.map(str::to_owned),
    })
}

fn content(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    read.map_err(|error| {
        let what = format!("cannot read {}", path.display());
        CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
    })?;
    *text = text.trim().to_owned();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_editors() {
        for (host, expected) in [
            ("coder-vscode--me--dev", Some(("me", "dev", None))),
            ("coder-vscode.dev.example.com--ann--dev--gpu", Some(("ann", "dev", Some("gpu")))),
            ("coder-vscode--me", None),
            ("coder-vscode--me----gpu", None),
            ("coder-vscode--me--dev--", None),
            ("a--b--c--d--e", None),
        ] {
            let target = target(host).ok();
            let found = target
                .as_ref()
                .map(|target| (&target.owner[..], &target.workspace[..], target.agent.as_deref()));
            assert_eq!(found, expected, "{host}");
        }
    }
}
