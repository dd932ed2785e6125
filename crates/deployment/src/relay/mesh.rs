//! The relays of several replicas, as one (coder/tailscale: derp/derp_server.go and
//! derp/derphttp/mesh_client.go; coder/coder: enterprise/derpmesh).
//!
//! ```text
//!   client ── relay A ═══ link ═══► relay B ── client      A's link to B: packets for B's clients
//!                     ◄── who is here ──                    B's to A carries those the other way
//! ```
//!
//! Each relay connects to every other as a client of DERP, shows that it belongs to the deployment,
//! and asks who is there. A packet for somebody who is not here goes to the relay that has them,
//! which delivers it if it can; it never goes further. Whether it may go at all was decided where
//! it came in.
//!
//! Upstream's relays send each other a shared secret. Here a relay proves that it knows it, by an
//! HMAC over both relays' keys, so that nothing is told to one that only claims to be a relay.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use coderctl_tailnet::{
    derp::{
        Carrier, Decoder, Dial, DialError, Frame, FrameError, PeerGone, TransportDial,
        frame::{MAX_SERVER_KEY, put_recv_packet},
        login::{self, ClientInfo},
    },
    derp_map::RelayNode,
    keys::{NoEntropy, NodePrivate, NodePublic, RelayPublic},
};
use coderctl_transport::{BoxStream, Transport};
use futures_util::FutureExt as _;
use ring::hmac;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use url::Url;
use uuid::Uuid;

use super::{
    Inner, Relay, Route,
    inbox::{Inbox, Input},
    outbox::Outbox,
    session::{Ended, Login, MAX_ROUTES},
    talk::{Life, Talk, converse},
    wire,
};
use crate::model::hex;

/// Time for a connection to another relay, from the dial to its key.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Before a connection that failed or broke is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of packets that wait for another relay, 8 MiB: they are for many clients.
const QUEUED: usize = 8 << 20;

/// Bytes of news that wait for another relay, 8 MiB: 200,000 clients who came or went.
const NEWS: usize = 8 << 20;

/// What a proof begins with, so that it is one of nothing else.
const PURPOSE: &[u8] = b"coderctl relay mesh 1";

/// What the relays of one deployment share, and nobody else knows.
#[derive(Clone)]
pub struct MeshKey(hmac::Key);

impl MeshKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// What a relay shows to another, each by its key of this connection.
    fn proof(&self, server: &RelayPublic, client: &NodePublic) -> String {
        hex(hmac::sign(&self.0, &statement(server, client)).as_ref())
    }

    fn verify(&self, server: &RelayPublic, client: &NodePublic, proof: &str) -> bool {
        let right = self.proof(server, client);
        // Compared by tags of both, whose comparison takes the same time whatever they are.
        let tag = hmac::sign(&self.0, proof.as_bytes());
        hmac::verify(&self.0, right.as_bytes(), tag.as_ref()).is_ok()
    }
}

fn statement(server: &RelayPublic, client: &NodePublic) -> Vec<u8> {
    [PURPOSE, server.as_bytes(), client.as_bytes()].concat()
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Inner {
    /// Whether a client is another relay of this deployment, as it claims.
    pub(super) fn is_relay(&self, client: &NodePublic, proof: &str) -> bool {
        let key = self.mesh_key.as_ref();
        key.is_some_and(|key| key.verify(&self.key.public(), client, proof))
    }
}

/// Serves another relay's connection: tells it who is here, and delivers what it sends.
pub(super) async fn serve<S>(inner: Arc<Inner>, login: Login, stream: S) -> Ended
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let outbox = Arc::new(Outbox::new(0, NEWS));
    outbox.tell(&login.answer);
    let mut session = Served {
        inner: inner.clone(),
        outbox: outbox.clone(),
        routes: HashMap::new(),
        generation: 0,
        life: Life::new(),
        scratch: BytesMut::new(),
    };
    let inbox = Inbox::new(login.key, login.rest);
    converse(&inner, &mut session, outbox, stream, inbox, true).await
}

/// Another relay, connected to this one.
struct Served {
    inner: Arc<Inner>,
    outbox: Arc<Outbox>,
    /// By sender and receiver.
    routes: HashMap<(NodePublic, NodePublic), Route>,
    generation: u64,
    life: Life,
    scratch: BytesMut,
}

impl Talk for Served {
    fn handle(&mut self, inbox: &mut Inbox) -> Result<(), Ended> {
        let generation = self.inner.generation.load(Ordering::Acquire);
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.routes.clear();
        }
        while let Some(input) = inbox.next()? {
            match input {
                Input::Frame(Frame::ForwardPacket { from, to, payload }) => {
                    self.deliver(from, to, &payload)?;
                }
                Input::Frame(Frame::WatchConnections) => self.inner.board().watch(&self.outbox),
                Input::Frame(Frame::Ping(data)) => self.outbox.tell(&Frame::Pong(data)),
                // It has no packets of its own.
                Input::Frame(_) | Input::Packets(_) => {}
            }
        }
        Ok(())
    }

    fn look(&mut self, now: Instant, quiet: bool) -> Result<(), Ended> {
        self.routes.clear();
        self.life.look(now, quiet, self.inner.limits.keep_alive)
    }
}

impl Served {
    fn deliver(&mut self, from: NodePublic, to: NodePublic, packet: &[u8]) -> Result<(), Ended> {
        let inner = &self.inner;
        let counters = &inner.counters;
        if self.routes.len() >= MAX_ROUTES {
            self.routes.clear();
        }
        let route = self.routes.entry((from, to)).or_insert_with(|| inner.local_route(&from, &to));
        let Route::Here(outbox) = route else {
            counters.absent.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        self.scratch.clear();
        put_recv_packet(&mut self.scratch, &from, packet)?;
        let disco = wire::is_disco(&self.scratch);
        let dropped = outbox.push(&self.scratch, disco);
        counters.overflown.fetch_add(dropped, Ordering::Relaxed);
        counters.passed.fetch_add(1, Ordering::Relaxed);
        counters.passed_bytes.fetch_add(self.scratch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.outbox.close();
        self.inner.board().unwatch(&self.outbox);
    }
}

/// Why there is no connection to another relay, or none any more.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("it did not answer within {} s", CONNECT_TIME.as_secs())]
    Timeout,
    #[error("its URL names no host")]
    NoHost,
    #[error("it does not begin like a relay")]
    NotARelay,
    #[error("its URL leads back to this server: give each its own with --relay-url")]
    Itself,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    #[error("it ended: {0}")]
    Ended(Ended),
}

impl Relay {
    /// Passes packets on to the relays of other replicas, as those come and go. Runs until it is
    /// dropped; does nothing without a mesh key.
    ///
    /// Replicas reach each other by addresses that are in no certificate, so that with TLS theirs
    /// must be for `server_name`, by which clients reach all of them (coder/coder:
    /// enterprise/replicasync/replicasync.go, `CreateDERPMeshTLSConfig`).
    pub async fn mesh(
        &self,
        mut relays: watch::Receiver<BTreeMap<Uuid, Url>>,
        transport: &Transport,
        server_name: &str,
    ) {
        let Some(key) = &self.0.mesh_key else { return std::future::pending().await };
        let mut links: BTreeMap<Uuid, Link> = BTreeMap::new();
        loop {
            let wanted = relays.borrow_and_update().clone();
            links.retain(|replica, link| wanted.get(replica) == Some(&link.url));
            for (replica, url) in wanted {
                links.entry(replica).or_insert_with(|| {
                    let way = Way {
                        key: key.clone(),
                        url: url.clone(),
                        server_name: server_name.to_owned(),
                        dial: TransportDial::new(transport.clone()),
                    };
                    Link { url, task: tokio::spawn(keep_link(self.0.clone(), way).boxed()) }
                });
            }
            if relays.changed().await.is_err() {
                // Nobody says any more where they are; those that are known stay.
                return std::future::pending().await;
            }
        }
    }
}

/// A connection to another relay; it ends with this.
struct Link {
    url: Url,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How another relay is reached.
struct Way {
    key: MeshKey,
    url: Url,
    server_name: String,
    dial: TransportDial,
}

async fn keep_link(inner: Arc<Inner>, way: Way) {
    let mut before = String::new();
    loop {
        let cause = link(&inner, &way).await.to_string();
        // What goes on is said once.
        if cause == before {
            tracing::debug!(url = %way.url, cause, "still no connection to another relay");
        } else {
            tracing::warn!(url = %way.url, cause, "no connection to another relay; trying again");
        }
        before = cause;
        sleep(AGAIN).await;
    }
}

/// Connects to another relay until the connection ends, and says why it did.
async fn link(inner: &Arc<Inner>, way: &Way) -> LinkError {
    let (stream, own, rest) = match timeout(CONNECT_TIME, introduce(inner, way)).await {
        Ok(Ok(introduced)) => introduced,
        Ok(Err(error)) => return error,
        Err(_) => return LinkError::Timeout,
    };
    let outbox = Arc::new(Outbox::new(QUEUED, NEWS));
    outbox.tell(&Frame::WatchConnections);
    let mut linked = Linked { inner: inner.clone(), outbox: outbox.clone(), life: Life::new() };
    let inbox = Inbox::new(own, rest);
    LinkError::Ended(converse(inner, &mut linked, outbox, stream, inbox, true).await)
}

/// Reads the relay's key and shows that we are one, too.
async fn introduce(
    inner: &Inner,
    way: &Way,
) -> Result<(BoxStream, NodePublic, BytesMut), LinkError> {
    let mut stream = way.dial.dial(&node(&way.url, &way.server_name)?, Carrier::Upgrade).await?;
    let mut bytes = BytesMut::new();
    let decoder = Decoder::new(MAX_SERVER_KEY);
    let frame = loop {
        if let Some(frame) = decoder.decode(&mut bytes)? {
            break frame;
        }
        bytes.reserve(512);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(LinkError::NotARelay);
        }
    };
    let Frame::ServerKey { key: server } = frame else { return Err(LinkError::NotARelay) };
    if server == inner.key.public() {
        return Err(LinkError::Itself);
    }
    let own = NodePrivate::random()?;
    let proof = way.key.proof(&server, &own.public());
    let info = ClientInfo { mesh_key: Some(proof), ..ClientInfo::default() };
    let mut nonce = [0; login::NONCE_LENGTH];
    getrandom::fill(&mut nonce).map_err(|_| NoEntropy)?;
    let mut answer = BytesMut::new();
    login::client_info(&own, &server, &info, nonce).encode(&mut answer);
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok((stream, own.public(), bytes))
}

/// Where another relay is.
fn node(url: &Url, server_name: &str) -> Result<RelayNode, LinkError> {
    let host = url.host_str().ok_or(LinkError::NoHost)?;
    Ok(RelayNode {
        cert_name: Some(without_brackets(server_name).to_owned()),
        derp_port: url.port_or_known_default(),
        force_http: url.scheme() == "http",
        ..RelayNode::named("replica", without_brackets(host))
    })
}

/// An IPv6 address as it stands in a URL, without what it needs there.
fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// This relay's connection to another one.
struct Linked {
    inner: Arc<Inner>,
    outbox: Arc<Outbox>,
    life: Life,
}

impl Talk for Linked {
    fn handle(&mut self, inbox: &mut Inbox) -> Result<(), Ended> {
        while let Some(input) = inbox.next()? {
            match input {
                Input::Frame(Frame::PeerPresent { peer }) => {
                    self.inner.change(|board| board.there(peer, &self.outbox));
                }
                Input::Frame(Frame::PeerGone { peer, reason: PeerGone::Disconnected }) => {
                    self.inner.change(|board| board.not_there(&peer, &self.outbox));
                }
                Input::Frame(Frame::Ping(data)) => self.outbox.tell(&Frame::Pong(data)),
                Input::Frame(_) | Input::Packets(_) => {}
            }
        }
        Ok(())
    }

    fn look(&mut self, now: Instant, quiet: bool) -> Result<(), Ended> {
        self.life.look(now, quiet, self.inner.limits.keep_alive)
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.outbox.close();
        self.inner.change(|board| board.cut(&self.outbox));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_two_relays() {
        let [one, two] = [MeshKey::new(&[1; 32]), MeshKey::new(&[2; 32])];
        let server = RelayPublic::from_bytes([3; 32]);
        let client = NodePublic::from_bytes([4; 32]);
        let proof = one.proof(&server, &client);
        assert!(one.verify(&server, &client, &proof));
        assert!(!two.verify(&server, &client, &proof));
        assert!(!one.verify(&RelayPublic::from_bytes([5; 32]), &client, &proof));
        assert!(!one.verify(&server, &NodePublic::from_bytes([5; 32]), &proof));
        for wrong in ["", "x", &proof[1..], &proof.to_uppercase()] {
            assert!(!one.verify(&server, &client, wrong), "{wrong}");
        }
    }
}
