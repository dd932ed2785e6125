//! `ssh --stdio`: the agent's SSH server on standard input and output, for OpenSSH's ProxyCommand.
//!
//! Bytes go through unchanged, with back-pressure both ways. How it ends:
//!
//! | what happens | exit code |
//! | --- | --- |
//! | the agent closes its side | 0: nobody could tell OpenSSH otherwise than by our end |
//! | end of input | goes on until the agent closes: only the sending side is shut |
//! | standard output is closed | 0, without a word |
//! | the tunnel or the connection breaks | 255, one line |
//! | SIGHUP after bytes have flowed | 0: OpenSSH ends its ProxyCommand so |
//! | a signal otherwise | 128 + its number |

use std::{
    future::Future,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    Context, End, Event, Stream,
    local::{Local, Streams},
    session::{asked, attached, detached, dial, ended_by, lost},
    streamed::OnStreams,
};
use crate::{
    error::{CommandError, Kind},
    signal::Signal,
};

/// Bytes carried at once in each direction: two full SSH packets; a pipe holds no more.
const BUFFER: usize = 64 * 1024;
/// How long the end of our side may take to be told.
const GOODBYE: Duration = Duration::from_millis(250);

/// What runs behind `ssh --stdio`.
#[derive(Debug)]
pub struct Stdio;

impl OnStreams for Stdio {
    fn run(self, streams: Streams, context: Context) -> impl Future<Output = End> + Send {
        run(streams, context)
    }
}

async fn run(streams: Streams, context: Context) -> End {
    let Context { mut tunnel, mut close, mut signals, events, ui: _ } = context;
    let dialled = async { dial(&*attached(&mut tunnel).await?).await };
    let stream = tokio::select! {
        dialled = dialled => match dialled {
            Ok(stream) => stream,
            Err(error) => return End::Failed(error),
        },
        () = asked(&mut close) => return End::Done(0),
        Some(signal) = signals.recv() => return End::Done(ended_by(signal)),
    };
    // The driver may be gone, and with it the one who listens.
    let _ = events.send(Event::Up);
    let _ = events.send(Event::Opened);
    let flowed = AtomicBool::new(false);
    let end = tokio::select! {
        end = carry(stream, streams.stdin, streams.stdout, &flowed) => end,
        () = asked(&mut close) => End::Done(0),
        Some(signal) = signals.recv() => match signal {
            Signal::Hangup if flowed.load(Ordering::Relaxed) => End::Done(0),
            Signal::Hangup | Signal::Interrupt | Signal::Terminate => End::Done(ended_by(signal)),
        },
        () = detached(&mut tunnel) => lost(None),
    };
    let _ = events.send(Event::Closed);
    end
}

/// Carries bytes both ways until the agent's side ends.
async fn carry(stream: Box<dyn Stream>, stdin: Local, stdout: Local, flowed: &AtomicBool) -> End {
    let (mut from, mut to) = tokio::io::split(stream);
    let end = {
        let up = async {
            let result = copy(stdin, &mut to, flowed).await;
            match result {
                Ok(()) => to.shutdown().await,
                Err(Side::Writing(error)) => Err(error),
                Err(Side::Reading(error)) => {
                    // Input that cannot be read is input that has ended.
                    tracing::debug!(%error, "standard input");
                    to.shutdown().await
                }
            }
        };
        let down = copy(&mut from, stdout, flowed);
        tokio::pin!(up, down);
        let mut sending = true;
        loop {
            tokio::select! {
                // First what the agent has said: it may be the reason why it takes no more.
                biased;
                result = &mut down => break match result {
                    Ok(()) => End::Done(0),
                    Err(Side::Writing(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                        End::Done(0)
                    }
                    Err(Side::Writing(error)) => {
                        let error = anyhow::Error::new(error);
                        let error = error.context("cannot write to standard output");
                        End::Failed(CommandError::new(Kind::Local, error))
                    }
                    Err(Side::Reading(error)) => lost(Some(error.into())),
                },
                result = &mut up, if sending => {
                    sending = false;
                    if let Err(error) = result {
                        // What still comes, comes; then reading ends too.
                        tracing::debug!(%error, "sending to the agent");
                    }
                }
            }
        }
    };
    if matches!(end, End::Done(_))
        && let Ok(Err(error)) | Err(error) =
            timeout(GOODBYE, to.shutdown()).await.map_err(io::Error::from)
    {
        tracing::debug!(%error, "end of our side");
    }
    end
}

/// Which side of a copy failed.
enum Side {
    Reading(io::Error),
    Writing(io::Error),
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    flowed: &AtomicBool,
) -> Result<(), Side> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await.map_err(Side::Reading)?;
        if count == 0 {
            return to.flush().await.map_err(Side::Writing);
        }
        to.write_all(&buffer[..count]).await.map_err(Side::Writing)?;
        to.flush().await.map_err(Side::Writing)?;
        flowed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
