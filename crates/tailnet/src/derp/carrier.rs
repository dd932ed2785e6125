//! How a relay's byte stream is opened: by an HTTP upgrade to DERP, or as a WebSocket.
//!
//! The upgrade is the cheaper one: no mask, no second framing. But what stands between (a proxy
//! that reads HTTP, a gateway) may know no protocol of that name. A WebSocket gets through there.
//!
//! ```text
//!            refused by HTTP ──► at once by WebSocket ── works ──► Keep
//!   Upgrade ─┤                                        └─ fails ──► Upgrade
//!            └ nothing came back ──► Try ── works ──► Keep
//!                                     └──── fails ──► Upgrade
//! ```
//!
//! Upstream remembers WebSocket at the first refusal, whether it then works or not, and never tries
//! it when an upgrade ends in silence (coder/tailscale: derp/derphttp/derphttp_client.go).

use super::connection::ConnectionError;
use super::dial::DialError;

/// A way to open a relay's byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// An HTTP/1.1 upgrade to `DERP`.
    Upgrade,
    /// A WebSocket with the sub-protocol `derp`, whose messages are one stream of bytes.
    WebSocket,
}

/// What is known about the way to one region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// Nothing against the upgrade.
    #[default]
    Upgrade,
    /// The upgrade ended in nothing, for this reason: the next round is by WebSocket.
    Try(String),
    /// WebSocket works where the upgrade did not, for this reason.
    Keep(String),
}

impl Choice {
    /// By what the next connection is tried.
    pub(super) fn carrier(&self) -> Carrier {
        match self {
            Choice::Upgrade => Carrier::Upgrade,
            Choice::Try(_) | Choice::Keep(_) => Carrier::WebSocket,
        }
    }

    /// All nodes of the region failed, the last one so. Gives what is to be told: where WebSocket
    /// was but a try, it is what became of the upgrade.
    pub(super) fn failed(&mut self, error: &ConnectionError) -> String {
        let text = error.to_string();
        let (next, told) = match std::mem::take(self) {
            Choice::Upgrade if may_be_filtered(error) => (Choice::Try(text.clone()), text),
            Choice::Upgrade => (Choice::Upgrade, text),
            Choice::Try(why) => (Choice::Upgrade, why),
            Choice::Keep(why) => (Choice::Keep(why), text),
        };
        *self = next;
        told
    }

    /// A WebSocket was opened in place of an upgrade; `refusal` is what became of that, if it was
    /// tried just before.
    pub(super) fn works(&mut self, refusal: Option<&ConnectionError>) {
        *self = match (std::mem::take(self), refusal) {
            (_, Some(refusal)) => Choice::Keep(refusal.to_string()),
            (Choice::Try(why) | Choice::Keep(why), None) => Choice::Keep(why),
            (Choice::Upgrade, None) => Choice::Upgrade,
        };
    }

    /// Why WebSocket is used, where it is.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Choice::Keep(why) => Some(why),
            Choice::Upgrade | Choice::Try(_) => None,
        }
    }
}

/// Whether an answer says that an upgrade to DERP means nothing here: any final answer but a
/// server's own trouble (500, 502 to 599), which a WebSocket would meet as well. 400 to 499 is
/// upstream's rule; a gateway may also answer as if nothing had been asked (200), or elsewhere.
pub(super) fn refuses_upgrade(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::Dial(DialError::Refused { status, .. }) => {
            matches!(status, 200..=499 | 501)
        }
        ConnectionError::Dial(
            DialError::Url(_) | DialError::Interrupted { .. } | DialError::Unreachable { .. },
        )
        | ConnectionError::Timeout
        | ConnectionError::Protocol(_)
        | ConnectionError::Io(_)
        | ConnectionError::Closed
        | ConnectionError::Silent(_)
        | ConnectionError::NoEntropy(_) => false,
    }
}

/// Whether something in between may have swallowed the upgrade: the host was there, and what came
/// back was nothing, or nothing of a relay's.
fn may_be_filtered(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::Dial(DialError::Interrupted { .. })
        | ConnectionError::Timeout
        | ConnectionError::Protocol(_)
        | ConnectionError::Io(_)
        | ConnectionError::Closed
        | ConnectionError::Silent(_) => true,
        ConnectionError::Dial(
            DialError::Url(_) | DialError::Refused { .. } | DialError::Unreachable { .. },
        )
        | ConnectionError::NoEntropy(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derp::ClientError;

    fn refused(status: u16) -> ConnectionError {
        DialError::Refused { host: "relay:443".to_owned(), status }.into()
    }

    #[test]
    fn which_answers_refuse_an_upgrade() {
        for status in [200, 204, 302, 400, 403, 404, 426, 499, 501] {
            assert!(refuses_upgrade(&refused(status)), "{status}");
        }
        for status in [500, 502, 503, 504] {
            assert!(!refuses_upgrade(&refused(status)), "{status}");
        }
        assert!(!refuses_upgrade(&ConnectionError::Timeout));
    }

    #[test]
    fn what_is_remembered() {
        use Carrier::{Upgrade, WebSocket};
        let nothing = || ConnectionError::Timeout;
        let garbage = || ConnectionError::from(ClientError::NotARelay);
        // What happens, and the way of the round after it.
        type Step = fn(&mut Choice);
        let silence: Step = |choice| drop(choice.failed(&ConnectionError::Timeout));
        let outage: Step = |choice| drop(choice.failed(&refused(502)));
        let works: Step = |choice| choice.works(None);
        let instead: Step = |choice| choice.works(Some(&refused(426)));
        let rows: [(&[Step], Carrier); 8] = [
            (&[], Upgrade),
            (&[outage], Upgrade),
            (&[silence], WebSocket),
            (&[silence, silence], Upgrade),
            (&[silence, outage], Upgrade),
            (&[silence, works], WebSocket),
            (&[silence, works, silence, outage], WebSocket),
            (&[instead, silence, outage], WebSocket),
        ];
        for (number, (steps, carrier)) in rows.into_iter().enumerate() {
            let mut choice = Choice::default();
            for step in steps {
                step(&mut choice);
            }
            assert_eq!(choice.carrier(), carrier, "row {number}");
        }
        for error in [nothing(), garbage(), ConnectionError::Closed] {
            let mut choice = Choice::default();
            assert_eq!(choice.failed(&error), error.to_string());
            choice.works(None);
            assert_eq!(choice.why(), Some(error.to_string().as_str()));
        }
    }

    #[test]
    fn a_try_that_fails_is_not_what_is_told() {
        let mut choice = Choice::default();
        let first = choice.failed(&ConnectionError::Closed);
        assert_eq!(choice.failed(&refused(404)), first);
        assert_eq!(choice.failed(&refused(502)), refused(502).to_string());
    }
}
