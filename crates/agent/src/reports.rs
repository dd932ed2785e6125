//! Things that happened and are told to the server one by one, in order, each until it is taken:
//! connections for its audit log, and how long scripts took.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use coderctl_drpc::{
    Client, RpcError,
    proto::{agent as proto, rpc::agent as rpc},
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Reports that may wait while the server is away (`agent/agent.go`,
/// `reportConnectionBufferLimit`).
pub(crate) const MAX_REPORTS: usize = 2048;

/// A queue that many write to and one task sends from.
#[derive(Debug)]
pub(crate) struct Reports<T> {
    queue: Mutex<VecDeque<T>>,
    changed: Notify,
    /// Something was sent.
    progress: Notify,
}

impl<T> Default for Reports<T> {
    fn default() -> Self {
        Self { queue: Mutex::default(), changed: Notify::new(), progress: Notify::new() }
    }
}

impl<T: Clone> Reports<T> {
    /// Adds a report; whether there was room for it.
    pub(crate) fn push(&self, report: T) -> bool {
        let mut queue = self.lock();
        let room = queue.len() < MAX_REPORTS;
        if room {
            queue.push_back(report);
            self.changed.notify_one();
        }
        room
    }

    /// Gives each report to `send`, now and whenever there is more; for one task at a time. A
    /// report leaves the queue only after it was taken.
    ///
    /// # Errors
    /// The first that fails.
    pub(crate) async fn send<F, Fut>(&self, send: F) -> Result<(), RpcError>
    where
        F: Fn(T) -> Fut,
        Fut: Future<Output = Result<(), RpcError>>,
    {
        loop {
            let changed = self.changed.notified();
            let head = self.lock().front().cloned();
            match head {
                Some(report) => {
                    send(report).await?;
                    self.lock().pop_front();
                    self.progress.notify_waiters();
                }
                None => changed.await,
            }
        }
    }

    /// Waits until there is nothing to send.
    pub(crate) async fn drained(&self) {
        loop {
            let progress = self.progress.notified();
            if self.lock().is_empty() {
                return;
            }
            progress.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections for the audit log.
pub(crate) type Connections = Reports<proto::Connection>;

/// What a connection is for.
pub(crate) type ConnectionType = proto::connection::Type;

impl Connections {
    /// A connection was made.
    pub(crate) fn connected(&self, id: Uuid, kind: ConnectionType, ip: IpAddr) {
        self.add(proto::Connection {
            action: proto::connection::Action::Connect.into(),
            ..connection(id, kind, ip)
        });
    }

    /// It is over, with this exit status and reason.
    pub(crate) fn disconnected(
        &self,
        id: Uuid,
        kind: ConnectionType,
        ip: IpAddr,
        code: i32,
        reason: &str,
    ) {
        self.add(proto::Connection {
            action: proto::connection::Action::Disconnect.into(),
            status_code: code,
            reason: Some(reason.to_owned()),
            ..connection(id, kind, ip)
        });
    }

    fn add(&self, connection: proto::Connection) {
        if !self.push(connection) {
            tracing::warn!(limit = MAX_REPORTS, "a connection is not reported: too many wait");
        }
    }

    /// Reports them.
    ///
    /// # Errors
    /// The first call that fails.
    pub(crate) async fn report(&self, client: &Client) -> Result<(), RpcError> {
        self.send(|connection| async move {
            let request = proto::ReportConnectionRequest { connection: Some(connection) };
            client.unary::<_, ()>(rpc::REPORT_CONNECTION, &request).await
        })
        .await
    }
}

fn connection(id: Uuid, kind: ConnectionType, ip: IpAddr) -> proto::Connection {
    proto::Connection {
        id: id.as_bytes().to_vec(),
        r#type: kind.into(),
        timestamp: Some(SystemTime::now().into()),
        ip: ip.to_string(),
        ..Default::default()
    }
}

/// How long scripts took. Upstream hands each to the connection on which its script began, and
/// loses it when that is gone.
pub(crate) type Timings = Reports<proto::Timing>;

impl Timings {
    /// Reports them.
    ///
    /// # Errors
    /// The first call that fails.
    pub(crate) async fn report(&self, client: &Client) -> Result<(), RpcError> {
        self.send(|timing| async move {
            let request = proto::WorkspaceAgentScriptCompletedRequest { timing: Some(timing) };
            let answer: Result<proto::WorkspaceAgentScriptCompletedResponse, _> =
                client.unary(rpc::SCRIPT_COMPLETED, &request).await;
            match answer {
                Ok(_) => Ok(()),
                // A timing that the server does not like is not worth the connection.
                Err(error @ RpcError::Remote { .. }) => {
                    tracing::debug!(%error, "a script's timing was refused");
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reports_are_kept_until_they_are_taken() {
        let reports = Reports::<u32>::default();
        for report in 0..3 {
            assert!(reports.push(report));
        }
        let taken = Mutex::new(Vec::new());
        let fails = |report| {
            taken.lock().unwrap().push(report);
            async move { if report == 1 { Err(RpcError::GoingAway) } else { Ok(()) } }
        };
        reports.send(fails).await.unwrap_err();
        assert_eq!(*taken.lock().unwrap(), [0, 1]);
        let works = |report| {
            taken.lock().unwrap().push(report);
            async { Ok(()) }
        };
        tokio::time::timeout(std::time::Duration::from_secs(1), reports.send(works))
            .await
            .unwrap_err();
        assert_eq!(*taken.lock().unwrap(), [0, 1, 1, 2], "the one that failed comes again");
    }

    #[test]
    fn the_queue_is_bounded() {
        let reports = Reports::<u32>::default();
        assert!((0..MAX_REPORTS as u32).all(|report| reports.push(report)));
        assert!(!reports.push(0));
    }
}
