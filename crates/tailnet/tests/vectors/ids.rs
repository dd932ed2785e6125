use coderctl_tailnet::ids::{IdError, NodeId, PeerId, Prefix, RegionId, random_client_address};

const AGENT: &str = "2e7c5a1d-90b4-4f63-8a1e-0d5b7c9e4f21";
const PEER: &str = "9f3b6c70-14e2-4d58-b6a9-51c07e38d2f4";

#[test]
fn addresses_follow_from_the_id() {
    let agent: PeerId = AGENT.parse().unwrap();
    assert_eq!(agent.client_address().to_string(), "fd60:627a:a42b:4f63:8a1e:d5b:7c9e:4f21");
    assert_eq!(agent.agent_address().to_string(), "fd7a:115c:a1e0:4f63:8a1e:d5b:7c9e:4f21");
    let peer: PeerId = PEER.parse().unwrap();
    assert_eq!(peer.client_address().to_string(), "fd60:627a:a42b:4d58:b6a9:51c0:7e38:d2f4");
    assert_eq!(peer.agent_address().to_string(), "fd7a:115c:a1e0:4d58:b6a9:51c0:7e38:d2f4");
    assert!(Prefix::Coder.contains(&peer.client_address()));
    assert!(!Prefix::Coder.contains(&peer.agent_address()));
}

#[test]
fn node_ids_follow_from_the_id() {
    assert_eq!(NodeId::from_peer(AGENT.parse().unwrap()).get(), 8494337160590242015);
    assert_eq!(NodeId::from_peer(PEER.parse().unwrap()).get(), 5284602800549342476);
    let lowest = PeerId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(NodeId::from_peer(lowest).get(), i64::MAX);
    assert_eq!(NodeId::random([0xff; 8]).get(), i64::MAX);
}

#[test]
fn a_random_client_address_is_that_of_a_random_uuid() {
    let address = random_client_address([0xff; 16]);
    assert_eq!(address.to_string(), "fd60:627a:a42b:4fff:bfff:ffff:ffff:ffff");
}

#[test]
fn ids_that_are_none() {
    assert_eq!(PeerId::from_slice(&[1; 15]), Err(IdError::PeerLength(15)));
    assert_eq!("dev".parse::<PeerId>(), Err(IdError::PeerText));
    for number in [0, -1, i64::from(i32::MAX) + 1, i64::MIN] {
        assert_eq!(RegionId::new(number), Err(IdError::Region(number)));
    }
    assert_eq!(RegionId::new(999).unwrap().get(), 999);
}
