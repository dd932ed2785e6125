//! The binary against the deployment that it carries: `coderctl server` and `coderctl demo`, with
//! agents in the server's process and started by hand.
//!
//! Nothing is scripted here: what client, deployment and agent say to each other is the real wire.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a failed step fails the test")]

mod claims;
mod commands;
mod configured;
mod containers;
mod crash;
mod demo;
mod ends;
mod examples;
mod files;
mod forwards;
mod gpg;
mod limits;
mod measuring;
mod midway;
mod openssh;
#[path = "../common/openssh.rs"]
mod openssh_options;
#[path = "../common/protocols.rs"]
mod protocols;
mod protocols_through_forwards;
mod replicas;
mod server;
mod sessions;
mod shells;
mod states;
mod support;
