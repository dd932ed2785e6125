//! Which faults are armed, and whom they hit. Pure: what happens is told, what to do is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::Transition;

/// Faults that may be armed at a time: a test that needs more has lost its way.
pub const MAX_ARMED: usize = 256;

/// A fault that waits for its occasion. In JSON it is an object with one key, its name:
///
/// ```json
/// {"fail_call": {"method": "UpdateLifecycle", "nth": 2, "drop_session": true}}
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An agent's call fails.
    FailCall {
        /// The method without its service, as `UpdateLifecycle`; empty for all.
        #[serde(default)]
        method: String,
        /// Calls of this agent; of all when absent.
        #[serde(default)]
        agent: Option<Uuid>,
        /// Which call is the first to fail, from 1.
        #[serde(default = "one")]
        nth: u64,
        /// How many fail.
        #[serde(default = "one")]
        times: u64,
        /// The error's code.
        #[serde(default)]
        code: u64,
        /// The error's text.
        #[serde(default = "injected")]
        message: String,
        /// Whether the session ends without an answer instead.
        #[serde(default)]
        drop_session: bool,
    },
    /// Jobs wait before their first step, until this is disarmed.
    HoldJob {
        /// Jobs of this workspace; of all when absent.
        #[serde(default)]
        workspace: Option<Uuid>,
        /// Jobs that do this; all when absent.
        #[serde(default)]
        transition: Option<Transition>,
    },
    /// From its next session on, an agent's manifest names another id.
    AgentId {
        /// Whose.
        agent: Uuid,
        /// Which.
        becomes: Uuid,
    },
    /// Published events are lost.
    DropEvent {
        /// On channels that begin so.
        #[serde(default)]
        channel: String,
        /// Which event is the first, from 1.
        #[serde(default = "one")]
        nth: u64,
        /// How many.
        #[serde(default = "one")]
        times: u64,
    },
    /// Published events arrive twice.
    DuplicateEvent {
        /// On channels that begin so.
        #[serde(default)]
        channel: String,
        /// Which event is the first, from 1.
        #[serde(default = "one")]
        nth: u64,
        /// How many.
        #[serde(default = "one")]
        times: u64,
    },
    /// Requests are answered with an error.
    Answer {
        /// Whose path begins so.
        #[serde(default)]
        path: String,
        /// With this method; any when absent.
        #[serde(default)]
        method: Option<String>,
        /// 400 to 599.
        status: u16,
        /// Seconds for `Retry-After`.
        #[serde(default)]
        retry_after: Option<u32>,
        /// Which request is the first, from 1.
        #[serde(default = "one")]
        nth: u64,
        /// How many.
        #[serde(default = "one")]
        times: u64,
    },
}

fn one() -> u64 {
    1
}

fn injected() -> String {
    "an injected fault".to_owned()
}

/// Why a fault is not armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// There are enough.
    #[error("{MAX_ARMED} faults are armed already; disarm some")]
    Full,
    /// It makes no sense.
    #[error("{0}")]
    Senseless(&'static str),
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFault {
    /// With this error.
    Error {
        /// Its code.
        code: u64,
        /// Its text.
        message: String,
    },
    /// With the end of its session.
    DropSession,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFault {
    /// Nobody hears it.
    Drop,
    /// It is heard twice.
    Duplicate,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerFault {
    /// The status.
    pub status: u16,
    /// Seconds for `Retry-After`.
    pub retry_after: Option<u32>,
}

/// A fault that is armed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Armed {
    /// The number that it is disarmed by.
    pub id: u64,
    /// Which.
    pub fault: Fault,
    /// Occasions so far that fitted it.
    pub seen: u64,
    /// How many of them it hit.
    pub hit: u64,
}

/// The faults that are armed.
#[derive(Debug, Clone, Default)]
pub struct Table {
    armed: BTreeMap<u64, Armed>,
    last: u64,
}

impl Table {
    /// Arms a fault and says by which number it is disarmed.
    ///
    /// # Errors
    /// When it makes no sense, or there are enough.
    pub fn arm(&mut self, fault: Fault) -> Result<u64, ArmError> {
        sense(&fault).map_err(ArmError::Senseless)?;
        if self.armed.len() >= MAX_ARMED {
            return Err(ArmError::Full);
        }
        self.last += 1;
        let id = self.last;
        self.armed.insert(id, Armed { id, fault, seen: 0, hit: 0 });
        Ok(id)
    }

    /// Disarms one, or all; says how many.
    pub fn disarm(&mut self, id: Option<u64>) -> usize {
        match id {
            Some(id) => usize::from(self.armed.remove(&id).is_some()),
            None => std::mem::take(&mut self.armed).len(),
        }
    }

    /// What is armed. One whose `times` are over is still listed, so that it can be seen to have hit.
    pub fn list(&self) -> impl Iterator<Item = &Armed> {
        self.armed.values()
    }

    /// An agent makes a call.
    pub fn call(&mut self, made: &str, by: Uuid) -> Option<CallFault> {
        self.armed.values_mut().find_map(|armed| {
            let Fault::FailCall { method, agent, nth, times, code, message, drop_session } =
                &armed.fault
            else {
                return None;
            };
            let fits = (method.is_empty() || method == made) && agent.is_none_or(|id| id == by);
            let fault = if *drop_session {
                CallFault::DropSession
            } else {
                CallFault::Error { code: *code, message: message.clone() }
            };
            let (nth, times) = (*nth, *times);
            (fits && armed.hits(nth, times)).then_some(fault)
        })
    }

    /// Whether a job waits.
    #[must_use]
    pub fn holds(&self, of: Uuid, does: Transition) -> bool {
        self.armed.values().any(|armed| {
            matches!(&armed.fault, Fault::HoldJob { workspace, transition }
                if workspace.is_none_or(|id| id == of)
                    && transition.is_none_or(|transition| transition == does))
        })
    }

    /// The id that an agent's manifest names.
    pub fn agent_id(&mut self, of: Uuid) -> Uuid {
        let other = self.armed.values_mut().find_map(|armed| match armed.fault {
            Fault::AgentId { agent, becomes } if agent == of => {
                armed.hits(1, u64::MAX);
                Some(becomes)
            }
            Fault::AgentId { .. }
            | Fault::FailCall { .. }
            | Fault::HoldJob { .. }
            | Fault::DropEvent { .. }
            | Fault::DuplicateEvent { .. }
            | Fault::Answer { .. } => None,
        });
        other.unwrap_or(of)
    }

    /// An event is published.
    pub fn event(&mut self, on: &str) -> Option<EventFault> {
        self.armed.values_mut().find_map(|armed| {
            let (channel, nth, times, fault) = match &armed.fault {
                Fault::DropEvent { channel, nth, times } => {
                    (channel, *nth, *times, EventFault::Drop)
                }
                Fault::DuplicateEvent { channel, nth, times } => {
                    (channel, *nth, *times, EventFault::Duplicate)
                }
                Fault::FailCall { .. }
                | Fault::HoldJob { .. }
                | Fault::AgentId { .. }
                | Fault::Answer { .. } => return None,
            };
            (on.starts_with(channel.as_str()) && armed.hits(nth, times)).then_some(fault)
        })
    }

    /// A request comes.
    pub fn answer(&mut self, with: &str, to: &str) -> Option<AnswerFault> {
        self.armed.values_mut().find_map(|armed| {
            let Fault::Answer { path, method, status, retry_after, nth, times } = &armed.fault
            else {
                return None;
            };
            let fits = to.starts_with(path.as_str())
                && method.as_ref().is_none_or(|method| method.eq_ignore_ascii_case(with));
            let fault = AnswerFault { status: *status, retry_after: *retry_after };
            let (nth, times) = (*nth, *times);
            (fits && armed.hits(nth, times)).then_some(fault)
        })
    }
}

impl Armed {
    /// Counts an occasion that fits; whether it is hit.
    fn hits(&mut self, nth: u64, times: u64) -> bool {
        self.seen = self.seen.saturating_add(1);
        let hit = self.seen >= nth && self.hit < times;
        self.hit += u64::from(hit);
        hit
    }
}

fn sense(fault: &Fault) -> Result<(), &'static str> {
    match fault {
        Fault::FailCall { nth, times, .. }
        | Fault::DropEvent { nth, times, .. }
        | Fault::DuplicateEvent { nth, times, .. }
        | Fault::Answer { nth, times, .. }
            if *nth == 0 || *times == 0 =>
        {
            Err("`nth` and `times` count from 1")
        }
        Fault::Answer { status, .. } if !(400..600).contains(status) => {
            Err("`status` is that of an error, 400 to 599")
        }
        Fault::AgentId { becomes, .. } if becomes.is_nil() => {
            Err("`becomes` is the nil UUID, which ends an agent")
        }
        Fault::FailCall { .. }
        | Fault::HoldJob { .. }
        | Fault::AgentId { .. }
        | Fault::DropEvent { .. }
        | Fault::DuplicateEvent { .. }
        | Fault::Answer { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn table(json: &str) -> Table {
        let mut table = Table::default();
        table.arm(serde_json::from_str(json).unwrap()).unwrap();
        table
    }

    #[test]
    fn the_nth_call_fails_and_as_many_as_asked() {
        let mut table = table(
            r#"{"fail_call": {"method": "UpdateLifecycle", "nth": 2, "times": 2, "code": 7, "message": "no"}}"#,
        );
        let mut hit = |method, agent| table.call(method, agent).is_some();
        assert!(!hit("UpdateStats", A), "another method");
        assert!(!hit("UpdateLifecycle", A), "the first");
        assert!(hit("UpdateLifecycle", B), "the second");
        assert!(hit("UpdateLifecycle", A), "the third");
        assert!(!hit("UpdateLifecycle", A), "the fourth");
        let listed: Vec<_> = table.list().map(|armed| (armed.id, armed.seen, armed.hit)).collect();
        assert_eq!(listed, [(1, 4, 2)]);
    }

    #[test]
    fn a_call_fails_for_one_agent_with_its_error_or_its_session() {
        let json = format!(r#"{{"fail_call": {{"agent": "{A}"}}}}"#);
        let mut errors = table(&json);
        assert_eq!(errors.call("GetManifest", B), None);
        assert_eq!(
            errors.call("GetManifest", A),
            Some(CallFault::Error { code: 0, message: "an injected fault".to_owned() })
        );
        let mut drops = table(r#"{"fail_call": {"drop_session": true}}"#);
        assert_eq!(drops.call("GetManifest", A), Some(CallFault::DropSession));
    }

    #[test]
    fn jobs_are_held_until_disarmed() {
        let mut table =
            table(&format!(r#"{{"hold_job": {{"workspace": "{A}", "transition": "stop"}}}}"#));
        assert!(table.holds(A, Transition::Stop));
        assert!(!table.holds(A, Transition::Start));
        assert!(!table.holds(B, Transition::Stop));
        assert_eq!(table.disarm(Some(2)), 0);
        assert_eq!(table.disarm(Some(1)), 1);
        assert!(!table.holds(A, Transition::Stop));
    }

    #[test]
    fn an_agent_becomes_another() {
        let mut table = table(&format!(r#"{{"agent_id": {{"agent": "{A}", "becomes": "{B}"}}}}"#));
        assert_eq!((table.agent_id(A), table.agent_id(B)), (B, B));
        assert_eq!(table.disarm(None), 1);
        assert_eq!(table.agent_id(A), A);
    }

    #[test]
    fn events_are_dropped_or_doubled_by_channel() {
        let mut table = table(r#"{"drop_event": {"channel": "prebuild_claimed_"}}"#);
        table.arm(serde_json::from_str(r#"{"duplicate_event": {"nth": 2}}"#).unwrap()).unwrap();
        // The first fault that hits is the one; the other does not see the event.
        assert_eq!(table.event("prebuild_claimed_x"), Some(EventFault::Drop));
        assert_eq!(table.event("workspace_owner:x"), None);
        assert_eq!(table.event("prebuild_claimed_x"), Some(EventFault::Duplicate));
        assert_eq!(table.event("prebuild_claimed_x"), None);
    }

    #[test]
    fn requests_are_answered_by_path_and_method() {
        let mut table = table(
            r#"{"answer": {"path": "/api/v2/workspaces", "method": "get", "status": 429, "retry_after": 1, "times": 2}}"#,
        );
        let fault = Some(AnswerFault { status: 429, retry_after: Some(1) });
        assert_eq!(table.answer("POST", "/api/v2/workspaces"), None);
        assert_eq!(table.answer("GET", "/api/v2/users/me"), None);
        assert_eq!(table.answer("GET", "/api/v2/workspaces/x/watch"), fault);
        assert_eq!(table.answer("GET", "/api/v2/workspaces"), fault);
        assert_eq!(table.answer("GET", "/api/v2/workspaces"), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for json in [
            r#"{"fail_call": {"nth": 0}}"#,
            r#"{"drop_event": {"times": 0}}"#,
            r#"{"answer": {"status": 200}}"#,
            r#"{"agent_id": {"agent": "00000000-0000-0000-0000-000000000001", "becomes": "00000000-0000-0000-0000-000000000000"}}"#,
        ] {
            let fault = serde_json::from_str(json).unwrap();
            assert!(Table::default().arm(fault).is_err(), "{json}");
        }
        for json in [r#"{"fail_call": {"nht": 1}}"#, r#"{"earthquake": {}}"#, r#"{"answer": {}}"#] {
            assert!(serde_json::from_str::<Fault>(json).is_err(), "{json}");
        }
        let mut full = Table::default();
        let hold = Fault::HoldJob { workspace: None, transition: None };
        for _ in 0..MAX_ARMED {
            full.arm(hold.clone()).unwrap();
        }
        assert_eq!(full.arm(hold), Err(ArmError::Full));
    }
}
