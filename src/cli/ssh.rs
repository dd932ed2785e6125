use std::{fs, os::unix::fs::OpenOptionsExt, path::PathBuf, time::Duration};

use super::{
    Environment, Session,
    deadlines::Deadlines,
    global::{self, Headers},
    spelling,
    target::Target,
};
use crate::{
    apps::{App, exec::Exec, shell::Shell, stdio::Stdio},
    error::{CommandError, Kind},
    tunnel::{self, Request, Wait},
    ui::{Ui, quoted},
};

const EXAMPLES: &str = "Examples:
  coderctl ssh dev
  coderctl ssh dev -- make test
  tar c . | coderctl ssh dev -- tar x -C work
  ssh -o ProxyCommand='coderctl ssh --stdio %h' dev";

/// Open a shell in a workspace, or run a command there
///
/// Flags may follow the workspace; the first word that is none begins the remote command, and so
/// does `--`. A command's standard streams stay apart and its exit status is passed on. A stopped
/// workspace is started.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// Command to run instead of a shell
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,

    /// Carry SSH on stdin and stdout, for OpenSSH's ProxyCommand
    #[arg(long, env = "CODER_SSH_STDIO")]
    stdio: bool,

    /// Give a command a terminal; a shell always has one
    #[arg(short, long, env = "CODER_SSH_TTY")]
    tty: bool,

    /// Environment variable of the session; repeatable [env: CODER_SSH_ENV]
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    env: Vec<String>,

    /// Whether to wait for the workspace's start scripts; auto waits for blocking ones
    #[arg(long, env = "CODER_SSH_WAIT", value_enum, default_value = "auto", value_name = "WHEN")]
    wait: WaitArg,

    /// Deprecated: use --wait no
    #[arg(long, env = "CODER_SSH_NO_WAIT", hide = true)]
    no_wait: bool,

    /// Do not start a stopped workspace
    #[arg(long, env = "CODER_SSH_DISABLE_AUTOSTART")]
    disable_autostart: bool,

    /// Prefix to strip from the host name that OpenSSH hands over
    #[arg(long, env = "CODER_SSH_SSH_HOST_PREFIX", value_name = "PREFIX", hide_short_help = true)]
    ssh_host_prefix: Option<String>,

    /// Suffix to strip from the host name, without its dot
    #[arg(long, env = "CODER_SSH_HOSTNAME_SUFFIX", value_name = "SUFFIX", hide_short_help = true)]
    hostname_suffix: Option<String>,

    /// Directory for a debug log of this session
    #[arg(short, long, env = "CODER_SSH_LOG_DIR", value_name = "DIR", hide_short_help = true)]
    log_dir: Option<PathBuf>,

    /// Name that usage is reported under: ssh, vscode, jetbrains, or disable
    #[arg(long, env = "CODER_SSH_USAGE_APP", value_name = "APP", hide = true)]
    usage_app: Option<String>,

    /// Accepted for editor extensions
    #[arg(long, value_name = "DIR", hide = true)]
    network_info_dir: Option<PathBuf>,

    /// Accepted for editor extensions
    #[arg(long, value_name = "DURATION", hide = true, value_parser = spelling::duration)]
    network_info_interval: Option<Duration>,

    /// Accepted for older configurations
    #[arg(long, env = "CODER_WORKSPACE_POLL_INTERVAL", value_name = "DURATION", hide = true,
          value_parser = spelling::duration)]
    workspace_poll_interval: Option<Duration>,

    /// Accepted: a tunnel of our own is always used
    #[arg(long, hide = true)]
    force_new_tunnel: bool,

    /// Forward the SSH agent; not supported yet
    #[arg(short = 'A', long, env = "CODER_SSH_FORWARD_AGENT", hide = true)]
    forward_agent: bool,

    /// Socket of the SSH agent to forward; not supported yet
    #[arg(long, env = "CODER_SSH_IDENTITY_AGENT", value_name = "SOCKET", hide = true)]
    identity_agent: Option<PathBuf>,

    /// Forward the GPG agent; not supported yet
    #[arg(short = 'G', long, env = "CODER_SSH_FORWARD_GPG", hide = true)]
    forward_gpg: bool,

    /// Forward a port of the workspace to here; not supported yet [env: CODER_SSH_REMOTE_FORWARD]
    #[arg(short = 'R', long, value_name = "SPEC", hide = true, allow_hyphen_values = true)]
    remote_forward: Vec<String>,

    /// Container in the workspace; not supported yet
    #[arg(short, long, value_name = "CONTAINER", hide = true)]
    container: Option<String>,

    /// User in that container
    #[arg(long, value_name = "USER", hide = true)]
    container_user: Option<String>,

    #[command(flatten)]
    deadlines: Deadlines,

    #[command(flatten)]
    pub(super) headers: Headers,
}

/// `--wait` as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum WaitArg {
    Yes,
    No,
    Auto,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let ui = &environment.ui;
    let target = Target::parse_host(
        &args.workspace,
        args.ssh_host_prefix.as_deref(),
        args.hostname_suffix.as_deref(),
    )?;
    let mode = args.mode()?;
    let wait = args.wait(ui);
    let session = Session::open(environment).await?;
    let request = Request {
        target,
        wait,
        autostart: !args.disable_autostart,
        follow: false,
        restart: false,
        limits: args.deadlines.limits(),
        usage_app: usage_app(args.usage_app.as_deref()),
        app: mode.app(),
    };
    tunnel::run(&session, ui, request).await
}

/// What to run on the tunnel.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Stdio,
    Shell { env: Vec<(String, String)> },
    Command { line: String, tty: bool, env: Vec<(String, String)> },
}

impl Mode {
    fn app(self) -> Box<dyn App> {
        match self {
            Self::Stdio => Box::new(Stdio::new()),
            Self::Shell { env } => Box::new(Shell::new(env)),
            Self::Command { line, tty, env } => Box::new(Exec::new(line, env, tty)),
        }
    }
}

impl Args {
    fn mode(&self) -> Result<Mode, CommandError> {
        if self.stdio {
            return self.stdio_mode();
        }
        let remote_forward = global::list("CODER_SSH_REMOTE_FORWARD", &self.remote_forward)?;
        let asked = [
            (self.forward_agent, "--forward-agent (-A)", "ssh -A"),
            (self.forward_gpg, "--forward-gpg (-G)", "ssh -R"),
            (!remote_forward.is_empty(), "--remote-forward (-R)", "ssh -R"),
        ];
        if let Some((_, flag, instead)) = asked.iter().find(|(asked, ..)| *asked) {
            return Err(CommandError::msg(Kind::Usage, format!("{flag} is not supported yet"))
                .hint(format!(
                    "OpenSSH can do it: {instead} … -o ProxyCommand='coderctl ssh --stdio %h' {}",
                    quoted(&self.workspace).trim_matches('`')
                )));
        }
        if self.container.as_ref().is_some_and(|container| !container.is_empty()) {
            return Err(CommandError::msg(Kind::Usage, "--container (-c) is not supported yet"));
        }
        let env = environment_variables(&global::list("CODER_SSH_ENV", &self.env)?)?;
        if self.command.is_empty() {
            return Ok(Mode::Shell { env });
        }
        // As OpenSSH does: one line, words parted by single blanks, quoting left to the user.
        let line = self.command.join(" ");
        Ok(Mode::Command { line, tty: self.tty, env })
    }

    /// OpenSSH does all that `-A`, `-G`, `-e` and `-c` ask for itself; `-R` would be lost.
    fn stdio_mode(&self) -> Result<Mode, CommandError> {
        if global::list("CODER_SSH_REMOTE_FORWARD", &self.remote_forward)?.is_empty() {
            return Ok(Mode::Stdio);
        }
        Err(CommandError::msg(Kind::Usage, "remote-forward can't be enabled in the stdio mode")
            .hint("give -R to OpenSSH itself"))
    }

    fn wait(&self, ui: &Ui) -> Wait {
        if self.no_wait {
            ui.warn("--no-wait is deprecated, use --wait no");
            return Wait::No;
        }
        match self.wait {
            WaitArg::Yes => Wait::Yes,
            WaitArg::No => Wait::No,
            WaitArg::Auto => Wait::Auto,
        }
    }

    /// The file that `--log-dir` asks for. Editor extensions find it by its name: the parent of a
    /// ProxyCommand is the `ssh` that they look for.
    pub(super) fn log_file(&self) -> Result<Option<fs::File>, CommandError> {
        let directory = self.log_dir.as_ref().filter(|path| !path.as_os_str().is_empty());
        let Some(directory) = directory else { return Ok(None) };
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
        let letters: String = uuid::Uuid::new_v4().as_bytes()[..5]
            .iter()
            .map(|b| char::from(b'a' + b % 26))
            .collect();
        let parent = match rustix::process::getppid() {
            Some(parent) if self.stdio => format!("-{}", parent.as_raw_nonzero()),
            Some(_) | None => String::new(),
        };
        let path = directory.join(format!("coder-ssh-{now}-{letters}{parent}.log"));
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        opened.map(Some).map_err(|error| {
            let what = format!("cannot create the log file {}", path.display());
            CommandError::new(Kind::Other, anyhow::Error::new(error).context(what))
                .hint("--log-dir names a directory that exists and can be written")
        })
    }
}

fn environment_variables(list: &[String]) -> Result<Vec<(String, String)>, CommandError> {
    let split = |setting: &String| match setting.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => {
            let text = format!("invalid environment variable setting {}", quoted(setting));
            Err(CommandError::msg(Kind::Usage, text).hint("write -e NAME=VALUE"))
        }
    };
    list.iter().map(split).collect()
}

/// What usage is reported under; anything unknown means `ssh`, as to the `coder` client.
fn usage_app(asked: Option<&str>) -> Option<String> {
    match asked {
        Some("disable") => None,
        Some(known @ ("vscode" | "jetbrains")) => Some(known.to_owned()),
        Some(_) | None => Some("ssh".to_owned()),
    }
}
