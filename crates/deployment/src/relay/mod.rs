//! A DERP relay and STUN.

/// The relay.
#[derive(Clone, Debug)]
pub struct Relay {}
