use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::ids::{NodeId, PeerId, RegionId};
use coderctl_tailnet::keys::KeyError;
use coderctl_tailnet::node::{MAX_ADDRESSES, MAX_ENDPOINTS, MAX_TEXT, Node, NodeError};
use prost::Message;

use crate::{client_key, disco_a, hex};

/// The `UpdateSelf` request of the vectors.
const UPDATE_SELF: &str = "
0af9010af601088cda9c8ef8c7abab49120b08808bd2bb061080e59a771a226e70e7fdb00f70d9babab8053b923f8b48
503573cd45a5316150cb93a893f6ad02252249646973636f6b65793a3866626461653464313163643166343033633637
353733353064663833623136306338356166336436336333636133363336306137313636656631653731316428e70732
110a063939392d7634119a9999999999893f422b666436303a363237613a613432623a346435383a623661393a353163
303a376533383a643266342f3132384a2b666436303a363237613a613432623a346435383a623661393a353163303a37
6533383a643266342f313238";

pub(crate) fn node() -> Node {
    let peer: PeerId = "9f3b6c70-14e2-4d58-b6a9-51c07e38d2f4".parse().unwrap();
    Node {
        id: NodeId::from_peer(peer),
        // 2025-01-01T00:00:00.25Z
        as_of: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_735_689_600_250)),
        key: client_key().public(),
        disco: disco_a().public(),
        home: RegionId::EMBEDDED,
        derp_latency: BTreeMap::from([("999-v4".to_owned(), 0.0125)]),
        derp_forced_websocket: BTreeMap::new(),
        addresses: vec![peer.client_address()],
        endpoints: Vec::new(),
        short_description: String::new(),
        hostname: String::new(),
    }
}

#[test]
fn our_node_is_written_as_the_reference_writes_it() {
    let update = proto::coordinate_request::UpdateSelf { node: Some(node().to_proto()) };
    let request = proto::CoordinateRequest { update_self: Some(update), ..Default::default() };
    assert_eq!(request.encode_to_vec(), hex(UPDATE_SELF));
}

#[test]
fn a_node_is_read_back() {
    let request = proto::CoordinateRequest::decode(&hex(UPDATE_SELF)[..]).unwrap();
    assert_eq!(Node::parse(request.update_self.unwrap().node.unwrap()), Ok(node()));
}

#[test]
fn nodes_that_cannot_be_reached() {
    let with = |change: fn(&mut proto::Node)| {
        let mut node = node().to_proto();
        change(&mut node);
        Node::parse(node).unwrap_err()
    };
    assert_eq!(with(|node| node.preferred_derp = 0), NodeError::NoHome(0));
    assert_eq!(with(|node| node.preferred_derp = -7), NodeError::NoHome(-7));
    let unprefixed = with(|node| drop(node.key.drain(..2)));
    assert_eq!(unprefixed, NodeError::Key(KeyError::Prefix("np")));
    assert_eq!(with(|node| node.key.push(0)), NodeError::Key(KeyError::Length(33)));
    assert_eq!(with(|node| node.key[2..].fill(0)), NodeError::ZeroKey);
    assert_eq!(with(|node| node.disco.clear()), NodeError::Disco(KeyError::Prefix("discokey:")));
    let zero = |node: &mut proto::Node| node.disco = format!("discokey:{}", "0".repeat(64));
    assert_eq!(with(zero), NodeError::ZeroKey);
    assert_eq!(with(|node| node.allowed_ips.clear()), NodeError::NoAddress);
    assert_eq!(with(|node| node.addresses.clear()), NodeError::NoAddress);
    let bad = with(|node| node.addresses.push("fd60::1".to_owned()));
    assert_eq!(bad, NodeError::Address("fd60::1".to_owned()));
    let bad = with(|node| node.allowed_ips.push("fd60::1/129".to_owned()));
    assert_eq!(bad, NodeError::Address("fd60::1/129".to_owned()));
}

#[test]
fn only_single_addresses_that_are_allowed_and_named_count() {
    let mut message = node().to_proto();
    message.addresses.extend(["fd7a::1/128", "fd7a::2/128", "10.0.0.1/32"].map(str::to_owned));
    message.allowed_ips.extend(["::/0", "fd7a::2/128", "fd7a::3/128"].map(str::to_owned));
    let parsed = Node::parse(message).unwrap();
    let expected = [node().addresses[0], "fd7a::2".parse().unwrap()];
    assert_eq!(parsed.addresses, expected);
}

#[test]
fn endpoints_that_are_none_are_left_out() {
    let mut message = node().to_proto();
    message.endpoints =
        ["198.51.100.7:41641", "nonsense", "[2001:db8::5]:1"].map(str::to_owned).into();
    let parsed = Node::parse(message).unwrap();
    let expected = ["198.51.100.7:41641", "[2001:db8::5]:1"].map(|text| text.parse().unwrap());
    assert_eq!(parsed.endpoints, expected);
}

#[test]
fn what_a_peer_says_at_length_is_cut() {
    let mut message = node().to_proto();
    message.endpoints = vec!["198.51.100.7:1".to_owned(); 5000];
    message.addresses = vec![message.addresses[0].clone(); 5000];
    message.allowed_ips = message.addresses.clone();
    message.hostname = "é".repeat(5000);
    let parsed = Node::parse(message).unwrap();
    assert_eq!(parsed.endpoints.len(), MAX_ENDPOINTS);
    assert_eq!(parsed.addresses.len(), MAX_ADDRESSES);
    assert_eq!(parsed.hostname.chars().count(), MAX_TEXT);
}
