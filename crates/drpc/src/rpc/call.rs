//! One call's stream and its two directions, without types.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    CloseReason, RpcError, Stream,
    wire::{self, Decoder, Kind, MAX_PACKET, Packet, WireError},
};

/// The number of every call on its own stream (a dRPC connection counts from 1).
pub(crate) const CALL: u64 = 1;

/// Bytes read from a stream at once.
const READ: usize = 8 * 1024;

/// A queue that is empty again keeps at most this much memory.
const KEEP: usize = 16 * 1024;

/// The stream of a call.
#[derive(Debug)]
pub(crate) struct Call {
    /// `None` only while it is dropped.
    stream: Option<Stream>,
    /// The place among the server's calls; `None` on the client, which ends the stream itself.
    place: Option<OwnedSemaphorePermit>,
    /// The last packet of our direction is with the stream.
    ended: AtomicBool,
}

impl Call {
    /// A call that is made.
    pub(crate) fn outgoing(stream: Stream) -> (Outbound, Inbound) {
        Self::split(stream, None)
    }

    /// A call that is taken.
    pub(crate) fn incoming(stream: Stream, place: OwnedSemaphorePermit) -> (Outbound, Inbound) {
        Self::split(stream, Some(place))
    }

    fn split(stream: Stream, place: Option<OwnedSemaphorePermit>) -> (Outbound, Inbound) {
        let call = Arc::new(Self { stream: Some(stream), place, ended: AtomicBool::new(false) });
        let outbound =
            Outbound { call: call.clone(), next: 1, queue: Vec::new(), written: 0, ended: false };
        (outbound, Inbound { call, decoder: Decoder::default(), ended: false })
    }

    fn poll_read(&self, cx: &Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.as_ref().map_or(Poll::Ready(Ok(0)), |stream| stream.poll_read_some(cx, out))
    }

    fn poll_write(&self, cx: &Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        self.stream.as_ref().map_or_else(gone, |stream| stream.poll_write_some(cx, data))
    }

    /// Ready when the other side has finished the stream: it is gone, or done with the call.
    pub(crate) fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        self.stream.as_ref().map_or(Poll::Ready(()), |stream| stream.poll_left(cx))
    }

    /// Why nobody is there any more, after [`poll_left`](Self::poll_left).
    pub(crate) fn why_left(&self) -> RpcError {
        match self.stream.as_ref().and_then(Stream::closed) {
            Some(reason) => RpcError::Closed(reason),
            None => RpcError::Ended("it was left"),
        }
    }

    fn is_ours(&self) -> bool {
        self.place.is_none()
    }
}

/// A call that was answered is ended by its caller; one that was not ends here, so that the
/// caller hears of it.
impl Drop for Call {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && !self.is_ours()
            && self.ended.load(Ordering::Relaxed)
        {
            stream.linger();
        }
    }
}

/// The direction in which packets are sent.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) call: Arc<Call>,
    /// Number of the next packet.
    next: u64,
    /// Packets on their way into the stream, and how many of their bytes are there.
    queue: Vec<u8>,
    written: usize,
    /// The last packet of this direction is queued.
    pub(crate) ended: bool,
}

impl Outbound {
    /// Queues a packet.
    pub(crate) fn packet(&mut self, kind: Kind, data: &[u8]) {
        wire::encode(&mut self.queue, kind, CALL, self.next, data);
        self.next += 1;
    }

    /// Queues a message.
    pub(crate) fn message<M: Message>(&mut self, message: &M) -> Result<(), RpcError> {
        wire::encode_message(&mut self.queue, CALL, self.next, message)
            .map_err(|size| RpcError::TooLarge { size, limit: MAX_PACKET })?;
        self.next += 1;
        Ok(())
    }

    /// Queues the end of this direction.
    pub(crate) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.packet(Kind::CloseSend, &[]);
        }
    }

    /// Queues an error, which ends the call.
    pub(crate) fn error(&mut self, error: &RpcError) {
        let (code, text) = match error {
            RpcError::Remote { code, message } => (*code, message.clone()),
            other @ (RpcError::Closed(_)
            | RpcError::GoingAway
            | RpcError::Ended(_)
            | RpcError::Protocol(_)
            | RpcError::Decode { .. }
            | RpcError::TooLarge { .. }) => (0, other.to_string()),
        };
        wire::encode_error(&mut self.queue, CALL, self.next, code, &text);
        self.next += 1;
        self.ended = true;
    }

    /// Moves what is queued into the stream. Cancel safe: the rest goes with the next flush.
    pub(crate) async fn flush(&mut self) -> Result<(), RpcError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(crate) fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<Result<(), RpcError>> {
        while self.written < self.queue.len() {
            let n = ready!(self.call.poll_write(cx, &self.queue[self.written..]))
                .map_err(|error| from_io(&error))?;
            self.written += n;
        }
        self.queue.clear();
        self.queue.shrink_to(KEEP);
        self.written = 0;
        self.call.ended.fetch_or(self.ended, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    /// Ends a call that was answered: Close if there is room for it, and the stream's end.
    pub(crate) fn say_goodbye(&mut self, cx: &Context<'_>) {
        self.packet(Kind::Close, &[]);
        // The answer is there already; what becomes of these few bytes changes nothing.
        let _ = self.poll_flush(cx);
        if let Some(stream) = &self.call.stream {
            stream.finish();
        }
    }

    /// Ends the call in both directions; a caller ends the stream too.
    pub(crate) async fn close(&mut self) -> Result<(), RpcError> {
        if !self.ended {
            self.ended = true;
            self.packet(Kind::Close, &[]);
        }
        let flushed = self.flush().await;
        if let Some(stream) = self.call.stream.as_ref().filter(|_| self.call.is_ours()) {
            stream.finish();
        }
        flushed
    }
}

/// The direction in which packets are received.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) call: Arc<Call>,
    decoder: Decoder,
    /// Nothing more is expected.
    ended: bool,
}

impl Inbound {
    /// The limit for packets that begin from now on.
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.decoder.set_limit(bytes);
    }

    /// The data of the next message; `None` at the end. Cancel safe.
    pub(crate) async fn data(&mut self) -> Result<Option<Bytes>, RpcError> {
        if self.ended {
            return Ok(None);
        }
        let outcome = self.outcome().await;
        self.ended = !matches!(outcome, Ok(Some(_)));
        outcome
    }

    /// The next message; `None` at the end. Cancel safe.
    pub(crate) async fn message<M: Message + Default>(&mut self) -> Result<Option<M>, RpcError> {
        let Some(data) = self.data().await? else { return Ok(None) };
        let decoded = M::decode(data)
            .map_err(|cause| RpcError::Decode { message: std::any::type_name::<M>(), cause });
        self.ended |= decoded.is_err();
        decoded.map(Some)
    }

    async fn outcome(&mut self) -> Result<Option<Bytes>, RpcError> {
        let Some(Packet { kind, data, .. }) = self.packet().await? else { return Ok(None) };
        match kind {
            Kind::Message => Ok(Some(data)),
            Kind::Close | Kind::CloseSend => Ok(None),
            Kind::Cancel => Err(RpcError::Ended("it was canceled")),
            Kind::Error => {
                let (code, message) = wire::parse_error(&data);
                Err(RpcError::Remote { code, message })
            }
            Kind::Invoke | Kind::InvokeMetadata => Err(WireError::Unexpected(kind).into()),
        }
    }

    /// The next packet; `None` at the end of the stream. Cancel safe.
    pub(crate) async fn packet(&mut self) -> Result<Option<Packet>, RpcError> {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    fn poll_packet(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Packet>, RpcError>> {
        loop {
            if let Some(packet) = self.decoder.next_packet()? {
                if packet.stream != CALL {
                    let (stream, message) = (packet.stream, packet.message);
                    return Poll::Ready(Err(WireError::Order { stream, message }.into()));
                }
                return Poll::Ready(Ok(Some(packet)));
            }
            let mut buffer = [0; READ];
            match ready!(self.call.poll_read(cx, &mut buffer)).map_err(|error| from_io(&error))? {
                0 => {
                    self.decoder.finish()?;
                    return Poll::Ready(Ok(None));
                }
                n => self.decoder.feed(&buffer[..n]),
            }
        }
    }
}

/// Sends what is queued and waits for the answer at the same time: an answer may come before the
/// other side has taken all of the request.
pub(crate) async fn exchange(
    outbound: &mut Outbound,
    inbound: &mut Inbound,
) -> Result<Option<Bytes>, RpcError> {
    let mut answer = pin!(inbound.data());
    let mut sent = false;
    poll_fn(|cx| {
        if !sent && let Poll::Ready(result) = outbound.poll_flush(cx) {
            result?;
            sent = true;
        }
        answer.as_mut().poll(cx)
    })
    .await
}

fn from_io(error: &io::Error) -> RpcError {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<CloseReason>());
    match (reason, error.kind()) {
        (Some(reason), _) => RpcError::Closed(reason.clone()),
        (None, io::ErrorKind::BrokenPipe) => RpcError::Ended("it was closed here"),
        (None, _) => RpcError::Ended("its stream was reset"),
    }
}
