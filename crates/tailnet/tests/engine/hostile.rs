//! What strangers send.

use std::time::Duration;

use bytes::BytesMut;
use coderctl_tailnet::packet::Packet;
use coderctl_tailnet::stack::StackConfig;
use proptest::prelude::*;

use crate::sim::{Kind, LinkConfig, SimPeer, World, peer::region};

/// A world with a session and a connection to disturb.
fn busy() -> World {
    let mut world = World::new(1, LinkConfig::delay(Duration::from_millis(1)));
    world.introduce();
    let stack = world.peers[1].engine.stack();
    stack.listen(80, 4).expect("free");
    stack.udp_bind(Some(53)).expect("free");
    let (now, to) = (world.now, world.peers[1].at(80));
    world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.run(Duration::from_millis(20));
    world
}

/// An IPv6 packet from A to B with these upper bytes.
fn packet(world: &World, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let (from, to) = (world.peers[0].address(), world.peers[1].address());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&(upper.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, 64]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(upper);
    packet
}

/// The same with the checksum made right, so that it gets further.
fn summed(world: &World, protocol: u8, at: usize, mut upper: Vec<u8>) -> Vec<u8> {
    let (from, to) = (world.peers[0].address(), world.peers[1].address());
    if let Some(field) = upper.get_mut(at..at + 2) {
        field.fill(0);
        let sum = coderctl_tcp::checksum(&from, &to, protocol, &upper);
        upper[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet(world, protocol, &upper)
}

fn give(world: &mut World, packet: &[u8]) {
    let now = world.now;
    world.peers[1].engine.stack().ingest(packet, now);
    world.flush();
    world.run(Duration::from_millis(5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_datagram_is_survived(datagrams in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut world = busy();
        let (now, from) = (world.now, world.peers[0].key);
        for datagram in &datagrams {
            for kind in [None, Some(1), Some(2), Some(3), Some(4)] {
                let mut datagram = BytesMut::from(&datagram[..]);
                if let (Some(kind), Some(first)) = (kind, datagram.first_mut()) {
                    *first = kind;
                }
                world.peers[1].engine.handle_relay_packet(region(), &from, datagram, now);
            }
        }
        world.run(Duration::from_secs(1));
    }

    #[test]
    fn any_noise_message_is_survived(body in prop::collection::vec(any::<u8>(), 148), kind in 0_u8..6) {
        let mut world = World::of_kind(1, LinkConfig::delay(Duration::from_millis(1)), Kind::Noise);
        world.introduce();
        let (now, from) = (world.now, world.peers[0].key);
        for len in [0, 1, 4, 16, 31, 32, 33, 64, 92, 148] {
            let mut datagram = BytesMut::from(&body[..len]);
            if len >= 4 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            world.peers[1].engine.handle_relay_packet(region(), &from, datagram, now);
        }
        world.run(Duration::from_millis(20));
    }

    #[test]
    fn any_packet_in_the_tunnel_is_survived(
        upper in prop::collection::vec(any::<u8>(), 0..100),
        protocol in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 58, 59, 60, 99, 255]),
        cut in 0_usize..140,
    ) {
        let mut world = busy();
        let whole = packet(&world, protocol, &upper);
        give(&mut world, &whole);
        let cut = &whole[..cut.min(whole.len())];
        give(&mut world, cut);
        prop_assert!(Packet::parse(cut).is_err() || cut.len() == whole.len());
    }

    #[test]
    fn any_segment_with_a_right_checksum_is_survived(
        segments in prop::collection::vec((
            prop::sample::select(vec![80_u16, 81, 0]),
            prop::sample::select(vec![0_u16, 1, 50_000]),
            any::<u32>(), any::<u32>(), any::<u8>(), 5_u8..16, any::<u16>(),
            prop::collection::vec(any::<u8>(), 0..64),
        ), 1..12),
    ) {
        let mut world = busy();
        for (to, from, sequence, acknowledgement, flags, words, window, rest) in segments {
            let mut upper = Vec::new();
            upper.extend_from_slice(&from.to_be_bytes());
            upper.extend_from_slice(&to.to_be_bytes());
            upper.extend_from_slice(&sequence.to_be_bytes());
            upper.extend_from_slice(&acknowledgement.to_be_bytes());
            upper.extend_from_slice(&[words << 4, flags]);
            upper.extend_from_slice(&window.to_be_bytes());
            upper.extend_from_slice(&[0; 4]);
            upper.extend_from_slice(&rest);
            let packet = summed(&world, 6, 16, upper);
            give(&mut world, &packet);
        }
        world.run(Duration::from_secs(90));
    }

    #[test]
    fn any_datagram_or_ping_with_a_right_checksum_is_survived(
        upper in prop::collection::vec(any::<u8>(), 8..80), to in prop::sample::select(vec![53_u16, 9]),
    ) {
        let mut world = busy();
        let mut datagram = upper.clone();
        datagram[2..4].copy_from_slice(&to.to_be_bytes());
        let len = datagram.len() as u16;
        datagram[4..6].copy_from_slice(&len.to_be_bytes());
        let datagram = summed(&world, 17, 6, datagram);
        give(&mut world, &datagram);
        let echo = summed(&world, 58, 2, upper);
        give(&mut world, &echo);
    }
}

#[test]
fn packets_of_foreign_addresses_are_dropped_and_counted() {
    let mut world = World::new(2, LinkConfig::delay(Duration::from_millis(1)));
    // A sends from another address than the one B was told.
    let other = StackConfig::new("fd7a:115c:a1e0::bad".parse().expect("literal"), 1);
    let told = world.peers[0].node.clone();
    world.peers[0] = SimPeer::with_config(1, 1, other, Kind::Plain, world.now);
    world.peers[0].node = told;
    world.introduce();
    world.run(Duration::from_millis(20));
    let (now, to) = (world.now, world.peers[1].address());
    world.peers[0].engine.stack().ping(to, now).expect("addressable");
    world.flush();
    world.run(Duration::from_millis(20));
    assert_eq!(world.peers[1].engine.stats().wrong_address, 1);
    assert_eq!(world.peers[1].engine.stack().stats().packets_in, 0);
}

#[test]
fn a_flood_of_syns_takes_no_more_than_the_backlog() {
    let mut world = busy();
    let before = world.peers[1].engine.stack().connections();
    for port in 1000..3000_u16 {
        let mut upper = Vec::new();
        upper.extend_from_slice(&port.to_be_bytes());
        upper.extend_from_slice(&80_u16.to_be_bytes());
        upper.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        let packet = summed(&world, 6, 16, upper);
        let now = world.now;
        world.peers[1].engine.stack().ingest(&packet, now);
    }
    let after = world.peers[1].engine.stack().connections();
    // One of the four places is taken by the connection that exists.
    assert_eq!(after - before, 3);
    assert_eq!(world.peers[1].engine.stack().stats().overflow, 1997);
}
