//! A client for any number of channels: connections from the server's host, and listeners there.
//!
//! [`connect`] gives a [`Client`]; its [`Opener`] connects to hosts and sockets that the server
//! reaches, and its listeners tell who connects to them there. For one session that is to begin
//! quickly, there is [`crate::open`].

pub use crate::mux::{
    Channel, Client, Forwarded, Listen, ListenError, OpenError, Opener, Outgoing, Reader, Reason,
    Target, Writer, connect,
};
