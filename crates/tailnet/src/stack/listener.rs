//! Ports that accept connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{ConnectionId, ListenerId, StackError};

/// All listening ports of a stack.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    ports: BTreeMap<u16, ListenerId>,
    listeners: BTreeMap<ListenerId, Listener>,
}

#[derive(Debug)]
struct Listener {
    port: u16,
    backlog: usize,
    /// Connections whose handshake is not done.
    opening: BTreeSet<ConnectionId>,
    /// Connections that wait to be accepted, oldest first.
    waiting: VecDeque<ConnectionId>,
    /// An event is pending.
    told: bool,
}

impl Listeners {
    pub(super) fn add(
        &mut self,
        id: ListenerId,
        port: u16,
        backlog: usize,
    ) -> Result<(), StackError> {
        if self.ports.contains_key(&port) {
            return Err(StackError::PortInUse);
        }
        self.ports.insert(port, id);
        let listener = Listener {
            port,
            backlog,
            opening: BTreeSet::new(),
            waiting: VecDeque::new(),
            told: false,
        };
        self.listeners.insert(id, listener);
        Ok(())
    }

    pub(super) fn at(&self, port: u16) -> Option<ListenerId> {
        self.ports.get(&port).copied()
    }

    pub(super) fn has_room(&self, id: ListenerId) -> bool {
        self.listeners.get(&id).is_some_and(|it| it.opening.len() + it.waiting.len() < it.backlog)
    }

    pub(super) fn arrived(&mut self, id: ListenerId, connection: ConnectionId) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.opening.insert(connection);
        }
    }

    /// A connection is ready to be accepted. Says whether the owner is to be told.
    pub(super) fn established(&mut self, id: ListenerId, connection: ConnectionId) -> bool {
        let Some(listener) = self.listeners.get_mut(&id) else { return false };
        if listener.opening.remove(&connection) {
            listener.waiting.push_back(connection);
        }
        !std::mem::replace(&mut listener.told, true)
    }

    /// The event was taken; the next connection is worth another.
    pub(super) fn told(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.told = false;
        }
    }

    pub(super) fn accept(&mut self, id: ListenerId) -> Option<ConnectionId> {
        self.listeners.get_mut(&id)?.waiting.pop_front()
    }

    /// A connection ended before it was accepted.
    pub(super) fn forget(&mut self, id: ListenerId, connection: ConnectionId) {
        if let Some(listener) = self.listeners.get_mut(&id) {
            listener.opening.remove(&connection);
            listener.waiting.retain(|waiting| *waiting != connection);
        }
    }

    /// Stops listening; gives the connections that nobody will accept.
    pub(super) fn remove(&mut self, id: ListenerId) -> Vec<ConnectionId> {
        let Some(listener) = self.listeners.remove(&id) else { return Vec::new() };
        self.ports.remove(&listener.port);
        listener.opening.into_iter().chain(listener.waiting).collect()
    }
}
