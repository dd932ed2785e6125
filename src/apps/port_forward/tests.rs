//! Forwards over a tunnel to a workspace that answers, one subject in each module.

mod datagrams;
mod echo;
mod lifetime;
mod listeners;
mod readiness;
mod reverse;
mod socks;
mod way;

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::echo::Echo;
use super::{bind::Local, *};
use crate::{
    apps::{
        Tunnel,
        forward_spec::{self, Specs},
        testing,
    },
    ui::{Capture, Options},
};

/// A forward that runs.
struct Running {
    local: SocketAddr,
    driver: testing::Running,
}

impl Running {
    async fn start(spec: &str) -> Self {
        Self::with(tcp(spec)).await
    }

    async fn with(specs: Specs) -> Self {
        let (ui, said) = Ui::captured(Options::default());
        Self::of(PortForward::new(forward_spec::parse(&specs).unwrap(), "dev"), ui, said).await
    }

    async fn of(mut app: PortForward, ui: Ui, said: Capture) -> Self {
        app.prepare(&ui).await.unwrap();
        let tcp = app.bound.listeners.last().and_then(|one| match one.local {
            Local::Tcp(address) => Some(address),
            Local::Unix(_) => None,
        });
        let udp = app.bound.datagrams.last().map(|one| one.local);
        let local = tcp.or(udp).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        Self { local, driver: testing::Running::speaking(app, ui, said) }
    }

    /// A tunnel to an [`Echo`], which is returned.
    fn attach(&self) -> Arc<Echo> {
        let echo = Arc::<Echo>::default();
        self.driver.tunnel.send_replace(Some(Arc::clone(&echo) as Arc<dyn Tunnel>));
        echo
    }

    fn said(&self) -> String {
        self.driver.said.stderr()
    }

    /// Waits until it has said this.
    async fn says(&self, needle: &str) {
        let said = async {
            while !self.said().contains(needle) {
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(60), said).await;
        assert!(said.is_ok(), "{needle:?} is not in {}", self.said());
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.local).await.unwrap()
    }

    async fn ask(&self, question: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(question.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Asks it to close, and all that it reported.
    async fn events(&mut self) -> Vec<Event> {
        self.driver.close.send_replace(true);
        self.driver.end().await;
        let mut events = Vec::new();
        while let Some(event) = self.driver.events.recv().await {
            events.push(event);
        }
        events
    }
}

fn tcp(spec: &str) -> Specs {
    Specs { tcp: vec![spec.to_owned()], ..Specs::default() }
}

fn one(spec: impl Into<String>) -> Vec<String> {
    vec![spec.into()]
}
