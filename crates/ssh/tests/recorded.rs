//! A session recorded with a real Go agent: its signature, its keys, every packet of both sides.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

use bytes::BytesMut;
use coderctl_ssh::{
    Error,
    algorithms::{Agreed, Lists, STRICT_SERVER, Side},
    channel::{Channel, Source},
    cipher::{Cipher, Direction, Opener, Sealer},
    client::SESSION_WINDOW,
    hostkey, ident,
    kex::{Exchange, Reply, Secrets, Shared, Transcript},
    message as m,
    packet::{Entropy, Reader, Writer},
    wire,
};

#[test]
fn a_recorded_session_is_verified_and_understood() {
    let (shared, mut client, mut server) = recording();
    let client_version = ident::Lines::default().handle(&mut client).unwrap().unwrap();
    let server_version = ident::Lines::default().handle(&mut server).unwrap().unwrap();
    let (mut from_client, mut from_server) = (Reader::new(), Reader::new());
    let mut said = |input: &mut BytesMut| from_client.read(input).unwrap().unwrap();
    let (client_init, share) = (said(&mut client), said(&mut client));
    assert_eq!(said(&mut client)[0], m::NEWKEYS);
    let mut said = |input: &mut BytesMut| from_server.read(input).unwrap().unwrap();
    let (server_init, reply) = (said(&mut server), said(&mut server));
    assert_eq!(said(&mut server)[0], m::NEWKEYS);

    let lists = Lists::parse(&server_init).unwrap();
    assert!(lists.names(STRICT_SERVER));
    let agreed = Agreed::between(Side::Client, &Lists::client(), &lists).unwrap();
    assert_eq!(agreed.host_key, "rsa-sha2-512");
    let reply = Reply::parse(&reply).unwrap();
    let shared = Shared::new(&shared);
    let hash = Transcript {
        client_version: &client_version,
        server_version: &server_version,
        client_init: &client_init,
        server_init: &server_init,
        host_key: reply.host_key,
        client_share: wire::Reader::new(&share[1..], "share").string().unwrap(),
        server_share: reply.share,
    }
    .hash(&shared);
    let verify =
        |hash: &[u8]| hostkey::verify(agreed.host_key, reply.host_key, reply.signature, hash);
    assert_eq!(verify(&hash), Ok(()), "a real RSA signature");
    assert_eq!(verify(&[0; 32]), Err(Error::Signature));

    let secrets = Secrets::new(shared, hash, hash);
    let opener = |direction| Opener::new(Cipher::Aes128Gcm, direction, &secrets).unwrap();
    from_client.rekey(opener(Direction::ClientToServer), true);
    from_server.rekey(opener(Direction::ServerToClient), true);
    let recorded = client.clone();
    let client = rest(&mut from_client, &mut client);
    let numbers: Vec<u8> = client.iter().map(|message| message[0]).collect();
    assert_eq!(
        numbers,
        [
            m::SERVICE_REQUEST,
            m::USERAUTH_REQUEST,
            m::CHANNEL_OPEN,
            m::CHANNEL_REQUEST,
            m::CHANNEL_REQUEST,
            // All five went out in one write; these two answer the end.
            m::CHANNEL_CLOSE,
            m::DISCONNECT
        ]
    );

    // Sealed again with the same padding, they are the same bytes.
    let mut writer = Writer::new();
    let direction = Direction::ClientToServer;
    writer.rekey(Sealer::new(Cipher::Aes128Gcm, direction, &secrets).unwrap(), true);
    let mut sealed = BytesMut::new();
    for message in &client {
        writer.write(&mut Fixed, &[message], &mut sealed).unwrap();
    }
    assert!(sealed == recorded);

    let (mut out, mut err, mut channel) =
        (Vec::new(), Vec::new(), Channel::asked(0, SESSION_WINDOW));
    let mut numbers = Vec::new();
    for message in rest(&mut from_server, &mut server) {
        numbers.push(message[0]);
        let data = match message[0] {
            m::CHANNEL_DATA => channel.handle_data(message).unwrap(),
            m::CHANNEL_EXTENDED_DATA => channel.handle_extended(message).unwrap(),
            m::CHANNEL_REQUEST => {
                let mut fields = wire::Reader::new(&message[5..], "request");
                let name = fields.string().unwrap();
                assert!(!fields.boolean().unwrap(), "no answer is wanted");
                channel.handle_exit(name, &mut fields).unwrap();
                None
            }
            m::CHANNEL_OPEN_CONFIRMATION => {
                channel.handle_confirmation(&message).unwrap();
                None
            }
            _ => None,
        };
        match data {
            Some((Source::Stdout, data)) => out.extend_from_slice(&data),
            Some((Source::Stderr, data)) => err.extend_from_slice(&data),
            None => {}
        }
    }
    assert_eq!(
        numbers[..5],
        [
            m::EXT_INFO,
            m::SERVICE_ACCEPT,
            m::USERAUTH_SUCCESS,
            m::CHANNEL_OPEN_CONFIRMATION,
            m::CHANNEL_SUCCESS
        ]
    );
    assert_eq!((&out[..], &err[..]), (&b"hello\n"[..], &b"oops\n"[..]));
    assert_eq!(channel.exit(), Some(&coderctl_ssh::Exit::Status(7)));
    assert_eq!(channel.remote(), 0, "as pipelined requests assume");
    assert_eq!(numbers.last(), Some(&m::CHANNEL_CLOSE));
}

fn rest(reader: &mut Reader, input: &mut BytesMut) -> Vec<BytesMut> {
    let mut messages = Vec::new();
    while let Some(message) = reader.read(input).unwrap() {
        messages.push(message);
    }
    assert!(input.is_empty());
    messages
}

/// The secret and the bytes of both directions.
fn recording() -> (Vec<u8>, BytesMut, BytesMut) {
    let text = include_str!("fixtures/go_agent.txt");
    let field = |name: &str| -> Vec<u8> {
        let hex = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let digits = hex.as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    let bytes = |name| BytesMut::from(&field(name)[..]);
    (field("shared "), bytes("client "), bytes("server "))
}

/// The padding of the recording.
struct Fixed;

impl Entropy for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.fill(0x55);
        Ok(())
    }

    fn exchange(&mut self) -> Result<Box<dyn Exchange>, Error> {
        Err(Error::Entropy)
    }
}
