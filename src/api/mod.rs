//! The control plane as a client sees it: REST calls, the connection watch, build and agent logs.
//!
//! ```text
//!   Client ── GET, POST ──► types      only the fields that are read
//!     ├───── Watch ───────► facts      WebSocket; event stream where a server lacks it
//!     └───── logs ────────► lines      followed, each line once
//! ```
//!
//! Paths are rooted at `/api/v2` of the deployment's host. Calls without effect are tried again
//! when the server is unwell; a call with an effect only if it surely did not arrive.

mod builds;
mod client;
mod error;
mod follow;
#[cfg(test)]
mod tests;
mod types;
mod users;
mod watch;

pub use builds::{
    BuildRequest, NewWorkspace, Organization, Parameter, Preset, Reason, Template, TemplateVersion,
    Transition,
};
pub use client::{Client, Token};
pub use error::Error;
pub use follow::LogLine;
pub use types::{
    Agent, Build, BuildInfo, ConnectionInfo, Health, Job, LogSource, Resource, Script, Workspace,
};
pub use users::{Role, User};
pub use watch::{Fact, Watch, WatchError};
