//! A network in virtual time, and engines that meet on it.
//!
//! ```text
//!   engine A ──► link (rate, delay, jitter, loss, …) ──► relay queue for B ──► link ──► engine B
//! ```
//!
//! Time jumps from one event to the next, so an hour takes a moment. Everything random comes from
//! one seed: a failing run is repeated by repeating its seed.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part")]

pub(crate) mod link;
pub(crate) mod nat;
pub(crate) mod peer;
pub(crate) mod traffic;
pub(crate) mod world;

pub(crate) use link::LinkConfig;
pub(crate) use peer::{Kind, SimPeer};
pub(crate) use world::World;
