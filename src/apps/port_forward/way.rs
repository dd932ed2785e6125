//! From a tunnel to whatever the workspace reaches.
//!
//! Ports of the workspace itself are dialled straight through the tunnel. Other hosts and Unix
//! sockets are its SSH server's business, over one connection that all of them share: it is made
//! when it is first needed, and made anew when it was lost and is needed again.

use std::{io, os::unix::ffi::OsStrExt, sync::Arc, time::Duration};

use coderctl_ssh::client::{self, Client, OpenError, Opener, Outgoing, Reason, Target};
use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    apps::{Stream, Tunnel, forward_spec::Place, session},
    config::dial_timeout,
    ui::Ui,
};

/// How long the SSH handshake may take, as for a session.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How long the agent may try to connect somewhere: as long as a port of its own may take.
const CONNECT: Duration = Duration::from_secs(30);

/// A tunnel, and the SSH connection through it.
pub(super) struct Way {
    number: u64,
    tunnel: Arc<dyn Tunnel>,
    /// Whoever makes the SSH connection; others wait for that.
    making: Mutex<()>,
    ssh: watch::Sender<Option<Arc<Client>>>,
}

impl Way {
    /// The number tells it from the ways before it.
    pub(super) fn new(number: u64, tunnel: Arc<dyn Tunnel>) -> Self {
        Self { number, tunnel, making: Mutex::new(()), ssh: watch::Sender::new(None) }
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
        let _making = self.making.lock().await;
        if let Some(client) = self.ssh.borrow().as_ref().filter(|client| !client.is_over()) {
            return Ok(client.opener());
        }
        let client = Arc::new(self.log_in().await?);
        let opener = client.opener();
        self.ssh.send_replace(Some(client));
        Ok(opener)
    }

    /// Says that the shared SSH connection was lost, and that there is another, for as long as the
    /// tunnel stands.
    async fn tell_of_losses(&self, tunnel: &watch::Receiver<Option<Arc<dyn Tunnel>>>, ui: &Ui) {
        let mut ssh = self.ssh.subscribe();
        let mut lost = false;
        loop {
            let works = |ssh: &Option<Arc<Client>>| ssh.as_ref().is_some_and(|ssh| !ssh.is_over());
            let client = match ssh.wait_for(works).await {
                Ok(client) => client.clone(),
                Err(_) => return,
            };
            let Some(client) = client else { continue };
            if lost {
                ui.line("The SSH connection to hosts and sockets behind the workspace is back");
            }
            let why = how(client.ended().await);
            if tunnel.borrow().is_none() {
                return;
            }
            lost = true;
            ui.warn(format_args!(
                "the SSH connection to hosts and sockets behind the workspace is lost ({why}); the \
                 next connection there makes it anew"
            ));
        }
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

/// Says of every way when its shared SSH connection is lost and the tunnel is not.
pub(super) async fn tell_of_losses(
    mut ways: watch::Receiver<Option<Arc<Way>>>,
    tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    ui: Ui,
) {
    while let Some(way) = next(&mut ways).await {
        let over = async {
            way.tell_of_losses(&tunnel, &ui).await;
            // The tunnel is gone; so will be the way.
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = over => {}
            () = replaced(&mut ways, &way) => {}
        }
    }
}

/// The way there is, or the next one; `None` when there never will be one.
pub(super) async fn next(ways: &mut watch::Receiver<Option<Arc<Way>>>) -> Option<Arc<Way>> {
    ways.wait_for(Option::is_some).await.ok().and_then(|way| way.clone())
}

/// Waits until the way is gone or another is in its place.
pub(super) async fn replaced(ways: &mut watch::Receiver<Option<Arc<Way>>>, way: &Arc<Way>) {
    let same = |now: &Option<Arc<Way>>| now.as_ref().is_some_and(|now| Arc::ptr_eq(now, way));
    // An error means that there will be no other.
    let _ = ways.wait_for(|now| !same(now)).await;
}

/// How an SSH connection ended, for a sentence.
pub(super) fn how(ended: Result<(), coderctl_ssh::Error>) -> String {
    match ended {
        Ok(()) => "the agent has closed it".to_owned(),
        Err(error) => error.to_string(),
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
