//! A workspace agent, for the embedded deployment and for a real Coder server.
//!
//! ```text
//!   supervisor ── one Agent at a time ── session ── Agent API (dRPC) ── manifest, logs, lifecycle, stats …
//!       │                                  │
//!       └── reinit (claims, new agent id)  └── tailnet ── ssh (1, 22) · pty (2) · speedtest (3) · http (4) · any port
//! ```

pub mod pty;
pub mod ssh;
