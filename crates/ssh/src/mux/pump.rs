//! The task that carries bytes between a stream and the state machine, for both sides.
//!
//! The machine lies behind a mutex that its handles share with the task. The mutex is held for no
//! longer than one step of the machine takes, and never across an await.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    task::JoinHandle,
    time::Sleep,
};

use super::{
    core::{Core, OUTPUT},
    shell::State,
};
use crate::error::Error;

/// Room for one read: sixteen packets of a relay's usual size, two of SSH's largest.
const READ: usize = 64 * 1024;
/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS: usize = 32;

/// What the task and the handles share.
pub(super) struct Shared(Mutex<State>);

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done that would matter to the others.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something on the connection and sees to its being written.
    pub(super) fn act(&self, action: impl FnOnce(&mut Core) -> Result<(), Error>) {
        let mut state = self.lock();
        let result = action(&mut state.core);
        state.settle(result);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// Starts the task over this stream.
pub(super) fn spawn<T>(io: T, shared: Arc<Shared>) -> JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let task = Task {
        io,
        shared,
        input: BytesMut::with_capacity(READ),
        writing: BytesMut::new(),
        unflushed: false,
        timer: Box::pin(tokio::time::sleep_until(far().into())),
    };
    tokio::spawn(task.run())
}

struct Task<T> {
    io: T,
    shared: Arc<Shared>,
    input: BytesMut,
    /// Taken from the machine's output, to be written without holding the mutex.
    writing: BytesMut,
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Task<T> {
    async fn run(mut self) {
        let result = std::future::poll_fn(|cx| self.poll(cx)).await;
        let mut state = self.shared.lock();
        if let Err(error) = &result {
            tracing::debug!(%error, "ssh connection ended");
            // The peer may be told why, if that costs no waiting.
            let told = state.core.disconnect(2, "protocol error");
            if self.writing.is_empty() && told.is_ok() && !error.is_broken() {
                let output = state.core.output().split();
                let mut cx = Context::from_waker(Waker::noop());
                let sent = Pin::new(&mut self.io).poll_write(&mut cx, &output);
                tracing::trace!(?sent, "ssh goodbye");
            }
        }
        state.handle_end(result);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        for _ in 0..ROUNDS {
            let Orders { leave, crowded, timeout } = self.orders(cx)?;
            let wrote = self.poll_write(cx)?;
            let idle = self.writing.is_empty() && !self.unflushed;
            if leave {
                // Nothing that still comes matters.
                if !idle {
                    return Poll::Pending;
                }
                if self.shared.lock().core.output().is_empty() {
                    return match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
                        Ok(()) => Poll::Ready(Ok(())),
                        // The peer was faster.
                        Err(error) => {
                            tracing::trace!(%error, "ssh shutdown");
                            Poll::Ready(Ok(()))
                        }
                    };
                }
                continue;
            }
            let read = if crowded { false } else { self.poll_read(cx)? };
            let due = self.poll_timer(cx, timeout)?;
            if !(wrote || read || due) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes over what is to be written and done.
    fn orders(&mut self, cx: &Context<'_>) -> Result<Orders, Error> {
        let mut state = self.shared.lock();
        state.begin_round(cx.waker())?;
        if self.writing.is_empty() && !state.core.output().is_empty() {
            std::mem::swap(&mut self.writing, state.core.output());
            state.wake_crowd();
        }
        Ok(Orders {
            leave: state.core.is_closed(),
            // A peer that asks without reading the answers gets no more attention.
            crowded: state.core.output().len() > 2 * OUTPUT,
            timeout: state.core.poll_timeout(),
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut wrote = false;
        while !self.writing.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, &self.writing) {
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(count)) => {
                    self.writing.advance(count);
                    self.unflushed = true;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Err(self.read_last(cx, error)),
                Poll::Pending => return Ok(wrote),
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(self.read_last(cx, error)),
                Poll::Pending => {}
            }
        }
        Ok(wrote)
    }

    /// A peer that is gone may have said why before it went.
    fn read_last(&mut self, cx: &mut Context<'_>, error: io::Error) -> Error {
        loop {
            match self.poll_read(cx) {
                Ok(true) => {}
                Ok(false) | Err(Error::Io { .. } | Error::Ended(_)) => return error.into(),
                Err(said) => return said,
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let missing = {
            let mut state = self.shared.lock();
            if state.core.is_closed() {
                return Ok(false);
            }
            state.core.transport().missing(self.input.len())
        };
        self.input.reserve(missing.max(READ));
        let read = std::pin::pin!(self.io.read_buf(&mut self.input));
        let count = match read.poll(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(result) => result?,
        };
        let mut state = self.shared.lock();
        let result = match count {
            0 => Err(Error::Ended("without taking its leave")),
            _ => state.handle_input(&mut self.input, now()),
        };
        result.map(|()| true)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Option<Instant>) -> Result<bool, Error> {
        let at = at.unwrap_or_else(far).into();
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        self.shared.lock().core.handle_timeout(now())?;
        Ok(true)
    }
}

struct Orders {
    leave: bool,
    crowded: bool,
    timeout: Option<Instant>,
}

/// The runtime's clock, which tests can stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A time that does not come.
fn far() -> Instant {
    now() + Duration::from_secs(30 * 365 * 24 * 3600)
}
