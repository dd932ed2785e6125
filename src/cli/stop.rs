use super::{Environment, build::Ending, global::Headers};
use crate::{api::Transition, error::CommandError};

/// Stop a workspace, and wait until it is stopped
///
/// At a terminal it asks first.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    ending: Ending,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let question = |name: &str| format!("Stop workspace {name}?");
    args.ending.run(environment, Transition::Stop, question, false).await
}
