//! Workspaces as `list`, `show` and `wait` show them.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::{api, ui::escape};

/// One workspace, as `-o json` shows it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub id: String,
    pub name: String,
    pub owner: String,
    pub template: String,
    pub status: String,
    pub healthy: bool,
    pub outdated: bool,
    pub dormant: bool,
    pub last_built: Option<Timestamp>,
    pub stops_after: Option<Timestamp>,
    pub build: Build,
    pub agents: Vec<Agent>,
}

/// Its latest build.
#[derive(Debug, Serialize)]
pub(super) struct Build {
    pub number: u64,
    pub transition: String,
    pub status: String,
    pub error: Option<String>,
}

/// An agent of that.
#[derive(Debug, Serialize)]
pub(super) struct Agent {
    pub id: String,
    pub name: String,
    pub status: String,
    pub lifecycle: String,
    pub operating_system: String,
    pub architecture: String,
    pub version: String,
    pub directory: String,
}

impl Row {
    pub(super) fn of(workspace: &api::Workspace) -> Self {
        let build = &workspace.latest_build;
        let agent = |agent: &api::Agent| Agent {
            id: agent.id.to_string(),
            name: agent.name.clone(),
            status: agent.status.clone(),
            lifecycle: agent.lifecycle_state.clone(),
            operating_system: agent.operating_system.clone(),
            architecture: agent.architecture.clone(),
            version: agent.version.clone(),
            directory: agent.expanded_directory.clone(),
        };
        Self {
            id: workspace.id.to_string(),
            name: workspace.name.clone(),
            owner: workspace.owner_name.clone(),
            template: workspace.template_name.clone(),
            status: build.status.clone(),
            healthy: workspace.health.healthy,
            outdated: workspace.outdated,
            dormant: workspace.dormant_at.is_some(),
            last_built: build.created_at,
            stops_after: build.deadline,
            build: Build {
                number: build.build_number,
                transition: build.transition.clone(),
                status: build.job.status.clone(),
                error: build.job.error.clone().filter(|error| !error.is_empty()),
            },
            agents: workspace.agents().map(agent).collect(),
        }
    }
}

/// To the minute, in UTC: the same for everyone who compares notes.
pub(super) fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%MZ").to_string()
}

/// Lines of cells, each column as wide as its widest cell. Cells are escaped here.
pub(super) fn table(lines: impl Iterator<Item = Vec<String>>) -> String {
    let harmless = |cell: &String| escape(cell).replace(['\t', '\n'], " ");
    let lines: Vec<Vec<String>> = lines.map(|line| line.iter().map(harmless).collect()).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |index: usize| {
        lines.iter().filter_map(|line| Some(line.get(index)?.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}
