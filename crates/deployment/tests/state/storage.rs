//! Opening the state: files, locks, migrations, what is kept.

use std::{fs, os::unix::fs::PermissionsExt as _};

use coderctl_deployment::{
    config::{Secret, Storage},
    store::{Store, StoreError},
};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::{
    backend::{Backend, on_each},
    postgres::{Postgres, mode},
    world::{World, at},
};

on_each! {
    async fn settings_are_the_first_ones(backend: &Backend) {
        let store = &backend.store;
        assert_eq!(store.setting("id").await.unwrap(), None);
        let tries: Vec<_> = backend
            .replicas(3)
            .await
            .into_iter()
            .cycle()
            .take(12)
            .enumerate()
            .map(|(number, store)| {
                tokio::spawn(async move {
                    store.setting_or_insert("id", &number.to_string()).await.unwrap()
                })
            })
            .collect();
        let mut values = vec![];
        for attempt in tries {
            values.push(attempt.await.unwrap());
        }
        let kept = store.setting("id").await.unwrap().unwrap();
        assert!(values.iter().all(|value| *value == kept), "{values:?}");
    }

    async fn a_closed_store_refuses(backend: &Backend) {
        let store = &backend.store;
        store.close().await;
        assert!(store.setting("id").await.unwrap_err().is_unavailable());
        assert!(store.setting_or_insert("id", "x").await.unwrap_err().is_unavailable());
    }

    /// A request that is given up in the middle of a transaction leaves nothing locked.
    async fn a_call_that_is_dropped_leaves_nothing(backend: &Backend) {
        let world = World::new(&backend.store).await;
        let (workspace, ..) = world.created("dev").await;
        world.succeed(vec![]).await;
        let mut tried = vec![];
        for polls in 0..40 {
            let store = &backend.store;
            let build = world.build(coderctl_deployment::model::Transition::Start);
            tried.push(build.id);
            {
                let mut call = std::pin::pin!(store.insert_build(workspace.id, &build, at(5)));
                let mut done = false;
                for _ in 0..polls {
                    tokio::select! {
                        biased;
                        _ = &mut call => done = true,
                        () = tokio::task::yield_now() => {}
                    }
                    if done {
                        break;
                    }
                }
            }
            // Whether it was made or not, now or (if its commit was under way) a little later: the
            // next caller is answered, and all is consistent.
            let (latest, job) = store.latest_build(workspace.id).await.unwrap();
            if job.status().is_active() {
                assert!(tried.contains(&latest.id));
                world.succeed(vec![]).await;
            }
        }
        // A commit that was still under way may come first; the one after it may not.
        let stop = || world.build(coderctl_deployment::model::Transition::Stop);
        if backend.store.insert_build(workspace.id, &stop(), at(6)).await.is_err() {
            world.succeed(vec![]).await;
            backend.store.insert_build(workspace.id, &stop(), at(6)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_directory_is_its_owners_and_one_processs() {
    let root = tempfile::tempdir().unwrap();
    // A name with all that a URL would read otherwise.
    let directory = root.path().join("deep/a b?mode=memory#%41&ü");
    let storage = Storage::Directory(directory.clone());
    let store = Store::open(&storage).await.unwrap();
    let world = World::new(&store).await;
    assert_eq!(mode(&directory), 0o700);
    let mut files: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["state.lock", "state.sqlite", "state.sqlite-shm", "state.sqlite-wal"]);
    for file in files {
        assert_eq!(mode(&directory.join(&file)), 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);

    let error = Store::open(&storage).await.unwrap_err().to_string();
    assert!(error.starts_with("another process uses the state in "), "{error}");
    store.close().await;
    drop((store, world));

    // What was kept is there, and a file that became readable to others is mended.
    fs::set_permissions(directory.join("state.sqlite"), fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(&storage).await.unwrap();
    assert_eq!(mode(&directory.join("state.sqlite")), 0o600);
    assert_eq!(store.users().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_without_a_farewell() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("state");
    let store = Store::open(&Storage::Directory(directory.clone())).await.unwrap();
    let world = World::new(&store).await;
    let (workspace, ..) = world.created("dev").await;
    // As a killed process leaves it: the files as they are now, whatever is in the journal.
    let copy = root.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        // The index of the journal is in shared memory; after a crash it is made anew.
        if !entry.file_name().to_str().unwrap().ends_with("-shm") {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let after = Store::open(&Storage::Directory(copy)).await.unwrap();
    assert_eq!(after.workspace(workspace.id).await.unwrap(), workspace);
}

async fn change(directory: &std::path::Path, statement: &'static str) {
    let url = format!("sqlite:{}", directory.join("state.sqlite").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection.execute(statement).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_understood_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("state");
    let store = Store::open(&Storage::Directory(directory.clone())).await.unwrap();
    let world = World::new(&store).await;
    let (workspace, _, agent) = world.running("dev").await;
    for (statement, wanted) in [
        (
            "UPDATE workspaces SET automatic_updates = 'sometimes'",
            "column automatic_updates holds what cannot be read: \"sometimes\" is no automatic \
             updates setting; one of: never, always; was the state written by a newer version?",
        ),
        ("UPDATE workspaces SET automatic_updates = 'always', ttl_ms = -1", "column ttl_ms"),
        ("UPDATE workspaces SET ttl_ms = NULL, owner_id = 'nobody'", "column owner_id"),
    ] {
        change(&directory, "PRAGMA foreign_keys = OFF").await;
        let url = format!("sqlite:{}", directory.join("state.sqlite").display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        connection.execute("PRAGMA foreign_keys = OFF").await.unwrap();
        connection.execute(statement).await.unwrap();
        let error = store.workspace(workspace.id).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().starts_with(wanted), "{error}");
    }
    change(&directory, "UPDATE agents SET auth_token = 'secret-but-no-uuid'").await;
    let error = store.agent(agent.id).await.unwrap_err().to_string();
    assert!(error.contains("auth_token") && !error.contains("secret-but"), "{error}");
}

#[tokio::test]
async fn a_newer_state_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("state");
    drop(Store::open(&Storage::Directory(directory.clone())).await.unwrap());
    change(&directory, "INSERT INTO schema_version (version) VALUES (1000)").await;
    let error = Store::open(&Storage::Directory(directory)).await.unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("1000"), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = Store::open(&Storage::Directory(file.join("state"))).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    assert!(error.to_string().contains("cannot be made"), "{error}");

    // No database at all.
    let directory = root.path().join("state");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("state.sqlite"), "this is no database, but text".repeat(100)).unwrap();
    assert!(Store::open(&Storage::Directory(directory)).await.is_err());
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_its_password() {
    for url in [
        "mysql://user:hunter2@localhost/db",
        "user:hunter2@localhost",
        "postgres://user:hunter2@localhost:port/db",
        "postgres://user:hunter2@/db?host=/nonexistent/socket/dir",
    ] {
        let storage = Storage::Postgres(Secret::new(url));
        let error = Store::open(&storage).await.unwrap_err();
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text.push_str(&error.to_string());
            source = error.source();
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn replicas_that_begin_at_once_migrate_once() {
    let Some(postgres) = Postgres::shared("replicas_that_begin_at_once_migrate_once") else {
        return;
    };
    let url = postgres.database().await;
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let storage = Storage::Postgres(Secret::new(url.clone()));
            tokio::spawn(async move { Store::open(&storage).await })
        })
        .collect();
    for start in starts {
        let store = start.await.unwrap().unwrap();
        assert_eq!(store.users().await.unwrap().len(), 0);
        store.close().await;
    }
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM schema_version ORDER BY 1")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let steps: Vec<i64> = (1..=i64::try_from(versions.len()).unwrap()).collect();
    assert_eq!(versions, steps, "each step once");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let Some(postgres) = Postgres::shared("a_database_of_another_program_is_left_alone") else {
        return;
    };
    let url = postgres.database().await;
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    connection.execute("CREATE TABLE users (id uuid)").await.unwrap();
    let error = Store::open(&Storage::Postgres(Secret::new(url))).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
    assert!(error.to_string().contains("give it an empty database"), "{error}");
    let tables: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn connections_that_were_cut_are_replaced() {
    let Some(postgres) = Postgres::shared("connections_that_were_cut_are_replaced") else {
        return;
    };
    let url = postgres.database().await;
    let store = Store::open(&Storage::Postgres(Secret::new(url.clone()))).await.unwrap();
    let world = World::new(&store).await;
    let mut administrator = sqlx::PgConnection::connect(&url).await.unwrap();
    for round in 0..3 {
        let cut: i64 = sqlx::query_scalar(
            "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut administrator)
        .await
        .unwrap();
        assert!(cut > 0);
        let (workspace, ..) = world.created(&format!("dev{round}")).await;
        assert_eq!(store.workspace(workspace.id).await.unwrap(), workspace);
    }
}

/// A replica that stands still in the middle of a transaction does not stop the others for ever.
#[tokio::test]
async fn a_lock_that_is_not_given_back_is_an_error() {
    let Some(postgres) = Postgres::shared("a_lock_that_is_not_given_back_is_an_error") else {
        return;
    };
    let url = postgres.database().await;
    let store = Store::open(&Storage::Postgres(Secret::new(url.clone()))).await.unwrap();
    let world = World::new(&store).await;
    let (workspace, _, job) = world.created("dev").await;
    let mut frozen = sqlx::PgConnection::connect(&url).await.unwrap();
    frozen.execute("BEGIN").await.unwrap();
    sqlx::query("SELECT id FROM jobs WHERE id = $1 FOR UPDATE")
        .bind(job.id.to_string())
        .fetch_one(&mut frozen)
        .await
        .unwrap();
    // Whoever looks for work passes by; whoever needs this very job is told in time.
    let taken = store.acquire_job(uuid::Uuid::new_v4(), crate::world::LEASE, at(3)).await.unwrap();
    assert_eq!(taken, None);
    let error = store.cancel_job(job.id, None, at(3)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    frozen.execute("ROLLBACK").await.unwrap();
    store.cancel_job(job.id, None, at(3)).await.unwrap();
    assert_eq!(store.workspace(workspace.id).await.unwrap(), workspace);
}
