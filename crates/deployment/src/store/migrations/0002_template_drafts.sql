-- Templates on their way: uploaded files, and versions that no template has yet. Any of several
-- processes may be asked for the next step.

CREATE TABLE template_files (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL
);

CREATE TABLE template_drafts (
    id TEXT PRIMARY KEY,
    template_id TEXT REFERENCES templates (id),
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    created_by TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL
);
