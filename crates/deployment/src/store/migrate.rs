//! The database's shape, brought up to date when a process starts.

use super::{StoreError, db::Db, row::Columns as _};

const DOING: &str = "bring its tables up to date";

/// Every step, in order; a step that was released is never changed, only followed by another.
const STEPS: &[(i64, &str)] = &[
    (1, include_str!("migrations/0001_control_plane.sql")),
    (2, include_str!("migrations/0002_template_drafts.sql")),
];

/// Brings the database up to date. Several processes may do so at once: they take turns.
///
/// # Errors
///
/// The database is newer than this program, or does not answer.
pub(crate) async fn migrate(db: &Db) -> Result<(), StoreError> {
    let mut tx = db.begin(DOING).await?;
    tx.lock_migrations().await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .execute(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?;
    let current = sqlx::query("SELECT MAX(version) AS version FROM schema_version")
        .fetch_one(tx.on())
        .await
        .map_err(StoreError::unavailable(DOING))?
        .maybe_int("version")?
        .unwrap_or(0);
    let newest = STEPS.last().map_or(0, |(version, _)| *version);
    if current > newest {
        return Err(StoreError::Unusable(format!(
            "the state was written by a newer version of this program: its tables are at version \
             {current}, this one knows {newest}; use the newer program"
        )));
    }
    for (version, text) in STEPS.iter().filter(|(version, _)| *version > current) {
        let text = text.replace("{{serial}}", tx.serial());
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(tx.on()).await.map_err(step_failed)?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(*version)
            .execute(tx.on())
            .await
            .map_err(StoreError::unavailable(DOING))?;
    }
    tx.commit(DOING).await
}

/// What a failed step means: of PostgreSQL, that a table is there already
/// (`duplicate_table` of its error codes), and so that the database is another program's.
fn step_failed(error: sqlx::Error) -> StoreError {
    const DUPLICATE_TABLE: &str = "42P07";
    let foreign = error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some(DUPLICATE_TABLE));
    if foreign {
        return StoreError::Unusable(format!(
            "the PostgreSQL database holds tables of another program ({error}); nothing was \
             changed; give it an empty database"
        ));
    }
    StoreError::unavailable(DOING)(error)
}
