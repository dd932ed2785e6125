//! `codersdk/users.go`, `codersdk/organizations.go`.

use serde::Serialize;
use uuid::Uuid;

use super::{ORGANIZATION, ORGANIZATION_ID};
use crate::model::{self, Timestamp, UserStatus};

/// A user.
#[derive(Debug, Serialize)]
pub(in crate::http) struct User {
    id: Uuid,
    username: String,
    name: String,
    email: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_seen_at: Timestamp,
    status: UserStatus,
    login_type: &'static str,
    organization_ids: [Uuid; 1],
    roles: Vec<Role>,
    has_ai_seat: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Role {
    name: &'static str,
    display_name: &'static str,
}

/// What a user may do beyond what every member may.
fn roles(user: &model::User) -> Vec<Role> {
    match user.role {
        model::Role::Owner => vec![Role { name: "owner", display_name: "Owner" }],
        model::Role::Member => Vec::new(),
    }
}

/// Nobody has a password here (`codersdk.LoginTypeNone` for system users, tokens for all others).
fn login_type(user: &model::User) -> &'static str {
    if user.is_system { "none" } else { "token" }
}

impl User {
    pub(in crate::http) fn new(user: model::User) -> Self {
        Self {
            id: user.id,
            roles: roles(&user),
            login_type: login_type(&user),
            username: user.username,
            name: user.name,
            email: user.email,
            created_at: user.created_at,
            updated_at: user.updated_at,
            last_seen_at: user.last_seen_at.unwrap_or(user.created_at),
            status: user.status,
            organization_ids: [ORGANIZATION_ID],
            has_ai_seat: false,
        }
    }
}

/// A user as a member of the organization.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Member {
    username: String,
    name: String,
    email: String,
    status: UserStatus,
    login_type: &'static str,
    last_seen_at: Timestamp,
    user_created_at: Timestamp,
    user_updated_at: Timestamp,
    global_roles: Vec<Role>,
    has_ai_seat: bool,
    user_id: Uuid,
    organization_id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    roles: [(); 0],
}

impl Member {
    pub(in crate::http) fn new(user: model::User) -> Self {
        Self {
            global_roles: roles(&user),
            login_type: login_type(&user),
            username: user.username,
            name: user.name,
            email: user.email,
            status: user.status,
            last_seen_at: user.last_seen_at.unwrap_or(user.created_at),
            user_created_at: user.created_at,
            user_updated_at: user.updated_at,
            has_ai_seat: false,
            user_id: user.id,
            organization_id: ORGANIZATION_ID,
            created_at: user.created_at,
            updated_at: user.created_at,
            roles: [],
        }
    }
}

/// The organization.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Organization {
    id: Uuid,
    name: &'static str,
    display_name: &'static str,
    icon: &'static str,
    description: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
    is_default: bool,
}

impl Organization {
    pub(in crate::http) const fn the_one() -> Self {
        Self {
            id: ORGANIZATION_ID,
            name: ORGANIZATION,
            display_name: "Coder",
            icon: "",
            description: "Builtin default organization.",
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
            is_default: true,
        }
    }
}
