//! Relays of several replicas: packets for another's clients go to it, and nobody else is one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coderctl_deployment::relay::{Ended, MeshKey, Relay, Settings};
use coderctl_tailnet::{
    derp::{
        Connection, Event, Frame, PeerGone, SendError,
        frame::MAX_PACKET,
        login::{self, ClientInfo},
    },
    keys::NodePublic,
};
use coderctl_transport::{Options, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::interval,
};
use url::Url;
use uuid::Uuid;

use crate::support::{Raw, Table, client, key, packets, soon};

/// What relays of one deployment know.
const KEY: [u8; 32] = [7; 32];

/// How often a test looks whether something is so.
const LOOK: Duration = Duration::from_millis(5);

/// A relay with a listener, which the others find.
struct Member {
    relay: Relay,
    url: Url,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Relays that share a key and a table.
struct Mesh {
    table: Arc<Table>,
    relays: watch::Sender<BTreeMap<Uuid, Url>>,
}

impl Mesh {
    fn new() -> Self {
        Self { table: Arc::default(), relays: watch::Sender::default() }
    }

    async fn add(&self, number: u8) -> Member {
        let settings = Settings { mesh_key: Some(MeshKey::new(&KEY)), ..Settings::default() };
        let relay = Relay::new(settings, self.table.clone()).unwrap();
        self.add_again(number, relay).await
    }

    /// The same relay, at another address.
    async fn add_again(&self, number: u8, relay: Relay) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let id = Uuid::from_bytes([number; 16]);
        self.relays.send_modify(|relays| drop(relays.insert(id, url.clone())));
        let accept = tokio::spawn(accept(listener, relay.clone()));
        // Each is told of the others only.
        let (others, told) = watch::channel(BTreeMap::new());
        let mut all = self.relays.subscribe();
        let tell = tokio::spawn(async move {
            loop {
                let mut relays = all.borrow_and_update().clone();
                relays.remove(&id);
                others.send_replace(relays);
                if all.changed().await.is_err() {
                    return;
                }
            }
        });
        let linking = relay.clone();
        let link = tokio::spawn(async move {
            let transport = Transport::new(Options::default()).unwrap();
            linking.mesh(told, &transport, "127.0.0.1").await;
        });
        Member { relay, url, tasks: vec![accept, tell, link] }
    }

    fn remove(&self, number: u8) {
        let id = Uuid::from_bytes([number; 16]);
        self.relays.send_modify(|relays| drop(relays.remove(&id)));
    }
}

/// Serves connections after the least of HTTP; those that are under way end with it.
async fn accept(listener: TcpListener, relay: Relay) {
    let mut served = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let relay = relay.clone();
        served.spawn(async move {
            if let Some(stream) = upgrade(stream).await {
                relay.serve(stream).await;
            }
        });
    }
}

async fn upgrade(mut stream: TcpStream) -> Option<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    assert!(head.starts_with(b"GET /derp HTTP/1.1\r\n"));
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.ok()?;
    Some(stream)
}

/// Waits until something is so.
async fn until(so: impl Fn() -> bool) {
    let mut look = interval(LOOK);
    soon(async {
        while !so() {
            look.tick().await;
        }
    })
    .await;
}

/// Waits for this packet, and says whose it is.
async fn arrived(to: &mut Connection, packet: &[u8]) -> NodePublic {
    loop {
        let all = packets(to).await;
        if let Some((from, _)) = all.iter().find(|(_, payload)| payload == packet) {
            return *from;
        }
    }
}

/// Sends until it arrives: relays hear of each other's clients when they do.
async fn carried(
    from: &Connection,
    to: &mut Connection,
    key: &NodePublic,
    packet: &[u8],
) -> NodePublic {
    let mut again = interval(LOOK);
    let send = async {
        loop {
            again.tick().await;
            from.try_send(key, packet).unwrap();
        }
    };
    tokio::select! {
        never = send => never,
        received = arrived(to, packet) => received,
    }
}

#[tokio::test]
async fn clients_of_two_relays_reach_each_other() {
    let mesh = Mesh::new();
    let [one, two] = [mesh.add(1).await, mesh.add(2).await];
    let (a, b) = (key(1), key(2));
    mesh.table.join(a.public(), b.public());
    let mut here = client(&one.relay, &a).await;
    let mut there = client(&two.relay, &b).await;
    assert_eq!(carried(&here, &mut there, &b.public(), b"question").await, a.public());
    assert_eq!(carried(&there, &mut here, &a.public(), b"answer").await, b.public());
    // The way is known now: nothing is lost.
    let mut disco = vec![0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];
    disco.resize(100, 9);
    for packet in [&[7; 1400][..], &[8; MAX_PACKET], &disco] {
        here.try_send(&b.public(), packet).unwrap();
        assert_eq!(arrived(&mut there, packet).await, a.public());
    }
}

#[tokio::test]
async fn without_a_tunnel_nothing_passes_between_relays() {
    let mesh = Mesh::new();
    let [one, two] = [mesh.add(1).await, mesh.add(2).await];
    let [a, b, c] = [key(1), key(2), key(3)];
    mesh.table.join(a.public(), b.public());
    mesh.table.know(c.public());
    let owner = client(&one.relay, &a).await;
    let stranger = client(&one.relay, &c).await;
    let mut agent = client(&two.relay, &b).await;
    stranger.try_send(&b.public(), b"let me in").unwrap();
    assert_eq!(carried(&owner, &mut agent, &b.public(), b"it is me").await, a.public());
    stranger.try_send(&b.public(), b"let me in").unwrap();
    until(|| one.relay.stats().refused == 2).await;
    assert_eq!(two.relay.stats().refused, 0);
}

#[tokio::test]
async fn who_was_written_to_hears_that_the_writer_has_left_another_relay() {
    let mesh = Mesh::new();
    let [one, two] = [mesh.add(1).await, mesh.add(2).await];
    let (a, b) = (key(1), key(2));
    mesh.table.join(a.public(), b.public());
    let here = client(&one.relay, &a).await;
    let mut there = client(&two.relay, &b).await;
    let gone = Event::PeerGone { peer: a.public(), reason: PeerGone::Disconnected };
    let until_gone = async |there: &mut Connection| {
        while !soon(there.recv()).await.unwrap().contains(&gone) {}
    };
    carried(&here, &mut there, &b.public(), b"hello").await;
    drop(here);
    until_gone(&mut there).await;
    // Or with its relay.
    let here = client(&one.relay, &a).await;
    carried(&here, &mut there, &b.public(), b"hello again").await;
    mesh.remove(1);
    drop(one);
    until_gone(&mut there).await;
}

#[tokio::test]
async fn a_client_that_moves_is_found() {
    let mesh = Mesh::new();
    let [one, two, three] = [mesh.add(1).await, mesh.add(2).await, mesh.add(3).await];
    let (a, b) = (key(1), key(2));
    mesh.table.join(a.public(), b.public());
    let sender = client(&one.relay, &a).await;
    for relay in [&two.relay, &three.relay, &one.relay, &two.relay] {
        let mut receiver = client(relay, &b).await;
        carried(&sender, &mut receiver, &b.public(), b"here?").await;
    }
}

#[tokio::test]
async fn a_link_that_broke_is_made_again() {
    let mesh = Mesh::new();
    let [one, mut two] = [mesh.add(1).await, mesh.add(2).await];
    let (a, b) = (key(1), key(2));
    mesh.table.join(a.public(), b.public());
    let sender = client(&one.relay, &a).await;
    let mut receiver = client(&two.relay, &b).await;
    carried(&sender, &mut receiver, &b.public(), b"before").await;
    // The listener and its connections end; another takes its place.
    let accepting = two.tasks.remove(0);
    accepting.abort();
    let _ = accepting.await;
    let address = (two.url.host_str().unwrap(), two.url.port().unwrap());
    let mut again = interval(LOOK);
    let listener = soon(async {
        loop {
            again.tick().await;
            if let Ok(listener) = TcpListener::bind(address).await {
                return listener;
            }
        }
    })
    .await;
    until(|| one.relay.stats().elsewhere == 0).await;
    two.tasks.push(tokio::spawn(accept(listener, two.relay.clone())));
    carried(&sender, &mut receiver, &b.public(), b"after").await;
}

#[tokio::test]
async fn a_relay_that_is_back_at_another_address_is_found() {
    let mesh = Mesh::new();
    let [one, two] = [mesh.add(1).await, mesh.add(2).await];
    let (a, b) = (key(1), key(2));
    mesh.table.join(a.public(), b.public());
    let sender = client(&one.relay, &a).await;
    let mut receiver = client(&two.relay, &b).await;
    carried(&sender, &mut receiver, &b.public(), b"before").await;
    let (relay, before) = (two.relay.clone(), two.url.clone());
    drop(two);
    let two = mesh.add_again(2, relay).await;
    assert_ne!(two.url, before);
    carried(&sender, &mut receiver, &b.public(), b"after").await;
    assert_eq!(
        carried(&receiver, &mut client(&one.relay, &a).await, &a.public(), b"back").await,
        b.public()
    );
}

#[tokio::test]
async fn a_relay_that_is_frozen_holds_up_nobody_and_goes_on() {
    // More than waits for a relay, 8 MiB, and what the system takes for a connection.
    const MUCH: usize = 32 << 20;
    let mesh = Mesh::new();
    let [one, two, three] = [mesh.add(1).await, mesh.add(2).await, mesh.add(3).await];
    let [a, b, c] = [key(1), key(2), key(3)];
    mesh.table.join(a.public(), b.public());
    mesh.table.join(a.public(), c.public());
    let sender = client(&one.relay, &a).await;
    let mut frozen = client(&two.relay, &b).await;
    let mut other = client(&three.relay, &c).await;
    carried(&sender, &mut frozen, &b.public(), b"before").await;
    carried(&sender, &mut other, &c.public(), b"before").await;
    two.relay.freeze(true);
    let before = one.relay.stats();
    let packet = [7; MAX_PACKET];
    for _ in 0..MUCH / MAX_PACKET {
        while let Err(SendError::Full) = sender.try_send(&b.public(), &packet) {
            soon(sender.writable()).await;
        }
    }
    // It has taken all of it, and keeps no more than it may.
    until(|| one.relay.stats().passed - before.passed >= (MUCH / MAX_PACKET) as u64).await;
    assert!(one.relay.stats().overflown > before.overflown, "{:?}", one.relay.stats());
    carried(&sender, &mut other, &c.public(), b"meanwhile").await;
    two.relay.freeze(false);
    carried(&sender, &mut frozen, &b.public(), b"after").await;
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_a_relay() {
    let table = Arc::new(Table::default());
    let settings = Settings { mesh_key: Some(MeshKey::new(&KEY)), ..Settings::default() };
    let relay = Relay::new(settings, table.clone()).unwrap();
    let alone = Relay::new(Settings::default(), table.clone()).unwrap();
    for relay in [&relay, &alone] {
        let mut raw = Raw::dial(relay);
        let Some(Frame::ServerKey { key: server }) = raw.frame().await else { panic!() };
        let info = ClientInfo { mesh_key: Some("00".repeat(32)), ..ClientInfo::default() };
        raw.say(&login::client_info(&key(1), &server, &info, [0; 24])).await;
        let ended = raw.ended().await;
        assert!(matches!(ended, Ended::NoRelay), "{ended}");
    }
    // A client that says what relays say is not heard.
    table.join(key(1).public(), key(2).public());
    let mut liar = Raw::login(&relay, &key(1)).await;
    let mut other = Raw::login(&relay, &key(2)).await;
    liar.say(&Frame::WatchConnections).await;
    liar.say(&Frame::PeerPresent { peer: key(2).public() }).await;
    liar.say(&Frame::ClosePeer { peer: key(2).public() }).await;
    let forged = Frame::ForwardPacket {
        from: key(3).public(),
        to: key(2).public(),
        payload: (&b"forged"[..]).into(),
    };
    liar.say(&forged).await;
    let honest = Frame::SendPacket { to: key(2).public(), payload: (&b"honest"[..]).into() };
    liar.say(&honest).await;
    liar.say(&Frame::Ping(*b"12345678")).await;
    assert_eq!(liar.frame().await, Some(Frame::Pong(*b"12345678")));
    let right = Frame::RecvPacket { from: key(1).public(), payload: (&b"honest"[..]).into() };
    assert_eq!(other.frame().await, Some(right));
}
