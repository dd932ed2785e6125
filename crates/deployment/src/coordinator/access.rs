//! Who may reach which agent, as the store has it.

use uuid::Uuid;

use super::{Access, AccessError, AccessFuture};
use crate::{
    model::{Role, UserStatus},
    store::{Store, StoreError},
};

/// The owner of an agent's workspace may reach it, and whoever may do everything
/// (coder/coder: coderd/rbac/roles.go, `ActionSSH`).
impl Access for Store {
    fn may_reach(&self, user: Uuid, agent: Uuid) -> AccessFuture<'_> {
        Box::pin(async move {
            match may_reach(self, user, agent).await {
                Ok(may) => Ok(may),
                Err(StoreError::NotFound(_)) => Ok(false),
                Err(error) => Err(AccessError(error.into())),
            }
        })
    }
}

async fn may_reach(store: &Store, user: Uuid, agent: Uuid) -> Result<bool, StoreError> {
    let agent = store.agent(agent).await?;
    let workspace = store.workspace(agent.workspace_id).await?;
    if agent.deleted || workspace.deleted {
        return Ok(false);
    }
    // Asked anew for each tunnel: what a user may do can change while they are connected.
    let user = store.user(user).await?;
    let may = match user.role {
        Role::Owner => true,
        Role::Member => workspace.owner_id == user.id,
    };
    Ok(may && user.status != UserStatus::Suspended)
}
