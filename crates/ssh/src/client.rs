//! A client for any number of channels: sessions, connections from the server's host, and
//! listeners there.
//!
//! [`begin`] gives a [`Client`], whose sessions may be asked for at once; its [`Opener`] connects
//! to hosts and sockets that the server reaches, and its listeners tell who connects to them there.
//! [`connect`] waits for the login, [`open`](crate::open) for a session.

pub use crate::mux::{
    Channel, Client, Core, Event, Forwarded, Listen, ListenError, OpenError, Opener, Origin,
    Outgoing, Reader, Reason, SESSION_WINDOW, Target, Writer, begin, begin_core, connect,
};
