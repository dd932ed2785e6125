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
    channels::Channels,
    globals::{Answer, Globals},
    request::{Global, Origin, Target},
    requests::{Policy, Start},
};
use crate::{
    channel::Source,
    error::{Error, Text},
    hostkey::HostKey,
    message,
    options::Exit,
    packet::Entropy,
    transport::{Incoming, Transport},
    wire::Put,
};

/// How much a peer may send on one channel before it hears that it was read, in bytes: 300
/// Mbit/s at 50 ms. It bounds what a slow reader of that channel makes us hold; OpenSSH has the
/// same.
pub const WINDOW: u32 = 2 << 20;
/// Output that waits to be written, in bytes, from which on no more data are accepted. Two of
/// these (one being written, one being filled) keep a fast link busy.
pub(super) const OUTPUT: usize = 256 * 1024;
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
    /// Somebody at the server has connected to what the client offers there: [`Core::accept`] or
    /// [`Core::refuse`] it.
    Forwarded(u32, Origin),
    /// What became of a request of ours.
    Answered(u64, Answer),
    /// A channel that we have asked for is open.
    Opened(u32),
    /// The peer refuses it, for this reason.
    Refused(u32, u32, Text),
    /// A session of ours runs.
    Started(u32),
    /// It has ended, or never began. [`Self::Closed`] follows once there is no more of it.
    Exited(u32, Exit),
    /// Data; of two kinds in sessions of ours. Report what is read of them by [`Core::consumed`].
    Data(u32, Source, Bytes),
    /// No more data follow.
    Eof(u32),
    /// More data may be sent.
    Writable(u32),
    /// The terminal of a running session has this many columns and rows.
    Size(u32, u32, u32),
    /// A signal for the program of a session, named without `SIG`. It may come before its start.
    Signal(u32, String),
    /// The peer has closed the channel.
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
    /// A client that has no keys yet.
    Keys,
    Service,
    Auth {
        attempts: u32,
    },
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
    /// Whether a session of ours offers our authentication agent.
    pub(super) offers_agent: bool,
    pub(super) channels: Channels,
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
        let stage = match side {
            Side::Server(_) => Stage::Service,
            Side::Client => Stage::Keys,
        };
        Self {
            transport,
            side,
            keep_alive,
            stage,
            offers_agent: false,
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
            (Stage::Keys | Stage::Service | Stage::Auth { .. }, _) => {
                return Err(Error::Silent("to log in"));
            }
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
            Stage::Keys | Stage::Service | Stage::Auth { .. } | Stage::Closed => Ok(None),
        }
    }

    fn dispatch(&mut self, payload: BytesMut, now: Instant) -> Result<(), Error> {
        let message = payload[0];
        match (self.stage, message) {
            (Stage::Keys | Stage::Service | Stage::Auth { .. } | Stage::Closed, _) => {
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
    pub(super) fn serves(&self) -> bool {
        matches!(self.side, Side::Server(_))
    }
}
