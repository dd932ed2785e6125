use super::{
    Environment,
    build::{Builder, Waiting, confirm},
    global::Headers,
};
use crate::{api::Transition, error::CommandError};

/// Stop a workspace, and wait until it is stopped
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
    waiting: Waiting,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let builder = Builder::open(environment, args.waiting).await?;
    let work = async {
        let workspace = builder.find(&args.workspace).await?;
        let question = format!("Stop workspace {}?", workspace.name);
        confirm(&environment.ui, args.yes, &question, false).await?;
        builder.reach(Transition::Stop, workspace, &[]).await
    };
    builder.bounded(work).await
}
