//! Takes jobs that wait, several at a time.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use super::job;
use crate::{model::Timestamp, pubsub::channels::JOB_POSTED, state::State};

/// How long a job is a worker's without a sign of life. A worker that is killed holds its jobs up
/// so long (coder/coder: coderd/unhanger waits five minutes).
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// How often jobs are looked for without being told: what others have left, and what was told while
/// nobody heard.
const LOOK: Duration = Duration::from_secs(5);

/// Runs jobs until `stop`; those that run then are given back.
pub(super) async fn run(state: &State, stop: impl Future<Output = ()>) {
    let worker = state.replica_id;
    let mut posted = match state.pubsub.subscribe(JOB_POSTED).await {
        Ok(subscription) => Some(subscription),
        Err(error) => {
            tracing::warn!(%error, "jobs of others are only looked for, not heard of");
            None
        }
    };
    // Told to the jobs when this ends.
    let (end, ending) = tokio::sync::watch::channel(false);
    let mut jobs = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        while jobs.len() < state.config.builds.max(1) {
            match state.store.acquire_job(worker, LEASE, Timestamp::now()).await {
                Ok(Some(acquired)) => {
                    jobs.spawn(job::run(state.clone(), acquired, ending.clone()).boxed());
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "no job could be taken");
                    break;
                }
            }
        }
        let heard = async {
            match &mut posted {
                Some(subscription) => subscription.recv().await,
                None => None,
            }
        };
        tokio::select! {
            () = &mut stop => break,
            () = state.provisioner.0.jobs.notified() => {}
            Some(_) = heard => {}
            Some(ended) = jobs.join_next() => report(ended),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    end.send_replace(true);
    while let Some(ended) = jobs.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // Its lease runs out, and another worker takes it.
        tracing::error!(%error, "a job's task panicked");
    }
}
