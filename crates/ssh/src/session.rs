//! The tokio shell: a task that carries bytes between the stream and the state machine.
//!
//! ```text
//!   Stdin ──┐                       ┌── task: write · read · timer ──► stream
//!   Control ┼──► Shared (a mutex) ◄─┤
//!   Output ─┘   Connection, queues  └── Ending: owns the task, knows the exit
//! ```
//!
//! Data written to [`Stdin`] are encrypted by the writer's own task, straight into the buffer
//! that the connection's task hands to the stream. The mutex is held for no longer than that, and
//! never across an await.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::watch,
    task::JoinHandle,
    time::Sleep,
};

use crate::{
    channel::Source,
    connection::{Connection, Event, OUTPUT},
    error::Error,
    options::{Exit, Options},
    packet::SystemEntropy,
    streams::{Output, Queue, Stdin},
};

/// Room for one read: sixteen packets of a relay's usual size, two of SSH's largest.
const READ: usize = 64 * 1024;
/// Rounds of reading and writing before other tasks get their turn.
const ROUNDS: usize = 32;

/// Opens a session over a byte stream, and returns once the server has started the command.
///
/// # Errors
/// Why there is no session: see [`Error`]. There is no time limit in here; wrap it.
pub async fn open<T>(io: T, options: Options) -> Result<Session, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = Connection::new(options, Box::new(SystemEntropy::default()))?;
    open_connection(io, connection).await
}

/// As [`open`], over a connection that was made with settings of its own.
///
/// # Errors
/// As [`open`].
pub async fn open_connection<T>(io: T, connection: Connection) -> Result<Session, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (phase, mut phases) = watch::channel(Phase::Starting);
    let shared = Arc::new(Shared(Mutex::new(State {
        connection,
        stdout: Queue::default(),
        stderr: Queue::default(),
        phase,
        task: None,
        writer: None,
        failed: None,
        leave: false,
    })));
    let task = Task {
        io,
        shared: Arc::clone(&shared),
        input: BytesMut::with_capacity(READ),
        writing: BytesMut::new(),
        unflushed: false,
        timer: Box::pin(tokio::time::sleep_until(far().into())),
    };
    // Owned from here on: dropped with this future, or with what it returns.
    let ending = Ending {
        shared: Arc::clone(&shared),
        phases: phases.clone(),
        task: tokio::spawn(task.run()),
    };
    let phase = phases.wait_for(|phase| !matches!(phase, Phase::Starting)).await;
    match phase.as_deref() {
        Ok(Phase::Ended { exit: Exit::Lost(error), started: false }) => return Err(error.clone()),
        Ok(Phase::Running | Phase::Ended { .. }) => {}
        Ok(Phase::Starting) | Err(_) => return Err(Error::Ended("before the session began")),
    }
    let host_key = shared.lock().connection.transport().host_key().to_vec();
    Ok(Session {
        stdin: Stdin::new(Arc::clone(&shared)),
        stdout: Output::new(Arc::clone(&shared), Source::Stdout),
        stderr: Output::new(Arc::clone(&shared), Source::Stderr),
        control: Control(shared),
        ending,
        host_key,
    })
}

/// A running session, in parts that may be taken apart and used from different tasks.
#[derive(Debug)]
pub struct Session {
    /// The remote standard input. Shutting it down, or dropping it, delivers the end of input.
    pub stdin: Stdin,
    /// The remote standard output.
    pub stdout: Output,
    /// The remote standard error.
    pub stderr: Output,
    /// Requests while it runs.
    pub control: Control,
    /// Its end. Dropping it ends the connection at once.
    pub ending: Ending,
    /// The server's host key, as on the wire. Not checked against anything known.
    pub host_key: Vec<u8>,
}

impl Session {
    /// Waits for the end of the session; see [`Ending::exit`].
    pub async fn exit(&mut self) -> Exit {
        self.ending.exit().await
    }

    /// The host key's fingerprint, as OpenSSH prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        crate::hostkey::fingerprint(&self.host_key)
    }
}

/// Requests to a running session. Each is sent at once, or without effect when it is over.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

impl Control {
    /// Reports the size of the local terminal, in characters.
    pub fn window_change(&self, cols: u32, rows: u32) {
        self.0.act(|connection| connection.window_change(cols, rows));
    }

    /// Sends the remote process a signal, named without `SIG` (RFC 4254 section 6.10).
    pub fn signal(&self, name: &str) {
        self.0.act(|connection| connection.signal(name));
    }

    /// Delivers the end of input.
    pub fn eof(&self) {
        self.0.act(Connection::send_eof);
    }

    /// Closes the session: it ends as soon as the server agrees.
    pub fn close(&self) {
        self.0.act(Connection::close);
    }
}

/// The end of a session, and the owner of its connection.
#[derive(Debug)]
pub struct Ending {
    shared: Arc<Shared>,
    phases: watch::Receiver<Phase>,
    task: JoinHandle<()>,
}

impl Ending {
    /// Waits until the session is over and tells how it ended. Output may still wait in
    /// [`Output`]. Can be asked again, with the same answer; nothing is lost when dropped.
    pub async fn exit(&mut self) -> Exit {
        let ended = self.phases.wait_for(|phase| matches!(phase, Phase::Ended { .. })).await;
        match ended.as_deref() {
            Ok(Phase::Ended { exit, .. }) => exit.clone(),
            Ok(Phase::Starting | Phase::Running) | Err(_) => Exit::Lost(Error::NoStatus),
        }
    }

    /// Ends the connection in good order: what is left is written, the server is told, the
    /// stream is shut down. Wrap it in a time limit: a peer that does not read delays it.
    pub async fn finish(mut self) {
        self.shared.leave();
        if let Err(error) = (&mut self.task).await {
            tracing::debug!(%error, "ssh task");
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.task.abort();
        // What has arrived can still be read; nobody shall wait for more.
        let mut state = self.shared.lock();
        let exit = state.connection.handle_end(Some(Error::NoStatus));
        state.end(exit);
        state.deliver();
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Starting,
    Running,
    Ended { exit: Exit, started: bool },
}

/// What the task and the handles share.
pub(crate) struct Shared(Mutex<State>);

pub(crate) struct State {
    pub(crate) connection: Connection,
    pub(crate) stdout: Queue,
    pub(crate) stderr: Queue,
    phase: watch::Sender<Phase>,
    /// Wakes the task when there is something to write.
    task: Option<Waker>,
    /// Wakes whoever waits to send input.
    pub(crate) writer: Option<Waker>,
    /// What a call from a handle ran into; the task ends with it.
    failed: Option<Error>,
    /// Whether to end in good order.
    leave: bool,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done that would matter to the others.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does something on the connection and sees to its being written.
    pub(crate) fn act(&self, action: impl FnOnce(&mut Connection) -> Result<(), Error>) {
        let mut state = self.lock();
        let result = action(&mut state.connection);
        state.settle(result);
    }

    fn leave(&self) {
        let mut state = self.lock();
        state.leave = true;
        state.wake_task();
    }
}

impl State {
    /// Keeps an error for the task, and wakes it if there is anything for it to do.
    pub(crate) fn settle(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
        if self.failed.is_some() || !self.connection.output().is_empty() {
            self.wake_task();
        }
    }

    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub(crate) fn queue(&mut self, source: Source) -> &mut Queue {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    fn deliver(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Started => {
                    self.phase.send_replace(Phase::Running);
                }
                Event::Data(source, data) => {
                    let length = data.len();
                    if !self.queue(source).push(data) {
                        // Nobody reads it: let the rest of the session go on.
                        let result = self.connection.consumed(length);
                        self.settle(result);
                    }
                }
                Event::Eof => {
                    self.stdout.end(Ok(()));
                    self.stderr.end(Ok(()));
                }
                Event::Ended(exit) => self.end(exit),
            }
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn end(&mut self, exit: Exit) {
        let result = match &exit {
            Exit::Lost(error) => Err(error.clone()),
            Exit::Status(_) | Exit::Signal { .. } => Ok(()),
        };
        self.stdout.end(result.clone());
        self.stderr.end(result);
        let started = match *self.phase.borrow() {
            Phase::Starting => false,
            Phase::Running => true,
            Phase::Ended { .. } => return,
        };
        self.phase.send_replace(Phase::Ended { exit, started });
    }
}

struct Task<T> {
    io: T,
    shared: Arc<Shared>,
    input: BytesMut,
    /// Taken from the connection's output, to be written without holding the mutex.
    writing: BytesMut,
    unflushed: bool,
    timer: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Task<T> {
    async fn run(mut self) {
        let result = std::future::poll_fn(|cx| self.poll(cx)).await;
        let mut state = self.shared.lock();
        if let Err(error) = result {
            tracing::debug!(%error, "ssh connection ended");
            // The peer may be told why, if that costs no waiting.
            let told = state.connection.disconnect(2, "protocol error");
            if self.writing.is_empty() && told.is_ok() && !error.is_broken() {
                let output = state.connection.output().split();
                let mut cx = Context::from_waker(Waker::noop());
                let sent = Pin::new(&mut self.io).poll_write(&mut cx, &output);
                tracing::trace!(?sent, "ssh goodbye");
            }
            let exit = state.connection.handle_end(Some(error));
            state.end(exit);
        } else if !state.connection.is_closed() {
            let exit = state.connection.handle_end(None);
            state.end(exit);
        }
        state.deliver();
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
                if self.shared.lock().connection.output().is_empty() {
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
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        if state.leave && !state.connection.is_closed() {
            // Told to go before the session was over.
            state.connection.close()?;
            state.connection.disconnect(11, "")?;
            let exit = state.connection.handle_end(Some(Error::NoStatus));
            state.end(exit);
        }
        if self.writing.is_empty() && !state.connection.output().is_empty() {
            std::mem::swap(&mut self.writing, state.connection.output());
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
        }
        Ok(Orders {
            leave: state.connection.is_closed(),
            // A peer that asks without reading the answers gets no more attention.
            crowded: state.connection.output().len() > 2 * OUTPUT,
            timeout: state.connection.poll_timeout(),
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
        if self.shared.lock().connection.is_closed() {
            return Ok(false);
        }
        let missing = self.shared.lock().connection.transport().missing(self.input.len());
        self.input.reserve(missing.max(READ));
        let read = std::pin::pin!(self.io.read_buf(&mut self.input));
        let count = match read.poll(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(result) => result?,
        };
        let mut state = self.shared.lock();
        if count == 0 {
            let exit = state.connection.handle_end(None);
            let Exit::Lost(error) = exit else {
                state.end(exit);
                return Ok(true);
            };
            return Err(error);
        }
        let result = state.connection.handle_input(&mut self.input, now());
        state.deliver();
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
        self.shared.lock().connection.handle_timeout(now())?;
        Ok(true)
    }
}

struct Orders {
    leave: bool,
    crowded: bool,
    timeout: Option<Instant>,
}

/// The runtime's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A time that does not come.
fn far() -> Instant {
    now() + std::time::Duration::from_secs(30 * 365 * 24 * 3600)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
