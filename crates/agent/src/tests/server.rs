//! A server that says and notes what a test wants.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use coderctl_drpc::{
    Incoming, RpcError, Server as RpcServer,
    proto::{agent as proto, rpc::agent as rpc},
};
use coderctl_transport::BoxStream;
use proto::lifecycle::State;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::PATIENCE;
use crate::{
    server::{BoxFuture, DialError, ReinitError, ReinitEvent, RunsFor, Server, Version},
    token::Token,
};

/// One answer to `/reinit`.
pub(super) type ReinitAnswer = Result<ReinitEvent, ReinitError>;

/// What the server does next.
struct Plan {
    /// Whose row the next connection is bound to.
    agent: Uuid,
    manifest: proto::Manifest,
    refusals: VecDeque<DialError>,
    /// Whether the next calls of this name fail.
    failures: BTreeMap<&'static str, VecDeque<bool>>,
    /// Calls of this name are never answered.
    silent: Option<&'static str>,
    log_limit: bool,
    report_interval: prost_types::Duration,
    unimplemented: Vec<&'static str>,
}

/// What the server has seen.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// Versions asked for, when, and by which token.
    pub(super) dials: Vec<(Version, Instant, String)>,
    /// Names of the calls.
    pub(super) calls: Vec<String>,
    /// Reports by the row they went to.
    lifecycle: Vec<(Uuid, State, SystemTime)>,
    pub(super) startups: Vec<(Uuid, proto::Startup)>,
    pub(super) logs: Vec<(Uuid, proto::Log)>,
    pub(super) timings: Vec<proto::Timing>,
    pub(super) stats: Vec<Option<proto::Stats>>,
    pub(super) metadata: Vec<proto::Metadata>,
    pub(super) health: Vec<Vec<i32>>,
    pub(super) connections: Vec<proto::Connection>,
    /// For whom events were waited for.
    pub(super) reinits: Vec<RunsFor>,
    pub(super) open_sessions: usize,
}

impl Seen {
    pub(super) fn count(&self, rpc: &str) -> usize {
        self.calls.iter().filter(|call| *call == rpc).count()
    }

    pub(super) fn lifecycle(&self, agent: Uuid) -> Vec<(State, SystemTime)> {
        let of = self.lifecycle.iter().filter(|(row, _, _)| *row == agent);
        of.map(|(_, state, at)| (*state, *at)).collect()
    }
}

pub(super) struct FakeServer {
    plan: Mutex<Plan>,
    seen: watch::Sender<Seen>,
    /// Ends all sessions when it changes.
    cut: watch::Sender<u64>,
    sessions: Mutex<JoinSet<()>>,
    tokens: Mutex<u64>,
    reinit: mpsc::UnboundedSender<ReinitAnswer>,
    reinits: tokio::sync::Mutex<mpsc::UnboundedReceiver<ReinitAnswer>>,
    patience: Mutex<Duration>,
}

impl FakeServer {
    pub(super) fn new(agent: Uuid) -> Self {
        let (reinit, reinits) = mpsc::unbounded_channel();
        Self {
            plan: Mutex::new(Plan {
                agent,
                manifest: proto::Manifest {
                    agent_name: "main".to_owned(),
                    workspace_name: "dev".to_owned(),
                    owner_username: "alice".to_owned(),
                    workspace_id: vec![1; 16],
                    ..Default::default()
                },
                refusals: VecDeque::new(),
                failures: BTreeMap::new(),
                silent: None,
                log_limit: false,
                report_interval: prost_types::Duration { seconds: 30, nanos: 0 },
                unimplemented: Vec::new(),
            }),
            seen: watch::Sender::new(Seen::default()),
            cut: watch::Sender::new(0),
            sessions: Mutex::default(),
            tokens: Mutex::new(0),
            reinit,
            reinits: tokio::sync::Mutex::new(reinits),
            patience: Mutex::new(PATIENCE),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_token(&self) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        *tokens += 1;
        format!("token-{tokens}")
    }

    pub(super) fn manifest(&self, change: impl FnOnce(&mut proto::Manifest)) {
        change(&mut self.plan().manifest);
    }

    /// The next connection is bound to this row.
    pub(super) fn be(&self, agent: Uuid) {
        self.plan().agent = agent;
    }

    /// Refuses the next dial.
    pub(super) fn refuse(&self, error: DialError) {
        self.plan().refusals.push_back(error);
    }

    /// Answers the next calls of this name with an error.
    pub(super) fn fail(&self, rpc: &'static str, times: usize) {
        self.plan().failures.insert(rpc, vec![true; times].into());
    }

    /// Answers the next call of this name, and the one after that with an error.
    pub(super) fn fail_second(&self, rpc: &'static str) {
        self.plan().failures.insert(rpc, [false, true].into());
    }

    pub(super) fn never_answer(&self, rpc: &'static str) {
        self.plan().silent = Some(rpc);
    }

    pub(super) fn lack(&self, rpc: &'static str) {
        self.plan().unimplemented.push(rpc);
    }

    pub(super) fn limit_logs(&self) {
        self.plan().log_limit = true;
    }

    /// Ends all sessions.
    pub(super) fn drop_sessions(&self) {
        self.cut.send_modify(|cut| *cut += 1);
    }

    /// Answers `/reinit`.
    pub(super) fn answer_reinit(&self, answer: ReinitAnswer) {
        self.reinit.send(answer).unwrap();
    }

    pub(super) fn claim(&self, owner: Option<Uuid>) {
        let reason = "prebuild_claimed".to_owned();
        self.answer_reinit(Ok(ReinitEvent { reason, owner_id: owner }));
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits for an hour from now on, of a clock that is wound forward.
    pub(super) fn be_patient(&self) {
        *self.patience.lock().unwrap() = Duration::from_secs(3600);
    }

    /// Waits until this was seen.
    pub(super) async fn wait(&self, what: &str, until: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let patience = *self.patience.lock().unwrap();
        let found = timeout(patience, seen.wait_for(|seen| until(seen))).await;
        let found = found.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("waited in vain for {what}: {:#?}", self.seen()))
    }

    /// Waits until a call of this name was seen so often.
    pub(super) async fn wait_calls(&self, rpc: &str, count: usize) -> Seen {
        self.wait(rpc, |seen| seen.count(rpc) >= count).await
    }

    pub(super) async fn wait_states(&self, agent: Uuid, expected: &[State]) -> Seen {
        let what = format!("{expected:?} of {agent}");
        self.wait(&what, |seen| super::states(seen, agent) == expected).await
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(note);
    }

    async fn session(self: Arc<Self>, far: tokio::io::DuplexStream, agent: Uuid) {
        let mut cut = self.cut.subscribe();
        cut.borrow_and_update();
        let mut server = RpcServer::connect(far);
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                call = server.accept() => match call {
                    Some(call) => {
                        calls.spawn(Arc::clone(&self).answer(call, agent));
                    }
                    None => break,
                },
                Some(_) = calls.join_next() => {}
                _ = cut.changed() => break,
            }
        }
        self.note(|seen| seen.open_sessions -= 1);
    }

    async fn answer(self: Arc<Self>, call: Incoming, agent: Uuid) {
        let name = call.rpc().to_owned();
        let (fails, silent, lacks) = {
            let mut plan = self.plan();
            let next = plan.failures.get_mut(name.as_str()).and_then(VecDeque::pop_front);
            let fails = next.unwrap_or(false);
            (fails, plan.silent == Some(name.as_str()), plan.unimplemented.contains(&name.as_str()))
        };
        self.note(|seen| seen.calls.push(name.clone()));
        // The caller may be gone already.
        let _ = if lacks {
            call.unimplemented().await
        } else if fails {
            call.reject(RpcError::remote(0, "as the test wants it")).await
        } else if silent {
            let () = std::future::pending().await;
            Ok(())
        } else {
            self.serve(call, agent).await
        };
    }

    async fn serve(&self, call: Incoming, agent: Uuid) -> Result<(), RpcError> {
        match call.rpc().to_owned().as_str() {
            rpc::GET_MANIFEST => {
                let manifest = proto::Manifest {
                    agent_id: agent.into_bytes().to_vec(),
                    ..self.plan().manifest.clone()
                };
                call.unary(|_: proto::GetManifestRequest| async move { Ok(manifest) }).await
            }
            rpc::UPDATE_STARTUP => {
                call.unary(|request: proto::UpdateStartupRequest| async move {
                    let startup = request.startup.unwrap();
                    self.note(|seen| seen.startups.push((agent, startup.clone())));
                    Ok(startup)
                })
                .await
            }
            rpc::UPDATE_LIFECYCLE => {
                call.unary(|request: proto::UpdateLifecycleRequest| async move {
                    let lifecycle = request.lifecycle.unwrap();
                    let at = SystemTime::try_from(lifecycle.changed_at.unwrap()).unwrap();
                    let state = State::try_from(lifecycle.state).unwrap();
                    self.note(|seen| seen.lifecycle.push((agent, state, at)));
                    Ok(lifecycle)
                })
                .await
            }
            rpc::BATCH_CREATE_LOGS => {
                call.unary(|request: proto::BatchCreateLogsRequest| async move {
                    let source = Uuid::from_slice(&request.log_source_id).unwrap();
                    let log_limit_exceeded = self.plan().log_limit;
                    self.note(|seen| {
                        seen.logs.extend(request.logs.into_iter().map(|log| (source, log)));
                    });
                    Ok(proto::BatchCreateLogsResponse { log_limit_exceeded })
                })
                .await
            }
            rpc::SCRIPT_COMPLETED => {
                call.unary(|request: proto::WorkspaceAgentScriptCompletedRequest| async move {
                    self.note(|seen| seen.timings.extend(request.timing));
                    Ok(proto::WorkspaceAgentScriptCompletedResponse {})
                })
                .await
            }
            rpc::UPDATE_STATS => {
                call.unary(|request: proto::UpdateStatsRequest| async move {
                    self.note(|seen| seen.stats.push(request.stats));
                    let report_interval = Some(self.plan().report_interval);
                    Ok(proto::UpdateStatsResponse { report_interval })
                })
                .await
            }
            rpc::BATCH_UPDATE_METADATA => {
                call.unary(|request: proto::BatchUpdateMetadataRequest| async move {
                    self.note(|seen| seen.metadata.extend(request.metadata));
                    Ok(proto::BatchUpdateMetadataResponse {})
                })
                .await
            }
            rpc::BATCH_UPDATE_APP_HEALTHS => {
                call.unary(|request: proto::BatchUpdateAppHealthRequest| async move {
                    let health = request.updates.iter().map(|update| update.health).collect();
                    self.note(|seen| seen.health.push(health));
                    Ok(proto::BatchUpdateAppHealthResponse {})
                })
                .await
            }
            rpc::REPORT_CONNECTION => {
                call.unary(|request: proto::ReportConnectionRequest| async move {
                    self.note(|seen| seen.connections.extend(request.connection));
                    Ok(())
                })
                .await
            }
            rpc::GET_ANNOUNCEMENT_BANNERS => {
                call.unary(|_: proto::GetAnnouncementBannersRequest| async move {
                    Ok(proto::GetAnnouncementBannersResponse::default())
                })
                .await
            }
            rpc::GET_SERVICE_BANNER => {
                call.unary(|_: proto::GetServiceBannerRequest| async move {
                    Ok(proto::ServiceBanner::default())
                })
                .await
            }
            rpc::GET_RESOURCES_MONITORING_CONFIGURATION => {
                call.unary(|_: proto::GetResourcesMonitoringConfigurationRequest| async move {
                    Ok(proto::GetResourcesMonitoringConfigurationResponse::default())
                })
                .await
            }
            _ => call.unimplemented().await,
        }
    }
}

impl Server for Arc<FakeServer> {
    fn rpc<'a>(
        &'a self,
        token: &'a Token,
        version: Version,
    ) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        Box::pin(async move {
            let token = token.expose().to_owned();
            self.note(|seen| seen.dials.push((version, Instant::now(), token)));
            let (agent, refusal) = {
                let mut plan = self.plan();
                (plan.agent, plan.refusals.pop_front())
            };
            if let Some(refusal) = refusal {
                return Err(refusal);
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            self.note(|seen| seen.open_sessions += 1);
            let mut sessions = self.sessions.lock().unwrap();
            sessions.spawn(Arc::clone(self).session(far, agent));
            Ok(Box::new(near) as BoxStream)
        })
    }

    fn reinit<'a>(
        &'a self,
        _: &'a Token,
        runs_for: RunsFor,
    ) -> BoxFuture<'a, Result<ReinitEvent, ReinitError>> {
        Box::pin(async move {
            self.note(|seen| seen.reinits.push(runs_for));
            let mut answers = self.reinits.lock().await;
            answers.recv().await.unwrap()
        })
    }
}
