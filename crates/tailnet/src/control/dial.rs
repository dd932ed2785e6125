//! Why there is no byte stream to the server, and what follows from it.

use serde::Deserialize;

/// A dial that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DialError {
    /// What follows from it.
    pub failure: DialFailure,
    /// What is wrong with us, if the server said so.
    pub refusal: Refusal,
    /// What happened, for people. Not to be printed unescaped.
    pub message: String,
    /// What was beneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What is wrong with us, in the server's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The session token is not taken.
    Login,
    /// It speaks another version of the tailnet API.
    Version,
    /// Something else, or nothing.
    Other,
}

/// What follows from a failed dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialFailure {
    /// The first dial ends everything when it is answered like this; later ones are repeated, for
    /// what was right once may become right again.
    Refused,
    /// The server does not take the resume token: again, without it.
    ResumeToken,
    /// Again, later.
    Transient,
}

/// Text of a server's answer that is kept, in characters.
const MAX_MESSAGE: usize = 1024;

impl DialError {
    /// A failure without an answer: no network, no TLS, no WebSocket.
    pub fn transient(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = cause.into();
        DialError {
            failure: DialFailure::Transient,
            refusal: Refusal::Other,
            message: format!("cannot reach the coordinator: {source}"),
            source: Some(source),
        }
    }

    /// The server answered, but not with an upgrade. What follows is as for upstream
    /// (coder/coder: codersdk/workspacesdk/dialer.go), except that a refused session token is
    /// final, too.
    pub fn from_response(status: u16, body: &[u8]) -> Self {
        let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
        let about = |field| answer.validations.iter().flatten().any(|v| v.field == field);
        let failure = match status {
            401 if about("resume_token") => DialFailure::ResumeToken,
            400 | 401 | 404 | 409 | 500 => DialFailure::Refused,
            _ => DialFailure::Transient,
        };
        let refusal = match status {
            401 => Refusal::Login,
            400 if about("version") => Refusal::Version,
            _ => Refusal::Other,
        };
        let mut message = format!("the coordinator answered with HTTP status {status}");
        for text in [&answer.message, &answer.detail] {
            if !text.is_empty() {
                message.push_str(": ");
                message.extend(text.chars().take(MAX_MESSAGE));
            }
        }
        if about("version") {
            message.push_str(" (server and client speak different versions)");
        }
        DialError { failure, refusal, message, source: None }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    message: String,
    detail: String,
    validations: Option<Vec<Validation>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Validation {
    field: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_resume_token_is_not_a_refused_session() {
        let body = br#"{"message":"Invalid resume token","validations":[{"field":"resume_token","detail":"expired"}]}"#;
        assert_eq!(DialError::from_response(401, body).failure, DialFailure::ResumeToken);
        assert_eq!(DialError::from_response(401, b"{}").failure, DialFailure::Refused);
    }

    #[test]
    fn statuses_that_end_the_first_dial() {
        for (status, failure) in [
            (400, DialFailure::Refused),
            (403, DialFailure::Transient),
            (404, DialFailure::Refused),
            (409, DialFailure::Refused),
            (429, DialFailure::Transient),
            (500, DialFailure::Refused),
            (502, DialFailure::Transient),
        ] {
            assert_eq!(DialError::from_response(status, b"<html>").failure, failure, "{status}");
        }
    }

    #[test]
    fn the_servers_words_are_in_the_message() {
        let body = br#"{"message":"Unknown or unsupported API version","detail":"server is at version 2.4","validations":[{"field":"version","detail":""}]}"#;
        assert_eq!(
            DialError::from_response(400, body).to_string(),
            "the coordinator answered with HTTP status 400: Unknown or unsupported API version: \
             server is at version 2.4 (server and client speak different versions)"
        );
    }
}
