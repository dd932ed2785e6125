//! Connections that change protocol.

use std::sync::Arc;

use axum::{Router, extract::Request, response::Response, routing::get};
use bytes::Bytes;
use coderctl_deployment::http::{
    error::ApiError,
    sockets::{self, Close},
};
use coderctl_transport::{Error, Message, WebSocketOptions};
use http::{HeaderMap, Request as Req, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    sync::Notify,
};

use crate::client::{Server, config, exchange, serve, soon, transport};

async fn echo(request: Request) -> Result<Response, ApiError> {
    let (response, upgrade) = sockets::upgrade_stream(request, None)?;
    upgrade.run(|stream, _| async move {
        let (mut from, mut to) = split(stream);
        copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    });
    Ok(response)
}

async fn derp(request: Request) -> Result<Response, ApiError> {
    sockets::upgrade_stream(request, Some("derp")).map(|(response, _)| response)
}

async fn raw(request: Request) -> Result<Response, ApiError> {
    let mut headers = HeaderMap::new();
    headers.insert("derp-version", "2".parse().unwrap());
    let (response, upgrade) = sockets::upgrade_raw(request, "DERP", headers)?;
    upgrade.run(|mut stream, _| async move {
        let byte = stream.read_u8().await.unwrap();
        stream.write_all(&[byte + 1]).await.unwrap();
    });
    Ok(response)
}

/// Sends two messages, then says goodbye; `/forever` does not.
async fn events(request: Request) -> Result<Response, ApiError> {
    let forever = request.uri().path() == "/forever";
    let (response, upgrade) = sockets::upgrade_events(request)?;
    upgrade.run(move |events, mut stopping| async move {
        events.send("one".to_owned()).await.unwrap();
        events.send("two".to_owned()).await.unwrap();
        if forever {
            stopping.requested().await;
            return Close::new(1001, "server stops");
        }
        Close::new(1000, "x".repeat(200))
    });
    Ok(response)
}

async fn server() -> Server {
    let router = Router::new()
        .route("/echo", get(echo))
        .route("/derp", get(derp))
        .route("/raw", get(raw))
        .route("/events", get(events))
        .route("/forever", get(events));
    serve(&config(), router).await
}

#[tokio::test]
async fn a_byte_stream_in_messages() {
    let server = server().await;
    let mut stream = server.websocket("/echo", "").await.into_stream();
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut got = vec![0; sent.len()];
    let (mut from, mut to) = split(&mut stream);
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.flush().await.unwrap();
    };
    let read = async { soon(from.read_exact(&mut got)).await.unwrap() };
    tokio::join!(write, read);
    assert!(got == sent, "what comes back is what was sent");
    stream.shutdown().await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_as_they_are() {
    let server = server().await;
    let request = Req::get(format!("{}/raw", server.url)).body(()).unwrap();
    let (parts, mut stream) = soon(transport().upgrade(request, "derp")).await.unwrap();
    assert_eq!(
        (&parts.headers["upgrade"], &parts.headers["derp-version"]),
        (&"DERP".parse::<http::HeaderValue>().unwrap(), &"2".parse().unwrap())
    );
    stream.write_all(&[7]).await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), 8);
}

#[tokio::test]
async fn messages_then_a_farewell() {
    let server = server().await;
    let mut socket = server.websocket("/events", "").await;
    for text in ["one", "two"] {
        assert_eq!(soon(socket.next()).await.unwrap(), Message::Text(text.to_owned()));
    }
    match soon(socket.next()).await.unwrap_err() {
        Error::Closed { code: 1000, reason, .. } => assert_eq!(reason, "x".repeat(123)),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_client_that_talks_is_sent_away() {
    let server = server().await;
    for size in [1, 1 << 20] {
        let mut socket = server.websocket("/forever", "").await;
        socket.send(Bytes::from(vec![0; size])).await.unwrap();
        let error = loop {
            if let Err(error) = soon(socket.next()).await {
                break error;
            }
        };
        match error {
            Error::Closed { code: 1008, reason, .. } => {
                assert_eq!(reason, "unexpected data message");
            }
            // More than the server reads: the close frame may be lost in a reset.
            other => assert!(size > 1, "{other}"),
        }
    }
}

#[tokio::test]
async fn sockets_end_with_the_server() {
    let mut server = server().await;
    let mut socket = server.websocket("/forever", "").await;
    for _ in 0..2 {
        soon(socket.next()).await.unwrap();
    }
    server.stop();
    match soon(socket.next()).await.unwrap_err() {
        Error::Closed { code: 1001, reason, .. } => assert_eq!(reason, "server stops"),
        other => panic!("{other}"),
    }
    drop(socket);
    server.ended().await;
}

#[tokio::test]
async fn a_producer_ends_with_its_client() {
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let handler = move |request: Request| {
        let told = Arc::clone(&told);
        async move {
            let (response, upgrade) = sockets::upgrade_events(request)?;
            upgrade.run(move |events, _| async move {
                while events.send("x".to_owned()).await.is_ok() {}
                Close::normal()
            });
            told.notify_one();
            Ok::<_, ApiError>(response)
        }
    };
    let server = serve(&config(), Router::new().route("/flood", get(handler))).await;
    let mut socket = server.websocket("/flood", "").await;
    soon(gone.notified()).await;
    assert_eq!(soon(socket.next()).await.unwrap(), Message::Text("x".to_owned()));
    drop(socket);
    // The server can only end when its tasks have; the flood would go on for ever.
    let mut server = server;
    server.stop();
    server.ended().await;
}

#[tokio::test]
async fn handshakes_that_are_none() {
    let server = server().await;
    let head = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", server.authority)
    };
    let upgrade = "Connection: close, Upgrade\r\nUpgrade: WebSocket\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for (name, request, status) in [
        ("no upgrade", head("/echo", "Connection: close\r\n"), 426),
        ("another one", head("/echo", "Connection: close, upgrade\r\nUpgrade: h2c\r\n"), 426),
        ("no version", head("/echo", &format!("{upgrade}{key}")), 400),
        ("old version", head("/echo", &format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n")), 400),
        ("no key", head("/echo", &format!("{upgrade}{version}")), 400),
        ("no sub-protocol", head("/derp", &format!("{upgrade}{version}{key}")), 400),
        (
            "foreign page",
            head("/echo", &format!("{upgrade}{version}{key}Origin: https://evil.example\r\n")),
            403,
        ),
        ("no origin", head("/echo", &format!("{upgrade}{version}{key}Origin: null\r\n")), 403),
        ("not DERP", head("/raw", &format!("{upgrade}{version}{key}")), 426),
    ] {
        let answer = exchange(server.raw().await, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert!(answer.contains("{\"message\":\""), "{name}: {answer}");
    }
    // The same host's page is welcome, and the sub-protocol is chosen.
    let request =
        Req::get(format!("{}/derp", server.url)).header("origin", &server.url).body(()).unwrap();
    let options = WebSocketOptions { subprotocol: Some("derp"), ..WebSocketOptions::default() };
    soon(transport().websocket(request, options)).await.unwrap();
    let error = server.try_websocket("/none", "").await.unwrap_err();
    match error {
        Error::Status { parts, .. } => assert_eq!(parts.status, StatusCode::NOT_FOUND),
        other => panic!("{other}"),
    }
}
