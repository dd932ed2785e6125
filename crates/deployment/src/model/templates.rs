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

/// A file that was uploaded for a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFile {
    /// Its id.
    pub id: Uuid,
    /// What it holds: TOML text, if it is a template.
    pub source: String,
    /// Who uploaded it.
    pub created_by: Uuid,
    /// When that was.
    pub created_at: Timestamp,
}

/// A version that no template has yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateDraft {
    /// Its id.
    pub id: Uuid,
    /// Of which template it is to be a version; none for one that is to be made.
    pub template_id: Option<Uuid>,
    /// Its name.
    pub name: String,
    /// TOML text, which may be no template.
    pub source: String,
    /// Who made it.
    pub created_by: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TemplateDraft {
    /// As a version of this template.
    #[must_use]
    pub fn into_version(self, template_id: Uuid) -> TemplateVersion {
        let Self { id, template_id: _, name, source, created_by, created_at } = self;
        TemplateVersion { id, template_id, name, source, created_by, created_at }
    }
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
