//! Templates, builds, prebuilds, claims, and the agents of workspaces.

/// Runs builds.
#[derive(Clone, Debug)]
pub struct Provisioner {}
