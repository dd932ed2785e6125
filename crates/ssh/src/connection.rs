//! From the first byte to the exit: one state machine, pure.
//!
//! How to drive it: after each call of a `handle_*` or sending method, take the events with
//! [`Connection::poll_event`] until there is none and write what [`Connection::output`] holds.
//! An error from any method ends the connection.

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};

use crate::{
    channel::{self, Channel, Source},
    error::{Error, Text},
    message,
    options::{Exit, Options, Request, Steps},
    packet::Entropy,
    transport::{Incoming, Transport},
    wire::{Put, Reader},
};

/// Output that waits to be written, in bytes, from which on no more data are accepted. Two of
/// these (one being written, one being filled) keep a fast link busy.
pub const OUTPUT: usize = 256 * 1024;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server accepted the command.
    Started,
    /// Output of the remote side. Report what is read of it by [`Connection::consumed`].
    Data(Source, Bytes),
    /// No more output follows.
    Eof,
    /// The session is over.
    Ended(Exit),
}

/// A client's connection with its one session.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    options: Options,
    stage: Stage,
    channel: Channel,
    /// The requests whose answers are to come, in order.
    asked: VecDeque<&'static str>,
    started: bool,
    eof: bool,
    events: VecDeque<Event>,
}

/// Which answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Keys,
    Service,
    Auth,
    Channel,
    /// The channel is open.
    Open,
    /// It is closed, both ways.
    Closed,
}

impl Connection {
    /// Begins a connection; the first bytes are in the output already.
    ///
    /// # Errors
    /// [`Error::Request`] when the options do not fit; [`Error::Entropy`].
    pub fn new(options: Options, entropy: Box<dyn Entropy>) -> Result<Self, Error> {
        options.check()?;
        Ok(Self {
            transport: Transport::client(entropy)?,
            options,
            stage: Stage::Keys,
            channel: Channel::new(),
            asked: VecDeque::new(),
            started: false,
            eof: false,
            events: VecDeque::new(),
        })
    }

    /// The layer below, for its settings.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// What is to be written to the peer.
    pub fn output(&mut self) -> &mut BytesMut {
        self.transport.output()
    }

    /// What happened, one thing at a time.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Does what is due at this time.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.transport.handle_timeout(now)
    }

    /// Takes everything that is whole off the input.
    ///
    /// # Errors
    /// Whatever the peer did wrong.
    pub fn handle_input(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Error> {
        while self.stage != Stage::Closed {
            match self.transport.handle(input, now)? {
                None => return Ok(()),
                Some(Incoming::Nothing) => {}
                Some(Incoming::Established) => self.establish()?,
                Some(Incoming::Message(payload)) => self.dispatch(payload)?,
            }
        }
        input.clear();
        Ok(())
    }

    /// The peer's bytes have ended, or the connection broke with this error: how the session
    /// ended.
    pub fn handle_end(&mut self, error: Option<Error>) -> Exit {
        self.stage = Stage::Closed;
        if let Some(exit) = self.channel.exit() {
            return exit.clone();
        }
        Exit::Lost(error.unwrap_or(Error::Ended(if self.started {
            "in the middle of the session"
        } else {
            "before the session began"
        })))
    }

    /// Sends as much of this as the peer's window and our own output allow; the rest later.
    /// Zero asks to try again after more input or less output.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn send_data(&mut self, mut data: &[u8]) -> Result<usize, Error> {
        let mut total = 0;
        while self.stage == Stage::Open
            && self.transport.is_open()
            && self.transport.output().len() < OUTPUT
        {
            let now = self.channel.sendable(data.len());
            if now == 0 {
                break;
            }
            let (head, rest) = data.split_at(now);
            let mut front = [0; 9];
            front[0] = message::CHANNEL_DATA;
            front[1..5].copy_from_slice(&self.channel.remote().to_be_bytes());
            front[5..].copy_from_slice(&(now as u32).to_be_bytes());
            self.transport.send(&[&front, head])?;
            self.channel.sent(now);
            total += now;
            data = rest;
        }
        Ok(total)
    }

    /// Whether input can never be sent again.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.stage == Stage::Closed || self.channel.is_shut()
    }

    /// Whether the session is over, for both sides.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// Sends the end of input.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn send_eof(&mut self) -> Result<(), Error> {
        if self.stage == Stage::Open && self.channel.shut() {
            return self.send_on_channel(message::CHANNEL_EOF, |_| {});
        }
        Ok(())
    }

    /// Closes the session from this side.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn close(&mut self) -> Result<(), Error> {
        if self.stage == Stage::Open {
            return self.send_close();
        }
        Ok(())
    }

    /// Reports the size of the local terminal.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn window_change(&mut self, cols: u32, rows: u32) -> Result<(), Error> {
        self.request("window-change", |out| {
            for number in [cols, rows, 0, 0] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        })
    }

    /// Sends a signal, named without `SIG`, to the remote process.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn signal(&mut self, name: &str) -> Result<(), Error> {
        self.request("signal", |out| out.put_string(name.as_bytes()))
    }

    /// Takes note that this much output was read, and grants the peer as much anew.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn consumed(&mut self, bytes: usize) -> Result<(), Error> {
        match self.channel.consumed(bytes) {
            Some(grant) if self.stage == Stage::Open => {
                self.send_on_channel(message::CHANNEL_WINDOW_ADJUST, |out| {
                    out.extend_from_slice(&grant.to_be_bytes());
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes leave of the server: the last message. Reason codes are in RFC 4253 section 11.1.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn disconnect(&mut self, reason: u32, text: &str) -> Result<(), Error> {
        let mut out = vec![message::DISCONNECT];
        out.extend_from_slice(&reason.to_be_bytes());
        out.put_string(text.as_bytes());
        out.put_string(b"");
        self.transport.send(&[&out])
    }

    fn establish(&mut self) -> Result<(), Error> {
        self.stage = Stage::Service;
        self.send_service()?;
        if self.options.steps == Steps::Pipelined {
            self.send_auth()?;
            self.send_open()?;
            self.send_requests()?;
        }
        Ok(())
    }

    fn dispatch(&mut self, payload: BytesMut) -> Result<(), Error> {
        let number = payload[0];
        match number {
            message::UNIMPLEMENTED if self.started => Ok(()),
            message::GLOBAL_REQUEST => self.refuse_global(&payload),
            message::CHANNEL_OPEN => self.refuse_channel(&payload),
            message::SERVICE_ACCEPT | message::USERAUTH_BANNER => self.handle_login(&payload),
            message::USERAUTH_SUCCESS | message::USERAUTH_FAILURE => self.handle_login(&payload),
            message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE
                if self.stage == Stage::Channel =>
            {
                self.handle_opened(&payload)
            }
            message::CHANNEL_WINDOW_ADJUST..=message::CHANNEL_FAILURE
                if self.stage == Stage::Open =>
            {
                self.handle_channel(payload)
            }
            // Nobody asked for them, but they harm nobody.
            message::REQUEST_SUCCESS | message::REQUEST_FAILURE => Ok(()),
            // RFC 4253 section 11.4.
            _ if self.stage == Stage::Open
                && !(message::USERAUTH_REQUEST..=message::CHANNEL_FAILURE).contains(&number) =>
            {
                let last = self.transport.last().to_be_bytes();
                self.transport.send(&[&[message::UNIMPLEMENTED], &last])
            }
            _ => Err(Error::Unexpected { message: number, during: self.during() }),
        }
    }

    fn during(&self) -> &'static str {
        match self.stage {
            Stage::Keys => "during the key exchange",
            Stage::Service => "instead of accepting the login service",
            Stage::Auth => "during the login",
            Stage::Channel => "instead of opening the session",
            Stage::Open | Stage::Closed => "in the session",
        }
    }

    fn handle_login(&mut self, payload: &[u8]) -> Result<(), Error> {
        let one_by_one = self.options.steps == Steps::OneByOne;
        let mut reader = Reader::new(payload, "login message");
        match (reader.byte()?, self.stage) {
            (message::SERVICE_ACCEPT, Stage::Service) => {
                self.stage = Stage::Auth;
                if one_by_one { self.send_auth() } else { Ok(()) }
            }
            (message::USERAUTH_BANNER, Stage::Auth) => {
                tracing::info!(banner = %Text::new(reader.string()?), "ssh");
                Ok(())
            }
            (message::USERAUTH_SUCCESS, Stage::Auth) => {
                self.stage = Stage::Channel;
                if one_by_one { self.send_open() } else { Ok(()) }
            }
            (message::USERAUTH_FAILURE, Stage::Auth) => {
                Err(Error::AuthRefused(Text::new(reader.string()?)))
            }
            (message, _) => Err(Error::Unexpected { message, during: self.during() }),
        }
    }

    fn handle_opened(&mut self, payload: &[u8]) -> Result<(), Error> {
        if payload[0] == message::CHANNEL_OPEN_FAILURE {
            let mut reader = Reader::new(payload, "channel refusal");
            reader.take(5)?;
            let reason = reader.u32()?;
            return Err(Error::ChannelRefused { reason, text: Text::new(reader.string()?) });
        }
        self.channel.handle_confirmation(payload)?;
        self.stage = Stage::Open;
        match self.options.steps {
            Steps::OneByOne => self.send_requests(),
            Steps::Pipelined if self.channel.remote() != 0 => {
                Err(Error::ChannelNumber(self.channel.remote()))
            }
            Steps::Pipelined => Ok(()),
        }
    }

    fn handle_channel(&mut self, payload: BytesMut) -> Result<(), Error> {
        let data = match payload[0] {
            message::CHANNEL_DATA => self.channel.handle_data(payload)?,
            message::CHANNEL_EXTENDED_DATA => {
                let (length, data) = (payload.len(), self.channel.handle_extended(payload)?);
                if data.is_none() {
                    // Of a kind that nobody reads.
                    self.consumed(length.saturating_sub(13))?;
                }
                data
            }
            _ => return self.handle_control(&payload),
        };
        if let Some((source, data)) = data {
            self.events.push_back(Event::Data(source, data));
        }
        Ok(())
    }

    fn handle_control(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.channel.check(payload)?;
        match payload[0] {
            message::CHANNEL_WINDOW_ADJUST => self.channel.handle_adjust(payload),
            message::CHANNEL_EOF => {
                self.channel.handle_eof();
                self.end_output();
                Ok(())
            }
            message::CHANNEL_CLOSE => self.handle_close(),
            message::CHANNEL_REQUEST => {
                if self.channel.handle_request(payload)? {
                    self.send_on_channel(message::CHANNEL_FAILURE, |_| {})?;
                }
                Ok(())
            }
            message::CHANNEL_SUCCESS => {
                if self.asked.pop_front().is_some() && self.asked.is_empty() {
                    self.start();
                }
                Ok(())
            }
            message::CHANNEL_FAILURE => match self.asked.pop_front() {
                Some(what) => Err(Error::RequestRefused(what)),
                None => Ok(()),
            },
            message => Err(Error::Unexpected { message, during: self.during() }),
        }
    }

    fn handle_close(&mut self) -> Result<(), Error> {
        self.channel.handle_close();
        let exit = match self.channel.exit() {
            Some(exit) => exit.clone(),
            None if self.started => Exit::Lost(Error::NoStatus),
            None => return Err(Error::Ended("before the session began")),
        };
        self.start();
        self.send_close()?;
        self.disconnect(11, "")?;
        self.stage = Stage::Closed;
        self.end_output();
        self.events.push_back(Event::Ended(exit));
        Ok(())
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.events.push_back(Event::Started);
        }
    }

    fn end_output(&mut self) {
        if !std::mem::replace(&mut self.eof, true) {
            self.events.push_back(Event::Eof);
        }
    }

    fn refuse_global(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "global request");
        reader.byte()?;
        reader.string()?;
        if reader.boolean()? {
            return self.transport.send(&[&[message::REQUEST_FAILURE]]);
        }
        Ok(())
    }

    fn refuse_channel(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "channel request");
        reader.byte()?;
        reader.string()?;
        let theirs = reader.u32()?;
        let mut out = vec![message::CHANNEL_OPEN_FAILURE];
        out.extend_from_slice(&theirs.to_be_bytes());
        // Administratively prohibited (RFC 4254 section 5.1).
        out.extend_from_slice(&1u32.to_be_bytes());
        out.put_string(b"not asked for");
        out.put_string(b"");
        self.transport.send(&[&out])
    }

    fn send_service(&mut self) -> Result<(), Error> {
        let mut out = vec![message::SERVICE_REQUEST];
        out.put_string(b"ssh-userauth");
        self.transport.send(&[&out])
    }

    fn send_auth(&mut self) -> Result<(), Error> {
        let mut out = vec![message::USERAUTH_REQUEST];
        out.put_string(self.options.user.as_bytes());
        out.put_string(b"ssh-connection");
        out.put_string(b"none");
        self.transport.send(&[&out])
    }

    fn send_open(&mut self) -> Result<(), Error> {
        let mut out = vec![message::CHANNEL_OPEN];
        out.put_string(b"session");
        for number in [channel::NUMBER, channel::WINDOW, channel::MAX_PACKET] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        self.transport.send(&[&out])
    }

    /// Variables, terminal, command: in this order, since a command must find the others done.
    fn send_requests(&mut self) -> Result<(), Error> {
        for (name, value) in std::mem::take(&mut self.options.env) {
            self.send_request("env", false, |out| {
                out.put_string(name.as_bytes());
                out.put_string(value.as_bytes());
            })?;
        }
        if let Some(pty) = self.options.pty.take() {
            self.asked.push_back("a terminal");
            self.send_request("pty-req", true, |out| {
                out.put_string(pty.term.as_bytes());
                for number in [pty.cols, pty.rows, 0, 0] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                out.put_string(&pty.modes.encoded());
            })?;
        }
        match self.options.request.clone() {
            Request::Shell => {
                self.asked.push_back("a shell");
                self.send_request("shell", true, |_| {})
            }
            Request::Exec(command) => {
                self.asked.push_back("the command");
                self.send_request("exec", true, |out| out.put_string(command.as_bytes()))
            }
            Request::Subsystem(name) => {
                self.asked.push_back("the subsystem");
                self.send_request("subsystem", true, |out| out.put_string(name.as_bytes()))
            }
        }
    }

    /// A request in an open session that wants no answer.
    fn request(&mut self, name: &str, fields: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        if self.stage == Stage::Open && !self.channel.is_closed_by_peer() {
            return self.send_request(name, false, fields);
        }
        Ok(())
    }

    fn send_request(
        &mut self,
        name: &str,
        answer: bool,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        self.send_on_channel(message::CHANNEL_REQUEST, |out| {
            out.put_string(name.as_bytes());
            out.put_boolean(answer);
            fields(out);
        })
    }

    fn send_close(&mut self) -> Result<(), Error> {
        if self.channel.close() {
            return self.send_on_channel(message::CHANNEL_CLOSE, |_| {});
        }
        Ok(())
    }

    fn send_on_channel(
        &mut self,
        message: u8,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let mut out = vec![message];
        out.extend_from_slice(&self.channel.remote().to_be_bytes());
        fields(&mut out);
        self.transport.send(&[&out])
    }
}
