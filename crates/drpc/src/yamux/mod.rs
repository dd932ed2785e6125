//! yamux: many streams over one byte stream, as hashicorp/yamux speaks it.
//!
//! Every frame is a header of twelve bytes ([`frame`]), and data frames a payload. The client
//! opens odd streams, the server even ones; a stream opens with an empty window update that
//! carries SYN, and its first data may follow at once. Each direction of a stream has a window of
//! 256 KiB: a sender stops when it is used up, a receiver renews it as its reader consumes. FIN
//! ends one direction, RST both.
//!
//! ```text
//!   Session ── open, accept, close ──┐            ┌── Driver (one task, owns the byte stream):
//!   Stream ─── read, write, FIN ─────┤── Core ────┤   bytes in, all queued frames out in one
//!   Stream ─── …                     │  (pure)    │   write, one timer
//! ```
//!
//! `Core` decides everything, without a clock, a task or a waker. Streams take data from it and
//! put frames into it under one lock; the driver moves bytes. Nothing waits for a slow reader but
//! its own stream: its window runs dry and the other side stops, while pings are still answered.
//!
//! Written here rather than taken from the yamux crate (0.14), which opens a stream with DATA and
//! SYN in one frame, makes progress only while it is polled for inbound streams, and on a
//! go-away ends the session and loses what follows it.

mod config;
mod core;
mod driver;
mod error;
pub mod frame;

mod session;
mod shared;
mod state;
mod stream;

pub use config::Config;
pub use error::{CloseReason, OpenError, ProtocolError};
pub use session::{Pinger, Session};
pub use stream::Stream;
