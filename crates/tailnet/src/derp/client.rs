//! A client's side of one connection, without I/O.
//!
//! [`Client::handle_input`] takes a read buffer and gives the next [`Event`]; to be called until it
//! gives none, and then again when there are more bytes. What is to be written gathers in
//! [`Client::output`].
//!
//! ```text
//!   relay                         client
//!     │ ── server key ──────────────► │
//!     │ ◄──── client info, preferred ─│   in one write; packets may follow at once
//!     │ ── server info ─────────────► │
//!     │ ◄──────────────── packets ──► │   pings are answered, keepalives are swallowed
//! ```

use std::time::Duration;

use bytes::BytesMut;

use super::frame::{Decoder, Frame, FrameError, MAX_CLIENT_FRAME, MAX_SERVER_KEY, PeerGone};
use super::login::{self, ClientInfo, LoginError, NONCE_LENGTH, ServerInfo};
use crate::keys::{NodePrivate, NodePublic, RelayPublic};

/// Silence after which a connection counts as dead; relays send something every minute
/// (coder/tailscale: derp/derp_client.go).
pub const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Silence after which a relay that we write to is asked for a sign of life, and how long that may
/// take. Not upstream's, which waits the two minutes: a frozen relay holds up every tunnel through
/// it. A relay answers at once, and over the slowest way within a few seconds.
pub const PROBE_AFTER: Duration = Duration::from_secs(10);

/// See [`PROBE_AFTER`].
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long that may take where the network has just become another one: a few round trips of the
/// slowest way. (coder/tailscale: wgengine/magicsock/derp.go, `maybeCloseDERPsOnRebind`, waits 3 s.)
pub const DOUBT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pings of the relay that wait for an answer at most, so that one that never reads the answers
/// cannot fill our memory.
const MAX_PONGS: usize = 64;

/// Longest text of a problem that is kept, in bytes.
const MAX_HEALTH: usize = 1024;

/// What came from the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The relay named its key: our login is in the output, and packets may follow it.
    Welcome(RelayPublic),
    /// The relay accepted our login.
    LoggedIn(ServerInfo),
    /// A packet.
    Packet {
        /// From whom.
        from: NodePublic,
        /// The packet, which may be changed in place.
        payload: BytesMut,
    },
    /// A peer cannot be reached at this relay.
    PeerGone {
        /// The peer.
        peer: NodePublic,
        /// Why.
        reason: PeerGone,
    },
    /// What the relay finds wrong with this connection, `None` when it finds nothing any more.
    /// Not to be printed unescaped.
    Health(Option<String>),
    /// The relay will be gone for a moment.
    Restarting {
        /// Wait so long before connecting anew.
        reconnect_in: Duration,
        /// Then try for so long.
        try_for: Duration,
    },
    /// A ping of ours was answered.
    Pong([u8; 8]),
    /// The relay pinged; the answer is in the output.
    Pinged,
    /// Something that means nothing to a client.
    Other,
}

/// The protocol of one connection.
#[derive(Debug)]
pub struct Client {
    key: NodePrivate,
    home: bool,
    state: State,
    output: BytesMut,
    pongs: usize,
}

#[derive(Debug)]
enum State {
    /// The relay speaks first.
    AwaitKey { nonce: [u8; NONCE_LENGTH] },
    /// We have introduced ourselves; the relay's answer may still come.
    Open { relay: RelayPublic },
}

impl Client {
    /// A client that has said nothing yet. `home`: it listens here. `nonce` is random.
    pub fn new(key: NodePrivate, home: bool, nonce: [u8; NONCE_LENGTH]) -> Self {
        let state = State::AwaitKey { nonce };
        Client { key, home, state, output: BytesMut::new(), pongs: 0 }
    }

    /// The next event in the buffer, `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: the connection is of no use any more.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, ClientError> {
        let Some(frame) = self.decoder().decode(buffer)? else { return Ok(None) };
        if let State::AwaitKey { nonce } = &self.state {
            let Frame::ServerKey { key: relay } = frame else {
                return Err(ClientError::NotARelay);
            };
            let info = login::client_info(&self.key, &relay, &ClientInfo::default(), *nonce);
            info.encode(&mut self.output);
            if self.home {
                Frame::NotePreferred(true).encode(&mut self.output);
            }
            self.state = State::Open { relay };
            return Ok(Some(Event::Welcome(relay)));
        }
        self.handle_frame(frame).map(Some)
    }

    /// Bytes that [`Client::handle_input`] needs before it can have an event.
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        self.decoder().missing(buffer)
    }

    /// What is to be written; taking it empties it.
    pub fn output(&mut self) -> BytesMut {
        self.pongs = 0;
        self.output.split()
    }

    /// Whether packets may be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn decoder(&self) -> Decoder {
        match self.state {
            State::AwaitKey { .. } => Decoder::new(MAX_SERVER_KEY),
            State::Open { .. } => Decoder::new(MAX_CLIENT_FRAME),
        }
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<Event, ClientError> {
        Ok(match frame {
            Frame::RecvPacket { from, payload } => Event::Packet { from, payload },
            Frame::ServerInfo { nonce, sealed } => {
                if let State::Open { relay } = &self.state {
                    let info = login::open_server_info(&self.key, relay, &nonce, &sealed)?;
                    return Ok(Event::LoggedIn(info));
                }
                Event::Other
            }
            Frame::PeerGone { peer, reason } => Event::PeerGone { peer, reason },
            Frame::Ping(data) => {
                if self.pongs < MAX_PONGS {
                    self.pongs += 1;
                    Frame::Pong(data).encode(&mut self.output);
                }
                Event::Pinged
            }
            Frame::Pong(data) => Event::Pong(data),
            Frame::Health(mut problem) => {
                let end = (0..=MAX_HEALTH).rev().find(|end| problem.is_char_boundary(*end));
                problem.truncate(end.unwrap_or(0));
                Event::Health(Some(problem).filter(|problem| !problem.is_empty()))
            }
            Frame::Restarting { reconnect_in, try_for } => {
                Event::Restarting { reconnect_in, try_for }
            }
            Frame::ServerKey { .. }
            | Frame::ClientInfo { .. }
            | Frame::SendPacket { .. }
            | Frame::KeepAlive
            | Frame::NotePreferred(_)
            | Frame::PeerPresent { .. }
            | Frame::ForwardPacket { .. }
            | Frame::WatchConnections
            | Frame::ClosePeer { .. }
            | Frame::Unknown { .. } => Event::Other,
        })
    }
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The first thing said was no key.
    #[error("the server does not begin like a relay (wrong port, or something in between?)")]
    NotARelay,
    /// A frame that is too long.
    #[error("the relay broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// The relay's half of the login is not acceptable.
    #[error("the relay's introduction failed: {0}")]
    Login(#[from] LoginError),
}
