//! One stream of a session.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    CloseReason,
    core::{Read, Write},
    shared::Shared,
};

/// One stream of a session: bytes both ways.
///
/// What is written is on its way at once, so flushing does nothing. Shutting down sends FIN and
/// leaves reading open. Dropping the stream sends FIN too, and whatever still arrives is thrown
/// away; if the other side does not finish within [`close_timeout`](crate::Config::close_timeout),
/// the stream is reset. One task may read and another write, through references.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    shared: Arc<Shared>,
}

impl Stream {
    pub(crate) fn new(id: u32, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }

    /// Its number in the session.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the other side has finished or reset the stream, or the session has ended,
    /// whether or not everything before that was read.
    pub async fn left(&self) {
        std::future::poll_fn(|cx| self.poll_left(cx)).await;
    }

    /// Why the session has ended, if it has.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.shared.drive(|inner| inner.core.closed().cloned())
    }

    pub(crate) fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        self.shared.drive(|inner| {
            if inner.core.has_left(self.id) {
                return Poll::Ready(());
            }
            inner.wait_left(self.id, cx);
            Poll::Pending
        })
    }

    /// Reads into `out`; 0 is the end.
    pub(crate) fn poll_read_some(
        &self,
        cx: &Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.with(|inner| match inner.core.read(self.id, out) {
            Read::Bytes(n) => Poll::Ready(Ok(n)),
            Read::End => Poll::Ready(Ok(0)),
            Read::Reset => Poll::Ready(Err(reset())),
            Read::Closed(reason) => Poll::Ready(Err(reason.to_io())),
            Read::Blocked => {
                inner.wait_read(self.id, cx);
                Poll::Pending
            }
        })
    }

    /// Takes as much of `data` as window and queue have room for.
    pub(crate) fn poll_write_some(&self, cx: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.with(|inner| match inner.core.write(self.id, data) {
            Write::Bytes(n) => Poll::Ready(Ok(n)),
            Write::Finished => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the stream is finished on this side",
            ))),
            Write::Reset => Poll::Ready(Err(reset())),
            Write::Closed(reason) => Poll::Ready(Err(reason.to_io())),
            Write::Blocked => {
                inner.wait_write(self.id, cx);
                Poll::Pending
            }
        })
    }

    /// Drops the stream but leaves its end to the other side: FIN follows its FIN. For the side
    /// that answered and whose answer should not be overtaken by the end of the stream.
    pub fn linger(self) {
        let now = Instant::now().into_std();
        // Dropping then finds the stream let go already.
        self.shared.with(|inner| inner.linger(self.id, now));
    }

    /// Sends FIN.
    pub(crate) fn finish(&self) {
        self.shared.with(|inner| inner.core.finish(self.id));
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the other side reset the stream")
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        self.shared.with(|inner| inner.release(self.id, now));
    }
}

impl AsyncRead for &Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.poll_read_some(cx, buf.initialize_unfilled()))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for &Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_shutdown(cx)
    }
}
