use std::{
    ffi::{OsStr, OsString},
    io,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use coderctl_agent::Services;
use coderctl_deployment::{Config, config::Storage};
use coderctl_transport::BoxStream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};
use url::Url;

use super::{
    Cli,
    embedded::{self, Home},
    global::Global,
};
use crate::{
    api::Token,
    error::{CommandError, Kind},
    signal::Signals,
    ui::{Ui, quoted},
};

const EXAMPLES: &str = "Examples:
  coderctl demo ssh
  coderctl demo ssh -- uname -a
  coderctl demo port-forward --tcp 0:80 -- sh -c 'curl -s localhost:$CODERCTL_PORT'
  coderctl demo list";

/// The workspace that every demo has.
const WORKSPACE: &str = "dev";

/// The port of the web service inside the tunnel.
const WEB: u16 = 80;

/// Ports of the workspace that never lead to this host: the agent's own (SSH, terminals, speed test,
/// its API) and the web service.
pub(super) const INSIDE: [u16; 6] = [1, 2, 3, 4, 22, WEB];

/// Run a command on a throw-away deployment with one workspace
///
/// A whole deployment (control plane, relay, agent) runs inside this process while COMMAND does, and
/// is gone with it: nothing is stored, and no login is touched. Its workspace is called `dev`, and is
/// meant where COMMAND names none. It runs on this machine, as you; port 80 inside its tunnel is a
/// small web service.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Command of coderctl, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Commands that make no sense inside a demo: they have a deployment of their own, or write what
/// is this user's and outlives the demo.
const REFUSED: [&str; 8] =
    ["login", "logout", "config-ssh", "vscodessh", "demo", "server", "agent", "generate"];

impl Args {
    /// The command line that is meant, without the program's name.
    pub(super) fn unfold(self) -> Result<Vec<OsString>, CommandError> {
        unfold(self.command)
    }
}

/// What was said to the demo is said to the command; where its deployment is, only we know.
pub(super) fn instruct(cli: &mut Cli, outer: &Global, demo: &Demo) {
    let inner = &mut cli.global;
    inner.url = Some(demo.url.to_string());
    inner.token = Some(demo.token.clone());
    inner.header_command = None;
    inner.client_tls_ca_file = None;
    inner.client_tls_cert_file = None;
    inner.client_tls_key_file = None;
    inner.verbose.splice(0..0, outer.verbose.iter().copied());
    inner.quiet |= outer.quiet;
    inner.force_tty |= outer.force_tty;
    inner.events = inner.events.or(outer.events);
    inner.events_fd = inner.events_fd.or(outer.events_fd);
}

/// A deployment in a thread of its own, for as long as one command runs.
pub(super) struct Demo {
    url: Url,
    token: Token,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What the thread tells once it is up.
type Told = Result<(Url, Token, Vec<(&'static str, Duration)>), CommandError>;

impl Demo {
    /// Starts it, and waits until its workspace is ready.
    pub(super) fn start(ui: &Ui) -> Result<Self, CommandError> {
        let failed = |error: io::Error| CommandError::new(Kind::Other, error);
        let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let waiting = waiting.map_err(failed)?;
        let stage = ui.brief("Starting a demo deployment");
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("demo".to_owned())
            .spawn(move || live(tell, stopped))
            .map_err(failed)?;
        let told = waiting.block_on(async {
            let mut signals = Signals::new().map_err(failed)?;
            tokio::select! {
                told = told => told.map_err(|error| CommandError::new(Kind::Other, error))?,
                signal = signals.next() => {
                    let kind = Kind::Signal(signal.number());
                    Err(CommandError::msg(kind, "interrupted before the demo was up"))
                }
            }
        });
        match told {
            Ok((url, token, steps)) => {
                stage.finish();
                for (step, took) in steps {
                    ui.verbose(format_args!("demo: {step}"), took);
                }
                Ok(Self { url, token, stop, thread })
            }
            Err(error) => {
                drop((stage, stop));
                // It removes what it has made.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    /// Ends it, and removes all that it was.
    pub(super) fn end(self, ui: &Ui) {
        let began = Instant::now();
        drop(self.stop);
        if self.thread.join().is_err() {
            ui.warn("the demo deployment did not end in order");
        }
        ui.verbose("demo: ended", began.elapsed());
    }
}

/// The thread's whole life.
fn live(tell: oneshot::Sender<Told>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody listens any more: then nobody needs to know.
            let _ = tell.send(Err(CommandError::new(Kind::Other, error)));
            return;
        }
    };
    runtime.block_on(async {
        let mut stopped = stopped;
        let home = match Home::at(None, "coderctl-demo") {
            Ok(home) => home,
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        let up = tokio::select! {
            up = bring_up(&home) => up,
            _ = &mut stopped => return,
        };
        match up {
            Ok((running, told)) => {
                if tell.send(Ok(told)).is_ok() {
                    // Dropped or sent, it means the same.
                    let _ = stopped.await;
                }
                running.shutdown().await;
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    });
}

async fn bring_up(
    home: &Home,
) -> Result<(embedded::Running, (Url, Token, Vec<(&'static str, Duration)>)), CommandError> {
    let began = Instant::now();
    let mut config = Config::new(Storage::Memory, home.workspaces());
    config.services = Services::default().with(WEB, |stream, _| serve_web(stream));
    let running = embedded::start(config).await?;
    let token = running.token(&home.path().join("token")).await?;
    let up = began.elapsed();
    running.workspace(WORKSPACE, None, true).await?;
    let steps = vec![("deployment up", up), ("workspace ready", began.elapsed() - up)];
    let told = (running.url().clone(), Token::new(&token), steps);
    Ok((running, told))
}

/// Longest request of the web service, in bytes.
const LONGEST_REQUEST: u64 = 16 * 1024;

/// Answers any request with the same page.
async fn serve_web(mut stream: BoxStream) {
    const PAGE: &str = "coderctl demo: this page comes from inside the tunnel\n";
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let room = LONGEST_REQUEST.saturating_sub(request.len() as u64);
        match (&mut stream).take(room).read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let answer = format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{PAGE}",
        PAGE.len()
    );
    // A client that is gone needs no answer.
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

fn unfold(mut command: Vec<OsString>) -> Result<Vec<OsString>, CommandError> {
    let name = command.first().and_then(|name| name.to_str()).unwrap_or_default();
    if REFUSED.contains(&name) {
        let why = format!("{} cannot run inside a demo", quoted(name));
        return Err(CommandError::msg(Kind::Usage, why)
            .hint("a demo runs a client's command, e.g. `coderctl demo ssh`"));
    }
    let named = command.get(1).is_some_and(|word| !begins_with_dash(word));
    if !named && is_of_a_workspace(name) {
        command.insert(1, WORKSPACE.into());
    }
    Ok(command)
}

/// Whether a command's first argument is a workspace that there is.
fn is_of_a_workspace(name: &str) -> bool {
    let cli = super::command();
    let first = cli.find_subcommand(name).and_then(|command| command.get_positionals().next());
    name != "create" && first.is_some_and(|argument| argument.get_id() == "workspace")
}

fn begins_with_dash(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_meant_where_none_is_named() {
        for (typed, meant) in [
            ("ssh", "ssh dev"),
            ("ssh -- true", "ssh dev -- true"),
            ("ssh -t top", "ssh dev -t top"),
            ("ssh other -- true", "ssh other -- true"),
            ("port-forward --tcp 0:80 -- sh", "port-forward dev --tcp 0:80 -- sh"),
            ("tunnel -p 0:80", "tunnel dev -p 0:80"),
            ("stop", "stop dev"),
            ("rm --yes", "rm dev --yes"),
            ("ping -n 3", "ping dev -n 3"),
            ("wait --for running", "wait dev --for running"),
            ("list", "list"),
            ("list -o json", "list -o json"),
            ("create other -t dev", "create other -t dev"),
            ("create -t dev", "create -t dev"),
            ("cp a dev:", "cp a dev:"),
            ("whoami", "whoami"),
            ("unheard-of", "unheard-of"),
        ] {
            let words = typed.split(' ').map(OsString::from).collect();
            let unfolded = unfold(words).unwrap();
            let words: Vec<_> = unfolded.iter().filter_map(|word| word.to_str()).collect();
            assert_eq!(words.join(" "), meant);
        }
    }

    #[test]
    fn what_makes_no_sense_there_is_refused() {
        for typed in REFUSED {
            let error = unfold(vec![typed.into()]).unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
        }
    }
}
