use serde::Serialize;
use uuid::Uuid;

use super::{
    Environment, Session,
    global::{Headers, TextOrJson},
    session::shown,
    write_data,
};
use crate::{apps::report, error::CommandError, ui::escape};

/// Show who is logged in, and where
///
/// The exit code is 200 when nobody is, or the token is refused. With -o json it is, as with the
/// `coder` client, an array of one object: url, username, user_id, organization_ids and roles.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: TextOrJson,

    #[command(flatten)]
    pub(super) headers: Headers,
}

#[derive(Serialize)]
struct Document<'a> {
    url: &'a str,
    username: &'a str,
    user_id: Uuid,
    organization_ids: &'a [Uuid],
    roles: Vec<&'a str>,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let session = Session::open(environment).await?;
    let user = session.api().me().await?;
    let url = shown(session.url());
    let text = match args.output {
        TextOrJson::Text => format!("{} at {url}\n", escape(&user.username)),
        TextOrJson::Json => report::json(&[Document {
            url,
            username: &user.username,
            user_id: user.id,
            organization_ids: &user.organization_ids,
            roles: user.roles.iter().map(|role| role.name.as_str()).collect(),
        }])?,
    };
    write_data(&environment.ui, &text)
}
