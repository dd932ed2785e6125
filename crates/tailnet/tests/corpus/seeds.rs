//! Well-formed inputs.

use std::net::SocketAddr;

use bytes::BytesMut;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::derp::frame::Frame;
use coderctl_tailnet::disco::{DiscoBox, Message, TxId};
use coderctl_tailnet::keys::RelayPrivate;
use coderctl_tailnet::packet::build;
use coderctl_tailnet::stun::{Transaction, request};
use coderctl_tailnet::tsmp;
use prost::Message as _;

use crate::targets::{address, disco_key, node, node_key};

/// Target, file and content.
pub(crate) fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut all = Vec::new();
    all.extend(stun().map(|(name, bytes)| ("stun", name, bytes)));
    all.extend(disco().map(|(name, bytes)| ("disco", name, bytes)));
    all.extend(derp().map(|(name, bytes)| ("derp", name, bytes)));
    all.extend(wireguard().map(|(name, bytes)| ("wireguard", name, bytes)));
    all.extend(packets().map(|(name, bytes)| ("packet", name, bytes)));
    all.extend(datagrams().map(|(name, bytes)| ("datagrams", name, bytes)));
    all.push(("relay_map", "json", MAP.as_bytes().to_vec()));
    let node = node(2).to_proto();
    all.push(("coordination", "node", node.encode_to_vec()));
    let update = proto::coordinate_response::PeerUpdate {
        id: vec![2; 16],
        node: Some(node),
        kind: proto::coordinate_response::peer_update::Kind::Node.into(),
        reason: String::new(),
    };
    let response = proto::CoordinateResponse { peer_updates: vec![update], error: String::new() };
    all.push(("coordination", "update", response.encode_to_vec()));
    all
}

type Named = (&'static str, Vec<u8>);

fn stun() -> [Named; 3] {
    let answer = |attribute: &[u8]| {
        let mut answer = vec![1, 1, 0, attribute.len() as u8, 0x21, 0x12, 0xa4, 0x42];
        answer.extend_from_slice(&[7; 12]);
        answer.extend_from_slice(attribute);
        answer
    };
    let hidden = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
    [
        ("request", request(Transaction([7; 12])).to_vec()),
        ("plain", answer(&[0, 1, 0, 8, 0, 1, 0x80, 0x55, 198, 51, 100, 7])),
        ("hidden", answer(&hidden)),
    ]
}

fn messages() -> [(&'static str, Message); 3] {
    let tx = TxId([5; 12]);
    let endpoints: Vec<SocketAddr> =
        vec!["198.51.100.7:41641".parse().unwrap(), "[2001:db8::7]:41641".parse().unwrap()];
    [
        ("ping", Message::Ping { tx, node: Some(node_key(2).public()) }),
        ("pong", Message::Pong { tx, source: endpoints[0] }),
        ("call-me-maybe", Message::CallMeMaybe { endpoints }),
    ]
}

fn sealed(message: &Message) -> Vec<u8> {
    DiscoBox::new(&disco_key(2), disco_key(1).public()).seal(message, [6; 24])
}

fn disco() -> impl Iterator<Item = Named> {
    let plain = messages().map(|(name, message)| (name, message.to_plaintext()));
    let [(_, ping), ..] = messages();
    plain.into_iter().chain([("sealed-ping", sealed(&ping))])
}

fn derp() -> [Named; 2] {
    let from = node_key(2).public();
    let mut stream = BytesMut::new();
    Frame::ServerKey { key: RelayPrivate::new([3; 32]).public() }.encode(&mut stream);
    let mut frames = BytesMut::new();
    for frame in [Frame::Ping([1; 8]), Frame::KeepAlive, Frame::NotePreferred(true)] {
        frame.encode(&mut frames);
    }
    coderctl_tailnet::derp::frame::put_recv_packet(&mut frames, &from, b"packet").unwrap();
    stream.extend_from_slice(&frames);
    [("frames", frames.to_vec()), ("stream", stream.to_vec())]
}

/// By form only: what is made with keys is different each time.
fn wireguard() -> [Named; 4] {
    let message = |kind: u8, length: usize| {
        let mut message = vec![kind, 0, 0, 0];
        message.resize(length, 0x5a);
        message
    };
    [
        ("initiation", message(1, 148)),
        ("response", message(2, 92)),
        ("cookie", message(3, 64)),
        ("data", message(4, 96)),
    ]
}

fn packets() -> [Named; 5] {
    let (from, to) = (address(2), address(1));
    let mut syn = vec![0xc0, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    let sum = coderctl_tcp::checksum(&from, &to, 6, &syn);
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut echo = vec![128, 0, 0, 0, 0, 1, 0, 1, b'e', b'c', b'h', b'o'];
    let sum = coderctl_tcp::checksum(&from, &to, 58, &echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    [
        ("syn", syn),
        ("echo", echo),
        ("udp", build::udp((from, 1), (to, 53), b"question").to_vec()),
        ("echo-reply", build::echo_reply(from, to, b"body").to_vec()),
        ("tsmp-ping", tsmp::ping(from, to, [4; 8]).to_vec()),
    ]
}

fn datagrams() -> [Named; 2] {
    let framed = |from: u8, datagram: &[u8]| {
        let length = (datagram.len() as u16).to_be_bytes();
        [&[from][..], &length, datagram].concat()
    };
    let by_relay = messages().map(|(_, message)| framed(0, &sealed(&message))).concat();
    let mut by_udp = messages().map(|(_, message)| framed(2, &sealed(&message))).concat();
    for (_, message) in stun().into_iter().chain(wireguard()) {
        by_udp.extend(framed(2, &message));
        by_udp.extend(framed(9, &message));
    }
    [("by-relay", by_relay), ("by-udp", by_udp)]
}

const MAP: &str = r#"{"Regions":{"1":{"RegionID":1,"RegionCode":"a","RegionName":"A","Nodes":[
{"Name":"1a","RegionID":1,"HostName":"relay.example","IPv4":"192.0.2.1","IPv6":"2001:db8::1",
"STUNPort":3478,"DERPPort":443}]},"999":{"EmbeddedRelay":true,"RegionID":999,"RegionCode":"coder",
"RegionName":"Coder","Nodes":[{"Name":"999b","RegionID":999,"HostName":"127.0.0.1","STUNPort":-1,
"DERPPort":3000,"ForceHTTP":true}]},"1000":{"RegionID":1000,"RegionCode":"s","RegionName":"S",
"Nodes":[{"Name":"s0","RegionID":1000,"HostName":"127.0.0.1","STUNPort":33698,"STUNOnly":true}]}}}"#;
