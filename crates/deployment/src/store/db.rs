//! The databases: how each is opened, what differs between them.
//!
//! All else is one SQL text for both, through sqlx's `Any` driver, with what both understand: `$1`
//! placeholders, TEXT and BIGINT. What differs:
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | a transaction that writes | `BEGIN IMMEDIATE`, one connection: writers take turns | `READ COMMITTED` and a row lock on the workspace, job or agent that it is about |
//! | the next job | the first | the first that nobody has locked |
//! | several reads at one moment | a transaction | `REPEATABLE READ` |
//! | a number that counts up | `AUTOINCREMENT` | an identity column |
//! | migrations at the same time | the write lock | an advisory lock |

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use futures_util::FutureExt as _;
use sqlx::{
    Any, AnyPool, Executor as _, Transaction,
    any::{AnyPoolOptions, AnyRow},
};
use uuid::Uuid;

use super::StoreError;
use crate::config::Storage;

/// The name of SQLite's file in the state's directory.
const FILE: &str = "state.sqlite";
/// Held as long as a process uses the directory.
const LOCK: &str = "state.lock";
/// How many connections read SQLite's file beside the one that writes: reads are short, and the
/// machine that this is for has few cores.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL per process. Its default limit is 100 for all.
const POSTGRES_CONNECTIONS: u32 = 10;
/// A replica that stops in the middle of a transaction (frozen, or cut off) keeps the rows that it
/// has locked: PostgreSQL ends it after 30 s. Nobody waits for a lock for longer than 10 s.
const POSTGRES_SESSION: &str =
    "SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '10s';";
/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) dialect: Dialect,
    /// For transactions that write.
    pub(crate) writer: AnyPool,
    /// For reads outside of them.
    pub(crate) reader: AnyPool,
    /// Keeps the lock on the directory, and in memory the database itself, which SQLite throws
    /// away with its last connection.
    _held: Held,
}

#[derive(Debug)]
enum Held {
    Nothing,
    Directory { _lock: DirectoryLock },
    Memory { _anchor: AnyPool },
}

/// The lock on the directory. It is given back, not only closed: a child process that is just being
/// started has a copy of the file for a moment, which would keep it.
#[derive(Debug)]
struct DirectoryLock(fs::File);

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the state's directory is not given back");
        }
    }
}

/// A row that several transactions may be about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock {
    Workspace(Uuid),
    Job(Uuid),
    Agent(Uuid),
}

/// What to do about a row that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    PassBy,
    WaitFor,
}

/// A transaction that writes. Dropped without a commit, nothing happened.
pub(crate) struct Tx {
    inner: Transaction<'static, Any>,
    dialect: Dialect,
}

impl Db {
    pub(crate) async fn open(storage: &Storage) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        match storage {
            Storage::Memory => Self::memory().await,
            Storage::Directory(directory) => Self::directory(directory).await,
            Storage::Postgres(url) => Self::postgres(url.expose()).await,
        }
    }

    async fn memory() -> Result<Self, StoreError> {
        // A name of its own, so that two deployments in one process are two. Only a name that
        // begins with `file:` is one that connections share (sqlite.org/inmemorydb.html).
        let url = format!("sqlite:file:{}?mode=memory&cache=shared", Uuid::new_v4());
        let pool = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .min_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect(&url)
        };
        let anchor = pool(1).await.map_err(opening)?;
        // One connection for all: with a shared cache, a reader would be refused while another
        // connection writes, instead of waiting for it.
        let writer = pool(1).await.map_err(opening)?;
        Ok(Self {
            dialect: Dialect::Sqlite,
            reader: writer.clone(),
            writer,
            _held: Held::Memory { _anchor: anchor },
        })
    }

    async fn directory(directory: &Path) -> Result<Self, StoreError> {
        let lock = prepare(directory)?;
        let path = directory.join(FILE);
        let url = sqlite_url(&path)?;
        let pool = |connections, pragmas: &'static str| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        connection.execute(sqlx::raw_sql(pragmas)).await?;
                        Ok(())
                    })
                })
                .connect(&url)
        };
        // With FULL, a commit has reached the disk when it returns, in WAL mode, too: what was
        // acknowledged outlives a power cut (sqlite.org/pragma.html#pragma_synchronous).
        let writer = pool(1, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
            .await
            .map_err(opening)?;
        let reader = pool(SQLITE_READERS, "PRAGMA query_only = ON;").await.map_err(opening)?;
        Ok(Self {
            dialect: Dialect::Sqlite,
            writer,
            reader,
            _held: Held::Directory { _lock: DirectoryLock(lock) },
        })
    }

    async fn postgres(url: &str) -> Result<Self, StoreError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(StoreError::Unusable(
                "the URL of PostgreSQL does not begin with postgres://".to_owned(),
            ));
        }
        let pool = AnyPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::raw_sql(POSTGRES_SESSION)).await?;
                    Ok(())
                })
            })
            .connect(url)
            .await
            .map_err(opening)?;
        Ok(Self {
            dialect: Dialect::Postgres,
            reader: pool.clone(),
            writer: pool,
            _held: Held::Nothing,
        })
    }

    /// Begins a transaction that writes.
    pub(crate) async fn begin(&self, doing: &'static str) -> Result<Tx, StoreError> {
        let begin = match self.dialect {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN",
        };
        self.begin_with(&self.writer, begin, doing).await
    }

    /// Begins a transaction that reads, and sees everything as it is at its first statement.
    pub(crate) async fn begin_read(&self) -> Result<Tx, StoreError> {
        let begin = match self.dialect {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        };
        self.begin_with(&self.reader, begin, "read several things at once").await
    }

    async fn begin_with(
        &self,
        pool: &AnyPool,
        begin: &'static str,
        doing: &'static str,
    ) -> Result<Tx, StoreError> {
        let pool = pool.clone();
        let inner = finish(async move { pool.begin_with(begin).await })
            .await
            .map_err(StoreError::unavailable(doing))?;
        Ok(Tx { inner, dialect: self.dialect })
    }
}

/// Goes on to the end, though the caller may be dropped (a client that hangs up). A driver whose
/// BEGIN or COMMIT is left in the middle cannot tell how far it came, and may throw the connection
/// away.
async fn finish<T: Send + 'static>(
    step: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, sqlx::Error> {
    match tokio::spawn(step.boxed()).await {
        Ok(result) => result,
        // The runtime is being shut down, or the driver panicked.
        Err(_) => Err(sqlx::Error::WorkerCrashed),
    }
}

impl Tx {
    /// The connection, for statements.
    pub(crate) fn on(&mut self) -> &mut sqlx::AnyConnection {
        &mut self.inner
    }

    /// Makes it so. Once this returns well, it stays so.
    pub(crate) async fn commit(self, doing: &'static str) -> Result<(), StoreError> {
        finish(self.inner.commit()).await.map_err(StoreError::unavailable(doing))
    }

    /// Undoes it, and waits until that is done; a transaction that is dropped is undone a little
    /// later, and holds its locks until then.
    pub(crate) async fn rollback(self) {
        if let Err(error) = finish(self.inner.rollback()).await {
            // Then the connection is lost, and the database undoes it by itself.
            tracing::debug!(%error, "a transaction could not be rolled back");
        }
    }

    /// Waits until no other transaction is about this row. To avoid deadlocks: first the
    /// workspace, then the job, then the agent.
    pub(crate) async fn lock(&mut self, lock: Lock) -> Result<(), StoreError> {
        // `NO KEY`: inserts of rows that refer to this one need not wait.
        let (statement, id) = match (self.dialect, lock) {
            // There is only one transaction that writes.
            (Dialect::Sqlite, _) => return Ok(()),
            (Dialect::Postgres, Lock::Workspace(id)) => {
                ("SELECT id FROM workspaces WHERE id = $1 FOR NO KEY UPDATE", id)
            }
            (Dialect::Postgres, Lock::Job(id)) => {
                ("SELECT id FROM jobs WHERE id = $1 FOR NO KEY UPDATE", id)
            }
            (Dialect::Postgres, Lock::Agent(id)) => {
                ("SELECT id FROM agents WHERE id = $1 FOR NO KEY UPDATE", id)
            }
        };
        sqlx::query(statement)
            .bind(id.to_string())
            .fetch_optional(self.on())
            .await
            .map_err(StoreError::unavailable("lock a row"))?;
        Ok(())
    }

    /// The first job that waits for a worker, or whose worker has let its lease run out; locked.
    pub(crate) async fn next_job(&mut self, now: i64) -> Result<Option<AnyRow>, StoreError> {
        let statement = match self.dialect {
            Dialect::Sqlite => {
                "SELECT * FROM jobs
                 WHERE completed_at IS NULL AND (worker_id IS NULL OR lease_until < $1)
                 ORDER BY created_at, id LIMIT 1"
            }
            Dialect::Postgres => {
                "SELECT * FROM jobs
                 WHERE completed_at IS NULL AND (worker_id IS NULL OR lease_until < $1)
                 ORDER BY created_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"
            }
        };
        sqlx::query(statement)
            .bind(now)
            .fetch_optional(self.on())
            .await
            .map_err(StoreError::unavailable("find a job"))
    }

    /// The oldest prebuilt workspace that runs with this preset, all its agents ready; locked.
    /// PostgreSQL passes by those that are locked, or waits for them.
    pub(crate) async fn next_prebuild(
        &mut self,
        owner: Uuid,
        preset: Uuid,
        locked: Locked,
    ) -> Result<Option<AnyRow>, StoreError> {
        const ELIGIBLE: &str = "SELECT w.* FROM workspaces w
             JOIN builds b ON b.workspace_id = w.id
              AND b.number = (SELECT MAX(number) FROM builds WHERE workspace_id = w.id)
             JOIN jobs j ON j.id = b.job_id
             WHERE w.owner_id = $1 AND b.preset_id = $2
               AND w.deleted = 0 AND w.dormant_at IS NULL
               AND b.transition = 'start' AND j.completed_at IS NOT NULL
               AND j.canceled_at IS NULL AND j.error IS NULL
               AND EXISTS (SELECT 1 FROM agents a WHERE a.build_id = b.id)
               AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.build_id = b.id
                    AND a.deleted = 0 AND a.parent_id IS NULL AND a.lifecycle <> 'ready')
             ORDER BY w.created_at, w.id LIMIT 1";
        let statement = match (self.dialect, locked) {
            (Dialect::Sqlite, _) => ELIGIBLE.to_owned(),
            (Dialect::Postgres, Locked::PassBy) => {
                format!("{ELIGIBLE} FOR NO KEY UPDATE OF w SKIP LOCKED")
            }
            (Dialect::Postgres, Locked::WaitFor) => format!("{ELIGIBLE} FOR NO KEY UPDATE OF w"),
        };
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(owner.to_string())
            .bind(preset.to_string())
            .fetch_optional(self.on())
            .await
            .map_err(StoreError::unavailable("find a prebuilt workspace"))
    }

    /// Lets no other process migrate at the same time.
    pub(crate) async fn lock_migrations(&mut self) -> Result<(), StoreError> {
        match self.dialect {
            Dialect::Sqlite => Ok(()),
            Dialect::Postgres => {
                // An arbitrary number, the same in every version: "coderctl" in ASCII.
                sqlx::query("SELECT pg_advisory_xact_lock($1)")
                    .bind(0x636f_6465_7263_746c_i64)
                    .execute(self.on())
                    .await
                    .map_err(StoreError::unavailable("lock the migrations"))?;
                Ok(())
            }
        }
    }

    /// What `{{serial}}` of a migration is.
    pub(crate) fn serial(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
            Dialect::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        }
    }
}

fn opening(source: sqlx::Error) -> StoreError {
    StoreError::unavailable("open it")(source)
}

/// Makes the directory and the file, for the owner alone, and takes the lock.
fn prepare(directory: &Path) -> Result<fs::File, StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;

    let unusable = |what: &str, error: io::Error| {
        StoreError::Unusable(format!(
            "the state's directory {} cannot be used: {what}: {error}",
            directory.display()
        ))
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| unusable("it cannot be made", error))?;
    let private = |name: &str| {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(name))
            .map_err(|error| unusable(name, error))
    };
    let lock = private(LOCK)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
        |error| {
            if error == rustix::io::Errno::WOULDBLOCK {
                StoreError::Unusable(format!(
                    "another process uses the state in {}; stop it, or share a PostgreSQL",
                    directory.display()
                ))
            } else {
                unusable("it cannot be locked", error.into())
            }
        },
    )?;
    // SQLite gives its journal files the mode of the database.
    let file = private(FILE)?;
    let metadata = file.metadata().map_err(|error| unusable("its mode cannot be read", error))?;
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
        fs::set_permissions(
            directory.join(FILE),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .map_err(|error| unusable("its mode cannot be set", error))?;
    }
    Ok(lock)
}

/// The URL of a file, whatever its path holds.
fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    use std::fmt::Write as _;
    let text = path.to_str().ok_or_else(|| {
        StoreError::Unusable(format!("the path of the state {} is not UTF-8", path.display()))
    })?;
    let mut url = "sqlite:".to_owned();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    async fn pragma(pool: &AnyPool, statement: &'static str) -> String {
        let row = sqlx::query(statement).fetch_one(pool).await.unwrap();
        sqlx::Row::try_get::<String, _>(&row, 0)
            .or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).map(|number| number.to_string()))
            .unwrap()
    }

    #[tokio::test]
    async fn commits_reach_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let db = Db::open(&Storage::Directory(root.path().join("state"))).await.unwrap();
        for (pool, statement, wanted) in [
            (&db.writer, "PRAGMA journal_mode", "wal"),
            // 2 is FULL.
            (&db.writer, "PRAGMA synchronous", "2"),
            (&db.writer, "PRAGMA foreign_keys", "1"),
            (&db.reader, "PRAGMA journal_mode", "wal"),
            (&db.reader, "PRAGMA query_only", "1"),
        ] {
            assert_eq!(pragma(pool, statement).await, wanted, "{statement}");
        }
        // Every reader, not only the first.
        let mut readers = vec![];
        for _ in 0..SQLITE_READERS {
            let mut reader = db.reader.acquire().await.unwrap();
            assert!(reader.execute("CREATE TABLE t (a BIGINT)").await.is_err());
            readers.push(reader);
        }
    }

    #[tokio::test]
    async fn what_is_in_memory_outlives_a_connection() {
        let db = Db::open(&Storage::Memory).await.unwrap();
        let mut connection = db.writer.acquire().await.unwrap();
        connection.execute("CREATE TABLE t (a BIGINT)").await.unwrap();
        connection.execute("INSERT INTO t (a) VALUES (7)").await.unwrap();
        connection.close().await.unwrap();
        assert_eq!(pragma(&db.writer, "SELECT a FROM t").await, "7");
        // And it is nobody else's.
        let other = Db::open(&Storage::Memory).await.unwrap();
        assert!(sqlx::query("SELECT a FROM t").fetch_all(&other.writer).await.is_err());
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_never_was() {
        for storage in
            [Storage::Memory, Storage::Directory(tempfile::tempdir().unwrap().path().join("state"))]
        {
            let db = Db::open(&storage).await.unwrap();
            sqlx::query("CREATE TABLE t (a BIGINT)").execute(&db.writer).await.unwrap();
            let mut tx = db.begin("test").await.unwrap();
            sqlx::query("INSERT INTO t (a) VALUES (7)").execute(tx.on()).await.unwrap();
            drop(tx);
            assert_eq!(pragma(&db.reader, "SELECT COUNT(*) FROM t").await, "0");
            let mut tx = db.begin("test").await.unwrap();
            sqlx::query("INSERT INTO t (a) VALUES (8)").execute(tx.on()).await.unwrap();
            tx.commit("test").await.unwrap();
            assert_eq!(pragma(&db.reader, "SELECT COUNT(*) FROM t").await, "1");
        }
    }

    #[test]
    fn any_path_is_one_url() {
        let url = sqlite_url(Path::new("/a b/ü?#%&=/state.sqlite")).unwrap();
        assert_eq!(url, "sqlite:/a%20b/%C3%BC%3F%23%25%26%3D/state.sqlite?mode=rwc");
    }
}
