//! How the agent proves which one it is.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use zeroize::Zeroizing;

/// An agent token. Redacted in `Debug`, erased when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes it; white space around it is removed.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Zeroizing::new(text.as_ref().trim().to_owned()))
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Why there is no token now. The agent tries again later.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no agent token: {0}")]
pub struct NoToken(pub String);

/// What a [`TokenSource::Provider`] returns.
pub type Refreshing = Pin<Box<dyn Future<Output = Result<Token, NoToken>> + Send>>;

/// Where the token comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// One that never changes.
    Fixed(Token),
    /// Asked before every connection of the Agent API, as instance identity does: this is how a
    /// machine that outlives its build gets the next build's token, and so another agent id
    /// (upstream: `RefreshToken` in `codersdk/agentsdk`).
    Provider(Arc<dyn Fn() -> Refreshing + Send + Sync>),
}

impl TokenSource {
    /// A provider from a function.
    pub fn provider<F, Fut>(refresh: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Token, NoToken>> + Send + 'static,
    {
        Self::Provider(Arc::new(move || Box::pin(refresh())))
    }

    /// The token for the next connection.
    ///
    /// # Errors
    /// When the provider has none now.
    pub async fn refresh(&self) -> Result<Token, NoToken> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::Provider(refresh) => refresh().await,
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(<redacted>)",
            Self::Provider(_) => "Provider",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed_and_do_not_print() {
        let token = Token::new(" hush\n");
        assert_eq!(token.expose(), "hush");
        let text = format!("{token:?} {:?}", TokenSource::Fixed(token.clone()));
        assert!(!text.contains("hush"), "{text}");
    }
}
