//! Whatever bytes come, nothing panics, and what is read is bounded.

use bytes::{Bytes, BytesMut};
use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::coordinate::Coordination;
use coderctl_tailnet::derp::frame::{Decoder, Frame};
use coderctl_tailnet::derp::{Client, Event, login};
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::disco::{DiscoBox, MAGIC, Message, sender};
use coderctl_tailnet::keys::{DiscoPublic, NodePublic, RelayPublic};
use coderctl_tailnet::node::Node;
use coderctl_tailnet::tsmp;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use crate::{client_key, counting, disco_a, disco_b, relay_key};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

/// Frames that begin well, of any type and with any payload.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let frame = (0u8..0x20, bytes()).prop_map(|(kind, payload)| {
        let mut frame = vec![kind];
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(&payload);
        frame
    });
    vec(frame, 0..8).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn frames_survive_any_cut(stream in frames(), cuts in vec(1usize..40, 1..20)) {
        let decoder = Decoder::new(1 << 20);
        let mut whole = BytesMut::from(&stream[..]);
        let mut expected = Vec::new();
        while let Some(frame) = decoder.decode(&mut whole).unwrap() {
            expected.push(frame);
        }
        prop_assert!(whole.is_empty());
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        let mut rest = Bytes::from(stream);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let part = rest.split_to((*cut).min(rest.len()));
            buffer.extend_from_slice(&part);
            while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                read.push(frame);
            }
            prop_assert!(decoder.missing(&buffer) > 0);
        }
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn what_a_frame_says_is_said_again(kind in 0u8..0x20, payload in bytes()) {
        let stream = [&[kind][..], &(payload.len() as u32).to_be_bytes(), &payload].concat();
        let decoder = Decoder::new(1 << 20);
        let frame = decoder.decode(&mut BytesMut::from(&stream[..])).unwrap().unwrap();
        let mut again = BytesMut::new();
        frame.encode(&mut again);
        let mut copy = again.clone();
        prop_assert_eq!(decoder.decode(&mut copy).unwrap(), Some(frame));
    }

    #[test]
    fn a_client_survives_any_relay(logged_in: bool, stream in prop_oneof![bytes(), frames()]) {
        let mut client = Client::new(client_key(), true, counting(0));
        let mut buffer = BytesMut::new();
        if logged_in {
            Frame::ServerKey { key: relay_key().public() }.encode(&mut buffer);
        }
        buffer.extend_from_slice(&stream);
        while let Ok(Some(event)) = client.handle_input(&mut buffer) {
            if let Event::Packet { payload, .. } = event {
                prop_assert!(payload.len() <= stream.len());
            }
        }
        prop_assert!(client.output().len() < 2000);
    }

    #[test]
    fn logins_survive_any_box(sealed in bytes()) {
        let (node, relay) = (client_key(), relay_key());
        let nonce = counting(0);
        prop_assert!(login::open_client_info(&relay, &node.public(), &nonce, &sealed).is_err());
        prop_assert!(login::open_server_info(&node, &relay.public(), &nonce, &sealed).is_err());
    }

    #[test]
    fn disco_survives_anything(plaintext in bytes(), sealed in bytes()) {
        if let Ok(message) = Message::parse(&plaintext) {
            prop_assert_eq!(Message::parse(&message.to_plaintext()), Ok(message));
        }
        let packet = [&MAGIC[..], disco_a().public().as_bytes(), &[0; 24], &sealed].concat();
        let ours = DiscoBox::new(&disco_b(), disco_a().public());
        prop_assert!(ours.open(&packet).is_err());
        prop_assert!(ours.open(&sealed).is_err());
        prop_assert!(sender(&sealed).is_none_or(|_| sealed.starts_with(&MAGIC)));
    }

    #[test]
    fn tsmp_survives_anything(packet in bytes(), payload in vec(any::<u8>(), 0..20), length: u8) {
        prop_assert!(tsmp::Packet::parse(&packet).is_err() || packet[6] == 99);
        let mut packet = vec![0x60, 0, 0, 0, 0, length, 99, 64];
        packet.extend_from_slice(&[0; 32]);
        packet.extend_from_slice(&payload);
        if let Ok(parsed) = tsmp::Packet::parse(&packet) {
            prop_assert_eq!(parsed.respond().is_some(), payload[0] == b'p');
        }
    }

    #[test]
    fn keys_survive_any_text(text in ".{0,80}") {
        let long = format!("nodekey:{text}");
        prop_assert!(text.parse::<DiscoPublic>().is_err());
        prop_assert!(long.parse::<NodePublic>().is_err() || text.len() == 64);
        prop_assert!(text.parse::<RelayPublic>().is_err() || text.len() == 64);
    }

    #[test]
    fn messages_of_the_coordinator_survive_anything(bytes in bytes(), texts in vec(".{0,40}", 4)) {
        if let Ok(response) = proto::CoordinateResponse::decode(&bytes[..]) {
            let mut coordination = Coordination::new();
            coordination.handle_connected();
            coordination.handle_response(response);
        }
        if let Ok(map) = proto::DerpMap::decode(&bytes[..]) {
            drop(DerpMap::from_proto(map));
        }
        let [disco, address, endpoint, text] = &texts[..] else { unreachable!() };
        let node = proto::Node {
            key: bytes,
            disco: disco.clone(),
            addresses: vec![address.clone()],
            allowed_ips: vec![address.clone()],
            endpoints: vec![endpoint.clone()],
            hostname: text.clone(),
            preferred_derp: 1,
            ..Default::default()
        };
        prop_assert!(Node::parse(node).is_err());
        drop(DerpMap::from_json(text.as_bytes()));
    }
}
