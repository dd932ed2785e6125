//! Where bytes from the network come in. Each entry takes any bytes, must not panic, and checks what
//! has to be true whatever they are: nothing unasked is believed, and nobody who has proven nothing
//! is sent more than came from there.

#![allow(clippy::unwrap_used, reason = "what is made here is well-formed")]

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::coordinate::Coordination;
use coderctl_tailnet::derp::frame::{Decoder, Frame};
use coderctl_tailnet::derp::{Client, Event, login};
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::disco::{DiscoBox, HEADER_LENGTH, MAGIC, Message, PADDED_LENGTH};
use coderctl_tailnet::endpoints::{Endpoints, Ports};
use coderctl_tailnet::engine::{
    Engine, EngineConfig, Identity, PeerUpdate, Route, Transmit, TransmitSink,
};
use coderctl_tailnet::ids::{NodeId, PeerId, RegionId};
use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate, NodePublic, RelayPrivate};
use coderctl_tailnet::node::Node;
use coderctl_tailnet::packet::{self, Packet};
use coderctl_tailnet::paths::MAX_BURST;
use coderctl_tailnet::stack::StackConfig;
use coderctl_tailnet::wg::{NoiseTunnel, Tunnel as _};
use coderctl_tailnet::{stun as stun_messages, tsmp};
use prost::Message as _;

/// An entry: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; each has a directory of its name under `corpus`.
pub const TARGETS: [Target; 8] = [
    ("stun", stun),
    ("disco", disco),
    ("derp", derp),
    ("wireguard", wireguard),
    ("packet", packet),
    ("datagrams", datagrams),
    ("relay_map", relay_map),
    ("coordination", coordination),
];

/// The keys of one side; the numbers are 1 for us and 2 for the peer.
pub fn node_key(number: u8) -> NodePrivate {
    NodePrivate::new([number; 32])
}

/// As [`node_key`].
pub fn disco_key(number: u8) -> DiscoPrivate {
    DiscoPrivate::new([number; 32])
}

/// As [`node_key`].
pub fn address(number: u8) -> Ipv6Addr {
    PeerId::from_bytes([number; 16]).agent_address()
}

/// What the coordinator says about one side.
pub fn node(number: u8) -> Node {
    Node {
        id: NodeId::new(i64::from(number)),
        as_of: None,
        key: node_key(number).public(),
        disco: disco_key(number).public(),
        home: RegionId::EMBEDDED,
        derp_latency: Default::default(),
        derp_forced_websocket: Default::default(),
        addresses: vec![address(number)],
        endpoints: vec![SocketAddr::from(([203, 0, 113, number], 41641))],
        short_description: String::new(),
        hostname: String::new(),
    }
}

/// An engine with one peer, which takes part in disco and has a TCP and a UDP port open.
pub fn engine(now: Instant) -> Engine {
    let stack = StackConfig::new(address(1), 1);
    let mut engine = Engine::new(EngineConfig { key: node_key(1), stack }, now);
    let mut count = 0_u8;
    engine.set_identity(Identity {
        node: node_key(1).public(),
        disco: disco_key(1),
        entropy: Box::new(move |bytes| {
            count = count.wrapping_add(1);
            bytes.fill(count);
            Ok(())
        }),
    });
    engine.set_direct(true, now);
    let ports = Ports { v4: Some(41641), v6: None };
    engine.set_local(ports, vec![[203, 0, 113, 1].into()], now);
    engine.stack().listen(80, 4).unwrap();
    engine.stack().udp_bind(Some(53)).unwrap();
    engine.handle_peer(peer(), PeerUpdate::Node(Box::new(node(2))), now);
    engine
}

/// The peer of [`engine`].
pub fn peer() -> PeerId {
    PeerId::from_bytes([2; 16])
}

/// Counts what leaves.
#[derive(Default)]
pub struct Sent {
    /// Bytes to addresses other than the peer's own.
    pub elsewhere: usize,
    /// All bytes.
    pub bytes: usize,
}

impl TransmitSink for Sent {
    fn admit(&mut self, _: &Route) -> bool {
        true
    }

    fn send(&mut self, transmit: Transmit) {
        let known = node(2);
        let is_peers = match transmit.route {
            Route::Relay { key, .. } => key == known.key,
            Route::Direct(address) => known.endpoints.contains(&address),
        };
        self.bytes += transmit.packet.len();
        self.elsewhere += if is_peers { 0 } else { transmit.packet.len() };
    }
}

/// A STUN server's answer.
pub fn stun(data: &[u8]) {
    let answer = stun_messages::parse(data);
    assert!(answer.is_err() || stun_messages::is_stun(data));
    let (now, server) = (Instant::now(), SocketAddr::from(([192, 0, 2, 1], 3478)));
    let mut endpoints = Endpoints::default();
    endpoints.set_local(Ports { v4: Some(1), v6: None }, vec![[203, 0, 113, 1].into()], now);
    endpoints.set_servers(vec![server], now);
    endpoints.poll_transmit(now, |_| true, || Some([7; 12])).unwrap();
    if let Ok(answer) = answer {
        let before = endpoints.list().to_vec();
        endpoints.handle_answer(server, answer, now);
        assert!(endpoints.list().len() <= before.len() + 1);
        let asked = answer.transaction.0 == [7; 12];
        assert!(asked || endpoints.list() == before, "an answer that nobody waits for");
    }
}

/// A disco packet, its sealed part, or what is in it.
pub fn disco(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert_eq!(Message::parse(&message.to_plaintext()), Ok(message));
    }
    let ours = DiscoBox::new(&disco_key(1), disco_key(2).public());
    let opened = ours.open(data);
    assert!(opened.is_err() || data.starts_with(&MAGIC));
    let mut packet = [&MAGIC[..], disco_key(2).public().as_bytes()].concat();
    packet.resize(HEADER_LENGTH, 0);
    packet.extend_from_slice(data);
    // Whoever seals with the nonce of zeros may get through; nobody has yet.
    let _ = ours.open(&packet);
}

/// What a relay sends.
pub fn derp(data: &[u8]) {
    let decoder = Decoder::new(1 << 20);
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
        let mut again = BytesMut::new();
        frame.encode(&mut again);
        assert_eq!(decoder.decode(&mut again).unwrap(), Some(frame));
    }
    for logged_in in [false, true] {
        let mut client = Client::new(node_key(1), true, [0; 24]);
        let mut buffer = BytesMut::new();
        if logged_in {
            Frame::ServerKey { key: RelayPrivate::new([3; 32]).public() }.encode(&mut buffer);
        }
        buffer.extend_from_slice(data);
        while let Ok(Some(event)) = client.handle_input(&mut buffer) {
            if let Event::Packet { payload, .. } = event {
                assert!(payload.len() <= data.len());
            }
        }
        assert!(client.output().len() <= 2000);
    }
    let (ours, relay) = (node_key(1), RelayPrivate::new([3; 32]));
    // As with disco: a box that opens has been sealed.
    let _ = login::open_client_info(&relay, &ours.public(), &[0; 24], data);
    let _ = login::open_server_info(&ours, &relay.public(), &[0; 24], data);
}

/// A WireGuard datagram.
pub fn wireguard(data: &[u8]) {
    let now = Instant::now();
    let mut tunnel =
        NoiseTunnel::new(&node_key(1).expose_bytes(), node_key(2).public().as_bytes(), now);
    if let Ok(Some(packet)) = tunnel.open(BytesMut::from(data), now) {
        panic!("{packet:?} was opened without a session");
    }
    let mut sent = 0;
    while let Some(answer) = tunnel.poll_transmit(now) {
        sent += answer.len();
    }
    assert!(sent <= data.len(), "{sent} bytes for {}", data.len());
}

/// A packet inside the tunnel: whole, or what follows its header.
pub fn packet(data: &[u8]) {
    let now = Instant::now();
    let mut engine = engine(now);
    for protocol in [None, Some(6), Some(17), Some(58), Some(99)] {
        let mut bytes = Vec::new();
        if let Some(protocol) = protocol {
            bytes.extend_from_slice(&[0x60, 0, 0, 0]);
            bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&[protocol, 64]);
            bytes.extend_from_slice(&address(2).octets());
            bytes.extend_from_slice(&address(1).octets());
        }
        bytes.extend_from_slice(data);
        bytes.truncate(packet::MTU);
        if let Ok(packet) = tsmp::Packet::parse(&bytes) {
            // A pong has a port, which its ping has not.
            assert!(packet.respond().is_none_or(|answer| answer.len() <= bytes.len() + 2));
        }
        // Nothing to be said about what it means; it is taken apart.
        let _ = Packet::parse(&bytes);
        assert!(packet::length(&bytes) <= bytes.len().max(40 + usize::from(u16::MAX)));
        engine.stack().ingest(&bytes, now);
    }
    engine.poll_transmit(now, &mut Sent::default());
    assert!(engine.stack().connections() <= 2);
}

/// Datagrams in a row: a byte that says from where, two with the length, the rest.
pub fn datagrams(data: &[u8]) {
    let now = Instant::now();
    let mut engine = engine(now);
    engine.poll_transmit(now, &mut Sent::default());
    let (mut rest, mut received, mut asked) = (data, 0, 0);
    while let Some((&[from, high, low], tail)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
        let (datagram, tail) = tail.split_at(length);
        rest = tail;
        received += datagram.len();
        let datagram = BytesMut::from(datagram);
        match from {
            0 => {
                // Whom the relay vouches for may name addresses, and they are asked whether it is there.
                asked += MAX_BURST * PADDED_LENGTH;
                let key = node_key(2).public();
                engine.handle_relay_packet(RegionId::EMBEDDED, &key, datagram, now);
            }
            1 => {
                let stranger = NodePublic::from_slice(&[9; 32]).unwrap();
                engine.handle_relay_packet(RegionId::EMBEDDED, &stranger, datagram, now);
            }
            2 => engine.handle_udp(node(2).endpoints[0], datagram, now),
            from => engine.handle_udp(SocketAddr::from(([192, 0, 2, from], 7)), datagram, now),
        }
    }
    let mut sent = Sent::default();
    engine.poll_transmit(now, &mut sent);
    let most = received + asked;
    assert!(sent.elsewhere <= most, "{} bytes to strangers for {received}", sent.elsewhere);
    assert_eq!(engine.peers().collect::<Vec<_>>(), [peer()]);
}

/// A relay map, in either form.
pub fn relay_map(data: &[u8]) {
    let json = DerpMap::from_json(data);
    let message = proto::DerpMap::decode(data).ok().map(DerpMap::from_proto);
    for mut map in json.into_iter().chain(message.into_iter().flatten()) {
        map.rewrite(&"https://coder.example:8443/base".parse().unwrap());
        assert!(map.stun_servers().len() <= data.len());
        for relay in map.regions.values().flat_map(|region| region.relays()) {
            // A relay that has no URL is told of when it is dialled.
            let _ = (relay.url(), relay.host(), relay.port());
        }
        let home = map.choose_home();
        assert!(home.is_none_or(|home| map.regions.contains_key(&home)));
        assert!(map.changed_regions(&map).is_empty());
    }
}

/// What the coordinator says.
pub fn coordination(data: &[u8]) {
    if let Ok(response) = proto::CoordinateResponse::decode(data) {
        let mut coordination = Coordination::new();
        coordination.handle_connected();
        coordination.handle_response(response);
        let mut updates = 0;
        while coordination.poll_update().is_some() {
            updates += 1;
        }
        assert!(updates <= data.len());
    }
    if let Ok(node) = proto::Node::decode(data)
        && let Ok(node) = Node::parse(node)
    {
        let now = Instant::now();
        let mut engine = engine(now);
        let id = PeerId::from_bytes([7; 16]);
        engine.handle_peer(id, PeerUpdate::Node(Box::new(node)), now);
        engine.poll_transmit(now, &mut Sent::default());
        assert!(engine.peers().count() <= 2);
    }
}
