//! The deployment's state, in SQLite or PostgreSQL.

/// The state.
#[derive(Clone, Debug)]
pub struct Store {}
