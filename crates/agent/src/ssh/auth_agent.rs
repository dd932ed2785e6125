//! Agent forwarding: a socket for the program, behind which is the client's authentication agent.

use std::{
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use coderctl_ssh::server::{Opener, Outgoing};
use futures_util::FutureExt as _;
use tokio::{net::UnixListener, task::JoinHandle};
use uuid::Uuid;

use super::forward;

/// A listening socket; it is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Socket {
    /// For `SSH_AUTH_SOCK`.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let directory = self.path.parent().unwrap_or(&self.path);
        if let Err(error) = std::fs::remove_dir_all(directory) {
            tracing::debug!(%error, path = %self.path.display(), "an agent's socket stays");
        }
    }
}

/// Listens in a new directory that only this user may enter; each connection is one to the
/// client's agent.
///
/// # Errors
/// The system's.
pub(super) fn listen(opener: Opener) -> io::Result<Socket> {
    let name = format!("auth-agent-{}", Uuid::new_v4().simple());
    let directory = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
    let path = directory.join("listener.sock");
    let listener = UnixListener::bind(&path)?;
    let task = tokio::spawn(
        async move {
            forward::accept(
                || async { listener.accept().await.map(|(stream, _)| (stream, Outgoing::Agent)) },
                &opener,
            )
            .await;
        }
        .boxed(),
    );
    Ok(Socket { path, task })
}
