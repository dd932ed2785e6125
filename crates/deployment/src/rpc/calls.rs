//! The calls of an agent (coder/coder: coderd/agentapi).
//!
//! An agent whose call fails begins its whole session anew, so that little is refused here: only
//! what would be stored as nonsense.

use std::sync::Arc;

use coderctl_drpc::{
    Incoming, RpcError,
    proto::{
        agent::{
            BatchCreateLogsRequest, BatchCreateLogsResponse, BatchUpdateAppHealthRequest,
            BatchUpdateAppHealthResponse, BatchUpdateMetadataRequest, BatchUpdateMetadataResponse,
            DeleteSubAgentRequest, DeleteSubAgentResponse, GetAnnouncementBannersRequest,
            GetAnnouncementBannersResponse, GetManifestRequest,
            GetResourcesMonitoringConfigurationRequest,
            GetResourcesMonitoringConfigurationResponse, GetServiceBannerRequest, Lifecycle,
            ListSubAgentsRequest, Manifest, PushResourcesMonitoringUsageRequest,
            PushResourcesMonitoringUsageResponse, ReportConnectionRequest, ServiceBanner, Startup,
            UpdateLifecycleRequest, UpdateStartupRequest, UpdateStatsRequest, UpdateStatsResponse,
            WorkspaceAgentScriptCompletedRequest, WorkspaceAgentScriptCompletedResponse,
            get_resources_monitoring_configuration_response::Config,
        },
        rpc::agent as rpc,
    },
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    manifest::{self, Parts, manifest},
    rules::{self, Refused},
    sub_agents,
};
use crate::{
    faults::CallFault,
    model::Timestamp,
    pubsub::channels::{WorkspaceEvent, WorkspaceEventKind},
    state::State,
    store::{AuthenticatedAgent, StoreError},
};

/// Data points and seconds between them that a Go agent gets by default
/// (coderd/agentapi/resources_monitoring.go). Nothing is to be monitored, so that it pushes none.
const MONITORING: Config = Config { num_datapoints: 20, collection_interval_seconds: 10 };

/// Answers the calls of one session.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) state: State,
    /// The row that the session is bound to.
    pub(super) agent: Uuid,
    pub(super) workspace: Uuid,
    version: Arc<str>,
    /// Ends the session.
    end: Arc<Notify>,
}

impl Caller {
    pub(super) fn new(
        state: &State,
        agent: &AuthenticatedAgent,
        version: &str,
        end: Arc<Notify>,
    ) -> Self {
        Self {
            state: state.clone(),
            agent: agent.agent.id,
            workspace: agent.workspace.id,
            version: version.into(),
            end,
        }
    }

    /// Answers a call.
    pub(super) async fn serve(self, call: Incoming) {
        let name = call.rpc().to_owned();
        if let Err(error) = self.answer(call).await {
            tracing::debug!(agent = %self.agent, call = ?name, %error, "a call ended early");
        }
    }

    async fn answer(&self, call: Incoming) -> Result<(), RpcError> {
        match self.state.faults.call(call.rpc(), self.agent) {
            None => {}
            Some(CallFault::Error { code, message }) => {
                return call.reject(RpcError::remote(code, message)).await;
            }
            Some(CallFault::DropSession) => {
                self.end.notify_one();
                // Unanswered until the session has ended.
                std::future::pending::<()>().await;
            }
        }
        match call.rpc() {
            rpc::GET_MANIFEST => {
                call.unary(|GetManifestRequest {}| async { Ok(self.manifest().await?) }).await
            }
            rpc::UPDATE_LIFECYCLE => {
                call.unary(async |request| Ok(self.lifecycle(request).await?)).await
            }
            rpc::UPDATE_STARTUP => {
                call.unary(async |request| Ok(self.startup(request).await?)).await
            }
            rpc::UPDATE_STATS => call.unary(async |request| Ok(self.stats(request).await?)).await,
            rpc::BATCH_UPDATE_APP_HEALTHS => {
                call.unary(async |request| Ok(self.app_healths(request).await?)).await
            }
            rpc::BATCH_UPDATE_METADATA => {
                call.unary(async |request| Ok(self.metadata(request).await?)).await
            }
            rpc::BATCH_CREATE_LOGS => {
                call.unary(async |request| Ok(self.logs(request).await?)).await
            }
            rpc::SCRIPT_COMPLETED => {
                call.unary(async |request| Ok(self.script_completed(request).await?)).await
            }
            rpc::REPORT_CONNECTION => {
                call.unary(async |request| Ok(self.connection(request).await?)).await
            }
            rpc::GET_SERVICE_BANNER => {
                call.unary(async |_: GetServiceBannerRequest| Ok(ServiceBanner::default())).await
            }
            rpc::GET_ANNOUNCEMENT_BANNERS => {
                call.unary(async |_: GetAnnouncementBannersRequest| {
                    Ok(GetAnnouncementBannersResponse::default())
                })
                .await
            }
            rpc::GET_RESOURCES_MONITORING_CONFIGURATION => {
                call.unary(async |_: GetResourcesMonitoringConfigurationRequest| {
                    Ok(GetResourcesMonitoringConfigurationResponse {
                        config: Some(MONITORING),
                        ..Default::default()
                    })
                })
                .await
            }
            rpc::PUSH_RESOURCES_MONITORING_USAGE => {
                call.unary(async |_: PushResourcesMonitoringUsageRequest| {
                    Ok(PushResourcesMonitoringUsageResponse {})
                })
                .await
            }
            rpc::CREATE_SUB_AGENT => {
                call.unary(async |request| Ok(sub_agents::create(self, request).await?)).await
            }
            rpc::DELETE_SUB_AGENT => {
                call.unary(async |request: DeleteSubAgentRequest| {
                    sub_agents::delete(self, &request.id).await?;
                    Ok(DeleteSubAgentResponse {})
                })
                .await
            }
            rpc::LIST_SUB_AGENTS => {
                call.unary(async |_: ListSubAgentsRequest| Ok(sub_agents::list(self).await?)).await
            }
            // The Tailnet service, and what neither has.
            _ => {
                let agent = self.state.faults.agent_id(self.agent);
                self.state.coordinator.serve_agent_call(call, agent).await;
                Ok(())
            }
        }
    }

    async fn manifest(&self) -> Result<Manifest, Failure> {
        let store = &self.state.store;
        let details = store.agent_details(self.agent).await?;
        let workspace = store.workspace(self.workspace).await?;
        let owner = store.user(workspace.owner_id).await?;
        let metadata = store.metadata(self.agent).await?;
        let metadata: Vec<_> = metadata.into_iter().map(|known| known.description).collect();
        let mut message = manifest(Parts {
            agent: &details.agent,
            workspace: &workspace,
            owner: &owner.username,
            scripts: &details.scripts,
            apps: &details.apps,
            metadata: &metadata,
            derp_map: self.state.coordinator.derp_map().borrow().to_proto(),
        });
        message.agent_id = manifest::bytes(self.state.faults.agent_id(self.agent));
        Ok(message)
    }

    async fn lifecycle(&self, request: UpdateLifecycleRequest) -> Result<Lifecycle, Failure> {
        let report = request.lifecycle.ok_or(Refused("there is no lifecycle".to_owned()))?;
        let now = Timestamp::now();
        let (state, changed_at) = rules::lifecycle(&report)?;
        let update = self.state.store.update_lifecycle(self.agent, state, changed_at, now).await?;
        let kind = WorkspaceEventKind::AgentLifecycleUpdate;
        self.tell(update.owner_id, kind).await;
        Ok(report)
    }

    async fn startup(&self, request: UpdateStartupRequest) -> Result<Startup, Failure> {
        let report = request.startup.ok_or(Refused("there is no startup".to_owned()))?;
        let startup = rules::startup(&report)?;
        let (version, directory) = (&startup.version, &startup.directory);
        let now = Timestamp::now();
        self.state
            .store
            .update_startup(self.agent, version, &self.version, directory, &startup.subsystems, now)
            .await?;
        Ok(report)
    }

    async fn stats(&self, request: UpdateStatsRequest) -> Result<UpdateStatsResponse, Failure> {
        if request.stats.is_some_and(|stats| stats.connection_count > 0) {
            self.state.store.touch_workspace(self.workspace, Timestamp::now()).await?;
        }
        let interval = manifest::duration(self.state.config.stats_interval);
        Ok(UpdateStatsResponse { report_interval: Some(interval) })
    }

    async fn app_healths(
        &self,
        request: BatchUpdateAppHealthRequest,
    ) -> Result<BatchUpdateAppHealthResponse, Failure> {
        let updates = rules::app_healths(&request)?;
        if self.state.store.update_app_health(self.agent, &updates).await? {
            let owner = self.state.store.workspace(self.workspace).await?.owner_id;
            self.tell(owner, WorkspaceEventKind::AppHealthUpdate).await;
        }
        Ok(BatchUpdateAppHealthResponse {})
    }

    async fn metadata(
        &self,
        request: BatchUpdateMetadataRequest,
    ) -> Result<BatchUpdateMetadataResponse, Failure> {
        let reports = rules::metadata(&request)?;
        self.state.store.update_metadata(self.agent, &reports, Timestamp::now()).await?;
        Ok(BatchUpdateMetadataResponse {})
    }

    async fn logs(
        &self,
        request: BatchCreateLogsRequest,
    ) -> Result<BatchCreateLogsResponse, Failure> {
        let now = Timestamp::now();
        let (source, lines) = rules::logs(&request, now)?;
        let overflowed = super::append_logs(&self.state, self.agent, source, &lines, now).await?;
        Ok(BatchCreateLogsResponse { log_limit_exceeded: overflowed })
    }

    async fn script_completed(
        &self,
        request: WorkspaceAgentScriptCompletedRequest,
    ) -> Result<WorkspaceAgentScriptCompletedResponse, Failure> {
        let timing = rules::timing(&request)?;
        self.state.store.script_completed(self.agent, &timing).await?;
        Ok(WorkspaceAgentScriptCompletedResponse {})
    }

    async fn connection(&self, request: ReportConnectionRequest) -> Result<(), Failure> {
        let report = rules::connection(&request, Timestamp::now())?;
        self.state.store.report_connection(self.agent, &report).await?;
        Ok(())
    }

    async fn tell(&self, owner: Uuid, kind: WorkspaceEventKind) {
        let event = WorkspaceEvent::agent(kind, self.workspace, self.agent);
        self.state.publish_workspace(owner, event).await;
    }
}

/// Why a call is answered with an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The agent's report.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Failure> for RpcError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => Self::remote(0, refused.to_string()),
            Failure::Store(error @ (StoreError::NotFound(_) | StoreError::Conflict(_))) => {
                Self::remote(0, error.to_string())
            }
            Failure::Store(
                error @ (StoreError::Unavailable { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Unusable(_)),
            ) => {
                tracing::error!(%error, "an agent's call failed");
                Self::remote(0, "the deployment's state is not available now; try again")
            }
        }
    }
}
