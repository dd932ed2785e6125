//! All relays of one client.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use coderctl_tailnet::derp::frame::{Frame, PeerGone};
use coderctl_tailnet::derp::login::ServerInfo;
use coderctl_tailnet::derp::relay::IDLE_TIMEOUT;
use coderctl_tailnet::derp::{
    Carrier, Connection, Event, Received, Relays, SendError, Status, connect,
};
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::keys::{NodePublic, RelayPrivate};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::network::{Network, map};
use crate::relay::Relay;
use crate::{encoded, key, node, read_frame, region};

const US: u8 = 1;
const PEER: u8 = 2;

#[tokio::test(start_paused = true)]
async fn home_is_connected_at_once_and_stays() {
    let (network, a, _b) = two_regions();
    let mut relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    a.until_seen(&us(), Some(true)).await;
    until(&relays, Status::home_connected).await;
    sleep(10 * IDLE_TIMEOUT).await;
    assert_eq!(a.sees(&us()), Some(true));
    assert_eq!((network.dials("a"), network.dials("b")), (1, 0));

    let peer = connect(&network, &node("a"), Carrier::Upgrade, key(PEER), true).await.unwrap();
    peer.try_send(&us(), b"hello").unwrap();
    let mut batch = Vec::new();
    relays.recv_batch(&mut batch).await;
    assert_eq!(batch, [received(1, b"hello")]);
}

#[tokio::test(start_paused = true)]
async fn packets_may_be_sent_before_anything_is_connected() {
    let (network, a, _b) = two_regions();
    let mut peer = connect(&network, &node("a"), Carrier::Upgrade, key(PEER), true).await.unwrap();
    a.until_seen(&peer_key(), Some(true)).await;
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    relays.try_send(region(1), &peer_key(), b"early").unwrap();
    assert_eq!(packet(&mut peer).await, b"early");
}

#[tokio::test(start_paused = true)]
async fn another_region_is_connected_on_demand_and_closed_when_idle() {
    let (network, a, b) = two_regions();
    let mut peer = connect(&network, &node("b"), Carrier::Upgrade, key(PEER), true).await.unwrap();
    b.until_seen(&peer_key(), Some(true)).await;
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    relays.try_send(region(2), &peer_key(), b"one").unwrap();
    assert_eq!(packet(&mut peer).await, b"one");
    assert_eq!(b.sees(&us()), Some(false));

    sleep(Duration::from_secs(50)).await;
    relays.try_send(region(2), &peer_key(), b"two").unwrap();
    assert_eq!(packet(&mut peer).await, b"two");
    sleep(Duration::from_secs(55)).await;
    assert_eq!(b.sees(&us()), Some(false), "used less than a minute ago");
    sleep(Duration::from_secs(25)).await;
    assert_eq!(b.sees(&us()), None);
    assert_eq!(a.sees(&us()), Some(true));

    relays.try_send(region(2), &peer_key(), b"three").unwrap();
    assert_eq!(packet(&mut peer).await, b"three");
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_in_no_map_cannot_be_sent_to() {
    let (network, ..) = two_regions();
    let mut regions = map(&[(1, &["a"]), (2, &["b"])]);
    regions.regions.get_mut(&region(2)).unwrap().nodes[0].stun_only = true;
    let relays = start(&network, &regions, Some(1));
    for id in [2, 3] {
        let refused = relays.try_send(region(id), &peer_key(), b"?");
        assert_eq!(refused, Err(SendError::NoRelay));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_home_is_connected_anew_with_growing_delays() {
    let (network, a, _b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    until(&relays, Status::home_connected).await;
    network.remove("a");
    a.drop_all();
    until(&relays, |status| !status.home_connected()).await;
    relays.try_send(region(1), &peer_key(), b"while away").unwrap();
    sleep(Duration::from_secs(60)).await;
    let problem = relays.status().borrow().problems[&region(1)].clone();
    assert_eq!(problem, "the relay at a refused the connection (HTTP status 502)");

    let gaps = network.dial_gaps("a");
    for (failures, gap) in (1..).zip(&gaps[1..]) {
        let delay = Duration::from_millis((failures + 1) * (failures + 1) * 10);
        let delay = delay.min(Duration::from_secs(5));
        // One millisecond: the clock's grain.
        let range = delay / 2..=delay * 3 / 2 + Duration::from_millis(1);
        assert!(range.contains(gap), "{gap:?} after {failures} failures");
    }
    assert!((22..60).contains(&gaps.len()), "{}", gaps.len());

    let mut peer = connect_when_back(&network, &a).await;
    assert_eq!(packet(&mut peer).await, b"while away");
    until(&relays, Status::home_connected).await;
    assert!(relays.status().borrow().problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_the_way_that_a_packet_came_when_there_is_no_other() {
    let (network, a, _b) = two_regions();
    let mut relays = start(&network, &map(&[(1, &["a"]), (2, &["gone"])]), Some(1));
    let mut peer = connect(&network, &node("a"), Carrier::Upgrade, key(PEER), false).await.unwrap();
    a.until_seen(&us(), Some(true)).await;
    peer.try_send(&us(), b"hello").unwrap();
    let mut batch = Vec::new();
    relays.recv_batch(&mut batch).await;

    relays.try_send(region(2), &peer_key(), b"back").unwrap();
    assert_eq!(packet(&mut peer).await, b"back");
    assert_eq!(network.dials("gone"), 0);

    let left = Frame::PeerGone { peer: peer_key(), reason: PeerGone::Disconnected };
    a.tell(&us(), &left);
    settle().await;
    relays.try_send(region(2), &peer_key(), b"lost").unwrap();
    settle().await;
    assert!(network.dials("gone") > 0, "the way was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_forgets_who_was_heard_there() {
    let (network, a, b) = two_regions();
    let mut relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    let peer = connect(&network, &node("a"), Carrier::Upgrade, key(PEER), false).await.unwrap();
    a.until_seen(&us(), Some(true)).await;
    peer.try_send(&us(), b"hello").unwrap();
    relays.recv_batch(&mut Vec::new()).await;
    a.drop_all();
    a.until_seen(&us(), Some(true)).await;
    relays.try_send(region(2), &peer_key(), b"?").unwrap();
    b.until_seen(&us(), Some(false)).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_region_is_connected_anew_and_others_are_left_alone() {
    let (network, a, b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    relays.try_send(region(2), &peer_key(), b"?").unwrap();
    b.until_seen(&us(), Some(false)).await;
    a.until_seen(&us(), Some(true)).await;

    let moved = Relay::new(11, ServerInfo::default());
    network.relay("c", &moved);
    relays.set_map(map(&[(1, &["c"]), (2, &["b"])]));
    moved.until_seen(&us(), Some(true)).await;
    a.until_seen(&us(), None).await;
    assert_eq!(relays.status().borrow().home, Some(region(1)));
    assert_eq!((network.dials("a"), network.dials("b"), network.dials("c")), (1, 1, 1));

    relays.set_map(map(&[(1, &["c"]), (2, &["b"])]));
    settle().await;
    assert_eq!((network.dials("b"), network.dials("c")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn another_home_is_chosen_when_the_map_has_it_no_more() {
    let (network, a, b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    a.until_seen(&us(), Some(true)).await;
    relays.set_map(map(&[(2, &["b"])]));
    b.until_seen(&us(), Some(true)).await;
    a.until_seen(&us(), None).await;
    until(&relays, |status| status.home == Some(region(2)) && status.home_connected()).await;
}

#[tokio::test(start_paused = true)]
async fn a_home_may_be_found_later() {
    let (network, a, _b) = two_regions();
    let relays = start(&network, &DerpMap::default(), None);
    assert_eq!(relays.status().borrow().home, None);
    relays.set_map(map(&[(1, &["a"])]));
    a.until_seen(&us(), Some(true)).await;
}

#[tokio::test(start_paused = true)]
async fn home_may_move() {
    let (network, a, b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    a.until_seen(&us(), Some(true)).await;
    relays.set_home(region(2));
    b.until_seen(&us(), Some(true)).await;
    a.until_seen(&us(), Some(false)).await;
    a.until_seen(&us(), None).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_node_takes_over_from_one_that_is_down_or_silent() {
    for silent in [false, true] {
        let (network, _a, b) = two_regions();
        network.remove("a");
        if silent {
            network.silence("a");
        }
        let began = Instant::now();
        let relays = start(&network, &map(&[(1, &["a", "b"])]), Some(1));
        b.until_seen(&us(), Some(true)).await;
        assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
        drop(relays);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_restarts_is_given_the_time_it_asks_for() {
    let (network, a, _b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    until(&relays, Status::home_connected).await;
    let pause = Duration::from_millis(1500);
    a.tell(&us(), &Frame::Restarting { reconnect_in: pause, try_for: pause });
    settle().await;
    a.drop_all();
    a.until_seen(&us(), Some(true)).await;
    let gap = network.dial_gaps("a")[0];
    assert!((pause..pause * 2).contains(&gap), "{gap:?}");
    assert!(
        relays.status().borrow().problems.is_empty() || !relays.status().borrow().home_connected()
    );
}

#[tokio::test(start_paused = true)]
async fn a_relays_problem_is_told_and_cleared() {
    let (network, a, _b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    until(&relays, Status::home_connected).await;
    a.tell(&us(), &Frame::Health("duplicate client".to_owned()));
    until(&relays, |status| {
        status.problems.get(&region(1)).is_some_and(|p| p == "duplicate client")
    })
    .await;
    a.tell(&us(), &Frame::Health(String::new()));
    until(&relays, |status| status.problems.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_full_says_when_there_is_room() {
    let network = Network::default();
    let mut streams = network.raw("a");
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    while relays.try_send(region(1), &peer_key(), &[0; 1312]).is_ok() {}
    let full = relays.try_send(region(1), &peer_key(), b"?");
    assert_eq!(full, Err(SendError::Full));
    let mut stream = streams.recv().await.unwrap();
    let hello = Frame::ServerKey { key: RelayPrivate::new([9; 32]).public() };
    stream.write_all(&encoded(&[hello])).await.unwrap();
    let mut buffer = BytesMut::new();
    while !matches!(read_frame(&mut stream, &mut buffer).await, Some(Frame::SendPacket { .. })) {}
    relays.writable().await;
    assert_eq!(relays.try_send(region(1), &peer_key(), b"!"), Ok(()));
    let reader = tokio::spawn(async move {
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    relays.flushed().await;
    drop(relays);
    reader.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn on_another_network_a_relay_proves_that_it_is_there_or_is_connected_anew() {
    let network = Network::default();
    let mut streams = network.raw("a");
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    let mut stream = streams.recv().await.unwrap();
    let hello = Frame::ServerKey { key: RelayPrivate::new([9; 32]).public() };
    stream.write_all(&encoded(&[hello])).await.unwrap();
    let mut buffer = BytesMut::new();
    for _ in ["client info", "note preferred"] {
        read_frame(&mut stream, &mut buffer).await.unwrap();
    }
    for _ in 0..3 {
        relays.network_changed();
        let Some(Frame::Ping(data)) = read_frame(&mut stream, &mut buffer).await else {
            panic!("it is asked whether it is there")
        };
        stream.write_all(&encoded(&[Frame::Pong(data)])).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        assert_eq!(network.dials("a"), 1, "one that answers is kept");
    }
    let began = Instant::now();
    relays.network_changed();
    streams.recv().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn on_another_network_a_relay_that_was_not_there_is_tried_at_once() {
    let network = Network::default();
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    sleep(Duration::from_secs(300)).await;
    let a = Relay::new(1, ServerInfo::default());
    network.relay("a", &a);
    let began = Instant::now();
    relays.network_changed();
    a.until_seen(&us(), Some(true)).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn on_another_network_what_was_begun_on_the_last_is_not_waited_for() {
    let network = Network::default();
    let mut streams = network.raw("a");
    let relays = start(&network, &map(&[(1, &["a"])]), Some(1));
    let _silent = streams.recv().await.unwrap();
    let began = Instant::now();
    relays.network_changed();
    streams.recv().await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_relays_ends_every_connection() {
    let (network, a, b) = two_regions();
    let relays = start(&network, &map(&[(1, &["a"]), (2, &["b"])]), Some(1));
    relays.try_send(region(2), &peer_key(), b"?").unwrap();
    a.until_seen(&us(), Some(true)).await;
    b.until_seen(&us(), Some(false)).await;
    drop(relays);
    a.until_seen(&us(), None).await;
    b.until_seen(&us(), None).await;
}

pub(crate) fn two_regions() -> (Network, Relay, Relay) {
    let network = Network::default();
    let (a, b) = (Relay::new(9, ServerInfo::default()), Relay::new(10, ServerInfo::default()));
    network.relay("a", &a);
    network.relay("b", &b);
    (network, a, b)
}

pub(crate) fn start(network: &Network, map: &DerpMap, home: Option<i64>) -> Relays {
    Relays::start(Arc::new(network.clone()), map.clone(), key(US), home.map(region))
}

pub(crate) fn us() -> NodePublic {
    key(US).public()
}

pub(crate) fn peer_key() -> NodePublic {
    key(PEER).public()
}

fn received(id: i64, payload: &[u8]) -> Received {
    Received { region: region(id), from: peer_key(), payload: BytesMut::from(payload) }
}

pub(crate) async fn until(relays: &Relays, condition: impl Fn(&Status) -> bool) {
    relays.status().wait_for(|status| condition(status)).await.unwrap();
}

/// The relay is back; the peer gets there first, so that nothing is lost.
async fn connect_when_back(network: &Network, relay: &Relay) -> Connection {
    let elsewhere = Network::default();
    elsewhere.relay("a", relay);
    let peer = connect(&elsewhere, &node("a"), Carrier::Upgrade, key(PEER), true).await.unwrap();
    relay.until_seen(&peer_key(), Some(true)).await;
    network.relay("a", relay);
    peer
}

/// Lets every task do what it can without time passing by much.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

pub(crate) async fn packet(connection: &mut Connection) -> Vec<u8> {
    loop {
        for event in connection.recv().await.unwrap() {
            if let Event::Packet { payload, .. } = event {
                return payload.to_vec();
            }
        }
    }
}
