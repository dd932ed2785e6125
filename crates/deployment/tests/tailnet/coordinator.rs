//! The coordinator.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use coderctl_deployment::{
    coordinator::Client,
    relay::{Permits, Relay, Settings},
};
use coderctl_drpc::{
    RpcError, Session,
    proto::{
        rpc::tailnet as rpc,
        tailnet::{self as proto, coordinate_response::peer_update::Kind},
    },
};
use coderctl_tailnet::{
    control::{Control, ControlEvent, DialError, ResumeToken},
    coordinate::PeerUpdate,
    derp::Frame,
    ids::PeerId,
    keys::NodePrivate,
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};
use url::Url;
use uuid::Uuid;

use crate::{
    peers::{
        AGENT, ALICE, BOB, BOBS, Heard, Peer, coordinator, derp_map, dial, dial_agent, key, node,
    },
    support::{Raw, soon},
};

const CLOSED: [Heard; 1] = [Heard::Closed];

fn of(peer: impl Into<PeerId>, kind: Kind, node: Option<i64>) -> Heard {
    Heard::Of(peer.into(), kind, node)
}

#[tokio::test]
async fn a_client_and_an_agent_hear_of_each_other() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    for only in [None, Some(AGENT)] {
        let mut client = Peer::client(&coordinator, ALICE, only).await;
        client.tunnel(AGENT).await;
        client.update(2).await;
        assert_eq!(client.hear().await, [of(AGENT, Kind::Node, Some(1))]);
        assert_eq!(agent.hear().await, [of(client.id, Kind::Node, Some(2))]);
        agent.ready(client.id).await;
        assert_eq!(client.hear().await, [of(AGENT, Kind::ReadyForHandshake, None)]);
        client.disconnect().await;
        assert_eq!(client.hear().await, CLOSED);
        assert_eq!(agent.hear().await, [of(client.id, Kind::Disconnected, None)]);
    }
    let client = Peer::client(&coordinator, ALICE, None).await;
    drop(client);
    assert!(agent.is_silent().await, "it never asked for a tunnel");
}

#[tokio::test]
async fn a_broken_connection_is_lost_and_not_gone() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    agent.update(1).await;
    client.update(2).await;
    client.tunnel(AGENT).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
    agent.until(of(client.id, Kind::Node, Some(2))).await;
    drop(agent);
    assert_eq!(client.hear().await, [of(AGENT, Kind::Lost, None)]);
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    assert_eq!(agent.hear().await, [of(client.id, Kind::Node, Some(2))]);
    agent.update(3).await;
    assert_eq!(client.hear().await, [of(AGENT, Kind::Node, Some(3))]);
    let id = client.id;
    drop(client);
    assert_eq!(agent.hear().await, [of(id, Kind::Lost, None)]);
}

/// Dials a coordinator as Alice; each stream can be broken by the test.
fn control(
    coordinator: &coderctl_deployment::coordinator::Coordinator,
) -> (Control, mpsc::Receiver<ControlEvent>, mpsc::UnboundedReceiver<Dialed>) {
    let (note, dialed) = mpsc::unbounded_channel();
    let settings = coderctl_tailnet::control::Settings {
        server: Url::parse("http://coder.test").unwrap(),
        node: Some(node(PeerId::from_bytes([9; 16]), 2)),
        resume: None,
    };
    let coordinator = coordinator.clone();
    let dial = move |resume: Option<ResumeToken>| {
        let resumed = resume.map(|token| coordinator.resume(token.expose(), ALICE));
        let answer = match resumed {
            Some(Ok(peer)) => Ok(peer),
            None => Ok(coordinator.new_peer().unwrap()),
            Some(Err(_)) => Err(DialError::from_response(401, b"{}")),
        };
        let answer = answer.map(|peer| {
            let (stream, task) = dial(&coordinator, Client { peer, user: ALICE, only: None });
            note.send(Dialed { peer, task }).unwrap();
            stream
        });
        async move { answer as Result<DuplexStream, DialError> }
    };
    let (control, events) = Control::start(settings, dial);
    (control, events, dialed)
}

struct Dialed {
    peer: PeerId,
    task: tokio::task::JoinHandle<()>,
}

#[tokio::test]
async fn the_control_connection_of_a_client_works_with_it() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    let (control, mut events, mut dialed) = control(&coordinator);
    control.add_tunnel(AGENT.into());
    // Both come, in whatever order.
    let (mut map, mut known) = (None, None);
    while map.is_none() || known.is_none() {
        match soon(events.recv()).await.unwrap() {
            ControlEvent::DerpMap(told) => map = Some(told),
            ControlEvent::Peer(PeerUpdate::Node(peer, node)) => known = Some((peer, node.key)),
            ControlEvent::Connected | ControlEvent::Peer(_) => {}
            event @ (ControlEvent::Down(_) | ControlEvent::Refused(_)) => panic!("{event:?}"),
        }
    }
    assert_eq!(map.map(|map| map.regions.len()), Some(2));
    assert_eq!(known, Some((AGENT.into(), key(1))));
    let first = soon(dialed.recv()).await.unwrap();
    agent.until(of(first.peer, Kind::Node, Some(2))).await;

    // The connection breaks: the client comes back as who it was, by its token.
    first.task.abort();
    agent.until(of(first.peer, Kind::Lost, None)).await;
    let second = soon(dialed.recv()).await.unwrap();
    assert_eq!(second.peer, first.peer);
    agent.until(of(first.peer, Kind::Node, Some(2))).await;

    // It takes leave and is heard.
    assert!(control.close().await);
    agent.until(of(first.peer, Kind::Disconnected, None)).await;
}

#[tokio::test]
async fn nobody_reaches_another_users_agent() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    let refused = "authorization: workspace agent not found or you do not have permission";
    let other = format!("authorization: invalid agent id, expected {BOBS}, got {AGENT}");
    let nobody = Uuid::from_bytes([1; 16]);
    for (only, to, words) in [
        (None, AGENT, refused),
        (None, nobody, refused),
        (Some(BOBS), AGENT, &other[..]),
        // The endpoint of an agent to which he had access when he came.
        (Some(AGENT), AGENT, refused),
    ] {
        let mut bob = Peer::client(&coordinator, BOB, only).await;
        bob.update(2).await;
        bob.tunnel(to).await;
        assert_eq!(bob.hear().await, [Heard::Error(words.to_owned())]);
        assert_eq!(bob.hear().await, CLOSED);
    }
    assert!(agent.is_silent().await);
    assert!(!coordinator.permits(&key(2), &key(1)));
}

#[tokio::test]
async fn nobody_reaches_another_users_agent_through_the_relay() {
    let (coordinator, _) = coordinator();
    let relay = Relay::new(Settings::default(), Arc::new(coordinator.clone())).unwrap();
    let [agents, alices, bobs] = [1, 2, 3].map(|number| NodePrivate::new([number; 32]));
    let known = |peer: PeerId, key: &NodePrivate| {
        coderctl_tailnet::node::Node { key: key.public(), ..node(peer, 1) }.to_proto()
    };
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update_with(known(agent.id, &agents)).await;
    let mut alice = Peer::client(&coordinator, ALICE, None).await;
    alice.update_with(known(alice.id, &alices)).await;
    let mut bob = Peer::client(&coordinator, BOB, None).await;
    bob.update_with(known(bob.id, &bobs)).await;
    let mut target = Raw::login(&relay, &agents).await;
    let [mut alice_raw, mut bob_raw] =
        [Raw::login(&relay, &alices).await, Raw::login(&relay, &bobs).await];
    let send = async |raw: &mut Raw, packet: &[u8]| {
        let frame = Frame::SendPacket { to: agents.public(), payload: packet.into() };
        raw.say(&frame).await;
        raw.say(&Frame::Ping(*b"12345678")).await;
        assert_eq!(raw.frame().await, Some(Frame::Pong(*b"12345678")));
    };
    // Bob knows the agent's key from somewhere; Alice has not asked for a tunnel yet.
    send(&mut bob_raw, b"bob").await;
    send(&mut alice_raw, b"alice, early").await;
    alice.tunnel(AGENT).await;
    alice.until(of(AGENT, Kind::Node, Some(1))).await;
    send(&mut alice_raw, b"alice").await;
    send(&mut bob_raw, b"bob again").await;
    // He claims to have Alice's key, which does not give him a relay connection under it.
    bob.update_with(known(bob.id, &alices)).await;
    send(&mut bob_raw, b"bob as alice").await;
    let from_alice =
        |packet: &[u8]| Frame::RecvPacket { from: alices.public(), payload: packet.into() };
    assert_eq!(target.frame().await, Some(from_alice(b"alice")));
    // Her connection breaks; what is under way goes on.
    drop(alice);
    agent.until_lost().await;
    send(&mut alice_raw, b"alice, lost").await;
    assert_eq!(target.frame().await, Some(from_alice(b"alice, lost")));
    assert_eq!(relay.stats().refused, 4);
}

impl Peer {
    /// Hears until somebody is lost.
    async fn until_lost(&mut self) {
        while !self.hear().await.iter().any(|heard| matches!(heard, Heard::Of(_, Kind::Lost, _))) {}
    }
}

#[tokio::test]
async fn an_agent_has_no_address_but_its_own_and_opens_no_tunnels() {
    let (coordinator, _) = coordinator();
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    let foreign = node(BOBS.into(), 1).to_proto();
    let words = format!("invalid node address, got {}", PeerId::from(BOBS).agent_address());
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update_with(foreign).await;
    assert_eq!(agent.hear().await, [Heard::Error(words)]);
    assert_eq!(agent.hear().await, CLOSED);
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.tunnel(BOBS).await;
    let words = "authorization: agents cannot open tunnels".to_owned();
    assert_eq!(agent.hear().await, [Heard::Error(words)]);
    assert!(client.is_silent().await);
}

#[tokio::test]
async fn what_a_client_must_not_say() {
    let (coordinator, rules) = coordinator();
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    client.ready(AGENT.into()).await;
    let words = "authorization: clients may not send ready_for_handshake".to_owned();
    assert_eq!(client.hear().await, [Heard::Error(words)]);
    assert_eq!(client.hear().await, CLOSED);
    // While it cannot be found out, nothing is allowed.
    rules.down.store(true, Ordering::Relaxed);
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    let heard = client.hear().await;
    assert!(
        matches!(&heard[..], [Heard::Error(words)] if words.contains("try again")),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_second_connection_takes_the_place_of_the_first() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    client.update(2).await;
    client.tunnel(AGENT).await;
    agent.until(of(client.id, Kind::Node, Some(2))).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
    let mut again =
        Peer::resumed(&coordinator, Client { peer: client.id, user: ALICE, only: None }).await;
    let words = "peer ID overwritten by new connection".to_owned();
    assert_eq!(client.hear().await, [Heard::Error(words)]);
    assert_eq!(client.hear().await, CLOSED);
    drop(client);
    assert_eq!(again.hear().await, [of(AGENT, Kind::Node, Some(1))]);
    again.update(3).await;
    assert_eq!(agent.hear().await, [of(again.id, Kind::Node, Some(3))]);
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_nobody_and_misses_nothing_new() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    let mut loud = Peer::client(&coordinator, ALICE, None).await;
    let mut quiet = Peer::client(&coordinator, ALICE, None).await;
    loud.tunnel(AGENT).await;
    quiet.tunnel(AGENT).await;
    // Large nodes, many more than the agent's window holds; it reads none of them yet.
    let mut large = node(loud.id, 2).to_proto();
    large.hostname = "x".repeat(10_000);
    for number in 0..1_000 {
        large.id = number;
        loud.update_with(large.clone()).await;
    }
    quiet.update(9).await;
    quiet.until(of(AGENT, Kind::Node, Some(1))).await;
    loud.until(of(AGENT, Kind::Node, Some(1))).await;
    agent.update(3).await;
    quiet.until(of(AGENT, Kind::Node, Some(3))).await;
    loud.until(of(AGENT, Kind::Node, Some(3))).await;
    // Now it does: a part of the history, the last of each.
    let (mut last, mut count, mut other) = (None, 0, false);
    while last != Some(999) || !other {
        for heard in agent.hear().await {
            let Heard::Of(peer, Kind::Node, number) = heard else { panic!("{heard:?}") };
            if peer == loud.id {
                assert!(last < number);
                last = number;
                count += 1;
            } else {
                assert_eq!((peer, number), (quiet.id, Some(9)));
                other = true;
            }
        }
    }
    assert!(count < 100, "{count}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_lost_in_the_end() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    client.update(2).await;
    let start = Instant::now();
    let mut large = node(agent.id, 1).to_proto();
    large.hostname = "x".repeat(60_000);
    for number in 0..20 {
        large.id = number;
        agent.update_with(large.clone()).await;
        // So that each is told.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(agent.hear().await, [of(client.id, Kind::Node, Some(2))]);
    assert_eq!(agent.hear().await, [of(client.id, Kind::Lost, None)]);
    let waited = start.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(32)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn one_who_asks_without_end_waits() {
    let (coordinator, _) = coordinator();
    let mut client = Peer::client(&coordinator, ALICE, None).await;
    let start = Instant::now();
    for number in 0..4_000 {
        let mut node = node(client.id, 1).to_proto();
        node.id = number;
        client.update_with(node).await;
    }
    client.disconnect().await;
    assert_eq!(client.hear().await, CLOSED);
    // 1,024 at once, 256 a second.
    let took = start.elapsed().as_secs();
    assert!((11..13).contains(&took), "{took} s");
}

#[tokio::test]
async fn the_relay_map_is_told_again_when_it_changes() {
    let (coordinator, _) = coordinator();
    let client = Peer::client(&coordinator, ALICE, None).await;
    let agent = Peer::agent(&coordinator, AGENT).await;
    let mut maps = Vec::new();
    for peer in [&client, &agent] {
        let request = proto::StreamDerpMapsRequest {};
        let stream = peer.client.server_stream(rpc::STREAM_DERP_MAPS, &request).await.unwrap();
        maps.push(stream);
    }
    let next = async |maps: &mut Vec<coderctl_drpc::Receiver<proto::DerpMap>>| {
        let mut all = Vec::new();
        for map in maps {
            all.push(soon(map.recv()).await.unwrap().unwrap());
        }
        all
    };
    let first = derp_map("http://coder.test").to_proto();
    assert_eq!(next(&mut maps).await, [first.clone(), first]);
    coordinator.set_derp_map(derp_map("http://coder.test"));
    coordinator.set_derp_map(derp_map("https://other.test"));
    let second = derp_map("https://other.test").to_proto();
    assert_eq!(next(&mut maps).await, [second.clone(), second]);
}

#[tokio::test]
async fn the_other_calls() {
    let (coordinator, _) = coordinator();
    let client = Peer::client(&coordinator, ALICE, None).await;
    let agent = Peer::agent(&coordinator, AGENT).await;
    let token: proto::RefreshResumeTokenResponse = client
        .client
        .unary(rpc::REFRESH_RESUME_TOKEN, &proto::RefreshResumeTokenRequest {})
        .await
        .unwrap();
    assert_eq!(coordinator.resume(&token.token, ALICE), Ok(client.id));
    assert!(coordinator.resume(&token.token, BOB).is_err());
    assert_eq!(token.peer_id, client.id.to_bytes());
    for peer in [&client, &agent] {
        let telemetry = proto::TelemetryRequest::default();
        let taken: Result<proto::TelemetryResponse, _> =
            peer.client.unary(rpc::POST_TELEMETRY, &telemetry).await;
        assert!(taken.is_ok());
        let unknown: Result<proto::TelemetryResponse, RpcError> =
            peer.client.unary("/coder.tailnet.v2.Tailnet/Nothing", &telemetry).await;
        assert!(unknown.unwrap_err().is_unimplemented());
    }
}

#[tokio::test]
async fn it_stops_in_order() {
    let (coordinator, _) = coordinator();
    let (stream, theirs) = tokio::io::duplex(64 << 10);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let peer = coordinator.new_peer().unwrap();
    let serving = coordinator.clone();
    let task = tokio::spawn(async move {
        let client = Client { peer, user: ALICE, only: None };
        let stop = async { stopped.await.unwrap_or_default() };
        serving.serve_client(theirs, client, stop).await;
    });
    let client = coderctl_drpc::Client::connect(stream);
    let (_requests, mut responses) = client
        .stream::<proto::CoordinateRequest, proto::CoordinateResponse>(rpc::COORDINATE)
        .await
        .unwrap();
    soon(async {
        while coordinator.size().0 == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.send(()).unwrap();
    assert!(soon(responses.recv()).await.is_err());
    soon(task).await.unwrap();
    assert_eq!(coordinator.size(), (0, 0));
}

#[tokio::test]
async fn many_come_and_go() {
    let (coordinator, _) = coordinator();
    let mut agent = Peer::agent(&coordinator, AGENT).await;
    agent.update(1).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = Peer::client(&coordinator, ALICE, None).await;
        client.update(2).await;
        client.tunnel(AGENT).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.until(of(AGENT, Kind::Node, Some(1))).await;
    }
    assert_eq!(coordinator.size(), (201, 200));
    for (number, mut client) in clients.into_iter().enumerate() {
        if number % 2 == 0 {
            client.disconnect().await;
            assert_eq!(client.hear().await, CLOSED);
        }
    }
    soon(async {
        while coordinator.size() != (1, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// Garbage where yamux belongs, where dRPC belongs, where messages belong: the others do not
    /// notice.
    #[test]
    fn garbage_does_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 1..2000),
        layer in 0..3u8,
        from_agent: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (coordinator, _) = coordinator();
            let peer = coordinator.new_peer().unwrap();
            let (mut stream, task) = if from_agent {
                dial_agent(&coordinator, BOBS)
            } else {
                dial(&coordinator, Client { peer, user: BOB, only: None })
            };
            match layer {
                0 => drop(stream.write_all(&bytes).await),
                1 => {
                    let session = Session::client(stream, coderctl_drpc::Config::default());
                    let mut stream = session.open().await.unwrap();
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.flush().await;
                    session.close().await;
                }
                _ => {
                    // A message of one field of bytes is any request's beginning.
                    let client = coderctl_drpc::Client::connect(stream);
                    let (mut requests, mut responses) = client
                        .stream::<proto::RefreshResumeTokenResponse, proto::CoordinateResponse>(
                            rpc::COORDINATE,
                        )
                        .await
                        .unwrap();
                    let garbage = proto::RefreshResumeTokenResponse {
                        peer_id: bytes.clone(),
                        token: String::from_utf8_lossy(&bytes).into_owned(),
                        ..Default::default()
                    };
                    let _ = requests.send(&garbage).await;
                    let _ = requests.close_send().await;
                    while let Ok(Some(_)) = soon(responses.recv()).await {}
                }
            }
            let mut agent = Peer::agent(&coordinator, AGENT).await;
            let mut client = Peer::client(&coordinator, ALICE, None).await;
            agent.update(1).await;
            client.tunnel(AGENT).await;
            client.until(of(AGENT, Kind::Node, Some(1))).await;
            task.abort();
        });
    }
}
