//! Who uses the deployment.

use uuid::{Uuid, uuid};

use super::{Timestamp, words};

/// The system user that owns prebuilt workspaces until they are claimed (`coderd/database`).
pub const PREBUILDS_USER: Uuid = uuid!("c42fdf75-3097-471c-8c33-fb52454d81c0");
/// Its name.
pub const PREBUILDS_USERNAME: &str = "prebuilds";

words! {
    /// Whether a user may use the deployment (`codersdk/users.go`).
    pub enum UserStatus ("user status") {
        /// May.
        Active = "active",
        /// Has not been seen for long.
        Dormant = "dormant",
        /// May not.
        Suspended = "suspended",
    }
}

words! {
    /// What a user may do beyond their own workspaces.
    pub enum Role ("role") {
        /// Everything.
        Owner = "owner",
        /// Their own workspaces.
        Member = "member",
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: Uuid,
    /// The name in URLs; unique without regard to case.
    pub username: String,
    /// Unique without regard to case.
    pub email: String,
    /// The name for people; may be empty.
    pub name: String,
    /// Whether they may use the deployment.
    pub status: UserStatus,
    /// What they may do.
    pub role: Role,
    /// No person: the owner of prebuilt workspaces.
    pub is_system: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// When they were last seen.
    pub last_seen_at: Option<Timestamp>,
}

/// A user to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Its id.
    pub id: Uuid,
    /// The name in URLs.
    pub username: String,
    /// The address.
    pub email: String,
    /// The name for people; may be empty.
    pub name: String,
    /// What they may do.
    pub role: Role,
}
