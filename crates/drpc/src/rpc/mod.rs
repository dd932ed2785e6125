//! Calls.

use std::marker::PhantomData;

use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{CloseReason, Config, Metadata, RpcError, Session};

/// The side that makes calls.
#[derive(Debug)]
pub struct Client {
    session: Session,
}

impl Client {
    /// A client over a byte stream, with the default settings.
    pub fn connect<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Self {
        Self::new(Session::client(io, Config::default()))
    }
    /// A client over a session.
    pub fn new(session: Session) -> Self {
        Self { session }
    }
    /// One request, one response.
    pub async fn unary<Req: Message, Resp: Message + Default>(
        &self,
        _rpc: &str,
        _request: &Req,
    ) -> Result<Resp, RpcError> {
        Err(CloseReason::Local.into())
    }
    /// One request, a stream of responses.
    pub async fn server_stream<Req: Message, Resp: Message + Default>(
        &self,
        _rpc: &str,
        _request: &Req,
    ) -> Result<Receiver<Resp>, RpcError> {
        Err(CloseReason::Local.into())
    }
    /// Streams both ways; the Invoke goes out at once.
    pub async fn stream<Req: Message, Resp: Message + Default>(
        &self,
        _rpc: &str,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError> {
        Err(CloseReason::Local.into())
    }
    /// As [`stream`](Self::stream), with metadata before the Invoke.
    pub async fn stream_with<Req: Message, Resp: Message + Default>(
        &self,
        _rpc: &str,
        _metadata: &Metadata,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError> {
        Err(CloseReason::Local.into())
    }
    /// Waits until the connection ends.
    pub async fn closed(&self) -> CloseReason {
        self.session.closed().await
    }
    /// Ends the connection after what is queued was sent.
    pub async fn close(&self) -> CloseReason {
        self.session.close().await
    }
    /// The session below.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// Sends the messages of one side of a call.
#[derive(Debug)]
pub struct Sender<T> {
    message: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    /// Sends a message.
    pub async fn send(&mut self, _message: &T) -> Result<(), RpcError> {
        Err(CloseReason::Local.into())
    }
    /// No more messages follow; the other side may go on.
    pub async fn close_send(&mut self) -> Result<(), RpcError> {
        Err(CloseReason::Local.into())
    }
    /// Waits until the other side has left the call.
    pub async fn closed(&self) {}
}

/// Receives the messages of the other side of a call.
#[derive(Debug)]
pub struct Receiver<T> {
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Receiver<T> {
    /// The next message, `None` at the end. Cancel safe.
    pub async fn recv(&mut self) -> Result<Option<T>, RpcError> {
        Err(CloseReason::Local.into())
    }
}

/// The side that takes calls.
#[derive(Debug)]
pub struct Server {
    _session: Session,
}

impl Server {
    /// A server over a byte stream, with the default settings.
    pub fn connect<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Self {
        Self::new(Session::server(io, Config::default()))
    }
    /// A server over a session.
    pub fn new(session: Session) -> Self {
        Self { _session: session }
    }
    /// The next call; `None` when the session has ended.
    pub async fn accept(&mut self) -> Option<Incoming> {
        None
    }
}

/// A call that was made to us.
#[derive(Debug)]
pub struct Incoming {
    rpc: String,
    metadata: Metadata,
}

impl Incoming {
    /// Its name.
    pub fn rpc(&self) -> &str {
        &self.rpc
    }
    /// What came before its Invoke.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
    /// Answers one request; the handler is dropped when the caller leaves.
    pub async fn unary<Req, Resp, F, Fut>(self, _handler: F) -> Result<(), RpcError>
    where
        Req: Message + Default,
        Resp: Message,
        F: FnOnce(Req) -> Fut,
        Fut: Future<Output = Result<Resp, RpcError>>,
    {
        Ok(())
    }
    /// Streams both ways.
    pub fn stream<Req: Message + Default, Resp: Message>(self) -> (Receiver<Req>, Sender<Resp>) {
        (Receiver { message: PhantomData }, Sender { message: PhantomData })
    }
    /// One request, a stream of responses.
    pub async fn server_stream<Req: Message + Default, Resp: Message>(
        self,
    ) -> Result<(Req, Sender<Resp>), RpcError> {
        Err(CloseReason::Local.into())
    }
    /// Answers with an error.
    pub async fn reject(self, _error: RpcError) -> Result<(), RpcError> {
        Ok(())
    }
    /// Answers that there is no such call.
    pub async fn unimplemented(self) -> Result<(), RpcError> {
        Ok(())
    }
}
