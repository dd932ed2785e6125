//! Users, workspaces, builds, agents: the rows.
