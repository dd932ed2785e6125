//! The real world: a Coder deployment.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use coderctl_tunneler::{AgentId, BuildNumber, Event, Failure, FailureKind};
use futures_util::FutureExt as _;
use http::StatusCode;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{
    dialer::Dialer,
    facts,
    progress::{Logs, build_lines},
    world::{Dialed, World},
};
use crate::{
    api::{self, BuildRequest, Client, Fact, Reason, Transition, Workspace},
    apps::BoxFuture,
    ui::{Ui, quoted},
};

/// How long the number of a start build is waited for before the workspace is read again: the
/// answer to our own request takes a round trip.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// A deployment and one workspace in it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Deployment {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    dialer: Arc<Dialer>,
    ui: Ui,
    workspace: Uuid,
    usage_app: Option<String>,
    known: Mutex<Known>,
    /// The start build that is under way, or was the last, once it is known.
    start_build: watch::Sender<Option<Uuid>>,
    watch: Mutex<Option<JoinHandle<()>>>,
}

/// What is remembered between calls.
struct Known {
    workspace: Workspace,
    /// The agent that was asked for, or chosen: later builds are searched for the same name.
    agent: Option<String>,
    /// The autostop that was told.
    told_stop: Option<Timestamp>,
}

impl Deployment {
    pub(super) fn new(
        client: Client,
        dialer: Arc<Dialer>,
        ui: &Ui,
        workspace: Workspace,
        agent: Option<String>,
        usage_app: Option<String>,
    ) -> (Self, Event) {
        let inner = Inner {
            client,
            dialer,
            ui: ui.clone(),
            workspace: workspace.id,
            usage_app,
            known: Mutex::new(Known { workspace: workspace.clone(), agent, told_stop: None }),
            start_build: watch::Sender::new(None),
            watch: Mutex::new(None),
        };
        let deployment = Self { inner: Arc::new(inner) };
        let first = deployment.inner.learn(workspace).unwrap_or(Event::OtherMessage);
        (deployment, first)
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a person sits at the other end, rather than a forward.
    fn is_session(&self) -> bool {
        self.usage_app.as_deref() != Some("")
    }

    /// Remembers what was read, and says it; nothing for a transition that is not known.
    fn learn(&self, workspace: Workspace) -> Option<Event> {
        let mut known = self.known();
        if known.agent.is_none() {
            known.agent = facts::choose(&workspace, None).ok().map(|agent| agent.name.clone());
        }
        let told = facts::snapshot(&workspace, known.agent.as_deref());
        let build = &workspace.latest_build;
        if known.told_stop != build.deadline
            && self.is_session()
            && let Some(minutes) = facts::stops_soon(&workspace, Timestamp::now())
        {
            known.told_stop = build.deadline;
            let name = quoted(&workspace.name);
            self.ui.warn(format_args!("workspace {name} stops by itself in {minutes} min"));
        }
        self.start_build.send_replace((build.transition == "start").then_some(build.id));
        known.workspace = workspace;
        told.map(Event::Snapshot)
    }

    async fn resync(&self) -> Event {
        match self.client.workspace(self.workspace).await {
            Ok(workspace) => self.learn(workspace).unwrap_or_else(|| {
                let why = "the workspace is in a transition that this client does not know";
                Event::ResyncFailed(Failure::new(FailureKind::Transient, why))
            }),
            Err(error) => Event::ResyncFailed(facts::failure(&error)),
        }
    }

    /// Asks for a start build. A template that wants its active version gets it.
    async fn start(&self) -> Event {
        let workspace = self.known().workspace.clone();
        if workspace.dormant_at.is_some() {
            // Newer servers wake it with the start; if this fails, the start says why.
            if let Err(error) = self.client.wake(self.workspace).await {
                tracing::debug!(%error, "waking the workspace");
            }
        }
        let updating =
            || self.ui.line("The template wants its active version; updating the workspace");
        let start = BuildRequest::new(Transition::Start, Reason::SshConnection);
        match self.client.build_workspace(&workspace, start, updating).await {
            Ok(build) => {
                let number = BuildNumber(build.build_number);
                self.start_build.send_replace(Some(build.id));
                self.known().workspace.latest_build = build;
                Event::StartAccepted { number }
            }
            Err(error) if error.is(StatusCode::CONFLICT) => {
                Event::StartConflict(facts::failure(&error))
            }
            Err(error) => Event::StartFailed(facts::failure(&error)),
        }
    }

    /// A build that did not succeed, with its job's error, which only a read of the workspace
    /// tells.
    async fn with_reason(&self, fact: &Fact) -> Event {
        let told = match self.client.workspace(self.workspace).await {
            Ok(workspace) => self.learn(workspace),
            Err(error) => {
                tracing::debug!(%error, "the reason is not to be had");
                None
            }
        };
        told.or_else(|| facts::fact(fact)).unwrap_or(Event::OtherMessage)
    }

    /// The start build to follow: the one that was just asked for, or, where nobody says which, the
    /// one that a fresh read tells.
    async fn start_build(&self) -> Uuid {
        let mut told = self.start_build.subscribe();
        loop {
            let build = async { told.wait_for(Option::is_some).await.ok().and_then(|told| *told) };
            if let Ok(Some(build)) = tokio::time::timeout(TOLD_WITHIN, build).await {
                return build;
            }
            match self.client.workspace(self.workspace).await {
                Ok(workspace) if workspace.latest_build.transition == "start" => {
                    return workspace.latest_build.id;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "no build to follow yet"),
            }
        }
    }

    /// Opens the watch and hands its facts on until it breaks.
    async fn watch(self: Arc<Self>, told: mpsc::UnboundedSender<Event>) -> Event {
        let agent = self.known().agent.clone();
        let mut watch = match self.client.watch(self.workspace, agent.as_deref()).await {
            Ok(watch) => watch,
            Err(error) => return Event::WatchFailed(facts::watch_failure(&error)),
        };
        let inner = Arc::downgrade(&self);
        let task = tokio::spawn(
            async move {
                loop {
                    let event = match watch.next().await {
                        Ok(Fact::Snapshot(workspace)) => match inner.upgrade() {
                            Some(inner) => inner.learn(*workspace).unwrap_or(Event::OtherMessage),
                            None => return,
                        },
                        Ok(fact) if facts::wants_reason(&fact) => match inner.upgrade() {
                            Some(inner) => inner.with_reason(&fact).await,
                            None => return,
                        },
                        Ok(fact) => match facts::fact(&fact) {
                            Some(event) => event,
                            None => continue,
                        },
                        Err(error) => {
                            // The driver may have ended.
                            let _ = told.send(Event::WatchLost(facts::watch_failure(&error)));
                            return;
                        }
                    };
                    if told.send(event).is_err() {
                        return;
                    }
                }
            }
            .boxed(),
        );
        let mut slot = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = slot.replace(task) {
            before.abort();
        }
        Event::WatchUp
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let slot = self.watch.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = slot.take() {
            task.abort();
        }
    }
}

impl World for Deployment {
    fn open_watch(&self, facts: mpsc::UnboundedSender<Event>) -> BoxFuture<'static, Event> {
        Box::pin(Arc::clone(&self.inner).watch(facts))
    }

    fn resync(&self) -> BoxFuture<'static, Event> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.resync().await })
    }

    fn read_agent(&self, agent: AgentId) -> BoxFuture<'static, Event> {
        let client = self.inner.client.clone();
        Box::pin(async move {
            match client.agent(Uuid::from_u128(agent.0)).await {
                Ok(record) => Event::AgentRecord(facts::record(&record)),
                Err(error) => Event::AgentReadFailed { id: agent, failure: facts::failure(&error) },
            }
        })
    }

    fn start_workspace(&self) -> BoxFuture<'static, Event> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.start().await })
    }

    fn dial(&self, agent: AgentId) -> BoxFuture<'static, Result<Box<dyn Dialed>, Failure>> {
        let dialer = Arc::clone(&self.inner.dialer);
        Box::pin(async move { dialer.dial(agent).await })
    }

    fn report_usage(&self, agent: AgentId) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let app = inner.usage_app.as_deref().filter(|app| !app.is_empty());
            let session = app.map(|app| (Uuid::from_u128(agent.0), app));
            if let Err(error) = inner.client.report_usage(inner.workspace, session).await {
                tracing::debug!(%error, "usage was not reported");
            }
        })
    }

    fn network_changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(coderctl_tailnet::network::changed())
    }

    fn leave(&self) -> BoxFuture<'static, ()> {
        let dialer = Arc::clone(&self.inner.dialer);
        Box::pin(async move { dialer.leave().await })
    }
}

impl Logs for Deployment {
    fn follow_build(&self) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let build = inner.start_build().await;
            if let Err(error) = inner.client.follow_build_log(build, build_lines(&inner.ui)).await {
                tracing::debug!(%error, "the build's log is not to be had");
            }
        })
    }

    fn follow_scripts(&self) -> BoxFuture<'static, ()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            // The agent is new with its build: only a fresh read has its log sources.
            let workspace = match inner.client.workspace(inner.workspace).await {
                Ok(workspace) => workspace,
                Err(error) => return tracing::debug!(%error, "no scripts to follow"),
            };
            let name = inner.known().agent.clone();
            let Ok(agent) = facts::choose(&workspace, name.as_deref()) else { return };
            let sources = agent.log_names();
            let ui = inner.ui.clone();
            let say = move |line: api::LogLine| {
                let source = if line.source.is_empty() { "script" } else { &line.source };
                ui.log(source, &line.output);
            };
            if let Err(error) = inner.client.follow_agent_log(agent.id, &sources, say).await {
                tracing::debug!(%error, "the agent's log is not to be had");
            }
        })
    }
}
