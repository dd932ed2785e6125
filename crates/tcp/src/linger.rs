//! TIME-WAIT (RFC 9293, 3.3.2): connections that are over, whose last acknowledgement may have to
//! be repeated.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::connection::{Flow, Tuple};
use crate::key::Key;
use crate::segment::{Flags, Header, Options, Segment, Stamps};
use crate::seq::Seq;
use crate::time::Time;

/// How long. Twice the longest time that a segment lives, which is minutes on the internet; inside
/// a tunnel nothing is older than the queues on its way. (RFC 9293 leaves the choice, 3.4.2.)
const LASTS: Duration = Duration::from_secs(10);

/// Remembered at most; the oldest is forgotten first.
const MOST: usize = 4096;

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Past {
    until: Time,
    next: Seq,
    their_next: Seq,
    /// Their last timestamp, if there are any.
    stamp: Option<u32>,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Lingering {
    past: HashMap<Tuple, Past, Key>,
    order: VecDeque<(Time, Tuple)>,
}

/// What becomes of a segment for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// It is answered with the last acknowledgement.
    Answer(Header),
    /// It is ignored.
    Ignore,
    /// It begins a new connection (RFC 9293, 3.6.1).
    Anew,
}

impl Lingering {
    pub(crate) fn new(key: Key) -> Self {
        Self { past: HashMap::with_hasher(key), order: VecDeque::new() }
    }

    /// A connection is over.
    pub(crate) fn add(&mut self, tuple: Tuple, flow: &Flow, now: Time) {
        self.forget_old(now);
        let until = now + LASTS;
        let past = Past {
            until,
            next: flow.sender.next_seq(),
            their_next: flow.receiver.next(),
            stamp: flow.stamps(now).map(|it| it.echo),
        };
        self.past.insert(tuple, past);
        self.order.push_back((until, tuple));
    }

    pub(crate) fn contains(&self, tuple: &Tuple, now: Time) -> bool {
        self.past.get(tuple).is_some_and(|past| past.until > now)
    }

    /// The last acknowledgement of a connection.
    pub(crate) fn acknowledgement(&self, tuple: &Tuple, now: Time) -> Option<Header> {
        self.past.get(tuple).map(|past| past.acknowledgement(tuple, now))
    }

    /// A segment arrived; `None` if it is for none of them.
    pub(crate) fn ingest(
        &mut self,
        tuple: &Tuple,
        segment: &Segment<'_>,
        now: Time,
    ) -> Option<Late> {
        let past = self.past.get(tuple).filter(|past| past.until > now)?;
        let flags = segment.header.flags;
        let sequence = past.their_next.near(segment.header.sequence);
        let stamp = segment.header.options.stamps.map(|it| it.value);
        let newer = match (past.stamp, stamp) {
            // RFC 6191.
            (Some(old), Some(new)) => (new.wrapping_sub(old) as i32) > 0,
            (None, _) | (_, None) => sequence >= past.their_next,
        };
        // A RST must not end it too early (RFC 1337).
        if flags.rst {
            return Some(Late::Ignore);
        }
        if flags.syn && !flags.ack && newer {
            self.past.remove(tuple);
            return Some(Late::Anew);
        }
        Some(Late::Answer(past.acknowledgement(tuple, now)))
    }

    fn forget_old(&mut self, now: Time) {
        while let Some((until, tuple)) = self.order.front().copied() {
            if until > now && self.order.len() < MOST {
                return;
            }
            self.order.pop_front();
            if self.past.get(&tuple).is_some_and(|past| past.until == until) {
                self.past.remove(&tuple);
            }
        }
    }
}

impl Past {
    fn acknowledgement(&self, tuple: &Tuple, now: Time) -> Header {
        let stamps = self.stamp.map(|echo| Stamps { value: now.stamp(), echo });
        Header {
            source: tuple.port,
            destination: tuple.remote_port,
            sequence: self.next.wire(),
            acknowledgement: self.their_next.wire(),
            flags: Flags { ack: true, ..Flags::default() },
            window: 0,
            options: Options { stamps, ..Options::default() },
        }
    }
}
