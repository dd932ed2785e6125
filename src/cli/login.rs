use clap::parser::ValueSource;
use url::Url;

use super::{
    Environment, Session,
    global::Headers,
    session::{self, shown},
};
use crate::{
    api::{Token, User},
    config::{Config, File},
    error::{CommandError, Kind},
    ui::{self, Ui},
};

/// Log in to a deployment, and store the login for this client and the `coder` client
///
/// Without a token it shows the page that gives one and asks for it. With --token or --token-stdin it
/// makes a session of its own with that token and stores it, or, with --use-token-as-session, the
/// token itself. Nothing is ever asked without a terminal.
#[derive(clap::Args)]
pub(super) struct Args {
    /// URL of the deployment; without a scheme https is meant
    #[arg(value_name = "DEPLOYMENT")]
    deployment: Option<String>,

    /// Read the token from the first line of standard input, which no process list shows
    #[arg(long)]
    token_stdin: bool,

    /// Store the given token itself instead of a new one made with it
    #[arg(long)]
    use_token_as_session: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

/// How often a wrong token may be pasted.
const TRIES: usize = 3;

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let ui = &environment.ui;
    let config = Config::locate(environment.global.global_config.as_deref());
    let url = deployment(&args, environment, &config)?;
    ui.line(format_args!("Attempting to authenticate with {}", shown(&url)));
    is_coder(&Session::at(environment, url.clone(), None).await?).await?;
    let (token, user) = match given_token(&args, environment).await? {
        Some(token) if args.use_token_as_session => check(environment, &url, token).await?,
        Some(token) => {
            let session = Session::at(environment, url.clone(), Some(&token)).await?;
            let minted = session.api().create_key().await?;
            check(environment, &url, minted).await?
        }
        None => ask(environment, &url).await?,
    };
    config.store(shown(&url), token.reveal())?;
    ui.line(format_args!("Welcome to Coder, {}! You're authenticated.", user.username));
    Ok(0)
}

/// The deployment that was named here, by flag or variable, or at the last login.
fn deployment(
    args: &Args,
    environment: &Environment,
    config: &Config,
) -> Result<Url, CommandError> {
    let named = args.deployment.as_ref().or(environment.global.url.as_ref());
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return session::parse_url(&session::with_scheme(named.trim()));
    }
    let stored = config.read(File::Url)?.ok_or_else(|| {
        CommandError::msg(Kind::Usage, "no deployment is named")
            .hint("write `coderctl login https://coder.example.com`")
    })?;
    session::parse_url(&stored)
}

/// Fails unless a Coder deployment with a first user answers.
async fn is_coder(session: &Session) -> Result<(), CommandError> {
    if session.api().has_first_user().await? {
        return Ok(());
    }
    let text = format!("{} has no first user yet", shown(session.url()));
    Err(CommandError::msg(Kind::Login, text)
        .hint("open it in a browser and make one, then log in again"))
}

async fn given_token(
    args: &Args,
    environment: &Environment,
) -> Result<Option<Token>, CommandError> {
    let token = environment.global.token.clone().filter(|token| !token.reveal().is_empty());
    let by_variable = environment.token_source == Some(ValueSource::EnvVariable);
    if token.is_some() && by_variable && !args.use_token_as_session {
        return Err(CommandError::msg(
            Kind::Usage,
            "CODER_SESSION_TOKEN is set, and would be used instead of what is stored",
        )
        .hint("unset it to log in, or store it with --use-token-as-session"));
    }
    match token {
        Some(_) if args.token_stdin => Err(CommandError::msg(
            Kind::Usage,
            "a token is given, so none is read from standard input",
        )
        .hint("drop --token-stdin, or --token and CODER_SESSION_TOKEN")),
        None if args.token_stdin => read_token().await.map(Some),
        token => Ok(token),
    }
}

/// Whose token it is.
async fn check(
    environment: &Environment,
    url: &Url,
    token: Token,
) -> Result<(Token, User), CommandError> {
    let session = Session::at(environment, url.clone(), Some(&token)).await?;
    let user = session.api().me().await?;
    Ok((token, user))
}

/// Asks for a token until one is right.
async fn ask(environment: &Environment, url: &Url) -> Result<(Token, User), CommandError> {
    let ui = &environment.ui;
    let page = format!("{url}cli-auth");
    if !ui.can_ask() {
        return Err(CommandError::msg(Kind::Login, "no token was given, and nobody can be asked")
            .hint(format!(
                "open {page} in a browser, then run `coderctl login {} --token-stdin`",
                shown(url)
            ))
            .hint("or set CODER_URL and CODER_SESSION_TOKEN instead of logging in"));
    }
    ui.line(format_args!("Open this page in a browser, and copy its token:\n\n{page}\n"));
    let mut tries = 0;
    loop {
        tries += 1;
        let token = ask_token(ui).await?;
        match check(environment, url, token).await {
            Err(error) if error.kind == Kind::Login && tries < TRIES => {
                ui.warn("this token is refused, try again");
            }
            result => return result,
        }
    }
}

async fn ask_token(ui: &Ui) -> Result<Token, CommandError> {
    let silent = ui::EchoOff::new();
    ui.ask("Paste your token here: ");
    let token = read_token().await;
    drop(silent);
    token
}

/// The first line of standard input.
async fn read_token() -> Result<Token, CommandError> {
    // A signal ends the command while this still waits; it ends with the process.
    let line = tokio::task::spawn_blocking(ui::read_line).await;
    let failed = |error| {
        let why = anyhow::Error::from(error).context("cannot read the token from standard input");
        CommandError::new(Kind::Other, why)
    };
    match line.map_err(|error| CommandError::new(Kind::Other, error))?.map_err(failed)? {
        Some(token) if !token.is_empty() => Ok(Token::new(&token)),
        Some(_) | None => Err(CommandError::msg(Kind::Login, "no token was given")),
    }
}
