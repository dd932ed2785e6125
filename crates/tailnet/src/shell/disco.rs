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

/// The boxes between us and each peer.
pub(super) struct RelayDisco {
    ours: DiscoPrivate,
    boxes: BTreeMap<NodePublic, DiscoBox>,
}

impl RelayDisco {
    pub(super) fn new(ours: DiscoPrivate) -> Self {
        Self { ours, boxes: BTreeMap::new() }
    }
}

impl Disco for RelayDisco {
    fn handle_relay(
        &mut self,
        packet: &[u8],
        region: RegionId,
        from: &NodePublic,
    ) -> Option<BytesMut> {
        let mut nonce = [0; NONCE_LENGTH];
        // Without randomness there is no safe answer; the peer asks again.
        getrandom::fill(&mut nonce).ok()?;
        let answer = match self.boxes.get(from)?.respond(packet, region, nonce) {
            Ok(answer) => answer?,
            Err(error) => {
                tracing::trace!(%error, "disco dropped");
                return None;
            }
        };
        Some(BytesMut::from(&answer[..]))
    }

    fn set_peers(&mut self, peers: &[(NodePublic, DiscoPublic)]) {
        self.boxes.retain(|node, kept| peers.contains(&(*node, kept.peer())));
        for (node, disco) in peers {
            self.boxes.entry(*node).or_insert_with(|| DiscoBox::new(&self.ours, *disco));
        }
    }
}
