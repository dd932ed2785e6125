//! The whole agent against a scripted server, with real calls over byte streams in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ending;
mod lifecycle;
mod network;
mod ports;
mod reinit;
mod server;
mod sessions;

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use coderctl_drpc::proto::agent as proto;
use proto::lifecycle::State;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use uuid::Uuid;

use self::{
    network::FakeNetwork,
    server::{FakeServer, Seen},
};
use crate::{NoToken, OnNewAgentId, Options, Services, Token, TokenSource, supervisor::supervise};

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);
const C: Uuid = Uuid::from_u128(0xc);

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent and its world.
struct Fixture {
    server: Arc<FakeServer>,
    network: Arc<FakeNetwork>,
    directory: tempfile::TempDir,
    policy: OnNewAgentId,
    services: Services,
}

impl Fixture {
    fn new() -> Self {
        Self {
            server: Arc::new(FakeServer::new(A)),
            network: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
            policy: OnNewAgentId::default(),
            services: Services::default(),
        }
    }

    fn with(policy: OnNewAgentId) -> Self {
        Self { policy, ..Self::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn options(&self) -> Options {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let transport = coderctl_transport::Transport::new(Default::default()).unwrap();
        let server = Arc::clone(&self.server);
        // Each dial has a token of its own, which the server sees.
        let token = TokenSource::provider(move || {
            let token = server.next_token();
            async move { Ok::<_, NoToken>(Token::new(token)) }
        });
        let mut options = Options::new(url, token, transport);
        options.log_dir = self.directory.path().to_owned();
        options.script_data_dir = self.directory.path().to_owned();
        options.environment = vec![
            ("HOME".into(), self.directory.path().into()),
            ("PATH".into(), std::env::var_os("PATH").unwrap()),
            ("T".into(), self.directory.path().into()),
        ];
        options.on_new_agent_id = self.policy;
        options.services = self.services.clone();
        options
    }

    fn start(&self) -> Running {
        self.start_with(self.options())
    }

    fn start_with(&self, options: Options) -> Running {
        let (stop, stopped) = oneshot::channel::<()>();
        let (server, network) = (Arc::clone(&self.server), Arc::clone(&self.network));
        // Both are implemented for the shared ones.
        let (server, network) = (Arc::new(server), Arc::new(network));
        let task = tokio::spawn(supervise(options, server, network, async {
            // Dropped or sent is the same.
            let _ = stopped.await;
        }));
        Running { stop: Some(stop), task }
    }
}

/// An agent that runs; ended when dropped.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    /// Asks it to end.
    fn ask(&mut self) {
        self.stop.take();
    }

    /// Asks it to end, and waits until it has.
    async fn end(mut self) {
        self.ask();
        timeout(PATIENCE, &mut self.task).await.expect("it does not end").unwrap();
    }

    async fn ended(mut self) {
        timeout(PATIENCE, &mut self.task).await.expect("it does not end").unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A script of the manifest.
fn script(text: &str) -> proto::WorkspaceAgentScript {
    proto::WorkspaceAgentScript {
        id: Uuid::from_u128(0x5c).into_bytes().to_vec(),
        log_source_id: Uuid::from_u128(0x106).into_bytes().to_vec(),
        script: text.to_owned(),
        run_on_start: true,
        display_name: "test".to_owned(),
        ..Default::default()
    }
}

fn at_stop(text: &str) -> proto::WorkspaceAgentScript {
    proto::WorkspaceAgentScript { run_on_start: false, run_on_stop: true, ..script(text) }
}

/// A script that may take this long.
fn limited(ms: i32, script: proto::WorkspaceAgentScript) -> proto::WorkspaceAgentScript {
    let timeout = prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 };
    proto::WorkspaceAgentScript { timeout: Some(timeout), ..script }
}

/// Waits for a file that a script makes.
async fn file(path: &Path) -> String {
    let found = async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {path:?}"))
}

fn states(seen: &Seen, agent: Uuid) -> Vec<State> {
    seen.lifecycle(agent).iter().map(|(state, _)| *state).collect()
}
