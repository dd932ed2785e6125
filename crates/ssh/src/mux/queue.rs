//! Data that arrived and wait to be read.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;

use crate::error::Error;

/// Data below this length are copied together, those above are handed on as they lie. A piece
/// keeps the 64 KiB that it was read into alive, so this also bounds what a peer can make us
/// hold: eight times its window.
const COPY_BELOW: usize = 8 * 1024;

/// What one direction of a channel has brought.
#[derive(Default)]
pub(super) struct Queue {
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
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
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
    pub(super) fn push(&mut self, data: Bytes) -> bool {
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
    pub(super) fn end(&mut self, how: Result<(), Error>) {
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

    pub(super) fn pop(&mut self) -> Bytes {
        match self.chunks.pop_front() {
            Some(chunk) => chunk,
            None => std::mem::take(&mut self.tail).freeze(),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
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
    pub(super) fn abandon(&mut self) -> usize {
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
