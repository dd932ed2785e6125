//! What each peer hears, step by step, and what the relay may pass.
#![allow(clippy::unwrap_used, reason = "tests")]

use coderctl_drpc::proto::tailnet::coordinate_response::peer_update::Kind;
use proptest::prelude::*;

use super::*;

const AGENT: PeerId = PeerId::from_bytes([0xa1; 16]);
const OTHER_AGENT: PeerId = PeerId::from_bytes([0xa2; 16]);
const CLIENT: PeerId = PeerId::from_bytes([0xc1; 16]);
const OTHER: PeerId = PeerId::from_bytes([0xc2; 16]);

fn key(number: u8) -> NodePublic {
    NodePublic::from_bytes([number; 32])
}

fn node(id: i64) -> proto::Node {
    proto::Node { id, ..Default::default() }
}

/// Peer, kind, node, reason; or an error.
#[derive(Debug, PartialEq)]
enum Heard {
    Of(PeerId, Kind, Option<i64>, String),
    Error(String),
    Closed(Option<String>),
}

/// Everything that waits for a session.
fn heard(core: &mut Core, session: SessionId) -> Vec<Heard> {
    let mut all = Vec::new();
    loop {
        match core.mail(session) {
            Mail::Empty => return all,
            Mail::Closed(why) => {
                all.push(Heard::Closed(why));
                return all;
            }
            Mail::Response(response) if !response.error.is_empty() => {
                all.push(Heard::Error(response.error));
            }
            Mail::Response(response) => {
                for update in response.peer_updates {
                    let kind = update.kind();
                    let peer = PeerId::from_slice(&update.id).unwrap();
                    let node = update.node.map(|node| node.id);
                    all.push(Heard::Of(peer, kind, node, update.reason));
                }
            }
        }
    }
}

fn of(peer: PeerId, kind: Kind, node: Option<i64>, reason: &str) -> Heard {
    Heard::Of(peer, kind, node, reason.to_owned())
}

/// An agent and a client, connected and introduced to each other.
fn pair(core: &mut Core) -> (SessionId, SessionId) {
    let agent = core.connect(AGENT, 0).unwrap();
    let client = core.connect(CLIENT, 0).unwrap();
    core.update_self(agent, node(1), key(1)).unwrap();
    core.add_tunnel(client, AGENT).unwrap();
    core.update_self(client, node(2), key(2)).unwrap();
    heard(core, agent);
    heard(core, client);
    (agent, client)
}

#[test]
fn nodes_go_both_ways_in_whatever_order_things_happen() {
    #[derive(Clone, Copy, Debug)]
    enum Step {
        AgentNode,
        ClientNode,
        Tunnel,
    }
    use Step::{AgentNode, ClientNode, Tunnel};
    let orders = [
        [AgentNode, ClientNode, Tunnel],
        [AgentNode, Tunnel, ClientNode],
        [ClientNode, AgentNode, Tunnel],
        [ClientNode, Tunnel, AgentNode],
        [Tunnel, AgentNode, ClientNode],
        [Tunnel, ClientNode, AgentNode],
    ];
    for order in orders {
        let mut core = Core::default();
        let agent = core.connect(AGENT, 0).unwrap();
        let client = core.connect(CLIENT, 0).unwrap();
        for step in order {
            match step {
                AgentNode => core.update_self(agent, node(1), key(1)).unwrap(),
                ClientNode => core.update_self(client, node(2), key(2)).unwrap(),
                Tunnel => assert!(core.add_tunnel(client, AGENT).unwrap()),
            }
        }
        let reason =
            |last| if matches!(order[2], Tunnel) || last { "add tunnel" } else { "node update" };
        let tunnel_after = |step: fn(&Step) -> bool| {
            order.iter().position(|s| matches!(s, Tunnel)) > order.iter().position(step)
        };
        let agents = tunnel_after(|step| matches!(step, AgentNode));
        let clients = tunnel_after(|step| matches!(step, ClientNode));
        assert_eq!(heard(&mut core, client), [of(AGENT, Kind::Node, Some(1), reason(agents))]);
        assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Node, Some(2), reason(clients))]);
    }
}

#[test]
fn nobody_hears_of_a_peer_without_a_tunnel() {
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    let other = core.connect(OTHER, 0).unwrap();
    core.update_self(other, node(3), key(3)).unwrap();
    core.update_self(client, node(4), key(2)).unwrap();
    assert_eq!(heard(&mut core, other), []);
    assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Node, Some(4), "node update")]);
    assert!(!core.permits(&key(3), &key(1), now()));
    assert!(!core.permits(&key(3), &key(2), now()));
    assert!(core.permits(&key(1), &key(2), now()) && core.permits(&key(2), &key(1), now()));
}

#[test]
fn an_agent_that_comes_later_is_told_at_once() {
    let mut core = Core::default();
    let client = core.connect(CLIENT, 0).unwrap();
    core.update_self(client, node(2), key(2)).unwrap();
    core.add_tunnel(client, AGENT).unwrap();
    assert_eq!(heard(&mut core, client), []);
    let agent = core.connect(AGENT, 0).unwrap();
    assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Node, Some(2), "init")]);
}

#[test]
fn ready_is_passed_on_to_those_with_a_tunnel() {
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.ready(agent, CLIENT).unwrap();
    assert_eq!(heard(&mut core, client), [of(AGENT, Kind::ReadyForHandshake, None, "")]);
    core.ready(agent, OTHER).unwrap();
    let words = format!("ready for handshake error: you do not share a tunnel with \"{OTHER}\"");
    assert_eq!(heard(&mut core, agent), [Heard::Error(words)]);
    assert_eq!(heard(&mut core, client), []);
}

#[test]
fn how_a_peer_goes() {
    // A client that leaves, one that is lost, one that is refused; an agent that does.
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.disconnect(client).unwrap();
    assert_eq!(heard(&mut core, client), [Heard::Closed(None)]);
    let gone = of(CLIENT, Kind::Disconnected, None, "graceful disconnect");
    assert_eq!(heard(&mut core, agent), [gone]);
    assert_eq!(core.size(), (1, 0));

    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.lost(client, Some("because".to_owned()), now());
    assert_eq!(heard(&mut core, client), [Heard::Closed(Some("because".to_owned()))]);
    assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Lost, None, "lost")]);
    assert_eq!(core.size(), (1, 0));

    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.leave(agent, now());
    assert_eq!(heard(&mut core, client), [of(AGENT, Kind::Lost, None, "lost")]);
    assert_eq!(core.size(), (1, 1), "the client still wants to reach it");
    let agent = core.connect(AGENT, 0).unwrap();
    assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Node, Some(2), "init")]);
    core.update_self(agent, node(5), key(5)).unwrap();
    assert_eq!(heard(&mut core, client), [of(AGENT, Kind::Node, Some(5), "node update")]);
}

#[test]
fn a_removed_tunnel_is_over_for_both() {
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.remove_tunnel(client, AGENT).unwrap();
    assert_eq!(heard(&mut core, client), [of(AGENT, Kind::Disconnected, None, "remove tunnel")]);
    assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Disconnected, None, "remove tunnel")]);
    assert!(!core.permits(&key(1), &key(2), now()));
    core.update_self(client, node(7), key(2)).unwrap();
    assert_eq!(heard(&mut core, agent), []);
    core.remove_tunnel(client, OTHER_AGENT).unwrap();
    assert_eq!(heard(&mut core, client), []);
}

#[test]
fn a_second_connection_takes_the_place_of_the_first() {
    let mut core = Core::default();
    let (agent, first) = pair(&mut core);
    let second = core.connect(CLIENT, 0).unwrap();
    let words = "peer ID overwritten by new connection".to_owned();
    assert_eq!(heard(&mut core, first), [Heard::Closed(Some(words))]);
    assert_eq!(heard(&mut core, agent), [], "nothing has happened to the peer");
    assert_eq!(core.update_self(first, node(9), key(9)), Err(Gone));
    assert_eq!(core.add_tunnel(first, OTHER_AGENT), Err(Gone));
    core.leave(first, now());
    assert_eq!(heard(&mut core, second), [of(AGENT, Kind::Node, Some(1), "init")]);
    core.update_self(second, node(2), key(2)).unwrap();
    core.add_tunnel(second, AGENT).unwrap();
    assert_eq!(heard(&mut core, agent), [], "an equal node is not told again");
    core.update_self(second, node(3), key(2)).unwrap();
    assert_eq!(heard(&mut core, agent), [of(CLIENT, Kind::Node, Some(3), "node update")]);
}

#[test]
fn tunnels_are_bounded() {
    let mut core = Core::default();
    let client = core.connect(CLIENT, 0).unwrap();
    let id = |number: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        PeerId::from_bytes(bytes)
    };
    for number in 0..MAX_TUNNELS as u16 {
        assert!(core.add_tunnel(client, id(number)).unwrap());
    }
    assert!(!core.add_tunnel(client, AGENT).unwrap());
    assert!(core.add_tunnel(client, id(0)).unwrap(), "one that is there already");
}

fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_lost_peer_may_be_used_for_a_while() {
    let start = now();
    let after = |minutes: u64| start + Duration::from_secs(60 * minutes);
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    let (one, two) = (key(1), key(2));
    core.leave(client, start);
    core.expire(after(14));
    assert!(core.knows(&two));
    assert!(core.permits(&two, &one, after(14)), "and is used");
    core.expire(after(28));
    assert!(core.permits(&one, &two, after(28)), "so that it lasts");
    // Both are lost, as when the server's process has trouble.
    core.leave(agent, after(28));
    assert!(core.permits(&one, &two, after(29)));
    core.expire(after(43));
    assert!(core.permits(&one, &two, after(43)));
    core.expire(after(58));
    assert!(!core.permits(&one, &two, after(58)));
    assert!(!core.knows(&one) && !core.knows(&two));
    assert_eq!((core.keys.len(), core.ghosts.len()), (0, 0));
}

#[test]
fn one_who_left_is_not_waited_for() {
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.leave(agent, now());
    core.disconnect(client).unwrap();
    assert!(!core.permits(&key(1), &key(2), now()));
    // Nor one who took leave after coming back.
    let mut core = Core::default();
    let (_, client) = pair(&mut core);
    core.leave(client, now());
    let client = core.connect(CLIENT, 0).unwrap();
    assert!(core.permits(&key(1), &key(2), now()), "it has not said yet what it wants");
    core.disconnect(client).unwrap();
    assert!(!core.permits(&key(1), &key(2), now()));
    // Nor a tunnel that was removed.
    let mut core = Core::default();
    let (agent, client) = pair(&mut core);
    core.leave(agent, now());
    core.remove_tunnel(client, AGENT).unwrap();
    assert!(!core.permits(&key(1), &key(2), now()));
}

#[test]
fn claiming_anothers_key_takes_nothing_from_it() {
    let mut core = Core::default();
    pair(&mut core);
    let thief = core.connect(OTHER, 0).unwrap();
    core.update_self(thief, node(3), key(2)).unwrap();
    assert!(core.permits(&key(2), &key(1), now()));
    core.add_tunnel(thief, OTHER_AGENT).unwrap();
    core.disconnect(thief).unwrap();
    assert!(core.permits(&key(2), &key(1), now()));
}

#[test]
fn the_generation_changes_with_the_answers() {
    let mut core = Core::default();
    let mut last = core.generation();
    let mut changed =
        |core: &Core| std::mem::replace(&mut last, core.generation()) != core.generation();
    let (_, client) = pair(&mut core);
    assert!(changed(&core));
    core.update_self(client, node(4), key(2)).unwrap();
    assert!(!changed(&core), "a node with the same key changes no answer");
    core.update_self(client, node(4), key(4)).unwrap();
    assert!(changed(&core));
    core.remove_tunnel(client, AGENT).unwrap();
    assert!(changed(&core));
    core.add_tunnel(client, AGENT).unwrap();
    assert!(changed(&core));
    core.disconnect(client).unwrap();
    assert!(changed(&core));
}

/// What may happen, to any of four peers.
#[derive(Debug, Clone)]
enum Event {
    Connect(u8),
    Node(u8, u8),
    Tunnel(u8, u8),
    NoTunnel(u8, u8),
    Ready(u8, u8),
    Disconnect(u8),
    Lost(u8),
    Read(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let p = 0..4u8;
    prop_oneof![
        p.clone().prop_map(Event::Connect),
        (p.clone(), 0..6u8).prop_map(|(p, k)| Event::Node(p, k)),
        (p.clone(), p.clone()).prop_map(|(p, q)| Event::Tunnel(p, q)),
        (p.clone(), p.clone()).prop_map(|(p, q)| Event::NoTunnel(p, q)),
        (p.clone(), p.clone()).prop_map(|(p, q)| Event::Ready(p, q)),
        p.clone().prop_map(Event::Disconnect),
        p.clone().prop_map(Event::Lost),
        p.prop_map(Event::Read),
    ]
}

proptest! {
    /// Whatever happens: once all have read, each peer knows exactly those with whom it shares a
    /// tunnel and who have a node, by their latest; the keys are those of peers and ghosts; and
    /// when all have left nothing is left.
    #[test]
    fn what_is_known_follows_from_what_is(events in prop::collection::vec(event(), 0..120)) {
        let id = |number: u8| PeerId::from_bytes([number + 1; 16]);
        let time = now();
        let mut core = Core::default();
        let mut sessions: [Option<SessionId>; 4] = [None; 4];
        let mut known: [HashMap<PeerId, i64>; 4] = Default::default();
        let mut latest = 0;
        let read = |core: &mut Core, session: SessionId, known: &mut HashMap<PeerId, i64>| {
            for heard in heard(core, session) {
                match heard {
                    Heard::Of(peer, Kind::Node, Some(node), _) => drop(known.insert(peer, node)),
                    Heard::Of(peer, Kind::Disconnected | Kind::Lost, None, _) => {
                        known.remove(&peer);
                    }
                    Heard::Of(_, Kind::ReadyForHandshake, None, _) | Heard::Error(_) | Heard::Closed(_) => {}
                    other @ Heard::Of(..) => panic!("{other:?}"),
                }
            }
        };
        for event in events {
            let session = |p: u8| sessions[usize::from(p)];
            match event {
                Event::Connect(p) => {
                    if let Some(old) = std::mem::replace(&mut sessions[usize::from(p)], core.connect(id(p), 0)) {
                        core.leave(old, time);
                    }
                    known[usize::from(p)].clear();
                }
                Event::Node(p, k) => if let Some(session) = session(p) {
                    latest += 1;
                    let _ = core.update_self(session, node(latest), key(k));
                }
                Event::Tunnel(p, q) => if let Some(session) = session(p) {
                    let _ = core.add_tunnel(session, id(q));
                }
                Event::NoTunnel(p, q) => if let Some(session) = session(p) {
                    let _ = core.remove_tunnel(session, id(q));
                }
                Event::Ready(p, q) => if let Some(session) = session(p) {
                    let _ = core.ready(session, id(q));
                }
                Event::Disconnect(p) => if let Some(session) = session(p) {
                    let _ = core.disconnect(session);
                    core.leave(session, time);
                    sessions[usize::from(p)] = None;
                }
                Event::Lost(p) => if let Some(session) = session(p) {
                    core.leave(session, time);
                    sessions[usize::from(p)] = None;
                }
                Event::Read(p) => if let Some(session) = session(p) {
                    read(&mut core, session, &mut known[usize::from(p)]);
                }
            }
        }
        for p in 0..4u8 {
            let Some(session) = sessions[usize::from(p)] else { continue };
            read(&mut core, session, &mut known[usize::from(p)]);
            let partners = core.tunnels.partners(id(p));
            // One that connected again is known by its old node until it says its new one.
            known[usize::from(p)].retain(|peer, _| {
                core.node(*peer).is_some() || !core.peers.contains_key(peer) || !partners.contains(peer)
            });
            let right: HashMap<PeerId, i64> = partners
                .into_iter()
                .filter_map(|partner| Some((partner, core.node(partner)?.id)))
                .collect();
            prop_assert_eq!(&known[usize::from(p)], &right, "peer {}", p);
        }
        for session in sessions.into_iter().flatten() {
            let _ = core.disconnect(session);
            core.leave(session, time);
        }
        core.expire(time + GHOST);
        prop_assert_eq!(core.size(), (0, 0));
        prop_assert!(core.keys.is_empty() && core.ghosts.is_empty() && core.sessions.is_empty());
    }
}

const REPLICAS: [Replica; 2] = [Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16])];

/// Two cores, and what each has told the other that has not arrived.
struct World {
    cores: [Core; 2],
    under_way: [std::collections::VecDeque<Update>; 2],
    stamp: u64,
}

impl World {
    fn new() -> Self {
        let cores = REPLICAS.map(|me| {
            let mut core = Core::default();
            core.share(me);
            core
        });
        Self { cores, under_way: Default::default(), stamp: 0 }
    }

    fn connect(&mut self, replica: usize, id: PeerId) -> SessionId {
        self.stamp += 1;
        self.cores[replica].connect(id, self.stamp).unwrap()
    }

    /// Some of what one has told arrives at the other.
    fn arrive(&mut self, from: usize, count: usize) {
        let told = self.cores[from].take_outgoing();
        self.under_way[from].extend(told);
        for _ in 0..count {
            let Some(update) = self.under_way[from].pop_front() else { return };
            self.cores[1 - from].hear(REPLICAS[from], update, now());
        }
    }

    fn settle(&mut self) {
        while self.cores.iter().any(Core::has_outgoing)
            || self.under_way.iter().any(|under_way| !under_way.is_empty())
        {
            self.arrive(0, 1000);
            self.arrive(1, 1000);
        }
    }
}

#[test]
fn an_agent_here_and_a_client_there() {
    let mut world = World::new();
    let agent = world.connect(0, AGENT);
    let client = world.connect(1, CLIENT);
    world.cores[0].update_self(agent, proper(1), key(1)).unwrap();
    world.cores[1].add_tunnel(client, AGENT).unwrap();
    world.cores[1].update_self(client, proper(2), key(2)).unwrap();
    assert!(!world.cores[1].permits(&key(2), &key(1), now()));
    world.settle();
    let [here, there] = &mut world.cores;
    assert_eq!(heard(here, agent), [of(CLIENT, Kind::Node, Some(2), "node update")]);
    assert_eq!(heard(there, client), [of(AGENT, Kind::Node, Some(1), "node update")]);
    assert!(here.permits(&key(2), &key(1), now()) && there.permits(&key(2), &key(1), now()));
    here.ready(agent, CLIENT).unwrap();
    world.settle();
    let there = &mut world.cores[1];
    assert_eq!(heard(there, client), [of(AGENT, Kind::ReadyForHandshake, None, "")]);
    there.disconnect(client).unwrap();
    world.settle();
    let gone = of(CLIENT, Kind::Disconnected, None, "graceful disconnect");
    assert_eq!(heard(&mut world.cores[0], agent), [gone]);
    for core in &mut world.cores {
        assert!(!core.permits(&key(2), &key(1), now()));
        assert_eq!(core.size(), (1, 0));
    }
}

/// A node whose key can be read.
fn proper(number: u8) -> proto::Node {
    proto::Node { key: key(number).to_prefixed().to_vec(), ..node(number.into()) }
}

#[test]
fn a_replica_that_dies_loses_its_peers_for_the_others() {
    let mut world = World::new();
    let agent = world.connect(0, AGENT);
    let client = world.connect(1, CLIENT);
    world.cores[0].update_self(agent, proper(1), key(1)).unwrap();
    world.cores[1].update_self(client, proper(2), key(2)).unwrap();
    world.cores[1].add_tunnel(client, AGENT).unwrap();
    world.settle();
    heard(&mut world.cores[1], client);
    let there = &mut world.cores[1];
    there.hear_all(REPLICAS[0], &BTreeSet::new(), now());
    assert_eq!(heard(there, client), [of(AGENT, Kind::Lost, None, "lost")]);
    assert!(there.permits(&key(2), &key(1), now()), "what is under way goes on");
    // The agent comes to the replica that is left.
    let agent = there.connect(AGENT, 100).unwrap();
    there.update_self(agent, proper(1), key(1)).unwrap();
    assert_eq!(heard(there, client), [of(AGENT, Kind::Node, Some(1), "node update")]);
    assert_eq!(heard(there, agent), [of(CLIENT, Kind::Node, Some(2), "init")]);
}

#[test]
fn a_peer_is_where_it_connected_last() {
    let mut world = World::new();
    let first = world.connect(0, CLIENT);
    world.cores[0].update_self(first, proper(1), key(1)).unwrap();
    world.settle();
    let second = world.connect(1, CLIENT);
    world.cores[1].update_self(second, proper(2), key(2)).unwrap();
    // Late news of the first connection change nothing.
    world.cores[0].update_self(first, proper(3), key(3)).unwrap();
    world.arrive(0, 10);
    assert_eq!(heard(&mut world.cores[1], second), []);
    world.settle();
    let words = "peer ID overwritten by new connection".to_owned();
    assert_eq!(heard(&mut world.cores[0], first), [Heard::Closed(Some(words))]);
    world.cores[0].leave(first, now());
    world.settle();
    for core in &world.cores {
        assert_eq!(core.node(CLIENT).map(|node| node.id), Some(2));
    }
}

proptest! {
    /// Whatever happens at two replicas, and however late they hear of it: once they have heard
    /// everything they agree on all peers, nodes and tunnels, and each session knows its partners.
    #[test]
    fn replicas_agree(
        events in prop::collection::vec((event(), 0..2usize, 0..2usize, 0..4usize), 0..120),
    ) {
        let id = |number: u8| PeerId::from_bytes([number + 1; 16]);
        let mut world = World::new();
        let mut sessions: [[Option<SessionId>; 4]; 2] = Default::default();
        for (event, replica, teller, count) in events {
            world.arrive(teller, count);
            let session = |p: u8| sessions[replica][usize::from(p)];
            let core = &mut world.cores[replica];
            match event {
                Event::Connect(p) => {
                    let new = world.connect(replica, id(p));
                    if let Some(old) = sessions[replica][usize::from(p)].replace(new) {
                        world.cores[replica].leave(old, now());
                    }
                }
                Event::Node(p, k) => if let Some(session) = session(p) {
                    let _ = core.update_self(session, proper(k + 1), key(k + 1));
                }
                Event::Tunnel(p, q) => if let Some(session) = session(p) {
                    let _ = core.add_tunnel(session, id(q));
                }
                Event::NoTunnel(p, q) => if let Some(session) = session(p) {
                    let _ = core.remove_tunnel(session, id(q));
                }
                Event::Ready(p, q) => if let Some(session) = session(p) {
                    let _ = core.ready(session, id(q));
                }
                Event::Disconnect(p) | Event::Lost(p) => if let Some(session) = session(p) {
                    if matches!(event, Event::Disconnect(_)) {
                        let _ = core.disconnect(session);
                    }
                    core.leave(session, now());
                    sessions[replica][usize::from(p)] = None;
                }
                Event::Read(p) => if let Some(session) = session(p) {
                    heard(core, session);
                }
            }
        }
        world.settle();
        let state = |core: &Core| {
            let peers: std::collections::BTreeMap<PeerId, (u64, Option<i64>)> = core
                .peers
                .iter()
                .map(|(id, peer)| (*id, (peer.since, peer.node.as_ref().map(|node| node.id))))
                .collect();
            (peers, core.tunnels.iter().collect::<BTreeSet<_>>())
        };
        prop_assert_eq!(state(&world.cores[0]), state(&world.cores[1]));
        for (replica, core) in world.cores.iter().enumerate() {
            for (peer, known) in &core.peers {
                let other = &world.cores[1 - replica].peers[peer];
                match known.place {
                    Place::Here(_) => prop_assert_eq!(other.place, Place::There(REPLICAS[replica])),
                    Place::There(_) => prop_assert!(matches!(other.place, Place::Here(_))),
                }
            }
        }
    }
}
