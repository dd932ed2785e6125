//! A call that was made to us.

use std::{future::poll_fn, pin::pin, task::Poll};

use prost::Message;

use super::{
    Receiver, Sender,
    call::{Inbound, Outbound},
};
use crate::{
    Metadata, RpcError,
    wire::{Kind, MAX_PACKET, WireError},
};

/// Bytes of a call's name, and of its metadata, that are taken. Coder's longest name has 57.
const MAX_OPENING: usize = 16 * 1024;

/// A call that was made to us, whose name is known. Answer it by one of the methods; dropping it
/// ends it without one, which the caller hears.
#[derive(Debug)]
pub struct Incoming {
    rpc: String,
    metadata: Metadata,
    outbound: Outbound,
    inbound: Inbound,
}

impl Incoming {
    /// Reads up to the Invoke.
    pub(crate) async fn read(outbound: Outbound, mut inbound: Inbound) -> Result<Self, RpcError> {
        inbound.set_limit(MAX_OPENING);
        let mut metadata = Metadata::default();
        loop {
            let packet = inbound.packet().await?.ok_or(RpcError::Ended("it never began"))?;
            match packet.kind {
                Kind::InvokeMetadata => metadata = Metadata::parse(&packet.data)?,
                Kind::Invoke => {
                    inbound.set_limit(MAX_PACKET);
                    let rpc = packet.name()?.to_owned();
                    return Ok(Self { rpc, metadata, outbound, inbound });
                }
                Kind::Message | Kind::Error | Kind::Cancel | Kind::Close | Kind::CloseSend => {
                    return Err(WireError::Unexpected(packet.kind).into());
                }
            }
        }
    }

    /// Its name, as in [`proto::rpc`](crate::proto::rpc).
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// What came before its Invoke.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Answers one request with one response, or with the handler's error. The handler is dropped
    /// when the caller leaves first.
    ///
    /// # Errors
    /// When the request cannot be read (the caller is told), or the caller or the connection is
    /// gone. The handler's own error is the caller's, not returned here.
    pub async fn unary<Req, Resp, F, Fut>(mut self, handler: F) -> Result<(), RpcError>
    where
        Req: Message + Default,
        Resp: Message,
        F: FnOnce(Req) -> Fut,
        Fut: Future<Output = Result<Resp, RpcError>>,
    {
        let request = self.request().await?;
        let mut answer = pin!(handler(request));
        let call = self.outbound.call.clone();
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            call.poll_left(cx).map(|()| None)
        })
        .await;
        let queued = match answer {
            None => return Err(call.why_left()),
            Some(answer) => answer.and_then(|response| self.outbound.message(&response)),
        };
        match queued {
            Ok(()) => self.outbound.end(),
            Err(error) => self.outbound.error(&error),
        }
        self.outbound.flush().await
    }

    /// Reads the request of a call that is answered by a stream.
    ///
    /// # Errors
    /// As [`unary`](Self::unary).
    pub async fn server_stream<Req, Resp>(mut self) -> Result<(Req, Sender<Resp>), RpcError>
    where
        Req: Message + Default,
        Resp: Message,
    {
        let request = self.request().await?;
        Ok((request, Sender::new(self.outbound)))
    }

    /// Streams both ways.
    pub fn stream<Req, Resp>(self) -> (Receiver<Req>, Sender<Resp>)
    where
        Req: Message + Default,
        Resp: Message,
    {
        (Receiver::new(self.inbound), Sender::new(self.outbound))
    }

    /// Answers with an error; [`RpcError::Remote`] keeps its code.
    ///
    /// # Errors
    /// When the caller or the connection is gone.
    pub async fn reject(mut self, error: RpcError) -> Result<(), RpcError> {
        self.outbound.error(&error);
        self.outbound.flush().await
    }

    /// Answers that there is no such call.
    ///
    /// # Errors
    /// When the caller or the connection is gone.
    pub async fn unimplemented(self) -> Result<(), RpcError> {
        let error = RpcError::unimplemented(&self.rpc);
        self.reject(error).await
    }

    async fn request<Req: Message + Default>(&mut self) -> Result<Req, RpcError> {
        let request = match self.inbound.message().await {
            Ok(Some(request)) => return Ok(request),
            Ok(None) => RpcError::Ended("it had no request"),
            Err(error) => error,
        };
        self.outbound.error(&request);
        // The reason is worth more to the caller than that it could not be told.
        let _ = self.outbound.flush().await;
        Err(request)
    }
}
