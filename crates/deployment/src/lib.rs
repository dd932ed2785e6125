//! An embedded Coder-compatible deployment, in one process: control plane, coordinator, relay,
//! provisioner, and the agents of its workspaces.
//!
//! ```text
//!   http ── REST, watch, logs ──┐                        ┌── store (SQLite, PostgreSQL)
//!   rpc ─── agents ─────────────┼── decide (pure tables) ┤
//!   coordinator ── tailnet ─────┤                        └── pubsub (in process, LISTEN/NOTIFY)
//!   relay ── DERP, STUN         └── provisioner ── builds, prebuilds, claims ── agents
//! ```
//!
//! It writes its own JSON and decides for itself; nothing is shared with the client but the wire.

pub mod config;
pub mod coordinator;
pub mod decide;
pub mod deployment;
pub mod faults;
pub mod http;
pub mod model;
pub mod provisioner;
pub mod pubsub;
pub mod relay;
mod replicas;
pub mod rpc;
pub mod state;
pub mod store;

pub use config::Config;
pub use deployment::Deployment;
