//! What the core knows of one stream.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::{config::INITIAL_WINDOW, frame::Flags};

/// A buffer that is empty again keeps at most this much memory.
const KEEP: usize = 16 * 1024;

/// How far opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Opened here; the other side has to acknowledge until then.
    SynSent(Instant),
    /// Opened there; the acknowledgement goes with the next frame.
    SynReceived,
    /// Acknowledged.
    Done,
}

/// One stream, both directions.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) opening: Opening,
    /// A `Stream` (or the accept backlog) still wants it.
    pub(crate) wanted: bool,
    /// FIN was sent.
    pub(crate) finished: bool,
    /// FIN was received.
    pub(crate) peer_finished: bool,
    /// RST was sent or received.
    pub(crate) reset: bool,
    /// When a stream that nobody wants is reset.
    pub(crate) close_at: Option<Instant>,
    /// The turn in which data was last queued; see `Core::write`.
    pub(crate) turn: u64,
    /// Bytes that we may still send.
    pub(crate) send_window: u32,
    /// Bytes that the other side may still send.
    recv_window: u32,
    /// Bytes of the current frame that have not come yet; they are off the window already.
    arriving: u32,
    buffer: BytesMut,
}

impl State {
    pub(crate) fn new(opening: Opening) -> Self {
        Self {
            opening,
            wanted: true,
            finished: false,
            peer_finished: false,
            reset: false,
            close_at: None,
            turn: 0,
            send_window: INITIAL_WINDOW,
            recv_window: INITIAL_WINDOW,
            arriving: 0,
            buffer: BytesMut::new(),
        }
    }

    /// Nothing more goes either way.
    pub(crate) fn is_over(&self) -> bool {
        self.reset || (self.finished && self.peer_finished)
    }

    /// The flags that the next frame must carry. A SYN went out when the stream was opened.
    pub(crate) fn take_flags(&mut self) -> Flags {
        match self.opening {
            Opening::SynReceived => {
                self.opening = Opening::Done;
                Flags::ACK
            }
            Opening::SynSent(_) | Opening::Done => Flags::NONE,
        }
    }

    /// A data frame begins. `Err` is the window that it does not fit.
    pub(crate) fn announce(&mut self, length: u32) -> Result<(), u32> {
        self.recv_window = self.recv_window.checked_sub(length).ok_or(self.recv_window)?;
        self.arriving = length;
        Ok(())
    }

    /// Bytes of the announced frame; kept if somebody is going to read them. Dropped bytes are
    /// never given back to the window, so that a stream nobody wants stops by itself.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) {
        self.arriving = self.arriving.saturating_sub(bytes.len() as u32);
        if self.wanted && !self.is_over() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Reads into a slice; the number of bytes.
    pub(crate) fn read_into(&mut self, out: &mut [u8]) -> usize {
        let n = self.buffer.len().min(out.len());
        out[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.advance(n);
        if self.buffer.is_empty() && self.buffer.capacity() > KEEP {
            self.buffer = BytesMut::new();
        }
        n
    }

    pub(crate) fn discard(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// The increment to announce, once it is worth a frame: half a window, as
    /// hashicorp/yamux: stream.go `sendWindowUpdate`; `force` for a frame that goes out anyway.
    pub(crate) fn renew(&mut self, window: u32, force: bool) -> Option<u32> {
        let held = self.buffer.len() as u64 + u64::from(self.arriving);
        let delta = u64::from(window)
            .saturating_sub(held)
            .saturating_sub(u64::from(self.recv_window)) as u32;
        if !force && (delta < window / 2 || self.peer_finished || self.is_over()) {
            return None;
        }
        self.recv_window += delta;
        Some(delta)
    }
}
