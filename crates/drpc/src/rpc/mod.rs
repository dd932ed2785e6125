//! Calls: one yamux stream each, which carries the packets of [`wire`](crate::wire).
//!
//! ```text
//!   unary     caller  Invoke Message CloseSend          Close, FIN
//!             callee                          Message CloseSend    FIN
//!   streams   caller  Invoke, Message …                 Close, FIN
//!             callee                    Message …, Close           FIN
//! ```
//!
//! The caller's packets of a unary call go out in one write. Giving a call up is dropping it: the
//! stream ends, and the other side's handler with it. The callee leaves the end of the stream to
//! the caller, so that an answer is never overtaken by it.

mod call;
mod client;
mod incoming;
mod receiver;
mod sender;
mod server;

pub use client::Client;
pub use incoming::Incoming;
pub use receiver::Receiver;
pub use sender::Sender;
pub use server::{MAX_CALLS, Server};
