//! A server for any number of channels, over any byte stream.
//!
//! Whoever connects is let in by authentication `none`: it is meant for the end of a tunnel that
//! has authenticated the client already. [`serve`] gives a [`Connection`], whose
//! [`next`](Connection::next) gives what the client wants; [`Core`] is the same without I/O.

pub use crate::mux::{
    Answer, Change, Channel, Config, Connection, Control, Core, Direct, Event, Forward, Global,
    Incoming, LIMIT, Listen, OpenError, Opener, Outgoing, Policy, Program, Reader, Reason, Session,
    Start, Target, WINDOW, Writer, X11, serve, serve_core,
};
