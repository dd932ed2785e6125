//! UDP, echo, and the order in which things leave.

use std::net::SocketAddrV6;
use std::time::Duration;

use coderctl_tailnet::engine::Event;
use coderctl_tailnet::packet::MAX_UDP_PAYLOAD;
use coderctl_tailnet::stack::{DatagramError, StackError, StackEvent};

use crate::sim::{LinkConfig, World};

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn datagrams_go_there_and_back() {
    let mut world = World::new(1, LinkConfig::delay(MS(5)));
    world.introduce();
    let here = world.peers[0].engine.stack().udp_bind(None).expect("a free port");
    let there = world.peers[1].engine.stack().udp_bind(Some(53)).expect("free");
    let to = world.peers[1].at(53);
    for payload in [&b""[..], b"question", &[7; MAX_UDP_PAYLOAD]] {
        world.peers[0].engine.stack().udp_send(here, to, payload).expect("fits");
        world.flush();
        world.run(MS(50));
        assert!(world.peers[1].saw(|it| *it == Event::Stack(StackEvent::UdpReadable(there))));
        world.peers[1].events.clear();
        let (from, got) = world.peers[1].engine.stack().udp_recv(there).expect("arrived");
        assert_eq!(&got[..], payload);
        let port = world.peers[0].engine.stack().udp_port(here).expect("bound");
        assert_eq!(from, SocketAddrV6::new(world.peers[0].address(), port, 0, 0));
        world.peers[1].engine.stack().udp_send(there, from, b"answer").expect("fits");
        world.flush();
        world.run(MS(50));
        let (_, got) = world.peers[0].engine.stack().udp_recv(here).expect("arrived");
        assert_eq!(&got[..], b"answer");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut world = World::new(2, LinkConfig::delay(MS(5)));
    let to = world.peers[1].at(53);
    let stack = world.peers[0].engine.stack();
    let id = stack.udp_bind(Some(1000)).expect("free");
    assert_eq!(stack.udp_bind(Some(1000)), Err(StackError::PortInUse));
    let long = [0; MAX_UDP_PAYLOAD + 1];
    assert_eq!(stack.udp_send(id, to, &long), Err(DatagramError::TooLong(long.len())));
    let multicast = SocketAddrV6::new("ff02::1".parse().expect("literal"), 1, 0, 0);
    assert_eq!(stack.udp_send(id, multicast, b"x"), Err(DatagramError::Unaddressable));
    stack.udp_close(id);
    assert_eq!(stack.udp_send(id, to, b"x"), Err(DatagramError::Unknown));
    assert!(stack.udp_bind(Some(1000)).is_ok());
}

#[test]
fn a_socket_that_is_not_read_holds_a_bounded_amount() {
    let mut world = World::new(3, LinkConfig::delay(MS(1)));
    world.introduce();
    world.run(MS(20));
    let here = world.peers[0].engine.stack().udp_bind(None).expect("a free port");
    let there = world.peers[1].engine.stack().udp_bind(Some(53)).expect("free");
    let to = world.peers[1].at(53);
    for _ in 0..1000 {
        world.peers[0].engine.stack().udp_send(here, to, &[1; 1000]).expect("room");
        world.flush();
    }
    world.run(MS(50));
    let mut count = 0;
    while world.peers[1].engine.stack().udp_recv(there).is_some() {
        count += 1;
    }
    assert_eq!(count, 256 * 1024 / 1064);
    assert_eq!(world.peers[1].engine.stack().stats().overflow, 1000 - count);
}

#[test]
fn a_full_carrier_loses_nothing() {
    let link = LinkConfig::delay(MS(5)).rate(20_000_000).queue(4);
    let mut world = World::new(4, link);
    world.carrier_room = 4;
    world.introduce();
    let (now, to) = (world.now, world.peers[1].at(80));
    let listener = world.peers[1].engine.stack().listen(80, 8).expect("free");
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    let mut source = crate::sim::traffic::Source::new(id, 1, 500_000);
    let mut drain = None;
    world.run_until(Duration::from_secs(30), |world| {
        let now = world.now;
        source.pump(world.peers[0].engine.stack(), now).expect("sends");
        let stack = world.peers[1].engine.stack();
        drain = drain.take().or_else(|| {
            stack.accept(listener).map(|(id, _)| crate::sim::traffic::Drain::new(id, 1))
        });
        drain.as_mut().is_some_and(|drain| drain.pump(stack, now).expect("receives"))
    });
    assert_eq!((world.links[0].dropped, world.links[1].dropped), (0, 0));
    assert_eq!(world.peers[0].engine.stack().stats().retransmitted, 0);
}
