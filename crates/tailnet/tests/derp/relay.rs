//! A small relay: logs clients in, passes packets on, says who is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coderctl_tailnet::derp::frame::{Decoder, Frame, MAX_RELAY_FRAME, PeerGone, put_recv_packet};
use coderctl_tailnet::derp::login::{self, ServerInfo};
use coderctl_tailnet::keys::{NodePublic, RelayPrivate};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Packets that wait for one client at most (coder/coder: cli/server.go sets the same).
const QUEUE: usize = 512;

/// Time for a login (coder/tailscale: derp/derp_server.go).
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A relay. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    key: RelayPrivate,
    info: ServerInfo,
    clients: Mutex<BTreeMap<NodePublic, Client>>,
    /// Counts changes of `clients`, for those who wait for one.
    changed: watch::Sender<u64>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Client {
    queue: mpsc::Sender<Bytes>,
    preferred: bool,
    /// Who is to be told when it leaves.
    wrote_to_it: BTreeSet<NodePublic>,
    /// So that an old connection does not remove a newer one.
    number: u64,
}

/// Silence of a relay at most (same source; it adds up to five seconds).
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Why a connection ended, for the log.
type Ended = String;

impl Relay {
    pub(crate) fn new(number: u8, info: ServerInfo) -> Relay {
        let inner = Inner {
            key: RelayPrivate::new([number; 32]),
            info,
            clients: Mutex::default(),
            changed: watch::channel(0).0,
            tasks: Mutex::default(),
        };
        Relay { inner: Arc::new(inner) }
    }

    /// Serves one upgraded connection.
    pub(crate) fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let relay = self.clone();
        let task = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            let ended = relay.converse(reader, writer).await;
            tracing::debug!(ended, "client ended");
        });
        self.inner.tasks.lock().unwrap().push(task);
    }

    /// Drops every connection.
    pub(crate) fn drop_all(&self) {
        for task in self.inner.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
        self.inner.clients.lock().unwrap().clear();
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// Sends something to a client.
    pub(crate) fn tell(&self, client: &NodePublic, frame: &Frame) {
        let clients = self.inner.clients.lock().unwrap();
        clients[client].queue.try_send(crate::encoded(std::slice::from_ref(frame))).unwrap();
    }

    /// Whether a client is connected, and whether it listens here.
    pub(crate) fn sees(&self, client: &NodePublic) -> Option<bool> {
        self.inner.clients.lock().unwrap().get(client).map(|client| client.preferred)
    }

    /// Waits until [`Relay::sees`] says so.
    pub(crate) async fn until_seen(&self, client: &NodePublic, seen: Option<bool>) {
        let mut changed = self.inner.changed.subscribe();
        while self.sees(client) != seen {
            changed.changed().await.unwrap();
        }
    }

    async fn converse(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) -> Ended {
        let inner = &self.inner;
        let greeting = crate::encoded(&[Frame::ServerKey { key: inner.key.public() }]);
        if let Err(error) = writer.write_all(&greeting).await {
            return error.to_string();
        }
        let mut buffer = BytesMut::new();
        let login = timeout(LOGIN_TIMEOUT, read(&mut reader, &mut buffer)).await;
        let node = match login.unwrap_or(Err("no login in time".to_owned())) {
            Ok(Frame::ClientInfo { node, nonce, sealed }) => {
                match login::open_client_info(&inner.key, &node, &nonce, &sealed) {
                    Ok(_) => node,
                    Err(error) => return error.to_string(),
                }
            }
            Ok(_) => return "no client info".to_owned(),
            Err(ended) => return ended,
        };
        let info = login::server_info(&inner.key, &node, &inner.info, [7; 24]);
        let (queue, queued) = mpsc::channel(QUEUE);
        queue.try_send(crate::encoded(&[info])).unwrap();
        let number = self.register(node, queue);
        let ended = tokio::select! {
            ended = self.read_all(node, reader, buffer) => ended,
            ended = write_all(writer, queued) => ended,
        };
        self.unregister(node, number);
        ended
    }

    async fn read_all(
        &self,
        node: NodePublic,
        mut reader: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
    ) -> Ended {
        loop {
            match read(&mut reader, &mut buffer).await {
                Ok(Frame::SendPacket { to, payload }) => self.pass_on(node, to, &payload),
                Ok(Frame::NotePreferred(preferred)) => {
                    if let Some(client) = self.inner.clients.lock().unwrap().get_mut(&node) {
                        client.preferred = preferred;
                    }
                    self.inner.changed.send_modify(|count| *count += 1);
                }
                Ok(Frame::Ping(data)) => self.tell(&node, &Frame::Pong(data)),
                Ok(_) => {}
                Err(ended) => return ended,
            }
        }
    }

    fn pass_on(&self, from: NodePublic, to: NodePublic, payload: &[u8]) {
        let mut clients = self.inner.clients.lock().unwrap();
        match clients.get_mut(&to) {
            Some(receiver) => {
                receiver.wrote_to_it.insert(from);
                let mut frame = BytesMut::new();
                put_recv_packet(&mut frame, &from, payload).unwrap();
                // Full: dropped, as relays do.
                let _dropped = receiver.queue.try_send(frame.freeze());
            }
            None => {
                let gone = Frame::PeerGone { peer: to, reason: PeerGone::NotHere };
                let _dropped = clients[&from].queue.try_send(crate::encoded(&[gone]));
            }
        }
    }

    fn register(&self, node: NodePublic, queue: mpsc::Sender<Bytes>) -> u64 {
        let mut clients = self.inner.clients.lock().unwrap();
        self.inner.changed.send_modify(|count| *count += 1);
        let number = *self.inner.changed.borrow();
        let client = Client { queue, preferred: false, wrote_to_it: BTreeSet::new(), number };
        clients.insert(node, client);
        number
    }

    fn unregister(&self, node: NodePublic, number: u64) {
        let mut clients = self.inner.clients.lock().unwrap();
        if clients.get(&node).is_none_or(|client| client.number != number) {
            return;
        }
        let left = clients.remove(&node).unwrap();
        let gone =
            crate::encoded(&[Frame::PeerGone { peer: node, reason: PeerGone::Disconnected }]);
        for peer in left.wrote_to_it {
            if let Some(client) = clients.get(&peer) {
                let _dropped = client.queue.try_send(gone.clone());
            }
        }
        self.inner.changed.send_modify(|count| *count += 1);
    }
}

async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Frame, Ended> {
    let decoder = Decoder::new(MAX_RELAY_FRAME);
    loop {
        if let Some(frame) = decoder.decode(buffer).map_err(|error| error.to_string())? {
            return Ok(frame);
        }
        if reader.read_buf(buffer).await.map_err(|error| error.to_string())? == 0 {
            return Err("end of stream".to_owned());
        }
    }
}

async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut queued: mpsc::Receiver<Bytes>,
) -> Ended {
    let keep_alive = crate::encoded(&[Frame::KeepAlive]);
    loop {
        let frame = match timeout(KEEP_ALIVE, queued.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "replaced by a newer connection".to_owned(),
            Err(_) => keep_alive.clone(),
        };
        if let Err(error) = writer.write_all(&frame).await {
            return error.to_string();
        }
    }
}
