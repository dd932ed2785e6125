//! One connection: bytes in and out around [`Client`].
//!
//! [`run`] reads and writes until the connection ends; it is what the relay manager runs for each
//! region. [`connect`] is the same for a single relay, with a task of its own.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::carrier::Carrier;
use super::client::{
    Client, ClientError, DOUBT_TIMEOUT, Event, PROBE_AFTER, PROBE_TIMEOUT, READ_TIMEOUT,
};
use super::dial::{BoxStream, Dial, DialError};
use super::frame::Frame;
use super::outbox::{Outbox, SendError};
use crate::derp_map::RelayNode;
use crate::keys::{NoEntropy, NodePrivate, NodePublic};

/// Limit on everything from the first byte to the relay's key (coder/tailscale:
/// derp/derphttp/derphttp_client.go).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Room made for one read: four TLS records. What is read at once is also decrypted, acknowledged
/// and handed on at once: more would leave the processor's cache in between, and would have the
/// other side answer to one large acknowledgement with a burst that its own queue drops.
const READ_BUFFER: usize = 64 << 10;

/// Less room than this is not worth a read.
const MIN_READ: usize = 16 << 10;

/// Asks a relay for a sign of life.
const PROBE: Frame = Frame::Ping(*b"there?\0\0");

/// Batches of events between the reader and its user.
const QUEUED_BATCHES: usize = 16;

/// A connection to one relay. Dropping it ends it.
#[derive(Debug)]
pub struct Connection {
    outbox: Arc<Outbox>,
    room: Arc<Notify>,
    events: mpsc::Receiver<Vec<Event>>,
    task: JoinHandle<ConnectionError>,
}

/// Connects to one relay node by one way and logs in, without waiting for the relay's half of the
/// login.
///
/// # Errors
///
/// [`ConnectionError`] when there is no relay, or none within [`CONNECT_TIMEOUT`].
pub async fn connect(
    dialer: &dyn Dial,
    node: &RelayNode,
    carrier: Carrier,
    key: NodePrivate,
    home: bool,
) -> Result<Connection, ConnectionError> {
    let open = async {
        let stream = dialer.dial(node, carrier).await?;
        welcome(stream, key, home).await
    };
    let open = timeout(CONNECT_TIMEOUT, open).await.map_err(|_| ConnectionError::Timeout)??;
    let room = Arc::new(Notify::new());
    let outbox = Arc::new(Outbox::new(room.clone()));
    let (sender, events) = mpsc::channel(QUEUED_BATCHES);
    let task = tokio::spawn(
        {
            let outbox = outbox.clone();
            async move { run(open, &outbox, Forward(sender)).await }
        }
        .boxed(),
    );
    Ok(Connection { outbox, room, events, task })
}

impl Connection {
    /// Sends a packet if there is room.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`]: try again after [`Connection::writable`]. [`SendError::Closed`]: see
    /// [`Connection::recv`].
    pub fn try_send(&self, to: &NodePublic, packet: &[u8]) -> Result<(), SendError> {
        if self.task.is_finished() {
            return Err(SendError::Closed);
        }
        self.outbox.try_send(to, packet)
    }

    /// Waits for room. For one waiting task.
    pub async fn writable(&self) {
        while !self.outbox.has_room() && !self.task.is_finished() {
            self.room.notified().await;
        }
    }

    /// Waits for the next batch of events.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`]: why the connection ended.
    pub async fn recv(&mut self) -> Result<Vec<Event>, ConnectionError> {
        if let Some(batch) = self.events.recv().await {
            return Ok(batch);
        }
        Err((&mut self.task).await.unwrap_or(ConnectionError::Closed))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes what the relay sent.
pub(super) trait Sink: Send {
    /// Takes what it wants out of a batch; the reader waits, and the relay with it.
    fn deliver(&mut self, batch: &mut Vec<Event>) -> impl Future<Output = ()> + Send;
}

struct Forward(mpsc::Sender<Vec<Event>>);

impl Sink for Forward {
    async fn deliver(&mut self, batch: &mut Vec<Event>) {
        // It fails when the connection is being dropped, and then nobody misses the batch.
        let _dropped = self.0.send(std::mem::take(batch)).await;
    }
}

/// A stream whose relay has named its key, and what is left over of its first bytes.
pub(super) struct Open {
    stream: BoxStream,
    client: Client,
    buffer: BytesMut,
}

/// Reads the relay's key and answers it, in one write.
pub(super) async fn welcome(
    mut stream: BoxStream,
    key: NodePrivate,
    home: bool,
) -> Result<Open, ConnectionError> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|_| NoEntropy)?;
    let mut client = Client::new(key, home, nonce);
    let mut buffer = BytesMut::new();
    while client.handle_input(&mut buffer)?.is_none() {
        buffer.reserve(MIN_READ);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(ConnectionError::Closed);
        }
    }
    stream.write_all(&client.output()).await?;
    stream.flush().await?;
    Ok(Open { stream, client, buffer })
}

/// Reads and writes until the connection ends, and says why it did.
///
/// Every read gives at most one batch to `sink`, which takes what it wants out of it; while it
/// waits nothing is read, so that a slow user slows the relay.
pub(super) async fn run(open: Open, outbox: &Outbox, sink: impl Sink) -> ConnectionError {
    let Open { stream, client, buffer } = open;
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        ended = read(reader, client, buffer, outbox, sink) => ended,
        ended = write(writer, outbox) => ended,
    }
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    mut client: Client,
    mut buffer: BytesMut,
    outbox: &Outbox,
    mut sink: impl Sink,
) -> ConnectionError {
    let mut batch = Vec::new();
    // Blocks of packets that are still in use are set aside, and used again when they are not: a
    // fresh block for each read would be a new piece of the heap each time.
    let mut spare = BytesMut::new();
    loop {
        loop {
            match client.handle_input(&mut buffer) {
                Ok(Some(Event::LoggedIn(info))) => {
                    outbox.limit(&info);
                    batch.push(Event::LoggedIn(info));
                }
                Ok(Some(event)) => batch.push(event),
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
        let answers = client.output();
        if !answers.is_empty() {
            outbox.put_control(&answers);
        }
        if !batch.is_empty() {
            sink.deliver(&mut batch).await;
            batch.clear();
            let_others_run().await;
        }
        let missing = client.missing(&buffer);
        if buffer.capacity() - buffer.len() < missing.max(MIN_READ) {
            spare.clear();
            spare.reserve(missing.max(READ_BUFFER) + buffer.len());
            spare.extend_from_slice(&buffer);
            std::mem::swap(&mut buffer, &mut spare);
        }
        if let Err(ended) = fill(&mut reader, &mut buffer, outbox).await {
            return ended;
        }
    }
}

/// Reads once. A relay that stays silent while we write to it is asked whether it is there: one
/// that is frozen, or a network that is gone, would otherwise be noticed after [`READ_TIMEOUT`].
/// Where the network has just changed it is asked at once.
async fn fill(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    outbox: &Outbox,
) -> Result<(), ConnectionError> {
    let mut silent = Duration::ZERO;
    // How long the answer may take, once the relay was asked.
    let mut asked = None;
    while silent < READ_TIMEOUT {
        let patience = asked.unwrap_or(PROBE_AFTER);
        let read = tokio::select! {
            read = timeout(patience, reader.read_buf(buffer)) => read,
            () = outbox.doubted() => {
                outbox.put_frame(&PROBE);
                asked = Some(DOUBT_TIMEOUT);
                continue;
            }
        };
        match read {
            Ok(Ok(0)) => return Err(ConnectionError::Closed),
            Ok(Ok(_)) => {
                outbox.heard();
                return Ok(());
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if asked.is_some() => return Err(ConnectionError::Silent(silent + patience)),
            Err(_) => silent += patience,
        }
        if outbox.is_unanswered() {
            outbox.put_frame(&PROBE);
            asked = Some(PROBE_TIMEOUT);
        }
    }
    Err(ConnectionError::Silent(silent))
}

/// Goes to the end of the runtime's queue once, so that a batch is carried to its end before the
/// next is read, however much more there is to read.
async fn let_others_run() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn write(mut writer: impl AsyncWrite + Unpin, outbox: &Outbox) -> ConnectionError {
    let mut chunk = BytesMut::new();
    loop {
        outbox.take(&mut chunk).await;
        if let Err(error) = writer.write_all(&chunk).await {
            return error.into();
        }
        if let Err(error) = writer.flush().await {
            return error.into();
        }
    }
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No byte stream to the relay.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It took too long.
    #[error("the relay did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// The relay broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ClientError),
    /// The stream broke.
    #[error("the connection to the relay broke: {0}")]
    Io(#[from] std::io::Error),
    /// The relay closed the stream.
    #[error("the relay closed the connection")]
    Closed,
    /// Nothing came for too long.
    #[error("the relay was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// No random numbers for the login.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}
