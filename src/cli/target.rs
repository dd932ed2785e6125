//! Workspace names as typed.

/// A workspace, perhaps of someone else, and perhaps one of its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whose workspace: a user name, or `me`.
    pub owner: String,
    /// Its name or id.
    pub workspace: String,
    /// The agent, where one was named.
    pub agent: Option<String>,
}
