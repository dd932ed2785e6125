use http::StatusCode;

use super::{Environment, Session, build::confirm, global::Headers, session};
use crate::{config::Config, error::CommandError};

/// End the stored login, here and at the deployment
///
/// The session is revoked, and its files are removed whatever the deployment says. A token that was
/// given by flag or variable is not touched.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let ui = &environment.ui;
    let config = Config::locate(environment.global.global_config.as_deref());
    let (url, token) = session::stored(&environment.global, &config)?;
    let address = session::shown(&url).to_owned();
    confirm(ui, args.yes, &format!("Log out of {address}?"), false).await?;
    let session = Session::at(environment, url, Some(&token)).await?;
    let revoked = session.api().log_out().await;
    config.clear()?;
    match revoked {
        Ok(()) => {
            ui.line(format_args!("You are no longer logged in to {address}"));
            Ok(0)
        }
        Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
            ui.line(format_args!("The session with {address} had ended already"));
            Ok(0)
        }
        Err(error) => {
            let CommandError { kind, source, .. } = error.into();
            let what = "the login was removed from this machine, but not revoked";
            Err(CommandError { kind, source: source.context(what), hints: Vec::new() }
                .hint(format!("revoke it at {address}/settings/tokens")))
        }
    }
}
