//! What the deployment says, as JSON: the field names and forms of `codersdk/*.go`.
//!
//! Go writes fields without `omitempty` always and leaves out the others when they are empty; an
//! absent time is `null` without `omitempty`. These types say the same. Durations are in the unit
//! that the field names, or in nanoseconds, as Go's own.

mod agent;
mod build;
mod key;
mod template;
mod user;
mod workspace;

pub(super) use self::{agent::*, build::*, key::*, template::*, user::*, workspace::*};
use uuid::{Uuid, uuid};

/// The one organization of a deployment; the same in every deployment, so that replicas agree.
pub(super) const ORGANIZATION_ID: Uuid = uuid!("0c0de2c7-1d00-4000-8000-000000000001");
/// Its name.
pub(super) const ORGANIZATION: &str = "coder";
