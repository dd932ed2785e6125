//! What one peer is to be told of others, without I/O.
//!
//! It holds the latest news of each other peer and no history: of two nodes that wait only the
//! newer is told. So it needs no more memory than there are peers, however much happens while its
//! owner does not read, and nobody can fill it for somebody else. (Upstream queues 512 responses
//! and throws out a peer whose queue is full, the receiver for what others send:
//! coder/coder tailnet/coordinator.go.)

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use coderctl_drpc::proto::tailnet::{
    self as proto,
    coordinate_response::{PeerUpdate, peer_update::Kind},
};
use coderctl_tailnet::ids::PeerId;
use prost::Message as _;

/// Updates in one message, and the size from which on it takes no more, in bytes.
const MAX_UPDATES: usize = 64;
const MAX_SIZE: usize = 256 << 10;

/// Errors that wait; older ones give way.
const MAX_ERRORS: usize = 8;

/// How a peer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It said so.
    Disconnected,
    /// Its connection broke; it may still answer.
    Lost,
}

/// What waits for one peer.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Whom it knows, and by which node.
    told: HashMap<PeerId, Arc<proto::Node>>,
    news: HashMap<PeerId, News>,
    /// In which order the news came.
    order: VecDeque<PeerId>,
    errors: VecDeque<String>,
}

/// In the order in which it is told.
#[derive(Debug, Default)]
struct News {
    node: Option<(Arc<proto::Node>, &'static str)>,
    ready: bool,
    end: Option<(End, &'static str)>,
}

impl Mailbox {
    /// Another peer can be reached like this. Says whether that is news.
    pub(super) fn node(
        &mut self,
        peer: PeerId,
        node: &Arc<proto::Node>,
        reason: &'static str,
    ) -> bool {
        if self.told.get(&peer).is_some_and(|told| told == node) {
            return false;
        }
        self.told.insert(peer, node.clone());
        let news = self.news(peer);
        news.node = Some((node.clone(), reason));
        news.end = None;
        true
    }

    /// Another peer is gone. Nothing is said of one that was never told.
    pub(super) fn gone(&mut self, peer: PeerId, end: End, reason: &'static str) -> bool {
        if self.told.remove(&peer).is_none() {
            return false;
        }
        let news = self.news(peer);
        if end == End::Disconnected {
            *news = News::default();
        }
        news.end = Some((end, reason));
        true
    }

    /// Another peer has configured us.
    pub(super) fn ready(&mut self, peer: PeerId) {
        self.news(peer).ready = true;
    }

    /// Something went wrong.
    pub(super) fn error(&mut self, error: String) {
        if self.errors.len() >= MAX_ERRORS {
            self.errors.pop_front();
        }
        self.errors.push_back(error);
    }

    /// The next message.
    pub(super) fn take(&mut self) -> Option<proto::CoordinateResponse> {
        if let Some(error) = self.errors.pop_front() {
            return Some(proto::CoordinateResponse { error, peer_updates: Vec::new() });
        }
        let (mut peer_updates, mut size) = (Vec::new(), 0);
        while peer_updates.len() < MAX_UPDATES
            && size < MAX_SIZE
            && let Some(peer) = self.order.pop_front()
            && let Some(news) = self.news.remove(&peer)
        {
            let before = peer_updates.len();
            peer_updates.extend(news.updates(peer));
            size += peer_updates[before..].iter().map(PeerUpdate::encoded_len).sum::<usize>();
        }
        let response = proto::CoordinateResponse { peer_updates, error: String::new() };
        (!response.peer_updates.is_empty()).then_some(response)
    }

    fn news(&mut self, peer: PeerId) -> &mut News {
        self.news.entry(peer).or_insert_with(|| {
            self.order.push_back(peer);
            News::default()
        })
    }
}

impl News {
    fn updates(self, peer: PeerId) -> impl Iterator<Item = PeerUpdate> {
        let update = move |kind: Kind, reason: &str, node: Option<&proto::Node>| PeerUpdate {
            id: peer.to_bytes().to_vec(),
            node: node.cloned(),
            kind: kind.into(),
            reason: reason.to_owned(),
        };
        let node = self.node.map(|(node, reason)| update(Kind::Node, reason, Some(&node)));
        let ready = self.ready.then(|| update(Kind::ReadyForHandshake, "", None));
        let end = self.end.map(|(end, reason)| match end {
            End::Disconnected => update(Kind::Disconnected, reason, None),
            End::Lost => update(Kind::Lost, reason, None),
        });
        node.into_iter().chain(ready).chain(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId::from_bytes([1; 16]);
    const B: PeerId = PeerId::from_bytes([2; 16]);

    fn node(id: i64) -> Arc<proto::Node> {
        Arc::new(proto::Node { id, ..Default::default() })
    }

    /// What is told: peer, kind, node.
    fn told(mailbox: &mut Mailbox) -> Vec<(PeerId, Kind, Option<i64>)> {
        let mut all = Vec::new();
        while let Some(response) = mailbox.take() {
            for update in response.peer_updates {
                let peer = PeerId::from_slice(&update.id).expect("an id");
                all.push((peer, update.kind(), update.node.map(|node| node.id)));
            }
        }
        all
    }

    /// What happens to one other peer.
    #[derive(Clone, Copy)]
    enum Event {
        Node(i64),
        Ready,
        Lost,
        Disconnected,
    }
    use Event::{Disconnected, Lost, Node, Ready};

    fn apply(mailbox: &mut Mailbox, event: Event) {
        match event {
            Node(id) => drop(mailbox.node(A, &node(id), "test")),
            Ready => mailbox.ready(A),
            Lost => drop(mailbox.gone(A, End::Lost, "test")),
            Disconnected => drop(mailbox.gone(A, End::Disconnected, "test")),
        }
    }

    #[test]
    fn only_the_latest_is_told() {
        let n = |id| (Kind::Node, Some(id));
        let r = (Kind::ReadyForHandshake, None);
        let l = (Kind::Lost, None);
        let d = (Kind::Disconnected, None);
        type Row<'a> = (&'a [Event], &'a [(Kind, Option<i64>)]);
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            (&[],                                  &[]),
            (&[Node(1)],                           &[n(1)]),
            (&[Node(1), Node(1)],                  &[n(1)]),
            (&[Node(1), Node(2)],                  &[n(2)]),
            (&[Node(1), Ready],                    &[n(1), r]),
            (&[Ready],                             &[r]),
            (&[Ready, Ready, Ready],               &[r]),
            (&[Lost],                              &[]),
            (&[Disconnected],                      &[]),
            (&[Node(1), Lost],                     &[n(1), l]),
            (&[Node(1), Ready, Lost],              &[n(1), r, l]),
            (&[Node(1), Disconnected],             &[d]),
            (&[Node(1), Ready, Disconnected],      &[d]),
            (&[Node(1), Lost, Node(2)],            &[n(2)]),
            (&[Node(1), Lost, Node(1)],            &[n(1)]),
            (&[Node(1), Disconnected, Node(2)],    &[n(2)]),
            (&[Node(1), Lost, Lost],               &[n(1), l]),
            (&[Node(1), Lost, Disconnected],       &[n(1), l]),
        ];
        for (events, expected) in table {
            let mut mailbox = Mailbox::default();
            for event in *events {
                apply(&mut mailbox, *event);
            }
            let said: Vec<_> =
                told(&mut mailbox).into_iter().map(|(_, kind, node)| (kind, node)).collect();
            assert_eq!(&said, expected);
        }
    }

    #[test]
    fn what_was_told_is_remembered() {
        let mut mailbox = Mailbox::default();
        assert!(mailbox.node(A, &node(1), "test"));
        assert_eq!(told(&mut mailbox), [(A, Kind::Node, Some(1))]);
        assert!(!mailbox.node(A, &node(1), "test"), "an equal node is no news");
        assert!(mailbox.gone(A, End::Lost, "test"));
        assert_eq!(told(&mut mailbox), [(A, Kind::Lost, None)]);
        assert!(mailbox.node(A, &node(1), "test"), "after that it is");
        assert_eq!(told(&mut mailbox), [(A, Kind::Node, Some(1))]);
    }

    #[test]
    fn peers_come_in_the_order_of_their_news() {
        let mut mailbox = Mailbox::default();
        mailbox.node(B, &node(2), "test");
        mailbox.node(A, &node(1), "test");
        mailbox.node(B, &node(3), "test");
        assert_eq!(told(&mut mailbox), [(B, Kind::Node, Some(3)), (A, Kind::Node, Some(1))]);
    }

    #[test]
    fn much_news_is_several_messages() {
        let mut mailbox = Mailbox::default();
        let large = Arc::new(proto::Node { hostname: "x".repeat(60_000), ..Default::default() });
        for number in 0..200u8 {
            let peer = PeerId::from_bytes([number; 16]);
            let node = if number < 100 { large.clone() } else { node(number.into()) };
            mailbox.node(peer, &node, "test");
        }
        let mut count = 0;
        while let Some(response) = mailbox.take() {
            assert!(response.encoded_len() < 400_000 && response.peer_updates.len() <= 64);
            count += response.peer_updates.len();
        }
        assert_eq!(count, 200);
    }

    #[test]
    fn errors_are_few_and_come_first() {
        let mut mailbox = Mailbox::default();
        mailbox.node(A, &node(1), "test");
        for number in 0..20 {
            mailbox.error(number.to_string());
        }
        let errors: Vec<String> =
            std::iter::from_fn(|| mailbox.take()).map(|response| response.error).collect();
        assert_eq!(errors, ["12", "13", "14", "15", "16", "17", "18", "19", ""]);
    }
}
