//! DERP: datagrams between keys, through relays that everybody can reach over HTTP
//! (coder/tailscale: derp/derp.go).
//!
//! A relay knows its clients by their node keys and passes on packets that it cannot read. A
//! client listens at the relay of its home region for as long as it lives, and connects to those
//! of other regions only to send to peers whose home they are.
//!
//! ```text
//!   relay        the regions: which connections there are, which route a packet takes
//!   connection   one connection: a task that reads, one that writes
//!   client       one connection's protocol, without I/O
//!   login        the sealed introduction of both sides
//!   frame        one byte of type, four of length, a payload
//!   carrier      by which of two ways its byte stream is opened, and what is learnt of them
//!   dial         a byte stream to a relay: HTTP upgraded, or a WebSocket
//!   home         which region to listen in, from what was measured
//! ```
//!
//! Delivery is unreliable, like UDP: a relay drops what its queue for a client cannot take.

pub mod carrier;
pub mod client;
pub mod connection;
pub mod dial;
pub mod frame;
pub mod home;
mod limiter;
pub mod login;
mod outbox;
pub mod relay;

pub use carrier::Carrier;
pub use client::{Client, ClientError, Event};
pub use connection::{Connection, connect};
pub use dial::{Dial, DialError, TransportDial};
pub use frame::{Decoder, Frame, FrameError, PeerGone};
pub use limiter::Limiter;
pub use relay::{Received, Relays, SendError, Status};
