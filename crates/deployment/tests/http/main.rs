//! The HTTP face over loopback.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod client;
mod golden;
mod ownership;
mod requests;
mod serving;
mod shapes;
mod sockets;
mod world;
