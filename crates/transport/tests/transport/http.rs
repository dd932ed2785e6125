//! Requests, kept connections, redirects, upgrades.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use coderctl_transport::{Error, Limits, Options, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{ask, get, head, ok, options, says, serve, transport, value};

#[tokio::test]
async fn calls_one_after_another_share_a_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    let server = serve(move |_, mut stream| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move {
            while !head(&mut stream).await.is_empty() {
                stream.write_all(ok("{}").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let transport = transport();
    for _ in 0..5 {
        let answer = transport.request(get(&server.url("http", "/")), Limits::default()).await;
        assert_eq!(answer.unwrap().body(), "{}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // Two at once need two.
    let url = server.url("http", "/");
    let (one, two) = tokio::join!(
        transport.request(get(&url), Limits::default()),
        transport.request(get(&url), Limits::default())
    );
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let server = serve(|_, mut stream| async move {
        head(&mut stream).await;
        stream.write_all(ok("once").as_bytes()).await.unwrap();
    })
    .await;
    let transport = transport();
    for _ in 0..3 {
        let answer = transport.request(get(&server.url("http", "/")), Limits::default()).await;
        assert_eq!(answer.unwrap().body(), "once");
        // Let the end of the connection arrive.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_request_carries_the_headers_and_none_is_shown() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let server = serve(move |_, mut stream| {
        let tell = tell.take();
        async move {
            let head = head(&mut stream).await;
            stream.write_all(ok("").as_bytes()).await.unwrap();
            if let Some(tell) = tell {
                tell.send(head).unwrap();
            }
        }
    })
    .await;
    let mut extra = http::HeaderMap::new();
    extra.append("x-extra", "hush".parse().unwrap());
    extra.append("x-extra", "two".parse().unwrap());
    let options = Options { headers: extra, user_agent: "me/1".to_owned(), ..options() };
    let transport = Transport::new(options).unwrap();
    transport.request(get(&server.url("http", "/a?b=c")), Limits::default()).await.unwrap();
    let head = told.await.unwrap();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert_eq!(value(&head, "user-agent"), Some("me/1"));
    assert_eq!(value(&head, "host"), Some(format!("127.0.0.1:{}", server.port).as_str()));
    assert_eq!(head.matches("x-extra: ").count(), 2);
    assert!(!format!("{transport:?}").contains("hush"));
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let server = serve(|_, mut stream| async move {
        loop {
            let head = head(&mut stream).await;
            let answer = match head.split(' ').nth(1) {
                Some("/old") => {
                    "HTTP/1.1 307 x\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n".to_owned()
                }
                Some("/away") => "HTTP/1.1 302 x\r\nLocation: https://elsewhere.example/x\r\n\
                                  Content-Length: 0\r\n\r\n"
                    .to_owned(),
                Some("/round") => {
                    "HTTP/1.1 308 x\r\nLocation: /round\r\nContent-Length: 0\r\n\r\n".to_owned()
                }
                Some(path) => ok(path),
                None => return,
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let transport = transport();
    let call = |path| transport.request(get(&server.url("http", path)), Limits::default());
    assert_eq!(call("/old").await.unwrap().body(), "/new");
    let away = call("/away").await.unwrap_err();
    assert!(
        matches!(&away, Error::Redirect { location, .. } if location.contains("elsewhere")),
        "{away}"
    );
    let round = call("/round").await.unwrap_err();
    assert!(matches!(&round, Error::Redirect { .. }), "{round}");
}

#[tokio::test]
async fn a_body_that_is_too_long_or_too_short_is_an_error() {
    let long = says(ok(&"x".repeat(5000))).await;
    let limits = Limits { max_body: 4999, ..Limits::default() };
    let error = transport().request(get(&long.url("http", "/")), limits).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 4999, .. }), "{error}");
    let short = says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
    let error =
        transport().request(get(&short.url("http", "/")), Limits::default()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert!(!error.is_before_request());
}

#[tokio::test]
async fn an_upgrade_keeps_the_bytes_behind_the_head() {
    let server = serve(|_, mut stream| async move {
        let head = head(&mut stream).await;
        assert_eq!(value(&head, "upgrade"), Some("DERP"));
        assert_eq!(value(&head, "connection"), Some("Upgrade"));
        let answer = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\
                      Derp-Version: 2\r\n\r\nglued";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(&heard).await.unwrap();
    })
    .await;
    let (parts, mut stream) =
        transport().upgrade(ask(&server.url("http", "/derp")), "DERP").await.unwrap();
    assert_eq!(parts.headers["derp-version"], "2");
    stream.write_all(b"more").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "gluedmore");
}

#[tokio::test]
async fn a_refused_upgrade_gives_status_and_the_bodys_beginning() {
    let body = "y".repeat(100_000);
    let server =
        says(format!("HTTP/1.1 404 no\r\nX-A: b\r\nContent-Length: 100000\r\n\r\n{body}")).await;
    let error = transport().upgrade(ask(&server.url("http", "/")), "DERP").await.err().unwrap();
    let Error::Status { parts, body, .. } = error else { panic!("{error}") };
    assert_eq!((parts.status.as_u16(), &parts.headers["x-a"]), (404, &"b".parse().unwrap()));
    assert_eq!(body.len(), 64 * 1024);
}

#[tokio::test]
async fn a_body_that_goes_on_is_read_as_it_comes() {
    let server = serve(|_, mut stream| async move {
        head(&mut stream).await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for word in ["one", "two"] {
            stream.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let answer = transport().stream(get(&server.url("http", "/")), crate::server::SOON).await;
    let mut body = answer.unwrap().into_body();
    let mut all = Vec::new();
    while let Some(chunk) = body.chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(Bytes::from(all), "onetwo");
}
