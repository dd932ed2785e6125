//! One connection to the server, and all that goes on over it.
//!
//! The tasks run side by side; the first that fails ends the session, and the agent dials again.
//! Those that tell the server something wait for the manifest first, since only it says whose row
//! this connection writes to. When the agent ends, only those stay that have last words to say.

use std::{sync::Arc, time::Duration};

use coderctl_drpc::{
    Client, RpcError,
    proto::{agent as proto, rpc::agent as rpc},
};
use futures_util::FutureExt as _;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    OnNewAgentId,
    agent::Agent,
    app_health,
    claims::{OnId, Phase},
    environment,
    lifecycle::{self, State},
    manifest::{Manifest, ManifestError},
    metadata, resources,
    server::Version,
    stats,
};

/// How often banners are asked for (`agent/agent.go`, `announcementBannersRefreshInterval`).
const BANNERS_INTERVAL: Duration = Duration::from_secs(2 * 60);

/// Our version as the server wants it: semantic, with a leading `v` (`coderd/agentapi/lifecycle.go`).
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// We are another agent, and are to start over for it.
    NewAgent,
    /// The connection is of no use any more.
    Broken {
        /// Whether there was a manifest.
        useful: bool,
        why: String,
    },
}

/// Why a task ended before the agent did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("we are another agent")]
    NewAgent,
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{0}")]
    Tailnet(String),
}

/// What the tasks of a session share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) agent: Arc<Agent>,
    pub(crate) client: Arc<Client>,
    version: Version,
    /// Whether this session has its manifest.
    ready: Arc<watch::Sender<bool>>,
}

/// What becomes of a task when the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtTheEnd {
    Stops,
    Stays,
}
use AtTheEnd::{Stays, Stops};

type Task = Result<(), Failure>;

/// Uses a connection as long as it is of use.
pub(crate) async fn run(agent: &Arc<Agent>, client: Client, version: Version) -> End {
    let session = Session {
        agent: Arc::clone(agent),
        client: Arc::new(client),
        version,
        ready: Arc::new(watch::Sender::new(false)),
    };
    let mut tasks = JoinSet::new();
    let mut start = |name: &'static str, at_the_end: AtTheEnd, task: BoxTask| {
        let mut closing = agent.closing.subscribe();
        tasks.spawn(
            async move {
                let result = match at_the_end {
                    Stays => task.await,
                    Stops => tokio::select! {
                        biased;
                        _ = closing.wait_for(|closing| *closing) => Ok(()),
                        result = task => result,
                    },
                };
                (name, result)
            }
            .boxed(),
        );
    };
    start("manifest", Stays, Box::pin(session.clone().manifest()));
    start("lifecycle", Stays, Box::pin(session.clone().lifecycle()));
    start("logs", Stays, Box::pin(session.clone().logs()));
    start("coordination", Stays, Box::pin(session.clone().coordination()));
    start("banners", Stops, Box::pin(session.clone().banners()));
    start("metadata", Stops, Box::pin(metadata::report(session.clone())));
    start("app health", Stops, Box::pin(app_health::report(session.clone())));
    start("stats", Stops, Box::pin(stats::report(session.clone())));
    if version >= Version::V2_4 {
        start("connections", Stays, Box::pin(session.clone().connections()));
        start("timings", Stays, Box::pin(session.clone().timings()));
        start("resources", Stops, Box::pin(resources::report(session.clone())));
    }

    let why = loop {
        tokio::select! {
            reason = session.client.closed() => break reason.to_string(),
            Some(joined) = tasks.join_next() => match joined {
                Ok((_, Ok(()))) => {}
                Ok((_, Err(Failure::NewAgent))) => return End::NewAgent,
                Ok((name, Err(failure))) => break format!("{name}: {failure}"),
                Err(error) => break format!("a task did not end well: {error}"),
            },
        }
    };
    let useful = *session.ready.borrow();
    End::Broken { useful, why }
}

type BoxTask = std::pin::Pin<Box<dyn Future<Output = Task> + Send>>;

impl Session {
    /// Waits until this session has its manifest.
    pub(crate) async fn ready(&self) -> Arc<Manifest> {
        let mut ready = self.ready.subscribe();
        // The sender is ours.
        let _ = ready.wait_for(|ready| *ready).await;
        let manifest = self.agent.manifest.borrow().clone();
        match manifest {
            Some(manifest) => manifest,
            // It is there before we say so.
            None => std::future::pending().await,
        }
    }

    /// Gets the manifest, and makes it ours (`agent/agent.go`, `handleManifest`).
    async fn manifest(self) -> Task {
        let agent = &self.agent;
        let message: proto::Manifest =
            self.client.unary(rpc::GET_MANIFEST, &proto::GetManifestRequest {}).await?;
        tracing::debug!(manifest = ?message, "manifest");
        let manifest = Manifest::parse(message, &agent.world.process)?;
        let before = agent.manifest.borrow().clone();
        let reinit = match agent.world.options.on_new_agent_id {
            OnNewAgentId::Reinit => true,
            OnNewAgentId::Replay => false,
        };
        let phase = match &before {
            None => Phase::First,
            Some(_) if agent.life.state() >= State::ShuttingDown => Phase::Ending,
            Some(_) => Phase::Later,
        };
        let mut answer = OnId::Keep;
        agent.world.ledger.send_modify(|ledger| {
            answer = ledger.manifest(manifest.agent_id, phase, reinit);
        });
        match answer {
            OnId::Keep => {}
            OnId::Restart => {
                tracing::info!(id = %manifest.agent_id, "the server has another agent for us");
                return Err(Failure::NewAgent);
            }
            OnId::Adopt => {
                tracing::info!(id = %manifest.agent_id, "we are another agent: going on as it");
                agent.life.request_replay();
            }
        }
        let startup = proto::Startup {
            version: VERSION.to_owned(),
            expanded_directory: manifest.directory.clone(),
            subsystems: subsystems(&agent.world.process),
        };
        let request = proto::UpdateStartupRequest { startup: Some(startup) };
        let _: proto::Startup = self.client.unary(rpc::UPDATE_STARTUP, &request).await?;

        let manifest = Arc::new(manifest);
        if let (Some(before), Some(tailnet)) = (before, agent.tailnet.borrow().as_ref()) {
            tailnet.update(&manifest, before.agent_id != manifest.agent_id);
        }
        write_secrets(&manifest, &agent.world.process).await;
        // Commands find it before anybody may run one.
        agent.manifest.send_if_modified(|known| {
            *known = Some(Arc::clone(&manifest));
            false
        });
        agent.refresh_environment();
        agent.manifest.send_modify(|_| {});
        self.ready.send_replace(true);
        Ok(())
    }

    async fn lifecycle(self) -> Task {
        self.ready().await;
        Ok(lifecycle::report(&self.agent.life, &self.client).await?)
    }

    async fn logs(self) -> Task {
        self.ready().await;
        Ok(self.agent.logs.send(&self.client).await?)
    }

    async fn connections(self) -> Task {
        self.ready().await;
        tolerate(self.agent.connections.report(&self.client).await)
    }

    async fn timings(self) -> Task {
        self.ready().await;
        tolerate(self.agent.timings.report(&self.client).await)
    }

    async fn coordination(self) -> Task {
        self.ready().await;
        let mut tailnet = self.agent.tailnet.subscribe();
        let Ok(tailnet) = tailnet.wait_for(Option::is_some).await.map(|found| found.clone()) else {
            return Ok(());
        };
        match tailnet {
            Some(tailnet) => tailnet.coordinate(&self.client).await.map_err(Failure::Tailnet),
            None => Ok(()),
        }
    }

    async fn banners(self) -> Task {
        loop {
            let banners = match self.version {
                Version::V2_0 => self.service_banner().await?,
                Version::V2_4 => match self.announcement_banners().await {
                    Err(error) if error.is_unimplemented() => self.service_banner().await?,
                    banners => banners?,
                },
            };
            self.agent.set_banners(banners);
            tokio::time::sleep(BANNERS_INTERVAL).await;
        }
    }

    async fn announcement_banners(&self) -> Result<Vec<String>, RpcError> {
        let request = proto::GetAnnouncementBannersRequest {};
        let answer: proto::GetAnnouncementBannersResponse =
            self.client.unary(rpc::GET_ANNOUNCEMENT_BANNERS, &request).await?;
        let banners = answer.announcement_banners.into_iter();
        Ok(banners.filter(|banner| banner.enabled).map(|banner| banner.message).collect())
    }

    async fn service_banner(&self) -> Result<Vec<String>, RpcError> {
        let request = proto::GetServiceBannerRequest {};
        let banner: proto::ServiceBanner =
            self.client.unary(rpc::GET_SERVICE_BANNER, &request).await?;
        Ok(Some(banner).filter(|banner| banner.enabled).map(|b| b.message).into_iter().collect())
    }
}

/// A call that the server does not have is not worth the connection.
pub(crate) fn tolerate(result: Result<(), RpcError>) -> Task {
    match result {
        Err(error) if error.is_unimplemented() => {
            tracing::debug!(%error, "the server does not want to know");
            Ok(())
        }
        result => Ok(result?),
    }
}

/// What else runs beside the agent, as `CODER_AGENT_SUBSYSTEM` says.
fn subsystems(process: &[(std::ffi::OsString, std::ffi::OsString)]) -> Vec<i32> {
    let named = environment::lookup(process, "CODER_AGENT_SUBSYSTEM").unwrap_or_default();
    let mut known: Vec<i32> = named
        .split(',')
        .filter_map(|name| match name.trim() {
            "envbox" => Some(proto::startup::Subsystem::Envbox.into()),
            "envbuilder" => Some(proto::startup::Subsystem::Envbuilder.into()),
            "exectrace" => Some(proto::startup::Subsystem::Exectrace.into()),
            // Unknown ones fail the whole call.
            _ => None,
        })
        .collect();
    known.sort_unstable();
    known.dedup();
    known
}

/// Writes the owner's secrets that are files, for the owner alone.
async fn write_secrets(manifest: &Manifest, process: &[(std::ffi::OsString, std::ffi::OsString)]) {
    for secret in manifest.secrets.iter().filter(|secret| !secret.file.is_empty()) {
        let file = environment::expand_directory(&secret.file, process);
        if let Err(error) = write_private(file.as_ref(), &secret.value).await {
            tracing::warn!(%file, %error, "a secret is not written");
        }
    }
}

async fn write_private(file: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt as _;
    if let Some(parent) = file.parent() {
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).await?;
    }
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(file).await?;
    file.write_all(content).await?;
    file.shutdown().await
}
