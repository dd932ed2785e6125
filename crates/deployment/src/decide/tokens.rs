//! Tokens: whose are they, and are they good.

use subtle::ConstantTimeEq as _;

use crate::model::{ApiKey, JobStatus, SessionToken, Timestamp, Transition, User, UserStatus};

/// Why a session token is refused, always with 401 (`coderd/httpmw/apikey.go`). The text is for
/// the answer's `detail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// No key has this id.
    #[error("API key is invalid.")]
    Unknown,
    /// The secret is another.
    #[error("API key secret is invalid.")]
    Secret,
    /// It has run out.
    #[error("API key expired at {0}.")]
    Expired(Timestamp),
    /// Its user may not use the deployment.
    #[error("Your account is {0}. Contact an admin to reactivate your account.")]
    User(UserStatus),
}

/// Whether a session token is good: `found` is the key with its id, and that key's user.
///
/// # Errors
///
/// It is not.
pub fn api_key_valid<'a>(
    token: &SessionToken,
    found: Option<(&'a ApiKey, &'a User)>,
    now: Timestamp,
) -> Result<&'a User, KeyRefusal> {
    let hashed = token.hashed_secret();
    let Some((key, user)) = found else {
        return Err(KeyRefusal::Unknown);
    };
    if !bool::from(key.hashed_secret.ct_eq(&hashed)) {
        return Err(KeyRefusal::Secret);
    }
    if now >= key.expires_at {
        return Err(KeyRefusal::Expired(key.expires_at));
    }
    match user.status {
        // A dormant user who comes back is active again (`coderd/httpmw/apikey.go`).
        UserStatus::Active | UserStatus::Dormant => Ok(user),
        UserStatus::Suspended => Err(KeyRefusal::User(user.status)),
    }
}

/// What a row with an agent's token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentRow {
    /// The row is deleted (sub-agents only).
    pub deleted: bool,
    /// Its workspace is deleted.
    pub workspace_deleted: bool,
    /// Its build.
    pub build: BuildFacts,
    /// The workspace's latest build, which may be the same.
    pub latest: BuildFacts,
}

/// What of a build an agent's token depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildFacts {
    /// Its number.
    pub number: i32,
    /// What it does.
    pub transition: Transition,
    /// How far it is.
    pub status: JobStatus,
}

/// Whether an agent's token is good for this row
/// (`GetAuthenticatedWorkspaceAgentAndBuildByAuthToken`): its build is the latest, or it is a
/// start that succeeded, and the next is a stop that is under way, of whose scripts the agent is
/// to report.
#[must_use]
pub fn agent_token_valid(row: &AgentRow) -> bool {
    if row.deleted || row.workspace_deleted {
        return false;
    }
    let stopping = row.build.transition == Transition::Start
        && row.build.status == JobStatus::Succeeded
        && row.latest.number == row.build.number.saturating_add(1)
        && row.latest.transition == Transition::Stop
        && matches!(row.latest.status, JobStatus::Pending | JobStatus::Running);
    row.build.number == row.latest.number || stopping
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::model::{LoginType, Role};

    #[test]
    fn api_keys() {
        let token = SessionToken::generate().unwrap();
        let other = SessionToken::generate().unwrap();
        let now = Timestamp::EPOCH.plus(Duration::from_secs(1_000));
        let later = now.plus(Duration::from_secs(1));
        let key = |secret: &SessionToken, expires_at| ApiKey {
            id: token.id().to_owned(),
            user_id: Uuid::nil(),
            hashed_secret: secret.hashed_secret(),
            login_type: LoginType::Token,
            token_name: "ci".to_owned(),
            lifetime: Duration::from_secs(10),
            expires_at,
            last_used_at: now,
            created_at: now,
            updated_at: now,
        };
        let user = |status| User {
            id: Uuid::nil(),
            username: "alice".to_owned(),
            email: "alice@example.com".to_owned(),
            name: String::new(),
            status,
            role: Role::Member,
            is_system: false,
            created_at: now,
            updated_at: now,
            last_seen_at: None,
        };
        let active = user(UserStatus::Active);
        assert_eq!(api_key_valid(&token, None, now), Err(KeyRefusal::Unknown), "no key");
        let good = key(&token, later);
        for (name, key, status, wanted) in [
            ("good", &good, UserStatus::Active, None),
            ("good, dormant", &good, UserStatus::Dormant, None),
            (
                "suspended",
                &good,
                UserStatus::Suspended,
                Some(KeyRefusal::User(UserStatus::Suspended)),
            ),
            ("another secret", &key(&other, later), UserStatus::Active, Some(KeyRefusal::Secret)),
            ("expires now", &key(&token, now), UserStatus::Active, Some(KeyRefusal::Expired(now))),
            (
                "another secret, expired: the expiry is not told",
                &key(&other, now),
                UserStatus::Active,
                Some(KeyRefusal::Secret),
            ),
        ] {
            let user = user(status);
            assert_eq!(api_key_valid(&token, Some((key, &user)), now).err(), wanted, "{name}");
        }
        assert_eq!(api_key_valid(&token, Some((&good, &active)), now), Ok(&active));
        assert!(!format!("{good:?}").contains(&crate::model::hex(&good.hashed_secret)));
    }

    #[test]
    fn agent_tokens() {
        use JobStatus::{Canceled, Canceling, Failed, Pending, Running, Succeeded};
        use Transition::{Delete, Start, Stop};
        let facts = |(number, transition, status)| BuildFacts { number, transition, status };
        let rows = [
            // The latest build, whatever it is.
            ("latest start", (2, Start, Succeeded), (2, Start, Succeeded), true),
            ("latest start, running", (2, Start, Running), (2, Start, Running), true),
            ("latest stop", (2, Stop, Succeeded), (2, Stop, Succeeded), true),
            // The stop exception.
            ("stop pending", (1, Start, Succeeded), (2, Stop, Pending), true),
            ("stop running", (1, Start, Succeeded), (2, Stop, Running), true),
            ("stop succeeded", (1, Start, Succeeded), (2, Stop, Succeeded), false),
            ("stop canceling", (1, Start, Succeeded), (2, Stop, Canceling), false),
            ("stop canceled", (1, Start, Succeeded), (2, Stop, Canceled), false),
            ("stop failed", (1, Start, Succeeded), (2, Stop, Failed), false),
            ("stop after the next", (1, Start, Succeeded), (3, Stop, Running), false),
            ("start that failed", (1, Start, Failed), (2, Stop, Running), false),
            ("start canceled", (1, Start, Canceled), (2, Stop, Running), false),
            ("a stop before", (1, Stop, Succeeded), (2, Stop, Running), false),
            // Anything else is outdated.
            ("claim pending", (1, Start, Succeeded), (2, Start, Pending), false),
            ("claim running", (1, Start, Succeeded), (2, Start, Running), false),
            ("claim failed", (1, Start, Succeeded), (2, Start, Failed), false),
            ("claim succeeded", (1, Start, Succeeded), (2, Start, Succeeded), false),
            ("delete running", (1, Start, Succeeded), (2, Delete, Running), false),
        ];
        for (name, build, latest, wanted) in rows {
            let row = AgentRow {
                deleted: false,
                workspace_deleted: false,
                build: facts(build),
                latest: facts(latest),
            };
            assert_eq!(agent_token_valid(&row), wanted, "{name}");
            for (deleted, workspace_deleted) in [(true, false), (false, true), (true, true)] {
                let row = AgentRow { deleted, workspace_deleted, ..row };
                assert!(
                    !agent_token_valid(&row),
                    "{name}, row deleted: {deleted}, workspace deleted: {workspace_deleted}"
                );
            }
        }
    }
}
