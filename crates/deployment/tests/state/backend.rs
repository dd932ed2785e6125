//! The three databases, as tests want them.

use std::sync::Arc;

use coderctl_deployment::{
    config::{Secret, Storage},
    store::Store,
};

use crate::postgres::Postgres;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    File,
    Postgres,
}

/// An empty state of one kind, and what must live as long as it.
pub(crate) struct Backend {
    pub(crate) storage: Storage,
    /// One handle; in PostgreSQL, of the first replica.
    pub(crate) store: Store,
    _directory: Option<tempfile::TempDir>,
    postgres: Option<Arc<Postgres>>,
}

impl Backend {
    /// None if the machine has no PostgreSQL.
    pub(crate) async fn new(kind: Kind, test: &str) -> Option<Self> {
        let (storage, directory, postgres) = match kind {
            Kind::Memory => (Storage::Memory, None, None),
            Kind::File => {
                let directory = tempfile::tempdir().unwrap();
                let storage = Storage::Directory(directory.path().join("state"));
                (storage, Some(directory), None)
            }
            Kind::Postgres => {
                let postgres = Postgres::shared(test)?;
                let url = postgres.database().await;
                (Storage::Postgres(Secret::new(url)), None, Some(postgres))
            }
        };
        Some(Self {
            store: Store::open(&storage).await.unwrap(),
            storage,
            _directory: directory,
            postgres,
        })
    }

    /// As many handles as asked for: in PostgreSQL as many replicas, else the same one.
    pub(crate) async fn replicas(&self, count: usize) -> Vec<Store> {
        let mut stores = vec![self.store.clone()];
        while stores.len() < count {
            stores.push(match self.postgres {
                Some(_) => Store::open(&self.storage).await.unwrap(),
                None => self.store.clone(),
            });
        }
        stores
    }
}

/// Runs a test on each database. Its name is that of the test within each.
macro_rules! on_each {
    ($($(#[$meta:meta])* async fn $name:ident($backend:ident: &$type:ty) $body:block)+) => {
        $(
            $(#[$meta])*
            mod $name {
                use super::*;
                use $crate::backend::Kind;

                async fn check($backend: &$type) $body

                async fn run(kind: Kind) {
                    let name = format!("{} on {kind:?}", module_path!());
                    if let Some(backend) = <$type>::new(kind, &name).await {
                        check(&backend).await;
                    }
                }

                #[tokio::test]
                async fn sqlite_in_memory() {
                    run(Kind::Memory).await;
                }

                #[tokio::test]
                async fn sqlite_in_a_file() {
                    run(Kind::File).await;
                }

                #[tokio::test]
                async fn postgresql() {
                    run(Kind::Postgres).await;
                }
            }
        )+
    };
}
pub(crate) use on_each;
