//! The three streams of a session.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{channel::Source, error::Error, pump::Shared, session::State};

/// Data below this length are copied together, those above are handed on as they lie. A piece
/// keeps the 64 KiB that it was read into alive, so this also bounds what a peer can make us
/// hold: eight times its window.
const COPY_BELOW: usize = 8 * 1024;

/// The remote standard input. Waits while the peer's window is full or keys are renewed.
pub struct Stdin {
    shared: Arc<Shared<State>>,
}

impl Stdin {
    pub(crate) fn new(shared: Arc<Shared<State>>) -> Self {
        Self { shared }
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.shared.lock();
        if state.connection.is_shut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let result = state.connection.send_data(data);
        let sent = *result.as_ref().unwrap_or(&0);
        state.settle(result.map(drop));
        if sent == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(sent))
    }

    /// What was accepted is written without further asking.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.act(crate::connection::Connection::send_eof);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        self.shared.act(crate::connection::Connection::send_eof);
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stdin")
    }
}

/// A remote output. What is not read is held, up to the channel's window, which both outputs
/// share; dropping it discards what comes, so that the other goes on.
///
/// At its end it gives the end of the stream, or an error of kind `ConnectionReset` when the
/// session was lost before its output ended.
pub struct Output {
    shared: Arc<Shared<State>>,
    source: Source,
}

impl Output {
    pub(crate) fn new(shared: Arc<Shared<State>>, source: Source) -> Self {
        Self { shared, source }
    }

    /// The next piece of output without copying it; `None` at the end.
    ///
    /// # Errors
    /// `ConnectionReset` when the session was lost before its output ended.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_take(cx, Queue::pop, Bytes::len)).await
    }

    /// Takes something of the queue and grants the peer what was taken. `None` at the end.
    fn poll_take<R>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut Queue) -> R,
        length: impl FnOnce(&R) -> usize,
    ) -> Poll<io::Result<Option<R>>> {
        let mut state = self.shared.lock();
        let queue = state.queue(self.source);
        if !ready!(queue.poll_ready(cx))? {
            return Poll::Ready(Ok(None));
        }
        let taken = take(queue);
        let result = state.connection.consumed(length(&taken));
        state.settle(result);
        Poll::Ready(Ok(Some(taken)))
    }
}

impl AsyncRead for Output {
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

impl Drop for Output {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let left = state.queue(self.source).abandon();
        let result = state.connection.consumed(left);
        state.settle(result);
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("source", &self.source).finish()
    }
}

/// Output that waits to be read.
#[derive(Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Bytes>,
    /// Small pieces, behind the chunks.
    tail: BytesMut,
    end: Option<Result<(), Error>>,
    reader: Option<Waker>,
    abandoned: bool,
}

impl Queue {
    /// Waits for data: `false` at the end.
    ///
    /// # Errors
    /// `ConnectionReset` when the connection was lost before the end.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.is_empty() {
            return Poll::Ready(Ok(true));
        }
        match &self.end {
            Some(Ok(())) => Poll::Ready(Ok(false)),
            Some(Err(error)) => {
                let error = error.clone();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error)))
            }
            None => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// `false` when nobody will read it.
    pub(crate) fn push(&mut self, data: Bytes) -> bool {
        if self.abandoned {
            return false;
        }
        if data.len() < COPY_BELOW {
            self.tail.extend_from_slice(&data);
        } else {
            self.freeze_tail();
            self.chunks.push_back(data);
        }
        if self.tail.len() >= 4 * COPY_BELOW {
            self.freeze_tail();
        }
        self.wake();
        true
    }

    /// Ends it, the first time that this is said.
    pub(crate) fn end(&mut self, how: Result<(), Error>) {
        self.end.get_or_insert(how);
        self.wake();
    }

    fn freeze_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Bytes {
        match self.chunks.pop_front() {
            Some(chunk) => chunk,
            None => std::mem::take(&mut self.tail).freeze(),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let before = buffer.remaining();
        while buffer.remaining() > 0 {
            let Some(chunk) = self.chunks.front_mut() else {
                let count = buffer.remaining().min(self.tail.len());
                buffer.put_slice(&self.tail[..count]);
                self.tail.advance(count);
                break;
            };
            let count = buffer.remaining().min(chunk.len());
            buffer.put_slice(&chunk[..count]);
            chunk.advance(count);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        before - buffer.remaining()
    }

    /// Nobody will read it any more: how much was left.
    pub(crate) fn abandon(&mut self) -> usize {
        self.abandoned = true;
        let left = self.chunks.iter().map(Bytes::len).sum::<usize>() + self.tail.len();
        self.chunks.clear();
        self.tail.clear();
        left
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
