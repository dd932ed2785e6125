//! Through HTTP and SOCKS5 proxies. Loopback is never proxied, so the target has another name,
//! which only the proxy could find.

use coderctl_transport::{Error, Limits, Options, Proxies, Transport, WebSocketOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::server::{Server, ask, get, head, ok, options, serve, value};

fn through(kind: &str, server: &Server) -> Transport {
    let url = format!("{kind}://user:p%40ss@127.0.0.1:{}", server.port);
    let proxies = Proxies::parse(|name| (name == "ALL_PROXY").then(|| url.clone())).unwrap();
    Transport::new(Options { proxies, ..options() }).unwrap()
}

/// A proxy that answers CONNECT with `status` and is the target itself; it tells what it heard.
async fn http_proxy(status: u16) -> (Server, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let server = serve(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            let mut asked = head(&mut stream).await;
            tell.send(asked.clone()).unwrap();
            if asked.starts_with("CONNECT") {
                let answer = format!("HTTP/1.1 {status} x\r\nVia: p\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if status != 200 {
                    return;
                }
                asked = head(&mut stream).await;
                tell.send(asked.clone()).unwrap();
            }
            if value(&asked, "upgrade").is_some() {
                let answer = "HTTP/1.1 426 x\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            } else {
                stream.write_all(ok("found").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (server, told)
}

#[tokio::test]
async fn an_ordinary_request_goes_whole_to_an_http_proxy() {
    let (proxy, mut told) = http_proxy(200).await;
    let call = through("http", &proxy);
    let answer = call.request(get("http://target.invalid/x"), Limits::default()).await.unwrap();
    assert_eq!(answer.body(), "found");
    let asked = told.recv().await.unwrap();
    assert!(asked.starts_with("GET http://target.invalid/x HTTP/1.1\r\n"), "{asked}");
    assert_eq!(value(&asked, "host"), Some("target.invalid"));
    assert_eq!(value(&asked, "proxy-authorization"), Some("Basic dXNlcjpwQHNz"));
}

#[tokio::test]
async fn an_upgrade_goes_through_a_tunnel_that_the_proxy_makes() {
    let (proxy, mut told) = http_proxy(200).await;
    let call = through("http", &proxy);
    let opened =
        call.websocket(ask("ws://target.invalid/x"), WebSocketOptions::default()).await.err();
    assert!(matches!(opened, Some(Error::Status { parts, .. }) if parts.status == 426));
    let asked = told.recv().await.unwrap();
    assert!(asked.starts_with("CONNECT target.invalid:80 HTTP/1.1\r\n"), "{asked}");
    assert_eq!(value(&asked, "proxy-authorization"), Some("Basic dXNlcjpwQHNz"));
    let inner = told.recv().await.unwrap();
    assert!(inner.starts_with("GET /x HTTP/1.1\r\n"), "{inner}");
    assert_eq!(value(&inner, "proxy-authorization"), None);
}

#[tokio::test]
async fn a_proxy_that_refuses_says_so_without_the_password() {
    for (status, words) in [(407, "user name and password"), (403, "status 403")] {
        let (proxy, _told) = http_proxy(status).await;
        let call = through("http", &proxy);
        let error =
            call.request(get("https://target.invalid/"), Limits::default()).await.unwrap_err();
        assert!(matches!(error, Error::Proxy { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains("target.invalid:443"), "{text}");
        assert!(!format!("{error:?} {call:?}").contains("p@ss"));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let (proxy, _told) = http_proxy(200).await;
    let call = through("http", &proxy);
    let port = proxy.port;
    drop(proxy);
    tokio::task::yield_now().await;
    for url in ["http://target.invalid/", "https://target.invalid/"] {
        let error = call.request(get(url), Limits::default()).await.unwrap_err();
        assert!(matches!(error, Error::Proxy { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}

#[tokio::test]
async fn socks5_is_asked_by_name_and_with_a_password() {
    let proxy = serve(|_, mut stream| async move {
        let mut methods = [0; 4];
        stream.read_exact(&mut methods).await.unwrap();
        assert_eq!(methods, [5, 2, 0, 2]);
        stream.write_all(&[5, 2]).await.unwrap();
        let mut login = [0; 11];
        stream.read_exact(&mut login).await.unwrap();
        assert_eq!(&login, b"\x01\x04user\x04p@ss");
        stream.write_all(&[1, 0]).await.unwrap();
        let mut ask = [0; 21];
        stream.read_exact(&mut ask).await.unwrap();
        assert_eq!(&ask, b"\x05\x01\x00\x03\x0etarget.invalid\x00\x50");
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("GET /y HTTP/1.1\r\n"), "{head}");
        stream.write_all(ok("socks").as_bytes()).await.unwrap();
    })
    .await;
    for kind in ["socks5", "socks5h"] {
        let call = through(kind, &proxy);
        let answer = call.request(get("http://target.invalid/y"), Limits::default()).await;
        assert_eq!(answer.unwrap().body(), "socks");
    }
}
