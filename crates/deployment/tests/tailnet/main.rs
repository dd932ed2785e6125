//! The relay and the coordinator, with the clients of the tailnet crate and with worse ones.
#![allow(clippy::unwrap_used, reason = "tests")]

mod coordinator;
mod mesh;
mod peers;
mod relay;
mod replicas;
mod support;
