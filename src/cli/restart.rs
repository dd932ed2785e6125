use super::{
    Environment,
    build::{Builder, Parameters, Waiting, confirm},
    global::Headers,
};
use crate::{api::Transition, error::CommandError};

/// Stop a workspace, start it again, and wait until it runs
///
/// At a terminal it asks first.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name or id
    workspace: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    parameters: Parameters,

    /// Longest time to wait for both builds; they go on when that has passed
    #[arg(long, value_name = "DURATION", value_parser = super::spelling::duration)]
    timeout: Option<std::time::Duration>,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let parameters = args.parameters.read()?;
    let waiting = Waiting { no_wait: false, timeout: args.timeout };
    let builder = Builder::open(environment, waiting).await?;
    let work = async {
        let workspace = builder.find(&args.workspace).await?;
        let question = format!("Restart workspace {}?", workspace.name);
        confirm(&environment.ui, args.yes, &question, false).await?;
        let id = workspace.id;
        builder.reach(Transition::Stop, workspace, &[]).await?;
        let stopped = builder.api().workspace(id).await?;
        builder.reach(Transition::Start, stopped, &parameters).await
    };
    builder.bounded(work).await
}
