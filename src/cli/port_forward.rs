use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::{
    Environment, Session,
    deadlines::{Deadlines, Endurance},
    global::{self, Headers, TextOrJson},
    spelling,
    ssh::WaitArg,
    target::Target,
};
use crate::{
    apps::{
        forward_spec::{self, SpecError, Specs},
        port_forward::{Announce, PortForward},
        run_under::Command,
    },
    error::{CommandError, Kind},
    tunnel::{self, Request, Wait},
};

const EXAMPLES: &str = "Examples:
  coderctl port-forward dev --tcp 8080:80,9000-9002 --udp 5353:53
  coderctl port-forward dev --tcp 0.0.0.0:8080:80
  coderctl port-forward dev -L 5432:db.internal:5432 -L /tmp/d.sock:/var/run/docker.sock
  coderctl port-forward dev -R 9000:localhost:3000 -D 1080
  coderctl port-forward dev --tcp 0:5432 --wait-remote 60s -- sh -c 'psql -h localhost -p $CODERCTL_PORT'";

/// Forward ports and sockets to a workspace and back
///
/// Local listeners open at once, before a stopped workspace is started, and stay open when the
/// workspace restarts. SPEC is `[BIND:]LOCAL[:REMOTE]`; ports may be ranges, and several specs are
/// separated by commas. LISTEN:TO is as with OpenSSH: LISTEN is `[BIND:]PORT` or a socket's path,
/// TO is `HOST:PORT`, a PORT of the workspace itself, or a socket's path; IPv6 addresses stand in
/// brackets. Port 0 of a listener takes a free one. Without BIND both loopback addresses are bound;
/// `*` means every address.
///
/// Names are resolved in the workspace, also those that a program asks the SOCKS port for. UDP
/// reaches the workspace's own ports only; a flow that is silent for two minutes is forgotten.
///
/// A COMMAND after `--` starts once the forwards are ready, and its status is that of coderctl. It
/// finds the first forward's local port in CODERCTL_PORT, the one that leads to port 5432 in
/// CODERCTL_PORT_5432, the SOCKS port as a URL in CODERCTL_SOCKS, and all forwards as JSON in
/// CODERCTL_FORWARDS. It gets the signals, and SIGTERM when the tunnel is lost for good.
///
/// Under systemd (NOTIFY_SOCKET) it is told, too, when the forwards are ready.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]
    #[arg(short = 'p', long, value_name = "SPEC", allow_hyphen_values = true)]
    tcp: Vec<String>,

    /// UDP ports to forward; repeatable [env: CODER_PORT_FORWARD_UDP]
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    udp: Vec<String>,

    /// Forward a local port or socket to a host or socket that the workspace reaches; repeatable
    #[arg(short = 'L', long, value_name = "LISTEN:TO", allow_hyphen_values = true)]
    local: Vec<String>,

    /// Forward a port or socket of the workspace to a host or socket reached from here; repeatable
    #[arg(short = 'R', long, value_name = "LISTEN:TO", allow_hyphen_values = true)]
    remote: Vec<String>,

    /// Local SOCKS 5 port for connections from the workspace to anywhere; repeatable
    #[arg(short = 'D', long, value_name = "[BIND:]PORT", allow_hyphen_values = true)]
    dynamic: Vec<String>,

    /// Do not start a stopped workspace
    #[arg(long, env = "CODER_SSH_DISABLE_AUTOSTART")]
    disable_autostart: bool,

    /// Whether to wait for the workspace's start scripts; auto does not
    #[arg(long, value_enum, default_value = "no", value_name = "WHEN")]
    wait: WaitArg,

    /// Be ready only when all places that TCP forwards lead to accept a connection; fail if they do
    /// not within this time of the first tunnel
    #[arg(long, value_name = "DURATION", value_parser = spelling::duration)]
    wait_remote: Option<Duration>,

    /// Write a JSON line to this file when ready, and remove it at the end
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,

    /// Write a JSON line to this inherited descriptor when ready
    #[arg(long, value_name = "NUMBER")]
    ready_fd: Option<u32>,

    /// What to write to standard output when ready: nothing, or one line with all forwards
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: TextOrJson,

    /// End with the reason's exit code when the tunnel is lost, instead of waiting for it to come back
    #[arg(long)]
    once: bool,

    /// Start the workspace again when somebody stops it meanwhile
    #[arg(long, conflicts_with = "once")]
    restart: bool,

    #[command(flatten)]
    deadlines: Deadlines,

    #[command(flatten)]
    endurance: Endurance,

    #[command(flatten)]
    pub(super) headers: Headers,

    /// Command to run once the forwards are ready, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let specs = Specs {
        tcp: global::list("CODER_PORT_FORWARD_TCP", &args.tcp)?,
        udp: global::list("CODER_PORT_FORWARD_UDP", &args.udp)?,
        local: args.local,
        remote: args.remote,
        dynamic: args.dynamic,
    };
    let forwards = forward_spec::parse(&specs).map_err(wrong)?;
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let announce = Announce {
        stdout: args.output == TextOrJson::Json,
        file: args.ready_file,
        descriptor: args.ready_fd,
        systemd: std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()),
    };
    let mut app = PortForward::new(forwards, &args.workspace)
        .announcing(announce)
        .waiting_for_remote(args.wait_remote)
        .with_command(Command::new(args.command));
    if let Some(inside) = environment.shared_host {
        app = app.on_shared_host(inside);
    }
    let request = Request {
        target,
        // Start scripts may well be what opens the ports; whoever wants them finished says so.
        wait: match args.wait {
            WaitArg::Yes => Wait::Yes,
            WaitArg::No | WaitArg::Auto => Wait::No,
        },
        autostart: !args.disable_autostart,
        follow: !args.once,
        restart: args.restart,
        limits: args.endurance.add_to(args.deadlines.limits()),
        usage_app: Some(String::new()),
        app: Box::new(app),
    };
    tunnel::run(&session, &environment.ui, request).await
}

pub(super) fn wrong(error: SpecError) -> CommandError {
    let hint = match error {
        SpecError::Syntax(_) | SpecError::Range { .. } => {
            Some("write [BIND:]LOCAL[:REMOTE], e.g. --tcp 8080:80 or --tcp 9000-9002")
        }
        SpecError::Nothing => Some("name one with --tcp, --udp, -L, -R or -D, e.g. --tcp 8080:80"),
        // They say it themselves.
        SpecError::End { .. } | SpecError::Twice(_) => None,
    };
    let error = CommandError::new(Kind::Usage, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
