//! A client that says what it is told to, message by message, over the real transport layer; pure
//! against a [`Core`], or over a stream.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use coderctl_ssh::{
    Error,
    hostkey::HostKey,
    message as m,
    packet::SystemEntropy,
    server::{Config, Core, Policy},
    transport::{Incoming, Transport},
    wire::{Put, Reader},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub fn config() -> Config {
    Config {
        host_key: Arc::new(HostKey::from_seed(&[7; 32]).unwrap()),
        policy: Policy { subsystems: vec!["sftp".into()], agent: true, x11: true },
        keep_alive: None,
    }
}

pub fn core(config: Config) -> Core {
    Core::new(config, Box::new(SystemEntropy::default()), Instant::now()).unwrap()
}

/// A message of these strings and numbers.
#[derive(Debug, Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new(number: u8) -> Self {
        Self(vec![number])
    }

    pub fn string(mut self, value: impl AsRef<[u8]>) -> Self {
        self.0.put_string(value.as_ref());
        self
    }

    pub fn number(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn flag(mut self, value: bool) -> Self {
        self.0.put_boolean(value);
        self
    }
}

pub fn login(method: &str) -> Message {
    Message::new(m::USERAUTH_REQUEST).string("me").string("ssh-connection").string(method)
}

pub fn service() -> Message {
    Message::new(m::SERVICE_REQUEST).string("ssh-userauth")
}

pub fn open_session(number: u32) -> Message {
    Message::new(m::CHANNEL_OPEN).string("session").number(number).number(1 << 20).number(32768)
}

pub fn open_direct(number: u32, host: &str, window: u32) -> Message {
    Message::new(m::CHANNEL_OPEN)
        .string("direct-tcpip")
        .number(number)
        .number(window)
        .number(32768)
        .string(host)
        .number(80)
        .string("127.0.0.1")
        .number(4000)
}

pub fn request(channel: u32, name: &str, answer: bool) -> Message {
    Message::new(m::CHANNEL_REQUEST).number(channel).string(name).flag(answer)
}

pub fn global(name: &str, answer: bool) -> Message {
    Message::new(m::GLOBAL_REQUEST).string(name).flag(answer)
}

pub fn data(channel: u32, bytes: &[u8]) -> Message {
    Message::new(m::CHANNEL_DATA).number(channel).string(bytes)
}

/// The numbers in a message, from its second byte on.
pub fn numbers<const N: usize>(message: &[u8]) -> [u32; N] {
    let mut reader = Reader::new(&message[1..], "answer");
    std::array::from_fn(|_| reader.u32().unwrap())
}

/// The data of a CHANNEL_DATA.
pub fn bytes_of(message: &[u8]) -> &[u8] {
    assert_eq!(message[0], m::CHANNEL_DATA, "{message:?}");
    Reader::new(&message[5..], "data").string().unwrap()
}

/// The client's transport, with nothing above it.
pub struct Pure {
    pub transport: Transport,
    input: BytesMut,
}

impl Pure {
    pub fn new() -> Self {
        let transport = Transport::client(Box::new(SystemEntropy::default())).unwrap();
        Self { transport, input: BytesMut::new() }
    }

    pub fn say(&mut self, message: &Message) {
        self.transport.send(&[&message.0]).unwrap();
    }

    /// Carries everything there and back until nobody has anything to say: what the server said.
    pub fn exchange(&mut self, core: &mut Core) -> Result<Vec<BytesMut>, Error> {
        let mut said = Vec::new();
        let mut arriving = BytesMut::new();
        loop {
            let now = Instant::now();
            let ours = self.transport.output().split();
            let theirs = core.output().split();
            if ours.is_empty() && theirs.is_empty() {
                return Ok(said);
            }
            self.input.unsplit(theirs);
            while let Some(incoming) = self.transport.handle(&mut self.input, now)? {
                if let Incoming::Message(message) = incoming {
                    said.push(message);
                }
            }
            arriving.unsplit(ours);
            core.handle_input(&mut arriving, now)?;
        }
    }

    /// Through key exchange and login.
    pub fn log_in(&mut self, core: &mut Core) {
        self.exchange(core).unwrap();
        self.say(&service());
        self.say(&login("none"));
        let said = self.exchange(core).unwrap();
        assert_eq!(said.last().unwrap()[..], [m::USERAUTH_SUCCESS]);
    }
}

/// The same over a stream.
pub struct Raw {
    io: DuplexStream,
    pub transport: Transport,
    input: BytesMut,
    /// Bytes of data that were passed over by [`Self::open_among`].
    pub aside: usize,
}

impl Raw {
    /// Logged in.
    pub async fn new(io: DuplexStream) -> Self {
        let transport = Transport::client(Box::new(SystemEntropy::default())).unwrap();
        let mut raw = Self { io, transport, input: BytesMut::new(), aside: 0 };
        // Until the keys are there, what is sent waits.
        raw.send(&service()).await;
        raw.send(&login("none")).await;
        assert_eq!(raw.next().await.unwrap()[0], m::SERVICE_ACCEPT);
        assert_eq!(raw.next().await.unwrap()[0], m::USERAUTH_SUCCESS);
        raw
    }

    pub async fn send(&mut self, message: &Message) {
        self.transport.send(&[&message.0]).unwrap();
        self.flush().await;
    }

    pub async fn flush(&mut self) {
        let output = self.transport.output().split();
        // A server that has ended the connection is found out by reading.
        let _ = self.io.write_all(&output).await;
    }

    /// The next message; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<BytesMut> {
        loop {
            match self.transport.handle(&mut self.input, Instant::now()) {
                Ok(Some(Incoming::Message(message))) => return Some(message),
                Ok(Some(Incoming::Nothing | Incoming::Established)) => {
                    self.flush().await;
                    continue;
                }
                Ok(None) => {}
                Err(Error::Disconnected { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
            self.flush().await;
            self.input.reserve(1 << 16);
            if self.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The stream, for who wants to be silent.
    pub fn into_io(self) -> DuplexStream {
        self.io
    }

    /// The next message, which has this number.
    pub async fn expect(&mut self, number: u8) -> BytesMut {
        let message = self.next().await.expect("the connection goes on");
        assert_eq!(message[0], number, "{message:?}");
        message
    }

    /// Opens a channel: the server's number for it.
    pub async fn open(&mut self, open: &Message) -> u32 {
        self.send(open).await;
        let [_, theirs, ..] = numbers::<4>(&self.expect(m::CHANNEL_OPEN_CONFIRMATION).await);
        theirs
    }

    /// As [`Self::open`], while data of other channels come.
    pub async fn open_among(&mut self, open: &Message) -> u32 {
        self.send(open).await;
        loop {
            let message = self.next().await.expect("the connection goes on");
            if message[0] != m::CHANNEL_DATA {
                assert_eq!(message[0], m::CHANNEL_OPEN_CONFIRMATION);
                return numbers::<2>(&message)[1];
            }
            self.aside += bytes_of(&message).len();
        }
    }
}
