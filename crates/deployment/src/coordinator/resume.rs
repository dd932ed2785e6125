//! The token by which a client keeps its peer id when it comes back.
//!
//! It names a peer, the user who may be it, and when that ends, with an HMAC-SHA256 over all of
//! it. Upstream's is a JWT that names the peer alone (coder/coder: tailnet/resume.go); clients see
//! neither. Replicas that share the key take each other's tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::ids::PeerId;
use ring::hmac;
use uuid::Uuid;

use crate::model::{hex, unhex};

/// How long a token is good (coder/coder: tailnet/resume.go, `DefaultResumeTokenExpiry`); it is
/// refreshed after half of it.
pub const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Version, peer, user, end.
const PAYLOAD: usize = 1 + 16 + 16 + 8;
const VERSION: u8 = 1;
const MAC: usize = 32;

/// The key that signs tokens.
#[derive(Clone)]
pub(super) struct Resume(hmac::Key);

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// It is not one of ours, or was changed.
    #[error("the token was not issued by this deployment, or its key has changed")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is another user's.
    #[error("the token was issued to another user")]
    User,
}

impl Resume {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A token for a peer.
    pub(super) fn issue(
        &self,
        peer: PeerId,
        user: Uuid,
        now: SystemTime,
    ) -> proto::RefreshResumeTokenResponse {
        let end = now + LIFE;
        let mut token = Vec::with_capacity(PAYLOAD + MAC);
        token.push(VERSION);
        token.extend_from_slice(&peer.to_bytes());
        token.extend_from_slice(user.as_bytes());
        token.extend_from_slice(&seconds(end).to_be_bytes());
        let mac = hmac::sign(&self.0, &token);
        token.extend_from_slice(mac.as_ref());
        proto::RefreshResumeTokenResponse {
            token: hex(&token),
            refresh_in: Some(prost_types::Duration {
                seconds: (LIFE / 2).as_secs() as i64,
                nanos: 0,
            }),
            expires_at: Some(end.into()),
            peer_id: peer.to_bytes().to_vec(),
        }
    }

    /// The peer that a token names.
    pub(super) fn verify(
        &self,
        token: &str,
        user: Uuid,
        now: SystemTime,
    ) -> Result<PeerId, ResumeError> {
        // No longer than one of ours, before it is looked at.
        let token = Some(token).filter(|token| token.len() == 2 * (PAYLOAD + MAC));
        let token = token.and_then(unhex).ok_or(ResumeError::Invalid)?;
        let (payload, mac) = token.split_at_checked(PAYLOAD).ok_or(ResumeError::Invalid)?;
        hmac::verify(&self.0, payload, mac).map_err(|_| ResumeError::Invalid)?;
        let fields = payload.split_first_chunk::<1>().and_then(|([version], rest)| {
            let (peer, rest) = rest.split_first_chunk::<16>()?;
            let (user, end) = rest.split_first_chunk::<16>()?;
            let end = u64::from_be_bytes(end.try_into().ok()?);
            (*version == VERSION).then_some((*peer, *user, end))
        });
        let (peer, owner, end) = fields.ok_or(ResumeError::Invalid)?;
        if owner != *user.as_bytes() {
            return Err(ResumeError::User);
        }
        if seconds(now) >= end {
            return Err(ResumeError::Expired);
        }
        Ok(PeerId::from_bytes(peer))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: PeerId = PeerId::from_bytes([7; 16]);
    const USER: Uuid = Uuid::from_bytes([8; 16]);
    const NOW: SystemTime = UNIX_EPOCH;

    #[test]
    fn a_token_names_its_peer_for_a_day() {
        let resume = Resume::new(&[1; 32]);
        let issued = resume.issue(PEER, USER, NOW);
        assert_eq!(issued.peer_id, PEER.to_bytes());
        assert_eq!(issued.refresh_in.map(|delay| delay.seconds), Some(12 * 60 * 60));
        let at = |hours: u64| NOW + Duration::from_secs(hours * 60 * 60);
        assert_eq!(resume.verify(&issued.token, USER, at(0)), Ok(PEER));
        assert_eq!(resume.verify(&issued.token, USER, at(23)), Ok(PEER));
        assert_eq!(resume.verify(&issued.token, USER, at(24)), Err(ResumeError::Expired));
        let other = Uuid::from_bytes([9; 16]);
        assert_eq!(resume.verify(&issued.token, other, NOW), Err(ResumeError::User));
        let elsewhere = Resume::new(&[2; 32]);
        assert_eq!(elsewhere.verify(&issued.token, USER, NOW), Err(ResumeError::Invalid));
    }

    proptest! {
        #[test]
        fn a_changed_token_is_none(at in 0usize..2 * (PAYLOAD + MAC), digit in "[0-9a-f]") {
            let resume = Resume::new(&[1; 32]);
            let token = resume.issue(PEER, USER, NOW).token;
            let mut changed = token.clone();
            changed.replace_range(at..=at, &digit);
            let expected = if changed == token { Ok(PEER) } else { Err(ResumeError::Invalid) };
            prop_assert_eq!(resume.verify(&changed, USER, NOW), expected);
        }

        #[test]
        fn garbage_does_no_harm(text in ".{0,200}") {
            let verified = Resume::new(&[1; 32]).verify(&text, USER, NOW);
            prop_assert_eq!(verified, Err(ResumeError::Invalid));
        }
    }
}
