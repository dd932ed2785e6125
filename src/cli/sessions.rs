use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Environment, Session,
    global::{Headers, Output},
    rows::{self, moment},
    target::Target,
    write_data,
};
use crate::{
    apps::{
        report,
        session::resumable,
        sessions::{self, Sessions},
    },
    error::CommandError,
    tunnel::{self, Request},
    ui::Ui,
};

/// List the sessions of a workspace that `ssh --session` comes back to
///
/// They are the terminals that the workspace's agent keeps, the oldest first, and how many clients
/// look at each. The workspace is not started. Only the agent of coderctl lists them; where another
/// one runs, the exit code is 212.
///
/// With -o json it is always an array, one object for each session: name (what --session takes),
/// id, command (empty for a login shell), created_at (RFC 3339) and attached (the number of
/// clients). Fields may be added, never removed.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name, name.agent or id
    workspace: String,

    /// How to show them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let target = Target::parse(&args.workspace)?;
    let session = Session::open(environment).await?;
    let app = Sessions::new(match args.output {
        Output::Table => table,
        Output::Json => json,
    });
    tunnel::run(&session, &environment.ui, Request::look(target, Box::new(app))).await
}

/// One session, as `-o json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    name: String,
    id: Uuid,
    command: &'a str,
    created_at: Timestamp,
    attached: u64,
}

impl<'a> Row<'a> {
    fn of(one: &'a sessions::Session) -> Self {
        Self {
            name: resumable::name(one.id),
            id: one.id,
            command: &one.command,
            created_at: one.created_at,
            attached: one.attached,
        }
    }
}

fn json(ui: &Ui, listed: &[sessions::Session]) -> Result<u8, CommandError> {
    let rows: Vec<Row<'_>> = listed.iter().map(Row::of).collect();
    write_data(ui, &report::json(&rows)?)
}

fn table(ui: &Ui, listed: &[sessions::Session]) -> Result<u8, CommandError> {
    if listed.is_empty() {
        ui.line("No sessions found");
        return Ok(0);
    }
    let titles = ["NAME", "ATTACHED", "CREATED", "COMMAND"].map(str::to_owned).to_vec();
    let cells = |one: &sessions::Session| {
        let (name, created) = (resumable::name(one.id), moment(one.created_at));
        vec![name, one.attached.to_string(), created, one.command.clone()]
    };
    write_data(ui, &rows::table(std::iter::once(titles).chain(listed.iter().map(cells))))
}
