//! When a tunnel's timers matter.
//!
//! The noise library fires its timers when it is ticked and cannot say when it wants to be ticked
//! next. Ticking it four times a second would do, and would wake an idle process for ever. So this
//! follows the same rules (WireGuard paper, section 6) from the same events and knows the next
//! moment at which a tick can have an effect.

use std::time::{Duration, Instant};

/// A session's initiator renews it after this time when it sends.
pub(super) const REKEY_AFTER: Duration = Duration::from_secs(120);
/// A session's initiator renews it after this time when it receives.
const REKEY_AFTER_RECEIVING: Duration = Duration::from_secs(165);
/// No session is used for longer.
pub(super) const REJECT_AFTER: Duration = Duration::from_secs(180);
/// An unanswered initiation is replaced after this time; the library adds up to a third of a
/// second.
pub(super) const REKEY_TIMEOUT: Duration = Duration::from_millis(5_334);
/// No more initiations after this time without an answer.
pub(super) const REKEY_ATTEMPT: Duration = Duration::from_secs(90);
/// Received data is answered by a keepalive if nothing else was sent for this time.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);
/// Data sent into silence for this time asks for a new handshake; the library adds up to a third
/// of a second.
pub(super) const NEW_HANDSHAKE: Duration = Duration::from_millis(15_334);
/// Shortest time between two ticks (upstream practice), and the library's own idea of how old its
/// "now" may be.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// The events that WireGuard's timers hang on.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The last authenticated packet in either direction.
    last_any: Option<Instant>,
    /// Data arrived and nothing was sent since.
    want_keepalive: Option<Instant>,
    /// Data was sent and nothing arrived since.
    want_handshake: Option<Instant>,
    /// The initiation under way was sent.
    initiated: Option<Instant>,
    /// The current session and our role in it.
    session: Option<Session>,
    /// Longest silence.
    pub(super) keepalive: Option<Duration>,
}

#[derive(Debug)]
struct Session {
    since: Instant,
    initiator: bool,
    sent: bool,
    received: bool,
}

impl Timers {
    pub(super) fn initiated(&mut self, now: Instant) {
        self.initiated = Some(now);
        self.last_any = Some(now);
    }

    pub(super) fn established(&mut self, initiator: bool, now: Instant) {
        self.initiated = None;
        self.want_handshake = None;
        self.last_any = Some(now);
        self.session = Some(Session { since: now, initiator, sent: false, received: false });
    }

    pub(super) fn lost_session(&mut self) {
        self.session = None;
        self.want_keepalive = None;
        self.want_handshake = None;
    }

    pub(super) fn gave_up(&mut self, now: Instant) {
        self.lost_session();
        self.initiated = None;
        self.last_any = Some(now);
    }

    pub(super) fn sent(&mut self, data: bool, now: Instant) {
        self.last_any = Some(now);
        self.want_keepalive = None;
        if data {
            self.want_handshake.get_or_insert(now);
            if let Some(session) = &mut self.session {
                session.sent = true;
            }
        }
    }

    pub(super) fn received(&mut self, data: bool, now: Instant) {
        self.last_any = Some(now);
        self.want_handshake = None;
        if data {
            self.want_keepalive.get_or_insert(now);
            if let Some(session) = &mut self.session {
                session.received = true;
            }
        }
    }

    pub(super) fn session_age(&self, now: Instant) -> Option<Duration> {
        self.session.as_ref().map(|session| now.saturating_duration_since(session.since))
    }

    pub(super) fn initiated_at(&self) -> Option<Instant> {
        self.initiated
    }

    pub(super) fn want_keepalive_since(&self) -> Option<Instant> {
        self.want_keepalive
    }

    pub(super) fn want_handshake_since(&self) -> Option<Instant> {
        self.want_handshake
    }

    /// The initiator of an old session renews it with its keepalives, as wireguard-go does;
    /// otherwise an idle session dies at 180 s and the next packet waits for a handshake.
    pub(super) fn renew_with_keepalive(&self, now: Instant) -> bool {
        self.session.as_ref().is_some_and(|session| {
            session.initiator && now.saturating_duration_since(session.since) >= REKEY_AFTER
        })
    }

    /// When a session that is to be kept alive is renewed by whoever notices: if both sides began
    /// at once, each may think the other the initiator.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        let session = self.session.as_ref().filter(|_| self.initiated.is_none())?;
        self.keepalive.map(|_| session.since + REKEY_AFTER_RECEIVING)
    }

    /// When the persistent keepalive is due. A handshake under way keeps alive as well.
    pub(super) fn keepalive_at(&self) -> Option<Instant> {
        if self.initiated.is_some() {
            return None;
        }
        Some(self.last_any? + self.keepalive?)
    }

    /// When the session is to be renewed because it is used.
    pub(super) fn rekey_at(&self) -> Option<Instant> {
        let session = self.session.as_ref().filter(|session| session.initiator)?;
        if self.initiated.is_some() {
            return None;
        }
        match (session.sent, session.received) {
            (true, _) => Some(session.since + REKEY_AFTER),
            (false, true) => Some(session.since + REKEY_AFTER_RECEIVING),
            (false, false) => None,
        }
    }

    /// A new handshake was asked for because of silence.
    pub(super) fn asked_for_handshake(&mut self) {
        self.want_handshake = None;
    }

    /// The peer's initiation took the place of ours.
    pub(super) fn responded(&mut self) {
        self.initiated = None;
    }

    /// The next moment at which a tick can do something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let expiry = self.session.as_ref().map(|session| session.since + REJECT_AFTER);
        [
            self.initiated.map(|at| at + REKEY_TIMEOUT),
            self.want_keepalive.map(|at| at + KEEPALIVE),
            self.want_handshake.map(|at| at + NEW_HANDSHAKE),
            self.keepalive_at(),
            self.rekey_at(),
            self.renew_at(),
            expiry,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
