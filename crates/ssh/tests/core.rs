//! The pure core: packets as others make them, input in any pieces, hostile input.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use std::time::Instant;

use bytes::BytesMut;
use coderctl_ssh::{
    Error, Options, Request,
    channel::Source,
    cipher::{Cipher, Direction, Opener, Sealer},
    client::{Core, Event},
    kex::{Exchange, Secrets, Shared},
    packet::{Entropy, Reader, SystemEntropy, Writer},
};
use proptest::prelude::*;

const CIPHERS: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

fn secrets() -> Secrets {
    Secrets::new(Shared::new(&[0x81; 32]), [2; 32], [3; 32])
}

fn pair(cipher: Cipher) -> (Writer, Reader) {
    let direction = Direction::ClientToServer;
    let (mut writer, mut reader) = (Writer::new(), Reader::new());
    writer.rekey(Sealer::new(cipher, direction, &secrets()).unwrap(), true);
    reader.rekey(Opener::new(cipher, direction, &secrets()).unwrap(), true);
    (writer, reader)
}

/// Padding and shares that are the same each time.
struct Fixed;

impl Entropy for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.fill(0x55);
        Ok(())
    }

    fn exchange(&mut self) -> Result<Box<dyn Exchange>, Error> {
        Ok(Box::new(Fixed))
    }
}

impl Exchange for Fixed {
    fn public(&self) -> [u8; 32] {
        [9; 32]
    }

    fn agree(self: Box<Self>, _: &[u8]) -> Result<Shared, Error> {
        Ok(Shared::new(&[0x81; 32]))
    }
}

/// Two packets under each cipher, made by an independent implementation (Python `cryptography`,
/// from the words of RFC 4253 section 7.2, RFC 5647 and OpenSSH's PROTOCOL.chacha20poly1305).
#[test]
fn packets_are_as_others_make_them() {
    let vectors = [
        (
            Cipher::Aes128Gcm,
            "000000106e1367280aa4a5d0e3560c23e0d67ac074182259778819e092df52ab032cd1d600000010\
             7e498c3f8bcd89aa66f42ffa84bcd501adf7aa303d20b0a5e0611af458978dc8",
        ),
        (
            Cipher::Aes256Gcm,
            "00000010243e6260cb264fa75b23f3f088d7686f4925ebbcc85dfe22e0283dcca12bbef200000010\
             89d78bbb62c1f207caf19cbaf141042a15ce57492e06c3d6f06aec729ed9ea09",
        ),
        (
            Cipher::ChaCha20Poly1305,
            "bd1cc941628b41787cd6c14f2fa476a4993dc94905e0bc3b784084db44e6dd7588aac63bdaf2fa49\
             13930c6e0a8c80cfbb9599a4e66f37c0789e3000fd26711d755fc66648419fa8",
        ),
    ];
    for (cipher, expected) in vectors {
        let (mut writer, mut reader) = pair(cipher);
        let mut sealed = BytesMut::new();
        writer.write(&mut Fixed, &[b"pay", b"load"], &mut sealed).unwrap();
        writer.write(&mut Fixed, &[b"payload"], &mut sealed).unwrap();
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{cipher:?}");
        for _ in 0..2 {
            assert_eq!(&reader.read(&mut sealed).unwrap().unwrap()[..], b"payload");
        }
    }
}

#[test]
fn altered_packets_are_found_out() {
    for cipher in CIPHERS {
        let (mut writer, _) = pair(cipher);
        let mut sealed = BytesMut::new();
        writer.write(&mut Fixed, &[b"pay", b"load"], &mut sealed).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let (_, mut reader) = pair(cipher);
            // A length that is altered may ask for more, or be absurd.
            let read = reader.read(&mut altered);
            assert!(!matches!(read, Ok(Some(_))), "{cipher:?} bit {bit}");
        }
        let (_, mut reader) = pair(cipher);
        let mut twice = [sealed.clone(), sealed.clone()].into_iter().flatten().collect();
        assert_eq!(&reader.read(&mut twice).unwrap().unwrap()[..], b"payload");
        let replayed = reader.read(&mut twice);
        assert!(!matches!(replayed, Ok(Some(_))), "{cipher:?} replayed");
    }
}

#[test]
fn lengths_are_limited() {
    let mut input = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
    assert!(matches!(Reader::new().read(&mut input), Err(Error::TooLong { .. })));
    for length in [0u32, 1, 4, 11, 13] {
        let mut input = BytesMut::from(&length.to_be_bytes()[..]);
        assert_eq!(Reader::new().read(&mut input), Err(Error::Malformed("packet length")));
    }
    for padding in [0, 3, 11, 255] {
        let mut input = BytesMut::from(&[0, 0, 0, 12, padding][..]);
        input.extend_from_slice(&[0; 11]);
        assert_eq!(Reader::new().read(&mut input), Err(Error::Malformed("padding")));
    }
}

/// The client's first write: everything that needs no answer, in one.
#[test]
fn the_first_write_carries_version_offer_and_share() {
    let mut connection = connection();
    let output = connection.output();
    assert!(output.starts_with(b"SSH-2.0-coderctl_"));
    let end = output.iter().position(|byte| *byte == b'\n').unwrap();
    let mut rest = output.split_off(end + 1);
    let mut reader = Reader::new();
    let init = reader.read(&mut rest).unwrap().unwrap();
    assert_eq!(init[0], 20);
    let follows = init[init.len() - 5];
    assert_eq!(follows, 0, "it is no guess");
    let share = reader.read(&mut rest).unwrap().unwrap();
    assert_eq!((share[0], share.len()), (30, 37));
    assert!(rest.is_empty());
}

/// With a session of number 0.
fn connection() -> Core {
    let mut core = Core::client(None, Box::new(Fixed), Instant::now()).unwrap();
    let session = core.session(Options::new(Request::Exec("true".into())));
    assert_eq!(session, Ok(Some(0)));
    core
}

/// A server's half of a whole session under fixed keys: what it says, packet by packet.
struct Script {
    writer: Writer,
    bytes: BytesMut,
}

impl Script {
    /// Up to the point where messages are free; the host key's signature cannot be fixed, since
    /// the server signs what the client said, which here is always the same.
    fn begin() -> Self {
        use coderctl_ssh::{algorithms::Lists, kex::Transcript, wire::Put};
        use ring::signature::{Ed25519KeyPair, KeyPair};
        let mut client = connection();
        let mut said = client.output().split();
        let version_end = said.iter().position(|byte| *byte == b'\n').unwrap();
        let version = said.split_to(version_end + 1);
        let client_init = Reader::new().read(&mut said).unwrap().unwrap();
        let lists = Lists {
            kex: "curve25519-sha256".into(),
            host_key: "ssh-ed25519".into(),
            to_server: "aes128-gcm@openssh.com".into(),
            to_client: "aes128-gcm@openssh.com".into(),
            compression_to_server: "none".into(),
            compression_to_client: "none".into(),
            follows: false,
        };
        let server_init = lists.encode([1; 16]);
        let signer = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut host_key = Vec::new();
        host_key.put_string(b"ssh-ed25519");
        host_key.put_string(signer.public_key().as_ref());
        let shared = Shared::new(&[0x81; 32]);
        let hash = Transcript {
            client_version: &version[..version.len() - 2],
            server_version: b"SSH-2.0-script",
            client_init: &client_init,
            server_init: &server_init,
            host_key: &host_key,
            client_share: &[9; 32],
            server_share: &[8; 32],
        }
        .hash(&shared);
        let mut signature = Vec::new();
        signature.put_string(b"ssh-ed25519");
        signature.put_string(signer.sign(&hash).as_ref());
        let mut reply = vec![31];
        for part in [&host_key[..], &[8; 32], &signature] {
            reply.put_string(part);
        }
        let mut script =
            Self { writer: Writer::new(), bytes: BytesMut::from(&b"SSH-2.0-script\r\n"[..]) };
        script.say(&server_init);
        script.say(&reply);
        script.say(&[21]);
        let secrets = Secrets::new(shared, hash, hash);
        let sealer = Sealer::new(Cipher::Aes128Gcm, Direction::ServerToClient, &secrets).unwrap();
        script.writer.rekey(sealer, false);
        script
    }

    fn say(&mut self, payload: &[u8]) {
        self.writer.write(&mut Fixed, &[payload], &mut self.bytes).unwrap();
    }

    /// Up to a running command.
    fn running() -> Self {
        let mut script = Self::begin();
        script.say(b"\x06\0\0\0\x0cssh-userauth");
        script.say(&[52]);
        script.say(b"\x5b\0\0\0\0\0\0\0\0\0\x20\0\0\0\0\x80\0");
        script.say(b"\x63\0\0\0\0");
        script
    }
}

fn events(connection: &mut Core) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

fn whole() -> BytesMut {
    let mut script = Script::running();
    script.say(b"\x5e\0\0\0\0\0\0\0\x05hello");
    script.say(b"\x5f\0\0\0\0\0\0\0\x01\0\0\0\x03err");
    script.say(b"\x60\0\0\0\0");
    script.say(b"\x62\0\0\0\0\0\0\0\x0bexit-status\0\0\0\0\x07");
    script.say(b"\x61\0\0\0\0");
    script.bytes
}

#[test]
fn a_scripted_session_gives_its_events() {
    let mut client = connection();
    client.handle_input(&mut whole(), Instant::now()).unwrap();
    let text = format!("{:?}", events(&mut client));
    assert_eq!(
        text,
        "[LoggedIn, Started(0), Data(0, Stdout, b\"hello\"), Data(0, Stderr, b\"err\"), Eof(0), \
         Exited(0, Status(7)), Closed(0)]"
    );
    assert!(client.is_shut(0) && !client.is_closed(), "other channels go on");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn packets_survive_any_pieces(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 1..8),
        cuts in prop::collection::vec(1usize..700, 1..20),
        which in 0usize..3,
    ) {
        let (mut writer, mut reader) = pair(CIPHERS[which]);
        let mut sealed = BytesMut::new();
        for payload in &payloads {
            writer.write(&mut SystemEntropy::default(), &[payload], &mut sealed).unwrap();
        }
        let (mut input, mut got) = (BytesMut::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !sealed.is_empty() {
            let cut = (*cuts.next().unwrap()).min(sealed.len());
            input.extend_from_slice(&sealed.split_to(cut));
            while let Some(payload) = reader.read(&mut input).unwrap() {
                got.push(payload.to_vec());
            }
        }
        prop_assert_eq!(got, payloads);
    }

    #[test]
    fn a_session_is_the_same_in_any_pieces(cuts in prop::collection::vec(1usize..400, 1..20)) {
        let (mut client, mut whole) = (connection(), whole());
        let (mut input, mut cuts) = (BytesMut::new(), cuts.iter().cycle());
        let mut got = String::new();
        while !whole.is_empty() {
            let cut = (*cuts.next().unwrap()).min(whole.len());
            input.extend_from_slice(&whole.split_to(cut));
            client.handle_input(&mut input, Instant::now()).unwrap();
            for event in events(&mut client) {
                got += &format!("{event:?} ");
            }
        }
        prop_assert_eq!(
            got,
            "LoggedIn Started(0) Data(0, Stdout, b\"hello\") Data(0, Stderr, b\"err\") Eof(0) \
             Exited(0, Status(7)) Closed(0) "
        );
    }

    #[test]
    fn hostile_bytes_end_in_an_error_or_wait(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        version in any::<bool>(),
    ) {
        let mut input = BytesMut::new();
        if version {
            input.extend_from_slice(b"SSH-2.0-x\r\n");
        }
        input.extend_from_slice(&bytes);
        let _ = connection().handle_input(&mut input, Instant::now());
    }

    /// Any message, at any point of a session that is otherwise in order.
    #[test]
    fn hostile_messages_end_in_an_error_or_nothing(
        messages in prop::collection::vec(
            (0u8..110, prop::bool::weighted(0.8), prop::collection::vec(any::<u8>(), 0..60)),
            1..12,
        ),
        running in any::<bool>(),
    ) {
        let mut script = if running { Script::running() } else { Script::begin() };
        for (number, ours, rest) in messages {
            let mut message = vec![number];
            if ours {
                message.extend_from_slice(&[0; 4]);
            }
            message.extend_from_slice(&rest);
            script.say(&message);
        }
        let mut client = connection();
        let _ = client.handle_input(&mut script.bytes, Instant::now());
        let _ = client.send_data(0, Source::Stdout, b"more");
        let _ = client.window_change(0, 1, 2);
        let _ = client.send_eof(0);
        let _ = client.close(0);
        let _ = client.release(0);
    }
}
