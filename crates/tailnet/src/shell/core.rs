//! The engine and those who wait for it, behind one lock.
//!
//! The lock is held for moments and only by tasks of one runtime; on a current-thread runtime it
//! is never contended. Streams read and write the stack's own buffers under it, so a byte is
//! copied once between an application and its segment.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    engine::{Engine, Event},
    ids::PeerId,
    paths::Path,
    stack::{ConnectionId, PingId, StackEvent, TcpEvent, UdpId},
};

/// What the driver and the streams share.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// Tells the driver that a stream or a caller changed something.
    pub(super) changed: Notify,
}

/// The engine and who waits for what.
pub(super) struct Core {
    pub(super) engine: Engine,
    waiting: BTreeMap<ConnectionId, Waiting>,
    pings: BTreeMap<PingId, oneshot::Sender<Option<Duration>>>,
    /// Who waits for a peer's answer to a disco ping.
    disco_pings: BTreeMap<PeerId, Vec<oneshot::Sender<(Path, Duration)>>>,
    /// Who waits for something to arrive at a port.
    acceptor: Option<Waker>,
    /// Who waits for datagrams of a flow.
    flows: BTreeMap<UdpId, Option<Waker>>,
    /// Why there is no tailnet any more, once there is none.
    pub(super) closed: bool,
}

#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    pub(super) fn new(engine: Engine) -> Self {
        let core = Core {
            engine,
            waiting: BTreeMap::new(),
            pings: BTreeMap::new(),
            disco_pings: BTreeMap::new(),
            acceptor: None,
            flows: BTreeMap::new(),
            closed: false,
        };
        Self { core: Mutex::new(core), changed: Notify::new() }
    }

    /// The core. A panic elsewhere while it was held leaves it as it was.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Has the current task woken when `id` can perhaps be read.
    pub(super) fn wait_to_read<T>(&mut self, id: ConnectionId, cx: &Context<'_>) -> Poll<T> {
        keep(&mut self.waiting.entry(id).or_default().reader, cx);
        Poll::Pending
    }

    /// Has the current task woken when `id` can perhaps be written, or is established.
    pub(super) fn wait_to_write<T>(&mut self, id: ConnectionId, cx: &Context<'_>) -> Poll<T> {
        keep(&mut self.waiting.entry(id).or_default().writer, cx);
        Poll::Pending
    }

    /// Has the current task woken when something waits for a decision.
    pub(super) fn wait_for_arrival<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        keep(&mut self.acceptor, cx);
        Poll::Pending
    }

    /// Has the current task woken when a datagram of this flow can be received.
    pub(super) fn wait_for_datagram<T>(&mut self, id: UdpId, cx: &Context<'_>) -> Poll<T> {
        keep(self.flows.entry(id).or_default(), cx);
        Poll::Pending
    }

    /// Nobody waits for this flow any more.
    pub(super) fn forget_flow(&mut self, id: UdpId) {
        self.flows.remove(&id);
    }

    /// Nobody waits for `id` any more.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.waiting.remove(&id);
    }

    /// Has `answer` told what becomes of a ping.
    pub(super) fn await_pong(&mut self, ping: PingId, answer: oneshot::Sender<Option<Duration>>) {
        self.pings.insert(ping, answer);
    }

    /// Pings a peer by disco and has `answer` told of the first pong; dropped for a peer that is not
    /// known.
    pub(super) fn await_disco(&mut self, peer: PeerId, answer: oneshot::Sender<(Path, Duration)>) {
        if self.engine.measure(peer) {
            let waiting = self.disco_pings.entry(peer).or_default();
            waiting.retain(|answer| !answer.is_closed());
            waiting.push(answer);
        }
    }

    /// Wakes whoever an event is for; gives the others back. At its end whoever waits
    /// for arrivals is woken.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Stack(event) => self.wake(event),
                Event::DiscoPong(peer, path, took) => {
                    for answer in self.disco_pings.remove(&peer).into_iter().flatten() {
                        // The caller may have given up.
                        let _ = answer.send((path, took));
                    }
                }
                Event::PeerReachable(..)
                | Event::PeerSilent(_)
                | Event::PeerRemoved(_)
                | Event::PathChanged(_)
                | Event::EndpointsChanged => return Some(event),
            }
        }
        if self.acceptor.is_some() && self.engine.stack().has_arrivals() {
            wake(self.acceptor.take());
        }
        None
    }

    fn wake(&mut self, event: StackEvent) {
        match event {
            StackEvent::Tcp(event) => self.wake_stream(event),
            StackEvent::Pong(id, took) => self.pong(id, Some(took)),
            StackEvent::PingLost(id) => self.pong(id, None),
            StackEvent::UdpReadable(id) => {
                wake(self.flows.get_mut(&id).and_then(Option::take));
            }
            // This shell listens on no port of its own.
            StackEvent::Incoming(_) => {}
        }
    }

    fn wake_stream(&mut self, event: TcpEvent) {
        let Some(waiting) = self.waiting.get_mut(&event.connection()) else { return };
        match event {
            TcpEvent::Readable(_) | TcpEvent::PeerClosed(_) => wake(waiting.reader.take()),
            TcpEvent::Writable(_) | TcpEvent::Connected(_) => wake(waiting.writer.take()),
            TcpEvent::Ended(..) => {
                wake(waiting.reader.take());
                wake(waiting.writer.take());
            }
        }
    }

    fn pong(&mut self, id: PingId, took: Option<Duration>) {
        if let Some(answer) = self.pings.remove(&id) {
            // The caller may have given up.
            let _ = answer.send(took);
        }
    }

    /// Ends everything: every stream fails, every ping is lost.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            wake(waiting.reader);
            wake(waiting.writer);
        }
        for (_, waker) in std::mem::take(&mut self.flows) {
            wake(waker);
        }
        wake(self.acceptor.take());
        self.pings.clear();
        self.disco_pings.clear();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        Some(_) | None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
