//! A session that runs: standard streams, signals, the terminal, the end.

use std::{io, sync::Arc, time::Duration};

use coderctl_ssh::{
    Error, Exit, Session,
    client::{Client, Reader, Writer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    asked,
    auth_agent::AuthAgent,
    detached, end_of, ended_by,
    escape::{self, Escapes},
};
use crate::{
    apps::{
        End, Tunnel,
        local::{Local, Streams},
        remote::Remote,
        terminal::{self, Change, Changes, Raw},
    },
    error::{CommandError, Kind},
    signal::Signal,
    ui::Ui,
};

/// How long a remote process may go on after a signal was passed to it.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long an orderly end may take when it was asked for.
const CLOSE: Duration = Duration::from_secs(1);
/// How long the last bytes to the agent may take.
const GOODBYE: Duration = Duration::from_millis(250);
/// After which time a remote terminal is told again that input has ended: a shell that was still
/// setting up its terminal has missed the key (seen with bash behind a Go agent), and every
/// program that reads after the first has to be told too.
const END_KEY: Duration = Duration::from_millis(250);
/// What that time grows to, so that a long command does not find its input full of keys.
const END_KEY_SLOW: Duration = Duration::from_secs(10);
/// Bytes read from standard input at once.
const READ: usize = 64 * 1024;
/// What a program ends with that wrote to a closed pipe: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;
/// What a session ends with that was ended by an escape, as OpenSSH's does.
const DISCONNECTED: u8 = 255;

/// The terminal, as far as the session has to do with it.
pub(super) struct Terminal {
    tty: bool,
    raw: Option<Raw>,
    changes: Option<Changes>,
}

impl Terminal {
    pub(super) fn enter(tty: bool) -> io::Result<Self> {
        if !tty {
            return Ok(Self { tty, raw: None, changes: None });
        }
        let changes = Changes::new()?;
        Ok(Self { tty, raw: Raw::enter()?, changes: Some(changes) })
    }

    /// Whether keys go as bytes to the other side.
    pub(super) fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    pub(super) async fn change(&mut self) -> Change {
        match &mut self.changes {
            Some(changes) => changes.next().await,
            None => std::future::pending().await,
        }
    }

    /// Does what is to be done here about a change.
    pub(super) fn settle(&self, change: Change) {
        if let (Change::Resumed, Some(raw)) = (change, &self.raw)
            && let Err(error) = raw.again()
        {
            tracing::warn!(%error, "the terminal does not go back to raw mode");
        }
    }
}

/// Carries a session until it ends.
pub(super) struct Carrier {
    tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    close: watch::Receiver<bool>,
    signals: mpsc::Receiver<Signal>,
    terminal: Terminal,
    agent: Option<AuthAgent>,
    escapes: Option<Escapes>,
    ui: Ui,
}

/// Why not to wait for more than [`Carrier::carry`]'s deadline.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// The app was asked to close.
    Asked,
    /// This signal was passed on.
    Signal(Signal),
    /// The tunnel is gone.
    Lost,
}

/// How standard input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fed {
    /// Everything was delivered, or the session is over.
    Whole,
    /// An escape asks for the end.
    Disconnect,
}

impl Carrier {
    /// For a session of this kind.
    pub(super) fn new(
        remote: &Remote,
        terminal: Terminal,
        tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
        close: watch::Receiver<bool>,
        signals: mpsc::Receiver<Signal>,
        ui: Ui,
    ) -> Self {
        let agent = remote.agent.clone().map(AuthAgent::new);
        // Nobody types into a pipe.
        let escapes = remote.escape.filter(|_| terminal.is_raw()).map(Escapes::new);
        Self { tunnel, close, signals, terminal, agent, escapes, ui }
    }

    pub(super) async fn carry(mut self, client: Client, session: Session, streams: Streams) -> End {
        let Session { stdin, stdout, stderr, control } = session;
        let mut client = Some(client);
        let escapes = self.escapes.take().map(|escapes| (escapes, self.ui.clone()));
        let feed = feed(streams.stdin, stdin, self.terminal.tty, escapes);
        let drain = drain(stdout, streams.stdout, stderr, streams.stderr);
        tokio::pin!(feed, drain);
        let (mut fed, mut drained) = (false, false);
        let mut exit = None;
        let mut disconnected = false;
        let mut leaving: Option<(Leaving, Instant)> = None;

        let end = loop {
            if let (Some(exit), true) = (&exit, drained) {
                break match (exit, leaving) {
                    // It was we who closed it.
                    (Exit::Lost(_), Some((Leaving::Asked, _))) => End::Done(0),
                    _ => end_of(exit),
                };
            }
            let until = leaving.map(|(_, until)| until);
            tokio::select! {
                how = &mut feed, if !fed => {
                    fed = true;
                    if how == Fed::Disconnect {
                        control.close();
                        disconnected = true;
                        break End::Done(DISCONNECTED);
                    }
                }
                () = ask(&mut self.agent, &client) => {}
                result = &mut drain, if !drained => {
                    drained = true;
                    if let Err(error) = result {
                        control.close();
                        finish(client.take()).await;
                        break unwritable(error);
                    }
                }
                ended = control.exit(), if exit.is_none() => exit = Some(ended),
                change = self.terminal.change() => {
                    self.terminal.settle(change);
                    let (cols, rows) = terminal::size();
                    control.window_change(cols, rows);
                }
                Some(signal) = self.signals.recv() => {
                    if self.terminal.raw.is_some() || leaving.is_some() {
                        control.close();
                        break End::Done(ended_by(signal));
                    }
                    control.signal(signal.ssh_name());
                    leaving = Some((Leaving::Signal(signal), Instant::now() + GRACE));
                }
                () = asked(&mut self.close), if !matches!(leaving, Some((Leaving::Asked, _))) => {
                    control.close();
                    leaving = Some((Leaving::Asked, Instant::now() + CLOSE));
                }
                () = detached(&mut self.tunnel), if exit.is_none() => {
                    // What has arrived is still written; nothing more will.
                    client = None;
                    exit = Some(Exit::Lost(Error::NoStatus));
                    leaving = leaving.or(Some((Leaving::Lost, Instant::now() + CLOSE)));
                }
                () = at(until) => {
                    control.close();
                    break match (leaving, &exit) {
                        (Some((Leaving::Signal(signal), _)), _) => End::Done(ended_by(signal)),
                        (_, Some(exit)) => end_of(exit),
                        (_, None) => End::Done(0),
                    };
                }
            }
        };
        // Nothing that still happens may leave the terminal as it is now.
        drop(self.terminal);
        if disconnected {
            self.ui.line("Connection closed");
        }
        finish(client).await;
        end
    }
}

/// Serves what the session asks our authentication agent; never done.
async fn ask(agent: &mut Option<AuthAgent>, client: &Option<Client>) {
    match (agent, client) {
        (Some(agent), Some(client)) => agent.serve(client).await,
        (_, None) | (None, _) => std::future::pending().await,
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Takes leave of the server, as far as that takes no time.
pub(in crate::apps) async fn finish(client: Option<Client>) {
    if let Some(client) = client
        && timeout(GOODBYE, client.close()).await.is_err()
    {
        tracing::debug!("the SSH server does not take our goodbye");
    }
}

/// Standard input to the session, to its end.
async fn feed(
    mut local: Local,
    mut stdin: Writer,
    tty: bool,
    mut escapes: Option<(Escapes, Ui)>,
) -> Fed {
    let mut buffer = vec![0; READ];
    let mut filtered = Vec::new();
    let mut last = b'\n';
    loop {
        let count = match local.read(&mut buffer).await {
            Ok(count) => count,
            Err(error) => {
                // A terminal that hung up, or a descriptor that cannot be read: the end as well.
                tracing::debug!(%error, "standard input");
                0
            }
        };
        if count == 0 {
            break;
        }
        last = buffer[count - 1];
        let mut typed = &buffer[..count];
        if let Some((escapes, ui)) = &mut escapes {
            filtered.clear();
            match escapes.filter(typed, &mut filtered) {
                escape::Asked::Nothing => {}
                escape::Asked::Help => ui.line(escapes.help()),
                escape::Asked::Disconnect => return Fed::Disconnect,
            }
            typed = &filtered;
        }
        if stdin.write_all(typed).await.is_err() {
            // The session is over; its exit says how.
            return Fed::Whole;
        }
    }
    if tty {
        // End-of-file works at the beginning of a line; elsewhere, the first ends the line.
        let keys: &[u8] = if last == b'\n' { b"\x04" } else { b"\x04\x04" };
        let mut pause = END_KEY;
        while stdin.write_all(keys).await.is_ok() {
            sleep(pause).await;
            pause = (2 * pause).min(END_KEY_SLOW);
        }
        return Fed::Whole;
    }
    if let Err(error) = stdin.shutdown().await {
        tracing::debug!(%error, "end of input");
    }
    Fed::Whole
}

/// Both outputs of the session, to their ends. An error is that of standard output.
async fn drain(
    stdout: Reader,
    local_stdout: Local,
    stderr: Reader,
    local_stderr: Local,
) -> io::Result<()> {
    let out = copy(stdout, local_stdout);
    let err = async {
        if let Err(error) = copy(stderr, local_stderr).await {
            tracing::debug!(%error, "standard error");
        }
        Ok(())
    };
    tokio::try_join!(out, err).map(drop)
}

async fn copy(mut from: Reader, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    // A lost session ends its output with an error, which its exit tells better.
    while let Ok(Some(chunk)) = from.chunk().await {
        to.write_all(&chunk).await?;
    }
    to.flush().await
}

/// Standard output takes no more.
pub(super) fn unwritable(error: io::Error) -> End {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return End::Done(BROKEN_PIPE);
    }
    let error = anyhow::Error::new(error).context("cannot write to standard output");
    End::Failed(CommandError::new(Kind::Local, error))
}
