//! One side's connection as one state machine, pure: login, channels, global requests.
//!
//! How to drive it: after each call take the events with [`Core::poll_event`] until there is none,
//! and write what [`Core::output`] holds. An error from any method ends the connection.
//!
//! Everything that can be answered without asking anybody is answered at once, so that the
//! answers to requests that came in one read leave in one write.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{
    channels::{Channels, Phase},
    globals::{Answer, Globals},
    request::{Global, Kind, Listen, Open, Outgoing, Reason, Target},
    requests::{Outcome, Policy, Start},
};
use crate::{
    channel::{self, Channel, Source},
    connection::OUTPUT,
    error::{Error, Text},
    hostkey::HostKey,
    message,
    options::Exit,
    packet::Entropy,
    transport::{Incoming, Transport},
    wire::{Put, Reader},
};

/// How much a peer may send on one channel before it hears that it was read, in bytes: 300
/// Mbit/s at 50 ms. It bounds what a slow reader of that channel makes us hold; OpenSSH has the
/// same.
pub const WINDOW: u32 = 2 << 20;
/// Most data sent for one channel before others get their turn, in bytes.
const TURN: usize = 64 * 1024;
/// How long a login may take (OpenSSH: `LoginGraceTime`).
const LOGIN: Duration = Duration::from_secs(120);
/// How many questions without any sign of life end the connection.
const MISSES: u32 = 3;

/// How a server's connection is to behave.
#[derive(Debug, Clone)]
pub struct Config {
    /// The server's key.
    pub host_key: Arc<HostKey>,
    /// What sessions may ask for.
    pub policy: Policy,
    /// After how long a silence a client is asked whether it is still there; the fourth such
    /// silence in a row ends the connection. Any packet of the client breaks it.
    pub keep_alive: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session starts on this channel.
    Session(u32, Box<Start>),
    /// The client wants this channel to be connected to there: [`Core::accept`] or
    /// [`Core::refuse`] it.
    Direct(u32, Target),
    /// A request about listeners, to be answered by [`Core::answer`] under this number.
    Global(u64, Global),
    /// A client is logged in: channels may be opened.
    LoggedIn,
    /// Somebody has connected to this listener of the client's in the server's place:
    /// [`Core::accept`] or [`Core::refuse`] it.
    Forwarded(u32, Listen),
    /// What became of a request of ours.
    Answered(u64, Answer),
    /// A channel that we have asked for is open.
    Opened(u32),
    /// The peer refuses it, for this reason.
    Refused(u32, u32, Text),
    /// Data. Report what is read of them by [`Core::consumed`].
    Data(u32, Bytes),
    /// No more data follow.
    Eof(u32),
    /// More data may be sent.
    Writable(u32),
    /// The terminal of a running session has this many columns and rows.
    Size(u32, u32, u32),
    /// A signal for the program of a session, named without `SIG`. It may come before its start.
    Signal(u32, String),
    /// The client has closed the channel.
    Closed(u32),
    /// The client has closed a session that never started: its number may be used again.
    Gone(u32),
}

/// Which side of the connection this is.
#[derive(Debug)]
pub(super) enum Side {
    Server(Policy),
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Service,
    Auth { attempts: u32 },
    Open,
    Closed,
}

/// One side's connection.
#[derive(Debug)]
pub struct Core {
    pub(super) transport: Transport,
    pub(super) side: Side,
    /// After how long a silence the peer is asked for a sign of life.
    pub(super) keep_alive: Option<Duration>,
    pub(super) stage: Stage,
    channels: Channels,
    globals: Globals,
    pub(super) events: VecDeque<Event>,
    /// When the login has to be done or, after it, when to ask for a sign of life.
    pub(super) due: Option<Instant>,
    /// Whether anything came since the last question.
    heard: bool,
    /// Questions since anything came.
    unanswered: u32,
}

impl Core {
    /// Begins a server's connection; the first bytes are in the output already.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn new(config: Config, entropy: Box<dyn Entropy>, now: Instant) -> Result<Self, Error> {
        let Config { host_key, policy, keep_alive } = config;
        let transport = Transport::server(host_key, entropy)?;
        Ok(Self::begin(transport, Side::Server(policy), keep_alive, now))
    }

    /// Begins a client's connection likewise. A silent server is asked whether it is still there
    /// after this time; the fourth such silence in a row ends the connection.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn client(
        keep_alive: Option<Duration>,
        entropy: Box<dyn Entropy>,
        now: Instant,
    ) -> Result<Self, Error> {
        Ok(Self::begin(Transport::client(entropy)?, Side::Client, keep_alive, now))
    }

    fn begin(transport: Transport, side: Side, keep_alive: Option<Duration>, now: Instant) -> Self {
        Self {
            transport,
            side,
            keep_alive,
            stage: Stage::Service,
            channels: Channels::default(),
            globals: Globals::default(),
            events: VecDeque::new(),
            due: Some(now + LOGIN),
            heard: false,
            unanswered: 0,
        }
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
        if self.is_closed() {
            return None;
        }
        [self.due, self.transport.poll_timeout()].into_iter().flatten().min()
    }

    /// Does what is due at this time.
    ///
    /// # Errors
    /// [`Error::Silent`] when the peer has been for too long; [`Error::Entropy`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.transport.handle_timeout(now)?;
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let interval = match (self.stage, self.keep_alive) {
            (Stage::Service | Stage::Auth { .. }, _) => return Err(Error::Silent("to log in")),
            (Stage::Open, Some(interval)) => interval,
            (Stage::Open, None) | (Stage::Closed, _) => {
                self.due = None;
                return Ok(());
            }
        };
        self.due = Some(now + interval);
        if std::mem::take(&mut self.heard) {
            self.unanswered = 0;
            return Ok(());
        }
        if self.unanswered == MISSES {
            return Err(Error::Silent("to say that it is still there"));
        }
        self.unanswered += 1;
        self.globals.ask_for_life(&mut self.transport)
    }

    /// Takes everything that is whole off the input.
    ///
    /// # Errors
    /// Whatever the peer did wrong, and [`Error::Disconnected`] when it took its leave.
    pub fn handle_input(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Error> {
        while self.stage != Stage::Closed {
            match self.transport.handle(input, now)? {
                None => return Ok(()),
                Some(Incoming::Nothing) => {}
                Some(Incoming::Established) => self.establish()?,
                Some(Incoming::Message(payload)) => self.dispatch(payload, now)?,
            }
            self.heard = true;
        }
        input.clear();
        Ok(())
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// The stream below is gone: nothing more is said.
    pub fn handle_end(&mut self) {
        self.stage = Stage::Closed;
    }

    /// Takes leave of the peer: the last message. Reason codes are in RFC 4253 section 11.1.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn disconnect(&mut self, reason: u32, text: &str) -> Result<(), Error> {
        self.stage = Stage::Closed;
        let mut out = vec![message::DISCONNECT];
        out.extend_from_slice(&reason.to_be_bytes());
        out.put_string(text.as_bytes());
        out.put_string(b"");
        self.transport.send(&[&out])
    }

    /// Accepts a channel of [`Event::Direct`] or [`Event::Forwarded`].
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn accept(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Offered) else { return Ok(()) };
        entry.phase = Phase::Open;
        let remote = entry.channel.remote();
        self.confirm(id, remote)
    }

    /// Refuses such a channel, with words for the peer.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn refuse(&mut self, id: u32, reason: Reason, text: &str) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Offered) else { return Ok(()) };
        entry.phase = Phase::Dead;
        let remote = entry.channel.remote();
        self.send_refusal(remote, reason, text)
    }

    /// Asks the peer for a channel; [`Event::Opened`] or [`Event::Refused`] follows for the
    /// number that is returned. `None` when there are too many or the connection is over.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn open(&mut self, outgoing: &Outgoing) -> Result<Option<u32>, Error> {
        if self.stage != Stage::Open {
            return Ok(None);
        }
        let Some(id) = self.channels.vacant() else { return Ok(None) };
        self.channels.insert(id, Channel::asked(id, WINDOW), Phase::Asked);
        self.transport.send(&[&outgoing.encode([id, WINDOW, channel::MAX_PACKET])])?;
        Ok(Some(id))
    }

    /// Sends as much of this as the client's window and our own output allow; the rest later.
    /// Zero asks to try again: after [`Event::Writable`] when [`Self::is_exhausted`], otherwise
    /// once there is less output.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn send_data(&mut self, id: u32, source: Source, data: &[u8]) -> Result<usize, Error> {
        let mut data = &data[..data.len().min(TURN)];
        let mut total = 0;
        while self.has_room() {
            let Some(entry) = self.channels.in_phase(id, Phase::Open) else { break };
            let now = entry.channel.sendable(data.len());
            if now == 0 {
                break;
            }
            let (head, rest) = data.split_at(now);
            let remote = entry.channel.remote().to_be_bytes();
            entry.channel.sent(now);
            let length = (now as u32).to_be_bytes();
            match source {
                Source::Stdout => {
                    self.transport.send(&[&[message::CHANNEL_DATA], &remote, &length, head])?;
                }
                Source::Stderr => {
                    let front = [message::CHANNEL_EXTENDED_DATA];
                    self.transport.send(&[&front, &remote, &STDERR, &length, head])?;
                }
            }
            total += now;
            data = rest;
        }
        Ok(total)
    }

    /// Whether data are accepted, as far as the output is concerned.
    pub fn has_room(&mut self) -> bool {
        self.stage == Stage::Open
            && self.transport.is_open()
            && self.transport.output().len() < OUTPUT
    }

    /// Whether the client has no room for data of this channel.
    #[must_use]
    pub fn is_exhausted(&self, id: u32) -> bool {
        self.channels.get(id).is_some_and(|entry| entry.channel.is_exhausted())
    }

    /// Whether data can never be sent again.
    #[must_use]
    pub fn is_shut(&self, id: u32) -> bool {
        self.stage == Stage::Closed
            || self
                .channels
                .get(id)
                .is_none_or(|entry| entry.phase == Phase::Dead || entry.channel.is_shut())
    }

    /// Sends the end of data.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn send_eof(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        if !entry.channel.shut() {
            return Ok(());
        }
        let remote = entry.channel.remote();
        self.send_on(message::CHANNEL_EOF, remote, |_| {})
    }

    /// Ends a session: no more output, how the program ended, close.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn finish(&mut self, id: u32, exit: &Exit) -> Result<(), Error> {
        self.send_eof(id)?;
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        if entry.channel.is_closed_by_peer() {
            return Ok(());
        }
        let remote = entry.channel.remote();
        match exit {
            Exit::Status(status) => self.send_on(message::CHANNEL_REQUEST, remote, |out| {
                out.put_string(b"exit-status");
                out.put_boolean(false);
                out.extend_from_slice(&status.to_be_bytes());
            })?,
            Exit::Signal { name, core, message } => {
                self.send_on(message::CHANNEL_REQUEST, remote, |out| {
                    out.put_string(b"exit-signal");
                    out.put_boolean(false);
                    out.put_string(name.as_bytes());
                    out.put_boolean(*core);
                    out.put_string(message.as_bytes());
                    out.put_string(b"");
                })?;
            }
            // It is the client who finds that it was told nothing.
            Exit::Lost(_) => {}
        }
        self.close(id)
    }

    /// Closes a channel from this side.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn close(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        if !entry.channel.close() {
            return Ok(());
        }
        let remote = entry.channel.remote();
        self.send_on(message::CHANNEL_CLOSE, remote, |_| {})
    }

    /// Takes note that this much was read, and grants the client as much anew.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn consumed(&mut self, id: u32, bytes: usize) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        let remote = entry.channel.remote();
        match entry.channel.consumed(bytes) {
            Some(grant) => self.send_on(message::CHANNEL_WINDOW_ADJUST, remote, |out| {
                out.extend_from_slice(&grant.to_be_bytes());
            }),
            None => Ok(()),
        }
    }

    /// Nobody here speaks of this channel any more: refuses or closes it if that is still to be
    /// done. Its number is used again once the client has closed it, too.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn release(&mut self, id: u32) -> Result<(), Error> {
        self.refuse(id, Reason::ConnectFailed, "nobody took it")?;
        self.close(id)?;
        self.channels.release(id);
        Ok(())
    }

    /// Answers a request of [`Event::Global`]. Answers go out in the order of the requests.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn answer(&mut self, number: u64, answer: Answer) -> Result<(), Error> {
        self.globals.answer(number, answer);
        if self.is_closed() {
            return Ok(());
        }
        self.globals.flush(&mut self.transport)
    }

    /// Asks the server for something about listeners; [`Event::Answered`] follows for the number
    /// that is returned. `None` when the connection is over, or not yet open.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn ask(&mut self, request: &Global) -> Result<Option<u64>, Error> {
        match self.stage {
            Stage::Open => self.globals.ask(request, &mut self.transport).map(Some),
            Stage::Service | Stage::Auth { .. } | Stage::Closed => Ok(None),
        }
    }

    fn dispatch(&mut self, payload: BytesMut, now: Instant) -> Result<(), Error> {
        let message = payload[0];
        match (self.stage, message) {
            (Stage::Service | Stage::Auth { .. } | Stage::Closed, _) => {
                self.handle_login(&payload, now)
            }
            // RFC 4252 section 5.1: what comes after the success is ignored.
            (Stage::Open, message::USERAUTH_REQUEST) => Ok(()),
            (Stage::Open, message::GLOBAL_REQUEST) => {
                let event = self.globals.handle(&payload, self.serves())?;
                self.events.extend(event);
                self.globals.flush(&mut self.transport)
            }
            (Stage::Open, message::REQUEST_SUCCESS | message::REQUEST_FAILURE) => {
                let event = self.globals.handle_answer(&payload)?;
                self.events.extend(event);
                Ok(())
            }
            (Stage::Open, message::CHANNEL_OPEN) => self.handle_open(&payload),
            (Stage::Open, message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE) => {
                self.handle_channel(payload)
            }
            (Stage::Open, message::UNIMPLEMENTED) => Ok(()),
            // RFC 4253 section 11.4.
            (Stage::Open, _) => {
                let last = self.transport.last().to_be_bytes();
                self.transport.send(&[&[message::UNIMPLEMENTED], &last])
            }
        }
    }

    fn handle_open(&mut self, payload: &[u8]) -> Result<(), Error> {
        let Open { theirs, kind } = Open::parse(payload, self.serves())?;
        if let Kind::Refused(reason, text) = kind {
            return self.send_refusal(theirs[0], reason, text);
        }
        let Some(id) = self.channels.vacant() else {
            return self.send_refusal(theirs[0], Reason::Shortage, "too many channels");
        };
        let Ok(channel) = Channel::offered(id, WINDOW, theirs) else {
            return self.send_refusal(theirs[0], Reason::ConnectFailed, "no data would fit");
        };
        match kind {
            Kind::Session => {
                self.channels.insert_session(id, channel);
                self.confirm(id, theirs[0])?;
            }
            Kind::Direct(target) => {
                self.channels.insert(id, channel, Phase::Offered);
                self.events.push_back(Event::Direct(id, target));
            }
            Kind::Forwarded(listen) => {
                self.channels.insert(id, channel, Phase::Offered);
                self.events.push_back(Event::Forwarded(id, listen));
            }
            Kind::Refused(..) => {}
        }
        Ok(())
    }

    fn serves(&self) -> bool {
        matches!(self.side, Side::Server(_))
    }

    fn handle_channel(&mut self, payload: BytesMut) -> Result<(), Error> {
        let mut reader = Reader::new(&payload, "channel message");
        let message = reader.byte()?;
        let id = reader.u32()?;
        let asked =
            matches!(message, message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE);
        let phase = if asked { Phase::Asked } else { Phase::Open };
        let entry =
            self.channels.in_phase(id, phase).ok_or(Error::Malformed(channel::NO_CHANNEL))?;
        match message {
            message::CHANNEL_OPEN_CONFIRMATION => {
                entry.channel.handle_confirmation(&payload)?;
                entry.phase = Phase::Open;
                if entry.released {
                    // Nobody wants it any more.
                    return self.close(id);
                }
                self.events.push_back(Event::Opened(id));
            }
            message::CHANNEL_OPEN_FAILURE => {
                let code = reader.u32()?;
                let text = Text::new(reader.string()?);
                entry.phase = Phase::Dead;
                self.tell(id, Event::Refused(id, code, text));
                self.channels.tidy(id);
            }
            message::CHANNEL_DATA => {
                if let Some((_, data)) = entry.channel.handle_data(payload)? {
                    self.receive(id, data)?;
                }
            }
            message::CHANNEL_EXTENDED_DATA => {
                // Only sessions have a second stream; what comes here is as good as read.
                let length = payload.len().saturating_sub(13);
                entry.channel.handle_extended(payload)?;
                self.consumed(id, length)?;
            }
            message::CHANNEL_WINDOW_ADJUST => {
                entry.channel.handle_adjust(&payload)?;
                self.tell(id, Event::Writable(id));
            }
            message::CHANNEL_EOF => {
                entry.channel.handle_eof();
                self.tell(id, Event::Eof(id));
            }
            message::CHANNEL_CLOSE => {
                entry.channel.handle_close();
                let idle = entry.requests.as_ref().is_some_and(|requests| !requests.is_started());
                self.tell(id, if idle { Event::Gone(id) } else { Event::Closed(id) });
                self.close(id)?;
                if idle {
                    // Nobody on our side has a handle of it.
                    self.channels.release(id);
                }
                self.channels.tidy(id);
            }
            message::CHANNEL_REQUEST => self.handle_request(id, &payload)?,
            // We ask for nothing that is answered.
            _ => {}
        }
        Ok(())
    }

    /// Tells of a channel, if there is still somebody who cares.
    fn tell(&mut self, id: u32, event: Event) {
        if self.channels.get(id).is_some_and(|entry| !entry.released) {
            self.events.push_back(event);
        }
    }

    fn receive(&mut self, id: u32, data: Bytes) -> Result<(), Error> {
        if self.channels.get(id).is_some_and(|entry| entry.released) {
            return self.consumed(id, data.len());
        }
        self.events.push_back(Event::Data(id, data));
        Ok(())
    }

    fn handle_request(&mut self, id: u32, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "channel request");
        reader.take(5)?;
        let name = reader.string()?;
        let wanted = reader.boolean()?;
        let Some(entry) = self.channels.in_phase(id, Phase::Open) else { return Ok(()) };
        let remote = entry.channel.remote();
        let closing = entry.channel.is_closing();
        let outcome = match (&mut entry.requests, &self.side) {
            (Some(requests), Side::Server(policy)) if !closing => {
                requests.handle(name, &mut reader, policy)
            }
            (Some(_) | None, Side::Server(_) | Side::Client) => Outcome::Refused,
        };
        let granted = match outcome {
            Outcome::Refused => false,
            Outcome::Granted => true,
            Outcome::Start(start) => {
                self.events.push_back(Event::Session(id, start));
                true
            }
            Outcome::Size(cols, rows) => {
                self.tell(id, Event::Size(id, cols, rows));
                true
            }
            Outcome::Signal(name) => {
                self.tell(id, Event::Signal(id, name));
                true
            }
        };
        if !wanted || closing {
            return Ok(());
        }
        let answer = if granted { message::CHANNEL_SUCCESS } else { message::CHANNEL_FAILURE };
        self.send_on(answer, remote, |_| {})
    }

    fn confirm(&mut self, id: u32, remote: u32) -> Result<(), Error> {
        self.send_on(message::CHANNEL_OPEN_CONFIRMATION, remote, |out| {
            for number in [id, WINDOW, channel::MAX_PACKET] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        })
    }

    fn send_refusal(&mut self, remote: u32, reason: Reason, text: &str) -> Result<(), Error> {
        self.send_on(message::CHANNEL_OPEN_FAILURE, remote, |out| {
            out.extend_from_slice(&reason.code().to_be_bytes());
            out.put_string(text.as_bytes());
            out.put_string(b"");
        })
    }

    fn send_on(
        &mut self,
        message: u8,
        remote: u32,
        fields: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        if self.stage == Stage::Closed {
            return Ok(());
        }
        let mut out = vec![message];
        out.extend_from_slice(&remote.to_be_bytes());
        fields(&mut out);
        self.transport.send(&[&out])
    }
}

/// The kind of extended data that standard error is (RFC 4254 section 5.2).
const STDERR: [u8; 4] = 1u32.to_be_bytes();
