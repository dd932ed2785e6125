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

use std::{sync::Arc, task::Waker, time::Instant};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    channel::Source,
    connection::{Connection, Event},
    error::Error,
    options::{Exit, Options},
    packet::SystemEntropy,
    pump::{self, Machine, Shared},
    streams::{Output, Queue, Stdin},
};

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
    let shared = Shared::new(State {
        connection,
        stdout: Queue::default(),
        stderr: Queue::default(),
        phase,
        task: None,
        writer: None,
        failed: None,
        leave: false,
    });
    // Owned from here on: dropped with this future, or with what it returns.
    let ending = Ending {
        shared: Arc::clone(&shared),
        phases: phases.clone(),
        task: pump::spawn(io, Arc::clone(&shared)),
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
pub struct Control(Arc<Shared<State>>);

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
    shared: Arc<Shared<State>>,
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

impl Shared<State> {
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

impl Machine for State {
    fn begin_round(&mut self, waker: &Waker) -> Result<(), Error> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if !self.task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            self.task = Some(waker.clone());
        }
        if self.leave && !self.connection.is_closed() {
            // Told to go before the session was over.
            self.connection.close()?;
            self.connection.disconnect(11, "")?;
            let exit = self.connection.handle_end(Some(Error::NoStatus));
            self.end(exit);
        }
        Ok(())
    }

    fn output(&mut self) -> &mut BytesMut {
        self.connection.output()
    }

    fn handle_room(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn missing(&mut self, input: usize) -> usize {
        self.connection.transport().missing(input)
    }

    fn handle_input(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Error> {
        let result = self.connection.handle_input(input, now);
        self.deliver();
        result
    }

    fn handle_end_of_stream(&mut self) -> Result<(), Error> {
        match self.connection.handle_end(None) {
            Exit::Lost(error) => Err(error),
            exit @ (Exit::Status(_) | Exit::Signal { .. }) => {
                self.end(exit);
                Ok(())
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.connection.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.connection.handle_timeout(now)
    }

    fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    fn say_goodbye(&mut self) -> Result<(), Error> {
        self.connection.disconnect(2, "protocol error")
    }

    fn handle_end(&mut self, result: Result<(), Error>) {
        if result.is_err() || !self.connection.is_closed() {
            let exit = self.connection.handle_end(result.err());
            self.end(exit);
        }
        self.deliver();
    }
}
