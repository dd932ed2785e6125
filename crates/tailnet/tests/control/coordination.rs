//! Coordination alone, without a connection.

use std::collections::BTreeSet;
use std::time::SystemTime;

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::coordinate::{Coordination, MAX_PEERS, PeerUpdate};
use coderctl_tailnet::node::Node;
use proto::coordinate_response::peer_update::Kind;

use crate::{Said, node, peer, said, update};

#[test]
fn nothing_is_said_before_there_is_something_to_say() {
    let mut ours = Coordination::new();
    ours.add_tunnel(peer(1));
    assert_eq!(requests(&mut ours), []);
    ours.handle_connected();
    assert_eq!(requests(&mut ours), [Said::Wants(peer(1))]);
    ours.set_node(node(9));
    assert_eq!(requests(&mut ours), [own(node(9))]);
}

#[test]
fn everything_wanted_is_said_again_after_a_reconnect() {
    let mut ours = Coordination::new();
    ours.add_tunnel(peer(1));
    ours.add_tunnel(peer(2));
    ours.set_node(node(9));
    ours.handle_connected();
    let all = [Said::Wants(peer(1)), Said::Wants(peer(2)), own(node(9))];
    assert_eq!(requests(&mut ours), all);
    ours.handle_disconnected();
    assert_eq!(requests(&mut ours), []);
    ours.handle_connected();
    assert_eq!(requests(&mut ours), all);
}

#[test]
fn what_is_known_is_not_said_twice() {
    let mut ours = connected();
    ours.add_tunnel(peer(1));
    ours.add_tunnel(peer(1));
    ours.set_node(node(9));
    ours.set_node(Node { as_of: Some(SystemTime::UNIX_EPOCH), ..node(9) });
    assert_eq!(requests(&mut ours), [Said::Wants(peer(1)), own(node(9))]);
    ours.remove_tunnel(peer(2));
    assert_eq!(requests(&mut ours), []);
}

#[test]
fn a_changed_node_is_said_whole() {
    let mut ours = connected();
    ours.set_node(node(9));
    let moved = Node { endpoints: vec!["198.51.100.7:1".parse().unwrap()], ..node(9) };
    ours.set_node(moved.clone());
    assert_eq!(requests(&mut ours), [own(node(9)), own(moved)]);
}

#[test]
fn news_of_a_peer() {
    let mut ours = connected();
    for kind in [Kind::Node, Kind::ReadyForHandshake, Kind::Lost, Kind::Node, Kind::Disconnected] {
        ours.handle_response(update(1, kind));
    }
    assert_eq!(
        updates(&mut ours),
        [
            theirs(),
            PeerUpdate::Ready(peer(1)),
            PeerUpdate::Lost(peer(1)),
            theirs(),
            PeerUpdate::Gone(peer(1))
        ]
    );
}

#[test]
fn a_peer_nobody_knows_cannot_be_lost_or_gone() {
    let mut ours = connected();
    ours.handle_response(update(1, Kind::Lost));
    ours.handle_response(update(1, Kind::Disconnected));
    ours.handle_response(update(1, Kind::Unspecified));
    assert_eq!(updates(&mut ours), []);
}

#[test]
fn a_node_without_home_changes_nothing() {
    let mut ours = connected();
    ours.handle_response(update(1, Kind::Node));
    assert_eq!(updates(&mut ours), [theirs()]);
    let mut homeless = update(1, Kind::Node);
    homeless.peer_updates[0].node.as_mut().unwrap().preferred_derp = 0;
    ours.handle_response(homeless);
    assert_eq!(updates(&mut ours), []);
    ours.handle_response(update(1, Kind::Lost));
    assert_eq!(updates(&mut ours), [PeerUpdate::Lost(peer(1))]);
}

#[test]
fn an_outage_loses_every_peer_once() {
    let mut ours = connected();
    ours.handle_response(update(1, Kind::Node));
    ours.handle_response(update(2, Kind::Node));
    ours.handle_response(update(1, Kind::Lost));
    updates(&mut ours);
    ours.handle_disconnected();
    assert_eq!(updates(&mut ours), [PeerUpdate::Lost(peer(2))]);
    ours.handle_connected();
    ours.handle_response(update(2, Kind::Disconnected));
    assert_eq!(updates(&mut ours), [PeerUpdate::Gone(peer(2))]);
}

#[test]
fn a_destination_stays_one_when_it_leaves() {
    let mut ours = connected();
    ours.add_tunnel(peer(1));
    ours.handle_response(update(1, Kind::Node));
    ours.handle_response(update(1, Kind::Disconnected));
    assert_eq!(ours.destinations(), &BTreeSet::from([peer(1)]));
    requests(&mut ours);
    ours.handle_disconnected();
    ours.handle_connected();
    assert_eq!(requests(&mut ours), [Said::Wants(peer(1))]);
}

#[test]
fn a_removed_destination_is_forgotten() {
    let mut ours = connected();
    ours.add_tunnel(peer(1));
    ours.handle_response(update(1, Kind::Node));
    updates(&mut ours);
    ours.remove_tunnel(peer(1));
    assert_eq!(requests(&mut ours), [Said::Wants(peer(1)), Said::WantsNoMore(peer(1))]);
    assert_eq!(updates(&mut ours), [PeerUpdate::Gone(peer(1))]);
}

#[test]
fn goodbye_is_the_last_word() {
    let mut ours = connected();
    ours.add_tunnel(peer(1));
    ours.disconnect();
    assert_eq!(requests(&mut ours), [Said::Goodbye]);
    let mut alone = Coordination::new();
    alone.disconnect();
    assert_eq!(requests(&mut alone), []);
}

#[test]
fn ids_that_are_none_are_skipped() {
    let mut ours = connected();
    let mut response = update(1, Kind::Node);
    response.peer_updates[0].id.pop();
    response.peer_updates.extend(update(2, Kind::Node).peer_updates);
    ours.handle_response(response);
    assert!(matches!(&updates(&mut ours)[..], [PeerUpdate::Node(id, _)] if *id == peer(2)));
}

#[test]
fn peers_are_bounded_and_lost_ones_make_room() {
    let mut ours = connected();
    let (node, lost) = (update(1, Kind::Node), update(1, Kind::Lost));
    let numbered = |number: u32, template: &proto::CoordinateResponse| {
        let mut response = template.clone();
        response.peer_updates[0].id[..4].copy_from_slice(&number.to_be_bytes());
        response
    };
    for number in 0..MAX_PEERS as u32 {
        ours.handle_response(numbered(number, &node));
    }
    assert_eq!(updates(&mut ours).len(), MAX_PEERS);
    ours.handle_response(numbered(u32::MAX, &node));
    assert_eq!(updates(&mut ours).len(), 0);
    ours.handle_response(numbered(0, &lost));
    ours.handle_response(numbered(u32::MAX, &node));
    assert_eq!(updates(&mut ours).len(), 2);
}

fn connected() -> Coordination {
    let mut ours = Coordination::new();
    ours.handle_connected();
    ours
}

fn own(node: Node) -> Said {
    Said::Node(Box::new(node))
}

fn theirs() -> PeerUpdate {
    PeerUpdate::Node(peer(1), Box::new(node(1)))
}

fn requests(ours: &mut Coordination) -> Vec<Said> {
    std::iter::from_fn(|| ours.poll_request()).map(said).collect()
}

fn updates(ours: &mut Coordination) -> Vec<PeerUpdate> {
    std::iter::from_fn(|| ours.poll_update()).collect()
}
