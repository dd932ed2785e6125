//! Agents: whether one is connected, and what a report of its lifecycle changes.

use std::time::Duration;

use crate::model::{AgentStatus, Lifecycle, Timestamp};

/// How often a connected agent's row is told so (`AgentConnectionUpdateFrequency` in
/// `coderd/coderd.go`).
pub const CONNECTION_UPDATE_INTERVAL: Duration = Duration::from_secs(15);
/// How long after that an agent counts as disconnected: two missed updates
/// (`AgentInactiveDisconnectTimeout` in `coderd/coderd.go`).
pub const INACTIVITY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of an agent's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// When the row was made.
    pub created_at: Timestamp,
    /// When it connected first.
    pub first_connected_at: Option<Timestamp>,
    /// When it was last known to be connected.
    pub last_connected_at: Option<Timestamp>,
    /// When it disconnected.
    pub disconnected_at: Option<Timestamp>,
    /// After how long without a first connection it counts as timed out; none for never.
    pub connection_timeout: Option<Duration>,
}

/// Whether an agent is connected (`coderd/database/modelmethods.go`).
#[must_use]
pub fn status(connection: &Connection, inactivity: Duration, now: Timestamp) -> AgentStatus {
    if connection.first_connected_at.is_none() {
        return match connection.connection_timeout {
            Some(timeout) if now.since(connection.created_at) > timeout => AgentStatus::Timeout,
            Some(_) | None => AgentStatus::Connecting,
        };
    }
    let Some(last) = connection.last_connected_at else {
        return AgentStatus::Disconnected;
    };
    if connection.disconnected_at.is_some_and(|at| at >= last) || now.since(last) > inactivity {
        AgentStatus::Disconnected
    } else {
        AgentStatus::Connected
    }
}

/// The columns of an agent's lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifecycleColumns {
    /// The state.
    pub state: Lifecycle,
    /// When the start scripts began.
    pub started_at: Option<Timestamp>,
    /// When they ended.
    pub ready_at: Option<Timestamp>,
}

/// What a report changes (`coderd/agentapi/lifecycle.go`). The order of states is not checked:
/// an agent that reports again is believed.
///
/// | reported | `started_at` | `ready_at` |
/// |---|---|---|
/// | starting | the report's time | none |
/// | ready, start_timeout, start_error | kept, else the report's time | the report's time |
/// | any other | kept | kept |
#[must_use]
pub fn after_report(
    before: LifecycleColumns,
    state: Lifecycle,
    changed_at: Timestamp,
) -> LifecycleColumns {
    match state {
        Lifecycle::Starting => {
            LifecycleColumns { state, started_at: Some(changed_at), ready_at: None }
        }
        Lifecycle::Ready | Lifecycle::StartTimeout | Lifecycle::StartError => LifecycleColumns {
            state,
            started_at: before.started_at.or(Some(changed_at)),
            ready_at: Some(changed_at),
        },
        Lifecycle::Created
        | Lifecycle::ShuttingDown
        | Lifecycle::ShutdownTimeout
        | Lifecycle::ShutdownError
        | Lifecycle::Off => LifecycleColumns { state, ..before },
    }
}

/// The moment of a report. What an agent leaves out, or sends as Go's zero time (year 1), is the
/// server's time; upstream stores 1970 for what is left out.
#[must_use]
pub fn report_time(changed_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
    /// 0001-01-01T00:00:00Z, the zero of Go's `time.Time`.
    const GO_ZERO_MICROS: i64 = -62_135_596_800_000_000;
    match changed_at {
        Some(at) if at.micros() != GO_ZERO_MICROS && at != Timestamp::EPOCH => at,
        Some(_) | None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(1_000_000 + second))
    }

    #[test]
    fn connection_status() {
        use AgentStatus::{Connected, Connecting, Disconnected, Timeout};
        let limit = Duration::from_secs(10);
        // name, timeout, first, last, disconnected, now, wanted
        type Row =
            (&'static str, Option<u64>, Option<u64>, Option<u64>, Option<u64>, u64, AgentStatus);
        let rows: &[Row] = &[
            ("new", None, None, None, None, 0, Connecting),
            ("old, no limit", None, None, None, None, 9_999, Connecting),
            ("within its limit", Some(5), None, None, None, 5, Connecting),
            ("past its limit", Some(5), None, None, None, 6, Timeout),
            ("late, but came", Some(5), Some(9), Some(9), None, 9, Connected),
            ("just seen", None, Some(1), Some(20), None, 30, Connected),
            ("silent too long", None, Some(1), Some(20), None, 31, Disconnected),
            ("left", None, Some(1), Some(20), Some(21), 22, Disconnected),
            ("left and came back", None, Some(1), Some(23), Some(21), 24, Connected),
            ("left as it came", None, Some(1), Some(21), Some(21), 22, Disconnected),
            ("first without last", None, Some(1), None, None, 2, Disconnected),
            ("the clock went back", None, Some(5), Some(5), None, 1, Connected),
        ];
        for (name, timeout, first, last, disconnected, now, wanted) in rows {
            let connection = Connection {
                created_at: at(0),
                first_connected_at: first.map(at),
                last_connected_at: last.map(at),
                disconnected_at: disconnected.map(at),
                connection_timeout: timeout.map(Duration::from_secs),
            };
            assert_eq!(status(&connection, limit, at(*now)), *wanted, "{name}");
        }
    }

    #[test]
    fn reports() {
        use Lifecycle::{
            Created, Off, Ready, ShutdownError, ShutdownTimeout, ShuttingDown, StartError,
            StartTimeout, Starting,
        };
        // reported, then started_at and ready_at: when both were unset, and when both were set.
        let rows = [
            (Created, (None, None), (Some(1), Some(2))),
            (Starting, (Some(9), None), (Some(9), None)),
            (StartTimeout, (Some(9), Some(9)), (Some(1), Some(9))),
            (StartError, (Some(9), Some(9)), (Some(1), Some(9))),
            (Ready, (Some(9), Some(9)), (Some(1), Some(9))),
            (ShuttingDown, (None, None), (Some(1), Some(2))),
            (ShutdownTimeout, (None, None), (Some(1), Some(2))),
            (ShutdownError, (None, None), (Some(1), Some(2))),
            (Off, (None, None), (Some(1), Some(2))),
        ];
        assert_eq!(rows.map(|row| row.0), Lifecycle::ALL);
        for (state, unset, set) in rows {
            for (before, wanted) in [((None, None), unset), ((Some(1), Some(2)), set)] {
                let before = LifecycleColumns {
                    state: Created,
                    started_at: before.0.map(at),
                    ready_at: before.1.map(at),
                };
                assert_eq!(
                    after_report(before, state, at(9)),
                    LifecycleColumns {
                        state,
                        started_at: wanted.0.map(at),
                        ready_at: wanted.1.map(at),
                    },
                    "{state} after {before:?}"
                );
            }
        }
    }

    #[test]
    fn the_moment_of_a_report() {
        let go_zero = Timestamp::parse_rfc3339("0001-01-01T00:00:00Z").expect("a moment");
        for (name, given, wanted) in [
            ("left out", None, at(9)),
            ("left out, as it is decoded", Some(Timestamp::EPOCH), at(9)),
            ("Go's zero", Some(go_zero), at(9)),
            ("given", Some(at(3)), at(3)),
        ] {
            assert_eq!(report_time(given, at(9)), wanted, "{name}");
        }
    }
}
