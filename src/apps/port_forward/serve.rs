//! One listener and the connections that came through it.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, error};

use super::{Listener, Shared, report};
use crate::apps::{Event, Tunnel};

/// How long a connection waits for a tunnel that is not there: a restart of an agent is over by
/// then, and most clients give up at about that time themselves.
const EARLY: Duration = Duration::from_secs(30);

/// Pauses after a failed accept, doubling: a process out of files recovers when a connection
/// ends, and must not spin until then.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Accepts until stopped, then closes the listener and waits for its connections. Dropping the
/// future ends them, too.
pub(super) async fn serve(listener: Listener, shared: Shared, mut stopped: watch::Receiver<bool>) {
    let Listener { socket, local, remote } = listener;
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new(local.to_string(), shared.clone());
    loop {
        tokio::select! {
            (stream, permit) = accepting.next(&socket) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    carry(stream, remote, shared).await;
                    drop(permit);
                });
            }
            Some(ended) = connections.join_next() => note(ended),
            () = stopping(&mut stopped) => break,
        }
    }
    drop(socket);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

async fn stopping(stopped: &mut watch::Receiver<bool>) {
    // An error means that whoever would say so is gone: as good as saying it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(ended) = ended {
        error!(%ended, "a forwarded connection panicked");
    }
}

/// The next connection of a listener, whatever happens in between.
struct Accepting {
    address: String,
    shared: Shared,
    pause: Duration,
    until: Option<Instant>,
    /// Accepted, and waiting for a permit.
    held: Option<TcpStream>,
}

impl Accepting {
    fn new(address: String, shared: Shared) -> Self {
        Self { address, shared, pause: FIRST_PAUSE, until: None, held: None }
    }

    /// May be dropped and called again: no connection is lost and no pause cut short by that.
    async fn next(&mut self, socket: &TcpListener) -> (TcpStream, OwnedSemaphorePermit) {
        loop {
            if self.held.is_some() {
                // Nobody closes the semaphore; an error would only mean another turn.
                let permit = Arc::clone(&self.shared.permits).acquire_owned().await;
                if let (Ok(permit), Some(stream)) = (permit, self.held.take()) {
                    return (stream, permit);
                }
            }
            if let Some(until) = self.until {
                tokio::time::sleep_until(until).await;
                self.until = None;
            }
            match socket.accept().await {
                Ok((stream, peer)) => {
                    debug!(%peer, to = self.address, "accepted");
                    self.pause = FIRST_PAUSE;
                    self.held = Some(stream);
                }
                // The client gave up while it was queued.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => self.back_off(&error),
            }
        }
    }

    fn back_off(&mut self, error: &io::Error) {
        // Once per spell of failures.
        if self.pause == FIRST_PAUSE {
            let address = &self.address;
            self.shared.ui.warn(format_args!(
                "cannot accept a connection to {address}: {error}; trying again"
            ));
        }
        self.until = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Carries one connection, from the first wait for a tunnel to the last byte.
async fn carry(local: TcpStream, remote: u16, mut shared: Shared) {
    // Small writes go out as they come; what is interactive at one end is so at the other.
    if let Err(error) = local.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let Some(tunnel) = wait_for_tunnel(&mut shared.tunnel).await else {
        // A reset, not an end: nothing of what was asked for has been delivered.
        if let Err(error) = local.set_zero_linger() {
            debug!(%error, "cannot reset a local connection");
        }
        let seconds = EARLY.as_secs();
        let why = format!("the workspace was not reachable for {seconds} seconds");
        shared.failures.tell(&shared.ui, remote, &io::Error::new(io::ErrorKind::TimedOut, why));
        return;
    };
    let begun = Instant::now();
    let _open = Open::new(shared.events.clone());
    match tunnel.splice(local, remote).await {
        Ok(carried) => shared.ui.verbose(
            format_args!(
                "forwarded connection to port {remote}: {} bytes sent, {} received",
                carried.sent, carried.received
            ),
            begun.elapsed(),
        ),
        Err(error) if is_dial_failure(&error) => {
            shared.failures.tell(&shared.ui, remote, &error);
        }
        Err(error) => debug!(remote, %error, "a forwarded connection broke"),
    }
}

async fn wait_for_tunnel(
    tunnel: &mut watch::Receiver<Option<Arc<dyn Tunnel>>>,
) -> Option<Arc<dyn Tunnel>> {
    let there = tunnel.wait_for(Option::is_some);
    let found = tokio::time::timeout(EARLY, there).await.ok()?.ok()?;
    found.clone()
}

fn is_dial_failure(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut | io::ErrorKind::NotConnected
    )
}

/// A forwarded connection that is open: the workspace is in use.
struct Open {
    events: mpsc::UnboundedSender<Event>,
}

impl Open {
    fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        report(&events, Event::Opened);
        Self { events }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        report(&self.events, Event::Closed);
    }
}
