//! Tailnet coordination: who may reach whom, and where.

/// Peers and tunnels of this deployment.
#[derive(Clone, Debug)]
pub struct Coordinator {}
