//! Several coordinators that coordinate as one.

use std::{sync::Arc, time::Duration};

use coderctl_deployment::{
    coordinator::{Client, Coordinator},
    pubsub::{Fate, Pubsub},
    relay::Permits,
};
use coderctl_drpc::proto::tailnet::coordinate_response::peer_update::Kind;
use coderctl_tailnet::ids::PeerId;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use url::Url;
use uuid::Uuid;

use crate::{
    peers::{AGENT, ALICE, Heard, Peer, coordinator, key},
    support::soon,
};

/// A coordinator that shares. Aborting its task is what killing its process is to the others.
struct Replica {
    coordinator: Coordinator,
    id: Uuid,
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Replica {
    fn start(pubsub: &Pubsub, number: u8) -> Self {
        let (coordinator, _) = coordinator();
        let id = Uuid::from_bytes([number; 16]);
        let relay = Url::parse(&format!("http://relay{number}.test")).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn({
            let (coordinator, pubsub) = (coordinator.clone(), pubsub.clone());
            async move {
                let stop = async { stopped.await.unwrap_or_default() };
                coordinator.share(&pubsub, id, Some(relay), stop).await;
            }
        });
        Self { coordinator, id, task, stop: Some(stop) }
    }

    async fn until_knows(&self, number: u8) {
        soon(async {
            while !self.coordinator.knows(&key(number)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn until_size(&self, size: (usize, usize)) {
        soon(async {
            while self.coordinator.size() != size {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

fn of(peer: impl Into<PeerId>, kind: Kind, node: Option<i64>) -> Heard {
    Heard::Of(peer.into(), kind, node)
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_one_and_a_client_of_another() {
    let pubsub = Pubsub::in_process();
    let [one, two, three] = [1, 2, 3].map(|number| Replica::start(&pubsub, number));
    let mut agent = Peer::agent(&one.coordinator, AGENT).await;
    let mut client = Peer::client(&two.coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    client.update(2).await;
    agent.update(1).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
    agent.until(of(client.id, Kind::Node, Some(2))).await;
    agent.ready(client.id).await;
    client.until(of(AGENT, Kind::ReadyForHandshake, None)).await;
    // Their relay connections may be anywhere.
    three.until_size((2, 1)).await;
    for replica in [&one, &two, &three] {
        assert!(replica.coordinator.permits(&key(1), &key(2)));
        assert!(!replica.coordinator.permits(&key(1), &key(3)));
    }
    // One that comes later is told all of it.
    let four = Replica::start(&pubsub, 4);
    four.until_size((2, 1)).await;
    assert!(four.coordinator.permits(&key(1), &key(2)));
    let mut relays = four.coordinator.relays();
    let others: Vec<Uuid> =
        soon(relays.wait_for(|relays| relays.len() == 3)).await.unwrap().keys().copied().collect();
    assert_eq!(others, [one.id, two.id, three.id]);

    client.disconnect().await;
    agent.until(of(client.id, Kind::Disconnected, None)).await;
    four.until_size((1, 0)).await;
    assert!(!four.coordinator.permits(&key(1), &key(2)));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_replica_had_is_lost_and_comes_back_elsewhere() {
    let pubsub = Pubsub::in_process();
    let [one, two] = [1, 2].map(|number| Replica::start(&pubsub, number));
    let mut agent = Peer::agent(&one.coordinator, AGENT).await;
    agent.update(1).await;
    let mut client = Peer::client(&two.coordinator, ALICE, None).await;
    client.update(2).await;
    client.tunnel(AGENT).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
    let start = Instant::now();
    one.task.abort();
    client.until(of(AGENT, Kind::Lost, None)).await;
    let waited = start.elapsed();
    assert!((Duration::from_secs(4)..=Duration::from_secs(8)).contains(&waited), "{waited:?}");
    assert!(two.coordinator.permits(&key(1), &key(2)), "packets still flow");
    assert!(two.coordinator.relays().borrow().is_empty());
    let mut agent = Peer::agent(&two.coordinator, AGENT).await;
    assert_eq!(agent.hear().await, [of(client.id, Kind::Node, Some(2))]);
    agent.update(1).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_stops_says_so() {
    let pubsub = Pubsub::in_process();
    let [mut one, two] = [1, 2].map(|number| Replica::start(&pubsub, number));
    let mut agent = Peer::agent(&one.coordinator, AGENT).await;
    agent.update(1).await;
    let mut client = Peer::client(&two.coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
    let start = Instant::now();
    drop(one.stop.take());
    client.until(of(AGENT, Kind::Lost, None)).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_to_another_replica_is_the_same() {
    let pubsub = Pubsub::in_process();
    let [one, two] = [1, 2].map(|number| Replica::start(&pubsub, number));
    let mut agent = Peer::agent(&one.coordinator, AGENT).await;
    agent.update(1).await;
    let mut client = Peer::client(&one.coordinator, ALICE, None).await;
    client.update(2).await;
    client.tunnel(AGENT).await;
    agent.until(of(client.id, Kind::Node, Some(2))).await;
    two.until_knows(2).await;
    let resumed = Client { peer: client.id, user: ALICE, only: None };
    let mut again = Peer::resumed(&two.coordinator, resumed).await;
    again.update(2).await;
    again.tunnel(AGENT).await;
    again.until(of(AGENT, Kind::Node, Some(1))).await;
    let words = "peer ID overwritten by new connection".to_owned();
    client.until(Heard::Error(words)).await;
    assert_eq!(client.hear().await, [Heard::Closed]);
    again.update(3).await;
    agent.until(of(client.id, Kind::Node, Some(3))).await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_lost_or_doubled_are_made_up_for() {
    let pubsub = Pubsub::in_process();
    let [one, two] = [1, 2].map(|number| Replica::start(&pubsub, number));
    one.until_size((0, 0)).await;
    let mut agent = Peer::agent(&one.coordinator, AGENT).await;
    let mut client = Peer::client(&two.coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    for (number, fate) in [(1, Fate::Drop), (2, Fate::Duplicate), (3, Fate::Drop)] {
        pubsub.set_fault(Some(Arc::new(move |_, _| fate)));
        agent.update(number).await;
        // So that it is told while nothing arrives, or all of it twice.
        tokio::time::sleep(Duration::from_millis(100)).await;
        pubsub.set_fault(None);
        client.until(of(AGENT, Kind::Node, Some(number.into()))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_cut_off_hears_what_it_missed() {
    let pubsub = Pubsub::in_process();
    let [one, two] = [1, 2].map(|number| Replica::start(&pubsub, number));
    let mut agent = Peer::agent(&one.coordinator, AGENT).await;
    let mut client = Peer::client(&two.coordinator, ALICE, None).await;
    client.tunnel(AGENT).await;
    agent.update(1).await;
    client.until(of(AGENT, Kind::Node, Some(1))).await;
    pubsub.set_fault(Some(Arc::new(|_, _| Fate::Drop)));
    client.until(of(AGENT, Kind::Lost, None)).await;
    agent.update(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    pubsub.set_fault(None);
    client.until(of(AGENT, Kind::Node, Some(2))).await;
}
