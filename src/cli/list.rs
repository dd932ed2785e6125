use super::{Environment, global::Headers};
use crate::error::CommandError;

/// List workspaces
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let _ = (args.headers, environment);
    Ok(1)
}
