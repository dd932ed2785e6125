//! Any number of channels over one connection, as a server and as a client.
//!
//! ```text
//!   Session, Channel, Offer, Forward, Opener ──┐                ┌── task ──► stream
//!                                              ├── State ◄──────┤
//!   Connection, Client: next() ────────────────┘   (a mutex)    └── timer
//!                                                     │
//!                                                   Core (pure): login, channels, requests
//! ```
//!
//! After the login both sides are alike (RFC 4254 section 5): each opens channels and asks for
//! things, and only what may be asked for differs.
//!
//! * `request` and `requests`: what is asked for, read and decided, as tables.
//! * `channels`: channels under their numbers; `globals`: requests in their order.
//! * [`Core`]: the connection, pure; `login` is its beginning.
//! * The rest is the tokio shell: [`serve`], [`connect`] and the handles.
//!
//! A channel whose reader is slow holds up nobody but its own sender: each has a window of
//! [`WINDOW`] bytes. Who sends waits for the peer's window and for room in the common output;
//! those who wait for room get it in turn.

mod channels;
mod client;
mod core;
mod globals;
mod handles;
mod login;
mod request;
mod requests;
mod shell;

pub use channels::LIMIT;
pub use client::{Client, Forwarded, ListenError, connect};
pub use core::{Config, Core, Event, WINDOW};
pub use globals::Answer;
pub use handles::{
    Change, Channel, Connection, Control, Direct, Forward, Incoming, OpenError, Opener, Reader,
    Session, Writer, serve, serve_core,
};
pub use request::{Global, Listen, Outgoing, Reason, Target};
pub use requests::{Policy, Program, Start, X11};
