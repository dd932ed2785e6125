//! Who is connected, and who heard from whom. Without I/O.
//!
//! Several connections may have the same key: a client that changes networks, or one whose old
//! connection is not known to be dead. All of them are read; packets go to the one that said
//! something last (coder/tailscale: derp/derp_server.go, `lastWriterIsActive`).

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use coderctl_tailnet::{
    derp::{Frame, PeerGone},
    keys::NodePublic,
};

use super::outbox::Outbox;

/// Who is connected here.
#[derive(Debug, Default)]
pub(super) struct Switchboard {
    /// Connections by key; the last one gets the packets.
    clients: HashMap<NodePublic, Vec<Member>>,
    /// Clients of other relays, each with the connections to those that have it.
    elsewhere: HashMap<NodePublic, Vec<Arc<Outbox>>>,
    /// Other relays, which are told who is here.
    watchers: Vec<Arc<Outbox>>,
    /// Who is told when a client has left: to whom it wrote.
    wrote_to: HashMap<NodePublic, HashSet<NodePublic>>,
    connections: usize,
    next: u64,
}

/// One connection.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) outbox: Arc<Outbox>,
    /// Whether others have the same key.
    pub(super) twin: Arc<AtomicBool>,
}

impl Switchboard {
    /// Connections, all together.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// Clients of other relays.
    pub(super) fn elsewhere(&self) -> usize {
        self.elsewhere.len()
    }

    /// Adds a connection, which gets the packets from now on. When there are more than `same_key`
    /// with its key, the one that was silent for longest is closed.
    pub(super) fn add(&mut self, key: NodePublic, outbox: Arc<Outbox>, same_key: usize) -> Member {
        self.next += 1;
        let member = Member { number: self.next, outbox, twin: Arc::default() };
        let members = self.clients.entry(key).or_default();
        // It is removed by its own task; nothing is sent to it meanwhile.
        if members.len() >= same_key.max(1)
            && let Some(oldest) = members.first()
        {
            oldest.outbox.close();
        }
        members.push(member.clone());
        mark(members);
        self.connections += 1;
        // One that was here already is heard of again, for it may have been elsewhere meanwhile.
        self.announce(&Frame::PeerPresent { peer: key });
        member
    }

    /// Removes a connection. When it was the last with its key, those to whom it wrote are told.
    /// Says whether it was the last.
    pub(super) fn remove(&mut self, key: &NodePublic, number: u64) -> bool {
        let Some(members) = self.clients.get_mut(key) else { return false };
        let before = members.len();
        members.retain(|member| member.number != number);
        self.connections -= before - members.len();
        mark(members);
        if !members.is_empty() {
            return false;
        }
        self.clients.remove(key);
        self.announce(&Frame::PeerGone { peer: *key, reason: PeerGone::Disconnected });
        self.tell_gone(key);
        true
    }

    /// Tells those to whom a client wrote that it is gone, unless it is somewhere.
    fn tell_gone(&mut self, key: &NodePublic) {
        if self.clients.contains_key(key) || self.elsewhere.contains_key(key) {
            return;
        }
        let gone = Frame::PeerGone { peer: *key, reason: PeerGone::Disconnected };
        for peer in self.wrote_to.remove(key).unwrap_or_default() {
            if let Some(outbox) = self.find(&peer) {
                outbox.tell(&gone);
            }
        }
    }

    /// Tells other relays. One that takes nothing begins anew.
    fn announce(&self, frame: &Frame) {
        for watcher in &self.watchers {
            watcher.tell_surely(frame);
        }
    }

    /// Another relay is told who is here, now and from now on.
    pub(super) fn watch(&mut self, watcher: &Arc<Outbox>) {
        if self.watchers.iter().any(|known| Arc::ptr_eq(known, watcher)) {
            return;
        }
        for key in self.clients.keys() {
            watcher.tell_surely(&Frame::PeerPresent { peer: *key });
        }
        self.watchers.push(watcher.clone());
    }

    /// Another relay is told nothing more.
    pub(super) fn unwatch(&mut self, watcher: &Arc<Outbox>) {
        self.watchers.retain(|known| !Arc::ptr_eq(known, watcher));
    }

    /// A client has connected to another relay, which is reached by this connection and gets its
    /// packets from now on.
    pub(super) fn there(&mut self, key: NodePublic, link: &Arc<Outbox>) {
        let links = self.elsewhere.entry(key).or_default();
        links.retain(|known| !Arc::ptr_eq(known, link));
        links.push(link.clone());
    }

    /// A client is not connected to another relay any more.
    pub(super) fn not_there(&mut self, key: &NodePublic, link: &Arc<Outbox>) {
        if let Some(links) = self.elsewhere.get_mut(key) {
            links.retain(|known| !Arc::ptr_eq(known, link));
            if links.is_empty() {
                self.elsewhere.remove(key);
                self.tell_gone(key);
            }
        }
    }

    /// Another relay is not connected any more.
    pub(super) fn cut(&mut self, link: &Arc<Outbox>) {
        let keys: Vec<NodePublic> = self.elsewhere.keys().copied().collect();
        for key in keys {
            self.not_there(&key, link);
        }
    }

    /// The way to a client of another relay.
    pub(super) fn find_there(&self, key: &NodePublic) -> Option<Arc<Outbox>> {
        self.elsewhere.get(key)?.last().cloned()
    }

    /// A connection said something: it gets the packets from now on. Says whether that is new.
    pub(super) fn active(&mut self, key: &NodePublic, number: u64) -> bool {
        let Some(members) = self.clients.get_mut(key) else { return false };
        match members.iter().position(|member| member.number == number) {
            Some(at) if at + 1 < members.len() => {
                members[at..].rotate_left(1);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Where packets for this key go.
    pub(super) fn find(&self, key: &NodePublic) -> Option<Arc<Outbox>> {
        self.clients.get(key)?.last().map(|member| member.outbox.clone())
    }

    /// Remembers that one wrote to the other, for at most `limit` others.
    pub(super) fn note(&mut self, from: NodePublic, to: NodePublic, limit: usize) {
        // Of one that has left another relay already, nobody would say so again.
        if !self.clients.contains_key(&from) && !self.elsewhere.contains_key(&from) {
            return;
        }
        let heard = self.wrote_to.entry(from).or_default();
        if heard.len() >= limit {
            heard.retain(|peer| self.clients.contains_key(peer));
        }
        if heard.len() < limit {
            heard.insert(to);
        }
    }

    /// Forgets to whom a key wrote that is not connected here.
    #[cfg(test)]
    fn noted(&self) -> usize {
        self.wrote_to.values().map(HashSet::len).sum()
    }
}

fn mark(members: &[Member]) {
    for member in members {
        member.twin.store(members.len() > 1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodePublic = NodePublic::from_bytes([1; 32]);
    const B: NodePublic = NodePublic::from_bytes([2; 32]);

    fn outbox() -> Arc<Outbox> {
        Arc::new(Outbox::new(1000, 1000))
    }

    async fn heard(outbox: &Outbox) -> Vec<u8> {
        outbox.take().await.map(|chunk| chunk.bytes().to_vec()).unwrap_or_default()
    }

    #[test]
    fn packets_go_to_the_one_that_spoke_last() {
        let mut board = Switchboard::default();
        let [one, two] = [outbox(), outbox()];
        let first = board.add(A, one.clone(), 8);
        assert!(!first.twin.load(Ordering::Relaxed));
        let second = board.add(A, two.clone(), 8);
        assert!(first.twin.load(Ordering::Relaxed) && second.twin.load(Ordering::Relaxed));
        let found = |board: &Switchboard| board.find(&A).map(|found| Arc::ptr_eq(&found, &two));
        assert_eq!(found(&board), Some(true));
        assert!(board.active(&A, first.number));
        assert!(!board.active(&A, first.number));
        assert_eq!(found(&board), Some(false));
        assert!(!board.remove(&A, first.number));
        assert_eq!(found(&board), Some(true));
        assert!(!second.twin.load(Ordering::Relaxed));
        assert!(board.remove(&A, second.number));
        assert_eq!((found(&board), board.connections()), (None, 0));
    }

    #[tokio::test]
    async fn too_many_with_the_same_key_close_the_most_silent() {
        let mut board = Switchboard::default();
        let [one, two, three] = [outbox(), outbox(), outbox()];
        let first = board.add(A, one.clone(), 2);
        board.add(A, two.clone(), 2);
        board.active(&A, first.number);
        board.add(A, three, 2);
        assert!(two.take().await.is_none());
        one.push(&[6, 0, 0, 0, 0], true);
        assert!(one.take().await.is_some());
    }

    #[tokio::test]
    async fn who_was_written_to_is_told() {
        let mut board = Switchboard::default();
        let [one, two] = [outbox(), outbox()];
        let first = board.add(A, one, 8);
        board.add(B, two.clone(), 8);
        board.note(A, B, 100);
        board.note(A, A, 100);
        assert!(board.remove(&A, first.number));
        let mut gone = bytes::BytesMut::new();
        Frame::PeerGone { peer: A, reason: PeerGone::Disconnected }.encode(&mut gone);
        assert_eq!(heard(&two).await, gone);
        assert_eq!(board.noted(), 0);
    }

    #[tokio::test]
    async fn clients_of_other_relays() {
        let mut board = Switchboard::default();
        let [here, one, two] = [outbox(), outbox(), outbox()];
        let found = |board: &Switchboard| {
            let found = board.find_there(&A)?;
            Some(if Arc::ptr_eq(&found, &one) { 1 } else { 2 })
        };
        board.add(B, here.clone(), 8);
        board.note(A, B, 100);
        assert_eq!(board.noted(), 0, "it is nowhere");
        for (link, number) in [(&one, 1), (&two, 2), (&one, 1)] {
            board.there(A, link);
            assert_eq!(found(&board), Some(number), "where it came last");
        }
        board.note(A, B, 100);
        board.cut(&one);
        assert_eq!((found(&board), board.elsewhere()), (Some(2), 1));
        board.not_there(&A, &one);
        board.not_there(&B, &two);
        assert_eq!(found(&board), Some(2));
        board.not_there(&A, &two);
        assert_eq!((found(&board), board.elsewhere(), board.noted()), (None, 0, 0));
        let mut gone = bytes::BytesMut::new();
        Frame::PeerGone { peer: A, reason: PeerGone::Disconnected }.encode(&mut gone);
        assert_eq!(heard(&here).await, gone);
    }

    #[tokio::test]
    async fn other_relays_are_told_who_is_here() {
        let mut board = Switchboard::default();
        let watcher = outbox();
        let told = |frames: &[Frame]| {
            let mut bytes = bytes::BytesMut::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            bytes
        };
        let present = |peer| Frame::PeerPresent { peer };
        let gone = |peer| Frame::PeerGone { peer, reason: PeerGone::Disconnected };
        board.add(A, outbox(), 8);
        board.watch(&watcher);
        board.watch(&watcher);
        let first = board.add(B, outbox(), 8);
        let second = board.add(B, outbox(), 8);
        board.remove(&B, first.number);
        board.remove(&B, second.number);
        let all = told(&[present(A), present(B), present(B), gone(B)]);
        assert_eq!(heard(&watcher).await, all);
        board.add(B, outbox(), 8);
        board.unwatch(&watcher);
        board.add(B, outbox(), 8);
        assert_eq!(heard(&watcher).await, told(&[present(B)]));
        // What it cannot be told would be missing for ever.
        let narrow = Arc::new(Outbox::new(0, 40));
        board.watch(&narrow);
        assert!(narrow.take().await.is_none(), "closed");
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut board = Switchboard::default();
        board.add(A, outbox(), 8);
        board.add(B, outbox(), 8);
        board.note(A, B, 3);
        for number in 10..20 {
            board.note(A, NodePublic::from_bytes([number; 32]), 3);
            assert!(board.noted() <= 3);
        }
        assert!(board.wrote_to[&A].contains(&B), "one that is connected is kept");
    }
}
