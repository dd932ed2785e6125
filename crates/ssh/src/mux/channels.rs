//! The channels of a connection, under their numbers.

use super::{asking::Asking, requests::Requests};
use crate::channel::Channel;

/// Most channels at a time: a browser behind a forward opens dozens, an editor a few hundred.
pub const LIMIT: usize = 4096;

/// How far a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client asks for it; the answer is ours to give.
    Offered,
    /// We have asked for it.
    Asked,
    /// It is open, until both sides have closed it.
    Open,
    /// It was refused.
    Dead,
}

/// What a channel is for.
#[derive(Debug)]
pub(super) enum Use {
    /// It carries bytes both ways.
    Bytes,
    /// A session that the client has asked for, on the server's side.
    Serving(Requests),
    /// The same on the client's.
    Asking(Asking),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) channel: Channel,
    pub(super) phase: Phase,
    pub(super) usage: Use,
    /// Whether nobody on our side will speak of it again.
    pub(super) released: bool,
}

impl Entry {
    pub(super) fn new(channel: Channel, phase: Phase) -> Self {
        Self { channel, phase, usage: Use::Bytes, released: false }
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Offered | Phase::Asked => false,
            Phase::Open => self.channel.is_closed(),
            Phase::Dead => true,
        }
    }
}

/// The channels. A number is free again when both sides have closed the channel and our side has
/// released it.
#[derive(Debug, Default)]
pub(super) struct Channels(Vec<Option<Entry>>);

impl Channels {
    /// The lowest free number: the first is 0, as clients assume that do not wait for it.
    pub(super) fn vacant(&self) -> Option<u32> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        u32::try_from(free).ok().filter(|_| free < LIMIT)
    }

    pub(super) fn insert(&mut self, id: u32, entry: Entry) {
        let index = id as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(entry);
    }

    /// All numbers that are in use, and those before them that were.
    pub(super) fn ids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.0.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.0.get_mut(id as usize)?.as_mut()
    }

    /// The channel of this number, if it is in this phase.
    pub(super) fn in_phase(&mut self, id: u32, phase: Phase) -> Option<&mut Entry> {
        self.get_mut(id).filter(|entry| entry.phase == phase)
    }

    /// Nobody on our side will speak of it again.
    pub(super) fn release(&mut self, id: u32) {
        if let Some(Some(entry)) = self.0.get_mut(id as usize) {
            entry.released = true;
        }
        self.tidy(id);
    }

    /// Frees the number if nobody needs it any more.
    pub(super) fn tidy(&mut self, id: u32) {
        if self.get(id).is_some_and(|entry| entry.released && entry.is_over()) {
            self.0[id as usize] = None;
            while self.0.last().is_some_and(Option::is_none) {
                self.0.pop();
            }
        }
    }
}
