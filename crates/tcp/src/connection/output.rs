//! From what a connection has to say to a packet.

use bytes::BytesMut;

use super::{Connection, Flow, Phase, Tuple};
use crate::config::Config;
use crate::segment::{Flags, Header, Options, SackBlocks};
use crate::send::Next;
use crate::seq::{Range, Seq};
use crate::time::Time;

/// A packet was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emit {
    /// What is in it was sent before.
    pub(crate) again: bool,
}

impl Connection {
    /// Makes the next packet, into `out`, which is empty; `None` if there is none to be made.
    pub(crate) fn make(
        &mut self,
        cap: usize,
        intake: usize,
        config: &Config,
        out: &mut BytesMut,
        now: Time,
    ) -> Option<Emit> {
        let tuple = self.tuple;
        let (syn, heard) = match &mut self.phase {
            Phase::SynSent(syn) => (syn, None),
            Phase::SynReceived(syn, heard) => (syn, Some(&*heard)),
            Phase::Open(flow) => return flow.make(&tuple, cap, intake, out, now),
            Phase::Ended { .. } => return None,
        };
        let again = syn.was_sent();
        let header = syn.make(&tuple, heard, config, now);
        header.emit(&tuple.local, &tuple.remote, (&[], &[]), out);
        syn.sent(now);
        Some(Emit { again })
    }
}

impl Flow {
    fn make(
        &mut self,
        tuple: &Tuple,
        cap: usize,
        intake: usize,
        out: &mut BytesMut,
        now: Time,
    ) -> Option<Emit> {
        let acknowledges = self.receiver.due(now).is_some_and(|at| at <= now);
        // Reports do not fit beside a full segment, and are not to wait for a shorter one.
        if acknowledges && self.sack && self.receiver.has_report() {
            return Some(self.make_acknowledgement(tuple, intake, out, now));
        }
        match self.sender.next(cap, now) {
            Next::Segment(range) => Some(self.make_segment(tuple, range, (cap, intake), out, now)),
            Next::Question => {
                self.make_question(tuple, intake, out, now);
                self.sender.sent(Next::Question, now.stamp(), now);
                Some(Emit { again: false })
            }
            Next::Later(_) | Next::Nothing if std::mem::take(&mut self.asks) => {
                self.make_question(tuple, intake, out, now);
                Some(Emit { again: false })
            }
            Next::Later(_) | Next::Nothing => {
                acknowledges.then(|| self.make_acknowledgement(tuple, intake, out, now))
            }
        }
    }

    fn make_acknowledgement(
        &mut self,
        tuple: &Tuple,
        intake: usize,
        out: &mut BytesMut,
        now: Time,
    ) -> Emit {
        let (mut header, blocks) = self.header(tuple, self.sender.next_seq(), intake, now);
        if self.sack {
            header.options.sack = blocks;
        }
        header.emit(&tuple.local, &tuple.remote, (&[], &[]), out);
        Emit { again: false }
    }

    /// A segment that has to be answered: it lies before what is acknowledged.
    fn make_question(&mut self, tuple: &Tuple, intake: usize, out: &mut BytesMut, now: Time) {
        let (header, _) = self.header(tuple, self.sender.una() - 1, intake, now);
        header.emit(&tuple.local, &tuple.remote, (&[], &[]), out);
    }

    fn make_segment(
        &mut self,
        tuple: &Tuple,
        range: Range,
        (cap, intake): (usize, usize),
        out: &mut BytesMut,
        now: Time,
    ) -> Emit {
        let (mut header, _) = self.header(tuple, range.start, intake, now);
        let again = range.start < self.sender.next_seq();
        let (bytes, fin, last) = self.sender.contents(range);
        header.flags.fin = fin;
        // Behind it comes nothing for now, so its acknowledgement is waited for (RFC 9293, 3.9.1.2).
        header.flags.psh = !bytes.0.is_empty() && (last || self.sender.fills(range, cap));
        header.emit(&tuple.local, &tuple.remote, bytes, out);
        self.sender.sent(Next::Segment(range), now.stamp(), now);
        Emit { again }
    }

    /// What every segment of an open connection has.
    fn header(
        &mut self,
        tuple: &Tuple,
        sequence: Seq,
        intake: usize,
        now: Time,
    ) -> (Header, SackBlocks) {
        let (window, blocks) = self.receiver.acknowledging(intake);
        self.stamped();
        let header = Header {
            source: tuple.port,
            destination: tuple.remote_port,
            sequence: sequence.wire(),
            acknowledgement: self.receiver.next().wire(),
            flags: Flags { ack: true, ..Flags::default() },
            window,
            options: Options { stamps: self.stamps(now), ..Options::default() },
        };
        (header, blocks)
    }
}
