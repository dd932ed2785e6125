use super::{Environment, build::Ending, global::Headers};
use crate::{api::Transition, error::CommandError};

/// Delete a workspace and everything in it
///
/// It asks first; without a terminal --yes is needed.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ending: Ending,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let question = |name: &str| format!("Delete workspace {name} and everything in it?");
    args.ending.run(environment, Transition::Delete, question, true).await
}
