//! Services inside the tunnel, beside those of every agent.

use std::{collections::BTreeMap, fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use coderctl_transport::BoxStream;

/// What a service does with one connection.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves connections to one port: is given each stream and who opened it. What it returns is
/// dropped when the agent ends.
pub type Handler = Arc<dyn Fn(BoxStream, SocketAddr) -> Serving + Send + Sync>;

/// Which ports of the tunnel are served in this process instead of being passed on to loopback.
///
/// The agent's own ports (1, 2, 3, 4 and 22) come first and cannot be taken.
///
/// ```
/// use coderctl_agent::Services;
/// use tokio::io::AsyncWriteExt as _;
///
/// let services = Services::default().with(80, |mut stream, _peer| async move {
///     // A client that is gone needs no answer.
///     let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n").await;
/// });
/// assert!(services.get(80).is_some() && services.get(81).is_none());
/// ```
#[derive(Clone, Default)]
pub struct Services(BTreeMap<u16, Handler>);

impl Services {
    /// Adds a service; one that the port had before is replaced.
    #[must_use]
    pub fn with<F, Fut>(mut self, port: u16, serve: F) -> Self
    where
        F: Fn(BoxStream, SocketAddr) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |stream, peer| Box::pin(serve(stream, peer)));
        self.0.insert(port, handler);
        self
    }

    /// Who serves this port.
    #[must_use]
    pub fn get(&self, port: u16) -> Option<&Handler> {
        self.0.get(&port)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
