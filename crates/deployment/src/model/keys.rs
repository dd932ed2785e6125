//! API keys: how a user shows who they are.
//!
//! A token is `<id>-<secret>`: 10 and 22 letters and digits (`coderd/httpmw/apikey.go`). Only the
//! SHA-256 of the secret is kept.

use std::time::Duration;

use ring::{digest, rand::SecureRandom};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Timestamp, words};

/// Characters of a key's id.
pub const KEY_ID_LENGTH: usize = 10;
/// Characters of a key's secret.
pub const KEY_SECRET_LENGTH: usize = 22;

/// What ids and secrets are made of: 62 characters, so 22 of them are 130 bits.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

words! {
    /// How a key came to be (`codersdk/apikey.go`).
    pub enum LoginType ("login type") {
        /// A session, made by logging in.
        Password = "password",
        /// A token that a user asked for.
        Token = "token",
    }
}

/// A key, without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The first part of the token.
    pub id: String,
    /// Whose it is.
    pub user_id: Uuid,
    /// SHA-256 of the secret.
    pub hashed_secret: [u8; 32],
    /// How it came to be.
    pub login_type: LoginType,
    /// The name that the user gave a token; empty for a session.
    pub token_name: String,
    /// How long it lives after each use.
    pub lifetime: Duration,
    /// From then on it is refused.
    pub expires_at: Timestamp,
    /// When it was used last.
    pub last_used_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("user_id", &self.user_id)
            .field("login_type", &self.login_type)
            .field("token_name", &self.token_name)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A token as a client sends it. Its secret is wiped when it goes and is never printed.
#[derive(Clone)]
pub struct SessionToken {
    id: String,
    secret: Zeroizing<String>,
}

/// Why text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFormatError {
    /// Not exactly one `-`.
    #[error("the session token is not of the form <id>-<secret>")]
    Shape,
    /// The id has another length, or other characters.
    #[error("the id of the session token is not {KEY_ID_LENGTH} letters and digits")]
    Id,
    /// The secret has another length, or other characters.
    #[error("the secret of the session token is not {KEY_SECRET_LENGTH} letters and digits")]
    Secret,
}

impl SessionToken {
    /// A new one.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            id: random_text(KEY_ID_LENGTH)?.to_string(),
            secret: random_text(KEY_SECRET_LENGTH)?,
        })
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is not of the form; the error says why without repeating it.
    pub fn parse(text: &str) -> Result<Self, TokenFormatError> {
        let (id, secret) = text.split_once('-').ok_or(TokenFormatError::Shape)?;
        if secret.contains('-') {
            return Err(TokenFormatError::Shape);
        }
        if id.len() != KEY_ID_LENGTH || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(TokenFormatError::Id);
        }
        if secret.len() != KEY_SECRET_LENGTH || !secret.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(TokenFormatError::Secret);
        }
        Ok(Self { id: id.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
    }

    /// The id, by which its key is found.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// SHA-256 of the secret: what is kept and compared.
    #[must_use]
    pub fn hashed_secret(&self) -> [u8; 32] {
        sha256(self.secret.as_bytes())
    }

    /// The whole token, for the one who asked for it.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}-{}", self.id, self.secret.as_str()))
    }
}

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-[redacted]", self.id)
    }
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// `length` characters of [`ALPHABET`], each equally likely: bytes of 248 and above, which would
/// favour the first characters, are thrown away.
fn random_text(length: usize) -> Result<Zeroizing<String>, ring::error::Unspecified> {
    let random = ring::rand::SystemRandom::new();
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0_u8; 32]);
    while text.len() < length {
        random.fill(bytes.as_mut_slice())?;
        for byte in bytes.iter().filter(|byte| **byte < 248) {
            if text.len() < length {
                text.push(char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_shape_and_are_not_printed() {
        let token = SessionToken::generate().expect("randomness");
        let text = token.expose();
        assert_eq!(text.len(), KEY_ID_LENGTH + 1 + KEY_SECRET_LENGTH);
        let read = SessionToken::parse(&text).expect("its own form");
        assert_eq!(read.id(), token.id());
        assert_eq!(read.hashed_secret(), token.hashed_secret());
        let secret = text.split_once('-').expect("two parts").1;
        assert!(!format!("{token:?}").contains(secret));
        assert_ne!(
            SessionToken::generate().expect("randomness").expose(),
            text,
            "two tokens are not the same"
        );
    }

    #[test]
    fn what_is_no_token() {
        use TokenFormatError::{Id, Secret, Shape};
        for (text, why) in [
            ("", Shape),
            ("abcdefghij", Shape),
            ("abcdefghij-klmnopqrst-vwxyz01234", Shape),
            ("-klmnopqrstuvwxyz0123456", Id),
            ("abcdefghi-klmnopqrstuvwxyz012345", Id),
            ("abcdefghi\0-klmnopqrstuvwxyz012345", Id),
            ("abcdefghij-", Secret),
            ("abcdefghij-klmnopqrstuvwxyz01234", Secret),
            ("abcdefghij-klmnopqrstuvwxyz01234 ", Secret),
            ("abcdefghij-klmnopqrstuvwxyz012345x", Secret),
        ] {
            assert_eq!(SessionToken::parse(text).err(), Some(why), "{text:?}");
        }
        assert!(SessionToken::parse("abcdefghij-klmnopqrstuvwxyz012345").is_ok());
    }
}
