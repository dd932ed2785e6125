//! A small SSH server for tests. It shares packets, ciphers and field encodings with the client;
//! the order of messages, the key exchange's other side and the channel are its own.
//!
//! Commands it knows: `cat`, `exit N`, `split` (a line to each output), `flood N` (that many
//! bytes), `env`, `tty`, `signal` (waits for one and dies of it), `vanish` (closes without a
//! status), `drop` (cuts the connection), `hold` (runs until told otherwise), `half` (says
//! `done` after the end of input). A shell is `cat`, which a terminal's end-of-file key ends.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::{collections::VecDeque, io};

use bytes::BytesMut;
use coderctl_ssh::{
    algorithms::Lists,
    cipher::{Cipher, Direction, Opener, Sealer},
    kex::{Exchange, Secrets, Shared, Transcript, X25519},
    message as m,
    packet::{Reader as PacketReader, SystemEntropy, Writer as PacketWriter},
    wire::{Put, Reader},
};
use ring::{rand::SystemRandom, signature::Ed25519KeyPair, signature::KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Config {
    pub greeting: &'static [u8],
    pub version: &'static str,
    pub cipher: Cipher,
    pub strict: bool,
    /// Bytes that the client may send before it is granted more.
    pub window: u32,
    pub max_packet: u32,
    /// The server's number for the session channel.
    pub number: u32,
    /// Asks for new keys after this many packets of its own.
    pub rekey_packets: Option<u64>,
    pub auth: bool,
    pub accept_channel: bool,
    pub accept_command: bool,
    /// Sends a signature over something else.
    pub forge: bool,
    /// Announces a guess and sends a wrong one.
    pub wrong_guess: bool,
    /// Sends all that a client must bear: IGNORE, DEBUG, requests, channels, unknown messages.
    pub noisy: bool,
    pub kex: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            greeting: b"",
            version: "SSH-2.0-test",
            cipher: Cipher::Aes128Gcm,
            strict: true,
            window: 2 << 20,
            max_packet: 32 * 1024,
            number: 0,
            rekey_packets: None,
            auth: true,
            accept_channel: true,
            accept_command: true,
            forge: false,
            wrong_guess: false,
            noisy: false,
            kex: "curve25519-sha256",
        }
    }
}

/// What the server saw.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    pub user: String,
    pub env: Vec<(String, String)>,
    pub term: Option<(String, u32, u32)>,
    pub sizes: Vec<(u32, u32)>,
    pub signals: Vec<String>,
    /// Number of key exchanges.
    pub exchanges: u32,
    /// How many times the server had to wait for bytes.
    pub waits: u32,
    /// How many of them it took until the command was known.
    pub waits_for_command: u32,
    /// Answers to noise: global failures, channel refusals, unimplemented, channel failures.
    pub answers: [u32; 4],
    pub disconnected: bool,
    pub eof: bool,
    /// Global requests, which it leaves unanswered.
    pub questions: u32,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Serves one connection to its end.
pub async fn serve<T: AsyncRead + AsyncWrite + Unpin>(io: T, config: Config) -> Result<Seen> {
    let mut server = Server {
        io,
        config,
        input: BytesMut::new(),
        reader: PacketReader::new(),
        writer: PacketWriter::new(),
        entropy: SystemEntropy::default(),
        client_version: Vec::new(),
        session: None,
        queue: VecDeque::new(),
        aside: VecDeque::new(),
        packets: 0,
        rekeying: None,
        seen: Seen::default(),
    };
    let Err(error) = server.run().await else { return Ok(server.seen) };
    if !is_gone(&*error) {
        return Err(error);
    }
    // Clients may leave without waiting for us; what they said before is still to be read.
    while let Ok(message) = server.next().await {
        server.seen.disconnected |= message[0] == m::DISCONNECT;
    }
    Ok(server.seen)
}

fn is_gone(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset)
    })
}

struct Server<T> {
    io: T,
    config: Config,
    input: BytesMut,
    reader: PacketReader,
    writer: PacketWriter,
    entropy: SystemEntropy,
    client_version: Vec<u8>,
    session: Option<[u8; 32]>,
    /// Input of the command that nobody has asked for yet.
    queue: VecDeque<BytesMut>,
    /// Messages that came before the client's side of an exchange that the server began.
    aside: VecDeque<BytesMut>,
    packets: u64,
    /// The KEXINIT that was sent, while the client's is awaited.
    rekeying: Option<Vec<u8>>,
    seen: Seen,
}

/// The session channel, as the server sees it.
struct Channel {
    client: u32,
    window: u32,
    max_packet: usize,
    granted: u32,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Server<T> {
    async fn run(&mut self) -> Result<()> {
        self.io.write_all(self.config.greeting).await?;
        self.io.write_all(format!("{}\r\n", self.config.version).as_bytes()).await?;
        self.client_version = loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line = self.input.split_to(end + 1);
                break line[..end - 1].to_vec();
            }
            self.fill().await?;
        };
        self.begin_exchange().await?;
        while self.session.is_none() {
            let message = self.raw().await?;
            self.exchange(message).await?;
        }
        let service = self.expect(m::SERVICE_REQUEST).await?;
        assert_eq!(Reader::new(&service[1..], "").text()?, "ssh-userauth");
        self.send(&strings(m::SERVICE_ACCEPT, &[b"ssh-userauth"])).await?;
        let auth = self.expect(m::USERAUTH_REQUEST).await?;
        let mut fields = Reader::new(&auth[1..], "");
        self.seen.user = fields.text()?.into();
        assert_eq!((fields.text()?, fields.text()?), ("ssh-connection", "none"));
        if self.config.noisy {
            self.send(&strings(m::USERAUTH_BANNER, &[b"\x1b[31mhello\n", b"en"])).await?;
        }
        if !self.config.auth {
            let mut refusal = strings(m::USERAUTH_FAILURE, &[b"publickey,password"]);
            refusal.push(0);
            return self.send(&refusal).await;
        }
        self.send(&[m::USERAUTH_SUCCESS]).await?;
        let channel = self.open_channel().await?;
        if let Some(channel) = channel {
            self.requests(channel).await?;
        }
        Ok(())
    }

    async fn open_channel(&mut self) -> Result<Option<Channel>> {
        let open = self.expect(m::CHANNEL_OPEN).await?;
        let mut fields = Reader::new(&open[1..], "");
        assert_eq!(fields.text()?, "session");
        let client = fields.u32()?;
        let (window, max_packet) = (fields.u32()?, fields.u32()? as usize);
        if !self.config.accept_channel {
            let mut out = numbers(m::CHANNEL_OPEN_FAILURE, &[client, 1]);
            out.put_string(b"no more\x1b sessions");
            out.put_string(b"");
            self.send(&out).await?;
            return Ok(None);
        }
        let (number, granted, packet) =
            (self.config.number, self.config.window, self.config.max_packet);
        self.send(&numbers(m::CHANNEL_OPEN_CONFIRMATION, &[client, number, granted, packet]))
            .await?;
        Ok(Some(Channel { client, window, max_packet, granted }))
    }

    async fn requests(&mut self, mut channel: Channel) -> Result<()> {
        loop {
            let request = self.expect(m::CHANNEL_REQUEST).await?;
            let mut fields = Reader::new(&request[1..], "");
            assert_eq!(fields.u32()?, self.config.number);
            let (name, answer) = (fields.text()?, fields.boolean()?);
            match name {
                "env" => {
                    let pair = (fields.text()?.to_owned(), fields.text()?.to_owned());
                    self.seen.env.push(pair);
                }
                "pty-req" => {
                    let term = fields.text()?.to_owned();
                    self.seen.term = Some((term, fields.u32()?, fields.u32()?));
                }
                "exec" | "shell" => {
                    assert!(answer);
                    self.seen.waits_for_command = self.seen.waits;
                    if !self.config.accept_command {
                        return self.send(&numbers(m::CHANNEL_FAILURE, &[channel.client])).await;
                    }
                    self.send(&numbers(m::CHANNEL_SUCCESS, &[channel.client])).await?;
                    let command = match name {
                        "exec" => fields.text()?.to_owned(),
                        _ => "cat".into(),
                    };
                    if self.config.noisy {
                        self.noise(channel.client).await?;
                    }
                    return self.command(&mut channel, &command).await;
                }
                other => panic!("unexpected request {other}"),
            }
            if answer {
                self.send(&numbers(m::CHANNEL_SUCCESS, &[channel.client])).await?;
            }
        }
    }

    async fn noise(&mut self, client: u32) -> Result<()> {
        self.send(&strings(m::IGNORE, &[b"nothing"])).await?;
        let mut debug = vec![m::DEBUG, 1];
        debug.put_string(b"text");
        debug.put_string(b"");
        self.send(&debug).await?;
        let mut keepalive = strings(m::GLOBAL_REQUEST, &[b"keepalive@openssh.com"]);
        keepalive.push(1);
        self.send(&keepalive).await?;
        let mut hostkeys = strings(m::GLOBAL_REQUEST, &[b"hostkeys-00@openssh.com"]);
        hostkeys.push(0);
        self.send(&hostkeys).await?;
        let mut open = strings(m::CHANNEL_OPEN, &[b"x11"]);
        open.extend_from_slice(&numbers(0, &[7, 1000, 1000])[1..]);
        self.send(&open).await?;
        self.send(&[192, 1, 2, 3]).await?;
        let mut request = numbers(m::CHANNEL_REQUEST, &[client]);
        request.put_string(b"keepalive@openssh.com");
        request.push(1);
        self.send(&request).await?;
        let mut odd = numbers(m::CHANNEL_EXTENDED_DATA, &[client, 77]);
        odd.put_string(b"of an unknown kind");
        self.send(&odd).await
    }

    async fn command(&mut self, channel: &mut Channel, command: &str) -> Result<()> {
        let mut words = command.split(' ');
        match words.next().unwrap_or_default() {
            "cat" => {
                while let Some(data) = self.input_data(channel).await? {
                    self.data(channel, None, &data).await?;
                    if self.seen.term.is_some() && data.ends_with(b"\x04") {
                        break;
                    }
                }
                self.finish(channel, 0).await
            }
            "half" => {
                self.data(channel, None, b"ready\n").await?;
                let mut count = 0;
                while let Some(data) = self.input_data(channel).await? {
                    count += data.len();
                }
                self.data(channel, None, format!("done {count}\n").as_bytes()).await?;
                self.finish(channel, 0).await
            }
            "exit" => {
                let status = words.next().unwrap_or("0").parse()?;
                self.finish(channel, status).await
            }
            "split" => {
                self.data(channel, None, b"out\n").await?;
                self.data(channel, Some(1), b"err\n").await?;
                self.finish(channel, 0).await
            }
            "flood" => {
                let source = (words.next() == Some("err")).then_some(1);
                let mut left: usize = words.next().unwrap_or("0").parse()?;
                let block: Vec<u8> = (0..32 * 1024).map(|i: u32| (i % 251) as u8).collect();
                while left > 0 {
                    let now = left.min(block.len());
                    self.data(channel, source, &block[..now]).await?;
                    left -= now;
                }
                if source.is_some() {
                    self.data(channel, None, b"after\n").await?;
                }
                self.finish(channel, 0).await
            }
            "env" => {
                let text: Vec<_> =
                    self.seen.env.iter().map(|(k, v)| format!("{k}={v}\n")).collect();
                self.data(channel, None, text.concat().as_bytes()).await?;
                self.finish(channel, 0).await
            }
            "tty" => {
                let text = format!("{:?}\n", self.seen.term);
                self.data(channel, None, text.as_bytes()).await?;
                while self.seen.sizes.is_empty() {
                    self.handle(channel).await?;
                }
                let text = format!("{:?}\n", self.seen.sizes);
                self.data(channel, None, text.as_bytes()).await?;
                self.finish(channel, 0).await
            }
            "signal" => {
                self.data(channel, None, b"ready\n").await?;
                while self.seen.signals.is_empty() {
                    self.handle(channel).await?;
                }
                let mut out = numbers(m::CHANNEL_REQUEST, &[channel.client]);
                out.put_string(b"exit-signal");
                out.put_boolean(false);
                out.put_string(self.seen.signals[0].as_bytes());
                out.put_boolean(true);
                out.put_string(b"killed\x07");
                out.put_string(b"");
                self.send(&out).await?;
                self.close(channel).await
            }
            "vanish" => self.close(channel).await,
            "drop" => {
                self.data(channel, None, b"begun\n").await?;
                Ok(())
            }
            "hold" => {
                self.data(channel, None, b"ready\n").await?;
                loop {
                    if self.handle(channel).await?.is_some_and(|kind| kind == m::CHANNEL_CLOSE) {
                        return self.close(channel).await;
                    }
                }
            }
            other => panic!("unknown command {other}"),
        }
    }

    async fn finish(&mut self, channel: &mut Channel, status: u32) -> Result<()> {
        let mut out = numbers(m::CHANNEL_REQUEST, &[channel.client]);
        out.put_string(b"exit-status");
        out.put_boolean(false);
        out.extend_from_slice(&status.to_be_bytes());
        self.send(&numbers(m::CHANNEL_EOF, &[channel.client])).await?;
        self.send(&out).await?;
        self.close(channel).await
    }

    async fn close(&mut self, channel: &mut Channel) -> Result<()> {
        self.send(&numbers(m::CHANNEL_CLOSE, &[channel.client])).await?;
        while !self.seen.disconnected {
            self.handle(channel).await?;
        }
        Ok(())
    }

    /// Waits for input; `None` at its end.
    async fn input_data(&mut self, channel: &mut Channel) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self
                .queue
                .iter()
                .position(|message| matches!(message[0], m::CHANNEL_DATA | m::CHANNEL_EOF))
            {
                let message = self.queue.remove(at).unwrap();
                if message[0] == m::CHANNEL_EOF {
                    self.seen.eof = true;
                    return Ok(None);
                }
                let mut fields = Reader::new(&message[5..], "");
                let data = fields.string()?.to_vec();
                let length = data.len() as u32;
                assert!(length <= self.config.max_packet, "packet of {length}");
                channel.granted = channel.granted.checked_sub(length).expect("window kept");
                if channel.granted < self.config.window / 2 {
                    let more = self.config.window - channel.granted;
                    channel.granted += more;
                    self.send(&numbers(m::CHANNEL_WINDOW_ADJUST, &[channel.client, more])).await?;
                }
                return Ok(Some(data));
            }
            let message = self.next().await?;
            self.sort(channel, message)?;
        }
    }

    /// Reads and sorts one message; its number, unless it waits in the queue.
    async fn handle(&mut self, channel: &mut Channel) -> Result<Option<u8>> {
        let message = self.next().await?;
        self.sort(channel, message)
    }

    fn sort(&mut self, channel: &mut Channel, message: BytesMut) -> Result<Option<u8>> {
        let number = message[0];
        match number {
            m::CHANNEL_WINDOW_ADJUST => {
                channel.window += Reader::new(&message[5..], "").u32()?;
            }
            m::CHANNEL_REQUEST => {
                let mut fields = Reader::new(&message[5..], "");
                let (name, answer) = (fields.text()?, fields.boolean()?);
                assert!(!answer);
                match name {
                    "signal" => self.seen.signals.push(fields.text()?.to_owned()),
                    "window-change" => self.seen.sizes.push((fields.u32()?, fields.u32()?)),
                    other => panic!("unexpected request {other}"),
                }
            }
            m::REQUEST_FAILURE => self.seen.answers[0] += 1,
            m::CHANNEL_OPEN_FAILURE => self.seen.answers[1] += 1,
            m::UNIMPLEMENTED => self.seen.answers[2] += 1,
            m::CHANNEL_FAILURE => self.seen.answers[3] += 1,
            // Somebody asks whether it is still there, and hears nothing.
            m::GLOBAL_REQUEST => self.seen.questions += 1,
            m::CHANNEL_CLOSE => {}
            m::DISCONNECT => self.seen.disconnected = true,
            m::CHANNEL_EOF | m::CHANNEL_DATA => {
                self.seen.eof |= number == m::CHANNEL_EOF;
                self.queue.push_back(message);
                return Ok(None);
            }
            other => panic!("unexpected message {other}"),
        }
        Ok(Some(number))
    }

    /// Sends output within the client's window.
    async fn data(&mut self, channel: &mut Channel, kind: Option<u32>, data: &[u8]) -> Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            while channel.window == 0 {
                self.handle(channel).await?;
            }
            let now = rest.len().min(channel.window as usize).min(channel.max_packet);
            let mut out = match kind {
                None => numbers(m::CHANNEL_DATA, &[channel.client]),
                Some(kind) => numbers(m::CHANNEL_EXTENDED_DATA, &[channel.client, kind]),
            };
            out.put_string(&rest[..now]);
            self.send(&out).await?;
            channel.window -= now as u32;
            rest = &rest[now..];
        }
        Ok(())
    }

    async fn expect(&mut self, number: u8) -> Result<BytesMut> {
        let message = self.next().await?;
        assert_eq!(message[0], number, "message {message:?}");
        Ok(message)
    }

    /// The next message that is not about keys.
    async fn next(&mut self) -> Result<BytesMut> {
        if let Some(message) = self.aside.pop_front() {
            return Ok(message);
        }
        loop {
            let message = self.raw().await?;
            match message[0] {
                20..=49 => self.exchange(message).await?,
                _ => return Ok(message),
            }
        }
    }

    async fn raw(&mut self) -> Result<BytesMut> {
        loop {
            if let Some(message) = self.reader.read(&mut self.input)? {
                return Ok(message);
            }
            self.seen.waits += 1;
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.reserve(1 << 16);
        if self.io.read_buf(&mut self.input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    async fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.write(payload).await?;
        self.packets += 1;
        if self.config.rekey_packets.is_some_and(|limit| self.packets >= limit) {
            self.packets = 0;
            self.begin_exchange().await?;
            // Nothing but keys until the exchange is over; what the client says meanwhile waits.
            while self.rekeying.is_some() {
                let message = self.raw().await?;
                match message[0] {
                    20..=49 => self.exchange(message).await?,
                    _ => self.aside.push_back(message),
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, payload: &[u8]) -> Result<()> {
        let mut out = BytesMut::new();
        self.writer.write(&mut self.entropy, &[payload], &mut out)?;
        self.io.write_all(&out).await?;
        self.io.flush().await?;
        Ok(())
    }

    async fn begin_exchange(&mut self) -> Result<()> {
        let strict = if self.config.strict { ",kex-strict-s-v00@openssh.com" } else { "" };
        let first = if self.config.wrong_guess { "ecdh-sha2-nistp256," } else { "" };
        let init = Lists {
            kex: format!("{first}{}{strict}", self.config.kex),
            host_key: "ssh-ed25519".into(),
            to_server: self.config.cipher.name().into(),
            to_client: self.config.cipher.name().into(),
            compression_to_server: "none".into(),
            compression_to_client: "none".into(),
            follows: self.config.wrong_guess,
        }
        .encode([9; 16]);
        self.write(&init).await?;
        if self.config.wrong_guess {
            self.write(&strings(m::KEX_ECDH_REPLY, &[b"a", b"wrong", b"guess"])).await?;
        }
        self.rekeying = Some(init);
        Ok(())
    }

    /// The server's side of an exchange, from the client's KEXINIT to its NEWKEYS.
    async fn exchange(&mut self, client_init: BytesMut) -> Result<()> {
        assert_eq!(client_init[0], m::KEXINIT, "a key exchange begins with KEXINIT");
        if self.rekeying.is_none() {
            self.begin_exchange().await?;
        }
        let server_init = self.rekeying.take().unwrap();
        let share = self.raw().await?;
        assert_eq!(share[0], m::KEX_ECDH_INIT);
        let client_share = Reader::new(&share[1..], "").string()?;
        let pair = Box::new(X25519::generate(&SystemRandom::new())?);
        let server_share = pair.public();
        let shared: Shared = pair.agree(client_share)?;
        let signer = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut host_key = Vec::new();
        host_key.put_string(b"ssh-ed25519");
        host_key.put_string(signer.public_key().as_ref());
        let hash = Transcript {
            client_version: &self.client_version,
            server_version: self.config.version.as_bytes(),
            client_init: &client_init,
            server_init: &server_init,
            host_key: &host_key,
            client_share,
            server_share: &server_share,
        }
        .hash(&shared);
        let signed = if self.config.forge { [0; 32] } else { hash };
        let mut signature = Vec::new();
        signature.put_string(b"ssh-ed25519");
        signature.put_string(signer.sign(&signed).as_ref());
        self.write(&strings(m::KEX_ECDH_REPLY, &[&host_key, &server_share, &signature])).await?;
        self.write(&[m::NEWKEYS]).await?;
        let secrets = Secrets::new(shared, hash, *self.session.get_or_insert(hash));
        let (cipher, strict) = (self.config.cipher, self.config.strict);
        self.writer.rekey(Sealer::new(cipher, Direction::ServerToClient, &secrets)?, strict);
        if self.seen.exchanges == 0 {
            let mut info = numbers(m::EXT_INFO, &[1]);
            info.put_string(b"server-sig-algs");
            info.put_string(b"ssh-ed25519");
            self.write(&info).await?;
        }
        let new_keys = self.raw().await?;
        assert_eq!(&new_keys[..], [m::NEWKEYS]);
        self.reader.rekey(Opener::new(cipher, Direction::ClientToServer, &secrets)?, strict);
        self.seen.exchanges += 1;
        Ok(())
    }
}

pub fn strings(number: u8, strings: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![number];
    for string in strings {
        out.put_string(string);
    }
    out
}

pub fn numbers(number: u8, numbers: &[u32]) -> Vec<u8> {
    let mut out = vec![number];
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}
