//! The same path with real WireGuard. Its noise library reads the clock itself, so these runs stay
//! within a moment of virtual time.

use std::time::Duration;

use bytes::BytesMut;
use coderctl_tailnet::engine::Event;
use coderctl_tailnet::stack::{StackEvent, TcpEvent};

use crate::sim::traffic::{Drain, Source};
use crate::sim::{Kind, LinkConfig, World, peer::region};

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn one_handshake_and_a_megabyte() {
    let mut world = World::of_kind(1, LinkConfig::delay(MS(1)), Kind::Noise);
    world.wire = Some(Vec::new());
    let (now, to) = (world.now, world.peers[1].at(80));
    let listener = world.peers[1].engine.stack().listen(80, 8).expect("free");
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    // As with a Go agent: it learns of us first and does not begin by itself.
    world.peers[1].engine.handle_peer(
        world.peers[0].id,
        coderctl_tailnet::engine::PeerUpdate::Node(Box::new(world.peers[0].node.clone())),
        now,
    );
    // What B would initiate is lost.
    world.links[1].config.loss = 1_000_000;
    world.flush();
    world.links[1].config.loss = 0;
    world.tell(0);
    let mut source = Source::new(id, 1, 1 << 20);
    let mut drain = None;
    world.run_until(Duration::from_secs(20), |world| {
        let now = world.now;
        source.pump(world.peers[0].engine.stack(), now).expect("sends");
        let stack = world.peers[1].engine.stack();
        drain = drain.take().or_else(|| stack.accept(listener).map(|(id, _)| Drain::new(id, 1)));
        drain.as_mut().is_some_and(|drain| drain.pump(stack, now).expect("receives"))
    });
    let stats = world.peers[0].engine.tunnel_stats();
    assert_eq!((stats.handshakes_initiated, stats.handshakes_completed), (1, 1));
    let wire = world.wire.take().expect("recorded");
    let responses = wire.iter().filter(|(_, who, datagram)| *who == 1 && datagram[0] == 2).count();
    assert_eq!(responses, 1);
    assert!(wire.iter().all(|(_, _, datagram)| datagram.len() <= 1312));
}

#[test]
fn copies_of_a_lost_initiation_are_equal_and_one_is_enough() {
    let mut world = World::of_kind(2, LinkConfig::delay(MS(1)), Kind::Noise);
    world.wire = Some(Vec::new());
    world.tell(0);
    world.run(MS(30));
    // The agent's configuration arrives late; what it initiates itself is lost.
    world.links[1].config.loss = 1_000_000;
    world.tell(1);
    world.run(MS(10));
    world.links[1].config.loss = 0;
    world.run_until(MS(60), |world| {
        world.peers[0].saw(|event| matches!(event, Event::PeerReachable(..)))
    });
    let wire = world.wire.take().expect("recorded");
    let sent: Vec<_> =
        wire.iter().filter(|(_, who, datagram)| *who == 0 && datagram[0] == 1).collect();
    assert_eq!(sent.len(), 6);
    assert!(sent.iter().all(|(_, _, datagram)| *datagram == sent[0].2 && datagram.len() == 148));
    assert_eq!(world.peers[0].engine.tunnel_stats().handshakes_initiated, 1);
}

#[test]
fn crossing_initiations_end_in_a_working_tunnel() {
    let mut world = World::of_kind(3, LinkConfig::delay(MS(5)), Kind::Noise);
    world.introduce();
    world.run(MS(50));
    let (now, to) = (world.now, world.peers[1].at(80));
    world.peers[1].engine.stack().listen(80, 8).expect("free");
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.flush();
    world.run_until(MS(100), |world| {
        world.peers[0].saw(|event| *event == Event::Stack(StackEvent::Tcp(TcpEvent::Connected(id))))
    });
}

#[test]
fn replayed_and_damaged_datagrams_are_refused_and_counted() {
    let mut world = World::of_kind(4, LinkConfig::delay(MS(1)), Kind::Noise);
    world.introduce();
    world.run(MS(50));
    world.wire = Some(Vec::new());
    let (now, to) = (world.now, world.peers[1].address());
    world.peers[0].engine.stack().ping(to, now).expect("addressable");
    world.flush();
    world.run(MS(10));
    let wire = world.wire.take().expect("recorded");
    let sealed = &wire.iter().find(|(_, who, it)| *who == 0 && it[0] == 4).expect("a ping").2;
    let (now, from) = (world.now, world.peers[0].key);
    let before = world.peers[1].engine.stats();
    let mut damaged = sealed.clone();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let stranger = coderctl_tailnet::keys::NodePrivate::new([99; 32]).public();
    let engine = &mut world.peers[1].engine;
    engine.handle_relay_packet(region(), &from, sealed.clone(), now);
    engine.handle_relay_packet(region(), &from, damaged, now);
    engine.handle_relay_packet(region(), &from, BytesMut::new(), now);
    engine.handle_relay_packet(region(), &from, BytesMut::from(&[4_u8; 40][..]), now);
    engine.handle_relay_packet(region(), &stranger, sealed.clone(), now);
    let after = engine.stats();
    assert_eq!(after.not_opened - before.not_opened, 4);
    assert_eq!(after.unknown_key - before.unknown_key, 1);
}
