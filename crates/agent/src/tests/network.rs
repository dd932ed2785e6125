//! A tailnet in memory.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use coderctl_drpc::Client;
use coderctl_transport::BoxStream;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

use super::PATIENCE;
use crate::{
    manifest::Manifest,
    server::BoxFuture,
    tailnet::{Arrival, Arrivals, Network, Syn, Tailnet, Traffic},
};

/// Tailnets that were started, and what became of them.
#[derive(Default)]
pub(super) struct FakeNetwork {
    tailnets: watch::Sender<Vec<Arc<FakeTailnet>>>,
}

pub(super) struct FakeTailnet {
    pub(super) agents: Mutex<Vec<Uuid>>,
    state: watch::Sender<State>,
    arrivals: mpsc::UnboundedSender<FakeSyn>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct State {
    pub(super) coordinations: usize,
    pub(super) left: bool,
    pub(super) closed: bool,
}

impl FakeNetwork {
    pub(super) fn count(&self) -> usize {
        self.tailnets.borrow().len()
    }

    /// The tailnet that was started as the n-th, from 0.
    pub(super) async fn tailnet(&self, number: usize) -> Arc<FakeTailnet> {
        let mut tailnets = self.tailnets.subscribe();
        let found = timeout(PATIENCE, tailnets.wait_for(|all| all.len() > number)).await;
        Arc::clone(&found.expect("no tailnet").unwrap()[number])
    }
}

impl Network for Arc<FakeNetwork> {
    fn start(&self, manifest: &Manifest) -> io::Result<(Arc<dyn Tailnet>, Box<dyn Arrivals>)> {
        let (arrivals, arrived) = mpsc::unbounded_channel();
        let tailnet = Arc::new(FakeTailnet {
            agents: Mutex::new(vec![manifest.agent_id]),
            state: watch::Sender::new(State::default()),
            arrivals,
        });
        self.tailnets.send_modify(|all| all.push(Arc::clone(&tailnet)));
        Ok((tailnet, Box::new(arrived)))
    }
}

impl FakeTailnet {
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) async fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let mut state = self.state.subscribe();
        let found = timeout(PATIENCE, state.wait_for(|state| until(state))).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}")).unwrap();
    }

    /// Connects to a port of the agent.
    pub(super) async fn connect(&self, port: u16) -> io::Result<DuplexStream> {
        let (answer, answered) = oneshot::channel();
        self.arrivals
            .send(FakeSyn { port, answer: Some(answer) })
            .map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        let answered = timeout(PATIENCE, answered).await.expect("no answer");
        answered.map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }
}

impl Tailnet for FakeTailnet {
    fn coordinate<'a>(&'a self, _: &'a Client) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async {
            self.state.send_modify(|state| state.coordinations += 1);
            let mut state = self.state.subscribe();
            state.wait_for(|state| state.left).await.unwrap();
            Ok(())
        })
    }

    fn update(&self, manifest: &Manifest, new_agent: bool) {
        if new_agent {
            self.agents.lock().unwrap().push(manifest.agent_id);
        }
    }

    fn traffic(&self) -> Traffic {
        Traffic { connections: 3, ..Traffic::default() }
    }

    fn latencies(&self) -> BoxFuture<'_, Vec<f64>> {
        Box::pin(async { vec![1.5] })
    }

    fn report(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.state.send_modify(|state| state.left = true);
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.state.send_modify(|state| state.closed = true);
        })
    }
}

struct FakeSyn {
    port: u16,
    answer: Option<oneshot::Sender<DuplexStream>>,
}

impl Arrivals for mpsc::UnboundedReceiver<FakeSyn> {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        Box::pin(async { Some(Arrival::Tcp(Box::new(self.recv().await?))) })
    }
}

impl Syn for FakeSyn {
    fn port(&self) -> u16 {
        self.port
    }

    fn remote(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, 4711).into()
    }

    fn accept(mut self: Box<Self>) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let answer = self.answer.take().unwrap();
            answer.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
            Ok(Box::new(near) as BoxStream)
        })
    }
}
