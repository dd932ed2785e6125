//! An SSH session in the workspace: what a shell and a command have in common.
//!
//! ```text
//! tunnel ─► dial port 1 ─► SSH ─► Up, Opened ─► carry ─► exit ─► Closed, End
//!                                                 │
//!        stdin ► · stdout ◄ · stderr ◄ · signals ► · size ► · close · loss
//! ```
//!
//! * First SIGINT, SIGTERM or SIGHUP: passed to the remote process, which then has
//!   [`GRACE`](carry::GRACE) to end; the second ends at once. With a terminal of its own (raw mode) keys travel
//!   as bytes, and a signal that comes nevertheless is meant for this program: it ends.
//! * A closed standard output closes the session and ends with 141, as a program does that dies
//!   of SIGPIPE; OpenSSH ends with the status of the remote process, which dies of just that.
//!   A closed standard error is discarded to.
//! * The end of input is delivered; a remote terminal gets its end-of-file key, since it knows no
//!   other end, and gets it again until the session ends, since an end is for good. (The Go client
//!   leaves a shell waiting for ever there.)

mod auth_agent;
mod carry;
mod escape;
pub mod resumable;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use coderctl_ssh::{
    Error, Exit, Options, Session,
    client::{self, Client},
};
use tokio::{sync::watch, time::timeout};

pub(super) use self::carry::finish;
use self::carry::{Carrier, Terminal};
use super::{
    Context, End, Event, Stream, Tunnel, containers::Container, local::Streams, remote::Remote,
    terminal,
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
/// The status of a session that the agent could not set up; some say no more than that
/// (coder/coder: agent/agentssh/agentssh.go, `MagicSessionErrorCode`).
const NOT_SET_UP: u8 = 229;
/// After how long a silence the SSH server is asked whether it is still there; it is given up after
/// four of them, a minute. The tunnel below notices its own loss sooner; this is for a server that
/// hangs, or forgot us.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What to do about an agent that does not do what it should.
pub(super) const BUSY: &str =
    "the agent may be starting or overloaded: try again, or look at its log in the dashboard";

/// What to do about one that cannot be understood.
pub(super) const AGE: &str = "the agent may be too old or too new: update the workspace";

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
    reach(tunnel, PORT, "the agent's SSH server").await
}

/// Dials a port of the agent's own, behind which is `what`.
pub(super) async fn reach(
    tunnel: &dyn Tunnel,
    port: u16,
    what: &str,
) -> Result<Box<dyn Stream>, CommandError> {
    tunnel.dial(port).await.map_err(|error| {
        let (kind, said) = if error.kind() == io::ErrorKind::ConnectionRefused {
            (Kind::Remote, format!("{what} refused the connection"))
        } else if error.kind() == io::ErrorKind::TimedOut {
            (Kind::Timeout, format!("timed out waiting for {what} to answer"))
        } else {
            (Kind::Tunnel, format!("cannot reach {what}"))
        };
        CommandError::new(kind, anyhow::Error::new(error).context(said)).hint(BUSY)
    })
}

/// Runs a session from the attachment of the tunnel to its end.
pub(super) async fn run(remote: Remote, streams: Streams, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui } = context;
    let container = remote.container.as_ref();
    let told = container.into_iter().flat_map(Container::variables);
    let options = Options {
        env: remote.env.iter().cloned().chain(told).collect(),
        pty: remote.tty.then(terminal::pty),
        agent: remote.agent.is_some(),
        request: remote.request.clone(),
    };
    let opened = async {
        let dialled = attached(&mut tunnel).await?;
        let found_and_opened = async {
            if let Some(container) = container {
                container.find(&*dialled).await?;
            }
            open(&*dialled, options).await
        };
        tokio::select! {
            opened = found_and_opened => opened,
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
            let carrier = Carrier::new(&remote, terminal, tunnel, close, signals, ui.clone());
            carrier.carry(client, session, streams).await
        }
        Err(error) => {
            let error = anyhow::Error::new(error).context("cannot take over the terminal");
            End::Failed(CommandError::new(Kind::Local, error))
        }
    };
    drop(suspended);
    if remote.container.is_some() && matches!(end, End::Done(NOT_SET_UP)) {
        ui.warn("the agent could not set the session up in the container; its log says why");
    }
    let _ = events.send(Event::Closed);
    end
}

/// Opens a session.
pub(super) async fn open(
    tunnel: &dyn Tunnel,
    options: Options,
) -> Result<(Client, Session), CommandError> {
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
