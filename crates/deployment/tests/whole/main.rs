//! Whole deployments in this process, with their own agents or scripted ones.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod builds;
mod claims;
mod control;
mod reinit;
mod replicas;
mod rpc;
mod world;
