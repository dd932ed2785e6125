//! yamux and dRPC, client and server side, over any byte stream.
//!
//! A Coder control connection is one byte stream (the payloads of a WebSocket) that carries a
//! yamux [`Session`]; each yamux stream carries exactly one dRPC call, whose messages are
//! protobuf:
//!
//! ```text
//!   proto     one message                    UpdateSelf { node }
//!   wire      packets, split into frames     05 01 03 fc 01 | 252 bytes
//!   yamux     streams, windows, pings        00 00 0000 00000001 00000101 | 257 bytes
//!   below     any AsyncRead + AsyncWrite     WebSocket payloads, a pipe, a socket
//! ```
//!
//! [`Client`] makes calls, [`Server`] takes them; both are thin over [`yamux`] and [`wire`],
//! whose cores are pure. [`proto`] has the messages and the names of the calls.
//!
//! ```
//! use coderctl_drpc::{Client, RpcError, Server, proto::{rpc, tailnet::*}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), RpcError> {
//! let (near, far) = tokio::io::duplex(4096);
//! let (client, mut server) = (Client::connect(near), Server::connect(far));
//!
//! let ask = client.unary(rpc::tailnet::REFRESH_RESUME_TOKEN, &RefreshResumeTokenRequest {});
//! let answer = async {
//!     let call = server.accept().await.expect("a call");
//!     call.unary(|_: RefreshResumeTokenRequest| async {
//!         Ok(RefreshResumeTokenResponse { token: "token".to_owned(), ..Default::default() })
//!     })
//!     .await
//! };
//! let (response, answered) = tokio::join!(ask, answer);
//! answered?;
//! let response: RefreshResumeTokenResponse = response?;
//! assert_eq!(response.token, "token");
//! # Ok(()) }
//! ```

mod error;
pub mod proto;
pub mod rpc;
pub mod wire;
pub mod yamux;

pub use error::{RpcError, UNIMPLEMENTED};
pub use rpc::{Client, Incoming, Receiver, Sender, Server};
pub use wire::Metadata;
pub use yamux::{CloseReason, Config, Pinger, Session, Stream};
