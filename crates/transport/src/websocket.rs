//! WebSocket, as messages or as a byte stream (RFC 6455). No compression, no sub-protocol unless
//! asked for.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream as _, StreamExt};
use http::{HeaderValue, Request, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::{
    self,
    handshake::{client::generate_key, derive_accept_key},
    protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
};

use crate::{BoxStream, Error, Target, Transport};

/// Bytes gathered into one message by a [`WebSocketStream`] before it is sent without a flush.
const GATHER: usize = 64 * 1024;

/// How a WebSocket is opened.
#[derive(Debug, Clone, Copy)]
pub struct WebSocketOptions<'a> {
    /// `Sec-WebSocket-Protocol`.
    pub subprotocol: Option<&'a str>,
    /// Longest message that is accepted, in bytes.
    pub max_message: usize,
}

impl Default for WebSocketOptions<'_> {
    /// No sub-protocol, 16 MiB: a full start-up log comes as one message.
    fn default() -> Self {
        Self { subprotocol: None, max_message: 16 << 20 }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// The answer to [`WebSocket::ping`], or a ping of the other side (answered already).
    Alive,
}

/// An open WebSocket. Pings are answered while it is read.
pub struct WebSocket {
    socket: tokio_tungstenite::WebSocketStream<BoxStream>,
    host: String,
}

impl Transport {
    /// Opens a WebSocket. `http` and `ws` mean the same, `https` and `wss` too.
    ///
    /// # Errors
    /// [`Error::Status`] when the server refuses, with its answer; whatever keeps it from answering.
    pub async fn websocket(
        &self,
        request: Request<()>,
        options: WebSocketOptions<'_>,
    ) -> Result<WebSocket, Error> {
        let target = Target::of(request.uri())?;
        self.websocket_at(request, options, &target).await
    }

    /// As [`Transport::websocket`], to a target that the request's URL does not tell.
    ///
    /// # Errors
    /// As [`Transport::websocket`].
    pub async fn websocket_at(
        &self,
        mut request: Request<()>,
        options: WebSocketOptions<'_>,
        target: &Target,
    ) -> Result<WebSocket, Error> {
        let host = target.name();
        let broken = |why: &str| Error::WebSocket { host: host.clone(), why: why.to_owned() };
        let key = generate_key();
        let headers = request.headers_mut();
        let value = HeaderValue::from_str(&key).map_err(|_| broken("no key could be made"))?;
        headers.insert(header::SEC_WEBSOCKET_KEY, value);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Some(name) = options.subprotocol {
            let value =
                HeaderValue::from_str(name).map_err(|_| broken("no such sub-protocol can be"))?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        let (parts, stream) = self.upgrade_at(request, "websocket", target).await?;
        let accept = parts.headers.get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.map(HeaderValue::as_bytes) != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(broken("the server's answer is not to our question"));
        }
        let config = limits(options.max_message);
        let socket =
            tokio_tungstenite::WebSocketStream::from_raw_socket(stream, Role::Client, Some(config))
                .await;
        Ok(WebSocket { socket, host })
    }
}

impl WebSocket {
    /// The server's side of a WebSocket whose opening handshake is over; `peer` names the client
    /// in errors, `max_message` is the longest message that is accepted, in bytes.
    pub async fn accepted(stream: BoxStream, peer: String, max_message: usize) -> Self {
        let config = limits(max_message);
        let socket =
            tokio_tungstenite::WebSocketStream::from_raw_socket(stream, Role::Server, Some(config))
                .await;
        Self { socket, host: peer }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`Error::Closed`] with the code when the other side closed it, [`Error::WebSocket`] when it
    /// broke.
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(explain(error, &self.host)),
                None => return Err(closed(&self.host, None)),
            };
            match message {
                tungstenite::Message::Text(text) => return Ok(Message::Text(text.to_string())),
                tungstenite::Message::Binary(bytes) => return Ok(Message::Binary(bytes)),
                tungstenite::Message::Ping(_) => {
                    // The answer is queued by the library and leaves with the next flush.
                    self.socket.flush().await.map_err(|error| explain(error, &self.host))?;
                    return Ok(Message::Alive);
                }
                tungstenite::Message::Pong(_) => return Ok(Message::Alive),
                tungstenite::Message::Close(frame) => {
                    return Err(closed(&self.host, Some(frame)));
                }
                tungstenite::Message::Frame(_) => {}
            }
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection is broken or closed.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Error> {
        let message = tungstenite::Message::Binary(bytes);
        self.socket.send(message).await.map_err(|error| explain(error, &self.host))
    }

    /// Asks whether the other side is there; [`Message::Alive`] follows.
    ///
    /// # Errors
    /// When the connection is broken or closed.
    pub async fn ping(&mut self) -> Result<(), Error> {
        let message = tungstenite::Message::Ping(Bytes::new());
        self.socket.send(message).await.map_err(|error| explain(error, &self.host))
    }

    /// Says goodbye (code 1000).
    pub async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // There is nobody to tell if it is broken already.
        let _ = self.socket.close(Some(frame)).await;
    }

    /// As a byte stream; see [`WebSocketStream`].
    #[must_use]
    pub fn into_stream(self) -> WebSocketStream {
        WebSocketStream {
            socket: self,
            read: Bytes::new(),
            write: BytesMut::new(),
            ended: false,
            closing: false,
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A byte stream over binary messages, whose boundaries mean nothing. What is written gathers into
/// one message until it is flushed. Close codes 1000 and 1001 are a clean end; text is an error.
pub struct WebSocketStream {
    socket: WebSocket,
    read: Bytes,
    write: BytesMut,
    ended: bool,
    closing: bool,
}

impl WebSocketStream {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let WebSocket { socket, host } = &mut self.socket;
        ready!(Pin::new(&mut *socket).poll_ready(cx)).map_err(|error| io_error(error, host))?;
        let message = tungstenite::Message::Binary(self.write.split().freeze());
        let sent = Pin::new(socket).start_send(message);
        Poll::Ready(sent.map_err(|error| io_error(error, host)))
    }
}

impl AsyncRead for WebSocketStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read.is_empty() && !this.ended {
            let WebSocket { socket, host } = &mut this.socket;
            match ready!(Pin::new(socket).poll_next(cx)) {
                Some(Ok(tungstenite::Message::Binary(bytes))) => this.read = bytes,
                Some(Ok(tungstenite::Message::Close(frame))) => match &frame {
                    Some(frame) if matches!(frame.code, CloseCode::Normal | CloseCode::Away) => {
                        this.ended = true;
                    }
                    Some(_) | None => {
                        return Poll::Ready(Err(io::Error::other(closed(host, Some(frame)))));
                    }
                },
                Some(Ok(tungstenite::Message::Text(_))) => {
                    let why = "text where bytes belong".to_owned();
                    let error = Error::WebSocket { host: host.clone(), why };
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                Some(Ok(
                    tungstenite::Message::Ping(_)
                    | tungstenite::Message::Pong(_)
                    | tungstenite::Message::Frame(_),
                )) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error, host))),
                None => this.ended = true,
            }
        }
        let count = this.read.len().min(buffer.remaining());
        buffer.put_slice(&this.read[..count]);
        this.read.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write.len() >= GATHER {
            ready!(self.poll_send(cx))?;
        }
        let count = data.len().min(GATHER);
        self.write.extend_from_slice(&data[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.write.is_empty() {
            ready!(self.poll_send(cx))?;
        }
        let WebSocket { socket, host } = &mut self.socket;
        Pin::new(socket).poll_flush(cx).map_err(|error| io_error(error, host))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        let this = &mut *self;
        let WebSocket { socket, host } = &mut this.socket;
        if !this.closing {
            ready!(Pin::new(&mut *socket).poll_ready(cx)).map_err(|error| io_error(error, host))?;
            this.closing = true;
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            match Pin::new(&mut *socket).start_send(tungstenite::Message::Close(Some(frame))) {
                // The other side was first.
                Ok(()) | Err(tungstenite::Error::ConnectionClosed) => {}
                Err(error) => return Poll::Ready(Err(io_error(error, host))),
            }
        }
        match ready!(Pin::new(socket).poll_flush(cx)) {
            Ok(()) | Err(tungstenite::Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io_error(error, host))),
        }
    }
}

impl fmt::Debug for WebSocketStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketStream").field("host", &self.socket.host).finish_non_exhaustive()
    }
}

fn limits(max_message: usize) -> WebSocketConfig {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(max_message);
    config.max_frame_size = Some(max_message);
    config
}

/// `frame` is `None` when the connection just ended.
fn closed(host: &str, frame: Option<Option<CloseFrame>>) -> Error {
    let (code, reason) = match frame {
        Some(Some(frame)) => (u16::from(frame.code), frame.reason.to_string()),
        Some(None) => (1005, String::new()),
        None => (1006, String::new()),
    };
    Error::Closed { host: host.to_owned(), code, reason }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors, most of them only text")]
fn explain(error: tungstenite::Error, host: &str) -> Error {
    let host = host.to_owned();
    match error {
        tungstenite::Error::Io(source) => Error::Broken { host, source, sent: true },
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Error::Closed { host, code: 1006, reason: String::new() },
        other => Error::WebSocket { host, why: other.to_string() },
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "all but one are handled alike")]
fn io_error(error: tungstenite::Error, host: &str) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(explain(other, host)),
    }
}
