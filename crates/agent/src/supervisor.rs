//! Keeps one agent running, and starts it over when it must be.

use std::{future::Future, pin::pin, sync::Arc};

use tokio::sync::{Notify, watch};

use crate::{
    Options,
    agent::{Agent, End, World},
    claims::Ledger,
    reinit,
    scripts::Strays,
    server::{HttpServer, Server},
    tailnet::{Network, RealNetwork},
};

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
    if !matches!(options.server.scheme(), "http" | "https") || !options.server.has_host() {
        let url = &options.server;
        return Err(Error::Options(format!(
            "{:?} is not the URL of a deployment, which is like https://coder.example.com",
            url.as_str()
        )));
    }
    let server = HttpServer::new(options.transport.clone(), options.server.clone());
    let network = RealNetwork::new(options.server.clone(), options.transport.clone(), hostname());
    supervise(options, Arc::new(server), Arc::new(network), shutdown).await;
    Ok(())
}

/// As [`run`], with this server and this network.
pub(crate) async fn supervise(
    options: Options,
    server: Arc<dyn Server>,
    network: Arc<dyn Network>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let strays = Arc::new(Strays::new());
    let world = Arc::new(World {
        process: options.environment.clone().into(),
        options,
        server,
        network,
        strays: Arc::clone(&strays),
        ledger: watch::Sender::new(Ledger::default()),
        token: watch::Sender::new(None),
    });
    let claimed = Notify::new();
    let mut shutdown = pin!(shutdown);
    let mut waiting = pin!(reinit::watch(&*world.server, &world.token, &world.ledger, &claimed));
    let mut wait = true;
    let mut down = false;
    while !down {
        let agent = Agent::new(Arc::clone(&world));
        let asked = async {
            tokio::select! {
                () = &mut shutdown => End::Shutdown,
                () = claimed.notified() => End::Claimed,
            }
        };
        let mut running = pin!(agent.run(asked));
        let end = loop {
            tokio::select! {
                end = &mut running => break end,
                () = &mut waiting, if wait => wait = false,
            }
        };
        tracing::debug!(?end, "an agent has ended");
        down = end == End::Shutdown;
    }
    strays.end();
}

/// This machine's name; empty when it has none that can be written.
fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_str().unwrap_or_default().to_owned()
}
