//! Values that the dashboard shows: each is the output of a script, run every so often
//! (`agent/agent.go`, `reportMetadata`).
//!
//! Nothing runs between two collections. Results that come close together go in one report, at
//! most once a second, and one at a time.

use std::{collections::BTreeMap, time::Duration, time::SystemTime};

use coderctl_drpc::{
    RpcError,
    proto::{agent as proto, rpc::agent as rpc},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use proto::workspace_agent_metadata::Result as Value;
use tokio::time::{Instant, timeout};

use crate::{
    environment::Environment,
    manifest::Metadata,
    scripts::process::{self, End, Sink, Stream},
    session::{Failure, Session},
};

/// The least time between two reports (`reportMetadataInterval`).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a report may take (`reportTimeout`).
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a script may take of which neither limit nor interval is known.
const FALLBACK_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest value that is kept, in bytes (`bufLimit`); the server cuts further.
const MAX_VALUE: usize = 10 << 10;

/// Collects and reports as long as the session lasts.
pub(crate) async fn report(session: Session) -> Result<(), Failure> {
    let manifest = session.ready().await;
    if manifest.metadata.is_empty() {
        return Ok(());
    }
    // At once, and from then on when due. `None` while it is collected, and after the only time.
    let mut due: Vec<Option<Instant>> = vec![Some(Instant::now()); manifest.metadata.len()];
    let mut collecting = FuturesUnordered::new();
    let mut fresh: BTreeMap<&str, Value> = BTreeMap::new();
    let mut reporting = FuturesUnordered::new();
    let mut next_report = Instant::now();
    loop {
        let now = Instant::now();
        let environment = session.agent.environment.borrow().clone();
        for (index, due) in due.iter_mut().enumerate() {
            if due.is_some_and(|due| due <= now)
                && let Some(environment) = &environment
            {
                *due = None;
                let (item, environment) = (&manifest.metadata[index], environment.clone());
                collecting.push(async move { (index, now, collect(item, &environment).await) });
            }
        }
        if !fresh.is_empty() && reporting.is_empty() && next_report <= now {
            next_report = now + REPORT_INTERVAL;
            let metadata = std::mem::take(&mut fresh)
                .into_iter()
                .map(|(key, value)| proto::Metadata { key: key.to_owned(), result: Some(value) })
                .collect();
            reporting.push(send(&session, metadata));
        }
        let report_due = (!fresh.is_empty() && reporting.is_empty()).then_some(next_report);
        let wake = due.iter().flatten().copied().chain(report_due).min();
        tokio::select! {
            Some((index, began, value)) = collecting.next() => {
                let item = &manifest.metadata[index];
                // An unsent value is overtaken.
                fresh.insert(&item.key, value);
                due[index] = (!item.interval.is_zero()).then(|| began + item.interval);
            }
            Some(sent) = reporting.next() => sent?,
            () = until(wake) => {}
        }
    }
}

async fn send(session: &Session, metadata: Vec<proto::Metadata>) -> Result<(), Failure> {
    let request = proto::BatchUpdateMetadataRequest { metadata };
    let call = session
        .client
        .unary::<_, proto::BatchUpdateMetadataResponse>(rpc::BATCH_UPDATE_METADATA, &request);
    match timeout(REPORT_TIMEOUT, call).await {
        Ok(answer) => Ok(answer.map(|_| ())?),
        Err(_) => Err(RpcError::Ended("a report of metadata was not answered in time").into()),
    }
}

/// How long a script may take.
fn limit(item: &Metadata) -> Duration {
    let given = [item.timeout, item.interval].into_iter().find(|limit| !limit.is_zero());
    given.unwrap_or(FALLBACK_TIMEOUT)
}

/// Runs one script.
async fn collect(item: &Metadata, environment: &Environment) -> Value {
    let (limit, collected_at) = (limit(item), SystemTime::now());
    let (command, mut kept) = (environment.command(&item.script), Kept::default());
    let end = process::run(command, Some(limit), std::future::pending(), &mut kept).await;
    let error = match end {
        Ok(End::Exited(0) | End::PipesLeftOpen) => String::new(),
        Ok(End::Exited(status)) => format!("the script ended with status {status}"),
        Ok(End::TimedOut | End::Canceled) => format!("the script took longer than {limit:?}"),
        Err(error) => format!("cannot run the script: {error}"),
    };
    Value {
        collected_at: Some(collected_at.into()),
        age: i64::try_from(collected_at.elapsed().unwrap_or_default().as_secs()).unwrap_or(0),
        value: String::from_utf8_lossy(&kept.0).trim().to_owned(),
        error,
    }
}

/// The beginning of both streams.
#[derive(Default)]
struct Kept(Vec<u8>);

impl Sink for Kept {
    async fn write(&mut self, _: Stream, data: &[u8]) {
        let room = MAX_VALUE - self.0.len();
        self.0.extend_from_slice(&data[..data.len().min(room)]);
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fall_back() {
        for (timeout, interval, expected) in [(7, 5, 7), (0, 5, 5), (0, 0, 3)] {
            let item = Metadata {
                key: String::new(),
                script: String::new(),
                interval: Duration::from_secs(interval),
                timeout: Duration::from_secs(timeout),
            };
            assert_eq!(limit(&item), Duration::from_secs(expected), "{timeout} {interval}");
        }
    }

    #[tokio::test]
    async fn values_are_trimmed_and_bounded() {
        let environment = Environment::new([].into(), Arc::default());
        let item = |script: &str| Metadata {
            key: "k".to_owned(),
            script: script.to_owned(),
            interval: Duration::ZERO,
            timeout: Duration::from_secs(20),
        };
        let value = collect(&item("echo '  one '; echo two >&2"), &environment).await;
        let lines: Vec<&str> = value.value.lines().map(str::trim).collect();
        assert!(lines.contains(&"one") && lines.contains(&"two"), "{lines:?}");
        assert_eq!(value.error, "");
        let value = collect(&item("echo half; exit 4"), &environment).await;
        assert_eq!(
            (value.value.as_str(), value.error.as_str()),
            ("half", "the script ended with status 4")
        );
        let value = collect(&item("head -c 100000 /dev/zero | tr '\\0' x"), &environment).await;
        assert_eq!(value.value.len(), MAX_VALUE);
    }

    use std::sync::Arc;
}
