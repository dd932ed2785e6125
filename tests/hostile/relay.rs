//! A relay for any number of clients and the one agent, which is in this process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock},
};

use bytes::{Bytes, BytesMut};
use coderctl_tailnet::{
    derp::{
        frame::{Decoder, Frame, MAX_RELAY_FRAME, put_recv_packet},
        login::{self, ServerInfo},
    },
    keys::{NodePublic, RelayPrivate},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::http::{self, Request};

/// What a relay is like.
#[derive(Clone)]
pub(crate) enum RelayKind {
    Well,
    /// Upgrades and closes at once.
    Closes,
    /// Upgrades and says nothing.
    Mute,
    /// Takes the login and closes at once.
    Leaves,
    /// Says its key and nothing more; passes nothing on.
    Deaf,
    /// Says these bytes where its key belongs.
    Begins(Vec<u8>),
    /// Says these bytes after the login, then is well.
    Says(Vec<u8>),
}

/// Packets for the agent, and from whom.
pub(crate) type Packets = mpsc::UnboundedSender<(NodePublic, BytesMut)>;

pub(crate) struct Relay {
    kind: RelayKind,
    key: RelayPrivate,
    clients: Mutex<BTreeMap<NodePublic, mpsc::UnboundedSender<Bytes>>>,
    agent: OnceLock<(NodePublic, Packets)>,
}

impl Relay {
    pub(crate) fn new(kind: RelayKind) -> Self {
        let key = RelayPrivate::new([5; 32]);
        Self { kind, key, clients: Mutex::default(), agent: OnceLock::new() }
    }

    pub(crate) fn set_agent(&self, key: NodePublic, packets: Packets) {
        assert!(self.agent.set((key, packets)).is_ok());
    }

    /// Passes a packet of the agent on.
    pub(crate) fn deliver(&self, from: &NodePublic, to: &NodePublic, packet: &[u8]) {
        let mut frame = BytesMut::new();
        put_recv_packet(&mut frame, from, packet).unwrap();
        if let Some(client) = self.clients.lock().unwrap().get(to) {
            // A client that is leaving misses it, as from any relay.
            let _ = client.send(frame.freeze());
        }
    }

    /// Serves a client, over a WebSocket if that is what it asks for.
    pub(crate) async fn open(&self, mut stream: TcpStream, request: &Request) {
        if request.wants_websocket() {
            let Some(socket) = http::websocket(stream, request).await else { return };
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::join!(http::carry(socket, theirs), self.serve(ours));
        } else if http::upgrade(&mut stream, "DERP", "").await {
            self.serve(stream).await;
        }
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        match &self.kind {
            RelayKind::Closes => {}
            RelayKind::Mute => drop(http::stay(stream).await),
            RelayKind::Begins(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = http::stay(stream).await;
            }
            RelayKind::Well | RelayKind::Leaves | RelayKind::Deaf | RelayKind::Says(_) => {
                // Whatever ends it, it is over.
                let _ = self.converse(stream).await;
            }
        }
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut greeting = BytesMut::new();
        Frame::ServerKey { key: self.key.public() }.encode(&mut greeting);
        writer.write_all(&greeting).await.ok()?;
        let mut buffer = BytesMut::new();
        let Frame::ClientInfo { node, nonce, sealed } = read(&mut reader, &mut buffer).await?
        else {
            return None;
        };
        login::open_client_info(&self.key, &node, &nonce, &sealed).unwrap();
        let (queue, mut queued) = mpsc::unbounded_channel();
        if !matches!(self.kind, RelayKind::Deaf) {
            let mut hello = BytesMut::new();
            login::server_info(&self.key, &node, &ServerInfo::default(), [7; 24])
                .encode(&mut hello);
            if let RelayKind::Says(bytes) = &self.kind {
                hello.extend_from_slice(bytes);
            }
            if matches!(self.kind, RelayKind::Leaves) {
                return writer.write_all(&hello).await.ok();
            }
            queue.send(hello.freeze()).unwrap();
        }
        self.clients.lock().unwrap().insert(node, queue);
        let write = async {
            while let Some(bytes) = queued.recv().await {
                writer.write_all(&bytes).await.ok()?;
            }
            Some(())
        };
        let read = async {
            loop {
                if let Frame::SendPacket { to, payload } = read(&mut reader, &mut buffer).await? {
                    self.pass_on(node, &to, payload);
                }
            }
        };
        tokio::select! {
            ended = write => ended,
            ended = read => ended,
        }
    }

    fn pass_on(&self, from: NodePublic, to: &NodePublic, payload: BytesMut) {
        if let Some((key, packets)) = self.agent.get()
            && key == to
            && !matches!(self.kind, RelayKind::Deaf)
        {
            // The agent ends with the test.
            let _ = packets.send((from, payload));
        }
    }
}

async fn read(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> Option<Frame> {
    let decoder = Decoder::new(MAX_RELAY_FRAME);
    loop {
        if let Some(frame) = decoder.decode(buffer).unwrap() {
            return Some(frame);
        }
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
