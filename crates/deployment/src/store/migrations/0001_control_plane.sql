-- Users, templates, workspaces, builds, jobs, agents, logs.
--
-- One text for SQLite and PostgreSQL: UUIDs, JSON and words are TEXT, times are BIGINT microseconds
-- since the Unix epoch in UTC, flags are BIGINT 0 or 1, durations are BIGINT in the unit named.
-- {{serial}} is the only difference: the type of a primary key that counts up by itself.

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    role TEXT NOT NULL,
    is_system BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    last_seen_at BIGINT
);
CREATE UNIQUE INDEX users_username ON users (lower(username));
CREATE UNIQUE INDEX users_email ON users (lower(email));

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    hashed_secret TEXT NOT NULL,
    login_type TEXT NOT NULL,
    token_name TEXT NOT NULL,
    lifetime_seconds BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX api_keys_user ON api_keys (user_id);
CREATE UNIQUE INDEX api_keys_name ON api_keys (user_id, token_name) WHERE login_type = 'token';

CREATE TABLE templates (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    active_version_id TEXT NOT NULL,
    allow_user_cancel_workspace_jobs BIGINT NOT NULL,
    require_active_version BIGINT NOT NULL,
    default_ttl_ms BIGINT,
    deleted BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX templates_name ON templates (lower(name)) WHERE deleted = 0;

CREATE TABLE template_versions (
    id TEXT PRIMARY KEY,
    template_id TEXT NOT NULL REFERENCES templates (id),
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX template_versions_name ON template_versions (template_id, name);

CREATE TABLE presets (
    id TEXT PRIMARY KEY,
    template_version_id TEXT NOT NULL REFERENCES template_versions (id),
    name TEXT NOT NULL,
    is_default BIGINT NOT NULL,
    parameters TEXT NOT NULL,
    desired_prebuilds BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX presets_name ON presets (template_version_id, name);

CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES users (id),
    template_id TEXT NOT NULL REFERENCES templates (id),
    name TEXT NOT NULL,
    deleted BIGINT NOT NULL,
    dormant_at BIGINT,
    ttl_ms BIGINT,
    autostart_schedule TEXT,
    automatic_updates TEXT NOT NULL,
    last_used_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX workspaces_name ON workspaces (owner_id, lower(name)) WHERE deleted = 0;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    initiator_id TEXT NOT NULL REFERENCES users (id),
    input TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    started_at BIGINT,
    canceled_at BIGINT,
    completed_at BIGINT,
    error TEXT,
    error_code TEXT,
    worker_id TEXT,
    lease_until BIGINT,
    attempt BIGINT NOT NULL,
    logs_length BIGINT NOT NULL,
    logs_overflowed BIGINT NOT NULL
);
CREATE INDEX jobs_to_do ON jobs (created_at) WHERE completed_at IS NULL;

CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    template_version_id TEXT NOT NULL REFERENCES template_versions (id),
    number BIGINT NOT NULL,
    transition TEXT NOT NULL,
    reason TEXT NOT NULL,
    initiator_id TEXT NOT NULL REFERENCES users (id),
    job_id TEXT NOT NULL REFERENCES jobs (id),
    preset_id TEXT REFERENCES presets (id),
    parameters TEXT NOT NULL,
    deadline BIGINT,
    max_deadline BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX builds_number ON builds (workspace_id, number);
CREATE UNIQUE INDEX builds_job ON builds (job_id);

CREATE TABLE job_logs (
    id {{serial}},
    job_id TEXT NOT NULL REFERENCES jobs (id),
    created_at BIGINT NOT NULL,
    source TEXT NOT NULL,
    level TEXT NOT NULL,
    stage TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE INDEX job_logs_job ON job_logs (job_id, id);

CREATE TABLE resources (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    transition TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    hide BIGINT NOT NULL,
    icon TEXT NOT NULL,
    metadata TEXT NOT NULL,
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX resources_job ON resources (job_id);

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    parent_id TEXT REFERENCES agents (id),
    resource_id TEXT NOT NULL REFERENCES resources (id),
    build_id TEXT NOT NULL REFERENCES builds (id),
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    auth_token TEXT NOT NULL,
    token_lookup TEXT NOT NULL,
    name TEXT NOT NULL,
    operating_system TEXT NOT NULL,
    architecture TEXT NOT NULL,
    directory TEXT NOT NULL,
    environment TEXT NOT NULL,
    motd_file TEXT NOT NULL,
    connection_timeout_seconds BIGINT NOT NULL,
    troubleshooting_url TEXT NOT NULL,
    display_apps TEXT NOT NULL,
    deleted BIGINT NOT NULL,
    lifecycle TEXT NOT NULL,
    started_at BIGINT,
    ready_at BIGINT,
    first_connected_at BIGINT,
    last_connected_at BIGINT,
    disconnected_at BIGINT,
    replica_id TEXT,
    connection_id TEXT,
    version TEXT NOT NULL,
    api_version TEXT NOT NULL,
    expanded_directory TEXT NOT NULL,
    subsystems TEXT NOT NULL,
    logs_length BIGINT NOT NULL,
    logs_overflowed BIGINT NOT NULL,
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX agents_token ON agents (token_lookup);
CREATE INDEX agents_build ON agents (build_id);
CREATE INDEX agents_resource ON agents (resource_id);
CREATE UNIQUE INDEX agents_name ON agents (build_id, name) WHERE deleted = 0;

CREATE TABLE agent_scripts (
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL REFERENCES agents (id),
    log_source_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    icon TEXT NOT NULL,
    log_path TEXT NOT NULL,
    script TEXT NOT NULL,
    cron TEXT NOT NULL,
    run_on_start BIGINT NOT NULL,
    run_on_stop BIGINT NOT NULL,
    start_blocks_login BIGINT NOT NULL,
    timeout_ms BIGINT NOT NULL,
    position BIGINT NOT NULL
);
CREATE INDEX agent_scripts_agent ON agent_scripts (agent_id);

CREATE TABLE script_timings (
    id {{serial}},
    script_id TEXT NOT NULL REFERENCES agent_scripts (id),
    agent_id TEXT NOT NULL REFERENCES agents (id),
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    exit_code BIGINT NOT NULL,
    stage TEXT NOT NULL,
    status TEXT NOT NULL
);
CREATE INDEX script_timings_agent ON script_timings (agent_id, id);

CREATE TABLE log_sources (
    id TEXT NOT NULL,
    agent_id TEXT NOT NULL REFERENCES agents (id),
    display_name TEXT NOT NULL,
    icon TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (agent_id, id)
);

CREATE TABLE apps (
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL REFERENCES agents (id),
    slug TEXT NOT NULL,
    display_name TEXT NOT NULL,
    icon TEXT NOT NULL,
    command TEXT NOT NULL,
    url TEXT NOT NULL,
    external BIGINT NOT NULL,
    subdomain BIGINT NOT NULL,
    sharing_level TEXT NOT NULL,
    healthcheck_url TEXT NOT NULL,
    healthcheck_interval_seconds BIGINT NOT NULL,
    healthcheck_threshold BIGINT NOT NULL,
    health TEXT NOT NULL,
    hidden BIGINT NOT NULL,
    position BIGINT NOT NULL
);
CREATE UNIQUE INDEX apps_slug ON apps (agent_id, slug);

CREATE TABLE agent_metadata (
    agent_id TEXT NOT NULL REFERENCES agents (id),
    key TEXT NOT NULL,
    display_name TEXT NOT NULL,
    script TEXT NOT NULL,
    interval_seconds BIGINT NOT NULL,
    timeout_seconds BIGINT NOT NULL,
    value TEXT NOT NULL,
    error TEXT NOT NULL,
    collected_at BIGINT,
    position BIGINT NOT NULL,
    PRIMARY KEY (agent_id, key)
);

CREATE TABLE agent_logs (
    id {{serial}},
    agent_id TEXT NOT NULL REFERENCES agents (id),
    created_at BIGINT NOT NULL,
    level TEXT NOT NULL,
    source_id TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE INDEX agent_logs_agent ON agent_logs (agent_id, id);

CREATE TABLE connection_logs (
    agent_id TEXT NOT NULL REFERENCES agents (id),
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    ip TEXT NOT NULL,
    app_name TEXT NOT NULL,
    connected_at BIGINT,
    disconnected_at BIGINT,
    exit_code BIGINT,
    reason TEXT NOT NULL,
    PRIMARY KEY (agent_id, id)
);
