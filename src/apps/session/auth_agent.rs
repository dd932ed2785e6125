//! `-A`: programs in the workspace ask the authentication agent that is here.
//!
//! Each question is a channel that the agent in the workspace opens (openssh-portable: PROTOCOL,
//! `auth-agent@openssh.com`), and a connection to the local socket. Others than those are refused,
//! and so are all where `-A` was not given.

use std::path::PathBuf;

use coderctl_ssh::client::{Client, Forwarded, Origin, Reason};
use futures_util::FutureExt as _;
use tokio::{io::copy_bidirectional, net::UnixStream, task::JoinSet};

/// Connections to the authentication agent at a time: programs ask it one after the other, and a
/// parallel `git fetch` with dozens of submodules is still far below.
const LIMIT: usize = 256;

/// The authentication agent, as long as a session may ask it.
#[derive(Debug)]
pub(super) struct AuthAgent {
    socket: PathBuf,
    connections: JoinSet<()>,
}

impl AuthAgent {
    /// Behind this socket.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, connections: JoinSet::new() }
    }

    /// Serves what comes over this connection, until it is over. May be dropped and called again.
    pub(super) async fn serve(&mut self, client: &Client) {
        loop {
            tokio::select! {
                offered = client.next() => match offered {
                    Some(offered) => self.take(offered),
                    None => break,
                },
                Some(_) = self.connections.join_next() => {}
            }
        }
        // Those that are open end with the connection.
        while self.connections.join_next().await.is_some() {}
        std::future::pending().await
    }

    fn take(&mut self, offered: Forwarded) {
        match offered.target() {
            Origin::Agent if self.connections.len() < LIMIT => {
                self.connections.spawn(carry(offered, self.socket.clone()).boxed());
            }
            Origin::Agent => offered.refuse(Reason::Shortage, "too many questions at a time"),
            Origin::Listen(_) => offered.refuse(Reason::Prohibited, "not asked for"),
        }
    }
}

async fn carry(offered: Forwarded, socket: PathBuf) {
    let mut local = match UnixStream::connect(&socket).await {
        Ok(local) => local,
        Err(error) => {
            tracing::warn!(%error, socket = %socket.display(), "the authentication agent");
            offered.refuse(Reason::ConnectFailed, "the authentication agent does not answer");
            return;
        }
    };
    if let Err(error) = copy_bidirectional(&mut offered.accept(), &mut local).await {
        tracing::debug!(%error, "a connection to the authentication agent");
    }
}
