//! UDP: each local sender has a flow of its own through the tunnel, so that answers find it.
//!
//! Nothing is kept for later: without a tunnel a datagram is lost, as it would be on a network
//! that is down, and whoever sent it sends it again.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::debug;

use super::{
    Shared,
    bind::Datagrams as Listener,
    serve::{Open, note, stopping},
};
use crate::apps::Datagrams;

/// How long a flow may be silent in both directions: what RFC 4787 (REQ-5) asks of a NAT.
const IDLE: Duration = Duration::from_secs(120);

/// Flows of one listener at once: as many as one peer may have at an agent. Further senders are
/// not heard until one has been idle for long enough.
const MOST: usize = 1024;

/// The largest datagram that IP carries.
const LARGEST: usize = 65_507;

/// Carries datagrams until stopped.
pub(super) async fn serve(listener: Listener, shared: Shared, mut stopped: watch::Receiver<bool>) {
    let Listener { socket, local, to } = listener;
    let socket = Arc::new(socket);
    let mut flows = Flows::new(shared);
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, sender)) => {
                    let back = || {
                        let socket = Arc::clone(&socket);
                        move |payload: &[u8]| socket.try_send_to(payload, sender).map(drop)
                    };
                    flows.send(sender, to, &buffer[..length], back);
                }
                // What a sender's host says about an answer that it did not want (ICMP).
                Err(error) => debug!(%error, %local, "udp"),
            },
            () = flows.tidy() => {}
            () = stopping(&mut stopped) => return,
        }
    }
}

/// Flows under what tells them apart: a sender and a port of the workspace.
pub(super) struct Flows {
    shared: Shared,
    open: HashMap<(SocketAddr, u16), Flow>,
    tasks: JoinSet<(SocketAddr, u16)>,
}

struct Flow {
    datagrams: Arc<dyn Datagrams>,
    seen: Arc<Seen>,
    task: AbortHandle,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When something last went through, in milliseconds since the beginning.
struct Seen {
    begun: Instant,
    last: AtomicU64,
}

impl Seen {
    fn now(&self) {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// When it will have been idle for too long.
    fn over(&self) -> Instant {
        self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed)) + IDLE
    }
}

impl Flows {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, open: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Sends a datagram on its way; the first of a flow opens it, with the way back for answers.
    pub(super) fn send<B>(
        &mut self,
        sender: SocketAddr,
        port: u16,
        payload: &[u8],
        back: impl FnOnce() -> B,
    ) where
        B: Fn(&[u8]) -> io::Result<()> + Send + 'static,
    {
        let key = (sender, port);
        if !self.open.contains_key(&key)
            && let Err(error) = self.begin(key, back())
        {
            debug!(%error, %sender, port, "no flow");
            return;
        }
        let Some(flow) = self.open.get(&key) else { return };
        flow.seen.now();
        if let Err(error) = flow.datagrams.send(payload) {
            if error.kind() == io::ErrorKind::InvalidInput {
                let place = format!("udp://127.0.0.1:{port}");
                self.shared.not_dialled(&place, &error);
            } else {
                // Its tunnel is gone; the next datagram finds another.
                self.open.remove(&key);
            }
        }
    }

    fn begin(
        &mut self,
        key: (SocketAddr, u16),
        back: impl Fn(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        if self.open.len() >= MOST {
            return Err(io::Error::other("too many senders"));
        }
        let way = self.shared.way.borrow().clone().ok_or(io::ErrorKind::NotConnected)?;
        let datagrams: Arc<dyn Datagrams> = way.tunnel().datagrams(key.1)?.into();
        let seen = Arc::new(Seen { begun: Instant::now(), last: AtomicU64::new(0) });
        let open = Open::new(self.shared.events.clone());
        let answers = answers(Arc::clone(&datagrams), Arc::clone(&seen), back);
        let task = self.tasks.spawn(
            async move {
                let _open = open;
                answers.await;
                key
            }
            .boxed(),
        );
        self.open.insert(key, Flow { datagrams, seen, task });
        Ok(())
    }

    /// Forgets flows that have ended; pending while there is none.
    pub(super) async fn tidy(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(key)) => drop(self.open.remove(&key)),
            Some(Err(error)) if error.is_cancelled() => {}
            Some(Err(error)) => note(Err(error)),
            None => std::future::pending().await,
        }
    }
}

/// Brings answers back until the flow is idle or its tunnel gone.
async fn answers(
    datagrams: Arc<dyn Datagrams>,
    seen: Arc<Seen>,
    back: impl Fn(&[u8]) -> io::Result<()>,
) {
    loop {
        let over = seen.over();
        let received: io::Result<BytesMut> = tokio::select! {
            received = poll_fn(|cx| datagrams.poll_recv(cx)) => received,
            () = sleep_until(over) => {
                if seen.over() <= Instant::now() {
                    return;
                }
                continue;
            }
        };
        match received {
            Ok(payload) => {
                seen.now();
                if let Err(error) = back(&payload) {
                    // A full socket loses it, as networks do.
                    debug!(%error, "udp answer");
                }
            }
            Err(error) => {
                debug!(%error, "udp flow");
                return;
            }
        }
    }
}
