//! Several servers on one PostgreSQL, as one deployment.
//!
//! They find each other by what they publish there (`coordinator`): each says every two seconds
//! that it lives, and by which URL the others reach it. So clients and agents of all of them find
//! each other; their packets travel from relay to relay (`relay`). Secrets that all share are
//! settings of the state, made by whoever comes first.

use coderctl_transport::Transport;
use ring::rand::SecureRandom;
use url::Url;

use crate::{
    config::{Config, Storage},
    deployment::StartError,
    http::{
        serve::{ListenError, Listener},
        tasks::Stopping,
    },
    model::{hex, unhex},
    relay::MeshKey,
    state::State,
    store::Store,
};

/// The setting that relays show to each other that they know.
const MESH_KEY: &str = "relay_mesh_key";

/// What a server does to be one of several.
pub(crate) struct Replicas {
    /// By which the others reach it, if they can.
    url: Option<Url>,
    mesh_key: MeshKey,
    transport: Transport,
    /// For which the others' certificates are.
    server_name: String,
}

impl Replicas {
    /// `None` where the state is this process' own.
    pub(crate) async fn of(
        config: &Config,
        listener: &Listener,
        store: &Store,
        transport: &Transport,
    ) -> Result<Option<Self>, StartError> {
        match config.storage {
            Storage::Memory | Storage::Directory(_) => return Ok(None),
            Storage::Postgres(_) => {}
        }
        let url = match &config.relay_url {
            Some(url) => Some(url.clone()),
            None if listener.address().ip().is_unspecified() => {
                tracing::warn!(
                    "other servers on this PostgreSQL cannot reach this one's relay, for it \
                     listens on all addresses; say with --relay-url which is theirs to use"
                );
                None
            }
            None => Some(config.own_url(listener.address()).map_err(ListenError::from)?),
        };
        let mesh_key = MeshKey::new(&shared_key(store, MESH_KEY).await?);
        let server_name = listener.access_url().host_str().unwrap_or_default().to_owned();
        Ok(Some(Self { url, mesh_key, transport: transport.clone(), server_name }))
    }

    /// What the relays of all show to each other.
    pub(crate) fn mesh_key(&self) -> MeshKey {
        self.mesh_key.clone()
    }

    /// Is one of several, until the deployment stops; then the others are told.
    pub(crate) async fn run(self, state: State, mut stopping: Stopping) {
        let Self { url, mesh_key: _, transport, server_name } = self;
        let coordinator = &state.coordinator;
        let stop = stopping.requested();
        tokio::select! {
            () = coordinator.share(&state.pubsub, state.replica_id, url, stop) => {}
            () = state.relay.mesh(coordinator.relays(), &transport, &server_name) => {}
        }
    }
}

/// A random key that is the same for all processes on this state.
pub(crate) async fn shared_key(store: &Store, setting: &str) -> Result<[u8; 32], StartError> {
    let mut new = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut new)
        .map_err(|_| StartError::Other("the system has no random numbers".to_owned()))?;
    let kept = store.setting_or_insert(setting, &hex(&new)).await?;
    unhex(&kept)
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| StartError::Other(format!("the setting {setting} is no key; delete it")))
}
