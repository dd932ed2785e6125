//! The network of a workspace agent and nothing else: every port of it is one of this machine.
//!
//! ```text
//! CODER_AGENT_URL=http://127.0.0.1:3000 CODER_AGENT_TOKEN=… \
//!     cargo run --release -p coderctl-tailnet --example network
//! ```
//!
//! Attaches to a deployment with an agent's token, so that the data path can be tried and measured
//! with any client: `port-forward`, `ping`. It runs no script and says nothing of a lifecycle.

#![allow(clippy::print_stderr, reason = "an example tells what it does")]

use std::env;
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use coderctl_drpc::proto::agent::{GetManifestRequest, Manifest};
use coderctl_drpc::{Client, proto::rpc};
use coderctl_tailnet::derp::dial::TransportDial;
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::ids::PeerId;
use coderctl_tailnet::shell::{
    AgentOptions, AgentTailnet, Incoming, Request, SynReceived, UdpFlow,
};
use coderctl_transport::{Options, Transport, WebSocketOptions};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpStream, UdpSocket};
use url::Url;

/// What is carried at once in each direction.
const BUFFER: usize = 64 << 10;

/// A flow of datagrams ends when nothing came for so long (coder/tailscale:
/// wgengine/netstack/netstack.go).
const UDP_IDLE: Duration = Duration::from_secs(120);

type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let server = Url::parse(&env::var("CODER_AGENT_URL")?)?;
    let token = env::var("CODER_AGENT_TOKEN")?;
    let transport = Transport::new(Options::default())?;
    let mut client = connect(&transport, &server, &token).await?;
    let manifest: Manifest = client.unary(rpc::agent::GET_MANIFEST, &GetManifestRequest {}).await?;
    let (agent, incoming) = AgentTailnet::start(AgentOptions {
        id: PeerId::from_slice(&manifest.agent_id)?,
        server: server.clone(),
        relays: Arc::new(TransportDial::new(transport.clone())),
        map: DerpMap::from_proto(manifest.derp_map.unwrap_or_default())?,
        force_websockets: manifest.derp_force_websockets,
        direct: !manifest.disable_direct_connections,
        hostname: String::new(),
    })?;
    eprintln!("attached as {}/{}", manifest.workspace_name, manifest.agent_name);
    tokio::spawn(serve(incoming));
    loop {
        let end = tokio::select! {
            end = agent.coordinate(&client) => end,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                // Whoever says the goodbye must still be running.
                tokio::join!(agent.coordinate(&client), agent.close());
                return Ok(());
            }
        };
        eprintln!("{end}; once more");
        client = loop {
            match connect(&transport, &server, &token).await {
                Ok(client) => break client,
                Err(error) => eprintln!("{error}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
    }
}

async fn connect(transport: &Transport, server: &Url, token: &str) -> Result<Client, AnyError> {
    let mut url = server.join("/api/v2/workspaceagents/me/rpc")?;
    url.query_pairs_mut().append_pair("version", "2.0");
    let request = http::Request::get(url.as_str()).header("Coder-Session-Token", token).body(())?;
    let socket = transport.websocket(request, WebSocketOptions::default()).await?;
    Ok(Client::connect(socket.into_stream()))
}

async fn serve(mut incoming: Incoming) {
    while let Some(request) = incoming.next().await {
        match request {
            Request::Tcp(syn) => drop(tokio::spawn(carry(syn))),
            Request::Udp(flow) => drop(tokio::spawn(relay(flow))),
        }
    }
}

/// Dials first: a port where nobody is refuses.
async fn carry(syn: SynReceived) {
    let port = syn.ends().local.port();
    let local = match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(local) => Ok(local),
        Err(_) => TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await,
    };
    let Ok(mut local) = local else { return syn.refuse() };
    let carried = async {
        local.set_nodelay(true)?;
        let mut remote = syn.accept().await?;
        copy_bidirectional_with_sizes(&mut local, &mut remote, BUFFER, BUFFER).await
    };
    if let Err(error) = carried.await {
        eprintln!("port {port}: {error}");
    }
}

async fn relay(flow: UdpFlow) {
    let carried = async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect((Ipv4Addr::LOCALHOST, flow.ends().local.port())).await?;
        let mut buffer = vec![0; BUFFER];
        loop {
            tokio::select! {
                datagram = flow.recv() => drop(socket.send(&datagram?).await?),
                count = socket.recv(&mut buffer) => flow.send(&buffer[..count?])?,
                () = tokio::time::sleep(UDP_IDLE) => return Ok::<_, std::io::Error>(()),
            }
        }
    };
    if let Err(error) = carried.await {
        eprintln!("UDP port {}: {error}", flow.ends().local.port());
    }
}
