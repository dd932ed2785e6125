//! A client of the reference implementation, recorded against its server.

use bytes::BytesMut;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::control::ResumeToken;
use coderctl_tailnet::coordinate::{Coordination, PeerUpdate};
use coderctl_tailnet::derp::frame::{Decoder, Frame, MAX_CLIENT_FRAME};
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::node::Node;
use prost::Message;
use serde_json::Value;

use crate::hex;

const DERP_CLIENT: &str = include_str!("../fixtures/derp_client.jsonl");
const DERP_AGENT: &str = include_str!("../fixtures/derp_agent.jsonl");
const CONTROL: &str = include_str!("../fixtures/coordinate_client.jsonl");
const CONNECTION: &str = include_str!("../fixtures/connection.json");

/// The lines behind the first, which is a note.
fn lines(file: &str) -> Vec<Value> {
    file.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(call: &str, from: &str) -> Vec<Vec<u8>> {
    lines(CONTROL)
        .iter()
        .filter(|line| line["call"] == call && line["from"] == from)
        .map(|line| hex(line["hex"].as_str().unwrap()))
        .collect()
}

#[test]
fn relay_frames_are_read_and_written_alike() {
    for (file, count) in [(DERP_CLIENT, 65), (DERP_AGENT, 4)] {
        let frames = lines(file);
        assert_eq!(frames.len(), count);
        let mut stream = BytesMut::new();
        for frame in &frames {
            let payload = hex(frame["hex"].as_str().unwrap());
            stream.extend_from_slice(&[frame["type"].as_u64().unwrap() as u8]);
            stream.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            stream.extend_from_slice(&payload);
        }
        let recorded = stream.clone();
        let mut written = BytesMut::new();
        let decoder = Decoder::new(MAX_CLIENT_FRAME);
        let mut read = 0;
        while let Some(frame) = decoder.decode(&mut stream).unwrap() {
            assert!(!matches!(frame, Frame::Unknown { .. }), "{frame:?}");
            frame.encode(&mut written);
            read += 1;
        }
        assert_eq!(read, count);
        assert_eq!(written, recorded);
    }
}

#[test]
fn nodes_are_read_and_written_alike() {
    let mut nodes = Vec::new();
    for message in messages("Coordinate", "client") {
        let request = proto::CoordinateRequest::decode(&message[..]).unwrap();
        nodes.extend(request.update_self.and_then(|update| update.node));
    }
    for message in messages("Coordinate", "server") {
        let response = proto::CoordinateResponse::decode(&message[..]).unwrap();
        nodes.extend(response.peer_updates.into_iter().filter_map(|update| update.node));
    }
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!(Node::parse(node.clone()).unwrap().to_proto(), node);
    }
}

#[test]
fn the_map_of_the_control_stream_is_that_of_the_connection_info() {
    let message = &messages("StreamDERPMaps", "server")[0];
    let streamed = DerpMap::from_proto(proto::DerpMap::decode(&message[..]).unwrap()).unwrap();
    let info: Value = serde_json::from_str(CONNECTION).unwrap();
    assert_eq!(streamed, DerpMap::from_value(&info["derp_map"]).unwrap());
}

#[test]
fn a_session_is_repeated_by_our_side() {
    let recorded: Vec<proto::CoordinateRequest> = messages("Coordinate", "client")
        .iter()
        .map(|message| proto::CoordinateRequest::decode(&message[..]).unwrap())
        .collect();
    let answers: Vec<proto::CoordinateResponse> = messages("Coordinate", "server")
        .iter()
        .map(|message| proto::CoordinateResponse::decode(&message[..]).unwrap())
        .collect();
    let agent = lines_peer(&recorded[0]);
    let node = |request: &proto::CoordinateRequest| {
        let update = request.update_self.clone().unwrap();
        Node::parse(update.node.unwrap()).unwrap()
    };

    let mut ours = Coordination::new();
    ours.handle_connected();
    ours.add_tunnel(agent);
    assert_eq!(ours.poll_request(), Some(recorded[0].clone()));
    ours.handle_response(answers[0].clone());
    assert!(matches!(ours.poll_update(), Some(PeerUpdate::Node(id, _)) if id == agent));
    ours.set_node(node(&recorded[1]));
    assert_eq!(ours.poll_request(), Some(recorded[1].clone()));
    ours.handle_response(answers[1].clone());
    assert_eq!(ours.poll_update(), Some(PeerUpdate::Ready(agent)));
    ours.set_node(node(&recorded[2]));
    assert_eq!(ours.poll_request(), Some(recorded[2].clone()));
    ours.handle_response(answers[2].clone());
    assert_eq!(ours.poll_update(), Some(PeerUpdate::Ready(agent)));
    ours.disconnect();
    assert_eq!(ours.poll_request(), Some(recorded[3].clone()));
    assert_eq!(ours.poll_request(), None);
    assert_eq!(ours.poll_update(), None);
}

fn lines_peer(request: &proto::CoordinateRequest) -> coderctl_tailnet::ids::PeerId {
    let tunnel = request.add_tunnel.as_ref().unwrap();
    coderctl_tailnet::ids::PeerId::from_slice(&tunnel.id).unwrap()
}

#[test]
fn a_resume_token_is_kept_and_never_printed() {
    let message = &messages("RefreshResumeToken", "server")[0];
    let response = proto::RefreshResumeTokenResponse::decode(&message[..]).unwrap();
    let text = response.token.clone();
    let token = ResumeToken::from_response(response).unwrap();
    assert_eq!(token.expose(), text);
    assert!(!format!("{token:?}").contains("resume-token"));
    let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_248_441);
    assert!(token.is_valid(end));
    assert!(!token.is_valid(end + std::time::Duration::from_secs(1)));

    // The answer of the vectors: it names the peer.
    let named = hex(
        "0a0e65794a2e746573742e746f6b656e120408c0d1021a060880aed7bb0622109f3b6c7014e24d58b6a951c07e38d2f4",
    );
    let response = proto::RefreshResumeTokenResponse::decode(&named[..]).unwrap();
    let peer = ResumeToken::from_response(response).unwrap().peer().unwrap();
    assert_eq!(peer.to_string(), "9f3b6c70-14e2-4d58-b6a9-51c07e38d2f4");
}
