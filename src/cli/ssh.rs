pub(super) mod log_file;
mod variables;

use std::{fs, path::PathBuf, time::Duration};

use super::{
    Environment, Session,
    deadlines::Deadlines,
    global::{self, Headers},
    port_forward, spelling,
    target::Target,
};
use crate::{
    apps::{
        App,
        accompanied::Accompanied,
        containers::Container,
        forward_spec::{self, Forward, Specs},
        gpg::Gpg,
        network_info::NetworkInfo,
        port_forward::PortForward,
        remote::Remote,
        session::resumable::Resumable,
        stdio::Stdio,
        streamed::Streamed,
    },
    error::{CommandError, Kind},
    tunnel::{self, Request, Wait},
    ui::Ui,
};

/// How often the network info is written unless it is said (coder/coder: cli/ssh.go).
pub(super) const INFO_INTERVAL: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "Examples:
  coderctl ssh dev
  coderctl ssh dev -- make test
  tar c . | coderctl ssh dev -- tar x -C work
  coderctl ssh dev --session work
  coderctl ssh dev -L 8080:localhost:80 -R 9000:localhost:3000 -D 1080
  ssh -o ProxyCommand='coderctl ssh --stdio %h' dev";

/// Open a shell in a workspace, or run a command there
///
/// Flags may follow the workspace; the first word that is none begins the remote command, and so
/// does `--`. A command's standard streams stay apart and its exit status is passed on. A stopped
/// workspace is started.
///
/// LISTEN:TO is as in `coderctl port-forward`; the session begins once the forwards are ready, and
/// they end with it. On a terminal, `~.` at the beginning of a line ends the connection and `~?`
/// lists the other escapes. A workspace that has not answered for a minute is given up, with status
/// 255. A session with a name is no connection's: the agent keeps its terminal for some minutes
/// without anybody (5 upstream), and shows the last of it to who comes back. How its program ended is
/// told by coderctl's agent alone; with another one the exit code is 0.
///
/// --forward-gpg takes the public keys and the trust in their owners over and ends a GPG agent that runs
/// in the workspace; GnuPG has to be installed on both sides. With --container the session runs in a container of the workspace; a command there needs -t where
/// Coder's own agent runs.
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

    /// Give a command a terminal; a shell has one anyway
    #[arg(short, long, env = "CODER_SSH_TTY", overrides_with = "no_tty")]
    tty: bool,

    /// Give a shell no terminal
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,

    /// Run neither a shell nor a command, forwards only
    #[arg(short = 'N', long, conflicts_with_all = ["command", "stdio"])]
    no_command: bool,

    /// Terminal of this name, which goes on in the workspace when the connection is lost or left; it
    /// is come back to by itself, and by the same name from anywhere
    #[arg(long, value_name = "NAME", conflicts_with_all = [
        "stdio", "tty", "no_tty", "no_command", "env", "env_file", "forward_agent", "forward_gpg",
    ])]
    session: Option<String>,

    /// Environment variable of the session; repeatable [env: CODER_SSH_ENV]
    #[arg(short, long, value_name = "NAME=VALUE", allow_hyphen_values = true)]
    env: Vec<String>,

    /// File of such variables, one in a line; repeatable
    #[arg(long, value_name = "PATH")]
    env_file: Vec<PathBuf>,

    /// Forward a local port or socket to a host or socket that the workspace reaches; repeatable
    #[arg(short = 'L', long, value_name = "LISTEN:TO", allow_hyphen_values = true)]
    local_forward: Vec<String>,

    /// Forward a port or socket of the workspace to a host or socket reached from here; repeatable
    /// [env: CODER_SSH_REMOTE_FORWARD]
    #[arg(short = 'R', long, value_name = "LISTEN:TO", allow_hyphen_values = true)]
    remote_forward: Vec<String>,

    /// Local SOCKS 5 port for connections from the workspace to anywhere; repeatable
    #[arg(short = 'D', long, value_name = "[BIND:]PORT", allow_hyphen_values = true)]
    dynamic_forward: Vec<String>,

    /// Let programs in the workspace use the SSH keys of the agent behind SSH_AUTH_SOCK
    #[arg(short = 'A', long, env = "CODER_SSH_FORWARD_AGENT")]
    forward_agent: bool,

    /// Socket of another SSH agent to forward
    #[arg(long, env = "CODER_SSH_IDENTITY_AGENT", value_name = "SOCKET")]
    identity_agent: Option<PathBuf>,

    /// Character that begins an escape on a terminal, or none
    #[arg(long, default_value = "~", value_name = "CHAR", value_parser = escape_char,
          hide_short_help = true)]
    escape_char: Escape,

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

    /// Directory for a file that tells editor extensions how the tunnel is
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    network_info_dir: Option<PathBuf>,

    /// How often it is written; 5s unless given
    #[arg(long, value_name = "DURATION", hide_short_help = true, value_parser = spelling::duration)]
    network_info_interval: Option<Duration>,

    /// Accepted for older configurations
    #[arg(long, env = "CODER_WORKSPACE_POLL_INTERVAL", value_name = "DURATION", hide = true,
          value_parser = spelling::duration)]
    workspace_poll_interval: Option<Duration>,

    /// Accepted: a tunnel of our own is always used
    #[arg(long, hide = true)]
    force_new_tunnel: bool,

    /// Let programs in the workspace use the keys of the GPG agent that runs here
    #[arg(short = 'G', long, env = "CODER_SSH_FORWARD_GPG")]
    forward_gpg: bool,

    /// Container of the workspace to run it in, by name or id
    #[arg(short, long, value_name = "CONTAINER", conflicts_with = "no_command")]
    container: Option<String>,

    /// User to be in that container
    #[arg(long, value_name = "USER", requires = "container", hide_short_help = true)]
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

impl From<WaitArg> for Wait {
    fn from(wait: WaitArg) -> Self {
        match wait {
            WaitArg::Yes => Self::Yes,
            WaitArg::No => Self::No,
            WaitArg::Auto => Self::Auto,
        }
    }
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let ui = &environment.ui;
    let target = Target::parse_host(
        &args.workspace,
        args.ssh_host_prefix.as_deref(),
        args.hostname_suffix.as_deref(),
    )?;
    let app = args.app(environment)?;
    let wait = args.wait(ui);
    let session = Session::open(environment).await?;
    let request = Request {
        target,
        wait,
        autostart: !args.disable_autostart,
        // Only what the agent keeps can be come back to.
        follow: args.session.is_some(),
        restart: false,
        limits: args.deadlines.limits(),
        usage_app: usage_app(args.usage_app.as_deref()),
        app,
    };
    tunnel::run(&session, ui, request).await
}

/// `--escape-char` as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Escape(Option<u8>);

fn escape_char(text: &str) -> Result<Escape, &'static str> {
    match text.as_bytes() {
        b"none" => Ok(Escape(None)),
        [key] if key.is_ascii_graphic() => Ok(Escape(Some(*key))),
        [b'^', key] if key.is_ascii_alphabetic() => Ok(Escape(Some(key & 0x1f))),
        _ => Err("write one character, ^ and a letter, or none"),
    }
}

impl Args {
    /// What to run on the tunnel.
    fn app(&self, environment: &Environment) -> Result<Box<dyn App>, CommandError> {
        let forwards = self.forwards()?;
        let app: Box<dyn App> = if self.stdio {
            // OpenSSH does all that `-A`, `-e` and `-c` ask for itself; forwards would be lost.
            if !forwards.is_empty() {
                let remote = forwards.iter().any(|one| matches!(one, Forward::Remote(..)));
                let what = if remote { "remote-forward" } else { "a forward" };
                let text = format!("{what} can't be enabled in the stdio mode");
                return Err(CommandError::msg(Kind::Usage, text)
                    .hint("give -L, -R and -D to OpenSSH itself"));
            }
            Box::new(Streamed::new(Stdio))
        } else if forwards.is_empty() {
            if self.no_command {
                return Err(CommandError::msg(
                    Kind::Usage,
                    "--no-command (-N) leaves nothing to do",
                )
                .hint("name a forward with -L, -R or -D"));
            }
            self.with_gpg(self.session(&environment.ui)?)
        } else {
            let mut forwards = PortForward::new(forwards, &self.workspace);
            if let Some(inside) = environment.shared_host {
                forwards = forwards.on_shared_host(inside);
            }
            match self.no_command {
                true => Box::new(forwards),
                false => {
                    let session = self.session(&environment.ui)?;
                    self.with_gpg(Box::new(Accompanied::new(session, forwards)))
                }
            }
        };
        let directory = self.network_info_dir.as_ref().filter(|path| !path.as_os_str().is_empty());
        Ok(match directory {
            Some(directory) => {
                let interval = self.network_info_interval.unwrap_or(INFO_INTERVAL);
                Box::new(NetworkInfo::new(app, directory.clone(), interval))
            }
            None => app,
        })
    }

    fn forwards(&self) -> Result<Vec<Forward>, CommandError> {
        let specs = Specs {
            local: self.local_forward.clone(),
            remote: global::list("CODER_SSH_REMOTE_FORWARD", &self.remote_forward)?,
            dynamic: self.dynamic_forward.clone(),
            ..Specs::default()
        };
        if specs.local.is_empty() && specs.remote.is_empty() && specs.dynamic.is_empty() {
            return Ok(Vec::new());
        }
        forward_spec::parse(&specs).map_err(port_forward::wrong)
    }

    fn session(&self, ui: &Ui) -> Result<Box<dyn App>, CommandError> {
        // As OpenSSH does: one line, words parted by single blanks, quoting left to the user.
        let line = self.command.join(" ");
        if let Some(name) = &self.session {
            let session = Resumable::new(name, line, self.escape_char.0)
                .map_err(|error| CommandError::new(Kind::Usage, error))?;
            return Ok(Box::new(Streamed::new(session.in_container(self.container()))));
        }
        let settings = global::list("CODER_SSH_ENV", &self.env)?;
        let env = variables::read(&self.env_file, &settings)?;
        let session = match line.is_empty() {
            true => Remote::shell(!self.no_tty),
            false => Remote::command(line, self.tty),
        };
        let session = session.with_env(env).with_agent(self.agent(ui));
        let session = session.with_escape(self.escape_char.0).in_container(self.container());
        Ok(Box::new(Streamed::new(session)))
    }

    fn with_gpg(&self, session: Box<dyn App>) -> Box<dyn App> {
        match self.forward_gpg {
            true => Box::new(Gpg::new(session, &self.workspace)),
            false => session,
        }
    }

    /// The container to run it in.
    fn container(&self) -> Option<Container> {
        let named = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let name = named(&self.container)?;
        Some(Container { name, user: named(&self.container_user) })
    }

    /// The socket of the authentication agent to forward.
    fn agent(&self, ui: &Ui) -> Option<PathBuf> {
        if !self.forward_agent {
            return None;
        }
        let named = self.identity_agent.clone();
        let socket = named.or_else(|| std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from));
        let socket = socket.filter(|path| !path.as_os_str().is_empty());
        if socket.is_none() {
            ui.warn("there is no SSH agent to forward: SSH_AUTH_SOCK is not set");
        }
        socket
    }

    fn wait(&self, ui: &Ui) -> Wait {
        if self.no_wait {
            ui.warn("--no-wait is deprecated, use --wait no");
            return Wait::No;
        }
        self.wait.into()
    }

    /// The file that `--log-dir` asks for.
    pub(super) fn log_file(&self) -> Result<Option<fs::File>, CommandError> {
        let directory = self.log_dir.as_ref().filter(|path| !path.as_os_str().is_empty());
        directory
            .map(|directory| log_file::create(&log_file::named(directory, self.stdio)))
            .transpose()
    }
}

/// What usage is reported under; anything unknown means `ssh`, as to the `coder` client.
fn usage_app(asked: Option<&str>) -> Option<String> {
    match asked {
        Some("disable") => None,
        Some(known @ ("vscode" | "jetbrains")) => Some(known.to_owned()),
        Some(_) | None => Some("ssh".to_owned()),
    }
}
