//! What the other side sends, and what it changes.

use std::time::Instant;

use super::{Core, Event, INPUT_PAUSE, Role, Timer, push};
use crate::yamux::{
    CloseReason, ProtocolError,
    frame::{Flags, GO_AWAY_NORMAL, GO_AWAY_PROTOCOL, HEADER_LEN, Header, Kind},
    state::{Opening, State},
};

/// What the parser is in the middle of.
#[derive(Debug)]
pub(super) enum Input {
    Header { bytes: [u8; HEADER_LEN], filled: usize },
    Payload { stream: u32, left: u32, flags: Flags },
}

impl Input {
    pub(super) const START: Self = Self::Header { bytes: [0; HEADER_LEN], filled: 0 };
}

impl Core {
    /// More should be read from the byte stream.
    pub(crate) fn wants_input(&self) -> bool {
        self.closed.is_none() && self.out.len() + self.urgent.len() < INPUT_PAUSE
    }

    /// Bytes from the other side, in any pieces.
    pub(crate) fn handle_input(&mut self, now: Instant, mut bytes: &[u8]) {
        while self.closed.is_none() && !bytes.is_empty() {
            if let Err(error) = self.step(now, &mut bytes) {
                push(&mut self.out, Kind::GoAway, Flags::NONE, 0, GO_AWAY_PROTOCOL);
                self.close(error.into());
            }
        }
    }

    /// The other side has ended the byte stream.
    pub(crate) fn handle_end(&mut self) {
        let reason = match self.input {
            Input::Header { filled: 0, .. } => CloseReason::Remote,
            Input::Header { .. } | Input::Payload { .. } => ProtocolError::Truncated.into(),
        };
        self.close(reason);
    }

    fn step(&mut self, now: Instant, bytes: &mut &[u8]) -> Result<(), ProtocolError> {
        match &mut self.input {
            Input::Header { bytes: header, filled } => {
                let (taken, rest) = bytes.split_at(bytes.len().min(HEADER_LEN - *filled));
                header[*filled..*filled + taken.len()].copy_from_slice(taken);
                *filled += taken.len();
                *bytes = rest;
                if *filled == HEADER_LEN {
                    let header = Header::decode(header)?;
                    self.input = Input::START;
                    self.handle_header(now, header)?;
                }
                Ok(())
            }
            Input::Payload { stream, left, flags } => {
                let (taken, rest) = bytes.split_at(bytes.len().min(*left as usize));
                *left -= taken.len() as u32;
                *bytes = rest;
                let (id, done, flags) = (*stream, *left == 0, *flags);
                if let Some(state) = self.streams.get_mut(&id) {
                    state.arrive(taken);
                    self.events.push_back(Event::Readable(id));
                }
                if done {
                    self.input = Input::START;
                    self.handle_flags(id, flags)?;
                }
                Ok(())
            }
        }
    }

    fn handle_header(&mut self, now: Instant, header: Header) -> Result<(), ProtocolError> {
        match header.kind {
            Kind::Ping => {
                self.handle_ping(now, header);
                Ok(())
            }
            Kind::GoAway => {
                self.handle_go_away(header.length);
                Ok(())
            }
            Kind::WindowUpdate => {
                self.handle_syn(header)?;
                if let Some(state) = self.streams.get_mut(&header.stream) {
                    state.send_window = state.send_window.saturating_add(header.length);
                    self.events.push_back(Event::Writable(header.stream));
                }
                self.handle_flags(header.stream, header.flags)
            }
            Kind::Data => {
                self.handle_syn(header)?;
                self.handle_data(header)
            }
        }
    }

    fn handle_data(&mut self, header: Header) -> Result<(), ProtocolError> {
        let Header { stream, length, flags, kind: _ } = header;
        // What comes for a stream that is gone, or after its end, is read and dropped.
        let live =
            self.streams.get_mut(&stream).filter(|state| !state.is_over() && !state.peer_finished);
        if let Some(state) = live {
            state.announce(length).map_err(|window| ProtocolError::Window {
                stream,
                length,
                window,
            })?;
        }
        if length == 0 {
            return self.handle_flags(stream, flags);
        }
        self.input = Input::Payload { stream, left: length, flags };
        Ok(())
    }

    fn handle_syn(&mut self, header: Header) -> Result<(), ProtocolError> {
        if !header.flags.has(Flags::SYN) {
            return Ok(());
        }
        let id = header.stream;
        let theirs = match self.role {
            Role::Client => id != 0 && id.is_multiple_of(2),
            Role::Server => !id.is_multiple_of(2),
        };
        if !theirs {
            return Err(ProtocolError::StreamId(id));
        }
        if self.streams.contains_key(&id) {
            return Err(ProtocolError::Duplicate(id));
        }
        if self.backlog.len() >= self.config.accept_backlog {
            push(&mut self.out, Kind::WindowUpdate, Flags::RST, id, 0);
            return Ok(());
        }
        self.streams.insert(id, State::new(Opening::SynReceived));
        self.backlog.push_back(id);
        self.events.push_back(Event::Incoming);
        Ok(())
    }

    /// ACK, FIN and RST; after the payload, so that an end never overtakes data.
    fn handle_flags(&mut self, id: u32, flags: Flags) -> Result<(), ProtocolError> {
        let Some(state) = self.streams.get_mut(&id) else { return Ok(()) };
        if flags.0 & (Flags::ACK.0 | Flags::FIN.0 | Flags::RST.0) == 0 {
            return Ok(());
        }
        if let Opening::SynSent(deadline) = state.opening {
            state.opening = Opening::Done;
            self.timers.remove(&(deadline, Timer::Open(id)));
            self.unacknowledged -= 1;
            self.events.push_back(Event::Opening);
        }
        if flags.has(Flags::FIN) && !state.reset {
            if state.peer_finished {
                return Err(ProtocolError::Finished(id));
            }
            state.peer_finished = true;
            if !state.wanted && !state.finished {
                state.finished = true;
                let flags = state.take_flags().with(Flags::FIN);
                push(&mut self.out, Kind::WindowUpdate, flags, id, 0);
            }
            self.events.extend([Event::Readable(id), Event::Left(id)]);
        }
        if flags.has(Flags::RST) && !state.reset {
            state.reset = true;
            state.discard();
            self.events.extend([Event::Readable(id), Event::Writable(id), Event::Left(id)]);
        }
        if state.is_over() && !state.wanted {
            self.remove(id);
        }
        Ok(())
    }

    fn handle_ping(&mut self, now: Instant, header: Header) {
        if header.flags.has(Flags::SYN) {
            push(&mut self.urgent, Kind::Ping, Flags::ACK, 0, header.length);
            return;
        }
        let value = header.length;
        if let Some(sent) = self.pings.remove(&value) {
            self.events
                .push_back(Event::Pong { value, after: now.saturating_duration_since(sent) });
        }
        if self.keepalive == Some(value) {
            self.keepalive = None;
            self.timers.retain(|(_, timer)| *timer != Timer::Pong);
            self.schedule_keepalive(now);
        }
    }

    fn handle_go_away(&mut self, code: u32) {
        if code == GO_AWAY_NORMAL {
            self.peer_going_away = true;
            self.events.push_back(Event::Opening);
        } else {
            self.close(CloseReason::GoAway { code });
        }
    }
}
