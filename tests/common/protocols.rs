//! Protocols that people carry through forwards: what listens in the workspace, and who asks here.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
};

use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

/// Answers each request of HTTP/2 without TLS (RFC 9113) with `hello`. No more of the protocol than
/// that takes: requests have no bodies and arrive whole.
pub(crate) fn speak_http2(mut connection: TcpStream) {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    let mut preface = [0; 24];
    // Who only looks whether somebody listens says nothing.
    if connection.read_exact(&mut preface).is_err() {
        return;
    }
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut reader = connection.try_clone().unwrap();
    let mut say = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()[..]].concat();
        connection.write_all(&[&head, payload].concat())
    };
    say(SETTINGS, 0, 0, &[]).unwrap();
    let mut head = [0; 9];
    while reader.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut payload).unwrap();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (kind, flags) = (head[3], head[4]);
        if kind == SETTINGS && flags & 1 == 0 {
            say(SETTINGS, 1, 0, &[]).unwrap();
        } else if kind == HEADERS {
            // The eighth entry of HPACK's static table is `:status 200` (RFC 7541 appendix A).
            say(HEADERS, 4, stream, &[0x88]).unwrap();
            say(0, 1, stream, b"hello").unwrap();
        }
    }
}

/// What `curl` gets at a port by HTTP/2, known beforehand.
pub(crate) fn ask_http2(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/");
    let format = " over HTTP/%{http_version}";
    let asked = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--http2-prior-knowledge", "-w", format, &url])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap()
}

/// Sends each message of a WebSocket back.
pub(crate) fn speak_websocket(connection: TcpStream) {
    connection.set_nonblocking(true).unwrap();
    runtime().block_on(async move {
        let connection = tokio::net::TcpStream::from_std(connection).unwrap();
        let Ok(mut socket) = accept_async(connection).await else { return };
        while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
            if message.is_close() {
                return;
            }
            futures_util::SinkExt::send(&mut socket, message).await.unwrap();
        }
    });
}

/// These messages come back from a WebSocket at a port.
pub(crate) fn ask_websocket(port: u16, messages: &[Vec<u8>]) {
    runtime().block_on(async {
        let connection = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let url = format!("ws://127.0.0.1:{port}/");
        let (mut socket, _) = client_async(url, connection).await.unwrap();
        for bytes in messages {
            let message = Message::binary(bytes.clone());
            futures_util::SinkExt::send(&mut socket, message.clone()).await.unwrap();
            let answer = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
            assert!(answer == message, "{} bytes", bytes.len());
        }
        socket.close(None).await.unwrap();
    });
}

/// What a PostgreSQL at a port answers to a question.
pub(crate) fn ask_postgres(port: u16, user: &str, database: &str, question: &str) -> String {
    let port = port.to_string();
    let asked = Command::new("psql")
        .args(["-h", "127.0.0.1", "-p", &port, "-U", user, "-d", database, "-XAtc", question])
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
