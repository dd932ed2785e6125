//! The session's decisions, without a clock, a task or a waker.
//!
//! How it must be driven: after each call that may change something, drain
//! [`poll_event`](Core::poll_event) and hand [`take_output`](Core::take_output) to the byte
//! stream; call [`handle_timeout`](Core::handle_timeout) when [`poll_timeout`](Core::poll_timeout)
//! is due. Input is taken in any pieces; while [`wants_input`](Core::wants_input) is false, none
//! should be read, because answers to it are piling up unsent.
//!
//! What is queued is bounded: data by [`OUT_HARD_LIMIT`] and one frame, answers to the other side by
//! not reading on at [`INPUT_PAUSE`], received data by each stream's window, streams by the accept
//! backlog and by what the owner accepts.

mod input;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use self::input::Input;
use super::{
    CloseReason, Config, OpenError,
    frame::{Flags, GO_AWAY_NORMAL, Header, Kind},
    state::{Opening, State},
};

/// Queued bytes at which streams stop adding data: enough to fill a write, little enough that a
/// window update or a ping answer is not late.
const OUT_LIMIT: usize = 64 * 1024;

/// The largest data frame that is sent. A receiver takes anything up to its window.
const MAX_FRAME: usize = 64 * 1024;

/// A stream that has sent nothing since the last write to the byte stream may add this much even
/// then, so that a busy neighbour cannot starve it,
const TURN: usize = 16 * 1024;

/// up to this many queued bytes.
const OUT_HARD_LIMIT: usize = 512 * 1024;

/// Queued bytes at which no more input is read: above what data alone can reach, so that only a
/// peer that provokes answers without reading them gets there.
const INPUT_PAUSE: usize = 1024 * 1024;

/// Own streams that may wait for their acknowledgement: what a listener's backlog is by default
/// (hashicorp/yamux: mux.go `AcceptBacklog`).
const MAX_UNACKNOWLEDGED: usize = 256;

/// Streams that nobody wants and that still wait for the other side's FIN; beyond it the oldest is
/// reset. The Go side finishes within a round trip, so this many at once is somebody's mischief.
const MAX_CLOSING: usize = 4096;

/// Which side of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opens odd streams.
    Client,
    /// Opens even streams.
    Server,
}

/// What the owner has to wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A stream has data, or its end.
    Readable(u32),
    /// A stream may send again.
    Writable(u32),
    /// The other side has finished or reset a stream.
    Left(u32),
    /// A stream waits to be accepted.
    Incoming,
    /// A stream may be opened again, or never.
    Opening,
    /// A ping was answered.
    Pong {
        /// Its value.
        value: u32,
        /// Time since it was sent.
        after: Duration,
    },
    /// The session has ended; everything that waits has to look again.
    Closed,
}

/// A deadline, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Keepalive,
    Pong,
    Open(u32),
    Close(u32),
}

/// What reading from a stream gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// The other side has finished.
    End,
    /// Nothing yet.
    Blocked,
    /// The other side has reset the stream.
    Reset,
    /// The session has ended first.
    Closed(CloseReason),
}

/// What writing to a stream gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// So many bytes were taken.
    Bytes(usize),
    /// No window, or too much is queued.
    Blocked,
    /// This side has finished the stream.
    Finished,
    /// The other side has reset the stream.
    Reset,
    /// The session has ended.
    Closed(CloseReason),
}

#[derive(Debug)]
pub(crate) struct Core {
    role: Role,
    config: Config,
    /// `None` when there are none left.
    next_id: Option<u32>,
    streams: BTreeMap<u32, State>,
    backlog: VecDeque<u32>,
    /// Streams that nobody wants and the other side has not finished.
    closing: usize,
    /// Own streams that wait for their acknowledgement.
    unacknowledged: usize,
    peer_going_away: bool,
    input: Input,
    /// Frames in the order of their stream: opening, data, end.
    out: Vec<u8>,
    /// Frames that may go before those: pings and window updates.
    urgent: Vec<u8>,
    /// Streams that found `out` full.
    waiting: BTreeSet<u32>,
    /// Counts the writes to the byte stream.
    turn: u64,
    timers: BTreeSet<(Instant, Timer)>,
    next_ping: u32,
    /// Pings without an answer yet.
    pings: BTreeMap<u32, Instant>,
    keepalive: Option<u32>,
    events: VecDeque<Event>,
    closed: Option<CloseReason>,
}

impl Core {
    pub(crate) fn new(role: Role, config: Config, now: Instant) -> Self {
        let mut core = Self {
            role,
            next_id: Some(match role {
                Role::Client => 1,
                Role::Server => 2,
            }),
            streams: BTreeMap::new(),
            backlog: VecDeque::new(),
            closing: 0,
            unacknowledged: 0,
            peer_going_away: false,
            input: Input::START,
            out: Vec::new(),
            urgent: Vec::new(),
            waiting: BTreeSet::new(),
            turn: 1,
            timers: BTreeSet::new(),
            next_ping: 0,
            pings: BTreeMap::new(),
            keepalive: None,
            events: VecDeque::new(),
            closed: None,
            config,
        };
        core.schedule_keepalive(now);
        core
    }

    /// Why the session ended, if it did.
    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    // Streams.

    /// Opens a stream; `None` while too many wait for their acknowledgement.
    pub(crate) fn open(&mut self, now: Instant) -> Result<Option<u32>, OpenError> {
        if let Some(reason) = &self.closed {
            return Err(reason.clone().into());
        }
        if self.peer_going_away {
            return Err(OpenError::GoingAway);
        }
        let id = self.next_id.ok_or(OpenError::Exhausted)?;
        if self.unacknowledged >= MAX_UNACKNOWLEDGED {
            return Ok(None);
        }
        self.next_id = id.checked_add(2);
        self.unacknowledged += 1;
        let deadline = now + self.config.open_timeout;
        self.timers.insert((deadline, Timer::Open(id)));
        let mut state = State::new(Opening::SynSent(deadline));
        let grant = state.renew(self.config.window(), true).unwrap_or(0);
        self.streams.insert(id, state);
        push(&mut self.out, Kind::WindowUpdate, Flags::SYN, id, grant);
        Ok(Some(id))
    }

    /// Takes a stream of the other side and acknowledges it.
    pub(crate) fn accept(&mut self) -> Option<u32> {
        while let Some(id) = self.backlog.pop_front() {
            let Some(state) = self.streams.get_mut(&id) else { continue };
            if state.reset {
                self.streams.remove(&id);
                continue;
            }
            let grant = state.renew(self.config.window(), true).unwrap_or(0);
            let flags = state.take_flags();
            push(&mut self.out, Kind::WindowUpdate, flags, id, grant);
            return Some(id);
        }
        None
    }

    pub(crate) fn read(&mut self, id: u32, out: &mut [u8]) -> Read {
        let Some(state) = self.streams.get_mut(&id) else { return Read::Reset };
        if state.reset {
            return Read::Reset;
        }
        let n = state.read_into(out);
        if n == 0 && !out.is_empty() {
            return match &self.closed {
                _ if state.peer_finished => Read::End,
                Some(reason) => Read::Closed(reason.clone()),
                None => Read::Blocked,
            };
        }
        if self.closed.is_none()
            && let Some(delta) = state.renew(self.config.window(), false)
        {
            let flags = state.take_flags();
            push(&mut self.urgent, Kind::WindowUpdate, flags, id, delta);
        }
        Read::Bytes(n)
    }

    pub(crate) fn write(&mut self, id: u32, data: &[u8]) -> Write {
        if let Some(reason) = &self.closed {
            return Write::Closed(reason.clone());
        }
        let Some(state) = self.streams.get_mut(&id) else { return Write::Reset };
        if state.reset {
            return Write::Reset;
        }
        if state.finished {
            return Write::Finished;
        }
        let mut n = data.len().min(state.send_window as usize).min(MAX_FRAME);
        if n == 0 && !data.is_empty() {
            return Write::Blocked;
        }
        if self.out.len() >= OUT_LIMIT {
            if state.turn == self.turn || self.out.len() >= OUT_HARD_LIMIT {
                self.waiting.insert(id);
                return Write::Blocked;
            }
            n = n.min(TURN);
        }
        if n > 0 {
            state.turn = self.turn;
            state.send_window -= n as u32;
            let flags = state.take_flags();
            push(&mut self.out, Kind::Data, flags, id, n as u32);
            self.out.extend_from_slice(&data[..n]);
        }
        Write::Bytes(n)
    }

    /// Sends FIN; reading goes on.
    pub(crate) fn finish(&mut self, id: u32) {
        if self.closed.is_some() {
            return;
        }
        let Some(state) = self.streams.get_mut(&id) else { return };
        if state.finished || state.reset {
            return;
        }
        state.finished = true;
        let flags = state.take_flags().with(Flags::FIN);
        push(&mut self.out, Kind::WindowUpdate, flags, id, 0);
    }

    /// Nobody wants the stream any more: FIN, and RST if the other side does not follow in time.
    pub(crate) fn release(&mut self, id: u32, now: Instant) {
        if self.streams.get(&id).is_none_or(|state| !state.wanted) {
            return;
        }
        self.finish(id);
        self.let_go(id, now);
    }

    /// As [`release`](Self::release), but FIN goes out only after the other side's.
    pub(crate) fn linger(&mut self, id: u32, now: Instant) {
        let left = self.streams.get(&id).is_none_or(|state| state.peer_finished);
        if left {
            self.finish(id);
        }
        self.let_go(id, now);
    }

    fn let_go(&mut self, id: u32, now: Instant) {
        self.waiting.remove(&id);
        let closed = self.closed.is_some();
        let Some(state) = self.streams.get_mut(&id) else { return };
        state.wanted = false;
        state.discard();
        if state.is_over() || closed {
            self.remove(id);
            return;
        }
        let at = now + self.config.close_timeout;
        state.close_at = Some(at);
        self.timers.insert((at, Timer::Close(id)));
        self.closing += 1;
        if self.closing > MAX_CLOSING {
            let oldest = self.timers.iter().find_map(|(_, timer)| match timer {
                Timer::Close(id) => Some(*id),
                Timer::Keepalive | Timer::Pong | Timer::Open(_) => None,
            });
            if let Some(id) = oldest {
                self.reset(id);
            }
        }
    }

    /// Gives a stream up.
    fn reset(&mut self, id: u32) {
        push(&mut self.out, Kind::WindowUpdate, Flags::RST, id, 0);
        self.remove(id);
    }

    /// The other side has finished or reset the stream, or the session has ended.
    pub(crate) fn has_left(&self, id: u32) -> bool {
        self.closed.is_some()
            || self.streams.get(&id).is_none_or(|state| state.reset || state.peer_finished)
    }

    // The session.

    /// Sends a ping; its answer comes as an event with the same value.
    pub(crate) fn ping(&mut self, now: Instant) -> Result<u32, CloseReason> {
        if let Some(reason) = &self.closed {
            return Err(reason.clone());
        }
        let value = self.next_ping;
        self.next_ping = value.wrapping_add(1);
        self.pings.insert(value, now);
        push(&mut self.urgent, Kind::Ping, Flags::SYN, 0, value);
        Ok(value)
    }

    /// Nobody waits for that answer any more.
    pub(crate) fn forget_ping(&mut self, value: u32) {
        self.pings.remove(&value);
    }

    /// Asks the other side to open no new streams.
    pub(crate) fn go_away(&mut self) {
        if self.closed.is_none() {
            push(&mut self.out, Kind::GoAway, Flags::NONE, 0, GO_AWAY_NORMAL);
        }
    }

    /// Ends the session; what is queued is still to be sent.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        self.timers.clear();
        self.pings.clear();
        self.waiting.clear();
        self.streams.retain(|_, state| state.wanted);
        for id in std::mem::take(&mut self.backlog) {
            self.streams.remove(&id);
        }
        self.events.push_back(Event::Closed);
    }

    // Time.

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Keepalive => {
                    if let Ok(value) = self.ping(now) {
                        self.keepalive = Some(value);
                        self.timers.insert((now + self.config.write_timeout, Timer::Pong));
                    }
                }
                Timer::Pong => self.close(CloseReason::KeepaliveTimeout),
                Timer::Open(_) => self.close(CloseReason::OpenTimeout),
                Timer::Close(id) => self.reset(id),
            }
        }
    }

    fn schedule_keepalive(&mut self, now: Instant) {
        if let Some(interval) = self.config.keepalive_interval {
            self.timers.insert((now + interval, Timer::Keepalive));
        }
    }

    // Output.

    /// Moves everything that is queued to the end of `into`.
    pub(crate) fn take_output(&mut self, into: &mut Vec<u8>) {
        into.append(&mut self.urgent);
        if into.is_empty() {
            std::mem::swap(into, &mut self.out);
        } else {
            into.append(&mut self.out);
        }
        self.turn += 1;
        for id in std::mem::take(&mut self.waiting) {
            self.events.push_back(Event::Writable(id));
        }
    }

    /// Something is queued.
    pub(crate) fn has_output(&self) -> bool {
        !self.out.is_empty() || !self.urgent.is_empty()
    }

    /// What happened, in order.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn remove(&mut self, id: u32) {
        let Some(state) = self.streams.remove(&id) else { return };
        if let Opening::SynSent(deadline) = state.opening {
            self.timers.remove(&(deadline, Timer::Open(id)));
            self.unacknowledged -= 1;
            self.events.push_back(Event::Opening);
        }
        if let Some(at) = state.close_at {
            self.closing -= 1;
            self.timers.remove(&(at, Timer::Close(id)));
        }
    }
}

fn push(queue: &mut Vec<u8>, kind: Kind, flags: Flags, stream: u32, length: u32) {
    queue.extend_from_slice(&Header { kind, flags, stream, length }.encode());
}
