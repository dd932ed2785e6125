//! What an agent tells its coordinator, and what it makes of what it hears.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::control::CoordinationEnd;
use coderctl_tailnet::derp_map::DerpMap;
use coderctl_tailnet::ids::{NodeId, PeerId, Prefix};
use coderctl_tailnet::keys::{DiscoPrivate, NodePrivate};
use coderctl_tailnet::node::Node;
use coderctl_tailnet::shell::{AGENT_PING_TIMEOUT, ConnectionInfo, InfoRequest, Status};
use proto::coordinate_response::peer_update::Kind;
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;

use crate::coordinator::Said;
use crate::world::{AGENT, World, client_id, map, soon};

fn nodes(said: &[Said]) -> Vec<Node> {
    said.iter()
        .filter_map(|said| match said {
            Said::Node(node) => Some(Node::parse((**node).clone()).unwrap()),
            Said::Ready(_) | Said::Wants(_) | Said::Goodbye => None,
        })
        .collect()
}

fn count(said: &[Said], what: impl Fn(&Said) -> bool) -> usize {
    said.iter().filter(|said| what(said)).count()
}

#[tokio::test]
async fn it_says_who_it_is_and_that_it_is_ready_and_wants_nobody() {
    let (mut world, _session) = World::with_agent();
    let client = world.client(1);
    world.open(&client, 22).await;
    let ready = Said::Ready(vec![client_id(1)]);
    soon(world.coordinator.until_said(AGENT, |said| said.contains(&ready))).await;
    let said = world.coordinator.said(AGENT);
    let nodes = nodes(&said);
    assert_eq!(nodes.len(), 1);
    let addresses = [Prefix::Tailscale, Prefix::Coder].map(|prefix| prefix.address(AGENT));
    assert_eq!(nodes[0].addresses, addresses);
    assert_eq!((nodes[0].id, nodes[0].home.get()), (NodeId::from_peer(AGENT), 999));
    assert!(nodes[0].endpoints.is_empty());
    assert_eq!(nodes[0].hostname, "agent");
    assert_eq!(count(&said, |said| matches!(said, Said::Wants(_) | Said::Goodbye)), 0);
}

#[tokio::test]
async fn every_node_of_a_client_is_acknowledged() {
    let (world, _session) = World::with_agent();
    soon(world.coordinator.until_said(AGENT, |said| !said.is_empty())).await;
    let node = |number: u8, home: i32| proto::Node {
        preferred_derp: home,
        ..Node {
            id: NodeId::new(1),
            as_of: None,
            key: NodePrivate::new([number; 32]).public(),
            disco: DiscoPrivate::new([number; 32]).public(),
            home: coderctl_tailnet::ids::RegionId::EMBEDDED,
            derp_latency: Default::default(),
            derp_forced_websocket: Default::default(),
            addresses: vec![client_id(number).client_address()],
            endpoints: Vec::new(),
            short_description: String::new(),
            hostname: String::new(),
        }
        .to_proto()
    };
    for home in [999, 999, 0, 998] {
        world.coordinator.tell(AGENT, client_id(7), Kind::Node, Some(node(7, home)));
    }
    // The one without a home relay is of no use, and the agent cannot be ready for it.
    let ready = |said: &[Said]| {
        let ids = said.iter().map(|said| match said {
            Said::Ready(ids) => ids.len(),
            Said::Node(_) | Said::Wants(_) | Said::Goodbye => 0,
        });
        ids.sum::<usize>()
    };
    world.coordinator.tell(AGENT, client_id(8), Kind::Node, Some(node(8, 999)));
    let last = |said: &Said| matches!(said, Said::Ready(ids) if ids.contains(&client_id(8)));
    soon(world.coordinator.until_said(AGENT, |said| said.iter().any(last))).await;
    // Those that were heard together may be answered together.
    let ready = ready(&world.coordinator.said(AGENT));
    assert!((2..=4).contains(&ready), "{ready}");
    assert_eq!(world.agent.stats().peers.len(), 2);
}

#[tokio::test]
async fn after_a_reconnect_it_says_who_it_is_again() {
    let (world, session) = World::with_agent();
    soon(world.coordinator.until_said(AGENT, |said| said.len() == 1)).await;
    session.abandon().await;
    let _session = world.session(AGENT);
    soon(world.coordinator.until_said(AGENT, |said| said.len() == 2)).await;
    let nodes = nodes(&world.coordinator.said(AGENT));
    assert_eq!(nodes[0].key, nodes[1].key);
    assert_eq!(nodes[0].disco, nodes[1].disco);
}

#[tokio::test]
async fn a_second_session_takes_over_from_the_first() {
    let (mut world, first) = World::with_agent();
    soon(world.coordinator.until_said(AGENT, |said| said.len() == 1)).await;
    let second = world.session(AGENT);
    // The coordinator closes the first connection, too; either may be noticed first.
    let ended = first.ended().await;
    assert!(matches!(ended, CoordinationEnd::Replaced | CoordinationEnd::Failed(_)), "{ended:?}");
    soon(world.coordinator.until_said(AGENT, |said| said.len() == 2)).await;
    let client = world.client(1);
    world.open(&client, 22).await;
    second.abandon().await;
}

#[tokio::test]
async fn leaving_is_heard() {
    let (mut world, session) = World::with_agent();
    let client = world.client(1);
    let (mut theirs, _ours) = world.open(&client, 22).await;
    assert!(soon(world.agent.leave()).await);
    assert!(matches!(session.ended().await, CoordinationEnd::Left));
    assert_eq!(world.coordinator.said(AGENT).last(), Some(&Said::Goodbye));
    // The client does not wait for an agent that has left.
    let error = soon(theirs.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    // It does not come back.
    assert!(matches!(world.session(AGENT).ended().await, CoordinationEnd::Left));
}

#[tokio::test]
async fn closing_ends_everything() {
    let (mut world, session) = World::with_agent();
    let client = world.client(1);
    let (_theirs, mut ours) = world.open(&client, 22).await;
    soon(world.agent.close()).await;
    assert!(matches!(session.ended().await, CoordinationEnd::Left));
    let mut incoming = world.incoming.take().unwrap();
    assert!(soon(incoming.next()).await.is_none());
    let error = soon(ours.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(soon(world.agent.ping(client_id(1))).await.is_err());
    // Again is no harm, and neither is an agent that never coordinated.
    soon(world.agent.close()).await;
    soon(World::new().agent.close()).await;
}

#[tokio::test]
async fn another_agent_id_after_a_reconnect() {
    let (mut world, session) = World::with_agent();
    let client = world.client(1);
    let (mut theirs, mut ours) = world.open(&client, 22).await;
    session.abandon().await;
    let other = PeerId::from_bytes([0xb7; 16]);
    world.agent.set_agent(other);
    let reset = soon(ours.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    let reset = soon(theirs.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    let _session = world.session(other);
    soon(world.coordinator.until_said(other, |said| !said.is_empty())).await;
    let nodes = nodes(&world.coordinator.said(other));
    let addresses = [Prefix::Tailscale, Prefix::Coder].map(|prefix| prefix.address(other));
    assert_eq!((nodes[0].id, &nodes[0].addresses[..]), (NodeId::from_peer(other), &addresses[..]));
    let client = world.client_of(2, other);
    let handle = client.handle();
    let accept = async { world.syn().await.accept().await };
    let (stream, accepted) = soon(async { tokio::join!(handle.connect(other, 22), accept) }).await;
    stream.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn a_map_without_the_home_relay_moves_it() {
    let (mut world, _session) = World::with_agent();
    soon(world.coordinator.until_said(AGENT, |said| said.len() == 1)).await;
    world.coordinator.set_map(map(&[7]));
    soon(world.coordinator.until_said(AGENT, |said| said.len() == 2)).await;
    assert_eq!(nodes(&world.coordinator.said(AGENT))[1].home.get(), 7);
    let mut status = world.agent.status();
    soon(status.wait_for(|status| status.relay && status.home.is_some_and(|it| it.get() == 7)))
        .await
        .unwrap();
    let client = world.client(1);
    world.open(&client, 22).await;
    // So does one that came with a manifest.
    let map = DerpMap::from_proto(map(&[8])).unwrap();
    world.agent.set_map(map);
    soon(world.coordinator.until_said(AGENT, |said| nodes(said).len() == 3)).await;
    assert_eq!(nodes(&world.coordinator.said(AGENT))[2].home.get(), 8);
}

#[tokio::test]
async fn a_client_that_leaves_is_forgotten_and_one_that_is_lost_is_not() {
    let (mut world, _session) = World::with_agent();
    let (first, second) = (world.client(1), world.client(2));
    let (_theirs, mut ours) = world.open(&first, 22).await;
    let (mut kept, mut answering) = world.open(&second, 22).await;
    soon(first.close()).await;
    let error = soon(ours.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    world.coordinator.cut(client_id(2));
    tokio::io::AsyncWriteExt::write_all(&mut kept, b"x").await.unwrap();
    soon(answering.read_exact(&mut [0; 1])).await.unwrap();
    let peers = world.agent.stats().peers;
    assert_eq!(peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [client_id(2)]);
}

#[tokio::test]
async fn peers_are_pinged_and_counted() {
    let (mut world, _session) = World::with_agent();
    let client = world.client(1);
    let (_theirs, _ours) = world.open(&client, 22).await;
    let (_more, _and) = world.open(&client, 22).await;
    let (_other, _port) = world.open(&client, 2).await;
    let took = soon(world.agent.ping(client_id(1))).await.unwrap();
    assert!(took < AGENT_PING_TIMEOUT);
    let stats = world.agent.stats();
    assert_eq!(stats.tcp.into_iter().collect::<Vec<_>>(), [(2, 1), (22, 2)]);
    let peer = &stats.peers[0];
    assert_eq!((peer.id, peer.lost, peer.traffic), (client_id(1), false, stats.traffic));
    assert!(peer.last_handshake.is_some_and(|age| age < Duration::from_secs(60)));
    assert!(stats.traffic.rx_packets >= 7 && stats.traffic.rx_bytes >= 7 * 60);
    let error = world.agent.ping(client_id(9)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}

/// The server may want something else when it is back.
#[tokio::test]
async fn a_client_whose_coordinator_is_back_asks_again_for_the_ways() {
    let (world, _session) = World::with_agent();
    let (allowed, mut asked) = (Arc::new(Semaphore::new(0)), 0);
    let info = {
        let allowed = Arc::clone(&allowed);
        move || -> InfoRequest {
            asked += 10;
            let map = DerpMap::from_proto(map(&[asked])).unwrap();
            let allowed = Arc::clone(&allowed);
            Box::pin(async move {
                allowed.acquire().await.unwrap().forget();
                Ok(ConnectionInfo { map, ..ConnectionInfo::default() })
            })
        }
    };
    let client = world.client_with(1, AGENT, Box::new(info));
    let mut status = client.status();
    for (from_coordinator, from_info) in [("r999", "r10"), ("r999", "r20")] {
        for (region, answers) in [(from_coordinator, 0), (from_info, 1)] {
            allowed.add_permits(answers);
            let is_this = |status: &Status| status.regions.values().eq([region]);
            soon(status.wait_for(is_this)).await.unwrap();
        }
        world.coordinator.cut(client_id(1));
    }
}
