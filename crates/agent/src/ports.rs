//! What the agent answers on its ports.
//!
//! | port | |
//! |---|---|
//! | 1, 22 | SSH |
//! | 2 | reconnecting terminals |
//! | 3 | speed test |
//! | 4 | HTTP API |
//! | any other | a service of this process; else 127.0.0.1, then ::1 |
//!
//! (`codersdk/workspacesdk/workspacesdk.go` has the numbers.)

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use coderctl_transport::BoxStream;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::{
    agent::Agent,
    api, speedtest,
    tailnet::{Arrival, Flow, Syn},
};

/// How long a connection to loopback may take: it is there or not.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long datagrams of one client may pause before the next is from somebody new (as netstack
/// of tailscale: `wgengine/netstack/netstack.go`).
const UDP_IDLE: Duration = Duration::from_secs(2 * 60);

/// Connections and flows at a time. A client that opens more is refused.
const MAX_CONNECTIONS: usize = 4096;

/// Who answers a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Ssh,
    Terminal,
    Speedtest,
    Api,
    Other(u16),
}

impl Service {
    pub(crate) fn of(port: u16) -> Self {
        match port {
            1 | 22 => Self::Ssh,
            2 => Self::Terminal,
            3 => Self::Speedtest,
            4 => Self::Api,
            other => Self::Other(other),
        }
    }
}

/// Makes the tailnet as soon as there is a manifest, and answers what comes through it.
pub(crate) async fn serve(agent: Arc<Agent>) {
    let mut manifests = agent.manifest.subscribe();
    let Ok(first) = manifests.wait_for(Option::is_some).await.map(|first| first.clone()) else {
        return;
    };
    let Some(first) = first else { return };
    let (tailnet, mut arrivals) = match agent.world.network.start(&first) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(%error, "there is no tailnet: nobody can connect");
            return;
        }
    };
    agent.tailnet.send_replace(Some(tailnet));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.next() => match arrival {
                Some(_) if connections.len() >= MAX_CONNECTIONS => {
                    tracing::warn!(limit = MAX_CONNECTIONS, "too many connections: refused");
                }
                Some(Arrival::Tcp(syn)) => {
                    connections.spawn(tcp(Arc::clone(&agent), syn).boxed());
                }
                Some(Arrival::Udp(flow)) => {
                    connections.spawn(udp(flow).boxed());
                }
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn tcp(agent: Arc<Agent>, syn: Box<dyn Syn>) {
    let (port, peer) = (syn.port(), syn.remote());
    let service = Service::of(port);
    let result = match service {
        Service::Other(port) => other(&agent, port, syn).await,
        Service::Ssh | Service::Terminal | Service::Speedtest | Service::Api => {
            match syn.accept().await {
                Ok(stream) => {
                    own(&agent, service, stream, peer).await;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(port, %peer, %error, "a connection has ended");
    }
}

async fn own(agent: &Arc<Agent>, service: Service, stream: BoxStream, peer: SocketAddr) {
    match service {
        Service::Ssh => agent.ssh.serve(stream, peer).await,
        Service::Terminal => agent.terminals.serve(stream, peer).await,
        Service::Speedtest => speedtest::serve(stream).await,
        Service::Api => api::serve(Arc::clone(agent), stream).await,
        Service::Other(_) => {}
    }
}

/// A port that is not the agent's own. It is dialled before the client hears anything, so that a
/// closed port looks closed.
async fn other(agent: &Agent, port: u16, syn: Box<dyn Syn>) -> io::Result<()> {
    let peer = syn.remote();
    if let Some(service) = agent.world.options.services.get(port) {
        let stream = syn.accept().await?;
        service(stream, peer).await;
        return Ok(());
    }
    let local = dial(port).await?;
    let stream = syn.accept().await?;
    splice(stream, local).await
}

/// Connects to a port of this machine.
async fn dial(port: u16) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::ConnectionRefused.into();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match timeout(DIAL_TIMEOUT, TcpStream::connect((ip, port))).await {
            Ok(Ok(stream)) => {
                // Small writes of one side are small writes of the other.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Passes bytes on both ways, and the end of each way by itself.
async fn splice(
    mut tunnel: impl AsyncRead + AsyncWrite + Unpin,
    mut local: TcpStream,
) -> io::Result<()> {
    let result = copy_bidirectional(&mut tunnel, &mut local).await;
    if result.is_err() {
        // What broke on one side is an end on the other.
        let _ = tunnel.shutdown().await;
    }
    result.map(|_| ())
}

/// Passes datagrams on to 127.0.0.1, and the answers back.
async fn udp(flow: Box<dyn Flow>) {
    if let Err(error) = pass_datagrams(&*flow).await {
        tracing::debug!(port = flow.port(), %error, "datagrams are not passed on");
    }
}

async fn pass_datagrams(flow: &dyn Flow) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect((Ipv4Addr::LOCALHOST, flow.port())).await?;
    let mut answer = vec![0; u16::MAX.into()];
    loop {
        let turn = async {
            tokio::select! {
                payload = flow.recv() => {
                    socket.send(&payload?).await?;
                }
                count = socket.recv(&mut answer) => flow.send(&answer[..count?])?,
            }
            io::Result::Ok(())
        };
        match timeout(UDP_IDLE, turn).await {
            Ok(result) => result?,
            Err(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_their_services() {
        for (port, service) in [
            (1, Service::Ssh),
            (22, Service::Ssh),
            (2, Service::Terminal),
            (3, Service::Speedtest),
            (4, Service::Api),
            (5, Service::Other(5)),
            (80, Service::Other(80)),
            (0, Service::Other(0)),
        ] {
            assert_eq!(Service::of(port), service, "{port}");
        }
    }
}
