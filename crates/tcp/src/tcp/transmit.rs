//! From what wants to be sent to packets.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{Queue, Tcp, entry};
use crate::config::{MTU, WIDEST};
use crate::event::{Admission, Id, PacketSink};
use crate::time::Time;

/// Bytes of a connection's turn. Other ends, and what is between, do better with several packets of
/// one connection in a row: they gather them again (gVisor's and Linux's GRO).
const TURN: usize = 16 * MTU;

/// Packets are cut from blocks of this size. Whoever encrypts a packet frees it, so one block serves
/// for ever.
const BLOCK: usize = 4 * WIDEST;

/// Room behind each packet: whoever encrypts it may have to pad it.
const BEHIND: usize = 16;

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
                    room(&mut self.block);
                    header.emit(&tuple.local, &tuple.remote, (&[], &[]), &mut self.block);
                    self.stats.segments_out += 1;
                    sink.send(tuple.remote, cut(&mut self.block));
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
        let mut sent = 0;
        loop {
            // Of one that is gone there is nothing to send.
            let Some(it) = entry(&mut self.slots, id) else { return Served::Sent };
            match sink.admit(it.connection.tuple.remote) {
                Admission::Yes => {
                    it.queued = None;
                    sent += self.send_one(id, queue, sink, now);
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
            if sent >= TURN || self.queue(queue).back() != Some(&id) {
                break;
            }
            self.queue(queue).pop_back();
        }
        Served::Sent
    }

    /// Makes a packet of a connection if it still has one to send; how long it is.
    fn send_one(&mut self, id: Id, queue: Queue, sink: &mut dyn PacketSink, now: Time) -> usize {
        let Some(entry) = entry(&mut self.slots, id) else { return 0 };
        let share = self.lanes.share(entry.lane);
        let has_data = entry.connection.flow().is_some_and(|flow| flow.sender.unsent() > 0);
        if queue == Queue::Light && has_data {
            share.sends_little(entry.load, now);
        }
        let cap = share.cap(entry.load, now);
        let intake = self.lanes.intake(entry.lane).share().min(self.memory.allowance());
        room(&mut self.block);
        let made = entry.connection.make(cap, intake, &self.config, &mut self.block, now);
        let length = self.block.len();
        if let Some(made) = made {
            self.stats.segments_out += 1;
            self.stats.retransmitted += u64::from(made.again);
            sink.send(entry.connection.tuple.remote, cut(&mut self.block));
        }
        self.note_width(id);
        self.settle(id, now);
        length
    }

    fn queue(&mut self, queue: Queue) -> &mut VecDeque<Id> {
        match queue {
            Queue::Light => &mut self.light,
            Queue::Heavy => &mut self.heavy,
        }
    }
}

/// Makes room for a packet.
fn room(block: &mut BytesMut) {
    if block.capacity() < WIDEST + BEHIND {
        block.reserve(BLOCK);
    }
}

/// Cuts the packet off that was made at the block's beginning.
fn cut(block: &mut BytesMut) -> BytesMut {
    let length = block.len();
    block.resize(length + BEHIND, 0);
    let mut packet = block.split();
    packet.truncate(length);
    packet
}
