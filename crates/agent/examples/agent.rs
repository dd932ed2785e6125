//! An agent for whatever deployment the environment names: `CODER_AGENT_URL`, `CODER_AGENT_TOKEN`.
//! Ends in order at SIGTERM and SIGINT, at once at a second one. `RUST_LOG`-like `AGENT_LOG` is the
//! level of what it says.

use std::{error::Error, str::FromStr as _};

use coderctl_agent::{Login, Options, run};
use coderctl_transport::{Options as TransportOptions, Proxies, Transport};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let level = std::env::var("AGENT_LOG").ok().and_then(|text| Level::from_str(&text).ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(Level::INFO))
        .with_writer(std::io::stderr)
        .init();
    let (url, token) = Login::from_env(|name| std::env::var(name).ok()).resolve()?;
    let transport =
        Transport::new(TransportOptions { proxies: Proxies::from_env()?, ..Default::default() })?;
    let mut options = Options::new(url, token, transport);
    for (name, directory) in [
        ("CODER_AGENT_LOG_DIR", &mut options.log_dir),
        ("CODER_AGENT_SCRIPT_DATA_DIR", &mut options.script_data_dir),
    ] {
        if let Some(value) = std::env::var_os(name) {
            *directory = value.into();
        }
    }
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut asked = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut running = std::pin::pin!(run(options, async {
        // The sender is kept until it is used.
        let _ = stopped.await;
    }));
    tokio::select! {
        result = &mut running => return Ok(result?),
        () = asked() => drop(stop),
    }
    tokio::select! {
        result = &mut running => Ok(result?),
        () = asked() => Ok(()),
    }
}
