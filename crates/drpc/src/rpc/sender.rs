//! Sends the messages of one side of a call.

use std::{future::poll_fn, marker::PhantomData, task::Poll};

use prost::Message;

use super::call::Outbound;
use crate::RpcError;

/// Sends the messages of one side of a call.
///
/// The call ends when both its halves are dropped. Dropping this one alone tells the other side
/// nothing; say [`close_send`](Self::close_send) or [`close`](Self::close).
#[derive(Debug)]
pub struct Sender<T> {
    outbound: Outbound,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    pub(crate) fn new(outbound: Outbound) -> Self {
        Self { outbound, message: PhantomData }
    }

    /// Sends a message; waits while the other side does not read.
    ///
    /// Canceled halfway, the message is complete all the same: the rest of it goes out with
    /// whatever is sent next.
    ///
    /// # Errors
    /// When the call or the connection has ended, or the message is over 4 MiB.
    pub async fn send(&mut self, message: &T) -> Result<(), RpcError> {
        self.check().await?;
        // What an earlier, canceled send left behind goes first, so that the queue stays bounded.
        self.outbound.flush().await?;
        self.outbound.message(message)?;
        self.outbound.flush().await
    }

    /// Says that no more messages follow; the other side may go on.
    ///
    /// # Errors
    /// When the call or the connection has ended.
    pub async fn close_send(&mut self) -> Result<(), RpcError> {
        self.outbound.end();
        self.outbound.flush().await
    }

    /// Ends the call in both directions.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn close(mut self) -> Result<(), RpcError> {
        self.outbound.close().await
    }

    /// Ends the call with an error; [`RpcError::Remote`] keeps its code. For the side that was
    /// called.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn fail(mut self, error: RpcError) -> Result<(), RpcError> {
        self.outbound.error(&error);
        self.outbound.flush().await
    }

    /// Waits until the other side has left the call, or the connection has ended: nobody will
    /// read what is sent from then on. A server that waits for something to send waits for this
    /// too.
    pub async fn closed(&self) {
        poll_fn(|cx| self.outbound.call.poll_left(cx)).await;
    }

    async fn check(&self) -> Result<(), RpcError> {
        if self.outbound.ended {
            return Err(RpcError::Ended("it was closed here"));
        }
        let left = poll_fn(|cx| Poll::Ready(self.outbound.call.poll_left(cx).is_ready())).await;
        if left {
            return Err(self.outbound.call.why_left());
        }
        Ok(())
    }
}
