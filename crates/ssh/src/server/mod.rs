//! A server for any number of channels, over any byte stream.
//!
//! Whoever connects is let in by authentication `none`: it is meant for the end of a tunnel that
//! has authenticated the client already.
//!
//! ```text
//!   Session, Channel, Direct, Forward, Opener ──┐                ┌── task ──► stream
//!                                               ├── State ◄──────┤
//!   Connection: next() ─────────────────────────┘   (a mutex)    └── timer
//!                                                      │
//!                                                    Core (pure): login, channels, requests
//! ```
//!
//! * [`request`](self) and `requests`: what clients ask for, read and decided, as tables.
//! * `channels`: channels under their numbers.
//! * [`Core`]: the connection, pure.
//! * The rest is the tokio shell: [`serve`] and the handles.
//!
//! A channel whose reader is slow holds up nobody but its own sender: each has a window of
//! [`WINDOW`] bytes. Who sends waits for the client's window and for room in the common output;
//! those who wait for room get it in turn.

mod channels;
mod core;
mod handles;
mod request;
mod requests;
mod shell;

pub use channels::LIMIT;
pub use core::{Answer, Config, Core, Event, WINDOW};
pub use handles::{
    Change, Channel, Connection, Control, Direct, Forward, Incoming, OpenError, Opener, Reader,
    Session, Writer, serve, serve_core,
};
pub use request::{Global, Listen, Outgoing, Reason, Target};
pub use requests::{Policy, Program, Start, X11};
