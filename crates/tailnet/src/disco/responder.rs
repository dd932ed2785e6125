//! Answers to the disco messages of all peers, for the data path.

use std::collections::BTreeMap;
use std::fmt;

use bytes::BytesMut;

use super::{DiscoBox, NONCE_LENGTH};
use crate::engine::Disco;
use crate::ids::RegionId;
use crate::keys::{DiscoPrivate, DiscoPublic, NodePublic};

/// Answers pings that come over a relay, and swallows the rest: what a client without direct paths
/// owes its peers.
pub struct Responder {
    key: DiscoPrivate,
    peers: BTreeMap<NodePublic, DiscoBox>,
    nonce: [u8; NONCE_LENGTH],
}

impl Responder {
    /// Nobody is answered yet. `nonce` is random; those of the answers count up from it, for they
    /// have to be different, not secret.
    pub fn new(key: DiscoPrivate, nonce: [u8; NONCE_LENGTH]) -> Self {
        Responder { key, peers: BTreeMap::new(), nonce }
    }
}

impl Disco for Responder {
    fn handle_relay(
        &mut self,
        packet: &[u8],
        region: RegionId,
        from: &NodePublic,
    ) -> Option<BytesMut> {
        let peer = self.peers.get(from)?;
        match peer.respond(packet, region, self.nonce) {
            Ok(Some(answer)) => {
                count_up(&mut self.nonce);
                Some(BytesMut::from(&answer[..]))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::trace!(?from, %region, %error, "disco packet dropped");
                None
            }
        }
    }

    fn set_peers(&mut self, peers: &[(NodePublic, DiscoPublic)]) {
        let mut known = std::mem::take(&mut self.peers);
        for (node, disco) in peers {
            let kept = known.remove(node).filter(|kept| kept.peer() == *disco);
            let made = kept.unwrap_or_else(|| DiscoBox::new(&self.key, *disco));
            self.peers.insert(*node, made);
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("peers", &self.peers).finish_non_exhaustive()
    }
}

fn count_up(nonce: &mut [u8; NONCE_LENGTH]) {
    for byte in nonce.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
}
