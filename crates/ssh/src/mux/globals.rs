//! Global requests, both ways: answers go out, and come in, in the order of the questions
//! (RFC 4254 section 4).

use std::collections::VecDeque;

use super::{core::Event, request::Global};
use crate::{
    error::Error,
    message,
    transport::Transport,
    wire::{Put, Reader},
};

/// Most requests that wait for their answer; far more than a client with many forwards sends at
/// once.
const LIMIT: usize = 256;

/// What a request about listeners comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Granted; a TCP listener's port is told.
    Granted(Option<u16>),
    /// Refused.
    Refused,
}

/// A global request that is not answered yet, or whose answer waits for those before it.
#[derive(Debug)]
struct Pending {
    number: u64,
    wanted: bool,
    answer: Option<Answer>,
}

/// The requests of both sides.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// The peer's, to be answered.
    pending: VecDeque<Pending>,
    /// Ours, whose answers are awaited. Those without a number only ask for a sign of life.
    asked: VecDeque<Option<u64>>,
    /// The number of the next request, of either side.
    next: u64,
}

impl Globals {
    /// Takes the peer's request. Those that nobody knows are refused here, and all of them where
    /// we do not serve.
    pub(super) fn handle(&mut self, payload: &[u8], serves: bool) -> Result<Option<Event>, Error> {
        let mut reader = Reader::new(payload, "global request");
        reader.byte()?;
        let name = reader.string()?;
        let wanted = reader.boolean()?;
        let request = if serves { Global::parse(name, &mut reader) } else { None };
        if self.pending.len() == LIMIT {
            let length = LIMIT + 1;
            return Err(Error::TooLong { what: "flood of requests", length, limit: LIMIT });
        }
        let number = self.number();
        let answer = request.is_none().then_some(Answer::Refused);
        self.pending.push_back(Pending { number, wanted, answer });
        Ok(request.map(|request| Event::Global(number, request)))
    }

    pub(super) fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.number == number) {
            pending.answer.get_or_insert(answer);
        }
    }

    /// Sends the answers whose turn it is.
    pub(super) fn flush(&mut self, transport: &mut Transport) -> Result<(), Error> {
        while let Some(Pending { wanted, answer: Some(answer), .. }) = self.pending.front() {
            let (wanted, answer) = (*wanted, *answer);
            self.pending.pop_front();
            if !wanted {
                continue;
            }
            match answer {
                Answer::Granted(None) => transport.send(&[&[message::REQUEST_SUCCESS]])?,
                Answer::Granted(Some(port)) => {
                    let port = u32::from(port).to_be_bytes();
                    transport.send(&[&[message::REQUEST_SUCCESS], &port])?;
                }
                Answer::Refused => transport.send(&[&[message::REQUEST_FAILURE]])?,
            }
        }
        Ok(())
    }

    /// Asks the peer for something about listeners; the number under which it is answered.
    pub(super) fn ask(
        &mut self,
        request: &Global,
        transport: &mut Transport,
    ) -> Result<u64, Error> {
        let number = self.number();
        self.asked.push_back(Some(number));
        transport.send(&[&request.encode()])?;
        Ok(number)
    }

    /// Asks the peer whether it is still there.
    pub(super) fn ask_for_life(&mut self, transport: &mut Transport) -> Result<(), Error> {
        self.asked.push_back(None);
        let mut out = vec![message::GLOBAL_REQUEST];
        out.put_string(b"keepalive@openssh.com");
        out.put_boolean(true);
        transport.send(&[&out])
    }

    /// Takes the peer's answer. One that nobody asked for harms nobody.
    pub(super) fn handle_answer(&mut self, payload: &[u8]) -> Result<Option<Event>, Error> {
        let Some(Some(number)) = self.asked.pop_front() else { return Ok(None) };
        let what = "answer to a request";
        let mut reader = Reader::new(payload, what);
        let answer = match (reader.byte()?, payload.len()) {
            (message::REQUEST_SUCCESS, 1) => Answer::Granted(None),
            (message::REQUEST_SUCCESS, _) => {
                let port = reader.u32()?.try_into().map_err(|_| Error::Malformed(what))?;
                Answer::Granted(Some(port))
            }
            _ => Answer::Refused,
        };
        Ok(Some(Event::Answered(number, answer)))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}
