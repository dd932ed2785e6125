//! The HTTP face over loopback.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, unreachable_pub, reason = "tests")]

mod building;
mod client;
mod golden;
mod logs;
mod ownership;
mod requests;
mod serving;
mod shapes;
mod sockets;
mod watches;
mod world;
