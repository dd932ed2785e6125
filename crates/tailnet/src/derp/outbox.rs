//! What waits to be written to one relay.
//!
//! Senders append finished frames, the writer takes all there are at once: while one write is under
//! way the next gathers, so that many packets share a write (and a TLS record) exactly when there
//! are many. A full outbox refuses; whoever makes the packets then holds back, and nothing that
//! was made is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::frame::{Frame, FrameError, put_send_packet};
use super::limiter::Limiter;
use super::login::ServerInfo;
use crate::keys::NodePublic;

/// Bytes that wait for the writer at most, beside as many that it is writing. Four TLS records;
/// enough to keep a gigabit busy while a task is scheduled (measured: larger gained nothing and
/// costs latency).
pub(super) const CAPACITY: usize = 64 << 10;

/// The frames for one relay; lives on when the connection does not.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
    emptied: Notify,
    /// The network is another one.
    doubt: Notify,
    /// Shared by all relays: somebody who was refused may try again.
    room: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    packets: BytesMut,
    /// Frames of the protocol itself, which go first.
    control: BytesMut,
    limiter: Option<Limiter>,
    refused: bool,
    writing: bool,
    /// Something was taken to be written since the relay was heard last.
    unanswered: bool,
}

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No room; to be tried again when there is.
    #[error("the connection to the relay is busy")]
    Full,
    /// No such region, or none that relays.
    #[error("the relay map has no relay for this region")]
    NoRelay,
    /// The connection has ended.
    #[error("the connection to the relay has ended")]
    Closed,
    /// Longer than any relay passes on.
    #[error(transparent)]
    TooLong(#[from] FrameError),
}

impl Outbox {
    pub(super) fn new(room: Arc<Notify>) -> Self {
        let (filled, emptied, doubt) = (Notify::new(), Notify::new(), Notify::new());
        Outbox { inner: Mutex::default(), filled, emptied, doubt, room }
    }

    /// Appends a packet. One above the relay's rate is dropped, which is no error: delivery is
    /// not promised.
    pub(super) fn try_send(&self, to: &NodePublic, packet: &[u8]) -> Result<(), SendError> {
        let mut inner = self.lock();
        if inner.packets.len() >= CAPACITY {
            inner.refused = true;
            return Err(SendError::Full);
        }
        if let Some(limiter) = &mut inner.limiter
            && !limiter.take_packet(packet.len(), now())
        {
            return Ok(());
        }
        put_send_packet(&mut inner.packets, to, packet)?;
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Appends frames of the protocol itself.
    pub(super) fn put_control(&self, frames: &[u8]) {
        self.lock().control.extend_from_slice(frames);
        self.filled.notify_one();
    }

    /// Appends one frame of the protocol itself.
    pub(super) fn put_frame(&self, frame: &Frame) {
        frame.encode(&mut self.lock().control);
        self.filled.notify_one();
    }

    /// A new connection begins: what belonged to the last one is void.
    pub(super) fn restart(&self) {
        let mut inner = self.lock();
        inner.control.clear();
        inner.limiter = None;
        inner.writing = false;
        inner.unanswered = false;
    }

    /// The relay said something.
    pub(super) fn heard(&self) {
        self.lock().unanswered = false;
    }

    /// Whether something was written since the relay was heard last.
    pub(super) fn is_unanswered(&self) -> bool {
        self.lock().unanswered
    }

    /// The network is another one: the connection may be dead, and a failed one may be tried again.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Waits for that. Cancel safe; for one waiting task.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// The relay said what it accepts.
    pub(super) fn limit(&self, info: &ServerInfo) {
        self.lock().limiter = Limiter::new(info, now());
    }

    /// Whether there is room.
    pub(super) fn has_room(&self) -> bool {
        self.lock().packets.len() < CAPACITY
    }

    /// Waits for frames and takes them all; `written` is what was taken before and is reused.
    pub(super) async fn take(&self, written: &mut BytesMut) {
        loop {
            if self.try_take(written) {
                return;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self, written: &mut BytesMut) -> bool {
        written.clear();
        let mut inner = self.lock();
        if inner.control.is_empty() {
            std::mem::swap(&mut inner.packets, written);
        } else {
            std::mem::swap(&mut inner.control, written);
            written.extend_from_slice(&inner.packets);
            inner.packets.clear();
        }
        inner.writing = !written.is_empty();
        inner.unanswered |= inner.writing;
        let refused = std::mem::take(&mut inner.refused);
        drop(inner);
        if refused {
            self.room.notify_one();
        }
        if written.is_empty() {
            self.emptied.notify_waiters();
        }
        !written.is_empty()
    }

    /// Waits until everything was given to the operating system.
    pub(super) async fn flushed(&self) {
        loop {
            let emptied = self.emptied.notified();
            {
                let inner = self.lock();
                if !inner.writing && inner.packets.is_empty() && inner.control.is_empty() {
                    return;
                }
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
