use std::ffi::OsString;

use super::{
    Environment, Session,
    global::{self, Headers},
    ssh::WaitArg,
    target::Target,
};
use crate::{
    apps::{forward_spec, port_forward::PortForward, run_under::Command},
    error::{CommandError, Kind},
    tunnel::{self, Request, Wait},
};

const EXAMPLES: &str = "Examples:
  coderctl port-forward dev --tcp 8080:80,9000-9002
  coderctl port-forward dev --tcp 0.0.0.0:8080:80
  coderctl port-forward dev --tcp 0:5432
  coderctl port-forward dev --tcp 0:5432 -- sh -c 'psql -h localhost -p $CODERCTL_PORT'";

/// Forward local ports to ports of a workspace
///
/// Listeners open at once, before a stopped workspace is started, and stay open when the workspace
/// restarts. SPEC is `[BIND:]LOCAL[:REMOTE]`; ports may be ranges, several specs are separated by
/// commas, and local port 0 takes a free one. Without BIND both loopback addresses are bound.
///
/// A COMMAND after `--` starts once the forwards are ready, and its status is that of coderctl. It
/// finds the first forward's local port in CODERCTL_PORT, and the one that leads to port 5432 in
/// CODERCTL_PORT_5432. It gets the signals, and SIGTERM when the tunnel is lost for good.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// TCP ports to forward; repeatable [env: CODER_PORT_FORWARD_TCP]
    #[arg(short = 'p', long, value_name = "SPEC", allow_hyphen_values = true)]
    tcp: Vec<String>,

    /// UDP ports to forward; not supported yet [env: CODER_PORT_FORWARD_UDP]
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    udp: Vec<String>,

    /// Do not start a stopped workspace
    #[arg(long, env = "CODER_SSH_DISABLE_AUTOSTART")]
    disable_autostart: bool,

    /// Whether to wait for the workspace's start scripts; auto does not
    #[arg(long, value_enum, default_value = "no", value_name = "WHEN")]
    wait: WaitArg,

    #[command(flatten)]
    pub(super) headers: Headers,

    /// Command to run once the forwards are ready, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let udp = global::list("CODER_PORT_FORWARD_UDP", &args.udp)?;
    if !udp.is_empty() {
        return Err(CommandError::msg(Kind::Usage, "--udp is not supported yet")
            .hint("only TCP ports can be forwarded: use --tcp"));
    }
    let tcp = global::list("CODER_PORT_FORWARD_TCP", &args.tcp)?;
    let forwards = forward_spec::parse(&tcp).map_err(|error| {
        CommandError::new(Kind::Usage, error)
            .hint("write --tcp [BIND:]LOCAL[:REMOTE], e.g. --tcp 8080:80 or --tcp 9000-9002")
    })?;
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let mut app = PortForward::new(forwards).with_command(Command::new(args.command));
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
        follow: true,
        usage_app: Some(String::new()),
        app: Box::new(app),
    };
    tunnel::run(&session, &environment.ui, request).await
}
