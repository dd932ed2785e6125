//! The server: connections in, sessions and forwards out.

use std::{
    ffi::OsString,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coderctl_ssh::{
    Error,
    hostkey::HostKey,
    server::{self as ssh, Config, Incoming, Policy},
};
use futures_util::FutureExt as _;
use ring::digest;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    SessionEnvironment, Settings,
    forward::{self, Listeners},
    session,
    x11::Displays,
};
use crate::environment::Environment;

/// From here on, `max_timeout` is for asking whether a client is there; below, it cuts connections
/// (`agent/agentssh/agentssh.go`, `NewServer`).
const ASKS_FROM: Duration = Duration::from_secs(3);
/// Into how many silences `max_timeout` is divided (`agent/agentssh/agentssh.go`).
const SILENCES: u32 = 3;
/// How long a client may take to hear that the server closes.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long [`Server::close`] may take.
const CLOSE: Duration = Duration::from_secs(5);

/// The SSH server of one agent. Cheap to clone; all clones are one server.
#[derive(Debug, Clone)]
pub struct Server(pub(super) Arc<Shared>);

/// What connections and sessions share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    process: Arc<[(OsString, OsString)]>,
    current: Mutex<Option<Current>>,
    pub(super) displays: Displays,
    /// Whether the server is closed.
    pub(super) closing: watch::Sender<bool>,
    /// How many things there are that [`Server::close`] waits for.
    count: watch::Sender<usize>,
}

/// What comes with the manifest.
#[derive(Debug, Clone)]
struct Current {
    environment: Environment,
    host_key: Arc<HostKey>,
}

impl Shared {
    fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What sessions that begin now find; `None` before the first manifest.
    pub(super) fn environment(&self) -> Option<Environment> {
        self.current().map(|current| current.environment)
    }

    /// Counts something until what is returned is dropped.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.count.send_modify(|count| *count += 1);
        Counted(Arc::clone(self))
    }
}

/// Something that [`Server::close`] waits for.
#[derive(Debug)]
pub(super) struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

impl Server {
    /// A server whose sessions fail (status 229) until [`Self::set_environment`] is called.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            process: settings.process_environment.clone().into(),
            settings,
            current: Mutex::new(None),
            displays: Displays::default(),
            closing: watch::Sender::new(false),
            count: watch::Sender::new(0),
        }))
    }

    /// What sessions that begin from now on find.
    pub fn set_environment(&self, environment: SessionEnvironment) {
        let host_key = match host_key(&environment) {
            Ok(key) => Arc::new(key),
            Err(error) => {
                // No seed of the right length is refused.
                tracing::error!(%error, "no host key");
                return;
            }
        };
        let environment = Environment::new(Arc::clone(&self.0.process), Arc::new(environment));
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Current { environment, host_key });
    }

    /// Serves one connection to its end: until the client goes, breaks the protocol, is silent
    /// for too long, or the server is closed. How it ended is logged.
    pub async fn serve<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Nobody is to wait for a connection that came after the end.
        let _counted = self.0.count();
        if *self.0.closing.borrow() {
            return;
        }
        match self.serve_client(stream, peer).await {
            Ok(()) => tracing::debug!(%peer, "ssh connection ended"),
            // Go's library closes the stream without a word.
            Err(error @ (Error::Disconnected { .. } | Error::Ended(_))) => {
                tracing::debug!(%peer, %error, "ssh connection ended");
            }
            Err(error) => tracing::info!(%peer, %error, "ssh connection lost"),
        }
    }

    async fn serve_client<S>(&self, stream: S, peer: SocketAddr) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = &self.0;
        let max = shared.settings.max_timeout;
        let asks = max >= ASKS_FROM;
        let host_key = match shared.current() {
            Some(current) => current.host_key,
            None => Arc::new(host_key(&SessionEnvironment::default())?),
        };
        let mut connection = ssh::serve(
            stream,
            Config {
                host_key,
                policy: Policy { subsystems: vec!["sftp".into()], agent: true, x11: true },
                keep_alive: asks.then(|| max / SILENCES),
            },
        )?;
        let opener = connection.opener();
        let blocks = shared.settings.blocks;
        let mut listeners = Listeners::new(opener.clone(), blocks);
        // Ends with this connection.
        let mut tasks = JoinSet::new();
        let mut closing = shared.closing.subscribe();
        let mut deadline = std::pin::pin!(async {
            if asks {
                return std::future::pending().await;
            }
            sleep(max).await;
        });
        loop {
            let incoming = tokio::select! {
                _ = closing.wait_for(|closing| *closing) => break,
                () = &mut deadline => {
                    tracing::debug!("the time of an ssh connection is over");
                    break;
                }
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                incoming = connection.next() => incoming,
            };
            match incoming {
                // A session lives on for a moment when the connection is gone.
                Some(Incoming::Session(session)) => {
                    let counted = shared.count();
                    let (shared, opener) = (Arc::clone(shared), opener.clone());
                    tokio::spawn(
                        async move {
                            session::run(shared, opener, session, peer).await;
                            drop(counted);
                        }
                        .boxed(),
                    );
                }
                Some(Incoming::Direct(direct)) => {
                    tasks.spawn(forward::direct(direct, blocks).boxed());
                }
                Some(Incoming::Forward(forward)) => listeners.handle(forward).await,
                None => return connection.ended().unwrap_or(Ok(())),
            }
        }
        drop(listeners);
        if timeout(GOODBYE, connection.close()).await.is_err() {
            tracing::debug!("an ssh client did not take the goodbye");
        }
        Ok(())
    }

    /// As [`Self::close`], without waiting: sessions end by themselves, soon.
    pub fn begin_close(&self) {
        self.0.closing.send_replace(true);
    }

    /// Ends everything: listeners, sessions and connections at once, without an exit status;
    /// processes get SIGHUP. Returns when all is gone, within 5 s. Connections that come
    /// afterwards are refused.
    pub async fn close(&self) {
        self.begin_close();
        let mut count = self.0.count.subscribe();
        if timeout(CLOSE, count.wait_for(|count| *count == 0)).await.is_err() {
            let left = *count.borrow();
            tracing::warn!(left, "ssh sessions or connections do not end");
        }
    }
}

/// The key of an agent: stable, derived from what names it. It keeps no secret.
fn host_key(environment: &SessionEnvironment) -> Result<HostKey, Error> {
    let SessionEnvironment { owner_name, workspace_name, agent_name, .. } = environment;
    let named = format!("ssh host key\0{owner_name}\0{workspace_name}\0{agent_name}");
    let hash = digest::digest(&digest::SHA256, named.as_bytes());
    let seed = hash.as_ref().first_chunk().ok_or(Error::HostKey("its hash is too short"))?;
    HostKey::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_key_is_stable_and_its_own() {
        let named = |owner: &str, workspace: &str, agent: &str| {
            let environment = SessionEnvironment {
                owner_name: owner.into(),
                workspace_name: workspace.into(),
                agent_name: agent.into(),
                ..SessionEnvironment::default()
            };
            host_key(&environment).unwrap().public().to_vec()
        };
        assert_eq!(named("a", "b", "c"), named("a", "b", "c"));
        assert_ne!(named("a", "b", "c"), named("a", "b", "d"));
        assert_ne!(named("a", "bc", "d"), named("ab", "c", "d"));
    }
}
