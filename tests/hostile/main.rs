//! The binary against a scripted deployment in this process: REST, watch, coordinator, relay and an
//! agent with real WireGuard and SSH. First the whole path as it should be, then one fault at a
//! time, each of which must end in one clear error, without a hang, a panic, a token or a raw
//! escape in any output.
//!
//! ```text
//!   coderctl ──┬─ REST, watch, logs ── deployment ── what a test scripts
//!              ├─ WebSocket ────────── coordinator ─┐
//!              └─ upgrade ──────────── relay ────── agent ── SSH · a small service
//! ```

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod agent;
mod builds;
mod coordinator;
mod deployment;
mod garbage;
mod http;
mod path;
mod program;
mod refusals;
mod relay;
mod run_under;
mod silence;
mod words;

#[path = "../../crates/ssh/tests/server/mod.rs"]
mod ssh_server;
