//! The first contact, and what the wire shows of it.

use std::time::Duration;

use coderctl_tailnet::engine::{Event, PeerUpdate};
use coderctl_tailnet::stack::{CloseReason, StackConfig, StackEvent, TcpEvent};
use coderctl_tailnet::wg::Handshake;

use crate::sim::{Kind, LinkConfig, World};

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn both_sides_are_reachable_after_one_handshake() {
    let mut world = World::new(1, LinkConfig::delay(MS(10)));
    world.tell(0);
    world.tell(1);
    world.run(MS(100));
    for peer in &world.peers {
        assert!(peer.saw(|event| matches!(event, Event::PeerReachable(..))));
    }
}

#[test]
fn a_lost_first_initiation_is_repeated_byte_for_byte() {
    let mut world = World::new(2, LinkConfig::delay(MS(1)));
    world.wire = Some(Vec::new());
    // B does not know A yet: the initiation and its first copies come to nothing.
    world.tell(0);
    world.run(MS(90));
    assert_eq!(world.peers[0].engine.handshake(world.peers[1].id), Some(Handshake::InProgress));
    world.tell(1);
    // B's own initiation is on the wire now; A answers it. Either way the session is there soon.
    let took = world.run_until(MS(100), |world| {
        world.peers[0].saw(|event| matches!(event, Event::PeerReachable(..)))
    });
    assert!(took < MS(80), "{took:?}");
    let wire = world.wire.take().expect("recorded");
    let copies: Vec<_> = wire
        .iter()
        .filter(|(at, who, datagram)| *who == 0 && datagram[0] == 1 && *at < world.start + MS(90))
        .collect();
    let times: Vec<_> = copies.iter().map(|(at, ..)| (*at - world.start).as_millis()).collect();
    assert_eq!(times, [0, 2, 5, 10, 20, 40, 80]);
    assert!(copies.iter().all(|(_, _, datagram)| *datagram == copies[0].2));
    assert_eq!(copies[0].2.len(), 148);
    assert_eq!(world.peers[0].engine.tunnel_stats().handshakes_initiated, 1);
}

#[test]
fn the_handshake_survives_heavy_loss() {
    for seed in 0..50 {
        let mut world = World::new(seed, LinkConfig::delay(MS(20)).loss(400_000));
        world.introduce();
        world.run_until(Duration::from_secs(30), |world| {
            world.peers.iter().all(|peer| peer.saw(|it| matches!(it, Event::PeerReachable(..))))
        });
    }
}

#[test]
fn a_syn_before_the_peer_is_known_leaves_with_the_session() {
    let mut world = World::new(3, LinkConfig::delay(MS(10)));
    let now = world.now;
    let to = world.peers[1].at(80);
    world.peers[1].engine.stack().listen(80, 8).expect("free");
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.run(MS(500));
    world.introduce();
    let took = world.run_until(MS(500), |world| {
        world.peers[0].saw(|event| *event == Event::Stack(StackEvent::Tcp(TcpEvent::Connected(id))))
    });
    // One round trip for WireGuard, one for TCP.
    assert!(took <= MS(41), "{took:?}");
    assert_eq!(world.peers[0].engine.stack().stats().retransmitted, 0);
}

#[test]
fn a_changed_key_fails_the_old_connections_and_serves_new_ones() {
    let mut world = World::new(4, LinkConfig::delay(MS(5)));
    world.introduce();
    world.peers[1].engine.stack().listen(80, 8).expect("free");
    let (now, to) = (world.now, world.peers[1].at(80));
    let old = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.run(MS(100));
    assert!(
        world.peers[0].saw(|it| *it == Event::Stack(StackEvent::Tcp(TcpEvent::Connected(old))))
    );

    // The agent restarts: same identity, new keys.
    let fresh = crate::sim::SimPeer::with_config(
        2,
        77,
        StackConfig::new(world.peers[1].address(), 9),
        Kind::Plain,
        world.now,
    );
    world.peers[1] = fresh;
    world.peers[1].engine.stack().listen(80, 8).expect("free");
    world.introduce();
    let status = world.peers[0].engine.stack().status(old).expect("still named");
    assert_eq!(status.ended, Some(CloseReason::PeerGone));
    let now = world.now;
    let new = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.run(MS(100));
    assert!(
        world.peers[0].saw(|it| *it == Event::Stack(StackEvent::Tcp(TcpEvent::Connected(new))))
    );
}

#[test]
fn a_peer_that_left_takes_its_connections_along() {
    let mut world = World::new(5, LinkConfig::delay(MS(5)));
    world.introduce();
    world.peers[1].engine.stack().listen(80, 8).expect("free");
    let (now, to) = (world.now, world.peers[1].at(80));
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.run(MS(100));
    let peer = world.peers[1].id;
    world.update(0, PeerUpdate::Gone);
    assert!(world.peers[0].saw(|event| *event == Event::PeerRemoved(peer)));
    assert!(world.peers[0].saw(|event| matches!(
        event,
        Event::Stack(StackEvent::Tcp(TcpEvent::Ended(closed, _))) if *closed == id
    )));
}

#[test]
fn a_lost_peer_stays_for_a_quarter_of_an_hour_from_its_last_handshake() {
    let mut world = World::new(6, LinkConfig::delay(MS(5)));
    world.introduce();
    world.run(MS(100));
    let peer = world.peers[1].id;
    world.update(0, PeerUpdate::Lost);
    // The other end is gone for good.
    world.links[0].config.loss = 1_000_000;
    world.run(Duration::from_secs(14 * 60));
    assert!(!world.peers[0].saw(|event| *event == Event::PeerRemoved(peer)));
    world.run(Duration::from_secs(2 * 60));
    assert!(world.peers[0].saw(|event| *event == Event::PeerRemoved(peer)));
}

#[test]
fn an_idle_tunnel_wakes_a_few_times_a_minute() {
    let mut world = World::new(7, LinkConfig::delay(MS(20)));
    world.introduce();
    world.peers[1].engine.stack().listen(80, 8).expect("free");
    let (now, to) = (world.now, world.peers[1].at(80));
    world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.run(Duration::from_secs(60));
    world.wakeups = [0, 0];
    world.run(Duration::from_secs(3600));
    for wakeups in world.wakeups {
        assert!(wakeups <= 600, "{wakeups} wakeups in an idle hour");
    }
}

#[test]
fn sessions_are_renewed_while_idle_without_a_gap() {
    let mut world = World::new(8, LinkConfig::delay(MS(20)));
    world.introduce();
    world.run(Duration::from_secs(1));
    let peer = world.peers[1].id;
    for _ in 0..600 {
        world.run(Duration::from_secs(1));
        assert_eq!(world.peers[0].engine.handshake(peer), Some(Handshake::Established));
    }
}

#[test]
fn a_ping_waits_for_the_tunnel_and_measures_the_way() {
    let mut world = World::new(9, LinkConfig::delay(MS(30)));
    let (now, to) = (world.now, world.peers[1].address());
    let ping = world.peers[0].engine.stack().ping(to, now).expect("addressable");
    world.run(MS(50));
    world.introduce();
    world.run(MS(200));
    let pong = Event::Stack(StackEvent::Pong(ping, MS(60)));
    assert!(world.peers[0].saw(|event| *event == pong), "{:?}", world.peers[0].events);
    let lost = world.peers[0].engine.stack().ping("fd7a::77".parse().expect("literal"), now);
    let lost = lost.expect("addressable");
    world.run(Duration::from_secs(11));
    assert!(world.peers[0].saw(|it| *it == Event::Stack(StackEvent::PingLost(lost))));
}

#[test]
fn a_silent_peer_is_reported_and_found_again() {
    let mut world = World::new(10, LinkConfig::delay(MS(5)));
    let peer = world.peers[1].id;
    world.tell(0);
    world.run(Duration::from_secs(120));
    assert!(world.peers[0].saw(|event| *event == Event::PeerSilent(peer)));
    world.tell(1);
    world.run(Duration::from_secs(30));
    assert!(world.peers[0].saw(|event| matches!(event, Event::PeerReachable(..))));
}

#[test]
fn the_copies_wait_for_a_carrier_that_is_not_there_yet() {
    let mut world = World::new(11, LinkConfig::delay(MS(1)));
    world.wire = Some(Vec::new());
    world.carrier_room = 0;
    world.tell(0);
    world.run(MS(500));
    assert_eq!(world.wire.as_ref().map(Vec::len), Some(0));
    world.carrier_room = usize::MAX;
    world.flush();
    world.run(MS(12));
    let wire = world.wire.take().expect("recorded");
    let times: Vec<_> = wire.iter().map(|(at, ..)| (*at - world.start).as_millis()).collect();
    assert_eq!(times, [500, 502, 505, 510]);
}
