//! The agent's place in the tailnet, as far as the agent needs to know it.

use std::{io, net::SocketAddr, sync::Arc};

use coderctl_drpc::Client;
use coderctl_tailnet::{
    control::CoordinationEnd,
    derp::dial::TransportDial,
    paths::Path,
    shell::{AgentOptions, AgentTailnet, Incoming, Request, SynReceived, UdpFlow},
};
use coderctl_transport::{BoxStream, Transport};
use serde_json::json;
use url::Url;

use crate::{manifest::Manifest, server::BoxFuture};

/// Numbers of a tailnet, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    /// Established TCP connections.
    pub(crate) connections: u64,
}

/// Makes tailnets; scripted in tests.
pub(crate) trait Network: Send + Sync + 'static {
    /// Starts one for the agent of this manifest.
    fn start(&self, manifest: &Manifest) -> io::Result<(Arc<dyn Tailnet>, Box<dyn Arrivals>)>;
}

/// A tailnet in use.
pub(crate) trait Tailnet: Send + Sync + 'static {
    /// Coordinates over this connection to its end; `Ok` after taking leave.
    fn coordinate<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<(), String>>;

    /// A newer manifest has come, perhaps for another agent. Before the session that brought it
    /// coordinates.
    fn update(&self, manifest: &Manifest, new_agent: bool);

    fn traffic(&self) -> Traffic;

    /// Round trips to the peers that are there, in milliseconds.
    fn latencies(&self) -> BoxFuture<'_, Vec<f64>>;

    /// For people who look for a fault.
    fn report(&self) -> serde_json::Value;

    /// Takes leave of the coordinator; needs a [`coordinate`](Self::coordinate) that runs.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// Ends everything.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What is asked of the agent's ports.
pub(crate) trait Arrivals: Send + 'static {
    /// The next; `None` once the tailnet is closed. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>>;
}

/// Something that is asked of a port.
pub(crate) enum Arrival {
    Tcp(Box<dyn Syn>),
    Udp(Box<dyn Flow>),
}

/// Somebody who wants to connect; refused when dropped.
pub(crate) trait Syn: Send + Sync + 'static {
    fn port(&self) -> u16;
    fn remote(&self) -> SocketAddr;
    fn accept(self: Box<Self>) -> BoxFuture<'static, io::Result<BoxStream>>;
}

/// Datagrams of one peer to one port.
pub(crate) trait Flow: Send + Sync + 'static {
    fn port(&self) -> u16;
    /// Cancel safe.
    fn recv(&self) -> BoxFuture<'_, io::Result<Vec<u8>>>;
    fn send(&self, payload: &[u8]) -> io::Result<()>;
}

/// The real ones.
pub(crate) struct RealNetwork {
    server: Url,
    transport: Transport,
    hostname: String,
}

impl RealNetwork {
    pub(crate) fn new(server: Url, transport: Transport, hostname: String) -> Self {
        Self { server, transport, hostname }
    }
}

impl Network for RealNetwork {
    fn start(&self, manifest: &Manifest) -> io::Result<(Arc<dyn Tailnet>, Box<dyn Arrivals>)> {
        let options = AgentOptions {
            id: manifest.peer(),
            server: self.server.clone(),
            relays: Arc::new(TransportDial::new(self.transport.clone())),
            map: manifest.derp_map.clone(),
            force_websockets: manifest.force_websockets,
            direct: !manifest.disable_direct,
            hostname: self.hostname.clone(),
        };
        let (tailnet, incoming) = AgentTailnet::start(options).map_err(io::Error::other)?;
        Ok((Arc::new(tailnet), Box::new(incoming)))
    }
}

impl Tailnet for AgentTailnet {
    fn coordinate<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            match AgentTailnet::coordinate(self, client).await {
                CoordinationEnd::Left => Ok(()),
                end @ (CoordinationEnd::Failed(_)
                | CoordinationEnd::Ended
                | CoordinationEnd::Replaced) => Err(end.to_string()),
            }
        })
    }

    fn update(&self, manifest: &Manifest, new_agent: bool) {
        if new_agent {
            self.set_agent(manifest.peer());
        }
        self.force_websockets(manifest.force_websockets);
        self.set_map(manifest.derp_map.clone());
        self.set_direct(!manifest.disable_direct);
    }

    fn traffic(&self) -> Traffic {
        let stats = self.stats();
        Traffic {
            rx_packets: stats.traffic.rx_packets,
            rx_bytes: stats.traffic.rx_bytes,
            tx_packets: stats.traffic.tx_packets,
            tx_bytes: stats.traffic.tx_bytes,
            connections: stats.tcp_connections() as u64,
        }
    }

    fn latencies(&self) -> BoxFuture<'_, Vec<f64>> {
        Box::pin(async move {
            let stats = self.stats();
            let peers = stats.peers.iter().filter(|peer| peer.last_handshake.is_some());
            let pings = peers.map(|peer| self.ping(peer.id));
            let answers = futures_util::future::join_all(pings).await;
            answers.into_iter().flatten().map(|took| took.as_secs_f64() * 1000.0).collect()
        })
    }

    fn report(&self) -> serde_json::Value {
        let (status, stats) = (self.status().borrow().clone(), self.stats());
        let peers: Vec<_> = stats
            .peers
            .iter()
            .map(|peer| {
                let path = self.path(peer.id).map(|path| match path.path {
                    Path::Direct(address) => address.to_string(),
                    Path::Relay(region) => format!("DERP({region})"),
                });
                json!({
                    "id": peer.id.uuid(),
                    "addresses": peer.addresses,
                    "seconds_since_handshake": peer.last_handshake.map(|age| age.as_secs()),
                    "lost": peer.lost,
                    "path": path,
                    "rx_bytes": peer.traffic.rx_bytes,
                    "tx_bytes": peer.traffic.tx_bytes,
                })
            })
            .collect();
        json!({
            "coordinating": status.control,
            "preferred_derp": status.home.map(|home| home.get()),
            "relay_connected": status.relay,
            "problem": status.problem,
            "tcp_connections": stats.tcp_connections(),
            "peers": peers,
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if !AgentTailnet::leave(self).await {
                tracing::debug!("the coordinator has not heard our goodbye");
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(AgentTailnet::close(self))
    }
}

impl Arrivals for Incoming {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        Box::pin(async {
            Some(match Incoming::next(self).await? {
                Request::Tcp(syn) => Arrival::Tcp(Box::new(syn)),
                Request::Udp(flow) => Arrival::Udp(Box::new(flow)),
            })
        })
    }
}

impl Syn for SynReceived {
    fn port(&self) -> u16 {
        self.ends().local.port()
    }

    fn remote(&self) -> SocketAddr {
        self.ends().remote.into()
    }

    fn accept(self: Box<Self>) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async { Ok(Box::new(SynReceived::accept(*self).await?) as BoxStream) })
    }
}

impl Flow for UdpFlow {
    fn port(&self) -> u16 {
        self.ends().local.port()
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async { Ok(UdpFlow::recv(self).await?.to_vec()) })
    }

    fn send(&self, payload: &[u8]) -> io::Result<()> {
        UdpFlow::send(self, payload)
    }
}
