//! The task that owns the byte stream: bytes in, queued frames out, one timer.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tracing::debug;

use super::{
    CloseReason,
    shared::{Ending, Shared},
};

/// Bytes read at once; small frames come many to a read.
const READ: usize = 32 * 1024;

/// Rounds of work before other tasks get their turn.
const ROUNDS: usize = 32;

/// A queue that is empty again keeps at most this much memory.
const KEEP: usize = 128 * 1024;

/// Runs until the session has ended and the byte stream is shut down.
pub(crate) struct Driver<T> {
    io: Pin<Box<T>>,
    shared: Arc<Shared>,
    input: Box<[u8]>,
    /// Frames that are being written, and how many of their bytes are.
    output: Vec<u8>,
    written: usize,
    /// The byte stream may still hold back what was written.
    unflushed: bool,
    /// Writing failed with this. Reading goes on for a while: what the other side sent before it
    /// closed is still to be had, and its end is the better reason.
    write_error: Option<CloseReason>,
    /// The byte stream failed altogether; there is no point in a goodbye.
    broken: bool,
    /// When it counts as stuck; `None` while it takes everything.
    stuck_at: Option<Instant>,
    stuck_after: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + AsyncWrite> Driver<T> {
    pub(crate) fn new(io: T, shared: Arc<Shared>, stuck_after: Duration) -> Self {
        Self {
            io: Box::pin(io),
            shared,
            input: vec![0; READ].into_boxed_slice(),
            output: Vec::new(),
            written: 0,
            unflushed: false,
            write_error: None,
            broken: false,
            stuck_at: None,
            stuck_after,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Writes all that is queued, as one write where the byte stream takes it. True if it got on.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while !self.broken {
            if self.write_error.is_some() {
                self.shared.drive(|inner| inner.core.take_output(&mut self.output));
                self.output.clear();
                self.written = 0;
                return progress;
            }
            if self.written == self.output.len() {
                self.output.clear();
                self.output.shrink_to(KEEP);
                self.written = 0;
                self.shared.drive(|inner| inner.core.take_output(&mut self.output));
            }
            let step = if self.written < self.output.len() {
                self.io.as_mut().poll_write(cx, &self.output[self.written..]).map(|result| {
                    let n = result?;
                    if n == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                    self.written += n;
                    self.unflushed = true;
                    Ok(())
                })
            } else if self.unflushed {
                self.io.as_mut().poll_flush(cx).map_ok(|()| self.unflushed = false)
            } else {
                return progress;
            };
            progress |= step.is_ready();
            match step {
                Poll::Ready(Ok(())) => self.stuck_at = None,
                Poll::Ready(Err(error)) => {
                    self.write_error = Some(CloseReason::io(&error));
                    self.unflushed = false;
                    self.watch();
                }
                Poll::Pending => {
                    self.watch();
                    return progress;
                }
            }
        }
        progress
    }

    /// Reads once. True if there was something.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.broken || !self.shared.drive(|inner| inner.core.wants_input()) {
            return false;
        }
        let mut buf = ReadBuf::new(&mut self.input);
        match self.io.as_mut().poll_read(cx, &mut buf) {
            Poll::Pending => return false,
            Poll::Ready(Err(error)) => self.fail(CloseReason::io(&error)),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                self.shared.drive(|inner| inner.core.handle_end());
            }
            Poll::Ready(Ok(())) => {
                let now = Instant::now().into_std();
                self.shared.drive(|inner| inner.core.handle_input(now, buf.filled()));
            }
        }
        true
    }

    /// Does what is due. True if something was.
    fn time(&mut self, cx: &mut Context<'_>) -> bool {
        let due = self.shared.drive(|inner| inner.core.poll_timeout()).map(Instant::from_std);
        let Some(at) = due.into_iter().chain(self.stuck_at).min() else { return false };
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = Instant::now();
        if self.stuck_at.is_some_and(|at| at <= now) {
            self.fail(self.write_error.clone().unwrap_or(CloseReason::WriteTimeout));
        }
        self.shared.drive(|inner| inner.core.handle_timeout(now.into_std()));
        true
    }

    /// Everything that was queued is with the other side, as far as we can tell.
    fn is_idle(&self) -> bool {
        self.written == self.output.len()
            && !self.unflushed
            && self.shared.drive(|inner| !inner.core.has_output())
    }

    fn shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.broken && self.write_error.is_none() {
            match self.io.as_mut().poll_shutdown(cx) {
                Poll::Ready(Ok(())) => {}
                // The session has ended for a reason that was said already.
                Poll::Ready(Err(error)) => debug!(%error, "cannot shut the byte stream down"),
                Poll::Pending => {
                    self.watch();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    fn watch(&mut self) {
        self.stuck_at.get_or_insert_with(|| Instant::now() + self.stuck_after);
    }

    fn fail(&mut self, reason: CloseReason) {
        self.broken = true;
        self.shared.drive(|inner| inner.core.close(reason));
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let closed = self.shared.drive(|inner| {
                inner.wait_driver(cx);
                inner.core.closed().is_some()
            });
            let mut progress = self.write(cx);
            if closed && (self.broken || self.is_idle()) && self.shutdown(cx).is_ready() {
                return Poll::Ready(());
            }
            if !closed {
                progress |= self.read(cx);
            }
            progress |= self.time(cx);
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite> Future for Driver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_run(cx));
        let reason = self.shared.drive(|inner| inner.core.closed().cloned());
        let reason = reason.unwrap_or(CloseReason::Local);
        debug!(%reason, "yamux session ended");
        self.shared.ending.send_replace(Ending::Done(reason));
        Poll::Ready(())
    }
}
