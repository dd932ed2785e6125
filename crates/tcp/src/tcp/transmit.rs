//! From what wants to be sent to packets.

use std::collections::VecDeque;

use super::{Queue, Tcp, entry};
use crate::event::{Admission, Id, PacketSink};
use crate::time::Time;

/// Packets of a connection's turn. Other ends, and what is between, do better with several packets of
/// one connection in a row: they gather them again (gVisor's and Linux's GRO).
const TURN: usize = 16;

/// What became of a turn.
enum Served {
    Sent,
    /// There is no way to the other end now.
    Refused,
    /// There is no room for any packet.
    Full,
}

impl Tcp {
    /// Whether something waits for [`Tcp::poll_transmit`].
    pub fn wants_transmit(&self) -> bool {
        !self.replies.is_empty() || !self.light.is_empty() || !self.heavy.is_empty()
    }

    /// Makes packets and hands them to `sink` until there is nothing to send or `sink` is full: what
    /// is light first, and some packets of each connection in turn. A packet is only made when it can
    /// leave, so none that was made is dropped.
    pub fn poll_transmit(&mut self, sink: &mut dyn PacketSink, now: Time) {
        if !self.send_replies(sink) {
            return;
        }
        let Some(mut parked) = self.serve_light(sink, now) else { return };
        let mut refused = 0;
        while refused < self.heavy.len() {
            match self.serve_one(Queue::Heavy, sink, now) {
                Served::Sent => refused = 0,
                Served::Refused => refused += 1,
                Served::Full => return,
            }
            if self.light.len() > parked {
                let Some(left) = self.serve_light(sink, now) else { return };
                parked = left;
            }
        }
    }

    fn send_replies(&mut self, sink: &mut dyn PacketSink) -> bool {
        for _ in 0..self.replies.len() {
            let Some((tuple, header)) = self.replies.pop_front() else { break };
            match sink.admit(tuple.remote) {
                Admission::Yes => {
                    let mut packet = sink.buffer();
                    header.emit(&tuple.local, &tuple.remote, (&[], &[]), &mut packet);
                    self.stats.segments_out += 1;
                    sink.send(tuple.remote, packet);
                }
                Admission::NotThere => self.replies.push_back((tuple, header)),
                Admission::Full => {
                    self.replies.push_front((tuple, header));
                    return false;
                }
            }
        }
        true
    }

    /// Serves those that have little to send; how many of them have nowhere to send it to, `None` if
    /// `sink` is full.
    fn serve_light(&mut self, sink: &mut dyn PacketSink, now: Time) -> Option<usize> {
        let mut refused = 0;
        while refused < self.light.len() {
            match self.serve_one(Queue::Light, sink, now) {
                Served::Sent => refused = 0,
                Served::Refused => refused += 1,
                Served::Full => return None,
            }
        }
        Some(refused)
    }

    /// Makes packets of the connection whose turn it is.
    fn serve_one(&mut self, queue: Queue, sink: &mut dyn PacketSink, now: Time) -> Served {
        let Some(id) = self.queue(queue).pop_front() else { return Served::Sent };
        for sent in 0..TURN {
            // Of one that is gone there is nothing to send.
            let Some(it) = entry(&mut self.slots, id) else { return Served::Sent };
            match sink.admit(it.connection.tuple.remote) {
                Admission::Yes => {
                    it.queued = None;
                    self.send_one(id, queue, sink, now);
                }
                Admission::NotThere => {
                    self.queue(queue).push_back(id);
                    return if sent == 0 { Served::Refused } else { Served::Sent };
                }
                Admission::Full => {
                    self.queue(queue).push_front(id);
                    return Served::Full;
                }
            }
            // With more to send it has queued up again.
            if sent + 1 == TURN || self.queue(queue).back() != Some(&id) {
                break;
            }
            self.queue(queue).pop_back();
        }
        Served::Sent
    }

    fn send_one(&mut self, id: Id, queue: Queue, sink: &mut dyn PacketSink, now: Time) {
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let share = self.lanes.share(entry.lane);
        let has_data = entry.connection.flow().is_some_and(|flow| flow.sender.unsent() > 0);
        if queue == Queue::Light && has_data {
            share.sends_little(entry.load, now);
        }
        let cap = share.cap(entry.load, now);
        let intake = self.lanes.intake(entry.lane).share().min(self.memory.allowance());
        let mut packet = sink.buffer();
        if let Some(made) = entry.connection.make(cap, intake, &self.config, &mut packet, now) {
            self.stats.segments_out += 1;
            self.stats.retransmitted += u64::from(made.again);
            sink.send(entry.connection.tuple.remote, packet);
        }
        self.settle(id, now);
    }

    fn queue(&mut self, queue: Queue) -> &mut VecDeque<Id> {
        match queue {
            Queue::Light => &mut self.light,
            Queue::Heavy => &mut self.heavy,
        }
    }
}
