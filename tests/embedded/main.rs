//! The binary against the deployment that it carries: `coderctl server` and `coderctl demo`, with
//! agents in the server's process, as processes of their own, and started by hand.
//!
//! Nothing is scripted here: what client, deployment and agent say to each other is the real wire.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod demo;
mod server;
mod support;
