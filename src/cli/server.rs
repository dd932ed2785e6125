use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use super::{
    Environment,
    embedded::{self, Home},
    template_file::TemplateFile,
};
use crate::{
    error::{CommandError, Kind},
    signal::Signals,
    ui::Ui,
    whole::{self, Access},
};
use coderctl_deployment::{
    Config,
    config::{AgentMode, Secret, Storage, Tls},
};

const EXAMPLES: &str = "Examples:
  coderctl server --state ~/.local/share/coderctl
  coderctl server --listen 127.0.0.1:0 --workspace dev --ready-file ready.json
  CODERCTL_POSTGRES=postgres://coder@db/coder coderctl server --state /srv/coder";

/// Run a Coder-compatible deployment: control plane, relay, workspaces
///
/// Its state is in --state, or in a PostgreSQL that several servers may share; with neither it is gone
/// when the server ends. Workspaces are directories, their agents run inside the server. The first
/// start makes a user and stores a token for it; how to log in is said on stderr.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Directory of the state and of the workspaces
    #[arg(long, value_name = "DIR", env = "CODERCTL_STATE")]
    state: Option<PathBuf>,

    /// URL of a PostgreSQL for the state; servers that share it act as one, and share --state
    #[arg(long, value_name = "URL", env = "CODERCTL_POSTGRES", value_parser = secret)]
    postgres: Option<Secret>,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,

    /// URL by which clients and agents reach the server, where it is not the address
    #[arg(long, value_name = "URL")]
    access_url: Option<Url>,

    /// URL by which other servers on the PostgreSQL reach this one, where it is not the address
    ///
    /// Their relays pass packets on to each other. With HTTPS, the certificate of each must be for the host of the
    /// access URL, and one that the others' own certificates lead to.
    #[arg(long, value_name = "URL", requires = "postgres")]
    relay_url: Option<Url>,

    /// Certificate (PEM) to serve HTTPS with
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,

    /// Key (PEM) of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,

    /// Serve plain HTTP to other machines, too
    #[arg(long)]
    insecure: bool,

    /// Have a workspace of this name
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,

    /// Template (TOML) of that workspace, instead of the built-in one
    #[arg(long, value_name = "FILE", requires = "workspace")]
    template: Option<PathBuf>,

    /// Leave the workspaces' agents to be started by hand, with `coderctl agent`
    #[arg(long)]
    external_agent: bool,

    /// Write {"url", "token", "agent_token"} to this file once everything is up
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// Unix socket that takes faults to inject, for tests
    #[arg(long, value_name = "PATH", hide = true)]
    fault_socket: Option<PathBuf>,
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let ui = &environment.ui;
    let mut signals = Signals::new().map_err(|error| CommandError::new(Kind::Other, error))?;
    let home = Home::at(args.state.as_deref(), "coderctl-server")?;
    let storage = match (&args.postgres, &args.state) {
        (Some(url), _) => Storage::Postgres(url.clone()),
        (None, Some(directory)) => Storage::Directory(directory.clone()),
        (None, None) => Storage::Memory,
    };
    let mut config = Config::new(storage, home.workspaces());
    config.listen = args.listen;
    config.access_url = args.access_url;
    config.relay_url = args.relay_url;
    config.tls = args
        .tls_cert_file
        .zip(args.tls_key_file)
        .map(|(certificate, key)| Tls { certificate, key });
    config.insecure = args.insecure;
    config.fault_socket = args.fault_socket;
    if args.external_agent {
        config.agents = AgentMode::ByHand;
    }
    let template = args.template.as_deref().map(TemplateFile::read).transpose()?;
    let starting = async {
        let running = embedded::start(config).await?;
        let token = running.token(&home.path().join("token")).await?;
        let agent_token = match &args.workspace {
            Some(name) => running.workspace(name, template, !args.external_agent).await?,
            None => None,
        };
        Ok::<_, CommandError>((running, token, agent_token))
    };
    let (running, token, agent_token) = tokio::select! {
        started = starting => started?,
        signal = signals.next() => {
            let kind = Kind::Signal(signal.number());
            return Err(CommandError::msg(kind, "interrupted before the server was up"));
        }
    };
    let url = running.url().as_str().trim_end_matches('/').to_owned();
    if let Some(file) = &args.ready_file {
        let ready = Ready { url: &url, token: &token, agent_token: agent_token.as_deref() };
        write_ready(file, &ready)?;
    }
    say_how_to_log_in(ui, &url, &home.path().join("token"), args.state.is_none());
    let signal = signals.next().await;
    ui.line(format_args!("Received SIG{}, shutting down", signal.ssh_name()));
    tokio::select! {
        () = running.shutdown() => {}
        signal = signals.next() => {
            let kind = Kind::Signal(signal.number());
            return Err(CommandError::msg(kind, "interrupted again, leaving at once"));
        }
    }
    if let Some(file) = &args.ready_file {
        // Whoever waits for the file must not find one of a server that is gone.
        let _ = fs::remove_file(file);
    }
    Ok(0)
}

fn say_how_to_log_in(ui: &Ui, url: &str, token: &Path, throw_away: bool) {
    let token = token.display();
    ui.line(format_args!("Serving {url}"));
    if throw_away {
        ui.line("Nothing of it is kept: --state DIR or --postgres URL keep it");
    }
    ui.line(format_args!("Log in:  coderctl login {url} --token \"$(cat '{token}')\""));
    ui.line("Ready!");
}

/// What scripts are told.
#[derive(Serialize)]
struct Ready<'a> {
    url: &'a str,
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_token: Option<&'a str>,
}

/// For its owner alone: whoever reads it is that user.
fn write_ready(file: &Path, ready: &Ready<'_>) -> Result<(), CommandError> {
    let written = serde_json::to_vec(ready)
        .map_err(io::Error::from)
        .map(Zeroizing::new)
        .and_then(|json| whole::keep(file, &json, Access::Private));
    written.map_err(|error| {
        let context = format!("the ready file {} cannot be written", file.display());
        CommandError::new(Kind::Local, anyhow::Error::new(error).context(context))
    })
}
