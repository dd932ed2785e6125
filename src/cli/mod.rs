//! The command line: one file per subcommand, its doc comment is its help.
//!
//! ```text
//! argv ─► clap (Args: what was typed) ─► Session, Target, Forward … (what it means) ─► the command
//!                                                                                        │
//!         exit code ◄── CommandError: kind, cause, hints ◄───────────────────────────────┘
//! ```

#[cfg(feature = "embedded")]
mod agent;
mod bug;
mod build;
mod config_ssh;
mod cp;
mod create;
mod deadlines;
mod delete;
#[cfg(feature = "embedded")]
mod demo;
#[cfg(feature = "embedded")]
mod embedded;
mod generate;
mod global;
mod headers;
mod list;
mod logging;
mod login;
mod logout;
mod logs;
mod netcheck;
mod ping;
mod port_forward;
mod restart;
mod rows;
#[cfg(feature = "embedded")]
mod server;
mod session;
mod sessions;
mod show;
mod speedtest;
mod spelling;
mod ssh;
mod start;
mod stop;
pub mod target;
mod template_file;
mod version;
mod vscodessh;
mod wait;
mod whoami;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{ArgAction, CommandFactory, FromArgMatches, parser::ValueSource};

pub use session::Session;

use crate::{
    error::{CommandError, Kind},
    signal::Signals,
    ui::Ui,
};
use global::{Global, Headers};

/// A tunneling client for Coder workspaces
///
/// Takes a workspace from whatever state it is in to a working tunnel, and runs a shell, a
/// command, OpenSSH or port forwards on it. Works with an unmodified Coder deployment, and shares
/// its login with the `coder` client.
#[derive(clap::Parser)]
#[command(
    name = "coderctl",
    version,
    propagate_version = false,
    args_override_self = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    headers: Headers,
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(clap::Subcommand)]
enum Subcommand {
    Login(login::Args),
    Logout(logout::Args),
    Whoami(whoami::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Show(show::Args),
    Ssh(Box<ssh::Args>),
    Sessions(sessions::Args),
    #[command(hide = true)]
    Vscodessh(Box<vscodessh::Args>),
    #[command(visible_alias = "tunnel")]
    PortForward(port_forward::Args),
    Cp(cp::Args),
    ConfigSsh(config_ssh::Args),
    Ping(ping::Args),
    Speedtest(speedtest::Args),
    Netcheck(netcheck::Args),
    Create(create::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    Wait(wait::Args),
    Logs(logs::Args),
    #[cfg(feature = "embedded")]
    Demo(demo::Args),
    #[cfg(feature = "embedded")]
    Server(Box<server::Args>),
    #[cfg(feature = "embedded")]
    Agent(agent::Args),
    Version(version::Args),
    #[command(hide = true)]
    Generate(generate::Args),
}

/// What every command is given besides its own arguments.
struct Environment {
    global: Global,
    /// Where the token came from, if one was given.
    token_source: Option<ValueSource>,
    headers: Vec<String>,
    /// Ports of the workspace that do not lead to this host, where the workspace is on it.
    shared_host: Option<&'static [u16]>,
    ui: Ui,
}

/// Parses, runs, maps the outcome to an exit code.
#[must_use]
pub fn main() -> ExitCode {
    version::asked_alone(std::env::args_os().skip(1)).unwrap_or_else(parse_and_run)
}

/// Apart from [`main`], whose frame would otherwise hold every command's future: to touch its
/// twenty pages of stack takes longer than all that `--version` does.
#[inline(never)]
fn parse_and_run() -> ExitCode {
    bug::end_on_panic();
    let (cli, token_source) = match parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error),
    };
    #[cfg(feature = "embedded")]
    if let Subcommand::Demo(args) = cli.command {
        return run_demo(args, &cli.global);
    }
    let ui = match cli.global.ui() {
        Ok(ui) => ui,
        Err(error) => return conclude(Err(error), &Ui::default()),
    };
    conclude(run(cli, token_source, None, &ui), &ui)
}

fn conclude(result: Result<u8, CommandError>, ui: &Ui) -> ExitCode {
    let code = match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            ui.error(&error);
            error.kind.code()
        }
    };
    ui.finished(code);
    ExitCode::from(code)
}

/// Runs a command on a deployment that lasts as long as it does.
#[cfg(feature = "embedded")]
fn run_demo(args: demo::Args, outer: &Global) -> ExitCode {
    let ui = match outer.ui() {
        Ok(ui) => ui,
        Err(error) => return conclude(Err(error), &Ui::default()),
    };
    let words = match args.unfold() {
        Ok(words) => words,
        Err(error) => return conclude(Err(error), &ui),
    };
    let name = OsString::from("coderctl");
    let (mut cli, token_source) = match parse(std::iter::once(name).chain(words)) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error),
    };
    let demo = match demo::Demo::start(&ui) {
        Ok(demo) => demo,
        Err(error) => return conclude(Err(error), &ui),
    };
    demo::instruct(&mut cli, outer, &demo);
    let ui = match cli.global.ui() {
        Ok(ui) => ui,
        Err(error) => return conclude(Err(error), &ui),
    };
    let result = run(cli, token_source, Some(&demo::INSIDE), &ui);
    demo.end(&ui);
    conclude(result, &ui)
}

/// The whole command line as clap sees it; completions, manuals and help come from here.
fn command() -> clap::Command {
    in_the_house_style(Cli::command())
}

fn in_the_house_style(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            // Help shows the names of variables, never what is in them.
            let argument = argument.hide_env_values(true);
            if matches!(argument.get_action(), ArgAction::SetTrue) {
                switch(argument)
            } else {
                argument
            }
        })
        .mut_subcommands(in_the_house_style)
}

/// A flag that is on or off: `--flag`, `--flag=false`, and a variable in any of Go's spellings.
fn switch(argument: clap::Arg) -> clap::Arg {
    let on_by_default = !argument.get_default_values().is_empty();
    argument
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_parser(spelling::boolean)
        .value_name("BOOL")
        .default_value(if on_by_default { "true" } else { "false" })
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
}

fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Cli, Option<ValueSource>), clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let token_source = matches.value_source("token");
    Ok((Cli::from_arg_matches(&matches)?, token_source))
}

/// Help and version go to stdout with success; wrong usage is told and is 2.
fn refuse(error: &clap::Error) -> ExitCode {
    let ui = Ui::default();
    let text = error.render().to_string();
    if error.use_stderr() {
        ui.usage(&text);
        return ExitCode::from(Kind::Usage.code());
    }
    match ui.data(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            ui.error(&cannot_write(error));
            ExitCode::from(Kind::Other.code())
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn run(
    cli: Cli,
    token_source: Option<ValueSource>,
    shared_host: Option<&'static [u16]>,
    ui: &Ui,
) -> Result<u8, CommandError> {
    let Cli { global, headers, command } = cli;
    // A list that grows wherever on the line it is given.
    let own = match &command {
        Subcommand::Login(args) => &args.headers,
        Subcommand::Logout(args) => &args.headers,
        Subcommand::Whoami(args) => &args.headers,
        Subcommand::List(args) => &args.headers,
        Subcommand::Show(args) => &args.headers,
        Subcommand::Ssh(args) => &args.headers,
        Subcommand::Sessions(args) => &args.headers,
        Subcommand::Vscodessh(args) => &args.headers,
        Subcommand::PortForward(args) => &args.headers,
        Subcommand::Cp(args) => &args.headers,
        Subcommand::ConfigSsh(args) => &args.headers,
        Subcommand::Ping(args) => &args.headers,
        Subcommand::Speedtest(args) => &args.headers,
        Subcommand::Netcheck(args) => &args.headers,
        Subcommand::Create(args) => &args.headers,
        Subcommand::Start(args) => &args.headers,
        Subcommand::Stop(args) => &args.headers,
        Subcommand::Restart(args) => &args.headers,
        Subcommand::Delete(args) => &args.headers,
        Subcommand::Wait(args) => &args.headers,
        Subcommand::Logs(args) => &args.headers,
        #[cfg(feature = "embedded")]
        Subcommand::Agent(args) => &args.headers,
        #[cfg(feature = "embedded")]
        Subcommand::Demo(_) | Subcommand::Server(_) => &Headers::default(),
        Subcommand::Version(_) | Subcommand::Generate(_) => &Headers::default(),
    };
    let typed: Vec<String> = headers.header.iter().chain(&own.header).cloned().collect();
    let headers = global::list("CODER_HEADER", &typed)?;
    let log_file = if let Subcommand::Ssh(args) = &command {
        args.log_file()?
    } else if let Subcommand::Vscodessh(args) = &command {
        args.log_file()?
    } else {
        None
    };
    #[cfg(feature = "embedded")]
    let stands = matches!(command, Subcommand::Server(_) | Subcommand::Agent(_));
    #[cfg(not(feature = "embedded"))]
    let stands = false;
    logging::start(global.verbosity(), stands, log_file, ui);
    let environment = Environment { global, token_source, headers, shared_host, ui: ui.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::new(Kind::Other, error))?;
    let result = runtime.block_on(async {
        match command {
            Subcommand::Login(args) => until_signal(login::run(args, &environment)).await,
            Subcommand::Logout(args) => until_signal(logout::run(args, &environment)).await,
            Subcommand::Whoami(args) => until_signal(whoami::run(args, &environment)).await,
            Subcommand::List(args) => until_signal(list::run(args, &environment)).await,
            Subcommand::Show(args) => until_signal(show::run(args, &environment)).await,
            Subcommand::Ssh(args) => ssh::run(*args, &environment).await,
            Subcommand::Sessions(args) => sessions::run(args, &environment).await,
            Subcommand::Vscodessh(args) => vscodessh::run(*args, &environment).await,
            Subcommand::PortForward(args) => port_forward::run(args, &environment).await,
            Subcommand::Cp(args) => cp::run(args, &environment).await,
            Subcommand::ConfigSsh(args) => until_signal(config_ssh::run(args, &environment)).await,
            Subcommand::Ping(args) => ping::run(args, &environment).await,
            Subcommand::Speedtest(args) => speedtest::run(args, &environment).await,
            Subcommand::Netcheck(args) => until_signal(netcheck::run(args, &environment)).await,
            Subcommand::Create(args) => create::run(args, &environment).await,
            Subcommand::Start(args) => start::run(args, &environment).await,
            Subcommand::Stop(args) => stop::run(args, &environment).await,
            Subcommand::Restart(args) => restart::run(args, &environment).await,
            Subcommand::Delete(args) => delete::run(args, &environment).await,
            Subcommand::Wait(args) => wait::run(args, &environment).await,
            Subcommand::Logs(args) => logs::run(args, &environment).await,
            #[cfg(feature = "embedded")]
            Subcommand::Demo(_) => Err(CommandError::msg(Kind::Usage, "a demo inside a demo")),
            #[cfg(feature = "embedded")]
            Subcommand::Server(args) => server::run(*args, &environment).await,
            #[cfg(feature = "embedded")]
            Subcommand::Agent(args) => agent::run(args, &environment).await,
            Subcommand::Version(args) => version::run(&args, ui),
            Subcommand::Generate(args) => generate::run(&args, ui),
        }
    });
    // A prompt that nobody answered still reads from the terminal; it ends with the process.
    runtime.shutdown_background();
    result
}

/// Runs a command that has nothing to tidy up; a signal ends it.
async fn until_signal(
    command: impl Future<Output = Result<u8, CommandError>>,
) -> Result<u8, CommandError> {
    let mut signals = Signals::new().map_err(|error| CommandError::new(Kind::Other, error))?;
    tokio::select! {
        result = command => result,
        signal = signals.next() => {
            Err(CommandError::msg(Kind::Signal(signal.number()), "interrupted"))
        }
    }
}

/// Writes a command's data to stdout.
fn write_data(ui: &Ui, data: &str) -> Result<u8, CommandError> {
    ui.data(data.as_bytes()).map(|()| 0).map_err(cannot_write)
}

fn cannot_write(error: io::Error) -> CommandError {
    CommandError::new(Kind::Other, anyhow::Error::new(error).context("cannot write to stdout"))
}

/// Nobody wants more of our output: that is no error (`coderctl list | head -1`).
fn is_broken_pipe(error: &CommandError) -> bool {
    let cause = error.source.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
        && error.kind == Kind::Other
}
