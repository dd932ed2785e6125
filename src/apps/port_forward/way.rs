//! From a tunnel to whatever the workspace reaches.
//!
//! Ports of the workspace itself are dialled straight through the tunnel. Other hosts and Unix
//! sockets are its SSH server's business, over one connection that all of them share: it is made
//! when it is first needed, and made anew when it was lost.

use std::{io, os::unix::ffi::OsStrExt, sync::Arc, time::Duration};

use coderctl_ssh::client::{self, Client, OpenError, Opener, Outgoing, Reason, Target};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    apps::{Stream, Tunnel, forward_spec::Place, session},
    config::dial_timeout,
};

/// How long the SSH handshake may take, as for a session.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How long the agent may try to connect somewhere: as long as a port of its own may take.
const CONNECT: Duration = Duration::from_secs(30);

/// A tunnel, and the SSH connection through it.
pub(super) struct Way {
    number: u64,
    tunnel: Arc<dyn Tunnel>,
    ssh: Mutex<Option<Client>>,
}

impl Way {
    /// The number tells it from the ways before it.
    pub(super) fn new(number: u64, tunnel: Arc<dyn Tunnel>) -> Self {
        Self { number, tunnel, ssh: Mutex::new(None) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn tunnel(&self) -> &dyn Tunnel {
        &*self.tunnel
    }

    /// Connects to a place. Fails with `ConnectionRefused`, `TimedOut` or `NotConnected` as
    /// [`Tunnel::dial`] does.
    pub(super) async fn connect(&self, place: &Place) -> io::Result<Box<dyn Stream>> {
        let target = match place {
            Place::Port(port) => return self.tunnel.dial(*port).await,
            Place::Host(host, port) => Target::Tcp { host: host.clone(), port: *port },
            Place::Socket(path) => Target::Unix { path: path.as_os_str().as_bytes().to_vec() },
        };
        let opener = self.opener().await?;
        let opened = timeout(CONNECT, opener.open(Outgoing::Direct(target))).await;
        match opened.map_err(|_| late("no answer", CONNECT))? {
            Ok(channel) => Ok(Box::new(channel)),
            Err(error) => Err(io::Error::new(kind(&error), error)),
        }
    }

    async fn opener(&self) -> io::Result<Opener> {
        // Whoever comes meanwhile waits for the same handshake.
        let mut ssh = self.ssh.lock().await;
        if let Some(client) = ssh.as_ref().filter(|client| !client.is_over()) {
            return Ok(client.opener());
        }
        let client = self.log_in().await?;
        let opener = client.opener();
        *ssh = Some(client);
        Ok(opener)
    }

    /// An SSH connection of one's own.
    pub(super) async fn log_in(&self) -> io::Result<Client> {
        let limit = dial_timeout().unwrap_or(HANDSHAKE);
        let connecting = async {
            let stream = self.tunnel.dial(session::PORT).await?;
            client::connect(stream, Some(session::KEEP_ALIVE))
                .await
                .map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))
        };
        match timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(late("the agent's SSH server did not answer", limit)),
        }
    }
}

fn late(what: &str, limit: Duration) -> io::Error {
    let text = format!("{what} within {} s", limit.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// What a refusal means for whoever wanted to connect (RFC 4254 section 5.1).
fn kind(error: &OpenError) -> io::ErrorKind {
    match error {
        OpenError::Refused { reason, .. } if *reason == Reason::Prohibited.code() => {
            io::ErrorKind::PermissionDenied
        }
        OpenError::Refused { .. } => io::ErrorKind::ConnectionRefused,
        OpenError::Closed => io::ErrorKind::NotConnected,
    }
}
