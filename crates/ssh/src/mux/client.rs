//! The client's handle: logging in, listeners at the server, and who connects to them.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    core::Core,
    globals::Answer,
    handles::{Connection, Handle, Offer, Opener},
    request::{Global, Listen},
    shell::Arrival,
};
use crate::{error::Error, packet::SystemEntropy, pump};

/// Logs in over a byte stream. A silent server is asked whether it is still there after
/// `keep_alive`; the fourth such silence in a row ends the connection.
///
/// # Errors
/// Why the server cannot be logged in to. There is no time limit in here; wrap it.
pub async fn connect<T>(io: T, keep_alive: Option<Duration>) -> Result<Client, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let core = Core::client(keep_alive, Box::new(SystemEntropy::default()), pump::now())?;
    let connection = Connection::start(io, core);
    connection
        .when(|state| match &state.ended {
            _ if state.logged_in => Some(Ok(())),
            Some(Err(error)) => Some(Err(error.clone())),
            Some(Ok(())) => Some(Err(Error::Ended("before the login"))),
            None => None,
        })
        .await?;
    Ok(Client(connection))
}

/// A connection that is logged in. Dropping it ends the connection at once.
#[derive(Debug)]
pub struct Client(Connection);

/// Somebody has connected to a listener of ours at the server. Dropping it is a refusal.
pub type Forwarded = Offer<Listen>;

/// Why the server does not listen for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// It does not want to, or cannot. The protocol has no words for why.
    #[error("the SSH server refused to listen there")]
    Refused,
    /// The connection is over.
    #[error("the SSH connection is over")]
    Closed,
}

impl Client {
    /// Opens channels; may be kept elsewhere.
    #[must_use]
    pub fn opener(&self) -> Opener {
        self.0.opener()
    }

    /// Has the server listen there; which port it is, for TCP. There is no time limit in here.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen(&self, listen: Listen) -> Result<Option<u16>, ListenError> {
        let asked = match &listen {
            // Only a free port is told; another is the one that was asked for.
            Listen::Tcp { port, .. } if *port != 0 => Some(*port),
            Listen::Tcp { .. } | Listen::Unix { .. } => None,
        };
        let answer = self.0.shared.lock().ask(&Global::Listen(listen));
        match answer.ok_or(ListenError::Closed)?.await {
            Ok(Answer::Granted(port)) => Ok(asked.or(port)),
            Ok(Answer::Refused) => Err(ListenError::Refused),
            Err(_) => Err(ListenError::Closed),
        }
    }

    /// The next who connects to a listener of ours; `None` when the connection is over. Nothing is
    /// lost when dropped.
    pub async fn next(&mut self) -> Option<Forwarded> {
        loop {
            match self.0.arrival().await? {
                Arrival::Forwarded(id, listen) => {
                    return Some(Offer::new(Handle::new(&self.0.shared, id), listen));
                }
                // Those are a client's wishes.
                Arrival::Session(..) | Arrival::Direct(..) | Arrival::Global(..) => {}
            }
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.ended().is_some()
    }

    /// Waits until the connection is over, and tells how it ended.
    pub async fn ended(&self) -> Result<(), Error> {
        self.0.when(|state| state.ended.clone()).await
    }

    /// Ends the connection in good order. Wrap it in a time limit: a server that does not read
    /// delays it.
    pub async fn close(self) {
        self.0.close().await;
    }
}
