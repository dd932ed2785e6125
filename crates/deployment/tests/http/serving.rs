//! The listener: what it adds, what it limits, how it ends.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use coderctl_deployment::{
    Config,
    config::{ConfigError, Limits, Tls},
    http::{
        error::ApiError,
        extract::{self, Json},
        serve::{BUILD_VERSION, ListenError, Listener},
    },
};
use coderctl_transport::{Options, Transport};
use futures_util::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use crate::client::{config, exchange, rest, serve, serve_with, soon, transport};

/// Says so when it is dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn every_response_says_what_it_is() {
    let bad = || async { ApiError::internal("The server failed.", "a reason for its log") };
    let server = serve(
        &config(),
        Router::new().route("/ok", get(|| async { "ok" })).route("/bad", get(bad)),
    )
    .await;
    for (path, status) in [("/ok", 200), ("/bad", 500), ("/ok", 200), ("/none", 404)] {
        let answer = server.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.header("x-coder-build-version"), BUILD_VERSION, "{path}");
    }
    let answer = server.get("/bad").await;
    assert_eq!(answer.message(), "The server failed.");
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
}

#[tokio::test]
async fn a_handler_has_a_deadline() {
    let dropped = Arc::new(Notify::new());
    let told = Arc::clone(&dropped);
    let slow = move || {
        let told = Told(Arc::clone(&told));
        async move {
            std::future::pending::<()>().await;
            drop(told);
        }
    };
    let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
    let server = serve_with(limits, Router::new().route("/slow", get(slow))).await;
    let answer = server.get("/slow").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.message(), "GET /slow was not done within 50ms.");
    soon(dropped.notified()).await;
}

#[tokio::test]
async fn a_body_has_a_limit_and_what_is_no_json_changes_nothing() {
    async fn echo(Json(value): Json<serde_json::Value>) -> String {
        value.to_string()
    }
    let limits = Limits { body: 100, ..Limits::default() };
    let server = serve_with(limits, Router::new().route("/echo", get(echo).post(echo))).await;
    let post = |text: String| server.call(Method::POST, "/echo", "", Bytes::from(text));
    let answer = post(format!("\"{}\"", "x".repeat(98))).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 100));
    let answer = post(format!("\"{}\"", "x".repeat(99))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.message(), "The request's body is too large.");
    for text in ["", "{", "{} {}", "\"\u{0}\""] {
        let answer = post(text.to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{text:?}");
        assert_eq!(answer.message(), "Request body must be valid JSON.", "{text:?}");
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty(), "{text:?}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_of_it_is_let_go() {
    let limits = Limits { header: Duration::from_millis(50), ..Limits::default() };
    let server = serve_with(limits, Router::new().route("/ok", get(|| async { "ok" }))).await;
    for text in ["", "GET /ok HTTP/1.1\r\nHost: x\r\n"] {
        let answer = exchange(server.raw().await, text).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    // An idle connection ends as well, after its answer.
    let answer = exchange(server.raw().await, "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let server = serve(&config(), Router::new()).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(64 << 10));
    for (text, status) in [("SSH-2.0-x\r\n\r\n", "400"), ("GET x\r\n\r\n", "400"), (&long, "431")] {
        let answer = exchange(server.raw().await, text).await;
        let first = answer.lines().next().unwrap_or_default();
        // A head that is too long may be answered with a reset before it is all sent.
        assert!(first.contains(status) || answer.is_empty(), "{first}");
    }
}

#[tokio::test]
async fn a_connection_serves_so_many_requests() {
    let limits = Limits { requests_per_connection: 2, ..Limits::default() };
    let server = serve_with(limits, Router::new().route("/ok", get(|| async { "ok" }))).await;
    let two = "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3);
    let answer = exchange(server.raw().await, &two).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(answer.matches("connection: close").count(), 1, "{answer}");
}

#[tokio::test]
async fn so_many_connections_at_a_time() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = serve_with(limits, Router::new().route("/ok", get(|| async { "ok" }))).await;
    let ask = "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = server.raw().await;
    first.write_all(ask.as_bytes()).await.unwrap();
    first.read_u8().await.unwrap();
    // The second waits, however long, until the first is gone.
    let mut second = server.raw().await;
    second.write_all(ask.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err(), "the second was served beside the first");
    drop(first);
    assert_eq!(soon(second.read_u8()).await.unwrap(), b'H');
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let dropped = Arc::new(Notify::new());
    let told = Arc::clone(&dropped);
    let endless = move || {
        let told = Told(Arc::clone(&told));
        async move {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let chunks = stream::repeat(chunk).map(move |chunk| {
                let _ = &told;
                Ok::<_, std::convert::Infallible>(chunk)
            });
            Body::from_stream(chunks)
        }
    };
    let limits = Limits { stalled: Duration::from_millis(100), ..Limits::default() };
    let server = serve_with(limits, Router::new().route("/endless", get(endless))).await;
    let mut stream = server.raw().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    soon(dropped.notified()).await;
    drop(stream);
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_it_began() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        move || {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.notify_one();
                go.notified().await;
                "done"
            }
        }
    };
    let mut server = serve(&config(), Router::new().route("/slow", get(handler))).await;
    let idle = server.raw().await;
    let mut stream = server.raw().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    soon(begun.notified()).await;
    server.stop();
    // The idle connection ends at once, the busy one with its answer.
    assert_eq!(rest(idle).await, "");
    go.notify_one();
    let answer = rest(stream).await;
    assert!(answer.ends_with("done"), "{answer}");
    server.ended().await;
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_ever() {
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    let handler = move || {
        told.notify_one();
        std::future::pending::<()>()
    };
    let limits = Limits { shutdown: Duration::from_millis(50), ..Limits::default() };
    let mut server = serve_with(limits, Router::new().route("/slow", get(handler))).await;
    let mut stream = server.raw().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    soon(begun.notified()).await;
    server.stop();
    server.ended().await;
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn tls_with_a_certificate_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let tls = Tls {
        certificate: directory.path().join("cert.pem"),
        key: directory.path().join("key.pem"),
    };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    let body = extract::boolean("t").unwrap().to_string();
    let router = Router::new().route("/ok", get(move || async move { body }));
    let server = serve(&Config { tls: Some(tls.clone()), ..config() }, router).await;
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let options = Options { ca_file: Some(tls.certificate.clone()), ..Options::default() };
    let request = Request::get(format!("{}/ok", server.url)).body(Bytes::new()).unwrap();
    let trusting = Transport::new(options).unwrap();
    let limits = coderctl_transport::Limits::default();
    let answer = soon(trusting.request(request.clone(), limits)).await.unwrap();
    assert_eq!(answer.body(), "true");
    // Whoever does not know the certificate does not trust it, and the server lives on.
    soon(transport().request(request.clone(), limits)).await.unwrap_err();
    soon(trusting.request(request, limits)).await.unwrap();

    std::fs::write(&tls.key, "nothing").unwrap();
    let error = Listener::bind(&Config { tls: Some(tls), ..config() }).await.unwrap_err();
    assert!(matches!(error, ListenError::Config(ConfigError::Tls { .. })), "{error}");
    assert!(error.to_string().contains("key.pem cannot be used: the key"), "{error}");
}

#[tokio::test]
async fn nothing_is_bound_that_is_not_safe() {
    let open = SocketAddr::from((IpAddr::from(Ipv4Addr::UNSPECIFIED), 0));
    let error = Listener::bind(&Config { listen: open, ..config() }).await.unwrap_err();
    assert!(error.to_string().contains("--insecure"), "{error}");
    let taken = Listener::bind(&config()).await.unwrap();
    let listen = taken.address();
    let error = Listener::bind(&Config { listen, ..config() }).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {listen}: ")), "{error}");
}
