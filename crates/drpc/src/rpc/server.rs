//! The side that takes calls.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::debug;

use super::{Incoming, call::Call};
use crate::{CloseReason, Config, RpcError, Session};

/// Calls at a time: what yamux lets a caller open without waiting.
pub const MAX_CALLS: usize = 256;

/// Takes calls over one session.
///
/// At most [`MAX_CALLS`] run at a time, from their Invoke to the drop of their last half; further
/// ones wait, first here, then in yamux's backlog. Dropping the server ends the session.
#[derive(Debug)]
pub struct Server {
    session: Session,
    places: Arc<Semaphore>,
    /// Calls whose Invoke has not come yet.
    opening: JoinSet<Result<Incoming, RpcError>>,
}

impl Server {
    /// A server over a byte stream, with yamux's default settings.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::new(Session::server(io, Config::default()))
    }

    /// A server over a session.
    pub fn new(session: Session) -> Self {
        Self::with_limit(session, MAX_CALLS)
    }

    /// A server with another limit than [`MAX_CALLS`].
    pub fn with_limit(session: Session, calls: usize) -> Self {
        Self { session, places: Arc::new(Semaphore::new(calls)), opening: JoinSet::new() }
    }

    /// The next call; `None` when the session has ended. Cancel safe. A call that is spoilt
    /// before its name is known is dropped, without harm to the others.
    pub async fn accept(&mut self) -> Option<Incoming> {
        loop {
            let Self { session, places, opening } = self;
            let next = async {
                // Never closed, so an error is no case of its own.
                let place = places.clone().acquire_owned().await.ok()?;
                Some((session.accept().await?, place))
            };
            tokio::select! {
                biased;
                Some(begun) = opening.join_next() => match begun {
                    Ok(Ok(incoming)) => return Some(incoming),
                    Ok(Err(error)) => debug!(%error, "a call was spoilt before it began"),
                    Err(error) => debug!(%error, "a call was given up before it began"),
                },
                taken = next => match taken {
                    Some((stream, place)) => {
                        let (outbound, inbound) = Call::incoming(stream, place);
                        opening.spawn(Incoming::read(outbound, inbound));
                    }
                    None => return None,
                },
            }
        }
    }

    /// Waits until the connection has ended and says why.
    pub async fn closed(&self) -> CloseReason {
        self.session.closed().await
    }

    /// Ends the connection after what is queued was sent.
    pub async fn close(&self) -> CloseReason {
        self.session.close().await
    }

    /// The session below.
    pub fn session(&self) -> &Session {
        &self.session
    }
}
