//! Where the deployment is, who we are, and how it is reached.

use url::Url;

use super::{
    Environment,
    global::{Global, SecretText},
    headers,
};
use crate::{
    config::{Config, File},
    error::{CommandError, Kind},
    ui::quoted,
};

/// What every command that talks to a deployment has: where it is and how to reach it.
pub struct Session {
    url: Url,
}

impl Session {
    /// Finds the deployment and the token, from flags, variables or the stored login.
    ///
    /// # Errors
    /// Not logged in, or something that was given is unusable.
    pub(super) async fn open(environment: &Environment) -> Result<Self, CommandError> {
        let global = &environment.global;
        let config = Config::locate(global.global_config.as_deref());
        let url = deployment(global, &config)?;
        let token = token(global, &config, &url)?;
        let _ = token;
        let _headers =
            headers::all(&environment.headers, global.header_command.as_deref(), &url).await?;
        Ok(Self { url })
    }
}

/// The deployment that was named, else the stored one.
fn deployment(global: &Global, config: &Config) -> Result<Url, CommandError> {
    if let Some(named) = global.url.as_deref().filter(|url| !url.is_empty()) {
        return parse_url(named);
    }
    let stored = config.read(File::Url)?.ok_or_else(|| {
        CommandError::msg(Kind::Login, "you are not logged in")
            .hint("run `coderctl login URL`, or set CODER_URL and CODER_SESSION_TOKEN")
    })?;
    parse_url(&stored).map_err(|error| CommandError {
        kind: Kind::Login,
        source: error.source.context(format!("the stored login in {}", config.directory())),
        hints: vec!["run `coderctl login URL`".to_owned()],
    })
}

/// The token that was given, else the stored one, which is for the stored deployment only.
fn token(global: &Global, config: &Config, url: &Url) -> Result<SecretText, CommandError> {
    if let Some(given) = global.token.as_ref().filter(|token| !token.reveal().is_empty()) {
        return Ok(given.clone());
    }
    let not_logged_in = |why: String| {
        CommandError::msg(Kind::Login, why)
            .hint(format!("run `coderctl login {url}`, or set CODER_SESSION_TOKEN"))
    };
    let stored_for = config.read(File::Url)?;
    let token = config.read(File::Session)?;
    let (Some(stored_for), Some(token)) = (stored_for, token) else {
        return Err(not_logged_in(format!("you are not logged in to {url}")));
    };
    match parse_url(&stored_for) {
        Ok(stored_for) if stored_for.origin() == url.origin() => Ok(SecretText::new(&token)),
        Ok(stored_for) => Err(not_logged_in(format!(
            "the stored login is for {stored_for}, not for {url}: its token is not sent there"
        ))),
        Err(_) => Err(not_logged_in("the stored login names no usable URL".to_owned())),
    }
}

/// The root of a deployment. Its API is at the root of its host, whatever page was copied.
pub(super) fn parse_url(text: &str) -> Result<Url, CommandError> {
    let wrong = |why: &str| {
        CommandError::msg(Kind::Usage, format!("{} is not a deployment's URL: {why}", quoted(text)))
    };
    let text = text.trim();
    if !text.contains("://") {
        return Err(wrong("it has no scheme")
            .hint(format!("did you mean {}?", quoted(&with_scheme(text)).trim_matches('`'))));
    }
    let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("its scheme is neither https nor http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The URL must not be repeated: it holds a secret.
        let said = CommandError::msg(
            Kind::Usage,
            "the deployment's URL must not hold a user name or a password",
        );
        return Err(said.hint("what a proxy wants to see can be given with --header"));
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// What a URL without a scheme means to `login`.
pub(super) fn with_scheme(text: &str) -> String {
    if text.contains("://") {
        text.to_owned()
    } else if text.starts_with("localhost") {
        format!("http://{text}")
    } else {
        format!("https://{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_reduced_to_its_root() {
        for (text, url) in [
            ("https://coder.example.com", "https://coder.example.com/"),
            (" http://LOCALHOST:3000/workspaces?x=1#y\n", "http://localhost:3000/"),
            ("https://[::1]:8443/", "https://[::1]:8443/"),
        ] {
            assert_eq!(parse_url(text).unwrap().as_str(), url);
        }
    }

    #[test]
    fn what_is_no_deployment_is_refused() {
        for text in [
            "",
            "coder.example.com",
            "localhost:3000",
            "ftp://x",
            "https://",
            "http://a b",
            "https://x\x1b[2J",
        ] {
            let error = parse_url(text).unwrap_err();
            assert_eq!(error.kind, Kind::Usage, "{text}");
            assert!(!error.to_string().contains('\x1b'));
        }
        let error = parse_url("coder.example.com").unwrap_err();
        assert_eq!(error.hints, ["did you mean https://coder.example.com?"]);
        let error = parse_url("https://bob:hunter2@x").unwrap_err();
        assert!(!format!("{error} {:?}", error.hints).contains("hunter2"));
    }
}
