//! What replicas say to each other, as text that a notification can carry.
//!
//! A message is JSON. One that is too long for one notification comes in parts, each with the name
//! of its sender, its number and how many there are; the parts of one sender come in order.

use std::collections::{BTreeSet, HashMap};

use coderctl_drpc::proto::tailnet as proto;
use coderctl_tailnet::{ids::PeerId, keys::NodePublic};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    coordinator::{
        core::{PeerState, Replica, Update},
        mailbox::End,
    },
    model::{hex, unhex},
    pubsub::MAX_PAYLOAD,
};

/// Bytes of a message in one part; its head needs less than 100.
const PART: usize = MAX_PAYLOAD - 100;

/// Parts of one message: enough for the longest node and for a list of 10,000 peers.
const MAX_PARTS: usize = 64;

/// Senders whose messages are incomplete; more are not replicas.
const MAX_SENDERS: usize = 256;

/// What one replica says to all others.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// I am here, and was not, or have missed something: tell me everything.
    Hello(Presence),
    /// I am still here.
    Alive(Presence),
    /// I am leaving.
    Bye,
    /// Something has changed.
    Update(Update),
    /// These are all my peers.
    All(BTreeSet<PeerId>),
}

/// Where a replica is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Presence {
    /// The URL by which other replicas reach its relay, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relay: Option<String>,
}

/// A message, from whom, and which of theirs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub(super) from: Replica,
    /// One more than that of the message before.
    pub(super) number: u64,
    pub(super) message: Message,
}

/// As it travels.
#[derive(Serialize, Deserialize)]
struct Envelope {
    from: Replica,
    number: u64,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
enum Body {
    Hello(Presence),
    Alive(Presence),
    Bye,
    Peer { id: Uuid, since: u64, node: Option<String>, tunnels: Vec<Uuid> },
    Gone { id: Uuid, since: u64, lost: bool },
    Ready { id: Uuid, to: Uuid },
    All { peers: Vec<Uuid> },
}

/// Why a notification is not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// Not the JSON of a message.
    #[error("not a message of a replica: {0}")]
    Json(#[from] serde_json::Error),
    /// A node that is none.
    #[error("a node that cannot be read")]
    Node,
    /// A part that does not follow the one before it.
    #[error("parts of a message are missing")]
    Parts,
}

/// The notifications that carry a message.
pub(super) fn encode(said: Said) -> Result<Vec<String>, WireError> {
    let Said { from, number, message } = said;
    let uuids = |ids: BTreeSet<PeerId>| ids.into_iter().map(PeerId::uuid).collect();
    let body = match message {
        Message::Hello(presence) => Body::Hello(presence),
        Message::Alive(presence) => Body::Alive(presence),
        Message::Bye => Body::Bye,
        Message::Update(Update::Peer(PeerState { id, since, node, tunnels })) => Body::Peer {
            id: id.uuid(),
            since,
            node: node.map(|(node, _)| hex(&node.encode_to_vec())),
            tunnels: uuids(tunnels),
        },
        Message::Update(Update::Gone { id, since, end }) => {
            Body::Gone { id: id.uuid(), since, lost: end == End::Lost }
        }
        Message::Update(Update::Ready { from, to }) => {
            Body::Ready { id: from.uuid(), to: to.uuid() }
        }
        Message::All(peers) => Body::All { peers: uuids(peers) },
    };
    let text = serde_json::to_string(&Envelope { from, number, body })?;
    if text.len() <= PART {
        return Ok(vec![text]);
    }
    // Nothing in it is other than ASCII.
    let parts: Vec<&[u8]> = text.as_bytes().chunks(PART).collect();
    let (total, from) = (parts.len(), from.simple());
    let part = |(at, part): (usize, &&[u8])| {
        format!("{from} {at} {total} {}", String::from_utf8_lossy(part))
    };
    Ok(parts.iter().enumerate().map(part).collect())
}

/// Puts messages together.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    incomplete: HashMap<Replica, Incomplete>,
}

#[derive(Debug)]
struct Incomplete {
    next: usize,
    total: usize,
    text: String,
}

impl Decoder {
    /// The message that a notification completes.
    pub(super) fn decode(&mut self, text: &str) -> Result<Option<Said>, WireError> {
        if text.starts_with('{') {
            return parse(text).map(Some);
        }
        let mut words = text.splitn(4, ' ');
        let mut word = || words.next().ok_or(WireError::Parts);
        let from: Replica = word()?.parse().map_err(|_| WireError::Parts)?;
        let at: usize = word()?.parse().map_err(|_| WireError::Parts)?;
        let total: usize = word()?.parse().map_err(|_| WireError::Parts)?;
        let part = word()?;
        let mut incomplete = match self.incomplete.remove(&from) {
            Some(incomplete) if (incomplete.next, incomplete.total) == (at, total) => incomplete,
            _ if at == 0 && total <= MAX_PARTS && self.incomplete.len() < MAX_SENDERS => {
                Incomplete { next: 0, total, text: String::new() }
            }
            _ => return Err(WireError::Parts),
        };
        incomplete.text.push_str(part);
        incomplete.next += 1;
        if incomplete.next < total {
            self.incomplete.insert(from, incomplete);
            return Ok(None);
        }
        parse(&incomplete.text).map(Some)
    }

    /// Forgets what is incomplete.
    pub(super) fn reset(&mut self) {
        self.incomplete.clear();
    }
}

fn parse(text: &str) -> Result<Said, WireError> {
    let Envelope { from, number, body } = serde_json::from_str(text)?;
    let peers = |ids: Vec<Uuid>| ids.into_iter().map(PeerId::from).collect();
    let message = match body {
        Body::Hello(presence) => Message::Hello(presence),
        Body::Alive(presence) => Message::Alive(presence),
        Body::Bye => Message::Bye,
        Body::Peer { id, since, node, tunnels } => {
            let node = node.map(|text| read_node(&text)).transpose()?;
            let state = PeerState { id: id.into(), since, node, tunnels: peers(tunnels) };
            Message::Update(Update::Peer(state))
        }
        Body::Gone { id, since, lost } => {
            let end = if lost { End::Lost } else { End::Disconnected };
            Message::Update(Update::Gone { id: id.into(), since, end })
        }
        Body::Ready { id, to } => Message::Update(Update::Ready { from: id.into(), to: to.into() }),
        Body::All { peers: ids } => Message::All(peers(ids)),
    };
    Ok(Said { from, number, message })
}

fn read_node(text: &str) -> Result<(std::sync::Arc<proto::Node>, NodePublic), WireError> {
    let bytes = unhex(text).ok_or(WireError::Node)?;
    let node = proto::Node::decode(&bytes[..]).map_err(|_| WireError::Node)?;
    let key = NodePublic::from_prefixed(&node.key).map_err(|_| WireError::Node)?;
    Ok((node.into(), key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: Replica = Uuid::from_bytes([7; 16]);

    fn node(length: usize) -> (std::sync::Arc<proto::Node>, NodePublic) {
        let key = NodePublic::from_bytes([3; 32]);
        let node = proto::Node {
            key: key.to_prefixed().to_vec(),
            hostname: "x".repeat(length),
            ..Default::default()
        };
        (node.into(), key)
    }

    fn messages() -> Vec<Message> {
        let id = |number| PeerId::from_bytes([number; 16]);
        let presence = Presence { relay: Some("http://127.0.0.1:1/".to_owned()) };
        let state = |node, tunnels| {
            Message::Update(Update::Peer(PeerState { id: id(1), since: u64::MAX, node, tunnels }))
        };
        vec![
            Message::Hello(presence.clone()),
            Message::Alive(presence),
            Message::Alive(Presence::default()),
            Message::Bye,
            state(None, BTreeSet::new()),
            state(Some(node(10)), [id(2), id(3)].into()),
            state(Some(node(60_000)), (0..200).map(id).collect()),
            Message::Update(Update::Gone { id: id(1), since: 5, end: End::Lost }),
            Message::Update(Update::Gone { id: id(1), since: 6, end: End::Disconnected }),
            Message::Update(Update::Ready { from: id(1), to: id(2) }),
            Message::All(BTreeSet::new()),
            Message::All((0..200).map(id).collect()),
        ]
    }

    #[test]
    fn what_is_said_is_heard() {
        let mut decoder = Decoder::default();
        for (number, message) in messages().into_iter().enumerate() {
            let said = Said { from: ME, number: number as u64, message };
            let parts = encode(said.clone()).unwrap();
            let last = parts.len() - 1;
            for (at, part) in parts.iter().enumerate() {
                assert!(part.len() <= MAX_PAYLOAD);
                let heard = decoder.decode(part).unwrap();
                assert_eq!(heard, (at == last).then(|| said.clone()));
            }
        }
        assert!(decoder.incomplete.is_empty());
    }

    #[test]
    fn parts_of_several_come_at_once_and_in_order() {
        let long = |from, number| {
            let all = (0..250).map(|byte| PeerId::from_bytes([byte; 16])).collect();
            Said { from, number, message: Message::All(all) }
        };
        let other = Uuid::from_bytes([8; 16]);
        let (ours, theirs) = (encode(long(ME, 1)).unwrap(), encode(long(other, 2)).unwrap());
        assert_eq!(ours.len(), 2);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&ours[0]).unwrap(), None);
        assert_eq!(decoder.decode(&theirs[0]).unwrap(), None);
        assert_eq!(decoder.decode(&ours[1]).unwrap(), Some(long(ME, 1)));
        assert!(decoder.decode(&ours[1]).is_err(), "the second without the first");
        assert_eq!(decoder.decode(&ours[0]).unwrap(), None);
        assert_eq!(decoder.decode(&ours[0]).unwrap(), None, "it begins anew");
        assert_eq!(decoder.decode(&ours[1]).unwrap(), Some(long(ME, 1)));
        decoder.reset();
        assert!(decoder.decode(&theirs[1]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(texts in prop::collection::vec(".{0,200}", 1..10), at: u8, total: u8) {
            let mut decoder = Decoder::default();
            for text in texts {
                let _ = decoder.decode(&text);
                let _ = decoder.decode(&format!("{ME} {at} {total} {text}"));
                let _ = decoder.decode(&format!("{{{text}"));
            }
        }
    }
}
