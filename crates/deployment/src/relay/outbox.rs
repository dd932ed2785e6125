//! What waits to be written to one client: urgent frames before packets.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use coderctl_tailnet::derp::frame::Frame;
use tokio::sync::Notify;

use super::lane::Lane;

/// What waits to be written to one client. Whoever fills it never waits.
#[derive(Debug)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug)]
struct Inner {
    urgent: Lane,
    packets: Lane,
    /// Nobody will write it any more.
    closed: bool,
}

/// Bytes to be written: those from `start` on.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    start: usize,
    urgent: bool,
}

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}

impl Outbox {
    /// With room for so many bytes of packets and of urgent frames.
    pub(super) fn new(packets: usize, urgent: usize) -> Self {
        let inner = Inner { urgent: Lane::new(urgent), packets: Lane::new(packets), closed: false };
        Self { inner: Mutex::new(inner), filled: Notify::new() }
    }

    /// Appends frames of packets; says how many were dropped for them, or themselves.
    pub(super) fn push(&self, frames: &[u8], disco: bool) -> u64 {
        let dropped = {
            let mut inner = self.lock();
            if inner.closed {
                return 0;
            }
            if disco { inner.urgent.push(frames) } else { inner.packets.push(frames) }
        };
        self.filled.notify_one();
        dropped
    }

    /// Appends a frame of the protocol itself.
    pub(super) fn tell(&self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.push(&bytes, true);
    }

    /// Appends a frame that must not be lost: if there is no room, this is closed.
    pub(super) fn tell_surely(&self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        if self.push(&bytes, true) > 0 {
            self.close();
        }
    }

    /// Waits for something to write; `None` when it was closed.
    pub(super) async fn take(&self) -> Option<Chunk> {
        loop {
            {
                let mut inner = self.lock();
                if inner.closed {
                    return None;
                }
                if let Some((bytes, start)) = inner.urgent.take() {
                    return Some(Chunk { bytes, start, urgent: true });
                }
                if let Some((bytes, start)) = inner.packets.take() {
                    return Some(Chunk { bytes, start, urgent: false });
                }
            }
            self.filled.notified().await;
        }
    }

    /// Takes back what was written.
    pub(super) fn recycle(&self, chunk: Chunk) {
        let mut inner = self.lock();
        if !inner.closed {
            let lane = if chunk.urgent { &mut inner.urgent } else { &mut inner.packets };
            lane.recycle(chunk.bytes);
        }
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&self) {
        let mut inner = self.lock();
        inner.urgent.shrink();
        inner.packets.shrink();
    }

    /// Ends it: what waits is dropped, its writer leaves.
    pub(super) fn close(&self) {
        {
            let mut inner = self.lock();
            inner.closed = true;
            inner.urgent.clear();
            inner.packets.clear();
        }
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it; what it guards is whole in any case.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
