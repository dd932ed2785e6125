//! A database of a PostgreSQL that the tests start themselves.

use std::sync::Arc;

use tokio::runtime::Builder;

#[path = "../../../crates/deployment/tests/support/postgres.rs"]
mod server;

/// A database, while this lives.
pub struct Database {
    pub url: String,
    _server: Arc<server::Postgres>,
}

/// A new database; none (and a loud word) where there is no PostgreSQL.
pub fn database() -> Option<Database> {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let server = server::Postgres::shared(&test)?;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let url = runtime.block_on(server.database());
    Some(Database { url, _server: server })
}
