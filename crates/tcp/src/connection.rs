//! One connection: its phases, each of which owns what it needs.
//!
//! ```text
//!             connect                       answer (a SYN arrived)
//!                │                             │
//!                ▼    SYN, no ACK              ▼
//!            [Syn sent] ─────────────► [Syn received]
//!                │  SYN+ACK                    │  ACK
//!                └───────────► [Open] ◄────────┘
//!                                │  both FINs, a RST, or silence
//!                                ▼
//!                             [Ended]   what was not read yet can be read
//! ```
//!
//! RFC 9293 names seven states of an open connection; they say who has sent and who has
//! acknowledged a FIN, which the two halves know ([`crate::send::Sender`],
//! [`crate::receive::Receiver`]). [`Connection::state`] puts the names back. TIME-WAIT needs none of
//! this and is kept apart (the module `linger`).

use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

mod flow;
mod output;
mod syn;

pub(crate) use flow::Flow;
pub(crate) use syn::{Heard, Syn, refusal};

use crate::config::Config;
use crate::event::CloseReason;
use crate::ring::Ring;
use crate::segment::{Header, Segment};
use crate::time::Time;

/// What tells connections apart: our end, and the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    pub(crate) local: Ipv6Addr,
    pub(crate) port: u16,
    pub(crate) remote: Ipv6Addr,
    pub(crate) remote_port: u16,
}

impl Tuple {
    /// The other end.
    pub(crate) const fn there(&self) -> SocketAddrV6 {
        SocketAddrV6::new(self.remote, self.remote_port, 0, 0)
    }
}

/// The states of RFC 9293 (3.3.2), without LISTEN, which has no connection, and TIME-WAIT, which
/// has none any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum State {
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    Closed,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) tuple: Tuple,
    pub(crate) phase: Phase,
    /// When a segment came last.
    pub(crate) last_heard: Time,
    /// Since when the other end owes an answer and nothing at all has come.
    waiting_since: Option<Time>,
    /// Keep-alive questions since anything came.
    asked: u32,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// We asked.
    SynSent(Syn),
    /// The other end asked, and was answered.
    SynReceived(Syn, Heard),
    /// Bytes go both ways.
    Open(Box<Flow>),
    /// It is over.
    Ended { reason: CloseReason, unread: Ring },
}

/// What a segment did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// Nothing but what the connection notes itself.
    Noted(Noted),
    /// The handshake is done. What else the segment brought is in it.
    Opened(Noted),
    /// To be answered on behalf of no connection, and nothing else.
    Reset(Header),
    /// The other end ended it.
    Ended(CloseReason),
    /// Both directions ended; if we closed first, the last acknowledgement may have to be repeated
    /// (TIME-WAIT).
    Finished { linger: bool },
    /// A connection that was only asked for was taken back: as if it had never been.
    Withdrawn,
}

/// What a segment changed for the application and for what is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Noted {
    /// Bytes to read that were not there before.
    pub(crate) received: usize,
    /// The other end's bytes are all there.
    pub(crate) peer_closed: bool,
    /// Bytes of ours that the other end has.
    pub(crate) acknowledged: usize,
    /// A round trip was measured.
    pub(crate) rtt: Option<Duration>,
    /// Bytes of ours were lost.
    pub(crate) lost: bool,
    /// Something sent to us is missing.
    pub(crate) missing: bool,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// A segment is to be made now.
    pub(crate) now: bool,
    /// Otherwise, when to look again.
    pub(crate) later: Option<Time>,
}

impl Connection {
    pub(crate) fn new(tuple: Tuple, phase: Phase, now: Time) -> Self {
        Self { tuple, phase, last_heard: now, waiting_since: None, asked: 0 }
    }

    /// The name of the state.
    pub(crate) fn state(&self) -> State {
        match &self.phase {
            Phase::SynSent(_) => State::SynSent,
            Phase::SynReceived(..) => State::SynReceived,
            Phase::Open(flow) => flow.state(),
            Phase::Ended { .. } => State::Closed,
        }
    }

    pub(crate) fn flow(&self) -> Option<&Flow> {
        match &self.phase {
            Phase::Open(flow) => Some(flow),
            Phase::SynSent(_) | Phase::SynReceived(..) | Phase::Ended { .. } => None,
        }
    }

    pub(crate) fn flow_mut(&mut self) -> Option<&mut Flow> {
        match &mut self.phase {
            Phase::Open(flow) => Some(flow),
            Phase::SynSent(_) | Phase::SynReceived(..) | Phase::Ended { .. } => None,
        }
    }

    pub(crate) fn ended(&self) -> Option<CloseReason> {
        match &self.phase {
            Phase::Ended { reason, .. } => Some(*reason),
            Phase::SynSent(_) | Phase::SynReceived(..) | Phase::Open(_) => None,
        }
    }

    /// Bytes that wait to be read.
    pub(crate) fn unread(&self) -> usize {
        match &self.phase {
            Phase::Open(flow) => flow.receiver.unread(),
            Phase::Ended { unread, .. } => unread.len(),
            Phase::SynSent(_) | Phase::SynReceived(..) => 0,
        }
    }

    /// It is over; what was not read stays.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        let ended = Phase::Ended { reason, unread: Ring::default() };
        match std::mem::replace(&mut self.phase, ended) {
            Phase::Open(flow) => {
                self.phase = Phase::Ended { reason, unread: flow.receiver.into_unread() };
            }
            Phase::Ended { reason, unread } => self.phase = Phase::Ended { reason, unread },
            Phase::SynSent(_) | Phase::SynReceived(..) => {}
        }
    }

    /// The RST that ends it for the other end, if that has ever heard of it (RFC 9293, 3.10.5).
    pub(crate) fn reset(&self) -> Option<Header> {
        let (sequence, acknowledgement) = match &self.phase {
            // The RFC says nothing to who was asked. But who thinks about it should know that nobody
            // waits for an answer any more.
            Phase::SynSent(syn) if syn.was_sent() => {
                return Some(syn::reset(&self.tuple, syn.iss + 1, None));
            }
            Phase::SynSent(_) | Phase::Ended { .. } => return None,
            Phase::SynReceived(syn, heard) => (syn.iss + 1, heard.irs + 1),
            Phase::Open(flow) => (flow.sender.next_seq(), flow.receiver.next()),
        };
        Some(syn::reset(&self.tuple, sequence, Some(acknowledgement)))
    }

    /// A segment for this connection arrived (RFC 9293, 3.10.7).
    pub(crate) fn ingest(&mut self, segment: &Segment<'_>, config: &Config, now: Time) -> Reaction {
        let reaction = match &mut self.phase {
            Phase::SynSent(syn) => match syn.ingest_sent(&self.tuple, segment, now) {
                syn::Step::Stay(reaction) => reaction,
                syn::Step::Cross(heard) => {
                    let syn = syn.crossed(now);
                    self.phase = Phase::SynReceived(syn, heard);
                    Reaction::Noted(Noted::default())
                }
                syn::Step::Open(heard) => {
                    let flow = Flow::new(syn, &heard, config, now);
                    self.open(flow, segment, now)
                }
            },
            Phase::SynReceived(syn, heard) => {
                match syn.ingest_received(&self.tuple, *heard, segment, now) {
                    syn::Step::Stay(reaction) => reaction,
                    syn::Step::Cross(_) => Reaction::Noted(Noted::default()),
                    syn::Step::Open(heard) => {
                        let flow = Flow::new(syn, &heard, config, now);
                        self.open(flow, segment, now)
                    }
                }
            }
            Phase::Open(flow) => flow.ingest(segment, now),
            Phase::Ended { .. } => return Reaction::Noted(Noted::default()),
        };
        // A segment that is not of this connection says nothing about the other end.
        if !matches!(reaction, Reaction::Reset(_)) {
            self.last_heard = now;
            self.waiting_since = None;
            self.asked = 0;
        }
        reaction
    }

    /// The handshake is done; the rest of the segment that did it is for the open connection.
    fn open(&mut self, mut flow: Flow, segment: &Segment<'_>, now: Time) -> Reaction {
        let reaction = if segment.header.flags.syn {
            flow.receiver.acknowledge_at_once();
            Reaction::Noted(Noted { rtt: flow.sender.rtt().latest(), ..Noted::default() })
        } else {
            flow.ingest(segment, now)
        };
        self.phase = Phase::Open(Box::new(flow));
        match reaction {
            Reaction::Noted(noted) => Reaction::Opened(noted),
            Reaction::Opened(_)
            | Reaction::Reset(_)
            | Reaction::Ended(_)
            | Reaction::Finished { .. }
            | Reaction::Withdrawn => reaction,
        }
    }

    /// The other end owes something: the handshake, an acknowledgement, a FIN that nobody waits for
    /// any longer.
    fn waits(&self, released: bool) -> bool {
        match &self.phase {
            Phase::SynSent(_) | Phase::SynReceived(..) => true,
            Phase::Open(flow) => {
                flow.sender.waits() || (released && flow.state() == State::FinWait2)
            }
            Phase::Ended { .. } => false,
        }
    }

    /// When the connection has to be given up: nothing came although an answer is owed, or no
    /// keep-alive question was answered.
    fn patience(&mut self, config: &Config, released: bool, now: Time) -> Option<Time> {
        if self.waits(released) {
            let since = *self.waiting_since.get_or_insert(now);
            return Some(since + config.user_timeout);
        }
        self.waiting_since = None;
        let every = config.keep_alive.filter(|_| self.flow().is_some())?;
        Some(self.last_heard + every * Config::KEEP_ALIVES + config.user_timeout)
    }

    /// When the next keep-alive question is due (RFC 9293, 3.8.4).
    fn question_due(&self, config: &Config) -> Option<Time> {
        let every = config.keep_alive?;
        let idle = self.flow().is_some_and(|flow| flow.sender.is_idle());
        idle.then(|| self.last_heard + every * (self.asked + 1))
    }

    /// Time has passed. Says why the connection is over if it is.
    pub(crate) fn fire(
        &mut self,
        config: &Config,
        released: bool,
        now: Time,
    ) -> Option<CloseReason> {
        if self.patience(config, released, now).is_some_and(|at| at <= now) {
            return Some(CloseReason::TimedOut);
        }
        if self.question_due(config).is_some_and(|at| at <= now) {
            self.asked += 1;
            if let Some(flow) = self.flow_mut() {
                flow.asks = true;
            }
        }
        if let Some(flow) = self.flow_mut() {
            flow.fire(now);
        }
        None
    }

    /// The way may have failed, and there is another one.
    pub(crate) fn doubt(&mut self, now: Time) {
        match &mut self.phase {
            Phase::SynSent(syn) | Phase::SynReceived(syn, _) => syn.repeat(now),
            Phase::Open(flow) => flow.sender.doubt(now),
            Phase::Ended { .. } => {}
        }
    }

    /// What the connection waits for, if not more than `cap` bytes may be under way.
    pub(crate) fn wish(&mut self, cap: usize, config: &Config, released: bool, now: Time) -> Wish {
        let patience = self.patience(config, released, now);
        let question = self.question_due(config);
        let own = match &mut self.phase {
            Phase::SynSent(syn) | Phase::SynReceived(syn, _) => Some(syn.due()),
            Phase::Open(flow) => flow.due(cap, now),
            Phase::Ended { .. } => return Wish { now: false, later: None },
        };
        let later = [patience, question].into_iter().flatten();
        let wakes = self.flow().and_then(|flow| flow.deadline());
        match own {
            Some(at) if at <= now => Wish { now: true, later: later.chain(wakes).min() },
            own => Wish { now: false, later: later.chain(own).chain(wakes).min() },
        }
    }
}
