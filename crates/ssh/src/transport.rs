//! The transport layer (RFC 4253): versions, key exchange, re-keying.
//!
//! Bytes come in through [`Transport::handle`], messages of the layers above come out of it;
//! those layers send through [`Transport::send`]; what is to be written waits in
//! [`Transport::output`]. While keys are exchanged, what the layers above send is held back, as
//! the RFC wants it, and goes out in order behind our NEWKEYS.
//!
//! Keys are renewed after 1 GiB in either direction or an hour (RFC 4253 section 9), or when the
//! other side asks. A client's share follows its KEXINIT at once each time. Both sides are here:
//! they differ in who sends a share first and who signs.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};

use crate::{
    algorithms::{self, Agreed, Lists, Side},
    cipher::{Direction, Opener, Sealer},
    error::{Error, Text},
    hostkey::{self, HostKey},
    ident,
    kex::{Exchange, Reply, Secrets, Shared, Transcript},
    message,
    packet::{Entropy, Reader, Writer},
    wire::{self, Put},
};

/// Bytes in one direction after which keys are renewed (RFC 4253 section 9).
pub const REKEY_BYTES: u64 = 1 << 30;
/// Packets after which keys are renewed: far from the 2^32 at which sequence numbers, and with
/// them the nonces of ChaCha20, would come again (RFC 4344 section 3.1).
pub const REKEY_PACKETS: u64 = 1 << 31;
/// Packets after which the connection ends if the peer did not let the keys be renewed.
const PACKETS_LIMIT: u64 = (1 << 32) - 1024;
/// Age at which keys are renewed (RFC 4253 section 9).
pub const REKEY_AGE: Duration = Duration::from_secs(3600);
/// Most bytes held back during a key exchange: answers to a peer that goes on asking without
/// answering our KEXINIT.
const HELD: usize = 1 << 20;

/// What came out of the input.
#[derive(Debug)]
pub enum Incoming {
    /// The first keys are agreed upon: a client's requests may be sent.
    Established,
    /// A message for the layers above.
    Message(BytesMut),
    /// Something that concerns this layer alone; there may be more in the input.
    Nothing,
}

/// One side of the transport layer.
pub struct Transport {
    role: Role,
    entropy: Box<dyn Entropy>,
    out: BytesMut,
    reader: Reader,
    writer: Writer,
    version: Version,
    exchange: Step,
    /// The hash of the first exchange, once there is one.
    session: Option<[u8; 32]>,
    strict: bool,
    /// Whether the peer's first NEWKEYS has come.
    opened: bool,
    /// Whether the peer understands EXT_INFO.
    informed: bool,
    host_key: Vec<u8>,
    held: Held,
    sent: Count,
    received: Count,
    renew_at: Option<Instant>,
    rekey_bytes: u64,
}

/// Which side we are, and what only that side has.
enum Role {
    Client,
    Server(Arc<HostKey>),
}

impl Role {
    fn side(&self) -> Side {
        match self {
            Self::Client => Side::Client,
            Self::Server(_) => Side::Server,
        }
    }
}

enum Version {
    Awaited(ident::Lines),
    Known(Vec<u8>),
}

/// Where a key exchange stands.
enum Step {
    /// None is going on.
    Idle,
    /// Our KEXINIT is sent, and a client's share with it.
    Init { ours: Vec<u8>, exchange: Box<dyn Exchange> },
    /// The peer's KEXINIT is here too; its share is awaited.
    Share { ours: Vec<u8>, exchange: Box<dyn Exchange>, theirs: Vec<u8>, agreed: Agreed },
    /// Our NEWKEYS is sent; theirs is awaited, with the keys that it brings into use.
    NewKeys(Opener),
}

#[derive(Default)]
struct Held {
    payloads: Vec<Vec<u8>>,
    bytes: usize,
}

/// What went through one direction since its keys are in use.
#[derive(Default)]
struct Count {
    bytes: u64,
    packets: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes as u64;
        self.packets += 1;
        if self.packets > PACKETS_LIMIT {
            return Err(Error::Unexpected { message: 0, during: "instead of renewing the keys" });
        }
        Ok(())
    }
}

impl Transport {
    /// Begins a client's side: version, KEXINIT and the share are in the output already.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn client(entropy: Box<dyn Entropy>) -> Result<Self, Error> {
        Self::new(Role::Client, ident::Lines::default(), entropy)
    }

    /// Begins a server's side: version and KEXINIT are in the output already.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn server(host_key: Arc<HostKey>, entropy: Box<dyn Entropy>) -> Result<Self, Error> {
        Self::new(Role::Server(host_key), ident::Lines::of_client(), entropy)
    }

    fn new(role: Role, lines: ident::Lines, entropy: Box<dyn Entropy>) -> Result<Self, Error> {
        let mut transport = Self {
            role,
            entropy,
            out: BytesMut::with_capacity(4096),
            reader: Reader::new(),
            writer: Writer::new(),
            version: Version::Awaited(lines),
            exchange: Step::Idle,
            session: None,
            strict: false,
            opened: false,
            informed: false,
            host_key: Vec::new(),
            held: Held::default(),
            sent: Count::default(),
            received: Count::default(),
            renew_at: None,
            rekey_bytes: REKEY_BYTES,
        };
        transport.out.put_slice(ident::OURS.as_bytes());
        transport.out.put_slice(b"\r\n");
        transport.begin()?;
        Ok(transport)
    }

    /// Renews keys after this many bytes instead of [`REKEY_BYTES`].
    pub fn set_rekey_bytes(&mut self, bytes: u64) {
        self.rekey_bytes = bytes;
    }

    /// What is to be written to the peer.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Whether messages go out at once; while keys are exchanged they are held back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self.exchange {
            Step::Idle | Step::NewKeys(_) => self.session.is_some(),
            Step::Init { .. } | Step::Share { .. } => false,
        }
    }

    /// The host key as the server sent it to us, once its signature is verified.
    #[must_use]
    pub fn host_key(&self) -> &[u8] {
        &self.host_key
    }

    /// The sequence number of the message that came last, for UNIMPLEMENTED.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.reader.last()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.exchange {
            Step::Idle => self.renew_at,
            Step::Init { .. } | Step::Share { .. } | Step::NewKeys(_) => None,
        }
    }

    /// Renews keys that are old.
    ///
    /// # Errors
    /// [`Error::Entropy`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.poll_timeout() {
            Some(at) if at <= now => self.begin(),
            Some(_) | None => Ok(()),
        }
    }

    /// Sends a message of a layer above, made of these parts.
    ///
    /// # Errors
    /// [`Error::Entropy`], and [`Error::TooLong`] when a peer makes us hold back too much.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        if self.is_open() {
            self.write(parts)?;
            return self.renew_if_due();
        }
        let payload = parts.concat();
        self.held.bytes += payload.len();
        if self.held.bytes > HELD {
            let length = self.held.bytes;
            return Err(Error::TooLong { what: "flood of requests", length, limit: HELD });
        }
        self.held.payloads.push(payload);
        Ok(())
    }

    /// Takes what it can off the input. `None` asks for more bytes.
    ///
    /// # Errors
    /// Whatever the peer did wrong; the connection cannot go on.
    pub fn handle(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
    ) -> Result<Option<Incoming>, Error> {
        if let Version::Awaited(lines) = &mut self.version {
            match lines.handle(input)? {
                Some(line) => self.version = Version::Known(line),
                None => return Ok(None),
            }
        }
        let before = input.len();
        let Some(payload) = self.reader.read(input)? else { return Ok(None) };
        self.received.add(before - input.len())?;
        let incoming = self.dispatch(payload, now)?;
        self.renew_if_due()?;
        Ok(Some(incoming))
    }

    /// How many bytes the input lacks at least.
    #[must_use]
    pub fn missing(&self, input: usize) -> usize {
        match self.version {
            Version::Awaited(_) => 1,
            Version::Known(_) => self.reader.missing(input),
        }
    }

    fn dispatch(&mut self, payload: BytesMut, now: Instant) -> Result<Incoming, Error> {
        let number = *payload.first().ok_or(Error::Malformed("empty message"))?;
        let initial = self.session.is_none();
        match number {
            message::DISCONNECT => Err(disconnected(&payload)),
            // The strict key exchange lets nothing slip in before the keys.
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED
                if self.strict && !self.opened =>
            {
                Err(Error::Unexpected { message: number, during: "during the key exchange" })
            }
            message::IGNORE | message::DEBUG => Ok(Incoming::Nothing),
            message::KEXINIT => self.handle_init(payload).map(|()| Incoming::Nothing),
            message::KEX_ECDH_INIT | message::KEX_ECDH_REPLY => {
                if !self.handle_share(&payload, now)? {
                    return Ok(Incoming::Nothing);
                }
                Ok(if initial { Incoming::Established } else { Incoming::Nothing })
            }
            message::NEWKEYS => self.handle_new_keys().map(|()| Incoming::Nothing),
            message::EXT_INFO if self.opened => Ok(Incoming::Nothing),
            _ => match self.exchange {
                Step::Idle => Ok(Incoming::Message(payload)),
                // Sent before the peer saw our KEXINIT.
                Step::Init { .. } if !initial => Ok(Incoming::Message(payload)),
                Step::Init { .. } | Step::Share { .. } | Step::NewKeys(_) => {
                    if self.is_ignored() {
                        return Ok(Incoming::Nothing);
                    }
                    let during = "during the key exchange";
                    Err(Error::Unexpected { message: number, during })
                }
            },
        }
    }

    /// Whether this packet is the peer's wrong guess; it is only one.
    fn is_ignored(&mut self) -> bool {
        match &mut self.exchange {
            Step::Share { agreed, .. } => std::mem::take(&mut agreed.ignore_next),
            Step::Idle | Step::Init { .. } | Step::NewKeys(_) => false,
        }
    }

    /// Sends KEXINIT and, without waiting, a client's share.
    fn begin(&mut self) -> Result<(), Error> {
        let mut cookie = [0; 16];
        self.entropy.fill(&mut cookie)?;
        let exchange = self.entropy.exchange()?;
        let ours = self.lists().encode(cookie);
        self.write(&[&ours])?;
        if let Role::Client = self.role {
            let mut share = Vec::with_capacity(37);
            share.push(message::KEX_ECDH_INIT);
            share.put_string(&exchange.public());
            self.write(&[&share])?;
        }
        self.exchange = Step::Init { ours, exchange };
        Ok(())
    }

    fn lists(&self) -> Lists {
        match self.role {
            Role::Client => Lists::client(),
            Role::Server(_) => Lists::server(),
        }
    }

    fn handle_init(&mut self, payload: BytesMut) -> Result<(), Error> {
        if let Step::Idle = self.exchange {
            self.begin()?;
        }
        let (ours, exchange) = match std::mem::replace(&mut self.exchange, Step::Idle) {
            Step::Init { ours, exchange } => (ours, exchange),
            Step::Idle | Step::Share { .. } | Step::NewKeys(_) => {
                let during = "twice in one key exchange";
                return Err(Error::Unexpected { message: message::KEXINIT, during });
            }
        };
        let lists = Lists::parse(&payload)?;
        let side = self.role.side();
        if self.session.is_none() {
            self.strict = lists.names(match side {
                Side::Client => algorithms::STRICT_SERVER,
                Side::Server => algorithms::STRICT_CLIENT,
            });
            self.informed = lists.names(algorithms::EXT_INFO);
            if self.strict && self.reader.last() != 0 {
                let during = "not as its first packet";
                return Err(Error::Unexpected { message: message::KEXINIT, during });
            }
        }
        let agreed = match side {
            Side::Client => Agreed::between(side, &self.lists(), &lists),
            Side::Server => Agreed::between(side, &lists, &self.lists()),
        }?;
        self.exchange = Step::Share { ours, exchange, theirs: payload.to_vec(), agreed };
        Ok(())
    }

    /// The peer's share. `false` when it was a wrong guess.
    fn handle_share(&mut self, payload: &[u8], now: Instant) -> Result<bool, Error> {
        if self.is_ignored() {
            return Ok(false);
        }
        let wrong = |during| Error::Unexpected { message: payload[0], during };
        let (ours, exchange, theirs, agreed) =
            match std::mem::replace(&mut self.exchange, Step::Idle) {
                Step::Share { ours, exchange, theirs, agreed } => (ours, exchange, theirs, agreed),
                Step::Idle | Step::Init { .. } | Step::NewKeys(_) => {
                    return Err(wrong("outside a key exchange"));
                }
            };
        let Version::Known(version) = &self.version else {
            return Err(Error::Malformed("key exchange"));
        };
        match (&self.role, payload[0]) {
            (Role::Client, message::KEX_ECDH_REPLY) => {
                let reply = Reply::parse(payload)?;
                let share = exchange.public();
                let shared = exchange.agree(reply.share)?;
                let hash = Transcript {
                    client_version: ident::OURS.as_bytes(),
                    server_version: version,
                    client_init: &ours,
                    server_init: &theirs,
                    host_key: reply.host_key,
                    client_share: &share,
                    server_share: reply.share,
                }
                .hash(&shared);
                hostkey::verify(agreed.host_key, reply.host_key, reply.signature, &hash)?;
                if self.session.is_some() && self.host_key != reply.host_key {
                    return Err(Error::HostKey("it changed within the connection"));
                }
                self.host_key = reply.host_key.to_vec();
                self.install(&agreed, shared, hash, now)?;
            }
            (Role::Server(host_key), message::KEX_ECDH_INIT) => {
                let host_key = Arc::clone(host_key);
                let mut reader = wire::Reader::new(payload, "key exchange share");
                reader.byte()?;
                let client_share = reader.string()?;
                let share = exchange.public();
                let shared = exchange.agree(client_share)?;
                let hash = Transcript {
                    client_version: version,
                    server_version: ident::OURS.as_bytes(),
                    client_init: &theirs,
                    server_init: &ours,
                    host_key: host_key.public(),
                    client_share,
                    server_share: &share,
                }
                .hash(&shared);
                let mut reply = vec![message::KEX_ECDH_REPLY];
                for part in [host_key.public(), &share, &host_key.sign(&hash)] {
                    reply.put_string(part);
                }
                self.write(&[&reply])?;
                self.install(&agreed, shared, hash, now)?;
            }
            (Role::Client | Role::Server(_), _) => {
                return Err(wrong("which is not its part of the key exchange"));
            }
        }
        Ok(true)
    }

    /// Sends NEWKEYS, uses the new keys for what we send and awaits the peer's NEWKEYS.
    fn install(
        &mut self,
        agreed: &Agreed,
        shared: Shared,
        hash: [u8; 32],
        now: Instant,
    ) -> Result<(), Error> {
        let initial = self.session.is_none();
        let secrets = Secrets::new(shared, hash, *self.session.get_or_insert(hash));
        let to_server = (agreed.to_server, Direction::ClientToServer);
        let to_client = (agreed.to_client, Direction::ServerToClient);
        let (send, receive) = match self.role.side() {
            Side::Client => (to_server, to_client),
            Side::Server => (to_client, to_server),
        };
        let sealer = Sealer::new(send.0, send.1, &secrets)?;
        let opener = Opener::new(receive.0, receive.1, &secrets)?;
        self.write(&[&[message::NEWKEYS]])?;
        self.writer.rekey(sealer, self.strict);
        self.sent = Count::default();
        self.exchange = Step::NewKeys(opener);
        self.renew_at = Some(now + REKEY_AGE);
        if initial && self.informed && self.role.side() == Side::Server {
            self.write(&[&extensions()])?;
        }
        self.held.bytes = 0;
        for payload in std::mem::take(&mut self.held.payloads) {
            self.write(&[&payload])?;
        }
        tracing::debug!(cipher = send.0.name(), strict = self.strict, "keys exchanged");
        Ok(())
    }

    fn handle_new_keys(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.exchange, Step::Idle) {
            Step::NewKeys(opener) => {
                self.reader.rekey(opener, self.strict);
                self.received = Count::default();
                self.opened = true;
                Ok(())
            }
            Step::Idle | Step::Init { .. } | Step::Share { .. } => {
                let during = "before the keys were agreed upon";
                Err(Error::Unexpected { message: message::NEWKEYS, during })
            }
        }
    }

    fn renew_if_due(&mut self) -> Result<(), Error> {
        let due = |count: &Count| count.bytes >= self.rekey_bytes || count.packets >= REKEY_PACKETS;
        let idle = matches!(self.exchange, Step::Idle) && self.session.is_some();
        if idle && (due(&self.sent) || due(&self.received)) {
            return self.begin();
        }
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let before = self.out.len();
        self.writer.write(&mut *self.entropy, parts, &mut self.out)?;
        self.sent.add(self.out.len() - before)
    }
}

/// EXT_INFO of a server (RFC 8308 section 3.1): the signatures that it would take of users. Clients
/// that would log in by key want to know, although nobody has to.
fn extensions() -> Vec<u8> {
    let mut out = vec![message::EXT_INFO];
    out.put_u32(1);
    out.put_string(b"server-sig-algs");
    out.put_string(hostkey::ALGORITHMS.join(",").as_bytes());
    out
}

fn disconnected(payload: &[u8]) -> Error {
    let mut reader = wire::Reader::new(payload, "DISCONNECT");
    let parsed = (|| {
        reader.byte()?;
        let reason = reader.u32()?;
        Ok(Error::Disconnected { reason, text: Text::new(reader.string()?) })
    })();
    parsed.unwrap_or_else(|error: Error| error)
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("established", &self.session.is_some())
            .field("open", &self.is_open())
            .field("output", &self.out.len())
            .finish_non_exhaustive()
    }
}
