//! A connection, as whoever serves it or opens channels over it holds it.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

use super::{
    core::{Config, Core},
    io::{Channel, Handle, Reader, Writer},
    pump::{self, Shared},
    request::Outgoing,
    served::{Control, Direct, Forward, Offer, Session},
    shell::{Arrival, Asked, State},
};
use crate::{
    channel::Source,
    error::{Error, Text},
    packet::SystemEntropy,
};

/// Serves one client over a byte stream. Nothing is waited for: the connection comes alive in a
/// task of its own.
///
/// # Errors
/// [`Error::Entropy`].
pub fn serve<T>(io: T, config: Config) -> Result<Connection, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let core = Core::new(config, Box::new(SystemEntropy::default()), pump::now())?;
    Ok(serve_core(io, core))
}

/// As [`serve`], over a connection that was made with settings of its own.
pub fn serve_core<T>(io: T, core: Core) -> Connection
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Connection::start(io, core)
}

/// A connection with one peer. Dropping it ends the connection at once.
#[derive(Debug)]
pub struct Connection {
    pub(super) shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What a client wants.
#[derive(Debug)]
pub enum Incoming {
    /// A program to run. That it will has been said already.
    Session(Session),
    /// To be connected to somewhere.
    Direct(Direct),
    /// A listener, or an end of one.
    Forward(Forward),
}

impl Connection {
    pub(super) fn start<T>(io: T, core: Core) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Shared::new(State::new(core));
        Self { task: pump::spawn(io, Arc::clone(&shared)), shared }
    }

    /// The next that the client wants; `None` when the connection is over. Nothing is lost when
    /// dropped.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let arrival = self.arrival().await?;
            if let Some(incoming) = self.incoming(arrival) {
                return Some(incoming);
            }
        }
    }

    /// The next that arrives; `None` when the connection is over.
    pub(super) async fn arrival(&self) -> Option<Arrival> {
        self.when(|state| match state.arrivals.pop_front() {
            None if state.ended.is_some() => Some(None),
            None => None,
            arrival => Some(arrival),
        })
        .await
    }

    /// Looks whenever somebody arrives, the login is done, or the connection has ended.
    pub(super) async fn when<R>(&self, mut look: impl FnMut(&mut State) -> Option<R>) -> R {
        let arrived = Arc::clone(&self.shared.lock().arrived);
        loop {
            let mut waiting = std::pin::pin!(arrived.notified());
            waiting.as_mut().enable();
            if let Some(found) = look(&mut self.shared.lock()) {
                return found;
            }
            waiting.await;
        }
    }

    fn incoming(&self, arrival: Arrival) -> Option<Incoming> {
        let handle = |id| Handle::new(&self.shared, id);
        Some(match arrival {
            Arrival::Session(id, start) => {
                let handle = handle(id);
                Incoming::Session(Session {
                    start: *start,
                    stdin: Reader::new(&handle, Source::Stdout),
                    stdout: Writer::part(&handle, Source::Stdout),
                    stderr: Writer::part(&handle, Source::Stderr),
                    control: Control::new(handle),
                })
            }
            Arrival::Direct(id, target) => Incoming::Direct(Offer::new(handle(id), target)),
            Arrival::Global(number, request) => {
                Incoming::Forward(Forward::new(Arc::clone(&self.shared), number, request))
            }
            // Nobody connects to listeners of a server's.
            Arrival::Forwarded(id, _) => {
                drop(handle(id));
                return None;
            }
        })
    }

    /// Opens channels to the peer; may be kept elsewhere.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener(Arc::clone(&self.shared))
    }

    /// How the connection ended, once [`Self::next`] has given `None`. A client that took its
    /// leave is [`Error::Disconnected`].
    #[must_use]
    pub fn ended(&self) -> Option<Result<(), Error>> {
        self.shared.lock().ended.clone()
    }

    /// Ends the connection in good order: what is left is written, the peer is told, the stream
    /// is shut down. Wrap it in a time limit: a peer that does not read delays it.
    pub async fn close(mut self) {
        self.shared.lock().leave();
        if let Err(error) = (&mut self.task).await {
            tracing::debug!(%error, "ssh task");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        let mut state = self.shared.lock();
        state.end(&Err(Error::Ended("on this side")));
        state.arrivals.clear();
    }
}

/// Opens channels to the peer.
#[derive(Debug, Clone)]
pub struct Opener(Arc<Shared>);

/// Why a channel to the peer could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer does not want it.
    #[error("the other side refused the channel: {text} (reason {reason})")]
    Refused {
        /// The reason code (RFC 4254 section 5.1).
        reason: u32,
        /// The peer's words.
        text: Text,
    },
    /// The connection is over, or has too many channels.
    #[error("the SSH connection takes no more channels")]
    Closed,
}

impl Opener {
    /// Opens a channel.
    ///
    /// # Errors
    /// [`OpenError`]. There is no time limit in here; a peer that does not answer keeps it
    /// waiting until the connection ends.
    pub async fn open(&self, outgoing: Outgoing) -> Result<Channel, OpenError> {
        let id = {
            let mut state = self.0.lock();
            let opened = state.core.open(&outgoing);
            let id = *opened.as_ref().unwrap_or(&None);
            state.settle(opened.map(drop));
            id.ok_or(OpenError::Closed)?
        };
        let handle = Handle::new(&self.0, id);
        handle
            .when(|slot| match slot.asked.clone() {
                Asked::Opened => Some(Ok(())),
                Asked::Refused(reason, text) => Some(Err(OpenError::Refused { reason, text })),
                Asked::Waiting => slot.closed.then_some(Err(OpenError::Closed)),
            })
            .await?;
        Ok(Channel::new(&handle))
    }
}
