//! What is made of an agent's reports: from messages to rows, and what is refused
//! (coder/coder: coderd/agentapi).

use coderctl_drpc::proto::agent as proto;
use prost_types::Timestamp as Moment;
use uuid::Uuid;

use crate::model::{
    AppHealth, ConnectionType, Lifecycle, LogLevel, MetadataReport, NewAgentLog, ScriptStage,
    ScriptStatus, ScriptTiming, Subsystem, Timestamp,
};
use crate::{decide::agents::report_time, store::ConnectionReport};

/// Bytes of a value or error of metadata (coderd/agentapi/metadata.go).
pub(super) const MAX_METADATA: usize = 2048;

/// Bytes of all keys of one report of metadata (coderd/agentapi/metadata.go).
pub(super) const MAX_METADATA_KEYS: usize = 6144;

/// Bytes of an agent's version; those of releases have 40 at most.
const MAX_VERSION: usize = 256;

/// Bytes of other text that an agent reports, such as its directory. Longer ones are cut.
const MAX_TEXT: usize = 4096;

/// Why a report is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

fn refused<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

/// Reads a UUID of 16 bytes that are not all zero.
pub(super) fn id(bytes: &[u8], what: &str) -> Result<Uuid, Refused> {
    match Uuid::from_slice(bytes) {
        Ok(id) if !id.is_nil() => Ok(id),
        Ok(_) => refused(format!("{what} is the nil UUID")),
        Err(_) => refused(format!("{what} has {} bytes, not the 16 of a UUID", bytes.len())),
    }
}

/// A moment that was named; absent, or a zero, means now.
pub(super) fn moment(moment: Option<&Moment>, now: Timestamp) -> Timestamp {
    report_time(moment.map(|moment| Timestamp::from_unix(moment.seconds, moment.nanos)), now)
}

/// A moment, unless it is absent or a zero.
fn named(moment: Option<&Moment>) -> Option<Timestamp> {
    let named = self::moment(moment, Timestamp::EPOCH);
    (named != Timestamp::EPOCH).then_some(named)
}

/// A lifecycle state and since when, if the agent says so.
pub(super) fn lifecycle(
    report: &proto::Lifecycle,
) -> Result<(Lifecycle, Option<Timestamp>), Refused> {
    use proto::lifecycle::State;
    let state = match State::try_from(report.state) {
        Ok(State::Created) => Lifecycle::Created,
        Ok(State::Starting) => Lifecycle::Starting,
        Ok(State::StartTimeout) => Lifecycle::StartTimeout,
        Ok(State::StartError) => Lifecycle::StartError,
        Ok(State::Ready) => Lifecycle::Ready,
        Ok(State::ShuttingDown) => Lifecycle::ShuttingDown,
        Ok(State::ShutdownTimeout) => Lifecycle::ShutdownTimeout,
        Ok(State::ShutdownError) => Lifecycle::ShutdownError,
        Ok(State::Off) => Lifecycle::Off,
        Ok(State::Unspecified) => return refused("the lifecycle state is not set"),
        Err(_) => return refused(format!("unknown lifecycle state {}", report.state)),
    };
    let changed_at = report.changed_at.as_ref();
    Ok((state, changed_at.map(|at| Timestamp::from_unix(at.seconds, at.nanos))))
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Startup {
    /// Its version, with a leading `v`.
    pub(super) version: String,
    /// Where it works.
    pub(super) directory: String,
    /// What it runs in, sorted, each once.
    pub(super) subsystems: Vec<Subsystem>,
}

/// What an agent says of itself.
pub(super) fn startup(report: &proto::Startup) -> Result<Startup, Refused> {
    use proto::startup::Subsystem as Named;
    if !is_version(&report.version) {
        return refused(format!(
            "the agent's version {:?} is not a semantic version with a leading \"v\"",
            cut(&report.version, MAX_VERSION)
        ));
    }
    let mut subsystems = Vec::new();
    for number in &report.subsystems {
        subsystems.push(match Named::try_from(*number) {
            Ok(Named::Envbox) => Subsystem::Envbox,
            Ok(Named::Envbuilder) => Subsystem::Envbuilder,
            Ok(Named::Exectrace) => Subsystem::Exectrace,
            Ok(Named::Unspecified) | Err(_) => {
                return refused(format!("unknown subsystem {number}"));
            }
        });
    }
    subsystems.sort_unstable();
    subsystems.dedup();
    Ok(Startup {
        version: report.version.clone(),
        directory: cut(&report.expanded_directory, MAX_TEXT).to_owned(),
        subsystems,
    })
}

/// Whether this is `v` and a semantic version; minor and patch may be missing, as for
/// golang.org/x/mod/semver.
fn is_version(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v').filter(|_| text.len() <= MAX_VERSION) else {
        return false;
    };
    let (rest, build) = match rest.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (rest, None),
    };
    let (core, prerelease) = match rest.split_once('-') {
        Some((core, prerelease)) => (core, Some(prerelease)),
        None => (rest, None),
    };
    let numbers = core.split('.');
    let number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let count = numbers.clone().count();
    let words = |text: &str| {
        text.split('.').all(|word| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    let labelled = build.is_some() || prerelease.is_some();
    (1..=3).contains(&count)
        && numbers.into_iter().all(number)
        && (count == 3 || !labelled)
        && prerelease.is_none_or(words)
        && build.is_none_or(words)
}

/// Lines of a log and where they come from; nil is the external source.
pub(super) fn logs(
    report: &proto::BatchCreateLogsRequest,
    now: Timestamp,
) -> Result<(Uuid, Vec<NewAgentLog>), Refused> {
    use proto::log::Level;
    let source = match Uuid::from_slice(&report.log_source_id) {
        Ok(id) => id,
        Err(_) if report.log_source_id.is_empty() => Uuid::nil(),
        Err(_) => return refused("the log source is not a UUID"),
    };
    let lines = report
        .logs
        .iter()
        .map(|line| NewAgentLog {
            created_at: moment(line.created_at.as_ref(), now),
            level: match Level::try_from(line.level) {
                Ok(Level::Trace) => LogLevel::Trace,
                Ok(Level::Debug) => LogLevel::Debug,
                Ok(Level::Warn) => LogLevel::Warn,
                Ok(Level::Error) => LogLevel::Error,
                Ok(Level::Info | Level::Unspecified) | Err(_) => LogLevel::Info,
            },
            output: line.output.clone(),
        })
        .collect();
    Ok((source, lines))
}

/// Reports of metadata. The time is the server's.
pub(super) fn metadata(
    report: &proto::BatchUpdateMetadataRequest,
) -> Result<Vec<MetadataReport>, Refused> {
    let keys: usize = report.metadata.iter().map(|metadata| metadata.key.len()).sum();
    if keys > MAX_METADATA_KEYS {
        return refused(format!(
            "the keys of the metadata have {keys} bytes, more than the {MAX_METADATA_KEYS} allowed"
        ));
    }
    Ok(report
        .metadata
        .iter()
        .map(|metadata| {
            let (value, error) = metadata
                .result
                .as_ref()
                .map_or(("", ""), |result| (result.value.trim(), result.error.trim()));
            let mut error = cut(error, MAX_METADATA).to_owned();
            if value.len() > MAX_METADATA {
                error = format!(
                    "value of {} bytes exceeded {MAX_METADATA} bytes, truncated",
                    value.len()
                );
            }
            MetadataReport {
                key: metadata.key.clone(),
                value: cut(value, MAX_METADATA).to_owned(),
                error,
            }
        })
        .collect())
}

/// How well apps are.
pub(super) fn app_healths(
    report: &proto::BatchUpdateAppHealthRequest,
) -> Result<Vec<(Uuid, AppHealth)>, Refused> {
    use proto::AppHealth as Named;
    report
        .updates
        .iter()
        .map(|update| {
            let health = match Named::try_from(update.health) {
                Ok(Named::Disabled) => AppHealth::Disabled,
                Ok(Named::Initializing) => AppHealth::Initializing,
                Ok(Named::Healthy) => AppHealth::Healthy,
                Ok(Named::Unhealthy) => AppHealth::Unhealthy,
                Ok(Named::Unspecified) | Err(_) => {
                    return refused(format!("unknown app health {}", update.health));
                }
            };
            Ok((id(&update.id, "the app's id")?, health))
        })
        .collect()
}

/// How a script went.
pub(super) fn timing(
    report: &proto::WorkspaceAgentScriptCompletedRequest,
) -> Result<ScriptTiming, Refused> {
    use proto::timing::{Stage, Status};
    let Some(timing) = &report.timing else { return refused("there is no timing") };
    let bound = |moment: Option<&Moment>, what: &str| {
        named(moment).ok_or_else(|| Refused(format!("the script's {what} is missing")))
    };
    let started_at = bound(timing.start.as_ref(), "start")?;
    let ended_at = bound(timing.end.as_ref(), "end")?;
    if started_at > ended_at {
        return refused("the script's start is after its end");
    }
    let stage = match Stage::try_from(timing.stage) {
        Ok(Stage::Start) => ScriptStage::Start,
        Ok(Stage::Stop) => ScriptStage::Stop,
        Ok(Stage::Cron) => ScriptStage::Cron,
        Err(_) => return refused(format!("unknown script stage {}", timing.stage)),
    };
    let status = match Status::try_from(timing.status) {
        Ok(Status::Ok) => ScriptStatus::Ok,
        Ok(Status::ExitFailure) => ScriptStatus::ExitFailure,
        Ok(Status::TimedOut) => ScriptStatus::TimedOut,
        Ok(Status::PipesLeftOpen) => ScriptStatus::PipesLeftOpen,
        Err(_) => return refused(format!("unknown script status {}", timing.status)),
    };
    Ok(ScriptTiming {
        script_id: id(&timing.script_id, "the script's id")?,
        started_at,
        ended_at,
        exit_code: timing.exit_code,
        stage,
        status,
    })
}

/// Somebody came or went.
pub(super) fn connection(
    report: &proto::ReportConnectionRequest,
    now: Timestamp,
) -> Result<ConnectionReport, Refused> {
    use proto::connection::{Action, Type};
    let Some(connection) = &report.connection else { return refused("there is no connection") };
    let kind = match Type::try_from(connection.r#type) {
        Ok(Type::Ssh) => ConnectionType::Ssh,
        Ok(Type::Vscode) => ConnectionType::Vscode,
        Ok(Type::Jetbrains) => ConnectionType::Jetbrains,
        Ok(Type::ReconnectingPty) => ConnectionType::ReconnectingPty,
        Ok(Type::Unspecified) | Err(_) => {
            return refused(format!("unknown connection type {}", connection.r#type));
        }
    };
    let reason = cut(connection.reason.as_deref().unwrap_or_default(), MAX_TEXT);
    let ended = match Action::try_from(connection.action) {
        Ok(Action::Connect) => None,
        Ok(Action::Disconnect) => Some((connection.status_code, reason.to_owned())),
        Ok(Action::Unspecified) | Err(_) => {
            return refused(format!("unknown connection action {}", connection.action));
        }
    };
    // Some clients report a name.
    let ip = if connection.ip == "localhost" { "127.0.0.1" } else { &connection.ip };
    Ok(ConnectionReport {
        id: id(&connection.id, "the connection's id")?,
        kind,
        ip: ip.parse::<std::net::IpAddr>().map_or_else(|_| String::new(), |ip| ip.to_string()),
        app_name: cut(&connection.app_name, MAX_TEXT).to_owned(),
        at: moment(connection.timestamp.as_ref(), now),
        ended,
    })
}

/// The text, cut to this many bytes at a character.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
