use super::{
    Environment,
    build::{Builder, Parameters, Waiting},
    global::Headers,
};
use crate::{api::Transition, error::CommandError};

/// Start a workspace, and wait until it runs
///
/// A start that is under way is waited for, and a stop too. What a failed start left behind is
/// stopped first. The build's log goes to stderr.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Workspace: name, owner/name or id
    workspace: String,

    #[command(flatten)]
    parameters: Parameters,

    #[command(flatten)]
    waiting: Waiting,

    /// Accepted; nothing is asked
    #[arg(short, long, hide_short_help = true)]
    yes: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let parameters = args.parameters.read()?;
    let builder = Builder::open(environment, args.waiting).await?;
    let work = async {
        let workspace = builder.find(&args.workspace).await?;
        builder.reach(Transition::Start, workspace, &parameters).await
    };
    builder.bounded(work).await
}
