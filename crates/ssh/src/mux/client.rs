//! A client's connection: logging in, sessions, listeners at the server, and who connects to them.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::{Connection, Opener},
    core::Core,
    globals::Answer,
    io::Handle,
    pump,
    request::{Global, Listen, Origin},
    served::Offer,
    session::Session,
    shell::Arrival,
};
use crate::{error::Error, hostkey, options::Options, packet::SystemEntropy};

/// Begins a connection over a byte stream; nothing is waited for. A silent server is asked whether
/// it is still there after `keep_alive`; the fourth such silence in a row ends the connection.
///
/// # Errors
/// [`Error::Entropy`].
pub fn begin<T>(io: T, keep_alive: Option<Duration>) -> Result<Client, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let core = Core::client(keep_alive, Box::new(SystemEntropy::default()), pump::now())?;
    Ok(begin_core(io, core))
}

/// As [`begin`], over a connection that was made with settings of its own.
pub fn begin_core<T>(io: T, core: Core) -> Client
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Client(Connection::start(io, core))
}

/// Logs in over a byte stream, as [`begin`] and [`Client::logged_in`].
///
/// # Errors
/// Why the server cannot be logged in to. There is no time limit in here; wrap it.
pub async fn connect<T>(io: T, keep_alive: Option<Duration>) -> Result<Client, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client = begin(io, keep_alive)?;
    client.logged_in().await?;
    Ok(client)
}

/// Opens a session over a byte stream, and returns once the server has started the command: two
/// round trips. For who needs nothing else of the connection.
///
/// # Errors
/// Why there is no session: see [`Error`]. There is no time limit in here; wrap it.
pub async fn open<T>(io: T, options: Options) -> Result<(Client, Session), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client = begin(io, None)?;
    let session = client.session(options).await?;
    Ok((client, session))
}

/// A client's connection. Dropping it ends the connection at once.
#[derive(Debug)]
pub struct Client(Connection);

/// Somebody has connected to what we offer at the server. Dropping it is a refusal.
pub type Forwarded = Offer<Origin>;

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
    /// Waits until it is logged in.
    ///
    /// # Errors
    /// Why the server cannot be logged in to.
    pub async fn logged_in(&self) -> Result<(), Error> {
        self.0
            .when(|state| match &state.ended {
                _ if state.logged_in => Some(Ok(())),
                Some(Err(error)) => Some(Err(error.clone())),
                Some(Ok(())) => Some(Err(Error::Ended("before the login"))),
                None => None,
            })
            .await
    }

    /// Opens a session, and returns once the server has started the command. The first, asked for
    /// before the login, goes out together with it.
    ///
    /// # Errors
    /// Why there is no session; whether other channels go on is told by [`Self::is_over`].
    pub async fn session(&self, options: Options) -> Result<Session, Error> {
        options.check()?;
        let id = {
            let mut state = self.0.shared.lock();
            let asked = state.core.session(options);
            let id = asked.as_ref().ok().copied().flatten();
            state.settle(asked.map(drop));
            match (id, &state.ended) {
                (Some(id), _) => id,
                (None, Some(Err(error))) => return Err(error.clone()),
                (None, Some(Ok(())) | None) => {
                    return Err(Error::Ended("before the session began"));
                }
            }
        };
        Session::start(Handle::new(&self.0.shared, id)).await
    }

    /// The server's host key, as on the wire; empty before the keys are exchanged. Not checked
    /// against anything known.
    #[must_use]
    pub fn host_key(&self) -> Vec<u8> {
        self.0.shared.lock().core.transport().host_key().to_vec()
    }

    /// Its fingerprint, as OpenSSH prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hostkey::fingerprint(&self.host_key())
    }

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

    /// The next who connects to what we offer; `None` when the connection is over. Nothing is
    /// lost when dropped.
    pub async fn next(&self) -> Option<Forwarded> {
        loop {
            match self.0.arrival().await? {
                Arrival::Forwarded(id, origin) => {
                    return Some(Offer::new(Handle::new(&self.0.shared, id), origin));
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
