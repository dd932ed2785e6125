//! Receives the messages of the other side of a call.

use std::marker::PhantomData;

use prost::Message;

use super::call::Inbound;
use crate::RpcError;

/// Receives the messages of the other side of a call.
///
/// While nobody receives, at most a window (256 KiB) is kept, and the other side waits.
#[derive(Debug)]
pub struct Receiver<T> {
    inbound: Inbound,
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Receiver<T> {
    pub(crate) fn new(inbound: Inbound) -> Self {
        Self { inbound, message: PhantomData }
    }

    /// The next message; `None` once the other side has ended its direction. Cancel safe.
    ///
    /// # Errors
    /// The other side's error, a broken protocol, or the end of the connection; `None` after that.
    pub async fn recv(&mut self) -> Result<Option<T>, RpcError> {
        self.inbound.message().await
    }
}
