//! Names of the calls, as an Invoke packet carries them: `/<service>/<method>`.

/// Calls of `coder.tailnet.v2.Tailnet`.
pub mod tailnet {
    /// Both directions stream: `CoordinateRequest`, `CoordinateResponse`.
    pub const COORDINATE: &str = "/coder.tailnet.v2.Tailnet/Coordinate";
    /// The server streams: `StreamDerpMapsRequest`, `DerpMap`.
    pub const STREAM_DERP_MAPS: &str = "/coder.tailnet.v2.Tailnet/StreamDERPMaps";
    /// Unary: `RefreshResumeTokenRequest`, `RefreshResumeTokenResponse`.
    pub const REFRESH_RESUME_TOKEN: &str = "/coder.tailnet.v2.Tailnet/RefreshResumeToken";
    /// Unary: `TelemetryRequest`, `TelemetryResponse`.
    pub const POST_TELEMETRY: &str = "/coder.tailnet.v2.Tailnet/PostTelemetry";
    /// The server streams: `WorkspaceUpdatesRequest`, `WorkspaceUpdate`.
    pub const WORKSPACE_UPDATES: &str = "/coder.tailnet.v2.Tailnet/WorkspaceUpdates";
}

/// Calls of `coder.agent.v2.Agent`; all are unary.
pub mod agent {
    /// `GetManifestRequest`, `Manifest`.
    pub const GET_MANIFEST: &str = "/coder.agent.v2.Agent/GetManifest";
    /// `GetServiceBannerRequest`, `ServiceBanner`.
    pub const GET_SERVICE_BANNER: &str = "/coder.agent.v2.Agent/GetServiceBanner";
    /// `UpdateStatsRequest`, `UpdateStatsResponse`.
    pub const UPDATE_STATS: &str = "/coder.agent.v2.Agent/UpdateStats";
    /// `UpdateLifecycleRequest`, `Lifecycle`.
    pub const UPDATE_LIFECYCLE: &str = "/coder.agent.v2.Agent/UpdateLifecycle";
    /// `BatchUpdateAppHealthRequest`, `BatchUpdateAppHealthResponse`.
    pub const BATCH_UPDATE_APP_HEALTHS: &str = "/coder.agent.v2.Agent/BatchUpdateAppHealths";
    /// `UpdateStartupRequest`, `Startup`.
    pub const UPDATE_STARTUP: &str = "/coder.agent.v2.Agent/UpdateStartup";
    /// `BatchUpdateMetadataRequest`, `BatchUpdateMetadataResponse`.
    pub const BATCH_UPDATE_METADATA: &str = "/coder.agent.v2.Agent/BatchUpdateMetadata";
    /// `BatchCreateLogsRequest`, `BatchCreateLogsResponse`.
    pub const BATCH_CREATE_LOGS: &str = "/coder.agent.v2.Agent/BatchCreateLogs";
    /// `GetAnnouncementBannersRequest`, `GetAnnouncementBannersResponse`.
    pub const GET_ANNOUNCEMENT_BANNERS: &str = "/coder.agent.v2.Agent/GetAnnouncementBanners";
    /// `WorkspaceAgentScriptCompletedRequest`, `WorkspaceAgentScriptCompletedResponse`.
    pub const SCRIPT_COMPLETED: &str = "/coder.agent.v2.Agent/ScriptCompleted";
    /// `GetResourcesMonitoringConfigurationRequest`, `GetResourcesMonitoringConfigurationResponse`.
    pub const GET_RESOURCES_MONITORING_CONFIGURATION: &str =
        "/coder.agent.v2.Agent/GetResourcesMonitoringConfiguration";
    /// `PushResourcesMonitoringUsageRequest`, `PushResourcesMonitoringUsageResponse`.
    pub const PUSH_RESOURCES_MONITORING_USAGE: &str =
        "/coder.agent.v2.Agent/PushResourcesMonitoringUsage";
    /// `ReportConnectionRequest`, `()`.
    pub const REPORT_CONNECTION: &str = "/coder.agent.v2.Agent/ReportConnection";
    /// `CreateSubAgentRequest`, `CreateSubAgentResponse`.
    pub const CREATE_SUB_AGENT: &str = "/coder.agent.v2.Agent/CreateSubAgent";
    /// `DeleteSubAgentRequest`, `DeleteSubAgentResponse`.
    pub const DELETE_SUB_AGENT: &str = "/coder.agent.v2.Agent/DeleteSubAgent";
    /// `ListSubAgentsRequest`, `ListSubAgentsResponse`.
    pub const LIST_SUB_AGENTS: &str = "/coder.agent.v2.Agent/ListSubAgents";
    /// `UpdateAppStatusRequest`, `UpdateAppStatusResponse`.
    pub const UPDATE_APP_STATUS: &str = "/coder.agent.v2.Agent/UpdateAppStatus";
    /// `PushContextStateRequest`, `PushContextStateResponse`.
    pub const PUSH_CONTEXT_STATE: &str = "/coder.agent.v2.Agent/PushContextState";
    /// Answered as unimplemented; its messages are not known here.
    pub const REPORT_BOUNDARY_LOGS: &str = "/coder.agent.v2.Agent/ReportBoundaryLogs";
}
