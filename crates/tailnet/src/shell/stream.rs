//! A TCP connection inside the tunnel, as a byte stream.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::Shared;
use crate::stack::{CloseReason, ConnectionId, RecvError, SendError};

/// A TCP connection to a peer.
///
/// Shutting down the write half sends FIN behind everything that was written; reading goes on
/// until the peer closes its half. Dropped before that, the connection is reset, so that nobody
/// mistakes a broken transfer for a finished one.
pub struct TcpStream {
    shared: Arc<Shared>,
    id: ConnectionId,
    shut: bool,
}

impl TcpStream {
    pub(super) fn new(shared: Arc<Shared>, id: ConnectionId) -> Self {
        Self { shared, id, shut: false }
    }

    /// Resolves when the connection stands, or why it does not.
    pub(super) fn poll_connected(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut core = self.shared.lock();
        if core.closed {
            return Poll::Ready(Err(gone()));
        }
        match core.engine.stack().status(self.id) {
            None => Poll::Ready(Err(gone())),
            Some(status) => match status.ended {
                Some(reason) => Poll::Ready(Err(error(reason))),
                None if status.is_open() => Poll::Ready(Ok(())),
                None => core.wait_to_write(self.id, cx),
            },
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut core = self.shared.lock();
        if core.closed {
            return Poll::Ready(Err(gone()));
        }
        let mut take = |bytes: &[u8]| {
            let count = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..count]);
            count
        };
        match core.engine.stack().recv(self.id, &mut take, Instant::now()) {
            Ok(_) => {
                // Room in the receive buffer may be worth a window update.
                let news = core.engine.stack().wants_transmit();
                drop(core);
                if news {
                    self.shared.changed.notify_one();
                }
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Empty) => core.wait_to_read(self.id, cx),
            Err(RecvError::Finished | RecvError::Ended(CloseReason::Finished)) => {
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Ended(reason)) => Poll::Ready(Err(error(reason))),
            Err(RecvError::Unknown) => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut core = self.shared.lock();
        if core.closed {
            return Poll::Ready(Err(gone()));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut rest = data;
        let mut fill = |room: &mut [u8]| {
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            count
        };
        match core.engine.stack().send(self.id, &mut fill, Instant::now()) {
            Ok(count) => {
                drop(core);
                self.shared.changed.notify_one();
                Poll::Ready(Ok(count))
            }
            Err(SendError::Full) => core.wait_to_write(self.id, cx),
            Err(SendError::Closed) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Err(SendError::Ended(reason)) => Poll::Ready(Err(error(reason))),
            Err(SendError::Unknown) => Poll::Ready(Err(gone())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything written is the stack's already, and sent as the peer's window allows.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            self.shut = true;
            self.shared.lock().engine.stack().close(self.id, Instant::now());
            self.shared.changed.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        core.forget(self.id);
        let now = Instant::now();
        if self.shut {
            core.engine.stack().release(self.id, now);
        } else {
            core.engine.stack().abort(self.id, now);
        }
        drop(core);
        self.shared.changed.notify_one();
    }
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpStream").field("id", &self.id).field("shut", &self.shut).finish()
    }
}

/// A connection's end as the error that a socket of the system would give.
fn error(reason: CloseReason) -> io::Error {
    let kind = match reason {
        CloseReason::Finished => io::ErrorKind::UnexpectedEof,
        CloseReason::Refused => io::ErrorKind::ConnectionRefused,
        CloseReason::Reset => io::ErrorKind::ConnectionReset,
        CloseReason::TimedOut => io::ErrorKind::TimedOut,
        CloseReason::PeerGone => io::ErrorKind::NotConnected,
    };
    io::Error::new(kind, reason)
}

/// There is no tailnet any more.
pub(super) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the tunnel is closed")
}
