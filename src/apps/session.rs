//! An SSH session in the workspace: what a shell and a command have in common.
//!
//! ```text
//! tunnel ─► dial port 1 ─► SSH ─► Up, Opened ─► carry ─► exit ─► Closed, End
//!                                                 │
//!        stdin ► · stdout ◄ · stderr ◄ · signals ► · size ► · close · loss
//! ```
//!
//! * First SIGINT, SIGTERM or SIGHUP: passed to the remote process, which then has
//!   [`GRACE`] to end; the second ends at once. With a terminal of its own (raw mode) keys travel
//!   as bytes, and a signal that comes nevertheless is meant for this program: it ends.
//! * A closed standard output closes the session and ends with 141, as a program does that dies
//!   of SIGPIPE; OpenSSH ends with the status of the remote process, which dies of just that.
//!   A closed standard error is discarded to.
//! * The end of input is delivered; a remote terminal gets its end-of-file key, since it knows no
//!   other end, and gets it again until the session ends, since an end is for good. (The Go client
//!   leaves a shell waiting for ever there.)

use std::{io, sync::Arc, time::Duration};

use coderctl_ssh::{
    Control, Error, Exit, Options, Request, Session,
    client::{self, Client, Reader, Writer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Context, End, Event, Stream, Tunnel,
    local::{Local, Streams},
    terminal::{self, Change, Changes, Raw},
};
use crate::{
    config::dial_timeout,
    error::{CommandError, Kind},
    signal::Signal,
};

/// The agent's SSH server, as the Go client dials it (coder/coder: `AgentSSHPort`).
pub const PORT: u16 = 1;
/// How long the SSH handshake may take: eight round trips of a very bad link, and an agent that
/// is busy starting.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// After how long a silence the SSH server is asked whether it is still there; it is given up after
/// four of them, a minute. The tunnel below notices its own loss sooner; this is for a server that
/// hangs, or forgot us.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a remote process may go on after a signal was passed to it.
const GRACE: Duration = Duration::from_secs(5);
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

/// What to do about an agent that does not do what it should.
const BUSY: &str =
    "the agent may be starting or overloaded: try again, or look at its log in the dashboard";

/// What to do about one that cannot be understood.
const AGE: &str = "the agent may be too old or too new: update the workspace";

/// What is asked of the workspace.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) request: Request,
    pub(super) env: Vec<(String, String)>,
    /// Whether the remote side gets a terminal.
    pub(super) tty: bool,
}

/// Waits until there is a tunnel; an error when there never will be one.
pub(super) async fn attached(
    tunnel: &mut watch::Receiver<Option<Arc<dyn Tunnel>>>,
) -> Result<Arc<dyn Tunnel>, CommandError> {
    let attached = tunnel.wait_for(Option::is_some).await.ok().and_then(|now| now.clone());
    attached.ok_or_else(|| CommandError::msg(Kind::Tunnel, "there is no tunnel to the workspace"))
}

/// Waits until the tunnel is gone.
pub(super) async fn detached(tunnel: &mut watch::Receiver<Option<Arc<dyn Tunnel>>>) {
    // An error is a driver that is gone, and the tunnel with it.
    let _ = tunnel.wait_for(Option::is_none).await;
}

/// Waits until the app is asked to close.
pub(super) async fn asked(close: &mut watch::Receiver<bool>) {
    // An error is a driver that is gone: nobody needs the app any more.
    let _ = close.wait_for(|close| *close).await;
}

/// The end of a session that had begun and was lost.
pub(super) fn lost(cause: Option<anyhow::Error>) -> End {
    let error = match cause {
        Some(cause) => cause.context("connection lost"),
        None => anyhow::Error::msg("connection lost"),
    };
    End::Failed(CommandError::new(Kind::Lost, error))
}

/// Dials the agent's SSH server.
pub(super) async fn dial(tunnel: &dyn Tunnel) -> Result<Box<dyn Stream>, CommandError> {
    tunnel.dial(PORT).await.map_err(|error| {
        let (kind, what) = if error.kind() == io::ErrorKind::ConnectionRefused {
            (Kind::Remote, "the agent's SSH server refused the connection")
        } else if error.kind() == io::ErrorKind::TimedOut {
            (Kind::Timeout, "timed out waiting for the agent's SSH server to answer")
        } else {
            (Kind::Tunnel, "cannot reach the agent's SSH server")
        };
        CommandError::new(kind, anyhow::Error::new(error).context(what)).hint(BUSY)
    })
}

/// Runs a session from the attachment of the tunnel to its end.
pub(super) async fn run(remote: Remote, streams: Streams, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    let opened = async {
        let dialled = attached(&mut tunnel).await?;
        tokio::select! {
            opened = open(&*dialled, &remote) => opened,
            () = detached(&mut tunnel) => {
                Err(CommandError::msg(Kind::Tunnel, "the tunnel broke before the session began"))
            }
        }
    };
    let (client, session) = tokio::select! {
        opened = opened => match opened {
            Ok(opened) => opened,
            Err(error) => return End::Failed(error),
        },
        () = asked(&mut close) => return End::Done(0),
        // The driver passes signals on once we are up; one before is a wish to stop.
        Some(signal) = signals.recv() => return End::Done(ended_by(signal)),
    };
    // The driver may be gone, and with it the one who listens.
    let _ = events.send(Event::Up);
    let _ = events.send(Event::Opened);
    tracing::debug!(host_key = client.fingerprint(), "session opened");

    let suspended = remote.tty.then(|| ui.suspend());
    let end = match Terminal::enter(remote.tty) {
        Ok(terminal) => {
            let carrier = Carrier { tunnel, close, signals, terminal };
            carrier.carry(client, session, streams).await
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context("cannot take over the terminal");
            End::Failed(CommandError::new(Kind::Local, error))
        }
    };
    drop(suspended);
    let _ = events.send(Event::Closed);
    end
}

/// Opens a session.
pub(super) async fn open(
    tunnel: &dyn Tunnel,
    remote: &Remote,
) -> Result<(Client, Session), CommandError> {
    let mut options = Options::new(remote.request.clone());
    options.env.clone_from(&remote.env);
    options.pty = remote.tty.then(terminal::pty);
    let opening = async {
        let mut client = client::begin(dial(tunnel).await?, Some(KEEP_ALIVE)).map_err(refused)?;
        let session = match client.session(options.clone()).await {
            Err(error) if error.is_pipelining() => {
                tracing::debug!(%error, "once more, one step after the other");
                let stream = dial(tunnel).await?;
                client = client::connect(stream, Some(KEEP_ALIVE)).await.map_err(refused)?;
                client.session(options).await
            }
            opened => opened,
        };
        Ok((client, session.map_err(refused)?))
    };
    let limit = dial_timeout().unwrap_or(HANDSHAKE);
    timeout(limit, opening).await.unwrap_or_else(|_| {
        let after = limit.as_secs_f32();
        let text = format!("timed out opening an SSH session after {after} s");
        Err(CommandError::msg(Kind::Timeout, text).hint(BUSY))
    })
}

/// A session that could not begin.
fn refused(error: Error) -> CommandError {
    let (kind, hint) = match error {
        Error::Io { .. } | Error::Ended(_) | Error::NoStatus => (Kind::Tunnel, Some(BUSY)),
        Error::AuthRefused(_)
        | Error::ChannelRefused { .. }
        | Error::RequestRefused(_)
        | Error::Disconnected { .. } => (Kind::Remote, Some(BUSY)),
        Error::Request { .. } => (Kind::Usage, None),
        Error::Silent(_) => (Kind::Timeout, Some(BUSY)),
        Error::Entropy => (Kind::Other, None),
        Error::Identification(_)
        | Error::Malformed(_)
        | Error::TooLong { .. }
        | Error::Unexpected { .. }
        | Error::NoCommon { .. }
        | Error::HostKey(_)
        | Error::Signature
        | Error::Tampered
        | Error::ChannelNumber(_)
        | Error::Window => (Kind::Protocol, Some(AGE)),
    };
    let source = anyhow::Error::new(error).context("cannot open an SSH session in the workspace");
    let error = CommandError::new(kind, source);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// The terminal, as far as the session has to do with it.
struct Terminal {
    tty: bool,
    raw: Option<Raw>,
    changes: Option<Changes>,
}

impl Terminal {
    fn enter(tty: bool) -> io::Result<Self> {
        if !tty {
            return Ok(Self { tty, raw: None, changes: None });
        }
        let changes = Changes::new()?;
        Ok(Self { tty, raw: Raw::enter()?, changes: Some(changes) })
    }

    async fn change(&mut self) -> Change {
        match &mut self.changes {
            Some(changes) => changes.next().await,
            None => std::future::pending().await,
        }
    }

    fn handle(&self, change: Change, control: &Control) {
        if let (Change::Resumed, Some(raw)) = (change, &self.raw)
            && let Err(error) = raw.again()
        {
            tracing::warn!(%error, "the terminal does not go back to raw mode");
        }
        let (cols, rows) = terminal::size();
        control.window_change(cols, rows);
    }
}

/// Carries a session until it ends.
struct Carrier {
    tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    close: watch::Receiver<bool>,
    signals: tokio::sync::mpsc::Receiver<Signal>,
    terminal: Terminal,
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

impl Carrier {
    async fn carry(mut self, client: Client, session: Session, streams: Streams) -> End {
        let Session { stdin, stdout, stderr, control } = session;
        let mut client = Some(client);
        let feed = feed(streams.stdin, stdin, self.terminal.tty);
        let drain = drain(stdout, streams.stdout, stderr, streams.stderr);
        tokio::pin!(feed, drain);
        let (mut fed, mut drained) = (false, false);
        let mut exit = None;
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
                () = &mut feed, if !fed => fed = true,
                result = &mut drain, if !drained => {
                    drained = true;
                    if let Err(error) = result {
                        control.close();
                        finish(client.take()).await;
                        break unwritable(error);
                    }
                }
                ended = control.exit(), if exit.is_none() => exit = Some(ended),
                change = self.terminal.change() => self.terminal.handle(change, &control),
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
        finish(client).await;
        end
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Takes leave of the server, as far as that takes no time.
pub(super) async fn finish(client: Option<Client>) {
    if let Some(client) = client
        && timeout(GOODBYE, client.close()).await.is_err()
    {
        tracing::debug!("the SSH server does not take our goodbye");
    }
}

/// Standard input to the session, to its end.
async fn feed(mut local: Local, mut stdin: Writer, tty: bool) {
    let mut buffer = vec![0; READ];
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
        if stdin.write_all(&buffer[..count]).await.is_err() {
            // The session is over; its exit says how.
            return;
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
        return;
    }
    if let Err(error) = stdin.shutdown().await {
        tracing::debug!(%error, "end of input");
    }
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
fn unwritable(error: io::Error) -> End {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return End::Done(BROKEN_PIPE);
    }
    let error = anyhow::Error::new(error).context("cannot write to standard output");
    End::Failed(CommandError::new(Kind::Local, error))
}

/// The exit code for a way in which the remote process ended.
fn end_of(exit: &Exit) -> End {
    match exit {
        // No wrapping: 256 is no success.
        Exit::Status(status) => End::Done(u8::try_from(*status).unwrap_or(u8::MAX)),
        Exit::Signal { name, .. } => End::Done(signal_number(name).map_or(255, |n| 128 + n)),
        Exit::Lost(Error::NoStatus) => lost(None),
        Exit::Lost(error) => lost(Some(anyhow::Error::new(error.clone()))),
    }
}

pub(super) fn ended_by(signal: Signal) -> u8 {
    Kind::Signal(signal.number()).code()
}

/// The number, on Linux, of a signal of RFC 4254 section 6.10.
fn signal_number(name: &str) -> Option<u8> {
    Some(match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "TRAP" => 5,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
