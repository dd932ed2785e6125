//! Clients, and who may reach whom.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use coderctl_deployment::relay::{Ended, Limits, Permits, Relay, Settings};
use coderctl_tailnet::{
    derp::{
        Carrier, Connection, Dial, Event, Frame,
        dial::{BoxStream, DialFuture, MeasureFuture},
        frame::Decoder,
        login::{self, ClientInfo},
    },
    derp_map::{DerpMap, RelayNode},
    ids::RegionId,
    keys::{NodePrivate, NodePublic},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::timeout,
};
use url::Url;

/// No test waits longer, in real or in virtual time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// Ends a wait that does not end.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

/// Keys, and pairs of them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    known: Mutex<BTreeSet<NodePublic>>,
    pairs: Mutex<BTreeSet<(NodePublic, NodePublic)>>,
    generation: AtomicU64,
}

impl Table {
    pub(crate) fn know(&self, key: NodePublic) {
        self.known.lock().unwrap().insert(key);
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn join(&self, one: NodePublic, other: NodePublic) {
        self.know(one);
        self.know(other);
        self.pairs.lock().unwrap().extend([(one, other), (other, one)]);
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn part(&self, one: NodePublic, other: NodePublic) {
        let mut pairs = self.pairs.lock().unwrap();
        pairs.remove(&(one, other));
        pairs.remove(&(other, one));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Permits for Table {
    fn knows(&self, key: &NodePublic) -> bool {
        self.known.lock().unwrap().contains(key)
    }

    fn permits(&self, from: &NodePublic, to: &NodePublic) -> bool {
        self.pairs.lock().unwrap().contains(&(*from, *to))
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

pub(crate) fn relay(limits: Limits) -> (Relay, Arc<Table>) {
    let table = Arc::new(Table::default());
    let settings = Settings { limits, ..Settings::default() };
    let relay = Relay::new(settings, table.clone()).unwrap();
    (relay, table)
}

/// Dials a relay in this process.
#[derive(Debug, Clone)]
pub(crate) struct Local(pub(crate) Relay);

impl Dial for Local {
    fn dial<'a>(&'a self, _node: &'a RelayNode, _: Carrier) -> DialFuture<'a> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let relay = self.0.clone();
        tokio::spawn(async move { relay.serve(theirs).await });
        Box::pin(async move { Ok(Box::new(ours) as BoxStream) })
    }

    fn measure<'a>(&'a self, _: &'a RelayNode) -> MeasureFuture<'a> {
        Box::pin(async { Ok(Duration::from_millis(1)) })
    }
}

/// The map of a relay in this process.
pub(crate) fn map() -> DerpMap {
    DerpMap::embedded_at(&Url::parse("http://relay.test").unwrap())
}

pub(crate) fn key(number: u8) -> NodePrivate {
    NodePrivate::new([number; 32])
}

/// A client of the tailnet crate.
pub(crate) async fn client(relay: &Relay, key: &NodePrivate) -> Connection {
    let map = map();
    let node = map.regions[&RegionId::EMBEDDED].relays().next().unwrap();
    let mut connection = coderctl_tailnet::derp::connect(
        &Local(relay.clone()),
        node,
        Carrier::Upgrade,
        key.clone(),
        true,
    )
    .await
    .unwrap();
    loop {
        let batch = soon(connection.recv()).await.unwrap();
        if batch.iter().any(|event| matches!(event, Event::LoggedIn(_))) {
            return connection;
        }
    }
}

/// The next packets.
pub(crate) async fn packets(connection: &mut Connection) -> Vec<(NodePublic, Vec<u8>)> {
    loop {
        let batch = soon(connection.recv()).await.unwrap();
        let packets: Vec<_> = batch
            .into_iter()
            .filter_map(|event| match event {
                Event::Packet { from, payload } => Some((from, payload.to_vec())),
                Event::Welcome(_)
                | Event::LoggedIn(_)
                | Event::PeerGone { .. }
                | Event::Health(_)
                | Event::Restarting { .. }
                | Event::Pong(_)
                | Event::Pinged
                | Event::Other => None,
            })
            .collect();
        if !packets.is_empty() {
            return packets;
        }
    }
}

/// A client that speaks frames, whatever they are.
pub(crate) struct Raw {
    pub(crate) stream: DuplexStream,
    buffer: BytesMut,
    served: JoinHandle<Ended>,
}

impl Raw {
    /// Connects, and says nothing.
    pub(crate) fn dial(relay: &Relay) -> Self {
        let (stream, theirs) = tokio::io::duplex(16 << 10);
        let relay = relay.clone();
        let served = tokio::spawn(async move { relay.serve(theirs).await });
        Self { stream, buffer: BytesMut::new(), served }
    }

    /// Connects and introduces itself.
    pub(crate) async fn login(relay: &Relay, key: &NodePrivate) -> Self {
        let mut raw = Self::dial(relay);
        let Frame::ServerKey { key: server } = raw.frame().await.unwrap() else { panic!() };
        let info = ClientInfo::default();
        raw.say(&login::client_info(key, &server, &info, [3; 24])).await;
        let Frame::ServerInfo { nonce, sealed } = raw.frame().await.unwrap() else { panic!() };
        login::open_server_info(key, &server, &nonce, &sealed).unwrap();
        raw
    }

    pub(crate) async fn say(&mut self, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.bytes(&bytes).await;
    }

    /// Says bytes; whether they are taken is another matter.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let _ = soon(self.stream.write_all(bytes)).await;
    }

    /// The next frame, `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let decoder = Decoder::new(1 << 20);
        loop {
            if let Some(frame) = decoder.decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            if soon(self.stream.read_buf(&mut self.buffer)).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Why the relay ended it, without a word from here.
    pub(crate) async fn ended(self) -> Ended {
        let Self { stream, served, .. } = self;
        let ended = soon(served).await.unwrap();
        drop(stream);
        ended
    }
}
