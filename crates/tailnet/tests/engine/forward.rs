//! An agent: it is reached, and decides what is reached.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use coderctl_tailnet::engine::{Event, PeerUpdate, Role, Traffic};
use coderctl_tailnet::ids::{PeerId, Prefix};
use coderctl_tailnet::stack::{
    Arrival, CloseReason, ConnectionId, StackError, StackEvent, SynId, TcpEvent, UdpId,
};
use coderctl_tailnet::wg::Handshake;

use crate::sim::traffic::{Drain, Source};
use crate::sim::{Kind, LinkConfig, World};

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECOND: Duration = Duration::from_secs(1);

/// A client (0) and an agent (1) that forwards.
fn world(seed: u64, kind: Kind, link: LinkConfig) -> World {
    let mut world = World::of_kind(seed, link, kind);
    let now = world.now;
    let agent = &mut world.peers[1];
    let addresses = [Prefix::Tailscale, Prefix::Coder].map(|prefix| prefix.address(agent.id));
    agent.engine.set_role(Role::Agent);
    agent.engine.set_addresses(&addresses, now).expect("two addresses");
    agent.engine.stack().forward();
    agent.node.addresses = addresses.to_vec();
    world
}

fn connect(world: &mut World, to: SocketAddrV6) -> ConnectionId {
    let now = world.now;
    let id = world.peers[0].engine.stack().connect(to, now).expect("addressable");
    world.flush();
    id
}

/// The SYNs that wait at the agent.
fn syns(world: &mut World) -> Vec<SynId> {
    let stack = world.peers[1].engine.stack();
    std::iter::from_fn(|| stack.poll_arrival())
        .map(|arrival| match arrival {
            Arrival::Tcp { id, .. } => id,
            Arrival::Udp { .. } => panic!("nobody sent datagrams"),
        })
        .collect()
}

fn client_saw(world: &World, event: StackEvent) -> bool {
    world.peers[0].saw(|it| *it == Event::Stack(event))
}

#[test]
fn a_syn_hears_nothing_until_somebody_decides() {
    let mut world = world(1, Kind::Noise, LinkConfig::delay(MS(5)));
    world.introduce();
    let to = world.peers[1].at(8080);
    let id = connect(&mut world, to);
    world.run(MS(500));
    let arrivals: Vec<_> =
        std::iter::from_fn(|| world.peers[1].engine.stack().poll_arrival()).collect();
    let [Arrival::Tcp { id: syn, local, remote }] = arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!((local, *remote.ip()), (to, world.peers[0].address()));
    assert_eq!(world.peers[1].engine.peer_at(remote.ip()), Some(world.peers[0].id));
    // It is repeated, and nothing is allocated for it.
    world.run(5 * SECOND);
    assert!(world.peers[0].engine.stack().stats().retransmitted >= 2);
    assert_eq!(syns(&mut world), []);
    assert_eq!(world.peers[1].engine.stack().connections(), 0);
    assert!(!client_saw(&world, StackEvent::Tcp(TcpEvent::Connected(id))));

    let now = world.now;
    let accepted = world.peers[1].engine.stack().accept_syn(syn, now).expect("it waits");
    world.flush();
    world.run(MS(30));
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Connected(id))));
    assert!(
        world.peers[1]
            .saw(|it| *it == Event::Stack(StackEvent::Tcp(TcpEvent::Connected(accepted))))
    );
    assert_eq!(world.peers[1].engine.stack().established(), [(8080, remote)]);
}

#[test]
fn a_refused_syn_is_a_refused_connection() {
    let mut world = world(2, Kind::Noise, LinkConfig::delay(MS(5)));
    world.introduce();
    let to = world.peers[1].at(8080);
    let id = connect(&mut world, to);
    world.run(MS(100));
    let [syn] = syns(&mut world)[..] else { panic!("one SYN") };
    let now = world.now;
    world.peers[1].engine.stack().refuse_syn(syn);
    world.flush();
    world.run(MS(10));
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Ended(id, CloseReason::Refused))));
    // A decision is made once.
    assert_eq!(world.peers[1].engine.stack().accept_syn(syn, now), None);
    assert_eq!(world.peers[1].engine.stack().connections(), 0);
}

#[test]
fn data_flows_both_ways_and_each_half_closes_alone() {
    let mut world = world(3, Kind::Noise, LinkConfig::delay(MS(2)));
    world.introduce();
    let to = world.peers[1].at(9);
    let id = connect(&mut world, to);
    world.run(MS(50));
    let [syn] = syns(&mut world)[..] else { panic!("one SYN") };
    let now = world.now;
    let accepted = world.peers[1].engine.stack().accept_syn(syn, now).expect("it waits");
    let total = 3 << 20;
    let (mut up, mut down) = (Source::new(id, 1, total), Source::new(accepted, 2, total));
    let (mut got_up, mut got_down) = (Drain::new(accepted, 1), Drain::new(id, 2));
    let (mut up_done, mut down_done) = (false, false);
    // The client sends all and closes; only then the agent begins.
    world.run_until(60 * SECOND, |world| {
        let now = world.now;
        let [client, agent] = &mut world.peers;
        up.pump(client.engine.stack(), now).expect("open");
        up_done |= got_up.pump(agent.engine.stack(), now).expect("open");
        if up_done {
            down.pump(agent.engine.stack(), now).expect("half of it is still open");
            down_done |= got_down.pump(client.engine.stack(), now).expect("open");
        }
        down_done
    });
    assert_eq!((got_up.received, got_down.received), (total, total));
    world.run(SECOND);
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Ended(id, CloseReason::Finished))));
}

#[test]
fn a_syn_that_was_taken_back_cannot_be_accepted() {
    let mut world = world(4, Kind::Plain, LinkConfig::delay(MS(5)));
    world.introduce();
    let to = world.peers[1].at(8080);
    let id = connect(&mut world, to);
    world.run(MS(100));
    let [syn] = syns(&mut world)[..] else { panic!("one SYN") };
    let now = world.now;
    world.peers[0].engine.stack().abort(id, now);
    world.flush();
    world.run(MS(100));
    let now = world.now;
    assert_eq!(world.peers[1].engine.stack().accept_syn(syn, now), None);
}

#[test]
fn one_whose_sender_vanished_times_out() {
    let mut world = world(5, Kind::Plain, LinkConfig::delay(MS(5)));
    world.introduce();
    let to = world.peers[1].at(8080);
    connect(&mut world, to);
    world.run(MS(100));
    let [syn] = syns(&mut world)[..] else { panic!("one SYN") };
    world.links[1].config.loss = 1_000_000;
    let now = world.now;
    let id = world.peers[1].engine.stack().accept_syn(syn, now).expect("it waits");
    world.flush();
    world.links[0].config.loss = 1_000_000;
    world.run(40 * SECOND);
    let status = world.peers[1].engine.stack().status(id).expect("named");
    assert_eq!(status.ended, Some(CloseReason::TimedOut));
    let now = world.now;
    world.peers[1].engine.stack().release(id, now);
    world.run(40 * SECOND);
    assert_eq!(world.peers[1].engine.stack().connections(), 0);
}

#[test]
fn a_syn_is_forgotten_with_its_peer() {
    let mut world = world(6, Kind::Plain, LinkConfig::delay(MS(5)));
    world.introduce();
    let to = world.peers[1].at(8080);
    connect(&mut world, to);
    world.run(MS(100));
    world.update(1, PeerUpdate::Gone);
    assert_eq!(syns(&mut world), []);
}

#[test]
fn the_agent_answers_at_both_of_its_addresses() {
    for prefix in [Prefix::Tailscale, Prefix::Coder] {
        let mut world = world(7, Kind::Noise, LinkConfig::delay(MS(5)));
        world.introduce();
        let address = prefix.address(world.peers[1].id);
        let now = world.now;
        let ping = world.peers[0].engine.stack().ping(address, now).expect("addressable");
        let id = connect(&mut world, SocketAddrV6::new(address, 22, 0, 0));
        world.run(MS(100));
        let [syn] = syns(&mut world)[..] else { panic!("one SYN") };
        let now = world.now;
        world.peers[1].engine.stack().accept_syn(syn, now).expect("it waits");
        world.flush();
        world.run(MS(50));
        assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Connected(id))), "{prefix:?}");
        let pong = |it: &Event| matches!(it, Event::Stack(StackEvent::Pong(id, _)) if *id == ping);
        assert!(world.peers[0].saw(pong), "{prefix:?}");
    }
}

#[test]
fn another_agent_id_is_other_addresses() {
    let mut world = world(8, Kind::Noise, LinkConfig::delay(MS(5)));
    world.introduce();
    let old = world.peers[1].at(80);
    let id = connect(&mut world, old);
    let waiting = connect(&mut world, old);
    world.run(MS(100));
    let [syn, held] = syns(&mut world)[..] else { panic!("two SYNs") };
    let now = world.now;
    let accepted = world.peers[1].engine.stack().accept_syn(syn, now).expect("it waits");
    world.flush();
    world.run(MS(50));
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Connected(id))));

    let new = [Prefix::Tailscale, Prefix::Coder].map(|it| it.address(PeerId::from_bytes([9; 16])));
    let now = world.now;
    world.peers[1].engine.set_addresses(&new, now).expect("two addresses");
    world.flush();
    world.run(MS(50));
    // The client hears of it at once, and nobody waits for the old address.
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Ended(id, CloseReason::Reset))));
    assert!(
        world.peers[1].saw(|it| *it
            == Event::Stack(StackEvent::Tcp(TcpEvent::Ended(accepted, CloseReason::Reset))))
    );
    let now = world.now;
    assert_eq!(world.peers[1].engine.stack().accept_syn(held, now), None);
    world.run(2 * SECOND);
    assert!(!client_saw(&world, StackEvent::Tcp(TcpEvent::Connected(waiting))));

    // Tunnel and keys are the same; the node says the rest.
    world.peers[1].node.addresses = new.to_vec();
    world.tell(0);
    let id = connect(&mut world, SocketAddrV6::new(new[0], 80, 0, 0));
    world.run(MS(50));
    let [syn] = syns(&mut world)[..] else { panic!("one SYN") };
    let now = world.now;
    world.peers[1].engine.stack().accept_syn(syn, now).expect("it waits");
    world.flush();
    world.run(MS(50));
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Connected(id))));
    assert_eq!(world.peers[0].engine.tunnel_stats().handshakes_completed, 1);
}

#[test]
fn addresses_that_cannot_be_ours_are_refused() {
    let mut world = world(9, Kind::Plain, LinkConfig::delay(MS(5)));
    let now = world.now;
    let engine = &mut world.peers[1].engine;
    let before = engine.stack().addresses().to_vec();
    let good = before[0];
    let cases = [
        (vec![], StackError::Unaddressable),
        (vec![good, Ipv6Addr::LOCALHOST], StackError::Unaddressable),
        (vec![good; 3], StackError::TooMany),
    ];
    for (addresses, error) in cases {
        assert_eq!(engine.set_addresses(&addresses, now), Err(error));
        assert_eq!(engine.stack().addresses(), before);
    }
}

#[test]
fn an_agent_begins_no_handshake_until_it_has_something_to_say() {
    let mut world = world(10, Kind::Noise, LinkConfig::delay(MS(5)));
    world.wire = Some(Vec::new());
    world.tell(1);
    world.run(200 * SECOND);
    assert_eq!(world.wire.as_ref().map(Vec::len), Some(0));
    assert_eq!(world.wakeups[1], 0, "an idle agent sleeps");
    assert_eq!(world.peers[1].engine.handshake(world.peers[0].id), Some(Handshake::Idle));
    let (now, to) = (world.now, world.peers[0].address());
    world.peers[1].engine.stack().ping(to, now).expect("addressable");
    world.flush();
    assert_eq!(world.wire.as_ref().map(Vec::len), Some(1));
}

#[test]
fn an_address_belongs_to_the_peer_that_has_it() {
    let mut world = world(11, Kind::Plain, LinkConfig::delay(MS(5)));
    world.introduce();
    let now = world.now;
    let (owner, address) = (world.peers[0].id, world.peers[0].address());
    let ours = world.peers[1].address();
    let thief = PeerId::from_bytes([3; 16]);
    let mut node = crate::sim::SimPeer::new(3, 11, Kind::Plain, now).node;
    let own = node.addresses[0];
    node.addresses = vec![own, address, ours];
    let agent = &mut world.peers[1].engine;
    let node = || PeerUpdate::Node(Box::new(node.clone()));
    agent.handle_peer(thief, node(), now);
    assert_eq!(agent.peer_at(&address), Some(owner));
    assert_eq!(agent.peer_at(&ours), None);
    assert_eq!(agent.peer_at(&own), Some(thief));
    assert_eq!(agent.stats().wrong_claims, 2);
    // One that nobody sees any more may have come back under another name.
    agent.handle_peer(owner, PeerUpdate::Lost, now);
    agent.handle_peer(thief, node(), now);
    assert_eq!(agent.peer_at(&address), Some(thief));
}

#[test]
fn a_packet_from_an_address_that_is_not_the_peers_is_dropped() {
    let mut world = world(12, Kind::Noise, LinkConfig::delay(MS(5)));
    world.introduce();
    world.run(MS(50));
    // The client sends from an address that its node does not name.
    let other = Prefix::Coder.address(PeerId::from_bytes([77; 16]));
    let now = world.now;
    world.peers[0].engine.set_addresses(&[other], now).expect("one address");
    let to = world.peers[1].at(80);
    connect(&mut world, to);
    world.run(MS(100));
    assert_eq!(syns(&mut world), []);
    assert_eq!(world.peers[1].engine.stats().wrong_address, 1);
    assert_eq!(world.peers[1].engine.traffic().rx_packets, 0);
}

#[test]
fn traffic_is_counted_at_both_ends_alike() {
    let mut world = world(13, Kind::Noise, LinkConfig::delay(MS(5)));
    world.introduce();
    let (now, to) = (world.now, world.peers[1].address());
    world.peers[0].engine.stack().ping(to, now).expect("addressable");
    world.flush();
    world.run(MS(100));
    // A ping has 49 bytes, a pong 51; what WireGuard pads does not count.
    let agent = Traffic { rx_packets: 1, rx_bytes: 49, tx_packets: 1, tx_bytes: 51 };
    assert_eq!(world.peers[1].engine.traffic(), agent);
    let client = Traffic { rx_packets: 1, rx_bytes: 51, tx_packets: 1, tx_bytes: 49 };
    assert_eq!(world.peers[0].engine.traffic(), client);
    let now = world.now;
    let infos = world.peers[1].engine.peer_infos(now);
    assert_eq!(infos.len(), 1);
    assert_eq!((infos[0].id, infos[0].traffic, infos[0].lost), (world.peers[0].id, agent, false));
    assert!(infos[0].last_handshake.is_some_and(|age| age < SECOND));
    // What a peer that is gone had counts on.
    world.update(1, PeerUpdate::Gone);
    assert_eq!(world.peers[1].engine.traffic(), agent);
}

#[test]
fn datagrams_of_one_port_to_another_are_a_flow() {
    let mut world = world(14, Kind::Plain, LinkConfig::delay(MS(5)));
    world.introduce();
    let here = world.peers[0].engine.stack().udp_bind(Some(5000)).expect("free");
    let to = SocketAddrV6::new(Prefix::Coder.address(world.peers[1].id), 53, 0, 0);
    let send = |world: &mut World, payload: &[u8]| {
        world.peers[0].engine.stack().udp_send(here, to, payload).expect("fits");
        world.flush();
        world.run(MS(50));
    };
    send(&mut world, b"first");
    let arrival = world.peers[1].engine.stack().poll_arrival();
    let Some(Arrival::Udp { id, local, remote }) = arrival else { panic!("{arrival:?}") };
    assert_eq!((local, remote), (to, world.peers[0].at(5000)));
    send(&mut world, b"second");
    assert!(world.peers[1].saw(|it| *it == Event::Stack(StackEvent::UdpReadable(id))));
    let stack = world.peers[1].engine.stack();
    assert_eq!(stack.poll_arrival(), None);
    let got: Vec<_> = std::iter::from_fn(|| stack.udp_recv(id)).map(|(_, it)| it).collect();
    assert_eq!(got, [&b"first"[..], b"second"]);
    // The answer comes from the address that was asked.
    stack.udp_send(id, remote, b"answer").expect("fits");
    world.flush();
    world.run(MS(50));
    let answer = world.peers[0].engine.stack().udp_recv(here);
    assert_eq!(answer.as_ref().map(|(from, it)| (*from, &it[..])), Some((to, &b"answer"[..])));
    // A flow that was ended begins anew.
    world.peers[1].engine.stack().udp_close(id);
    send(&mut world, b"third");
    let again: Option<UdpId> = match world.peers[1].engine.stack().poll_arrival() {
        Some(Arrival::Udp { id, .. }) => Some(id),
        Some(Arrival::Tcp { .. }) | None => None,
    };
    assert!(again.is_some_and(|again| again != id));
}

#[test]
fn without_forwarding_closed_ports_refuse_at_once() {
    let mut world = World::new(15, LinkConfig::delay(MS(5)));
    world.introduce();
    let to = world.peers[1].at(8080);
    let id = connect(&mut world, to);
    world.run(MS(100));
    assert!(client_saw(&world, StackEvent::Tcp(TcpEvent::Ended(id, CloseReason::Refused))));
    assert_eq!(world.peers[1].engine.stack().poll_arrival(), None);
}
