//! Forwards message by message, where no program asks so oddly.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

#[path = "../../ssh/tests/raw/mod.rs"]
mod raw;
mod ssh_common;

use coderctl_ssh::message as m;
use raw::{Message, Raw, bytes_of, global, numbers, open_session, request};
use ssh_common::{Agent, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

/// Asks for a listener or its end: the answer.
async fn ask(client: &mut Raw, message: Message) -> Option<Vec<u8>> {
    client.send(&message).await;
    let answer = within(client.next()).await.unwrap();
    match answer[0] {
        m::REQUEST_SUCCESS => Some(answer[1..].to_vec()),
        m::REQUEST_FAILURE => None,
        other => panic!("message {other}"),
    }
}

fn tcp(name: &str, address: &str, port: u16) -> Message {
    global(name, true).string(address).number(port.into())
}

fn unix(name: &str, path: &std::path::Path) -> Message {
    global(name, true).string(path.to_str().unwrap())
}

/// Accepts the channel that the server opens: what it is for.
async fn accept(client: &mut Raw) -> Vec<u8> {
    let open = client.expect(m::CHANNEL_OPEN).await;
    let kind = coderctl_ssh::wire::Reader::new(&open[1..], "open").string().unwrap().to_vec();
    let [theirs, ..] = numbers::<3>(&open[4 + kind.len()..]);
    let confirm = Message::new(m::CHANNEL_OPEN_CONFIRMATION).number(theirs).number(50);
    client.send(&confirm.number(1 << 20).number(32768)).await;
    [&kind, &open[17 + kind.len()..]].concat()
}

#[tokio::test]
async fn tcp_listeners_come_and_go() {
    let agent = Agent::new();
    let mut client = Raw::new(agent.connect()).await;
    let (listen, cancel) = ("tcpip-forward", "cancel-tcpip-forward");
    let port = ask(&mut client, tcp(listen, "localhost", 0)).await.unwrap();
    let port = u16::try_from(u32::from_be_bytes(port.try_into().unwrap())).unwrap();
    assert_eq!(ask(&mut client, tcp(listen, "localhost", port)).await, None, "it is there");
    assert_eq!(ask(&mut client, tcp(cancel, "127.0.0.1", port)).await, None, "another");
    assert_eq!(ask(&mut client, tcp(listen, "no such host.test", 0)).await, None);

    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let origin = stream.local_addr().unwrap().port();
    let open = accept(&mut client).await;
    let mut expected = b"forwarded-tcpip\0\0\0\x09localhost".to_vec();
    expected.extend_from_slice(&u32::from(port).to_be_bytes());
    expected.extend_from_slice(b"\0\0\0\x09127.0.0.1");
    expected.extend_from_slice(&u32::from(origin).to_be_bytes());
    assert_eq!(open, expected);

    // What is open goes on without the listener.
    assert_eq!(ask(&mut client, tcp(cancel, "localhost", port)).await, Some(vec![]));
    assert_eq!(ask(&mut client, tcp(cancel, "localhost", port)).await, None);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    stream.write_all(b"hello").await.unwrap();
    let said = client.expect(m::CHANNEL_DATA).await;
    assert_eq!((numbers(&said), bytes_of(&said)), ([50], &b"hello"[..]));
    client.send(&raw::data(0, b"good day")).await;
    client.send(&Message::new(m::CHANNEL_EOF).number(0)).await;
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "good day");
    stream.shutdown().await.unwrap();
    client.expect(m::CHANNEL_EOF).await;
    client.expect(m::CHANNEL_CLOSE).await;
    // The port is free again.
    let again = ask(&mut client, tcp(listen, "localhost", port)).await;
    assert_eq!(again, Some(u32::from(port).to_be_bytes().to_vec()));
}

#[tokio::test]
async fn unix_listeners_come_and_go() {
    let agent = Agent::new();
    let mut client = Raw::new(agent.connect()).await;
    let (listen, cancel) =
        ("streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com");
    let path = agent.path("deep/er/s.sock");
    assert_eq!(ask(&mut client, unix(listen, &path)).await, Some(vec![]));
    assert_eq!(ask(&mut client, unix(listen, &path)).await, None, "the same path twice");
    let _stream = UnixStream::connect(&path).await.unwrap();
    let open = accept(&mut client).await;
    assert!(open.starts_with(b"forwarded-streamlocal@openssh.com"));
    assert!(open.ends_with(b"s.sock\0\0\0\0"));
    assert_eq!(ask(&mut client, unix(cancel, &path)).await, Some(vec![]));
    assert!(!path.exists());
    assert_eq!(ask(&mut client, unix(listen, &path)).await, Some(vec![]));
}

/// `X11`
#[tokio::test]
async fn a_display_leads_to_the_client() {
    let agent = Agent::new();
    let mut client = Raw::new(agent.connect()).await;
    let session = client.open(&open_session(0)).await;
    let x11 = request(session, "x11-req", true).flag(false);
    client.send(&x11.string("MIT-MAGIC-COOKIE-1").string("c0ffee").number(2)).await;
    client.expect(m::CHANNEL_SUCCESS).await;
    client.send(&request(session, "exec", true).string("echo $DISPLAY; read x")).await;
    client.expect(m::CHANNEL_SUCCESS).await;
    let said = within(client.expect(m::CHANNEL_DATA)).await;
    let display = String::from_utf8(bytes_of(&said).to_vec()).unwrap();
    let number = display.strip_prefix("localhost:").unwrap().strip_suffix(".2\n").unwrap();
    let number: u16 = number.parse().unwrap();
    assert!((10..=200).contains(&number));
    let cookies = std::fs::read(agent.path(".Xauthority")).unwrap();
    assert!(cookies.ends_with(b"\0\x12MIT-MAGIC-COOKIE-1\0\x03\xc0\xff\xee"), "{cookies:?}");

    let mut window = TcpStream::connect(("localhost", 6000 + number)).await.unwrap();
    assert!(accept(&mut client).await.starts_with(b"x11\0\0\0"));
    window.write_all(b"setup").await.unwrap();
    assert_eq!(bytes_of(&client.expect(m::CHANNEL_DATA).await), b"setup");
    // The display goes with the session.
    client.send(&Message::new(m::CHANNEL_EOF).number(session)).await;
    while within(client.next()).await.unwrap()[0] != m::CHANNEL_CLOSE {}
    let mut gone = false;
    while !gone {
        gone = TcpStream::connect(("localhost", 6000 + number)).await.is_err();
    }
}

#[tokio::test]
async fn a_display_without_a_cookie_is_refused() {
    let agent = Agent::new();
    let mut client = Raw::new(agent.connect()).await;
    let session = client.open(&open_session(0)).await;
    let x11 = request(session, "x11-req", true).flag(false);
    client.send(&x11.string("MIT-MAGIC-COOKIE-1").string("tea").number(0)).await;
    client.expect(m::CHANNEL_SUCCESS).await;
    client.send(&request(session, "exec", true).string("true")).await;
    client.expect(m::CHANNEL_SUCCESS).await;
    client.expect(m::CHANNEL_EXTENDED_DATA).await;
    client.expect(m::CHANNEL_EOF).await;
    let status = client.expect(m::CHANNEL_REQUEST).await;
    assert!(status.ends_with(b"exit-status\0\0\0\0\x01"));
}
