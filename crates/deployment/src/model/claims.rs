//! What an agent is told when its prebuilt workspace is claimed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The only reason to start over that Coder knows (`codersdk/agentsdk/agentsdk.go`).
pub const PREBUILD_CLAIMED: &str = "prebuild_claimed";

/// Tells an agent to start over (`codersdk/agentsdk/agentsdk.go`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReinitEvent {
    /// Which workspace.
    pub workspace_id: Uuid,
    /// Why: [`PREBUILD_CLAIMED`], or whatever an old publisher wrote.
    pub reason: String,
    /// The new owner; none from an old publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<Uuid>,
}

impl ReinitEvent {
    /// The workspace was claimed.
    #[must_use]
    pub fn claimed(workspace_id: Uuid, owner_id: Uuid) -> Self {
        Self {
            workspace_id,
            reason: PREBUILD_CLAIMED.to_owned(),
            owner_id: (!owner_id.is_nil()).then_some(owner_id),
        }
    }
}
