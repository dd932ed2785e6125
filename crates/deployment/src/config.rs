//! What a deployment is started with.

use std::{net::SocketAddr, path::PathBuf};

use url::Url;

/// Where the deployment's state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// SQLite in memory: gone with the process.
    Memory,
    /// SQLite in a file of this directory.
    Directory(PathBuf),
    /// A PostgreSQL that several processes may share. Its URL holds a password.
    Postgres(Secret),
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Takes it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a deployment is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The URL by which clients and agents reach it; by default it follows from the listener.
    pub access_url: Option<Url>,
    /// Where its state lives.
    pub storage: Storage,
    /// The directory that holds the workspaces' directories.
    pub workspaces: PathBuf,
}
