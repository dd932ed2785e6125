//! How any leg reaches a host: REST calls, WebSockets, relays.
//!
//! ```text
//!   request · stream ─┐                                  ┌─ TCP, addresses raced
//!   upgrade ──────────┼─► hyper (HTTP/1.1) ─► TLS? ─► proxy? ─┤
//!   websocket ────────┘                                  └─ CONNECT or SOCKS5
//! ```
//!
//! One [`Transport`] serves a whole program: it knows the proxies of the environment, the
//! certificates to trust and to show, and the extra headers that go on every leg. It does nothing
//! until it is asked; the system's trust roots are read when the first TLS connection is made,
//! while its TCP connection is under way. Idle HTTP connections are kept and used again.
//!
//! Every wait has a limit and every error names the host, the step and the cause.

mod begin;
mod connect;
mod error;
mod events;
mod http1;
mod measure;
mod options;
mod over;
mod proxy;
mod tls;
mod websocket;

use tokio::io::{AsyncRead, AsyncWrite};

pub use error::{Error, Step};
pub use events::{EventParser, EventTooLong, ServerEvent};
pub use http1::{Body, Limits, Transport};
pub use options::{Options, Target};
pub use over::call;
pub use proxy::{Proxies, ProxyError};
pub use websocket::{Message, WebSocket, WebSocketOptions, WebSocketStream};

/// A byte stream to a host: TCP, TLS, or an upgraded HTTP connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any byte stream.
pub type BoxStream = Box<dyn Stream>;
