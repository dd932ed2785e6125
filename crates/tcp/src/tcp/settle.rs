//! What follows from a step: events, the connection's part of what is shared, its place in the
//! queues, its timer, its end.

use super::{Queue, Tcp, entry};
use crate::config::MSS;
use crate::connection::{Connection, Noted};
use crate::event::{CloseReason, Event, Id};
use crate::time::Time;

/// Connections looked at when something was acknowledged on another one. Each gets its turn; one that
/// has room by its own acknowledgements is woken by them.
const WOKEN_AT_ONCE: usize = 4;

/// A connection with no more than this to send does not wait behind those with more: keystrokes,
/// acknowledgements, requests.
const LIGHT: usize = 2 * MSS as usize;

/// Room worth waking a writer for, so that it does not write in crumbs.
const WORTH_WAKING: usize = 16 * 1024;

impl Tcp {
    /// Tells the application, if it may name the connection.
    pub(super) fn tell(&mut self, id: Id, event: Event) {
        if entry(&mut self.slots, id).is_some_and(|entry| !entry.released) {
            self.events.push_back(event);
        }
    }

    /// Tells what a segment changed.
    pub(super) fn note(&mut self, id: Id, noted: &Noted, now: Time) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let share = self.lanes.share(entry.lane);
        if let Some(rtt) = noted.rtt {
            share.round_trip(rtt, now);
        }
        if noted.lost {
            share.lost(now);
        }
        if noted.acknowledged > 0 {
            share.acknowledged(noted.acknowledged, now);
        }
        let intake = self.lanes.intake(entry.lane);
        if let Some(rtt) = noted.rtt {
            intake.round_trip(rtt, now);
        }
        if noted.missing {
            intake.lost(now);
        }
        if noted.received > 0 {
            intake.received(&mut entry.part, noted.received, now);
        }
        if noted.received > 0 && !std::mem::replace(&mut entry.told.readable, true) {
            self.tell(id, Event::Readable(id));
        }
        if noted.peer_closed {
            self.tell_peer_closed(id);
        }
    }

    fn tell_peer_closed(&mut self, id: Id) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        if !std::mem::replace(&mut entry.told.peer_closed, true) {
            self.tell(id, Event::PeerClosed(id));
        }
    }

    /// Both directions ended.
    pub(super) fn finish(&mut self, id: Id, linger: bool, now: Time) {
        self.tell_peer_closed(id);
        let Some(entry) = entry(&mut self.slots, id) else { return };
        // Their FIN is acknowledged by who is remembered, or by the last one that leaves now.
        if let Some(flow) = entry.connection.flow().filter(|_| linger) {
            self.lingering.add(entry.connection.tuple, flow, now);
            let tuple = entry.connection.tuple;
            if let Some(header) = self.lingering.acknowledgement(&tuple, now) {
                self.reply(tuple, header);
            }
        }
        self.end(id, CloseReason::Finished);
    }

    /// The connection is over. Its other end knows, or is not to be told.
    pub(super) fn end(&mut self, id: Id, reason: CloseReason) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        if entry.connection.ended().is_some() {
            return;
        }
        entry.connection.end(reason);
        let tuple = entry.connection.tuple;
        self.unmap(tuple, id);
        self.tell(id, Event::Ended(id, reason));
    }

    /// The connection is over for a reason of ours, of which a RST tells its other end.
    pub(super) fn fail(&mut self, id: Id, reason: CloseReason, now: Time) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let tuple = entry.connection.tuple;
        if let Some(header) = entry.connection.reset() {
            self.reply(tuple, header);
        }
        self.end(id, reason);
        self.settle(id, now);
    }

    /// Brings everything that follows from a connection's state up to date.
    pub(super) fn settle(&mut self, id: Id, now: Time) {
        let Some(it) = entry(&mut self.slots, id) else { return };
        if it.released && it.connection.ended().is_none() && it.connection.unread() > 0 {
            // Nobody will read this, and TCP says so (RFC 9293, 3.10.4; RFC 2525, 2.17).
            return self.fail(id, CloseReason::Reset, now);
        }
        if it.released && it.connection.ended().is_some() {
            return self.remove(id);
        }
        let flow = it.connection.flow();
        let load = flow.map_or(0, |flow| flow.sender.flying());
        let memory = match flow {
            Some(flow) => flow.memory(),
            None => it.connection.unread(),
        };
        let share = self.lanes.share(it.lane);
        share.update(&mut it.load, load);
        let cap = share.cap(it.load, now);
        self.memory.update(&mut it.memory, memory);
        let wish = it.connection.wish(cap, &self.config, it.released, now);
        self.timers.set(id, &mut it.timer, wish.later);
        let capped = it.connection.flow().is_some_and(|flow| flow.sender.is_capped(cap));
        if capped && !std::mem::replace(&mut it.told.waits_for_room, true) {
            self.waiting.push_back(id);
        }
        if wish.now && it.queued.is_none() {
            let queue = if is_light(&it.connection) { Queue::Light } else { Queue::Heavy };
            it.queued = Some(queue);
            match queue {
                Queue::Light => self.light.push_back(id),
                Queue::Heavy => self.heavy.push_back(id),
            }
        }
        self.wake_writer(id);
    }

    /// Tells a writer that was cut short if there is room worth it.
    pub(super) fn wake_writer(&mut self, id: Id) {
        let allowance = self.memory.allowance();
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let Some(flow) = entry.connection.flow().filter(|_| entry.told.owes_writable) else {
            return;
        };
        let queued = flow.sender.queued();
        if flow.sender.room(allowance) >= WORTH_WAKING.min(queued.max(1)) {
            entry.told.owes_writable = false;
            if !std::mem::replace(&mut entry.told.writable, true) {
                self.tell(id, Event::Writable(id));
            }
        } else if !std::mem::replace(&mut entry.told.waits_for_room, true) {
            self.waiting.push_back(id);
        }
    }

    /// What is shared has room again: others may have something to send now, in turn.
    pub(super) fn wake_others(&mut self, now: Time) {
        for _ in 0..self.waiting.len().min(WOKEN_AT_ONCE) {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(entry) = entry(&mut self.slots, id) else { continue };
            entry.told.waits_for_room = false;
            self.settle(id, now);
        }
    }
}

fn is_light(connection: &Connection) -> bool {
    connection.flow().is_none_or(|flow| flow.sender.queued() <= LIGHT)
}
