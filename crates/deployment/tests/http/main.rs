//! The HTTP face over loopback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
mod serving;
mod sockets;
