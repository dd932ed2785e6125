use super::{Environment, global::Headers, spelling};
use crate::error::CommandError;

/// Log in to a deployment
#[derive(clap::Args)]
pub(super) struct Args {
    /// URL of the deployment; without a scheme https is meant
    #[arg(value_name = "DEPLOYMENT")]
    deployment: Option<String>,

    /// Store the given token itself instead of a new one made with it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true,
          value_parser = spelling::boolean, value_name = "BOOL", action = clap::ArgAction::Set)]
    use_token_as_session: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let _ = (args.deployment, args.use_token_as_session, environment.token_source);
    Ok(1)
}
