//! Any number of channels over one connection, as a server and as a client.
//!
//! ```text
//!   sessions, channels, offers, listeners ──┐                ┌── task ──► stream
//!                                           ├── State ◄──────┤
//!   Connection, Client: next() ─────────────┘   (a mutex)    └── timer
//!                                                  │
//!                                                Core (pure): login, channels, requests
//! ```
//!
//! After the login both sides are alike (RFC 4254 section 5): each opens channels and asks for
//! things, and only what may be asked for differs.
//!
//! * `request` and `requests`: what is asked for, read and decided, as tables.
//! * `channels`: channels under their numbers; `globals`: requests in their order.
//! * [`Core`]: the connection, pure; `login` is its beginning, `receiving` and `sending` its
//!   channels, `asking` a client's sessions.
//! * `shell` and `pump`, the tokio shell: what the task and the handles share, and the task.
//! * The rest are the handles: [`serve`] gives a server's, [`connect`] and [`open`] a client's.
//!
//! A channel whose reader is slow holds up nobody but its own sender: each has a window of
//! [`WINDOW`] bytes, a client's session one of [`SESSION_WINDOW`]. Who sends waits for the peer's
//! window and for room in the common output; those who wait for room get it in turn.

mod asking;
mod channels;
mod client;
mod connection;
mod core;
mod globals;
mod io;
mod login;
mod pump;
mod queue;
mod receiving;
mod request;
mod requests;
mod sending;
mod served;
pub(crate) mod session;
mod shell;

pub use asking::SESSION_WINDOW;
pub use channels::LIMIT;
pub use client::{Client, Forwarded, ListenError, begin, begin_core, connect, open};
pub use connection::{Connection, Incoming, OpenError, Opener, serve, serve_core};
pub use core::{Config, Core, Event, WINDOW};
pub use globals::Answer;
pub use io::{Channel, Reader, Writer};
pub use request::{Global, Listen, Origin, Outgoing, Reason, Target};
pub use requests::{Policy, Program, Start, X11};
pub use served::{Change, Control, Direct, Forward, Session};
