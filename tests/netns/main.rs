//! The binary on networks of this machine's own, made of network namespaces: behind NATs of every
//! kind and firewalls, over links that lose and reorder, with relays that freeze and die.
//!
//! ```text
//!   client ── router (NAT) ── link ─┐
//!                                 core ── server (relay, STUN)
//!   agent ─── router (NAT) ─────────┘
//! ```
//!
//! Opt-in, for it needs root, `ip` and `iptables`: `CODERCTL_TEST_NETNS` says how many MiB are
//! carried each way in every case. The cases take turns, and each tells what it saw:
//!
//! ```text
//! CODERCTL_TEST_NETNS=256 cargo test --test netns
//! ```
//!
//! `CODERCTL_TEST_NETNS_AGENT` names another program whose `agent` takes part in place of ours, and
//! `CODERCTL_TEST_NETNS_CLIENT` one whose `port-forward` does: connections survive the same, but for
//! how long nothing comes is not ours to promise then. One of the two is ours, for its log tells which
//! way is taken.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../embedded/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "shared; each program uses its own part"
)]
mod support;

/// The link of the simulated network: here it carries frames, and time is real.
#[path = "../../crates/tailnet/tests/sim/link.rs"]
#[allow(dead_code, reason = "shared; each program uses its own part")]
mod link;

/// What the simulated network has between its hosts as well.
#[path = "../../crates/tailnet/tests/sim/nat.rs"]
mod nat;

mod cases;
mod exchange;
mod front;
mod namespace;
mod nats;
mod netcheck;
mod network;
mod scene;
mod wire;
