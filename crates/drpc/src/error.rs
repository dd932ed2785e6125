//! How a call fails.

use crate::{
    wire::WireError,
    yamux::{CloseReason, OpenError},
};

/// Code of "unimplemented" in generated dRPC stubs (storj/drpc: drpcerr).
pub const UNIMPLEMENTED: u64 = 12;

/// How a call fails.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The other side answered with an error.
    #[error("{message} (code {code})")]
    Remote {
        /// 0 when the error has none.
        code: u64,
        /// The text, cut at [`MAX_ERROR_TEXT`](crate::wire::MAX_ERROR_TEXT) bytes.
        message: String,
    },
    /// The connection that carries the call has ended.
    #[error("the control connection ended: {0}")]
    Closed(#[from] CloseReason),
    /// The other side takes no new calls on this connection; connect anew.
    #[error("the other side is going away and takes no new calls")]
    GoingAway,
    /// The call was ended by the other side: reset, canceled, left, or
    /// without the answer it owes.
    #[error("the call has ended: {0}")]
    Ended(&'static str),
    /// The other side does not speak dRPC as we know it.
    #[error("the other side broke the dRPC protocol: {0}")]
    Protocol(#[from] WireError),
    /// A packet that is well formed holds a message that is not.
    #[error("cannot decode a {message} message: {cause}")]
    Decode {
        /// Type of the message.
        message: &'static str,
        /// What is wrong with it.
        cause: prost::DecodeError,
    },
    /// A message to be sent is larger than any receiver takes.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the encoded message.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl RpcError {
    /// An error to answer a call with.
    pub fn remote(code: u64, message: impl Into<String>) -> Self {
        Self::Remote { code, message: message.into() }
    }

    /// The answer to a call that does not exist here.
    pub fn unimplemented(rpc: &str) -> Self {
        Self::remote(UNIMPLEMENTED, format!("unknown rpc: {rpc:?}"))
    }

    /// The other side does not have this call: code 12 (generated stubs), or the text
    /// `unknown rpc: ` (storj/drpc: drpcmux, which gives it code 0).
    pub fn is_unimplemented(&self) -> bool {
        match self {
            Self::Remote { code, message } => {
                *code == UNIMPLEMENTED || message.contains("unknown rpc: ")
            }
            Self::Closed(_)
            | Self::GoingAway
            | Self::Ended(_)
            | Self::Protocol(_)
            | Self::Decode { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

impl From<OpenError> for RpcError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Closed(reason) => Self::Closed(reason),
            OpenError::GoingAway | OpenError::Exhausted => Self::GoingAway,
        }
    }
}
