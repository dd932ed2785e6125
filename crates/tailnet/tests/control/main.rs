//! The control connection, against a scripted coordinator in the same process and a clock that
//! only we advance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connection;
mod coordination;
mod coordinator;
mod leaving;

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::ids::{NodeId, PeerId, RegionId};
use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate};
use coderctl_tailnet::node::Node;
use proto::coordinate_response::PeerUpdate;
use proto::coordinate_response::peer_update::Kind;

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes([number; 16])
}

fn node(number: u8) -> Node {
    Node {
        id: NodeId::from_peer(peer(number)),
        as_of: None,
        key: NodePrivate::new([number; 32]).public(),
        disco: DiscoPrivate::new([number; 32]).public(),
        home: RegionId::EMBEDDED,
        derp_latency: Default::default(),
        derp_forced_websocket: Default::default(),
        addresses: vec![peer(number).agent_address()],
        endpoints: Vec::new(),
        short_description: String::new(),
        hostname: String::new(),
    }
}

/// What a coordinator says about a peer.
fn update(number: u8, kind: Kind) -> proto::CoordinateResponse {
    let node = (kind == Kind::Node).then(|| node(number).to_proto());
    let update = PeerUpdate {
        id: peer(number).to_bytes().to_vec(),
        node,
        kind: kind.into(),
        reason: String::new(),
    };
    proto::CoordinateResponse { peer_updates: vec![update], error: String::new() }
}

/// What a client says, in short.
#[derive(Debug, PartialEq)]
enum Said {
    Wants(PeerId),
    WantsNoMore(PeerId),
    Node(Box<Node>),
    Goodbye,
}

fn said(request: proto::CoordinateRequest) -> Said {
    let said = [
        request.add_tunnel.map(|tunnel| Said::Wants(PeerId::from_slice(&tunnel.id).unwrap())),
        request
            .remove_tunnel
            .map(|tunnel| Said::WantsNoMore(PeerId::from_slice(&tunnel.id).unwrap())),
        request
            .update_self
            .map(|update| Said::Node(Box::new(Node::parse(update.node.unwrap()).unwrap()))),
        request.disconnect.map(|_| Said::Goodbye),
    ];
    assert!(request.ready_for_handshake.is_empty(), "clients must never send it");
    let [said] = <[Said; 1]>::try_from(said.into_iter().flatten().collect::<Vec<_>>()).unwrap();
    said
}
