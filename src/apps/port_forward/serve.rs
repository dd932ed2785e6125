//! One listener and the connections that came through it.

use std::{io, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, error};

use super::{
    Shared,
    bind::{Listener, Socket, To},
    socks, tell,
    way::Way,
};
use crate::apps::{Event, Stream, forward_spec::Place};

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
    let Listener { socket, local, to } = listener;
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new(local.to_string(), shared.clone());
    loop {
        tokio::select! {
            (stream, permit) = accepting.next(&socket) => {
                let (shared, to) = (shared.clone(), to.clone());
                connections.spawn(async move {
                    carry(stream, to, shared).await;
                    drop(permit);
                }.boxed());
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

pub(super) async fn stopping(stopped: &mut watch::Receiver<bool>) {
    // An error means that whoever would say so is gone: as good as saying it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

pub(super) fn note(ended: Result<(), tokio::task::JoinError>) {
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
    held: Option<Accepted>,
}

impl Accepting {
    fn new(address: String, shared: Shared) -> Self {
        Self { address, shared, pause: FIRST_PAUSE, until: None, held: None }
    }

    /// May be dropped and called again: no connection is lost and no pause cut short by that.
    async fn next(&mut self, socket: &Socket) -> (Accepted, OwnedSemaphorePermit) {
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
            match accept(socket).await {
                Ok(stream) => {
                    debug!(to = self.address, "accepted");
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

/// A local connection.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn accept(socket: &Socket) -> io::Result<Accepted> {
    match socket {
        Socket::Tcp(socket) => {
            let (stream, _) = socket.accept().await?;
            Ok(Accepted::tcp(stream))
        }
        Socket::Unix(socket, _) => Ok(Accepted::Unix(socket.accept().await?.0)),
    }
}

impl Accepted {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        // Small writes go out as they come; what is interactive at one end is so at the other.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no TCP_NODELAY");
        }
        Self::Tcp(stream)
    }

    pub(super) fn stream(&mut self) -> &mut dyn Stream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    /// Has the socket answer with a reset when it is dropped, where sockets have that: whoever is
    /// left must not take a broken transfer for a finished one.
    pub(super) fn reset(&self) {
        if let Self::Tcp(stream) = self
            && let Err(error) = stream.set_zero_linger()
        {
            debug!(%error, "cannot reset a local connection");
        }
    }
}

/// Carries one connection, from the first wait for a tunnel to the last byte.
async fn carry(local: Accepted, to: To, mut shared: Shared) {
    let Some(way) = wait_for_way(&mut shared.way).await else {
        // A reset, not an end: nothing of what was asked for has been delivered.
        local.reset();
        let seconds = EARLY.as_secs();
        let why = format!("the workspace was not reachable for {seconds} seconds");
        let place = match &to {
            To::Place(place) => place.url(),
            To::Socks => "socks5".to_owned(),
        };
        shared.not_dialled(&place, &io::Error::new(io::ErrorKind::TimedOut, why));
        return;
    };
    let begun = Instant::now();
    let _open = Open::new(shared.events.clone());
    let (place, result) = match (local, to) {
        (Accepted::Tcp(local), To::Place(place @ Place::Port(port))) => {
            let carried = way.tunnel().splice(local, port).await;
            (place, carried.map(|carried| (carried.sent, carried.received)))
        }
        (mut local, To::Place(place)) => {
            let carried = match way.connect(&place).await {
                Ok(mut remote) => splice(&mut local, &mut *remote).await,
                Err(error) => Err(error),
            };
            if carried.is_err() {
                local.reset();
            }
            (place, carried)
        }
        (mut local, To::Socks) => {
            if let Err(error) = socks::serve(&mut local, &way, &shared).await {
                debug!(%error, "a SOCKS connection");
                local.reset();
            }
            return;
        }
    };
    match result {
        Ok((sent, received)) => {
            let at = match &place {
                Place::Port(port) => format!("port {port}"),
                Place::Host(..) | Place::Socket(_) => place.to_string(),
            };
            shared.ui.verbose(
                format_args!(
                    "forwarded connection to {at}: {sent} bytes sent, {received} received"
                ),
                begun.elapsed(),
            );
        }
        Err(error) if is_dial_failure(&error) => {
            shared.not_dialled(&place.url(), &error);
        }
        Err(error) => debug!(%place, %error, "a forwarded connection broke"),
    }
}

/// Carries bytes both ways until both directions have ended; how many each way.
pub(super) async fn splice(
    local: &mut Accepted,
    remote: &mut dyn Stream,
) -> io::Result<(u64, u64)> {
    crate::splice::splice(local.stream(), remote)
        .await
        // Not to be taken for a failed dial.
        .map_err(|error| io::Error::new(io::ErrorKind::ConnectionAborted, error))
}

async fn wait_for_way(way: &mut watch::Receiver<Option<Arc<Way>>>) -> Option<Arc<Way>> {
    let there = way.wait_for(Option::is_some);
    let found = tokio::time::timeout(EARLY, there).await.ok()?.ok()?;
    found.clone()
}

fn is_dial_failure(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::TimedOut
            | io::ErrorKind::NotConnected
            | io::ErrorKind::PermissionDenied
    )
}

/// A forwarded connection that is open: the workspace is in use.
pub(super) struct Open {
    events: mpsc::UnboundedSender<Event>,
}

impl Open {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        tell(&events, Event::Opened);
        Self { events }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        tell(&self.events, Event::Closed);
    }
}
