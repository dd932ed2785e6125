//! A server's connection as one state machine, pure: login, channels, global requests.
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
    request::{Global, Kind, Open, Outgoing, Reason, Target},
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

/// How much a client may send on one channel before it hears that it was read, in bytes: 300
/// Mbit/s at 50 ms. It bounds what a slow reader of that channel makes us hold; OpenSSH has the
/// same.
pub const WINDOW: u32 = 2 << 20;
/// Most data sent for one channel before others get their turn, in bytes.
const TURN: usize = 64 * 1024;
/// Most global requests that wait for their answer; far more than a client with many forwards
/// sends at once.
const GLOBALS: usize = 256;
/// How long a login may take (OpenSSH: `LoginGraceTime`).
const LOGIN: Duration = Duration::from_secs(120);
/// Most attempts to log in (OpenSSH: `MaxAuthTries`).
const ATTEMPTS: u32 = 6;
/// How many questions without any sign of life end the connection.
const MISSES: u32 = 3;

/// How a connection is to behave.
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
    /// A channel that the server has opened is open.
    Opened(u32),
    /// The client refuses it, for this reason.
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

/// What a request about listeners comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Granted; a TCP listener's port is told.
    Granted(Option<u16>),
    /// Refused.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Service,
    Auth { attempts: u32 },
    Open,
    Closed,
}

/// A global request that is not answered yet, or whose answer waits for those before it.
#[derive(Debug)]
struct Pending {
    number: u64,
    wanted: bool,
    answer: Option<Answer>,
}

/// A server's connection.
#[derive(Debug)]
pub struct Core {
    transport: Transport,
    config: Config,
    stage: Stage,
    channels: Channels,
    globals: VecDeque<Pending>,
    /// The number of the next global request.
    next_global: u64,
    events: VecDeque<Event>,
    /// When the login has to be done or, after it, when to ask for a sign of life.
    due: Option<Instant>,
    /// Whether anything came since the last question.
    heard: bool,
    /// Questions since anything came.
    unanswered: u32,
}

impl Core {
    /// Begins a connection; the first bytes are in the output already.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn new(config: Config, entropy: Box<dyn Entropy>, now: Instant) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::server(Arc::clone(&config.host_key), entropy)?,
            config,
            stage: Stage::Service,
            channels: Channels::default(),
            globals: VecDeque::new(),
            next_global: 0,
            events: VecDeque::new(),
            due: Some(now + LOGIN),
            heard: false,
            unanswered: 0,
        })
    }

    /// The layer below, for its settings.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// What is to be written to the client.
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
    /// [`Error::Silent`] when the client has been for too long; [`Error::Entropy`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.transport.handle_timeout(now)?;
        if self.due.is_none_or(|due| now < due) {
            return Ok(());
        }
        let interval = match (self.stage, self.config.keep_alive) {
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
        let mut out = vec![message::GLOBAL_REQUEST];
        out.put_string(b"keepalive@openssh.com");
        out.put_boolean(true);
        self.transport.send(&[&out])
    }

    /// Takes everything that is whole off the input.
    ///
    /// # Errors
    /// Whatever the client did wrong, and [`Error::Disconnected`] when it took its leave.
    pub fn handle_input(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Error> {
        while self.stage != Stage::Closed {
            match self.transport.handle(input, now)? {
                None => return Ok(()),
                Some(Incoming::Nothing | Incoming::Established) => {}
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

    /// Takes leave of the client: the last message. Reason codes are in RFC 4253 section 11.1.
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

    /// Accepts a channel of [`Event::Direct`].
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn accept(&mut self, id: u32) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Offered) else { return Ok(()) };
        entry.phase = Phase::Open;
        let remote = entry.channel.remote();
        self.confirm(id, remote)
    }

    /// Refuses a channel of [`Event::Direct`], with words for the client.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn refuse(&mut self, id: u32, reason: Reason, text: &str) -> Result<(), Error> {
        let Some(entry) = self.channels.in_phase(id, Phase::Offered) else { return Ok(()) };
        entry.phase = Phase::Dead;
        let remote = entry.channel.remote();
        self.send_refusal(remote, reason, text)
    }

    /// Asks the client for a channel; [`Event::Opened`] or [`Event::Refused`] follows for the
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
        if let Some(pending) = self.globals.iter_mut().find(|pending| pending.number == number) {
            pending.answer.get_or_insert(answer);
        }
        self.flush_answers()
    }

    fn flush_answers(&mut self) -> Result<(), Error> {
        if self.is_closed() {
            return Ok(());
        }
        while let Some(Pending { wanted, answer: Some(answer), .. }) = self.globals.front() {
            let (wanted, answer) = (*wanted, *answer);
            self.globals.pop_front();
            if !wanted {
                continue;
            }
            match answer {
                Answer::Granted(None) => self.transport.send(&[&[message::REQUEST_SUCCESS]])?,
                Answer::Granted(Some(port)) => {
                    let port = u32::from(port).to_be_bytes();
                    self.transport.send(&[&[message::REQUEST_SUCCESS], &port])?;
                }
                Answer::Refused => self.transport.send(&[&[message::REQUEST_FAILURE]])?,
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, payload: BytesMut, now: Instant) -> Result<(), Error> {
        let message = payload[0];
        match (self.stage, message) {
            (Stage::Service, message::SERVICE_REQUEST) => self.handle_service(&payload),
            (Stage::Auth { attempts }, message::USERAUTH_REQUEST) => {
                self.handle_auth(&payload, attempts, now)
            }
            // RFC 4252 section 5.1: what comes after the success is ignored.
            (Stage::Open, message::USERAUTH_REQUEST) => Ok(()),
            (Stage::Open, message::GLOBAL_REQUEST) => self.handle_global(&payload),
            (Stage::Open, message::CHANNEL_OPEN) => self.handle_open(&payload),
            (Stage::Open, message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE) => {
                self.handle_channel(payload)
            }
            // Answers to our questions; that they come is what counts.
            (Stage::Open, message::REQUEST_SUCCESS | message::REQUEST_FAILURE) => Ok(()),
            (Stage::Open, message::UNIMPLEMENTED) => Ok(()),
            // RFC 4253 section 11.4.
            (Stage::Open, _) => {
                let last = self.transport.last().to_be_bytes();
                self.transport.send(&[&[message::UNIMPLEMENTED], &last])
            }
            (Stage::Service | Stage::Auth { .. } | Stage::Closed, _) => {
                Err(Error::Unexpected { message, during: "before it was logged in" })
            }
        }
    }

    fn handle_service(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "service request");
        reader.byte()?;
        let name = reader.string()?;
        if name != b"ssh-userauth" {
            // Service not available (RFC 4253 section 11.1).
            return self.disconnect(7, "no such service");
        }
        self.stage = Stage::Auth { attempts: 0 };
        let mut out = vec![message::SERVICE_ACCEPT];
        out.put_string(name);
        self.transport.send(&[&out])
    }

    /// Everybody is let in who asks for nothing but that (RFC 4252 section 5.2).
    fn handle_auth(&mut self, payload: &[u8], attempts: u32, now: Instant) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "login request");
        reader.byte()?;
        let user = Text::new(reader.string()?);
        let (service, method) = (reader.string()?, reader.string()?);
        if service == b"ssh-connection" && method == b"none" {
            tracing::debug!(%user, "ssh login");
            self.stage = Stage::Open;
            self.due = self.config.keep_alive.map(|interval| now + interval);
            return self.transport.send(&[&[message::USERAUTH_SUCCESS]]);
        }
        if attempts + 1 == ATTEMPTS {
            // No more authentication methods available.
            return self.disconnect(14, "only the method none is accepted");
        }
        self.stage = Stage::Auth { attempts: attempts + 1 };
        let mut out = vec![message::USERAUTH_FAILURE];
        // No other can go on; and none may not be named (RFC 4252 section 5.2).
        out.put_string(b"");
        out.put_boolean(false);
        self.transport.send(&[&out])
    }

    fn handle_global(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "global request");
        reader.byte()?;
        let name = reader.string()?;
        let wanted = reader.boolean()?;
        let number = self.next_global;
        let request = Global::parse(name, &mut reader);
        if self.globals.len() == GLOBALS {
            let length = GLOBALS + 1;
            return Err(Error::TooLong { what: "flood of requests", length, limit: GLOBALS });
        }
        self.next_global += 1;
        let answer = request.is_none().then_some(Answer::Refused);
        self.globals.push_back(Pending { number, wanted, answer });
        if let Some(request) = request {
            self.events.push_back(Event::Global(number, request));
        }
        self.flush_answers()
    }

    fn handle_open(&mut self, payload: &[u8]) -> Result<(), Error> {
        let Open { theirs, kind } = Open::parse(payload)?;
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
            Kind::Refused(..) => {}
        }
        Ok(())
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
                // A client has no second stream; what it sends is as good as read.
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
        let outcome = match &mut entry.requests {
            Some(requests) if !closing => requests.handle(name, &mut reader, &self.config.policy),
            Some(_) | None => Outcome::Refused,
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
