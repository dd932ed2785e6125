use std::{path::PathBuf, time::Duration};

use coderctl_agent::{Login, Options, Token, run as run_agent};

use super::{Environment, global::Headers, session::Session, spelling};
use crate::{
    error::{CommandError, Kind},
    signal::Signals,
};

/// Run a workspace agent
///
/// Attaches this machine to a workspace of the deployment, for `coderctl server` or a real one: its
/// scripts run, and SSH, terminals and every port are reached through the tunnel. It goes on until
/// SIGINT or SIGTERM, then runs its stop scripts and says goodbye; another signal ends it at once.
#[derive(clap::Args)]
pub(super) struct Args {
    /// URL of the deployment
    #[arg(long, env = "CODER_AGENT_URL", value_name = "URL")]
    agent_url: Option<String>,

    /// Token of the agent; the variable keeps it out of the process list
    #[arg(long, env = "CODER_AGENT_TOKEN", value_name = "TOKEN", value_parser = token)]
    agent_token: Option<Token>,

    /// File with the token
    #[arg(long, env = "CODER_AGENT_TOKEN_FILE", value_name = "FILE")]
    agent_token_file: Option<PathBuf>,

    /// How the agent proves who it is; only `token` is known
    #[arg(long, env = "CODER_AGENT_AUTH", value_name = "METHOD", hide_short_help = true)]
    auth: Option<String>,

    /// Directory for scripts' logs that name no absolute path
    #[arg(long, env = "CODER_AGENT_LOG_DIR", value_name = "DIR", hide_short_help = true)]
    log_dir: Option<PathBuf>,

    /// Directory for scripts' own data
    #[arg(long, env = "CODER_AGENT_SCRIPT_DATA_DIR", value_name = "DIR", hide_short_help = true)]
    script_data_dir: Option<PathBuf>,

    /// How long an SSH client may be silent
    #[arg(long, env = "CODER_AGENT_SSH_MAX_TIMEOUT", value_name = "DURATION",
          value_parser = spelling::duration, hide_short_help = true)]
    ssh_max_timeout: Option<Duration>,

    /// Refuse scp, sftp and rsync
    #[arg(long, env = "CODER_AGENT_BLOCK_FILE_TRANSFER", hide_short_help = true)]
    block_file_transfer: bool,

    /// Refuse forwards from the workspace to the client
    #[arg(long, env = "CODER_AGENT_BLOCK_REVERSE_PORT_FORWARDING", hide_short_help = true)]
    block_reverse_port_forwarding: bool,

    /// Refuse forwards through SSH from the client to the workspace
    #[arg(long, env = "CODER_AGENT_BLOCK_LOCAL_PORT_FORWARDING", hide_short_help = true)]
    block_local_port_forwarding: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let login = Login {
        url: args.agent_url,
        token: args.agent_token,
        token_file: args.agent_token_file,
        auth: args.auth,
    };
    let (url, token) = login.resolve().map_err(|error| CommandError::new(Kind::Login, error))?;
    let session = Session::at(environment, url.clone(), None).await?;
    let mut options = Options::new(url, token, session.transport().clone());
    options.log_dir = args.log_dir.unwrap_or(options.log_dir);
    options.script_data_dir = args.script_data_dir.unwrap_or(options.script_data_dir);
    options.ssh_max_timeout = args.ssh_max_timeout.unwrap_or(options.ssh_max_timeout);
    options.blocks.file_transfer = args.block_file_transfer;
    options.blocks.reverse_forwarding = args.block_reverse_port_forwarding;
    options.blocks.local_forwarding = args.block_local_port_forwarding;

    let ui = &environment.ui;
    let mut signals = Signals::new().map_err(|error| CommandError::new(Kind::Other, error))?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let agent = run_agent(options, async {
        // Whoever would have said so is gone: as good as saying it.
        let _ = stopped.await;
    });
    tokio::pin!(agent);
    let failed = |error| CommandError::new(Kind::Other, error);
    ui.line(format_args!("Agent of {}, Ctrl-C ends it", session.url()));
    tokio::select! {
        ended = &mut agent => return ended.map(|()| 0).map_err(failed),
        _ = signals.next() => {}
    }
    ui.line("Stopping, again to leave at once");
    drop(stop);
    tokio::select! {
        ended = &mut agent => ended.map(|()| 0).map_err(failed),
        signal = signals.next() => {
            let kind = Kind::Signal(signal.number());
            Err(CommandError::msg(kind, "interrupted again, leaving at once"))
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
fn token(text: &str) -> Result<Token, std::convert::Infallible> {
    Ok(Token::new(text))
}
