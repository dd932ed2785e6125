//! Whether the workspace's apps answer (`agent/apphealth.go`).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use coderctl_drpc::proto::{agent as proto, rpc::agent as rpc};
use coderctl_transport::{Limits, Transport};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use uuid::Uuid;

use crate::{
    manifest::App,
    session::{Failure, Session},
};

/// The least time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two questions, whatever a template says.
const LEAST: Duration = Duration::from_secs(1);

/// Part of the interval that an answer may take: just under it, as upstream.
const PATIENCE: f64 = 0.95;

/// Longest answer that is read; all that matters is its status.
const MAX_BODY: usize = 1 << 20;

/// How an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Initializing,
    Healthy,
    Unhealthy,
}

/// What is known of one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    health: Health,
    failures: u32,
}

impl Record {
    const NEW: Self = Self { health: Health::Initializing, failures: 0 };

    /// After an answer, or none. An app may fail `threshold` times in a row.
    fn after(self, answered: bool, threshold: u32) -> Self {
        if answered {
            return Self { health: Health::Healthy, failures: 0 };
        }
        let failures = self.failures.saturating_add(1);
        let health = if failures > threshold { Health::Unhealthy } else { self.health };
        Self { health, failures }
    }
}

/// Asks and reports as long as the session lasts.
pub(crate) async fn report(session: Session) -> Result<(), Failure> {
    let manifest = session.ready().await;
    // The server takes no report of others.
    let apps: Vec<&App> = manifest.apps.iter().filter(|app| !app.health_url.is_empty()).collect();
    if apps.is_empty() {
        return Ok(());
    }
    // Without the deployment's proxies and headers, which are none of an app's business.
    let transport = match Transport::new(coderctl_transport::Options::default()) {
        Ok(transport) => transport,
        Err(error) => {
            tracing::error!(%error, "the health of apps is not known");
            return Ok(());
        }
    };
    let mut records: BTreeMap<Uuid, Record> =
        apps.iter().map(|app| (app.id, Record::NEW)).collect();
    let mut asking: FuturesUnordered<_> = apps.iter().map(|app| ask(&transport, app)).collect();
    while let Some((app, answered)) = asking.next().await {
        asking.push(ask(&transport, app));
        let Some(record) = records.get_mut(&app.id) else { continue };
        let before = record.health;
        *record = record.after(answered, app.threshold);
        if record.health == before {
            continue;
        }
        tracing::debug!(app = %app.slug, health = ?record.health, "an app's health has changed");
        let request = proto::BatchUpdateAppHealthRequest {
            updates: records.iter().map(|(id, record)| update(*id, record.health)).collect(),
        };
        let _: proto::BatchUpdateAppHealthResponse =
            session.client.unary(rpc::BATCH_UPDATE_APP_HEALTHS, &request).await?;
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
    Ok(())
}

/// Asks an app once, after its interval; whether it answered with less than status 500.
async fn ask<'a>(transport: &Transport, app: &'a App) -> (&'a App, bool) {
    let interval = app.interval.max(LEAST);
    tokio::time::sleep(interval).await;
    let limits = Limits { deadline: interval.mul_f64(PATIENCE), max_body: MAX_BODY };
    let answered = match http::Request::get(&app.health_url).body(Bytes::new()) {
        Ok(request) => match transport.request(request, limits).await {
            Ok(response) => !response.status().is_server_error(),
            // It leads elsewhere, or says much: it is there.
            Err(
                coderctl_transport::Error::Redirect { .. }
                | coderctl_transport::Error::TooLarge { .. },
            ) => true,
            Err(_) => false,
        },
        Err(_) => false,
    };
    (app, answered)
}

fn update(id: Uuid, health: Health) -> proto::batch_update_app_health_request::HealthUpdate {
    let health = match health {
        Health::Initializing => proto::AppHealth::Initializing,
        Health::Healthy => proto::AppHealth::Healthy,
        Health::Unhealthy => proto::AppHealth::Unhealthy,
    };
    proto::batch_update_app_health_request::HealthUpdate {
        id: id.as_bytes().to_vec(),
        health: health.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_may_fail_as_often_as_its_threshold() {
        use Health::{Healthy, Initializing, Unhealthy};
        for (threshold, answers, expected) in [
            (0, vec![false], vec![Unhealthy]),
            (2, vec![false, false, false], vec![Initializing, Initializing, Unhealthy]),
            (
                1,
                vec![true, false, true, false, false],
                vec![Healthy, Healthy, Healthy, Healthy, Unhealthy],
            ),
            (0, vec![false, true], vec![Unhealthy, Healthy]),
        ] {
            let mut record = Record::NEW;
            let found: Vec<Health> = answers
                .iter()
                .map(|answered| {
                    record = record.after(*answered, threshold);
                    record.health
                })
                .collect();
            assert_eq!(found, expected, "threshold {threshold}: {answers:?}");
        }
    }
}
