//! Why something that was asked for did not come about.

use std::fmt;

/// A failure: what kind (which decides) and the text that a person reads (which does not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to make of it.
    pub kind: FailureKind,
    /// The cause in the words of whoever knows it, network errors and server texts included (T19).
    pub text: String,
}

/// What to make of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// Worth another try after a pause: network, name resolution, 429, 5xx, a relay or a
    /// handshake that timed out, a watch error marked retryable.
    Transient,
    /// The token is refused (401).
    Login,
    /// No such workspace, or no access to it.
    Access,
    /// The workspace is deleted.
    Gone,
    /// The other side broke the protocol, or is too old or too new.
    Protocol,
    /// Refused for a reason that another try does not change.
    Refused,
    /// It was canceled on request.
    Canceled,
}

impl Failure {
    /// A failure of this kind with this text.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
