//! The token by which a server recognises a client that comes back.

use std::fmt;
use std::time::SystemTime;

use coderctl_drpc::proto::tailnet::RefreshResumeTokenResponse;
use zeroize::Zeroizing;

use crate::ids::PeerId;

/// Longest token that is kept, in bytes: it travels in a URL.
const MAX_LENGTH: usize = 8 << 10;

/// A signed name of a peer. As good as a password while it lives: prints as redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken {
    token: Zeroizing<String>,
    expires_at: Option<SystemTime>,
    peer: Option<PeerId>,
}

impl ResumeToken {
    /// A token and the end of its life, if it has one.
    pub fn new(token: String, expires_at: Option<SystemTime>) -> Self {
        ResumeToken { token: Zeroizing::new(token), expires_at, peer: None }
    }

    /// Reads the server's answer; `None` when it holds no (usable) token.
    pub fn from_response(response: RefreshResumeTokenResponse) -> Option<Self> {
        let token = Zeroizing::new(response.token);
        if token.is_empty() || token.len() > MAX_LENGTH {
            return None;
        }
        let expires_at = response.expires_at.and_then(|time| SystemTime::try_from(time).ok());
        let peer = PeerId::from_slice(&response.peer_id).ok();
        let peer = peer.filter(|peer| !peer.uuid().is_nil());
        Some(ResumeToken { token, expires_at, peer })
    }

    /// The token itself, for the query of the next dial. Never to be logged.
    pub fn expose(&self) -> &str {
        &self.token
    }

    /// Whether the server may still take it.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// Who we are to the coordinator; older servers do not say.
    pub fn peer(&self) -> Option<PeerId> {
        self.peer
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeToken")
            .field("token", &"redacted")
            .field("expires_at", &self.expires_at)
            .field("peer", &self.peer)
            .finish()
    }
}
