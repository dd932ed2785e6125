//! The core behind one lock, and who waits for what.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot, watch};

use super::{
    CloseReason,
    core::{Core, Event},
};

/// How far the end has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not at all.
    Open,
    /// It is decided; queued frames may still be on their way.
    Closed(CloseReason),
    /// The byte stream is closed too.
    Done(CloseReason),
}

/// What session, streams and driver have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// A stream waits to be accepted.
    pub(crate) incoming: Notify,
    /// A stream may be opened again.
    pub(crate) opening: Notify,
    pub(crate) ending: watch::Sender<Ending>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) core: Core,
    /// Woken when there is something to send or a new deadline.
    pub(crate) driver: Option<Waker>,
    pub(crate) pings: BTreeMap<u32, oneshot::Sender<Duration>>,
    waiters: BTreeMap<u32, Waiters>,
}

/// Who waits on one stream.
#[derive(Debug, Default)]
struct Waiters {
    read: Option<Waker>,
    write: Option<Waker>,
    left: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(core: Core) -> Self {
        Self {
            inner: Mutex::new(Inner {
                core,
                driver: None,
                pings: BTreeMap::new(),
                waiters: BTreeMap::new(),
            }),
            incoming: Notify::new(),
            opening: Notify::new(),
            ending: watch::Sender::new(Ending::Open),
        }
    }

    /// Runs `f` on the core and wakes whom it concerns, the driver too if `f` left work for it.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.lock();
        let before = inner.core.poll_timeout();
        let result = f(&mut inner);
        let mut wake = Vec::new();
        self.dispatch(&mut inner, &mut wake);
        if inner.core.has_output() || inner.core.closed().is_some() || earlier(&inner, before) {
            wake.extend(inner.driver.take());
        }
        drop(inner);
        // Outside the lock: a waker may run anything.
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// As [`with`](Self::with), for the driver itself, which looks for work before it waits.
    pub(crate) fn drive<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.lock();
        let result = f(&mut inner);
        let mut wake = Vec::new();
        self.dispatch(&mut inner, &mut wake);
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
        result
    }

    fn dispatch(&self, inner: &mut Inner, wake: &mut Vec<Waker>) {
        while let Some(event) = inner.core.poll_event() {
            match event {
                Event::Readable(id) => wake.extend(inner.waiter(id, |w| &mut w.read)),
                Event::Writable(id) => wake.extend(inner.waiter(id, |w| &mut w.write)),
                Event::Left(id) => wake.extend(inner.waiter(id, |w| &mut w.left)),
                Event::Incoming => self.incoming.notify_waiters(),
                Event::Opening => self.opening.notify_waiters(),
                Event::Pong { value, after } => {
                    if let Some(waiting) = inner.pings.remove(&value) {
                        // Its receiver may be gone, which is nobody's loss.
                        let _ = waiting.send(after);
                    }
                }
                Event::Closed => {
                    inner.pings.clear();
                    for waiters in inner.waiters.values_mut() {
                        wake.extend(waiters.read.take());
                        wake.extend(waiters.write.take());
                        wake.extend(waiters.left.take());
                    }
                    self.incoming.notify_waiters();
                    self.opening.notify_waiters();
                    if let Some(reason) = inner.core.closed() {
                        self.ending.send_replace(Ending::Closed(reason.clone()));
                    }
                }
            }
        }
    }

    /// A panic inside the lock is a bug of ours; the others go on with what they find.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next deadline came nearer, so that the driver's timer is wrong.
fn earlier(inner: &Inner, before: Option<Instant>) -> bool {
    match (inner.core.poll_timeout(), before) {
        (Some(now), Some(before)) => now < before,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

impl Inner {
    pub(crate) fn wait_read(&mut self, id: u32, cx: &Context<'_>) {
        set(&mut self.waiters.entry(id).or_default().read, cx);
    }

    pub(crate) fn wait_write(&mut self, id: u32, cx: &Context<'_>) {
        set(&mut self.waiters.entry(id).or_default().write, cx);
    }

    pub(crate) fn wait_left(&mut self, id: u32, cx: &Context<'_>) {
        set(&mut self.waiters.entry(id).or_default().left, cx);
    }

    pub(crate) fn wait_driver(&mut self, cx: &Context<'_>) {
        set(&mut self.driver, cx);
    }

    /// The stream's handle is gone.
    pub(crate) fn release(&mut self, id: u32, now: Instant) {
        self.waiters.remove(&id);
        self.core.release(id, now);
    }

    /// The stream's handle is gone, its end is left to the other side.
    pub(crate) fn linger(&mut self, id: u32, now: Instant) {
        self.core.linger(id, now);
        self.waiters.remove(&id);
    }

    fn waiter(
        &mut self,
        id: u32,
        which: impl FnOnce(&mut Waiters) -> &mut Option<Waker>,
    ) -> Option<Waker> {
        self.waiters.get_mut(&id).and_then(|waiters| which(waiters).take())
    }
}

fn set(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        Some(_) | None => *slot = Some(cx.waker().clone()),
    }
}
