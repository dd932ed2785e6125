//! A database of a PostgreSQL that the tests start themselves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::runtime::Builder;

#[path = "../../../crates/deployment/tests/support/postgres.rs"]
mod server;

/// A database, while this lives.
pub struct Database {
    pub url: String,
    _server: Arc<server::Postgres>,
}

impl Database {
    /// Where it listens, and its name.
    pub fn socket_and_name(&self) -> (PathBuf, String) {
        let (rest, directory) = self.url.split_once("?host=").unwrap();
        let name = rest.rsplit('/').next().unwrap().to_owned();
        (Path::new(directory).join(".s.PGSQL.5432"), name)
    }
}

/// A new database; none (and a loud word) where there is no PostgreSQL.
pub fn database() -> Option<Database> {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let server = server::Postgres::shared(&test)?;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(server.database());
    Some(Database { url, _server: server })
}
