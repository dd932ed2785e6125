//! A whole deployment in this process: opened, run, and ended in order.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use coderctl_deployment::{Config, Deployment, config::Storage};
//!
//! let directory = std::env::temp_dir().join("workspaces");
//! let deployment = Deployment::start(Config::new(Storage::Memory, directory)).await?;
//! let user = deployment.first_user("admin", "admin@example.com").await?;
//! let token = deployment.new_token(user.id, "example", std::time::Duration::from_hours(1)).await?;
//! let made = deployment.create_workspace(user.id, "dev", None).await?;
//! let agents = deployment.built(&made).await?;
//! println!("{} has {} agents", deployment.url(), agents.len());
//! # drop(token);
//! deployment.shutdown().await;
//! # Ok(()) }
//! ```

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::middleware::from_fn_with_state;
use coderctl_transport::Transport;
use futures_util::FutureExt as _;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};
use url::Url;
use uuid::Uuid;

use crate::{
    config::Config,
    coordinator::{self, Coordinator, DerpMap},
    faults::{
        self, Faults,
        control::{Control, ControlError},
    },
    http::{
        serve::{ListenError, Listener},
        tasks::{Stopping, Tasks},
    },
    model::{
        Agent, ApiKey, AutomaticUpdates, BuildReason, JobStatus, LoginType, NewUser, Role,
        SessionToken, Timestamp, User,
    },
    provisioner::{
        self, Provisioner,
        create::{self, CreateError, Made, WorkspaceRequest},
        template,
    },
    pubsub::{Pubsub, PubsubError, channels::workspace_owner},
    relay::{self, Relay, stun::Stun},
    replicas::{Replicas, shared_key},
    state::{Shared, State},
    store::{Store, StoreError},
};

/// Time for builds to be given back and agents to end when the deployment does: those have five
/// seconds for their stop scripts.
const PATIENCE: Duration = Duration::from_secs(8);

/// Time for the other servers to be told that this one ends.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often a build that is waited for is looked at without being told.
const LOOK: Duration = Duration::from_secs(1);

/// The setting that signs resume tokens, the same for all processes on a state.
const RESUME_KEY: &str = "resume_key";

/// Why a deployment does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Publish and subscribe.
    #[error(transparent)]
    Pubsub(#[from] PubsubError),
    /// The socket for faults.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The way from agents in this process to the deployment.
    #[error(transparent)]
    Transport(#[from] coderctl_transport::Error),
    /// Anything that says no more.
    #[error("{0}")]
    Other(String),
}

/// Why what a deployment was asked for is not there.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Publish and subscribe.
    #[error(transparent)]
    Pubsub(#[from] PubsubError),
    /// The build ended otherwise.
    #[error("the build {status}: {error}")]
    Build {
        /// How.
        status: JobStatus,
        /// Why.
        error: String,
    },
    /// The system has no random numbers.
    #[error("the system has no random numbers for a token")]
    NoEntropy,
}

/// A deployment that runs. Dropped, it ends at once; [`shutdown`](Self::shutdown) is the better way.
pub struct Deployment {
    state: State,
    address: SocketAddr,
    /// Its own tasks: the provisioner, STUN, the socket for faults.
    tasks: Tasks,
    /// Being one of several; ends when there is nothing left to tell the others.
    replicas: Tasks,
    stop_listener: oneshot::Sender<()>,
    listener: Aborted,
}

/// A task that ends with its owner.
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Deployment {
    /// Starts one. Once this returns, it answers.
    ///
    /// # Errors
    /// What cannot be opened, and what to do about it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let control = config.fault_socket.as_deref().map(Control::bind).transpose()?;
        let faults = if control.is_some() { Faults::injector() } else { Faults::none() };
        Self::start_with(config, faults, control).await
    }

    /// Starts one, with faults that a test asks for itself.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_faulty(config: Config, faults: Faults) -> Result<Self, StartError> {
        Self::start_with(config, faults, None).await
    }

    async fn start_with(
        config: Config,
        faults: Faults,
        control: Option<Control>,
    ) -> Result<Self, StartError> {
        let listener = Listener::bind(&config).await?;
        let store = Store::open(&config.storage).await?;
        let pubsub = Pubsub::open(&config.storage).await?;
        if faults.is_injector() {
            let faults = faults.clone();
            pubsub.set_fault(Some(Arc::new(move |channel, _| faults.fate(channel))));
        }
        let access_url = listener.access_url().clone();
        let address = listener.address();
        let stun = stun(address).await;
        let stun_port = stun.as_ref().and_then(|stun| stun.address().ok()).map(|at| at.port());
        let transport = transport(&config)?;
        let replicas = Replicas::of(&config, &listener, &store, &transport).await?;
        let coordinator = Coordinator::new(coordinator::Settings {
            derp_map: DerpMap::embedded(&access_url, stun_port),
            access: Arc::new(store.clone()),
            resume_key: Some(shared_key(&store, RESUME_KEY).await?),
        })
        .map_err(|error| StartError::Other(error.to_string()))?;
        let mesh_key = replicas.as_ref().map(Replicas::mesh_key);
        let relay = relay::Settings { mesh_key, ..relay::Settings::default() };
        let relay = Relay::new(relay, Arc::new(coordinator.clone()))
            .map_err(|error| StartError::Other(error.to_string()))?;
        let provisioner = Provisioner::new(settings(&config, &listener, transport)?);
        let state = State::new(Shared {
            access_url,
            replica_id: Uuid::new_v4(),
            store,
            pubsub,
            coordinator,
            relay,
            provisioner,
            faults,
            config,
        });

        let (tasks, together) = (Tasks::default(), Tasks::default());
        tasks.spawn(provisioner::run(state.clone(), tasks.stopping()));
        if let Some(replicas) = replicas {
            together.spawn(replicas.run(state.clone(), together.stopping()));
        }
        if let Some(stun) = stun {
            tasks.spawn(until(tasks.stopping(), async move { match stun.serve().await {} }));
        }
        if let Some(control) = control {
            let serve = control.serve(state.faults.clone(), state.relay.clone());
            tasks.spawn(until(tasks.stopping(), serve));
        }
        let inject = from_fn_with_state(state.faults.clone(), faults::http::inject);
        let router = crate::http::router(state.clone()).layer(inject);
        let (stop_listener, stopped) = oneshot::channel();
        let listener = Aborted(tokio::spawn(
            listener
                .serve(router, async {
                    // The sender gone means the same.
                    let _ = stopped.await;
                })
                .boxed(),
        ));
        Ok(Self { state, address, tasks, replicas: together, stop_listener, listener })
    }

    /// The URL by which clients and agents reach it.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.state.access_url
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What all of it shares.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The user who was there first, an owner; made if there is none yet.
    ///
    /// # Errors
    /// When the state does not answer, or the name is not one.
    pub async fn first_user(&self, username: &str, email: &str) -> Result<User, AskError> {
        let store = &self.state.store;
        let first = |users: Vec<User>| {
            users
                .into_iter()
                .filter(|user| user.role == Role::Owner)
                .min_by_key(|user| (user.created_at, user.id))
        };
        if let Some(user) = first(store.users().await?) {
            return Ok(user);
        }
        let new = NewUser {
            id: Uuid::new_v4(),
            username: username.to_owned(),
            email: email.to_owned(),
            name: String::new(),
            role: Role::Owner,
        };
        match store.create_user(&new, Timestamp::now()).await {
            Ok(user) => Ok(user),
            // Another process on this state was quicker.
            Err(error) => first(store.users().await?).ok_or_else(|| error.into()),
        }
    }

    /// A new token of a user. It is told once; only its hash is kept.
    ///
    /// # Errors
    /// When the state does not answer, or the user has a token of this name.
    pub async fn new_token(
        &self,
        user: Uuid,
        name: &str,
        lifetime: Duration,
    ) -> Result<SessionToken, AskError> {
        let token = SessionToken::generate().map_err(|_| AskError::NoEntropy)?;
        let now = Timestamp::now();
        let key = ApiKey {
            id: token.id().to_owned(),
            user_id: user,
            hashed_secret: token.hashed_secret(),
            login_type: LoginType::Token,
            token_name: name.to_owned(),
            lifetime,
            expires_at: now.plus(lifetime),
            last_used_at: now,
            created_at: now,
            updated_at: now,
        };
        self.state.store.create_api_key(&key).await?;
        Ok(token)
    }

    /// Makes a workspace of the active version of a template, by default the built-in one.
    ///
    /// # Errors
    /// When the name is taken, the template is not known, or needs values.
    pub async fn create_workspace(
        &self,
        owner: Uuid,
        name: &str,
        of: Option<&str>,
    ) -> Result<Made, AskError> {
        let store = &self.state.store;
        let template = match of {
            Some(name) => store.template_by_name(name).await?,
            None => {
                let name = template::BUILT_IN_NAME;
                create::template(&self.state, name, template::BUILT_IN, owner).await?
            }
        };
        let request = WorkspaceRequest {
            owner,
            name: name.to_owned(),
            version: store.template_version(template.active_version_id).await?,
            preset: None,
            parameters: std::collections::BTreeMap::new(),
            ttl: template.default_ttl,
            autostart_schedule: None,
            automatic_updates: AutomaticUpdates::Never,
            reason: BuildReason::Initiator,
        };
        Ok(create::workspace(&self.state, &request).await?)
    }

    /// Waits until a workspace's build has succeeded, and gives its agents, who may not have
    /// connected yet.
    ///
    /// # Errors
    /// When the build ends otherwise.
    pub async fn built(&self, made: &Made) -> Result<Vec<Agent>, AskError> {
        let channel = workspace_owner(made.workspace.owner_id);
        let mut news = self.state.pubsub.subscribe(&channel).await?;
        loop {
            let job = self.state.store.job(made.job.id).await?;
            match job.status() {
                JobStatus::Succeeded => {
                    return Ok(self.state.store.agents_of_build(made.build.id).await?);
                }
                status @ (JobStatus::Failed | JobStatus::Canceled) => {
                    let error = job.error.unwrap_or_default();
                    return Err(AskError::Build { status, error });
                }
                JobStatus::Pending | JobStatus::Running | JobStatus::Canceling => {}
            }
            match timeout(LOOK, news.recv()).await {
                Ok(Some(_)) | Err(Elapsed { .. }) => {}
                Ok(None) => return Err(PubsubError::Closed.into()),
            }
        }
    }

    /// Ends it: agents leave, builds are given back, connections are closed, the state is.
    pub async fn shutdown(mut self) {
        self.tasks.stop(PATIENCE).await;
        // It may have ended by itself.
        let _ = self.stop_listener.send(());
        if let Err(error) = (&mut self.listener.0).await {
            tracing::error!(%error, "the listener's task panicked");
        }
        self.replicas.stop(GOODBYE).await;
        self.state.pubsub.close().await;
        self.state.store.close().await;
    }
}

impl std::fmt::Debug for Deployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployment").field("address", &self.address).finish_non_exhaustive()
    }
}

/// STUN, beside the listener. Without it, all goes through the relay.
async fn stun(listener: SocketAddr) -> Option<Stun> {
    match Stun::bind(SocketAddr::new(listener.ip(), 0)).await {
        Ok(stun) => Some(stun),
        Err(error) => {
            tracing::warn!(%error, "no STUN: direct connections are not found");
            None
        }
    }
}

/// How agents in this process reach it, and other servers: with TLS, by its own certificate.
fn transport(config: &Config) -> Result<Transport, StartError> {
    let ca_file = config.tls.as_ref().map(|tls| tls.certificate.clone());
    let options = coderctl_transport::Options { ca_file, ..Default::default() };
    Ok(Transport::new(options)?)
}

/// Agents in this process take the shortest way: the listener itself, by plain HTTP. With TLS, they
/// need the name that is on the certificate.
fn settings(
    config: &Config,
    listener: &Listener,
    transport: Transport,
) -> Result<provisioner::Settings, StartError> {
    let server = match &config.tls {
        Some(_) => listener.access_url().clone(),
        None => config.own_url(listener.address()).map_err(ListenError::from)?,
    };
    Ok(provisioner::Settings {
        server,
        transport,
        workspaces: config.workspaces.clone(),
        mode: config.agents.clone(),
        services: config.services.clone(),
    })
}

/// Runs until the deployment stops.
async fn until(mut stopping: Stopping, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stopping.requested() => {}
    }
}
