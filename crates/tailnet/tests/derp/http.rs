//! Relays as they are in the world: behind an HTTP upgrade, on TCP.

use std::time::Duration;

use bytes::BytesMut;
use coderctl_tailnet::derp::connection::ConnectionError;
use coderctl_tailnet::derp::frame::Frame;
use coderctl_tailnet::derp::{Carrier, Dial, DialError, Event, TransportDial, connect};
use coderctl_tailnet::derp_map::{Family, RelayNode};
use coderctl_tailnet::keys::RelayPrivate;
use coderctl_transport::{Options, Transport, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{encoded, key, node, read_frame};

#[tokio::test]
async fn the_relays_first_bytes_come_with_the_answer_and_are_not_lost() {
    let (listener, node) = listen().await;
    let serve = async {
        let (mut stream, head) = accept(&listener).await;
        let relay = RelayPrivate::new([9; 32]);
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
             Derp-Version: 2\r\nDerp-Public-Key: {}\r\n\r\n",
            relay.public()
        )
        .into_bytes();
        answer.extend_from_slice(&encoded(&[Frame::ServerKey { key: relay.public() }]));
        stream.write_all(&answer).await.unwrap();
        let mut buffer = BytesMut::new();
        let login = read_frame(&mut stream, &mut buffer).await;
        assert!(matches!(login, Some(Frame::ClientInfo { .. })));
        let packet = Frame::RecvPacket { from: key(2).public(), payload: BytesMut::from("hi") };
        stream.write_all(&encoded(&[packet])).await.unwrap();
        (stream, head)
    };
    let dial = dialer();
    let (served, connection) =
        tokio::join!(serve, connect(&dial, &node, Carrier::Upgrade, key(1), true));
    let (_stream, head) = served;
    assert_eq!(head.lines().next(), Some("GET /derp HTTP/1.1"));
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("\r\nupgrade: derp\r\n"), "{head}");
    assert!(lower.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(!lower.contains("coder-session-token"), "{head}");
    let batch = connection.unwrap().recv().await.unwrap();
    let expected = Event::Packet { from: key(2).public(), payload: BytesMut::from("hi") };
    assert_eq!(batch, [expected]);
}

/// What a proxy that knows WebSocket alone leaves of us.
#[tokio::test]
async fn as_a_websocket_messages_are_one_stream_of_bytes() {
    let (listener, node) = listen().await;
    let serve = async {
        let (mut stream, head) = accept(&listener).await;
        let asked = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut found = lines.filter(|(one, _)| one.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_owned())
        };
        assert_eq!(head.lines().next(), Some("GET /derp HTTP/1.1"));
        assert_eq!(asked("sec-websocket-protocol").as_deref(), Some("derp"));
        assert_eq!(asked("coder-session-token"), None);
        let accept = derive_accept_key(asked("sec-websocket-key").unwrap().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: derp\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let socket = WebSocket::accepted(Box::new(stream), "client".to_owned(), 1 << 20).await;
        let mut stream = socket.into_stream();
        let relay = RelayPrivate::new([9; 32]);
        // A message ends anywhere.
        for piece in encoded(&[Frame::ServerKey { key: relay.public() }]).chunks(7) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let mut buffer = BytesMut::new();
        let login = read_frame(&mut stream, &mut buffer).await;
        assert!(matches!(login, Some(Frame::ClientInfo { .. })));
        let packet = Frame::RecvPacket { from: key(2).public(), payload: BytesMut::from("hi") };
        stream.write_all(&encoded(&[packet])).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let dial = dialer();
    let connect = connect(&dial, &node, Carrier::WebSocket, key(1), true);
    let (_stream, connection) = tokio::join!(serve, connect);
    let batch = connection.unwrap().recv().await.unwrap();
    let expected = Event::Packet { from: key(2).public(), payload: BytesMut::from("hi") };
    assert_eq!(batch, [expected]);
}

#[tokio::test]
async fn a_relay_is_as_far_as_its_answer_takes() {
    let (listener, node) = listen().await;
    for (status, near) in [("200 OK", true), ("302 Found", false), ("403 Forbidden", false)] {
        let serve = async {
            let (mut stream, head) = accept(&listener).await;
            assert_eq!(head.lines().next(), Some("GET /derp/latency-check HTTP/1.1"));
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let dial = dialer();
        let (_stream, measured) = tokio::join!(serve, dial.measure(&node));
        match measured {
            Ok(latency) => assert!(near && latency < Duration::from_secs(2), "{latency:?}"),
            Err(error) => {
                assert!(!near && matches!(error, DialError::Refused { .. }), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_upgrade_is_no_relay() {
    let (listener, node) = listen().await;
    let serve = async {
        let (mut stream, _) = accept(&listener).await;
        let answer = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    };
    let dial = dialer();
    let (_stream, connection) =
        tokio::join!(serve, connect(&dial, &node, Carrier::Upgrade, key(1), true));
    let error = connection.unwrap_err();
    let ConnectionError::Dial(DialError::Refused { status, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(*status, 426);
}

#[tokio::test]
async fn a_port_where_nobody_listens() {
    let (listener, node) = listen().await;
    drop(listener);
    let error = connect(&dialer(), &node, Carrier::Upgrade, key(1), true).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Dial(DialError::Unreachable { .. })), "{error}");
    assert!(error.to_string().contains(&node.port().to_string()), "{error}");
}

fn dialer() -> TransportDial {
    TransportDial::new(Transport::new(Options::default()).unwrap())
}

async fn listen() -> (TcpListener, RelayNode) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut node = node("tcp");
    node.ipv4 = Family::Fixed([127, 0, 0, 1].into());
    node.derp_port = Some(listener.local_addr().unwrap().port());
    (listener, node)
}

/// A connection and the head of its request.
async fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    (stream, String::from_utf8(head).unwrap())
}
