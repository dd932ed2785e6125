//! What users of either side hold: the connection, its sessions and its channels.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
};

use super::{
    core::{Config, Core},
    globals::Answer,
    request::{Global, Outgoing, Reason, Target},
    requests::Start,
    shell::{Arrival, Asked, State},
};
use crate::{
    channel::Source,
    error::{Error, Text},
    options::Exit,
    packet::SystemEntropy,
    pump::{self, Shared},
    streams::Queue,
};

/// Serves one client over a byte stream. Nothing is waited for: the connection comes alive in a
/// task of its own.
///
/// # Errors
/// [`Error::Entropy`].
pub fn serve<T>(io: T, config: Config) -> Result<Connection, Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let core = Core::new(config, Box::new(SystemEntropy::default()), pump::now())?;
    Ok(serve_core(io, core))
}

/// As [`serve`], over a connection that was made with settings of its own.
pub fn serve_core<T>(io: T, core: Core) -> Connection
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Connection::start(io, core)
}

/// A connection with one peer. Dropping it ends the connection at once.
#[derive(Debug)]
pub struct Connection {
    pub(super) shared: Arc<Shared<State>>,
    task: JoinHandle<()>,
}

/// What a client wants.
#[derive(Debug)]
pub enum Incoming {
    /// A program to run. That it will has been said already.
    Session(Session),
    /// To be connected to somewhere.
    Direct(Direct),
    /// A listener, or an end of one.
    Forward(Forward),
}

impl Connection {
    pub(super) fn start<T>(io: T, core: Core) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Shared::new(State::new(core));
        Self { task: pump::spawn(io, Arc::clone(&shared)), shared }
    }

    /// The next that the client wants; `None` when the connection is over. Nothing is lost when
    /// dropped.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let arrival = self.arrival().await?;
            if let Some(incoming) = self.incoming(arrival) {
                return Some(incoming);
            }
        }
    }

    /// The next that arrives; `None` when the connection is over.
    pub(super) async fn arrival(&self) -> Option<Arrival> {
        self.when(|state| match state.arrivals.pop_front() {
            None if state.ended.is_some() => Some(None),
            None => None,
            arrival => Some(arrival),
        })
        .await
    }

    /// Looks whenever somebody arrives, the login is done, or the connection has ended.
    pub(super) async fn when<R>(&self, mut look: impl FnMut(&mut State) -> Option<R>) -> R {
        let arrived = Arc::clone(&self.shared.lock().arrived);
        loop {
            let mut waiting = std::pin::pin!(arrived.notified());
            waiting.as_mut().enable();
            if let Some(found) = look(&mut self.shared.lock()) {
                return found;
            }
            waiting.await;
        }
    }

    fn incoming(&self, arrival: Arrival) -> Option<Incoming> {
        let handle = |id| Handle::new(&self.shared, id);
        Some(match arrival {
            Arrival::Session(id, start) => {
                let handle = handle(id);
                let writer = |source| Writer { handle: Arc::clone(&handle), source, whole: false };
                Incoming::Session(Session {
                    start: *start,
                    stdin: Reader { handle: Arc::clone(&handle) },
                    stdout: writer(Source::Stdout),
                    stderr: writer(Source::Stderr),
                    control: Control { handle },
                })
            }
            Arrival::Direct(id, target) => Incoming::Direct(Offer::new(handle(id), target)),
            Arrival::Global(number, request) => {
                let shared = Arc::clone(&self.shared);
                Incoming::Forward(Forward { shared, number, request, answered: false })
            }
            // Nobody connects to listeners of a server's.
            Arrival::Forwarded(id, _) => {
                drop(handle(id));
                return None;
            }
        })
    }

    /// Opens channels to the peer; may be kept elsewhere.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener(Arc::clone(&self.shared))
    }

    /// How the connection ended, once [`Self::next`] has given `None`. A client that took its
    /// leave is [`Error::Disconnected`].
    #[must_use]
    pub fn ended(&self) -> Option<Result<(), Error>> {
        self.shared.lock().ended.clone()
    }

    /// Ends the connection in good order: what is left is written, the peer is told, the stream
    /// is shut down. Wrap it in a time limit: a peer that does not read delays it.
    pub async fn close(mut self) {
        self.shared.lock().leave();
        if let Err(error) = (&mut self.task).await {
            tracing::debug!(%error, "ssh task");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        let mut state = self.shared.lock();
        state.end(&Err(Error::Ended("on this side")));
        state.arrivals.clear();
    }
}

/// Opens channels to the peer.
#[derive(Debug, Clone)]
pub struct Opener(Arc<Shared<State>>);

/// Why a channel to the peer could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The peer does not want it.
    #[error("the other side refused the channel: {text} (reason {reason})")]
    Refused {
        /// The reason code (RFC 4254 section 5.1).
        reason: u32,
        /// The peer's words.
        text: Text,
    },
    /// The connection is over, or has too many channels.
    #[error("the SSH connection takes no more channels")]
    Closed,
}

impl Opener {
    /// Opens a channel.
    ///
    /// # Errors
    /// [`OpenError`]. There is no time limit in here; a peer that does not answer keeps it
    /// waiting until the connection ends.
    pub async fn open(&self, outgoing: Outgoing) -> Result<Channel, OpenError> {
        let (id, changed) = {
            let mut state = self.0.lock();
            let opened = state.core.open(&outgoing);
            let id = *opened.as_ref().unwrap_or(&None);
            state.settle(opened.map(drop));
            let id = id.ok_or(OpenError::Closed)?;
            (id, Arc::clone(&state.slot(id).changed))
        };
        let handle = Handle::new(&self.0, id);
        loop {
            let mut waiting = std::pin::pin!(changed.notified());
            waiting.as_mut().enable();
            {
                let mut state = self.0.lock();
                let slot = state.slot(id);
                match slot.asked.clone() {
                    Asked::Opened => break,
                    Asked::Refused(reason, text) => {
                        return Err(OpenError::Refused { reason, text });
                    }
                    Asked::Waiting if slot.closed => return Err(OpenError::Closed),
                    Asked::Waiting => {}
                }
            }
            waiting.await;
        }
        Ok(Channel::new(handle))
    }
}

/// The right to speak of a channel; the last of its copies gives the number back.
pub(super) struct Handle {
    shared: Arc<Shared<State>>,
    id: u32,
}

impl Handle {
    pub(super) fn new(shared: &Arc<Shared<State>>, id: u32) -> Arc<Self> {
        // So that the slot is there even if nothing has been heard.
        shared.lock().slot(id);
        Arc::new(Self { shared: Arc::clone(shared), id })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().release(self.id);
    }
}

/// A session, in parts that may be taken apart and used from different tasks. When all are
/// dropped, the session is closed.
#[derive(Debug)]
pub struct Session {
    /// What is to run, and how.
    pub start: Start,
    /// The program's input.
    pub stdin: Reader,
    /// The program's output. Shutting it down has no effect: it ends with the session.
    pub stdout: Writer,
    /// The program's second output, likewise.
    pub stderr: Writer,
    /// What the client says meanwhile, and the end.
    pub control: Control,
}

/// What a client says while the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The terminal's columns and rows.
    Size(u32, u32),
    /// A signal, named without `SIG`.
    Signal(String),
}

/// The end of a session, and what is said before.
#[derive(Debug)]
pub struct Control {
    handle: Arc<Handle>,
}

impl Control {
    /// The next that the client says; `None` when it has closed the session or the connection is
    /// over. Nothing is lost when dropped.
    pub async fn changed(&mut self) -> Option<Change> {
        let changed = Arc::clone(&self.handle.shared.lock().slot(self.handle.id).changed);
        loop {
            let mut waiting = std::pin::pin!(changed.notified());
            waiting.as_mut().enable();
            {
                let mut state = self.handle.shared.lock();
                let slot = state.slot(self.handle.id);
                if let Some((cols, rows)) = slot.size.take() {
                    return Some(Change::Size(cols, rows));
                }
                if let Some(name) = slot.signals.pop_front() {
                    return Some(Change::Signal(name));
                }
                if slot.closed {
                    return None;
                }
            }
            waiting.await;
        }
    }

    /// Ends the session: no more output, how the program ended, close. What was written to the
    /// outputs before goes before.
    pub fn finish(self, exit: &Exit) {
        let id = self.handle.id;
        self.handle.shared.act(|core| core.finish(id, exit));
    }
}

/// A client's wish to be connected to somewhere. Dropping it is a refusal.
pub type Direct = Offer<Target>;

/// A channel that the peer offers. Dropping it is a refusal.
#[derive(Debug)]
pub struct Offer<T> {
    handle: Arc<Handle>,
    target: T,
}

impl<T> Offer<T> {
    pub(super) fn new(handle: Arc<Handle>, target: T) -> Self {
        Self { handle, target }
    }

    /// Where to, or which listener it comes from.
    #[must_use]
    pub fn target(&self) -> &T {
        &self.target
    }

    /// It is connected.
    #[must_use]
    pub fn accept(self) -> Channel {
        let id = self.handle.id;
        self.handle.shared.act(|core| core.accept(id));
        Channel::new(self.handle)
    }

    /// It is not, with words for the peer.
    pub fn refuse(self, reason: Reason, text: &str) {
        let id = self.handle.id;
        self.handle.shared.act(|core| core.refuse(id, reason, text));
    }
}

/// A client's wish about a listener. Dropping it is a refusal.
#[derive(Debug)]
pub struct Forward {
    shared: Arc<Shared<State>>,
    number: u64,
    request: Global,
    answered: bool,
}

impl Forward {
    /// What it is.
    #[must_use]
    pub fn request(&self) -> &Global {
        &self.request
    }

    /// It is done; a TCP listener's port is told.
    pub fn grant(mut self, port: Option<u16>) {
        self.answered = true;
        self.shared.lock().answer(self.number, Answer::Granted(port));
    }

    /// It is not done.
    pub fn refuse(self) {
        drop(self);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.lock().answer(self.number, Answer::Refused);
        }
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
    fn new(handle: Arc<Handle>) -> Self {
        let writer = Writer { handle: Arc::clone(&handle), source: Source::Stdout, whole: true };
        Self { reader: Reader { handle }, writer }
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
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let id = self.handle.id;
        let mut state = self.handle.shared.lock();
        let queue: &mut Queue = &mut state.slot(id).input;
        if ready!(queue.poll_ready(cx))? {
            let count = queue.read(buffer);
            let result = state.core.consumed(id, count);
            state.settle(result);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let id = self.handle.id;
        let mut state = self.handle.shared.lock();
        let left = state.slot(id).input.abandon();
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
    fn end(&self) {
        if self.whole {
            let id = self.handle.id;
            self.handle.shared.act(|core| core.send_eof(id));
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

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.id).finish()
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.handle.id).finish()
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writer").field(&self.handle.id).field(&self.source).finish()
    }
}
