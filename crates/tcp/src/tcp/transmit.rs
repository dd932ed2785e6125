//! From what wants to be sent to packets.

use super::{Queue, Tcp, entry};
use crate::event::{Admission, Id, PacketSink};
use crate::time::Time;

impl Tcp {
    /// Whether something waits for [`Tcp::poll_transmit`].
    pub fn wants_transmit(&self) -> bool {
        !self.replies.is_empty() || !self.light.is_empty() || !self.heavy.is_empty()
    }

    /// Makes packets and hands them to `sink` until there is nothing to send or `sink` is full. A
    /// packet is only made when it can leave, so none that was made is dropped.
    pub fn poll_transmit(&mut self, sink: &mut dyn PacketSink, now: Time) {
        let goes_on = self.send_replies(sink)
            && self.send_segments(Queue::Light, sink, now)
            && self.send_segments(Queue::Heavy, sink, now);
        // Sending may have given connections that wait their turn.
        if goes_on && !self.light.is_empty() {
            self.send_segments(Queue::Light, sink, now);
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

    /// One packet of each connection in turn, until none has anything or `sink` is full.
    fn send_segments(&mut self, queue: Queue, sink: &mut dyn PacketSink, now: Time) -> bool {
        let mut refused = 0;
        while refused < self.queue(queue).len() {
            // What is light goes before each packet of what is heavy.
            if queue == Queue::Heavy
                && refused == 0
                && !self.light.is_empty()
                && !self.send_segments(Queue::Light, sink, now)
            {
                return false;
            }
            let Some(id) = self.queue(queue).pop_front() else { break };
            let Some(it) = entry(&mut self.slots, id) else { continue };
            let to = it.connection.tuple.remote;
            match sink.admit(to) {
                Admission::Yes => {}
                Admission::NotThere => {
                    refused += 1;
                    self.queue(queue).push_back(id);
                    continue;
                }
                Admission::Full => {
                    self.queue(queue).push_front(id);
                    return false;
                }
            }
            refused = 0;
            it.queued = None;
            self.send_one(id, sink, now);
        }
        true
    }

    fn send_one(&mut self, id: Id, sink: &mut dyn PacketSink, now: Time) {
        let intake = self.intake();
        let Some(entry) = entry(&mut self.slots, id) else { return };
        let cap = self.share.cap(entry.load);
        let mut packet = sink.buffer();
        if let Some(made) = entry.connection.make(cap, intake, &self.config, &mut packet, now) {
            self.stats.segments_out += 1;
            self.stats.retransmitted += u64::from(made.again);
            sink.send(entry.connection.tuple.remote, packet);
        }
        self.settle(id, now);
    }

    fn queue(&mut self, queue: Queue) -> &mut std::collections::VecDeque<Id> {
        match queue {
            Queue::Light => &mut self.light,
            Queue::Heavy => &mut self.heavy,
        }
    }
}
