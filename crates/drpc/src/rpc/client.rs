//! The side that makes calls.

use std::{future::poll_fn, task::Poll};

use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Receiver, Sender,
    call::{Call, Inbound, Outbound, exchange},
};
use crate::{
    CloseReason, Config, Metadata, RpcError, Session,
    wire::{Kind, MAX_PACKET},
};

/// Makes calls over one session, any number at a time.
///
/// Dropping a call, at any point, ends it; how long to wait is the caller's business. Dropping
/// the client ends the session and every call with it.
#[derive(Debug)]
pub struct Client {
    session: Session,
}

impl Client {
    /// A client over a byte stream, with yamux's default settings, to which the other side can
    /// open no streams.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::new(Session::client(io, Config { accept_backlog: 0, ..Config::default() }))
    }

    /// A client over a session.
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// One request, one response.
    ///
    /// # Errors
    /// The other side's error, a broken protocol, or the end of the connection.
    pub async fn unary<Req, Resp>(&self, rpc: &str, request: &Req) -> Result<Resp, RpcError>
    where
        Req: Message,
        Resp: Message + Default,
    {
        self.unary_with(rpc, &Metadata::default(), request).await
    }

    /// As [`unary`](Self::unary), with metadata before the Invoke.
    ///
    /// # Errors
    /// As [`unary`](Self::unary).
    pub async fn unary_with<Req, Resp>(
        &self,
        rpc: &str,
        metadata: &Metadata,
        request: &Req,
    ) -> Result<Resp, RpcError>
    where
        Req: Message,
        Resp: Message + Default,
    {
        let (mut outbound, mut inbound) = self.invoke(rpc, metadata, Some(request)).await?;
        let data = exchange(&mut outbound, &mut inbound).await?;
        poll_fn(|cx| {
            outbound.say_goodbye(cx);
            Poll::Ready(())
        })
        .await;
        let data = data.ok_or(RpcError::Ended("it gave no answer"))?;
        Resp::decode(data)
            .map_err(|cause| RpcError::Decode { message: std::any::type_name::<Resp>(), cause })
    }

    /// One request, a stream of responses.
    ///
    /// # Errors
    /// A broken protocol, or the end of the connection.
    pub async fn server_stream<Req, Resp>(
        &self,
        rpc: &str,
        request: &Req,
    ) -> Result<Receiver<Resp>, RpcError>
    where
        Req: Message,
        Resp: Message + Default,
    {
        let none = Metadata::default();
        let (mut outbound, inbound) = self.invoke(rpc, &none, Some(request)).await?;
        outbound.flush().await?;
        Ok(Receiver::new(inbound))
    }

    /// Streams both ways. The Invoke goes out at once, whether or not a message follows.
    ///
    /// # Errors
    /// A broken protocol, or the end of the connection.
    pub async fn stream<Req, Resp>(
        &self,
        rpc: &str,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Message,
        Resp: Message + Default,
    {
        self.stream_with(rpc, &Metadata::default()).await
    }

    /// As [`stream`](Self::stream), with metadata before the Invoke.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub async fn stream_with<Req, Resp>(
        &self,
        rpc: &str,
        metadata: &Metadata,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Message,
        Resp: Message + Default,
    {
        let (mut outbound, inbound) = self.invoke::<Req>(rpc, metadata, None).await?;
        outbound.flush().await?;
        Ok((Sender::new(outbound), Receiver::new(inbound)))
    }

    /// Opens a stream and queues the packets that begin a call.
    async fn invoke<Req: Message>(
        &self,
        rpc: &str,
        metadata: &Metadata,
        request: Option<&Req>,
    ) -> Result<(Outbound, Inbound), RpcError> {
        let size = request.map_or(0, Message::encoded_len);
        if size > MAX_PACKET {
            return Err(RpcError::TooLarge { size, limit: MAX_PACKET });
        }
        let (mut outbound, inbound) = Call::outgoing(self.session.open().await?);
        if !metadata.is_empty() {
            outbound.packet(Kind::InvokeMetadata, &metadata.encode_to_vec());
        }
        outbound.packet(Kind::Invoke, rpc.as_bytes());
        if let Some(request) = request {
            outbound.message(request)?;
            outbound.end();
        }
        Ok((outbound, inbound))
    }

    /// Waits until the connection has ended and says why.
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
