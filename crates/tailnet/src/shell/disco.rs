//! Answers to disco messages that come over a relay.
//!
//! A client that only uses the relay sends no disco of its own and takes no endpoints, but a peer
//! measures its latency with pings, and shows it to people.

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::{
    disco::{DiscoBox, NONCE_LENGTH},
    engine::Disco,
    ids::RegionId,
    keys::{DiscoPrivate, DiscoPublic, NodePublic},
};

/// The peers, and the boxes between us and those that were heard. Making a box costs a curve
/// multiplication, and most of an agent's peers never send anything.
pub(super) struct RelayDisco {
    ours: DiscoPrivate,
    peers: BTreeMap<NodePublic, DiscoPublic>,
    boxes: BTreeMap<NodePublic, DiscoBox>,
}

impl RelayDisco {
    pub(super) fn new(ours: DiscoPrivate) -> Self {
        Self { ours, peers: BTreeMap::new(), boxes: BTreeMap::new() }
    }
}

impl Disco for RelayDisco {
    fn handle_relay(
        &mut self,
        packet: &[u8],
        region: RegionId,
        from: &NodePublic,
    ) -> Option<BytesMut> {
        let theirs = self.peers.get(from)?;
        let sealed = self.boxes.entry(*from).or_insert_with(|| DiscoBox::new(&self.ours, *theirs));
        let mut nonce = [0; NONCE_LENGTH];
        // Without randomness there is no safe answer; the peer asks again.
        getrandom::fill(&mut nonce).ok()?;
        let answer = match sealed.respond(packet, region, nonce) {
            Ok(answer) => answer?,
            Err(error) => {
                tracing::trace!(%error, "disco dropped");
                return None;
            }
        };
        Some(BytesMut::from(&answer[..]))
    }

    fn set_peers(&mut self, peers: &[(NodePublic, DiscoPublic)]) {
        self.peers = peers.iter().copied().collect();
        self.boxes.retain(|node, kept| self.peers.get(node) == Some(&kept.peer()));
    }
}
