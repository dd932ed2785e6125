//! Templates, builds, prebuilds, claims, and the agents of workspaces.

pub mod template;

/// Runs builds.
#[derive(Clone, Debug)]
pub struct Provisioner {}
