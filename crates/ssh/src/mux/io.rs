//! Channels as streams of bytes.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{core::Core, pump::Shared, queue::Queue, shell::Slot};
use crate::{channel::Source, error::Error};

/// The right to speak of a channel; the last of its copies gives the number back.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u32,
}

impl Handle {
    pub(super) fn new(shared: &Arc<Shared>, id: u32) -> Arc<Self> {
        // So that the slot is there even if nothing has been heard.
        shared.lock().slot(id);
        Arc::new(Self { shared: Arc::clone(shared), id })
    }

    /// Looks whenever something about the channel changes.
    pub(super) async fn when<R>(&self, mut look: impl FnMut(&mut Slot) -> Option<R>) -> R {
        let changed = Arc::clone(&self.shared.lock().slot(self.id).changed);
        loop {
            let mut waiting = std::pin::pin!(changed.notified());
            waiting.as_mut().enable();
            if let Some(found) = look(self.shared.lock().slot(self.id)) {
                return found;
            }
            waiting.await;
        }
    }

    /// Does something on the connection about this channel.
    pub(super) fn act(&self, action: impl FnOnce(&mut Core, u32) -> Result<(), Error>) {
        self.shared.act(|core| action(core, self.id));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().release(self.id);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.id).finish()
    }
}

/// A channel that carries bytes both ways. Each direction ends by itself: shutting down the
/// writer, or dropping it, delivers the end of data; when both halves are dropped, it is closed.
#[derive(Debug)]
pub struct Channel {
    /// From the peer.
    pub reader: Reader,
    /// To the peer.
    pub writer: Writer,
}

impl Channel {
    pub(super) fn new(handle: &Arc<Handle>) -> Self {
        Self { reader: Reader::new(handle, Source::Stdout), writer: Writer::whole(handle) }
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// Data of the peer. What is not read is held, up to the channel's window; dropping it discards
/// what comes.
///
/// At its end it gives the end of the stream, or an error of kind `ConnectionReset` when the
/// connection was lost before.
pub struct Reader {
    handle: Arc<Handle>,
    source: Source,
}

impl Reader {
    pub(super) fn new(handle: &Arc<Handle>, source: Source) -> Self {
        Self { handle: Arc::clone(handle), source }
    }

    /// The next piece without copying it; `None` at the end.
    ///
    /// # Errors
    /// `ConnectionReset` when the connection was lost before the end.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_take(cx, Queue::pop, Bytes::len)).await
    }

    /// Takes something of what has come and grants the peer what was taken. `None` at the end.
    fn poll_take<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Queue) -> R,
        length: impl FnOnce(&R) -> usize,
    ) -> Poll<io::Result<Option<R>>> {
        let id = self.handle.id;
        let mut state = self.handle.shared.lock();
        let queue = state.slot(id).input(self.source);
        if !ready!(queue.poll_ready(cx))? {
            return Poll::Ready(Ok(None));
        }
        let taken = take(queue);
        let result = state.core.consumed(id, length(&taken));
        state.settle(result);
        Poll::Ready(Ok(Some(taken)))
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_take(cx, |queue| queue.read(buffer), |count| *count)
            .map(|result| result.map(drop))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let id = self.handle.id;
        let mut state = self.handle.shared.lock();
        let left = state.slot(id).input(self.source).abandon();
        let result = state.core.consumed(id, left);
        state.settle(result);
    }
}

/// Data for the peer. Waits while its window is full or much else is to be written.
pub struct Writer {
    handle: Arc<Handle>,
    source: Source,
    /// Whether it is all that goes this way, so that its end is the channel's.
    whole: bool,
}

impl Writer {
    /// All that goes to the peer over this channel.
    pub(super) fn whole(handle: &Arc<Handle>) -> Self {
        Self { handle: Arc::clone(handle), source: Source::Stdout, whole: true }
    }

    /// One of two outputs.
    pub(super) fn part(handle: &Arc<Handle>, source: Source) -> Self {
        Self { handle: Arc::clone(handle), source, whole: false }
    }

    fn end(&self) {
        if self.whole {
            self.handle.act(Core::send_eof);
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (id, source) = (self.handle.id, self.source);
        let mut state = self.handle.shared.lock();
        if state.ended.is_some() || state.core.is_shut(id) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let result = state.core.send_data(id, source, data);
        let sent = *result.as_ref().unwrap_or(&0);
        state.settle(result.map(drop));
        if sent == 0 {
            state.wait_to_send(id, source, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(sent))
    }

    /// What was accepted is written without further asking.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.handle.id).field(&self.source).finish()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.handle.id).field(&self.source).finish()
    }
}
