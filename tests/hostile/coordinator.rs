//! The server's side of a control connection.

use coderctl_drpc::{
    Config, Incoming, Server, Session,
    proto::{
        rpc::tailnet as rpc,
        tailnet::{
            self as proto,
            coordinate_response::{PeerUpdate, peer_update::Kind},
        },
    },
};
use coderctl_tailnet::{engine, ids::PeerId, node::Node};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    net::TcpStream,
    task::JoinSet,
};
use tokio_tungstenite::WebSocketStream;

use crate::{
    deployment::{AGENT, State},
    http,
};

/// What a coordinator is like.
#[derive(Clone)]
pub(crate) enum Coordinator {
    Well,
    /// Never tells of the agent.
    Secretive,
    /// Says these bytes where yamux belongs.
    Bytes(Vec<u8>),
    /// Says these bytes on each stream, where dRPC belongs.
    Packets(Vec<u8>),
    /// Says these messages first, then is well.
    Says(Vec<proto::CoordinateResponse>),
    /// Says this relay map first, then is well.
    Maps(proto::DerpMap),
    /// Never says a relay map.
    Mapless,
    /// Ends the connection as soon as it is asked for something.
    Leaves,
}

pub(crate) async fn serve(kind: Coordinator, socket: WebSocketStream<TcpStream>, state: &State) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    tokio::join!(http::carry(socket, theirs), speak(kind, ours, state));
}

async fn speak(kind: Coordinator, mut io: DuplexStream, state: &State) {
    match kind {
        Coordinator::Bytes(bytes) => {
            // A client that is disgusted leaves.
            let _ = io.write_all(&bytes).await;
            let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
        }
        Coordinator::Packets(bytes) => {
            let session = Session::server(io, Config::default());
            let mut streams = Vec::new();
            while let Some(mut stream) = session.accept().await {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                streams.push(stream);
            }
        }
        Coordinator::Leaves => {
            let mut server = Server::connect(io);
            drop(server.accept().await);
        }
        Coordinator::Well
        | Coordinator::Secretive
        | Coordinator::Says(_)
        | Coordinator::Maps(_)
        | Coordinator::Mapless => {
            calls(&kind, Server::connect(io), state).await;
        }
    }
}

async fn calls(kind: &Coordinator, mut server: Server, state: &State) {
    let mut maps = Vec::new();
    let mut coordination: Option<Incoming> = None;
    // The client opens all of its calls before it says anything.
    while coordination.is_none() || maps.is_empty() {
        let Some(call) = server.accept().await else { return };
        match call.rpc() {
            rpc::COORDINATE => coordination = Some(call),
            rpc::STREAM_DERP_MAPS => {
                let Ok((proto::StreamDerpMapsRequest {}, mut sender)) = call.server_stream().await
                else {
                    return;
                };
                // A client that has left is noticed below.
                let _ = match kind {
                    Coordinator::Maps(map) => sender.send(map).await,
                    Coordinator::Mapless => Ok(()),
                    Coordinator::Well
                    | Coordinator::Secretive
                    | Coordinator::Says(_)
                    | Coordinator::Bytes(_)
                    | Coordinator::Packets(_)
                    | Coordinator::Leaves => sender.send(&relay_map()).await,
                };
                maps.push(sender);
            }
            _ => drop(call.unimplemented().await),
        }
    }
    let Some(call) = coordination else { return };
    let others = async {
        let mut answers = JoinSet::new();
        while let Some(call) = server.accept().await {
            answers.spawn(call.unimplemented());
        }
    };
    tokio::select! {
        () = coordinate(kind, call, state) => {
            // The client ends the connection once it has heard the end of the call.
            server.closed().await;
        }
        () = others => {}
    }
}

async fn coordinate(kind: &Coordinator, call: Incoming, state: &State) {
    let (mut requests, mut responses) =
        call.stream::<proto::CoordinateRequest, proto::CoordinateResponse>();
    if let Coordinator::Says(messages) = kind {
        for message in messages {
            if responses.send(message).await.is_err() {
                return;
            }
        }
    }
    // A client that comes back has the same name, as with a resume token.
    let mut client = None;
    let mut more = state.coordinators.subscribe();
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            Ok(message) = more.recv() => match responses.send(&message).await {
                Ok(()) => continue,
                Err(error) => Err(error),
            },
        };
        let Ok(Some(request)) = request else { break };
        if let Some(tunnel) = request.add_tunnel {
            state.note("add_tunnel");
            if tunnel.id == AGENT.as_bytes() && !matches!(kind, Coordinator::Secretive) {
                let told = node(AGENT.as_bytes(), &state.agent.node());
                if responses.send(&told).await.is_err() {
                    return;
                }
            }
        }
        if let Some(update) = request.update_self {
            state.note("update_self");
            let node = Node::parse(update.node.unwrap()).unwrap();
            let name: [u8; 16] = std::array::from_fn(|at| node.key.as_bytes()[at]);
            let name = PeerId::from_bytes(name);
            client = Some(name);
            state.agent.peer(name, engine::PeerUpdate::Node(Box::new(node)));
        }
        if request.disconnect.is_some() {
            if let Some(name) = client {
                state.agent.peer(name, engine::PeerUpdate::Gone);
            }
            state.note("disconnect");
            let _ = responses.close().await;
            return;
        }
    }
    state.note("lost");
}

/// News of a node.
pub(crate) fn node(id: &[u8], node: &Node) -> proto::CoordinateResponse {
    news(PeerUpdate {
        id: id.to_vec(),
        node: Some(node.to_proto()),
        kind: Kind::Node.into(),
        reason: String::new(),
    })
}

pub(crate) fn news(update: PeerUpdate) -> proto::CoordinateResponse {
    proto::CoordinateResponse { peer_updates: vec![update], error: String::new() }
}

/// The relay inside the control plane.
fn relay_map() -> proto::DerpMap {
    region(proto::derp_map::region::Node {
        name: "999b".to_owned(),
        region_id: 999,
        host_name: "relay.invalid".to_owned(),
        derp_port: 1,
        stun_port: -1,
        ..Default::default()
    })
}

/// A map of this one relay.
pub(crate) fn region(node: proto::derp_map::region::Node) -> proto::DerpMap {
    let region = proto::derp_map::Region {
        region_id: node.region_id,
        embedded_relay: true,
        region_code: "coder".to_owned(),
        region_name: "Relay".to_owned(),
        avoid: false,
        nodes: vec![node],
    };
    proto::DerpMap { home_params: None, regions: [(region.region_id, region)].into() }
}
