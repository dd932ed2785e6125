use super::{
    Environment, Session,
    global::{Headers, Output},
    rows::{Row, moment, table},
    target::Target,
    write_data,
};
use crate::{apps::report, error::CommandError, tunnel::resolve};

/// Show a workspace: its state, its latest build, its agents
///
/// With -o json it is one object of the kind that `list` has.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name or id
    workspace: String,

    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let row = Row::of(&resolve(session.api(), &target).await?);
    let text = match args.output {
        Output::Json => report::json(&row)?,
        Output::Table => describe(&row),
    };
    write_data(&environment.ui, &text)
}

fn describe(row: &Row) -> String {
    let build = &row.build;
    let mut facts = vec![
        ("WORKSPACE", format!("{}/{}", row.owner, row.name)),
        ("ID", row.id.clone()),
        ("TEMPLATE", format!("{}{}", row.template, if row.outdated { " (outdated)" } else { "" })),
        ("STATUS", format!("{}{}", row.status, if row.dormant { ", dormant" } else { "" })),
        ("HEALTHY", if row.healthy { "yes" } else { "no" }.to_owned()),
        ("BUILD", format!("{} ({}, {})", build.number, build.transition, build.status)),
    ];
    facts.extend(build.error.clone().map(|error| ("ERROR", error)));
    facts.extend(row.last_built.map(|time| ("BUILT", moment(time))));
    facts.extend(row.stops_after.map(|time| ("STOPS AFTER", moment(time))));
    let mut text = table(facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    if row.agents.is_empty() {
        return text;
    }
    let titles = ["AGENT", "STATUS", "LIFECYCLE", "PLATFORM", "VERSION", "DIRECTORY"];
    let agents = row.agents.iter().map(|agent| {
        vec![
            agent.name.clone(),
            agent.status.clone(),
            agent.lifecycle.clone(),
            format!("{}/{}", agent.operating_system, agent.architecture),
            agent.version.clone(),
            agent.directory.clone(),
        ]
    });
    text.push('\n');
    text + &table(std::iter::once(titles.map(str::to_owned).to_vec()).chain(agents))
}
