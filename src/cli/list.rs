use super::{
    Environment, Session,
    global::{Headers, Output},
    rows::{self, Row, moment},
    write_data,
};
use crate::{apps::report, error::CommandError, ui::quoted};

/// List workspaces and their states
///
/// With -o json it is always an array, one object for each workspace: id, name, owner, template,
/// status, healthy, outdated, dormant, last_built, stops_after (RFC 3339 or null), build (number,
/// transition, status, error) and agents, an array of id, name, status, lifecycle,
/// operating_system, architecture, version and directory. Fields may be added, never removed.
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
        Output::Json => write_data(ui, &report::json(&rows)?),
        Output::Table if rows.is_empty() => {
            ui.line("No workspaces found");
            Ok(0)
        }
        Output::Table => write_data(ui, &table(&rows, &args.column)),
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

fn table(rows: &[Row], columns: &[Column]) -> String {
    let titles = columns.iter().map(|column| column.title()).collect();
    let cells = |row: &Row| columns.iter().map(|column| column.cell(row)).collect();
    rows::table(std::iter::once(titles).chain(rows.iter().map(cells)))
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
