//! Templates, their versions, and presets.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Timestamp;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its id.
    pub id: Uuid,
    /// The name in URLs; unique among those not deleted, without regard to case.
    pub name: String,
    /// The name for people; may be empty.
    pub display_name: String,
    /// The version of new builds.
    pub active_version_id: Uuid,
    /// Whether users may cancel builds of its workspaces.
    pub allow_user_cancel_workspace_jobs: bool,
    /// Whether builds must use the active version.
    pub require_active_version: bool,
    /// How long a new workspace runs before it is stopped; none for ever.
    pub default_ttl: Option<std::time::Duration>,
    /// Whether it is gone.
    pub deleted: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// What a template was at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateVersion {
    /// Its id.
    pub id: Uuid,
    /// Of which template.
    pub template_id: Uuid,
    /// Its name; unique within the template.
    pub name: String,
    /// The template itself: TOML text.
    pub source: String,
    /// Who made it.
    pub created_by: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Named parameter values of a template version, perhaps with prebuilt instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// Its id.
    pub id: Uuid,
    /// Of which version.
    pub template_version_id: Uuid,
    /// Its name; unique within the version.
    pub name: String,
    /// Whether it is the one to offer first.
    pub is_default: bool,
    /// Parameter values by name.
    pub parameters: BTreeMap<String, String>,
    /// How many prebuilt workspaces to keep; 0 for none.
    pub desired_prebuilds: u32,
    /// When it was made.
    pub created_at: Timestamp,
}
