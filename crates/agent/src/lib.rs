//! A workspace agent, for the embedded deployment and for a real Coder server.
//!
//! ```text
//!   supervisor ── one Agent at a time ── session ── Agent API (dRPC) ── manifest, logs, lifecycle, stats …
//!       │                                  │
//!       └── reinit (claims, new agent id)  └── tailnet ── ssh (1, 22) · pty (2) · speedtest (3) · http (4) · any port
//! ```
//!
//! [`run`] is all that is needed to have one; any number may run in one process.

mod agent;
mod api;
mod app_health;
mod backoff;
mod claims;
mod containers;
mod environment;
mod lifecycle;
mod logs;
mod manifest;
mod metadata;
mod options;
mod ports;
pub mod pty;
mod reinit;
mod reports;
mod resources;
mod scripts;
mod server;
mod services;
mod session;
mod sessions;
mod speedtest;
pub mod ssh;
mod stats;
mod supervisor;
mod tailnet;
mod terminals;
#[cfg(test)]
mod tests;
mod token;

pub use options::{Login, LoginError, OnNewAgentId, Options};
pub use services::{Handler, Services, Serving};
pub use supervisor::{Error, run};
pub use token::{NoToken, Refreshing, Token, TokenSource};
