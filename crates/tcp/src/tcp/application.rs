//! What an application does with its connections.

use std::net::{Ipv6Addr, SocketAddrV6};

use super::{Entry, Slot, Tcp, entry, generation, id, index};
use crate::connection::{Phase, Tuple};
use crate::event::{CloseReason, Id, RecvError, SendError, Status};
use crate::share::{Lane, Part};
use crate::time::Time;

impl Tcp {
    /// Lets `read` look at received bytes, in order, until it takes less than it was given; it
    /// returns how many it took. The result is what was taken altogether.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when there is nothing to read now, or never again.
    pub fn recv(
        &mut self,
        id: Id,
        read: &mut dyn FnMut(&[u8]) -> usize,
        now: Time,
    ) -> Result<usize, RecvError> {
        let allowance = self.memory.allowance();
        let entry = named(&mut self.slots, id).ok_or(RecvError::Unknown)?;
        let intake = self.lanes.intake(entry.lane).share().min(allowance);
        if entry.connection.unread() == 0 {
            return Err(nothing_to_read(entry));
        }
        let mut taken = 0;
        loop {
            let bytes = match &entry.connection.phase {
                Phase::Open(flow) => flow.receiver.front(),
                Phase::Ended { unread, .. } => unread.front(),
                Phase::SynSent(_) | Phase::SynReceived(..) => &[],
            };
            let offered = bytes.len();
            let count = if offered == 0 { 0 } else { read(bytes).min(offered) };
            match &mut entry.connection.phase {
                Phase::Open(flow) => flow.receiver.consume(count, intake, now),
                Phase::Ended { unread, .. } => unread.consume(count),
                Phase::SynSent(_) | Phase::SynReceived(..) => {}
            }
            taken += count;
            if count < offered || offered == 0 {
                break;
            }
        }
        self.settle(id, now);
        Ok(taken)
    }

    /// Lets `write` fill free room of the send buffer, until it writes less than there was; it
    /// returns how many bytes it wrote. The result is what was written altogether.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] without room ([`Event::Writable`](crate::Event::Writable) follows); other kinds when nothing can
    /// be sent any more.
    pub fn send(
        &mut self,
        id: Id,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
        now: Time,
    ) -> Result<usize, SendError> {
        let allowance = self.memory.allowance();
        let entry = named(&mut self.slots, id).ok_or(SendError::Unknown)?;
        if let Some(reason) = entry.connection.ended() {
            return Err(SendError::Ended(reason));
        }
        let Some(flow) = entry.connection.flow_mut() else {
            entry.told.owes_writable = true;
            return Err(SendError::Full);
        };
        if flow.sender.is_closed() {
            return Err(SendError::Closed);
        }
        let room = flow.sender.room(allowance);
        let mut written = 0;
        let mut declined = false;
        while written < room && !declined {
            let vacant = flow.sender.vacant(room - written);
            let offered = vacant.len();
            let count = write(vacant).min(offered);
            flow.sender.wrote(count, now);
            written += count;
            declined = count < offered;
        }
        // Only a writer that had more to say wants to hear of room.
        entry.told.owes_writable |= !declined;
        self.settle(id, now);
        if written == 0 && !declined { Err(SendError::Full) } else { Ok(written) }
    }

    /// Ends our direction: a FIN after everything that was sent. Receiving goes on (half-close). A
    /// connection that was not opened yet ends at once.
    pub fn close(&mut self, id: Id, now: Time) {
        let Some(entry) = named(&mut self.slots, id) else { return };
        match &mut entry.connection.phase {
            Phase::Open(flow) => {
                flow.sender.close();
                self.settle(id, now);
            }
            Phase::SynSent(_) | Phase::SynReceived(..) => {
                self.fail(id, CloseReason::Finished, now);
            }
            Phase::Ended { .. } => {}
        }
    }

    /// Ends the connection at once with a RST and forgets it.
    pub fn abort(&mut self, id: Id, now: Time) {
        let Some(entry) = named(&mut self.slots, id) else { return };
        entry.released = true;
        self.fail(id, CloseReason::Reset, now);
    }

    /// The application needs the connection no more: as [`Tcp::close`], but nobody reads any longer.
    /// Sent data still reaches the other end; data that arrives is answered by a RST. The id is
    /// invalid afterwards.
    pub fn release(&mut self, id: Id, now: Time) {
        self.close(id, now);
        let Some(entry) = named(&mut self.slots, id) else { return };
        entry.released = true;
        self.settle(id, now);
    }

    /// The connection's present state, `None` for an id that is not in force.
    pub fn status(&self, id: Id) -> Option<Status> {
        let slot = self.slots.get(index(id)).filter(|slot| slot.generation == generation(id))?;
        let entry = slot.entry.as_ref().filter(|entry| !entry.released)?;
        let connection = &entry.connection;
        let sender = connection.flow().map(|flow| &flow.sender);
        let tuple = connection.tuple;
        Some(Status {
            local: SocketAddrV6::new(tuple.local, tuple.port, 0, 0),
            remote: tuple.there(),
            state: connection.state(),
            readable: connection.unread(),
            writable: sender.map_or(0, |sender| sender.room(self.memory.allowance())),
            unsent: sender.map_or(0, |sender| sender.queued()),
            peer_closed: entry.told.peer_closed,
            closed: sender.is_some_and(|sender| sender.is_closed()),
            ended: connection.ended(),
        })
    }

    /// Ends the connections with `remote`, without a word to it: whoever has that address from now on
    /// does not know them.
    pub fn forget_remote(&mut self, remote: Ipv6Addr, now: Time) {
        for id in self.all(|tuple| tuple.remote == remote) {
            self.end(id, CloseReason::PeerGone);
            self.settle(id, now);
        }
        self.lanes.forget(&remote);
        self.widths.remove(&remote);
    }

    /// Resets the connections of the addresses of ours that `gone` says so of.
    pub fn reset_local(&mut self, gone: impl Fn(&Ipv6Addr) -> bool, now: Time) {
        for id in self.all(|tuple| gone(&tuple.local)) {
            self.fail(id, CloseReason::Reset, now);
        }
    }

    /// Packets to `remote` take this lane from now on, and so do the connections with it.
    pub fn set_lane(&mut self, remote: Ipv6Addr, lane: Lane, now: Time) {
        if !self.lanes.set(remote, lane) {
            return;
        }
        for id in self.all(|tuple| tuple.remote == remote) {
            let Some(entry) = entry(&mut self.slots, id) else { continue };
            self.lanes.share(entry.lane).update(&mut entry.load, 0);
            self.lanes.leave(entry.lane);
            (entry.lane, entry.part) = (self.lanes.join(remote), Part::default());
            if let Some(flow) = entry.connection.flow_mut() {
                flow.sender.way_changed();
            }
            self.settle(id, now);
        }
    }

    /// The way to `remote` may have failed, and packets to it take another one, too: what should
    /// have been answered is repeated at once, rather than when a timer says so that has been
    /// doubled again and again.
    pub fn doubt(&mut self, remote: Ipv6Addr, now: Time) {
        for id in self.all(|tuple| tuple.remote == remote) {
            let Some(entry) = entry(&mut self.slots, id) else { continue };
            entry.connection.doubt(now);
            self.settle(id, now);
        }
    }

    /// The connections that `wanted` says so of, those included that the application does not name.
    pub(super) fn all(&self, wanted: impl Fn(&Tuple) -> bool) -> Vec<Id> {
        let is_wanted =
            |slot: &Slot| slot.entry.as_ref().is_some_and(|entry| wanted(&entry.connection.tuple));
        let all = self.slots.iter().enumerate().filter(|(_, slot)| is_wanted(slot));
        all.map(|(at, slot)| id(at as u32, slot.generation)).collect()
    }
}

/// A connection that the application may name.
fn named(slots: &mut [Slot], id: Id) -> Option<&mut Entry> {
    entry(slots, id).filter(|entry| !entry.released)
}

fn nothing_to_read(entry: &Entry) -> RecvError {
    match (entry.told.peer_closed, entry.connection.ended()) {
        (true, _) | (_, Some(CloseReason::Finished)) => RecvError::Finished,
        (false, Some(reason)) => RecvError::Ended(reason),
        (false, None) => RecvError::Empty,
    }
}
