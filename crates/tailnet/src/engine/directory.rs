//! Who is who in disco: keys, addresses, and the boxes between us and each peer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::BytesMut;

use super::Peer;
use crate::disco::{self, DiscoBox, Message, NONCE_LENGTH, TxId};
use crate::endpoints::Endpoints;
use crate::ids::PeerId;
use crate::keys::{DiscoPrivate, DiscoPublic, NoEntropy, NodePublic};
use crate::paths::{Call, Outgoing, Path};
use crate::wg;

/// Draws random bytes.
pub type Entropy = Box<dyn FnMut(&mut [u8]) -> Result<(), NoEntropy> + Send>;

/// Who we are to peers that look for a way to us.
pub struct Identity {
    /// Our node key.
    pub node: NodePublic,
    /// The key of our disco messages.
    pub disco: DiscoPrivate,
    /// For their nonces and transactions.
    pub entropy: Entropy,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("disco", &self.disco)
            .finish_non_exhaustive()
    }
}

/// What all peers share of it.
pub(super) struct Directory {
    node: NodePublic,
    key: DiscoPrivate,
    pub(super) random: Random,
    by_key: BTreeMap<DiscoPublic, PeerId>,
    by_address: BTreeMap<SocketAddr, PeerId>,
    /// Whether anything but relays may be used.
    pub(super) direct: bool,
    pub(super) endpoints: Endpoints,
}

/// Random bytes. Without them nothing can be sent safely; the next message tries again.
pub(super) struct Random(Entropy);

impl Random {
    pub(super) fn draw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.0)(&mut bytes).ok()?;
        Some(bytes)
    }
}

impl Directory {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            node: identity.node,
            key: identity.disco,
            random: Random(identity.entropy),
            by_key: BTreeMap::new(),
            by_address: BTreeMap::new(),
            direct: false,
            endpoints: Endpoints::default(),
        }
    }

    /// The peer has this node now.
    pub(super) fn learn(&mut self, id: PeerId, peer: &mut Peer) {
        let key = peer.node.disco;
        if peer.sealed.as_ref().is_some_and(|sealed| sealed.peer() != key) {
            peer.sealed = None;
        }
        self.by_key.retain(|other, owner| *owner != id || *other == key);
        self.by_key.insert(key, id);
        if self.direct {
            peer.paths.set_endpoints(&peer.node.endpoints);
        }
    }

    /// The peer is gone.
    pub(super) fn forget(&mut self, id: PeerId, peer: &Peer) {
        if self.by_key.get(&peer.node.disco) == Some(&id) {
            self.by_key.remove(&peer.node.disco);
        }
        for address in peer.paths.proven() {
            self.release(address, id);
        }
    }

    /// Whose disco key this is.
    pub(super) fn with_key(&self, key: &DiscoPublic) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// Who sends from this address.
    pub(super) fn at(&self, address: &SocketAddr) -> Option<PeerId> {
        self.by_address.get(address).copied()
    }

    /// This peer sends from this address.
    pub(super) fn place(&mut self, address: SocketAddr, id: PeerId) {
        self.by_address.insert(address, id);
    }

    /// This peer sends from this address no more.
    pub(super) fn release(&mut self, address: SocketAddr, id: PeerId) {
        if self.at(&address) == Some(id) {
            self.by_address.remove(&address);
        }
    }

    /// The message in a packet of this peer; `None` for what is none.
    pub(super) fn open(&self, peer: &mut Peer, packet: &[u8]) -> Option<Message> {
        match sealed_box(&self.key, peer).open(packet) {
            Ok(message) => Some(message),
            Err(error) => {
                tracing::trace!(%error, "disco dropped");
                None
            }
        }
    }

    /// The packet for a message, with the transaction of a ping; `None` when there is nothing to
    /// say.
    pub(super) fn seal(
        &mut self,
        peer: &mut Peer,
        message: Outgoing,
    ) -> Option<(BytesMut, Option<TxId>)> {
        let length = match message {
            Outgoing::Probe(_, packet) => packet + wg::OVERHEAD,
            Outgoing::Ping(_) | Outgoing::Pong(..) | Outgoing::Call(_) => 0,
        };
        let (message, tx) = match message {
            Outgoing::Ping(_) | Outgoing::Probe(..) => {
                let tx = TxId(self.random.draw()?);
                (Message::Ping { tx, node: Some(self.node) }, Some(tx))
            }
            Outgoing::Pong(Path::Direct(source), tx) => (Message::Pong { tx, source }, None),
            Outgoing::Pong(Path::Relay(region), tx) => {
                (Message::Pong { tx, source: disco::relay_address(region) }, None)
            }
            Outgoing::Call(call) => (self.call_me_maybe(call)?, None),
        };
        let nonce = self.random.draw::<NONCE_LENGTH>()?;
        let packet = sealed_box(&self.key, peer).seal_padded(&message, nonce, length);
        Some((BytesMut::from(&packet[..]), tx))
    }

    /// The message for a call; `None` when nobody is told anything by it.
    fn call_me_maybe(&self, call: Call) -> Option<Message> {
        let own = self.endpoints.list();
        let endpoints = match call {
            Call::Nowhere => return Some(Message::CallMeMaybe { endpoints: Vec::new() }),
            Call::Endpoints => own.to_vec(),
            Call::AndAt(seen) => {
                let others = own.iter().copied().filter(|address| *address != seen);
                std::iter::once(seen).chain(others).collect()
            }
        };
        (!endpoints.is_empty()).then_some(Message::CallMeMaybe { endpoints })
    }
}

/// The box between us and a peer. It costs a curve multiplication, and most of an agent's peers
/// never send anything: it is made when it is needed.
fn sealed_box<'a>(key: &DiscoPrivate, peer: &'a mut Peer) -> &'a DiscoBox {
    peer.sealed.get_or_insert_with(|| DiscoBox::new(key, peer.node.disco))
}
