//! One agent, from its first manifest to its last report.
//!
//! ```text
//!   stay_connected ── dial ── session ── dial ── session …      what the server hears and says
//!   scripts ───────── start scripts ── cron                     begun by the first manifest
//!   ports ─────────── tailnet ── ssh, pty, speedtest, http, …   likewise
//! ```
//!
//! What must outlive a connection lives in the [`Agent`]: its life, what waits to be told, the
//! tailnet with everybody who is connected through it. A claim or another agent id ends it, and
//! the supervisor makes a new one.

use std::{
    ffi::OsString,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    Options,
    backoff::Backoff,
    claims::Ledger,
    environment::Environment,
    lifecycle::{self, State},
    logs::Logs,
    manifest::Manifest,
    ports,
    reports::{Connections, Timings},
    scripts::{Directories, Outcome, Runner, Stage, Strays},
    server::{DialError, Server, Version},
    session,
    sessions::Sessions,
    ssh,
    tailnet::{Network, Tailnet},
    terminals::Terminals,
    token::Token,
};

/// How long the last reports may take (`agent/agent.go`, `Close`).
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long SSH sessions may take to end (`agent/agent.go`, `Close`).
const SSH_CLOSE: Duration = Duration::from_secs(5);

/// What all agents of one supervisor share.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) server: Arc<dyn Server>,
    pub(crate) network: Arc<dyn Network>,
    /// The variables that commands inherit.
    pub(crate) process: Arc<[(OsString, OsString)]>,
    pub(crate) strays: Arc<Strays>,
    /// Whom we run for.
    pub(crate) ledger: watch::Sender<Ledger>,
    /// The token of the latest connection.
    pub(crate) token: watch::Sender<Option<Token>>,
}

/// Why an agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process ends.
    Shutdown,
    /// The workspace was claimed.
    Claimed,
    /// The server says that we are another agent.
    NewAgent,
}

/// One agent.
pub(crate) struct Agent {
    pub(crate) world: Arc<World>,
    pub(crate) life: lifecycle::Handle,
    pub(crate) logs: Arc<Logs>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) timings: Arc<Timings>,
    /// The latest manifest.
    pub(crate) manifest: watch::Sender<Option<Arc<Manifest>>>,
    /// What commands find now; there is one as soon as there is a manifest.
    pub(crate) environment: watch::Sender<Option<Environment>>,
    /// Texts of the banners that are enabled.
    banners: Mutex<Vec<String>>,
    pub(crate) tailnet: watch::Sender<Option<Arc<dyn Tailnet>>>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) ssh: ssh::Server,
    pub(crate) terminals: Arc<Terminals>,
    /// Whether there is a session.
    connected: watch::Sender<bool>,
    /// The end has begun: what need not go on, stops.
    pub(crate) closing: watch::Sender<bool>,
    directories: Directories,
    runner: OnceLock<Arc<Runner>>,
}

impl Agent {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        let options = &world.options;
        let connections = Arc::new(Connections::default());
        let sessions = Arc::new(Sessions::new(Arc::clone(&connections)));
        let ssh = ssh::Server::new(ssh::Settings {
            process_environment: world.process.to_vec(),
            blocks: options.blocks,
            max_timeout: options.ssh_max_timeout,
            observer: sessions.clone(),
        });
        let environment = watch::Sender::new(None);
        let terminals = Arc::new(Terminals::new(environment.subscribe(), sessions.clone()));
        Arc::new(Self {
            life: lifecycle::Handle::new(),
            logs: Arc::default(),
            connections,
            timings: Arc::default(),
            manifest: watch::Sender::new(None),
            environment,
            banners: Mutex::default(),
            tailnet: watch::Sender::new(None),
            sessions,
            ssh,
            terminals,
            connected: watch::Sender::new(false),
            closing: watch::Sender::new(false),
            directories: Directories::new(options.log_dir.clone(), &options.script_data_dir),
            runner: OnceLock::new(),
            world,
        })
    }

    /// Lives until it is asked to end or the server has another agent for us, then ends in order.
    pub(crate) async fn run(self: Arc<Self>, asked: impl Future<Output = End> + Send) -> End {
        let mut tasks = JoinSet::new();
        let scripts = tasks.spawn(Arc::clone(&self).scripts().boxed());
        tasks.spawn(ports::serve(Arc::clone(&self)).boxed());

        let mut connected = std::pin::pin!(self.stay_connected());
        let end = tokio::select! {
            () = &mut connected => End::NewAgent,
            end = asked => end,
        };
        // Whatever we still have to say belongs to the old agent's row, which is out of reach once
        // the server has another for us. After a claim the next connection would be to that one.
        let heard = watch::Sender::new(match end {
            End::Shutdown => true,
            End::Claimed => *self.connected.borrow(),
            End::NewAgent => false,
        });
        let mut closing = std::pin::pin!(self.close(&heard));
        loop {
            let reachable = *heard.borrow();
            tokio::select! {
                () = &mut closing => break,
                () = &mut connected, if reachable => {
                    heard.send_replace(false);
                }
            }
        }
        scripts.abort();
        tasks.shutdown().await;
        end
    }

    /// Connects again and again; returns when the server has another agent for us.
    async fn stay_connected(self: &Arc<Self>) {
        let mut backoff = Backoff::new();
        let mut version = Version::V2_4;
        loop {
            tokio::time::sleep(backoff.pause()).await;
            let token = match self.world.options.token.refresh().await {
                Ok(token) => token,
                Err(error) => {
                    tracing::warn!(%error, "not connected");
                    continue;
                }
            };
            self.world.token.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&token);
                *known = Some(token.clone());
                changed
            });
            match self.world.server.rpc(&token, version).await {
                Ok(stream) => {
                    let begun = Instant::now();
                    let client = coderctl_drpc::Client::connect(stream);
                    self.connected.send_replace(true);
                    let end = session::run(self, client, version).await;
                    self.connected.send_replace(false);
                    match end {
                        session::End::NewAgent => return,
                        session::End::Broken { useful, why } => {
                            tracing::info!(%why, "the connection to the server has ended");
                            if useful {
                                backoff.was_good(begun.elapsed());
                            }
                        }
                    }
                    version = Version::V2_4;
                }
                Err(error @ DialError::Version { .. }) if version > Version::V2_0 => {
                    tracing::info!(%error, "asking for an older one");
                    version = Version::V2_0;
                    backoff.reset();
                }
                // Ordinary while a build is under way.
                Err(error @ DialError::Unauthorized(_)) => tracing::debug!(%error, "not connected"),
                Err(
                    error @ (DialError::Version { .. }
                    | DialError::Status { .. }
                    | DialError::Transport(_)
                    | DialError::Request(_)),
                ) => tracing::warn!(%error, "not connected"),
            }
        }
    }

    /// Runs the start scripts of the first manifest, then those that run by the clock.
    async fn scripts(self: Arc<Self>) {
        let mut manifest = self.manifest.subscribe();
        let Ok(first) = manifest.wait_for(Option::is_some).await.map(|first| first.clone()) else {
            return;
        };
        let Some(environment) = self.environment.borrow().clone() else { return };
        let closing = self.closing.subscribe();
        if *closing.borrow() || self.life.state() != State::Created {
            return;
        }
        let runner = Runner::new(
            first.map(|first| first.scripts.clone()).unwrap_or_default(),
            self.directories.clone(),
            Arc::clone(&self.world.process),
            Arc::clone(&self.logs),
            Arc::clone(&self.timings),
            Arc::clone(&self.world.strays),
        );
        let runner = Arc::clone(self.runner.get_or_init(|| Arc::new(runner)));
        self.life.enter(State::Starting);
        let outcome = runner.execute(Stage::Start, &environment, &closing).await;
        if *closing.borrow() {
            return;
        }
        self.life.enter(match outcome {
            Outcome::Done => State::Ready,
            Outcome::TimedOut => State::StartTimeout,
            Outcome::Failed => State::StartError,
        });
        let (mut stop, now) = (closing, self.environment.subscribe());
        tokio::select! {
            () = runner.by_the_clock(&now) => {}
            _ = stop.wait_for(|closing| *closing) => {}
        }
    }

    /// Ends in the order of upstream's agent: SSH first, so that sessions do not hang in a tunnel
    /// that is gone; then leave is taken and the stop scripts run; then the last state is told,
    /// unless nobody hears it; then the tailnet goes.
    async fn close(&self, heard: &watch::Sender<bool>) {
        tracing::info!("the agent ends");
        self.life.enter(State::ShuttingDown);
        if timeout(SSH_CLOSE, self.ssh.close()).await.is_err() {
            tracing::warn!("SSH sessions did not end in time");
        }
        self.terminals.close().await;
        self.closing.send_replace(true);

        let tailnet = self.tailnet.borrow().clone();
        let leave = async {
            if let Some(tailnet) = &tailnet {
                tailnet.leave().await;
            }
        };
        let (outcome, ()) = tokio::join!(self.stop_scripts(), leave);
        self.life.enter(match outcome {
            Outcome::Done => State::Off,
            Outcome::TimedOut => State::ShutdownTimeout,
            Outcome::Failed => State::ShutdownError,
        });

        let told = async {
            tokio::join!(self.life.settled(), self.logs.drained(), self.timings.drained());
        };
        let mut heard = heard.subscribe();
        tokio::select! {
            () = told => {}
            _ = heard.wait_for(|heard| !heard) => {}
            () = tokio::time::sleep(LAST_WORDS) => {
                tracing::warn!("the last state of the agent did not reach the server");
            }
        }
        if let Some(tailnet) = tailnet {
            tailnet.close().await;
        }
    }

    async fn stop_scripts(&self) -> Outcome {
        let environment = self.environment.borrow().clone();
        match (self.runner.get(), environment) {
            (Some(runner), Some(environment)) => {
                let never = watch::Sender::new(false);
                runner.execute(Stage::Stop, &environment, &never.subscribe()).await
            }
            // There never was a manifest.
            (None | Some(_), None) | (None, Some(_)) => Outcome::Done,
        }
    }

    /// The agent's commands and sessions find what the latest manifest, token and banners say.
    pub(crate) fn refresh_environment(&self) {
        let Some(manifest) = self.manifest.borrow().clone() else { return };
        let token = self.world.token.borrow().clone();
        let token = token.as_ref().map_or("", Token::expose);
        let banners = self.banners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let session = manifest.session(token, &self.directories.bin(), banners);
        self.ssh.set_environment(session.clone());
        let process = Arc::clone(&self.world.process);
        self.environment.send_replace(Some(Environment::new(process, Arc::new(session))));
    }

    pub(crate) fn set_banners(&self, banners: Vec<String>) {
        {
            let mut known = self.banners.lock().unwrap_or_else(PoisonError::into_inner);
            if *known == banners {
                return;
            }
            *known = banners;
        }
        self.refresh_environment();
    }
}

impl Drop for Agent {
    /// An agent that is not ended in order leaves no sessions behind either.
    fn drop(&mut self) {
        self.ssh.begin_close();
    }
}
