//! Templates, their versions and presets.

use sqlx::any::{AnyExecutor, AnyRow};
use uuid::Uuid;

use super::{
    Store, StoreError,
    db::Tx,
    drafts::forget_draft,
    row::{Columns as _, corrupt, to_json, to_millis},
    users::found,
};
use crate::{
    decide::Conflict,
    model::{Preset, Template, TemplateVersion, Timestamp},
};

fn template(row: &AnyRow) -> Result<Template, StoreError> {
    Ok(Template {
        id: row.uuid("id")?,
        name: row.text("name")?,
        display_name: row.text("display_name")?,
        active_version_id: row.uuid("active_version_id")?,
        allow_user_cancel_workspace_jobs: row.flag("allow_user_cancel_workspace_jobs")?,
        require_active_version: row.flag("require_active_version")?,
        default_ttl: match row.maybe_int("default_ttl_ms")? {
            None => None,
            Some(_) => Some(row.millis("default_ttl_ms")?),
        },
        deleted: row.flag("deleted")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn template_version(row: &AnyRow) -> Result<TemplateVersion, StoreError> {
    Ok(TemplateVersion {
        id: row.uuid("id")?,
        template_id: row.uuid("template_id")?,
        name: row.text("name")?,
        source: row.text("source")?,
        created_by: row.uuid("created_by")?,
        created_at: row.time("created_at")?,
    })
}

fn preset(row: &AnyRow) -> Result<Preset, StoreError> {
    Ok(Preset {
        id: row.uuid("id")?,
        template_version_id: row.uuid("template_version_id")?,
        name: row.text("name")?,
        is_default: row.flag("is_default")?,
        parameters: row.json("parameters")?,
        desired_prebuilds: u32::try_from(row.int("desired_prebuilds")?)
            .map_err(|error| corrupt("desired_prebuilds", error))?,
        created_at: row.time("created_at")?,
    })
}

pub(super) async fn template_by_id(
    db: impl AnyExecutor<'_>,
    id: Uuid,
) -> Result<Template, StoreError> {
    let row = sqlx::query("SELECT * FROM templates WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(StoreError::unavailable("read a template"))?
        .ok_or(StoreError::NotFound("template"))?;
    template(&row)
}

async fn insert_version(
    tx: &mut Tx,
    version: &TemplateVersion,
    presets: &[Preset],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO template_versions (id, template_id, name, source, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(version.id.to_string())
    .bind(version.template_id.to_string())
    .bind(version.name.as_str())
    .bind(version.source.as_str())
    .bind(version.created_by.to_string())
    .bind(version.created_at.micros())
    .execute(tx.on())
    .await
    .map_err(StoreError::unless_unique(
        "keep a template version",
        Conflict::NameTaken(format!("A template version named {:?}", version.name)),
    ))?;
    forget_draft(tx, version.id).await?;
    for preset in presets {
        sqlx::query(
            "INSERT INTO presets (id, template_version_id, name, is_default, parameters,
                desired_prebuilds, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(preset.id.to_string())
        .bind(version.id.to_string())
        .bind(preset.name.as_str())
        .bind(i64::from(preset.is_default))
        .bind(to_json(&preset.parameters))
        .bind(i64::from(preset.desired_prebuilds))
        .bind(preset.created_at.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unless_unique(
            "keep a preset",
            Conflict::NameTaken(format!("A preset named {:?}", preset.name)),
        ))?;
    }
    Ok(())
}

impl Store {
    /// Keeps a new template with its first version, which is its active one, and that version's
    /// presets.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`] if another template, or another preset of the version, has the
    /// name.
    pub async fn create_template(
        &self,
        template: &Template,
        version: &TemplateVersion,
        presets: &[Preset],
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep a template";
        let mut tx = self.db.begin(DOING).await?;
        sqlx::query(
            "INSERT INTO templates (id, name, display_name, active_version_id,
                allow_user_cancel_workspace_jobs, require_active_version, default_ttl_ms, deleted,
                created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(template.id.to_string())
        .bind(template.name.as_str())
        .bind(template.display_name.as_str())
        .bind(version.id.to_string())
        .bind(i64::from(template.allow_user_cancel_workspace_jobs))
        .bind(i64::from(template.require_active_version))
        .bind(template.default_ttl.map(to_millis))
        .bind(i64::from(template.deleted))
        .bind(template.created_at.micros())
        .bind(template.updated_at.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unless_unique(
            DOING,
            Conflict::NameTaken(format!("A template named {:?}", template.name)),
        ))?;
        insert_version(&mut tx, version, presets).await?;
        tx.commit(DOING).await
    }

    /// Keeps a new version of a template, with its presets, and makes it the active one.
    ///
    /// # Errors
    ///
    /// [`Conflict::NameTaken`] if another version of the template has the name;
    /// [`StoreError::NotFound`] if there is no such template.
    pub async fn add_template_version(
        &self,
        version: &TemplateVersion,
        presets: &[Preset],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep a template version";
        let mut tx = self.db.begin(DOING).await?;
        let done = sqlx::query(
            "UPDATE templates SET active_version_id = $2, updated_at = $3
             WHERE id = $1 AND deleted = 0",
        )
        .bind(version.template_id.to_string())
        .bind(version.id.to_string())
        .bind(now.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        found(done.rows_affected(), "template")?;
        insert_version(&mut tx, version, presets).await?;
        tx.commit(DOING).await
    }

    /// The template with this id, deleted ones too.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn template(&self, id: Uuid) -> Result<Template, StoreError> {
        template_by_id(&self.db.reader, id).await
    }

    /// The template of this name that is not deleted, without regard to case.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn template_by_name(&self, name: &str) -> Result<Template, StoreError> {
        let row =
            sqlx::query("SELECT * FROM templates WHERE lower(name) = lower($1) AND deleted = 0")
                .bind(name)
                .fetch_optional(&self.db.reader)
                .await
                .map_err(StoreError::unavailable("read a template"))?
                .ok_or(StoreError::NotFound("template"))?;
        template(&row)
    }

    /// The templates that are not deleted, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn templates(&self) -> Result<Vec<Template>, StoreError> {
        sqlx::query("SELECT * FROM templates WHERE deleted = 0 ORDER BY name")
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the templates"))?
            .iter()
            .map(template)
            .collect()
    }

    /// The version with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn template_version(&self, id: Uuid) -> Result<TemplateVersion, StoreError> {
        let row = sqlx::query("SELECT * FROM template_versions WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a template version"))?
            .ok_or(StoreError::NotFound("template version"))?;
        template_version(&row)
    }

    /// The versions of a template, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn template_versions(
        &self,
        template_id: Uuid,
    ) -> Result<Vec<TemplateVersion>, StoreError> {
        sqlx::query(
            "SELECT * FROM template_versions WHERE template_id = $1 ORDER BY created_at, id",
        )
        .bind(template_id.to_string())
        .fetch_all(&self.db.reader)
        .await
        .map_err(StoreError::unavailable("read the versions of a template"))?
        .iter()
        .map(template_version)
        .collect()
    }

    /// The presets of a version, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn presets(&self, template_version_id: Uuid) -> Result<Vec<Preset>, StoreError> {
        sqlx::query("SELECT * FROM presets WHERE template_version_id = $1 ORDER BY name")
            .bind(template_version_id.to_string())
            .fetch_all(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read the presets of a version"))?
            .iter()
            .map(preset)
            .collect()
    }

    /// The preset with this id.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn preset(&self, id: Uuid) -> Result<Preset, StoreError> {
        let row = sqlx::query("SELECT * FROM presets WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a preset"))?
            .ok_or(StoreError::NotFound("preset"))?;
        preset(&row)
    }
}
