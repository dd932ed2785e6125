//! The binary against a real Coder deployment.
//!
//! Runs when `CODERCTL_TEST_URL` and `CODERCTL_TEST_TOKEN` are set, and says loudly that it was
//! skipped otherwise. Workspaces that the deployment needs (own, of the token's user):
//!
//! | name | state |
//! | --- | --- |
//! | `dev` | running, one agent, on this machine (forwards are checked against local listeners) |
//! | `stopped-one` | stopped, with a blocking start script; it is started by a test |
//! | `two` | running, agents `cpu` (connected) and `gpu` |
//! | `noagent` | running, without an agent |
//! | `fails`, `timeouts` | running, a blocking start script that failed, that timed out |
//! | `badbuild` | its latest start build failed |
//! | `survivor` | its agent process survives a stop and a start |
//!
//! What only the host can do is a shell command in a variable, each optional (its tests are then
//! skipped loudly): `CODERCTL_TEST_RESTART_SERVER`, `CODERCTL_TEST_RESTART_AGENT` (of `dev`),
//! `CODERCTL_TEST_STOP` and `CODERCTL_TEST_START` (the workspace's name is their `$1`).
//! `CODERCTL_TEST_CONTAINER` is a workspace and a container that its agent knows, as
//! `WORKSPACE/CONTAINER`. `CODERCTL_TEST_TLS_URL` and `CODERCTL_TEST_CA` are the deployment by TLS and the
//! file of its authority.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod connect;
mod faults;
mod forward;
mod openssh;
#[path = "../common/openssh.rs"]
mod openssh_options;
#[path = "../common/protocols.rs"]
mod protocols;
mod protocols_through_forwards;
#[path = "../common/services.rs"]
mod services;
mod session;
mod support;
