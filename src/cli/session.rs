//! Where the deployment is, who we are, and how it is reached.

use std::path::{Path, PathBuf};

use coderctl_transport::{Options, Proxies, Transport};
use url::Url;

use super::{Environment, global::Global, headers};
use crate::{
    api::{Client, Token},
    config::{Config, File},
    error::{CommandError, Kind},
    ui::{Ui, quoted},
};

/// What every command that talks to a deployment has: where it is and how to reach it.
pub struct Session {
    url: Url,
    transport: Transport,
    api: Client,
    direct: bool,
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
        Self::at(environment, url, Some(&token)).await
    }

    /// A session with a deployment and a token that are already known.
    pub(super) async fn at(
        environment: &Environment,
        url: Url,
        token: Option<&Token>,
    ) -> Result<Self, CommandError> {
        let global = &environment.global;
        let command = global.header_command.as_deref();
        let options = Options {
            ca_file: file(global.client_tls_ca_file.as_deref()),
            client_cert: client_certificate(global)?,
            headers: headers::all(&environment.headers, command, &url).await?,
            proxies: proxies(&environment.ui),
            ..Options::default()
        };
        let transport =
            Transport::new(options).map_err(|error| CommandError::new(Kind::Other, error))?;
        let api = Client::new(transport.clone(), url.clone(), token.cloned());
        let api = match global.http_timeout {
            Some(limit) => api.with_deadline(limit),
            None => api,
        };
        Ok(Self { url, transport, api, direct: !global.disable_direct_connections })
    }

    /// The deployment's root.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The way to every host.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The deployment's REST interface, with the token.
    #[must_use]
    pub fn api(&self) -> &Client {
        &self.api
    }

    /// Whether direct paths may be tried.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }
}

/// The proxies of the environment. One that cannot be understood counts as absent, as with Go.
fn proxies(ui: &Ui) -> Proxies {
    Proxies::from_env().unwrap_or_else(|error| {
        ui.warn(format_args!("{error}; no proxy is used"));
        Proxies::none()
    })
}

/// An empty name of a file is none.
fn file(path: Option<&Path>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned)
}

fn client_certificate(global: &Global) -> Result<Option<(PathBuf, PathBuf)>, CommandError> {
    let certificate = file(global.client_tls_cert_file.as_deref());
    let key = file(global.client_tls_key_file.as_deref());
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (Some(_), None) | (None, Some(_)) => Err(CommandError::msg(
            Kind::Usage,
            "--client-tls-cert-file and --client-tls-key-file are given both or not at all",
        )),
    }
}

/// Longest token that is sent, in bytes: one has 33 characters, a signed one of an identity
/// provider some thousands, and no server takes more in a header.
const LONGEST_TOKEN: usize = 8192;

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
fn token(global: &Global, config: &Config, url: &Url) -> Result<Token, CommandError> {
    match global.token.as_ref().filter(|token| !token.reveal().is_empty()) {
        Some(given) => possible(given.clone(), url),
        None => stored_token(config, url),
    }
}

/// The stored login, where it is for the deployment that was named, if one was.
pub(super) fn stored(global: &Global, config: &Config) -> Result<(Url, Token), CommandError> {
    let url = deployment(global, config)?;
    let token = stored_token(config, &url)?;
    Ok((url, token))
}

fn stored_token(config: &Config, url: &Url) -> Result<Token, CommandError> {
    let stored_for = config.read(File::Url)?;
    let token = config.read(File::Session)?;
    let (Some(stored_for), Some(token)) = (stored_for, token) else {
        return Err(not_logged_in(url, format!("you are not logged in to {}", shown(url))));
    };
    match parse_url(&stored_for) {
        Ok(stored_for) if stored_for.origin() == url.origin() => possible(Token::new(&token), url),
        Ok(stored_for) => {
            let (stored_for, address) = (shown(&stored_for), shown(url));
            let why = format!(
                "the stored login is for {stored_for}, not for {address}: its token is not sent there"
            );
            Err(not_logged_in(url, why))
        }
        Err(_) => Err(not_logged_in(url, "the stored login names no usable URL".to_owned())),
    }
}

/// What can be no token would be refused anyway, and may not even fit into a header.
fn possible(token: Token, url: &Url) -> Result<Token, CommandError> {
    let text = token.reveal();
    if text.len() <= LONGEST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(token);
    }
    Err(not_logged_in(url, "the session token has characters that no token has".to_owned()))
}

fn not_logged_in(url: &Url, why: String) -> CommandError {
    CommandError::msg(Kind::Login, why)
        .hint(format!("run `coderctl login {}`, or set CODER_SESSION_TOKEN", shown(url)))
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

/// As people write it, and as it is stored: without a slash at its end.
pub(super) fn shown(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
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
