use std::fmt::Write;

use serde::Serialize;
use time::{OffsetDateTime, UtcOffset, macros::format_description};

use super::{
    Environment, Session,
    global::{Headers, Output},
    write_data,
};
use crate::{
    api,
    error::{CommandError, Kind},
    ui::{escape, escape_json, quoted},
};

/// List workspaces and their states
///
/// With -o json it is always an array, one object for each workspace: id, name, owner, template,
/// status, healthy, outdated, dormant, last_built, stops_after (RFC 3339 or null) and agents, an
/// array of name, status and lifecycle. Fields may be added, never removed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Show workspaces of all owners
    #[arg(short, long)]
    all: bool,

    /// What to search for, e.g. `owner:me status:running`
    #[arg(long, value_name = "QUERY", default_value = "owner:me")]
    search: String,

    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    /// Columns of the table, separated by commas
    #[arg(short, long, value_name = "COLUMNS", value_delimiter = ',', value_parser = column,
          default_value = "workspace,template,status,healthy,last-built,outdated,stops-after")]
    column: Vec<Column>,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let session = Session::open(environment).await?;
    let query = if args.all { "" } else { &args.search };
    let workspaces = session.api().workspaces(query).await?;
    let rows: Vec<Row> = workspaces.iter().map(Row::of).collect();
    let ui = &environment.ui;
    match args.output {
        Output::Json => {
            let json = serde_json::to_string_pretty(&rows)
                .map_err(|error| CommandError::new(Kind::Other, error))?;
            write_data(ui, &format!("{}\n", escape_json(&json)))
        }
        Output::Table if rows.is_empty() => {
            ui.line("No workspaces found");
            Ok(0)
        }
        Output::Table => write_data(ui, &table(&rows, &args.column)),
    }
}

/// One workspace, as `-o json` shows it.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    owner: String,
    template: String,
    status: String,
    healthy: bool,
    outdated: bool,
    dormant: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    last_built: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    stops_after: Option<OffsetDateTime>,
    agents: Vec<Agent>,
}

#[derive(Debug, Serialize)]
struct Agent {
    name: String,
    status: String,
    lifecycle: String,
}

impl Row {
    fn of(workspace: &api::Workspace) -> Self {
        let build = &workspace.latest_build;
        let agent = |agent: &api::Agent| Agent {
            name: agent.name.clone(),
            status: agent.status.clone(),
            lifecycle: agent.lifecycle_state.clone(),
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
            agents: workspace.agents().map(agent).collect(),
        }
    }
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Workspace,
    Id,
    Name,
    Owner,
    Template,
    Status,
    Healthy,
    Outdated,
    Dormant,
    Agents,
    LastBuilt,
    StopsAfter,
}

const COLUMNS: [(Column, &str); 12] = [
    (Column::Workspace, "workspace"),
    (Column::Id, "id"),
    (Column::Name, "name"),
    (Column::Owner, "owner"),
    (Column::Template, "template"),
    (Column::Status, "status"),
    (Column::Healthy, "healthy"),
    (Column::Outdated, "outdated"),
    (Column::Dormant, "dormant"),
    (Column::Agents, "agents"),
    (Column::LastBuilt, "last-built"),
    (Column::StopsAfter, "stops-after"),
];

/// Blanks and hyphens are one: the `coder` client writes `last built`.
fn column(text: &str) -> Result<Column, String> {
    let name = text.trim().to_lowercase().replace(' ', "-");
    let found = COLUMNS.iter().find(|(_, known)| *known == name);
    found.map(|(column, _)| *column).ok_or_else(|| {
        let known: Vec<_> = COLUMNS.iter().map(|(_, name)| *name).collect();
        format!("{} is none of {}", quoted(text), known.join(", "))
    })
}

impl Column {
    fn title(self) -> String {
        let name = COLUMNS.iter().find(|(column, _)| *column == self).map_or("", |(_, name)| *name);
        name.replace('-', " ").to_uppercase()
    }

    fn cell(self, row: &Row) -> String {
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        match self {
            Self::Workspace => format!("{}/{}", row.owner, row.name),
            Self::Id => row.id.clone(),
            Self::Name => row.name.clone(),
            Self::Owner => row.owner.clone(),
            Self::Template => row.template.clone(),
            Self::Status => row.status.clone(),
            Self::Healthy => yes(row.healthy),
            Self::Outdated => yes(row.outdated),
            Self::Dormant => yes(row.dormant),
            Self::Agents => {
                let agents = row.agents.iter().map(|a| format!("{} ({})", a.name, a.status));
                agents.collect::<Vec<_>>().join(", ")
            }
            Self::LastBuilt => row.last_built.map(moment).unwrap_or_default(),
            Self::StopsAfter => row.stops_after.map(moment).unwrap_or_default(),
        }
    }
}

/// To the minute, in UTC: the same for everyone who compares notes.
fn moment(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]Z");
    time.to_offset(UtcOffset::UTC).format(&format).unwrap_or_default()
}

fn table(rows: &[Row], columns: &[Column]) -> String {
    let mut lines = vec![columns.iter().map(|column| column.title()).collect::<Vec<_>>()];
    for row in rows {
        let cells = columns.iter().map(|column| escape(&column.cell(row)).replace('\t', " "));
        lines.push(cells.collect());
    }
    let width = |index: usize| lines.iter().map(|line| line[index].chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|index| width(index).unwrap_or(0)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_known_by_either_spelling() {
        assert_eq!(column("last built"), Ok(Column::LastBuilt));
        assert_eq!(column(" Stops-After"), Ok(Column::StopsAfter));
        assert!(column("cost\x1b").unwrap_err().starts_with("`cost\\x1b` is none of workspace,"));
    }
}
