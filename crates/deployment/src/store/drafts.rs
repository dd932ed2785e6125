//! Templates on their way: uploaded files, and versions that no template has yet.
//!
//! Coder makes a template in three calls: a file is uploaded, a version is made of it, and then a
//! template of the version. What lies between two of them is kept for some minutes: a client that
//! finds it gone begins anew.

use std::time::Duration;

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{Store, StoreError, db::Tx, row::Columns as _};
use crate::model::{TemplateDraft, TemplateFile, Timestamp};

/// How long one is kept.
pub const DRAFTS_KEPT: Duration = Duration::from_secs(15 * 60);

/// How many are kept of each kind; the oldest make room. At most 256 KiB each.
pub const MOST_DRAFTS: i64 = 64;

const DOING: &str = "keep a template that is on its way";

fn file(row: &AnyRow) -> Result<TemplateFile, StoreError> {
    Ok(TemplateFile {
        id: row.uuid("id")?,
        source: row.text("source")?,
        created_by: row.uuid("created_by")?,
        created_at: row.time("created_at")?,
    })
}

fn draft(row: &AnyRow) -> Result<TemplateDraft, StoreError> {
    Ok(TemplateDraft {
        id: row.uuid("id")?,
        template_id: row.maybe_uuid("template_id")?,
        name: row.text("name")?,
        source: row.text("source")?,
        created_by: row.uuid("created_by")?,
        created_at: row.time("created_at")?,
    })
}

/// Forgets those whose time is over, and those for which there is no room.
async fn forget_old(tx: &mut Tx, table: &str, now: Timestamp) -> Result<(), StoreError> {
    let statement = format!(
        "DELETE FROM {table} WHERE created_at <= $1 OR id NOT IN
            (SELECT id FROM {table} ORDER BY created_at DESC, id LIMIT $2)"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(oldest(now))
        .bind(MOST_DRAFTS)
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
    Ok(())
}

/// What was made then or before is forgotten.
fn oldest(now: Timestamp) -> i64 {
    now.minus(DRAFTS_KEPT).micros()
}

/// A version is a template's from now on.
pub(super) async fn forget_draft(tx: &mut Tx, id: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM template_drafts WHERE id = $1")
        .bind(id.to_string())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
    Ok(())
}

impl Store {
    /// Keeps an uploaded file for a while.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn keep_template_file(&self, file: &TemplateFile) -> Result<(), StoreError> {
        let mut tx = self.db.begin(DOING).await?;
        sqlx::query(
            "INSERT INTO template_files (id, source, created_by, created_at)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(file.id.to_string())
        .bind(file.source.as_str())
        .bind(file.created_by.to_string())
        .bind(file.created_at.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        forget_old(&mut tx, "template_files", file.created_at).await?;
        tx.commit(DOING).await
    }

    /// A file that this user uploaded, if it is still kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn template_file(
        &self,
        id: Uuid,
        by: Uuid,
        now: Timestamp,
    ) -> Result<Option<TemplateFile>, StoreError> {
        let row = self.recent("template_files", id, by, now).await?;
        row.as_ref().map(file).transpose()
    }

    /// Keeps a version that no template has yet for a while.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn keep_template_draft(&self, draft: &TemplateDraft) -> Result<(), StoreError> {
        let mut tx = self.db.begin(DOING).await?;
        sqlx::query(
            "INSERT INTO template_drafts (id, template_id, name, source, created_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(draft.id.to_string())
        .bind(draft.template_id.map(|id| id.to_string()))
        .bind(draft.name.as_str())
        .bind(draft.source.as_str())
        .bind(draft.created_by.to_string())
        .bind(draft.created_at.micros())
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
        forget_old(&mut tx, "template_drafts", draft.created_at).await?;
        tx.commit(DOING).await
    }

    /// A version that this user made and no template has, if it is still kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn template_draft(
        &self,
        id: Uuid,
        by: Uuid,
        now: Timestamp,
    ) -> Result<Option<TemplateDraft>, StoreError> {
        let row = self.recent("template_drafts", id, by, now).await?;
        row.as_ref().map(draft).transpose()
    }

    async fn recent(
        &self,
        table: &str,
        id: Uuid,
        by: Uuid,
        now: Timestamp,
    ) -> Result<Option<AnyRow>, StoreError> {
        let statement =
            format!("SELECT * FROM {table} WHERE id = $1 AND created_by = $2 AND created_at > $3");
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(id.to_string())
            .bind(by.to_string())
            .bind(oldest(now))
            .fetch_optional(&self.db.reader)
            .await
            .map_err(StoreError::unavailable("read a template that is on its way"))
    }
}
