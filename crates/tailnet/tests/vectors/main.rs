//! Bytes and texts that others made: computed with independent programs, or recorded from the
//! reference implementation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod derp;
mod derp_map;
mod disco;
mod hostile;
mod ids;
mod keys;
mod node;
mod recorded;
mod stun;
mod tsmp;

use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate, RelayPrivate};

/// Bytes from hexadecimal text; blanks do not count.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    to_hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn seed(label: &str) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, label.as_bytes()).as_ref().try_into().unwrap()
}

/// Consecutive bytes, as the vectors use them for nonces.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

fn client_key() -> NodePrivate {
    NodePrivate::new(seed("coder-rs test node private key"))
}

fn agent_key() -> NodePrivate {
    NodePrivate::new(seed("coder-rs test agent node private key"))
}

fn relay_key() -> RelayPrivate {
    RelayPrivate::new(seed("coder-rs test derp server private key"))
}

fn disco_a() -> DiscoPrivate {
    DiscoPrivate::new(seed("coder-rs test disco private key A"))
}

fn disco_b() -> DiscoPrivate {
    DiscoPrivate::new(seed("coder-rs test disco private key B"))
}
