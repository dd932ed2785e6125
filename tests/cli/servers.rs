//! Servers that are none, are unwell, or mean harm.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    server::{Answer, Server},
    support::{Home, Seen, assert_golden},
};

/// `list` against a server, whose address gets a name.
fn list(server: &Server) -> Seen {
    list_at(&server.url(), server)
}

fn list_at(url: &str, server: &Server) -> Seen {
    let home = Home::at(url).with("CODERCTL_HTTP_TIMEOUT", "500ms");
    let begun = Instant::now();
    let seen = home.run(&["list"]);
    assert!(begun.elapsed() < Duration::from_secs(20), "too slow: {seen:?}");
    seen.naming(&server.address().to_string(), "$SERVER")
        .naming(&format!("localhost:{}", server.address().port()), "$SERVER")
}

#[test]
fn a_refused_token() {
    let body = r#"{"message":"You are signed out or your session has expired. Please sign in again to continue.","detail":"API key is invalid."}"#;
    assert_golden("server-refused-token", &[list(&Server::http(move |_| Answer::json(401, body)))]);
}

#[test]
fn a_web_page() {
    let page = "<!doctype html><title>Welcome</title>";
    let seen = [
        list(&Server::http(move |_| Answer::html(200, page))),
        list(&Server::http(move |_| Answer::html(404, page))),
        list(&Server::http(|_| {
            Answer::html(302, "").header("Location", "https://sso.example.com/login")
        })),
    ];
    assert_golden("server-web-page", &seen);
}

#[test]
fn something_that_speaks_no_http() {
    let ssh = Server::raw(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        read_to_end(stream);
    });
    let noise = Server::raw(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(&[0x80; 4096]);
    });
    assert_golden("server-no-http", &[list(&ssh), list(&noise)]);
}

/// All of these are tried again until the time limit.
#[test]
fn servers_that_are_unwell_are_tried_again_and_then_named() {
    let closing = Server::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
    });
    let silent = Server::raw(read_to_end);
    let halfway = Server::raw(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
        let _ = stream.write_all(head.as_bytes());
        read_to_end(stream);
    });
    let failing = Server::http(|_| Answer::json(500, r#"{"message":"Internal error"}"#));
    let absent = Server::raw(drop);
    let (url, address) = (absent.url(), absent.address().to_string());
    drop(absent);
    let seen = std::thread::scope(|scope| {
        let servers = [&closing, &silent, &halfway, &failing];
        let mut runs: Vec<_> =
            servers.into_iter().map(|server| scope.spawn(move || list(server))).collect();
        runs.push(scope.spawn(|| {
            let home = Home::at(&url).with("CODERCTL_HTTP_TIMEOUT", "500ms");
            home.run(&["list"]).naming(&address, "$SERVER")
        }));
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    assert_golden("server-unwell", &seen);
}

#[test]
fn hostile_json() {
    let body = |text: String| list(&Server::http(move |_| Answer::json(200, text.clone())));
    let seen = [
        body(String::new()),
        body("{\"workspaces\":[".to_owned()),
        body("[".repeat(100_000)),
        body("{\"workspaces\":{\"a\":1},\"count\":0}".to_owned()),
        body("{\"workspaces\":[{\"id\":\"x\\u001b[2J\"}],\"count\":1}".to_owned()),
        body("null".to_owned()),
    ];
    for seen in seen {
        assert_eq!(seen.code, Some(212), "{seen:?}");
        assert!(seen.stderr.len() < 1000, "{seen:?}");
    }
}

#[test]
fn errors_of_the_server_are_passed_on_visibly() {
    let bad = r#"{"message":"Invalid \u001b[31mquery\nhint: run rm","detail":"d","validations":[{"field":"q","detail":"no \u202esuch key"}]}"#;
    let seen = [
        list(&Server::http(move |_| Answer::json(400, bad))),
        list(&Server::http(|_| Answer::json(403, r#"{"message":"Forbidden."}"#))),
    ];
    assert_golden("server-errors", &seen);
}

#[test]
fn certificates_that_are_not_trusted() {
    let own = Server::https(tls(4000).0, |_| Answer::json(200, r#"{"workspaces":[],"count":0}"#));
    let url = format!("https://localhost:{}", own.address().port());
    assert_golden("server-self-signed", &[list_at(&url, &own)]);
}

#[test]
fn a_certificate_that_was_named_is_trusted_until_it_expires() {
    for (until, code) in [(4000, 0), (2021, 208)] {
        let (config, pem) = tls(until);
        let server = Server::https(config, |_| Answer::json(200, r#"{"workspaces":[],"count":0}"#));
        let url = format!("https://localhost:{}", server.address().port());
        let home = Home::at(&url);
        let ca = home.path().join("ca.pem");
        std::fs::write(&ca, pem).unwrap();
        let seen = home.run(&["list", "--client-tls-ca-file", ca.to_str().unwrap()]);
        assert_eq!(seen.code, Some(code), "{seen:?}");
        assert!(code == 0 || seen.stderr.contains("expired"), "{seen:?}");
    }
}

/// A certificate for `localhost` that signs itself, good from 2020 to the beginning of a year, and
/// its PEM.
fn tls(until: i32) -> (rustls::ServerConfig, String) {
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .unwrap();
    (config, certificate.pem())
}

fn read_to_end(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}
