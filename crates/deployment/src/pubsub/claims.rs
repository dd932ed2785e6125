//! Claims of prebuilt workspaces: told once the claim build has succeeded, heard by whoever serves
//! the agent (`coderd/prebuilds/claim.go`).

use futures_util::FutureExt as _;
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use super::{Event, Pubsub, PubsubError, channels::prebuild_claimed};
use crate::model::ReinitEvent;

/// Why a claim was not told, or cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It was not published.
    #[error("failed to trigger prebuilt workspace agent reinitialization")]
    Publish(#[source] PubsubError),
    /// It cannot be subscribed to.
    #[error("failed to subscribe to prebuild claimed channel")]
    Subscribe(#[source] PubsubError),
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The workspace was claimed.
    Claim(ReinitEvent),
    /// A claim may have been missed: look whether there was one.
    Resync,
}

/// Tells the workspace's agent that it was claimed.
///
/// # Errors
///
/// [`ClaimError::Publish`]. The claim itself stands, and an agent that asks again learns of it.
pub async fn publish_claim(pubsub: &Pubsub, claim: &ReinitEvent) -> Result<(), ClaimError> {
    // Cannot fail: a plain structure with text keys.
    let payload = serde_json::to_string(claim).unwrap_or_default();
    pubsub
        .publish(&prebuild_claimed(claim.workspace_id), &payload)
        .await
        .map_err(ClaimError::Publish)
}

/// Hears of claims of one workspace.
#[derive(Debug)]
pub struct ClaimListener {
    events: mpsc::Receiver<Heard>,
    pump: JoinHandle<()>,
}

impl ClaimListener {
    /// Listens. From the moment that this returns, a claim is heard.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Subscribe`].
    pub async fn listen(pubsub: &Pubsub, workspace_id: Uuid) -> Result<Self, ClaimError> {
        let mut subscription = pubsub
            .subscribe(&prebuild_claimed(workspace_id))
            .await
            .map_err(ClaimError::Subscribe)?;
        // One is enough: there is one claim in a workspace's life.
        let (sender, events) = mpsc::channel(1);
        let pump = tokio::spawn(
            async move {
                while let Some(event) = subscription.recv().await {
                    let heard = match event {
                        Event::Message(payload) => Heard::Claim(decode(workspace_id, &payload)),
                        Event::Resync => Heard::Resync,
                    };
                    if sender.send(heard).await.is_err() {
                        return;
                    }
                }
            }
            .boxed(),
        );
        Ok(Self { events, pump })
    }

    /// The next event; waits for it, for ever if the listener was cancelled. Nothing is lost if
    /// the wait is given up.
    pub async fn recv(&mut self) -> Heard {
        match self.events.recv().await {
            Some(heard) => heard,
            // The end of listening is no news about the workspace.
            None => std::future::pending().await,
        }
    }

    /// Listens no more; may be called again. Dropping the listener does the same.
    pub fn cancel(&mut self) {
        self.pump.abort();
        self.events.close();
        // What was heard before is not handed over after.
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for ClaimListener {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Reads a payload. Old publishers write the reason as bare text: whatever is no event is taken
/// for that, a JSON string without its quotes. Members that are missing are filled in: the
/// workspace from the channel, the reason with the only one there is.
fn decode(workspace_id: Uuid, payload: &[u8]) -> ReinitEvent {
    #[derive(serde::Deserialize)]
    struct Payload {
        workspace_id: Option<Uuid>,
        reason: Option<String>,
        owner_id: Option<Uuid>,
    }
    let reason_only = |reason: String| ReinitEvent { workspace_id, reason, owner_id: None };
    match serde_json::from_slice(payload) {
        Ok(Payload { workspace_id: of, reason, owner_id }) => ReinitEvent {
            workspace_id: of.filter(|id| !id.is_nil()).unwrap_or(workspace_id),
            reason: reason.unwrap_or_else(|| crate::model::PREBUILD_CLAIMED.to_owned()),
            owner_id: owner_id.filter(|id| !id.is_nil()),
        },
        Err(_) => match serde_json::from_slice::<String>(payload) {
            Ok(text) => reason_only(text),
            Err(_) => reason_only(String::from_utf8_lossy(payload).into_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{error::Error as _, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const WORKSPACE: Uuid = Uuid::from_u128(1);
    const OWNER: Uuid = Uuid::from_u128(2);
    const LIMIT: Duration = Duration::from_secs(10);

    fn heard(reason: &str, owner_id: Option<Uuid>) -> ReinitEvent {
        ReinitEvent { workspace_id: WORKSPACE, reason: reason.to_owned(), owner_id }
    }

    #[test]
    fn payloads() {
        let id = WORKSPACE;
        let owner = OWNER;
        let nil = Uuid::nil();
        for (name, payload, wanted) in [
            (
                "a new publisher",
                format!(
                    r#"{{"workspace_id":"{id}","reason":"prebuild_claimed","owner_id":"{owner}"}}"#
                ),
                heard("prebuild_claimed", Some(OWNER)),
            ),
            (
                "no owner",
                format!(r#"{{"workspace_id":"{id}","reason":"prebuild_claimed"}}"#),
                heard("prebuild_claimed", None),
            ),
            (
                "a nil owner",
                format!(
                    r#"{{"workspace_id":"{id}","reason":"prebuild_claimed","owner_id":"{nil}"}}"#
                ),
                heard("prebuild_claimed", None),
            ),
            (
                "no workspace",
                format!(r#"{{"reason":"prebuild_claimed","owner_id":"{owner}"}}"#),
                heard("prebuild_claimed", Some(OWNER)),
            ),
            (
                "a nil workspace",
                format!(r#"{{"workspace_id":"{nil}","reason":"prebuild_claimed"}}"#),
                heard("prebuild_claimed", None),
            ),
            ("an empty object", "{}".to_owned(), heard("prebuild_claimed", None)),
            (
                "of the future",
                format!(r#"{{"workspace_id":"{id}","reason":"other","more":[1]}}"#),
                heard("other", None),
            ),
            ("an old publisher", "prebuild_claimed".to_owned(), heard("prebuild_claimed", None)),
            (
                "a quoted string",
                r#""prebuild_claimed""#.to_owned(),
                heard("prebuild_claimed", None),
            ),
            ("a number", "7".to_owned(), heard("7", None)),
            ("null", "null".to_owned(), heard("null", None)),
            ("a list", "[]".to_owned(), heard("[]", None)),
            ("nothing", String::new(), heard("", None)),
            (
                "an object of another shape",
                r#"{"workspace_id":7}"#.to_owned(),
                heard(r#"{"workspace_id":7}"#, None),
            ),
            ("cut short", r#"{"reason""#.to_owned(), heard(r#"{"reason""#, None)),
        ] {
            assert_eq!(decode(WORKSPACE, payload.as_bytes()), wanted, "{name}");
        }
        assert_eq!(decode(WORKSPACE, b"\xff"), heard("\u{fffd}", None));
    }

    #[tokio::test]
    async fn a_claim_is_heard_by_its_workspace_alone() {
        let pubsub = Pubsub::in_process();
        let mut listener = ClaimListener::listen(&pubsub, WORKSPACE).await.unwrap();
        let other = Uuid::from_u128(9);
        publish_claim(&pubsub, &ReinitEvent::claimed(other, OWNER)).await.unwrap();
        let claim = ReinitEvent::claimed(WORKSPACE, OWNER);
        publish_claim(&pubsub, &claim).await.unwrap();
        // In order: had the other's been delivered, it would be first.
        let first = timeout(LIMIT, listener.recv()).await.unwrap();
        assert_eq!(first, Heard::Claim(claim));
    }

    #[tokio::test]
    async fn claims_wait_for_a_slow_listener() {
        let pubsub = Pubsub::in_process();
        let mut listener = ClaimListener::listen(&pubsub, WORKSPACE).await.unwrap();
        for number in 0..5 {
            let payload = number.to_string();
            pubsub.publish(&prebuild_claimed(WORKSPACE), &payload).await.unwrap();
        }
        for number in 0..5 {
            let next = timeout(LIMIT, listener.recv()).await.unwrap();
            assert_eq!(next, Heard::Claim(heard(&number.to_string(), None)));
        }
    }

    #[tokio::test]
    async fn cancel_may_be_repeated_and_nothing_is_heard_after() {
        let pubsub = Pubsub::in_process();
        let mut listener = ClaimListener::listen(&pubsub, WORKSPACE).await.unwrap();
        let claim = ReinitEvent::claimed(WORKSPACE, OWNER);
        publish_claim(&pubsub, &claim).await.unwrap();
        listener.cancel();
        listener.cancel();
        publish_claim(&pubsub, &claim).await.unwrap();
        // The wait can only end by its limit; virtual time makes that quick.
        tokio::time::pause();
        assert!(timeout(LIMIT, listener.recv()).await.is_err());
    }

    #[tokio::test]
    async fn a_dropped_listener_leaves_its_channel() {
        let pubsub = Pubsub::in_process();
        let listener = ClaimListener::listen(&pubsub, WORKSPACE).await.unwrap();
        let pump = listener.pump.abort_handle();
        assert!(pubsub.shared.hub.has(&prebuild_claimed(WORKSPACE)));
        drop(listener);
        timeout(LIMIT, async {
            while !pump.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(!pubsub.shared.hub.has(&prebuild_claimed(WORKSPACE)));
    }

    #[tokio::test]
    async fn errors_say_what_was_to_be_done() {
        let pubsub = Pubsub::in_process();
        pubsub.close().await;
        let error = ClaimListener::listen(&pubsub, WORKSPACE).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to subscribe to prebuild claimed channel");
        assert!(error.source().is_some());
        let error =
            publish_claim(&pubsub, &ReinitEvent::claimed(WORKSPACE, OWNER)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to trigger prebuilt workspace agent reinitialization"
        );
        assert!(error.source().is_some());
    }
}
